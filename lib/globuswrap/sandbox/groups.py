"""Globus Groups, as far as the `globus` command asks. Recorded in globus_sdk.testing: get_my_groups, get_group."""

from __future__ import annotations

from typing import Any

from globuswrap.sandbox import auth
from globuswrap.sandbox.state import id_of
from globuswrap.sandbox.web import Call, Refusal, Routes

routes = Routes("groups")


def groups_of(world: Any, identity: str) -> list[dict[str, Any]]:
    """One group, and those that tests have put into the state (kind "group")."""
    me = auth.known(world)[identity]
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
    return [default, *world.state.all("group")]


@routes("GET", "/v2/groups/my_groups", query=("statuses",))
def my_groups(world: Any, call: Call) -> list[dict[str, Any]]:
    left_out = ("description", "subscription_info")
    return [
        {name: value for name, value in group.items() if name not in left_out}
        for group in groups_of(world, call.identity or "")
    ]


@routes("GET", "/v2/groups/{group}", query=("include",))
def show(world: Any, call: Call) -> dict[str, Any]:
    for group in groups_of(world, call.identity or ""):
        if group["id"] == call.params["group"].lower():
            return group
    raise Refusal(404, "GROUP_NOT_FOUND", f"No group {call.params['group']}")
