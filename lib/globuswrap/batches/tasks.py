"""Submit each task of a batch or sync run once, under its own name, and read its state from the journal."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import closing
from dataclasses import replace
from typing import IO, Any

from globuswrap.batches import spool
from globuswrap.batches.spool import Chunk
from globuswrap.globus import verbs
from globuswrap.transfers import journal
from globuswrap.transfers import request as requests
from globuswrap.transfers import submit as submitting
from globuswrap.transfers import wait as waiting
from globuswrap.transfers.journal import Entry
from globuswrap.transfers.outcome import Outcome
from globuswrap.transfers.request import Request
from globuswrap.transfers.submit import Intent, Policy, Submitted
from globuswrap.transfers.wait import WaitPolicy, Watcher


def entry(name: str) -> Entry | None:
    """What is known of the task of this name."""
    return journal.latest(requests.key_of("", name))


def submit(name: str, intent: Intent, policy: Policy, fresh_id: Callable[[], str] | None = None) -> Submitted:
    """Submit the task of this name: once, whoever has asked since how it ended. Raises what `submit_intent` raises."""
    known = entry(name)
    if known is not None and known.receipt is not None:
        return Submitted(known, "recorded")
    return submitting.submit_intent(intent, replace(policy, name=name), fresh_id)


def intent_of(
    request: Request,
    piece: Chunk,
    digest: str,
    label: str,
    within: tuple[str, str | None] | None,
    post: Callable[[IO[bytes]], Any] | None = None,
) -> Intent:
    """A piece of a spool, with what the request says besides, as one task. `post` sends its document."""

    def send(submission_id: str, label: str) -> Any:
        with closing(spool.document(piece, requests.document(request, submission_id, label))) as file:
            return post(file) if post is not None else verbs.post(f"/{request.kind}", spool.path_of(file))

    return Intent(
        digest=digest,
        label=label,
        kind=request.kind,
        source=request.source,
        destination=request.destination,
        items=piece.items,
        examples=piece.examples,
        send=send,
        within=within,
    )


def outcomes(entries: Iterable[Entry], wait_policy: WaitPolicy, watcher: Watcher | None = None) -> dict[str, Outcome]:
    """How tasks that were submitted stand, by task id: what the journal says of those that ended, and waiting for the rest."""
    found: dict[str, Outcome] = {}
    open_: list[Entry] = []
    for each in entries:
        known = waiting.recorded(each, strict=wait_policy.strict)
        if known is not None:
            found[known.task_id] = known
        else:
            open_.append(each)
    return {**found, **(waiting.wait(open_, wait_policy, watcher) if open_ else {})}


def ended(entries: Iterable[Entry | None], wait_policy: WaitPolicy) -> dict[str, Outcome] | None:
    """How these tasks ended, of those of which the journal does not say it; None if not all of them were submitted and have
    ended. That is asked of Globus, once."""
    known = list(entries)
    if not all(each is not None and (each.finished or each.task_id) for each in known):
        return None
    running = [each for each in known if each is not None and not each.finished]
    looked = waiting.wait(running, replace(wait_policy, timeout=0.0)) if running else {}
    return looked if all(found.terminal for found in looked.values()) else None
