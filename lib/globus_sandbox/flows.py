"""Globus Flows: definitions are kept, inputs are checked, runs go through the states a script gives them.

A run is carried out, state by state, when it is looked at (flow_states), unless it has a script with `states`: then it answers
each look with the next status, and stays in the last. The script is a document of kind "flow-script" with the flow's id, or "*":
`{"states": ["ACTIVE", "SUCCEEDED"], "code": ..., "description": ...}`.
Recorded in globus_sdk.testing: create_flow, get_flow, update_flow, delete_flow, list_flows, run_flow, get_run, get_run_logs,
list_runs, cancel_run, and errors.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from typing import Any

from globus_sandbox import auth, flow_states
from globus_sandbox.documents import iso
from globus_sandbox.groups import urns_of
from globus_sandbox.web import Call, Refusal, Reply, Routes, ordered, words

routes = Routes()

_LISTS = ("flow_viewers", "flow_starters", "flow_administrators", "keywords", "run_managers", "run_monitors")
_FIELDS = ("title", "definition", "input_schema", "subtitle", "description", *_LISTS)
_MORE = ("subscription_id", "authentication_policy_id", "flow_owner")
#: What each list of principals may hold besides identities and groups (flows documentation, "Roles").
_EVERYONE = {"flow_viewers": ("public",), "flow_starters": ("all_authenticated_users",)}
#: States that go on to another one, or end the flow.
_MOVING = ("Action", "Pass", "Wait", "ExpressionEval")


def unprocessable(where: list[Any], message: str, more: dict[str, str] | None = None) -> Refusal:
    detail = [{"loc": where, "msg": message, "type": "value_error"}]
    return Refusal(422, "UNPROCESSABLE_ENTITY", message, {"detail": detail, **(more or {})})


#: What each role on a flow may do; the owner may do everything (flows documentation, "Roles").
_ADMINISTRATORS = ("flow_owner", "flow_administrators")
_STARTERS = (*_ADMINISTRATORS, "flow_starters")
_VIEWERS = (*_STARTERS, "flow_viewers")


def _may(state: Any, call: Call, document: dict[str, Any], roles: Iterable[str]) -> bool:
    """Whether the caller has one of these roles; whoever put a document without an owner, the sandbox's owner has it."""
    holders = {name: document.get(name) or () for name in roles}
    for name in holders:
        if name.endswith("_owner"):
            holders[name] = [document.get(name, auth.urn(state.owner))]
    held = urns_of(state, call.identity)
    return any(one in held for holder in holders.values() for one in holder)


def _checked(
    state: Any, call: Call, what: str, found: dict[str, Any] | None, key: str, roles: tuple[str, ...]
) -> dict[str, Any]:
    """What was found, if the caller has one of these roles. Raises Refusal (404; that it is 403 without a role is assumed)."""
    if found is None:
        raise Refusal(404, "NOT_FOUND", f"No {what} exists with id value {key}")
    if not _may(state, call, found, roles):
        raise Refusal(403, "FORBIDDEN", f"You do not have permission to perform this action on the {what}")
    return found


def flow_of(state: Any, call: Call, roles: tuple[str, ...]) -> dict[str, Any]:
    """The flow of a path. Raises Refusal."""
    key = call.params["flow"]
    return dict(_checked(state, call, "Flow", state.documents.get("flow", key.lower()), key, roles))


def check_principals(body: dict[str, Any], names: Iterable[str]) -> None:
    """Raises Refusal for who is neither an identity nor a group, nor everybody where that may be."""
    for name in names:
        for at, principal in enumerate(body.get(name) or ()):
            if principal not in _EVERYONE.get(name, ()) and not auth.PRINCIPAL.fullmatch(str(principal)):
                raise unprocessable([name, at], f'Unrecognized principal string: "{principal}".')


