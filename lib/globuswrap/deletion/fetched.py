"""Find what others have downloaded from a shared collection, and which of its files may be deleted for that."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Any

from globuswrap.collections.address import normalised
from globuswrap.deletion import judge
from globuswrap.deletion.evidence import Evidence, View
from globuswrap.deletion.judge import Fetch, Proof, Verdict
from globuswrap.errors import Refused
from globuswrap.globus import verbs
from globuswrap.system import log, units
from globuswrap.transfers import outcome

#: Who has to have fetched a file: names by identity; None: anyone but oneself.
Recipients = Callable[[str], Mapping[str, str] | None]


@dataclass(frozen=True)
class Fetches:
    """What others have fetched, by path. `recipients` of a path: see `judge.fetched`."""

    recipients: Recipients
    by_path: Mapping[str, Sequence[Fetch]] = field(default_factory=dict)


def gather(collection: str, recipients: Recipients, since: float, before: float | None = None) -> Fetches:
    """Ask for the activity of a collection since a moment (seconds since the epoch). `before`: only of tasks that ended by then.

    A copy on the same collection, or on another one that is known to show the same storage, is no fetch. Refused without the
    role that shows what others do.
    """
    start = datetime.fromtimestamp(since, timezone.utc).strftime("%Y-%m-%dT%H:%M:%S")
    mine = str(verbs.userinfo().get("sub") or "").lower()
    found: dict[str, list[Fetch]] = {}
    try:
        tasks = [task for task in verbs.tasks_of_others(collection, start) if _counts(task, mine, before)]
        for number, task in enumerate(tasks, 1):
            log.set_activity(f"checking what others have downloaded: task {number} of {len(tasks)}")
            for row in verbs.transfers_of_others(str(task["task_id"])):
                fetch = _fetch(task, row)
                found.setdefault(fetch.proof.path, []).append(fetch)
    except Refused as problem:
        if not problem.code.endswith("PermissionDenied"):
            raise
        raise Refused(
            "no-activity-monitor",
            f"this account may not see what others have downloaded from {collection}: {problem.cause}",
            "it needs the role activity_monitor there; its administrator gives it, in the web app under Roles or with: "
            f"globus endpoint role create {collection} --role activity_monitor --identity {mine or 'YOU'}",
            ran=problem.ran,
        ) from None
    finally:
        log.set_activity("")
    return Fetches(recipients, found)


def _counts(task: Mapping[str, Any], mine: str, before: float | None) -> bool:
    requested, completed = units.seconds_of(task.get("request_time")), units.seconds_of(task.get("completion_time"))
    if (task.get("type"), task.get("status")) != ("TRANSFER", outcome.ENDED_WELL):
        return False
    if requested is None or completed is None:
        return False
    if str(task.get("owner_id")).lower() == mine or (before is not None and completed > before):
        return False
    source, destination = task.get("source_mapped_collection_id"), task.get("destination_mapped_collection_id")
    sources = {task.get("source_endpoint_id"), source} - {None}
    return not sources & {task.get("destination_endpoint_id"), destination}


def _fetch(task: Mapping[str, Any], row: Mapping[str, Any]) -> Fetch:
    requested, completed = units.seconds_of(task["request_time"]), units.seconds_of(task["completion_time"])
    assert requested is not None and completed is not None
    path, other = normalised(str(row["source_path"])), normalised(str(row["destination_path"]))
    where = str(task.get("destination_endpoint_id"))
    proof = Proof(str(task["task_id"]), path, where, other, requested, completed, requested, same_time=False)
    return Fetch(str(task["owner_id"]).lower(), proof)


def judged(known: Evidence, fetches: Fetches, paths: Iterable[str], view: View) -> list[Verdict]:
    """The verdicts on these files as they are now."""
    verdicts = []
    for path in paths:
        here = (known.collection, path)
        seen = view.seen(here)
        if seen is None:
            verdicts.append(Verdict(path, "has just been removed"))
            continue
        found = fetches.by_path.get(path, ())
        writes = known.writes_to([here, *(each.proof.copy for each in found)])
        verdicts.append(judge.fetched(here, seen, fetches.recipients(path), found, writes, known.uses, view.copy))
    return verdicts
