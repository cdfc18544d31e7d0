"""Read a policy file (TOML): the desired rules and roles of one guest collection."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

from globuswrap.collections import principals, resolve
from globuswrap.collections.principals import Who
from globuswrap.errors import UsageProblem
from globuswrap.sharing import rules
from globuswrap.sharing.actions import Role
from globuswrap.sharing.rules import Expiry, Wanted
from globuswrap.system import toml

_RULE = {"path", "who", "permissions", "expires"}
_ROLE = {"who", "role"}


@dataclass(frozen=True)
class Policy:
    """What a collection should have. `roles` None: the file says nothing of roles, they are left alone."""

    collection: str
    rules: Sequence[Wanted]
    roles: Sequence[Role] | None


def read(path: Path, *, provision: bool = False) -> Policy:
    """A policy file, its names resolved. UsageProblem says where it is wrong."""
    try:
        document = toml.parsed(path.read_bytes())
    except OSError as error:
        raise UsageProblem("no-policy", f"{path}: {error.strerror}", "name a policy file") from None
    except ValueError as error:
        raise UsageProblem("bad-policy", f"{path}: {error}", "fix the TOML syntax") from None
    return parse(document, str(path), provision=provision)


def parse(document: Mapping[str, Any], where: str, *, provision: bool = False) -> Policy:
    """The policy in a document; the people in it are asked for in one go."""
    _only(document, {"collection", "rule", "role"}, where)
    if not isinstance(document.get("collection"), str):
        raise UsageProblem("bad-policy", f"{where}: no collection", 'begin with: collection = "NAME_OR_UUID"')
    written = [(f"{where}: rule {number}", each) for number, each in enumerate(_tables(document, "rule", where), 1)]
    offices = [(f"{where}: role {number}", each) for number, each in enumerate(_tables(document, "role", where), 1)]
    for place, each in written:
        _only(each, _RULE, place)
    for place, each in offices:
        _only(each, _ROLE, place)
    texts = [text for place, each in (*written, *offices) for text in _people(each, place)]
    known = dict(zip(texts, principals.resolve(texts, provision=provision), strict=True))
    wanted = [rule for place, each in written for rule in _rules(each, place, known)]
    roles = [role for place, each in offices for role in _roles(each, place, known)]
    return Policy(resolve.collection(document["collection"]), wanted, roles if "role" in document else None)


def _tables(document: Mapping[str, Any], name: str, where: str) -> list[Mapping[str, Any]]:
    found = document.get(name, [])
    if not isinstance(found, list) or not all(isinstance(each, dict) for each in found):
        raise UsageProblem("bad-policy", f"{where}: {name} is not a list of tables", f"write each as [[{name}]]")
    return found


def _only(table: Mapping[str, Any], known: set[str], where: str) -> None:
    unknown = sorted(set(table) - known)
    if unknown:
        raise UsageProblem(
            "bad-policy", f"{where}: unknown key {unknown[0]}", f"use one of: {', '.join(sorted(known))}"
        )


def _people(table: Mapping[str, Any], where: str) -> list[str]:
    who = table.get("who")
    listed = [who] if isinstance(who, str) else who
    if not isinstance(listed, list) or not listed or not all(isinstance(each, str) for each in listed):
        raise UsageProblem("bad-policy", f"{where}: the key who is missing", 'write who = ["person@example.org"]')
    return listed


def _rules(table: Mapping[str, Any], where: str, known: Mapping[str, Who]) -> list[Wanted]:
    path, permissions = table.get("path"), table.get("permissions", "r")
    if not isinstance(path, str):
        raise UsageProblem("bad-policy", f"{where}: the key path is missing", 'write path = "/project/"')
    if permissions not in rules.PERMISSIONS:
        raise UsageProblem("bad-policy", f"{where}: permissions {permissions!r}", "write r or rw")
    ends = _expiry(table.get("expires"), where)
    return [Wanted(known[text], rules.directory(path), permissions, ends) for text in _people(table, where)]


def _expiry(value: object, where: str) -> Expiry:
    if value is None:
        return Expiry(None)
    if isinstance(value, date):  # which a datetime is too
        return rules.expiry(value.isoformat())
    if isinstance(value, str):
        return rules.expiry(value)
    raise UsageProblem("bad-policy", f"{where}: expires {value!r} is not a time", "write 2027-01-31, +30d or never")


def _roles(table: Mapping[str, Any], where: str, known: Mapping[str, Who]) -> list[Role]:
    role = table.get("role")
    if role not in rules.ROLES:
        raise UsageProblem("bad-policy", f"{where}: role {role!r}", f"one of: {', '.join(rules.ROLES)}")
    found = [Role(known[text], str(role)) for text in _people(table, where)]
    if any(each.who.kind not in ("identity", "group") for each in found):
        raise UsageProblem("bad-policy", f"{where}: roles are for people and groups", "name them in who")
    return found
