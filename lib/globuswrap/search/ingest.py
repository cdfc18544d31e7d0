"""Send entries to an index, wait until they are indexed, and query it.

Ingest has no submission id and needs none: an entry replaces the one with its subject and id, so sending again changes nothing.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from globuswrap.errors import Refused, TryLater
from globuswrap.globus import arguments, verbs
from globuswrap.search import entries as made
from globuswrap.system import log
from globuswrap.system.pacing import Pace


@dataclass(frozen=True)
class Ingested:
    """A batch that was sent: its task, how many entries, and the task's state (`PENDING` if it was not waited for)."""

    task_id: str
    entries: int
    state: str


def ingest(
    index: str, entries: Iterable[Mapping[str, Any]], *, wait: bool, timeout: float | None, poll: float
) -> list[Ingested]:
    """Send all entries, in batches, and wait for their tasks. `timeout` is seconds over all of them.

    Every entry is looked at before the first is sent. Raises Refused for a task that failed, TryLater at the timeout.
    """
    batches = [(len(batch), json.dumps(made.document(batch)).encode()) for batch in made.batches(entries)]
    sent = []
    for count, body in batches:
        answer = verbs.send("search", "ingest", index, "-", stdin=body)
        task_id = answer.get("task_id") if isinstance(answer, dict) else None
        if not isinstance(task_id, str) or not answer.get("acknowledged"):
            raise Refused("odd-answer", "Globus Search did not acknowledge the entries", "rerun the command")
        sent.append(Ingested(task_id, count, "PENDING"))
    if not wait:
        return sent
    pace = Pace(poll, timeout, first=0.5)
    return [Ingested(each.task_id, each.entries, _ended(each.task_id, pace)) for each in sent]


def _ended(task_id: str, pace: Pace) -> str:
    pace.news()
    while True:
        task = verbs.search_task(task_id)
        state = str(task.get("state"))
        if state == "SUCCESS":
            return state
        show = f"see: globus search task show {task_id}"
        if state == "FAILED":
            raise Refused("ingest-failed", f"ingest task {task_id} failed: {task.get('message')}", show)
        if state not in ("PENDING", "PROGRESS"):
            raise Refused("unknown-status", f"ingest task {task_id} has the unknown state {state!r}", show)
        if pace.over:
            raise TryLater("ingest-running", f"ingest task {task_id} is still {state}", show)
        log.set_activity(f"ingest task {task_id} is {state}")
        pace.rest()


def query(index: str, text: str | None, document: bytes | None, *, limit: int | None, advanced: bool) -> dict[str, Any]:
    """Ask an index, by words or by a request document; the answer as the service gives it."""
    argv = (
        *("search", "query", index),
        *arguments.option("limit", limit),
        *arguments.switch("advanced", advanced),
        *(("-q", text) if text is not None else ()),
        *(("--query-document", "-") if document is not None else ()),
    )
    answer = verbs.send(*argv, stdin=document)
    if not isinstance(answer, dict) or "gmeta" not in answer:
        raise Refused("odd-answer", "Globus Search returned no result", f"globus search query {index}")
    return answer
