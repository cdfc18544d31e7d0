"""`show`, and the beginnings of ids: one task or chain in full, and one answer to why it failed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from command_line import accepted, on_terminal, run, run_json
from globuswrap.cli.sandbox import Sandbox
from test_cli_lookup import batch, fill, killed_chain

pytestmark = [pytest.mark.usefixtures("globus_loaded")]


def started(sandbox: Sandbox, *more: str, code: int = 0) -> str:
    """A transfer of archive:/a; its task id."""
    fill(sandbox, "a")
    done = run(sandbox, "transfer", "archive:/a", "scratch:/a", *more)
    assert done.returncode == code, done.stderr
    return str(accepted(sandbox)[-1]["task_id"])


def rows(text: str) -> dict[str, str]:
    """The first row of each name."""
    found: dict[str, str] = {}
    for line in text.splitlines():
        if line.startswith("  "):
            found.setdefault(line[2:12].strip(), line[13:])
    return found


WAIT = ("--wait", "--fault-grace", "0", "--poll", "0.1s")


def test_why_it_failed_has_one_answer_without_asking_globus(sandbox: Sandbox) -> None:
    sandbox.control.fault(kind="denied", collection="scratch")
    task = started(sandbox, *WAIT, code=5)
    sandbox.control.fault(kind="logged-out")
    shown = run(sandbox, "show", task[:8])
    assert shown.returncode == 0, shown.stderr
    found = rows(shown.stdout)
    assert shown.stdout.startswith(f"Task {task}  permanent-fault\n")
    assert found["Transfer"] == "archive:/a -> scratch:/a"
    assert found["Why"].startswith("scratch:/a: PERMISSION_DENIED") and "canceled" in found["Why"]
    assert 'PERMISSION_DENIED at scratch:/a (destination): "permission denied"' in found["Fault"]
    assert "globus whoami" in found["Next"] and found["Next"].endswith("then rerun")
    receipt = json.loads(Path(found["Receipt"]).read_text())
    assert receipt["task_id"] == task


def test_a_task_that_went_well(sandbox: Sandbox) -> None:
    task = started(sandbox, *WAIT, "--key", "night")
    found = rows(run(sandbox, "show", "night").stdout)
    assert found["Moved"].startswith("1 of 1 file, 1 B") and "/s" in found["Moved"]
    assert "after" in found["Ended"] and "Why" not in found and "Next" not in found
    (data,) = run_json(sandbox, "show", task)["data"]["tasks"]
    assert (data["state"], data["receipt"]["files_transferred"], data["submission"]["name"]) == (
        "succeeded",
        1,
        "night",
    )


def test_a_paused_task_shows_who_paused_it_and_why(sandbox: Sandbox) -> None:
    sandbox.control.progress("held")
    task = started(sandbox)
    sandbox.control.fault(kind="paused", collection="archive", message="New disks until Monday")
    shown = rows(run(sandbox, "show", task).stdout)
    assert shown["Why"].startswith("paused by a manager of archive; ")
    assert '"New disks until Monday"' in shown["Why"]
    assert f"globuswrap wait {task}" in shown["Next"]
    waited = run(sandbox, "wait", task, "--fault-grace", "0", "--poll", "0.1s")
    assert waited.returncode == 7 and "New disks until Monday" in waited.stderr


def test_a_running_task_and_one_that_globus_does_not_tell_of(sandbox: Sandbox) -> None:
    sandbox.control.progress("held")
    task = started(sandbox)
    shown = rows(run(sandbox, "show", task).stdout)
    assert shown["Why"] == "still running" and f"globuswrap wait {task}" in shown["Next"]
    (data,) = run_json(sandbox, "show", task)["data"]["tasks"]
    assert (data["state"], data["receipt"], data["task"]["status"]) == ("running", None, "ACTIVE")
    sandbox.control.fault(kind="logged-out")
    shown = rows(run(sandbox, "show", task).stdout)
    assert "not logged in" in shown["Note"] and shown["Next"] == "globus login"


def test_a_task_of_another_program(sandbox: Sandbox) -> None:
    fill(sandbox, "a")
    pair = [f"{sandbox.collection(name).id}:/a" for name in ("archive", "scratch")]
    task = json.loads(sandbox.run(["globus", "transfer", "-F", "json", *pair]).stdout)["task_id"]
    shown = run(sandbox, "show", task)
    assert shown.stdout.startswith(f"Task {task}  succeeded\n")
    assert rows(shown.stdout)["Transfer"] == "archive: -> scratch:"


def test_what_globus_refused_says_so(sandbox: Sandbox) -> None:
    body = {"code": "ClientError.BadRequest", "message": "no such thing"}
    sandbox.control.fault(kind="status", status=400, body=body, path="/transfer", count=1000)
    fill(sandbox, "a")
    run(sandbox, "transfer", "archive:/a", "scratch:/a", "--key", "k")
    shown = run(sandbox, "show", "k").stdout
    assert shown.startswith("Task (none)  not submitted\n")
    assert "no such thing" in rows(shown)["Why"] and "same submission id" in rows(shown)["Next"]


def test_a_chain_has_its_steps_and_its_tasks(sandbox: Sandbox, tmp_path: Path) -> None:
    chain = killed_chain(sandbox, tmp_path, "exit 3")
    sandbox.control.progress("at-once")
    assert run(sandbox, "wait", chain, "--poll", "0.2s", "--timeout", "60s").returncode == 1
    shown = run(sandbox, "show", chain[:5])
    assert shown.returncode == 0, shown.stderr
    task = accepted(sandbox)[0]["task_id"]
    assert shown.stdout.startswith(f"Chain {chain}  failed")
    assert f"globuswrap submit --resume {chain}" in shown.stdout
    assert f"Task {task}  succeeded\n" in shown.stdout
    (data,) = run_json(sandbox, "show", chain)["data"]["chains"]
    assert [each["task_id"] for each in data["tasks"]] == [task]


def test_an_interrupted_wait_says_that_the_task_continues_and_how_to_follow_or_stop_it(sandbox: Sandbox) -> None:
    sandbox.control.progress("held")
    task = started(sandbox)
    code, text = on_terminal(sandbox, "wait", task, "--poll", "0.2s", until="files")
    assert code == 130
    assert f"The transfer continues at Globus as task {task}" in text
    assert f"globuswrap wait {task}" in text and f"globuswrap cancel {task}" in text
    assert accepted(sandbox)[0]["status"] == "ACTIVE"


# --- the beginning of an id -------------------------------------------------------------------------------------------


def test_the_beginning_of_a_task_id_or_key_is_enough_everywhere(sandbox: Sandbox, tmp_path: Path) -> None:
    sandbox.control.progress("held")
    tasks = batch(sandbox, tmp_path)
    one = tasks[0]
    assert run_json(sandbox, "status", one[:8])["data"]["submissions"][0]["task_id"] == one
    assert len(run_json(sandbox, "show", "nigh")["data"]["tasks"]) == 3
    canceled = run_json(sandbox, "cancel", one[:8].upper())["data"]["canceled"]
    assert [each["task_id"] for each in canceled] == [one]
    assert run_json(sandbox, "wait", one[:13], expect=5)["data"]["tasks"][0]["task_id"] == one


def test_the_beginning_of_a_chain_is_enough_everywhere(sandbox: Sandbox, tmp_path: Path) -> None:
    chain = killed_chain(sandbox, tmp_path)
    assert run_json(sandbox, "tend", chain[:5])["data"]["chains"].keys() == {chain}
    assert run_json(sandbox, "cancel", chain[:5])["data"]["canceled"][0]["chain"] == chain
    sandbox.control.progress("at-once")
    resumed = run(sandbox, "submit", "--resume", chain[:5], "--no-check", "--poll", "0.1s")
    assert resumed.returncode == 0, resumed.stderr


def test_a_beginning_that_several_have_is_refused(sandbox: Sandbox) -> None:
    sandbox.control.progress("held")
    started(sandbox, "--key", "night-1")
    run(sandbox, "transfer", "archive:/a", "results:/a", "--key", "night-2")
    for verb in ("cancel", "show", "wait", "status"):
        done = run(sandbox, verb, "night")
        assert done.returncode == 2 and "ambiguous-prefix" in done.stderr
        assert "night-1, night-2" in done.stderr
    assert {each["status"] for each in accepted(sandbox)} == {"ACTIVE"}
    assert run(sandbox, "cancel", "nig").returncode == 2  # too short to be one
    assert len(run_json(sandbox, "cancel", "night-2")["data"]["canceled"]) == 1


def test_a_whole_key_is_none_of_which_it_is_the_beginning(sandbox: Sandbox) -> None:
    sandbox.control.progress("held")
    task = started(sandbox, "--key", "night")
    run(sandbox, "transfer", "archive:/a", "results:/a", "--key", "night-2")
    assert [each["task_id"] for each in run_json(sandbox, "show", "night")["data"]["tasks"]] == [task]
