"""`globuswrap status`: show the journal, chains, and the state of tasks at Globus."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import typer

from globuswrap.cli import output, progress
from globuswrap.cli.options import Commands, command
from globuswrap.cli.output import Report, table
from globuswrap.system import log, units

if TYPE_CHECKING:
    from globuswrap.underway.stand import Status, Task

app = Commands()


@command(app)
def status(
    tasks: list[str] | None = typer.Argument(
        None,
        help="Show these tasks, keys or chains; a unique prefix is enough (default: all).",
        metavar="TASK_OR_KEY_OR_CHAIN...",
    ),
    all_: bool = typer.Option(False, "--all", "-a", help="Show finished ones too (see also: history)."),
    live: bool = typer.Option(True, "--live/--no-live", help="Ask Globus about unfinished tasks (default)."),
    watch: bool = typer.Option(False, "--watch", "-w", help="Refresh the view until nothing is under way."),
    every: float = typer.Option("5s", parser=units.duration, help="Refresh this often, with --watch."),
) -> Report:
    """Show what is under way: chains and tasks with their state, age, bytes, and why they wait.

    Nothing is changed. Without Globus, it shows what the journal knows. One task or chain in full: globuswrap show ID.
    """
    from globuswrap.underway.stand import stand

    pause = max(0.5, every)
    if not watch:
        with progress.doing("asking Globus and the scheduler"):
            standing = stand(tasks or (), all_=all_, live=live)
        lines = _lines(standing)
        for note in _notes(standing, tasks or lines):
            log.say(note)
        return Report(standing.as_data(), lines)
    last: object = None
    progress.still()
    screen = sys.stdout.isatty() and not output.state.json
    while True:
        standing = stand(tasks or (), all_=all_, live=live)
        report = Report(standing.as_data(), _lines(standing))
        again = f"{standing.under_way} under way; again in {units.human_duration(pause)}, Ctrl-C to quit"
        if screen:
            _redraw([*report.text, *standing.notes(), "", again] if standing.under_way else [])
        if not standing.under_way:
            return report
        if not screen and standing.news != last and not output.state.json:
            output.show(report)  # in a log: what has changed
        last = standing.news
        time.sleep(pause)


def _redraw(lines: Sequence[str]) -> None:
    """In place of what was on the screen; what does not fit is left out, and said so."""
    width, height = shutil.get_terminal_size()
    shown = list(lines)
    if len(shown) > height - 1:
        shown = [*shown[: height - 4], f"... {len(shown) - height + 3} more lines", *shown[-2:]]
    text = "".join(f"{output.fitted(log.printable(line), width)}\x1b[K\n" for line in shown)
    print(f"\x1b[H{text}\x1b[J", end="", flush=True)


_HEAD = ("TASK", "STATE", "AGE", "BYTES", "FROM -> TO")


def _lines(standing: Status) -> list[str]:
    lines: list[str] = []
    for chain in standing.chains:
        lines.extend([*chain["text"], ""])
    if standing.tasks:
        head, *listed = table([_row(each) for each in standing.tasks], _HEAD)
        lines.append(head)
        for line, task in zip(listed, standing.tasks, strict=True):
            lines += [line, f"          {task.why}"] if task.why else [line]
    if standing.missing is not None:
        lines.append(standing.missing.cause)
    lines.extend(f"damaged entry, set aside: {path}" for path in standing.damaged)
    return [line for line in lines if line or len(lines) > 1]


def _row(task: Task) -> list[str]:
    age = units.human_duration(max(0.0, time.time() - task.entry.claim.created))
    size = "-" if task.bytes is None else units.human_size(task.bytes)
    return [(task.entry.task_id or "-")[:8], task.state, age, size, task.route]


def _notes(standing: Status, anything: object) -> Iterator[str]:
    yield from standing.notes()
    if not anything:
        yield "Nothing is under way. To start: globuswrap transfer SOURCE DESTINATION"
        yield "or: globuswrap submit job.sh. What was moved: globuswrap history"
