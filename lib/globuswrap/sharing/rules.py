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

    def __str__(self) -> str:
        return _described(self.who, self.path, self.permissions, self.expires.at if self.expires is not None else None)


@dataclass(frozen=True)
class Existing:
    """A rule that is there. `id` None: built in (the owner's, those of roles), not to be changed."""

    id: str | None
    who: Who
    path: str
    permissions: str
    expires: datetime | None = None

    def __str__(self) -> str:
        return _described(self.who, self.path, self.permissions, self.expires)


def _described(who: Who, path: str, permissions: str, ends: datetime | None) -> str:
    until = f" until {ends.astimezone(timezone.utc).isoformat(timespec='seconds')}" if ends is not None else ""
    return f"{path} {permissions} {who}{until}"


@dataclass(frozen=True)
class Step:
    """One step of a plan: create, update, delete, keep, or extra (not listed, and kept); why, in words."""

    act: str
    wanted: Wanted | None = None
    existing: Existing | None = None
    reason: str = ""

    @property
    def what(self) -> str:
        return str(self.wanted or self.existing)

    @property
    def line(self) -> str:
        return f"{self.act:7}{self.what}{f'  ({self.reason})' if self.reason else ''}"

    def as_data(self) -> dict[str, Any]:
        return {"act": self.act, "what": self.what, "reason": self.reason}


def checked_permissions(text: str) -> str:
    """The permissions as they are, if there are such. UsageProblem otherwise."""
    if text not in PERMISSIONS:
        raise UsageProblem("bad-option", f"permissions {text!r} are not valid", "use r or rw")
    return text


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
    rule = next((each for each in there if same_place(wanted, each)), None)
    if rule is None:
        return Step("create", wanted)
    why = difference(wanted, rule, now)
    return Step("update" if why else "keep", wanted, rule, why)


def plan(wanted: Iterable[Wanted], there: Sequence[Existing]) -> list[Step]:
    """What leads to these rules. UsageProblem if two of them contradict each other."""
    seen: dict[tuple[Who, str], Wanted] = {}
    for each in wanted:
        other = seen.setdefault((each.who, each.path), each)
        if (other.permissions, other.expires) != (each.permissions, each.expires):
            raise UsageProblem("contradiction", f"two rules for {each.who} on {each.path}", "remove one of them")
    now = datetime.now(timezone.utc)
    return [step(each, there, now) for each in seen.values()]


def unlisted(wanted: Sequence[Wanted], there: Iterable[Existing], *, prune: bool) -> list[Step]:
    """What becomes of the rules that are not wanted: they go only with `prune`."""
    extra = [rule for rule in there if rule.id is not None and not any(same_place(each, rule) for each in wanted)]
    if prune:
        return [Step("delete", None, rule, "not listed") for rule in extra]
    return [Step("extra", None, rule, "not listed; --prune removes it") for rule in extra]
