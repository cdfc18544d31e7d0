"""`sync run --key` and `--once`: a run of a profile has a name and is told under it; with --once there is no second."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from globuswrap import config
from globuswrap.cli.sandbox import Sandbox
from globuswrap.collections.address import Address
from globuswrap.errors import Refused, UsageProblem
from globuswrap.globus import command
from globuswrap.syncs import profile as profiles
from globuswrap.syncs import run as running
from globuswrap.syncs.context import RunOptions, RunResult
from globuswrap.syncs.profile import Profile
from globuswrap.syncs.scan import Filters
from globuswrap.syncs.state import RunIssue, State
from globuswrap.transfers.operations import Hooks
from globuswrap.transfers.options import Options
from globuswrap.transfers.wait import WaitPolicy
from support import REPOSITORY
from sync_support import Beam

pytestmark = [pytest.mark.usefixtures("globus_loaded")]

Run = Callable[..., RunResult]


@pytest.fixture
def beam(sandbox: Sandbox) -> Beam:
    return Beam(sandbox)


@pytest.fixture
def run(beam: Beam, monkeypatch: pytest.MonkeyPatch) -> Run:
    """A run of the profile in this process, as the command would make it."""
    for name, value in beam.box.env.items():
        monkeypatch.delenv(name, raising=False)
        if value is not None:
            monkeypatch.setenv(name, value)
    command.find.cache_clear()

    def run(key: str | None = None, **how: Any) -> RunResult:
        config.load.cache_clear()
        return running.run(profiles.load("beam"), RunOptions(key=key, **how))

    return run


def names(result: RunResult) -> list[str]:
    return [issue.name for issue in result.issues]


def test_with_once_a_key_is_one_run_for_good_and_asks_nothing(beam: Beam, run: Run) -> None:
    beam.write("a")
    line = ("--key", "2026-11-20 $(x)\n", "--once")
    beam.quiet(*line)
    settled = json.loads(beam.run(*line, "--json").stdout)["data"]
    assert (settled["outcome"], settled["how"], settled["committed"]) == ("finished", "adopted", 1)
    beam.write("b")
    (beam.state() / "lease").write_text("somebody is at work")
    done = beam.sync("run", *line, "--json", env={"GLOBUSWRAP_GLOBUS": "/nonexistent"})
    assert done.returncode == 0, done.stderr
    again = json.loads(done.stdout)["data"]
    assert (again["outcome"], again["how"], again["task_ids"]) == ("finished", "recorded", settled["task_ids"])
    assert again["key"] == line[1]
    shown = beam.sync("run", *line, "--dry-run").stdout
    assert shown == f"nothing would be sent: the run under key {line[1]!r} is recorded: finished\n"
    (beam.state() / "lease").unlink()
    assert run(line[1]).how == "recorded"  # a record of --once holds without it too, as with transfer
    assert len(beam.tasks()) == 1
    assert run("2026-11-21", once=True).how == "new"
    beam.same()


def test_without_once_a_run_that_was_told_is_followed_by_a_new_one(beam: Beam, run: Run) -> None:
    beam.write("a")
    assert run("k", after=Hooks(then="true")).how == "new"  # its outcome is promised
    beam.box.control.progress("held")
    beam.write("b")
    run()  # settles it and sends b: nobody of key k has been told
    asked = len(beam.box.control.requests())
    told = run("k")
    assert (told.how, told.outcome, told.exit_code) == ("recorded", "finished", 0)
    assert len(beam.box.control.requests()) == asked  # not behind the run that is under way
    assert run("k").exit_code == 75  # now that of nobody's key is settled first
    beam.box.control.progress("at-once")
    for task in beam.tasks():
        beam.box.control.progress("at-once", task["task_id"])
    again = run("k", wait=True)
    assert (again.how, again.outcome) == ("new", "nothing-to-do")
    beam.same()


@pytest.mark.parametrize("by", ["itself", "another"])
def test_who_was_promised_the_submission_has_a_new_run_once_that_has_ended(beam: Beam, run: Run, by: str) -> None:
    beam.write("a")
    assert run("k").how == "new"
    if by == "another":
        run("other")
    beam.write("b")
    again = run("k", wait=True)
    assert (again.how, again.outcome, again.exit_code) == ("new", "finished", 0)
    beam.same()


def test_who_waits_for_a_run_that_is_under_way_is_promised_its_outcome(
    beam: Beam, run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    beam.write("a")
    beam.box.control.progress("held")
    task_id = run("k").task_ids[0]
    assert run("k", wait=True, wait_policy=WaitPolicy(timeout=0.0)).exit_code == 75
    assert f"(task {task_id}). Nothing new was sent." in capsys.readouterr().err
    beam.box.control.progress("at-once")
    for task in beam.tasks():
        beam.box.control.progress("at-once", task["task_id"])
    beam.write("b")
    settled = run("k", wait=True)
    assert (settled.how, settled.outcome, settled.task_ids) == ("adopted", "finished", [task_id])
    assert run("k", wait=True).how == "new"
    beam.same()


@pytest.mark.parametrize("change", [{"schema": "globuswrap.sync-key/2"}, {"not_before": 1}], ids=["schema", "field"])
def test_a_record_of_a_newer_version_is_refused_and_left_alone(state: State, change: dict[str, Any]) -> None:
    path = remembered(state, "k", True)
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    before = path.read_bytes()
    with pytest.raises(Refused) as refused:
        state.known("k")
    assert refused.value.name == "unknown-record" and path.read_bytes() == before


@pytest.mark.parametrize("change", [{"schema": "globuswrap.sync-run/2"}, {"not_before": 1}], ids=["schema", "field"])
def test_a_run_of_a_newer_version_is_refused_and_left_alone(state: State, change: dict[str, Any]) -> None:
    begun = state.begin(state.draft())
    assert begun is not None
    path = begun.directory / "run.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    before = path.read_bytes()
    with pytest.raises(Refused) as refused:
        state.current()
    assert refused.value.name == "unknown-record" and path.read_bytes() == before


def test_the_outcome_is_told_whole_whoever_settles_it_and_once_repeats_a_failure(beam: Beam, run: Run) -> None:
    beam.write("a")
    beam.write(b"caf\xe9")
    beam.box.control.fault(kind="fail", code="ENDPOINT_ERROR")
    assert names(run("k", once=True)) == ["unsendable-names"]
    assert names(run()) == ["task-failed", "unsendable-names"]  # of both, and sends a again
    notes = beam.box.base / "notes"
    line = f'echo "$GLOBUSWRAP_OUTCOME" >> "{notes}"'
    asked = len(beam.box.control.requests())
    for _ in range(2):
        told = run("k", once=True, after=Hooks(then="echo >> /nonexistent/x", on_failure=line))
        assert (names(told), told.exit_code) == (["unsendable-names", "task-failed"], 1)
    assert len(beam.box.control.requests()) == asked
    assert notes.read_text() == "failed\n"  # once, until a caller of the key has been told
    assert [task["sync_level"] for task in beam.tasks()] == [None, 3]
    assert run("next", wait=True, after=Hooks(then=line)).exit_code == 1  # settles the other's: `then` is not for that
    assert notes.read_text() == "failed\n"


def test_nothing_to_do_is_done_and_what_could_not_be_sent_is_not(beam: Beam, run: Run) -> None:
    beam.write(b"caf\xe9")
    assert run("k", once=True).exit_code == 1
    beam.set(skip_unsendable=True, settle="1h")
    beam.write("a", age=60)
    assert run("k", once=True).outcome == "waiting"
    beam.set(settle=0)
    key = beam.box.control.fault(
        kind="status",
        status=403,
        path="/transfer",
        method="POST",
        count=100,
        body={"code": "PermissionDenied", "message": "no"},
    )
    assert run("k", once=True).exit_code == 1  # refused: no task, as with transfer
    beam.box.control.clear_faults(key)
    assert run("k", once=True, wait=True).outcome == "finished"
    assert run("empty", once=True).outcome == "nothing-to-do"
    beam.write("b")
    assert (run("empty", once=True).how, len(beam.tasks())) == ("recorded", 1)


def test_what_is_said_of_waiting_holds_for_the_look_without_it(beam: Beam, run: Run) -> None:
    """Not to cancel, above all: a run that does not wait looks at the tasks of the last one."""
    beam.write("a")
    beam.box.control.fault(kind="quota", collection="results")
    run()
    assert names(run(wait_policy=WaitPolicy(keep=True, fault_grace=0.0))) == ["task-permanent-fault"]
    assert [task["status"] for task in beam.tasks()] == ["ACTIVE"]


# The state.


@pytest.fixture
def profile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Profile:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    monkeypatch.setenv("GLOBUSWRAP_GLOBUS", "/nonexistent")
    place = Address("11111111-1111-4111-8111-111111111111", "/data/")
    return Profile("x", place, place.joined("copy"), local_root="/data")


@pytest.fixture
def state(profile: Profile) -> State:
    return State(profile.directory).make()


def remembered(state: State, key: str, once: bool, **facts: Any) -> Path:
    before = set(state.keys.glob("*"))
    state.remember(replace(state.draft(), key=key, **facts), once)
    (made,) = set(state.keys.glob("*")) - before
    return made


def told(profile: Profile, key: str | None, once: bool = True, **how: Any) -> RunResult:
    return running.run(profile, RunOptions(key=key, once=once, **how))


def test_once_wants_a_key(profile: Profile) -> None:
    with pytest.raises(UsageProblem, match="only ever run once"):
        told(profile, None)


def test_another_request_under_a_key_is_2_and_limits_are_none(profile: Profile, state: State) -> None:
    begun = state.begin(replace(state.draft(), key="k", request=profile.request))
    assert begun is not None
    others = [
        replace(profile, filters=Filters((("exclude", "*.tmp"),))),
        replace(profile, options=Options(encrypt_data=True)),
        replace(profile, symlinks="keep"),
        replace(profile, delete=True, check_file="mounted"),
    ]
    for other in others:
        with pytest.raises(UsageProblem, match="already names"):
            told(other, "k", once=False)  # it is not settled
    state.remember(begun, once=False)
    state.end(begun)
    for other in others:
        with pytest.raises(UsageProblem, match="already names"):
            told(other, "k", once=False, dry_run=True)  # nobody has been told
    assert told(replace(profile, max_bytes=1, settle=9.0, label="new"), "k").how == "recorded"
    with pytest.raises(UsageProblem, match="already names"):
        told(others[0], "k")
    with pytest.raises(Refused, match="No such file"):
        told(others[0], "k", once=False)  # told, and not --once: a new run


def test_skipped_files_are_judged_by_the_strictness_of_who_asks(profile: Profile, state: State) -> None:
    remembered(state, "k", True, request=profile.request, issues=[RunIssue(0, "files-skipped", "1 file", "")])
    assert [told(profile, "k", wait_policy=WaitPolicy(strict=strict)).exit_code for strict in (False, True)] == [0, 6]


def test_what_was_decided_on_an_older_state_begins_nothing(state: State) -> None:
    late = state.draft(state.last_number())
    first = state.begin(state.draft())
    assert first is not None
    state.end(first)
    assert state.begin(late) is None
    assert state.begin(state.draft()) is not None


def test_old_records_go_but_those_of_once(state: State) -> None:
    old, once = remembered(state, "old", False), remembered(state, "once", True)
    for path in (old, once):
        os.utime(path, (0, 0))
    remembered(state, "new", False)
    assert not old.exists() and once.exists()


def test_a_damaged_record_is_told_and_begins_nothing(state: State) -> None:
    remembered(state, "k", True).write_text("{")
    with pytest.raises(Refused, match="cannot be read"):
        state.known("k")


# Kills.

#: Runs globuswrap and kills it with SIGKILL right after the first thing on disk that no run was killed at before.
KILLED = r"""
import os, re, signal, sys
from pathlib import Path

