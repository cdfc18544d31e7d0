r"""The manifest: the listing of the last state known to be at the destination, one gzip file.

Format, version 1. Records, each ended by NUL, so that any name fits and nothing is escaped::

    globuswrap manifest 1                    the first record
    /                                        a directory, as its path below the root; `/` is the root
    1514764800123456789 1048576 image.tif    a file in it: time of modification in nanoseconds, size in bytes, name
    1514764800123456789 @7 latest            a symbolic link kept as one
    /run 2                                   the next directory

A directory has a record if it holds listed files, or nothing at all (at the destination it is there, then). Order: depth
first, an outer directory before what it holds, siblings by the bytes of their names. The bytes of names are kept as they are.
With standard tools::

    zcat manifest.gz | tr '\0' '\n' | less

A delta (`*.delta.gz`) is what a run wants to add to the manifest, in the same form and order, with a sign before each file:
`+` the record of a new or changed file, `-` that of one that is gone; `+` or `-` alone is an empty directory itself.

Both are read and written as streams; memory does not grow with their length.
"""

from __future__ import annotations

import gzip
import os
import tempfile
import zlib
from bisect import bisect_right
from collections.abc import Collection, Container, Iterable, Iterator
from pathlib import Path
from types import TracebackType

from globuswrap.errors import Refused
from globuswrap.system import files

MANIFEST = b"globuswrap manifest 1"
DELTA = b"globuswrap delta 1"

#: A directory and the records of files in it, joined by NUL; b"": an empty directory.
Block = tuple[bytes, bytes]

_WRITE = 128 * 1024
_WINDOW = 256 * 1024


class ManifestDamaged(Refused):
    """The file is not what was written: cut off, altered, or another format."""


def damaged(path: Path, what: str) -> ManifestDamaged:
    return ManifestDamaged(
        "manifest-damaged",
        f"{path}: {what}",
        "record the present state again with `globuswrap sync baseline NAME`, or `--forget` to send everything once more",
    )


def file_name(row: bytes) -> bytes:
    """The name in a file's record, which may be signed; b"" of what is no file's: a directory's own."""
    return row.split(b" ", 2)[2] if len(row) > 1 else b""


def order(directory: bytes) -> bytes:
    """Sorts directory records as the manifest has them."""
    return b"" if directory == b"/" else directory.replace(b"/", b"\0")


def joined(directory: bytes, name: bytes) -> bytes:
    """The path of a file below the root, without a leading slash."""
    return name if directory == b"/" else directory[1:] + b"/" + name


def blocks(texts: Iterable[bytes]) -> Iterator[Block]:
    """A listing, which comes in pieces cut anywhere, cut at its directory records instead.

    A directory is whole, unless it is larger than `_WINDOW`: then it comes in several blocks, none of them without files.
    Raises ValueError if the last record is cut off.
    """
    held = b""  # begins with a directory record
    for text in texts:
        held += text
        end = held.rfind(b"\0/")
        if end >= 0:
            yield from _directories(held[:end])
            held = held[end + 1 :]
        if len(held) >= _WINDOW:
            first = held.find(b"\0")
            end = held.rfind(b"\0", first + 1, -1)
            if end > first >= 0:
                yield held[:first], held[first + 1 : end]
                held = held[:first] + held[end:]
    if held:
        if not held.endswith(b"\0"):
            raise ValueError("the last record is cut off")
        yield from _directories(held[:-1])


def _directories(text: bytes) -> Iterator[Block]:
    for piece in text[1:].split(b"\0/"):
        name, _, rows = piece.partition(b"\0")
        yield b"/" + name, rows


def aligned(one: Iterator[Block], two: Iterator[Block]) -> Iterator[tuple[bytes, bytes | None, bytes | None]]:
    """Two listings side by side: (directory, records of the one, records of the other), in order.

    A name that both have is in the same step on both sides. A side is None where it has no record of the directory, or no more
    of its files.
    """
    left, right = next(one, None), next(two, None)
    while left is not None or right is not None:
        if right is None or (left is not None and left[0] != right[0] and order(left[0]) < order(right[0])):
            assert left is not None
            yield left[0], left[1], None
            left = next(one, None)
        elif left is None or left[0] != right[0]:
            yield right[0], None, right[1]
            right = next(two, None)
        else:
            directory, mine, theirs = left[0], left[1], right[1]
            left = right = None
            if mine != theirs:
                ends = _last_name(mine), _last_name(theirs)
                if ends[0] > ends[1]:
                    mine, rest = _cut(mine, ends[1])
                    left = directory, rest
                elif ends[0] < ends[1]:
                    theirs, rest = _cut(theirs, ends[0])
                    right = directory, rest
            yield directory, mine, theirs
            left, right = left or next(one, None), right or next(two, None)


def _last_name(rows: bytes) -> bytes:
    return file_name(rows[rows.rfind(b"\0") + 1 :])


def _cut(text: bytes, name: bytes) -> tuple[bytes, bytes]:
    """The records up to and with that name, and those after it."""
    rows = text.split(b"\0")
    at = bisect_right(rows, name, key=file_name)
    return b"\0".join(rows[:at]), b"\0".join(rows[at:])


