"""Index where each journal entry reads, writes or deletes, so that a path is found without reading the whole journal.

    places/<collection>/<path>.<key>.<attempt>    an empty file, made before the claim, or before the receipt that lists the path

`<path>` has eight letters for each name on the way, a checksum of it: of a place above another it is a prefix. What a mark
names is read, so that one too many finds nothing: of a claim that was never made, or of two names with one checksum.
"""

from __future__ import annotations

import posixpath
import re
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from zlib import crc32

from globuswrap.collections.address import normalised
from globuswrap.system import files

#: A path on a collection: (collection, path), normalized.
Place = tuple[str, str]
#: A path at the source, and one at the destination (None in a deletion).
Pair = Sequence[str | None]

#: Names of a path that count, so that the name of a mark is short enough for any file system (255 bytes).
DEPTH = 24
_LETTERS = 8


def directory() -> Path:
    return files.state_dir() / "journal" / "places"


def pairs_of(items: object, examples: Sequence[Pair], within: Pair | None) -> Sequence[Pair]:
    """All that a submission is about: its items, if the examples are all of them; or the two directories that hold them all,
    if they are known; or everything."""
    if examples and items == len(examples):
        return examples
    return [("/", "/") if within is None or "." in within else within]


def of_pairs(source: str, destination: str | None, pairs: Iterable[Pair]) -> Iterator[Place]:
    for pair in pairs:
        for collection, path in zip((source, destination), pair, strict=True):
            if collection is not None and path is not None:
                yield collection, normalised(path)


def of_list(receipt: Mapping[str, Any], known: Iterable[Place]) -> Iterator[Place]:
    """Directories of the files that a receipt lists outside the places that are known: it may name them another way."""
    tops = list(known)
    for side in ("source", "destination"):
        collection = receipt.get(side)
        mine = [top for where, top in tops if where == collection]
        listed = (normalised(row[side]) for row in receipt.get("files_list") or ())
        others = [path for path in listed if not any(path == top or inside(path, top) for top in mine)]
        if collection is not None and others:
            yield collection, common(others)


def common(paths: Sequence[str]) -> str:
    """A directory that all these paths (normalized) are in."""
    return posixpath.commonprefix([min(paths), max(paths)]).rpartition("/")[0] or "/"


def inside(path: str, top: str) -> bool:
    """Is this path below that one?"""
    return path.startswith(top.rstrip("/") + "/")


def mark(places: Iterable[Place], entry: str) -> None:
    """Let an entry, `<key>.<attempt>`, be found by these places, durably."""
    files.mark(mark_of(place, entry) for place in places)


def mark_of(place: Place, entry: str) -> Path:
    return _shard(place[0]) / f"{_coded(place[1])}.{entry}"


class Index:
    """The entries that have marks, as they are when a collection is first asked about."""

    def __init__(self) -> None:
        self._names: dict[str, list[str]] = {}

    def at(self, place: Place) -> Iterator[str]:
        """Those of a place, or of one above it."""
        code = _coded(place[1])
        for end in range(0, len(code) + 1, _LETTERS):
            yield from self._beginning(place[0], f"{code[:end]}.")

    def below(self, place: Place) -> Iterator[str]:
        """Those of a place, or of one below it."""
        return self._beginning(place[0], _coded(place[1]))

    def _beginning(self, collection: str, prefix: str) -> Iterator[str]:
        names = self._names.get(collection)
        if names is None:
            names = self._names[collection] = sorted(files.names(_shard(collection)))
        for index in range(bisect_left(names, prefix), len(names)):
            if not names[index].startswith(prefix):
                return
            yield names[index].partition(".")[2]


def _shard(collection: str) -> Path:
    return directory() / re.sub(r"[^\w-]", "_", collection)


def _coded(path: str) -> str:
    names = [name for name in normalised(path).split("/") if name]
    return "".join(f"{crc32(name.encode('utf-8', 'replace')):08x}" for name in names[:DEPTH])
