"""Submit spooled items as tasks, limit how many are unfinished, and combine their outcomes."""

from __future__ import annotations

import hashlib
import json
import socket
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import IO, Any

from globuswrap import errors
from globuswrap.batches import batch_run, spool, tasks
from globuswrap.batches.ahead import Ids, Posting
from globuswrap.batches.batch_run import BatchRun
from globuswrap.batches.spool import Chunk, Load
from globuswrap.errors import combined
from globuswrap.globus import queries, verbs
from globuswrap.system import log
from globuswrap.system.described import Described
from globuswrap.transfers import operations, outcome
from globuswrap.transfers import request as requests
from globuswrap.transfers import wait as waiting
from globuswrap.transfers.journal import Entry
from globuswrap.transfers.operations import Hooks
from globuswrap.transfers.outcome import Outcome
from globuswrap.transfers.request import Request
from globuswrap.transfers.submit import Intent, Policy, Submitted
from globuswrap.transfers.wait import WaitPolicy, Watcher

CHUNK = 100_000
#: Globus works on 3 transfers of a user at a time; two more keep it busy between two looks.
IN_FLIGHT = 5


@dataclass(frozen=True)
class Sending:
    """How the tasks of a batch are submitted and waited for, no more than `in_flight` unfinished ones at a time. The timeout is
    for all that is done from now on."""

    policy: Policy
    wait_policy: WaitPolicy
    in_flight: int = IN_FLIGHT
    watcher: Watcher | None = None
    started: float = field(default_factory=time.monotonic)

    @property
    def left(self) -> WaitPolicy:
        """The wait policy with what is left of its timeout."""
        timeout = self.wait_policy.timeout
        left = None if timeout is None else max(0.0, timeout - (time.monotonic() - self.started))
        return replace(self.wait_policy, timeout=left)


@dataclass(frozen=True)
class SubmittedChunk:
    """One task of a batch: its number from 1, how many items, and its submission."""

    index: int
    items: int
    submitted: Submitted


@dataclass(frozen=True)
class Sent:
    """What was submitted of a batch. `outcomes` are those known so far, by task id; `unsent` counts tasks not submitted
    because those before them are not over."""

    round: BatchRun
    loads: tuple[Load, ...]
    parts: tuple[SubmittedChunk, ...]
    outcomes: Mapping[str, Outcome] = field(default_factory=dict)
    unsent: int = 0

    @property
    def submitted(self) -> tuple[Submitted, ...]:
        return tuple(part.submitted for part in self.parts)


@dataclass(frozen=True, repr=False)
class BatchResult(Described):
    """What became of a batch. `outcome` is None if it was submitted and not waited for; else it stands for all tasks, and
    its receipt is the one over all of them."""

    key: str
    task_ids: tuple[str, ...]
    items: int
    outcome: Outcome | None = None
    new: int = 0

    @property
    def exit_code(self) -> int:
        return 0 if self.outcome is None else self.outcome.exit_code

    def facts(self) -> dict[str, object]:
        found = {} if self.outcome is None else self.outcome.facts()
        outcome = {"outcome": "submitted", **found, "task": None}
        return {"key": self.key, "items": self.items, "tasks": len(self.task_ids), **outcome}

    def as_data(self) -> dict[str, Any]:
        return {
            "key": self.key,
            "items": self.items,
            "tasks": [{"task_id": task_id, "web": queries.WEBAPP.format(task_id=task_id)} for task_id in self.task_ids],
            "outcome": self.outcome.name if self.outcome else "submitted",
            "receipt": dict(self.outcome.receipt) if self.outcome and self.outcome.receipt else None,
        }


def digest_of(loads: Sequence[Load]) -> str:
    """The digest of a whole batch: collections, options and every item, however it is cut."""
    whole = hashlib.sha256()
    for load in loads:
        whole.update(_head(load.request))
        for block in load.spool.raw():
            whole.update(block)
    return whole.hexdigest()


def _head(request: Request) -> bytes:
    return json.dumps(requests.content(request), sort_keys=True).encode("ascii") + b"\n"


