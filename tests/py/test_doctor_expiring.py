"""`doctor --expiring` from cron, silent unless something is to be done; and the check of a new secret before it is used."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from pathlib import Path

import pytest

from command_line import run, run_json
from globus_sandbox import auth
from globuswrap.cli.sandbox import Sandbox

pytestmark = [pytest.mark.usefixtures("globus_loaded")]


def submitted(box: Sandbox, name: str = "a", held: bool = True) -> str:
    (box.collection("archive").path / name).write_text("data")
    if held:
        box.control.progress("held")
    line = ("transfer", f"archive:/{name}", f"scratch:/{name}", "--no-check")
    return str(run_json(box, *line)["data"]["task_id"])


def found(box: Sandbox, expect: int = 0, window: str = "7d") -> list[str]:
    answer = run_json(box, "doctor", "--expiring", window, expect=expect)
    return [each["name"] for each in answer["data"]["findings"]]


def silent(box: Sandbox) -> bool:
    done = run(box, "doctor", "--expiring", "7d")
    return (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_with_nothing_unfinished_it_is_silent_and_asks_nobody(sandbox: Sandbox) -> None:
    assert silent(sandbox)
    assert sandbox.control.requests("transfer") == []


def test_a_task_that_goes_on_is_nobodys_business(sandbox: Sandbox) -> None:
    submitted(sandbox)
    assert silent(sandbox)


def test_a_task_that_waits_for_a_login_is_said_with_what_fixes_it(sandbox: Sandbox) -> None:
    task = submitted(sandbox)
    sandbox.control.fault(kind="inactive", task=task)
    done = run(sandbox, "doctor", "--expiring", "7d")
    assert done.returncode == 7 and task in done.stdout and "globus session update" in done.stdout
    sandbox.control.clear_faults()
    assert silent(sandbox)


def test_a_task_that_stands_still_at_a_fault_is_said(sandbox: Sandbox) -> None:
    task = str(run_json(sandbox, "transfer", "archive:/not there", "scratch:/x", "--no-check")["data"]["task_id"])
    done = run(sandbox, "doctor", "--expiring", "7d")
    assert done.returncode == 7 and "[task-stands-still]" in done.stdout and task in done.stdout


@pytest.mark.parametrize(("minutes", "names"), [(4, []), (1, ["session-ends-first"])])
def test_a_session_that_ends_too_soon_for_unfinished_work_is_said(
    sandbox: Sandbox, minutes: int, names: list[str]
) -> None:
    """The login is a minute old. One that may be four minutes old never lasts a week: it is renewed when half of it is over."""
    submitted(sandbox)
    policy = {"high_assurance": True, "authentication_timeout_mins": minutes}
    sandbox.control.put("endpoint", sandbox.collection("scratch").id, policy)
    assert found(sandbox, expect=4 if names else 0) == names


def test_a_submission_whose_id_expires_is_said(sandbox: Sandbox) -> None:
    sandbox.control.fault(kind="unavailable", method="POST", path="/transfer", count=100)
    (sandbox.collection("archive").path / "a").write_text("data")
    run(sandbox, "transfer", "archive:/a", "scratch:/a", "--no-check", "--retry-for", "0")
    assert found(sandbox, window="1d") == []
    assert found(sandbox, window="8d", expect=75) == ["submission-expires"]


# A new secret


@pytest.fixture
def box(new_sandbox: Callable[..., Sandbox]) -> Sandbox:
    return new_sandbox(login="none")


def credentials(path: Path, secret: str, client: str = auth.CLIENT) -> Path:
    path.write_text(f'client-id = "{client}"\nclient-secret = "{secret}"\n')
    path.chmod(0o600)
    return path


def test_a_secret_is_checked_by_a_new_token_whatever_tokens_are_kept(box: Sandbox) -> None:
    """Rotation: the account works with what is kept of the old secret; the new file is checked by itself."""
    current = credentials(box.home / "current.toml", auth.CLIENT_SECRET)
    with box.config_file.open("a") as config:
        config.write(f'[defaults]\ncredentials-file = "{current}"\n')
    (box.collection("archive").path / "a").write_text("data")
    run_json(box, "transfer", "archive:/a", "results:/a", "--wait")
    wrong = credentials(box.home / "new.toml", "revoked, or mistyped")
    refused = run(box, "doctor", "--credentials", str(wrong))
    assert refused.returncode == 4 and str(wrong) in refused.stdout and "revoked" not in refused.stdout + refused.stderr
    good = credentials(box.home / "new.toml", auth.CLIENT_SECRET)
    checked = run_json(box, "doctor", "--credentials", str(good))["data"]
    assert [each["name"] for each in checked["well"]] == ["secret"] and checked["findings"] == []
    assert run_json(box, "transfer", "archive:/a", "results:/b", "--wait")["data"]["outcome"] == "succeeded"


def test_a_secret_of_another_account_is_said(box: Sandbox) -> None:
    current = credentials(box.home / "current.toml", "whatever", client=str(uuid.uuid4()))
    with box.config_file.open("a") as config:
        config.write(f'[defaults]\ncredentials-file = "{current}"\n')
    other = credentials(box.home / "new.toml", auth.CLIENT_SECRET)
    checked = run_json(box, "doctor", "--credentials", str(other))["data"]
    assert [each["name"] for each in checked["findings"]] == ["another-account"]


@pytest.mark.parametrize("more", [("beam",), ("--credentials", "x")])
def test_it_stands_alone(sandbox: Sandbox, more: tuple[str, ...]) -> None:
    assert run_json(sandbox, "doctor", "--expiring", "7d", *more, expect=2)["error"]["name"] == "bad-option"