def checked(body: dict[str, Any]) -> dict[str, Any]:
    """The fields of a flow. Raises Refusal with 422 as the service does."""
    for name in ("title", "subtitle", "description"):
        if name in body and not isinstance(body[name], str):
            raise unprocessable([name], "str type expected")
    if "title" in body and not 1 <= len(body["title"]) <= 128:
        raise unprocessable(["title"], "ensure this value has at least 1 and at most 128 characters")
    check_principals(body, (name for name in _LISTS if name != "keywords"))
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
        if state.get("Type") in _MOVING and not (state.get("End") or state.get("Next")):
            message = (
                f"A state of type '{state['Type']}' must be defined as either terminal (\"End\": true) or transitional "
                '("Next": "NextStateId")'
            )
            place = f"$.definition.States.{name}"
            said = {"message": f"1 validation error in body. {place}: {message}"}
            raise unprocessable(["definition", "States", name], message, said)
        branches = (state, *(state.get("Choices") or ()), *(state.get("Catch") or ()))
        for follower in (state.get("Default"), *(one.get("Next") for one in branches)):
            if follower is not None and follower not in states:
                raise unprocessable(["definition", "States", name], f"there is no state {follower!r}")


@routes("POST", "/flows", body=(*_FIELDS, *_MORE))
def create(state: Any, call: Call) -> Reply:
    body = call.body
    for name in ("title", "definition", "input_schema"):
        if name not in body:
            raise unprocessable([name], "field required")
    given = checked(body)
    key, now = str(uuid.uuid4()), iso(state.clock.now())
    flow = {
        "id": key,
        "definition": given["definition"],
        "input_schema": given["input_schema"],
        "globus_auth_scope": auth.scope_of(key),
        "synchronous": False,
        "log_supported": True,
        "types": sorted({str(one.get("Type")) for one in given["definition"]["States"].values()}),
        "api_version": "1.0",
        "title": given["title"],
        "subtitle": given.get("subtitle", ""),
        "description": given.get("description", ""),
        "principal_urn": auth.urn(key),
        "globus_auth_username": f"{key}@clients.auth.globus.org",
        "user_role": "flow_owner",
        **dict.fromkeys(("created_at", "updated_at"), now),
        **dict.fromkeys(("created_by", "flow_owner"), auth.urn(call.identity)),
        **dict.fromkeys(("action_url", "flow_url"), f"{state.url}/flows/flows/{key}"),
        **{name: [] for name in ("visible_to", "runnable_by", "administered_by")},
        **{name: list(given.get(name) or ()) for name in _LISTS},
        **{name: given[name] for name in ("subscription_id", "authentication_policy_id") if given.get(name)},
    }
    state.documents.put("flow", key, flow)
    return Reply(flow, 201)


@routes(
    "GET",
    "/flows",
    query=("filter_role", "filter_roles", "filter_fulltext", "orderby", "marker", "per_page"),
)
def listed(state: Any, call: Call) -> dict[str, Any]:
    asked = call.query.get("filter_fulltext", "").lower().split()
    roles = _asked_roles(call, words("flow_owner flow_viewer flow_starter flow_administrator run_manager run_monitor"))
    rows = []
    for flow in state.documents.all("flow"):
        text = f"{flow['title']} {flow['subtitle']} {flow['description']}".lower()
        if all(word in text for word in asked) and _may(state, call, flow, roles or _VIEWERS):
            rows.append(flow)
    return _page(call, "flows", rows, ("id", "title", "created_at", "updated_at", "flow_owner", "scope_string"))


def _asked_roles(call: Call, known: tuple[str, ...]) -> list[str]:
    """The fields for the roles of filter_roles, or of the older filter_role; that of the owner has its name."""
    found = (*call.several("filter_roles"), *call.several("filter_role"))
    for name in found:
        if name not in known:
            raise unprocessable(["query", "filter_roles"], f"value is not a valid enumeration member: {name}")
    return [name if name.endswith("_owner") else f"{name}s" for name in found]


