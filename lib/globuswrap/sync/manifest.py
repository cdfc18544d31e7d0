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

import os
import tempfile
import zlib
from bisect import bisect_right
from collections.abc import Container, Iterable, Iterator
from pathlib import Path
from types import TracebackType
from typing import IO

from globuswrap.errors import Refused
from globuswrap.system import files

MANIFEST = b"globuswrap manifest 1"
DELTA = b"globuswrap delta 1"

_READ = 128 * 1024
_WRITE = 128 * 1024
_WINDOW = 1024 * 1024


class ManifestDamaged(Refused):
    """The file is not what was written: cut off, altered, or another format."""


def damaged(path: Path, what: str) -> ManifestDamaged:
    return ManifestDamaged(
        "manifest-damaged",
        f"{path}: {what}",
        "record the present state again with `globuswrap sync baseline NAME`, or `--forget` to send everything once more",
    )


def file_name(row: bytes) -> bytes:
    """The name in a file's record."""
    return row.split(b" ", 2)[2]


def order(directory: bytes) -> bytes:
    """Sorts directory records as the manifest has them."""
    return b"" if directory == b"/" else directory.replace(b"/", b"\0")


def joined(directory: bytes, name: bytes) -> bytes:
    """The path of a file below the root, without a leading slash."""
    return name if directory == b"/" else directory[1:] + b"/" + name


class Cursor:
    """A position in a listing that is read as a stream: at a record of the directory `directory`, or at the end (None)."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks = chunks
        self._buffer = b""
        self._at = 0
        self._ended = False
        self._directory: bytes | None = None
        self._directory_from: bytes | None = None
        #: Whether the directory `next_directory` came to holds no files.
        self.is_empty = False

    @property
    def directory(self) -> bytes | None:
        """The directory whose records come next, perhaps none; None at the end of the listing."""
        if self._directory_from is not None:
            self._directory = _last_directory(self._directory_from) or self._directory
            self._directory_from = None
        return self._directory

    def _fill(self, want: int) -> bool:
        """Have at least `want` bytes in the window; False at the end of the file."""
        have = len(self._buffer) - self._at
        if have >= want:
            return True
        parts = [self._buffer[self._at :]]
        while have < want and not self._ended:
            chunk = next(self._chunks, None)
            if chunk is None:
                self._ended = True
                break
            parts.append(chunk)
            have += len(chunk)
        self._buffer = b"".join(parts)
        self._at = 0
        return have >= want

    def skip_equal(self, text: bytes) -> bool:
        """Pass over `text` if it is exactly what comes next: one comparison of bytes makes an unchanged tree cheap."""
        if not self._fill(len(text)) or not self._buffer.startswith(text, self._at):
            return False
        self._at += len(text)
        if self._directory_from is None or _has_directory(text):
            self._directory_from = text
        return True

    def next_directory(self) -> bytes | None:
        """Go on to the next directory record, past whatever is left of this one; its path, or None at the end."""
        for _ in self.rows():
            pass
        if not self._fill(1):
            self._directory = self._directory_from = None
            return None
        end = self._record_end(self._at)
        self._directory_from = None
        self._directory = self._buffer[self._at : end]
        self._at = end + 1
        self.is_empty = not self._fill(1) or self._buffer.startswith(b"/", self._at)
        return self._directory

    def _record_end(self, start: int) -> int:
        """Where the NUL of the record at `start` is, which the window will hold; `start` must be the window's position."""
        while (end := self._buffer.find(b"\0", start)) < 0:
            if not self._fill(len(self._buffer) - self._at + 1):
                raise ValueError("the last record is cut off")
            start = self._at
        return end

    def rows(self) -> Iterator[list[bytes]]:
        """The rest of this directory's files, in lists that fit into memory."""
        while rows := self._slice()[0]:
            self._at += sum(map(len, rows)) + len(rows)
            yield rows

    def rows_through(self, name: bytes) -> Iterator[list[bytes]]:
        """This directory's next files up to and with `name`, in lists that fit into memory."""
        while True:
            rows, last = self._slice()
            if not rows:
                return
            beyond = file_name(rows[-1]) > name
            if beyond:
                rows = rows[: bisect_right(rows, name, key=file_name)]
            self._at += sum(map(len, rows)) + len(rows)
            if rows:
                yield rows
            if last or beyond:
                return

    def _slice(self) -> tuple[list[bytes], bool]:
        """Up to about a megabyte of this directory's next files, and whether these are the last; the position stays."""
        if not self._fill(1) or self._buffer.startswith(b"/", self._at):
            return [], True
        end = self._buffer.find(b"\0/", self._at)
        if end < 0:
            self._fill(_WINDOW)
            end = self._buffer.find(b"\0/", self._at)
        buffer, at = self._buffer, self._at
        last = end >= 0 or self._ended
        if end < 0:
            end = buffer.rfind(b"\0", at)
            if end < 0 or (self._ended and end != len(buffer) - 1):
                raise ValueError("the last record is cut off")
        return buffer[at:end].split(b"\0"), last


