"""`globuswrap cancel`."""

from __future__ import annotations

from typing import Annotated

import typer

from globuswrap.cli.options import Commands, DryRun, command
from globuswrap.cli.output import Report
from globuswrap.system import log

app = Commands()


@command(app)
def cancel(
    tasks: Annotated[
        list[str],
        typer.Argument(
            help="Cancel these task ids, chains, or keys given with --key.",
            metavar="TASK_OR_KEY_OR_CHAIN...",
        ),
    ],
    dry_run: DryRun = False,
) -> Report:
    """Cancel unfinished tasks, and the jobs and tasks of chains.

    What has already ended is not changed.
    """
    from globuswrap.underway import cancel as canceling
    from globuswrap.underway import lookup

    found = lookup.words(tasks)
    done = canceling.cancel(found, dry_run=dry_run)
    lines = [f"{each.get('task_id') or each.get('chain')}  {each.get('message')}" for each in done]
    missing = found.missing()
    if missing is not None:
        log.say_problem(missing, "globuswrap")
    data = {"to_cancel" if dry_run else "canceled": done, "unsent": found.unsent}
    return Report(data, lines, 0 if missing is None else missing.exit_code)
