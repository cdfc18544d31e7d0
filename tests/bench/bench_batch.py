"""`globuswrap batch` against `globus transfer --batch` on the same lists: one command, ratios in one run.

    .venv/bin/python tests/bench/bench_batch.py [--quick] [--files]

The two in turn, against one sandbox that accepts tasks and does not run them: medians, and the median of the ratios pair by
pair, for 10,000 and 100,000 items. Then 1,000,000 items by globuswrap alone (`--quick` leaves them out): is the time linear
from 100,000 on, and how large does globuswrap's own process get (VmHWM of /proc, without the programs it runs). With
`--files` the million is also carried out, a million small files copied by the sandbox and waited for.
"""

from __future__ import annotations

import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "lib"))

from globuswrap.cli.sandbox import Sandbox  # noqa: E402
from globuswrap.system import process  # noqa: E402

GLOBUS = str(Path(sys.executable).parent / "globus")
GLOBUSWRAP = str(ROOT / "bin" / "globuswrap")
PAIRS = {10_000: 9, 100_000: 3}
TARGETS = {10_000: 0.5, 100_000: 0.12}
MILLION = 1_000_000


def path(number: int) -> str:
    return f"run{number % 100:03}/detector/frame-{number:07}.h5"


def lists(place: Path, items: int) -> tuple[Path, Path]:
    """The same items for both: two columns for the CLI, one for globuswrap."""
    theirs, ours = place / f"theirs-{items}", place / f"ours-{items}"
    with theirs.open("w") as two, ours.open("w") as one:
        for number in range(items):
            two.write(f"{path(number)} {path(number)}\n")
            one.write(f"{path(number)}\n")
    return theirs, ours


@dataclass(frozen=True)
class Cost:
    """Seconds of wall time; processor seconds, with those of the programs it ran; MiB that the process itself reached."""

    wall: float
    processor: float
    peak: float


def timed(argv: list[str], env: dict[str, str]) -> Cost:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    started = time.perf_counter()
    running = subprocess.Popen(argv, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    peak = 0
    while running.poll() is None:
        try:
            status = Path(f"/proc/{running.pid}/status").read_text()
        except OSError:
            break
        peak = max([peak, *(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM"))])
        time.sleep(0.01)
    code = running.wait()
    seconds = time.perf_counter() - started
    assert running.stderr is not None
    told = running.stderr.read().decode()
    running.stderr.close()
    if code:
        sys.exit(f"{argv[:3]} failed with {code}:\n{told}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    processor = after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime
    return Cost(seconds, processor, peak / 1024)


def main() -> None:
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f} at the start")
    with tempfile.TemporaryDirectory() as directory, Sandbox(progress="held") as box:
        place = Path(directory)
        env = process.child_environment(box.env)
        source, destination = (box.collection(name).id for name in ("archive", "scratch"))
        timed([GLOBUSWRAP, "status"], env)  # finds the globus command once
        hundred_thousand = compare(place, env, source, destination)
        if "--quick" not in sys.argv:
            million(box, place, env, hundred_thousand)
        if "--files" in sys.argv:
            files(box, place, env)
        print(f"load {os.getloadavg()[0]:.1f} at the end")


def compare(place: Path, env: dict[str, str], source: str, destination: str) -> Cost:
    ours: list[Cost] = []
    for items, pairs in PAIRS.items():
        two, one = lists(place, items)
        theirs, ours = [], []
        for number in range(pairs):
            # Another destination each time: a transfer with the same paths would be the one that is unfinished.
            ends = (f"{source}:/data", f"{destination}:/theirs{number}")
            theirs.append(timed([GLOBUS, "transfer", "--notify", "off", *ends, "--batch", str(two)], env))
            ends = (f"{source}:/data", f"{destination}:/ours{number}")
            ours.append(timed([GLOBUSWRAP, "batch", *ends, str(one)], env))
        wall = statistics.median(our.wall / their.wall for our, their in zip(ours, theirs, strict=True))
        processor = statistics.median(our.processor / their.processor for our, their in zip(ours, theirs, strict=True))
        print(
            f"{items:>9,} items: globus transfer --batch {statistics.median(each.wall for each in theirs):6.2f} s,"
            f" globuswrap batch {statistics.median(each.wall for each in ours):5.2f} s,"
            f" ratio {wall:.3f} (at most {TARGETS[items]}); of processor time {processor:.3f};"
            f" {max(each.peak for each in ours):.0f} MiB",
            flush=True,
        )
    return min(ours, key=lambda each: each.wall)


def million(box: Sandbox, place: Path, env: dict[str, str], hundred_thousand: Cost) -> None:
    _, one = lists(place, MILLION)
    ends = ("archive:/data", "scratch:/million")
    box.control.reset()  # what the sandbox holds of the runs before would slow it, not globuswrap
    cost = timed([GLOBUSWRAP, "batch", *ends, str(one), "--in-flight", "100"], env)
    sent = sum(task["items_total"] for task in box.control.tasks(items=0))
    print(
        f"{MILLION:>9,} items: globuswrap batch {cost.wall:.2f} s in 10 tasks, {sent:,} items accepted;"
        f" {cost.wall / hundred_thousand.wall / 10:.2f} of 10 times 100,000 (at most 1.20), of processor time"
        f" {cost.processor / hundred_thousand.processor / 10:.2f}; {cost.peak:.0f} MiB (at most 200)",
        flush=True,
    )


def files(box: Sandbox, place: Path, env: dict[str, str]) -> None:
    """The million carried out: each item copies one small file to a name of its own."""
    (box.collection("archive").path / "one").write_text("one")
    listed = place / "files"
    with listed.open("w") as file:
        file.writelines(f"one\td{number % 1000:03}/f{number}\n" for number in range(MILLION))
    box.control.reset()
    box.control.progress("at-once")
    line = [GLOBUSWRAP, "batch", "archive:/", "scratch:/files", str(listed), "--format", "tab"]
    cost = timed([*line, "--no-verify-checksum", "--wait"], env)
    top = box.collection("scratch").path / "files"
    count = sum(len(names) for _, _, names in os.walk(top))
    print(f"{MILLION:>9,} files copied and waited for: {cost.wall:.0f} s ({cost.peak:.0f} MiB); {count:,} files there")


if __name__ == "__main__":
    main()
