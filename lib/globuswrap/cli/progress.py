"""Progress of waiting: a bar on a terminal, one line per change in a log."""

from __future__ import annotations

import shutil
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from globuswrap.cli import output
from globuswrap.system import log, units

if TYPE_CHECKING:
    from globuswrap.transfers.wait import Watcher

#: Nothing is shown for what takes less.
QUIET_SECONDS = 2.0


@contextmanager
def shown() -> Iterator[Watcher | None]:
    """A watcher for `wait` that shows progress on stderr; None when only problems are wanted."""
    if log.level() < 1:
        yield None
    elif sys.stderr.isatty() and not output.state.json:
        with _bar() as watcher:
            yield watcher
    else:
        yield _lines()


@contextmanager
def doing() -> Iterator[Callable[[str], None]]:
    """A function to say what is being done now: one line on a terminal, gone in the end, from the third second on.

    Nothing in a log: what was found is said there anyway.
    """
    if log.level() != 1 or output.state.json or not sys.stderr.isatty():
        yield lambda text: None
        return
    started = time.monotonic()
    now = ""
    ended = threading.Event()

    def draw() -> None:
        turn = 0
        while not ended.wait(0.2):
            if time.monotonic() - started >= QUIET_SECONDS:
                turn += 1
                width = shutil.get_terminal_size().columns
                line = f"{'|/-' + chr(92)}"[turn % 4] + f" {now} ({units.human_duration(time.monotonic() - started)})"
                print(f"\r{output.fitted(line, width - 1)}\x1b[K", end="", file=sys.stderr, flush=True)

    def say(text: str) -> None:
        nonlocal now
        now = " ".join(text.split())

    drawing = threading.Thread(target=draw, daemon=True)
    drawing.start()
    try:
        yield say
    finally:
        ended.set()
        drawing.join()
        if time.monotonic() - started >= QUIET_SECONDS:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)


def totals(tasks: Sequence[Mapping[str, Any]]) -> dict[str, int]:
    """Sums over task documents: files done and known, bytes, faults, tasks that run."""

    def total(field: str) -> int:
        return sum(int(task.get(field) or 0) for task in tasks)

    return {
        "done": total("files_transferred") + total("files_skipped"),
        "files": total("files"),
        "bytes": total("bytes_transferred"),
        "faults": total("faults"),
        "running": sum(task.get("status") in ("ACTIVE", "INACTIVE") for task in tasks),
    }


def line_of(tasks: Sequence[Mapping[str, Any]]) -> str:
    """One line of state, without times, so that equal lines mean that nothing changed."""
    now = totals(tasks)
    states = sorted({str(task.get("nice_status") or task.get("status")) for task in tasks})
    faults = f", {now['faults']} faults" if now["faults"] else ""
    what = f"{len(tasks)} tasks, {now['running']} running" if len(tasks) > 1 else ""
    text = f"{now['done']}/{now['files']} files, {units.human_size(now['bytes'])}{faults} ({', '.join(states)})"
    return f"{what}: {text}" if what else text


def _lines() -> Watcher:
    started = time.monotonic()
    said = ""

    def watch(tasks: Sequence[Mapping[str, Any]]) -> None:
        nonlocal said
        line = line_of(tasks)
        if line != said and time.monotonic() - started >= QUIET_SECONDS:
            log.say(line)
            said = line

    return watch


@contextmanager
def _bar() -> Iterator[Watcher]:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

    started = time.monotonic()
    columns = (TextColumn("{task.description}"), BarColumn(), TransferSpeedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        row = bar.add_task("waiting", total=None, visible=False)

        def watch(tasks: Sequence[Mapping[str, Any]]) -> None:
            now = totals(tasks)
            share = now["done"] / now["files"] if now["files"] else 0.0
            # Globus tells bytes done, not bytes to come: the share of files stands for it.
            known = now["bytes"] / share if share else None
            bar.update(
                row,
                completed=now["bytes"],
                total=known,
                description=line_of(tasks),
                visible=time.monotonic() - started >= QUIET_SECONDS,
            )

        yield watch
