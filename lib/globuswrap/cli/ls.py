"""`globuswrap ls`: list a directory of a collection."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import typer

from globuswrap.cli import progress
from globuswrap.cli.options import Commands, command
from globuswrap.cli.output import Report, table
from globuswrap.system import units

app = Commands()


@command(app)
def ls(
    address: Annotated[
        str, typer.Argument(help="List NAME_OR_UUID:/path, or a local path on a known mount.", metavar="ADDRESS")
    ],
    long: bool = typer.Option(False, "--long", "-l", help="Show sizes and times too."),
) -> Report:
    """List a directory of a collection, hidden files too, or show one file."""
    from globuswrap.collections import resolve
    from globuswrap.transfers import check

    with progress.doing("asking Globus"):
        found = check.listed(resolve.address(address))
    if long:
        text = table(list(map(_row, found)), ("SIZE", "MODIFIED", "NAME")) if found else []
    else:
        text = [_name(each) for each in found]
    return Report({"entries": found}, text)


def _name(entry: Mapping[str, Any]) -> str:
    return f"{entry.get('name')}{'/' if entry.get('type') == 'dir' else ''}"


def _row(entry: Mapping[str, Any]) -> list[str]:
    size = "-" if entry.get("type") == "dir" else units.human_size(entry.get("size") or 0)
    return [size, units.local_text(units.seconds_of(entry.get("last_modified"))), _name(entry)]
