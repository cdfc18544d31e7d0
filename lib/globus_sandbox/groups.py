"""Globus Groups, as far as the `globus` command asks. Recorded in globus_sdk.testing: get_my_groups, get_group."""

from __future__ import annotations

from typing import Any

from globus_sandbox import auth
from globus_sandbox.documents import id_of
from globus_sandbox.web import Call, Refusal, Routes

routes = Routes("groups")


def groups_of(state: Any, identity: str) -> list[dict[str, Any]]:
    """One group, and those that tests have put into the state (kind "group")."""
    me = auth.known(state)[identity]
    key = id_of("group")
    default = {
        "name": "Sandbox Users",
        "description": "Everyone who rehearses here.",
        "parent_id": None,
        "id": key,
        "group_type": "regular",
        "enforce_session": False,
        "session_limit": 28800,
        "session_timeouts": {},
        "my_memberships": [
            {
                "group_id": key,
                "identity_id": identity,
                "username": me["username"],
                "role": "admin",
                "status": "active",
            }
        ],
        "policies": {"group_visibility": "private", "group_members_visibility": "managers"},
        "subscription_id": None,
        "subscription_info": None,
    }
    return [default, *state.documents.all("group")]


@routes("GET", "/v2/groups/my_groups", query=("statuses",))
def my_groups(state: Any, call: Call) -> list[dict[str, Any]]:
    left_out = ("description", "subscription_info")
    return [
        {name: value for name, value in group.items() if name not in left_out}
        for group in groups_of(state, call.identity or "")
    ]


@routes("GET", "/v2/groups/{group}", query=("include",))
def show(state: Any, call: Call) -> dict[str, Any]:
    for group in groups_of(state, call.identity or ""):
        if group["id"] == call.params["group"].lower():
            return group
    raise Refusal(404, "GROUP_NOT_FOUND", f"No group {call.params['group']}")
