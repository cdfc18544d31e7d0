"""What a caller was promised decides what a rerun does: the outcome if it waits, else the submission. Never "succeeded" for
files that were not sent, never a second task for a caller that was killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from command_line import GLOBUS, accepted, run, run_json
from globus_sandbox.launch import Sandbox
from globuswrap.errors import Refused
from globuswrap.globus import command
from globuswrap.transfers import wait as waiting
from support import LAUNCHER

pytestmark = pytest.mark.usefixtures("globus_loaded")

TREE = ("transfer", "archive:/d", "scratch:/d", "--recursive", "--poll", "0.1s")
LIST = ("batch", "archive:/d", "scratch:/d", "-", "--chunk", "1", "--poll", "0.1s")


def put(sandbox: Sandbox, name: str) -> None:
    path = sandbox.collection("archive").path / "d" / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(name)


def sent(sandbox: Sandbox) -> list[str]:
    there = sandbox.collection("scratch").path / "d"
    return sorted(os.listdir(there)) if there.exists() else []


def let_tasks_end(sandbox: Sandbox) -> None:
    sandbox.control.progress("at-once")
    end = time.monotonic() + 240
    while any(task["status"] == "ACTIVE" for task in accepted(sandbox)):
        assert time.monotonic() < end
        time.sleep(0.05)


def facts(sandbox: Sandbox, fact: str, place: str = "journal") -> list[Path]:
    state = sandbox.home / ".local" / "state" / "globuswrap"
    return sorted(state.glob(f"{place}/**/*.{fact}"))


def claims(sandbox: Sandbox) -> list[Path]:
    journal = sandbox.home / ".local" / "state" / "globuswrap" / "journal"
    return sorted(path for path in journal.glob("*/*") if path.suffix[1:].isdigit())


def said(done: subprocess.CompletedProcess[str], task_id: str) -> bool:
    """Is a person told which task it is, how old it is, and that no other was begun?"""
    return task_id in done.stderr and " ago" in done.stderr and "Nothing new was sent." in done.stderr


def test_a_transfer_repeated_after_its_task_ended_sends_what_is_new(sandbox: Sandbox) -> None:
    put(sandbox, "a")
    first = run_json(sandbox, *TREE)["data"]
    let_tasks_end(sandbox)
    put(sandbox, "new")
    done = run(sandbox, *TREE, "--wait")
    assert done.returncode == 0 and sent(sandbox) == ["a", "new"], done.stderr
    assert "Nothing new" not in done.stderr and f"Task {first['task_id']}" in done.stderr
    assert len(accepted(sandbox)) == 2
    put(sandbox, "newer")
    again = run_json(sandbox, *TREE)["data"]
    assert (again["how"], again["attempt"]) == ("new", 3)


def test_who_was_killed_while_waiting_gets_the_outcome_and_is_told_that_nothing_was_sent(sandbox: Sandbox) -> None:
    put(sandbox, "a")
    sandbox.control.progress("held")
    env = {name: value for name, value in {**os.environ, **sandbox.env}.items() if value is not None}
    waiting = subprocess.Popen([LAUNCHER, *TREE, "--wait"], env=env, stdout=subprocess.DEVNULL)
    end = time.monotonic() + 240
    while not sandbox.control.requests(path="/task_list") and time.monotonic() < end:
        time.sleep(0.05)
    waiting.send_signal(signal.SIGKILL)
    waiting.wait()
    let_tasks_end(sandbox)
    put(sandbox, "new")
    (task,) = accepted(sandbox)
    done = run(sandbox, *TREE)
    assert done.returncode == 0 and "succeeded: 1 file" in done.stderr and said(done, task["task_id"])
    assert sent(sandbox) == ["a"] and len(accepted(sandbox)) == 1
    assert run_json(sandbox, *TREE, "--wait")["data"]["how"] == "new" and sent(sandbox) == ["a", "new"]


def test_what_still_runs_is_adopted_and_said_so(sandbox: Sandbox) -> None:
    put(sandbox, "a")
    sandbox.control.progress("held")
    first = run_json(sandbox, *TREE)["data"]
    done = run(sandbox, *TREE)
    assert done.returncode == 0 and said(done, first["task_id"]), done.stderr
    done = run(sandbox, *TREE, "--wait", "--timeout", "0s")
    assert done.returncode == 75 and said(done, first["task_id"]), done.stderr
    let_tasks_end(sandbox)  # it is waited for now: its outcome is promised
    put(sandbox, "new")
    done = run(sandbox, *TREE)
    assert said(done, first["task_id"]) and len(accepted(sandbox)) == 1


def test_who_was_killed_before_it_was_told_the_task_id_makes_no_second_task(sandbox: Sandbox) -> None:
    put(sandbox, "a")
    first = run_json(sandbox, *TREE)["data"]
    let_tasks_end(sandbox)
    (answered,) = facts(sandbox, "answered")
    answered.unlink()
    done = run(sandbox, *TREE)
    assert done.returncode == 0 and said(done, first["task_id"]) and len(accepted(sandbox)) == 1


def test_once_repeats_the_outcome_and_says_so(sandbox: Sandbox) -> None:
    put(sandbox, "a")
    first = run_json(sandbox, *TREE, "--once")["data"]
    let_tasks_end(sandbox)
    put(sandbox, "new")
    for line in ((*TREE, "--once", "--wait"), TREE):
        done = run(sandbox, *line)
        assert done.returncode == 0 and said(done, first["task_id"]), done.stderr
    assert sent(sandbox) == ["a"]


def test_who_asks_for_a_command_afterwards_is_promised_the_outcome(sandbox: Sandbox, tmp_path: Path) -> None:
    put(sandbox, "a")
    line = (*TREE, "--then", f"echo ran >>{tmp_path / 'seen'}")
    run_json(sandbox, *line)
    let_tasks_end(sandbox)
    run_json(sandbox, *line)
    assert (tmp_path / "seen").read_text() == "ran\n" and len(accepted(sandbox)) == 1


def test_a_key_is_free_for_another_request_once_its_promise_is_kept(sandbox: Sandbox) -> None:
    put(sandbox, "a")
    sandbox.control.progress("held")
    run_json(sandbox, *TREE, "--key", "k")
    other = ("transfer", "archive:/d/a", "scratch:/other", "--key", "k")
    assert run(sandbox, *other).returncode == 2
    let_tasks_end(sandbox)
    assert run_json(sandbox, *other)["data"]["attempt"] == 2


def test_a_batch_repeated_after_its_tasks_ended_is_a_new_one(sandbox: Sandbox) -> None:
    for name in ("a", "b"):
        put(sandbox, name)
    assert run(sandbox, *LIST, input="a\nb\n").returncode == 0
    done = run(sandbox, *LIST, input="a\nb\n")
    let_tasks_end(sandbox)
    (sandbox.collection("archive").path / "d" / "a").write_text("changed")
    done = run(sandbox, *LIST, "--wait", input="a\nb\n")
    assert done.returncode == 0 and "Starting a new one." in done.stderr, done.stderr
    assert (sandbox.collection("scratch").path / "d" / "a").read_text() == "changed"


def test_a_batch_whose_caller_was_promised_the_outcome_reports_it_first(sandbox: Sandbox) -> None:
    for name in ("a", "b"):
        put(sandbox, name)
    sandbox.control.progress("held")
    assert run(sandbox, *LIST, input="a\nb\n").returncode == 0
    assert run(sandbox, *LIST, "--wait", "--timeout", "0s", input="a\nb\n").returncode == 75
    let_tasks_end(sandbox)
    tasks = [task["task_id"] for task in accepted(sandbox)]
    done = run(sandbox, *LIST, input="a\nb\n")
    assert done.returncode == 0 and any(said(done, task_id) for task_id in tasks), done.stderr
    assert len(accepted(sandbox)) == 2 and "succeeded: 2 files" in done.stderr
    assert run(sandbox, *LIST, input="a\nb\n").returncode == 0 and len(accepted(sandbox)) == 4


# what another attempt has


def test_an_old_intent_does_not_take_the_task_of_an_earlier_attempt_of_the_same_minute(sandbox: Sandbox) -> None:
    """The clock of Globus may be ten minutes off: that a task is younger than the claim does not say whose it is."""
    put(sandbox, "a")
    line = (*TREE, "--retry-for", "0s")
    first = run_json(sandbox, *line, "--wait")["data"]
    unanswered(sandbox, line)
    second = claims(sandbox)[-1]
    rewrite(second, created=time.time() - 8 * 86400)
    put(sandbox, "new")
    again = run_json(sandbox, *line, "--wait")["data"]
    assert again["task_id"] != first["task_id"] and again["attempt"] == 3 and sent(sandbox) == ["a", "new"]


def unanswered(sandbox: Sandbox, line: tuple[str, ...]) -> None:
    """An intent whose submission has not arrived."""
    sandbox.control.fault(kind="unavailable", path="/transfer", count=100, retry_after=0)
    run_json(sandbox, *line, expect=75)
    sandbox.control.clear_faults()


def rewrite(path: Path, **changed: Any) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **changed}))


# damaged records, and records of another version


def test_a_damaged_claim_sends_nothing_before_its_task_is_looked_for(sandbox: Sandbox) -> None:
    put(sandbox, "a")
    sandbox.control.progress("held")
    first = run_json(sandbox, *TREE)["data"]
    (claim,), (task,) = claims(sandbox), facts(sandbox, "task")
    claim.write_bytes(b"{")
    task.unlink()
    posts = len(sandbox.control.requests(path="/transfer", method="POST"))
    done = run_json(sandbox, *TREE)["data"]
    assert (done["task_id"], done["how"], done["attempt"]) == (first["task_id"], "adopted", 2)
    assert len(sandbox.control.requests(path="/transfer", method="POST")) == posts


def test_a_damaged_claim_does_not_take_a_task_between_other_collections(sandbox: Sandbox) -> None:
    put(sandbox, "a")
    line = (*TREE, "--retry-for", "0s")
    unanswered(sandbox, line)
    (claim,) = claims(sandbox)
    label = json.loads(claim.read_text())["label"]
    claim.write_bytes(b"{")
    sandbox.control.progress("held")
    (sandbox.collection("results").path / "x").write_text("")
    ends = [f"{sandbox.collection(name).id}:/x" for name in ("results", "archive")]
    sandbox.run([GLOBUS, "transfer", *ends, "--label", label]).check_returncode()
    run_json(sandbox, *line)
    assert len(accepted(sandbox)) == 2


@pytest.mark.parametrize("earlier", [0, 1], ids=["attempt-1", "attempt-2"])
@pytest.mark.parametrize("kept", ["task", "receipt"])
def test_a_damaged_claim_beside_its_facts_has_not_never_run(sandbox: Sandbox, kept: str, earlier: int) -> None:
    put(sandbox, "a")
    line = (*TREE, "--key", "k")
    for _ in range(earlier):
        run_json(sandbox, *line, "--wait")
    first = run_json(sandbox, *line, "--wait")["data"]
    claims(sandbox)[-1].write_bytes(b'{"schema": "globuswrap.submission/1"')
    if kept == "task":
        facts(sandbox, "receipt")[-1].unlink()
        facts(sandbox, "reported")[-1].unlink()
    put(sandbox, "new")
    done = run(sandbox, *line, "--once", "--wait")
    assert done.returncode == 0 and said(done, first["task_id"]), done.stderr
    assert len(accepted(sandbox)) == 1 + earlier and "new" not in sent(sandbox)
    other = run_json(sandbox, "transfer", "archive:/d/a", "scratch:/o", "--key", "k", expect=2)
    assert other["error"]["name"] == "key-taken"


@pytest.mark.parametrize("change", [{"schema": "globuswrap.submission/2"}, {"not_before": 1}], ids=["schema", "field"])
def test_a_claim_of_a_newer_version_is_refused_and_left_alone(sandbox: Sandbox, change: dict[str, Any]) -> None:
    put(sandbox, "a")
    line = (*TREE, "--once", "--key", "k", "--wait")
    run_json(sandbox, *line)
    (claim,) = claims(sandbox)
    rewrite(claim, **change)
    before = {path: path.read_bytes() for path in claim.parent.iterdir()}
    done = run_json(sandbox, *line, expect=1)
    assert done["error"]["name"] == "unknown-record" and str(claim) in done["error"]["cause"]
    assert {path: path.read_bytes() for path in claim.parent.iterdir()} == before
    assert len(accepted(sandbox)) == 1
    listed = run(sandbox, "status", "--all", "--no-live")
    assert listed.returncode == 0 and str(claim) in listed.stderr
    assert run_json(sandbox, *TREE, "--key", "other", "--wait")["data"]["how"] == "new"


@pytest.mark.parametrize("change", [{"schema": "globuswrap.batch/2"}, {"not_before": 1}], ids=["schema", "field"])
def test_a_batch_of_a_newer_version_is_refused_and_left_alone(sandbox: Sandbox, change: dict[str, Any]) -> None:
    put(sandbox, "a")
    line = (*LIST, "--once", "--wait")
    assert run(sandbox, *line, input="a\n").returncode == 0
    batches = sandbox.home / ".local" / "state" / "globuswrap" / "batches"
    rewrite(next(path for path in batches.iterdir() if path.suffix == ".1"), **change)
    before = {path: path.read_bytes() for path in batches.iterdir()}
    done = run(sandbox, *line, input="a\n")
    assert done.returncode == 1 and "[unknown-record]" in done.stderr
    assert {path: path.read_bytes() for path in batches.iterdir()} == before
    assert len(accepted(sandbox)) == 1


def test_a_damaged_batch_beside_its_facts_has_not_never_run(sandbox: Sandbox) -> None:
    for name in ("a", "b"):
        put(sandbox, name)
    line = (*LIST, "--once", "--wait")
    assert run(sandbox, *line, input="a\nb\n").returncode == 0
    batches = sandbox.home / ".local" / "state" / "globuswrap" / "batches"
    next(path for path in batches.iterdir() if path.suffix == ".1").write_bytes(b"{")
    done = run(sandbox, *line, input="a\nb\n")
    assert done.returncode == 0 and "Nothing new was sent." in done.stderr, done.stderr
    assert len(accepted(sandbox)) == 2


# a disk that is full


FULL = """
import errno, os, sys
from globuswrap.cli import main
from globuswrap.system import files
fact, whole = "." + sys.argv[1], files.write_atomic
def write_atomic(path, *rest):
    if str(path).endswith(fact):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
    whole(path, *rest)
