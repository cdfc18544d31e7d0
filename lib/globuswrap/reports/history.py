"""List what was moved and deleted from this machine's journal: when, how much, how fast, and how it ended."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from typing import Any

from globuswrap.collections import names, resolve
from globuswrap.errors import Problem, UsageProblem
from globuswrap.reports import show
from globuswrap.system import log, units
from globuswrap.transfers import journal, outcome, receipt, request
from globuswrap.transfers import wait as waiting
from globuswrap.transfers.journal import Entry

#: The state of a task that has ended, as far as Globus was not asked, and of one that it was never sent.
UNKNOWN = "submitted"


@dataclass(frozen=True)
class Moved:
    """One task. Times are seconds since the epoch, `rate` is bytes per second; None where it is not known (yet). `source` and
    `destination` are the user's names of the collections, or their ids; `what` is the first item's addresses."""

    task_id: str | None
    key: str
    kind: str
    source: str
    destination: str | None
    what: str
    items: int
    requested: float
    ended: float | None
    outcome: str
    cause: str
    files: int | None
    bytes: int | None
    rate: float | None
    faults: tuple[tuple[str, int], ...]
    chain: str | None

    @property
    def route(self) -> str:
        return self.source if self.destination is None else f"{self.source} -> {self.destination}"

    @property
    def seconds(self) -> float | None:
        return None if self.ended is None else max(0.0, self.ended - self.requested)

    def as_data(self) -> dict[str, Any]:
        """For programs: times in ISO 8601, UTC."""
        times = {name: _iso(getattr(self, name)) for name in ("requested", "ended")}
        return {**asdict(self), **times, "seconds": self.seconds, "faults": dict(self.faults)}


#: The columns of `row`.
HEAD = ("task", "requested", "outcome", "bytes", "rate", "took", "route")


def row(each: Moved) -> tuple[str, ...]:
    """A task in a table for people."""
    return (
        (each.task_id or "-")[:8],
        units.local_text(each.requested)[:16],
        each.outcome,
        "-" if each.bytes is None else units.human_size(each.bytes),
        "-" if each.rate is None else f"{units.human_size(each.rate)}/s",
        "-" if each.seconds is None else units.human_duration(each.seconds),
        each.route,
    )


def _iso(moment: float | None) -> str | None:
    return None if moment is None else datetime.fromtimestamp(moment, timezone.utc).isoformat(timespec="seconds")


def moved(since: float | None = None, route: str | None = None, *, live: bool = True) -> list[Moved]:
    """The tasks that were requested within the last `since` seconds, the oldest first. `route`: `FROM:TO`, collections by name or
    id, either of them empty for any. `live`: ask Globus about those whose end nobody has waited for; its silence is said.

    What globuswrap removes of its own probes is left out.
    """
    ends = _ends(route)
    begin = 0.0 if since is None else time.time() - since
    entries = [each for each in journal.entries(begin) if not is_inner(each) and _fits(each, ends)]
    asked: Mapping[str, Mapping[str, Any]] = {}
    unknown = [each.task_id for each in entries if each.task_id is not None and each.receipt is None]
    if live and unknown:
        try:
            asked = waiting.documents(unknown)
        except Problem as problem:
            log.say(
                f"{units.counted(len(unknown), 'task')} may have ended since: {problem.cause}. Fix: {problem.remedy}"
            )
    entries.sort(key=lambda each: each.submitted)
    return [_moved(each, asked.get(each.task_id or "")) for each in entries]


def is_inner(entry: Entry) -> bool:
    """Did globuswrap make it for itself, to remove a probe?"""
    return entry.claim.label.startswith(request.PROBES)


def _ends(route: str | None) -> tuple[str | None, str | None]:
    if route is None:
        return None, None
    source, colon, destination = route.partition(":")
    if not colon:
        raise UsageProblem("bad-route", f"{route!r} is not a route", "write FROM:TO, with names or ids of collections")
    return (
        resolve.collection(source) if source else None,
        resolve.collection(destination) if destination else None,
    )


def _fits(entry: Entry, ends: tuple[str | None, str | None]) -> bool:
    has = entry.claim.source, entry.claim.destination
    return all(wanted is None or wanted == each for wanted, each in zip(ends, has, strict=True))


def _moved(entry: Entry, task: Mapping[str, Any] | None) -> Moved:
    claim = entry.claim
    document = entry.receipt
    if document is None and task is not None and task.get("status") != outcome.ABSENT:
        name = outcome.RUNNING if outcome.is_unfinished(task) else outcome.finished(task, ()).name
        document = receipt.build(task, name, "", submission=None)
    found = document or {}
    requested, ended = units.seconds_of(found.get("requested")), units.seconds_of(found.get("completed"))
    counted: dict[str, int] = {}
    for fault in outcome.faults(found.get("events") or (), claim.source, claim.destination):
        counted[fault.code] = counted.get(fault.code, 0) + fault.count
    return Moved(
        task_id=entry.task_id,
        key=claim.name or claim.key,
        kind=claim.kind,
        source=names.name_of(claim.source) or claim.source,
        destination=claim.destination and (names.name_of(claim.destination) or claim.destination),
        what=show.route(entry),
        items=claim.items,
        requested=requested if requested is not None else claim.created,
        ended=ended,
        outcome=str(found.get("outcome") or (UNKNOWN if entry.task_id is not None else show.UNSENT)),
        cause=str(found.get("cause") or ""),
        files=found.get("files_transferred"),
        bytes=found.get("bytes_transferred"),
        rate=found.get("rate"),
        faults=tuple(sorted(counted.items())),
        chain=claim.chain,
    )
