"""`globuswrap delete`."""

from __future__ import annotations

from typing import Annotated

import typer

from globuswrap.cli.options import Commands, SubmitOptions, WaitOptions, command
from globuswrap.cli.output import Report
from globuswrap.cli.transfer import Waits, performed

app = Commands()


@command(app)
def delete(
    addresses: Annotated[
        list[str], typer.Argument(help="Delete these paths, all on one collection.", metavar="ADDRESS...")
    ],
    submitting: SubmitOptions,
    waiting: WaitOptions,
    wait: Waits = False,
    recursive: bool = typer.Option(False, "--recursive", "-r", help="Delete directories and everything in them."),
    ignore_missing: bool = typer.Option(False, "--ignore-missing", "-f", help="Ignore paths that do not exist."),
    check: bool = typer.Option(True, "--check/--no-check", help="Check first that the paths exist (default)."),
) -> Report:
    """Delete paths of one collection as one Globus task, exactly once. Globs are not expanded.

    A directory needs --recursive.
    """
    from globuswrap.collections import resolve
    from globuswrap.deletion import announcements
    from globuswrap.transfers import request as requests
    from globuswrap.transfers.options import Options

    request = requests.delete(
        [resolve.address(each) for each in addresses],
        recursive=recursive,
        options=Options(ignore_missing=ignore_missing),
        **submitting.rest(),
    )
    if not submitting.dry_run:
        announcements.check_not_relied_on(request.source, [item.source for item in request.items])
    return performed(request, submitting, waiting, wait, check)
