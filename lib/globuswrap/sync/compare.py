"""What differs between a scan and the manifest: new, changed and vanished, as one pass over two sorted streams.

Where the listing is the same, whole pieces of it are compared as bytes and nothing is parsed. Where it differs, the records of
one directory are compared as sets.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from globuswrap.errors import Refused
from globuswrap.sync import scan
from globuswrap.sync.manifest import Cursor, at_or_below, file_name, joined, order

#: More paths than this that cannot be read, and the tree as a whole counts as unreadable.
MOST_TROUBLES = 100_000
#: A record of a file in a piece of a listing: any that is not of a directory.
_FILE = re.compile(rb"(?:\A|\0)[^/\0]")


@dataclass
class Seen:
    """What a comparison met on its way. `unknown`: paths (below the root, no leading slash) that could not be read, with the
    reason. `left_out`: how many links and special files were left out; `examples` some of them. `mounts`: directories on another
    device than the one that holds them. `any_file`: whether the tree holds a file at all."""

    unknown: dict[bytes, str] = field(default_factory=dict)
    left_out: int = 0
    examples: list[tuple[bytes, str]] = field(default_factory=list)
    mounts: set[bytes] = field(default_factory=set)
    any_file: bool = False

    def note(self, kind: int, payload: bytes) -> None:
        path, _, reason = payload.rpartition(b"\0")
        path = path[1:]
        if kind == scan.MOUNT:
            self.mounts.add(path)
            return
        if kind == scan.NOTE:
            self.left_out += 1
            if len(self.examples) < 10:
                self.examples.append((path, reason.decode("utf-8", "replace")))
            return
        self.unknown[path] = reason.decode("utf-8", "replace")
        if len(self.unknown) > MOST_TROUBLES:
            raise Refused(
                "source-mostly-unreadable",
                f"more than {MOST_TROUBLES} files and directories cannot be read",
                "see that this user may read the tree; nothing was submitted",
            )

    def is_unknown(self, path: bytes) -> bool:
        """Whether that path, or a directory it is in, could not be read."""
        return bool(self.unknown) and at_or_below(path, self.unknown)


def has_file(text: bytes) -> bool:
    """Whether a piece of a listing has the record of a file."""
    return _FILE.search(text) is not None


def compare(frames: Iterable[scan.Frame], old: Cursor, seen: Seen) -> Iterator[tuple[bytes, list[bytes]]]:
    """(directory, signed records), as a delta has them, for every directory with a difference, in the manifest's order.

    `+` is a new or changed file, `-` one that is there no more. What is at or below a path that could not be read never comes
    as `-`: it is not known to have vanished. Raises ValueError if the manifest is cut off.
    """
    here: bytes | None = None
    for kind, payload in frames:
        if kind != scan.TEXT:
            seen.note(kind, payload)
            continue
        seen.any_file = seen.any_file or has_file(payload)
        # Files that go on with a directory are only the same if the manifest is in that directory too.
        aligned = here is None or payload.startswith(b"/") or old.directory == here
        if aligned and old.skip_equal(payload):
            here = None
            continue
        if here is None:
            here = old.directory
        for directory, text in _pieces(payload, here):
            if directory != here:
                yield from _vanished(old, directory, here, seen)
                here = directory
                if not text and old.directory != directory:
                    yield directory, [b"+"]
            if text and not (old.directory == directory and old.skip_equal(text)):
                new = text[:-1].split(b"\0")
                done = 0
                if old.directory == directory:
                    for known in old.rows_through(file_name(new[-1])):
                        upto = bisect_right(new, file_name(known[-1]), lo=done, key=file_name)
                        signed = _differences(directory, known, new[done:upto], seen)
                        done = upto
                        if signed:
                            yield directory, signed
                if done < len(new):
                    yield directory, [b"+" + row for row in new[done:]]
    yield from _vanished(old, None, here or old.directory, seen)


def _pieces(text: bytes, here: bytes | None) -> Iterator[tuple[bytes, bytes]]:
    """A frame cut at its directory records: (directory, records of files)."""
    at = 0
    end = len(text)
    if not text.startswith(b"/"):
        assert here is not None, "a listing begins with a directory"
        stop = text.find(b"\0/")
        at = end if stop < 0 else stop + 1
        yield here, text[:at]
    while at < end:
        name_end = text.index(b"\0", at)
        stop = name_end if text.startswith(b"/", name_end + 1) else text.find(b"\0/", name_end + 1)
        after = end if stop < 0 else stop + 1
        yield text[at:name_end], text[name_end + 1 : after]
        at = after


def _vanished(old: Cursor, upto: bytes | None, here: bytes | None, seen: Seen) -> Iterator[tuple[bytes, list[bytes]]]:
    """What the manifest has from its position to before the directory `upto` (None: to the end) is gone. `here` is the directory
    the scan was in. Afterwards the manifest is at `upto` or past it."""
    goal = None if upto is None else order(upto)
    while True:
        current = old.directory
        if current is not None:
            if goal is not None and order(current) >= goal:
                return
            if old.is_empty and current != here and not seen.is_unknown(current[1:]):
                yield current, [b"-"]
            for rows in old.rows():
                gone = [b"-" + row for row in rows if not seen.is_unknown(joined(current, file_name(row)))]
                if gone:
                    yield current, gone
        if old.next_directory() is None:
            return


def _differences(directory: bytes, known: list[bytes], new: list[bytes], seen: Seen) -> list[bytes]:
    gone = {file_name(row): row for row in set(known).difference(new)}
    come = {file_name(row): row for row in set(new).difference(known)}
    signed: list[bytes] = []
    for name in sorted(gone.keys() | come.keys()):
        if name in come:
            signed.append(b"+" + come[name])
        elif not seen.is_unknown(joined(directory, name)):
            signed.append(b"-" + gone[name])
    return signed
