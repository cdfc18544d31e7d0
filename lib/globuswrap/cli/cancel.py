"""`globuswrap cancel`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from globuswrap.cli import output
from globuswrap.cli.options import application, command
from globuswrap.cli.output import Report

if TYPE_CHECKING:
    from globuswrap.transfers.journal import Entry

app = application()


@command(app)
def cancel(
    tasks: Annotated[
        list[str],
        typer.Argument(
            help="Task ids, chains, or keys given to transfer, batch or sync run with --key.",
            metavar="TASK_OR_KEY_OR_CHAIN...",
        ),
    ],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would be cancelled; cancel nothing.")] = False,
) -> Report:
    """Cancel unfinished tasks. One that has already ended is not changed; of a chain, jobs and tasks are canceled."""
    from globuswrap.cli import lookup

    found = lookup.words(tasks)
    done = [_cancel_chain(each, dry_run) for each in found.chains]
    done += [_cancel_task(each, dry_run) for each in found.named.submitted]
    lines = [f"{each.get('task_id') or each.get('chain')}  {each.get('message')}" for each in done]
    missing = found.missing()
    if missing is not None:
        output.tell(missing, "globuswrap")
    data = {"to_cancel" if dry_run else "cancelled": done, "unsent": found.unsent}
    return Report(data, lines, 0 if missing is None else missing.exit_code)


def _cancel_task(task: str | Entry, dry_run: bool) -> dict[str, Any]:
    from globuswrap.globus import verbs

    task_id = task if isinstance(task, str) else str(task.task_id)
    if dry_run:
        over = not isinstance(task, str) and task.receipt is not None
        return {"task_id": task_id, "message": "has ended" if over else "would be cancelled, if it has not ended"}
    answer = verbs.cancel_task(task_id)
    return {"task_id": task_id, "code": answer.get("code"), "message": answer.get("message")}


def _cancel_chain(chain_id: str, dry_run: bool) -> dict[str, Any]:
    from globuswrap.staging import status
    from globuswrap.staging.chain import tend

    if not dry_run:
        tend.cancel(chain_id)
    stands = status.describe(chain_id)["data"]
    if stands["state"] not in ("under way", "ending"):
        return {"chain": chain_id, "message": stands["state"]}
    jobs = ", ".join(stands["jobs"].values())
    return {"chain": chain_id, "message": f"would be cancelled, with its jobs: {jobs}" if dry_run else "ending"}
