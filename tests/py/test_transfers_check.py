"""Looking first: a mistyped path is told at once, and a directory is not deleted by mistake."""

from __future__ import annotations

import pytest

from command_line import accepted, on_terminal, run, run_json
from globus_sandbox.launch import Sandbox

pytestmark = [pytest.mark.usefixtures("globus_loaded")]

QUICK = ("--wait", "--poll", "0.1s", "--fault-grace", "0s")


def test_a_mistyped_source_is_told_before_anything_is_submitted(sandbox: Sandbox) -> None:
    wrong = ("transfer", "archive:/nope", "scratch:/a")
    error = run_json(sandbox, *wrong, *QUICK, expect=2)["error"]
    assert error["name"] == "source-missing"
    assert error["cause"] == "archive:/nope does not exist; nothing was submitted"
    assert f"globus ls {sandbox.collection('archive').id}:/)" in error["remedy"] and "--no-check" in error["remedy"]
    code, text = on_terminal(sandbox, *wrong)
    assert code == 2 and "source-missing" in text  # there is a person
    assert accepted(sandbox) == []
    assert run(sandbox, *wrong).returncode == 0  # a script that does not wait: Globus looks for the file for a day
    assert run_json(sandbox, *wrong, *QUICK, expect=5)["data"]["outcome"] == "permanent-fault"  # adopted: no look
    assert run_json(sandbox, *wrong, *QUICK, "--no-check", expect=5)["data"]["attempt"] == 2


def test_a_source_that_may_not_be_read_is_told_before_anything_is_submitted(sandbox: Sandbox) -> None:
    (sandbox.collection("archive").path / "a").write_text("x")
    sandbox.control.fault(kind="denied", collection="archive")
    error = run_json(sandbox, "transfer", "archive:/a", "scratch:/a", *QUICK, expect=1)["error"]
    assert error["name"] == "permission-denied" and "globus whoami" in error["remedy"]
    assert accepted(sandbox) == []


def test_file_or_directory_is_told_before_anything_is_submitted(sandbox: Sandbox) -> None:
    (sandbox.collection("archive").path / "d").mkdir()
    (sandbox.collection("archive").path / "f").write_text("x")
    for source, option, name in (("d", "--no-recursive", "is-a-directory"), ("f", "--recursive", "is-a-file")):
        line = ("transfer", f"archive:/{source}", "scratch:/x", option, *QUICK)
        assert run_json(sandbox, *line, expect=2)["error"]["name"] == name
    assert accepted(sandbox) == []


def test_a_collection_that_does_not_answer_is_left_to_the_task(sandbox: Sandbox) -> None:
    (sandbox.collection("archive").path / "a").write_text("x")
    sandbox.control.fault(kind="disconnected", collection="archive", count=1)
    done = run(sandbox, "transfer", "archive:/a", "scratch:/a", *QUICK)
    assert done.returncode == 0 and "archive:/a was not checked" in done.stderr


def test_a_directory_is_deleted_only_with_recursive(sandbox: Sandbox) -> None:
    """As `rm` does, with a slash at its end or not, waited for or not, alone or among others."""
    top = sandbox.collection("scratch").path
    (top / "d").mkdir()
    (top / "d" / "file").write_text("x")
    for name in ("a", "b"):
        (top / name).write_text("x")
    for addresses in (("scratch:/d",), ("scratch:/d/",), ("scratch:/a", "scratch:/b", "scratch:/d")):
        error = run_json(sandbox, "delete", *addresses, expect=2)["error"]
        assert error["name"] == "is-a-directory" and "--recursive" in error["remedy"]
        assert error["cause"].startswith("scratch:/d")
    assert accepted(sandbox) == []
    assert (top / "d" / "file").exists() and (top / "a").exists()
    run_json(sandbox, "delete", "scratch:/a", *QUICK)
    run_json(sandbox, "delete", "scratch:/d", "--recursive", *QUICK)
    assert [each.name for each in top.iterdir()] == ["b"]


def test_a_deletion_of_what_is_not_there_says_what_to_do(sandbox: Sandbox) -> None:
    """Found first; without the look Globus fails the task at once, and a remedy for transfers would be of no use."""
    error = run_json(sandbox, "delete", "scratch:/nope", *QUICK, expect=2)["error"]
    assert error["name"] == "source-missing" and "--ignore-missing" in error["remedy"]
    several = run_json(sandbox, "delete", "scratch:/x", "scratch:/y", *QUICK, expect=2)["error"]
    assert several["detail"].splitlines() == ["scratch:/x does not exist", "scratch:/y does not exist"]
    assert accepted(sandbox) == []
    failed = run_json(sandbox, "delete", "scratch:/nope", "--no-check", *QUICK, expect=1)
    assert failed["data"]["outcome"] == "failed" and failed["data"]["receipt"]["faults"] == 1
    assert "scratch:/nope: FILE_NOT_FOUND" in failed["error"]["cause"]
    assert "--ignore-missing" in failed["error"]["remedy"] and "--sync-level" not in failed["error"]["remedy"]
    assert run_json(sandbox, "delete", "scratch:/nope", "--ignore-missing", *QUICK)["data"]["outcome"] == "succeeded"


@pytest.mark.parametrize(
    ("fault", "says"),
    [
        ({"kind": "denied", "collection": "archive"}, "globus whoami"),
        ({"kind": "quota", "collection": "scratch"}, "free some space in scratch:/a"),
        ({"kind": "fail", "code": "ENDPOINT_ERROR"}, "--sync-level checksum"),
    ],
    ids=lambda given: given.get("kind") if isinstance(given, dict) else None,
)
def test_the_remedy_fits_the_cause(sandbox: Sandbox, fault: dict[str, object], says: str) -> None:
    (sandbox.collection("archive").path / "a").write_text("x")
    sandbox.control.fault(**fault)
    done = run(sandbox, "transfer", "archive:/a", "scratch:/a", "--no-check", *QUICK)
    remedy = next(line for line in done.stderr.splitlines() if line.startswith("  remedy: "))
    assert says in remedy
    task = accepted(sandbox)[0]["task_id"]
    again = run(sandbox, "wait", task)  # as it was recorded
    assert again.returncode == done.returncode and "check the paths" not in again.stderr
