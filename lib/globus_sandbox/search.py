"""Globus Search: indices, roles, ingest and delete tasks, queries with filters and facets, visibility.

A query finds the entries in whose subject or content all its words occur; the query language beyond words is not
understood. Tasks go through the statuses of a document of kind "search-script" ("*" or the index: `{"states": [...]}`).
Recorded in globus_sdk.testing: create_index, delete_index, update_index, search, post_search, index_list, roles and errors.
"""

from __future__ import annotations

import base64
import fnmatch
import json
import uuid
from collections import Counter
from typing import Any

from globus_sandbox import auth
from globus_sandbox.documents import iso, spaced
from globus_sandbox.groups import urns_of
from globus_sandbox.web import Call, Refusal, Reply, Routes, Unknown, is_true, words

routes = Routes()

#: Bytes of one ingest document (documented).
LIMIT = 10_000_000
#: Trial indices one identity may own (recorded: create_index, trial_limit).
TRIALS = 3
ROLES = ("owner", "admin", "writer")


def not_found(what: str) -> Refusal:
    return Refusal(404, "NotFound.Generic", what)


def invalid(message: str) -> Refusal:
    return Refusal(400, "BadRequest.ValidationError", message)


def typed(kind: str, version: str = "2017-09-01", **fields: Any) -> dict[str, Any]:
    return {"@datatype": kind, "@version": version, **fields}


def unknown_fields(document: dict[str, Any], known: tuple[str, ...], what: str) -> None:
    """Raises Unknown for the first field that is none of those known."""
    unknown = document.keys() - {"@datatype", "@version", *known}
    if unknown:
        raise Unknown(f"field '{min(unknown)}' of {what}")


def roles_on(state: Any, index: dict[str, Any], identity: str) -> list[str]:
    """The caller's roles on an index, the strongest first."""
    mine = urns_of(state, identity)
    held = {role["role_name"] for role in index["roles"] if role["principal"] in mine}
    return [name for name in ROLES if name in held]


def index_of(state: Any, call: Call, operation: str = "", roles: tuple[str, ...] = ()) -> dict[str, Any]:
    """The index of a path. Raises Refusal: not there, or without the role that the operation takes (recorded: forbidden)."""
    key = call.params["index"]
    found: dict[str, Any] | None = state.documents.get("index", key.lower())
    if found is None:
        raise not_found(f'There is no search index named "{key}"')
    found = _whole(state, found)
    if roles and not set(roles) & set(roles_on(state, found, call.identity)):
        cause = f"You do not have the proper roles to perform the {operation} operation."
        advice = (
            "Ensure you are making a call authenticated with a valid Search token and that you have been granted the "
            "required roles for this operation"
        )
        data = {"error_data": {"cause": cause, "recommended_resolution": advice}}
        raise Refusal(403, "Forbidden.Generic", f"{operation} request denied by service", data)
    return found


def _whole(state: Any, index: dict[str, Any]) -> dict[str, Any]:
    """An index as `create` makes it, whoever put it: it is open, and the owner of the sandbox has it."""
    owner = auth.urn(state.owner)
    own = {"id": "owner", "principal": owner, "principal_type": "identity", "role_name": "owner"}
    return {"status": "open", "is_trial": False, "roles": [own], **index}


def _indices(state: Any) -> list[dict[str, Any]]:
    return [_whole(state, each) for each in state.documents.all("index")]


def shown(state: Any, index: dict[str, Any]) -> dict[str, Any]:
    rows = state.documents.all("entry", index=index["id"])
    counted = {"num_entries": len(rows), "num_subjects": len({each["subject"] for each in rows})}
    return {**{name: value for name, value in index.items() if name != "roles"}, **counted}


def _role(state: Any, index: str, principal: str, name: str) -> dict[str, Any]:
    key = base64.urlsafe_b64encode(uuid.uuid4().bytes[:6]).decode()
    return {
        "creation_date": spaced(state.clock.now())[:19],
        "id": key.replace("-", "_"),  # a leading - would be an option
        "index_id": index,
        "principal": principal,
        "principal_type": "group" if ":groups:" in principal else "identity",
        "role_name": name,
    }


