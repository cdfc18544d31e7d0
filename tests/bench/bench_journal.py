"""What a long journal costs: each command with ENTRIES finished submissions behind it, and with none.

    .venv/bin/python tests/bench/bench_journal.py [ENTRIES] [RUNS] [COLLECTIONS]

The two journals are asked in turn, against one sandbox; medians of wall and CPU time (`globus` included), and the ratio full
to empty. The first run of each command is given by itself: that is where a journal is read that nobody has looked at yet.
Half of the entries were waited for, half were not. Each has a directory of its own: all between two collections, or, with
COLLECTIONS, every one of so many pairs in turn, the first of which is asked about.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import uuid
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "lib"))

from globuswrap.cli.sandbox import Sandbox  # noqa: E402
from globuswrap.transfers import journal, places  # noqa: E402

COMMANDS = {
    "status": ["status"],
    "wait ID": ["wait", "{task}"],
    "transfer": ["transfer", "archive:/a", "scratch:/copy{run}", "-q"],
    "cleanup": ["cleanup", "--under", "scratch:/done/", "-q"],
    "report": ["report", "--since", "10000d", "--no-live", "-o", "{base}/{run}.html", "-q"],
}


def fill(source: str, destination: str, entries: int, collections: int) -> None:
    """A journal of so many finished submissions."""
    made = set()

    def write(path: str, text: str) -> None:
        directory = os.path.dirname(path)
        if directory not in made:
            os.makedirs(directory, mode=0o700, exist_ok=True)
            made.add(directory)
        with open(path, "w") as file:
            file.write(text)

    root = str(journal.directory())
    for number in range(entries):
        key, task_id = uuid.uuid5(uuid.NAMESPACE_OID, str(number)).hex + "01234567", task_of(number)
        awaited = number % 2 == 0
        pair = (f"/raw/{number}/data", f"/done/{number}/data")
        submission = {"digest": "0" * 64, "items": 1, "examples": [pair]}
        which = number % collections
        sides = (source, destination) if which == 0 else tuple(str(uuid.UUID(int=2 * which + side)) for side in (0, 1))
        ends = {"kind": "transfer", "source": sides[0], "destination": sides[1]}
        claim = {
            **{"schema": journal.SCHEMA, "key": key, "attempt": 1, "submission_id": task_id, "awaited": awaited},
            **{"label": "bench gw-000000000000", "created": 1767225600.0, "host": "bench", **submission, **ends},
        }
        receipt = {
            **{"schema": "globuswrap.receipt/1", "outcome": "succeeded", "cause": "", "task_id": task_id, **ends},
            **{"requested": "2026-01-01T00:00:00+00:00", "completed": "2026-01-01T00:01:00+00:00"},
            **{"submission": submission, "files_list": [{"source": pair[0], "destination": pair[1]}]},
        }
        path = f"{root}/{key[:2]}/{key}.1"
        write(path, json.dumps(claim))
        write(f"{path}.task", json.dumps({"task_id": task_id}))
        write(f"{path}.receipt", json.dumps(receipt))
        write(f"{path}.{'reported' if awaited else 'answered'}", "{}")
        write(f"{root}/tasks/{task_id[:2]}/{task_id}.{key}.1", "")
        for side, place in zip(sides, pair, strict=True):
            write(str(places.mark_of((side, place), f"{key}.1")), "")
    write(f"{root}/pruned", "")  # once a day: measured by itself


def task_of(number: int) -> str:
    return str(uuid.uuid5(uuid.NAMESPACE_URL, str(number)))


def measured(argv: list[str], env: dict[str, str]) -> tuple[float, float]:
    """Wall and CPU seconds of a command and of what it runs."""
    began = time.perf_counter()
    with subprocess.Popen(argv, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as running:
        assert running.stderr is not None
        said = running.stderr.read()
        _, code, usage = os.wait4(running.pid, 0)
        running.returncode = os.waitstatus_to_exitcode(code)
    if running.returncode != 0:
        raise SystemExit(f"{argv} failed: {said.decode()}")
    return time.perf_counter() - began, usage.ru_utime + usage.ru_stime


def main(entries: int, runs: int, collections: int) -> None:
    globus, wrap = str(ROOT / ".venv" / "bin" / "globus"), str(ROOT / "bin" / "globuswrap")
    with tempfile.TemporaryDirectory(prefix="bench-journal-") as base, Sandbox(Path(base) / "sandbox") as box:
        archive, scratch = box.collection("archive"), box.collection("scratch")
        (archive.path / "a").write_text("data")
        (scratch.path / "done").mkdir()
        laid = {**os.environ, **box.env, "GLOBUSWRAP_GLOBUS": globus}
        env = {name: value for name, value in laid.items() if value is not None}
        homes = {"empty": {**env, "XDG_STATE_HOME": f"{base}/empty"}, "full": {**env, "XDG_STATE_HOME": f"{base}/full"}}
        os.environ["XDG_STATE_HOME"] = f"{base}/full"
        began = time.perf_counter()
        fill(archive.id, scratch.id, entries, collections)
        print(f"{entries} finished entries, made in {time.perf_counter() - began:.0f} s; load {os.getloadavg()[0]:.1f}")
        done = subprocess.run(
            [wrap, "transfer", "archive:/a", "scratch:/waited", "--wait", "--json"],
            env=homes["empty"], check=True, capture_output=True, text=True,
        )  # fmt: skip
        known = {"empty": json.loads(done.stdout)["data"]["task_id"], "full": task_of(entries // 2)}
        time.sleep(3)  # what was changed just now is not remembered yet
        print("                 first run      wall, median           CPU, median          (full / empty)")
        for label, words in COMMANDS.items():
            wall: dict[str, list[float]] = {"empty": [], "full": []}
            cpu: dict[str, list[float]] = {"empty": [], "full": []}
            for run in range(runs + 1):
                for home, surroundings in homes.items():
                    argv = [wrap, *(word.format(task=known[home], run=f"{home}{run}", base=base) for word in words)]
                    took = measured(argv, surroundings)
                    wall[home].append(took[0])
                    cpu[home].append(took[1])
            print(f"{label:10} {wall['full'][0]:10.2f} s     {compared(wall)}    {compared(cpu)}")
        (Path(base) / "full" / "globuswrap" / "journal" / "pruned").unlink()
        took = measured([wrap, "transfer", "archive:/a", "scratch:/last", "-q"], homes["full"])
        print(f"transfer that prunes, once a day: {took[0]:.2f} s wall, {took[1]:.2f} s CPU")


def compared(seconds: dict[str, list[float]]) -> str:
    full, empty = statistics.median(seconds["full"][1:]), statistics.median(seconds["empty"][1:])
    return f"{full:5.2f} / {empty:4.2f} s = {full / empty:5.2f}"


if __name__ == "__main__":
    numbers = [int(word) for word in sys.argv[1:]]
    main(*numbers, *(100_000, 5, 1)[len(numbers) :])
