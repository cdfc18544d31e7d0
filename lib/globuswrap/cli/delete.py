"""`globuswrap delete`."""

from __future__ import annotations

from typing import Annotated

import typer

from globuswrap.cli.options import SubmitOptions, WaitOptions, application, command
from globuswrap.cli.output import Report
from globuswrap.cli.transfer import Waits, performed

app = application()


@command(app)
def delete(
    addresses: Annotated[list[str], typer.Argument(help="What to delete, all on one collection.", metavar="ADDR...")],
    submitting: SubmitOptions,
    waiting: WaitOptions,
    wait: Waits = False,
    recursive: Annotated[bool, typer.Option("--recursive", "-r", help="Directories with what is in them.")] = False,
    ignore_missing: Annotated[
        bool, typer.Option("--ignore-missing", "-f", help="What is not there counts as deleted.")
    ] = False,
) -> Report:
    """Delete paths of one collection as one Globus task, exactly once. Globs are not expanded."""
    from globuswrap.collections import resolve
    from globuswrap.transfers import request as requests
    from globuswrap.transfers.options import Options

    request = requests.delete(
        [resolve.address(each) for each in addresses],
        recursive=recursive,
        options=Options(ignore_missing=ignore_missing),
        **submitting.rest(),
    )
    return performed(request, submitting, waiting, wait)