def begin(loads: Sequence[Load], policy: Policy, chunk: int, wait_policy: WaitPolicy) -> BatchRun:
    """The round of this batch that is to be worked on; see `batch_run.current`."""
    digest = digest_of(loads)
    wanted = BatchRun(
        key=batch_run.key_of(digest, policy.name, policy.chain),
        number=0,
        digest=digest,
        items=sum(load.spool.count for load in loads),
        pieces=count_of(loads, chunk),
        chunk=chunk,
        created=time.time(),
        host=socket.gethostname(),
        name=policy.name,
        once=policy.once,
    )
    begun = batch_run.current(wanted, wait_policy)
    if policy.awaited and not begun.reported:
        begun.note("awaited")
    return begun


def count_of(loads: Sequence[Load], chunk: int) -> int:
    """How many tasks it takes: none is of two loads, since a task has one source."""
    return sum(-(-load.spool.count // chunk) for load in loads)


def pieces_of(loads: Sequence[Load], chunk: int) -> Iterator[tuple[int, Load, Chunk]]:
    index = 0
    for load in loads:
        for piece in load.spool.pieces(chunk):
            index += 1
            yield index, load, piece


def send(begun_run: BatchRun, loads: Sequence[Load], sending: Sending, kind: str = "", ids: Ids | None = None) -> Sent:
    """Submit every piece, exactly once, never more than `in_flight` unfinished.

    Waits only where that limit asks for it. A task that is given up on while it is unfinished at Globus ends submitting:
    what is left is counted in `unsent`. Raises what `submit_intent` raises; running again goes on from there.
    """
    parts: list[SubmittedChunk] = []
    open_: dict[str, Entry] = {}
    outcomes: dict[str, Outcome] = {}
    total = count_of(loads, begun_run.chunk)
    sender = _Sender(begun_run, sending.policy, kind, total, ids or Ids(sending.policy.retry_for))
    for index, load, piece in pieces_of(loads, begun_run.chunk):
        while len(open_) >= sending.in_flight:
            found = waiting.wait(open_.values(), sending.left, sending.watcher, until_any=True)
            outcomes.update(found)
            for task_id in found:
                del open_[task_id]
        if not all(found.terminal for found in outcomes.values()):
            return Sent(begun_run, tuple(loads), tuple(parts), outcomes, total - len(parts))
        log.set_activity(f"submitting task {index} of {total}" if total > 1 else "")
        submitted = sender.submit(index, load, piece)
        parts.append(SubmittedChunk(index, piece.items, submitted))
        known = waiting.recorded(submitted.entry, strict=sending.wait_policy.strict)
        if known is not None:
            outcomes[submitted.task_id] = known
        else:
            open_[submitted.task_id] = submitted.entry
        if total > 1:
            log.say(f"task {index} of {total}: {submitted.task_id}, {piece.items} items ({submitted.how})", 2)
    log.set_activity("")
    return Sent(begun_run, tuple(loads), tuple(parts), outcomes)


@dataclass
class _Sender:
    """Submits the pieces of one round, one after the other."""

    round: BatchRun
    policy: Policy
    kind: str
    total: int
    ids: Ids
    _ahead: Posting | None = None

    def submit(self, index: int, load: Load, piece: Chunk) -> Submitted:
        policy = Policy(retry_for=self.policy.retry_for, chain=self.policy.chain)
        try:
            return tasks.submit(
                self.round.piece_name(index, self.kind),
                self._intent(index, load, piece),
                policy,
                lambda: self._fresh_id(last=index == self.total),
            )
        finally:
            self._ahead = None

    def _fresh_id(self, *, last: bool) -> str:
        if self.ids.awaited:
            self._ahead = Posting()
        found = self.ids.take()
        if not last:
            self.ids.ahead()
        return found

    def _intent(self, index: int, load: Load, piece: Chunk) -> Intent:
        request = load.request
        digest = hashlib.sha256(_head(request) + piece.digest.encode("ascii")).hexdigest()
        which = f" {index}/{self.total}" if self.total > 1 else ""
        label = requests.tagged_label(f"{request.label or 'globuswrap batch'}{which}", digest, "batch")
        return tasks.intent_of(request, piece, digest, label, load.within, self._post)

    def _post(self, document: IO[bytes]) -> Any:
        ahead, self._ahead = self._ahead, None
        return ahead.send(document) if ahead is not None else verbs.post("/transfer", spool.path_of(document))


def settle(sent: Sent, sending: Sending, after: Hooks, *, verify: bool, notes: Mapping[str, Any]) -> BatchResult:
    """From submissions to a result, by waiting if asked; then `after`, then the batch counts as reported.

    Without waiting, tasks that were submitted before are looked at once: they may be done, or kept from going on. `notes` go
    into the receipt. Raises the Problem of any bad end, whose `data` is the result's.
    """
    wait_policy = sending.left
    open_ = [part.submitted.entry for part in sent.parts if part.submitted.task_id not in sent.outcomes]
    new = sum(part.submitted.how == "new" for part in sent.parts)
    outcomes = dict(sent.outcomes)
    if open_ and wait_policy.wait:
        outcomes.update(waiting.wait(open_, wait_policy, sending.watcher))
    elif open_ and (sent.unsent or not new):
        looked = waiting.wait(open_, replace(wait_policy, timeout=0.0))
        kept = any(not found.terminal and found.exit_code != errors.TRY_LATER for found in looked.values())
        outcomes.update({task_id: found for task_id, found in looked.items() if found.terminal or sent.unsent or kept})
    key = sent.round.title
    result = BatchResult(key, tuple(each.task_id for each in sent.submitted), sent.round.items, None, new)
    if not wait_policy.wait and not sent.unsent:
        sent.round.note("answered")
    if len(outcomes) < len(sent.parts):
        return result
    total = over_all(sent, outcomes)
    verified = None
    if verify and total.exit_code == 0:
        verified, total = _verified(sent, outcomes, total, sending)
    receipt = receipt_of(sent, outcomes, total, {**notes, "verification": verified})
    total = replace(total, receipt=receipt)
    return conclude(replace(result, outcome=total), sent.round, after)


def conclude(result: BatchResult, begun_run: BatchRun, after: Hooks) -> BatchResult:
    """Write the receipt, do what comes after, note that the batch is reported; raise if it ended badly."""
    total = result.outcome
    assert total is not None and total.receipt is not None
    repeated = begun_run.once and begun_run.reported
    if total.terminal and not repeated:
        batch_run.note_receipt(begun_run, dict(total.receipt))
        if after.receipt is None:
            after = replace(after, receipt=begun_run.receipt_path)
        ended = replace(total, task_id=" ".join(result.task_ids))
        operations.conclude(ended, after, lambda: batch_run.note_reported(begun_run))
    problem = total.problem()
    if problem is not None:
        problem.data = result.as_data()
        raise problem
    return result


def recorded(begun_run: BatchRun, *, strict: bool = False) -> BatchResult | None:
    """The result of a round that was reported; None if it is not over, or if tasks of it are gone: they are asked for again."""
    receipt = begun_run.receipt if begun_run.reported else None
    if receipt is None or any(task["outcome"] == outcome.GONE for task in receipt["tasks"]):
        return None
    task_ids = tuple(str(task["task_id"]) for task in receipt["tasks"])
    code = int(receipt["exit_code"])
    if strict and receipt["outcome"] == outcome.WITH_SKIPS:
        code = errors.SKIPPED
    remedy = f"see: globus task event-list {task_ids[0]}" if task_ids else ""
    total = Outcome(begun_run.title, receipt["outcome"], code, receipt["cause"], remedy, receipt=receipt)
    return BatchResult(begun_run.title, task_ids, begun_run.items, total)


def over_all(sent: Sent, outcomes: Mapping[str, Outcome]) -> Outcome:
    """One outcome for all tasks: the one whose exit code takes precedence, and how many ended like it."""
    known = [outcomes[each.task_id] for each in sent.submitted]
    codes = [each.exit_code for each in known] + ([errors.TRY_LATER] if sent.unsent else [])
    code = combined(codes)
    worst = next((each for each in known if each.exit_code == code), None)
    if code == errors.DONE:
        worst = next((each for each in known if each.name != outcome.SUCCEEDED), worst)
    name = worst.name if worst is not None else outcome.RUNNING
    causes = []
    if worst is not None and worst.cause:
        alike = sum(each.name == name for each in known)
        causes.append(f"{alike} of {len(known)} tasks: {worst.cause}" if len(known) > 1 else worst.cause)
    if sent.unsent:
        causes.append(f"{sent.unsent} tasks were not submitted yet")
    remedy = worst.remedy if worst is not None else ""
    terminal = not sent.unsent and all(each.terminal for each in known)
    if not terminal:
        remedy = f"run the same command again: it continues from here{'; ' + remedy if remedy else ''}"
    return Outcome(sent.round.title, name, code, "; ".join(causes), remedy, terminal=terminal)


def receipt_of(sent: Sent, outcomes: Mapping[str, Outcome], total: Outcome, notes: Mapping[str, Any]) -> dict[str, Any]:
    """The receipt over all tasks of a batch (docs/transfers.md); sums count the tasks that have a receipt."""
    receipts = _receipts(sent, outcomes)
    times = [str(each["completed"]) for each in receipts if each.get("completed")]
    return {
        "schema": batch_run.RECEIPT,
        "outcome": total.name,
        "cause": total.cause,
        "exit_code": total.exit_code,
        "key": sent.round.key,
        "name": sent.round.name,
        "round": sent.round.number,
        "digest": sent.round.digest,
        "items": sent.round.items,
        "unsent_tasks": sent.unsent,
        "sources": list(dict.fromkeys(load.request.source for load in sent.loads)),
        "destination": sent.loads[0].request.destination,
        **_sums(receipts),
        "requested": min((str(each["requested"]) for each in receipts if each.get("requested")), default=None),
        "completed": max(times) if times and total.terminal else None,
        **notes,
        "tasks": [
            {
                "index": part.index,
                "items": part.items,
                "task_id": part.submitted.task_id,
                "outcome": outcomes[part.submitted.task_id].name,
                "receipt": outcomes[part.submitted.task_id].receipt,
            }
            for part in sent.parts
        ],
    }


def _receipts(sent: Sent, outcomes: Mapping[str, Outcome]) -> list[Mapping[str, Any]]:
    known = [outcomes.get(each.task_id) for each in sent.submitted]
    return [each.receipt for each in known if each is not None and each.receipt is not None]


def _sums(receipts: Sequence[Mapping[str, Any]]) -> dict[str, int]:
    names = (
        "files",
        "files_transferred",
        "files_skipped",
        "directories",
        "bytes_transferred",
        "faults",
        "skipped_errors",
    )
    return {name: sum(int(each.get(name) or 0) for each in receipts) for name in names}


def _verified(
    sent: Sent, outcomes: Mapping[str, Outcome], total: Outcome, sending: Sending
) -> tuple[dict[str, Any], Outcome]:
    """Send the batch once more, compared by checksum: it must find every file there and copy none."""
    again = tuple(_compared(load) for load in sent.loads)
    second = send(sent.round, again, sending, kind="verify-")
    open_ = [each.entry for each in second.submitted if each.task_id not in second.outcomes]
    found = {**second.outcomes, **(waiting.wait(open_, sending.left, sending.watcher) if open_ else {})}
    ended = over_all(second, found)
    first, then = _sums(_receipts(sent, outcomes)), _sums(_receipts(second, found))
    copied, same = then["files_transferred"], then["files_skipped"]
    expected = first["files_transferred"] + first["files_skipped"]
    report = {
        "task_ids": [each.task_id for each in second.submitted],
        "outcome": ended.name,
        "files_expected": expected,
        "files_same": same,
        "files_copied": copied,
    }
    if ended.exit_code != 0 or not ended.terminal:
        return report, replace(ended, cause=f"verification: {ended.cause}")
    cause = ""
    if copied:
        cause = f"verification: {copied} files differed at the destination and were copied again"
    elif same != expected:
        cause = f"verification: {same} files are the same, {expected} were sent"
    elif not first["directories"] and not first["skipped_errors"] and same != sent.round.items:
        cause = f"verification: {same} files are the same, of {sent.round.items} items"
    report["outcome"] = "differs" if cause else "same"
    if not cause:
        return report, total
    remedy = "find out what changes these files, then run the same command again"
    return report, replace(total, name="failed", exit_code=errors.REFUSED, cause=cause, remedy=remedy)


def _compared(load: Load) -> Load:
    options = replace(load.request.options, sync_level="checksum", delete_destination_extra=None)
    label = f"{load.request.label or 'globuswrap batch'} (verify)"
    return replace(load, request=replace(load.request, options=options, label=label))
