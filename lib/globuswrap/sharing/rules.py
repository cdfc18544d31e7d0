"""Plan how to get from the existing rules and roles to the wanted ones: pure functions over data."""

from __future__ import annotations

import posixpath
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import Any

from globuswrap.collections.address import checked_path
from globuswrap.collections.principals import Who
from globuswrap.errors import UsageProblem
from globuswrap.system import units

PERMISSIONS = ("r", "rw")
ROLES = ("administrator", "access_manager", "activity_manager", "activity_monitor")


@dataclass(frozen=True)
class Expiry:
    """When a rule is to end. `at` None: never. `slack` is how far what is there may be off and still count as equal."""

    at: datetime | None
    slack: timedelta = timedelta(seconds=1)

    @property
    def text(self) -> str | None:
        """As the service takes it: UTC, ISO 8601."""
        return None if self.at is None else self.at.astimezone(timezone.utc).isoformat(timespec="seconds")


def expiry(text: str) -> Expiry:
    """`never`, a time, or `+30d` from now. One from now moves with every run: it counts as equal until a twentieth is over."""
    if text == "never":
        return Expiry(None)
    at = units.moment(text)
    if text.startswith("+"):
        return Expiry(at, timedelta(seconds=units.duration(text[1:]) / 20))
    if at <= datetime.now(timezone.utc):
        raise UsageProblem("already-over", f"{text} is in the past", "give a time in the future, or never")
    return Expiry(at)


@dataclass(frozen=True)
class Wanted:
    """A rule that is wanted. `expires` None: not said, whatever is there is kept unless it is over."""

    who: Who
    path: str
    permissions: str = "r"
    expires: Expiry | None = None


@dataclass(frozen=True)
class Existing:
    """A rule that is there. `id` None: built in (the owner's, those of roles), not to be changed."""

    id: str | None
    who: Who
    path: str
    permissions: str
    expires: datetime | None = None


@dataclass(frozen=True)
class Step:
    """One step of a plan: create, update, delete or keep; why, in words. `rule` is a rule, or a role as kind of rule."""

    act: str
    what: str
    wanted: Wanted | None = None
    existing: Existing | None = None
    reason: str = ""

    @property
    def line(self) -> str:
        return f"{self.act:7}{self.what}{f'  ({self.reason})' if self.reason else ''}"

    def as_data(self) -> dict[str, Any]:
        return {"act": self.act, "what": self.what, "reason": self.reason}


def directory(path: str) -> str:
    """The path as permissions have it: absolute, a directory, with its slash at the end. UsageProblem otherwise."""
    checked_path(path)
    if not path.startswith("/"):
        raise UsageProblem("bad-path", f"{path!r} is not absolute", "permissions need a path from the top: NAME:/dir/")
    clean = "/" + posixpath.normpath(path).lstrip("/")
    return clean if clean.endswith("/") else clean + "/"


def existing(row: Mapping[str, Any]) -> Existing:
    """A rule of an access_list document."""
    ends = row.get("expiration_date")
    built_in = row.get("role_id") is not None or row.get("id") is None
    return Existing(
        None if built_in else str(row["id"]),
        Who(str(row["principal_type"]), str(row.get("principal") or "").lower()),
        str(row["path"]),
        str(row["permissions"]),
        units.instant(ends) if ends else None,
    )


def described(who: Who, path: str, permissions: str, ends: datetime | None) -> str:
    until = f" until {ends.astimezone(timezone.utc).isoformat(timespec='seconds')}" if ends is not None else ""
    return f"{path} {permissions} {who}{until}"


def same_place(wanted: Wanted, rule: Existing) -> bool:
    return rule.id is not None and (rule.who, rule.path) == (wanted.who, wanted.path)


def difference(wanted: Wanted, rule: Existing, now: datetime) -> str:
    """In which way the rule that is there is another one; empty if it is not."""
    found = []
    if rule.permissions != wanted.permissions:
        found.append(f"was {rule.permissions}")
    over = rule.expires is not None and rule.expires <= now
    if wanted.expires is None:
        if over:
            found.append("had expired")
    elif not _equal(wanted.expires, rule.expires) or over:
        found.append(f"ended {rule.expires.isoformat(timespec='seconds')}" if rule.expires else "had no end")
    return ", ".join(found)


def _equal(wanted: Expiry, there: datetime | None) -> bool:
    if wanted.at is None or there is None:
        return wanted.at is None and there is None
    return abs(wanted.at - there) <= wanted.slack


def step(wanted: Wanted, there: Iterable[Existing], now: datetime) -> Step:
    """What leads to one wanted rule."""
    ends = wanted.expires.at if wanted.expires is not None else None
    what = described(wanted.who, wanted.path, wanted.permissions, ends)
    rule = next((each for each in there if same_place(wanted, each)), None)
    if rule is None:
        return Step("create", what, wanted)
    why = difference(wanted, rule, now)
    return Step("update" if why else "keep", what, wanted, rule, why)


def plan(wanted: Sequence[Wanted], there: Sequence[Existing], now: datetime, *, prune: bool) -> list[Step]:
    """What leads from the rules there are to those wanted. Unlisted ones go last, and only with `prune`.

    UsageProblem if two wanted rules contradict each other.
    """
    seen: dict[tuple[Who, str], Wanted] = {}
    for each in wanted:
        other = seen.setdefault((each.who, each.path), each)
        if (other.permissions, other.expires) != (each.permissions, each.expires):
            raise UsageProblem("contradiction", f"two rules for {each.who} on {each.path}", "remove one of them")
    steps = [step(each, there, now) for each in seen.values()]
    for rule in there:
        if rule.id is not None and not any(same_place(each, rule) for each in seen.values()):
            what = described(rule.who, rule.path, rule.permissions, rule.expires)
            steps.append(
                Step("delete", what, None, rule, "not listed")
                if prune
                else Step("extra", what, None, rule, "not listed; --prune removes it")
            )
    return steps
