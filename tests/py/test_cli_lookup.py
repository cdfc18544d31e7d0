"""What the words given to `wait`, `status` and `cancel` name: keys of requests, batches and sync runs, and chains."""

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

from command_line import accepted, run, run_json
from globuswrap.cli.sandbox import Sandbox
from support import LAUNCHER, REPOSITORY
from sync_support import Beam

pytestmark = [pytest.mark.usefixtures("globus_loaded")]

SOON = ("--timeout", "0.5s", "--poll", "0.1s")


def fill(sandbox: Sandbox, *names: str) -> None:
    for name in names:
        (sandbox.collection("archive").path / name).write_text(name)


def batch(sandbox: Sandbox, tmp_path: Path, *more: str, code: int = 0) -> list[str]:
    """A batch of three tasks under the key `night`; the ids of those submitted."""
    fill(sandbox, "a", "b", "c")
    listed = tmp_path / "list"
    listed.write_text("a\nb\nc\n")
    done = run(sandbox, "batch", "archive:/", "scratch:/", str(listed), "--chunk", "1", "--key", "night", *more)
    assert done.returncode == code, done.stderr
    return [task["task_id"] for task in accepted(sandbox)]


def outcomes(envelope: dict[str, Any]) -> dict[str, str]:
    return {each["task_id"]: each["outcome"] for each in envelope["data"]["tasks"]}


def test_the_key_of_a_batch_names_all_its_tasks(sandbox: Sandbox, tmp_path: Path) -> None:
    sandbox.control.progress("held")
    tasks = batch(sandbox, tmp_path)
    assert len(tasks) == 3
    assert set(outcomes(run_json(sandbox, "wait", "night", *SOON, expect=75))) == set(tasks)
    shown = run_json(sandbox, "status", "night", tasks[0])["data"]["submissions"]  # by its id it is the same task
    assert sorted(each["task_id"] for each in shown) == sorted(tasks)
    shown = run_json(sandbox, "cancel", "night", "--dry-run")["data"]
    assert {each["task_id"] for each in shown["to_cancel"]} == set(tasks) and "canceled" not in shown
    assert {task["status"] for task in accepted(sandbox)} == {"ACTIVE"}
    canceled = run_json(sandbox, "cancel", "night")["data"]["canceled"]
    assert {each["task_id"] for each in canceled} == set(tasks)
    assert set(outcomes(run_json(sandbox, "wait", "night", expect=5)).values()) == {"canceled"}


def test_a_batch_is_told_by_waiting_for_its_key(sandbox: Sandbox, tmp_path: Path) -> None:
    """As with a request: what was waited for is reported, and the same line then begins anew."""
    first = batch(sandbox, tmp_path)
    assert run(sandbox, "wait", "night", "--poll", "0.1s").returncode == 0
    assert len(batch(sandbox, tmp_path)) == 2 * len(first)


def test_what_is_not_submitted_of_a_batch_is_said(sandbox: Sandbox, tmp_path: Path) -> None:
    sandbox.control.progress("held")
    (task,) = batch(sandbox, tmp_path, "--in-flight", "1", *SOON, code=75)
    sandbox.control.progress("at-once")
    done = run(sandbox, "wait", "night", "--poll", "0.1s")
    assert done.returncode == 75, done.stderr
    assert task in done.stdout and "2 of 'night'" in done.stderr and "partly-submitted" in done.stderr
    assert "2 of 'night'" in run(sandbox, "status", "night").stdout
    line = [sys.executable, "-c", "import globuswrap; globuswrap.wait(['night'])"]
    waited = sandbox.run(line, env={"PYTHONPATH": str(REPOSITORY / "lib")})
    assert waited.returncode == 1 and "TryLater: tasks that are not submitted yet: 2 of 'night'" in waited.stderr
    stopped = run_json(sandbox, "cancel", "night", expect=75)
    assert [each["task_id"] for each in stopped["data"]["canceled"]] == [task]
    batch(sandbox, tmp_path)
    assert run(sandbox, "wait", "night", "--poll", "0.1s").returncode == 0