@routes("POST", "/v1/index", body=("display_name", "description"))
def create(state: Any, call: Call) -> dict[str, Any]:
    body = call.body
    owned = [each for each in _indices(state) if "owner" in roles_on(state, each, call.identity)]
    if sum(bool(each["is_trial"]) for each in owned) >= TRIALS:
        cause = (
            "When creating an index, an 'owner' role is created automatically. If this would exceed ownership limits, "
            "this error is raised instead."
        )
        constraint = f"Cannot create more ownership roles on trial indices than the limit ({TRIALS})"
        data = {"error_data": {"cause": cause, "constraint": constraint}}
        raise Refusal(409, "Conflict.LimitExceeded", "Role limit exceeded", data)
    key = str(uuid.uuid4())
    index = typed(
        "GSearchIndex",
        creation_date=spaced(state.clock.now())[:19],
        display_name=body.get("display_name", ""),
        description=body.get("description", ""),
        id=key,
        is_trial=True,
        subscription_id=None,
        max_size_in_mb=1,
        size_in_mb=0,
        status="open",
        roles=[_role(state, key, auth.urn(call.identity), "owner")],
    )
    state.documents.put("index", key, index)
    return shown(state, index)


@routes("GET", "/v1/index/{index}")
def show(state: Any, call: Call) -> dict[str, Any]:
    return shown(state, index_of(state, call))


@routes("PATCH", "/v1/index/{index}", body=("display_name", "description"))
def update(state: Any, call: Call) -> dict[str, Any]:
    index = index_of(state, call, "index_update", ("owner", "admin"))
    return shown(state, _changed(state, index, **dict(call.body.items())))


def _changed(state: Any, index: dict[str, Any], **changes: Any) -> dict[str, Any]:
    changed = {**index, **changes}
    state.documents.put("index", index["id"], changed)
    return changed


def _require_status(index: dict[str, Any], wanted: str) -> None:
    if index["status"] != wanted:
        message = f"Index status ({index['status']}) did not match required status for this operation: {wanted}"
        raise Refusal(409, "Conflict.IncompatibleIndexStatus", message)


@routes("DELETE", "/v1/index/{index}")
def delete(state: Any, call: Call) -> dict[str, Any]:
    index = index_of(state, call, "index_delete", ("owner",))
    _require_status(index, "open")
    _changed(state, index, status="delete_pending")
    return {"index_id": index["id"], "acknowledged": True}


@routes("POST", "/v1/index/{index}/reopen", body=())
def reopen(state: Any, call: Call) -> dict[str, Any]:
    index = index_of(state, call, "index_reopen", ("owner",))
    _require_status(index, "delete_pending")
    _changed(state, index, status="open")
    return {"index_id": index["id"], "acknowledged": True}


@routes("GET", "/v1/index_list", query=("filter_roles",))
def listed(state: Any, call: Call) -> dict[str, Any]:
    """The indices on which the caller has a role."""
    wanted = set(call.several("filter_roles"))
    rows = []
    for index in _indices(state):
        held = roles_on(state, index, call.identity)
        if held and (not wanted or wanted & set(held)):
            rows.append({**shown(state, index), "permissions": held})
    return {"index_list": rows}


# roles


@routes("GET", "/v1/index/{index}/role_list")
def role_list(state: Any, call: Call) -> dict[str, Any]:
    return {"role_list": index_of(state, call, "role_list", ("owner", "admin"))["roles"]}


@routes("POST", "/v1/index/{index}/role", body=("role_name", "principal"))
def role_create(state: Any, call: Call) -> dict[str, Any]:
    index = index_of(state, call, "role_create", ("owner", "admin"))
    body = call.body
    if body.get("role_name") not in ROLES or not auth.PRINCIPAL.fullmatch(str(body.get("principal"))):
        raise invalid("role_name: owner, admin or writer; principal: a URN")
    role = _role(state, index["id"], str(body["principal"]), str(body["role_name"]))
    _changed(state, index, roles=[*index["roles"], role])
    return role


@routes("DELETE", "/v1/index/{index}/role/{role}")
def role_delete(state: Any, call: Call) -> dict[str, Any]:
    index = index_of(state, call, "role_delete", ("owner", "admin"))
    gone = [role for role in index["roles"] if role["id"] == call.params["role"]]
    if not gone:
        raise not_found(f"No role {call.params['role']}")
    _changed(state, index, roles=[role for role in index["roles"] if role is not gone[0]])
    return {"deleted": gone[0], "success": True}


# tasks


