"""From a request to one task at Globus, exactly once: claim, send, and send again with the same id until it is answered."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from globuswrap.errors import Problem, Refused, TryLater, UsageProblem
from globuswrap.globus import arguments, command, queries
from globuswrap.globus.faults import Conflict
from globuswrap.system import log
from globuswrap.transfers import journal
from globuswrap.transfers import request as requests
from globuswrap.transfers.journal import Entry
from globuswrap.transfers.request import Request


@dataclass(frozen=True)
class Policy:
    """How to submit. `name` is `--key`; `once` repeats the recorded outcome for ever; `retry_for` is seconds."""

    name: str | None = None
    once: bool = False
    retry_for: float | None = None
    chain: str | None = None


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


@dataclass(frozen=True)
class Intent:
    """A request as the journal needs it: what it is, and how it is sent.

    `send(submission_id, label)` runs `globus` once and returns the answer (task_id, code). It is called again, with the
    same arguments, until it is answered.
    """

    digest: str
    label: str
    kind: str
    source: str
    destination: str | None
    items: int
    examples: tuple[tuple[str, str | None], ...]
    send: Callable[[str, str], Any]


def intent_of(request: Request) -> Intent:
    digest = requests.digest_of(requests.content(request))
    return Intent(
        digest=digest,
        label=requests.tagged_label(request.label, digest, request.kind),
        kind=request.kind,
        source=request.source,
        destination=request.destination,
        items=len(request.items),
        examples=tuple((item.source, item.destination) for item in request.items[:3]),
        send=lambda submission_id, label: send(request, submission_id, label),
    )


def send(request: Request, submission_id: str, label: str) -> Any:
    """One item goes as plain `globus transfer` or `globus delete`; several as one JSON document, which loses no name."""
    if len(request.items) == 1:
        return command.call(*requests.command(request, submission_id, label, command.find().version))
    import json

    body = json.dumps(requests.document(request, submission_id, label)).encode()
    return post(f"/{request.kind}", body)


def post(path: str, body: Any) -> Any:
    """Send a document to the Transfer API through `globus api` (bytes, or a file to read)."""
    return command.call("api", "transfer", "POST", path, "--body-file", "-", "--content-type", "json", stdin=body)


def submit(request: Request, policy: Policy | None = None) -> Submitted:
    """Submit a request exactly once; see `submit_intent`."""
    return submit_intent(intent_of(requests.checked(request)), policy or Policy())


def submit_intent(intent: Intent, policy: Policy, fresh_id: Callable[[], str] | None = None) -> Submitted:
    """Make sure that one task does this, and say which. `fresh_id` gives an unused submission id, if one is needed.

    Unfinished before: adopted, and the same id sent again if no task id is known. Finished and never reported: its record.
    Finished and reported: a new attempt, or with `once` its record. Raises UsageProblem when `--key` names another
    request, TryLater when Globus cannot be reached or another task has the same paths, the rest of `faults` as it comes.
    """
    key = requests.key_of(intent.digest, policy.name, policy.chain)
    entry = journal.latest(key)
    if entry is not None and entry.claim.digest != intent.digest:
        entry = _replaced(entry, policy)
    if entry is not None and _too_old(entry):
        entry = _found_or_lapsed(entry)
    if (
        entry is not None
        and entry.finished
        and (entry.claim.once or policy.once or not entry.reported)
        and not entry.lapsed
    ):
        return Submitted(entry, "recorded")
    how = "adopted"
    if entry is None or entry.finished:
        how = "new"
        highest = journal.highest_attempt(key)
        lost_claim = entry is None and highest > 0  # damaged: the id it held may have been sent
        fresh = fresh_id() if fresh_id is not None else new_submission_id(policy.retry_for)
        mine = journal.new_claim(
            key=key,
            attempt=highest + 1,
            submission_id=fresh,
            digest=intent.digest,
            label=intent.label,
            kind=intent.kind,
            source=intent.source,
            destination=intent.destination,
            items=intent.items,
            examples=intent.examples,
            name=policy.name,
            once=policy.once,
            chain=policy.chain,
        )
        entry = journal.claim(mine)
        if entry.claim.digest != intent.digest:
            raise _key_taken(entry)
        if entry.claim.submission_id != fresh:
            how = "adopted"
        elif lost_claim:
            entry = _adopted_by_label(entry)
    if entry.task_id is None:
        entry = _sent(entry, intent, policy)
    if how == "new":
        journal.tidy()
    log.say(f"{how}: task {entry.task_id}, submission {entry.claim.submission_id}", 2)
    return Submitted(entry, how)


def new_submission_id(retry_for: float | None = None) -> str:
    return command.retrying(_new_submission_id, retry_for)


def _new_submission_id() -> str:
    answer = command.call(*arguments.submission_id())
    value = queries.search(queries.VALUE, answer)
    if not isinstance(value, str) or not value:
        raise Refused("odd-answer", "globus gave no submission id", "run: globus task generate-submission-id")
    return value


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
    return journal.record(entry, "task", {"task_id": task_id, "code": code, "time": time.time()})


def _replaced(entry: Entry, policy: Policy) -> Entry:
    """Another request under the same `--key`: allowed once the earlier one was refused or is done and need not repeat."""
    done = entry.finished and entry.reported and not (entry.claim.once or policy.once)
    if done or (entry.refused is not None and entry.task_id is None):
        return replace(entry, lapsed=True, reported=True, task_id=None, receipt=None)
    raise _key_taken(entry)


def _key_taken(entry: Entry) -> UsageProblem:
    source, destination = entry.claim.examples[0] if entry.claim.examples else ("", "")
    return UsageProblem(
        "key-taken",
        f"key {entry.claim.name or entry.claim.key} already stands for another request: "
        f"{entry.claim.kind} {source} -> {destination}",
        "use another --key",
    )


def _too_old(entry: Entry) -> bool:
    return entry.task_id is None and not entry.finished and time.time() - entry.claim.created > journal.RESEND_WITHIN


def _found_or_lapsed(entry: Entry) -> Entry:
    """An intent too old to resend: its task is looked for by the whole label, among those requested since."""
    answer = command.call(*arguments.tasks_labelled(f"*{entry.claim.label[-15:]}"))
    for row in queries.search(queries.LABELLED, answer) or []:
        if row["label"] == entry.claim.label and _since(row, entry):
            return journal.record(entry, "task", {"task_id": row["task_id"], "code": "found", "time": time.time()})
    journal.record(entry, "lapsed", {"time": time.time()})
    return replace(entry, lapsed=True, reported=True)


#: How far this machine's clock and that of Globus may differ, in seconds.
CLOCK_SKEW = 600.0


def _since(row: dict[str, Any], entry: Entry) -> bool:
    """Was the task requested after the claim? An earlier attempt at the same request has the same label."""
    from datetime import datetime, timezone

    try:
        requested = datetime.fromisoformat(str(row["requested"]).replace("Z", "+00:00"))
    except ValueError:
        return False
    if requested.tzinfo is None:
        requested = requested.replace(tzinfo=timezone.utc)
    return requested.timestamp() >= entry.claim.created - CLOCK_SKEW


def _adopted_by_label(entry: Entry) -> Entry:
    """The entry with the unfinished task that carries its digest in its label, if there is one."""
    row = _unfinished_with_digest(entry, _unfinished_rows())
    if row is None:
        return entry
    log.say(f"task {row['task_id']} already does this; taken up", 1)
    return journal.record(entry, "task", {"task_id": row["task_id"], "code": "found", "time": time.time()})


def _unfinished_rows() -> list[dict[str, Any]]:
    answer = command.retrying(lambda: command.call(*arguments.unfinished_tasks(None)))
    return queries.search(queries.LABELLED, answer) or []


def _unfinished_with_digest(entry: Entry, rows: list[dict[str, Any]]) -> dict[str, Any] | None:
    tag = f" gw-{entry.claim.digest[:12]}"
    return next((row for row in rows if str(row["label"] or "").endswith(tag) and _same_ends(row, entry)), None)


def _adopted_from_conflict(entry: Entry, conflict: Conflict) -> Entry:
    """409 names no task: the unfinished one whose label carries the same digest is ours, whoever submitted it."""
    rows = _unfinished_rows()
    row = _unfinished_with_digest(entry, rows)
    if row is not None:
        log.say(f"task {row['task_id']} already does this; taken up", 1)
        return journal.record(entry, "task", {"task_id": row["task_id"], "code": "Conflict", "time": time.time()})
    candidates = [each for each in rows if _same_ends(each, entry)] or rows
    listed = "\n".join(
        f"{row['source']} -> {row['destination']}  {row['label'] or '(no label)'}  "
        + queries.WEBAPP.format(task_id=row["task_id"])
        for row in candidates
    )
    raise TryLater(
        "conflict",
        "another unfinished task has the same paths, and it is not one of this request",
        "wait for it, or cancel it (globus task cancel TASK_ID); candidates are listed below",
        ran=conflict.ran,
        detail=listed,
    )


def _same_ends(row: dict[str, Any], entry: Entry) -> bool:
    return bool(row["source"] == entry.claim.source and row["destination"] == entry.claim.destination)
