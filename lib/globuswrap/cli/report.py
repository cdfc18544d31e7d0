"""`globuswrap report`: where time and bytes went."""

from __future__ import annotations

import shutil
import time
from pathlib import Path

import typer

from globuswrap.cli import progress
from globuswrap.cli.history import Live, Route
from globuswrap.cli.options import Commands, command
from globuswrap.cli.output import Report
from globuswrap.system import files, log, units

app = Commands()


@command(app)
def report(
    since: float = typer.Option("1mo", parser=units.duration, help="Report on the last 1d, 1w or 1mo."),
    output: Path | None = typer.Option(
        None, "--output", "-o", help="Write one HTML page to this file instead.", metavar="FILE.html"
    ),
    route: Route = None,
    live: Live = True,
) -> Report:
    """Report where time and bytes went.

    It shows bytes per day and rates by route, timelines of chains, and faults by kind.
    The HTML page needs no network and runs no script; below each chart is a table of its numbers.
    """
    from globuswrap.reports import history
    from globuswrap.reports import report as room
    from globuswrap.staging import timeline

    with progress.doing("reading the journal"):
        moved = history.moved(since, route, live=live)
        lines = [] if route else timeline.lines(time.time() - since)
    found = room.figures(moved, lines)
    data = room.as_data(found)
    if output is None:
        return Report(data, room.text(found, shutil.get_terminal_size().columns))
    title = f"Globus transfers, {time.strftime('%Y-%m-%d', time.localtime(time.time() - since))} to {time.strftime('%Y-%m-%d')}"
    files.write_atomic(output, room.page(found, title))
    log.say(f"{units.counted(found.tasks, 'task')} in {output}, {units.human_size(output.stat().st_size)}")
    return Report({**data, "file": str(output)}, [str(output)])
