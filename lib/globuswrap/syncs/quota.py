"""Count what all profiles have sent to one collection within a day, for a daily limit (`max-bytes-per-day`).

A task counts with what it was planned to send until it has ended, then for a day with what its receipt says. A run is counted as
soon as it has begun, and looks once more then: of two that begin in the same moment, each sees the other, or is seen by it.
"""

from __future__ import annotations

import time

from globuswrap.syncs.profile import Profile
from globuswrap.syncs.state import Task, states
from globuswrap.system import units
from globuswrap.transfers.journal import Entry

DAY = 86400.0
#: How far this machine's clock and that of Globus may differ, in seconds.
CLOCK_SKEW = 600.0


def left(profile: Profile) -> int | None:
    """The bytes that a run of this profile may send now; None if it has no daily limit."""
    if profile.max_bytes_per_day is None:
        return None
    return max(0, profile.max_bytes_per_day - sent_to(profile.destination.collection))


def exceeded(profile: Profile) -> bool:
    """Is more under way than the limit allows, with all that has begun?"""
    limit = profile.max_bytes_per_day
    return limit is not None and sent_to(profile.destination.collection) > limit


def sent_to(collection: str) -> int:
    """What tasks of all profiles have sent to a collection within the last day, or are sending."""
    since = now() - DAY - CLOCK_SKEW
    return sum(
        _counted(task, run.entry(task), since)
        for state in states()
        for run in state.history()
        if run.destination == collection
        for task in run.tasks
        if task.kind == "transfer"
    )


def now() -> float:
    return time.time()


def _counted(task: Task, entry: Entry | None, since: float) -> int:
    if task.ended in ("refused", "withdrawn") or (entry is not None and entry.finished and entry.task_id is None):
        return 0
    receipt = entry.receipt if entry is not None else None
    if entry is None or receipt is None:
        return task.bytes
    ended = units.seconds_of(receipt.get("completed"))
    if ended is None:
        ended = entry.submitted  # it is gone, or was given up: how far it came is not known
    sent = receipt.get("bytes_transferred")
    return (task.bytes if sent is None else int(sent)) if ended > since else 0
