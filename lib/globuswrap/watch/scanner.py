"""What is seen in the watched directory: which files count, which file system it is, when a file is complete.

A file is complete when size, modification and change time and inode have stayed the same for `settle` seconds. Time is
this host's; on a local file system the age of the change time counts (the kernel sets it on every write, and no copying
program can set it back), so what settled while no watcher ran is ready at once. On a network file system clocks differ
and attributes are cached: there two looks of this process are `settle` apart, and the second opens the file, which makes
an NFS client ask the server (close-to-open consistency).
"""

from __future__ import annotations

import contextlib
import fnmatch
import hashlib
import os
import re
import stat
from collections.abc import Iterator
from dataclasses import dataclass

from globuswrap.system import machine

#: Of a change on another host, these tell nothing to this one: they are looked at in intervals.
REMOTE = re.compile(
    r"nfs4?|lustre|gpfs|beegfs|ceph|cifs|smb3?|afs|9p|orangefs|panfs|wekafs|fuse(\..*)?|virtiofs|glusterfs"
)


@dataclass(frozen=True)
class Wanted:
    """Which files below a directory count. Patterns are of names, or of paths below the directory where they hold a `/`."""

    top: str
    patterns: tuple[str, ...] = ("*",)
    ignored: tuple[str, ...] = ()
    recursive: bool = True

    def name(self, below: str) -> bool:
        """Does this path, relative to the directory, count? Hidden names do only for a pattern that begins with a dot."""
        base = os.path.basename(below)
        if any(_matches(below, base, pattern) for pattern in self.ignored):
            return False
        return any(
            _matches(below, base, pattern) and (not base.startswith(".") or os.path.basename(pattern).startswith("."))
            for pattern in self.patterns
        )

    def scan(self, start: str | None = None) -> Iterator[str]:
        """Paths of the files that count, below `start` (default: the top). Links to directories are not followed.

        OSError if the first directory cannot be read: an unmounted directory is not an empty one. Others may vanish.
        """
        first = True
        waiting = [start or self.top]
        while waiting:
            directory = waiting.pop()
            try:
                entries = os.scandir(directory)
            except OSError:
                if first:
                    raise
                continue
            first = False
            with entries:
                for entry in entries:
                    if entry.is_dir(follow_symlinks=False):
                        if self.recursive and not entry.name.startswith("."):
                            waiting.append(entry.path)
                    elif self.name(os.path.relpath(entry.path, self.top) if directory != self.top else entry.name):
                        yield entry.path

    def counts(self, path: str) -> bool:
        """Would `scan` yield this path (whatever is there)?"""
        below = os.path.relpath(path, self.top)
        parents = below.split("/")[:-1]
        if any(part.startswith(".") for part in parents) or (parents and not self.recursive):
            return False
        return self.name(below)


def _matches(below: str, base: str, pattern: str) -> bool:
    return fnmatch.fnmatchcase(below if "/" in pattern else base, pattern)


@dataclass(frozen=True)
class Fingerprint:
    """What tells one state of a file from another. Times are nanoseconds."""

    size: int
    modified: int
    changed: int
    inode: int


def look(path: str, *, fresh: bool = False) -> Fingerprint | None:
    """The state of a regular file (or of what a link leads to); None if there is none. `fresh`: ask the file server."""
    try:
        status = os.stat(path)
        if not stat.S_ISREG(status.st_mode):
            return None
        if fresh:
            # A file that this user cannot read can still be named to Globus.
            with contextlib.suppress(PermissionError), open(path, "rb", opener=_without_waiting) as file:
                status = os.fstat(file.fileno())
    except OSError:
        return None
    return Fingerprint(status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino)


def _without_waiting(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK)  # it may have become a pipe


def key_of(top: str, path: str, seen: Fingerprint, *, once_per_path: bool) -> str:
    """What makes it this trigger, 32 hex digits: the path below the directory and, unless once per path, size and time."""
    below = os.path.relpath(path, top)
    state = b"" if once_per_path else f"{seen.size} {seen.modified}".encode()
    return hashlib.sha256(os.fsencode(below) + b"\0" + state).hexdigest()[:32]


def remote(path: str) -> bool:
    """Is it on a file system that other hosts write to? Unknown counts as one."""
    kind = machine.file_system(path)
    return not kind or REMOTE.fullmatch(kind) is not None
