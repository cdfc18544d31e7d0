"""Each fault as the real `globus` meets it: exit code, and on which stream it says what."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest

from globus_sandbox.errors import BadRequest
from globus_sandbox.launch import Sandbox

ALWAYS: dict[str, Any] = {"count": None}


def said(done: Any) -> tuple[int, str, str]:
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize(
    ("fault", "code"),
    [
        (
            {"kind": "status", "status": 400, "body": {"code": "BadRequest", "message": "no"}},
            "BadRequest",
        ),
        ({"kind": "not-found", "code": "EndpointNotFound"}, "EndpointNotFound"),
        ({"kind": "conflict"}, "ClientError.Conflict"),
    ],
)
def test_a_refusal_is_1_with_the_body_on_stderr(
    globus: Any, sandbox: Sandbox, fault: dict[str, Any], code: str
) -> None:
    sandbox.control.fault(fault, path="/submission_id")
    exit_code, out, err = said(globus("task", "generate-submission-id", "--format", "json"))
    assert (exit_code, out) == (1, "") and json.loads(err)["code"] == code
    sandbox.control.fault(fault, path="/submission_id")
    exit_code, out, err = said(globus("task", "generate-submission-id"))
    assert (exit_code, out) == (1, "") and code in err


@pytest.mark.parametrize(
    ("fault", "remedy"),
    [
        (
            {"kind": "consent", "scopes": ["urn:globus:auth:scope:transfer.api.globus.org:all[*x]"]},
            "globus session consent 'urn:",
        ),
        ({"kind": "session", "domains": ["example.org"]}, "globus session update example.org"),
        ({"kind": "session", "policies": ["a1b2", "c3d4"]}, "globus session update --policy 'a1b2,c3d4'"),
        ({"kind": "session", "identities": ["me@example.org"]}, "globus session update me@example.org"),
    ],
)
def test_consent_and_session_are_4_on_stdout_but_1_with_json_on_stderr(
    globus: Any, sandbox: Sandbox, fault: dict[str, Any], remedy: str
) -> None:
    sandbox.control.fault(fault)
    exit_code, out, err = said(globus("task", "generate-submission-id"))
    assert (exit_code, err) == (4, "") and remedy in out
    sandbox.control.fault(fault)
    exit_code, out, err = said(globus("task", "generate-submission-id", "--format", "json"))
    assert (exit_code, out) == (1, "") and (
        "required_scopes" in json.loads(err) or "authorization_parameters" in json.loads(err)
    )


def test_stat_of_what_is_missing_is_0_with_the_error_on_stdout(globus: Any, sandbox: Sandbox) -> None:
    exit_code, out, err = said(globus("stat", f"{sandbox.collection('archive').id}:/nope", "--format", "json"))
    assert (exit_code, err) == (0, "") and json.loads(out)["code"] == "NotFound"


def test_mfa_is_an_authorization_parameter(globus: Any, sandbox: Sandbox) -> None:
    sandbox.control.fault(kind="session", mfa=True)
    exit_code, _, err = said(globus("task", "generate-submission-id", "--format", "json"))
    assert exit_code == 1 and json.loads(err)["authorization_parameters"]["session_required_mfa"] is True


def test_a_consent_given_mends_the_fault(globus: Any, sandbox: Sandbox) -> None:
    scope = f"urn:globus:auth:scope:transfer.api.globus.org:all[*https://auth.globus.org/scopes/{sandbox.collection('archive').id}/data_access]"
    sandbox.control.fault(kind="consent", scopes=[scope], **ALWAYS)
    assert globus("task", "generate-submission-id").returncode == 4
    assert globus("session", "consent", scope).returncode == 0
    assert globus("task", "generate-submission-id").returncode == 0


def test_a_session_updated_mends_the_fault(globus: Any, sandbox: Sandbox) -> None:
    sandbox.control.fault(kind="session", policies=["a1b2"], **ALWAYS)
    assert globus("task", "generate-submission-id").returncode == 4
    assert globus("session", "update", "--policy", "a1b2").returncode == 0
    assert globus("task", "generate-submission-id").returncode == 0


def test_a_session_that_is_too_old_for_a_collection_is_a_failed_login(
    globus: Any, sandbox: Sandbox, api: Any, archive: Path
) -> None:
    """Recorded: a 502 with authorization_parameters, which the CLI first tries again like any other 502."""
    sandbox.control.fault(kind="login-failed", collection="archive", domains=["example.org"])
    status, document = api.call("GET", f"/operation/endpoint/{sandbox.collection('archive').id}/ls")
    assert (status, document["code"]) == (502, "ExternalError.DirListingFailed.LoginFailed")
    assert document["authorization_parameters"]["session_required_single_domain"] == ["example.org"]
    (archive / "a").write_text("1")
    task = api.transfer(("/a", "/a"))
    assert api.until(task, lambda document: document["faults"])["nice_status"] == "AUTH"
    assert globus("session", "update", sandbox.run([globus.program, "whoami"]).stdout.strip()).returncode == 0
    assert api.ended(task)["status"] == "SUCCEEDED"


def test_client_credentials_mend_a_missing_consent_by_themselves(new_sandbox: Any, globus_in: Any) -> None:
    box = new_sandbox(login="client")
    box.control.fault(kind="consent", scopes=["urn:globus:auth:scope:transfer.api.globus.org:all"], **ALWAYS)
    assert globus_in(box)("task", "generate-submission-id").returncode == 0


@pytest.mark.parametrize("login", ["user", "none"])
def test_not_logged_in_is_4_in_text_on_stderr_even_with_json(new_sandbox: Any, globus_in: Any, login: str) -> None:
    box = new_sandbox(login=login)
    if login == "user":
        box.control.fault(kind="logged-out")
    exit_code, out, err = said(globus_in(box)("task", "list", "--format", "json"))
    assert (exit_code, out) == (4, "") and "MissingLoginError: Missing login for Globus Transfer." in err


def test_an_expired_token_is_refreshed_unseen(globus: Any, sandbox: Sandbox) -> None:
    sandbox.control.fault(kind="expired-token")
    assert globus("task", "generate-submission-id").returncode == 0
    grants = sandbox.control.requests("auth", "POST", "/v2/oauth2/token")
    assert [row["body"]["grant_type"] for row in grants] == ["refresh_token"]
    assert "sandbox:" not in json.dumps(sandbox.control.requests()), "tokens are never in the log"


def test_a_token_that_stays_bad_is_1_on_stderr(globus: Any, sandbox: Sandbox) -> None:
    sandbox.control.fault(kind="expired-token", **ALWAYS)
    exit_code, out, err = said(globus("task", "generate-submission-id"))
    assert (exit_code, out) == (1, "") and "MissingLoginError: No Authentication provided." in err
    exit_code, out, err = said(globus("task", "generate-submission-id", "--format", "json"))
    assert (exit_code, out) == (1, "") and json.loads(err)["code"] == "ClientError.AuthenticationFailed"


@pytest.mark.parametrize(
    ("fault", "status"),
    [
        ({"kind": "rate-limit"}, 429),
        ({"kind": "unavailable"}, 503),
        ({"kind": "html"}, 500),
    ],
)
def test_what_passes_is_retried_by_the_cli(globus: Any, sandbox: Sandbox, fault: dict[str, Any], status: int) -> None:
    sandbox.control.fault(fault, path="/submission_id")
    exit_code, out, err = said(globus("task", "generate-submission-id"))
    assert exit_code == 0, out + err
    assert [row["status"] for row in sandbox.control.requests("transfer")] == [status, 200]


def test_retry_after_is_waited_for(globus: Any, sandbox: Sandbox) -> None:
    sandbox.control.fault(kind="rate-limit", retry_after=1)
    started = time.monotonic()
    assert globus("task", "generate-submission-id").returncode == 0
    assert time.monotonic() - started > 1


@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        ({"kind": "rate-limit"}, "ClientError.TooManyRequests"),
        ({"kind": "unavailable"}, "ServiceUnavailable"),
        ({"kind": "html"}, "GlobusAPINullDataError"),
        ({"kind": "drop-before"}, "GlobusConnectionError"),
        ({"kind": "drop-after"}, "GlobusConnectionError"),
    ],
)
def test_what_does_not_pass_is_1_on_stderr(globus: Any, sandbox: Sandbox, fault: dict[str, Any], expected: str) -> None:
    sandbox.control.fault(fault, **ALWAYS)
    exit_code, out, err = said(globus("api", "transfer", "--no-retry", "GET", "/submission_id", "--format", "json"))
    assert (exit_code, out) == (1, "") and expected in err


def test_a_reply_dropped_before_the_work_leaves_nothing_and_one_after_it_leaves_the_task(
    globus: Any, sandbox: Sandbox, archive: Path
) -> None:
    (archive / "a").write_text("1")
    addresses = [f"{sandbox.collection(name).id}:/a" for name in ("archive", "scratch")]
    sandbox.control.fault(kind="drop-before", path="/transfer")
    assert globus.json("transfer", *addresses)["code"] == "Accepted"
    assert len(sandbox.control.tasks()) == 1
    assert [row["status"] for row in sandbox.control.requests(path="/transfer")] == [None, 202]
    sandbox.control.reset()
    sandbox.control.fault(kind="drop-after", path="/transfer")
    assert globus.json("transfer", *addresses)["code"] == "Duplicate"
    assert len(sandbox.control.tasks()) == 1
    assert [row.get("dropped", False) for row in sandbox.control.requests(path="/transfer")] == [True, False]


@pytest.mark.slow
def test_replies_lost_every_time_are_1_and_the_task_exists(globus: Any, sandbox: Sandbox, archive: Path) -> None:
    (archive / "a").write_text("1")
    sandbox.control.fault(kind="drop-after", path="/transfer", **ALWAYS)
    addresses = [f"{sandbox.collection(name).id}:/a" for name in ("archive", "scratch")]
    exit_code, out, err = said(globus("transfer", *addresses, "--format", "json", timeout=240))
    assert (exit_code, out) == (1, "") and json.loads(err)["error_type"] == "GlobusConnectionError"
    assert len(sandbox.control.requests(path="/transfer")) == 6 and len(sandbox.control.tasks()) == 1


@pytest.mark.slow
def test_no_service_at_all_is_1_after_a_while(globus: Any, sandbox: Sandbox) -> None:
    sandbox.control.fault(kind="drop-before", **ALWAYS)
    exit_code, out, err = said(globus("task", "generate-submission-id", "--format", "json", timeout=240))
    assert (exit_code, out) == (1, "") and json.loads(err)["error_name"] == "Globus Error"


def test_a_slow_reply_is_a_timeout_when_it_is_too_slow(globus: Any, sandbox: Sandbox) -> None:
    sandbox.control.fault(kind="slow", seconds=1.5, **ALWAYS)
    line = ("api", "transfer", "--no-retry", "GET", "/submission_id", "--format", "json")
    assert globus(*line).returncode == 0
    exit_code, out, err = said(globus(*line, env={"GLOBUS_SDK_HTTP_TIMEOUT": "0.5"}))
    assert (exit_code, out) == (1, "") and json.loads(err)["error_type"] == "GlobusTimeoutError"


@pytest.mark.parametrize(
    ("kind", "status", "code"),
    [
        ("disconnected", 502, "ExternalError.DirListingFailed.GCDisconnected"),
        ("denied", 403, "EndpointPermissionDenied"),
        ("paused", 409, "OperationPaused"),
    ],
)
def test_a_collection_that_cannot_be_listed(globus: Any, sandbox: Sandbox, kind: str, status: int, code: str) -> None:
    archive = sandbox.collection("archive")
    sandbox.control.fault(kind=kind, collection="archive")
    done = globus("api", "transfer", "--no-retry", "GET", f"/operation/endpoint/{archive.id}/ls", "--format", "json")
    assert done.returncode == 1 and json.loads(done.stderr)["code"] == code
    assert sandbox.control.requests(path="*/ls")[-1]["status"] == status
    assert globus("ls", f"{sandbox.collection('scratch').id}:/").returncode == 0, "another collection is untouched"


@pytest.mark.parametrize(
    ("kind", "nice_status"),
    [("disconnected", "GC_NOT_CONNECTED"), ("denied", "PERMISSION_DENIED"), ("full", "NO_SPACE_LEFT")],
)
def test_a_collection_that_fails_a_task_keeps_it_active(
    api: Any, sandbox: Sandbox, archive: Path, kind: str, nice_status: str
) -> None:
    (archive / "a").write_text("1")
    sandbox.control.fault(kind=kind, collection="scratch")
    task = api.transfer(("/a", "/a"))
    assert api.until(task, lambda document: document["faults"] >= 2)["nice_status"] == nice_status
    sandbox.control.clear_faults()
    assert api.ended(task)["status"] == "SUCCEEDED"


@pytest.mark.parametrize("fault", [{"kind": "inactive"}, {"kind": "fail"}])
def test_task_wait_ends_with_1_at_once_for_inactive_and_failed(
    globus: Any, sandbox: Sandbox, archive: Path, fault: dict[str, Any]
) -> None:
    (archive / "a").write_text("1")
    sandbox.control.fault(fault)
    addresses = [f"{sandbox.collection(name).id}:/a" for name in ("archive", "scratch")]
    task = globus.submitted("transfer", *addresses)
    done = globus("task", "wait", task, "--format", "json", "--timeout", "50")
    assert done.returncode == 1 and json.loads(done.stdout)["status"] in ("INACTIVE", "FAILED")


def test_task_wait_runs_into_its_timeout_when_paused(globus: Any, sandbox: Sandbox, archive: Path) -> None:
    sandbox.control.fault(kind="pause-task", message="by hand")
    addresses = [f"{sandbox.collection(name).id}:/a" for name in ("archive", "scratch")]
    task = globus.submitted("transfer", *addresses)
    waited = globus("task", "wait", task, "--timeout", "1", "--polling-interval", "1", "--timeout-exit-code", "50")
    assert waited.returncode == 50
    info = globus("task", "pause-info", task)
    assert info.returncode == 0 and "by hand" in info.stdout


def test_faults_are_counted_skipped_and_matched(api: Any, sandbox: Sandbox) -> None:
    sandbox.control.fault(kind="status", status=503, path="/submission_id", method="get", count=2, skip=1)
    assert [api.call("GET", "/submission_id")[0] for _ in range(4)] == [200, 503, 503, 200]
    sandbox.control.fault(kind="status", status=418, path="/task/*")
    assert api.call("GET", "/submission_id")[0] == 200
    assert api.call("GET", "/task/00000000-0000-4000-8000-000000000000")[0] == 418
    assert sandbox.control.faults() == []


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ({"kind": "sabotage"}, "kind"),
        ({"kind": "status"}, "status"),
        ({"kind": "slow", "second": 1}, "second"),
        ({"kind": "disconnected", "collection": "nowhere"}, "nowhere"),
    ],
)
def test_a_fault_that_says_nothing_is_refused(sandbox: Sandbox, fault: dict[str, Any], words: str) -> None:
    with pytest.raises(BadRequest, match=words):
        sandbox.control.fault(fault)


def test_the_clock_jumps(api: Any, sandbox: Sandbox) -> None:
    before = sandbox.control.health()["now"]
    assert sandbox.control.advance_clock(3600) >= before + 3600
    assert sandbox.control.health()["now"] >= before + 3600