def test_the_tasks_of_a_verification_are_among_them(sandbox: Sandbox, tmp_path: Path) -> None:
    batch(sandbox, tmp_path, "--verify", "--poll", "0.1s")
    done = run_json(sandbox, "wait", "night", "--poll", "0.1s")
    assert len(outcomes(done)) == len(accepted(sandbox)) == 6


def test_a_key_names_what_each_command_did_under_it(sandbox: Sandbox, tmp_path: Path) -> None:
    tasks = set(batch(sandbox, tmp_path))
    tasks.add(run(sandbox, "transfer", "archive:/a", "results:/a", "--key", "night").stdout.strip())
    assert set(outcomes(run_json(sandbox, "wait", "night", "--poll", "0.1s"))) == tasks


def test_the_key_of_a_sync_run(sandbox: Sandbox) -> None:
    beam = Beam(sandbox)
    beam.write("a")
    sandbox.control.progress("held")
    beam.quiet("--key", "monday")
    (task,) = beam.tasks()
    assert outcomes(run_json(sandbox, "wait", "monday", *SOON, expect=75)) == {task["task_id"]: "running"}
    assert run_json(sandbox, "status", "monday")["data"]["submissions"][0]["task_id"] == task["task_id"]
    run_json(sandbox, "cancel", "monday")
    assert outcomes(run_json(sandbox, "wait", "monday", expect=5)) == {task["task_id"]: "canceled"}
    sandbox.control.progress("at-once")
    beam.run(code=5)  # the run under the key is over
    beam.settle()  # and what it did not bring is sent by another
    beam.same()
    assert outcomes(run_json(sandbox, "wait", "monday", expect=5)) == {task["task_id"]: "canceled"}
    (beam.state() / "runs" / "000099").mkdir()  # as after a bad disk; perhaps not of this key
    done = run(sandbox, "wait", "monday")
    assert done.returncode == 2 and "run.json cannot be read" in done.stderr
    assert "run.json" not in run(sandbox, "status", task["task_id"]).stderr  # an id is no key


def test_a_sync_run_under_a_key_that_is_not_submitted_yet(sandbox: Sandbox) -> None:
    beam = Beam(sandbox)
    beam.write("a")
    sandbox.control.fault(kind="drop-before", path="/transfer", count=1000)
    beam.run("--key", "monday", "--retry-for", "0", code=75)
    done = run(sandbox, "wait", "monday")
    assert done.returncode == 2 and "not-submitted" in done.stderr


def test_a_request_that_was_refused_is_shown_and_not_waited_for(sandbox: Sandbox) -> None:
    fill(sandbox, "a")
    body = {"code": "ClientError.BadRequest", "message": "no"}
    sandbox.control.fault(kind="status", status=400, body=body, path="/transfer", count=1000)
    assert run(sandbox, "transfer", "archive:/a", "scratch:/a", "--key", "k").returncode == 1
    assert run_json(sandbox, "status", "k")["data"]["submissions"][0]["state"] == "refused"
    for verb in ("wait", "cancel"):
        done = run(sandbox, verb, "k")
        assert done.returncode == 2 and "not-submitted" in done.stderr


# --- chains -----------------------------------------------------------------------------------------------------------

JOB = "#!/bin/bash\n#GLOBUS stage-in archive:/a scratch:/%j/a\n#GLOBUS stage-out scratch:/%j/a results:/%j\n"


def killed_chain(sandbox: Sandbox, tmp_path: Path, body: str = "true") -> str:
    """A chain of this machine whose `submit` was killed while its data was under way."""
    fill(sandbox, "a")
    sandbox.control.progress("held")
    script = tmp_path / "job.sh"
    script.write_text(JOB + body + "\n")
    env = {name: value for name, value in {**os.environ, **sandbox.env}.items() if value is not None}
    line = [str(LAUNCHER), "submit", "--no-check", "--scheduler", "local", "--poll", "0.1s", str(script)]
    submitting = subprocess.Popen(line, env=env, cwd=tmp_path, stderr=subprocess.DEVNULL, process_group=0)
    chains = sandbox.home / ".local/state/globuswrap/chains"
    while not list(chains.glob("c*/g1/task.stage-in*")):
        assert submitting.poll() is None
        time.sleep(0.05)
    os.killpg(submitting.pid, signal.SIGKILL)
    submitting.wait()
    (chain,) = chains.glob("c*")
    return chain.name


