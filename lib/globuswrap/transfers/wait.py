"""Wait for tasks: one `globus` process per poll for all of them, until each is finished, given up on, or time is up."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from globuswrap import config
from globuswrap.errors import Problem
from globuswrap.globus import arguments, command, queries
from globuswrap.globus.faults import Absent, Transient
from globuswrap.system import log
from globuswrap.transfers import journal, outcome, receipt
from globuswrap.transfers.journal import Entry
from globuswrap.transfers.outcome import Outcome

#: Tasks per process: keeps the request's address below 8 kB, which servers commonly refuse beyond.
PER_PROCESS = 150


@dataclass(frozen=True)
class Patience:
    """How to wait. Durations are seconds; None takes the setting. `timeout` None: for ever; 0: look once.

    `hold` False: a command that has just submitted does not wait; all else holds for its one look at what was begun before.
    """

    timeout: float | None = None
    poll: float | None = None
    fault_grace: float | None = None
    max_faults: int | None = None
    permanent: tuple[str, ...] | None = None
    keep: bool = False
    strict: bool = False
    receipt_files: bool = False
    retry_for: float | None = None
    hold: bool = True

    @staticmethod
    def of(wait: bool | Patience) -> Patience:
        """What a caller's `wait` means."""
        return wait if isinstance(wait, Patience) else Patience(hold=wait)

    def settled(self) -> Patience:
        """With the settings filled in."""
        settings = config.load().settings
        filled = {
            name: getattr(settings, name)
            for name in ("timeout", "poll", "fault_grace", "max_faults", "permanent", "retry_for")
            if getattr(self, name) is None
        }
        return replace(self, **filled)


Watcher = Callable[[Sequence[Mapping[str, Any]]], None]


def wait(
    tasks: Iterable[str | Entry],
    patience: Patience | None = None,
    watcher: Watcher | None = None,
    *,
    until_any: bool = False,
) -> dict[str, Outcome]:
    """Wait for tasks, by id or journal entry, and return the outcome of each; with `until_any` only until at least one
    is known, and only those that are.

    Backs off from 1 s to `poll`. A task in a fault of `permanent`, or with more than `max_faults` faults, is cancelled
    after `fault_grace` unless `keep`; one that is paused or inactive is given up on then, and left as it is. Receipts go
    to the journal. `watcher` is called with the task documents of each poll. Raises login problems as they come, and
    Interrupted on a signal: tasks are left running.
    """
    patience = (patience or Patience()).settled()
    entries = {_id(task): task if isinstance(task, Entry) else journal.by_task(task) for task in tasks}
    pending = list(entries)
    outcomes: dict[str, Outcome] = {}
    started = time.monotonic()
    reached = started
    pause = min(1.0, patience.poll or 0.0)
    faults: dict[str, tuple[str, float]] = {}
    last: dict[str, Mapping[str, Any]] = {}
    while pending:
        unreachable = ""
        try:
            last = documents(pending)
            reached = time.monotonic()
        except Transient as problem:
            unreachable = problem.cause
            log.say(f"{problem.cause}; the tasks go on", 1)
        else:
            if watcher is not None:
                watcher([last[task_id] for task_id in pending])
            for task_id in pending:
                found = _judged(last[task_id], entries[task_id], patience, faults)
                if found is not None:
                    outcomes[task_id] = found
            pending = [task_id for task_id in pending if task_id not in outcomes]
        if not pending or (until_any and outcomes):
            break
        now = time.monotonic()
        left = None if patience.timeout is None else started + patience.timeout - now
        lost = unreachable and now - reached >= (patience.retry_for or 0.0)
        if lost or (left is not None and left <= 0):
            for task_id in pending:
                outcomes[task_id] = (
                    outcome.unreachable(task_id, unreachable)
                    if unreachable
                    else _at_timeout(last[task_id], now - started)
                )
            break
        time.sleep(pause if left is None else max(0.0, min(pause, left)))
        pause = min(pause * 1.5, patience.poll or 0.0)
    return {task_id: outcomes[task_id] for task_id in entries if task_id in outcomes}


def _id(task: str | Entry) -> str:
    if isinstance(task, str):
        return task
    if task.task_id is None:
        raise ValueError("an entry without a task cannot be waited for")
    return task.task_id


def documents(task_ids: Sequence[str]) -> dict[str, Mapping[str, Any]]:
    """The documents of all tasks; one that is absent from the list is asked for by itself, and may be gone."""
    found: dict[str, Mapping[str, Any]] = {}
    for first in range(0, len(task_ids), PER_PROCESS):
        part = task_ids[first : first + PER_PROCESS]
        rows = queries.search(queries.ROWS, command.call(*arguments.task_list(part))) or []
        found.update({row["task_id"]: row for row in rows if isinstance(row, dict) and "task_id" in row})
    for task_id in task_ids:
        if task_id not in found:
            try:
                shown = command.call("task", "show", task_id)
            except Absent:
                shown = {"task_id": task_id, "status": "GONE"}
            found[task_id] = shown if isinstance(shown, dict) else {"task_id": task_id}
    return found


