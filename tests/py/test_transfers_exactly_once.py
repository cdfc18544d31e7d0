"""Exactly once: kill -9 anywhere, lost replies, two processes at once, one task."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from command_line import GLOBUS, accepted, globus_starts, run, run_json
from forked import Forked
from globus_sandbox import auth
from globuswrap.cli.sandbox import Sandbox
from support import LAUNCHER

pytestmark = [pytest.mark.usefixtures("globus_loaded")]


def a_file(sandbox: Sandbox, name: str = "a", text: str = "data") -> Path:
    path = sandbox.collection("archive").path / name
    path.write_text(text)
    return path


def submission_ids(sandbox: Sandbox) -> list[str]:
    """The submission id of each submission that was sent, sent again or not."""
    sent = [*sandbox.control.requests(path="/transfer"), *sandbox.control.requests(path="/delete")]
    bodies = [each["body"] for each in sent if each["method"] == "POST" and each["body"]]
    return [(json.loads(body) if isinstance(body, str) else body)["submission_id"] for body in bodies]


def test_every_submission_has_an_issued_id_and_notifies_nobody(sandbox: Sandbox) -> None:
    a_file(sandbox)
    run_json(sandbox, "transfer", "archive:/a", "scratch:/a", "--wait")
    run_json(sandbox, "stage", "out", "scratch:/a", "results:/a")
    run_json(sandbox, "delete", "scratch:/a", "--wait")
    run_json(sandbox, "delete", "results:/a", "results:/b", "--ignore-missing", "--wait")
    issued = {each["id"] for each in sandbox.control.submissions()}
    posts = [
        each
        for each in sandbox.control.requests(service="transfer", method="POST")
        if each["path"].endswith(("/transfer", "/delete"))
    ]
    assert len(posts) == 4
    for each in posts:
        body = json.loads(each["body"]) if isinstance(each["body"], str) else each["body"]
        assert body["submission_id"] in issued
        assert [body[f"notify_on_{event}"] for event in ("succeeded", "failed", "inactive")] == [False] * 3
    assert all("Globus CLI" in each["user_agent"] for each in sandbox.control.requests())


@pytest.mark.slow
def test_a_reply_always_lost_after_the_work_is_one_task(sandbox: Sandbox) -> None:
    a_file(sandbox)
    sandbox.control.progress("held")
    sandbox.control.fault(kind="drop-after", path="/transfer", count=1000)
    line = ("transfer", "archive:/a", "scratch:/a", "--retry-for", "0s")
    first = run_json(sandbox, *line, expect=75)
    assert first["error"]["name"] == "globus-unreachable"
    sandbox.control.clear_faults()
    second = run_json(sandbox, *line)
    assert second["data"]["how"] == "adopted"
    assert len(accepted(sandbox)) == 1
    assert len(set(submission_ids(sandbox))) == 1 < len(submission_ids(sandbox))


def test_unfinished_is_adopted_then_begun_again(sandbox: Sandbox) -> None:
    """What its caller was promised decides when: test_transfers_promises.py."""
    a_file(sandbox)
    sandbox.control.progress("held")
    line = ("transfer", "archive:/a", "scratch:/a")
    first = run_json(sandbox, *line)["data"]
    assert run_json(sandbox, *line)["data"] == {**first, "how": "adopted"}
    sandbox.control.progress("at-once")
    deadline = time.monotonic() + 240
    while sandbox.control.tasks()[0]["status"] != "SUCCEEDED" and time.monotonic() < deadline:
        time.sleep(0.05)
    again = run_json(sandbox, *line)["data"]
    assert again["task_id"] != first["task_id"] and again["attempt"] == 2


def test_once_repeats_the_recorded_outcome(sandbox: Sandbox) -> None:
    a_file(sandbox)
    line = ("transfer", "archive:/a", "scratch:/a", "--once", "--key", "one", "--wait")
    first = run_json(sandbox, *line)["data"]
    before = len(sandbox.control.requests())
    again = run_json(sandbox, *line)["data"]
    assert (again["how"], again["task_id"], again["receipt"]) == ("recorded", first["task_id"], first["receipt"])
    assert len(sandbox.control.requests()) == before


def test_a_key_that_stands_for_another_request_is_refused(sandbox: Sandbox) -> None:
    a_file(sandbox)
    sandbox.control.progress("held")
    run_json(sandbox, "transfer", "archive:/a", "scratch:/a", "--key", "k")
    done = run_json(sandbox, "transfer", "archive:/a", "scratch:/b", "--key", "k", expect=2)
    assert done["error"]["name"] == "key-taken"
    assert len(accepted(sandbox)) == 1


def test_a_key_whose_request_was_refused_is_free_again(sandbox: Sandbox) -> None:
    a_file(sandbox)
    sandbox.control.fault(kind="status", path="/transfer", status=400, body={"code": "BadRequest", "message": "no"})
    assert run(sandbox, "transfer", "archive:/a", "scratch:/a", "--key", "k").returncode == 1
    assert run_json(sandbox, "transfer", "archive:/a", "scratch:/b", "--key", "k", "--wait")["data"]["attempt"] == 2


def test_a_conflict_is_resolved_by_the_label(sandbox: Sandbox) -> None:
    """public defect: a 409 does not name its task. The task of the same request is shared, under another key too."""
    a_file(sandbox)
    sandbox.control.progress("held")
    first = run_json(sandbox, "transfer", "archive:/a", "scratch:/a", "--key", "one")["data"]
    second = run_json(sandbox, "transfer", "archive:/a", "scratch:/a", "--key", "two")["data"]
    assert (second["task_id"], second["how"]) == (first["task_id"], "adopted")
    assert len(accepted(sandbox)) == 1


def test_a_conflict_with_a_stranger_lists_candidates(sandbox: Sandbox) -> None:
    a_file(sandbox)
    sandbox.control.progress("held")
    archive, scratch = sandbox.collection("archive").id, sandbox.collection("scratch").id
    sandbox.run([GLOBUS, "transfer", f"{archive}:/a", f"{scratch}:/a", "--label", "by hand"]).check_returncode()
    done = run_json(sandbox, "transfer", "archive:/a", "scratch:/a", expect=75)
    assert done["error"]["name"] == "conflict" and "by hand" in done["error"]["detail"]


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["rate-limit", "unavailable", "html", "drop-before", "drop-after"])
def test_what_mends_itself_is_tried_again(sandbox: Sandbox, kind: str) -> None:
    a_file(sandbox)
    more = {"retry_after": 0} if kind in ("rate-limit", "unavailable") else {}
    # The CLI itself tries 7 times: 9 strikes are more than one process can take.
    sandbox.control.fault(kind=kind, path="/submission_id", count=9, **more)
    sandbox.control.fault(kind=kind, path="/transfer", count=1, **more)
    assert run_json(sandbox, "transfer", "archive:/a", "scratch:/a", "--wait", "--poll", "0.1s")["data"]["attempt"] == 1
    assert len(accepted(sandbox)) == 1


@pytest.mark.slow
def test_an_old_intent_is_looked_for_and_not_sent_again(sandbox: Sandbox) -> None:
    a_file(sandbox)
    sandbox.control.progress("held")
    sandbox.control.fault(kind="drop-after", path="/transfer", count=1000)
    line = ("transfer", "archive:/a", "scratch:/a", "--retry-for", "0s")
    run_json(sandbox, *line, expect=75)
    sandbox.control.clear_faults()
    (claim,) = claims(sandbox)
    claim.write_text(json.dumps({**json.loads(claim.read_text()), "created": time.time() - 8 * 86400}))
    sent = len(submission_ids(sandbox))
    found = run_json(sandbox, *line)["data"]
    assert found["task_id"] == accepted(sandbox)[0]["task_id"]
    assert len(submission_ids(sandbox)) == sent


@pytest.mark.slow
def test_an_old_intent_does_not_take_the_task_of_an_earlier_attempt(sandbox: Sandbox) -> None:
    a_file(sandbox)
    line = ("transfer", "archive:/a", "scratch:/a", "--retry-for", "0s", "--poll", "0.1s")
    sandbox.control.advance_clock(-30 * 86400)
    first = run_json(sandbox, *line, "--wait")["data"]
    sandbox.control.advance_clock(30 * 86400)
    sandbox.control.fault(kind="drop-before", path="/transfer", count=1000)
    run_json(sandbox, *line, expect=75)
    sandbox.control.clear_faults()
    claim = next(path for path in claims(sandbox) if path.suffix == ".2")
    claim.write_text(json.dumps({**json.loads(claim.read_text()), "created": time.time() - 8 * 86400}))
    assert run_json(sandbox, *line, "--wait")["data"]["task_id"] != first["task_id"]


@pytest.mark.slow
def test_an_old_intent_without_a_task_begins_a_new_attempt(sandbox: Sandbox) -> None:
    a_file(sandbox)
    sandbox.control.fault(kind="drop-before", path="/transfer", count=1000)
    line = ("transfer", "archive:/a", "scratch:/a", "--retry-for", "0s")
    run_json(sandbox, *line, expect=75)
    sandbox.control.clear_faults()
    (claim,) = claims(sandbox)
    claim.write_text(json.dumps({**json.loads(claim.read_text()), "created": time.time() - 8 * 86400}))
    assert run_json(sandbox, *line, "--wait")["data"]["attempt"] == 2
    assert len(accepted(sandbox)) == 1 and len(sandbox.control.submissions()) == 2


def test_a_damaged_claim_does_not_make_a_second_task(sandbox: Sandbox) -> None:
    a_file(sandbox)
    sandbox.control.progress("held")
    first = run_json(sandbox, "transfer", "archive:/a", "scratch:/a")["data"]
    (claim,) = claims(sandbox)
    claim.write_bytes(b"{")
    second = run_json(sandbox, "transfer", "archive:/a", "scratch:/a")["data"]
    assert second["task_id"] == first["task_id"] and second["attempt"] == 2
    assert len(accepted(sandbox)) == 1
    assert [Path(path).suffix for path in run_json(sandbox, "status")["data"]["damaged"]] == [".damaged"]


def claims(sandbox: Sandbox) -> list[Path]:
    """The claims in the sandbox's journal."""
    journal = sandbox.home / ".local" / "state" / "globuswrap" / "journal"
    return [path for path in journal.glob("*/*") if path.suffix[1:].isdigit()]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGUSR1])
