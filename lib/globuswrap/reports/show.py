"""Show one task in full: the request, its outcome, why, and what to do next. Nothing is changed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from globuswrap.collections import names
from globuswrap.collections.address import Address
from globuswrap.errors import Problem
from globuswrap.globus import queries, verbs
from globuswrap.globus.errors import NotFound
from globuswrap.transfers import outcome, receipt
from globuswrap.transfers import wait as waiting
from globuswrap.transfers.journal import Entry
from globuswrap.transfers.outcome import Fault

#: Of an attempt that Globus has not accepted.
UNSENT = "not submitted"


@dataclass(frozen=True)
class Shown:
    """A task as people and programs see it. `state` is the name of its outcome, or what an unfinished task does; `cause` says
    why, `next` what to do. `document` is its receipt, or what a receipt would say now; `silence` why Globus did not answer."""

    task_id: str | None
    state: str
    cause: str = ""
    next: str = ""
    entry: Entry | None = None
    document: Mapping[str, Any] = field(default_factory=dict)
    faults: tuple[Fault, ...] = ()
    silence: str = ""

    @property
    def route(self) -> str:
        """`archive:/a -> scratch:/a`, of the first item."""
        if self.entry is not None:
            return route(self.entry)
        ends = [str(end) for side in ("source", "destination") if (end := self.document.get(side))]
        return " -> ".join(f"{names.name_of(end) or end}:" for end in ends)

    def as_data(self) -> dict[str, Any]:
        entry = self.entry
        return {
            "task_id": self.task_id,
            "web": None if self.task_id is None else queries.WEBAPP.format(task_id=self.task_id),
            "state": self.state,
            "cause": self.cause,
            "next": self.next,
            "route": self.route,
            "submission": None if entry is None else waiting.submission_of(entry.claim),
            "receipt": dict(self.document) if self.recorded is not None else None,
            "receipt_file": self.recorded,
            "task": None if self.recorded is not None else dict(self.document),
            "faults": [{**asdict(each), "place": each.place and each.place.shown} for each in self.faults],
            "silence": self.silence or None,
        }

    @property
    def recorded(self) -> str | None:
        """The file that has the receipt."""
        return None if self.entry is None or self.entry.receipt is None else f"{self.entry.path}.receipt"


def route(entry: Entry) -> str:
    """From where to where an entry's first item goes, under the user's names."""
    claim = entry.claim
    first = claim.examples[0] if claim.examples else ("", None)
    pairs = zip((claim.source, claim.destination), first, strict=True)
    return " -> ".join(
        Address(end, path or "", names.name_of(end) or "").shown for end, path in pairs if end is not None
    )


def look(task: str | Entry) -> Shown:
    """Everything known about a task, given by its id or its journal entry. Globus is asked only about one that has not ended, and
    its silence is no problem."""
    entry = None if isinstance(task, str) else task
    task_id = task if isinstance(task, str) else task.task_id
    if entry is not None and entry.receipt is not None:
        ended = waiting.from_receipt(entry)
        return Shown(task_id, ended.name, ended.cause, ended.remedy, entry, entry.receipt, _faults(entry.receipt))
    if task_id is None:
        again = "run its command again; it sends the same submission id"
        return Shown(None, UNSENT, str(((entry and entry.refused) or {}).get("cause", "")), again, entry)
    try:
        document = verbs.task(task_id, 0.0)
        events = verbs.task_events(task_id, 0.0) if outcome.needs_events(document) else []
        return _now(task_id, entry, document, events)
    except NotFound:
        gone = outcome.gone({"task_id": task_id})
        return Shown(task_id, gone.name, gone.cause, gone.remedy, entry)
    except Problem as problem:
        return Shown(task_id, "submitted", next=problem.remedy, entry=entry, silence=problem.cause)


def standing(entry: Entry, task: Mapping[str, Any]) -> tuple[str, str]:
    """What an entry's task does, in a word, and why it waits or how it ended. `task` is its document, empty if Globus was not
    asked."""
    if entry.receipt is not None:
        return entry.state, str(entry.receipt.get("cause") or "")
    if entry.task_id is None:
        return UNSENT, str((entry.refused or {}).get("cause", ""))
    if not task:
        return entry.state, ""
    if task.get("status") == outcome.ABSENT:
        return "unknown", "Globus does not find the task at the moment"
    now = outcome.phase(task, ())
    if now.terminal:
        ended = outcome.finished(task, ())
        return ended.name, ended.cause
    nice = str(task.get("nice_status") or "OK")
    if now.held == "paused":
        return now.held, str(task.get("nice_status_details") or outcome.reason_for(task, nice))
    if now.held is not None:
        return now.held, "Globus needs new credentials"
    return "queued" if nice == "Queued" else outcome.RUNNING, "" if nice in ("OK", "Queued") else outcome.reason_for(
        task, nice
    )


def _now(task_id: str, entry: Entry | None, task: Mapping[str, Any], events: list[dict[str, Any]]) -> Shown:
    now = outcome.phase(task, ())
    if now.terminal:
        ended = outcome.with_path(outcome.finished(task, events), events, names.name_of)
    elif now.held is not None:
        ended = waiting.held(task, now.held, None)
    else:
        ended = outcome.unfinished(task)
    document = receipt.build(task, ended.name, ended.cause, submission=None, events=events)
    return Shown(task_id, ended.name, ended.cause, ended.remedy, entry, document, _faults(document))


def _faults(document: Mapping[str, Any]) -> tuple[Fault, ...]:
    ends = document.get("source"), document.get("destination")
    return tuple(outcome.faults(document.get("events") or (), *ends, names.name_of))