def checked_entry(entry: Any, at: int) -> dict[str, Any]:
    """One GMetaEntry. Raises Refusal as the service does: at once, not in the task."""
    if not isinstance(entry, dict):
        raise invalid(f"entry {at}: not an object")
    if not isinstance(entry.get("subject"), str) or not isinstance(entry.get("content"), dict):
        raise invalid(f"entry {at}: subject and content are required")
    unknown_fields(entry, ("subject", "content", "visible_to", "id"), "a GMetaEntry")
    seen = entry.get("visible_to")
    if not isinstance(seen, list) or not seen:
        raise invalid(f"entry {at}: visible_to is required")
    for principal in seen:
        if principal not in ("public", "all_authenticated_users") and not auth.PRINCIPAL.fullmatch(str(principal)):
            raise invalid(f"entry {at}: visible_to: '{principal}'")
    return entry


def _queued(state: Any, index: dict[str, Any], kind: str, **work: Any) -> str:
    """A task, and what it does once it succeeds; its id."""
    script = state.documents.get("search-script", index["id"]) or state.documents.get("search-script", "*") or {}
    task = {
        "task_id": str(uuid.uuid4()),
        "index_id": index["id"],
        "task_type": kind,
        "state": "PENDING",
        "state_description": "Task pending",
        "message": None,
        "creation_date": iso(state.clock.now()),
        "completion_date": None,
    }
    states = list(script.get("states") or ["SUCCESS"])
    state.documents.put("search-task", task["task_id"], {"task": task, "states": states, **work})
    return str(task["task_id"])


@routes(
    "POST",
    "/v1/index/{index}/ingest",
    body=("@datatype", "@version", "ingest_type", "ingest_data"),
    inert=("@datatype", "@version"),
)
def ingest(state: Any, call: Call) -> Reply:
    index = index_of(state, call, "ingest", ROLES)
    _require_status(index, "open")
    body = call.body
    data = body.get("ingest_data") or {}
    if len(json.dumps(body)) > LIMIT:
        raise Refusal(413, "RequestEntityTooLarge", "The document is larger than 10 MB")
    rows = data.get("gmeta") if body.get("ingest_type") == "GMetaList" else [data]
    if not isinstance(rows, list) or not rows:
        raise invalid("no entries")
    entries = [checked_entry(row, at) for at, row in enumerate(rows)]
    key = _queued(state, index, "INGEST", entries=entries)
    return Reply({"acknowledged": True, "success": True, "num_documents_ingested": 0, "task_id": key}, 202)


@routes("DELETE", "/v1/index/{index}/subject", query=("subject",))
def delete_subject(state: Any, call: Call) -> dict[str, Any]:
    index = index_of(state, call, "delete_by_subject", ROLES)
    return {"task_id": _queued(state, index, "DELETE_BY_SUBJECT", subjects=[call.query.get("subject", "")])}


@routes("POST", "/v1/index/{index}/batch_delete_by_subject", body=("subjects",))
def batch_delete_by_subject(state: Any, call: Call) -> dict[str, Any]:
    index = index_of(state, call, "delete_by_subject", ROLES)
    return {"task_id": _queued(state, index, "DELETE_BY_SUBJECT", subjects=list(call.body.get("subjects") or ()))}


@routes(
    "POST",
    "/v1/index/{index}/delete_by_query",
    body=("q", "filters", "advanced", "@datatype", "@version"),
    inert=("@datatype", "@version"),
)
def delete_by_query(state: Any, call: Call) -> dict[str, Any]:
    index = index_of(state, call, "delete_by_query", ROLES)
    body = call.body
    refuse_advanced(body.get("advanced"))
    query = {"q": str(body.get("q", "*")), "filters": checked_filters(body.get("filters"))}
    return {"task_id": _queued(state, index, "DELETE_BY_QUERY", query=query)}


def _carry_out(state: Any, record: dict[str, Any]) -> None:
    index = record["task"]["index_id"]
    for entry in record.get("entries", ()):
        key = json.dumps([index, entry["subject"], entry.get("id")])
        state.documents.put("entry", key, {"index": index, **entry})
    for entry in state.documents.all("entry", index=index):
        query = record.get("query")
        if entry["subject"] in record.get("subjects", ()) or (query and matches(entry, query["q"], query["filters"])):
            state.documents.remove("entry", json.dumps([index, entry["subject"], entry.get("id")]))