def test_a_signal_leaves_the_task_running_and_the_journal_right(sandbox: Sandbox, number: signal.Signals) -> None:
    a_file(sandbox)
    sandbox.control.progress("held")
    line = ["transfer", "archive:/a", "scratch:/a", "--wait", "--poll", "0.1s"]
    process = started(sandbox, line)
    deadline = time.monotonic() + 240
    while not sandbox.control.requests(path="/task_list") and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(number)
    assert process.wait(240) == 128 + number
    (task,) = accepted(sandbox)
    assert task["status"] == "ACTIVE"
    sandbox.control.progress("at-once")
    assert run_json(sandbox, *line)["data"]["task_id"] == task["task_id"]
    assert len(accepted(sandbox)) == 1


#: A process group of its own, in this session.
GROUP: dict[str, Any] = {"process_group": 0} if sys.version_info >= (3, 11) else {"preexec_fn": os.setpgrp}


@dataclass(frozen=True)
class Programs:
    """What is run: globuswrap and globus, as installed or forked from loaded ones."""

    globuswrap: str = str(LAUNCHER)
    globus: str = GLOBUS


def started(
    sandbox: Sandbox, line: list[str], programs: Programs = Programs(), stderr: int = subprocess.DEVNULL
) -> subprocess.Popen[bytes]:
    """A command line in a process group of its own, so that it can be killed whole."""
    around = {**os.environ, **sandbox.env, "GLOBUSWRAP_GLOBUS": programs.globus}
    env = {name: value for name, value in around.items() if value is not None}
    return subprocess.Popen([programs.globuswrap, *line], env=env, stdout=subprocess.DEVNULL, stderr=stderr, **GROUP)


