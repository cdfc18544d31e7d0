"""Submit a request as one task, exactly once: claim, send, and send again with the same id until Globus answers."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from globuswrap import errors
from globuswrap.collections.address import normalised
from globuswrap.errors import Problem, Refused, TryLater, UsageProblem
from globuswrap.globus import command, queries, verbs
from globuswrap.globus.errors import Conflict
from globuswrap.system import log, units
from globuswrap.transfers import journal, outcome, places
from globuswrap.transfers import request as requests
from globuswrap.transfers.journal import Entry, Summary
from globuswrap.transfers.request import Item, Request


@dataclass(frozen=True)
class Policy:
    """How to submit. `name` is `--key`; `once` repeats the recorded outcome for ever; `retry_for` is seconds. `awaited`: the
    caller is promised the outcome, not just the submission."""

    name: str | None = None
    once: bool = False
    retry_for: float | None = None
    chain: str | None = None
    awaited: bool = False

    def __post_init__(self) -> None:
        requests.checked_name(self.name)


@dataclass(frozen=True)
class Submitted:
    """What `submit` did. `how`: `new` (a first send), `adopted` (an unfinished attempt was taken up), `recorded` (the
    task was known to be finished: its receipt is in the entry)."""

    entry: Entry
    how: str

    @property
    def task_id(self) -> str:
        if self.entry.task_id is None:
            raise Refused("no-task", "the recorded attempt has no task", "run the same command again")
        return self.entry.task_id


#: So many items of a request are shown in its record.
_EXAMPLES = 3


@dataclass(frozen=True, kw_only=True)
class Intent(Summary):
    """A request as the journal needs it: what it is, and how it is sent.

    `send(submission_id, label)` runs `globus` once and returns the answer (task_id, code). It is called again, with the
    same arguments, until it is answered.
    """

    send: Callable[[str, str], Any]


def intent_of(request: Request) -> Intent:
    digest = requests.digest_of(requests.content(request))
    items = request.items
    return Intent(
        digest=digest,
        label=requests.tagged_label(request.label, digest, request.kind),
        kind=request.kind,
        source=request.source,
        destination=request.destination,
        items=len(items),
        examples=tuple((item.source, item.destination) for item in items[:_EXAMPLES]),
        within=_within(items) if len(items) > _EXAMPLES else None,
        send=lambda submission_id, label: send(request, submission_id, label),
    )


def _within(items: Iterable[Item]) -> tuple[str, str | None]:
    sources = [normalised(item.source) for item in items]
    destinations = [normalised(item.destination) for item in items if item.destination is not None]
    return places.common(sources), places.common(destinations) if destinations else None


def send(request: Request, submission_id: str, label: str) -> Any:
    """One item goes as plain `globus transfer` or `globus delete`; several as one JSON document, which loses no name."""
    if len(request.items) == 1:
        return verbs.send(*requests.command(request, submission_id, label, command.find().version), retry_for=0.0)
    import json

    body = json.dumps(requests.document(request, submission_id, label)).encode()
    return verbs.post(f"/{request.kind}", body)


Look = Callable[[Entry], Entry]


def submit(request: Request, policy: Policy | None = None, look: Look | None = None) -> Submitted:
    """Submit a request exactly once; see `submit_intent`."""
    return submit_intent(intent_of(requests.checked(request)), policy or Policy(), look=look)


def submit_intent(
    intent: Intent, policy: Policy, fresh_id: Callable[[], str] | None = None, look: Look | None = None
) -> Submitted:
    """Make sure that one task does this, and say which. `fresh_id` gives an unused submission id, if one is needed; `look`
    asks Globus whether a task has ended, and returns the entry as it then is.

    Unfinished before: adopted, and the same id sent again if no task id is known. Finished, and the caller of then not yet
    told what it was promised (`Entry.kept`): its record. Finished and kept: a new attempt, or with `once` its record.
    Raises UsageProblem when `--key` names another request, TryLater when Globus cannot be reached or another task has the
    same paths, Refused for a record of another version, the rest of `faults` as it comes.
    """
    key = requests.key_of(intent.digest, policy.name, policy.chain)
    mine = False
    # First: of an attempt that another process claims from now on, its claim is seen, or met when the same number is claimed.
    highest = journal.highest_attempt(key)
    entry = journal.latest(key)
    damaged = highest - (entry.claim.attempt if entry is not None else 0)
    if damaged > 0:  # what was begun last may be known by the facts beside its damaged claim
        entry, mine = _claimed(key, highest + 1, intent, policy, fresh_id, damaged)
    if entry is not None and look is not None and _to_look_at(entry, policy):
        entry = look(entry)
    if entry is not None and entry.digest != intent.digest:
        entry = _replaced(entry, policy)
    if entry is not None and _too_old(entry):
        entry = _found_or_lapsed(entry)
    if entry is not None and entry.finished and not entry.lapsed and (_repeats(entry, policy) or not entry.kept):
        return Submitted(entry, "recorded")
    if entry is None or entry.finished:
        following = max(highest, entry.claim.attempt if entry is not None else 0) + 1
        entry, mine = _claimed(key, following, intent, policy, fresh_id)
    if entry.task_id is None and entry.claim.replaces:  # the id that was lost with the damaged claim may have been sent
        entry = _adopted_by_label(entry)
    how = "adopted"
    if entry.task_id is None:
        entry = _sent(entry, intent, policy)
        code = (entry.task or {}).get("code")
        how = "new" if code == "Accepted" or (mine and code == "Duplicate") else "adopted"
    if mine:
        journal.tidy()
    log.say(f"{how}: task {entry.task_id}, submission {entry.claim.submission_id}", 2)
    return Submitted(entry, how)


def _claimed(
    key: str,
    attempt: int,
    intent: Intent,
    policy: Policy,
    fresh_id: Callable[[], str] | None,
    damaged: int = 0,
) -> tuple[Entry, bool]:
    """The attempt of that number, and whether it is ours. It replaces so many `damaged` ones right before it."""
    fresh = fresh_id() if fresh_id is not None else verbs.new_submission_id(policy.retry_for)
    entry = journal.claim(
        journal.new_claim(
            **intent.summary(),
            key=key,
            attempt=attempt,
            submission_id=fresh,
            name=policy.name,
            once=policy.once,
            chain=policy.chain,
            awaited=policy.awaited and not damaged,  # of a task that it may find, its caller was promised nothing yet
            replaces=damaged,
        )
    )
    if entry.claim.digest != intent.digest:
        raise _key_taken(entry)
    return entry, entry.claim.submission_id == fresh


def _repeats(entry: Entry, policy: Policy) -> bool:
    return entry.claim.once or policy.once


def _to_look_at(entry: Entry, policy: Policy) -> bool:
    """Is a new attempt due if its task has ended meanwhile? Who was promised the submission has that."""
    return entry.task_id is not None and not entry.finished and entry.kept and not _repeats(entry, policy)


def _sent(entry: Entry, intent: Intent, policy: Policy) -> Entry:
    try:
        answer = command.retrying(lambda: intent.send(entry.claim.submission_id, entry.claim.label), policy.retry_for)
    except Conflict as conflict:
        return _adopted_from_conflict(entry, conflict)
    except (TryLater, UsageProblem):
        raise
    except Problem as problem:
        if isinstance(problem, Refused):
            journal.record(entry, "refused", {"name": problem.name, "cause": problem.cause, "time": time.time()})
        raise
    task_id, code = queries.search(queries.TASK_ID, answer), queries.search(queries.CODE, answer)
    if not isinstance(task_id, str) or code not in ("Accepted", "Duplicate"):
        raise Refused(
            "odd-answer", f"Globus answered {code!r} with task id {task_id!r}", "look for the task: globus task list"
        )
    errors.accepted.append(task_id)
    return _noted(entry, task_id, code)


def _noted(entry: Entry, task_id: str, code: str, submitted: float | None = None) -> Entry:
    """The entry with its task. `submitted`: when that was, of a task that was found (epoch seconds)."""
    known = {"task_id": task_id, "code": code, "time": time.time(), "digest": entry.claim.digest}
    try:
        return journal.record(entry, "task", {**known, **({} if submitted is None else {"submitted": submitted})})
    except OSError as error:
        raise not_recorded([task_id], error) from None


@contextlib.contextmanager
def recording(*submitted: Submitted) -> Iterator[None]:
    """Where something is written down after a submission: an OSError is told with the tasks, so that they are not lost with
    it. Without any `submitted`, those are meant that Globus accepts meanwhile."""
    before = len(errors.accepted)
    try:
        yield
    except OSError as error:
        task_ids = [each.task_id for each in submitted] or errors.accepted[before:]
        if not task_ids:
            raise
        raise not_recorded(task_ids, error) from None


def not_recorded(task_ids: Sequence[str], error: OSError) -> Refused:
    """The problem of tasks that Globus has accepted, of which something could not be written down."""
    where = f"{error.filename}: " if error.filename else ""
    several = len(task_ids) > 1
    problem = Refused(
        "not-recorded",
        f"Globus accepted {'tasks' if several else 'task'} {', '.join(task_ids)}, but not all could be recorded: "
        f"{where}{error.strerror or error}",
        "free some space, then run the same command again; it adopts what Globus has accepted. "
        f"To follow it meanwhile: globus task wait {task_ids[-1]}",
    )
    problem.data = {"task_ids": list(task_ids)}
    return problem


def _replaced(entry: Entry, policy: Policy) -> Entry:
    """Another request under the same `--key`: allowed once the earlier one was refused or is done and need not repeat."""
    done = entry.finished and entry.kept and not _repeats(entry, policy)
    if done or (entry.refused is not None and entry.task_id is None):
        return replace(entry, lapsed=True, reported=True, task=None, receipt=None)
    raise _key_taken(entry)


def _key_taken(entry: Entry) -> UsageProblem:
    source, destination = entry.claim.examples[0] if entry.claim.examples else ("", "")
    return UsageProblem(
        "key-taken",
        f"key {entry.claim.name or entry.claim.key} already names another request: "
        f"{entry.claim.kind} {source} -> {destination}",
        "use another --key",
    )


def _too_old(entry: Entry) -> bool:
    return entry.task_id is None and not entry.finished and time.time() - entry.claim.created > journal.RESEND_WITHIN


def _found_or_lapsed(entry: Entry) -> Entry:
    """An intent too old to resend: its task is looked for by the whole label, among those requested since."""
    for row in verbs.my_tasks(label=f"*{entry.claim.label[-15:]}", limit=10, retry_for=0.0):
        requested = units.seconds_of(row["requested"])
        recent = requested is not None and requested >= entry.claim.created - CLOCK_SKEW
        if row["label"] == entry.claim.label and recent and _is_free(row, entry):
            return _noted(entry, row["task_id"], "found", requested)
    journal.record(entry, "lapsed", {"time": time.time()})
    return replace(entry, lapsed=True, reported=True)


#: How far this machine's clock and that of Globus may differ, in seconds.
CLOCK_SKEW = 600.0


def _is_free(row: dict[str, Any], entry: Entry) -> bool:
    """Has no other attempt this task? One that has would report as its own what was sent for another promise."""
    holder = journal.by_task(row["task_id"])
    return holder is None or holder.path == entry.path


def _adopted_by_label(entry: Entry) -> Entry:
    """The entry with the unfinished task that carries its digest in its label, if there is one."""
    row = next((row for row in _unfinished_with_digest(entry, _unfinished_rows()) if _is_free(row, entry)), None)
    return entry if row is None else _noted(entry, row["task_id"], "found", units.seconds_of(row["requested"]))


def _unfinished_rows() -> list[dict[str, Any]]:
    return verbs.my_tasks(statuses=outcome.UNFINISHED)


def _unfinished_with_digest(entry: Entry, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    tag = f" gw-{entry.claim.digest[:12]}"
    return [row for row in rows if str(row["label"] or "").endswith(tag) and _same_ends(row, entry)]


def _adopted_from_conflict(entry: Entry, conflict: Conflict) -> Entry:
    """409 names no task. The unfinished one whose label carries the same digest does this very thing: it is shared, whoever has
    it, since Globus takes no second one (elements of an array that stage in the same input)."""
    rows = _unfinished_rows()
    alike = _unfinished_with_digest(entry, rows)
    row = next((row for row in alike if _is_free(row, entry)), alike[0] if alike else None)
    if row is not None:
        return _noted(entry, row["task_id"], "Conflict", units.seconds_of(row["requested"]))
    candidates = [each for each in rows if _same_ends(each, entry)] or rows
    listed = "\n".join(
        f"{row['source']} -> {row['destination']}  {row['label'] or '(no label)'}  "
        + queries.WEBAPP.format(task_id=row["task_id"])
        for row in candidates
    )
    raise TryLater(
        "conflict",
        "an unfinished task has the same paths, and it was not submitted by this request",
        "wait for it (globuswrap wait TASK_ID), then run the same command again; candidates are listed below",
        ran=conflict.ran,
        detail=listed,
    )


def _same_ends(row: dict[str, Any], entry: Entry) -> bool:
    return bool(row["source"] == entry.claim.source and row["destination"] == entry.claim.destination)