def _page(call: Call, name: str, rows: list[dict[str, Any]], fields: tuple[str, ...]) -> dict[str, Any]:
    """One page: sorted by `orderby`, `per_page` rows from the one that `marker` names."""
    rows = ordered(
        rows,
        call.several("orderby"),
        fields,
        lambda part: unprocessable(["query", "orderby"], f"value is not a valid order: {part}"),
        lambda row, name: str(row.get(name) or ""),
    )
    return {"marker": None, **_part(call, name, rows, call.integer("per_page", 20, 1, 100))}


def _part(call: Call, name: str, rows: list[dict[str, Any]], size: int) -> dict[str, Any]:
    """`size` rows from the one that `marker` names, and the marker of the next one if there is one."""
    start = call.integer("marker", 0)
    more = {"marker": str(start + size)} if start + size < len(rows) else {}
    return {name: rows[start : start + size], "limit": size, "has_next_page": bool(more), **more}


@routes("POST", "/flows/validate", body=("definition", "input_schema"))
def validate(state: Any, call: Call) -> dict[str, Any]:
    body = call.body
    check_definition(body.get("definition"))
    body.get("input_schema")
    scopes = {str(one["ActionScope"]) for one in body["definition"]["States"].values() if one.get("ActionScope")}
    return {"scopes": {"User": sorted(scopes)}}


@routes("GET", "/flows/{flow}")
def show(state: Any, call: Call) -> dict[str, Any]:
    return flow_of(state, call, _VIEWERS)


@routes("PUT", "/flows/{flow}", body=(*_FIELDS, *_MORE))
def update(state: Any, call: Call) -> dict[str, Any]:
    flow = {
        **flow_of(state, call, _ADMINISTRATORS),
        **checked(call.body),
        "updated_at": iso(state.clock.now()),
    }
    state.documents.put("flow", flow["id"], flow)
    return {"subscription_id": None, **flow}


@routes("DELETE", "/flows/{flow}")
def delete(state: Any, call: Call) -> dict[str, Any]:
    flow = flow_of(state, call, ("flow_owner",))
    state.documents.remove("flow", flow["id"])
    gone = ("action_url", "flow_url", "run_managers", "run_monitors")
    return {name: value for name, value in flow.items() if name not in gone} | {
        "DELETED": True,
        "deleted_at": iso(state.clock.now()),
    }


# runs


@routes(
    "POST",
    "/flows/{flow}/run",
    body=("body", "label", "tags", "run_managers", "run_monitors", "activity_notification_policy"),
    inert=("activity_notification_policy",),  # nobody is mailed
)
def start(state: Any, call: Call) -> Reply:
    flow = flow_of(state, call, _STARTERS)
    if call.server != flow["id"]:  # recorded: missing_scope_error
        message = f"This action requires the following scope: {flow['globus_auth_scope']}"
        raise Refusal(403, "MISSING_SCOPE", message, {"body": {"error": {"code": "MISSING_SCOPE", "detail": message}}})
    body = call.body
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
        "details": _starting(given),
        "created_by": auth.urn(call.identity),
        "run_owner": auth.urn(call.identity),
        "run_managers": list(body.get("run_managers") or ()),
        "run_monitors": list(body.get("run_monitors") or ()),
        "manage_by": list(body.get("run_managers") or ()),
        "monitor_by": list(body.get("run_monitors") or ()),
        "user_role": "run_owner",
        "label": body.get("label"),
        "tags": list(body.get("tags") or ()),
    }
    started = flow_states.entry(state, "FlowStarted", "The Flow Instance started execution", {"input": given})
    record = {
        "run": run,
        "states": list(script.get("states") or ()),
        "script": script,
        "log": [started],
        "input": given,
        "execution": None if script.get("states") else flow_states.begin(state, run, flow["definition"], given),
    }
    state.documents.put("run", key, record)
    return Reply(changed(run), 201)


