"""Globus Transfer: collections, and what is done on them at once (`ls`, `stat`, `mkdir`, `rename`)."""

from __future__ import annotations

import fnmatch
import os
from operator import itemgetter
from typing import Any

from globus_sandbox import auth, consents, filesystem, rights
from globus_sandbox.documents import Collection, id_of, seconds_of
from globus_sandbox.faults import TransferError
from globus_sandbox.transfer import V, bad, collection_of, result, some_fields
from globus_sandbox.web import Call, Refusal, Routes, Unknown, words

routes = Routes()

#: Entries one listing may have (documented).
LISTING = 100_000


def mapped_of(state: Any, collection: Collection) -> Collection | None:
    """The mapped collection on which a guest collection was made."""
    made = state.documents.get("made-collection", collection.id)
    found: Collection | None = state.collections.get(made["mapped_collection_id"]) if made else None
    return found


def host_of(state: Any, collection: Collection) -> str:
    """The endpoint behind a collection: each mapped one has its own."""
    return id_of(f"endpoint of {(mapped_of(state, collection) or collection).id}")


#: What is null, and what is false, of every collection until somebody changes it.
_NOT_SET = words(
    "globus_connect_setup_key s3_url host_path myproxy_server myproxy_dn non_functional_endpoint_display_name "
    "non_functional_endpoint_id oauth_server expire_time authentication_timeout_mins https_server keywords "
    "info_link contact_email contact_info department user_message user_message_link"
)
_NOT_SO = words(
    "french_english_bilingual s3_owner_activated disable_verify disable_anonymous_writes force_verify "
    "force_encryption mfa_required non_functional activated in_use high_assurance local_user_info_available"
)


def document(state: Any, collection: Collection, identity: str | None) -> dict[str, Any]:
    """The endpoint document: the keys of the recording, and those that the CLI reads beside them."""
    owner = rights.owner_of(state, collection)
    owner_name = auth.known(state)[owner]["username"]
    v5 = not collection.kind.startswith("gcp")
    updates = state.documents.get("endpoint", collection.id) or {}
    mapped = mapped_of(state, collection)
    host = host_of(state, collection) if v5 else None
    return {
        **dict.fromkeys(_NOT_SET),
        **dict.fromkeys(_NOT_SO, False),
        "DATA_TYPE": "endpoint",
        "id": collection.id,
        "display_name": collection.name,
        "organization": "Sandbox",
        "username": owner_name,
        "description": f"{collection.path}, served by a sandbox",
        "entity_type": collection.entity_type,
        "public": True,
        "is_globus_connect": not v5,
        "gcp_connected": None if v5 else True,
        "gcp_paused": None if v5 else False,
        "host_endpoint_id": host,
        "default_directory": "/",
        "expires_in": -1,
        "shareable": True,
        "acl_available": collection.is_guest,
        "acl_editable": collection.is_guest,
        "DATA": [],
        # beyond the recording
        "canonical_name": f"u_sandbox#{collection.id}",
        "owner_id": host if v5 else owner,
        "owner_string": owner_name,
        "subscription_id": id_of("subscription"),
        "gcs_manager_url": f"https://{host}.sandbox.invalid" if v5 else None,
        "gcs_version": "5.4.80" if v5 else None,
        "tlsftp_server": f"tlsftp://{collection.name}.sandbox.invalid:443" if v5 else None,
        "mapped_collection_id": mapped.id if mapped else None,
        "mapped_collection_display_name": mapped.name if mapped else None,
        "my_effective_roles": rights.roles_of(state, collection, identity),
        **updates,
    }


@routes("GET", V + "/endpoint/{endpoint}", query=("fields",))
def show(state: Any, call: Call) -> dict[str, Any]:
    return some_fields(call)(document(state, collection_of(state, call.params["endpoint"]), call.identity))