def _has_directory(text: bytes) -> bool:
    return text.startswith(b"/") or b"\0/" in text


def _last_directory(text: bytes) -> bytes | None:
    """The last directory record in a piece of a listing that begins and ends between records."""
    start = text.rfind(b"\0/")
    if start < 0 and not text.startswith(b"/"):
        return None
    start += 1  # of the NUL; or from -1 to the beginning
    return text[start : text.index(b"\0", start)]


def texts(path: Path, first: bytes) -> Iterator[bytes]:
    """The listing in a file, decompressed, without its first record. Raises ManifestDamaged or FileNotFoundError."""
    with path.open("rb") as file:
        beginning = b""
        found = False
        try:
            for text in _inflated(file):
                if found:
                    yield text
                    continue
                beginning += text
                if len(beginning) > len(first):
                    if not beginning.startswith(first + b"\0"):
                        raise damaged(path, f"does not begin with {first.decode()!r}")
                    found = True
                    if len(beginning) > len(first) + 1:
                        yield beginning[len(first) + 1 :]
        except (zlib.error, EOFError) as error:
            raise damaged(path, str(error)) from None
        if not found:
            raise damaged(path, f"does not begin with {first.decode()!r}")


def _inflated(file: IO[bytes]) -> Iterator[bytes]:
    """A gzip file of one member or several, decompressed, its sums checked."""
    inflate = zlib.decompressobj(wbits=31)
    fresh = True
    while data := file.read(_READ):
        while data:
            if inflate.eof:
                inflate, fresh = zlib.decompressobj(wbits=31), True
            text = inflate.decompress(data, _WINDOW)
            fresh = False
            data = inflate.unused_data if inflate.eof else inflate.unconsumed_tail
            if text:
                yield text
    if fresh or not inflate.eof:
        raise EOFError("cut off")


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


def open_manifest(path: Path) -> Cursor:
    """A cursor before the first directory of the manifest; of an empty listing if there is no such file."""
    return Cursor(texts(path, MANIFEST) if path.exists() else iter(()))


def count(path: Path) -> int:
    """How many files the manifest has."""
    cursor = open_manifest(path)
    number = 0
    try:
        while cursor.next_directory() is not None:
            number += sum(len(rows) for rows in cursor.rows())
    except ValueError as error:
        raise damaged(path, str(error)) from None
    return number


Delta = tuple[bytes, list[bytes]]


def delta_blocks(paths: Iterable[Path]) -> Iterator[Delta]:
    """(directory, signed records) of several deltas that follow each other in order. One directory may come in several pieces."""
    for path in paths:
        cursor = Cursor(texts(path, DELTA))
        try:
            while (directory := cursor.next_directory()) is not None:
                for rows in cursor.rows():
                    yield directory, rows
        except ValueError as error:
            raise damaged(path, str(error)) from None


def delta_text(directory: bytes, rows: list[bytes]) -> bytes:
    return directory + b"\0" + b"\0".join(rows) + b"\0"


def merge(old: Path, deltas: Iterable[Delta], new: Path) -> int:
    """Write `new`: the manifest `old` with a delta done to it, in one pass over both. Returns how many files changed.

    The delta's records are in order, with an empty directory's own before those of files. `old` may be absent, and may be `new`.
    A `-` that is not there is no error.
    """
    with Writer(new, MANIFEST) as writer:
        try:
            merging = _Merge(open_manifest(old), writer)
            for directory, signed in deltas:
                if signed:
                    merging.take(directory, signed)
            merging.finish()
        except ValueError as error:
            raise damaged(old, str(error)) from None
    return merging.changed


