"""`globuswrap show`: one task or chain in full."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer

from globuswrap.cli import progress
from globuswrap.cli.options import Commands, command
from globuswrap.cli.output import Report
from globuswrap.system import units

if TYPE_CHECKING:
    from globuswrap.reports.show import Shown

app = Commands()

#: Events that are shown; all that are known are in the JSON.
_EVENTS = 5


@command(app)
def show(
    tasks: Annotated[
        list[str],
        typer.Argument(
            help="Show these tasks, keys or chains; a unique prefix is enough.", metavar="TASK_OR_KEY_OR_CHAIN..."
        ),
    ],
) -> Report:
    """Show everything about a task or chain: request, progress, why it failed, what to do next.

    For a task that has ended, it shows the receipt without asking Globus. Nothing is changed.
    """
    from globuswrap.batches.lookup import Named
    from globuswrap.reports import show as showing
    from globuswrap.staging import status as chain_status
    from globuswrap.underway import lookup

    with progress.doing("asking Globus and the scheduler"):
        found = lookup.words(tasks, accepted=False)
        chains = [chain_status.describe(each) for each in found.chains]
        steps = [[step["task"] for step in each["data"]["steps"] if step["task"]] for each in chains]
        of_chains = [[showing.look(task) for task in Named.of_ids(ids).tasks] for ids in steps]
        looked = [showing.look(each) for each in found.named.tasks]
    lines: list[str] = []
    for each, parts in zip(chains, of_chains, strict=True):
        lines += ["", f"Chain {each['text'][0]}", *each["text"][1:], f"  Log        {each['data']['log']}"]
        for part in parts:
            lines += ["", *_text(part)]
    for task in looked:
        lines += ["", *_text(task)]
    missing = found.missing()
    if missing is not None:
        lines += ["", missing.cause]
    data = {
        "chains": [
            {**each["data"], "tasks": [part.as_data() for part in parts]}
            for each, parts in zip(chains, of_chains, strict=True)
        ],
        "tasks": [task.as_data() for task in looked],
    }
    return Report(data, lines[1:])


def _text(task: Shown) -> list[str]:
    return [f"Task {task.task_id or '(none)'}  {task.state}", *(f"  {name:<10} {text}" for name, text in _rows(task))]


def _rows(task: Shown) -> Iterator[tuple[str, str]]:
    document, entry = task.document, task.entry
    kind = entry.claim.kind if entry is not None else document.get("kind") or "task"
    more = (
        f" and {units.counted(entry.claim.items - 1, 'more item')}"
        if entry is not None and entry.claim.items > 1
        else ""
    )
    yield str(kind).capitalize(), f"{task.route}{more}"
    if entry is not None:
        claim = entry.claim
        attempt = f", attempt {claim.attempt}" if claim.attempt > 1 else ""
        yield "Requested", f"{units.local_text(claim.created)} on {claim.host}{attempt}"
        yield "Key", claim.name or claim.key
        yield "Label", claim.label
    elif document.get("label"):
        yield "Label", str(document["label"])
    begun, ended = (units.seconds_of(document.get(each)) for each in ("requested", "completed"))
    if begun is not None and entry is None:
        yield "Requested", units.local_text(begun)
    if ended is not None:
        took = "" if begun is None else f", after {units.human_duration(ended - begun)}"
        yield "Ended", f"{units.local_text(ended)}{took}"
    moved = _moved(document)
    if moved:
        yield "Moved", moved
    if task.cause:
        yield "Why", task.cause
    for fault in task.faults:
        yield "Fault", f"{fault.text}, last at {units.local_text(units.seconds_of(fault.time))}"
    for event in list(document.get("events") or ())[:_EVENTS]:
        yield (
            "Event",
            f"{units.local_text(units.seconds_of(event.get('time')))}  {event.get('code')}  {event.get('description')}",
        )
    if task.silence:
        yield "Note", f"Globus was not reached ({task.silence}); this is what the journal knows."
    if task.task_id is not None:
        yield "Web", str(task.as_data()["web"])
    if task.recorded is not None:
        yield "Receipt", task.recorded
    if task.next:
        yield "Next", task.next


def _moved(document: Mapping[str, Any]) -> str:
    if document.get("files_transferred") is None:
        return ""
    of = f" of {document['files']}" if document.get("files") is not None else ""
    what = "file" if (document.get("files") or document["files_transferred"]) == 1 else "files"
    parts = [f"{document['files_transferred']}{of} {what}, {units.human_size(document.get('bytes_transferred') or 0)}"]
    if document.get("rate"):
        parts.append(f"{units.human_size(document['rate'])}/s")
    if document.get("files_skipped"):
        parts.append(f"{document['files_skipped']} already up to date")
    if document.get("faults"):
        parts.append(units.counted(document["faults"], "fault"))
    return ", ".join(parts)
