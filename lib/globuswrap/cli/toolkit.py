"""`globuswrap toolkit`: print the path of the shell toolkit."""

from __future__ import annotations

from globuswrap.cli.options import Commands, command
from globuswrap.cli.output import Report

app = Commands()


@command(app)
def toolkit() -> Report:
    """Print the path of the shell toolkit for job scripts: source "$(globuswrap toolkit)".

    It defines gw_stage_in, gw_stage_out, gw_directives and gw_run; comments in the file describe them.
    """
    from globuswrap.staging import scripts

    path = str(scripts.toolkit())
    return Report({"toolkit": path}, [path])