files.write_atomic = write_atomic
sys.argv[:2] = ["globuswrap"]
main.main()
"""


@pytest.mark.parametrize("fact", ["task", "answered", "receipt", "reported"])
@pytest.mark.parametrize("line", [TREE, LIST], ids=["transfer", "batch"])
def test_a_disk_that_is_full_after_globus_accepted_the_task_is_not_bad_usage(
    sandbox: Sandbox, fact: str, line: tuple[str, ...]
) -> None:
    put(sandbox, "a")
    line = (*line, *(("--wait",) if fact in ("receipt", "reported") else ()))
    done = sandbox.run([sys.executable, "-c", FULL, fact, *line], input="a\n")
    (task,) = accepted(sandbox)
    assert done.returncode == 1 and task["task_id"] in done.stderr and "[not-recorded]" in done.stderr, done.stderr
    again = run(sandbox, *line, input="a\n")
    assert again.returncode == 0 and said(again, task["task_id"]), again.stderr
    assert len(accepted(sandbox)) == 1


FULL_AT_THE_SECOND_CLAIM = """
import errno, os, sys
from globuswrap.cli import main
from globuswrap.transfers import journal
claim, claims = journal.claim, []
def full(new):
    claims.append(new)
    if len(claims) > 1:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), new.key)
    return claim(new)
