"""What the words given to `wait`, `status` and `cancel` name: chains, tasks, or keys of requests, batches, sync runs and
chains.

A key names everything that was last submitted under it, whichever command it was given to.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from globuswrap.batches import lookup
from globuswrap.batches.lookup import Named
from globuswrap.collections.names import UUID
from globuswrap.errors import TryLater, UsageProblem
from globuswrap.staging import keys
from globuswrap.staging.chain import record
from globuswrap.syncs import state
from globuswrap.transfers import journal
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


#: A prefix has at least so many letters.
SHORTEST = 4
#: A prefix that looks like the beginning of a task id or chain is none of a key, which would take reading the whole journal.
_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f-]*)?|c[0-9a-f]{5,8}")


def whole(word: str) -> str:
    """The task id, key or chain that begins so. The word as it is if it is whole, or if nothing begins so. Raises UsageProblem
    if several do."""
    if len(word) < SHORTEST or UUID.fullmatch(word) or record.exists(word) or _is_key(word):
        return word
    found = {each for each in record.ids() if each.startswith(word)} | set(journal.task_ids(word.lower()))
    if not _ID.fullmatch(word):
        named = {lookup.user_key(name) for name in journal.claimed_names()} | keys.names() | state.keys()
        found |= {each for each in named if each is not None and each.startswith(word)}
    if len(found) > 1:
        shown = ", ".join(sorted(found)[:5]) + (", ..." if len(found) > 5 else "")
        raise UsageProblem("ambiguous-prefix", f"{word!r} is ambiguous: {shown}", "give more letters")
    return found.pop() if found else word


def _is_key(word: str) -> bool:
    return keys.latest(word) is not None or lookup.named(word) is not None or state.named(word) is not None


def words(given: Iterable[str], *, accepted: bool = True) -> LookupResult:
    """What the words name, which may be prefixes. Raises UsageProblem for one that names nothing, or several things, and with
    `accepted` for one of which Globus has accepted nothing yet."""
    chains: list[str] = []
    tasks: dict[str, str | Entry] = {}
    unsent: dict[str, int] = {}
    for word in map(whole, given):
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
