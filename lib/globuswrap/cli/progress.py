"""Show progress as one line on a terminal, or one line per change in a log."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

from globuswrap.cli import output
from globuswrap.system import log, units

if TYPE_CHECKING:
    from globuswrap.transfers.wait import Watcher

#: Nothing is shown for what takes less.
QUIET_SECONDS = 2.0
_TICK = 0.2


class _Line:
    """The line of what is being done, from the third second on.

    Drawn by a timer's signal and not by a thread: a process with threads must not fork, as the scan of a large tree does.
    """

    def __init__(self) -> None:
        self.started = time.monotonic()
        self.next = self.started + QUIET_SECONDS
        self.turn = 0
        self.drawn = False

    def draw(self, number: int, frame: object) -> None:
        import shutil

        if time.monotonic() < self.next:
            return
        self.turn += 1
        width = shutil.get_terminal_size().columns
        what = " ".join((log.activity() or "working").split())
        spent = units.human_duration(time.monotonic() - self.started)
        line = f"{'|/-' + chr(92)}"[self.turn % 4] + f" {what} ({spent})"
        self._write(f"\r{output.fitted(log.printable(line), width - 1)}\x1b[K")
        self.drawn = True

    def hide(self) -> None:
        """Away with it, for a moment: something else is about to be written."""
        self.next = max(self.next, time.monotonic() + _TICK)
        if self.drawn:
            self.drawn = False
            self._write("\r\x1b[K")

    @staticmethod
    def _write(text: str) -> None:
        with suppress(OSError):  # the terminal may be gone; this is no reason to stop
            os.write(2, text.encode("utf-8", "replace"))


_line: _Line | None = None


@contextmanager
def line() -> Iterator[None]:
    """Show on a terminal what is being done (log.set_activity, or the program that runs), if it takes long. Nothing in a log:
    what was found is said there anyway."""
    global _line
    if log.level() != 1 or output.state.json or not sys.stderr.isatty() or _line is not None:
        yield
        return
    _line = _Line()
    before = signal.signal(signal.SIGALRM, _line.draw)
    log.on_suspend(_line.hide)
    signal.setitimer(signal.ITIMER_REAL, QUIET_SECONDS, _TICK)
    try:
        yield
    finally:
        still()
        signal.signal(signal.SIGALRM, before)


def still() -> None:
    """No such line from now on: the terminal belongs to something else."""
    global _line
    signal.setitimer(signal.ITIMER_REAL, 0.0)
    log.suspend()
    log.on_suspend(None)
    _line = None


@contextmanager
def doing(text: str = "") -> Iterator[Callable[[str], None]]:
    """Say what is being done now, and give a function to say what is done next."""
    log.set_activity(text)
    try:
        yield log.set_activity
    finally:
        log.set_activity("")


@contextmanager
def shown() -> Iterator[Watcher | None]:
    """A watcher for `wait` that shows progress on stderr; None when only problems are wanted."""
    if log.level() < 1:
        yield None
    elif sys.stderr.isatty() and not output.state.json:
        with doing():
            yield _in_the_line
    else:
        yield _lines()


def totals(tasks: Sequence[Mapping[str, Any]]) -> dict[str, int]:
    """Sums over task documents: files done and known, bytes, faults, tasks that run."""
    from globuswrap.transfers import outcome

    def total(field: str) -> int:
        return sum(int(task.get(field) or 0) for task in tasks)

    return {
        "done": total("files_transferred") + total("files_skipped"),
        "files": total("files"),
        "bytes": total("bytes_transferred"),
        "faults": total("faults"),
        "running": sum(map(outcome.is_unfinished, tasks)),
    }


def line_of(tasks: Sequence[Mapping[str, Any]]) -> str:
    """One line of state, without times, so that equal lines mean that nothing changed: task, percent, bytes, files, state."""
    now = totals(tasks)
    states = sorted({str(task.get("nice_status") or task.get("status")) for task in tasks})
    who = f"{len(tasks)} tasks, {now['running']} running" if len(tasks) != 1 else str(tasks[0].get("task_id") or "")[:8]
    parts = [f"{now['done']}/{now['files']} files, {units.human_size(now['bytes'])}"]
    if now["files"] > 1:
        parts.insert(0, f"{100 * now['done'] // now['files']}%")
    if now["faults"]:
        parts.append(units.counted(now["faults"], "fault"))
    return log.printable(f"{who}: {', '.join(parts)} ({', '.join(states)})")


def pace_of(tasks: Sequence[Mapping[str, Any]]) -> str:
    """The rate that Globus reports, and how long the rest takes at it. Globus counts the bytes that are done, not those to come:
    the share of files stands for it."""
    from globuswrap.transfers import outcome

    now = totals(tasks)
    running = [task for task in tasks if task.get("status") == outcome.MOVING]
    rate = sum(float(task.get("effective_bytes_per_second") or 0) for task in running)
    if not rate:
        return ""
    left = now["bytes"] * (now["files"] - now["done"]) / now["done"] / rate if now["done"] else 0.0
    rest = f", {units.human_duration(left)} left" if left else ""
    return f", {units.human_size(rate)}/s{rest}"


def _lines() -> Watcher:
    started = time.monotonic()
    said = ""

    def watch(tasks: Sequence[Mapping[str, Any]]) -> None:
        nonlocal said
        line, elapsed = line_of(tasks), time.monotonic() - started
        if line != said and elapsed >= QUIET_SECONDS:
            log.say(f"{line}{pace_of(tasks)}, after {units.human_duration(elapsed)}")
            said = line

    return watch


def _in_the_line(tasks: Sequence[Mapping[str, Any]]) -> None:
    """On a terminal: in the line of what is being done, which has the time since the start of the command."""
    log.set_activity(line_of(tasks) + pace_of(tasks))
