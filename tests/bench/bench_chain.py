"""How soon a compute job starts after `globuswrap submit`, how soon its chain ends, and how long nodes are held meanwhile.

    .venv/bin/python tests/bench/bench_chain.py [--quick] [--pbs]

On a Slurm of its own; with `--pbs` on the PBS whose commands are on PATH. Three measurements, the first and last with a
stage-in task of known length in the sandbox:

- From the start of `submit` to the start of the compute job, less the time of the task itself: at most 3 s plus one poll
  interval. Median of several, beside the bare `sbatch` of the same job; with and without the look that `submit` takes
  beforehand (`--no-check`).
- From the end of the compute job to the end of the chain, with transfers that take no time.
- On Slurm, with a task longer than `--stage-time` (1m here): the longest allocation of any stage job. At most `--stage-time`.
  `--quick` leaves this one out; it takes three minutes.
"""

from __future__ import annotations

import contextlib
import datetime
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "lib"), str(ROOT / "tests" / "py")]

from globuswrap.cli.sandbox import Sandbox  # noqa: E402
from slurm.node import SlurmNode, missing_programs  # noqa: E402

POLL = 5.0
TASK = 4.0
RUNS = 5


def job(directory: Path, text: str) -> Path:
    path = directory / "job.sh"
    path.write_text(text)
    return path


def started(marker: Path, seconds: float) -> float:
    """When the compute job wrote its time into the marker."""
    deadline = time.monotonic() + seconds
    while not (marker.exists() and marker.read_text().strip()):
        if time.monotonic() > deadline:
            raise TimeoutError(f"no start within {seconds} s")
        time.sleep(0.05)
    return float(marker.read_text())


@dataclass(frozen=True)
class Scheduler:
    name: str
    header: str
    command: str
    env: dict[str, str]


SLURM = ("slurm", "#SBATCH -o /dev/null", "sbatch")
PBS = ("pbs", "#PBS -o /dev/null -j oe", "qsub")


def bare(scheduler: Scheduler, work: Path) -> float:
    marker = work / "bare"
    marker.unlink(missing_ok=True)
    script = job(work, f"#!/bin/bash\n{scheduler.header}\ndate +%s.%N >'{marker}'\n")
    begun = time.time()
    env = {**os.environ, **scheduler.env}
    subprocess.run([scheduler.command, str(script)], env=env, cwd=work, check=True, capture_output=True)
    return started(marker, 30) - begun


def submitted(
    box: Sandbox, scheduler: Scheduler, work: Path, marker: Path, *options: str, lines: str = ""
) -> tuple[float, str]:
    """Submit a chain; returns when that began (seconds since the epoch), and the chain's id."""
    marker.unlink(missing_ok=True)
    lines = f"#GLOBUS stage-in archive:/in/ scratch:/%j/in/\n{lines}"
    script = job(work, f"#!/bin/bash\n{scheduler.header}\n{lines}date +%s.%N >'{marker}'\n")
    env = {**os.environ, **{name: value for name, value in box.env.items() if value is not None}, **scheduler.env}
    begun = time.time()
    done = subprocess.run(
        [str(ROOT / "bin" / "globuswrap"), "submit", "--scheduler", scheduler.name, *options, str(script)],
        env=env,
        cwd=work,
        check=True,
        capture_output=True,
        text=True,
    )
    return begun, done.stdout.strip()


def task_seconds(box: Sandbox) -> float:
    """How long the latest task took, by its own document."""
    task = max(box.control.tasks(), key=lambda each: str(each["request_time"]))
    times = [datetime.datetime.fromisoformat(str(task[name])) for name in ("request_time", "completion_time")]
    return (times[1] - times[0]).total_seconds()


