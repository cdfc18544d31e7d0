"""Cancel the tasks and chains that ids or keys name."""

from __future__ import annotations

from typing import Any

from globuswrap.globus import verbs
from globuswrap.staging import status
from globuswrap.staging.chain import tend
from globuswrap.transfers.journal import Entry
from globuswrap.underway.lookup import LookupResult


def cancel(found: LookupResult, *, dry_run: bool = False) -> list[dict[str, Any]]:
    """Cancel what has not ended of it; for each task and chain a document with its id and a message. Of a chain, jobs and tasks
    are canceled. With `dry_run` nothing is."""
    chains = [_chain(each, dry_run) for each in found.chains]
    return chains + [_task(each, dry_run) for each in found.named.submitted]


def _task(task: str | Entry, dry_run: bool) -> dict[str, Any]:
    task_id = task if isinstance(task, str) else str(task.task_id)
    if dry_run:
        over = not isinstance(task, str) and task.receipt is not None
        return {"task_id": task_id, "message": "has ended" if over else "would be canceled, if it has not ended"}
    answer = verbs.cancel_task(task_id)
    return {"task_id": task_id, "code": answer.get("code"), "message": answer.get("message")}


def _chain(chain_id: str, dry_run: bool) -> dict[str, Any]:
    if not dry_run:
        tend.cancel(chain_id)
    stands = status.describe(chain_id)["data"]
    if stands["state"] not in status.UNDER_WAY:
        return {"chain": chain_id, "message": stands["state"]}
    jobs = ", ".join(stands["jobs"].values())
    return {"chain": chain_id, "message": f"would be canceled, with its jobs: {jobs}" if dry_run else "ending"}
