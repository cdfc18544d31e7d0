"""Plan tasks from the differences: which files are sent now, and which wait.

Reads a delta (`syncs.manifest`) as a stream and writes, for every task, its own delta (what the manifest gains when the task
succeeds) and its items as JSON, so that memory does not grow with their number.
"""

from __future__ import annotations

import hashlib
import heapq
import itertools
import os
import stat
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta, timezone
from json.encoder import encode_basestring_ascii as quoted
from pathlib import Path
from typing import IO, Any

from globuswrap.batches.spool import END
from globuswrap.deletion import announcements
from globuswrap.syncs import manifest, quota
from globuswrap.syncs.compare import Differences
from globuswrap.syncs.profile import Profile
from globuswrap.syncs.state import Run, State, Task
from globuswrap.system import files, units
from globuswrap.transfers import request as requests
from globuswrap.transfers.options import Options
from globuswrap.transfers.request import Item, Request

#: Items of one task, and tasks of one run: the service takes about 100 pending tasks of a user.
CHUNK = 100_000
MOST_TASKS = 20
#: In a run of more files than this, only those changed within the last day are looked at once more before they are sent. (Any
#: other that changes in these seconds is seen by the next run, as is one that changes while it is copied.)
LOOK_AT_ALL = 50_000
LATELY = 86400 * 10**9
#: Examples that a message or a dry run shows.
SHOWN = 1000


@dataclass
class Planned:
    """What a plan came to. Counts of files; `shown` holds the first of each kind, for a dry run.

    `kept`: files that are gone here and stay at the destination, with the reason. `unconfirmed`: nothing is deleted until someone
    confirms with --max-delete that the files are gone. `forgotten`: how many files leave the manifest without being deleted.
    `left_today`: what the daily limit allows, in bytes; `too_large`: files that are larger than that limit itself.
    """

    sent: int = 0
    size: int = 0
    deleted: int = 0
    settling: int = 0
    over_limit: int = 0
    left_today: int | None = None
    too_large: list[str] = field(default_factory=list)
    blocked: list[str] = field(default_factory=list)
    unsendable: list[str] = field(default_factory=list)
    kept: list[tuple[str, str]] = field(default_factory=list)
    unconfirmed: bool = False
    deletions_refused: str | None = None
    forgotten: int = 0
    shown: list[tuple[str, str]] = field(default_factory=list)

    def show(self, what: str, path: bytes) -> None:
        if len(self.shown) < SHOWN:
            self.shown.append((what, os.fsdecode(path)))

    def as_data(self) -> dict[str, Any]:
        return {
            "sent": self.sent,
            "bytes": self.size,
            "deleted": self.deleted,
            "settling": self.settling,
            "over_limit": self.over_limit,
            "left_today": self.left_today,
            "too_large": self.too_large[:SHOWN],
            "blocked": self.blocked[:SHOWN],
            "unsendable": self.unsendable[:SHOWN],
            "kept": [{"path": path, "reason": reason} for path, reason in self.kept[:SHOWN]],
            "forgotten": self.forgotten,
            "deletions_refused": self.deletions_refused,
        }


@dataclass
class _Begun:
    """A task to which items are being added."""

    task: Task
    writer: manifest.Writer
    body: IO[str]
    sum: hashlib._Hash


class Tasks:
    """The tasks of one kind: chunk after chunk, each with its delta and its items."""

    def __init__(self, run: Run, profile: Profile, kind: str, sync_level: str | None = None) -> None:
        self._run = run
        self._profile = profile
        self._kind = kind
        self._sync_level = sync_level
        self._begun: _Begun | None = None

    @property
    def next_number(self) -> int:
        """The number of the task that is begun next."""
        return max((task.number for task in self._run.tasks), default=0) + 1

    @property
    def room(self) -> bool:
        """Whether another item fits into this run."""
        begun = self._begun
        return (begun is not None and begun.task.items < CHUNK) or len(self._run.tasks) < MOST_TASKS

    def add(self, directory: bytes, rows: list[bytes], items: list[str], size: int) -> None:
        if self._begun is None or self._begun.task.items >= CHUNK:
            self.close()
            self._begun = self._begin()
        begun = self._begun
        begun.writer.write(manifest.delta_text(directory, rows))
        text = "".join(f"{item}{END}" for item in items)
        begun.body.write(text)
        begun.sum.update(text.encode("ascii"))
        begun.task.items += len(items)
        begun.task.bytes += size

    def _begin(self) -> _Begun:
        task = Task(self.next_number, self._kind, 0, sync_level=self._sync_level)
        self._run.tasks.append(task)
        writer = manifest.Writer(self._run.directory / task.delta, manifest.DELTA, level=1)
        body = open(self._run.directory / task.body, "w", encoding="ascii", opener=files.private)  # noqa: SIM115 (closed by close)
        return _Begun(task, writer, body, hashlib.sha256())

    def close(self) -> None:
        begun, self._begun = self._begun, None
        if begun is None:
            return
        begun.body.close()
        begun.writer.__exit__(None, None, None)
        content = requests.content(frame(self._profile, begun.task))
        begun.task.digest = requests.digest_of({**content, "items": begun.sum.hexdigest()})