@routes(
    "GET",
    V + "/endpoint_search",
    query=words("filter_scope filter_fulltext filter_owner_id filter_entity_type filter_non_functional limit offset"),
)
def search(state: Any, call: Call) -> dict[str, Any]:
    """Any word of the text in name, description or id; every collection here is the user's own."""
    limit, offset = call.integer("limit", 25, 1, 100), call.integer("offset", 0)
    scope = call.query.get("filter_scope", "all")
    if scope not in SCOPES:
        raise bad(f"Invalid filter_scope: '{scope}'")
    broken = call.query.get("filter_non_functional", "false").lower()
    if broken not in ("0", "1", "true", "false"):
        raise bad(f"Invalid filter_non_functional: '{broken}'")
    owner, kind = call.query.get("filter_owner_id"), call.query.get("filter_entity_type")
    used = _used(state, call.identity)
    words = call.query.get("filter_fulltext", "").lower().split()
    if scope == "all" and not words:
        raise bad("filter_fulltext is required with filter_scope=all")
    rows = []
    for collection in state.collections:
        one = document(state, collection, call.identity)
        mine = "administrator" in one["my_effective_roles"]
        text = f"{one['display_name']} {one['description']} {one['id']} {one['organization']}".lower()
        if words and not all(word in text for word in words):
            continue
        if owner is not None and owner not in (one["owner_id"], rights.owner_of(state, collection)):
            continue
        if kind is not None and kind != one["entity_type"]:
            continue
        if broken in ("1", "true"):  # none is
            continue
        belongs = {
            "all": True,
            "my-endpoints": mine and rights.owner_of(state, collection) == call.identity,
            "my-gcp-endpoints": mine and one["is_globus_connect"] and not collection.is_guest,
            "administered-by-me": mine,
            "recently-used": collection.id in used,
            "in-use": collection.id in used and used[collection.id],
            "shared-by-me": collection.is_guest and mine,
            "shared-with-me": collection.is_guest and not mine and rights.visible(state, collection, call.identity),
        }
        if not belongs[scope]:
            continue
        rows.append(one)
    shown = rows[offset : offset + limit]
    return {
        "DATA": shown,
        "DATA_TYPE": "endpoint_list",
        "has_next_page": offset + limit < len(rows),
        "limit": limit,
        "offset": offset,
    }


#: Documented: endpoint_search, "filter_scope".
SCOPES = words("all my-endpoints my-gcp-endpoints administered-by-me recently-used in-use shared-by-me shared-with-me")


def _used(state: Any, identity: str | None) -> dict[str, bool]:
    """The collections of an identity's tasks, and whether one of them is unfinished."""
    found: dict[str, bool] = {}
    for task in state.engine.all():
        if task.owner == identity:
            for key in filter(None, (task.source, task.destination)):
                found[key] = found.get(key, False) or task.unfinished
    return found


#: What the owner of a collection may change (documented: endpoints_and_collections).
_EDITABLE = words(
    "display_name description organization department keywords contact_email contact_info info_link default_directory "
    "force_encryption disable_verify public user_message user_message_link sharing_use_only subscription_id"
)


@routes("PUT", V + "/endpoint/{endpoint}", body=("DATA_TYPE", *_EDITABLE))
def update(state: Any, call: Call) -> dict[str, Any]:
    collection = collection_of(state, call.params["endpoint"])
    rights.require_role(state, call, collection)
    changes = {name: value for name, value in call.body.items() if name in _EDITABLE}
    before = state.documents.get("endpoint", collection.id) or {}
    state.documents.put("endpoint", collection.id, {**before, **changes})
    return result(call, "Updated", "Endpoint updated successfully")


@routes("DELETE", V + "/endpoint/{endpoint}")
def delete(state: Any, call: Call) -> dict[str, Any]:
    """A collection goes; its directory stays."""
    collection = collection_of(state, call.params["endpoint"])
    rights.require_role(state, call, collection)
    if collection.kind == "mapped":
        raise Refusal(403, "PermissionDenied", "A mapped collection is deleted by its GCS Manager")
    state.collections.remove(collection.id)
    return result(call, "Deleted", "Endpoint deleted successfully")


@routes("GET", V + "/endpoint/{endpoint}/my_shared_endpoint_list")
def my_shared_endpoints(state: Any, call: Call) -> dict[str, Any]:
    """The guest collections that the caller has made on a collection."""
    host = collection_of(state, call.params["endpoint"])
    rows = [
        document(state, one, call.identity)
        for one in state.collections
        if one.is_guest and rights.owner_of(state, one) == call.identity and mapped_of(state, one) == host
    ]
    return {"DATA_TYPE": "endpoint_list", "DATA": rows}


# operations

_WORDS = {"ls": "DirListingFailed", "stat": "StatFailed", "mkdir": "MkdirFailed", "rename": "RenameFailed"}


