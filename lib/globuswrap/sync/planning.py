"""From what differs to tasks: which files go now, and which wait.

Reads a delta (`sync.manifest`) as a stream and writes, for every task, its own delta (what the manifest gains when the task
succeeds) and its items as JSON, so that memory does not grow with their number.
"""

from __future__ import annotations

import hashlib
import heapq
import json
import os
import pickle
import signal
import stat
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from datetime import datetime, timedelta, timezone
from json.encoder import encode_basestring_ascii as quoted
from pathlib import Path
from typing import IO, Any, NoReturn

from globuswrap.deletion import announcements
from globuswrap.sync.manifest import (
    DELTA,
    Delta,
    Writer,
    at_or_below,
    delta_blocks,
    delta_text,
    file_name,
    joined,
    order,
)
from globuswrap.sync.profile import Profile
from globuswrap.sync.scan import may_fork, processors
from globuswrap.sync.state import Run, State, Task
from globuswrap.system import files, units
from globuswrap.transfers import request as requests
from globuswrap.transfers.options import Options
from globuswrap.transfers.request import Request

#: Items of one task, and tasks of one run: the service takes about 100 pending tasks of a user.
CHUNK = 100_000
MOST_TASKS = 20
#: In a run of more files than this, only those changed within the last day are looked at once more before they are sent. (Any
#: other that changes in these seconds is seen by the next run, as is one that changes while it is copied.)
LOOK_AT_ALL = 50_000
LATELY = 86400 * 10**9
#: Files from which on a second process takes half of the planning.
WORTH_FORKING = 20_000
#: Examples that a message or a dry run shows.
SHOWN = 1000


@dataclass
class Planned:
    """What a plan came to. Counts of files; `shown` holds the first of each kind, for a dry run.

    `kept`: files that are gone here and stay at the destination, with the reason. `unconfirmed`: nothing is deleted until someone
    confirms with --max-delete that the files are gone. `forgotten`: how many files leave the manifest without being deleted.
    """

    sent: int = 0
    size: int = 0
    deleted: int = 0
    settling: int = 0
    over_limit: int = 0
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


@dataclass(frozen=True)
class Differences:
    """The candidates that a comparison wrote down: how many files (and empty directories) are new or changed, how many files are
    gone, and how many directories that were empty."""

    delta: Path
    coming: int = 0
    gone: int = 0
    empty: int = 0


def write_candidates(blocks: Iterator[Delta], delta: Path, renew: Callable[[], None]) -> Differences:
    """Write a comparison's result into `delta` (not made if there is no difference)."""
    coming = gone = empty = 0
    writer: Writer | None = None
    try:
        for directory, rows in blocks:
            renew()
            if writer is None:
                writer = Writer(delta, DELTA, level=1)
            new = sum(1 for row in rows if row[:1] == b"+")
            coming += new
            gone += sum(1 for row in rows if row[:1] == b"-" and len(row) > 1) if new != len(rows) else 0
            empty += rows.count(b"-")
            writer.write(delta_text(directory, rows))
    except BaseException as error:
        if writer is not None:
            writer.__exit__(type(error), error, None)
        raise
    if writer is not None:
        writer.__exit__(None, None, None)
    return Differences(delta, coming, gone, empty)


