"""Globus Transfer: what those who manage a collection see and do with the tasks of everyone on it.

Recorded in globus_sdk.testing: endpoint_manager_task_list, endpoint_manager_task_successful_transfers. Documented: advanced
collection management; the answers of pausing and canceling are assumed.
"""

from __future__ import annotations

import uuid
from typing import Any

from globus_sandbox import auth, endpoints, rights, transfer
from globus_sandbox.faults import Fault
from globus_sandbox.task import Task
from globus_sandbox.transfer import M, bad, collection_of, managed_task_of, result
from globus_sandbox.web import Call, Refusal, Routes, words

routes = Routes()
#: Those who may pause and cancel.
MANAGES = ("administrator", "activity_manager")


#: What a manager sees as null of each side of a task.
_NOT_KNOWN = words("base_path local_user host_endpoint host_endpoint_display_name host_endpoint_id host_path")


def document(state: Any, task: Task) -> dict[str, Any]:
    """A task as managers see it: beside what its owner sees, whose it is and what lies behind its collections."""
    base: dict[str, Any] = state.engine.document(task)
    base["owner_string"] = auth.known(state)[task.owner]["username"]
    for side, key in (("source", task.source), ("destination", task.destination)):
        collection = state.collections.get(key or "")
        mapped = endpoints.mapped_of(state, collection) if collection else None
        base.update(dict.fromkeys(f"{side}_{name}" for name in _NOT_KNOWN))
        base[f"{side}_local_user_status"] = "NO_PERMISSION"
        base[f"{side}_mapped_collection_id"] = mapped.id if mapped else None
        base[f"{side}_mapped_collection_display_name"] = mapped.name if mapped else None
    return base


_FILTERS = words(
    "filter_status filter_task_id filter_owner_id filter_endpoint filter_endpoint_use filter_is_paused "
    "filter_completion_time"
)


@routes("GET", M + "/task_list", query=("limit", "last_key", *_FILTERS))
def task_list(state: Any, call: Call) -> dict[str, Any]:
    """The tasks on a collection, whoever submitted them, the newest first."""
    asked = call.query
    states, ids = call.several("filter_status"), call.several("filter_task_id")
    rows = [task for task in reversed(state.engine.all()) if transfer.managed(state, call, task)]
    if asked.get("filter_endpoint"):
        collection = collection_of(state, asked["filter_endpoint"], "filter_endpoint")
        rights.require_role(state, call, collection, rights.MONITORS)
        use = asked.get("filter_endpoint_use")
        if use not in (None, "source", "destination"):
            raise bad(f"Invalid filter_endpoint_use: '{use}'")
        sides = [side for side in ("source", "destination") if use in (None, side)]
        rows = [task for task in rows if collection.id in (getattr(task, side) for side in sides)]
    elif not states and not ids:
        raise bad("filter_endpoint is required unless filter_status or filter_task_id is given")
    if states:
        rows = [task for task in rows if task.status in states]
    if ids:
        rows = [task for task in rows if task.id in ids]
    if asked.get("filter_owner_id"):
        rows = [task for task in rows if task.owner == asked["filter_owner_id"].lower()]
    if asked.get("filter_is_paused"):
        rows = [task for task in rows if (task.paused is not None) == call.flag("filter_is_paused")]
    if asked.get("filter_completion_time"):
        low, high = transfer.period(asked["filter_completion_time"].split(","))
        rows = [task for task in rows if task.completed is not None and low <= task.completed <= high]
    limit = call.integer("limit", 100, 1, 1000)
    start = next((at + 1 for at, task in enumerate(rows) if task.id == asked.get("last_key")), 0)
    shown = rows[start : start + limit]
    return {
        "DATA": [document(state, task) for task in shown],
        "DATA_TYPE": "task_list",
        "has_next_page": start + limit < len(rows),
        "last_key": shown[-1].id if shown else None,
    }


