"""List a local tree: fast, sorted, streaming.

`scan` yields frames. Joined, the TEXT frames are the listing in the form the manifest has (see `syncs.manifest`): a header for
every directory, then one record for every file, each ended by NUL. Directories come depth first, an outer one before what it
holds; siblings, files and directories alike, in the order of the bytes of their names. A frame ends between two records.

Everything is bytes: a name is whatever the file system says it is. Memory does not grow with the number of files, a single
directory of millions included (its names are sorted in runs, through a temporary file).

The tree is cut into a few hundred parts and forked workers scan them; the frames still come in order. The slower the file system
answers, the more of them there are, since they mostly wait.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import fnmatch
import heapq
import os
import re
import signal
import stat
import struct
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import IO, BinaryIO, NoReturn

from globuswrap.errors import Refused, UsageProblem

#: Kinds of frames. TEXT: listing. TROUBLE: a path, NUL, the reason; what is at or below that path is not known. It comes before
#: the listing of the directory that holds the path. NOTE: a path, NUL, why it is left out on purpose. MOUNT: a path, NUL: a
#: directory on another device than the one that holds it.
TEXT, TROUBLE, NOTE, MOUNT = 0, 1, 2, 3
_UNIT, _UNIT_END, _FAILED, _DONE = 10, 11, 12, 13

Frame = tuple[int, bytes]

SYMLINK_POLICIES = ("skip", "follow", "keep", "error")

#: Scanning processes: this many at most; where the file system answers at once, one for each processor up to the other.
MOST_WORKERS = 16
_BUSY_WORKERS = 4
#: Seconds that a processor works on one file.
_WORK = 10e-6
_SLICE = 8192
_SORT_IN_MEMORY = 50_000
_UNITS_WANTED = 512
_UNITS_WORTH_FORKING = 8
_ENTRIES_TO_EXPAND = 20_000


@dataclass(frozen=True)
class Filters:
    """Ordered rules on names, as `globus transfer --include/--exclude` has them: the first that matches decides, and what none
    matches is included. A pattern ending in `/` is for directories, any other for files; `*`, `?` and `[...]` are matched against
    the name alone, never the path."""

    rules: tuple[tuple[str, str], ...] = ()

    def __post_init__(self) -> None:
        for kind, pattern in self.rules:
            if kind not in ("include", "exclude") or not pattern.rstrip("/") or "/" in pattern.rstrip("/"):
                raise UsageProblem(
                    "filter-invalid",
                    f"{kind} {pattern!r}: not a pattern for a name",
                    "use a pattern without a path, such as '*.tmp', or 'cache/' for directories",
                )

    def wanted(self, *, directories: bool) -> Callable[[str], bool] | None:
        """Says whether a name is wanted, of a directory or of a file; None if all are."""
        compiled = [
            (kind == "include", re.compile(fnmatch.translate(pattern.rstrip("/"))).match)
            for kind, pattern in self.rules
            if pattern.endswith("/") == directories
        ]
        return (lambda name: next((keep for keep, match in compiled if match(name)), True)) if compiled else None


@dataclass(frozen=True)
class ScanOptions:
    """How to read a tree. `symlinks`: `skip` leaves symbolic links out (a NOTE each); `follow` lists what they lead to; `keep`
    lists the link itself; `error` makes each a TROUBLE. `workers`: forked scanners, None for as many as `workers_for` says."""

    symlinks: str = "skip"
    filters: Filters = field(default_factory=Filters)
    workers: int | None = None

    def __post_init__(self) -> None:
        if self.symlinks not in SYMLINK_POLICIES:
            raise UsageProblem(
                "symlinks-invalid",
                f"symlinks {self.symlinks!r} is not valid",
                f"use one of: {', '.join(SYMLINK_POLICIES)}",
            )


def processors() -> int:
    """How many processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def workers_for(latencies: list[float], processors: int) -> int:
    """How many processes scan a file system that took so many seconds for one answer each.

    The median: a process that had to wait for its processor says nothing about the file system.
    """
    median = sorted(latencies or [0.0])[len(latencies) // 2]
    return min(MOST_WORKERS, int(min(_BUSY_WORKERS, processors) * (1 + median / _WORK)))


def may_fork() -> bool:
    """Whether this process has no other threads: a fork of one that has can deadlock in the child. Threads that are about to end,
    as those of a program that was just run, are waited for."""
    until = time.monotonic() + 0.2
    while threading.active_count() > 1 and time.monotonic() < until:
        time.sleep(0.005)
    return threading.active_count() == 1


def scan(root: bytes, options: ScanOptions | None = None) -> Iterator[Frame]:
    """The listing of `root`, in frames, in order.

    A directory or file below it that cannot be read is a TROUBLE frame and the scan goes on; what disappears while the scan runs
    is as if it had never been there. Raises Refused if `root` itself cannot be read.
    """
    options = options or ScanOptions()
    try:
        os.close(os.open(root, os.O_RDONLY | os.O_DIRECTORY))
    except OSError as error:
        raise Refused(
            "source-unreadable",
            f"{os.fsdecode(root)}: {error.strerror}",
            "check that the file system is mounted and that this user may read it",
        ) from None
    walker = _Walker(root, options)
    if options.workers != 1 and may_fork():
        units = walker.units()
        workers = options.workers or workers_for(walker.latencies, processors())
        if workers > 1 and len(units) >= _UNITS_WORTH_FORKING:
            yield from _scan_in_workers(walker, units, workers)
            return
    yield from walker.frames(walker.top())


@dataclass(frozen=True)
class _Unit:
    """A directory to list: with everything below, or its own files only. `path` is b"" for the root, else `/a/b`."""

    path: bytes
    below: bool
    ancestors: tuple[tuple[int, int], ...]
    device: int


class _Walker:
    def __init__(self, root: bytes, options: ScanOptions) -> None:
        self.root = root.rstrip(b"/") or b"/"
        self.symlinks = options.symlinks
        self.file_wanted = options.filters.wanted(directories=False)
        self.directory_wanted = options.filters.wanted(directories=True)
        #: How long the file system took for the status of each directory, in seconds; by `units`.
        self.latencies: list[float] = []

    def frames(self, unit: _Unit) -> Iterator[Frame]:
        """The listing of one unit."""
        stack = [unit]
        while stack:
            below: list[_Unit] = []
            yield from self._directory(stack.pop(), below)
            if unit.below:
                stack += sorted(below, key=_path_of, reverse=True)

    def _directory(self, here: _Unit, below: list[_Unit]) -> Iterator[Frame]:
        """The frames of one directory's own entries; its directories are added to `below`."""
        flags = os.O_RDONLY | os.O_DIRECTORY | (0 if self.symlinks == "follow" or not here.path else os.O_NOFOLLOW)
        try:
            fd = os.open(self.root + here.path, flags)
        except OSError as error:
            if error.errno not in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
                yield TROUBLE, _with_reason(here.path, error)
            return
        try:
            header = (here.path or b"/") + b"\0"
            empty = True
            headed = False
            for names in _sorted_names(fd):
                empty = False
                rows, aside = self._rows(fd, names, here, below)
                yield from aside
                if not rows:
                    continue
                yield TEXT, (b"" if headed else header) + os.fsencode("\0".join(rows)) + b"\0"
                headed = True
            if empty:
                yield TEXT, header
        except OSError as error:
            # All names are read before the first is listed: nothing of this directory has been, and what it holds is unknown.
            yield TROUBLE, _with_reason(here.path, error)
        finally:
            os.close(fd)

    def _rows(self, fd: int, names: list[str], here: _Unit, below: list[_Unit]) -> tuple[list[str], list[Frame]]:
        rows: list[str] = []
        aside: list[Frame] = []
        stat_of = os.stat
        append = rows.append
        wanted = self.file_wanted
        if wanted is not None:
            names = list(names)
        for name in names:
            try:
                st = stat_of(name, dir_fd=fd, follow_symlinks=False)
            except OSError as error:
                if error.errno != errno.ENOENT:
                    aside.append((TROUBLE, _with_reason(here.path + b"/" + os.fsencode(name), error)))
                continue
            if st.st_mode & 0o170000 == 0o100000:
                if wanted is None or wanted(name):
                    append(f"{st.st_mtime_ns} {st.st_size} {name}")
            else:
                row = self._special(fd, name, st, here, below, aside)
                if row is not None:
                    append(row)
        return rows, aside

    def _special(
        self, fd: int, name: str, st: os.stat_result, here: _Unit, below: list[_Unit], aside: list[Frame]
    ) -> str | None:
        """Whatever is not a plain file: a directory goes to `below`, a link by policy, the rest is noted."""
        path = here.path + b"/" + os.fsencode(name)
        link = stat.S_ISLNK(st.st_mode)
        if link and self.symlinks == "error":
            aside.append((TROUBLE, path + b"\0is a symbolic link"))
            return None
        if link and self.symlinks == "skip":
            aside.append((NOTE, path + b"\0symbolic link"))
            return None
        if link and self.symlinks == "follow":
            try:
                st = os.stat(name, dir_fd=fd)
            except OSError as error:
                why = os.fsencode(error.strerror or str(error))
                aside.append((TROUBLE, path + b"\0symbolic link leads nowhere: " + why))
                return None
        if stat.S_ISREG(st.st_mode) or stat.S_ISLNK(st.st_mode):
            wanted = self.file_wanted is None or self.file_wanted(name)
            kept = "@" if stat.S_ISLNK(st.st_mode) else ""
            return f"{st.st_mtime_ns} {kept}{st.st_size} {name}" if wanted else None
        if not stat.S_ISDIR(st.st_mode):
            aside.append((NOTE, path + b"\0not a file, directory or link"))
            return None
        if self.directory_wanted is not None and not self.directory_wanted(name):
            return None
        ancestors = here.ancestors
        if self.symlinks == "follow":
            inode = (st.st_dev, st.st_ino)
            if inode in ancestors:
                aside.append((TROUBLE, path + b"\0symbolic link to a directory above it"))
                return None
            ancestors = (*ancestors, inode)
        if st.st_dev != here.device:
            aside.append((MOUNT, path + b"\0"))
        below.append(_Unit(path, True, ancestors, st.st_dev))
        return None

    def units(self) -> list[_Unit]:
        """The tree cut into parts, in listing order: the upper directories one by one, and each of the rest with all below."""
        units = [self.top()]
        listed = 0
        while len(units) < _UNITS_WANTED and listed < _ENTRIES_TO_EXPAND:
            expanded: list[_Unit] = []
            for unit in units:
                children: list[_Unit] = []
                if unit.below and len(expanded) < _UNITS_WANTED and listed < _ENTRIES_TO_EXPAND:
                    seen, children = self._children(unit)
                    listed += seen
                expanded += [replace(unit, below=False), *children] if children else [unit]
            if len(expanded) == len(units):
                break
            units = expanded
        return units

    def top(self) -> _Unit:
        st = os.stat(self.root)
        return _Unit(b"", True, ((st.st_dev, st.st_ino),) if self.symlinks == "follow" else (), st.st_dev)

    def _children(self, unit: _Unit) -> tuple[int, list[_Unit]]:
        """How many entries were looked at, and the directories in `unit`; none if it is too large to be worth it."""
        children: list[_Unit] = []
        try:
            fd = os.open(self.root + unit.path, os.O_RDONLY | os.O_DIRECTORY)
        except OSError:
            return 1, []
        try:
            with os.scandir(fd) as entries:
                names = [e.name for e in islice(entries, _ENTRIES_TO_EXPAND + 1) if e.is_dir() or e.is_symlink()]
            if len(names) > _ENTRIES_TO_EXPAND:
                return len(names), []
            for name in names:
                started = time.perf_counter()
                try:
                    st = os.stat(name, dir_fd=fd, follow_symlinks=False)
                except OSError:
                    continue
                self.latencies.append(time.perf_counter() - started)
                if stat.S_ISDIR(st.st_mode) or (stat.S_ISLNK(st.st_mode) and self.symlinks == "follow"):
                    self._special(fd, name, st, unit, children, [])
        except OSError:
            return 1, []
        finally:
            os.close(fd)
        children.sort(key=_path_of)
        return len(names) + 1, children


def _path_of(unit: _Unit) -> bytes:
    return unit.path


def _with_reason(path: bytes, error: OSError) -> bytes:
    return (path or b"/") + b"\0" + os.fsencode(error.strerror or str(error))


def _byte_order(names: list[str]) -> None:
    """Sort by the bytes of the names, which is the order that str has only as long as all is ASCII."""
    names.sort()
    if not "".join(names).isascii():
        names.sort(key=os.fsencode)


def _sorted_names(fd: int) -> Iterator[list[str]]:
    """All names in an open directory in the order of their bytes, some thousand at a time."""
    with os.scandir(fd) as entries:
        names = [entry.name for entry in islice(entries, _SORT_IN_MEMORY)]
        if len(names) < _SORT_IN_MEMORY:
            _byte_order(names)
            for start in range(0, len(names), _SLICE):
                yield names[start : start + _SLICE] if len(names) > _SLICE else names
            return
        with tempfile.TemporaryDirectory(prefix="globuswrap-scan-") as directory:
            runs: list[BinaryIO] = []
            try:
                while names:
                    run = open(os.path.join(directory, str(len(runs))), "w+b")  # noqa: SIM115 - closed below
                    runs.append(run)
                    run.write(b"".join(name + b"\0" for name in sorted(map(os.fsencode, names))))
                    run.seek(0)
                    names = [entry.name for entry in islice(entries, _SORT_IN_MEMORY)]
                merged = heapq.merge(*map(_nul_ended, runs))
                while piece := list(map(os.fsdecode, islice(merged, _SLICE))):
                    yield piece
            finally:
                for each in runs:
                    each.close()


def _nul_ended(file: BinaryIO) -> Iterator[bytes]:
    rest = b""
    while data := file.read(16384):
        *whole, rest = (rest + data).split(b"\0")
        yield from whole


# Workers. A unit's number is taken from a pipe that holds them all; each worker answers on a pipe of its own. Because numbers are
# taken in order, the worker that has the next unit is always one whose announced number is known or about to be.

_HEADER = struct.Struct("<BI")


def _scan_in_workers(walker: _Walker, units: list[_Unit], count: int) -> Iterator[Frame]:
    todo, todo_end = os.pipe()
    os.write(todo_end, b"".join(number.to_bytes(4, "little") for number in range(len(units))))
    os.close(todo_end)
    children: list[int] = []
    readers: list[IO[bytes]] = []
    try:
        for _ in range(count):
            answer, answer_end = os.pipe()
            with contextlib.suppress(OSError):  # the default size works too
                fcntl.fcntl(answer_end, getattr(fcntl, "F_SETPIPE_SZ", 1031), 1 << 20)
            child = os.fork()
            if child == 0:
                os.close(answer)
                _work(walker, units, todo, answer_end)
            os.close(answer_end)
            children.append(child)
            readers.append(open(answer, "rb", buffering=1 << 18))  # noqa: SIM115 - closed below
        heads: list[int | None] = [None] * count
        for number in range(len(units)):
            yield from _unit_frames(readers, heads, number)
    finally:
        os.close(todo)
        for reader in readers:
            reader.close()
        for child in children:
            with contextlib.suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)