journal.claim = full
sys.argv[0] = "globuswrap"
main.main()
"""


def test_a_disk_that_is_full_in_the_middle_of_a_batch_is_not_bad_usage(sandbox: Sandbox) -> None:
    for name in ("a", "b"):
        put(sandbox, name)
    line = (*LIST, "--chunk", "1", "--in-flight", "1")
    done = sandbox.run([sys.executable, "-c", FULL_AT_THE_SECOND_CLAIM, *line], input="a\nb\n")
    (task,) = accepted(sandbox)
    assert done.returncode == 1 and task["task_id"] in done.stderr and "[not-recorded]" in done.stderr, done.stderr
    assert run(sandbox, *line, input="a\nb\n").returncode == 0
    assert len(accepted(sandbox)) == 2


# odd answers


@pytest.mark.parametrize("value", ["abc", 5, None])
def test_a_submission_id_that_is_no_uuid_is_never_written_down(sandbox: Sandbox, value: object) -> None:
    put(sandbox, "a")
    sandbox.control.fault(kind="status", path="/submission_id", status=200, body={"value": value})
    done = run_json(sandbox, *TREE, expect=1)
    assert done["error"]["name"] == "odd-answer" and "nothing was submitted" in done["error"]["cause"]
    assert claims(sandbox) == [] and accepted(sandbox) == []


@pytest.mark.parametrize("answer", [{"status": "ACTIVE"}, {"status": "ACTIVE", "task_id": ["x"]}], ids=["none", "list"])
def test_an_answer_that_does_not_name_its_task_is_said_so(
    answer: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(command, "call", lambda *words, **_: {"DATA": [answer]} if "list" in words else answer)
    with pytest.raises(Refused) as refused:
        waiting.documents(["T"])
    assert refused.value.name == "odd-answer" and "task T" in refused.value.cause
