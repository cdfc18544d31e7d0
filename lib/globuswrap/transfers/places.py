"""Where each entry of the journal reads, writes or deletes: what concerns a path is found without reading the journal.

    places/<collection>/<path>.<key>.<attempt>    an empty file, made before the claim, or before the receipt that lists the path

`<path>` has eight letters for each name on the way, a checksum of it: of a place above another it is a prefix. What a mark
names is read, so that one too many finds nothing: of a claim that was never made, or of two names with one checksum.
"""

from __future__ import annotations

import contextlib
import os
import posixpath
import re
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain, takewhile
from pathlib import Path
from typing import Any
from zlib import crc32

from globuswrap.collections.address import normalised
from globuswrap.system import files

#: A path on a collection: (collection, path), normalized.
Place = tuple[str, str]

#: Names of a path that count, so that the name of a mark is short enough for any file system (255 bytes).
DEPTH = 24
_LETTERS = 8


def directory() -> Path:
    return files.state_dir() / "journal" / "places"


def of_items(
    source: str, destination: str | None, items: object, examples: Sequence[Sequence[str | None]]
) -> Iterator[Place]:
    """The places of a submission: of its items, or all of its collections if the examples are not all of its items."""
    for pair in examples if examples and items == len(examples) else [("/", "/")]:
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
            yield collection, posixpath.commonprefix([min(others), max(others)]).rpartition("/")[0] or "/"


def inside(path: str, top: str) -> bool:
    """Is this path below that one?"""
    return path.startswith(top.rstrip("/") + "/")


def mark(places: Iterable[Place], entry: str) -> None:
    """Let an entry, `<key>.<attempt>`, be found by these places, durably. A mark that is there is as good as new."""
    changed = set()
    for place in places:
        made = mark_of(place, entry)
        changed |= {made.parent} if made.parent.is_dir() else {made.parent, directory()}
        files.private_directory(made.parent)
        try:
            os.close(files.private(str(made), os.O_CREAT | os.O_EXCL))
        except FileExistsError:
            with contextlib.suppress(FileNotFoundError):
                os.utime(made)
    for each in changed:
        files.sync_directory(each)


def mark_of(place: Place, entry: str) -> Path:
    return _shard(place[0]) / f"{_coded(place[1])}.{entry}"


def marks() -> Iterator[tuple[str, Path]]:
    """Each mark, with the entry that it names."""
    for shard in files.names(directory()):
        for name in files.names(directory() / shard):
            yield name.partition(".")[2], directory() / shard / name


class Index:
    """The entries that have marks, as they are when a collection is first asked about."""

    def __init__(self) -> None:
        self._shards: dict[str, tuple[list[str], dict[str, list[str]]]] = {}

    def at(self, place: Place) -> Iterator[str]:
        """Those of a place, or of one above it."""
        _, entries = self._shard(place[0])
        code = _coded(place[1])
        return chain.from_iterable(entries.get(code[:end], ()) for end in range(0, len(code) + 1, _LETTERS))

    def below(self, place: Place) -> Iterator[str]:
        """Those of places below this one."""
        codes, entries = self._shard(place[0])
        code = _coded(place[1])
        following = (codes[index] for index in range(bisect_left(codes, code), len(codes)))
        return chain.from_iterable(entries[each] for each in takewhile(lambda each: each.startswith(code), following))

    def _shard(self, collection: str) -> tuple[list[str], dict[str, list[str]]]:
        if collection not in self._shards:
            entries: dict[str, list[str]] = {}
            for name in files.names(_shard(collection)):
                code, _, entry = name.partition(".")
                entries.setdefault(code, []).append(entry)
            self._shards[collection] = (sorted(entries), entries)
        return self._shards[collection]


def _shard(collection: str) -> Path:
    return directory() / re.sub(r"[^\w-]", "_", collection)


def _coded(path: str) -> str:
    names = [name for name in normalised(path).split("/") if name]
    return "".join(f"{crc32(name.encode('utf-8', 'replace')):08x}" for name in names[:DEPTH])
