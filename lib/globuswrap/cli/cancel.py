"""`globuswrap cancel`."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from globuswrap.cli.options import application, command
from globuswrap.cli.output import Report

app = application()


@command(app)
def cancel(
    tasks: Annotated[list[str], typer.Argument(help="Task ids, keys, or chains.", metavar="TASK_OR_KEY_OR_CHAIN...")],
) -> Report:
    """Cancel unfinished tasks. One that has already ended is left as it is; a chain loses its jobs and its tasks."""
    from globuswrap.transfers import operations
    from globuswrap.transfers.journal import Entry

    done = []
    for each in tasks:
        chain = _cancel_chain(each)
        if chain is not None:
            done.append(chain)
            continue
        found = operations.task_or_entry(each)
        task_id = str(found.task_id) if isinstance(found, Entry) else found
        answer = _cancel_task(task_id)
        done.append({"task_id": task_id, "code": answer.get("code"), "message": answer.get("message")})
    lines = [f"{each.get('task_id') or each.get('chain')}  {each.get('message')}" for each in done]
    return Report({"cancelled": done}, lines)


def _cancel_task(task_id: str) -> Any:
    from globuswrap.globus import command as globus

    return globus.retrying(lambda: globus.call("task", "cancel", task_id))


def _cancel_chain(text: str) -> dict[str, object] | None:
    from globuswrap.staging import chain

    if text not in chain.list_chains():
        return None
    chain.cancel(text)
    return {"chain": text, "message": "cancelled"}
