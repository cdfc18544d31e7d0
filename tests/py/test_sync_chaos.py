"""Many runs at once, and runs that are killed: one task, nothing missed, nothing sent twice."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import time
from collections import Counter
from pathlib import Path

import pytest

from globuswrap.cli.sandbox import Sandbox
from globuswrap.system.process import child_environment
from support import LAUNCHER
from sync_support import Beam


def start(beam: Beam) -> subprocess.Popen[bytes]:
    environment = child_environment({**beam.box.env, "PYTHONPATH": str(LAUNCHER.parents[1] / "lib")})
    return subprocess.Popen(
        beam.command("run"),
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )


@pytest.mark.slow
def test_fifty_runs_at_once_make_one_task(sandbox: Sandbox) -> None:
    beam = Beam(sandbox)
    for number in range(30):
        beam.write(f"d{number % 3}/f{number}")
    runs = [start(beam) for _ in range(50)]
    said = [run.communicate(timeout=500) for run in runs]
    codes = Counter(run.returncode for run in runs)
    assert codes.keys() <= {0, 75} and codes[0] >= 1, (codes, said)
    assert {text for pair in said for text in pair} == {b""}
    assert len(beam.tasks()) == 1
    beam.settle()
    beam.same()
    assert len(beam.tasks()) == 1


class Source:
    """The files of a profile, how often each was written, and how often it had been when a run began that came to its end."""

    def __init__(self, beam: Beam, seed: int) -> None:
        self.beam = beam
        self.chance = random.Random(seed)
        self.written: Counter[str] = Counter()
        self.seen: Counter[str] = Counter()
        self.clock = time.time_ns() - 10**15

    def change(self) -> None:
        """Write, write anew, replace by an older one, delete: whole files at once, each version with a time of its own."""
        for _ in range(self.chance.randrange(1, 6)):
            name = f"d{self.chance.randrange(4)}/f{self.chance.randrange(15)}"
            path = self.beam.source / name
            if path.exists() and self.chance.random() < 0.2:
                if self.written[name] != self.seen[name]:
                    continue  # a task may have brought a later version than the one that was planned: that stays, and is reported
                path.unlink()
                if not any(path.parent.iterdir()):  # an emptied directory might be a disk that is not mounted
                    path.parent.rmdir()
                continue
            self.written[name] += 1
            self.clock += 10**9
            temporary = self.beam.box.base / "being-written"
            temporary.write_text(f"{name} {self.written[name]}")
            os.utime(temporary, ns=(self.clock, self.clock + self.chance.randrange(-(10**14), 10**14)))
            path.parent.mkdir(exist_ok=True)
            os.replace(temporary, path)


@pytest.mark.parametrize(
    "rounds",
    [
        pytest.param(12, marks=[pytest.mark.slow, pytest.mark.timeout(900)]),
        pytest.param(200, marks=[pytest.mark.chaos, pytest.mark.timeout(3000)]),
    ],
)
def test_killed_at_random_moments_nothing_is_missed_and_nothing_sent_twice(sandbox: Sandbox, rounds: int) -> None:
    seed = int(os.environ.get("GLOBUSWRAP_TEST_SEED", "7"))
    beam = Beam(sandbox, delete=True, check_file=".mounted", max_delete="100%")
    beam.write(".mounted")
    source = Source(beam, seed)
    source.written[".mounted"] += 1
    began = time.monotonic()
    beam.run()
    whole = time.monotonic() - began
    killed = ended = 0
    while killed + ended < rounds or killed < rounds / 3:
        source.change()
        run, began = start(beam), time.monotonic()
        try:
            run.communicate(timeout=source.chance.uniform(0.1 * whole, 1.1 * whole))
        except subprocess.TimeoutExpired:
            killed += 1
            os.killpg(run.pid, signal.SIGKILL)
            run.communicate()
        else:
            assert run.returncode in (0, 75)
            if run.returncode == 0:
                source.seen = Counter(source.written)
            ended += 1
            assert ended < 3 * rounds, f"only {killed} runs were killed"
            whole = 0.5 * (whole + time.monotonic() - began)  # a machine is not always as busy as at first
    beam.settle()
    beam.same()
    sent = Counter(
        item["source_path"].removeprefix("/data/") for task in beam.tasks("TRANSFER") for item in task["items"]
    )
    twice = {name: (count, source.written[name]) for name, count in sent.items() if count > source.written[name]}
    assert not twice, f"sent more often than written (seed {seed}): {twice}"
    assert all(task["status"] == "SUCCEEDED" for task in beam.tasks())
    for pattern in (".tmp-*", ".manifest.gz.*"):  # kept for an hour: they might be another process's
        for path in beam.state().glob(pattern):
            os.utime(path, (0, 0))
    beam.quiet()
    assert leftovers(beam.state()) == []


def leftovers(state: Path) -> list[str]:
    """What killed runs left behind, once a run has tidied up."""
    known = {"manifest.gz", "runs", "unsure", "last.json", "log"}
    return sorted({path.name for path in state.iterdir()} - known) + [p.name for p in state.glob("runs/.*")]
