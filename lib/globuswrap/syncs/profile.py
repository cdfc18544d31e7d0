"""Read profiles, from `[sync.NAME]` in the configuration or from the same options.

Pure but for reading the configuration. Nothing is asked of Globus, and the local tree is not looked at.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import stat
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from globuswrap import config
from globuswrap.collections import mounts, resolve
from globuswrap.collections.address import Address, normalised
from globuswrap.errors import UsageProblem, did_you_mean, raise_together
from globuswrap.syncs import state
from globuswrap.syncs.scan import SYMLINK_POLICIES, Filters, ScanOptions
from globuswrap.system import files, units
from globuswrap.transfers.options import Common, Options, declared
from globuswrap.transfers.request import digest_of

ORDERS = ("oldest", "newest")

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.@-]{0,63}")


@dataclass(frozen=True)
class MaxDelete:
    """The most files one run may delete: a number, or a share of the files in the manifest."""

    count: int | None = None
    percent: float | None = None

    def allows(self, number: int, of: int) -> bool:
        return number <= self.count if self.count is not None else number * 100 <= (self.percent or 0.0) * of

    @property
    def shown(self) -> str:
        return str(self.count) if self.count is not None else f"{self.percent:g}%"


@dataclass(frozen=True)
class Profile:
    """One sync. `settle` is seconds, `max_bytes` (of a run) and `max_bytes_per_day` (of all profiles to the destination) bytes;
    `order`: which files go first under them. `local_root` is set if the source is mounted here.

    `options` are those of `globus transfer`, with the defaults of a sync filled in.
    """

    name: str
    source: Address
    destination: Address
    local_root: str | None = None
    options: Options = field(default_factory=Options)
    filters: Filters = field(default_factory=Filters)
    symlinks: str = "skip"
    schedule: str | None = None
    settle: float = 10.0
    max_bytes: int | None = None
    max_bytes_per_day: int | None = None
    order: str | None = None
    delete: bool = False
    max_delete: MaxDelete = MaxDelete(percent=25.0)
    check_file: str | None = None
    #: Whether `max_delete` was given for this run over what the profile says: a person confirms these deletions.
    max_delete_raised: bool = False
    skip_unsendable: bool = False
    label: str | None = None
    notify: str = "off"
    deadline: str | None = None

    @property
    def root(self) -> bytes:
        """The local tree, as bytes."""
        assert self.local_root is not None
        return os.fsencode(self.local_root)

    @property
    def scanning(self) -> ScanOptions:
        return ScanOptions(symlinks=self.symlinks, filters=self.filters)

    @property
    def identity(self) -> str:
        """12 hex digits for source, destination and local root: what a manifest is about. Another destination begins anew."""
        parts = [self.source.collection, normalised(self.source.path)]
        parts += [self.destination.collection, normalised(self.destination.path), self.local_root or ""]
        return hashlib.sha256("\0".join(parts).encode("utf-8", "surrogateescape")).hexdigest()[:12]

    @property
    def request(self) -> str:
        """Digest of what a run is asked to do, beyond `identity`: options of the transfer, rules, links, deletion. Limits, label,
        notification and deadline do not count."""
        return digest_of(
            {
                "options": self.options.said(),
                "filters": self.filters.rules,
                "symlinks": self.symlinks,
                "delete": self.delete,
            }
        )

    @property
    def title(self) -> str:
        """What its tasks and timers are called by default."""
        return f"globuswrap sync {self.name}"

    @property
    def directory(self) -> Path:
        """Where this profile's state is."""
        return state.root() / f"{self.name}-{self.identity}"


