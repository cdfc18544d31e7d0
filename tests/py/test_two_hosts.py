"""Two hosts that share a home directory: the journal, leases, chains and sync hold.

The hosts are namespaces with other host names, networks, boot ids and processes (hosts.py).
"""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import hosts
from globuswrap.cli.sandbox import Sandbox
from hosts import Host
from slurm.cluster import PbsCluster, until
from sync_support import Beam

pytestmark = [pytest.mark.slow]


@pytest.fixture
def pair(new_sandbox: Callable[..., Sandbox]) -> Iterator[tuple[Sandbox, Host, Host]]:
    hosts.needed()
    box = new_sandbox()
    with Host("login1", box) as one, Host("login2", box) as two:
        yield box, one, two


def spoken(out: str) -> list[str]:
    return [line for line in out.splitlines() if line]


def test_they_are_two_hosts(pair: tuple[Sandbox, Host, Host]) -> None:
    _, one, two = pair
    ask = "import socket; print(socket.gethostname(), open('/proc/sys/kernel/random/boot_id').read().strip())"
    said = {tuple(host.run("python3", "-c", ask).stdout.split()) for host in (one, two)}
    assert {name for name, _ in said} == {"login1", "login2"} and len({boot for _, boot in said}) == 2
    listening = [set(host.run("ip", "-o", "link").stdout.split("\n")) for host in (one, two)]
    assert all(len(links) == 2 and any(": lo:" in link for link in links) for links in listening)
    listed = [host.globuswrap("collection", "list").stdout for host in (one, two)]
    assert listed[0] == listed[1] and "archive" in listed[0]


def test_the_same_request_from_both_is_one_task(pair: tuple[Sandbox, Host, Host]) -> None:
    """Eight requests, each begun on both hosts at once, of some the reply is lost."""
    box, one, two = pair
    box.control.progress("held")
    names = [f"file {number}" for number in range(8)]
    for name in names:
        (box.collection("archive").path / name).write_text(name)
    box.control.fault(kind="drop-after", path="/transfer", count=3)
    lines = [("transfer", f"archive:/{name}", f"scratch:/{name}") for name in names]
    running = [one.start(*one.script(*lines)), two.start(*two.script(*lines))]
    said = []
    for child in running:
        out, err = child.communicate(timeout=300)
        assert "Traceback" not in err
        said.append(spoken(out))
    # Another of the two being at work on the same request is the one thing that may be said instead.
    assert all(line in ("code 0", "code 75") or len(line) == 36 for line in [*said[0], *said[1]]), said
    assert [line for line in said[0] if len(line) == 36] == [line for line in said[1] if len(line) == 36]
    tasks = box.control.tasks()
    assert len(tasks) == len(names)
    # Not by a conflict that was resolved: each request was only ever sent under one submission id.
    bodies = [each["body"] for each in box.control.requests(path="/transfer") if each["method"] == "POST"]
    sent = {(json.loads(body) if isinstance(body, str) else body)["submission_id"] for body in bodies if body}
    assert len(sent) == len(names)
    assert {task["task_id"] for task in tasks} == {line for line in said[0] if len(line) == 36}


def test_what_a_lost_host_began_is_taken_up_by_the_other(pair: tuple[Sandbox, Host, Host]) -> None:
    box, one, two = pair
    (box.collection("archive").path / "a").write_text("a")
    box.control.progress("held")
    line = ("transfer", "archive:/a", "scratch:/a", "--wait", "--poll", "1s")
    child = one.start(*one.script(line))
    until(box.control.tasks, "the task")
    one.kill()
    child.communicate(timeout=300)
    box.control.progress("at-once")
    done = two.globuswrap(*line, "--json")
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)["data"]
    assert said["how"] == "adopted" and said["outcome"] == "succeeded"
    assert said["receipt"]["submission"]["host"] == "login1"
    assert len(box.control.tasks()) == 1


LEASE = """
import sys, time
from pathlib import Path
from globuswrap.system import locks
path = Path(sys.argv[1])
lease = locks.take(path, ttl=4.0)
print("taken", flush=True)
for line in sys.stdin:
    lease._renewed -= 4
    try:
        lease.renew()
        print("renewed", flush=True)
    except locks.LeaseLost as lost:
        print(lost.cause, flush=True)
"""


def test_a_lease_is_respected_by_the_other_host_and_lost_by_one_that_hangs(
    pair: tuple[Sandbox, Host, Host], repository: Path, tmp_path: Path
) -> None:
    _, one, two = pair
    path = tmp_path / "lease"
    for host in (one, two):
        host.extra["PYTHONPATH"] = str(repository / "lib")
    words = ("python3", "-c", LEASE, str(path))
    with subprocess.Popen(
        one.argv(*words), env=one.env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
    ) as holder:
        assert holder.stdin is not None and holder.stdout is not None
        assert holder.stdout.readline() == "taken\n"
        refused = two.run(*words)
        assert "held by process" in refused.stderr and "on login1" in refused.stderr
        holder.stdin.write("\n")
        assert holder.stdout.readline() == "renewed\n"
        # Nothing of it for longer than the time to live: whatever its clock says, or its process.
        old = time.time() - 60
        os.utime(path, (old, old))
        assert two.run(*words).stdout == "taken\n"
        holder.stdin.write("\n")
        assert holder.stdout.readline().startswith("lease was taken over by")
        holder.stdin.close()
        assert holder.wait(240) == 0


