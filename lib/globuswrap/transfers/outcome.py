"""Decide the outcome of a task, purely from its document and its events, never from an exit code.

The one place that knows the statuses of tasks and the names of outcomes. An unknown or missing status is an error, not a
success.
"""

from __future__ import annotations

import posixpath
import re
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from globuswrap import errors
from globuswrap.collections.address import Address
from globuswrap.globus import queries
from globuswrap.system import units
from globuswrap.system.described import Described

#: Statuses as the Transfer API documents them. FAILED: also canceled and expired.
ENDED_WELL, ENDED_BADLY, MOVING, SUSPENDED = "SUCCEEDED", "FAILED", "ACTIVE", "INACTIVE"
ENDED = (ENDED_WELL, ENDED_BADLY)
UNFINISHED = (MOVING, SUSPENDED)
#: The status given to a task that Globus does not find: an answer to confirm, not the end of the task.
ABSENT = "ABSENT"

#: Names of outcomes that others decide by.
SUCCEEDED, WITH_SKIPS, FAILED, GONE, RUNNING = "succeeded", "succeeded-with-skips", "failed", "gone", "running"
PERMANENT_FAULT, TOO_MANY_FAULTS = "permanent-fault", "too-many-faults"
GOOD = (SUCCEEDED, WITH_SKIPS)


@dataclass(frozen=True, repr=False)
class Outcome(Described):
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

    def facts(self) -> dict[str, object]:
        receipt = self.receipt or {}
        moved = receipt.get("bytes_transferred")
        return {
            "task": self.task_id,
            "outcome": self.name,
            "cause": self.cause,
            "files": receipt.get("files_transferred"),
            "moved": None if moved is None else units.human_size(moved),
        }

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

#: name -> exit code; the table in docs/troubleshooting.md is compared with this one.
CODES = {
    SUCCEEDED: errors.DONE,
    WITH_SKIPS: errors.DONE,  # 6 under --strict
    FAILED: errors.REFUSED,
    "expired": errors.REFUSED,
    GONE: errors.REFUSED,
    "canceled": errors.STOPPED,
    PERMANENT_FAULT: errors.STOPPED,
    TOO_MANY_FAULTS: errors.STOPPED,
    "paused": errors.HELD,
    "inactive": errors.HELD,
    RUNNING: errors.TRY_LATER,
    "unreachable": errors.TRY_LATER,
}


def code_of(name: str, *, strict: bool = False) -> int:
    """The exit code of an outcome; `strict`: skipped files count."""
    return errors.SKIPPED if strict and name == WITH_SKIPS else CODES.get(name, errors.REFUSED)


def _outcome(task: Mapping[str, Any], name: str, cause: str, remedy: str = "", *, strict: bool = False) -> Outcome:
    """An outcome by its name, which says also whether Globus will go on with the task."""
    code = code_of(name, strict=strict)
    terminal = code not in (errors.HELD, errors.TRY_LATER)
    return Outcome(str(task["task_id"]), name, code, cause, remedy, terminal, task)


def is_unfinished(task: Mapping[str, Any]) -> bool:
    """Does a task's document say that it is under way?"""
    return task.get("status") in UNFINISHED


@dataclass(frozen=True)
class Phase:
    """What an unfinished or finished document says now. `fault` is the reason a grace period runs for, None if none."""

    terminal: bool
    fault: str | None = None
    held: str | None = None


def phase(task: Mapping[str, Any], permanent: Sequence[str]) -> Phase:
    """Where a task stands. Raises Refused for a status that is not known: better an error than a wrong guess."""
    status = task.get("status")
    if status in ENDED:
        return Phase(terminal=True)
    if status == ABSENT:
        return Phase(False, ABSENT)
    if status == SUSPENDED:
        return Phase(False, SUSPENDED, "inactive")
    if status == MOVING:
        if task.get("is_paused"):
            return Phase(False, "PAUSED", "paused")
        nice = task.get("nice_status")
        return Phase(False, str(nice) if nice in permanent else None)
    raise errors.Refused(
        "unknown-status",
        f"task {task.get('task_id')} has the unknown status {status!r}",
        f"see: globus task show {task.get('task_id')}",
    )


