"""Find the tasks that a task id or a key names, of a single request or a batch, and wait for them."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from globuswrap.batches import batch_run
from globuswrap.collections.names import UUID
from globuswrap.errors import Problem, TryLater, UsageProblem
from globuswrap.transfers import hooks, journal, operations
from globuswrap.transfers import request as requests
from globuswrap.transfers import wait as waiting
from globuswrap.transfers.journal import Entry
from globuswrap.transfers.operations import Hooks
from globuswrap.transfers.outcome import Outcome
from globuswrap.transfers.wait import WaitPolicy, Watcher


@dataclass(frozen=True)
class Named:
    """Tasks, as journal entries, or as ids of which the journal knows nothing. An entry may have no task yet; `unsent` counts
    these, and those that have not even an entry."""

    tasks: tuple[str | Entry, ...]
    unsent: int = 0

    @staticmethod
    def of(found: Iterable[str | Entry | None]) -> Named:
        """From what was looked for; None is a task that nothing has been noted of."""
        looked = list(found)
        tasks = tuple(each for each in looked if each is not None)
        return Named(tasks, sum(each is None or (isinstance(each, Entry) and each.task_id is None) for each in looked))

    @staticmethod
    def of_ids(task_ids: Iterable[str]) -> Named:
        return Named.of(journal.by_task(each) or each for each in task_ids)

    @property
    def submitted(self) -> list[str | Entry]:
        """Those that Globus has accepted."""
        return [each for each in self.tasks if isinstance(each, str) or each.task_id is not None]


def named(word: str) -> Named | None:
    """What a word names; None if it is no task id, and nothing was submitted under such a key by this account."""
    if UUID.fullmatch(word):
        return Named((journal.by_task(word.lower()) or word.lower(),))
    whole = len(word) == 40
    entry = journal.latest(requests.key_of("", word)) or (journal.latest(word) if whole else None)
    batch = batch_run.latest(batch_run.key_of("", word, None)) or (batch_run.latest(word) if whole else None)
    if entry is None and batch is None:
        return None
    found: list[Entry | None] = [] if entry is None else [entry]
    if batch is not None:
        found += [*batch.entries(), *(each for each in batch.entries("verify-") if each is not None)]
    return Named.of(found)


def user_key(name: str) -> str | None:
    """The key that a person gave with `--key`, of the name under which a task is journalled. What chains, syncs and batches
    without a key call their tasks is nobody's to type."""
    of_batch = re.fullmatch(r"batch:(.+):\d+:(?:verify-)?\d+", name, re.DOTALL)
    if of_batch:
        return None if re.fullmatch("[0-9a-f]{16}", of_batch[1]) else of_batch[1]
    return None if not name or name.startswith(("chain/", "sync ")) else name


def known(word: str, found: Named | None, *, accepted: bool = True) -> Named:
    """What was found under the word. Raises UsageProblem if that is nothing, and with `accepted` if there are tasks, none of
    which Globus has accepted yet."""
    if found is None:
        raise UsageProblem("unknown-task", f"{word!r} is neither a task id nor a known key", "see: globuswrap status")
    if accepted and found.unsent and not found.submitted:
        raise UsageProblem(
            "not-submitted", f"{word!r} was not accepted yet", "run its command again; it sends the same submission id"
        )
    return found


def partly_submitted(unsent: Mapping[str, int]) -> TryLater:
    """The problem of keys, and how many of the tasks of each are not submitted yet."""
    counts = ", ".join(f"{count} of {key!r}" for key, count in unsent.items())
    remedy = "run the command that submits them again, unless it is still running"
    return TryLater("partly-submitted", f"tasks that are not submitted yet: {counts}", remedy)


def wait(
    tasks: Sequence[str | Entry],
    wait_policy: WaitPolicy | None = None,
    watcher: Watcher | None = None,
    after: Hooks | None = None,
    tell: Callable[[Outcome], None] = lambda ended: None,
) -> dict[str, Outcome]:
    """Wait for tasks by id, journal entry, or key (of a request or a batch, as given with `--key`).

    Returns each task's outcome, whatever it is. When all are known, `tell` is called with each, and then `after` is done for
    it. Raises UsageProblem for an unknown key, and for one under which Globus has accepted nothing yet; TryLater if a batch is
    not submitted whole; if commands in `after` failed, the last one's Refused, with the outcomes in its `data`.
    """
    found: list[str | Entry] = []
    for each in tasks:
        if isinstance(each, Entry):
            found.append(each)
            continue
        found_under = known(each, named(each))
        if found_under.unsent:
            raise partly_submitted({each: found_under.unsent})
        found += found_under.submitted
    outcomes = waiting.wait(found, wait_policy, watcher)
    failed: Problem | None = None
    for each in found:
        ended = outcomes[each if isinstance(each, str) else str(each.task_id)]
        tell(ended)
        if not ended.terminal:
            hooks.task(ended)
        else:
            try:
                operations.conclude(ended, after or Hooks(), functools.partial(_report_any, each))
            except Problem as problem:
                failed = problem
    if failed is not None:
        failed.data = {"tasks": [ended.as_data() for ended in outcomes.values()]}
        raise failed
    return outcomes


def _report_any(task: str | Entry) -> None:
    if isinstance(task, Entry):
        operations.report(task)