def frame(profile: Profile, task: Task) -> Request:
    """The request of a task: without its items, which are in its body, but for the one item of a whole sync."""
    source, destination = profile.source, profile.destination
    label = profile.label or profile.title
    if task.kind == "delete":
        options, deadline = Options(ignore_missing=True), _deletion_deadline(profile)
        return Request(destination.collection, None, (), options, label, profile.notify, deadline)
    options = replace(
        profile.options,
        sync_level=task.sync_level or profile.options.sync_level,
        filters=profile.filters.rules if task.whole else (),
    )
    items = (Item(source.path, destination.path, recursive=True),) if task.whole else ()
    until = None if profile.deadline is None else units.utc_text(units.moment(profile.deadline))
    return Request(source.collection, destination.collection, items, options, label, profile.notify, until)


def _deletion_deadline(profile: Profile) -> str:
    """What was looked at right before must not be deleted days later; it ends no later than its announcement."""
    latest = datetime.now(timezone.utc) + timedelta(seconds=announcements.LASTS)
    return units.utc_text(latest if profile.deadline is None else min(latest, units.moment(profile.deadline)))


def plan(profile: Profile, state: State, run: Run, found: Differences, renew: Callable[[], None]) -> Planned:
    """Write the transfers of `run` from the differences found; `renew` says that it still works.

    Looks at each file again (but see LOOK_AT_ALL): one that has changed since the scan, or within the settle time, waits for the
    next run.
    """
    planner = _Planner(profile, state, run, found)
    planner.choose()
    for directory, rows in manifest.delta_blocks(found.delta):
        renew()
        planner.take(directory, [row for row in rows if row[:1] == b"+"])
    planner.plain.close()
    planner.checked.close()
    return planner.result