class Tasks:
    """The tasks of one kind: chunk after chunk, each with its delta and its items."""

    def __init__(self, run: Run, profile: Profile, kind: str, sync_level: str | None) -> None:
        self.most = MOST_TASKS
        self._run = run
        self._profile = profile
        self._kind = kind
        self._sync_level = sync_level
        self._writer: Writer | None = None
        self._body: IO[str] | None = None
        self._sum = hashlib.sha256()
        self._task: Task | None = None

    @property
    def next_number(self) -> int:
        """The number of the task that is opened next."""
        return max((task.number for task in self._run.tasks), default=0) + 1

    @property
    def room(self) -> bool:
        """Whether another item fits into this run."""
        task = self._task
        return (task is not None and task.items < CHUNK) or len(self._run.tasks) < self.most

    def add(self, directory: bytes, rows: list[bytes], items: list[str], size: int) -> None:
        if not rows:
            return
        if self._task is None or self._task.items >= CHUNK:
            self.close()
            self._open()
        assert self._task is not None and self._writer is not None and self._body is not None
        self._writer.write(delta_text(directory, rows))
        text = ",\n".join(items)
        if items:
            self._body.write(("[" if self._task.items == 0 else ",\n") + text)
        self._sum.update(text.encode("ascii"))
        self._task.items += len(items)
        self._task.bytes += size

    def _open(self) -> None:
        self._task = Task(
            self.next_number,
            self._kind,
            0,
            sync_level=self._sync_level,
        )
        self._run.tasks.append(self._task)
        self._writer = Writer(self._run.directory / self._task.delta, DELTA, level=1)
        self._body = open(self._run.directory / self._task.body, "w", encoding="ascii", opener=files.private)  # noqa: SIM115 (closed by close)
        self._sum = hashlib.sha256()

    def close(self) -> None:
        if self._task is None or self._writer is None or self._body is None:
            return
        self._body.write("]")
        self._body.close()
        self._writer.__exit__(None, None, None)
        content = requests.content(frame(self._profile, self._task))
        self._task.digest = requests.digest_of({**content, "items": self._sum.hexdigest()})
        self._task = self._writer = self._body = None


def frame(profile: Profile, task: Task) -> Request:
    """The request of a task without its items."""
    options = profile.options
    if task.kind == "delete":
        return Request(
            profile.destination.collection,
            None,
            (),
            Options(ignore_missing=True),
            profile.label or f"globuswrap sync {profile.name}",
            profile.notify,
            _deletion_deadline(profile),
        )
    level = task.sync_level or options.sync_level
    return Request(
        profile.source.collection,
        profile.destination.collection,
        (),
        Options(**{**asdict(options), "sync_level": level, "filters": ()}),
        profile.label or f"globuswrap sync {profile.name}",
        profile.notify,
        deadline(profile),
    )


def deadline(profile: Profile) -> str | None:
    """When a task that is submitted now is to be given up, as Globus takes it."""
    return None if profile.deadline is None else units.utc_text(units.moment(profile.deadline))


def _deletion_deadline(profile: Profile) -> str:
    """What was looked at right before must not be deleted days later; it ends no later than its announcement."""
    latest = datetime.now(timezone.utc) + timedelta(seconds=announcements.LASTS)
    return units.utc_text(latest if profile.deadline is None else min(latest, units.moment(profile.deadline)))


def submission_name(profile: Profile, run: Run, number: int) -> str:
    """What the journal calls the submission of a task, so that it is submitted once."""
    return f"{submissions_of(profile, run)}{number}"


def submissions_of(profile: Profile, run: Run | None = None) -> str:
    """What the names of all submissions of a profile, or of one of its runs, begin with."""
    return f"sync {profile.directory.name} " + (f"{run.id} " if run is not None else "")


def write_body(profile: Profile, run: Run, task: Task, submission_id: str, label: str) -> Path:
    """The whole document of a task, in a file beside its items."""
    document = requests.document(frame(profile, task), submission_id, label)
    del document["DATA"]
    path = run.directory / f".{task.number}.body.json"
    with open(path, "wb", opener=files.private) as body, (run.directory / task.body).open("rb") as items:
        body.write(json.dumps(document)[:-1].encode("ascii") + b', "DATA": ')
        while data := items.read(1 << 20):
            body.write(data)
        body.write(b"}")
    return path


def plan(profile: Profile, state: State, run: Run, found: Differences, renew: Callable[[], None]) -> Planned:
    """Write the transfers of `run` from the differences found; `renew` says that it still works.

    Looks at each file again (but see LOOK_AT_ALL): one that has changed since the scan, or within the settle time, waits for the
    next run.
    """
    return _Planner(profile, state, run, renew).run_over(found)


