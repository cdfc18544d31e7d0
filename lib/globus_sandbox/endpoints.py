"""Globus Transfer: collections, and what is done on them at once (`ls`, `stat`, `mkdir`, `rename`)."""

from __future__ import annotations

import operator
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from globus_sandbox import auth, consents, filesystem, rights
from globus_sandbox.documents import Collection, id_of, seconds_of
from globus_sandbox.faults import TransferError
from globus_sandbox.transfer import V, bad, collection_of, result, some_fields
from globus_sandbox.web import Call, Refusal, Routes, Unknown, like, ordered, words

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


def document(state: Any, collection: Collection, identity: str) -> dict[str, Any]:
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
    """Collections that have every word of the text in name, description, id or organization."""
    limit, offset = call.integer("limit", 25, 1, 100), call.integer("offset", 0)
    scope = call.query.get("filter_scope", "all")
    if scope not in SCOPES:
        raise bad(f"Invalid filter_scope: '{scope}'")
    broken = call.query.get("filter_non_functional", "false").lower()
    if broken not in ("0", "1", "true", "false"):
        raise bad(f"Invalid filter_non_functional: '{broken}'")
    owner, kind = call.query.get("filter_owner_id"), call.query.get("filter_entity_type")
    used = _used(state, call.identity)
    wanted = call.query.get("filter_fulltext", "").lower().split()
    if scope == "all" and not wanted:
        raise bad("filter_fulltext is required with filter_scope=all")
    rows = []
    for collection in state.collections:
        one = document(state, collection, call.identity)
        mine, own = "administrator" in one["my_effective_roles"], rights.owner_of(state, collection)
        text = f"{one['display_name']} {one['description']} {one['id']} {one['organization']}".lower()
        belongs = {
            "all": True,
            "my-endpoints": mine and own == call.identity,
            "my-gcp-endpoints": mine and one["is_globus_connect"] and not collection.is_guest,
            "administered-by-me": mine,
            "recently-used": collection.id in used,
            "in-use": used.get(collection.id, False),
            "shared-by-me": collection.is_guest and mine,
            "shared-with-me": collection.is_guest and not mine and rights.visible(state, collection, call.identity),
        }
        if (
            belongs[scope]
            and all(word in text for word in wanted)
            and owner in (None, one["owner_id"], own)
            and kind in (None, one["entity_type"])
            and broken not in ("1", "true")  # none is
        ):
            rows.append(one)
    return {
        "DATA": rows[offset : offset + limit],
        "DATA_TYPE": "endpoint_list",
        "has_next_page": offset + limit < len(rows),
        "limit": limit,
        "offset": offset,
    }


#: Documented: endpoint_search, "filter_scope".
SCOPES = words("all my-endpoints my-gcp-endpoints administered-by-me recently-used in-use shared-by-me shared-with-me")


def _used(state: Any, identity: str) -> dict[str, bool]:
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
    change(state, collection, changes)
    return result(call, "Updated", "Endpoint updated successfully")


def change(state: Any, collection: Collection, changes: dict[str, Any]) -> None:
    before = state.documents.get("endpoint", collection.id) or {}
    state.documents.put("endpoint", collection.id, {**before, **changes})


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


@contextmanager
def operation(state: Any, call: Call, name: str, *paths: str) -> Iterator[Collection]:
    """The collection of an operation. Raises Refusal: for a fault in force, a missing right, and what goes wrong inside."""
    collection: Collection = collection_of(state, call.params["endpoint"])
    consents.require(state, call, collection)
    try:
        for path in paths:
            trouble = state.faults.trouble_with(collection, name, path)
            if trouble is not None:
                raise trouble
            if not rights.may(state, collection, call.identity, path, write=name in ("mkdir", "rename")):
                raise TransferError("PERMISSION_DENIED", path)
        yield collection
    except TransferError as trouble:
        raise refusal_of(trouble, name, collection) from None
    except OSError as error:
        raise refusal_of(filesystem.trouble_of(error, paths[0], "source"), name, collection) from None


@routes(
    "GET",
    V + "/operation/endpoint/{endpoint}/ls",
    query=("path", "show_hidden", "orderby", "filter", "limit", "offset", "local_user"),
    inert=("local_user",),
)
def ls(state: Any, call: Call) -> dict[str, Any]:
    asked = call.query.get("path") or "/"
    limit, offset = call.integer("limit", LISTING, 0, LISTING), call.integer("offset", 0)
    tests = [_listing_test(value) for value in call.all_of("filter")]
    hidden = call.flag("show_hidden", "true")
    with operation(state, call, "ls", asked) as collection:
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
        rows = [
            filesystem.file_document(os.path.join(local, name), shown_name(name))
            for name in names
            if hidden or not name.startswith(".")
        ]
    if tests:
        rows = [row for row in rows if any(test(row) for test in tests)]
    rows.sort(key=lambda row: str(row["name"]))
    orders = words("group last_modified name permissions size type user")
    rows = ordered(rows, call.several("orderby"), orders, lambda part: Unknown(f"orderby '{part}' of {call.path}"))
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


_SIGNS = {"": operator.eq, ">=": operator.ge, "<=": operator.le, ">": operator.gt, "<": operator.lt}


def _holds(row: dict[str, Any], name: str, value: str) -> bool:
    if name == "size":
        sign = value.rstrip("0123456789")
        return bool(_SIGNS[sign](int(row["size"]), int(value[len(sign) :])))
    if name == "last_modified":
        low, _, high = value.partition(",")
        moment = seconds_of(row["last_modified"])
        return (not low or moment >= seconds_of(low)) and (not high or moment <= seconds_of(high))
    refused = value.startswith("!")
    pattern = value[1:] if refused else value
    if pattern.startswith("~"):
        matched = like(str(row[name]), pattern[1:])
    else:
        matched = str(row[name]) in pattern.removeprefix("=").split(",")
    return matched != refused


@routes("GET", V + "/operation/endpoint/{endpoint}/stat", query=("path", "local_user"), inert=("local_user",))
def stat(state: Any, call: Call) -> dict[str, Any]:
    asked = call.query.get("path") or "/"
    with operation(state, call, "stat", asked) as collection:
        local = filesystem.entry(collection, asked)
        return filesystem.file_document(local, os.path.basename(filesystem.normal(asked)) or "/")


@routes(
    "POST", V + "/operation/endpoint/{endpoint}/mkdir", body=("DATA_TYPE", "path", "local_user"), inert=("local_user",)
)
def mkdir(state: Any, call: Call) -> dict[str, Any]:
    path = str(call.body.get("path") or "")
    if not path:
        raise bad("path is required")
    with operation(state, call, "mkdir", path) as collection:
        local = filesystem.entry(collection, path)
        if os.path.lexists(local):
            raise TransferError("EXISTS", path, message="path exists")
        if not filesystem.writable(os.path.dirname(local)):
            raise TransferError("PERMISSION_DENIED", path)
        os.mkdir(local)
    return result(call, "DirectoryCreated", "The directory was created successfully", DATA_TYPE="mkdir_result")


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
    with operation(state, call, "rename", old, new) as collection:
        here, there = filesystem.entry(collection, old), filesystem.entry(collection, new)
        if not os.path.lexists(here):
            raise TransferError("FILE_NOT_FOUND", old)
        if os.path.lexists(there):
            raise TransferError("EXISTS", new, message="path exists")
        os.rename(here, there)
    return result(call, "FileRenamed", "File or directory renamed successfully")