class _Planner:
    def __init__(self, profile: Profile, state: State, run: Run, found: Differences) -> None:
        self.profile = profile
        self.root = profile.root.rstrip(b"/") or b"/"
        self.result = Planned()
        self.follow = profile.symlinks == "follow"
        self.found = found
        self.now = time.time_ns()
        self.settle = int(profile.settle * 1e9)
        #: What was modified before is not looked at again.
        self.lately = self.now - max(LATELY, self.settle) if found.coming > LOOK_AT_ALL else -(2**63)
        self.left = profile.max_bytes
        self.today = self.result.left_today = quota.left(profile)
        self.first: _First | None = None
        self.source = profile.source.path.rstrip("/")
        self.destination = profile.destination.path.rstrip("/")
        #: Transfer API, file operations: CR LF ends the commands that carry a path, and `/~/` is the home directory.
        self.at_top = not self.source or not self.destination
        self.plain = Tasks(run, profile, "transfer")
        self.checked = Tasks(run, profile, "transfer", "checksum")
        self.unsure = _Names(sorted(state.unsure.glob("*.delta.gz")))
        both = found.coming and found.gone + found.empty
        self.in_the_way = self._what_is_in_the_way(found.delta) if both else set()

    def choose(self) -> None:
        """Find out which files go first, if not all of them fit and the profile has an order."""
        limits = [limit for limit in (self.left, self.today) if limit is not None]
        if self.profile.order is not None and limits and self.found.coming:
            self.first = _First(self._waiting(), min(limits), self.profile.order == "newest")

    def _waiting(self) -> Iterator[tuple[int, int]]:
        """Time of modification and size of each file that goes sooner or later. What cannot go must not take others' place."""
        most = self.profile.max_bytes_per_day
        for directory, rows in manifest.delta_blocks(self.found.delta):
            for row in rows:
                if row[:1] != b"+" or len(row) == 1 or (most is not None and _size(row) > most):
                    continue
                path = manifest.signed_path(directory, row)
                home = self.at_top and (path == b"~" or path.startswith(b"~/"))
                if sendable(path) is not None and not home and not manifest.at_or_below(path, self.in_the_way):
                    yield int(row[1:].split(b" ", 1)[0]), _size(row)

    def take(self, directory: bytes, rows: list[bytes]) -> None:
        """Sort the new and changed files of one directory: into a task, or to wait."""
        if not rows:
            return
        top = "" if directory == b"/" else sendable(directory)
        if top is None or (self.at_top and (directory + b"/").startswith(b"/~/")):
            self.result.unsendable += [repr(manifest.signed_path(directory, row))[2:-1] for row in rows]
            return
        if self.in_the_way and manifest.at_or_below(directory[1:], self.in_the_way):
            self.result.blocked += [os.fsdecode(manifest.signed_path(directory, row)) for row in rows]
            return
        try:
            fd = os.open(self.root + (b"" if directory == b"/" else directory), os.O_RDONLY | os.O_DIRECTORY)
        except OSError:
            return  # gone since the scan
        try:
            places = quoted(f"{self.source}{top}/")[:-1], quoted(f"{self.destination}{top}/")[:-1]
            named = self.unsure.at(directory)
            chosen = [(row, item) for row in rows if (item := self._item(fd, directory, row, places)) is not None]
        finally:
            os.close(fd)
        if named:
            self._add(self.checked, directory, [each for each in chosen if manifest.file_name(each[0]) in named])
            chosen = [each for each in chosen if manifest.file_name(each[0]) not in named]
        self._add(self.plain, directory, chosen)

    def _add(self, tasks: Tasks, directory: bytes, chosen: list[tuple[bytes, str]]) -> None:
        if chosen and not tasks.room:
            self.result.over_limit += len(chosen)
        elif chosen:
            rows, items = [row for row, _ in chosen], [item for _, item in chosen]
            size = sum(_size(row) for row in rows)
            tasks.add(directory, rows, items, size)
            self.result.sent += len(rows)
            self.result.size += size
            for row in rows[: max(0, SHOWN - len(self.result.shown))]:
                what = (
                    ("send", manifest.signed_path(directory, row)) if len(row) > 1 else ("make", directory[1:] + b"/")
                )
                self.result.show(*what)

    def _item(self, fd: int, directory: bytes, row: bytes, places: tuple[str, str]) -> str | None:
        """What goes now, as the JSON of an item; None if it waits. A first run spends most of its time here."""
        if len(row) == 1:
            return self._empty_directory(directory, places)
        written, length, name = row[1:].split(b" ", 2)
        link = length[:1] == b"@"
        modified = int(written)
        if modified > self.lately and not self._rests(fd, name, modified, length):
            return None
        if self.in_the_way and manifest.joined(directory, name) in self.in_the_way:
            self.result.blocked.append(os.fsdecode(manifest.joined(directory, name)))
            return None
        text = sendable(name)
        if text is None or (self.at_top and name == b"~" and directory == b"/"):
            self.result.unsendable.append(repr(manifest.joined(directory, name))[2:-1])
            return None
        if not self._fits(modified, _size(row), directory, name):
            return None
        text = quoted(text)[1:]
        kind = "transfer_symlink_item" if link else "transfer_item"
        return f'{{"DATA_TYPE":"{kind}","source_path":{places[0]}{text},"destination_path":{places[1]}{text}}}'

    def _fits(self, modified: int, size: int, directory: bytes, name: bytes) -> bool:
        """Whether a file goes within the limits of this run and of the day."""
        if self.today is not None and size > (self.profile.max_bytes_per_day or 0):
            self.result.too_large.append(os.fsdecode(manifest.joined(directory, name)))
            return False
        over_run = self.left is not None and size > self.left and self.left != self.profile.max_bytes
        over_day = self.today is not None and size > self.today
        if over_day or not (self.first is None or self.first.takes(modified, size)) or over_run:
            self.result.over_limit += 1  # of a run's limit: one file goes, however large
            return False
        self.left = None if self.left is None else self.left - size
        self.today = None if self.today is None else self.today - size
        return True

    def _rests(self, fd: int, name: bytes, modified: int, length: bytes) -> bool:
        """Whether a file is as the scan saw it, and has been for the settle time (of a link nobody writes a part)."""
        try:
            st = os.stat(name, dir_fd=fd, follow_symlinks=self.follow)
        except OSError:
            return False  # gone since the scan
        link = length[:1] == b"@"
        changed = st.st_mtime_ns != modified or st.st_size != int(length[1:] if link else length)
        if changed or (not link and -self.settle < self.now - modified < self.settle):
            self.result.settling += 1
            return False
        return True

    def _empty_directory(self, directory: bytes, places: tuple[str, str]) -> str | None:
        """A recursive item makes an empty directory at the destination; if it is not empty by now it waits."""
        try:
            if os.listdir(self.root + directory):
                self.result.settling += 1
                return None
        except OSError:
            return None
        if directory == b"/":
            return None  # an empty tree: there is nothing to send
        return f'{{"DATA_TYPE":"transfer_item","source_path":{places[0]}","destination_path":{places[1]}","recursive":true}}'

    def _what_is_in_the_way(self, delta: Path) -> set[bytes]:
        """Paths that are a file here and a directory at the destination, or the reverse. What is at or below them cannot go
        before the old one is deleted there."""
        found: set[bytes] = set()
        for directory, rows in manifest.delta_blocks(delta):
            gone = [row for row in rows if row[:1] == b"-"]
            if not gone:
                continue
            path = b""
            for part in directory.strip(b"/").split(b"/") if directory != b"/" else ():
                path = path + b"/" + part if path else part
                mode = self._mode(path)
                if mode is None:
                    break
                if not stat.S_ISDIR(mode):
                    found.add(path)
                    break
            for row in gone:
                mode = self._mode(manifest.signed_path(directory, row)) if len(row) > 1 else None
                if mode is not None and stat.S_ISDIR(mode):
                    found.add(manifest.signed_path(directory, row))
        return found

    def _mode(self, path: bytes) -> int | None:
        try:
            return (os.stat if self.follow else os.lstat)(self.root + b"/" + path).st_mode
        except OSError:
            return None


