"""Waiting: an answer that is missing once, a clock that is wrong, an outcome that is known, a hook that is stopped."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import command_line
from command_line import GLOBUS, accepted, run, run_json
from globus_sandbox.launch import Sandbox
from globuswrap.system import machine
from globuswrap.transfers import grace
from support import LAUNCHER

pytestmark = [pytest.mark.usefixtures("globus_loaded")]

QUICK = ("--poll", "0.1s", "--fault-grace", "0s")
LINE = ("transfer", "archive:/a", "scratch:/a")


def a_file(box: Sandbox) -> Path:
    path = box.collection("archive").path / "a"
    path.write_text("data")
    return path


def not_found(box: Sandbox, count: int) -> None:
    """So many looks at a task find nothing: it is in no list, and asked for by itself it is a 404."""
    empty = {"DATA_TYPE": "task_list", "DATA": [], "length": 0, "limit": 1, "offset": 0, "total": 0}
    box.control.fault(kind="status", path="/task_list", status=200, body=empty, count=count)
    box.control.fault(kind="not-found", path="/task/*", method="GET", count=count)


def marks(box: Sandbox) -> list[Path]:
    """What is noted of faults."""
    state = box.home / ".local" / "state" / "globuswrap"
    return [*state.glob("journal/*/*.fault"), *state.glob("faults/*")]


def held_in_a_fault(box: Sandbox) -> str:
    """A task that looks for a file that is not there; its id."""
    box.control.progress("polls:0")
    task: str = run_json(box, "transfer", "archive:/nope", "scratch:/a")["data"]["task_id"]
    return task


# --- absence ----------------------------------------------------------------------------------------------------------


def test_a_task_that_is_not_found_once_is_waited_for(sandbox: Sandbox) -> None:
    a_file(sandbox)
    not_found(sandbox, 2)
    done = run_json(sandbox, *LINE, "--key", "k", "--once", "--wait", *QUICK)
    assert done["data"]["outcome"] == "succeeded"
    assert {fault["struck"] for fault in sandbox.control.faults()} <= {2}  # both looks did find nothing
    assert marks(sandbox) == []


def test_a_task_is_gone_when_several_looks_over_the_grace_do_not_find_it(sandbox: Sandbox) -> None:
    """Each look is a process of its own: the looks, and the time over which they were made, are kept on disk."""
    a_file(sandbox)
    task = run_json(sandbox, *LINE)["data"]["task_id"]
    sandbox.control.forget_task(task)
    look = ("wait", task, "--timeout", "0s")
    for _ in range(3):
        ended = run_json(sandbox, *look, expect=75)["data"]["tasks"][0]
        assert ended["outcome"] == "unreachable" and "does not find" in ended["cause"]
    assert run_json(sandbox, *look, "--fault-grace", "0s", expect=1)["data"]["tasks"][0]["outcome"] == "gone"
    stranger = "aaaaaaaa-0000-4000-8000-000000000001"  # not in the journal
    codes = [run(sandbox, "wait", stranger, "--timeout", "0s", "--fault-grace", "0s").returncode for _ in range(3)]
    assert codes == [75, 75, 1]


def test_a_later_answer_wins_over_a_task_that_was_gone(sandbox: Sandbox) -> None:
    a_file(sandbox)
    line = (*LINE, "--key", "k", "--once", "--wait", *QUICK)
    not_found(sandbox, 1000)
    assert run_json(sandbox, *line, expect=1)["data"]["outcome"] == "gone"
    assert run_json(sandbox, *line, expect=1)["data"]["outcome"] == "gone"
    sandbox.control.clear_faults()
    (task,) = accepted(sandbox)
    for _ in range(2):
        again = run_json(sandbox, *line)["data"]
        assert (again["outcome"], again["task_id"]) == ("succeeded", task["task_id"])


def test_a_later_answer_wins_in_a_batch_that_is_done_once(sandbox: Sandbox) -> None:
    a_file(sandbox)
    line = ("batch", "archive:/", "scratch:/", "-", "--key", "k", "--once", "--wait", *QUICK)
    not_found(sandbox, 1000)
    assert run_json(sandbox, *line, input="a\n", expect=1)["data"]["receipt"]["outcome"] == "gone"
    sandbox.control.clear_faults()
    assert run_json(sandbox, *line, input="a\n")["data"]["receipt"]["outcome"] == "succeeded"
    assert len(accepted(sandbox)) == 1


# --- grace ------------------------------------------------------------------------------------------------------------


def test_a_host_whose_clock_is_ahead_does_not_end_the_grace(
    sandbox: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(command_line, "loaded", None)  # one that is forked has begun with the right clock
    task = held_in_a_fault(sandbox)
    look = ("wait", task, "--timeout", "0s", "--fault-grace", "5m")
    run_json(sandbox, *look, expect=75)
    (tmp_path / "sitecustomize.py").write_text("import time\nnow = time.time\ntime.time = lambda: now() + 400\n")
    ahead = {"GLOBUSWRAP_PYTHON": sys.executable, "PYTHONPATH": str(tmp_path)}
    run_json(sandbox, *look, expect=75, env=ahead)
    assert [each["status"] for each in accepted(sandbox)] == ["ACTIVE"]


def test_the_grace_goes_on_over_short_processes(sandbox: Sandbox) -> None:
    task = held_in_a_fault(sandbox)
    look = ("wait", task, "--timeout", "0s", "--fault-grace", "5m")
    run_json(sandbox, *look, expect=75)
    (mark,) = marks(sandbox)
    known = json.loads(mark.read_text())
    assert known["reason"] == "FILE_NOT_FOUND"
    known["since"] = {boot: since - 300 for boot, since in known["since"].items()}  # five minutes ago
    mark.write_text(json.dumps(known))
    ended = run_json(sandbox, *look, expect=5)["data"]["tasks"][0]
    assert ended["outcome"] == "permanent-fault"
    assert [each["fatal_error"]["code"] for each in accepted(sandbox)] == ["CANCELED"]
    assert marks(sandbox) == []


def test_a_host_that_comes_later_takes_over_what_is_known_to_have_passed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Never more than has passed: hosts count seconds since their own boot, and share no clock."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))

    def seen(boot: str, at: float, reason: str = "FILE_NOT_FOUND") -> float:
        monkeypatch.setattr(machine, "boot", lambda: boot)
        monkeypatch.setattr(grace, "_now", lambda: at)
        return grace.Mark("task", None).seen(reason).seconds

    assert [seen("one", 1000), seen("one", 1060)] == [0, 60]
    assert seen("two", 9_000_000) == 60  # what lies between is not known
    assert seen("two", 9_000_030) == 90
    assert seen("one", 1200) == 200
    assert seen("two", 9_000_031) == 200
    assert seen("one", 5) == 200  # a clock that went back says nothing
    assert seen("one", 1300, "PERMISSION_DENIED") == 0
    grace.Mark("task", None).healthy()
    assert seen("one", 1400, "PERMISSION_DENIED") == 0


# --- outcomes ---------------------------------------------------------------------------------------------------------


def test_the_first_outcome_stays_with_its_reason(sandbox: Sandbox) -> None:
    line = ("transfer", "archive:/nope", "scratch:/a", "--key", "k", "--once", "--no-check", "--wait", *QUICK)
    first = run_json(sandbox, *line, expect=5)["data"]
    assert first["outcome"] == "permanent-fault"
    for more in ((), ("--receipt-files",)):
        ended = run_json(sandbox, "wait", first["task_id"], *more, expect=5)["data"]["tasks"][0]
        assert (ended["outcome"], ended["cause"]) == ("permanent-fault", first["receipt"]["cause"])
    again = run_json(sandbox, *line, expect=5)["data"]
    assert (again["outcome"], again["receipt"]["cause"]) == ("permanent-fault", first["receipt"]["cause"])
    assert again["receipt"]["files_list"] == []


def shim(box: Sandbox, tmp_path: Path, on_cancel: str) -> dict[str, str]:
    """A `globus` that does something at `globus task cancel`; then the real one goes on."""
    path = tmp_path / "globus"
    path.write_text(f'#!/bin/bash\nif [[ "$1 $2" == "task cancel" ]]; then {on_cancel}\nfi\nexec {GLOBUS} "$@"\n')
    path.chmod(0o700)
    return {"GLOBUSWRAP_GLOBUS": str(path)}


def test_with_keep_a_task_in_a_permanent_fault_is_left_running(sandbox: Sandbox) -> None:
    line = ("transfer", "archive:/nope", "scratch:/a", "--no-check", "--wait", "--keep", *QUICK)
    assert run_json(sandbox, *line, expect=5)["data"]["outcome"] == "permanent-fault"
    assert [task["status"] for task in accepted(sandbox)] == ["ACTIVE"]


def test_a_task_that_finished_before_our_cancel_has_succeeded(sandbox: Sandbox, tmp_path: Path) -> None:
    task = held_in_a_fault(sandbox)
    finish = f'echo x >{sandbox.collection("archive").path}/nope; until {GLOBUS} task wait "$3" --timeout 1; do :; done'
    ended = run_json(sandbox, "wait", task, *QUICK, env=shim(sandbox, tmp_path, finish))["data"]["tasks"][0]
    assert sandbox.control.requests(path=f"/task/{task}/cancel")
    assert ended["outcome"] == "succeeded"
    assert run_json(sandbox, "wait", task)["data"]["tasks"][0]["outcome"] == "succeeded"


def test_the_cause_is_kept_when_we_are_killed_right_after_our_cancel(sandbox: Sandbox, tmp_path: Path) -> None:
    task = held_in_a_fault(sandbox)
    kill = f'{GLOBUS} "$@"; kill -9 $PPID; exit'
    assert run(sandbox, "wait", task, *QUICK, env=shim(sandbox, tmp_path, kill)).returncode == -signal.SIGKILL
    ended = run_json(sandbox, "wait", task, expect=5)["data"]["tasks"][0]
    assert ended["outcome"] == "permanent-fault" and "FILE_NOT_FOUND" in ended["cause"]


# --- hooks ------------------------------------------------------------------------------------------------------------


def until(condition: Callable[[], Any]) -> None:
    """Wait for a state that the other side keeps until it is told to end."""
    deadline = time.monotonic() + 240
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def begun(box: Sandbox, *line: str) -> subprocess.Popen[bytes]:
    env = {name: value for name, value in {**os.environ, **box.env}.items() if value is not None}
    return subprocess.Popen([str(LAUNCHER), *line], env=env, stdout=subprocess.DEVNULL, start_new_session=True)


def commands(box: Sandbox) -> dict[str, tuple[str, ...]]:
    """The command lines whose hook has to run until it is over, without it."""
    task = run_json(box, "transfer", "archive:/a", "scratch:/waited")["data"]["task_id"]
    (box.home / "list").write_text("a\n")
    return {
        "transfer": (*LINE, "--wait", *QUICK),
        "batch": ("batch", "archive:/", "results:/", str(box.home / "list"), "--wait", *QUICK),
        "wait": ("wait", task, *QUICK),
    }


@pytest.mark.parametrize("command", ["transfer", "batch", "wait"])
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_hook_that_was_stopped_runs_again_and_nothing_is_submitted_twice(
    sandbox: Sandbox, tmp_path: Path, command: str, number: signal.Signals
) -> None:
    a_file(sandbox)
    line = commands(sandbox)[command]
    begin, again = tmp_path / "begun", tmp_path / "again"
    # It ends by itself only when it is orphaned and the test is over.
    hook = f"touch {begin}; while [ -e {tmp_path} ] && [ ! -e {again} ]; do sleep 0.05; done; touch {tmp_path}/end"
    process = begun(sandbox, *line, "--then", hook)
    until(begin.exists)
    process.send_signal(number)
    assert process.wait(240) == (-number if number == signal.SIGKILL else 128 + number)
    assert (tmp_path / "end").exists() is False
    tasks = len(accepted(sandbox))
    done = run(sandbox, *line, "--then", f"touch {again}")
    assert done.returncode == 0, done.stderr
    assert again.exists()
    assert len(accepted(sandbox)) == tasks


def test_a_signal_is_handed_to_the_hook_which_is_waited_for(sandbox: Sandbox, tmp_path: Path) -> None:
    """A hook that cleans up and ends well is done: the promise is kept, and the next run is a new attempt."""
    a_file(sandbox)
    begin, end = tmp_path / "begun", tmp_path / "end"
    hook = f"trap 'touch {end}; exit 0' TERM; touch {begin}; while [ -e {tmp_path} ]; do sleep 0.05; done"
    process = begun(sandbox, *LINE, "--wait", *QUICK, "--then", hook)
    until(begin.exists)
    process.terminate()
    assert process.wait(240) == 128 + signal.SIGTERM
    assert end.exists()
    assert run_json(sandbox, *LINE, "--wait", *QUICK)["data"]["attempt"] == 2


def test_a_hook_that_fails_is_reported_and_not_run_again(sandbox: Sandbox) -> None:
    a_file(sandbox)
    failed = run_json(sandbox, *LINE, "--wait", *QUICK, "--then", "exit 3", expect=1)
    assert failed["error"]["name"] == "then-failed" and "exit code 3" in failed["error"]["cause"]
    assert run_json(sandbox, *LINE, "--wait", *QUICK)["data"]["attempt"] == 2