def needs_events(task: Mapping[str, Any]) -> bool:
    """Does the document leave open what happened? Then its events are worth a process."""
    uncounted = task.get("type") == "TRANSFER" and task.get("subtasks_skipped_errors") is None
    return bool(
        uncounted or task.get("status") == ENDED_BADLY or task.get("faults") or task.get("delete_destination_extra")
    )


def finished(task: Mapping[str, Any], events: Sequence[Mapping[str, Any]], *, strict: bool = False) -> Outcome:
    """The outcome of a task whose status is terminal."""
    codes = [str(event.get("code", "")).upper() for event in events]
    if task["status"] == ENDED_WELL:
        skipped = int(task.get("subtasks_skipped_errors") or 0)
        mirror = "DELETE_DESTINATION_EXTRA_SKIPPED" in codes
        if not skipped and not mirror and "SKIPPED_ERRORS" not in codes:
            return _outcome(task, SUCCEEDED, "")
        cause = (
            f"skipped for errors at the source: {units.counted(skipped, 'file')}" if skipped else "files were skipped"
        )
        if mirror:
            cause = "the mirrored deletion was skipped" + (f", and {cause}" if skipped else "")
        return _outcome(task, WITH_SKIPS, cause, remedy(WITH_SKIPS, task), strict=strict)
    fatal = task.get("fatal_error") or {}
    fatal_code = str(fatal.get("code", "")).upper()
    described = " ".join(str(fatal.get("description") or fatal.get("code") or "no reason was given").split())
    if was_canceled(task, events):
        return _outcome(task, "canceled", f"canceled: {described}", remedy("canceled", task))
    if "EXPIRED" in codes or fatal_code == "EXPIRED":
        last = next((str(event.get("code")) for event in events if event.get("is_error")), "")
        cause = f"its deadline passed before it was done{f'; its last error: {last}' if last else ''}"
        return _outcome(task, "expired", cause, remedy("expired", task, last.upper()))
    return _outcome(task, FAILED, f"{fatal_code}: {described}", remedy(FAILED, task, fatal_code))


def was_canceled(task: Mapping[str, Any], events: Sequence[Mapping[str, Any]]) -> bool:
    """Did the task end because someone, perhaps we, canceled it?"""
    fatal_code = str((task.get("fatal_error") or {}).get("code", "")).upper()
    canceled = any(str(event.get("code", "")).upper() == "CANCELED" for event in events)
    return task.get("status") == ENDED_BADLY and (canceled or fatal_code in ("CANCELED", "CANCELLED"))


def reason_for(task: Mapping[str, Any], code: str) -> str:
    """Why we give up on an unfinished task: the code, and what Globus says about it."""
    details = " ".join(str(task.get("nice_status_short_description") or task.get("nice_status_details") or "").split())
    return f"{code}{': ' + details[:300] if details else ''}"


def too_many(count: int, allowed: int) -> str:
    """The reason to give up on a task that has had this many faults. `stopped` knows it by its first word: of a task that is
    being canceled, the reason is all that is kept."""
    return f"faults: {count}, allowed {allowed}"


def stopped(task: Mapping[str, Any], reason: str, *, canceled: bool) -> Outcome:
    """Given up on by us: a permanent fault, or too many faults."""
    name = TOO_MANY_FAULTS if reason.startswith("faults: ") else PERMANENT_FAULT
    done = "the task was canceled" if canceled else "the task was left running (--keep)"
    given_up = _outcome(task, name, f"{reason}; {done}", remedy(name, task, code_in(reason)))
    return replace(given_up, terminal=canceled)


#: Fault codes that have a remedy of their own.
_PATHS = ("AMBIGUOUS_PATH", "IS_A_DIRECTORY", "NOT_A_DIRECTORY")
_SPACE = ("QUOTA_EXCEEDED", "NO_SPACE_LEFT")
_NAMED = re.compile(
    rf"(?:^|: )({'|'.join((*_PATHS, *_SPACE, 'FILE_NOT_FOUND', 'PERMISSION_DENIED', 'INVALID_PATH_NAME'))})(?=[:;]|$)"
)


