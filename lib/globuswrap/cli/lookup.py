"""What the words given to `wait`, `status` and `cancel` name: chains, tasks, or keys of requests, batches, sync runs and
chains.

A key names everything that was last submitted under it, whichever command it was given to.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from globuswrap.batches import lookup
from globuswrap.batches.lookup import Named
from globuswrap.collections.names import UUID
from globuswrap.errors import TryLater
from globuswrap.staging import keys
from globuswrap.staging.chain import record
from globuswrap.sync import state
from globuswrap.transfers.journal import Entry


@dataclass(frozen=True)
class LookupResult:
    """Chains by id, and tasks, each once; `unsent` has for each key how many of its tasks Globus has not accepted yet."""

    chains: list[str]
    named: Named
    unsent: dict[str, int]

    def missing(self) -> TryLater | None:
        """The problem of tasks that are not submitted yet; None if all are."""
        return lookup.partly_submitted(self.unsent) if self.unsent else None


def words(given: Iterable[str], *, accepted: bool = True) -> LookupResult:
    """Raises UsageProblem for a word that names nothing, and with `accepted` for one of which Globus has accepted nothing yet."""
    chains: list[str] = []
    tasks: dict[str, str | Entry] = {}
    unsent: dict[str, int] = {}
    for word in given:
        if record.exists(word):
            chains.append(word)
            continue
        submission = None if UUID.fullmatch(word) else keys.latest(word)
        chain = submission is not None and record.exists(submission.chain)
        if submission is not None and chain:
            chains.append(submission.chain)
        here, there = lookup.named(word), None if UUID.fullmatch(word) else state.named(word)
        if here is not None and there is not None:
            here = Named(here.tasks + there.tasks, here.unsent + there.unsent)
        if chain and here is None and there is None:
            continue
        found = lookup.known(word, here or there, accepted=accepted)
        if found.unsent:
            unsent[word] = found.unsent
        for each in found.tasks:
            tasks[each if isinstance(each, str) else each.task_id or str(each.path)] = each
    return LookupResult(list(dict.fromkeys(chains)), Named(tuple(tasks.values()), sum(unsent.values())), unsent)
