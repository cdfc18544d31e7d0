"""Manage groups through the `globus` command: created once by name, with the requested members."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from globuswrap.collections.names import UUID
from globuswrap.collections.principals import Who
from globuswrap.errors import UsageProblem
from globuswrap.globus import verbs
from globuswrap.globus.errors import Transient
from globuswrap.system import log

ROLES = ("member", "manager", "admin")


@dataclass(frozen=True)
class Member:
    """Someone in a group. `status` is the service's: active, invited, pending."""

    id: str
    name: str
    role: str
    status: str


@dataclass(frozen=True)
class Change:
    """One step: create (the group), add, or remove; keep where nothing has to be done."""

    act: str
    who: str
    id: str = ""


def find(name: str) -> str | None:
    """The id of a group of one's own by its name or id; None if there is none. UsageProblem if several have the name."""
    if UUID.fullmatch(name):
        return name.lower()
    found = _named(name)
    if len(found) > 1:
        raise UsageProblem("no-such-group", f"{name!r} matches several of your groups", "give the UUID of one")
    return found[0] if found else None


def create(name: str, description: str | None = None) -> str:
    """Make a group, of whose name there is none. The CLI asks again when a reply is lost: of two that it has made, one stays."""
    try:
        verbs.create_group(name, description)
    except Transient:
        if not _named(name):
            raise
    kept, *extra = sorted(_named(name))
    for each in extra:
        log.say(f"group {each} was created twice; this copy was deleted")
        verbs.send("group", "delete", each)
    return kept


def _named(name: str) -> list[str]:
    return [str(row["id"]).lower() for row in verbs.groups() if row.get("name") == name]


def members(group: str) -> list[Member]:
    return [
        Member(
            str(row["identity_id"]).lower(),
            str(row.get("username") or row["identity_id"]),
            str(row["role"]),
            str(row["status"]),
        )
        for row in verbs.group_members(group)
    ]


def plan(there: Sequence[Member], add: Sequence[Who], remove: Sequence[Who], role: str) -> list[Change]:
    """What leads to these people being in the group, and those not. Whoever is in it keeps the role they have."""
    if any(who.kind != "identity" for who in (*add, *remove)):
        raise UsageProblem("bad-option", "members of a group are people", "name each of them")
    if {who.id for who in add} & {who.id for who in remove}:
        raise UsageProblem("contradiction", "someone is to be added and removed", "name them once")
    active = {member.id for member in there if member.status == "active"}
    known = {member.id for member in there}
    return [
        *(
            Change(
                "keep" if who.id in active else "add", f"{who} as {role}" if who.id not in active else str(who), who.id
            )
            for who in add
        ),
        *(Change("remove" if who.id in known else "keep", str(who), who.id) for who in remove),
    ]


def carry_out(group: str, changes: Sequence[Change], role: str) -> None:
    """Do the steps; what a request that is sent again has done already is known by the members there are then."""
    for each in changes:
        if each.act == "add":
            verbs.send("group", "member", "add", "--role", role, group, each.id)
        elif each.act == "remove":
            verbs.send("group", "member", "remove", group, each.id)