def start_latency(box: Sandbox, scheduler: Scheduler, work: Path, *options: str) -> bool:
    over, alone = [], []
    for _ in range(RUNS):
        alone.append(bare(scheduler, work))
        box.control.progress(f"timed:{TASK:g}")
        marker = work / "started"
        begun, _ = submitted(box, scheduler, work, marker, "--poll", f"{POLL:g}", *options)
        over.append(started(marker, 60) - begun - max(TASK, task_seconds(box)))
    allowed = 3 + POLL
    worst, median = max(over), statistics.median(over)
    print(f"{scheduler.command} alone, submit to start: median {statistics.median(alone):.2f} s")
    verdict = "held" if worst <= allowed else "MISSED"
    print(f"chain {' '.join(options) or '(with its look beforehand)'}: submit to start, over the task's own {TASK:g} s")
    print(
        f"  median {median:.2f} s, worst {worst:.2f} s of {RUNS}; target 3 s + poll {POLL:g} s = {allowed:g} s: {verdict}"
    )
    return worst <= allowed


def end_latency(box: Sandbox, scheduler: Scheduler, work: Path) -> None:
    box.control.progress("at-once")
    chains = Path(str(box.env["XDG_STATE_HOME"])) / "globuswrap" / "chains"
    took, starts = [], []
    for _ in range(RUNS):
        marker = work / "ending"
        lines = "#GLOBUS stage-out scratch:/%j/in/ results:/out/\n"
        begun, chain = submitted(box, scheduler, work, marker, "--poll", f"{POLL:g}", "--no-check", lines=lines)
        over = started(marker, 60)
        deadline = time.monotonic() + 120
        while not (ended := chains / chain / "g1" / "ended").exists():  # others may end meanwhile
            if time.monotonic() > deadline:
                raise TimeoutError("the chain has not ended")
            time.sleep(0.05)
        starts.append(over - begun)
        took.append(float(json.loads(ended.read_text())["at"]) - over)
    print(f"transfers that take no time: submit to start: median {statistics.median(starts):.2f} s")
    print(
        f"  end of the job to end of the chain: median {statistics.median(took):.2f} s, worst {max(took):.2f} s of {RUNS}"
    )


def allocations(box: Sandbox, node: SlurmNode, work: Path) -> bool:
    length, limit = 75, 60
    box.control.progress(f"timed:{length}")
    marker = work / "started"
    scheduler = Scheduler(*SLURM, node.env)
    begun, _ = submitted(box, scheduler, work, marker, "--poll", "5", "--stage-time", f"{limit}s")
    total = started(marker, 240) - begun
    time.sleep(2)
    text = node.run(["scontrol", "show", "job", "-o"]).stdout
    longest, count = 0.0, 0
    for line in text.splitlines():
        fields = dict(word.split("=", 1) for word in line.split() if "=" in word)
        if fields.get("JobName", "").startswith("gw-") and fields.get("StartTime") not in (None, "Unknown"):
            if fields["JobState"] == "CANCELLED" and fields["RunTime"] == "00:00:00":
                continue
            hours, minutes, seconds = map(int, fields["RunTime"].split(":"))
            longest = max(longest, hours * 3600 + minutes * 60 + seconds)
            count += 1
    print(
        f"task of {length} s, --stage-time {limit} s: {count} stage jobs, longest allocation {longest:g} s; "
        f"compute job started after {total:.0f} s; target at most {limit} s: {'held' if longest <= limit else 'MISSED'}"
    )
    return longest <= limit


def main() -> int:
    pbs = "--pbs" in sys.argv[1:]
    missing = [] if pbs else missing_programs()
    if missing:
        print(f"bench_chain: no {', '.join(missing)} here")
        return 0
    with tempfile.TemporaryDirectory(prefix="bench-chain-") as directory, contextlib.ExitStack() as stack:
        base = Path(directory)
        work = base / "work"
        work.mkdir()
        box = stack.enter_context(Sandbox(base / "sandbox"))
        node = None if pbs else stack.enter_context(SlurmNode(base / "slurm"))
        scheduler = Scheduler(*PBS, {}) if node is None else Scheduler(*SLURM, node.env)
        (box.collection("archive").path / "in").mkdir()
        (box.collection("archive").path / "in" / "a").write_text("a\n")
        good = start_latency(box, scheduler, work)
        good = start_latency(box, scheduler, work, "--no-check") and good
        end_latency(box, scheduler, work)
        if node is not None and "--quick" not in sys.argv[1:]:
            good = allocations(box, node, work) and good
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
