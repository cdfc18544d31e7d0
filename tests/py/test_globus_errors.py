"""From what `globus` prints to the exception tree. The texts are those observed on 3.18 to 3.44 (docs/sandbox/behavior.md)."""

from __future__ import annotations

import itertools
import json

import pytest

from globuswrap.errors import LoginNeeded, NoGlobus, Refused, TryLater, UsageProblem
from globuswrap.globus import command, errors, versions
from globuswrap.system import log
from globuswrap.system.process import Completed


def done(code: int, stderr: object = "", stdout: str = "") -> Completed:
    text = stderr if isinstance(stderr, str) else json.dumps(stderr, indent=2)
    return Completed(("globus", "transfer"), code, stdout, text, 0.1)


RAW = {"code": "EndpointNotFound", "message": "No such endpoint", "request_id": "x", "resource": "/transfer"}
CONSENT = {
    "code": "ConsentRequired",
    "message": "Missing required data_access consent",
    "required_scopes": ["urn:a[*b]"],
}


def session(**parameters: object) -> dict[str, object]:
    return {"code": "PermissionDenied", "message": "no", "authorization_parameters": parameters}


@pytest.mark.parametrize(
    ("what", "kind", "name", "remedy"),
    [
        (done(64, RAW), errors.NotFound, "not-found", "globus endpoint search"),
        (
            done(1, {"HTTP status": "404", "code": "NotFound", "error_name": "x"}),
            errors.NotFound,
            "not-found",
            "globus",
        ),
        (done(63, {"code": "PermissionDenied", "message": "no"}), Refused, "globus-refused", "globus whoami"),
        (done(60, {"code": "BadRequest", "message": "no"}), Refused, "globus-refused", "rerun"),
        (done(1, CONSENT), LoginNeeded, "consent-needed", "globus session consent 'urn:a[*b]'"),
        (done(63, CONSENT), LoginNeeded, "consent-needed", "globus session consent 'urn:a[*b]'"),
        (
            done(63, session(session_required_single_domain=["uni.example"])),
            LoginNeeded,
            "session-needed",
            "globus session update uni.example",
        ),
        (
            done(63, session(session_required_identities=["a@b", "c@d"])),
            LoginNeeded,
            "session-needed",
            "globus session update a@b c@d",
        ),
        (
            done(63, session(session_required_policies="p1,p2")),
            LoginNeeded,
            "session-needed",
            "globus session update --policy p1,p2",
        ),
        (done(63, session(session_required_mfa=True)), LoginNeeded, "session-needed", "globus session update"),
        (
            done(4, "MissingLoginError: Missing login for Globus Transfer.\nPlease run:\n\n  globus login\n"),
            LoginNeeded,
            "login-needed",
            "globus login",
        ),
        (
            done(4, "MissingLoginError: Missing login for x.\nPlease run:\n\n  globus login --gcs 1234\n"),
            LoginNeeded,
            "login-needed",
            "globus login --gcs 1234",
        ),
        (
            done(61, {"code": "ClientError.AuthenticationFailed", "message": "Token is not active"}),
            LoginNeeded,
            "login-needed",
            "globus login --force",
        ),
        (
            done(1, {"error_name": "Globus Error", "error_type": "GlobusConnectionError", "message": "x"}),
            errors.Transient,
            "globus-unreachable",
            "again",
        ),
        (
            done(1, {"error_name": "Globus Error", "error_type": "GlobusTimeoutError", "message": "x"}),
            errors.Transient,
            "globus-unreachable",
            "again",
        ),
        (done(80, {"error_name": "GlobusAPINullDataError"}), errors.Transient, "globus-busy", "later"),
        (done(1, {"error_name": "GlobusAPINullDataError"}), errors.Transient, "globus-busy", "later"),
        (done(79, {"code": "RateLimitExceeded"}), errors.Transient, "globus-busy", "later"),
        (done(83, {"code": "ServiceUnavailable"}), errors.Transient, "globus-busy", "later"),
        (done(-9), errors.Transient, "globus-killed", "again"),
        (
            done(69, {"code": "ClientError.Conflict", "message": "has not yet completed"}),
            errors.Conflict,
            "conflict",
            "wait",
        ),
        (done(2, "Usage: globus\n\nError: No such option: --x"), UsageProblem, "globus-usage", "--help"),
        (done(127, "globus: not found"), NoGlobus, "no-globus", "pipx install"),
        (
            done(82, {"code": "ExternalError.DirListingFailed.GCDisconnected", "message": "x"}),
            Refused,
            "globus-refused",
            "Globus Connect Personal",
        ),
        (done(1, "something odd"), Refused, "globus-refused", "rerun"),
    ],
    ids=lambda value: str(value.code) if isinstance(value, Completed) else None,
)
def test_what_globus_printed_decides(what: Completed, kind: type, name: str, remedy: str) -> None:
    problem = errors.problem_of(what)
    assert type(problem) is kind and problem.name == name and remedy in problem.remedy
    assert problem.cause and "\n" not in problem.cause and "\n" not in problem.remedy


def test_a_service_account_gets_other_remedies(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GLOBUS_CLI_CLIENT_ID", "x")
    monkeypatch.setenv("GLOBUS_CLI_CLIENT_SECRET", "y")
    for what in (done(1, CONSENT), done(63, session(session_required_mfa=True)), done(4, "MissingLoginError: x")):
        problem = errors.problem_of(what)
        assert isinstance(problem, LoginNeeded)
        assert "globus session" not in problem.remedy and not problem.remedy.startswith("globus login")


def test_a_warning_before_the_body_is_no_hindrance() -> None:
    text = "`--delete` has been deprecated { and so on\n" + json.dumps(RAW)
    assert isinstance(errors.problem_of(done(64, text)), errors.NotFound)


@pytest.mark.parametrize(
    ("text", "version"),
    [
        ("Installed Version: 3.43.0\nFailed to lookup latest version.", (3, 43, 0)),
        ("Installed Version:  3.27.0\nLatest Version:     3.44.0\n\nYou are running", (3, 27, 0)),
        ("Globus CLI, version 1.12.0", (1, 12, 0)),
        ("no such thing", None),
    ],
)
def test_versions(text: str, version: tuple[int, ...] | None) -> None:
    assert versions.parse(text) == version


def test_what_mends_itself_is_tried_again_until_the_time_is_over(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    monkeypatch.setattr("time.monotonic", lambda: clock[0])
    monkeypatch.setattr("time.sleep", lambda seconds: clock.__setitem__(0, clock[0] + seconds))
    tries: list[float] = []

    def work() -> None:
        tries.append(clock[0])
        raise errors.Transient("globus-busy", "no", "later")

    with pytest.raises(TryLater):
        command.retrying(work, 100)
    assert tries[-1] <= 100 < tries[-1] + 30
    pauses = [b - a for a, b in itertools.pairwise(tries)]
    assert 0.5 <= pauses[0] <= 1.0 and max(pauses) <= 30 and len(set(pauses)) == len(pauses)
    tries.clear()
    with pytest.raises(TryLater):
        command.retrying(work, 0)
    assert len(tries) == 1


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("GLOBUS_CLI_CLIENT_SECRET=abc x", "GLOBUS_CLI_CLIENT_SECRET=*** x"),
        ('{"access_token": "abc", "b": 1}', '{"access_token": "***", "b": 1}'),
        ("Authorization: Bearer abc", "Authorization: ***"),
        ('"authorization_parameters": {"x": 1}', '"authorization_parameters": {"x": 1}'),
    ],
)
def test_secrets_are_masked_by_name(text: str, shown: str) -> None:
    assert log.masked(text) == shown
