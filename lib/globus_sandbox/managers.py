"""Globus Connect Server: the manager of the endpoint behind a mapped collection, and the guest collections made on it.

`connection` leads https://ENDPOINT.sandbox.invalid/api/ here, as /ENDPOINT/. Recorded in globus_sdk.testing: get_gcs_info,
get_collection_list and its refusal, get_user_credential_list; in globus-cli's fixtures, collection_operations: one collection,
its update and its deletion. The answer to a creation is assumed to be like that to an update.
"""

from __future__ import annotations

import os
import uuid
from pathlib import Path
from typing import Any

from globus_sandbox import consents, endpoints, filesystem, rights
from globus_sandbox.documents import Collection, id_of
from globus_sandbox.faults import TransferError
from globus_sandbox.web import Call, Refusal, Reply, Routes, Unknown, words

routes = Routes()

#: The connector for file systems (recorded).
POSIX = "145812c8-decc-41f1-83cf-bb2a85a2a70b"
#: What a collection says of itself to Transfer too.
_SHOWN = words(
    "display_name description organization department contact_email contact_info info_link default_directory "
    "force_encryption force_verify disable_verify public user_message user_message_link"
)
_CHANGED = (*_SHOWN, *words("DATA_TYPE collection_type keywords allow_guest_collections activity_notification_policy"))
#: Nobody is mailed, and the type of a collection does not change.
_INERT = words("activity_notification_policy collection_type")


def result(*rows: dict[str, Any]) -> dict[str, Any]:
    about = {"DATA_TYPE": "result#1.0.0", "code": "success", "detail": "success", "http_response_code": 200}
    return {**about, "data": list(rows)}


def refused(message: str, status: int = 403, code: str = "permission_denied") -> Refusal:
    return Refusal(status, code, message)


def unprocessable(message: str) -> Refusal:
    return Refusal(422, "unprocessable_entity", message)


def managed(state: Any, call: Call) -> list[Collection]:
    """The collections of the endpoint that is asked. Raises Refusal: the token is for another one."""
    endpoint = call.params["manager"]
    if call.server not in ("", endpoint):
        raise refused("The token is not for this endpoint", 401, "not_authenticated")
    return [one for one in state.collections if endpoints.host_of(state, one) == endpoint]


def collection_of(state: Any, call: Call, key: str = "") -> Collection:
    """A collection of the endpoint that is asked: that of the path, unless another is named. Raises Refusal."""
    key = key or call.params["collection"]
    for one in managed(state, call):
        if one.id == key.lower():
            return one
    raise refused(f"Collection {key} not found", 404, "not_found")


def administered(state: Any, call: Call) -> Collection:
    """The collection of the path. Raises Refusal unless the caller is its administrator."""
    collection = collection_of(state, call)
    if not rights.has_role(state, collection, call.identity, ("administrator",)):
        raise refused(f"Insufficient permissions on collection {collection.id}")
    return collection


def credential(collection: Collection, identity: str) -> str:
    """The account that an identity has on the storage: that of whoever runs the sandbox."""
    return id_of(f"credential of {identity} on {gateway(collection)}")


def gateway(collection: Collection) -> str:
    return id_of(f"gateway of {collection.path}")


def allows_guests(state: Any, collection: Collection) -> bool:
    return bool((state.documents.get("collection-policy", collection.id) or {}).get("allow_guest_collections", True))


def document(state: Any, collection: Collection, identity: str) -> dict[str, Any]:
    shown = endpoints.document(state, collection, identity)
    owner = rights.owner_of(state, collection)
    mapped = state.collections.get(shown["mapped_collection_id"] or "") or collection
    kind = {"collection_type": "mapped", "allow_guest_collections": allows_guests(state, collection)}
    if collection.is_guest:
        kind = {"collection_type": "guest", "mapped_collection_id": mapped.id}
        kind["user_credential_id"] = credential(mapped, owner)
    return {
        "DATA_TYPE": "collection#1.0.0",
        "id": collection.id,
        **{name: shown[name] for name in _SHOWN},
        "keywords": shown["keywords"].split(",") if shown["keywords"] else [],
        **kind,
        "identity_id": owner,
        "storage_gateway_id": gateway(mapped),
        "connector_id": POSIX,
        "manager_url": shown["gcs_manager_url"],
        "tlsftp_url": shown["tlsftp_server"],
        "high_assurance": False,
        "require_high_assurance": False,
        "authentication_assurance_timeout": 15840,
        "authentication_timeout_mins": 15840,
    }


@routes("GET", "/{manager}/info", login=False)
def info(state: Any, call: Call) -> dict[str, Any]:
    endpoint = call.params["manager"]
    if not managed(state, call):
        raise Unknown(f"the manager of endpoint {endpoint}: it has no collection here")
    about = {
        "DATA_TYPE": "info#1.0.0",
        "api_version": "1.29.0",
        "client_id": endpoint,
        "domain_name": f"{endpoint}.sandbox.invalid",
        "endpoint_id": endpoint,
        "manager_version": "5.4.80",
    }
    connector = {"DATA_TYPE": "connector#1.1.0", "display_name": "POSIX", "id": POSIX, "is_baa": False, "is_ha": False}
    return {"DATA_TYPE": "result#1.1.0", "code": "success", "data": [about, connector]}


