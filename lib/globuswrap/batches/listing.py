"""List a collection to choose the files to send by JMESPath, and check that sources exist."""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone

from globuswrap import config
from globuswrap.batches.parse import Rows, Unsendable, shown, some_of
from globuswrap.batches.spool import Load
from globuswrap.collections.address import Address
from globuswrap.errors import UsageProblem
from globuswrap.globus import queries, verbs
from globuswrap.system import log, units

#: The service's answer holds no more entries of one directory (Transfer API, list directory contents).
LS_LIMIT = 100_000
#: A deep tree takes long: the CLI asks for each directory, and pauses for a second after every 25.
_PATIENCE = 3600.0
#: A listing shows a name that is not UTF-8 as latin-1 after this (Transfer API, file operations, "Path Encoding").
_MARK = "\ufffd"
_SHOWN = 1000


@dataclass(frozen=True)
class Listing:
    """Which files of the sources to send. `depth` counts directories below the source, 0 for its own files alone; what lies
    deeper is refused, not left out. `filter` is a JMESPath condition on an entry (name, size, last_modified, permissions,
    user, group); `larger_than` is bytes."""

    depth: int = 3
    filter: str | None = None
    newer_than: datetime | None = None
    larger_than: int | None = None

    def conditions(self) -> tuple[str, ...]:
        newer = None if self.newer_than is None else self.newer_than.astimezone(timezone.utc)
        return (
            *(() if self.filter is None else (self.filter,)),
            *(() if newer is None else (f"last_modified > '{newer.strftime('%Y-%m-%d %H:%M:%S')}+00:00'",)),
            *(() if self.larger_than is None else (f"size > `{self.larger_than}`",)),
        )


def files(source: Address, listing: Listing, unsendable: Unsendable) -> Rows:
    """The files below a source that the listing asks for, by their path from there. UsageProblem if a directory is too deep
    or the service's answer may not be whole."""
    if listing.depth < 0:
        raise UsageProblem("bad-option", "--depth is less than 0", "use --depth 0 or more")
    wanted = queries.matching(listing.conditions())
    timeout = max(_PATIENCE, config.load().settings.globus_timeout)
    entries = verbs.tree(str(source), listing.depth, timeout)
    sizes = Counter(str(each["name"]).rpartition("/")[0] for each in entries)
    cut = [directory for directory, size in sizes.items() if size >= LS_LIMIT]
    if cut:
        raise cut_off(source.joined(cut[0]))
    deeper = [
        each["name"] for each in entries if each["type"] == "dir" and str(each["name"]).count("/") >= listing.depth
    ]
    if deeper:
        raise UsageProblem(
            "deeper-than-listed",
            f"{shown(source.shown)} goes deeper than --depth {listing.depth}: {shown(deeper[0])}"
            + (f" and {len(deeper) - 1} more directories" if len(deeper) > 1 else ""),
            f"use --depth {listing.depth + 1} or more; nothing was submitted",
        )
    others = sum(each["type"] not in ("dir", "file") for each in entries)
    if others:
        log.say(f"{source.shown}: {others} entries are neither files nor directories; skipped")
    names = [str(name) for name in queries.search(wanted, {"DATA": entries}) or []]
    return Rows(sendable(names, unsendable))


def sendable(names: Iterable[str], unsendable: Unsendable) -> list[str]:
    """The names of a listing that can be sent; the others are added to `unsendable`."""
    found = []
    for name in names:
        bad = _not_utf8(name)
        if bad is None:
            found.append(name)
        else:
            unsendable.add(bad)
    return found


def cut_off(directory: Address) -> UsageProblem:
    return UsageProblem(
        "listing-cut-off",
        f"{shown(directory.shown)} has {LS_LIMIT} entries or more: Globus lists no further",
        "make a list of the paths on the system that stores them, and give it to batch as FILE",
    )


def _not_utf8(path: str) -> bytes | None:
    """The bytes of a path that a listing shows otherwise because they are not UTF-8; None if it shows it as it is."""
    if _MARK not in path or not any(map(_marked, path.split("/"))):
        return None
    return b"/".join(map(_bytes_of, path.split("/")))


def _marked(part: str) -> bool:
    return part.startswith(_MARK)


def _bytes_of(part: str) -> bytes:
    return part[1:].encode("latin-1", "replace") if _marked(part) else part.encode("utf-8")


def refuse_missing(loads: Sequence[Load]) -> None:
    """Ask for every source whether it is there, one `globus ls` for each directory. UsageProblem with the list."""
    count, missing = some_of((name for load in loads for name in _missing(load)), _SHOWN)
    if count:
        raise UsageProblem(
            "missing-sources",
            f"{count} sources do not exist; nothing was submitted",
            "check the list, or the collection: globus ls",
            detail=missing,
        )


def _missing(load: Load) -> Iterator[str]:
    collection = load.request.source

    @functools.lru_cache(maxsize=8)  # a long list may come back to a directory
    def listed(directory: str) -> frozenset[str]:
        return frozenset(str(row["name"]) for row in verbs.ls(f"{collection}:{directory}") or ())

    for directory, names in _by_directory(load):
        known = listed(directory)
        for name in names:
            if name in known:
                continue
            if len(known) < LS_LIMIT or verbs.stat(f"{collection}:{directory}{name}") is None:
                yield shown(directory + name)


def _by_directory(load: Load, size: int = 20_000) -> Iterator[tuple[str, list[str]]]:
    """Names of sources by their directory (ending in a slash), from so many items at a time."""
    groups: dict[str, list[str]] = {}
    count = 0
    for item in load.spool.items():
        path = item["source_path"].rstrip("/") or "/"
        directory, slash, name = path.rpartition("/")
        if not name:
            continue  # the top directory is always there
        groups.setdefault(directory + slash, []).append(name)
        count += 1
        if count % size == 0:
            yield from groups.items()
            groups = {}
    yield from groups.items()


def since(text: str) -> datetime:
    """`2d` ago, or a point in time."""
    try:
        seconds = units.duration(text)
    except UsageProblem:
        return units.moment(text)
    from datetime import timedelta

    return datetime.now(timezone.utc) - timedelta(seconds=seconds)