@routes("GET", M + "/task/{task}")
def task_show(state: Any, call: Call) -> dict[str, Any]:
    return document(state, managed_task_of(state, call))


@routes("GET", M + "/task/{task}/event_list", query=("limit", "offset", "filter_is_error"))
def event_list(state: Any, call: Call) -> dict[str, Any]:
    rows = state.engine.events(managed_task_of(state, call))
    if call.flag("filter_is_error"):
        rows = [row for row in rows if row["is_error"]]
    return transfer.listed(call, rows, "event_list")


def _tasks(state: Any, call: Call) -> list[Task]:
    """The tasks that a body names. Raises Refusal unless the caller may pause and cancel each of them."""
    found = []
    for key in call.body.get("task_id_list") or ():
        call.params["task"] = str(key)
        found.append(managed_task_of(state, call, MANAGES))
    return found


@routes("POST", M + "/admin_cancel", body=("task_id_list", "message"))
def admin_cancel(state: Any, call: Call) -> dict[str, Any]:
    message = str(call.body.get("message") or "")
    for task in _tasks(state, call):
        state.engine.cancel(task, by=("SOURCE", message))
    return {"DATA_TYPE": "admin_cancel", "id": str(uuid.uuid4()), "done": True}


@routes("POST", M + "/admin_pause", body=("task_id_list", "message"))
def admin_pause(state: Any, call: Call) -> dict[str, Any]:
    message = str(call.body.get("message") or "")
    for task in _tasks(state, call):
        state.faults.add({"kind": "pause-task", "task": task.id, "message": message})
    state.engine.wake()
    return result(call, "PauseAccepted", "The tasks are paused")


@routes("POST", M + "/admin_resume", body=("task_id_list",))
def admin_resume(state: Any, call: Call) -> dict[str, Any]:
    resumed = {task.id for task in _tasks(state, call)}
    for fault in state.faults.all():
        if fault.kind == "pause-task" and fault.with_.get("task") in resumed:
            state.faults.clear(fault.id)
    state.engine.wake()
    return result(call, "ResumeAccepted", "The tasks are resumed")


@routes("GET", M + "/pause_rule_list", query=("filter_endpoint",))
def pause_rule_list(state: Any, call: Call) -> dict[str, Any]:
    wanted = call.query.get("filter_endpoint")
    rows = []
    for fault in state.faults.all():
        collection = state.faults.collection_of(fault) if fault.kind == "paused" else None
        if collection is None or wanted not in (None, collection.id):
            continue
        if rights.has_role(state, collection, call.identity, rights.MONITORS):
            rows.append(transfer.pause_rule(state, fault, collection))
    return {"DATA_TYPE": "pause_rule_list", "DATA": rows}


@routes("POST", M + "/pause_rule", body=words("DATA_TYPE message endpoint_id"))
def pause_rule_create(state: Any, call: Call) -> dict[str, Any]:
    """Everything on the collection is paused; rules for one kind of work, or one user, are not served."""
    body = call.body
    collection = collection_of(state, str(body.get("endpoint_id")))
    rights.require_role(state, call, collection, MANAGES)
    fault: Fault = state.faults.add(
        {"kind": "paused", "collection": collection.id, "message": str(body.get("message") or "")}
    )
    state.engine.wake()
    return transfer.pause_rule(state, fault, collection)


@routes("DELETE", M + "/pause_rule/{rule}")
def pause_rule_delete(state: Any, call: Call) -> dict[str, Any]:
    for fault in state.faults.all():
        collection = state.faults.collection_of(fault) if fault.id == call.params["rule"] else None
        if collection is not None:
            rights.require_role(state, call, collection, MANAGES)
            state.faults.clear(fault.id)
            state.engine.wake()
            return result(call, "Deleted", "Pause rule deleted successfully")
    raise Refusal(404, "PauseRuleNotFound", f"No pause rule '{call.params['rule']}'")
