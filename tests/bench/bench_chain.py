"""How soon a compute job starts after `globuswrap submit`, and how long nodes are held meanwhile; on a real Slurm.

    .venv/bin/python tests/bench/bench_chain.py [--quick]

Two measurements, with a stage-in task of known length in the sandbox:

- From the start of `submit` to the start of the compute job, less the time of the task itself: at most 3 s plus one poll
  interval. Median of several, beside the bare `sbatch` of the same job; with and without the look that `submit` takes
  beforehand (`--no-check`).
- With a task longer than `--stage-time` (1m here): the longest allocation of any stage job. At most `--stage-time`.
  `--quick` leaves this one out; it takes three minutes.
"""

from __future__ import annotations

import datetime
import os
import statistics
import subprocess
import sys
import tempfile
import time
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


def bare(node: SlurmNode, work: Path) -> float:
    marker = work / "bare"
    marker.unlink(missing_ok=True)
    script = job(work, f"#!/bin/bash\n#SBATCH -o /dev/null\ndate +%s.%N >'{marker}'\n")
    begun = time.time()
    node.run(["sbatch", str(script)], cwd=work)
    return started(marker, 30) - begun


def submitted(box: Sandbox, node: SlurmNode, work: Path, marker: Path, *options: str) -> float:
    """Submit a chain; returns when that began (seconds since the epoch)."""
    marker.unlink(missing_ok=True)
    lines = "#GLOBUS stage-in archive:/in/ scratch:/%j/in/\n"
    script = job(work, f"#!/bin/bash\n#SBATCH -o /dev/null\n{lines}date +%s.%N >'{marker}'\n")
    env = {**os.environ, **{name: value for name, value in box.env.items() if value is not None}, **node.env}
    begun = time.time()
    subprocess.run(
        [str(ROOT / "bin" / "globuswrap"), "submit", "--scheduler", "slurm", *options, str(script)],
        env=env,
        cwd=work,
        check=True,
        capture_output=True,
    )
    return begun


def task_seconds(box: Sandbox) -> float:
    """How long the latest task took, by its own document."""
    task = max(box.control.tasks(), key=lambda each: str(each["request_time"]))
    times = [datetime.datetime.fromisoformat(str(task[name])) for name in ("request_time", "completion_time")]
    return (times[1] - times[0]).total_seconds()


def start_latency(box: Sandbox, node: SlurmNode, work: Path, *options: str) -> bool:
    over, alone = [], []
    for _ in range(RUNS):
        alone.append(bare(node, work))
        box.control.progress(f"timed:{TASK:g}")
        marker = work / "started"
        begun = submitted(box, node, work, marker, "--poll", f"{POLL:g}", *options)
        over.append(started(marker, 60) - begun - max(TASK, task_seconds(box)))
    allowed = 3 + POLL
    worst, median = max(over), statistics.median(over)
    print(f"sbatch alone, submit to start: median {statistics.median(alone):.2f} s")
    verdict = "held" if worst <= allowed else "MISSED"
    print(f"chain {' '.join(options) or '(with its look beforehand)'}: submit to start, over the task's own {TASK:g} s")
    print(
        f"  median {median:.2f} s, worst {worst:.2f} s of {RUNS}; target 3 s + poll {POLL:g} s = {allowed:g} s: {verdict}"
    )
    return worst <= allowed


def allocations(box: Sandbox, node: SlurmNode, work: Path) -> bool:
    length, limit = 75, 60
    box.control.progress(f"timed:{length}")
    marker = work / "started"
    begun = submitted(box, node, work, marker, "--poll", "5", "--stage-time", f"{limit}s")
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
    missing = missing_programs()
    if missing:
        print(f"bench_chain: no {', '.join(missing)} here")
        return 0
    with tempfile.TemporaryDirectory(prefix="bench-chain-") as directory:
        base = Path(directory)
        work = base / "work"
        work.mkdir()
        with Sandbox(base / "sandbox") as box, SlurmNode(base / "slurm") as node:
            (box.collection("archive").path / "in").mkdir()
            (box.collection("archive").path / "in" / "a").write_text("a\n")
            good = start_latency(box, node, work)
            good = start_latency(box, node, work, "--no-check") and good
            if "--quick" not in sys.argv[1:]:
                good = allocations(box, node, work) and good
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
