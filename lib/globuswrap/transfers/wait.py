"""Wait for tasks, with one `globus` process per poll for all of them, until each has ended or time is up."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from globuswrap import config
from globuswrap.collections import names
from globuswrap.errors import Interrupted, Problem
from globuswrap.globus import verbs
from globuswrap.globus.errors import NotFound, Transient
from globuswrap.system import log
from globuswrap.system.pacing import Pace
from globuswrap.transfers import grace, journal, outcome, receipt
from globuswrap.transfers.journal import Entry
from globuswrap.transfers.outcome import Outcome

Read = TypeVar("Read")

#: Globus has to say so often that it does not find a task before that is believed, and for as long as a fault may last. For a
#: task that the journal does not know, which may be a mistyped id, this many seconds are enough.
ABSENT_LOOKS = 3
ABSENT_UNKNOWN = 10.0


@dataclass(frozen=True)
class WaitPolicy:
    """How to wait. Durations are seconds; None takes the setting. `timeout` None: for ever; 0: look once.

    `wait` False: a command that has just submitted does not wait; all else holds for its one look at what was begun before.
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
    wait: bool = True

    @staticmethod
    def of(wait: bool | WaitPolicy) -> WaitPolicy:
        """What a caller's `wait` means."""
        return wait if isinstance(wait, WaitPolicy) else WaitPolicy(wait=wait)

    def settled(self) -> WaitPolicy:
        """With the settings filled in."""
        settings = config.load().settings
        filled = {
            name: getattr(settings, name)
            for name in ("timeout", "poll", "fault_grace", "max_faults", "permanent", "retry_for")
            if getattr(self, name) is None
        }
        return replace(self, **filled)


Watcher = Callable[[Sequence[Mapping[str, Any]]], None]

#: How long a fault of a task that reads from tape may last, in seconds: files that are being recalled fault for hours.
TAPE_GRACE = 86400.0
#: Faults that no recall explains.
_NEVER_A_RECALL = ("PERMISSION_DENIED", "QUOTA_EXCEEDED", "INVALID_PATH_NAME", outcome.ABSENT)


def wait(
    tasks: Iterable[str | Entry],
    wait_policy: WaitPolicy | None = None,
    watcher: Watcher | None = None,
    *,
    until_any: bool = False,
) -> dict[str, Outcome]:
    """Wait for tasks, by id or journal entry, and return the outcome of each; with `until_any` only until at least one
    is known, and only those that are.

    Backs off from 1 s to `poll`. A task in a fault of `permanent`, or with more than `max_faults` faults, is canceled
    after `fault_grace` unless `keep`; one that is paused or inactive is given up on then, and left as it is; one that Globus
    does not find is gone then. Receipts go to the journal, where the first outcome stays. `watcher` is called with the task
    documents of each poll. Raises login problems as they come, and Interrupted on a signal: tasks are left running.
    """
    open_: list[str] = []
    try:
        return _wait(tasks, wait_policy, watcher, open_, until_any=until_any)
    except Interrupted as stopped:
        if open_:
            outcome.left_running(stopped, open_)
        raise


def _wait(
    tasks: Iterable[str | Entry],
    wait_policy: WaitPolicy | None,
    watcher: Watcher | None,
    pending: list[str],
    *,
    until_any: bool,
) -> dict[str, Outcome]:
    """As `wait`; `pending` has at any moment the tasks that are waited for."""
    wait_policy = (wait_policy or WaitPolicy()).settled()
    waited = [_Waited(_id(task), task if isinstance(task, Entry) else journal.by_task(task)) for task in tasks]
    by_id = {each.task_id: each for each in waited}
    outcomes: dict[str, Outcome] = {}
    for each in by_id.values():
        known = each.recorded(wait_policy)
        if known is not None:
            outcomes[each.task_id] = known
    pending += [task_id for task_id in by_id if task_id not in outcomes]
    pace = Pace(wait_policy.poll, wait_policy.timeout)
    reached = 0.0
    last: dict[str, Mapping[str, Any]] = {}
    while pending and not (until_any and outcomes):
        unreachable = ""
        try:
            last = documents(pending)
            reached = pace.elapsed
        except Transient as problem:
            unreachable = problem.cause
            log.say(f"{problem.cause}; the tasks continue", 1)
        else:
            if watcher is not None:
                watcher([last[task_id] for task_id in pending])
            for task_id in pending:
                found = by_id[task_id].judged(last[task_id], wait_policy)
                if found is not None:
                    outcomes[task_id] = found
            pending[:] = [task_id for task_id in pending if task_id not in outcomes]
        if not pending or (until_any and outcomes):
            break
        lost = unreachable and pace.elapsed - reached >= (wait_policy.retry_for or 0.0)
        if lost or pace.over:
            for task_id in pending:
                outcomes[task_id] = (
                    outcome.unreachable(task_id, unreachable)
                    if unreachable
                    else _at_timeout(last[task_id], pace.elapsed)
                )
            break
        pace.rest()
    return {task_id: outcomes[task_id] for task_id in by_id if task_id in outcomes}