def _starting(given: dict[str, Any]) -> dict[str, Any]:
    return {"code": "FlowStarting", "description": "The Flow is starting execution", "details": {"input": given}}


def changed(run: dict[str, Any]) -> dict[str, Any]:
    """A run as what changes it answers (recorded): without some of the fields that a look at it has."""
    left_out = ("action_id", "completion_time", "created_by", "manage_by", "monitor_by")
    shown = {name: value for name, value in run.items() if name not in left_out}
    return {**shown, "search": {"task_id": run["run_id"]}}


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


_MANAGERS = ("run_owner", "run_managers", "flow_run_managers")
_MONITORS = (*_MANAGERS, "run_monitors", "flow_run_monitors")


def _with_flow(state: Any, run: dict[str, Any]) -> dict[str, Any]:
    """A run and those who, by its flow, have a role on every run of it."""
    flow = state.documents.get("flow", run["flow_id"]) or {}
    return {**run, **{f"flow_{name}": flow.get(name) or () for name in ("run_managers", "run_monitors")}}


def run_of(state: Any, call: Call, roles: tuple[str, ...] = _MONITORS) -> dict[str, Any]:
    """The record of a run in which the caller has one of these roles. Raises Refusal."""
    key = call.params["run"]
    found = state.documents.get("run", key.lower())
    _checked(state, call, "Run", found and _with_flow(state, found["run"]), key, roles)
    return {"input": {}, **found}


def looked_at(state: Any, call: Call) -> dict[str, Any]:
    """The run, as far on as it comes now."""
    record = run_of(state, call)
    if record.get("execution") and record["run"]["status"] == "ACTIVE":
        record = flow_states.advance(state, record)
    elif record["states"] and record["run"]["status"] in ("ACTIVE", "INACTIVE"):
        record = _scripted(state, record)
    else:
        return dict(record["run"])
    state.documents.put("run", record["run"]["run_id"], record)
    return dict(record["run"])


#: Code and description of a run in each status, unless its script has others for the last one.
_SAID = {
    "SUCCEEDED": ("FlowSucceeded", "The Flow run reached a successful completion state"),
    "FAILED": ("FlowFailed", "The Flow run failed"),
    "INACTIVE": ("FlowInactive", "The Flow run needs attention"),
    "ACTIVE": ("FlowRunning", "The Flow run is in progress"),
}


def _scripted(state: Any, record: dict[str, Any]) -> dict[str, Any]:
    """The record of a run after one more status of its script."""
    status, *left = record["states"]
    script, ended = record["script"], status in ("SUCCEEDED", "FAILED")
    code, described = _SAID[status]
    if not left:
        code, described = script.get("code") or code, script.get("description") or described
    details: dict[str, Any] = {"code": code, "description": described}
    if ended:
        details["output"] = {"input": record["input"], **dict(script.get("output") or {})}
    if script.get("details") or status == "FAILED":
        details["details"] = dict(script.get("details") or {})
    if status == "INACTIVE":
        details["required_scope"] = script.get("required_scope") or auth.scope_of(record["run"]["flow_id"])
    run = {**record["run"], "status": status, "display_status": status, "details": details}
    if ended:
        run["completion_time"] = iso(state.clock.now())
    log = [*record["log"], flow_states.entry(state, code, described, {})]
    return {**record, "run": run, "states": left, "log": log}


@routes("GET", "/runs", query=("filter_flow_id", "filter_roles", "filter_role", "marker", "orderby", "per_page"))
def runs(state: Any, call: Call) -> dict[str, Any]:
    wanted = call.several("filter_flow_id")
    roles = _asked_roles(call, words("run_owner run_manager run_monitor flow_run_manager flow_run_monitor"))
    rows = [each["run"] for each in reversed(state.documents.all("run"))]
    rows = [run for run in rows if not wanted or run["flow_id"] in wanted]
    rows = [run for run in rows if _may(state, call, _with_flow(state, run), roles or _MONITORS)]
    return _page(call, "runs", rows, ("id", "run_owner", "start_time", "completion_time", "label", "status"))


