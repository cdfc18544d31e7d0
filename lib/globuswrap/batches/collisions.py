"""Find items with conflicting destinations: the same one twice, or one inside another.

Found by comparing 8-byte hashes, in shares that bound the memory; what looks alike is confirmed by reading the spool again.
"""

from __future__ import annotations

import itertools
import json
import posixpath
from array import array
from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace

from globuswrap.batches.normalise import Collector, PathBase
from globuswrap.batches.parse import shown, some_of
from globuswrap.batches.spool import END, Load, Spool
from globuswrap.errors import UsageProblem

CHOICES = ("error", "first", "last", "rename")
_SHARE = 250_000
_SHOWN = 20
_KEPT = 1000


@dataclass(frozen=True)
class Collision:
    """Two sources for one destination (relative to the batch's)."""

    kept: str
    other: str
    destination: str
    became: str | None = None

    def as_data(self) -> dict[str, str | None]:
        return {"kept": self.kept, "other": self.other, "destination": self.destination, "renamed": self.became}


@dataclass
class CollisionReport:
    """Collisions that were settled: how many, and the first of them."""

    count: int = 0
    first: list[Collision] = field(default_factory=list)

    def add(self, collision: Collision) -> None:
        self.count += 1
        if len(self.first) < _KEPT:
            self.first.append(collision)


def settled(loads: Sequence[Load], collector: Collector, choice: str) -> tuple[list[Load], CollisionReport]:
    """The loads without collisions, and what was done about those there were.

    `error`: none may be. `first` and `last`: that item is sent and the others are left out. `rename`: every further one
    gets a free name, `NAME.2.EXT` and so on. A destination inside another item's is always refused. Raises UsageProblem
    with the list.
    """
    if choice not in CHOICES:
        raise UsageProblem("bad-option", f"--on-collision {choice} is not valid", f"one of: {', '.join(CHOICES)}")
    twice, above = _alike(collector.hashes, collector.directories)
    if above:
        _refuse_nested(loads, collector.destination, above)
    if not twice:
        return list(loads), CollisionReport()
    if choice == "error":
        _refuse_twice(loads, collector.destination, twice)
        return list(loads), CollisionReport()  # equal hashes of other names
    return _resolved(loads, collector, twice, choice)


def _alike(hashes: array[int], directories: array[int]) -> tuple[set[int], set[int]]:
    """Hashes of destinations that occur twice, and of those that are a directory above another."""
    shares = 1
    while max(len(hashes), len(directories)) > shares * _SHARE:
        shares *= 2
    twice: set[int] = set()
    above: set[int] = set()
    for share in range(shares):
        mine = [each for each in hashes if each & (shares - 1) == share] if shares > 1 else hashes
        once = set(mine)
        if len(once) < len(mine):
            seen: set[int] = set()
            for each in mine:
                (twice if each in seen else seen).add(each)
        above.update(once.intersection(each for each in directories if each & (shares - 1) == share))
    return twice, above


def _each(loads: Sequence[Load], base: PathBase) -> Iterator[tuple[str, str]]:
    """Source and destination, that one relative to the base, of every item, without trailing slashes."""
    for load in loads:
        named = _named(loads, load)
        for item in load.spool.items():
            yield named(item["source_path"]), base.relative_of(item["destination_path"])


def _named(loads: Sequence[Load], load: Load) -> Callable[[str], str]:
    """How a source path is told from others: with its collection, if there are several."""
    where = f"{load.request.source}:" if len(loads) > 1 else ""
    return lambda path: where + (path.rstrip("/") or "/")


def _refuse_twice(loads: Sequence[Load], base: PathBase, twice: set[int]) -> None:
    first: dict[str, str] = {}

    def lines() -> Iterator[str]:
        for source, destination in _each(loads, base):
            if hash(destination) not in twice:
                continue
            kept = first.get(destination)
            if kept is None:
                first[destination] = source
            else:
                what = "is listed twice" if kept == source else f"and {shown(source)}"
                yield f"{shown(kept)} {what} -> {shown(base.path(destination))}"

    _refuse(lines(), "the same destination as another item", "choose one: --on-collision first, last or rename")


def _refuse_nested(loads: Sequence[Load], base: PathBase, above: set[int]) -> None:
    """A destination inside another item's: no choice settles it, since what is there first decides what the other is."""
    outer = {destination: source for source, destination in _each(loads, base) if hash(destination) in above}

    def lines() -> Iterator[str]:
        for source, destination in _each(loads, base):
            directory = destination
            while directory:
                directory = posixpath.dirname(directory)
                if directory in outer:
                    yield f"{shown(source)} -> {shown(base.path(destination))}, inside that of {shown(outer[directory])}"
                    break

    remedy = "send the directory, or what is in it, but not both in one batch"
    _refuse(lines(), "a destination inside another item's", remedy)


def _refuse(lines: Iterator[str], what: str, remedy: str) -> None:
    """UsageProblem with the items that have this, one a line, if there are any."""
    count, detail = some_of(lines, _SHOWN)
    if count:
        items = "1 item has" if count == 1 else f"{count} items have"
        raise UsageProblem("collisions", f"{items} {what}; nothing was submitted", remedy, detail=detail)


def _resolved(
    loads: Sequence[Load], collector: Collector, twice: set[int], choice: str
) -> tuple[list[Load], CollisionReport]:
    base = collector.destination
    kept: dict[str, tuple[int, str]] = {}  # of each destination, the number and source of the item that has it
    for number, (source, destination) in enumerate(_each(loads, base)):
        if hash(destination) in twice and (choice == "last" or destination not in kept):
            kept[destination] = number, source
    free = _Free(collector) if choice == "rename" else None
    found = CollisionReport()
    numbers = itertools.count()

    def lines(load: Load) -> Iterator[bytes]:
        named = _named(loads, load)
        for line, number in zip(load.spool.lines(), numbers, strict=False):
            item = json.loads(line[: -len(END)])
            source, destination = named(item["source_path"]), base.relative_of(item["destination_path"])
            winner, its_source = kept.get(destination, (number, source))
            if winner == number:
                yield line
                continue
            became = None
            if free is not None and source != its_source:  # the same one once more would only be a copy of the copy
                became = free.name(destination)
                item["destination_path"] = base.path(became)
                yield (json.dumps(item) + END).encode("ascii")
            found.add(Collision(its_source, source, destination, became))

    after = [replace(load, spool=Spool.of(lines(load))) for load in loads]
    return [load for load in after if load.spool.count], found


class _Free:
    """Names that no item of the batch has, nor any directory above one."""

    def __init__(self, collector: Collector) -> None:
        self._taken = array("q", sorted(collector.hashes + collector.directories))
        self._given: set[str] = set()

    def name(self, destination: str) -> str:
        stem, extension = posixpath.splitext(destination)
        number = 2
        while self._is_taken(name := f"{stem}.{number}{extension}"):
            number += 1
        self._given.add(name)
        return name

    def _is_taken(self, name: str) -> bool:
        value = hash(name)
        at = bisect_left(self._taken, value)
        return name in self._given or (at < len(self._taken) and self._taken[at] == value)
