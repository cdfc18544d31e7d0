"""`globuswrap wait`."""

from __future__ import annotations

from typing import Annotated

import typer

from globuswrap.cli import progress
from globuswrap.cli.options import WaitOptions, application, command
from globuswrap.cli.output import Report
from globuswrap.cli.transfer import outcome_line
from globuswrap.errors import Problem
from globuswrap.system import log

app = application()


@command(app)
def wait(
    tasks: Annotated[list[str], typer.Argument(help="Task ids, or keys given with --key.", metavar="TASK_OR_KEY...")],
    waiting: WaitOptions,
) -> Report:
    """Wait for any number of tasks, with one globus process per look, and say how each ended.

    The exit code is that of the worst outcome, by the order in docs/exit-codes.md.
    """
    from globuswrap.transfers import operations

    with progress.shown() as watcher:
        outcomes = operations.wait(tasks, waiting.patience(), watcher)
    lines = []
    failed: Problem | None = None
    for task_id, ended in outcomes.items():
        lines.append(f"{task_id}  {outcome_line(ended.name, ended.receipt or {}, ended.cause)}")
        if ended.exit_code != 0 and ended.remedy:
            log.say(f"{task_id}: {ended.cause}  [task-{ended.name}]\n  remedy: {ended.remedy}", 0)
        if ended.terminal:
            try:
                operations.go_on(ended, waiting.after())
            except Problem as problem:
                failed = problem
    if failed is not None:
        raise failed
    data = {"tasks": [ended.as_data() for ended in outcomes.values()]}
    return Report(data, lines, operations.exit_code(outcomes))
