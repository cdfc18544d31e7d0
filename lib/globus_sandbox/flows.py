"""Globus Flows: definitions are kept, inputs are checked, runs go through the states a script gives them.

Nothing of a flow is executed. A run answers each look with the next status of its script, and stays in the last. The script
is a document of kind "flow-script" with the flow's id, or "*": `{"states": ["ACTIVE", "SUCCEEDED"], "code": ...,
"description": ...}`.
Recorded in globus_sdk.testing: create_flow, get_flow, update_flow, delete_flow, list_flows, run_flow, get_run, get_run_logs,
list_runs, cancel_run, and errors.
"""

from __future__ import annotations

import re
import uuid
from typing import Any

from globus_sandbox import auth
from globus_sandbox.documents import iso
from globus_sandbox.web import Call, Refusal, Reply, Routes

routes = Routes("flows")

_LISTS = ("flow_viewers", "flow_starters", "flow_administrators", "keywords", "run_managers", "run_monitors")
_FIELDS = ("title", "definition", "input_schema", "subtitle", "description", *_LISTS)
_MORE = ("subscription_id", "authentication_policy_id", "flow_owner")
#: What each list of principals may hold besides identities and groups (flows documentation, "Roles").
_EVERYONE = {"flow_viewers": ("public",), "flow_starters": ("all_authenticated_users",)}
_URN = re.compile(r"urn:globus:(auth:identity|groups:id):[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)
STATUSES = ("ACTIVE", "INACTIVE", "SUCCEEDED", "FAILED")


def urn(identity: str) -> str:
    return f"urn:globus:auth:identity:{identity}"


def unprocessable(where: list[Any], message: str) -> Refusal:
    detail = [{"loc": where, "msg": message, "type": "value_error"}]
    return Refusal(422, "UNPROCESSABLE_ENTITY", message, {"detail": detail})


def flow_of(state: Any, key: str) -> dict[str, Any]:
    found = state.documents.get("flow", key.lower())
    if found is None:
        raise Refusal(404, "NOT_FOUND", f"No Flow exists with id value {key}")
    return dict(found)


def checked(body: dict[str, Any]) -> dict[str, Any]:
    """The fields of a flow. Raises Refusal with 422 as the service does."""
    for name in ("title", "subtitle", "description"):
        if name in body and not isinstance(body[name], str):
            raise unprocessable([name], "str type expected")
    if "title" in body and not 1 <= len(body["title"]) <= 128:
        raise unprocessable(["title"], "ensure this value has at least 1 and at most 128 characters")
    for name in ("flow_viewers", "flow_starters", "flow_administrators", "run_managers", "run_monitors"):
        for at, principal in enumerate(body.get(name) or ()):
            if principal not in _EVERYONE.get(name, ()) and not _URN.fullmatch(str(principal)):
                raise unprocessable([name, at], f'Unrecognized principal string: "{principal}".')
    if "definition" in body:
        check_definition(body["definition"])
    if not isinstance(body.get("input_schema", {}), dict):
        raise unprocessable(["input_schema"], "value is not a valid dict")
    return {name: body[name] for name in (*_FIELDS, *_MORE) if name in body}


def check_definition(definition: Any) -> None:
    states = definition.get("States") if isinstance(definition, dict) else None
    if not isinstance(states, dict) or not states:
        raise unprocessable(["definition", "States"], "field required")
    if definition.get("StartAt") not in states:
        raise unprocessable(["definition", "StartAt"], "StartAt must name a state")
    for name, state in states.items():
        followers = [state.get("Next"), state.get("Default")]
        followers += [choice.get("Next") for choice in state.get("Choices") or ()]
        followers += [catch.get("Next") for catch in state.get("Catch") or ()]
        for follower in followers:
            if follower is not None and follower not in states:
                raise unprocessable(["definition", "States", name], f"there is no state {follower!r}")


@routes("POST", "/flows", body=(*_FIELDS, *_MORE))
def create(state: Any, call: Call) -> Reply:
    body = call.body or {}
    for name in ("title", "definition", "input_schema"):
        if name not in body:
            raise unprocessable([name], "field required")
    given = checked(body)
    key, now = str(uuid.uuid4()), state.clock.now()
    scope = auth.scope_of(key)
    flow = {
        "id": key,
        "definition": given["definition"],
        "input_schema": given["input_schema"],
        "globus_auth_scope": scope,
        "synchronous": False,
        "log_supported": True,
        "types": sorted({str(one.get("Type")) for one in given["definition"]["States"].values()}),
        "api_version": "1.0",
        "title": given["title"],
        "subtitle": given.get("subtitle", ""),
        "description": given.get("description", ""),
        "keywords": list(given.get("keywords") or ()),
        "principal_urn": urn(key),
        "globus_auth_username": f"{key}@clients.auth.globus.org",
        "created_at": iso(now),
        "updated_at": iso(now),
        "user_role": "flow_owner",
        "created_by": urn(call.identity or ""),
        "visible_to": [],
        "runnable_by": [],
        "administered_by": [],
        "action_url": f"{state.url}/flows/flows/{key}",
        "flow_url": f"{state.url}/flows/flows/{key}",
        "flow_owner": urn(call.identity or ""),
        **{name: list(given.get(name) or ()) for name in _LISTS if name != "keywords"},
        "subscription_id": given.get("subscription_id"),
        "authentication_policy_id": given.get("authentication_policy_id"),
    }
    state.documents.put("flow", key, flow)
    return Reply(flow, 201)


@routes(
    "GET",
    "/flows",
    query=("filter_role", "filter_roles", "filter_fulltext", "orderby", "marker", "per_page", "filter_public"),
)
def listed(state: Any, call: Call) -> dict[str, Any]:
    words = call.query.get("filter_fulltext", "").lower().split()
    rows = [
        {name: value for name, value in flow.items() if name not in ("definition", "input_schema")}
        for flow in state.documents.all("flow")
        if all(word in f"{flow['title']} {flow['subtitle']} {flow['description']}".lower() for word in words)
    ]
    return {"flows": rows, "limit": 100, "has_next_page": False, "marker": None}


@routes("POST", "/flows/validate", body=("definition", "input_schema"))
def validate(state: Any, call: Call) -> dict[str, Any]:
    body = call.body or {}
    check_definition(body.get("definition"))
    return {"scopes": {"User": [], "Flow": []}, "analysis": {"number_of_possibilities": 1}}


@routes("GET", "/flows/{flow}")
def show(state: Any, call: Call) -> dict[str, Any]:
    return flow_of(state, call.params["flow"])


@routes("PUT", "/flows/{flow}", body=(*_FIELDS, *_MORE))
def update(state: Any, call: Call) -> dict[str, Any]:
    flow = {**flow_of(state, call.params["flow"]), **checked(call.body or {}), "updated_at": iso(state.clock.now())}
    state.documents.put("flow", flow["id"], flow)
    return flow


@routes("DELETE", "/flows/{flow}")
def delete(state: Any, call: Call) -> dict[str, Any]:
    flow = flow_of(state, call.params["flow"])
    state.documents.remove("flow", flow["id"])
    return {**flow, "DELETED": True, "deleted_at": iso(state.clock.now())}


# runs


@routes(
    "POST",
    "/flows/{flow}/run",
    body=("body", "label", "tags", "run_managers", "run_monitors", "activity_notification_policy"),
)
def start(state: Any, call: Call) -> Reply:
    flow = flow_of(state, call.params["flow"])
    body = call.body or {}
    given = body.get("body")
    if not isinstance(given, dict):
        raise unprocessable(["body"], "field required")
    check_input(flow["input_schema"], given)
    key, now = str(uuid.uuid4()), state.clock.now()
    script = state.documents.get("flow-script", flow["id"]) or state.documents.get("flow-script", "*") or {}
    run = {
        "run_id": key,
        "action_id": key,
        "flow_id": flow["id"],
        "flow_title": flow["title"],
        "flow_last_updated": flow["updated_at"],
        "start_time": iso(now),
        "completion_time": None,
        "status": "ACTIVE",
        "display_status": "ACTIVE",
        "details": {
            "code": "FlowStarting",
            "description": "The Flow is starting execution",
            "details": {"input": given},
        },
        "created_by": urn(call.identity or ""),
        "run_owner": urn(call.identity or ""),
        "run_managers": list(body.get("run_managers") or ()),
        "run_monitors": list(body.get("run_monitors") or ()),
        "manage_by": list(body.get("run_managers") or ()),
        "monitor_by": list(body.get("run_monitors") or ()),
        "user_role": "run_owner",
        "label": body.get("label"),
        "tags": list(body.get("tags") or ()),
    }
    log = [
        {
            "time": iso(now),
            "code": "FlowStarted",
            "description": "The Flow Instance started execution",
            "details": {"input": given},
        }
    ]
    state.documents.put(
        "run", key, {"run": run, "states": list(script.get("states") or ["SUCCEEDED"]), "script": script, "log": log}
    )
    return Reply(run, 201)


def check_input(schema: dict[str, Any], given: dict[str, Any]) -> None:
    """Raises Refusal when the input does not fit; where jsonschema is not installed, required fields are all that is checked."""
    try:
        import jsonschema
    except ImportError:
        missing = [name for name in schema.get("required") or () if name not in given]
        if missing:
            raise unprocessable([missing[0]], f"'{missing[0]}' is a required property") from None
        return
    error = next(jsonschema.Draft7Validator(schema).iter_errors(given), None)
    if error is not None:
        raise unprocessable(["body", *error.absolute_path], str(error.message))


def run_of(state: Any, key: str) -> dict[str, Any]:
    found = state.documents.get("run", key.lower())
    if found is None:
        raise Refusal(404, "NOT_FOUND", f"No Run exists with id value {key}")
    return dict(found)


def looked_at(state: Any, key: str) -> dict[str, Any]:
    """The run after one more step of its script."""
    record = run_of(state, key)
    run = dict(record["run"])
    if record["states"] and run["status"] in ("ACTIVE", "INACTIVE"):
        status = str(record["states"][0])
        run.update(status=status, display_status=status)
        script, ended = record["script"], status in ("SUCCEEDED", "FAILED")
        if ended:
            run["completion_time"] = iso(state.clock.now())
        code = (
            script.get("code")
            if len(record["states"]) == 1 and script.get("code")
            else _CODES.get(status, "FlowRunning")
        )
        described = (
            script.get("description") if len(record["states"]) == 1 and script.get("description") else _WORDS[status]
        )
        run["details"] = {"code": code, "description": described, "details": dict(script.get("details") or {})}
        entry: dict[str, Any] = {"time": iso(state.clock.now()), "code": code, "description": described, "details": {}}
        record = {**record, "run": run, "states": record["states"][1:], "log": [*record["log"], entry]}
        state.documents.put("run", run["run_id"], record)
    return run


_CODES = {"SUCCEEDED": "FlowSucceeded", "FAILED": "FlowFailed", "INACTIVE": "FlowInactive", "ACTIVE": "FlowRunning"}
_WORDS = {
    "SUCCEEDED": "The Flow run reached a successful completion state",
    "FAILED": "The Flow run failed",
    "INACTIVE": "The Flow run needs attention",
    "ACTIVE": "The Flow run is in progress",
}


@routes("GET", "/runs", query=("filter_flow_id", "filter_roles", "filter_role", "marker", "orderby", "per_page"))
def runs(state: Any, call: Call) -> dict[str, Any]:
    wanted = [part for name, value in call.queries if name == "filter_flow_id" for part in value.split(",")]
    rows = [each["run"] for each in state.documents.all("run")]
    rows = [run for run in reversed(rows) if not wanted or run["flow_id"] in wanted]
    return {"runs": rows, "limit": 25, "has_next_page": False, "marker": None}


@routes("GET", "/runs/{run}", query=("include_flow_description",))
def run_show(state: Any, call: Call) -> dict[str, Any]:
    run = looked_at(state, call.params["run"])
    if call.query.get("include_flow_description", "").lower() != "true":
        return run
    flow = flow_of(state, run["flow_id"])
    names: tuple[str, ...] = (
        "created_at",
        "created_by",
        "description",
        "flow_owner",
        "globus_auth_scope",
        "id",
        "keywords",
    )
    names += ("subtitle", "title", "updated_at")
    return {**run, "flow_description": {name: flow[name] for name in names}}


@routes("GET", "/runs/{run}/definition")
def run_definition(state: Any, call: Call) -> dict[str, Any]:
    run = run_of(state, call.params["run"])["run"]
    flow = flow_of(state, run["flow_id"])
    return {"flow_id": flow["id"], "definition": flow["definition"], "input_schema": flow["input_schema"]}


@routes("GET", "/runs/{run}/log", query=("limit", "reverse_order", "marker"))
def run_log(state: Any, call: Call) -> dict[str, Any]:
    entries = list(run_of(state, call.params["run"])["log"])
    if call.query.get("reverse_order", "").lower() == "true":
        entries.reverse()
    return {"limit": call.integer("limit", 10), "has_next_page": False, "entries": entries}


@routes("POST", "/runs/{run}/cancel", body=())
def run_cancel(state: Any, call: Call) -> dict[str, Any]:
    record = run_of(state, call.params["run"])
    run = dict(record["run"])
    if run["status"] in ("ACTIVE", "INACTIVE"):
        run.update(status="FAILED", display_status="FAILED", completion_time=iso(state.clock.now()))
        run["details"] = {
            "time": iso(state.clock.now()),
            "code": "FlowCanceled",
            "description": "The Flow Instance was canceled by the user",
            "details": {},
        }
        state.documents.put("run", run["run_id"], {**record, "run": run, "states": []})
    return run