def code_in(cause: str) -> str:
    """The fault code that a cause names."""
    found = _NAMED.findall(cause)
    return str(found[-1]) if found else ""


def remedy(name: str, task: Mapping[str, Any], code: str = "", place: Address | None = None) -> str:
    """What to do about an outcome. It fits the cause: `code` is Globus's code for it, `place` where it happened."""
    task_id = task.get("task_id")
    if name in GOOD:
        return f"list them: globus task show {task_id} --skipped-errors" if name == WITH_SKIPS else ""
    if name == GONE:
        return f"check which account you use (globus whoami), then rerun{_checksums(task)}"
    if name == "canceled":
        return f"see: globus task event-list {task_id}"
    if name in (FAILED, "expired"):
        return _rerun(task, code, place)
    return _fix(task, code, place) + ", then rerun"


def _rerun(task: Mapping[str, Any], code: str, place: Address | None = None) -> str:
    """After a failure, part of the data may be at the destination, and only checksums tell which."""
    return f"{_fix(task, code, place)}, then rerun{'' if code == 'FILE_NOT_FOUND' else _checksums(task)}"


def _checksums(task: Mapping[str, Any]) -> str:
    return " with --sync-level checksum" if task.get("type") == "TRANSFER" else ""


def _fix(task: Mapping[str, Any], code: str, place: Address | None) -> str:
    task_id, deletes = task.get("task_id"), task.get("type") == "DELETE"
    if code == "FILE_NOT_FOUND":
        above = replace(place, path=posixpath.dirname(place.path.rstrip("/")) or "/") if place is not None else None
        listed = f"globus ls {shlex.quote(str(above))}" if above is not None else f"globus task event-list {task_id}"
        return f"check the path ({listed}){' or add --ignore-missing' if deletes else ''}"
    if code == "PERMISSION_DENIED":
        return "check which account you use (globus whoami) or ask the collection's manager for access"
    if code in _SPACE:
        return f"free some space{' in ' + place.shown if place is not None else ' at the destination'}"
    if code in _PATHS:
        return "add --recursive for a directory, --no-recursive for a file" if not deletes else "add --recursive"
    if code == "INVALID_PATH_NAME":
        return f"rename the file, or exclude it{': ' + place.shown if place is not None else ''}"
    return f"fix the problem (globus task event-list {task_id})"


@dataclass(frozen=True)
class Fault:
    """Equal errors of a task. `place` is where they happened, if Globus says so, and `side` which end of the transfer that is;
    `message` is Globus's own sentence, `time` that of the latest."""

    code: str
    message: str
    place: Address | None
    side: str
    time: str
    count: int = 1

    @property
    def text(self) -> str:
        """`2 x PERMISSION_DENIED at scratch:/a (destination): "permission denied"`."""
        times = f"{self.count} x " if self.count > 1 else ""
        where = f" at {self.place.shown}" if self.place is not None else ""
        side = f" ({self.side})" if self.side else ""
        return f'{times}{self.code}{where}{side}: "{self.message}"'


def faults(
    events: Sequence[Mapping[str, Any]],
    source: object,
    destination: object,
    namer: Callable[[str], str | None] = lambda _: None,
) -> list[Fault]:
    """The errors among these events, the latest first. Their details have `Endpoint:`, `File:` and `Message:` lines. `namer`
    gives the user's name for a collection."""
    found: dict[tuple[str, str, Address | None], Fault] = {}
    for event in events:
        if not event.get("is_error") or str(event.get("code", "")).upper() == "CANCELED":
            continue
        details = str(event.get("details") or "")
        endpoint = re.search(r"(?m)^Endpoint: .*\(([0-9a-f-]{36})\)$", details)
        path = re.search(r"(?m)^File: (.+)$", details)
        said = re.search(r"(?m)^Message: (.+)$", details)
        collection = endpoint[1] if endpoint else str(source)
        place = Address(collection, path[1].strip(), namer(collection) or "") if path else None
        sides = [name for name, each in (("source", source), ("destination", destination)) if each == collection]
        message = " ".join((said[1] if said else str(event.get("description") or details)).split())
        code = str(event.get("code") or "")
        known = found.get((code, message, place))
        if known is not None:
            found[code, message, place] = replace(known, count=known.count + 1)
            continue
        side = sides[0] if endpoint and len(sides) == 1 else ""
        found[code, message, place] = Fault(code, message, place, side, str(event.get("time") or ""))
    return list(found.values())