def _judged(
    task: Mapping[str, Any], entry: Entry | None, patience: Patience, faults: dict[str, tuple[str, float]]
) -> Outcome | None:
    """The outcome of one document, or None while it is worth waiting on."""
    task_id = str(task["task_id"])
    if task.get("status") == "GONE":
        return _settled(outcome.gone(task_id), entry, patience)
    now = outcome.phase(task, patience.permanent or ())
    if now.terminal:
        return _settled(None, entry, patience, task)
    count = int(task.get("faults") or 0)
    if patience.max_faults is not None and count > patience.max_faults:
        return _stop(task, entry, patience, f"faults: {count}, allowed {patience.max_faults}")
    seconds = _lasting(task_id, now.fault, entry, faults)
    if now.fault is None or seconds < (patience.fault_grace or 0.0):
        return None
    if now.held is not None:
        return outcome.held(task, now.held, seconds)
    return _stop(task, entry, patience, now.fault)


def _lasting(task_id: str, fault: str | None, entry: Entry | None, faults: dict[str, tuple[str, float]]) -> float:
    """For how many seconds the task has had this fault."""
    if entry is not None:
        if fault is None and faults.pop(task_id, None) is None:
            return 0.0  # nothing was noted: no file to remove on every poll
        since = journal.fault_since(entry.path, fault)
    else:
        known = faults.get(task_id)
        since = known[1] if known is not None and known[0] == fault else time.time()
    if fault is not None:
        faults[task_id] = (fault, since)
    return time.time() - since


def _stop(task: Mapping[str, Any], entry: Entry | None, patience: Patience, reason: str) -> Outcome:
    task_id = str(task["task_id"])
    if patience.keep:
        return outcome.stopped(task, reason, cancelled=False)
    command.retrying(lambda: command.call("task", "cancel", task_id), patience.retry_for)
    ended = command.retrying(lambda: command.call("task", "show", task_id), patience.retry_for)
    if ended.get("status") == "SUCCEEDED":  # it finished before the cancellation came
        return _settled(None, entry, patience, ended)
    return _settled(outcome.stopped({**task, **ended}, reason, cancelled=True), entry, patience)


def _at_timeout(task: Mapping[str, Any], seconds: float) -> Outcome:
    now = outcome.phase(task, ())
    return outcome.held(task, now.held, seconds) if now.held is not None else outcome.unfinished(task)


def _settled(
    known: Outcome | None, entry: Entry | None, patience: Patience, task: Mapping[str, Any] | None = None
) -> Outcome:
    """A terminal outcome with its receipt, recorded in the journal where there is an entry."""
    document = known.task if known is not None else task or {}
    task_id = str(document["task_id"])
    gone = known is not None and known.name == "gone"
    events: list[dict[str, Any]] = []
    if not gone and outcome.needs_events(document):
        answer = command.retrying(lambda: command.call(*arguments.events(task_id)), patience.retry_for)
        events = queries.search(queries.EVENTS, answer) or []
    ended = known if known is not None else outcome.finished(document, events, strict=patience.strict)
    if ended.name in ("permanent-fault", "too-many-faults"):
        ended = outcome.with_path(ended, events)
    skipped: list[dict[str, Any]] | None = []
    if not gone and ended.name == "succeeded-with-skips":
        skipped = _listed(task_id, "--skipped-errors", queries.SKIPPED, patience)
    files = None
    if patience.receipt_files and not gone and document.get("type") != "DELETE":
        files = _listed(task_id, "--successful-transfers", queries.COPIED, patience)
    submission = _submission(entry.claim) if entry is not None else None
    document = receipt.build(
        document, ended.name, ended.cause, submission=submission, events=events, skipped=skipped, files=files
    )
    if entry is not None:
        journal.record(entry, "receipt", document)
    return replace(ended, receipt=document)


def _listed(task_id: str, which: str, query: str, patience: Patience) -> list[dict[str, Any]] | None:
    """A list of a finished task; None if it cannot be read (its history may be deleted), which is not an empty list."""
    try:
        answer = command.retrying(lambda: command.call("task", "show", task_id, which), patience.retry_for)
    except Problem as problem:
        log.say(f"task {task_id}: the list behind {which} cannot be read: {problem.cause}")
        return None
    return queries.search(query, answer) or []


def _submission(claim: journal.Claim) -> dict[str, Any]:
    return {
        "key": claim.key,
        "name": claim.name,
        "attempt": claim.attempt,
        "submission_id": claim.submission_id,
        "digest": claim.digest,
        "chain": claim.chain,
        "created": claim.created,
        "host": claim.host,
        "items": claim.items,
        "examples": [list(example) for example in claim.examples],
    }


def from_receipt(entry: Entry, *, strict: bool = False) -> Outcome:
    """The recorded outcome of an entry that has a receipt, as if it had just been seen."""
    document = entry.receipt or {}
    name = str(document.get("outcome"))
    code = outcome.CODES.get(name, 1)
    if strict and name == "succeeded-with-skips":
        code = 6
    task_id = str(document.get("task_id"))
    return Outcome(
        task_id, name, code, str(document.get("cause", "")), f"globus task event-list {task_id}", receipt=document
    )
