"""What changes permissions, by the `globus` command. Each step looks first, so that doing it again changes nothing."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from typing import Any

from globuswrap.collections import principals
from globuswrap.collections.principals import Who
from globuswrap.errors import UsageProblem
from globuswrap.globus import arguments, command, verbs, versions
from globuswrap.globus.errors import Conflict, NotFound
from globuswrap.sharing import rules
from globuswrap.sharing.rules import Existing, Step, Wanted


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


def grant(collection: str, wanted: Sequence[Wanted], mail: Mail | None = None) -> list[Step]:
    """Make sure that these rules are there; what was done for each (create, update or keep)."""
    steps = plan(collection, wanted, prune=False)
    return carry_out(collection, [each for each in steps if each.wanted is not None], mail)


def plan(collection: str, wanted: Sequence[Wanted], *, prune: bool, names: bool = False) -> list[Step]:
    return rules.plan(wanted, list_rules(collection, names=names), datetime.now(timezone.utc), prune=prune)


def carry_out(
    collection: str, steps: Sequence[Step], mail: Mail | None = None, done: Callable[[Step], None] | None = None
) -> list[Step]:
    """Do the steps of a plan, in order; `done` is called after each. Raises at the first that is refused."""
    steps, _ = prepared(steps, (), mail)
    for each in steps:
        if each.act == "create":
            assert each.wanted is not None
            _create(collection, each.wanted, mail or Mail())
        elif each.act == "update":
            assert each.wanted is not None and each.existing is not None
            _update(collection, each.wanted, each.existing)
        elif each.act == "delete":
            assert each.existing is not None and each.existing.id is not None
            _delete(collection, each.existing.id)
        if done is not None:
            done(each)
    return list(steps)


def prepared(
    steps: Sequence[Step], offices: Sequence[tuple[str, Role]], mail: Mail | None = None
) -> tuple[list[Step], list[tuple[str, Role]]]:
    """The steps of a plan, with everything done that can fail before a rule or role changes: new people have their
    identities, everyone who is to get a mail has an address."""
    created = [each.wanted for each in steps if each.act == "create" and each.wanted is not None]
    if mail is not None and mail.send:
        for one in created:
            if one.who.kind != "identity" or not one.who.mail:
                cause = f"Globus shows no email address of {one.who}; no rule was changed"
                raise UsageProblem("no-mail", cause, "remove --mail, and notify them yourself")
    known = principals.provisioned([*(one.who for one in created), *(role.who for _, role in offices)])
    return (
        [replace(each, wanted=_with_id(each.wanted, known)) for each in steps],
        [(act, replace(role, who=known[role.who])) for act, role in offices],
    )


def _with_id(wanted: Wanted | None, known: Mapping[Who, Who]) -> Wanted | None:
    return None if wanted is None else replace(wanted, who=known.get(wanted.who, wanted.who))


def _create(collection: str, wanted: Wanted, mail: Mail) -> None:
    who = wanted.who
    principal = {
        "identity": ("--identity", who.id),
        "group": ("--group", who.id),
        "all_authenticated_users": ("--all-authenticated",),
        "anonymous": ("--anonymous",),
    }[who.kind]
    address = who.mail if mail.send else ""
    argv = (
        *("endpoint", "permission", "create", "--permissions", wanted.permissions, *principal),
        *arguments.option("expiration-date", wanted.expires.text if wanted.expires is not None else None),
        *arguments.option("notify-email", address or None),
        *arguments.option("notify-message", mail.message if address else None),
        *("--", f"{collection}:{wanted.path}"),
    )
    stdin: bytes | None = None
    if wanted.expires is not None and wanted.expires.text is not None and not _dated():
        argv, stdin = _document("POST", f"/endpoint/{collection}/access", _rule(wanted, address, mail.message))
    try:
        verbs.send(*argv, stdin=stdin)
    except Conflict:
        # There is no submission id here: a reply that was lost, or someone else, has made it meanwhile.
        rule = next((each for each in list_rules(collection) if rules.same_place(wanted, each)), None)
        if rule is None:
            raise
        if rules.difference(wanted, rule, datetime.now(timezone.utc)):
            _update(collection, wanted, rule)


def _dated() -> bool:
    """Whether this `globus` takes the date of a permission as an option."""
    return command.find().version >= versions.DATED_PERMISSIONS


def _document(method: str, path: str, body: dict[str, Any]) -> tuple[tuple[str, ...], bytes]:
    """Arguments and input for what no option of `globus endpoint permission` says."""
    argv = ("api", "transfer", method, path, "--body-file", "-", "--content-type", "json")
    return argv, json.dumps({"DATA_TYPE": "access", **body}).encode()


def _rule(wanted: Wanted, address: str, message: str | None) -> dict[str, Any]:
    """The document of a rule with a date, as the options of `permission create` would make it."""
    who = wanted.who
    mail = {"notify_email": address, **({"notify_message": message} if message else {})} if address else {}
    ends = wanted.expires.text if wanted.expires is not None else None
    place = {"path": wanted.path, "permissions": wanted.permissions, "expiration_date": ends}
    return {"principal_type": who.kind, "principal": who.id, **place, **mail}


def _update(collection: str, wanted: Wanted, rule: Existing) -> None:
    assert rule.id is not None
    ends = wanted.expires
    over = ends is None and rule.expires is not None and rule.expires <= datetime.now(timezone.utc)
    away = over or (ends is not None and ends.at is None and rule.expires is not None)
    if away or (ends is not None and ends.at is not None and not _dated()):
        # `permission update` leaves a date that is not given as it is; taking it away needs a null in the document.
        body = {"permissions": wanted.permissions, "expiration_date": None if away or ends is None else ends.text}
        argv, stdin = _document("PUT", f"/endpoint/{collection}/access/{rule.id}", body)
        verbs.send(*argv, stdin=stdin)
        return
    date = arguments.option("expiration-date", ends.text if ends is not None else None)
    verbs.send("endpoint", "permission", "update", "--permissions", wanted.permissions, *date, collection, rule.id)


def _delete(collection: str, rule: str) -> None:
    try:
        verbs.send("endpoint", "permission", "delete", collection, rule)
    except NotFound:
        if any(each.id == rule for each in list_rules(collection)):  # gone is what was wanted, if it is true
            raise


def revoke(collection: str, path: str, whos: Sequence[Who] | None) -> list[Step]:
    """Take the rules on this very path away, of these principals or (None) of all."""
    found = [
        each
        for each in list_rules(collection, names=True)
        if each.id is not None and each.path == path and (whos is None or each.who in whos)
    ]
    return carry_out(collection, [removal(each) for each in found])


def removal(rule: Existing) -> Step:
    """The step that takes a rule away."""
    return Step("delete", rules.described(rule.who, rule.path, rule.permissions, rule.expires), None, rule)


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


def carry_out_roles(collection: str, steps: Sequence[tuple[str, Role]]) -> None:
    for act, role in steps:
        if act == "create":
            kind = "--group" if role.who.kind == "group" else "--identity"
            try:
                verbs.send("endpoint", "role", "create", collection, kind, role.who.id, "--role", role.role)
            except Conflict:
                if not any((each.who, each.role) == (role.who, role.role) for each in roles(collection)):
                    raise
        elif act == "delete":
            try:
                verbs.send("endpoint", "role", "delete", collection, str(role.id))
            except NotFound:
                if any(each.id == role.id for each in roles(collection)):
                    raise
