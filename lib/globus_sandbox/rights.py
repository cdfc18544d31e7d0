"""Who may do what: the owner of a collection, those with a role on it, and those with a permission for a path.

A mapped collection gives every identity the account that runs the sandbox; a guest collection is its owner's, and belongs
to others only as far as a permission says (documented: permissions, roles).
"""

from __future__ import annotations

from typing import Any

from globus_sandbox.documents import Collection
from globus_sandbox.groups import groups_of
from globus_sandbox.web import Call, Refusal

#: Roles that may change permissions, see all permissions, and see the tasks of others (documented: roles).
MANAGES_ACCESS = ("administrator", "access_manager")
MONITORS = ("administrator", "activity_manager", "activity_monitor")


def owner_of(state: Any, collection: Collection) -> str:
    """The identity that a collection belongs to: the one that made it, else the one the sandbox was started for."""
    made = state.documents.get("made-collection", collection.id) or {}
    return str(made.get("owner", state.owner))


def principals(state: Any, identity: str) -> set[tuple[str, str]]:
    """As whom an identity may be named in a permission or a role."""
    groups = {("group", group["id"]) for group in groups_of(state, identity)}
    return {("identity", identity), ("all_authenticated_users", ""), ("anonymous", ""), *groups}


def roles_of(state: Any, collection: Collection, identity: str) -> list[str]:
    if owner_of(state, collection) == identity:
        return ["administrator"]
    mine = principals(state, identity)
    every = (each["role"] for each in state.documents.all("role", collection=collection.id))
    return sorted({each["role"] for each in every if (each["principal_type"], each["principal"]) in mine})


def has_role(state: Any, collection: Collection, identity: str, roles: tuple[str, ...]) -> bool:
    return any(role in roles for role in roles_of(state, collection, identity))


def require_role(state: Any, call: Call, collection: Collection, roles: tuple[str, ...] = ("administrator",)) -> None:
    """Raises Refusal unless the caller has one of these roles."""
    if not has_role(state, collection, call.identity, roles):
        raise Refusal(
            403,
            "PermissionDenied",
            f"You do not have the required effective role on '{collection.id}' to perform the requested operation",
        )


def may(state: Any, collection: Collection, identity: str, path: str, *, write: bool) -> bool:
    """Whether an identity may read or write a path: the most permissive of its permissions counts (documented)."""
    if not collection.is_guest or owner_of(state, collection) == identity:
        return True
    mine = principals(state, identity)
    below = path.rstrip("/") + "/"
    for each in state.documents.all("access", collection=collection.id):
        rule = each["rule"]
        principal = rule["principal"] if rule["principal_type"] in ("identity", "group") else ""
        if (rule["principal_type"], principal) not in mine:
            continue
        if not below.startswith(rule["path"]) and (write or not rule["path"].startswith(below)):
            continue  # the directories above what is shared can be listed, to get there
        if rule["permissions"] == "rw" or not write:
            return True
    return False


def visible(state: Any, collection: Collection, identity: str) -> bool:
    """Whether a collection that is not public shows itself."""
    return may(state, collection, identity, "/", write=False) or bool(roles_of(state, collection, identity))
