"""Leases: one holder at a time, and a dead one does not keep it."""

from __future__ import annotations

import dataclasses
import json
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from globuswrap.system import locks, machine
from globuswrap.system.locks import LeaseLost, LeaseTaken, take


def held_by(path: Path, **changes: object) -> None:
    """A lease file of somebody else."""
    holder = dataclasses.replace(locks.this_process(locks.TIME_TO_LIVE), **changes)  # type: ignore[arg-type]
    path.write_text(json.dumps(dataclasses.asdict(holder)))


def elsewhere() -> dict[str, object]:
    return {"host": "other.example.org", "boot": "another", "pid": os.getpid()}


def test_one_at_a_time(tmp_path: Path) -> None:
    with take(tmp_path / "lease") as mine:
        with pytest.raises(LeaseTaken, match=f"process {os.getpid()}"):
            take(tmp_path / "lease")
        assert locks.holder_of(tmp_path / "lease") == mine.holder
    assert os.listdir(tmp_path) == []
    take(tmp_path / "lease").release()


def test_a_dead_process_of_this_host_loses_it_at_once(tmp_path: Path) -> None:
    child = subprocess.Popen([sys.executable, "-c", "pass"])
    child.wait()
    held_by(tmp_path / "lease", pid=child.pid)
    assert locks.holder_of(tmp_path / "lease") is None
    take(tmp_path / "lease").release()


def test_a_pid_used_again_is_not_the_holder(tmp_path: Path) -> None:
    held_by(tmp_path / "lease", started="1")
    take(tmp_path / "lease").release()


def test_a_zombie_is_dead(tmp_path: Path) -> None:
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    held_by(tmp_path / "lease", pid=child.pid, started=machine.started(child.pid))
    with pytest.raises(LeaseTaken):
        take(tmp_path / "lease")
    child.send_signal(signal.SIGKILL)
    end = time.monotonic() + 240
    while machine.started(child.pid) and time.monotonic() < end:
        time.sleep(0.01)
    take(tmp_path / "lease").release()
    child.communicate()


def test_a_restarted_host_has_no_old_holders(tmp_path: Path) -> None:
    held_by(tmp_path / "lease", boot="the boot before")
    take(tmp_path / "lease").release()


def test_another_host_keeps_it_only_while_it_renews(tmp_path: Path) -> None:
    held_by(tmp_path / "lease", **elsewhere(), ttl=60.0)
    with pytest.raises(LeaseTaken, match=r"on other\.example\.org"):
        take(tmp_path / "lease")
    old = time.time() - 61
    os.utime(tmp_path / "lease", (old, old))
    take(tmp_path / "lease").release()


def test_the_age_does_not_depend_on_this_hosts_clock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    held_by(tmp_path / "lease", **elsewhere(), ttl=60.0)
    monkeypatch.setattr(time, "time", lambda: 4e9)
    with pytest.raises(LeaseTaken):
        take(tmp_path / "lease")


def test_another_container_on_this_machine_is_judged_by_age(tmp_path: Path) -> None:
    held_by(tmp_path / "lease", space="pid:[1]", pid=2**22 - 1)
    with pytest.raises(LeaseTaken):
        take(tmp_path / "lease")


@pytest.mark.parametrize("content", ["", "{", "[]", '{"token": 1}'])
def test_a_damaged_lease_goes_when_it_is_old(tmp_path: Path, content: str) -> None:
    (tmp_path / "lease").write_text(content)
    with pytest.raises(LeaseTaken):
        take(tmp_path / "lease")
    os.utime(tmp_path / "lease", (1, 1))
    take(tmp_path / "lease").release()


def test_who_lost_it_is_told_and_leaves_the_new_holder_alone(tmp_path: Path) -> None:
    mine = take(tmp_path / "lease", ttl=0.0)
    os.unlink(tmp_path / "lease")
    held_by(tmp_path / "lease", **elsewhere())
    with pytest.raises(LeaseLost, match=r"other\.example\.org"):
        mine.renew()
    mine.release()
    assert (tmp_path / "lease").exists()


def test_renewing_touches_the_file(tmp_path: Path) -> None:
    mine = take(tmp_path / "lease", ttl=0.0)
    os.utime(tmp_path / "lease", (1, 1))
    mine.renew()
    assert time.time() - (tmp_path / "lease").stat().st_mtime < 60
    mine.release()


def test_putting_aside_a_living_lease_puts_it_back(tmp_path: Path) -> None:
    mine = take(tmp_path / "lease")
    locks._put_aside(tmp_path / "lease", dataclasses.replace(mine.holder, token="the dead one"))
    mine.check()


def _try(path: Path, barrier: object, won: object) -> None:
    barrier.wait()  # type: ignore[attr-defined]
    try:
        lease = take(path)
    except LeaseTaken:
        return
    time.sleep(0.3)
    try:
        lease.check()
    except LeaseLost:
        return
    won.put(os.getpid())  # type: ignore[attr-defined]


@pytest.mark.parametrize("left_behind", [False, True])
def test_of_many_takers_one_wins(tmp_path: Path, left_behind: bool) -> None:
    context = multiprocessing.get_context("spawn")
    barrier, won = context.Barrier(8), context.Queue()
    if left_behind:
        held_by(tmp_path / "lease", started="1")
    takers = [context.Process(target=_try, args=(tmp_path / "lease", barrier, won)) for _ in range(8)]
    for taker in takers:
        taker.start()
    winners = [won.get(timeout=300)]
    for taker in takers:
        taker.join(240)
    assert won.empty() and len(winners) == 1