def refusal_of(trouble: TransferError, operation: str, collection: Collection) -> Refusal:
    """A trouble as these operations report it. Codes seen: docs/sandbox/behavior.md, "Operations"."""
    message = (
        f"{trouble.message.capitalize()}, Error ({operation})\nEndpoint: {collection.name} ({collection.id})\n"
        f"Server: 127.0.0.1:443\nMessage: {trouble.message.capitalize()}\n---\nDetails: '{trouble.path}'\n"
    )
    failed = f"ExternalError.{_WORDS[operation]}"
    status, code = {
        "FILE_NOT_FOUND": (404, "NotFound" if operation == "stat" else "ClientError.NotFound"),
        "PERMISSION_DENIED": (403, "EndpointPermissionDenied"),
        "GC_NOT_CONNECTED": (502, f"{failed}.GCDisconnected"),
        "GC_PAUSED": (502, f"{failed}.GCPaused"),
        "AUTH": (502, f"{failed}.LoginFailed"),
        "NOT_A_DIRECTORY": (502, f"{failed}.NotDirectory"),
        "LIMIT_EXCEEDED": (502, f"{failed}.SizeLimit"),
        "NO_SPACE_LEFT": (502, f"{failed}.NoSpaceLeft"),
        "QUOTA_EXCEEDED": (502, f"{failed}.QuotaExceeded"),
        "INVALID_PATH_NAME": (400, "InvalidPath"),
        "PAUSED": (409, "OperationPaused"),
        "EXISTS": (502, f"{failed}.Exists"),
    }.get(trouble.code, (502, "EndpointError"))
    return Refusal(status, code, message, trouble.extra)


def checked(state: Any, call: Call, operation: str, *paths: str) -> Collection:
    """The collection of an operation. Raises Refusal when a fault is in force for it."""
    collection: Collection = collection_of(state, call.params["endpoint"])
    consents.require(state, call, collection)
    for path in paths:
        trouble = state.faults.trouble_with(collection, operation, path)
        if trouble is not None:
            raise refusal_of(trouble, operation, collection)
        if not rights.may(state, collection, call.identity, path, write=operation in ("mkdir", "rename")):
            raise refusal_of(TransferError("PERMISSION_DENIED", path), operation, collection)
    return collection


@routes(
    "GET",
    V + "/operation/endpoint/{endpoint}/ls",
    query=("path", "show_hidden", "orderby", "filter", "limit", "offset", "local_user"),
    inert=("local_user",),
)
def ls(state: Any, call: Call) -> dict[str, Any]:
    asked = call.query.get("path") or "/"
    collection = checked(state, call, "ls", asked)
    limit, offset = call.integer("limit", LISTING, 0, LISTING), call.integer("offset", 0)
    tests = [_listing_test(value) for value in call.all_of("filter")]
    hidden = call.flag("show_hidden", "true")
    try:
        local = filesystem.place(collection, asked)
        filesystem.held_inside(collection, local, asked, "source")
        status = os.stat(local)
        if not os.path.isdir(local):
            raise TransferError("NOT_A_DIRECTORY", asked)
        if not filesystem.readable(status):
            raise TransferError("PERMISSION_DENIED", asked)
        names = os.listdir(local)
        if len(names) > LISTING:
            raise TransferError("LIMIT_EXCEEDED", asked, message=f"more than {LISTING} entries")
        rows = []
        for name in names:
            if name.startswith(".") and not hidden:
                continue
            row = filesystem.file_document(os.path.join(local, name), shown_name(name))
            if not tests or any(test(row) for test in tests):
                rows.append(row)
    except TransferError as trouble:
        raise refusal_of(trouble, "ls", collection) from None
    except OSError as error:
        raise refusal_of(filesystem.trouble_of(error, asked, "source"), "ls", collection) from None
    rows.sort(key=lambda row: str(row["name"]))
    for part in reversed(call.several("orderby")):
        name, _, direction = part.strip().partition(" ")
        if name not in ("group", "last_modified", "name", "permissions", "size", "type", "user"):
            raise Unknown(f"orderby '{part}' of {call.path}")
        rows.sort(key=itemgetter(name), reverse=direction.upper() == "DESC")
    inner = filesystem.normal(asked)
    shown = rows[offset : offset + limit]
    return {
        "DATA": shown,
        "DATA_TYPE": "file_list",
        "absolute_path": inner.rstrip("/") + "/",
        "endpoint": collection.id,
        "length": len(shown),
        "path": (asked if asked.startswith(("/", "~")) else "/" + asked).rstrip("/") + "/",
        "rename_supported": True,
        "symlink_supported": True,
        "total": len(rows),
    }


def shown_name(name: str) -> str:
    """A name that is not UTF-8 is shown as latin-1 after U+FFFD (file_operations documentation, "Path Encoding")."""
    try:
        name.encode()
        return name
    except UnicodeError:
        return "\ufffd" + os.fsencode(name).decode("latin-1")