def test_sync_runs_on_one_of_them_and_goes_on_when_that_one_is_lost(pair: tuple[Sandbox, Host, Host]) -> None:
    box, one, two = pair
    beam = Beam(box)
    for number in range(5):
        beam.write(f"frame {number}", f"{number}")
    box.control.progress("held")
    line = ("sync", "run", "beam", "--wait", "--poll", "1s")
    child = one.start(*one.script(line))
    until(box.control.tasks, "the task")
    done = two.globuswrap("sync", "run", "beam")
    assert (done.returncode, done.stdout, done.stderr) == (75, "", "")
    assert "on login1" in beam.log()
    one.kill()
    child.communicate(timeout=300)
    # Another host cannot know that it is dead before its lease has run out.
    assert two.globuswrap("sync", "run", "beam").returncode == 75
    old = time.time() - 3600
    os.utime(beam.state() / "lease", (old, old))
    box.control.progress("at-once")
    beam.write("frame 5", "5")
    until(lambda: two.globuswrap("sync", "run", "beam", "--wait", "--poll", "1s").returncode == 0, beam.log)
    assert two.globuswrap("sync", "run", "beam").returncode == 0
    beam.same()
    sent = [item["source_path"] for task in beam.tasks() for item in task["items"]]
    assert len(sent) == len(set(sent)) == 6, sent


def test_both_sync_at_once_and_nothing_is_sent_twice(pair: tuple[Sandbox, Host, Host]) -> None:
    box, one, two = pair
    beam = Beam(box)
    for round in range(3):
        for number in range(4):
            beam.write(f"round {round}/frame {number}", f"{number}")
        running = [host.start(*host.script(("sync", "run", "beam"))) for host in (one, two)]
        said = [child.communicate(timeout=300) for child in running]
        assert all(spoken(out)[-1] in ("code 0", "code 75") for out, _ in said), said
    until(lambda: one.globuswrap("sync", "run", "beam").returncode == 0, beam.log)
    two.globuswrap("sync", "run", "beam")
    beam.same()
    sent = [item["source_path"] for task in beam.tasks() for item in task["items"]]
    assert len(sent) == len(set(sent)) == 12, sent


JOB = """#!/bin/bash
#PBS -o /dev/null
#GLOBUS stage-in archive:/in/ scratch:/%j/in/
#GLOBUS stage-out scratch:/%j/out/ results:/out/
cd "{scratch}/$PBS_JOBID" && mkdir out && cat in/* >out/all
"""


def test_a_chain_is_advanced_by_both_and_each_thing_happens_once(
    new_sandbox: Callable[..., Sandbox], tmp_path: Path
) -> None:
    hosts.needed()
    box = new_sandbox(progress="polls:2")
    cluster = PbsCluster(tmp_path)
    (box.collection("archive").path / "in").mkdir()
    (box.collection("archive").path / "in" / "a").write_text("one\n")
    (tmp_path / "job.sh").write_text(JOB.format(scratch=box.collection("scratch").path))
    # One kernel's processes: the double of the scheduler keeps their numbers.
    with (
        Host("login1", box, cluster.env, processes=False) as one,
        Host("login2", box, cluster.env, processes=False) as two,
    ):
        done = one.globuswrap(
            *("submit", "--scheduler", "pbs", "--staging", "login", "--poll", "1", "job.sh"), cwd=tmp_path
        )
        assert done.returncode == 0, done.stderr
        chain = done.stdout.strip()
        known: dict[str, Any] = {}

        def ended() -> bool:
            children = [host.start(*host.script(("tend", "--quiet"))) for host in (one, two)]
            for child in children:
                out, err = child.communicate(timeout=300)
                assert "code 3" not in out and "Traceback" not in err, err
            known.update(json.loads(two.globuswrap("status", chain, "--json", "--no-live").stdout)["data"]["chains"][0])
            return all(step["state"] == "done" for step in known["steps"])

        until(ended, lambda: str(known))
    assert len(box.control.tasks()) == 2
    assert (box.collection("results").path / "out" / "all").read_text() == "one\n"
    assert len(cluster.known()) == 3, cluster.known()  # the job and its two witnesses
    until(lambda: not cluster.queue(), "an empty queue")
    assert not [task for task in box.control.submissions() if task.get("sent", 1) > 2]
