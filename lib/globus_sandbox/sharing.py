"""Globus Transfer: permissions, roles and bookmarks."""

from __future__ import annotations

import uuid
from typing import Any

from globus_sandbox import rights
from globus_sandbox.documents import Collection, seconds_of, spaced
from globus_sandbox.transfer import V, bad, collection_of, result
from globus_sandbox.web import Call, Refusal, Reply, Routes, words

routes = Routes()

PRINCIPALS = ("identity", "group", "all_authenticated_users", "anonymous")
_RULE = words("DATA_TYPE id principal principal_type path permissions notify_email notify_message expiration_date")


def shared(state: Any, call: Call) -> Collection:
    """The guest collection a permission is for. Raises Refusal: only those have permissions (documented)."""
    collection: Collection = collection_of(state, call.params["endpoint"])
    if not collection.is_guest:
        raise Refusal(
            403,
            "PermissionDenied",
            f"'{collection.name}' is a {collection.entity_type}: only guest collections have permissions "
            f"(in a sandbox: --collection {collection.name}:guest)",
        )
    rights.require_role(state, call, collection, rights.MANAGES_ACCESS)
    return collection


#: Sent back as they were read; a permission keeps them.
_FIXED = words("id principal principal_type path notify_email notify_message")


def _rule(kind: str, principal: str, path: str, permissions: str, **more: Any) -> dict[str, Any]:
    return {
        "DATA_TYPE": "access",
        "id": None,
        "principal": principal,
        "principal_type": kind,
        "path": path,
        "permissions": permissions,
        **dict.fromkeys(("role_id", "role_type", "create_time", "expiration_date")),
        **more,
    }


def rules_of(state: Any, collection: Collection) -> list[dict[str, Any]]:
    """The permissions on a collection: the owner's, and those that were made."""
    owner = rights.owner_of(state, collection)
    own = _rule("identity", owner, "/", "rw", role_id=collection.id, role_type="administrator")
    return [own, *(each["rule"] for each in state.documents.all("access", collection=collection.id))]


@routes("GET", V + "/endpoint/{endpoint}/access_list")
def access_list(state: Any, call: Call) -> dict[str, Any]:
    rows = rules_of(state, shared(state, call))
    return {"DATA_TYPE": "access_list", "endpoint": call.params["endpoint"], "length": len(rows), "DATA": rows}


@routes("GET", V + "/endpoint/{endpoint}/access/{rule}")
def access_show(state: Any, call: Call) -> dict[str, Any]:
    collection = shared(state, call)
    found = state.documents.get("access", call.params["rule"].lower())
    if found is None or found["collection"] != collection.id:
        raise Refusal(404, "AccessRuleNotFound", f"No access rule '{call.params['rule']}'")
    return dict(found["rule"])


@routes("POST", V + "/endpoint/{endpoint}/access", body=_RULE, inert=("id", "notify_email", "notify_message"))
def access_create(state: Any, call: Call) -> Reply:
    collection = shared(state, call)
    body = call.body
    kind, principal = body.get("principal_type"), body.get("principal") or ""
    path, permissions = body.get("path"), body.get("permissions")
    if kind not in PRINCIPALS:
        raise bad(f"Invalid principal_type: '{kind}'")
    if kind in ("identity", "group"):
        _checked_uuid(principal, "principal")
    if permissions not in ("r", "rw") or (kind == "anonymous" and permissions != "r"):
        raise bad(f"Invalid permissions: '{permissions}'")
    if not isinstance(path, str) or not path.startswith("/") or not path.endswith("/"):
        raise bad("path must start and end with '/'", "InvalidPath")
    rows = rules_of(state, collection)
    for row in rows[1:]:
        if (row["principal_type"], row["principal"], row["path"]) == (kind, principal, path):
            raise Refusal(409, "Exists", "This principal already has a permission for this path")
    most = state.settings.permissions
    if len(rows) - 1 >= most:
        raise Refusal(409, "LimitExceeded", f"At most {most} permissions")
    rule = _rule(
        str(kind),
        principal,
        path,
        permissions,
        id=str(uuid.uuid4()),
        create_time=spaced(state.clock.now()).replace(" ", "T"),
        expiration_date=_expiration(body.get("expiration_date")),
    )
    state.documents.put("access", rule["id"], {"collection": collection.id, "rule": rule})
    message = "Access rule created successfully."
    return Reply(result(call, "Created", message, DATA_TYPE="access_create_result", access_id=rule["id"]), 201)


