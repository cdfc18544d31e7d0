"""`globuswrap wait`."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Annotated, Any

import typer

from globuswrap.cli import progress
from globuswrap.cli.options import Commands, WaitOptions, command
from globuswrap.cli.output import Report
from globuswrap.cli.transfer import outcome_line
from globuswrap.errors import UsageProblem
from globuswrap.system import log

if TYPE_CHECKING:
    from globuswrap.transfers.outcome import Outcome
    from globuswrap.underway.wait import WaitedChain

app = Commands()

#: What counts for chains too; they have the rest from their directives.
_OF_CHAINS = ("timeout", "poll", "retry_for")


@command(app)
def wait(
    tasks: Annotated[
        list[str],
        typer.Argument(
            help="Wait for these task ids, chains, or keys given with --key.",
            metavar="TASK_OR_KEY_OR_CHAIN...",
        ),
    ],
    waiting: WaitOptions,
) -> Report:
    """Wait for tasks and chains, and say how each ended.

    All tasks share one globus process per poll. Chains are advanced too, as by tend. The exit code is that of the worst
    outcome; see docs/troubleshooting.md.
    """
    from globuswrap.underway import lookup
    from globuswrap.underway import wait as waits

    found = lookup.words(tasks)
    if found.chains:
        _only_for_tasks(waiting)
    lines: list[str] = []

    def tell(ended: Outcome | WaitedChain) -> None:
        if isinstance(ended, waits.WaitedChain):
            name, problem = ended.id, ended.problem
            chain = ended.as_data()
            lines.append(f"{name}  {chain['state']}{': ' + chain['why'] if chain['why'] else ''}")
            chains.append(chain)
        else:
            name, problem = ended.task_id, ended.problem()
            lines.append(f"{name}  {outcome_line(ended.name, ended.receipt or {}, ended.cause)}")
        if problem is not None:
            log.say_problem(problem, name)

    chains: list[dict[str, Any]] = []
    with progress.shown() as watcher:
        waited = waits.wait(found, waiting.wait_policy(), watcher, waiting.after(), tell)
    if waited.missing is not None:
        log.say_problem(waited.missing, "globuswrap")
    data = {"tasks": [ended.as_data() for ended in waited.outcomes.values()], "chains": chains, "unsent": found.unsent}
    return Report(data, lines, waited.exit_code)


def _only_for_tasks(waiting: WaitOptions) -> None:
    """Raises UsageProblem for an option that a chain would not heed."""
    for field in dataclasses.fields(waiting):
        if field.name not in _OF_CHAINS and getattr(waiting, field.name) != field.default:
            option = f"--{field.name.replace('_', '-')}"
            raise UsageProblem(
                "bad-option",
                f"{option} applies to tasks, not to chains",
                "set it in the chain's #GLOBUS lines, or run: globuswrap wait CHAIN && COMMAND",
            )