def listing(path: Path, first: bytes) -> Iterator[Block]:
    """The blocks of the file that begins with the record `first`. Raises ManifestDamaged or FileNotFoundError."""
    try:
        yield from blocks(_texts(path, first))
    except (zlib.error, EOFError, gzip.BadGzipFile, ValueError) as error:
        raise damaged(path, str(error)) from None


def _texts(path: Path, first: bytes) -> Iterator[bytes]:
    beginning = b""
    with gzip.open(path) as file:
        while len(beginning) <= len(first) and (text := file.read(_WINDOW)):
            beginning += text
        if not beginning.startswith(first + b"\0"):
            raise ValueError(f"does not begin with {first.decode()!r}")
        yield beginning[len(first) + 1 :]
        while text := file.read(_WINDOW):
            yield text


class Writer:
    """Write a manifest or delta; it takes the place of what was there only at the end of a `with` block without an exception."""

    def __init__(self, path: Path, first: bytes, level: int = 4) -> None:
        self._path = path
        descriptor, self._temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        self._file = os.fdopen(descriptor, "wb")
        self._deflate = zlib.compressobj(level, zlib.DEFLATED, 31)
        self._parts = [first + b"\0"]
        self._held = 0

    def write(self, text: bytes) -> None:
        """Add whole records, each ended by NUL."""
        self._parts.append(text)
        self._held += len(text)
        if self._held >= _WRITE:
            self._flush()

    def _flush(self) -> None:
        self._file.write(self._deflate.compress(b"".join(self._parts)))
        self._parts, self._held = [], 0

    def __enter__(self) -> Writer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                self._flush()
                self._file.write(self._deflate.flush())
                self._file.flush()
                os.fsync(self._file.fileno())
                os.replace(self._temporary, self._path)
                files.sync_directory(self._path.parent)
        finally:
            self._file.close()
            if os.path.exists(self._temporary):
                os.unlink(self._temporary)


def open_manifest(path: Path) -> Iterator[Block]:
    """The manifest's blocks; none if there is no such file."""
    return listing(path, MANIFEST) if path.exists() else iter(())


def count(path: Path) -> int:
    """How many files the manifest has."""
    return sum(rows.count(b"\0") + 1 for _, rows in open_manifest(path) if rows)


Delta = tuple[bytes, list[bytes]]


def delta_blocks(path: Path) -> Iterator[Delta]:
    """(directory, signed records) of a delta. One directory may come in several pieces."""
    return ((directory, rows.split(b"\0")) for directory, rows in listing(path, DELTA))


def delta_text(directory: bytes, rows: list[bytes]) -> bytes:
    return directory + b"\0" + b"\0".join(rows) + b"\0"


def merge(old: Path, deltas: Iterable[Delta], new: Path) -> int:
    """Write `new`: the manifest `old` with a delta done to it, in one pass over both. Returns how many files changed.

    The delta's records are in order, with an empty directory's own before those of files. `old` may be absent, and may be `new`.
    A `-` that is not there is no error. A directory keeps its record when its last file goes.
    """
    changed = 0
    at: bytes | None = None
    stays = headed = False
    with Writer(new, MANIFEST) as writer:
        changes = ((directory, b"\0".join(rows)) for directory, rows in deltas if rows)
        for directory, known, signed in aligned(open_manifest(old), changes):
            rows, count = _changed(known or b"", signed)
            changed += count
            own = signed.partition(b"\0")[0] if signed else b""  # the record of an empty directory itself, if it is one
            if directory != at:
                at, headed = directory, False
                stays = known is not None
            stays = own != b"-" and (stays or own == b"+")
            if not headed and (stays or rows):
                writer.write(directory + b"\0")
                headed = True
            if rows:
                writer.write(rows + b"\0")
    return changed


def _changed(known: bytes, signed: bytes | None) -> tuple[bytes, int]:
    """The records of a directory after a change, and how many files changed."""
    if not signed:
        return known, 0
    files = [row for row in signed.split(b"\0") if len(row) > 1]
    rows = [row[1:] for row in files if row[:1] == b"+"]
    if known:
        names = set(map(file_name, files))
        rows += [row for row in known.split(b"\0") if file_name(row) not in names]
        rows.sort(key=file_name)
    return b"\0".join(rows), len(files)


def without(deltas: Iterable[Delta], skipped: Collection[bytes]) -> Iterable[Delta]:
    """A delta without what is at or below the paths that were skipped."""
    if not skipped:
        return deltas
    return (
        (directory, [row for row in rows if not at_or_below(signed_path(directory, row), skipped)])
        for directory, rows in deltas
    )


def at_or_below(path: bytes, paths: Container[bytes]) -> bool:
    """Whether `path` or a directory above it is in the collection `paths`; b"" there is the root."""
    if path in paths or b"" in paths:
        return True
    end = path.rfind(b"/")
    while end > 0:
        if path[:end] in paths:
            return True
        end = path.rfind(b"/", 0, end)
    return False


def signed_path(directory: bytes, row: bytes) -> bytes:
    """The path, below the root, that a signed record is about."""
    return directory[1:] if len(row) == 1 else joined(directory, file_name(row[1:]))
