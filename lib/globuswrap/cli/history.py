"""`globuswrap history`: list past transfers and deletions."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from typing import Annotated

import typer

from globuswrap.cli import progress
from globuswrap.cli.options import Commands, command
from globuswrap.cli.output import Report, table
from globuswrap.system import log, units

app = Commands()

Since = Annotated[
    float | None,
    typer.Option(parser=units.duration, help="List only the last 1d, 1w or 1mo (default: all, kept for 90 days)."),
]
Route = Annotated[
    str | None,
    typer.Option("--route", help="Show only this route; :TO or FROM: leaves the other end open.", metavar="FROM:TO"),
]
Live = Annotated[
    bool, typer.Option("--live/--no-live", help="Ask Globus about tasks that nobody has waited for (default).")
]


@command(app)
def history(
    since: Since = None,
    route: Route = None,
    as_csv: bool = typer.Option(False, "--csv", help="Print comma-separated values."),
    live: Live = True,
) -> Report:
    """List what this machine transferred and deleted, with time, size, rate and result."""
    from globuswrap.reports import history as room

    with progress.doing("reading the journal"):
        found = room.moved(since, route, live=live)
    data = [each.as_data() for each in found]
    if as_csv:
        head = list(data[0] if data else room.Moved.__dataclass_fields__)
        cells = [["" if each[name] is None else _cell(each[name]) for name in head] for each in data]
        return Report({"tasks": data}, [_line(head), *map(_line, cells)])
    if found:
        total = sum(each.bytes or 0 for each in found)
        log.say(f"{units.counted(len(found), 'task')}, {units.human_size(total)}")
    else:
        log.say("Nothing was submitted from this machine in that time.")
    return Report(
        {"tasks": data}, table(list(map(room.row, found)), [each.upper() for each in room.HEAD]) if found else []
    )


def _cell(value: object) -> str:
    return " ".join(f"{name}:{count}" for name, count in value.items()) if isinstance(value, dict) else str(value)


def _line(cells: Sequence[str]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="").writerow(cells)
    return text.getvalue()