@routes("GET", "/{manager}/collections", query=("mapped_collection_id", "filter", "page_size"))
def listed(state: Any, call: Call) -> dict[str, Any]:
    """What the caller may see: a guest collection, only where it belongs to them or they have a role."""
    wanted = call.several("filter")
    on = call.query.get("mapped_collection_id")
    rows = []
    for one in managed(state, call):
        row = document(state, one, call.identity)
        roles = rights.roles_of(state, one, call.identity)
        tests = {
            "mapped_collections": not one.is_guest,
            "guest_collections": one.is_guest,
            "managed_by_me": bool(roles),
            "created_by_me": row["identity_id"] == call.identity,
        }
        if set(wanted) - set(tests):
            raise unprocessable(f"Invalid filter: {','.join(wanted)}")
        if all(tests[name] for name in wanted) and on in (None, row.get("mapped_collection_id")):
            rows += [row] if roles or not one.is_guest else []
    if call.integer("page_size", 1000, 1, 1000) < len(rows):
        raise Unknown("pages of collections")
    return result(*rows)


@routes("GET", "/{manager}/collections/{collection}", query=("include",))
def show(state: Any, call: Call) -> dict[str, Any]:
    collection = collection_of(state, call)
    row = document(state, collection, call.identity)
    include = call.query.get("include")
    if include not in (None, "private_policies"):
        raise Unknown(f"include '{include}' of a collection")
    if include:
        administered(state, call)
        mapped = state.collections.get(row.get("mapped_collection_id", "")) or collection
        below = os.path.relpath(collection.path, mapped.path)
        row["root_path"] = "/" if below == "." else f"/{below}/"
    return result(row)


def store(state: Any, collection: Collection, body: Any) -> None:
    """Keep what a body says of a collection."""
    changes = {name: body[name] for name in _SHOWN if name in body}
    if "keywords" in body:
        changes["keywords"] = ",".join(body["keywords"] or ()) or None
    endpoints.change(state, collection, changes)
    if not collection.is_guest and "allow_guest_collections" in body:
        policy = {"allow_guest_collections": body["allow_guest_collections"]}
        state.documents.put("collection-policy", collection.id, policy)


@routes("PATCH", "/{manager}/collections/{collection}", body=_CHANGED, inert=_INERT)
def update(state: Any, call: Call) -> dict[str, Any]:
    collection = administered(state, call)
    store(state, collection, call.body)
    return result(document(state, collection, call.identity))


@routes(
    "POST",
    "/{manager}/collections",
    body=(*_CHANGED, *words("collection_base_path mapped_collection_id user_credential_id identity_id")),
    inert=("activity_notification_policy",),
)
def create(state: Any, call: Call) -> Reply:
    """A guest collection: a directory of a mapped collection, which then belongs to the caller."""
    body = call.body
    if body.get("collection_type") != "guest":
        raise Unknown("the creation of a mapped collection (in a sandbox: --collection NAME)")
    mapped = collection_of(state, call, str(body.get("mapped_collection_id")))
    manage = f"urn:globus:auth:scope:{call.params['manager']}:manage_collections"
    consents.require(state, call, mapped, scope=manage)
    if not allows_guests(state, mapped):
        raise refused("This collection does not allow guest collections")
    if body.get("identity_id", call.identity) != call.identity:
        raise refused("A guest collection is created for its owner alone")
    if body.get("user_credential_id") not in (None, credential(mapped, call.identity)):
        raise unprocessable("Invalid user credential")
    if not body.get("display_name"):
        raise unprocessable("display_name is required")
    base = str(body.get("collection_base_path") or "/")
    try:
        root = filesystem.place(mapped, base)
        filesystem.held_inside(mapped, root, base, "source")
        found = os.path.isdir(root)
    except (TransferError, OSError):
        found = False
    if not found:
        raise unprocessable(f"'{base}' is not a directory of the mapped collection")
    one = Collection(str(body["display_name"]), str(uuid.uuid4()), Path(root), "guest")
    state.collections.add(one, owner=call.identity, mapped_collection_id=mapped.id)
    store(state, one, body)
    return Reply(result(document(state, one, call.identity)), 201)


@routes("DELETE", "/{manager}/collections/{collection}")
def delete(state: Any, call: Call) -> dict[str, Any]:
    collection = administered(state, call)
    if not collection.is_guest:
        raise Unknown("the deletion of a mapped collection")
    state.collections.remove(collection.id)
    return result()


@routes("GET", "/{manager}/user_credentials", query=("storage_gateway",))
def credentials(state: Any, call: Call) -> dict[str, Any]:
    """One for each storage: everybody has the account of whoever runs the sandbox."""
    wanted = call.query.get("storage_gateway")
    gateways = {gateway(one): one for one in managed(state, call) if not one.is_guest}
    rows = [
        {
            "DATA_TYPE": "user_credential#1.0.0",
            "connector_id": POSIX,
            "display_name": "posix_credential",
            "id": credential(one, call.identity),
            "identity_id": call.identity,
            "invalid": False,
            "policies": {"DATA_TYPE": "posix_user_credential_policies#1.0.0"},
            "provisioned": False,
            "storage_gateway_id": key,
            "username": "sandbox",
        }
        for key, one in gateways.items()
        if wanted in (None, key)
    ]
    return {**result(*rows), "has_next_page": False}
