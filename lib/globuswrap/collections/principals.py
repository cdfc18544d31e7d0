"""Translate between the names of people and groups and their Globus identities."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from globuswrap.collections.names import UUID
from globuswrap.errors import Refused, UsageProblem
from globuswrap.globus import verbs
from globuswrap.system import log


@dataclass(frozen=True)
class Who:
    """A principal: `kind` as the Transfer API has it, `id` (empty for everyone), and what people call it.

    `new` is the user name of an identity that is still to be made (`provisioned`); it has no id yet.
    """

    kind: str
    id: str = ""
    new: str = ""
    shown: str = field(default="", compare=False)
    mail: str = field(default="", compare=False)

    @property
    def urn(self) -> str:
        """As Flows and Search have it. UsageProblem for whom they cannot name."""
        prefix = {"identity": "urn:globus:auth:identity:", "group": "urn:globus:groups:id:"}.get(self.kind)
        if prefix is None:
            return self.kind
        if not self.id:
            raise UsageProblem("no-such-identity", f"Globus does not know {self}", "ask them to log in once")
        return prefix + self.id

    def __str__(self) -> str:
        return self.shown or self.id or self.kind.replace("_", " ")


#: Identities asked for in one process: keeps the request's address below what servers refuse.
PER_PROCESS = 100

EVERYONE = {
    "all-users": Who("all_authenticated_users", shown="all users"),
    "anonymous": Who("anonymous", shown="anonymous"),
}


def resolve(texts: Sequence[str], *, provision: bool = False) -> list[Who]:
    """Principals by what people write: a user name or identity UUID, `group:NAME_OR_UUID`, `all-users`, `anonymous`.

    `provision`: a user name that Globus does not know is kept as `new`, for `provisioned`. Raises UsageProblem for one that is
    not known, or stands for several; login problems as they come.
    """
    people = [each for each in texts if each not in EVERYONE and not each.startswith("group:")]
    known = _identities(people)
    found = []
    for text in texts:
        if text in EVERYONE:
            found.append(EVERYONE[text])
        elif text.startswith("group:"):
            found.append(_group(text.removeprefix("group:")))
        else:
            found.append(_identity(text, known, provision))
    return found


def somebody(texts: Sequence[str], *, provision: bool = False) -> list[Who]:
    """As `resolve`; UsageProblem for nobody at all."""
    if not texts:
        raise UsageProblem(
            "nobody",
            "nobody to share with: no names given",
            "name a person, a group or everyone: person@example.org, group:NAME, all-users",
        )
    return resolve(texts, provision=provision)


def urns(texts: Sequence[str]) -> list[str]:
    """As Flows and Search have them; they know `public` too, which is everyone without a login."""
    people = [each for each in texts if each != "public"]
    named = dict(zip(people, (who.urn for who in resolve(people)), strict=True))
    return [named.get(each, each) for each in texts]


def provisioned(whos: Iterable[Who]) -> dict[Who, Who]:
    """The principals with the ids of those that are new: their identities are made. Refused if Globus does not make one."""
    listed = list(dict.fromkeys(whos))
    names = [each.new for each in listed if each.new]
    made = {str(row.get("username", "")).lower(): str(row["id"]).lower() for row in _identities(names, provision=True)}
    missing = [name for name in names if name not in made]
    if missing:
        raise Refused(
            "no-such-identity",
            f"Globus created no identity for {', '.join(missing)}; no rule or role was changed",
            log.shell_line(("globus", "get-identities", "--provision", *missing)),
        )
    return {each: replace(each, id=made[each.new], new="") if each.new else each for each in listed}


def _identities(texts: Sequence[str], *, provision: bool = False) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    for first in range(0, len(texts), PER_PROCESS):
        part = texts[first : first + PER_PROCESS]
        rows += verbs.identities(part, provision=provision)
    return rows


def _identity(text: str, known: Sequence[dict[str, Any]], provision: bool) -> Who:
    lowered = text.lower()
    matching = {
        str(row["id"]).lower(): row
        for row in known
        if lowered in (str(row.get("id", "")).lower(), str(row.get("username", "")).lower())
    }
    if len(matching) > 1:
        raise UsageProblem(
            "several-identities",
            f"{text} matches {len(matching)} identities: {', '.join(sorted(matching))}",
            "write the UUID of the one you mean",
        )
    if matching:
        row = next(iter(matching.values()))
        name = str(row.get("username") or row["id"])
        mail = str(row.get("email") or (name if "@" in name else ""))
        return Who("identity", str(row["id"]).lower(), shown=name, mail=mail)
    if UUID.fullmatch(text):
        raise UsageProblem(
            "no-such-identity", f"no identity has the ID {text}", f"if it is a group, write group:{lowered}"
        )
    if provision and "@" in text:
        return Who("identity", new=lowered, shown=lowered, mail=lowered)
    raise UsageProblem(
        "no-such-identity",
        f"Globus has no identity {text}",
        f"check it: globus get-identities {text}; --provision creates the identity before the first login",
    )


def _group(text: str) -> Who:
    if UUID.fullmatch(text):
        return Who("group", text.lower(), shown=f"group:{text.lower()}")
    matching = [row for row in verbs.groups() if row.get("name") == text]
    if len(matching) != 1:
        how = "matches several groups" if matching else "is not one of your groups"
        raise UsageProblem("no-such-group", f"{text!r} {how}", "write group:UUID (list yours: globus group list)")
    return Who("group", str(matching[0]["id"]).lower(), shown=f"group:{text}")


def named(whos: Iterable[Who]) -> dict[Who, Who]:
    """The same principals with the names that people know them by, where they can be found out."""
    listed = list(dict.fromkeys(whos))
    rows = _identities([each.id for each in listed if each.kind == "identity" and each.id])
    names = {str(row["id"]).lower(): str(row.get("username") or row["id"]) for row in rows}
    if any(each.kind == "group" for each in listed):
        names |= {str(row["id"]).lower(): f"group:{row.get('name')}" for row in verbs.groups()}
    shown = {each.kind: each.shown for each in EVERYONE.values()}
    return {
        each: replace(each, shown=names.get(each.id) or shown.get(each.kind, "") or f"{each.kind}:{each.id}")
        for each in listed
    }