@routes("GET", "/runs/{run}", query=("include_flow_description",))
def run_show(state: Any, call: Call) -> dict[str, Any]:
    run = looked_at(state, call)
    if not call.flag("include_flow_description"):
        return run
    flow = state.documents.get("flow", run["flow_id"]) or {}
    names = words(
        "created_at created_by description flow_owner globus_auth_scope id keywords subtitle title updated_at"
    )
    return {**run, "flow_description": {name: flow.get(name) for name in names}}


@routes("GET", "/runs/{run}/definition")
def run_definition(state: Any, call: Call) -> dict[str, Any]:
    run = run_of(state, call)["run"]
    flow = state.documents.get("flow", run["flow_id"])
    if flow is None:
        raise Refusal(404, "NOT_FOUND", f"No Flow exists with id value {run['flow_id']}")
    return {"flow_id": flow["id"], "definition": flow["definition"], "input_schema": flow["input_schema"]}


@routes("GET", "/runs/{run}/log", query=("limit", "reverse_order", "marker"))
def run_log(state: Any, call: Call) -> dict[str, Any]:
    entries = list(run_of(state, call)["log"])
    if call.flag("reverse_order"):
        entries.reverse()
    return _part(call, "entries", entries, call.integer("limit", 10, 1, 100))


@routes("POST", "/runs/{run}/cancel", body=())
def run_cancel(state: Any, call: Call) -> dict[str, Any]:
    record = run_of(state, call, _MANAGERS)
    run = dict(record["run"])
    if run["status"] in ("ACTIVE", "INACTIVE"):
        run.update(status="FAILED", display_status="FAILED", completion_time=iso(state.clock.now()))
        run["details"] = flow_states.entry(state, "FlowCanceled", "The Flow Instance was canceled by the user", {})
        state.documents.put("run", run["run_id"], {**record, "run": run, "states": []})
    return changed(run)


@routes("PUT", "/runs/{run}", body=("label", "tags", "run_managers", "run_monitors"))
def run_update(state: Any, call: Call) -> dict[str, Any]:
    record = run_of(state, call, _MANAGERS)
    body = dict(call.body.items())
    if len(body.get("label") or "") > 64:
        raise unprocessable(["label"], "ensure this value has at most 64 characters")
    check_principals(body, ("run_managers", "run_monitors"))
    run = {**record["run"], **body}
    run.update(manage_by=run.get("run_managers", []), monitor_by=run.get("run_monitors", []))
    state.documents.put("run", run["run_id"], {**record, "run": run})
    return changed(run)


@routes("POST", "/runs/{run}/resume", body=())
def run_resume(state: Any, call: Call) -> dict[str, Any]:
    record = run_of(state, call, _MANAGERS)
    run = dict(record["run"])
    if run["status"] != "INACTIVE":
        raise Refusal(409, "STATE_CONFLICT", "Run is not INACTIVE")
    run.update(status="ACTIVE", display_status="ACTIVE")
    run["details"] = _starting(record["input"])
    states = record["states"] or ["SUCCEEDED"]
    state.documents.put("run", run["run_id"], {**record, "run": run, "states": states})
    return changed(run)


@routes("POST", "/runs/{run}/release", body=())
def run_release(state: Any, call: Call) -> dict[str, Any]:
    """The run is forgotten; one that has not ended is not."""
    record = run_of(state, call, _MANAGERS)
    run = dict(record["run"])
    if run["status"] not in ("SUCCEEDED", "FAILED"):
        raise Refusal(409, "STATE_CONFLICT", f"Run {run['run_id']} has status '{run['status']}' but must be completed")
    state.documents.remove("run", run["run_id"])
    return changed(run)
