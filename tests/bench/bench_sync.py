#!/usr/bin/env python3
"""What sync costs on a large tree, against `find` over the same tree in the same run.

    python tests/bench/bench_sync.py    1,289,344 files (the size published for a comparable tool); BENCH_FILES scales
    BENCH_BASE=/fast/disk               where the tree is made, and kept for the next time (default: a temporary one)

Every file has a random time of modification with nanoseconds, whose entropy alone is 7.3 bytes. Caches are warm: find runs first.
Each line gives the best of three runs and its ratio to the best of three of `find ROOT -printf '%T@ %s %p\\0'` in between.
Processor time, summed over processes, changes little when the machine is busy with other things; wall time needs it quiet.
Nothing is sent: the time that Globus takes is not this program's.

The last line is of a file system with slow metadata (tests/doubles/slow_metadata.c, which needs a C compiler), where what counts
is how many answers are waited for at the same time.
"""

from __future__ import annotations

import itertools
import os
import random
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

LIBRARY = Path(__file__).resolve().parents[2] / "lib"
sys.path.insert(0, str(LIBRARY))

FILES = int(os.environ.get("BENCH_FILES", "1289344"))
PER_DIRECTORY = 100
SMALL = 100_000
SLOW = 20_000
SEED = 20180101


def main() -> int:
    if sys.argv[1:2] == ["--measure"]:
        return measured(sys.argv[2], Path(sys.argv[3]), Path(sys.argv[4]))
    base = os.environ.get("BENCH_BASE")
    directory = Path(base) if base else Path(tempfile.mkdtemp(prefix="globuswrap-bench-"))
    try:
        return bench(directory)
    finally:
        if not base:
            shutil.rmtree(directory)


def bench(directory: Path) -> int:
    root, work = directory / f"tree-{FILES}", directory / "work"
    if not root.exists():
        print(f"making {FILES:,} files in {root} ...", flush=True)
        make_tree(root, FILES)
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    print(f"{FILES:,} files, {os.cpu_count()} processors, Python {sys.version.split()[0]}")
    find(root)
    print(f"{'find':24} {min(find(root)[0] for _ in range(3)):7.2f} s")

    def forget() -> None:
        (work / "manifest.gz").unlink(missing_ok=True)

    chance = random.Random()  # not the same changes again on a tree that was kept
    steps: list[tuple[str, str, Callable[[], None], float]] = [
        ("first run", "all", forget, 3.0),
        ("nothing changed", "look", lambda: None, 1.6),
        ("1 % changed, scattered", "all", lambda: touch(root, chance, 0.01), 3.0),
    ]
    missed = []
    for title, what, before, limit in steps:
        best, reference, peak, worked, reference_worked = 1e9, 1e9, 0, 1e9, 1e9
        parts = ""
        for _ in range(3):
            before()
            seconds, processor, memory, told = child(what, root, work)
            peak = max(peak, memory)
            worked = min(worked, processor)
            if seconds < best:
                best, parts = seconds, told
            seconds, processor = find(root)
            reference, reference_worked = min(reference, seconds), min(reference_worked, processor)
        ratio = best / reference
        line = f"{title:24} {best:7.2f} s   {ratio:.2f} of find's {reference:.2f} s (at most {limit})"
        print(
            f"{line}   processor time {worked / reference_worked:.2f} of find's   peak {peak / 1024:.0f} MiB   {parts}"
        )
        if ratio > limit:
            missed.append(f"{title}: {ratio:.2f} > {limit}")
        if peak > 64 * 1024:
            missed.append(f"{title}: peak memory {peak / 1024:.0f} MiB > 64")
    if FILES > 2 * SMALL:
        straight(directory, root, work)
    missed += slow_metadata(directory)
    size = (work / "manifest.gz").stat().st_size
    print(f"{'manifest':24} {size / 1e6:7.2f} MB  {size / FILES:.1f} bytes a file")
    if size > 20e6 * FILES / 1289344:
        missed.append(f"manifest {size / 1e6:.1f} MB")
    for line in missed:
        print(f"MISSED {line}")
    return 1 if missed else 0


def slow_metadata(directory: Path) -> list[str]:
    """An unchanged tree where every status takes 300 microseconds, and every directory a millisecond."""
    root, work, library = directory / f"tree-{SLOW}", directory / "work-slow", directory / "slow_metadata.so"
    source = Path(__file__).parents[1] / "doubles" / "slow_metadata.c"
    subprocess.run(["cc", "-shared", "-fPIC", "-O2", "-o", library, source, "-ldl"], check=True)
    if not root.exists():
        make_tree(root, SLOW)
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir()
    child("all", root, work)
    os.environ["LD_PRELOAD"] = str(library)
    try:
        reference = find(root)[0]
        best = min(child("look", root, work)[0] for _ in range(3))
    finally:
        del os.environ["LD_PRELOAD"]
    print(f"{'slow metadata':24} {best:7.2f} s   {best / reference:.2f} of find's {reference:.2f} s (at most 0.2)")
    return [f"slow metadata: {best / reference:.2f} > 0.2"] if best > 0.2 * reference else []