def _expiration(text: Any) -> str | None:
    if text is None:
        return None
    try:
        seconds_of(str(text))
    except ValueError:
        raise bad(f"Invalid expiration_date: '{text}'") from None
    return str(text)


@routes("PUT", V + "/endpoint/{endpoint}/access/{rule}", body=_RULE, inert=_FIXED)
def access_update(state: Any, call: Call) -> dict[str, Any]:
    rule = access_show(state, call)
    body = call.body
    if "permissions" in body:
        if body["permissions"] not in ("r", "rw"):
            raise bad(f"Invalid permissions: '{body['permissions']}'")
        rule["permissions"] = body["permissions"]
    if "expiration_date" in body:
        rule["expiration_date"] = _expiration(body["expiration_date"])
    collection = collection_of(state, call.params["endpoint"])
    state.documents.put("access", rule["id"], {"collection": collection.id, "rule": rule})
    return result(call, "Updated", f"Access rule '{rule['id']}' permissions updated successfully")


@routes("DELETE", V + "/endpoint/{endpoint}/access/{rule}")
def access_delete(state: Any, call: Call) -> dict[str, Any]:
    rule = access_show(state, call)
    state.documents.remove("access", rule["id"])
    return result(call, "Deleted", f"Access rule '{rule['id']}' deleted successfully")


# roles

ROLES = ("administrator", "access_manager", "activity_manager", "activity_monitor")


@routes("GET", V + "/endpoint/{endpoint}/role_list")
def role_list(state: Any, call: Call) -> dict[str, Any]:
    collection = collection_of(state, call.params["endpoint"])
    rights.require_role(state, call, collection, ROLES)
    rows = [each["role"] for each in state.documents.all("role", collection=collection.id)]
    return {"DATA_TYPE": "role_list", "length": len(rows), "DATA": [_owner_role(state, collection), *rows]}


def _role(key: str, kind: str, principal: str, role: str) -> dict[str, Any]:
    return {"DATA_TYPE": "role", "id": key, "principal": principal, "principal_type": kind, "role": role}


def _owner_role(state: Any, collection: Collection) -> dict[str, Any]:
    return _role(collection.id, "identity", rights.owner_of(state, collection), "administrator")


@routes("GET", V + "/endpoint/{endpoint}/role/{role}")
def role_show(state: Any, call: Call) -> dict[str, Any]:
    collection = collection_of(state, call.params["endpoint"])
    rights.require_role(state, call, collection, ROLES)
    if call.params["role"].lower() == collection.id:
        return _owner_role(state, collection)
    found = state.documents.get("role", call.params["role"].lower())
    if found is None or found["collection"] != collection.id:
        raise Refusal(404, "RoleNotFound", f"No role '{call.params['role']}'")
    return dict(found["role"])


@routes("POST", V + "/endpoint/{endpoint}/role", body=("DATA_TYPE", "principal", "principal_type", "role"))
def role_create(state: Any, call: Call) -> Reply:
    """Only for Globus Connect Personal: the roles of others are their manager's business (documented)."""
    collection = collection_of(state, call.params["endpoint"])
    rights.require_role(state, call, collection)
    if not collection.kind.startswith("gcp"):
        raise Refusal(403, "PermissionDenied", f"Roles of a {collection.entity_type} are managed by its GCS Manager")
    body = call.body
    if body.get("role") not in ROLES or body.get("principal_type") not in ("identity", "group"):
        raise bad("Invalid role")
    _checked_uuid(body.get("principal"), "principal")
    role = _role(str(uuid.uuid4()), body["principal_type"], body["principal"], body["role"])
    for other in state.documents.all("role", collection=collection.id):
        if {**other["role"], "id": role["id"]} == role:
            raise Refusal(409, "Exists", "This principal has this role already")
    state.documents.put("role", role["id"], {"collection": collection.id, "role": role})
    return Reply(role, 201)