@dataclass
class Runs:
    """What many threads share: what they run, how long a run takes that nobody kills, and how far they are."""

    programs: Programs
    of: int
    longest_kill: float = 1.5
    killed: int = 0
    done: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def ended(self, seconds: float) -> None:
        with self._lock:
            # Kills fall anywhere in a run, on a fast machine and on a busy one.
            self.longest_kill = 0.9 * self.longest_kill + 0.1 * seconds
            self.done += 1
            if self.done % 100 == 0:
                print(f"{self.done} of {self.of} runs to their end, {self.killed} kills", file=sys.stderr, flush=True)

    def kill(self) -> None:
        with self._lock:
            self.killed += 1


def until_done(sandbox: Sandbox, runs: Runs, number: int, seed: int, kills: int) -> None:
    """Run one request until it is done, killing its process group at random moments: once to `kills` times."""
    chance = random.Random(seed)
    kills = chance.randint(1, kills)
    line = [
        *("transfer", f"archive:/{number}", f"scratch:/{number}", "--key", f"request-{number}", "--once"),
        *("--wait", "--poll", "0.1s"),
    ]
    killed = 0
    for _ in range(100):
        with tempfile.TemporaryFile() as said:
            process, begun = started(sandbox, line, runs.programs, said.fileno()), time.monotonic()
            # The first runs are killed; later ones get through, so that the test ends.
            wait_policy = chance.uniform(0.0, runs.longest_kill) if killed < kills else 120.0
            try:
                code = process.wait(wait_policy)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
                killed += 1
                runs.kill()
                continue
            said.seek(0)
            assert code in (0, 75), (code, said.read())
        if code == 0:
            runs.ended(time.monotonic() - begun)
            return
    raise AssertionError(f"request {number} was not done after 100 runs")


