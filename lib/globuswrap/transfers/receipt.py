"""Write the receipt of a finished task: one JSON document, next to the journal entry and wherever `--receipt` says.

Documented in docs/transfers.md; a field is never renamed or removed without a new schema number.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from globuswrap.globus import queries

SCHEMA = "globuswrap.receipt/1"


def build(
    task: Mapping[str, Any],
    outcome: str,
    cause: str,
    *,
    submission: Mapping[str, Any] | None,
    events: Sequence[Mapping[str, Any]] = (),
    skipped: Sequence[Mapping[str, Any]] | None = None,
    files: Sequence[Mapping[str, Any]] | None = None,
) -> dict[str, Any]:
    """A receipt from a task document and what was asked about it; pure.

    Bytes are bytes, times are as Globus gives them (UTC, ISO 8601), `rate` is bytes per second. `skipped` is None if the
    list could not be read; `files` is None unless it was asked for.
    """
    task_id = task.get("task_id")
    return {
        "schema": SCHEMA,
        "outcome": outcome,
        "cause": cause,
        "task_id": task_id,
        "web": queries.WEBAPP.format(task_id=task_id),
        "submission": dict(submission) if submission is not None else None,
        "kind": str(task.get("type", "")).lower() or None,
        "label": task.get("label"),
        "source": task.get("source_endpoint_id"),
        "destination": task.get("destination_endpoint_id"),
        "status": task.get("status"),
        "fatal_error": task.get("fatal_error"),
        "files": task.get("files"),
        "files_transferred": task.get("files_transferred"),
        "files_skipped": task.get("files_skipped"),
        "directories": task.get("directories"),
        "bytes_transferred": task.get("bytes_transferred"),
        "bytes_checksummed": task.get("bytes_checksummed"),
        "rate": task.get("effective_bytes_per_second"),
        "faults": task.get("faults"),
        "skipped_errors": task.get("subtasks_skipped_errors"),
        "skipped": None if skipped is None else list(skipped),
        "sync_level": task.get("sync_level"),
        "verify_checksum": task.get("verify_checksum"),
        "preserve_timestamp": task.get("preserve_timestamp"),
        "filter_rules": list(task["filter_rules"] or ()) if "filter_rules" in task else None,
        "requested": task.get("request_time"),
        "completed": task.get("completion_time"),
        "events": list(events),
        "files_list": None if files is None else list(files),
    }
