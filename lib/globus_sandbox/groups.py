"""Globus Groups: the groups of an identity, their members and their policies.

Recorded in globus_sdk.testing: get_my_groups, get_group, create_group, delete_group, set_group_policies.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from typing import Any

from globus_sandbox import auth
from globus_sandbox.documents import id_of
from globus_sandbox.web import Call, Refusal, Routes, Unknown, words

routes = Routes()

ROLES = ("member", "manager", "admin")
_POLICIES = {
    "is_high_assurance": False,
    "authentication_assurance_timeout": 28800,
    "group_visibility": "private",
    "group_members_visibility": "managers",
    "join_requests": False,
    "signup_fields": [],
}


def member(group: str, identity: str, username: str, role: str) -> dict[str, Any]:
    return {"group_id": group, "identity_id": identity, "username": username, "role": role, "status": "active"}


def membership(state: Any, group: str, identity: str, role: str) -> dict[str, Any]:
    known = auth.known(state).get(identity) or {"username": identity}
    return member(group, identity, known["username"], role)


def all_groups(state: Any) -> list[dict[str, Any]]:
    """Every group, with its `memberships`; one of them, of the owner of the sandbox, is always there."""
    key = id_of("group")
    default = {
        **empty(),
        "name": "Sandbox Users",
        "description": "Everyone who rehearses here.",
        "id": key,
        "memberships": [membership(state, key, state.owner, "admin")],
    }
    found = {key: default}
    for group in state.documents.all("group"):
        found[group["id"]] = {**group, "memberships": group.get("memberships", group.get("my_memberships", []))}
    return [group for group in found.values() if not group.get("deleted")]


def groups_of(state: Any, identity: str) -> list[dict[str, Any]]:
    """The groups with an active membership of this identity."""
    return [group for group in all_groups(state) if _role(group, identity) is not None]


def urns_of(state: Any, identity: str) -> set[str]:
    """What a list of principals may hold that means this identity."""
    groups = {f"urn:globus:groups:id:{group['id']}" for group in groups_of(state, identity)}
    return {auth.urn(identity), "public", "all_authenticated_users", *groups}


def _role(group: dict[str, Any], identity: str) -> str | None:
    for one in group["memberships"]:
        if one["identity_id"] == identity and one["status"] == "active":
            return str(one["role"])
    return None


def _shown(group: dict[str, Any], identity: str, include: Iterable[str] = ()) -> dict[str, Any]:
    """A group as one member sees it; `include` adds parts to it (the CLI asks for my_memberships and memberships)."""
    hidden = ("memberships", "subscription_admin_verified_id", "terms_and_conditions")
    document = {name: value for name, value in group.items() if name not in hidden}
    document["policies"] = {name: group["policies"][name] for name in ("group_visibility", "group_members_visibility")}
    document["my_memberships"] = [one for one in group["memberships"] if one["identity_id"] == identity]
    for part in include:
        if part == "memberships":
            document["memberships"] = group["memberships"]
        elif part not in ("my_memberships", "policies"):
            raise Unknown(f"include '{part}' of a group")
    return document


def _group(state: Any, call: Call, *roles: str) -> dict[str, Any]:
    """The group of a path. Raises Refusal, also when the caller has none of the roles, if there are any."""
    for group in all_groups(state):
        if group["id"] == call.params["group"].lower():
            if roles and _role(group, call.identity) not in roles:
                raise _not_allowed()
            return group
    raise Refusal(404, "GROUP_NOT_FOUND", f"No group {call.params['group']}")


def _not_allowed() -> Refusal:
    return Refusal(403, "FORBIDDEN", "You are not allowed to perform this action on this group")


@routes("GET", "/v2/groups/my_groups", query=("statuses",))
def my_groups(state: Any, call: Call) -> list[dict[str, Any]]:
    wanted = call.several("statuses") or ["active"]
    left_out = ("description", "subscription_info", "subscription_id")
    rows = [_shown(group, call.identity) for group in all_groups(state)]
    return [
        {name: value for name, value in row.items() if name not in left_out}
        for row in rows
        if any(one["status"] in wanted for one in row["my_memberships"])
    ]


@routes("GET", "/v2/groups/{group}", query=("include",))
def show(state: Any, call: Call) -> dict[str, Any]:
    group = _group(state, call)
    if all(one["identity_id"] != call.identity for one in group["memberships"]):  # neither a member nor asked to be
        raise _not_allowed()
    document = _shown(group, call.identity, call.several("include"))
    names = ("subscription_admin_verified_id", "terms_and_conditions")  # `globus group update` reads them
    return {**document, **{name: group.get(name) for name in names}}


@routes("POST", "/v2/groups", body=words("name description parent_id"))
def create(state: Any, call: Call) -> dict[str, Any]:
    body = call.body
    if not body.get("name"):
        raise Refusal(422, "UNPROCESSABLE_ENTITY", "name is required")
    key = str(uuid.uuid4())
    group = {
        **empty(),
        "id": key,
        "name": body["name"],
        "description": body.get("description"),
        "parent_id": body.get("parent_id"),
        "memberships": [membership(state, key, call.identity, "admin")],
    }
    state.documents.put("group", key, group)
    return _shown(group, call.identity)


def empty() -> dict[str, Any]:
    return {
        "parent_id": None,
        "group_type": "regular",
        "enforce_session": False,
        "session_limit": 28800,
        "session_timeouts": {},
        "policies": dict(_POLICIES),
        "subscription_id": None,
        "subscription_info": None,
        "subscription_admin_verified_id": None,
        "terms_and_conditions": None,
    }


@routes("PUT", "/v2/groups/{group}", body=words("name description terms_and_conditions subscription_admin_verified_id"))
def update(state: Any, call: Call) -> dict[str, Any]:
    group = {**_group(state, call, "admin"), **dict(call.body.items())}
    state.documents.put("group", group["id"], group)
    return _shown(group, call.identity)


@routes("DELETE", "/v2/groups/{group}")
def delete(state: Any, call: Call) -> dict[str, Any]:
    group = _group(state, call, "admin")
    state.documents.put("group", group["id"], {**group, "deleted": True})
    return _shown(group, call.identity)


@routes("GET", "/v2/groups/{group}/policies")
def policies(state: Any, call: Call) -> dict[str, Any]:
    return {**_POLICIES, **_group(state, call, "admin")["policies"]}


@routes("PUT", "/v2/groups/{group}/policies", body=_POLICIES)
def set_policies(state: Any, call: Call) -> dict[str, Any]:
    group = _group(state, call, "admin")
    changed = {**_POLICIES, **group["policies"], **dict(call.body.items())}
    state.documents.put("group", group["id"], {**group, "policies": changed})
    return changed


#: What each action makes of a membership: who may ask for it, and its status afterwards.
_ACTIONS = {
    "add": (("admin", "manager"), "active"),
    "invite": (("admin", "manager"), "invited"),
    "remove": (("admin", "manager"), "removed"),
    "approve": (("admin", "manager"), "active"),
    "reject": (("admin", "manager"), "rejected"),
    "join": ((), "active"),
    "request_join": ((), "pending"),
    "accept": ((), "active"),
    "decline": ((), "declined"),
    "leave": (("member", "manager", "admin"), "left"),
}
_ENTERING = ("add", "invite", "join", "request_join", "accept", "approve")


@routes("POST", "/v2/groups/{group}", body=_ACTIONS)
def membership_actions(state: Any, call: Call) -> dict[str, Any]:
    """Actions on memberships, several at once (documented: Groups API, "Perform Actions on Group Members").

    The codes of what does not work are recorded: globus-cli, tests/files/api_fixtures/groups.yaml.
    """
    group = _group(state, call)
    rows = {one["identity_id"]: one for one in group["memberships"]}
    answer: dict[str, Any] = {}
    for action, members in call.body.items():
        allowed, status = _ACTIONS[action]
        answer[action] = []
        for one in members:
            identity = str(one["identity_id"]).lower()
            own = identity == call.identity
            if not (own if not allowed or action == "leave" else _role(group, call.identity) in allowed):
                raise _not_allowed()
            before = rows.get(identity)
            if before is None and action in ("remove", "approve", "reject", "accept", "decline", "leave"):
                code, detail = "NO_MEMBERSHIP", "Identity has no membership in group."
            elif before is not None and before["status"] == "active" and action in _ENTERING:
                code, detail = "ALREADY_ACTIVE", "The identity is already an active member of the group."
            else:
                role = str(one.get("role") or (before or {"role": "member"})["role"])
                rows[identity] = {**membership(state, group["id"], identity, role), "status": status}
                answer[action].append(rows[identity])
                continue
            refused = {"code": code, "detail": detail, "identity_id": identity}
            answer.setdefault("errors", {}).setdefault(action, []).append(refused)
    gone = ("removed", "rejected", "declined", "left")
    kept = [one for one in rows.values() if one["status"] not in gone]
    state.documents.put("group", group["id"], {**group, "memberships": kept})
    return answer