def _task_of(state: Any, call: Call) -> dict[str, Any]:
    record = state.documents.get("search-task", call.params["task"].lower())
    if record is None:
        raise not_found(f"No task {call.params['task']}")
    call.params["index"] = record["task"]["index_id"]
    index_of(state, call, "task_get", ROLES)
    return dict(record)


@routes("GET", "/v1/task/{task}")
def task_show(state: Any, call: Call) -> dict[str, Any]:
    record = _task_of(state, call)
    task = dict(record["task"])
    if record["states"] and task["state"] not in ("SUCCESS", "FAILED"):
        task["state"] = record["states"][0]
        task["state_description"] = f"Task {task['state'].lower()}"
        if task["state"] in ("SUCCESS", "FAILED"):
            task["completion_date"] = iso(state.clock.now())
        if task["state"] == "SUCCESS":
            _carry_out(state, record)
        elif task["state"] == "FAILED":
            task["message"] = "Could not ingest"
        state.documents.put("search-task", task["task_id"], {**record, "task": task, "states": record["states"][1:]})
    return task


@routes("GET", "/v1/task_list/{index}")
def task_list(state: Any, call: Call) -> dict[str, Any]:
    index = index_of(state, call, "task_list", ROLES)
    rows = [each["task"] for each in state.documents.all("search-task") if each["task"]["index_id"] == index["id"]]
    return {"tasks": list(reversed(rows))}


# queries


def refuse_advanced(value: Any) -> None:
    if is_true(value):
        raise Unknown("the advanced query language of Search")


_FILTER_TYPES = ("match_all", "match_any", "range", "exists", "not", "and", "or", "like")


def checked_filters(filters: Any) -> list[dict[str, Any]]:
    """Filters of a query (documented: Search, "GFilter"). Raises Refusal, and Unknown for geo filters and others."""
    rows = list(filters or ())
    for one in rows:
        if not isinstance(one, dict) or "type" not in one:
            raise invalid("a filter needs a type")
        if one["type"] not in _FILTER_TYPES:
            raise Unknown(f"filter of type '{one['type']}'")
        inner = [one["filter"]] if "filter" in one else one.get("filters", ())
        checked_filters(inner)
        unknown_fields(one, words("type field_name values value filter filters post_filter"), "a filter")
        if one.get("post_filter"):
            raise Unknown("post_filter of a filter")
    return rows


def _values(entry: dict[str, Any], name: str) -> list[Any]:
    """The values of a field, `a.b` inside `a`; dots that belong to a name are written `\\\\.`."""
    found: list[Any] = [entry["content"]]
    for part in name.replace("\\.", "\0").split("."):
        part = part.replace("\0", ".")
        found = [value[part] for value in found if isinstance(value, dict) and part in value]
        found = [one for value in found for one in (value if isinstance(value, list) else [value])]
    return found


def passes(entry: dict[str, Any], one: dict[str, Any]) -> bool:
    kind = one["type"]
    if kind == "not":
        return not passes(entry, one["filter"])
    if kind in ("and", "or"):
        return (all if kind == "and" else any)(passes(entry, inner) for inner in one["filters"])
    held = _values(entry, str(one.get("field_name", "")))
    if kind == "exists":
        return bool(held)
    if kind == "like":
        return any(fnmatch.fnmatchcase(str(value), str(one.get("value", ""))) for value in held)
    if kind == "range":
        return any(_between(value, window) for value in held for window in one.get("values") or ())
    wanted = one.get("values") or []
    return (all if kind == "match_all" else any)(value in held for value in wanted)


def _between(value: Any, window: dict[str, Any]) -> bool:
    low, high = window.get("from", "*"), window.get("to", "*")
    try:
        return bool((low == "*" or value >= low) and (high == "*" or value <= high))
    except TypeError:
        return False


def matches(entry: dict[str, Any], asked: str, filters: list[dict[str, Any]]) -> bool:
    text = f"{entry['subject']} {json.dumps(entry['content'], ensure_ascii=False)}".lower()
    found = asked.strip() in ("", "*") or all(word in text for word in asked.lower().split())
    return found and all(passes(entry, one) for one in filters)