def straight(directory: Path, root: Path, work: Path) -> None:
    """Whether the time for an unchanged tree grows no faster than the tree."""
    small, place = directory / f"tree-{SMALL}", directory / "work-small"
    if not small.exists():
        make_tree(small, SMALL)
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir()
    child("all", small, place)
    start = min(child("none", small, place)[0] for _ in range(3))
    each = [
        (min(child("look", tree, kept)[0] for _ in range(3)) - start) / files * 1e6
        for tree, kept, files in ((small, place, SMALL), (root, work, FILES))
    ]
    print(
        f"{'a file, unchanged':24} {each[0]:7.2f} us with {SMALL:,}, {each[1]:.2f} us with {FILES:,} (start-up left out)"
    )


def make_tree(root: Path, files: int) -> None:
    """Runs of scans of parts, 100 images in each."""
    chance = random.Random(SEED)
    for number in range(-(-files // PER_DIRECTORY)):
        place = root / f"run{number // 400:03}" / f"scan_{number % 400 // 20:02}" / f"part{number % 20:02}"
        place.mkdir(parents=True)
        for image in range(min(PER_DIRECTORY, files - number * PER_DIRECTORY)):
            path = place / f"image_{image:05}.tif"
            with open(path, "wb") as file:
                file.write(b"x" * chance.randrange(20))
            when = random_time(chance)
            os.utime(path, ns=(when, when))


def random_time(chance: random.Random) -> int:
    return chance.randrange(1_500_000_000, 1_700_000_000) * 10**9 + chance.randrange(10**9)


def touch(root: Path, chance: random.Random, share: float) -> None:
    for directory, _, names in os.walk(root):
        for name in names:
            if chance.random() < share:
                when = random_time(chance)
                os.utime(os.path.join(directory, name), ns=(when, when))


def find(root: Path) -> tuple[float, float]:
    """Wall and processor seconds."""
    started = time.perf_counter()
    process = subprocess.Popen(["find", str(root), "-printf", r"%T@ %s %p\0"], stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = status
    if status:
        raise SystemExit("find failed")
    return time.perf_counter() - started, usage.ru_utime + usage.ru_stime


def child(what: str, root: Path, work: Path) -> tuple[float, float, int, str]:
    """Wall and processor seconds, peak memory in KiB of the largest of its processes, and what it says. A process of its own, as
    a run is one."""
    reader, writer = os.pipe()
    started = time.perf_counter()
    pid = os.fork()
    if pid == 0:
        os.dup2(writer, 1)
        os.execv(sys.executable, [sys.executable, __file__, "--measure", what, str(root), str(work)])
    os.close(writer)
    with os.fdopen(reader) as output:
        told = output.read().strip()
    _, status, usage = os.wait4(pid, 0)
    if status:
        raise SystemExit(f"{what} failed")
    peak, _, told = told.partition(" ")
    processor = usage.ru_utime + usage.ru_stime  # its own children's, which it has waited for, included
    return time.perf_counter() - started, processor, max(int(peak), usage.ru_maxrss), told


def measured(what: str, root: Path, work: Path) -> int:
    """All that a run does on this machine: scan, compare, plan (look at each file again, write items and deltas), commit.
    The documents of its tasks are the batch engine's: bench_batch.py."""
    from globuswrap.collections.address import Address
    from globuswrap.syncs import compare, manifest, planning
    from globuswrap.syncs.profile import Profile
    from globuswrap.syncs.state import Run, State

    source, destination = (Address(str(n) * 8 + "-1111-4111-8111-" + str(n) * 12, "/data/") for n in (1, 2))
    profile = Profile("bench", source, destination, local_root=str(root))
    state = State(profile.directory)
    state.manifest, state.unsure = work / "manifest.gz", work / "unsure"
    if what == "none":
        print(0, "")
        return 0
    clock = [time.perf_counter()]
    draft = Run(Path(tempfile.mkdtemp(dir=work)), "bench", 0.0)
    found = compare.find(profile, state.manifest, draft.directory / "candidates.delta.gz", lambda: None)
    clock.append(time.perf_counter())
    parts = f"scan {clock[1] - clock[0]:.2f}"
    if what == "look":
        assert not found.coming and not found.gone, found
    else:
        planned = planning.plan(profile, state, draft, found, lambda: None)
        clock.append(time.perf_counter())
        deltas = (manifest.delta_blocks(draft.directory / task.delta) for task in draft.tasks)
        manifest.merge(state.manifest, itertools.chain.from_iterable(deltas), state.manifest)
        clock.append(time.perf_counter())
        parts += f", plan {clock[2] - clock[1]:.2f}, commit {clock[3] - clock[2]:.2f}"
        parts += f", {planned.sent:,} files in {len(draft.tasks)} tasks"
    peak = max(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    shutil.rmtree(draft.directory)
    print(peak, parts)
    return 0


if __name__ == "__main__":
    sys.exit(main())