def _id(task: str | Entry) -> str:
    if isinstance(task, str):
        return task
    if task.task_id is None:
        raise ValueError("an entry without a task cannot be waited for")
    return task.task_id


def documents(task_ids: Sequence[str]) -> dict[str, Mapping[str, Any]]:
    """The documents of all tasks; one that is absent from the list is asked for by itself, and may be ABSENT."""
    found = verbs.tasks(task_ids, 0.0)
    for task_id in task_ids:
        if task_id not in found:
            try:
                found[task_id] = verbs.task(task_id, 0.0)
            except NotFound:
                found[task_id] = {"task_id": task_id, "status": outcome.ABSENT}
    return found


class _Waited:
    """One task that is waited for."""

    def __init__(self, task_id: str, entry: Entry | None) -> None:
        self.task_id = task_id
        self.entry = entry
        self.mark = grace.Mark(task_id, entry)

    def recorded(self, wait_policy: WaitPolicy) -> Outcome | None:
        """The outcome that the journal has and that a look at Globus cannot add to."""
        receipt_ = self.entry.receipt if self.entry is not None else None
        if self.entry is None or receipt_ is None or receipt_["outcome"] == outcome.GONE:
            return None
        wanted = wait_policy.receipt_files and receipt_.get("kind") != "delete" and receipt_.get("files_list") is None
        return None if wanted else from_receipt(self.entry, strict=wait_policy.strict)

    def judged(self, task: Mapping[str, Any], wait_policy: WaitPolicy) -> Outcome | None:
        """The outcome of one document, or None while it is worth waiting on."""
        now = outcome.phase(task, wait_policy.permanent or ())
        if now.terminal:
            return self._settled(None, wait_policy, task)
        count = int(task.get("faults") or 0)
        if wait_policy.max_faults is not None and count > wait_policy.max_faults:
            return self._stop(task, wait_policy, outcome.too_many(count, wait_policy.max_faults))
        if now.fault is None:
            self.mark.healthy()
            return None
        lasting = self.mark.seen(now.fault)
        limit = wait_policy.fault_grace or 0.0
        if now.held is None and now.fault not in _NEVER_A_RECALL and names.on_tape(task.get("source_endpoint_id")):
            limit = max(limit, TAPE_GRACE)
        if now.fault == outcome.ABSENT:
            return self._absent(lasting, limit, wait_policy)
        if lasting.seconds < limit:
            return None
        if now.held is not None:
            return held(task, now.held, lasting.seconds)
        return self._stop(task, wait_policy, now.fault)

    def _absent(self, lasting: grace.Lasting, limit: float, wait_policy: WaitPolicy) -> Outcome | None:
        """One 404 is not the end of a task: it has to be said again, over time."""
        enough = limit if self.entry is not None else min(limit, ABSENT_UNKNOWN)
        if self._first() is None and (lasting.looks < ABSENT_LOOKS or lasting.seconds < enough):
            return None
        kind = {} if self.entry is None else {"type": self.entry.claim.kind.upper()}
        return self._settled(outcome.gone({"task_id": self.task_id, **kind}), wait_policy)

    def _stop(self, task: Mapping[str, Any], wait_policy: WaitPolicy, code: str) -> Outcome | None:
        """Cancel the task, and say why. None: it is being canceled, or has vanished; the next look tells."""
        reason = outcome.reason_for(task, code)
        if wait_policy.keep:
            return outcome.stopped(task, reason, canceled=False)
        self.mark.stopping(reason)
        try:
            verbs.cancel_task(self.task_id, wait_policy.retry_for)
            ended = verbs.task(self.task_id, wait_policy.retry_for)
        except NotFound:
            return None
        return self._settled(None, wait_policy, ended) if outcome.phase(ended, ()).terminal else None

    def _first(self) -> Entry | None:
        """The entry with the outcome that was recorded first, if there is one: it stays, since it may know a cause that the
        task does not show. That a task is gone is no such outcome: a later answer wins."""
        found = journal.read(self.entry.path) if self.entry is not None else None
        known = None if found is None else found.receipt
        return found if known is not None and known["outcome"] != outcome.GONE else None

    def _settled(
        self, known: Outcome | None, wait_policy: WaitPolicy, task: Mapping[str, Any] | None = None
    ) -> Outcome:
        """A terminal outcome with its receipt, recorded in the journal where there is an entry."""
        document = known.task if known is not None else task or {}
        first = self._first()
        files = None
        if wait_policy.receipt_files and known is None and document.get("type") != "DELETE":
            files = listed(verbs.successful_transfers, self.task_id, wait_policy.retry_for)
        if first is not None:
            if files is not None:
                first = journal.record(first, "receipt", {**(first.receipt or {}), "files_list": files})
            return from_receipt(first, strict=wait_policy.strict)
        events: list[dict[str, Any]] = []
        if known is None and outcome.needs_events(document):
            events = verbs.task_events(self.task_id, wait_policy.retry_for)
        ended = known if known is not None else self._ended(document, events, wait_policy)
        skipped: list[dict[str, Any]] | None = []
        if ended.name == outcome.WITH_SKIPS:
            skipped = listed(verbs.skipped_errors, self.task_id, wait_policy.retry_for)
        submission = submission_of(self.entry.claim) if self.entry is not None else None
        built = receipt.build(
            document, ended.name, ended.cause, submission=submission, events=events, skipped=skipped, files=files
        )
        if self.entry is not None:
            journal.record(self.entry, "receipt", built)
        self.mark.ended()
        return replace(ended, receipt=built)

    def _ended(
        self, document: Mapping[str, Any], events: Sequence[Mapping[str, Any]], wait_policy: WaitPolicy
    ) -> Outcome:
        """How a finished task ended. That we have canceled it counts only if that is how it ended."""
        reason = self.mark.stopped_for
        if reason is not None and outcome.was_canceled(document, events):
            ended = outcome.stopped(document, reason, canceled=True)
        else:
            ended = outcome.finished(document, events, strict=wait_policy.strict)
        bad = ended.name in (outcome.PERMANENT_FAULT, outcome.TOO_MANY_FAULTS, outcome.FAILED)
        return outcome.with_path(ended, events, names.name_of) if bad else ended


