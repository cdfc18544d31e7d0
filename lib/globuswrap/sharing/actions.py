"""What changes permissions, by the `globus` command. Each step looks first, so that doing it again changes nothing."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from typing import Any

from globuswrap.collections import principals
from globuswrap.collections.principals import Who
from globuswrap.errors import UsageProblem
from globuswrap.globus import verbs
from globuswrap.globus.errors import Conflict, NotFound
from globuswrap.sharing import rules
from globuswrap.sharing.rules import Existing, Step, Wanted
from globuswrap.system import log


@dataclass(frozen=True)
class Mail:
    """Whether Globus writes to the person when a rule is made, and what it says besides."""

    send: bool = False
    message: str | None = None


def list_rules(collection: str, *, names: bool = False) -> list[Existing]:
    """The rules of a collection. Refused if it is none that can have any."""
    found = [rules.existing(row) for row in verbs.permissions(collection)]
    if names:
        known = principals.named(each.who for each in found)
        found = [replace(each, who=known[each.who]) for each in found]
    return found


def plan(collection: str, wanted: Sequence[Wanted]) -> list[Step]:
    """What leads to these rules of a collection; nothing is changed."""
    return rules.plan(wanted, list_rules(collection))


def grant(collection: str, wanted: Sequence[Wanted], mail: Mail | None = None) -> list[Step]:
    """Make sure that these rules are there; what was done for each (create, update or keep)."""
    steps = plan(collection, wanted)
    carry_out(collection, steps, mail)
    return steps


def carry_out(
    collection: str,
    steps: Sequence[Step],
    mail: Mail | None = None,
    *,
    offices: Sequence[tuple[str, Role]] = (),
    directories: Iterable[str] = (),
) -> None:
    """Do the steps of a plan, in order: for rules, then `offices` for roles. `directories` are made where they are missing.

    What can fail before a rule or role changes is done first: everyone who is to get a mail has an address, and new people have
    their identities. Raises at the first step that is refused.
    """
    mail = mail or Mail()
    created = [each.wanted.who for each in steps if each.act == "create" and each.wanted is not None]
    for who in created if mail.send else ():
        if who.kind != "identity" or not who.mail:
            cause = f"Globus shows no email address of {who}; no rule was changed"
            raise UsageProblem("no-mail", cause, "remove --mail, and notify them yourself")
    known = principals.provisioned([*created, *(role.who for _, role in offices)])
    for path in directories:
        if make_directory(collection, path):
            log.say(f"made   {path}")
    for each in steps:
        if each.act == "create":
            assert each.wanted is not None
            _create(collection, replace(each.wanted, who=known[each.wanted.who]), mail)
        elif each.act == "update":
            assert each.wanted is not None and each.existing is not None
            _update(collection, each.wanted, each.existing)
        elif each.act == "delete":
            assert each.existing is not None and each.existing.id is not None
            _delete(collection, each.existing.id)
    for act, role in offices:
        if act == "create":
            _appoint(collection, replace(role, who=known[role.who]))
        elif act == "delete":
            _dismiss(collection, role)


def _create(collection: str, wanted: Wanted, mail: Mail) -> None:
    """A rule is sent as a document. Not all that it says is an option of each supported `globus endpoint permission`: the date
    is one since 3.33, taking a date away is none."""
    who, ends = wanted.who, wanted.expires.text if wanted.expires is not None else None
    rule = {
        **{
            "DATA_TYPE": "access",
            "principal_type": who.kind,
            "principal": who.id,
            "path": wanted.path,
            "permissions": wanted.permissions,
        },
        **({"expiration_date": ends} if ends is not None else {}),
        **({"notify_email": who.mail} if mail.send else {}),
        **({"notify_message": mail.message} if mail.send and mail.message else {}),
    }
    try:
        verbs.send_document("transfer", "POST", f"/endpoint/{collection}/access", rule)
    except Conflict:
        # There is no submission id here: a reply that was lost, or someone else, has made it meanwhile.
        there = next((each for each in list_rules(collection) if rules.same_place(wanted, each)), None)
        if there is None:
            raise
        if rules.difference(wanted, there, datetime.now(timezone.utc)):
            _update(collection, wanted, there)


def _update(collection: str, wanted: Wanted, rule: Existing) -> None:
    changed: dict[str, Any] = {"DATA_TYPE": "access", "permissions": wanted.permissions}
    if wanted.expires is not None:
        changed["expiration_date"] = wanted.expires.text
    elif rule.expires is not None and rule.expires <= datetime.now(timezone.utc):
        changed["expiration_date"] = None  # one that is not given stays as it is
    verbs.send_document("transfer", "PUT", f"/endpoint/{collection}/access/{rule.id}", changed)


def _delete(collection: str, rule: str) -> None:
    try:
        verbs.send("endpoint", "permission", "delete", collection, rule)
    except NotFound:
        if any(each.id == rule for each in list_rules(collection)):  # gone is what was wanted, if it is true
            raise


def removals(collection: str, path: str, whos: Sequence[Who] | None) -> list[Step]:
    """The steps that take the rules on this very path away, of these principals or (None) of all."""
    return [
        Step("delete", None, each)
        for each in list_rules(collection, names=True)
        if each.id is not None and each.path == path and (whos is None or each.who in whos)
    ]


def make_directory(collection: str, path: str) -> bool:
    """Make a directory and those above it that are missing; False if it was there. Raises what Globus refuses."""
    path = path.rstrip("/")
    if not path:
        return False
    kind = verbs.kind(f"{collection}:{path}/")
    if kind == "dir":
        return False
    if kind is not None:
        raise UsageProblem("not-a-directory", f"{path} is a {kind}", "name a directory")
    make_directory(collection, path.rpartition("/")[0])
    verbs.mkdir(f"{collection}:{path}/")
    return True


# roles


@dataclass(frozen=True)
class Role:
    """A role on a collection. `id` None: wanted, not there yet."""

    who: Who
    role: str
    id: str | None = None


def roles(collection: str, *, names: bool = False) -> list[Role]:
    found = [
        Role(Who(str(row["principal_type"]), str(row["principal"]).lower()), str(row["role"]), str(row["id"]))
        for row in verbs.roles(collection)
    ]
    if names:
        known = principals.named(each.who for each in found)
        found = [replace(each, who=known[each.who]) for each in found]
    return found


def plan_roles(wanted: Sequence[Role], found: Sequence[Role], *, prune: bool) -> list[tuple[str, Role]]:
    """(act, role) for each: create, keep, extra, or delete with `prune`. An administrator is never taken away.

    Whoever removes the last administrator by a file that forgot them would lock everyone out, themselves first.
    """
    steps = [
        ("keep" if any((each.who, each.role) == (one.who, one.role) for one in found) else "create", each)
        for each in wanted
    ]
    for each in found:
        listed = any((each.who, each.role) == (one.who, one.role) for one in wanted)
        if not listed and each.role != "administrator":
            steps.append(("delete" if prune else "extra", each))
    return steps


def _appoint(collection: str, role: Role) -> None:
    kind = "--group" if role.who.kind == "group" else "--identity"
    try:
        verbs.send("endpoint", "role", "create", collection, kind, role.who.id, "--role", role.role)
    except Conflict:
        if not any((each.who, each.role) == (role.who, role.role) for each in roles(collection)):
            raise


def _dismiss(collection: str, role: Role) -> None:
    try:
        verbs.send("endpoint", "role", "delete", collection, str(role.id))
    except NotFound:
        if any(each.id == role.id for each in roles(collection)):
            raise