seen = Path(sys.argv.pop(1))
POINTS = {
    r"runs/\d+$": "",
    r"journal/.*\.\d+$": "",
    r"journal/.*\.task$": "",
    r"runs/\d+/run.json$": "succeeded",
    r"runs/\d+/settled$": "",
    r"keys/": '"reported": true',
}

def killed_after(name):
    original = getattr(os, name)
    def done(source, target, **rest):
        result = original(source, target, **rest)
        for pattern, word in POINTS.items():
            if re.search(pattern, str(target)):
                point = f"{pattern} {bool(word) and word in Path(target).read_text()}"
                if point not in seen.read_text().splitlines():
                    seen.write_text(seen.read_text() + point + "\n")
                    os.kill(os.getpid(), signal.SIGKILL)
        return result
    setattr(os, name, done)

for name in ("rename", "replace", "link"):
    killed_after(name)
from globuswrap.cli.main import main
sys.exit(main())
"""


def test_killed_after_everything_it_writes_a_key_is_one_run_and_its_end_is_told(beam: Beam, tmp_path: Path) -> None:
    seen = tmp_path / "seen"
    seen.touch()
    line = ["sync", "run", "beam", "--key", "k", "--once", "--wait", "--json"]
    environment: dict[str, str | None] = {"PYTHONPATH": str(REPOSITORY / "lib")}
    for kills in range(8):
        beam.write(f"f{kills}")  # a second run would have something to send
        done = beam.box.run([sys.executable, "-c", KILLED, str(seen), *line], env=environment)
        if done.returncode >= 0:
            break
    # begun, claimed, sent, ended, known, settled, told
    assert (done.returncode, kills) == (0, 7), (done.stderr, seen.read_text())
    assert json.loads(done.stdout)["data"]["how"] == "recorded"
    (task,) = beam.tasks()
    assert [item["source_path"] for item in task["items"]] == ["/data/f0"]