def _at_timeout(task: Mapping[str, Any], seconds: float) -> Outcome:
    now = outcome.phase(task, ())
    if now.fault == outcome.ABSENT:
        return outcome.not_found(str(task["task_id"]))
    return held(task, now.held, seconds) if now.held is not None else outcome.unfinished(task)


def held(task: Mapping[str, Any], name: str, seconds: float | None) -> Outcome:
    """The outcome of a task that cannot go on now, with the managers' messages if it is paused."""
    messages = listed(verbs.pause_messages, str(task["task_id"]), 0.0) if name == "paused" else None
    return outcome.held(task, name, seconds, messages or (), names.name_of)


def listed(what: Callable[[str, float | None], list[Read]], task_id: str, retry_for: float | None) -> list[Read] | None:
    """A list about a task; None if it cannot be read (its history may be deleted), which is not an empty list."""
    try:
        return what(task_id, retry_for)
    except Problem as problem:
        log.say(f"task {task_id}: {what.__name__.replace('_', ' ')} cannot be read: {problem.cause}")
        return None


_OF_CLAIM = [
    "key",
    "name",
    "attempt",
    "submission_id",
    "digest",
    "chain",
    "created",
    "host",
    "items",
    "examples",
    "within",
]


def submission_of(claim: journal.Claim) -> dict[str, Any]:
    """What a receipt says of the attempt that its task was."""
    return {name: getattr(claim, name) for name in _OF_CLAIM}


def from_receipt(entry: Entry, *, strict: bool = False) -> Outcome:
    """The recorded outcome of an entry that has a receipt, as if it had just been seen."""
    document = entry.receipt or {}
    name, cause = str(document.get("outcome")), str(document.get("cause", ""))
    code = outcome.code_of(name, strict=strict)
    task_id = str(document.get("task_id"))
    task = {"task_id": task_id, "type": str(document.get("kind") or entry.claim.kind).upper()}
    known = outcome.faults(
        document.get("events") or (), document.get("source"), document.get("destination"), names.name_of
    )
    place = next((each.place for each in known if each.place is not None), None)
    remedy = outcome.remedy(name, task, outcome.code_in(cause), place)
    return Outcome(task_id, name, code, cause, remedy, receipt=document)


def recorded(entry: Entry, *, strict: bool = False) -> Outcome | None:
    """The recorded outcome; None if there is none, or if it says that the task is gone and Globus finds it again."""
    if entry.receipt is None:
        return None
    if entry.receipt["outcome"] == outcome.GONE:
        task_id = str(entry.task_id)
        try:
            if documents([task_id])[task_id].get("status") != outcome.ABSENT:
                return None
        except Transient as problem:
            log.say(f"{problem.cause}; the recorded outcome of task {task_id} is used", 1)
    return from_receipt(entry, strict=strict)
