"""`globuswrap status`: the journal, chains, and what Globus says of the tasks."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Annotated, Any

import typer

from globuswrap.cli.options import application, command
from globuswrap.cli.output import Report, table
from globuswrap.system import units
from globuswrap.transfers import journal, operations
from globuswrap.transfers import wait as waiting
from globuswrap.transfers.journal import Entry

app = application()


@command(app)
def status(
    tasks: Annotated[
        list[str] | None, typer.Argument(help="Task ids, keys or chains; none: all.", metavar="TASK_OR_KEY...")
    ] = None,
    all_: Annotated[bool, typer.Option("--all", "-a", help="Finished ones too.")] = False,
    live: Annotated[bool, typer.Option("--live/--no-live", help="Ask Globus about unfinished tasks (default).")] = True,
) -> Report:
    """Show submissions in the journal and how their tasks stand. Nothing is changed."""
    from globuswrap.staging import chain

    chains = chain.list_chains()
    wanted = tasks or []
    shown_chains = [each for each in wanted if each in chains] if wanted else list(chains)
    entries = (
        [_entry(each) for each in wanted if each not in chains]
        if wanted
        else sorted(
            (each for each in journal.entries() if all_ or not each.finished or not each.reported),
            key=lambda e: e.claim.created,
        )
    )
    running = [each.task_id for each in entries if each.task_id and each.receipt is None] if live else []
    documents = waiting.documents(running) if running else {}
    lines: list[str] = []
    described = [chain.describe(each) for each in shown_chains]
    for each in described:
        lines.extend([*each["text"], ""])
    rows = [_row(entry, documents.get(entry.task_id or "", {})) for entry in entries]
    if rows:
        lines.extend(table(rows, ["TASK", "STATE", "AGE", "KIND", "FILES", "WHAT"]))
    damaged = [str(path) for path in journal.damaged()]
    lines.extend(f"damaged entry, set aside: {path}" for path in damaged)
    data = {
        "submissions": [_data(entry, documents.get(entry.task_id or "")) for entry in entries],
        "chains": [each["data"] for each in described],
        "damaged": damaged,
    }
    return Report(data, [line for line in lines if line or len(lines) > 1])


def _entry(text: str) -> Entry:
    found = operations.task_or_entry(text)
    if isinstance(found, Entry):
        return found
    from globuswrap.errors import UsageProblem

    raise UsageProblem("unknown-task", f"task {text} is not in the journal", f"ask Globus: globus task show {text}")


def _row(entry: Entry, task: Mapping[str, Any]) -> list[str]:
    claim = entry.claim
    source, destination = claim.examples[0] if claim.examples else ("", None)
    more = f" (+{claim.items - 1})" if claim.items > 1 else ""
    what = f"{source}{' -> ' + destination if destination else ''}{more}"
    state = _state(entry, task)
    receipt = entry.receipt or task
    files = f"{receipt.get('files_transferred')}/{receipt.get('files')}" if receipt.get("files") is not None else "-"
    age = units.human_duration(max(0.0, time.time() - claim.created))
    return [entry.task_id or "-", state, age, claim.kind, files, what]


def _state(entry: Entry, task: Mapping[str, Any]) -> str:
    if entry.receipt is None and task.get("status"):
        nice = task.get("nice_status")
        return f"{task['status']}{' ' + str(nice) if nice and nice != 'OK' else ''}"
    return entry.state


def _data(entry: Entry, task: Mapping[str, Any] | None) -> dict[str, Any]:
    return {
        **vars(entry.claim),
        "task_id": entry.task_id,
        "state": entry.state,
        "reported": entry.reported,
        "task": task,
    }
