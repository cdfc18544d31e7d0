"""`globuswrap toolkit`: where the shell toolkit is, and what it calls for a script's own #GLOBUS lines."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from globuswrap.cli.options import application, command
from globuswrap.cli.output import Report

app = application()


@command(app)
def toolkit(
    in_: Annotated[Path | None, typer.Option("--in", hidden=True, metavar="SCRIPT")] = None,
    out: Annotated[Path | None, typer.Option("--out", hidden=True, metavar="SCRIPT")] = None,
    check: Annotated[Path | None, typer.Option("--check", hidden=True, metavar="SCRIPT")] = None,
    code: Annotated[int, typer.Option("--code", hidden=True)] = 0,
) -> Report:
    """Print the path of the shell toolkit for job scripts: source "$(globuswrap toolkit)".

    The file says what it has: gw_stage_in, gw_stage_out, gw_directives, gw_run.
    """
    from globuswrap.staging import inline, scripts

    if check is not None:
        inline.check(check)
        return Report()
    if in_ is not None:
        return Report({}, [], inline.of_script(in_, "in", 0))
    if out is not None:
        return Report({}, [], inline.of_script(out, "out", code))
    path = str(scripts.toolkit())
    return Report({"toolkit": path}, [path])
