"""What a task's document says became of it: pure, decided from the document and its events, never from an exit code.

Statuses as the Transfer API documents them: ACTIVE, INACTIVE, SUCCEEDED, FAILED (also cancelled and expired). An unknown or
missing status is an error, not a success.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from globuswrap import errors
from globuswrap.globus import queries
from globuswrap.system import units


@dataclass(frozen=True)
class Outcome:
    """The end of waiting for one task. `terminal`: Globus will do nothing more for it, and there is a receipt."""

    task_id: str
    name: str
    exit_code: int
    cause: str
    remedy: str = ""
    terminal: bool = True
    task: Mapping[str, Any] = field(default_factory=dict)
    receipt: Mapping[str, Any] | None = None

    def problem(self) -> errors.Problem | None:
        """The exception of a bad end; None for a good one."""
        if self.exit_code == errors.DONE:
            return None
        problem = _PROBLEMS[self.exit_code](f"task-{self.name}", self.cause, self.remedy)
        problem.data = self.as_data()
        return problem

    def as_data(self) -> dict[str, Any]:
        return {
            "task_id": self.task_id,
            "outcome": self.name,
            "exit_code": self.exit_code,
            "cause": self.cause,
            "receipt": dict(self.receipt) if self.receipt is not None else None,
        }


_PROBLEMS: dict[int, type[errors.Problem]] = {
    errors.REFUSED: errors.Refused,
    errors.STOPPED: errors.StoppedEarly,
    errors.SKIPPED: errors.FinishedWithSkips,
    errors.HELD: errors.Held,
    errors.TRY_LATER: errors.TryLater,
}

#: name -> exit code; the table in docs/outcomes.md is compared with this one.
CODES = {
    "succeeded": errors.DONE,
    "succeeded-with-skips": errors.DONE,  # 6 under --strict
    "failed": errors.REFUSED,
    "expired": errors.REFUSED,
    "gone": errors.REFUSED,
    "cancelled": errors.STOPPED,
    "permanent-fault": errors.STOPPED,
    "too-many-faults": errors.STOPPED,
    "paused": errors.HELD,
    "inactive": errors.HELD,
    "running": errors.TRY_LATER,
    "unreachable": errors.TRY_LATER,
}


@dataclass(frozen=True)
class Phase:
    """What an unfinished or finished document says now. `fault` is the reason a grace period runs for, None if none."""

    terminal: bool
    fault: str | None = None
    held: str | None = None


def phase(task: Mapping[str, Any], permanent: Sequence[str]) -> Phase:
    """Where a task stands. Raises Refused for a status that is not known: better an error than a wrong guess."""
    status = task.get("status")
    if status in ("SUCCEEDED", "FAILED"):
        return Phase(terminal=True)
    if status == "INACTIVE":
        return Phase(False, "INACTIVE", "inactive")
    if status == "ACTIVE":
        if task.get("is_paused"):
            return Phase(False, "PAUSED", "paused")
        nice = task.get("nice_status")
        return Phase(False, str(nice) if nice in permanent else None)
    raise errors.Refused(
        "unknown-status",
        f"task {task.get('task_id')} has the status {status!r}, which is not known",
        f"look at it: globus task show {task.get('task_id')}",
    )


def needs_events(task: Mapping[str, Any]) -> bool:
    """Does the document leave open what happened? Then its events are worth a process."""
    uncounted = task.get("type") == "TRANSFER" and task.get("subtasks_skipped_errors") is None
    return bool(
        uncounted or task.get("status") == "FAILED" or task.get("faults") or task.get("delete_destination_extra")
    )


def finished(task: Mapping[str, Any], events: Sequence[Mapping[str, Any]], *, strict: bool = False) -> Outcome:
    """The outcome of a task whose status is terminal."""
    task_id = str(task["task_id"])
    show = f"look at it: globus task event-list {task_id}"
    codes = [str(event.get("code", "")).upper() for event in events]
    if task["status"] == "SUCCEEDED":
        skipped = int(task.get("subtasks_skipped_errors") or 0)
        mirror = "DELETE_DESTINATION_EXTRA_SKIPPED" in codes
        if not skipped and not mirror and "SKIPPED_ERRORS" not in codes:
            return Outcome(task_id, "succeeded", errors.DONE, "", task=task)
        cause = (
            f"skipped for errors at the source: {units.counted(skipped, 'file')}" if skipped else "files were skipped"
        )
        if mirror:
            cause = "the mirrored deletion was skipped" + (f", and {cause}" if skipped else "")
        code = errors.SKIPPED if strict else errors.DONE
        remedy = f"list them: globus task show {task_id} --skipped-errors"
        return Outcome(task_id, "succeeded-with-skips", code, cause, remedy, task=task)
    fatal = task.get("fatal_error") or {}
    fatal_code = str(fatal.get("code", "")).upper()
    described = " ".join(str(fatal.get("description") or fatal.get("code") or "no reason was given").split())
    if "CANCELED" in codes or fatal_code in ("CANCELED", "CANCELLED"):
        return Outcome(task_id, "cancelled", errors.STOPPED, f"cancelled: {described}", show, task=task)
    if "EXPIRED" in codes or fatal_code == "EXPIRED":
        last = next((event for event in events if event.get("is_error")), {})
        why = f"; its last error: {last.get('code')}" if last else ""
        return Outcome(
            task_id,
            "expired",
            errors.REFUSED,
            f"its deadline passed before it was done{why}",
            "mend the cause and run again with --sync-level checksum",
            task=task,
        )
    return Outcome(
        task_id,
        "failed",
        errors.REFUSED,
        f"{fatal_code}: {described}",
        f"mend the cause and run again with --sync-level checksum; {show}",
        task=task,
    )


def stopped(task: Mapping[str, Any], reason: str, *, cancelled: bool) -> Outcome:
    """Given up on by us: a fault that does not mend itself, or too many of them."""
    task_id = str(task["task_id"])
    name = "too-many-faults" if reason.startswith("faults") else "permanent-fault"
    details = " ".join(str(task.get("nice_status_short_description") or task.get("nice_status_details") or "").split())
    cause = f"{reason}{': ' + details[:300] if details else ''}"
    done = "it was cancelled" if cancelled else "it was left running (--keep)"
    return Outcome(
        task_id,
        name,
        errors.STOPPED,
        f"{cause}; {done}",
        f"check the paths, then run again; what happened: globus task event-list {task_id}",
        terminal=cancelled,
        task=task,
    )


def with_path(ended: Outcome, events: Sequence[Mapping[str, Any]]) -> Outcome:
    """The outcome with the path that its last error event names, where the details have a `File:` line."""
    for event in events:
        found = re.search(r"(?m)^File: (.+)$", str(event.get("details") or ""))
        if event.get("is_error") and found:
            return replace(ended, cause=f"{found[1].strip()}: {ended.cause}")
    return ended


def held(task: Mapping[str, Any], name: str, seconds: float) -> Outcome:
    """Paused by a manager, or suspended until someone logs in, for longer than the grace."""
    task_id = str(task["task_id"])
    if name == "paused":
        cause, remedy = f"paused for {seconds:.0f} s", f"see who paused it: globus task pause-info {task_id}"
    else:
        cause = f"inactive for {seconds:.0f} s: credentials are needed"
        remedy = f"log in again (globus login), then look at it: {queries.WEBAPP.format(task_id=task_id)}"
    return Outcome(task_id, name, errors.HELD, cause, remedy, terminal=False, task=task)


def unfinished(task: Mapping[str, Any]) -> Outcome:
    """Still ACTIVE at the timeout."""
    task_id = str(task.get("task_id"))
    nice = task.get("nice_status")
    cause = "still running" + (f" ({nice})" if nice and nice != "OK" else "")
    return Outcome(
        task_id, "running", errors.TRY_LATER, cause, f"wait on: globuswrap wait {task_id}", terminal=False, task=task
    )


def unreachable(task_id: str, why: str) -> Outcome:
    return Outcome(
        task_id,
        "unreachable",
        errors.TRY_LATER,
        why,
        f"the task goes on; wait on: globuswrap wait {task_id}",
        terminal=False,
    )


def gone(task_id: str) -> Outcome:
    """Globus answers 404: task history is kept for a limited time, and only its owner sees a task."""
    return Outcome(
        task_id,
        "gone",
        errors.REFUSED,
        "Globus knows no such task (too old, or of another account)",
        "check the account (globus whoami); run again with --sync-level checksum",
        task={"task_id": task_id},
    )