def max_delete(text: str | int) -> MaxDelete:
    """`100`, `5%`. Raises UsageProblem."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)(%?)", str(text).strip())
    if match is None or (match[2] and float(match[1]) > 100) or (not match[2] and "." in match[1]):
        raise UsageProblem(
            "bad-max-delete", f"max-delete {text!r}: not a number of files or a percentage", "write 100 or 5%"
        )
    return MaxDelete(percent=float(match[1])) if match[2] else MaxDelete(count=int(match[1]))


def _text(value: Any) -> str:
    if not isinstance(value, str) or not value:
        raise UsageProblem("bad-profile", f"{value!r} is not a text", 'write it in quotes: "..."')
    return value


def _check_file(value: Any) -> str:
    """The path of a file below the source, without `.`, `..` and empty parts: `.` would always be there, and prove nothing."""
    text = _text(value)
    if any(part in ("", ".", "..") for part in text.split("/")) or "\0" in text:
        raise UsageProblem(
            "bad-profile",
            f"{text!r} does not name a file below the source",
            'name a regular file by its path below the source, such as check-file = ".mounted"',
        )
    return text


def _truth(value: Any) -> bool:
    if not isinstance(value, bool):
        raise UsageProblem("bad-profile", f"{value!r} is neither true nor false", "write true or false, without quotes")
    return value


def _patterns(value: Any) -> tuple[str, ...]:
    values = [value] if isinstance(value, str) else value
    if not isinstance(values, (list, tuple)) or not all(isinstance(each, str) for each in values):
        raise UsageProblem("bad-profile", f"{value!r} is not a list of patterns", 'write ["*.tmp", "cache/"]')
    return tuple(values)


def _filters(value: Any) -> tuple[tuple[str, str], ...]:
    rows = list(value) if isinstance(value, (list, tuple)) else []
    if not rows or not all(isinstance(row, (list, tuple)) and len(row) == 2 for row in rows):
        raise UsageProblem("bad-profile", f"{value!r} is not a list of rules", 'write [["exclude", "*.tmp"], ...]')
    return tuple((str(kind), str(pattern)) for kind, pattern in rows)


def _local_root(value: Any) -> str:
    path = os.path.abspath(os.path.expanduser(_text(value)))
    if not os.path.isabs(os.path.expanduser(_text(value))):
        raise UsageProblem("bad-profile", f"local-root {value!r} is not an absolute path", "write the whole path")
    return path


def _one_of(*allowed: str) -> Callable[[Any], str]:
    def read(value: Any) -> str:
        if value not in allowed:
            raise UsageProblem("bad-profile", f"{value!r} is not valid", f"one of: {', '.join(allowed)}")
        return str(value)

    return read


#: Every key of a profile and how its value is read. The options of `sync run` have the same names.
KEYS: dict[str, Callable[[Any], Any]] = {
    "source": resolve.address,
    "destination": resolve.address,
    "local-root": _local_root,
    "include": _patterns,
    "exclude": _patterns,
    "filters": _filters,
    "symlinks": _one_of(*SYMLINK_POLICIES),
    "schedule": _text,
    "settle": units.duration,
    "max-bytes": units.size,
    "max-bytes-per-day": units.size,
    "order": _one_of(*ORDERS),
    "delete": _truth,
    "max-delete": max_delete,
    "check-file": _check_file,
    "skip-unsendable": _truth,
    "label": _text,
    "notify": _text,
    "deadline": _text,
    **{
        each.key: _truth if each.switch else _one_of(*each.choices) if each.choices else _text
        for each in declared(Common)
    },
}


def names() -> list[str]:
    """The profiles in the configuration, in its order."""
    return list(config.load().table("sync"))


def load(name: str | None = None, given: Mapping[str, Any] | None = None) -> Profile:
    """The profile `[sync.NAME]`, with what was given as options (keys as in the configuration, None: not given) laid over it.

    Without a name the options alone are the profile. Raises UsageProblem: unknown profile or key, or what makes no sense.
    """
    said = {key: value for key, value in (given or {}).items() if value is not None}
    table: Mapping[str, Any] = {}
    if name is not None:
        known = config.load().table("sync")
        if name in known:
            table = known[name]
            if not isinstance(table, Mapping):
                raise UsageProblem("bad-profile", f"sync.{name} is not a table", f"write it as [sync.{name}]")
        elif not {"source", "destination"} <= said.keys():
            remedy = did_you_mean(name, known, f"add [sync.{name}] to {files.config_dir() / 'config.toml'}")
            raise UsageProblem("unknown-profile", f"there is no profile named {name!r}", remedy)
    where = f"[sync.{name}]" if name is not None else "options"
    values: dict[str, Any] = {}
    wrong: list[UsageProblem] = []
    for key, value in {**table, **said}.items():
        if key not in KEYS:
            remedy = did_you_mean(key, KEYS, f"use one of: {', '.join(KEYS)}")
            wrong.append(UsageProblem("unknown-config-key", f"unknown key {key}", remedy))
            continue
        try:
            values[key] = KEYS[key](value)
        except UsageProblem as problem:
            wrong.append(UsageProblem(problem.name, f"{key}: {problem.cause}", problem.remedy))
    # What could not be read is not missing too.
    raise_together(wrong or list(_complaints(name, values)), where)
    return replace(_made(name, values), max_delete_raised=bool(table) and "max-delete" in said)


#: Keys whose values are made into something else.
_READ_TOGETHER = {"include", "exclude", "filters", *(each.key for each in declared(Common))}


def _made(name: str | None, values: dict[str, Any]) -> Profile:
    said = {key.replace("-", "_"): value for key, value in values.items() if key not in _READ_TOGETHER}
    if "max-bytes-per-day" in values:
        said.setdefault("order", "oldest")
    said.setdefault("notify", config.load().settings.notify)
    return Profile(name=name or "options", options=_options(values), filters=Filters(_rules(values)), **said)


def _rules(values: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    apart = ((kind, pattern) for kind in ("include", "exclude") for pattern in values.get(kind, ()))
    return (*values.get("filters", ()), *apart)


def _options(values: dict[str, Any]) -> Options:
    said = {each.name: values[each.key] for each in declared(Common) if each.key in values}
    if "local-root" in values:
        # A file that goes away between the scan and the copy must not hold the others up for a day: it is skipped, known to be
        # skipped, and so not taken for transferred.
        return Options(**{"preserve_timestamp": True, "skip_source_errors": True, **said})
    return Options(**{"sync_level": "mtime", "preserve_timestamp": True, **said})


def _complaints(name: str | None, values: Mapping[str, Any]) -> Iterator[UsageProblem]:
    """What is missing in a profile, or makes no sense in it: all of it."""

    def wrong(what: str, remedy: str) -> UsageProblem:
        return UsageProblem("bad-profile", what, remedy)

    for key in ("source", "destination"):
        if key not in values:
            yield wrong(f"{key} is missing", f'add {key} = "COLLECTION:/path"')
    if name is not None and not _NAME.fullmatch(name):
        yield wrong(f"{name!r} is not a valid profile name", "use only letters, digits and _ . @ -, at most 64")
    source, destination = values.get("source"), values.get("destination")
    if source is not None and destination is not None and source.collection == destination.collection:
        one, other = (normalised(each.path).rstrip("/") + "/" for each in (source, destination))
        if one.startswith(other) or other.startswith(one):
            yield wrong("source and destination overlap", "choose a destination outside the source")
    if "local-root" not in values:
        for key in (
            *("symlinks", "settle", "max-bytes", "max-bytes-per-day", "order"),
            *("delete", "max-delete", "check-file", "skip-unsendable"),
        ):
            if values.get(key):
                yield wrong(
                    f"{key} needs local-root, so that globuswrap can list the files itself",
                    "add local-root, where the source is mounted here",
                )
        if any(pattern.endswith("/") for _, pattern in _rules(values)):
            yield wrong(
                "filters on directories need local-root",
                "Globus filters only files; add local-root, or remove these filters",
            )
    elif values.get("sync-level") not in (None, "checksum"):
        yield wrong(
            f"sync-level {values['sync-level']} makes no sense with local-root: what is sent has changed already",
            "leave sync-level out (or checksum, to compare once more at the destination)",
        )
    if "order" in values and not {"max-bytes", "max-bytes-per-day"} & values.keys():
        yield wrong("order needs a limit: without one all files go at once", "add max-bytes or max-bytes-per-day")
    if values.get("delete") and "check-file" not in values:
        yield wrong(
            "delete needs check-file", 'add check-file = "NAME", a file at the source that proves that it is mounted'
        )
    if values.get("delete") and values.get("preserve-timestamp") is False:
        yield wrong(
            "delete needs preserve-timestamp: the time of a file at the destination shows whether it is what was sent",
            "remove preserve-timestamp = false, or set delete = false",
        )
    if "schedule" in values:
        from globuswrap.syncs import schedule

        try:
            schedule.parse(values["schedule"])
        except UsageProblem as problem:
            yield problem


def add(name: str, source: str, destination: str, given: Mapping[str, Any], *, dry_run: bool = False) -> Added:
    """Write the profile `[sync.NAME]` to the configuration, if all of it holds. Where `source` is mounted here, that is its
    local-root. Raises UsageProblem with everything that is missing, and for a name that is taken."""
    named = os.environ.get("GLOBUSWRAP_CONFIG")
    file = Path(os.path.realpath(named or files.config_dir() / "config.toml"))
    if name in names():
        raise UsageProblem(
            "name-taken", f"there is a profile [sync.{name}] already", f"edit it in {file}, or choose another name"
        )
    said = {key: value for key, value in given.items() if value is not None}
    ends = {"source": resolve.address(source), "destination": resolve.address(destination)}
    if "local-root" not in said:
        with contextlib.suppress(UsageProblem):
            said["local-root"] = mounts.to_local(ends["source"])
    values = {**{key: each.shown for key, each in ends.items()}, **said}
    profile = load(name, values)
    lines = [f"[sync.{json.dumps(name) if set(name) & set('.@') else name}]"]
    lines += [f"{key} = {json.dumps(value, ensure_ascii=False)}" for key, value in values.items()]
    if not dry_run:
        before = file.read_text("utf-8") if file.exists() else ""
        mode = stat.S_IMODE(file.stat().st_mode) if before else 0o600
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        files.write_atomic(file, "\n".join([*([before.rstrip(), ""] if before else []), *lines, ""]), mode)
    return Added(profile, file, tuple(lines))


@dataclass(frozen=True)
class Added:
    """A profile that was written, the file it is in, and the lines there."""

    profile: Profile
    file: Path
    lines: tuple[str, ...]


def describe(profile: Profile) -> dict[str, Any]:
    """A profile as data, for `list` and `--json`."""
    plain = (
        "name",
        "local_root",
        "symlinks",
        "schedule",
        "settle",
        "max_bytes",
        "max_bytes_per_day",
        "order",
        "delete",
    )
    return {
        **{each: getattr(profile, each) for each in (*plain, "check_file")},
        "source": profile.source.shown,
        "destination": profile.destination.shown,
        "options": profile.options.said(),
        "filters": [list(rule) for rule in profile.filters.rules],
        "max_delete": profile.max_delete.shown,
        "state": str(profile.directory),
    }
