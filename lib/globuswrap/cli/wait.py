"""`globuswrap wait`."""

from __future__ import annotations

import dataclasses
import time
from typing import TYPE_CHECKING, Annotated, Any

import typer

from globuswrap.cli import output, progress
from globuswrap.cli.options import WaitOptions, application, command
from globuswrap.cli.output import Report
from globuswrap.cli.transfer import outcome_line
from globuswrap.errors import TryLater, UsageProblem, combined

if TYPE_CHECKING:
    from globuswrap.transfers.outcome import Outcome
    from globuswrap.transfers.wait import WaitPolicy

app = application()

#: What counts for chains too; they have the rest from their directives.
_OF_CHAINS = ("timeout", "poll", "retry_for")


@command(app)
def wait(
    tasks: Annotated[
        list[str],
        typer.Argument(
            help="Task ids, chains, or keys given to transfer, batch or sync run with --key.",
            metavar="TASK_OR_KEY_OR_CHAIN...",
        ),
    ],
    waiting: WaitOptions,
) -> Report:
    """Wait for any number of tasks, with one globus process per poll, and for chains, and say how each ended.

    Chains are advanced too, as by tend. The exit code is that of the worst outcome, see docs/troubleshooting.md.
    """
    from globuswrap.batches import lookup as batch_lookup
    from globuswrap.cli import lookup

    found = lookup.words(tasks)
    submitted = found.named.submitted
    wait_policy = waiting.wait_policy()
    started = time.monotonic()
    lines: list[str] = []
    chains: list[dict[str, Any]] = []
    codes: list[int] = []
    if found.chains:  # first: tasks go on without anyone
        _only_for_tasks(waiting)
        chains = _chains(found.chains, wait_policy)
        lines += [f"{each['chain']}  {each['state']}{': ' + each['why'] if each['why'] else ''}" for each in chains]
        codes += [each["exit_code"] for each in chains]
    if wait_policy.timeout is not None:
        wait_policy = dataclasses.replace(
            wait_policy, timeout=max(0.0, wait_policy.timeout - (time.monotonic() - started))
        )

    def tell(ended: Outcome) -> None:
        lines.append(f"{ended.task_id}  {outcome_line(ended.name, ended.receipt or {}, ended.cause)}")
        problem = ended.problem()
        if problem is not None:
            output.tell(problem, ended.task_id)

    with progress.shown() as watcher:
        outcomes = batch_lookup.wait(submitted, wait_policy, watcher, waiting.after(), tell) if submitted else {}
    missing = found.missing()
    if missing is not None:
        output.tell(missing, "globuswrap")
        codes.append(missing.exit_code)
    data = {"tasks": [ended.as_data() for ended in outcomes.values()], "chains": chains, "unsent": found.unsent}
    return Report(data, lines, combined([*codes, batch_lookup.exit_code(outcomes)]))


def _only_for_tasks(waiting: WaitOptions) -> None:
    """Raises UsageProblem for an option that a chain would not heed."""
    for field in dataclasses.fields(waiting):
        if field.name not in _OF_CHAINS and getattr(waiting, field.name) != field.default:
            option = f"--{field.name.replace('_', '-')}"
            raise UsageProblem(
                "bad-option",
                f"{option} applies to tasks, not to chains",
                "put it into the chain's #GLOBUS lines, or wait && ...",
            )


def _chains(ids: list[str], wait_policy: WaitPolicy) -> list[dict[str, Any]]:
    """How each chain stands, as `status` has it, and why, and the exit code of it."""
    from globuswrap.staging import status as chain_status
    from globuswrap.staging import wait as chain_wait

    told = []
    for chain_id, status in chain_wait.wait(ids, wait_policy).items():
        problem = status.problem
        if problem is None and not status.ended:
            problem = TryLater("chain-running", "the chain is still running", f"globuswrap wait {chain_id}")
        if problem is not None:
            output.tell(problem, chain_id)
        code = status.exit_code if status.ended or problem is None else problem.exit_code
        told.append({**chain_status.describe(chain_id)["data"], "why": status.why, "exit_code": code})
    return told
