"""What is seen in the watched directory: which files count, which file system it is, when a file is complete.

A file is complete when size, modification and change time and inode have stayed the same for `settle` seconds. Time is
this host's; on a local file system the age of the change time counts (the kernel sets it on every write, and no copying
program can set it back), so what settled while no watcher ran is ready at once. On a network file system clocks differ
and attributes are cached: there two looks of this process are `settle` apart, and the second opens the file, which makes
an NFS client ask the server (close-to-open consistency).
"""

from __future__ import annotations

import fnmatch
import hashlib
import os
import re
import stat
import time
from collections.abc import Iterator
from dataclasses import dataclass

from globuswrap.errors import UsageProblem
from globuswrap.system import machine

#: Of a change on another host, these tell nothing to this one: they are looked at in intervals.
REMOTE = re.compile(
    r"nfs4?|lustre|gpfs|beegfs|ceph|cifs|smb3?|afs|9p|orangefs|panfs|wekafs|fuse(\..*)?|virtiofs|glusterfs"
)


@dataclass(frozen=True)
class Wanted:
    """Which files count. Patterns are of names, or of paths below the directory where they hold a `/`."""

    patterns: tuple[str, ...] = ("*",)
    ignored: tuple[str, ...] = ()
    recursive: bool = True

    def __post_init__(self) -> None:
        if not self.patterns or not all(self.patterns):
            raise UsageProblem(
                "empty-pattern", "an empty pattern matches nothing", "write --pattern '*.h5', or leave it out"
            )

    def name(self, below: str) -> bool:
        """Does this path, relative to the directory, count? Hidden names do only for a pattern that begins with a dot."""
        base = os.path.basename(below)
        if any(_matches(below, base, pattern) for pattern in self.ignored):
            return False
        return any(
            _matches(below, base, pattern) and (not base.startswith(".") or os.path.basename(pattern).startswith("."))
            for pattern in self.patterns
        )


def _matches(below: str, base: str, pattern: str) -> bool:
    return fnmatch.fnmatchcase(below if "/" in pattern else base, pattern)


@dataclass(frozen=True)
class Fingerprint:
    """What tells one state of a file from another. Times are nanoseconds."""

    size: int
    modified: int
    changed: int
    inode: int


def print_of(status: os.stat_result) -> Fingerprint:
    return Fingerprint(status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino)


def look(path: str, *, fresh: bool = False) -> Fingerprint | None:
    """The state of a regular file (or of what a link leads to); None if there is none. `fresh`: ask the file server."""
    try:
        status = os.stat(path)
        if not stat.S_ISREG(status.st_mode):
            return None
        if fresh:
            try:
                descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
            except PermissionError:
                return print_of(status)  # a file this user cannot read can still be named to Globus
            try:
                status = os.fstat(descriptor)
            finally:
                os.close(descriptor)
        return print_of(status)
    except OSError:
        return None


def key_of(top: str, path: str, seen: Fingerprint, *, once_per_path: bool) -> str:
    """What makes it this trigger, 32 hex digits: the path below the directory and, unless once per path, size and time."""
    below = os.path.relpath(path, top)
    state = b"" if once_per_path else f"{seen.size} {seen.modified}".encode()
    return hashlib.sha256(os.fsencode(below) + b"\0" + state).hexdigest()[:32]


def scan(top: str, wanted: Wanted, start: str | None = None) -> Iterator[str]:
    """Paths of the files that count, below `start` (default: the top). Links to directories are not followed.

    OSError if the first directory cannot be read: an unmounted directory is not an empty one. Others may vanish.
    """
    first = True
    waiting = [start or top]
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
                    if wanted.recursive and not entry.name.startswith("."):
                        waiting.append(entry.path)
                elif wanted.name(os.path.relpath(entry.path, top) if directory != top else entry.name):
                    yield entry.path


def counts(top: str, wanted: Wanted, path: str) -> bool:
    """Would `scan` yield this path (whatever is there)?"""
    below = os.path.relpath(path, top)
    parents = below.split("/")[:-1]
    if below.startswith("../") or any(part.startswith(".") for part in parents) or (parents and not wanted.recursive):
        return False
    return wanted.name(below)


def remote(path: str) -> bool:
    """Is it on a file system that other hosts write to? Unknown counts as one."""
    kind = machine.file_system(path)
    return not kind or REMOTE.fullmatch(kind) is not None


@dataclass
class Candidate:
    """A file that is not complete yet: its state, and since when (monotonic seconds) it is in it."""

    seen: Fingerprint
    since: float


def first_seen(seen: Fingerprint, *, trust_clock: bool) -> float:
    """Since when a state that was just seen has lasted: its change time where the clock is the file system's, else now."""
    age = time.time() - max(seen.changed, 0) / 1e9 if trust_clock else 0.0
    return time.monotonic() - max(0.0, age)