def test_a_chain_is_brought_to_its_end(sandbox: Sandbox, tmp_path: Path) -> None:
    chain = killed_chain(sandbox, tmp_path)
    waited = run_json(sandbox, "wait", chain, *SOON, expect=75)
    assert [(each["chain"], each["state"]) for each in waited["data"]["chains"]] == [(chain, "under way")]
    assert "chain-running" in run(sandbox, "wait", chain, *SOON).stderr
    sandbox.control.progress("at-once")
    other = run(sandbox, "transfer", "archive:/a", "scratch:/other").stdout.strip()
    done = run(sandbox, "wait", other, chain, "--poll", "0.2s", "--timeout", "60s")
    assert done.returncode == 0, done.stderr
    assert f"{chain}  done" in done.stdout and f"{other}  succeeded" in done.stdout
    assert len(list(sandbox.collection("results").path.iterdir())) == 1
    assert len(accepted(sandbox)) == 3


def test_a_chain_that_fails(sandbox: Sandbox, tmp_path: Path) -> None:
    chain = killed_chain(sandbox, tmp_path, "exit 3")
    sandbox.control.progress("at-once")
    for _ in range(2):  # and it says the same when it has ended before
        done = run(sandbox, "wait", chain, "--poll", "0.2s", "--timeout", "60s")
        assert done.returncode == 1 and f"{chain}  failed" in done.stdout
        assert f"remedy: check its output, then: globuswrap submit --resume {chain}" in done.stderr


def test_a_chain_that_needs_a_person_is_not_waited_for(sandbox: Sandbox, tmp_path: Path) -> None:
    chain = killed_chain(sandbox, tmp_path)
    sandbox.control.fault(kind="logged-out")
    done = run(sandbox, "wait", chain, "--poll", "0.2s")
    assert done.returncode == 4 and "globus login" in done.stderr
    assert accepted(sandbox)[0]["status"] == "ACTIVE"


def test_a_chain_that_cannot_be_reached_is_given_up_on(sandbox: Sandbox, tmp_path: Path) -> None:
    chain = killed_chain(sandbox, tmp_path)
    sandbox.control.fault(kind="drop-before", path="/task_list", count=1000)
    done = run(sandbox, "wait", chain, "--poll", "0.2s", "--retry-for", "1s")
    assert done.returncode == 75 and "task-unreachable" in done.stderr


def test_a_chain_takes_no_options_of_tasks(sandbox: Sandbox, tmp_path: Path) -> None:
    chain = killed_chain(sandbox, tmp_path)
    for option in (("--then", "true"), ("--strict",), ("--fault-grace", "1m")):
        done = run(sandbox, "wait", chain, *option)
        assert done.returncode == 2 and f"{option[0]} applies to tasks" in done.stderr


def test_a_chain_that_ended_long_ago_is_still_known(sandbox: Sandbox, tmp_path: Path) -> None:
    chain = killed_chain(sandbox, tmp_path)
    shown = run(sandbox, "cancel", chain, "--dry-run").stdout
    assert shown.startswith(f"{chain}  would be canceled") and accepted(sandbox)[0]["status"] == "ACTIVE"
    for _ in range(2):
        assert run(sandbox, "cancel", chain).stdout == f"{chain}  canceled\n"
    ended = next((sandbox.home / ".local/state/globuswrap/chains" / chain).glob("g1/ended"))
    ended.write_text(json.dumps({**json.loads(ended.read_text()), "at": 0}))
    assert run(sandbox, "status").stdout == ""
    assert chain in run(sandbox, "status", chain).stdout
    done = run(sandbox, "wait", chain)
    assert done.returncode == 5 and f"{chain}  canceled" in done.stdout