@routes("DELETE", V + "/endpoint/{endpoint}/role/{role}")
def role_delete(state: Any, call: Call) -> dict[str, Any]:
    rights.require_role(state, call, collection_of(state, call.params["endpoint"]))
    role = role_show(state, call)
    if state.documents.remove("role", role["id"]) is None:
        raise Refusal(403, "PermissionDenied", "The owner's role cannot be deleted")
    return result(call, "Deleted", "Role deleted successfully")


# bookmarks

_BOOKMARK = ("DATA_TYPE", "endpoint_id", "path", "name", "pinned")


@routes("GET", V + "/bookmark_list")
def bookmark_list(state: Any, call: Call) -> dict[str, Any]:
    return {"DATA_TYPE": "bookmark_list", "DATA": _bookmarks_of(state, call)}


def _bookmarks_of(state: Any, call: Call) -> list[dict[str, Any]]:
    return [each["bookmark"] for each in state.documents.all("bookmark") if _owner(state, each) == call.identity]


def _owner(state: Any, document: dict[str, Any]) -> str:
    """Whoever put a document without an owner, the sandbox's owner has it."""
    return str(document.get("owner", state.owner))


@routes("GET", V + "/bookmark/{bookmark}")
def bookmark_show(state: Any, call: Call) -> dict[str, Any]:
    found = state.documents.get("bookmark", call.params["bookmark"].lower())
    if found is None or _owner(state, found) != call.identity:
        raise Refusal(404, "BookmarkNotFound", f"No bookmark '{call.params['bookmark']}'")
    return dict(found["bookmark"])


def _checked_name(state: Any, call: Call, name: Any, key: str) -> str:
    if not isinstance(name, str) or not name or len(name) > 128 or name != name.strip():
        raise bad("Invalid bookmark name")
    if any(other["name"] == name and other["id"] != key for other in _bookmarks_of(state, call)):
        raise Refusal(409, "Exists", f"A bookmark named '{name}' exists")
    return name


@routes("POST", V + "/bookmark", body=_BOOKMARK)
def bookmark_create(state: Any, call: Call) -> Reply:
    body = call.body
    collection = collection_of(state, str(body.get("endpoint_id", "")))
    key = str(uuid.uuid4())
    path = body.get("path")
    if not isinstance(path, str) or not path.endswith("/") or not path.startswith(("/", "~")):
        raise bad("path must be absolute and end with '/'", "InvalidPath")
    bookmark = {
        "DATA_TYPE": "bookmark",
        "id": key,
        "name": _checked_name(state, call, body.get("name"), key),
        "endpoint_id": collection.id,
        "path": path,
        "pinned": bool(body.get("pinned", False)),
    }
    state.documents.put("bookmark", key, {"owner": call.identity, "bookmark": bookmark})
    return Reply(bookmark, 201)


@routes("PUT", V + "/bookmark/{bookmark}", body=_BOOKMARK)
def bookmark_update(state: Any, call: Call) -> dict[str, Any]:
    bookmark: dict[str, Any] = bookmark_show(state, call)
    body = call.body
    if any(body.get(name, bookmark[name]) != bookmark[name] for name in ("endpoint_id", "path")):
        raise bad("Only the name and pinned can be changed")
    if "name" in body:
        bookmark["name"] = _checked_name(state, call, body["name"], bookmark["id"])
    if "pinned" in body:
        bookmark["pinned"] = bool(body["pinned"])
    state.documents.put("bookmark", bookmark["id"], {"owner": call.identity, "bookmark": bookmark})
    return bookmark


@routes("DELETE", V + "/bookmark/{bookmark}")
def bookmark_delete(state: Any, call: Call) -> dict[str, Any]:
    bookmark = bookmark_show(state, call)
    state.documents.remove("bookmark", bookmark["id"])
    return result(call, "Deleted", f"Bookmark '{bookmark['id']}' deleted successfully")


def _checked_uuid(text: Any, name: str) -> None:
    try:
        uuid.UUID(str(text))
    except ValueError:
        raise bad(f"Invalid {name}: '{text}'") from None