def with_path(
    ended: Outcome, events: Sequence[Mapping[str, Any]], namer: Callable[[str], str | None] = lambda _: None
) -> Outcome:
    """The outcome with the address that its last error event names."""
    ends = ended.task.get("source_endpoint_id"), ended.task.get("destination_endpoint_id")
    place = next((each.place for each in faults(events, *ends, namer) if each.place is not None), None)
    if place is None:
        return ended
    fitting = remedy(ended.name, ended.task, code_in(ended.cause), place)
    return replace(ended, cause=f"{place.shown}: {ended.cause}", remedy=fitting)


def held(
    task: Mapping[str, Any],
    name: str,
    seconds: float | None,
    messages: Sequence[tuple[str, str]] = (),
    namer: Callable[[str], str | None] = lambda _: None,
) -> Outcome:
    """Paused by a manager, or suspended until someone logs in; for so long, if it was waited for. `messages`: where and why, as
    `verbs.pause_messages` gives it."""
    task_id = str(task["task_id"])
    lasting = "" if seconds is None else f" for {units.human_duration(seconds)}"
    if name == "paused":
        who = " and ".join(dict.fromkeys(_collection(task, where, namer) for where, _ in messages)) or "the collection"
        why = "".join(dict.fromkeys(f'; "{" ".join(text.split())}"' for _, text in messages))
        cause = f"paused{lasting} by a manager of {who}{why}"
        remedy = f"ask the manager of {who}, or wait until it is resumed: globuswrap wait {task_id}"
    else:
        cause = f"inactive{lasting}: Globus needs new credentials"
        remedy = f"log in again (globus login), then resume it on {queries.WEBAPP.format(task_id=task_id)}"
    return _outcome(task, name, cause, remedy)


def _collection(task: Mapping[str, Any], where: str, namer: Callable[[str], str | None]) -> str:
    """What to call a collection that a pause message is about: as in the configuration, or as Globus shows it."""
    if where not in ("source", "destination"):
        return where or "the collection"
    shown = namer(str(task.get(f"{where}_endpoint_id"))) or task.get(f"{where}_endpoint_display_name")
    return f"{shown} (the {where})" if shown else f"the {where}"


def unfinished(task: Mapping[str, Any]) -> Outcome:
    """Still ACTIVE at the timeout."""
    task_id = str(task.get("task_id"))
    nice = task.get("nice_status")
    cause = "still running" + (f" ({nice})" if nice and nice != "OK" else "")
    return _outcome(task, RUNNING, cause, f"keep waiting: globuswrap wait {task_id}")


def left_running(stopped: errors.Interrupted, task_ids: Sequence[str]) -> None:
    """Say in an interruption which tasks it leaves running, and how to follow and how to stop them."""
    shown = " ".join(task_ids[:3]) + (" ..." if len(task_ids) > 3 else "")
    if len(task_ids) == 1:
        stopped.cause = f"{stopped.cause}. The transfer continues at Globus as task {shown}"
    else:
        stopped.cause = f"{stopped.cause}. {len(task_ids)} tasks continue at Globus"
    stopped.remedy = f"follow with: globuswrap wait {shown}   or stop with: globuswrap cancel {shown}"


def unreachable(task_id: str, why: str) -> Outcome:
    return _outcome(
        {"task_id": task_id}, "unreachable", why, f"the task continues; keep waiting: globuswrap wait {task_id}"
    )


def not_found(task_id: str) -> Outcome:
    """Globus does not find the task, which it has not said for long enough to be believed."""
    cause = "Globus does not find the task at the moment"
    return _outcome({"task_id": task_id}, "unreachable", cause, f"try again: globuswrap wait {task_id}")


def gone(task: Mapping[str, Any]) -> Outcome:
    """Globus keeps answering 404: task history is kept for a limited time, and only its owner sees a task."""
    cause = "Globus has no such task (it may be too old, or belong to another account)"
    return _outcome(task, GONE, cause, remedy(GONE, task))
