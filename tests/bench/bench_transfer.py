"""What `globuswrap transfer` costs over the two `globus` commands it runs: one command, a ratio in one run.

    .venv/bin/python tests/bench/bench_transfer.py [RUNS]

A bash script that runs `task generate-submission-id` and `transfer` with the same flags, and `globuswrap transfer`, in
turn, against one sandbox; medians, and the median of the ratios pair by pair. Then where globuswrap's own time goes.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "lib"))

from globuswrap.cli.sandbox import Sandbox  # noqa: E402
from globuswrap.globus.errors import MAP_HTTP_STATUS  # noqa: E402

SCRIPT = """#!/usr/bin/env bash
set -euo pipefail
id=$("$GLOBUS" task generate-submission-id --format json --map-http-status "$MAP" | sed -n 's/.*"value": "\\(.*\\)".*/\\1/p')
"$GLOBUS" transfer --submission-id "$id" --label "bench $3" --notify off --skip-activation-check --format json \\
  --map-http-status "$MAP" -- "$1" "$2" >/dev/null
"""


def seconds(argv: list[str], env: dict[str, str]) -> float:
    began = time.perf_counter()
    done = subprocess.run(argv, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, check=False)
    if done.returncode != 0:
        raise SystemExit(f"{argv[0]} failed: {done.stderr.decode()}")
    return time.perf_counter() - began


def main(runs: int) -> None:
    globus = str(ROOT / ".venv" / "bin" / "globus")
    with tempfile.TemporaryDirectory() as base, Sandbox(Path(base) / "sandbox") as box:
        archive, scratch = box.collection("archive"), box.collection("scratch")
        (archive.path / "a").write_text("data")
        script = Path(base) / "by-hand.sh"
        script.write_text(SCRIPT)
        laid = {**os.environ, **box.env, "GLOBUS": globus, "GLOBUSWRAP_GLOBUS": globus, "MAP": MAP_HTTP_STATUS}
        env = {name: value for name, value in laid.items() if value is not None}
        wrap = str(ROOT / "bin" / "globuswrap")
        python = str(ROOT / ".venv" / "bin" / "python")
        hand, ours, alone, imports, bare = [], [], [], [], []
        for run in range(runs + 1):
            one = ["bash", str(script), f"{archive.id}:/a", f"{scratch.id}:/hand{run}", str(run)]
            two = [wrap, "transfer", "archive:/a", f"scratch:/ours{run}", "-q"]
            figures = (
                seconds(one, env),
                seconds(two, env),
                seconds([globus, "task", "generate-submission-id"], env),
                seconds([wrap, "transfer", "--help"], env),
                seconds([python, "-I", "-c", "pass"], env),
            )
            if run:  # the first is a warm-up: caches, and the version of globus that is asked for once
                for kept, figure in zip((hand, ours, alone, imports, bare), figures, strict=True):
                    kept.append(figure)
    ratios = [b / a for a, b in zip(hand, ours, strict=True)]

    def ms(figures: list[float]) -> str:
        return f"{1000 * statistics.median(figures):7.0f} ms"

    print(f"by hand (bash, two globus commands)  {ms(hand)}")
    print(f"globuswrap transfer                  {ms(ours)}")
    print(f"ratio, median of {runs} pairs             {statistics.median(ratios):7.2f}     (at most 1.35)")
    print(f"  one globus command                 {ms(alone)}")
    print(f"  globuswrap transfer --help         {ms(imports)}   (launcher, Python, typer, the command's modules)")
    print(f"  Python alone                       {ms(bare)}")
    rest = statistics.median(ours) - 2 * statistics.median(alone) - statistics.median(imports)
    print(
        f"  the rest                           {1000 * rest:7.0f} ms   (importing sh, the claim's fsyncs, two starts)"
    )


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 15)
