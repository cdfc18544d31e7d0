"""How it stands: what words name, or all that is under way. Nothing is changed, and Globus need not answer."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from globuswrap.errors import Problem, TryLater, UsageProblem
from globuswrap.reports import history, show
from globuswrap.staging import status
from globuswrap.staging.chain import tend
from globuswrap.staging.chain.record import Chain
from globuswrap.system import units
from globuswrap.system.described import Described, html_table
from globuswrap.transfers import journal, outcome
from globuswrap.transfers import wait as waiting
from globuswrap.transfers.journal import Entry
from globuswrap.underway import lookup

#: A task that nobody waits for is shown so long after it has ended, in seconds.
_SHOWN_FOR = 86400.0


@dataclass(frozen=True, repr=False)
class Task(Described):
    """A task of the journal: what it does, in a word, and why it waits. `document` is what Globus says of it, empty if it was not
    asked."""

    entry: Entry
    document: Mapping[str, Any]

    @property
    def state(self) -> str:
        return show.standing(self.entry, self.document)[0]

    @property
    def why(self) -> str:
        return show.standing(self.entry, self.document)[1]

    @property
    def route(self) -> str:
        more = f" (+{self.entry.claim.items - 1})" if self.entry.claim.items > 1 else ""
        return show.route(self.entry) + more

    @property
    def bytes(self) -> int | None:
        moved = (self.entry.receipt or self.document).get("bytes_transferred")
        return None if moved is None else int(moved)

    def facts(self) -> dict[str, object]:
        moved = None if self.bytes is None else units.human_size(self.bytes)
        return {"task": self.entry.task_id, "state": self.state, "why": self.why, "route": self.route, "moved": moved}

    def as_data(self) -> dict[str, Any]:
        return {
            **vars(self.entry.claim),
            "task_id": self.entry.task_id,
            "state": self.entry.state,
            "reported": self.entry.reported,
            "task": self.document or None,
        }


@dataclass(frozen=True, repr=False)
class Status(Described):
    """Tasks, and chains as `staging.status` describes them. `missing` is the problem of tasks that are not submitted yet,
    `silence` why Globus said nothing; `failed` are chains that ended badly a short time ago."""

    tasks: Sequence[Task]
    chains: Sequence[Mapping[str, Any]]
    damaged: Sequence[str]
    missing: TryLater | None
    silence: Problem | None
    failed: Sequence[Chain]

    @property
    def under_way(self) -> int:
        """How many tasks and chains have not ended."""
        chains = sum(each["data"]["state"] in status.UNDER_WAY for each in self.chains)
        return chains + sum(outcome.is_unfinished(each.document) for each in self.tasks if each.document)

    @property
    def news(self) -> object:
        """What differs from the last time if there is anything new: not an age."""
        chains = [(each["data"]["state"], [step["state"] for step in each["data"]["steps"]]) for each in self.chains]
        return [(each.entry.path, each.state, each.bytes, each.why) for each in self.tasks], chains

    def facts(self) -> dict[str, object]:
        note = "" if self.silence is None else f"Globus was not reached: {self.silence.cause}"
        return {"tasks": len(self.tasks), "chains": len(self.chains), "note": note}

    def _repr_html_(self) -> str:
        rows = [(each["data"]["chain"], each["data"]["state"], each["data"]["script"]) for each in self.chains]
        rows += [((each.entry.task_id or "-")[:8], each.state, each.route) for each in self.tasks]
        return html_table(("id", "state", "what"), rows) if rows else "<p>Nothing is under way.</p>"

    def as_data(self) -> dict[str, Any]:
        return {
            "submissions": [each.as_data() for each in self.tasks],
            "chains": [each["data"] for each in self.chains],
            "damaged": list(self.damaged),
        }

    def notes(self) -> Iterator[str]:
        """What a person should know beside the list, of which it is no part."""
        if self.silence is not None:
            yield (
                f"Globus was not reached: {self.silence.cause}. This is what the journal knows. Fix: {self.silence.remedy}"
            )
        for chain in self.failed:
            ago = units.human_duration(max(0.0, time.time() - (chain.ended_at or 0.0)))
            yield f"Chain {chain.id} ended with a problem {ago} ago: globuswrap show {chain.id}"


def stand(words: Sequence[str] = (), *, all_: bool = False, live: bool = True) -> Status:
    """How the tasks and chains stand that these words name; without words, all that are under way, and with `all_` also what has
    ended. `live`: ask Globus. Raises UsageProblem for a word that names nothing in the journal."""
    found = lookup.words(words, accepted=False) if words else None
    failed: list[Chain] = []
    if found is not None:
        chains = found.chains
        entries = [_in_journal(each) for each in found.named.tasks]
    else:
        open_, over = tend.recent()
        failed = [each for each in over if not all_ and each.exit_code]
        chains = [each.id for each in ([*over, *open_] if all_ else open_)]
        ours = (each for each in (journal.entries() if all_ else journal.unsettled()) if not history.is_inner(each))
        entries = sorted((each for each in ours if all_ or not each.claim.chain), key=lambda each: each.claim.created)
    documents, silence = _documents(entries) if live else ({}, None)
    if found is None and not all_:
        entries = [each for each in entries if not _ended_long_ago(documents.get(each.task_id or "", {}))]
    return Status(
        [Task(each, documents.get(each.task_id or "", {})) for each in entries],
        [status.describe(each) for each in chains],
        [str(path) for path in journal.damaged()],
        None if found is None else found.missing(),
        silence,
        failed,
    )


def _documents(entries: Sequence[Entry]) -> tuple[Mapping[str, Mapping[str, Any]], Problem | None]:
    """What Globus says of those that have no receipt, or why it says nothing."""
    running = [each.task_id for each in entries if each.task_id and each.receipt is None]
    try:
        return waiting.documents(running) if running else {}, None
    except Problem as problem:
        return {}, problem


def _ended_long_ago(task: Mapping[str, Any]) -> bool:
    ended = units.seconds_of(task.get("completion_time"))
    return ended is not None and time.time() - ended > _SHOWN_FOR


def _in_journal(task: str | Entry) -> Entry:
    if isinstance(task, str):
        raise UsageProblem("unknown-task", f"task {task} is not in the journal", f"ask Globus: globus task show {task}")
    return task