class _Planner:
    def __init__(self, profile: Profile, state: State, run: Run, renew: Callable[[], None]) -> None:
        self.profile = profile
        self.root = profile.root.rstrip(b"/") or b"/"
        self.renew = renew
        self.state = state
        self.result = Planned()
        self.follow = profile.symlinks == "follow"
        self.now = time.time_ns()
        self.settle = int(profile.settle * 1e9)
        self.lately = -(2**63)
        self.left = profile.max_bytes
        self.source = profile.source.path.rstrip("/")
        self.destination = profile.destination.path.rstrip("/")
        #: Transfer API, file operations: CR LF ends the commands that carry a path, and `/~/` is the home directory.
        self.at_top = not self.source or not self.destination
        self.run = run
        self.plain = Tasks(run, profile, "transfer", None)
        self.checked = Tasks(run, profile, "transfer", "checksum")
        self.in_the_way: set[bytes] = set()

    def run_over(self, found: Differences) -> Planned:
        if found.coming > LOOK_AT_ALL:
            self.lately = self.now - max(LATELY, self.settle)
        if found.coming and found.gone + found.empty:
            self._find_what_is_in_the_way(found.delta)
        # Each half has tasks of its own; a limit on bytes has to be counted from one end.
        halves = found.coming >= WORTH_FORKING and self.left is None and processors() > 1
        if halves and may_fork():
            with tempfile.TemporaryFile() as answer:
                child = os.fork()
                if child == 0:
                    self._second_half(found, answer)
                try:
                    for tasks in (self.plain, self.checked):
                        tasks.most = MOST_TASKS // 2
                    self._go_over(found, 0)
                finally:
                    _, status = os.waitpid(child, 0)
                self._join(status, answer)
        elif found.coming:
            self._go_over(found, None)
        return self.result

    def _go_over(self, found: Differences, half: int | None) -> None:
        # Opened here: two processes must not share a position in a file.
        self.unsure = _Names(sorted(self.state.unsure.glob("*.delta.gz")))
        middle = (found.coming + found.gone) // 2
        passed = 0
        for directory, rows in delta_blocks([found.delta]):
            mine = half is None or (passed >= middle) == bool(half)
            passed += len(rows)
            if mine:
                self.renew()
                self._coming(directory, rows)
        for tasks in (self.plain, self.checked):
            tasks.close()

    def _second_half(self, found: Differences, answer: IO[bytes]) -> NoReturn:
        """In a forked process: its tasks have the upper numbers. Leaves by `os._exit`, so that nothing is finished twice."""
        status = 1
        try:
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1):
                signal.signal(number, signal.SIG_DFL)
            self.renew = lambda: None
            self.run.tasks.extend(Task(number + 1, "", 0) for number in range(MOST_TASKS // 2))
            self._go_over(found, 1)
            pickle.dump((self.result, self.run.tasks[MOST_TASKS // 2 :]), answer)
            answer.flush()
            status = 0
        except BaseException:  # a forked child must not run on as a second parent: the parent raises what is sent
            import traceback

            answer.write(traceback.format_exc().encode("utf-8", "replace"))
            answer.flush()
        finally:
            os._exit(status)

    def _join(self, status: int, answer: IO[bytes]) -> None:
        answer.seek(0)
        if status:
            raise RuntimeError(f"in a planning process ({status}):\n{answer.read().decode('utf-8', 'replace')}")
        other, tasks = pickle.load(answer)
        self.run.tasks.extend(tasks)
        mine = self.result
        for name in ("sent", "size", "settling", "over_limit"):
            setattr(mine, name, getattr(mine, name) + getattr(other, name))
        for name in ("blocked", "unsendable", "shown"):
            getattr(mine, name).extend(getattr(other, name))
        del mine.shown[SHOWN:]

    def _coming(self, directory: bytes, rows: list[bytes]) -> None:
        """Sort the new and changed files of one directory: into a task, or to wait."""
        rows = [row for row in rows if row[:1] == b"+"]
        if not rows:
            return
        try:
            base = "" if directory == b"/" else directory.decode()
        except UnicodeDecodeError:
            self._unsendable(directory, rows)
            return
        if b"\r\n" in directory or (self.at_top and (directory + b"/").startswith(b"/~/")):
            self._unsendable(directory, rows)
            return
        if self.in_the_way and at_or_below(directory[1:], self.in_the_way):
            self._blocked(directory, rows)
            return
        prefixes = (quoted(f"{self.source}{base}/")[:-1], quoted(f"{self.destination}{base}/")[:-1])
        named = self.unsure.at(directory)
        fd = self._open(directory)
        if fd is None:
            return
        try:
            quick = None if named else self._quickly(fd, rows, prefixes)
            if quick is not None:
                for row in quick[0][: max(0, SHOWN - len(self.result.shown))]:
                    self.result.show("send", joined(directory, file_name(row)))
                self._take(directory, self.plain, *quick)
                return
            lists: dict[bool, tuple[list[bytes], list[str], list[int]]] = {False: ([], [], []), True: ([], [], [])}
            for row in rows:
                if len(row) == 1:
                    item, name, size = self._empty_directory(directory, prefixes), b"", 0
                else:
                    item, name, size = self._file(fd, directory, row, prefixes)
                if item is not None:
                    going, items, sizes = lists[name in named]
                    going.append(row)
                    items.append(item)
                    sizes.append(size)
        finally:
            os.close(fd)
        for checked, (going, items, sizes) in lists.items():
            self._take(directory, self.checked if checked else self.plain, going, items, sum(sizes))

    def _take(self, directory: bytes, tasks: Tasks, going: list[bytes], items: list[str], size: int) -> None:
        if items and not tasks.room:
            self.result.over_limit += len(items)
        elif items:
            tasks.add(directory, going, items, size)
            self.result.sent += len(items)
            self.result.size += size

    def _quickly(
        self, fd: int, rows: list[bytes], prefixes: tuple[str, str]
    ) -> tuple[list[bytes], list[str], int] | None:
        """What `_file` does for each, for a directory of plain files with nothing special to heed; None if there is. A first run
        spends most of its time here."""
        if self.left is not None or self.in_the_way or self.follow or self.at_top or b"\r\n" in b"".join(rows):
            return None
        going: list[bytes] = []
        items: list[str] = []
        total = settling = 0
        low, high, lately = self.now - self.settle, self.now + self.settle, self.lately
        head = '{"DATA_TYPE":"transfer_item","source_path":' + prefixes[0]
        middle = ',"destination_path":' + prefixes[1]
        stat_of = os.stat
        try:
            for row in rows:
                written, length, name = row.split(b" ", 2)
                modified, size = int(written), int(length)
                if modified > lately:
                    try:
                        st = stat_of(name, dir_fd=fd, follow_symlinks=False)
                    except OSError:
                        continue  # gone since the scan
                    if st.st_mtime_ns != modified or st.st_size != size or low < modified < high:
                        settling += 1
                        continue
                text = quoted(name.decode())[1:]
                items.append(f"{head}{text}{middle}{text}}}")
                going.append(row)
                total += size
        except ValueError:  # an empty directory, a link, a name that is not UTF-8
            return None
        self.result.settling += settling
        return going, items, total

    def _open(self, directory: bytes) -> int | None:
        try:
            return os.open(self.root + (b"" if directory == b"/" else directory), os.O_RDONLY | os.O_DIRECTORY)
        except OSError:
            return None  # gone since the scan

    def _file(self, fd: int, directory: bytes, row: bytes, prefixes: tuple[str, str]) -> tuple[str | None, bytes, int]:
        """The item of one file as JSON, or None if it does not go now; its name and size."""
        written, length, name = row[1:].split(b" ", 2)
        link = length[:1] == b"@"
        modified, size = int(written), int(length[1:] if link else length)
        if self.settle and not link and -self.settle < self.now - modified < self.settle:
            self.result.settling += 1
            return None, name, 0
        try:
            st = os.stat(name, dir_fd=fd, follow_symlinks=self.follow)
        except OSError:
            return None, name, 0  # gone since the scan
        if st.st_mtime_ns != modified or st.st_size != size:
            self.result.settling += 1
            return None, name, 0
        if self.in_the_way and joined(directory, name) in self.in_the_way:
            self._blocked(directory, [row])
            return None, name, 0
        if self.left is not None:
            if size > self.left and self.left != self.profile.max_bytes:  # one file goes, however large
                self.result.over_limit += 1
                return None, name, 0
            self.left -= size
        try:
            text = quoted(name.decode())[1:]
        except UnicodeDecodeError:
            text = ""
        if not text or b"\r\n" in name or (self.at_top and name == b"~" and directory == b"/"):
            self._unsendable(directory, [row])
            return None, name, 0
        self.result.show("send", joined(directory, name))
        kind = "transfer_symlink_item" if link else "transfer_item"
        return (
            f'{{"DATA_TYPE":"{kind}","source_path":{prefixes[0]}{text},"destination_path":{prefixes[1]}{text}}}',
            name,
            size,
        )

    def _empty_directory(self, directory: bytes, prefixes: tuple[str, str]) -> str | None:
        """A recursive item makes an empty directory at the destination; if it is not empty by now it waits."""
        try:
            if os.listdir(self.root + directory):
                self.result.settling += 1
                return None
        except OSError:
            return None
        if directory == b"/":
            return None  # an empty tree: there is nothing to send
        self.result.show("make", directory[1:] + b"/")
        return f'{{"DATA_TYPE":"transfer_item","source_path":{prefixes[0]}","destination_path":{prefixes[1]}","recursive":true}}'

    def _unsendable(self, directory: bytes, rows: list[bytes]) -> None:
        names = [joined(directory, file_name(row)) if len(row) > 1 else directory[1:] for row in rows]
        self.result.unsendable += [repr(name)[2:-1] for name in names]

    def _blocked(self, directory: bytes, rows: list[bytes]) -> None:
        names = [joined(directory, file_name(row)) if len(row) > 1 else directory[1:] for row in rows]
        self.result.blocked += [os.fsdecode(name) for name in names]

    def _find_what_is_in_the_way(self, delta: Path) -> None:
        """Paths that are a file here and a directory at the destination, or the reverse. What is at or below them cannot go
        before the old one is deleted there."""
        for directory, rows in delta_blocks([delta]):
            gone = [row for row in rows if row[:1] == b"-"]
            if not gone:
                continue
            path = b""
            for part in directory.strip(b"/").split(b"/") if directory != b"/" else ():
                path = path + b"/" + part if path else part
                mode = self._mode(path)
                if mode is not None and not stat.S_ISDIR(mode):
                    self.in_the_way.add(path)
                if mode is None or not stat.S_ISDIR(mode):
                    break
            for row in gone:
                path = joined(directory, file_name(row)) if len(row) > 1 else b""
                mode = self._mode(path) if path else None
                if mode is not None and stat.S_ISDIR(mode):
                    self.in_the_way.add(path)

    def _mode(self, path: bytes) -> int | None:
        try:
            return (os.stat if self.follow else os.lstat)(self.root + b"/" + path).st_mode
        except OSError:
            return None


class _Names:
    """The names in several deltas, asked for directory by directory in listing order."""

    def __init__(self, deltas: list[Path]) -> None:
        streams = [delta_blocks([path]) for path in deltas]
        self._blocks: Iterator[Delta] = heapq.merge(*streams, key=lambda block: order(block[0]))
        self._next: Delta | None = next(self._blocks, None)
        self._at: bytes | None = None
        self._names: set[bytes] = set()

    def at(self, directory: bytes) -> set[bytes]:
        if directory != self._at:
            self._at, self._names = directory, set()
            while self._next is not None and order(self._next[0]) <= order(directory):
                if self._next[0] == directory:
                    self._names.update(
                        file_name(row) if len(row) > 1 else b"" for row in self._next[1] if row[:1] == b"+"
                    )
                self._next = next(self._blocks, None)
        return self._names


def as_data(planned: Planned) -> dict[str, Any]:
    return {
        "sent": planned.sent,
        "bytes": planned.size,
        "deleted": planned.deleted,
        "settling": planned.settling,
        "over_limit": planned.over_limit,
        "blocked": planned.blocked[:SHOWN],
        "unsendable": planned.unsendable[:SHOWN],
        "kept": [{"path": path, "reason": reason} for path, reason in planned.kept[:SHOWN]],
        "forgotten": planned.forgotten,
        "deletions_refused": planned.deletions_refused,
    }