def _listing_test(text: str) -> Any:
    """One filter: `name:~*.txt/type:dir`, all parts must hold."""
    parts = []
    for part in text.split("/"):
        name, colon, value = part.partition(":")
        if not colon or name not in ("name", "type", "size", "last_modified", "user", "group"):
            raise Unknown(f"ls filter '{part}'")
        parts.append((name, value))

    def test(row: dict[str, Any]) -> bool:
        return all(_holds(row, name, value) for name, value in parts)

    return test


def _holds(row: dict[str, Any], name: str, value: str) -> bool:
    if name == "size":
        for sign in (">=", "<=", ">", "<"):
            if value.startswith(sign):
                number, size = int(value[len(sign) :]), int(row["size"])
                return {">=": size >= number, "<=": size <= number, ">": size > number, "<": size < number}[sign]
        return int(row["size"]) == int(value)
    if name == "last_modified":
        low, _, high = value.partition(",")
        moment = seconds_of(row["last_modified"])
        return (not low or moment >= seconds_of(low)) and (not high or moment <= seconds_of(high))
    refused = value.startswith("!")
    pattern = value[1:] if refused else value
    if pattern.startswith("~"):
        matched = fnmatch.fnmatchcase(str(row[name]), pattern[1:].replace("[", "[[]").replace("?", "[?]"))
    else:
        matched = str(row[name]) in pattern.removeprefix("=").split(",")
    return matched != refused


@routes("GET", V + "/operation/endpoint/{endpoint}/stat", query=("path", "local_user"), inert=("local_user",))
def stat(state: Any, call: Call) -> dict[str, Any]:
    asked = call.query.get("path") or "/"
    collection = checked(state, call, "stat", asked)
    try:
        local = filesystem.place(collection, asked)
        if filesystem.normal(asked) != "/":
            filesystem.held_inside(collection, os.path.dirname(local), asked, "source")
        return filesystem.file_document(local, os.path.basename(filesystem.normal(asked)) or "/")
    except TransferError as trouble:
        raise refusal_of(trouble, "stat", collection) from None
    except OSError as error:
        raise refusal_of(filesystem.trouble_of(error, asked, "source"), "stat", collection) from None


@routes(
    "POST", V + "/operation/endpoint/{endpoint}/mkdir", body=("DATA_TYPE", "path", "local_user"), inert=("local_user",)
)
def mkdir(state: Any, call: Call) -> dict[str, Any]:
    path = str(call.body.get("path") or "")
    if not path:
        raise bad("path is required")
    collection = checked(state, call, "mkdir", path)
    try:
        local = filesystem.place(collection, path, "destination")
        filesystem.held_inside(collection, os.path.dirname(local), path, "destination")
        if os.path.lexists(local):
            raise TransferError("EXISTS", path, "destination", "path exists")
        if not filesystem.writable(os.path.dirname(local)):
            raise TransferError("PERMISSION_DENIED", path, "destination")
        os.mkdir(local)
    except TransferError as trouble:
        raise refusal_of(trouble, "mkdir", collection) from None
    except OSError as error:
        raise refusal_of(filesystem.trouble_of(error, path, "destination"), "mkdir", collection) from None
    return {
        "DATA_TYPE": "mkdir_result",
        "code": "DirectoryCreated",
        "message": "The directory was created successfully",
        "request_id": call.request_id,
        "resource": call.path,
    }


@routes(
    "POST",
    V + "/operation/endpoint/{endpoint}/rename",
    body=("DATA_TYPE", "old_path", "new_path", "local_user"),
    inert=("local_user",),
)
def rename(state: Any, call: Call) -> dict[str, Any]:
    body = call.body
    old, new = str(body.get("old_path") or ""), str(body.get("new_path") or "")
    if not old or not new:
        raise bad("old_path and new_path are required")
    collection = checked(state, call, "rename", old, new)
    try:
        here, there = filesystem.place(collection, old), filesystem.place(collection, new, "destination")
        filesystem.held_inside(collection, os.path.dirname(here), old, "source")
        filesystem.held_inside(collection, os.path.dirname(there), new, "destination")
        if not os.path.lexists(here):
            raise TransferError("FILE_NOT_FOUND", old)
        if os.path.lexists(there):
            raise TransferError("EXISTS", new, "destination", "path exists")
        os.rename(here, there)
    except TransferError as trouble:
        raise refusal_of(trouble, "rename", collection) from None
    except OSError as error:
        raise refusal_of(filesystem.trouble_of(error, old, "source"), "rename", collection) from None
    return result(call, "FileRenamed", "File or directory renamed successfully")
