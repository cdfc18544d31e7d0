"""Globus Search: indices, ingest tasks, a simple query, visibility.

A query finds the entries in whose subject or content all its words occur; the query language beyond words is not
understood. Ingest tasks go through the statuses of a document of kind "search-script" ("*" or the index: `{"states": [...]}`).
Recorded in globus_sdk.testing: create_index, search, post_search, index_list and errors.
"""

from __future__ import annotations

import json
import uuid
from typing import Any

from globus_sandbox import auth
from globus_sandbox.documents import spaced
from globus_sandbox.groups import groups_of
from globus_sandbox.web import Call, Refusal, Reply, Routes, Unknown

routes = Routes("search")

#: Bytes of one ingest document (documented).
LIMIT = 10_000_000


def index_of(state: Any, key: str) -> dict[str, Any]:
    found = state.documents.get("index", key.lower())
    if found is None:
        raise Refusal(404, "NotFound.Generic", f'There is no search index named "{key}"')
    return dict(found)


@routes("POST", "/v1/index", body=("display_name", "description"))
def create(state: Any, call: Call) -> dict[str, Any]:
    body = call.body or {}
    index = {
        "@datatype": "GSearchIndex",
        "@version": "2017-09-01",
        "creation_date": spaced(state.clock.now())[:19],
        "display_name": body.get("display_name", ""),
        "description": body.get("description", ""),
        "id": str(uuid.uuid4()),
        "is_trial": True,
        "subscription_id": None,
        "max_size_in_mb": 1,
        "num_entries": 0,
        "num_subjects": 0,
        "size_in_mb": 0,
        "status": "open",
    }
    state.documents.put("index", index["id"], index)
    return index


def entries_of(state: Any, index: str) -> list[dict[str, Any]]:
    return [each for each in state.documents.all("entry") if each["index"] == index]


@routes("GET", "/v1/index/{index}")
def show(state: Any, call: Call) -> dict[str, Any]:
    index = index_of(state, call.params["index"])
    rows = entries_of(state, index["id"])
    return {**index, "num_entries": len(rows), "num_subjects": len({each["subject"] for each in rows})}


@routes("GET", "/v1/index_list")
def listed(state: Any, call: Call) -> dict[str, Any]:
    return {"index_list": [{**index, "permissions": ["owner"]} for index in state.documents.all("index")]}


def checked_entry(entry: Any, at: int) -> dict[str, Any]:
    """One GMetaEntry. Raises Refusal as the service does: at once, not in the task."""
    if (
        not isinstance(entry, dict)
        or not isinstance(entry.get("subject"), str)
        or not isinstance(entry.get("content"), dict)
    ):
        raise Refusal(400, "BadRequest.ValidationError", f"entry {at}: subject and content are required")
    unknown = set(entry) - {"subject", "content", "visible_to", "id", "@datatype", "@version"}
    if unknown:
        raise Unknown(f"field '{min(unknown)}' of a GMetaEntry")
    seen = entry.get("visible_to")
    if not isinstance(seen, list) or not seen:
        raise Refusal(400, "BadRequest.ValidationError", f"entry {at}: visible_to is required")
    for principal in seen:
        if principal not in ("public", "all_authenticated_users") and not str(principal).startswith(
            ("urn:globus:auth:identity:", "urn:globus:groups:id:")
        ):
            raise Refusal(400, "BadRequest.ValidationError", f"entry {at}: visible_to: '{principal}'")
    return entry


@routes("POST", "/v1/index/{index}/ingest", body=("@datatype", "@version", "ingest_type", "ingest_data"))
def ingest(state: Any, call: Call) -> Reply:
    index = index_of(state, call.params["index"])
    body = call.body or {}
    data = body.get("ingest_data") or {}
    if len(json.dumps(body)) > LIMIT:
        raise Refusal(413, "RequestEntityTooLarge", "The document is larger than 10 MB")
    rows = data.get("gmeta") if body.get("ingest_type") == "GMetaList" else [data]
    if not isinstance(rows, list) or not rows:
        raise Refusal(400, "BadRequest.ValidationError", "no entries")
    entries = [checked_entry(row, at) for at, row in enumerate(rows)]
    script = state.documents.get("search-script", index["id"]) or state.documents.get("search-script", "*") or {}
    states = list(script.get("states") or ["SUCCESS"])
    task = {
        "task_id": str(uuid.uuid4()),
        "index_id": index["id"],
        "task_type": "INGEST",
        "state": "PENDING",
        "state_description": "Task pending",
        "message": None,
        "creation_date": spaced(state.clock.now()),
        "completion_date": None,
    }
    state.documents.put("search-task", task["task_id"], {"task": task, "states": states, "entries": entries})
    return Reply(
        {
            "acknowledged": True,
            "success": True,
            "num_documents_ingested": 0,
            "task_id": task["task_id"],
        },
        202,
    )