def _facet(rows: list[dict[str, Any]], facet: dict[str, Any]) -> dict[str, Any]:
    """One facet (documented: Search, "GFacet"). Raises Unknown for those that are not served."""
    kind, name = facet.get("type"), str(facet.get("field_name", ""))
    values = [value for entry in rows for value in _values(entry, name)]
    head = typed("GFacetResult", name=facet.get("name", name))
    unknown_fields(facet, words("type field_name name size histogram_range"), "a facet")
    numbers = [float(value) for value in values if isinstance(value, int | float)]
    if kind == "terms":
        counted = sorted(Counter(map(str, values)).items(), key=lambda one: (-one[1], one[0]))[: facet.get("size", 10)]
        return {**head, "buckets": [typed("GBucket", value=value, count=count) for value, count in counted]}
    if kind in ("sum", "avg"):
        if kind == "sum":
            return {**head, "value": sum(numbers)}
        return {**head, "value": sum(numbers) / len(numbers) if numbers else None}
    if kind == "numeric_histogram":
        within = facet.get("histogram_range") or {}
        low, high, size = float(within.get("low", 0)), float(within.get("high", 0)), int(facet.get("size", 10))
        if not low < high:
            raise invalid("histogram_range: low must be below high")
        step = (high - low) / size
        inside = Counter(int((number - low) / step) for number in numbers if low <= number < high)
        windows = [{"from": low + at * step, "to": low + (at + 1) * step} for at in range(size)]
        buckets = [typed("GBucket", value=window, count=inside[at]) for at, window in enumerate(windows)]
        return {**head, "buckets": buckets}
    raise Unknown(f"facet of type '{kind}'")


def found(state: Any, call: Call, body: Any, limit: int, offset: int) -> dict[str, Any]:
    """The result of a query. `body` has `q`, and may have `filters`, `facets`, `sort` and `bypass_visible_to`."""
    index = index_of(state, call)
    bypass = is_true(body.get("bypass_visible_to"))
    if bypass:
        index_of(state, call, "query with bypass_visible_to", ("owner", "admin"))
    refuse_advanced(body.get("advanced"))
    filters, asked = checked_filters(body.get("filters")), str(body.get("q") or "*")
    mine = urns_of(state, call.identity)
    seen = [
        entry
        for entry in state.documents.all("entry", index=index["id"])
        if (bypass or mine & set(entry["visible_to"])) and matches(entry, asked, filters)
    ]
    for rule in reversed(body.get("sort") or ()):
        name, descends = str(rule.get("field_name")), rule.get("order") == "desc"
        seen.sort(key=lambda entry: str(next(iter(_values(entry, name)), "")), reverse=descends)
    hits: dict[str, list[dict[str, Any]]] = {}
    for entry in seen:
        hits.setdefault(entry["subject"], []).append(entry)
    rows = [
        typed(
            "GMetaResult",
            "2019-08-27",
            entries=[
                {"content": each["content"], "entry_id": each.get("id"), "matched_principal_sets": []}
                for each in entries
            ],
            subject=subject,
        )
        for subject, entries in hits.items()
    ]
    window = rows[offset : offset + limit]
    facets = [_facet(seen, facet) for facet in body.get("facets") or ()]
    result = typed(
        "GSearchResult",
        count=len(window),
        gmeta=window,
        has_next_page=offset + limit < len(rows),
        offset=offset,
        total=len(rows),
    )
    return {**result, "facet_results": facets} if facets else result


@routes("GET", "/v1/index/{index}/search", query=("q", "limit", "offset", "advanced", "bypass_visible_to"))
def search(state: Any, call: Call) -> dict[str, Any]:
    limit, offset = call.integer("limit", 10, 1, 10_000), call.integer("offset", 0, 0, 10_000)
    return found(state, call, call.query, limit, offset)


@routes(
    "POST",
    "/v1/index/{index}/search",
    body=words("q limit offset advanced bypass_visible_to filters facets sort @datatype @version"),
    inert=("@datatype", "@version"),
)
def post_search(state: Any, call: Call) -> dict[str, Any]:
    body = call.body
    return found(state, call, body, int(body.get("limit", 10)), int(body.get("offset", 0)))


@routes("GET", "/v1/index/{index}/subject", query=("subject",))
def subject(state: Any, call: Call) -> dict[str, Any]:
    wanted = call.query.get("subject", "")
    for row in found(state, call, {}, 1_000_000, 0)["gmeta"]:
        if row["subject"] == wanted:
            return dict(row)
    raise not_found(f'There is no subject "{wanted}"')