def _unit_frames(readers: list[IO[bytes]], heads: list[int | None], number: int) -> Iterator[Frame]:
    for worker, reader in enumerate(readers):
        if heads[worker] is None:
            kind, payload = _read_frame(reader)
            heads[worker] = int.from_bytes(payload, "little") if kind == _UNIT else -1
        if heads[worker] == number:
            while True:
                kind, payload = _read_frame(reader)
                if kind == _UNIT_END:
                    heads[worker] = None
                    return
                yield kind, payload
    raise _worker_lost("no worker has the next part")


def _read_frame(reader: IO[bytes]) -> Frame:
    head = reader.read(_HEADER.size)
    if len(head) < _HEADER.size:
        raise _worker_lost("a scanning process ended unexpectedly")
    kind, length = _HEADER.unpack(head)
    payload = reader.read(length)
    if len(payload) < length:
        raise _worker_lost("a scanning process ended unexpectedly")
    if kind == _FAILED:
        raise RuntimeError(f"in a scanning process:\n{payload.decode('utf-8', 'replace')}")
    return kind, payload


def _worker_lost(detail: str) -> Refused:
    return Refused("scan-broke-off", f"the scan failed: {detail}", "rerun the command; nothing was changed")


def _work(walker: _Walker, units: list[_Unit], todo: int, answer: int) -> NoReturn:
    """A worker's whole life. Leaves by `os._exit`, so that nothing of the parent is finished twice."""
    status = 1
    try:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1):
            signal.signal(number, signal.SIG_DFL)
        with open(answer, "wb", buffering=1 << 16) as out:
            try:
                while unit := os.read(todo, 4):
                    _write_frame(out, _UNIT, unit)
                    out.flush()
                    _write_frames(out, walker.frames(units[int.from_bytes(unit, "little")]))
                    _write_frame(out, _UNIT_END, b"")
                _write_frame(out, _DONE, b"")
            except BrokenPipeError:
                raise
            except BaseException as error:
                import traceback

                _write_frame(out, _FAILED, "".join(traceback.format_exception(error)).encode("utf-8", "replace"))
        status = 0
    except BrokenPipeError:
        pass  # the parent is gone or has seen enough
    finally:
        os._exit(status)


def _write_frames(out: IO[bytes], frames: Iterable[Frame]) -> None:
    for kind, payload in frames:
        _write_frame(out, kind, payload)


def _write_frame(out: IO[bytes], kind: int, payload: bytes) -> None:
    out.write(_HEADER.pack(kind, len(payload)))
    out.write(payload)