class _Merge:
    """A manifest being copied, with changes on the way. A directory keeps its record when its last file goes."""

    def __init__(self, cursor: Cursor, writer: Writer) -> None:
        self._cursor = cursor
        self._writer = writer
        self._here = cursor.next_directory()
        self._at: bytes | None = None
        self._headed = False
        self.changed = 0

    def take(self, directory: bytes, signed: list[bytes]) -> None:
        if directory != self._at:
            self._leave()
            while self._here is not None and order(self._here) < order(directory):
                self._at, self._headed = self._here, False
                self._head()
                self._leave()
            self._at, self._headed = directory, False
            if b"-" not in signed and (self._here == directory or b"+" in signed):
                self._head()
        files = [row for row in signed if len(row) > 1]
        self.changed += len(files)
        if not files:
            return
        if self._here != directory:
            # New, and in order: no need to take the records apart.
            coming = files if all(row[:1] == b"+" for row in files) else [row for row in files if row[:1] == b"+"]
            if coming:
                self._head()
                self._writer.write((b"\0" + b"\0".join(coming) + b"\0").replace(b"\0+", b"\0")[1:])
            return
        names = {file_name(row[1:]) for row in files}
        coming = [row[1:] for row in files if row[:1] == b"+"]
        done = 0
        for rows in self._cursor.rows_through(file_name(files[-1][1:])):
            upto = bisect_right(coming, file_name(rows[-1]), lo=done, key=file_name)
            both = [row for row in rows if file_name(row) not in names] + coming[done:upto]
            both.sort(key=file_name)
            self._rows(both)
            done = upto
        self._rows(coming[done:])

    def finish(self) -> None:
        self._leave()
        while self._here is not None:
            self._at, self._headed = self._here, False
            self._head()
            self._leave()

    def _head(self) -> None:
        if not self._headed and self._at is not None:
            self._writer.write(self._at + b"\0")
            self._headed = True

    def _rows(self, rows: list[bytes]) -> None:
        if rows:
            self._head()
            self._writer.write(b"\0".join(rows) + b"\0")

    def _leave(self) -> None:
        """Copy what the directory at hand still has in the old manifest."""
        if self._at is not None and self._here == self._at:
            for rows in self._cursor.rows():
                self._rows(rows)
            self._here = self._cursor.next_directory()
        self._at = None


def kept(directory: bytes, rows: list[bytes], skipped: Container[bytes]) -> list[bytes]:
    """The signed records that are not at or below a path in `skipped`."""
    return [row for row in rows if not at_or_below(signed_path(directory, row), skipped)]


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


def _copy(cursor: Cursor, directory: bytes, writer: Writer) -> None:
    writer.write(directory + b"\0")
    for rows in cursor.rows():
        writer.write(b"\0".join(rows) + b"\0")


def _new_directory(directory: bytes, signed: list[bytes], writer: Writer) -> None:
    """A directory that the manifest does not have, with new files in order: no need to take the records apart."""
    new = b"\0" + b"\0".join(signed) + b"\0"
    writer.write(directory + new.replace(b"\0+", b"\0"))


def _merge_directory(cursor: Cursor | None, directory: bytes, signed: list[bytes], writer: Writer) -> None:
    """A changed file takes the place of the one with its name. A directory keeps its record when its last file goes."""
    names_out = {file_name(row[1:]) for row in signed if len(row) > 1}
    coming = [row[1:] for row in signed if row[:1] == b"+" and len(row) > 1]
    coming.sort(key=file_name)
    headed = False
    if b"+" in signed or (cursor is not None and b"-" not in signed):
        writer.write(directory + b"\0")
        headed = True
    at = 0
    for rows in cursor.rows() if cursor is not None else ():
        upto = bisect_right(coming, file_name(rows[-1]), lo=at, key=file_name)
        kept = [row for row in rows if file_name(row) not in names_out] + coming[at:upto]
        kept.sort(key=file_name)
        at = upto
        if kept:
            writer.write((b"" if headed else directory + b"\0") + b"\0".join(kept) + b"\0")
            headed = True
    if coming[at:]:
        writer.write((b"" if headed else directory + b"\0") + b"\0".join(coming[at:]) + b"\0")