def chaos(sandbox: Sandbox, programs: Sequence[Programs], requests: int, workers: int, kills: int) -> int:
    """Requests that take turns with the programs, each run until it is done; returns how many kills there were."""
    for number in range(requests):
        a_file(sandbox, str(number), f"data of {number}")
    jobs = [number for number in range(requests) for _ in range(2 if number % 3 == 0 else 1)]
    runs = [Runs(each, len(jobs) // len(programs)) for each in programs]
    with ThreadPoolExecutor(workers) as pool:
        list(
            pool.map(lambda job: until_done(sandbox, runs[job[1] % len(runs)], job[1], job[0], kills), enumerate(jobs))
        )
    tasks = accepted(sandbox)
    moved = sorted(task["items"][0]["source_path"] for task in tasks)
    assert moved == sorted(f"/{number}" for number in range(requests))
    for number in range(requests):
        assert (sandbox.collection("scratch").path / str(number)).read_text() == f"data of {number}"
    status = run_json(sandbox, "status", "--all", "--no-live")["data"]
    assert status["damaged"] == []
    assert sorted(each["name"] for each in status["submissions"]) == sorted(f"request-{n}" for n in range(requests))
    assert {each["state"] for each in status["submissions"]} == {"succeeded"}
    return sum(each.killed for each in runs)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_killed_at_random_moments_and_by_two_at_once_is_one_task_each(
    sandbox: Sandbox, loaded_programs: Programs
) -> None:
    """A quarter of them with programs that are started, as users do."""
    killed_at_random(sandbox, [Programs(), *[loaded_programs] * 3], 40)


@pytest.mark.chaos
def test_five_thousand_requests_killed_at_random_moments(sandbox: Sandbox, loaded_programs: Programs) -> None:
    killed_at_random(sandbox, [loaded_programs], int(os.environ.get("CHAOS_REQUESTS", "5000")))


@pytest.fixture
def loaded_programs(loaded_globus: str) -> Iterator[Programs]:
    """Forked from loaded ones, into the group that is killed: a fifth of the time."""
    if os.environ.get("GLOBUSWRAP_TEST_GLOBUS") == "started":
        yield Programs()
        return
    forked = Forked("globuswrap", {})
    yield Programs(str(forked.path), loaded_globus)
    forked.stop()


def killed_at_random(sandbox: Sandbox, programs: Sequence[Programs], requests: int) -> None:
    killed = chaos(sandbox, programs, requests, workers=4, kills=2)
    print(f"{requests} requests, {killed} kills", file=sys.stderr)
    assert killed >= requests


def test_fifty_tasks_are_waited_for_with_one_process_per_poll(sandbox: Sandbox) -> None:
    sandbox.control.progress("held")
    ids = fifty(sandbox)
    sandbox.control.progress("polls:3")
    before = len(sandbox.control.requests(path="/task_list"))
    done = run(sandbox, "wait", *ids, "-v", "--poll", "0.1s")
    assert done.returncode == 0, done.stderr
    polls = len(sandbox.control.requests(path="/task_list")) - before
    starts = [line for line in globus_starts(done.stderr) if " version" not in line]
    assert len(starts) == polls >= 3
    assert len(done.stdout.splitlines()) == 50 and done.stdout.count("succeeded") == 50


def fifty(sandbox: Sandbox) -> list[str]:
    """Fifty unfinished tasks. Submitted without the CLI, which would take half a minute: they are only waited for."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    token = auth.token("access", auth.SERVER_OF_SERVICE["transfer"] or "", auth.USER)

    def asked(method: str, path: str, body: object = None) -> dict[str, Any]:
        request = urllib.request.Request(
            f"{sandbox.url}/transfer/v0.10{path}",
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={
                "Content-Type": "application/json",
                "Authorization": f"Bearer {token}",
            },
        )
        with opener.open(request, timeout=300) as answer:
            document: dict[str, Any] = json.load(answer)
            return document

    ids = []
    for number in range(50):
        a_file(sandbox, str(number))
        item = {"DATA_TYPE": "transfer_item", "source_path": f"/{number}", "destination_path": f"/{number}"}
        body = {
            "DATA_TYPE": "transfer",
            "submission_id": asked("GET", "/submission_id")["value"],
            "source_endpoint": sandbox.collection("archive").id,
            "destination_endpoint": sandbox.collection("scratch").id,
            "DATA": [item],
        }
        ids.append(str(asked("POST", "/transfer", body)["task_id"]))
    return ids