@routes("GET", "/v1/task/{task}")
def task_show(state: Any, call: Call) -> dict[str, Any]:
    record = state.documents.get("search-task", call.params["task"].lower())
    if record is None:
        raise Refusal(404, "NotFound.Generic", f"No task {call.params['task']}")
    task = dict(record["task"])
    if record["states"] and task["state"] not in ("SUCCESS", "FAILED"):
        task["state"] = record["states"][0]
        task["state_description"] = f"Task {task['state'].lower()}"
        if task["state"] in ("SUCCESS", "FAILED"):
            task["completion_date"] = spaced(state.clock.now())
        if task["state"] == "SUCCESS":
            for entry in record["entries"]:
                key = json.dumps([task["index_id"], entry["subject"], entry.get("id")])
                state.documents.put("entry", key, {"index": task["index_id"], **entry})
        elif task["state"] == "FAILED":
            task["message"] = "Could not ingest"
        state.documents.put("search-task", task["task_id"], {**record, "task": task, "states": record["states"][1:]})
    return task


@routes("GET", "/v1/task_list/{index}")
def task_list(state: Any, call: Call) -> dict[str, Any]:
    rows = [
        each["task"] for each in state.documents.all("search-task") if each["task"]["index_id"] == call.params["index"]
    ]
    return {"tasks": list(reversed(rows))}


def found(state: Any, call: Call, words: str, limit: int, offset: int, *, all_: bool) -> dict[str, Any]:
    index = index_of(state, call.params["index"])
    mine = {"public", "all_authenticated_users", f"urn:globus:auth:identity:{call.identity}"}
    mine |= {f"urn:globus:groups:id:{group['id']}" for group in groups_of(state, call.identity or auth.USER)}
    hits: dict[str, list[dict[str, Any]]] = {}
    for entry in entries_of(state, index["id"]):
        text = f"{entry['subject']} {json.dumps(entry['content'], ensure_ascii=False)}".lower()
        if not all_ and not mine & set(entry["visible_to"]):
            continue
        if words.strip() in ("", "*") or all(word.lower() in text for word in words.split()):
            hits.setdefault(entry["subject"], []).append(entry)
    rows = [
        {
            "@datatype": "GMetaResult",
            "@version": "2019-08-27",
            "entries": [
                {"content": each["content"], "entry_id": each.get("id"), "matched_principal_sets": []}
                for each in entries
            ],
            "subject": subject,
        }
        for subject, entries in hits.items()
    ]
    shown = rows[offset : offset + limit]
    return {
        "@datatype": "GSearchResult",
        "@version": "2017-09-01",
        "count": len(shown),
        "gmeta": shown,
        "has_next_page": offset + limit < len(rows),
        "offset": offset,
        "total": len(rows),
    }


def _yes(value: object) -> bool:
    return str(value).lower() in ("1", "true")


@routes("GET", "/v1/index/{index}/search", query=("q", "limit", "offset", "advanced", "bypass_visible_to"))
def search(state: Any, call: Call) -> dict[str, Any]:
    limit, offset = call.integer("limit", 10, 1, 10_000), call.integer("offset", 0, 0, 10_000)
    return found(state, call, call.query.get("q", ""), limit, offset, all_=_yes(call.query.get("bypass_visible_to")))


@routes(
    "POST",
    "/v1/index/{index}/search",
    body=("q", "limit", "offset", "advanced", "bypass_visible_to", "@datatype", "@version"),
)
def post_search(state: Any, call: Call) -> dict[str, Any]:
    body = call.body or {}
    limit, offset = int(body.get("limit", 10)), int(body.get("offset", 0))
    return found(state, call, str(body.get("q", "*")), limit, offset, all_=_yes(body.get("bypass_visible_to")))


@routes("GET", "/v1/index/{index}/subject", query=("subject",))
def subject(state: Any, call: Call) -> dict[str, Any]:
    wanted = call.query.get("subject", "")
    result = found(state, call, "*", 10_000, 0, all_=False)
    for row in result["gmeta"]:
        if row["subject"] == wanted:
            return dict(row)
    raise Refusal(404, "NotFound.Generic", f'There is no subject "{wanted}"')