class _First:
    """Which files (time of modification, size) go first when not all of them fit: those up to a time, and some of that very time.
    One that is larger than the limit goes alone when its turn comes. Holds two numbers for each file."""

    def __init__(self, files: Iterable[tuple[int, int]], limit: int, newest: bool) -> None:
        self._sign = -1 if newest else 1
        self._last: int | None = None
        self._some = limit
        self._alone = False
        ordered = sorted((self._sign * modified, size) for modified, size in files)
        for modified, group in itertools.groupby(ordered, key=lambda each: each[0]):
            sizes = [size for _, size in group]
            if sum(sizes) > self._some:
                self._last = modified
                self._alone = self._some == limit and min(sizes) > limit
                break
            self._some -= sum(sizes)

    def takes(self, modified: int, size: int) -> bool:
        at = self._sign * modified
        if self._last is None or at < self._last:
            return True
        if at > self._last or (size > self._some and not self._alone):
            return False
        self._alone = False
        self._some -= size
        return True


def _size(row: bytes) -> int:
    return int(row.split(b" ", 2)[1].lstrip(b"@")) if len(row) > 1 else 0


def sendable(path: bytes) -> str | None:
    """A path or name as text; None if the service cannot take it."""
    try:
        return None if b"\r\n" in path else path.decode()
    except UnicodeDecodeError:
        return None


class _Names:
    """The names in several deltas, asked for directory by directory in listing order."""

    def __init__(self, deltas: list[Path]) -> None:
        streams = map(manifest.delta_blocks, deltas)
        self._blocks: Iterator[manifest.Delta] = heapq.merge(*streams, key=lambda block: manifest.order(block[0]))
        self._next: manifest.Delta | None = next(self._blocks, None)
        self._at: bytes | None = None
        self._names: set[bytes] = set()

    def at(self, directory: bytes) -> set[bytes]:
        if directory != self._at:
            self._at, self._names = directory, set()
            while self._next is not None and manifest.order(self._next[0]) <= manifest.order(directory):
                if self._next[0] == directory:
                    self._names.update(manifest.file_name(row) for row in self._next[1] if row[:1] == b"+")
                self._next = next(self._blocks, None)
        return self._names
