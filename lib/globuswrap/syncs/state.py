"""Store the state of a profile on disk.

    manifest.gz         the last state known to be at the destination (syncs.manifest)
    lease               who works on it now (system.locks): saves work, guards nothing
    runs/000012/        one run: run.json (what was submitted), and for every task its delta and its items
    runs/000012/settled the run is over: its deltas are in the manifest, or set aside
    unsure/             deltas of tasks that failed: what they cover is sent with checksums the next time
    mounts.json         the directories below the source that were mount points when they were last seen
    keys/               how the last run under each `--key` ended; written before that run is settled
    last.json, log      what the last run said, and what all runs did

A run is written whole under a temporary name and given its number by rename(2), which fails if the number is taken. So of two
processes that both believe to hold the lease one begins the run, and the other joins it or stops; a number is never used twice.
A draft is for the number after the last run that was there before anything was looked at, the records of keys among it: what was
decided on an older state begins nothing.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import shutil
import time
import uuid
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from globuswrap.batches import tasks
from globuswrap.batches.lookup import Named
from globuswrap.errors import Refused
from globuswrap.system import files, log, records
from globuswrap.transfers import journal
from globuswrap.transfers import request as requests
from globuswrap.transfers.journal import Entry

SCHEMA = "globuswrap.sync-run/1"
KEY_SCHEMA = "globuswrap.sync-key/1"
#: The last runs are kept, and all that ended within two days: they say what was sent within one (syncs.quota).
KEEP_RUNS = 20
KEEP_FOR = 2 * 86400.0
LOG_BYTES = 1_000_000
LOGS_KEPT = 4


@dataclass
class Task:
    """One task of a run. `whole`: the service's own recursive sync, without delta. `ended` is the outcome's name once that is in
    the manifest; `refused`: Globus said no to the submission; `withdrawn`: a deletion that was not submitted in time."""

    number: int
    kind: str
    items: int
    bytes: int = 0
    sync_level: str | None = None
    whole: bool = False
    digest: str = ""
    ended: str | None = None

    @property
    def delta(self) -> str:
        return f"{self.number}.delta.gz"

    @property
    def body(self) -> str:
        return f"{self.number}.items.json"


@dataclass(frozen=True)
class RunIssue:
    """Something to tell: an exit code, what happened, what to do. `name` is stable."""

    code: int
    name: str
    cause: str
    remedy: str


@dataclass
class Run:
    """What was submitted together. `unsure`: the files in `unsure/` that this run sends again. `after`: the number of the run
    before it. `issues`: all that there is to tell of it, so that it is not lost with the process that found it. `key`, `once`
    and `request` (`Profile.request`) are as the run was begun. `awaited`: a caller waits for the outcome; `answered`: one that
    does not was told the task ids. `destination`: the collection it sends to."""

    directory: Path
    id: str
    created: float
    tasks: list[Task] = field(default_factory=list)
    unsure: list[str] = field(default_factory=list)
    after: int = 0
    issues: list[RunIssue] = field(default_factory=list)
    key: str | None = None
    once: bool = False
    request: str = ""
    awaited: bool = False
    answered: bool = False
    destination: str = ""

    @property
    def kept(self) -> bool:
        """Does the caller have what it was promised? Then its key is free for a new run once this one has ended."""
        return self.answered and not self.awaited

    def submission(self, number: int) -> str:
        """What the journal calls the submission of a task, so that it is submitted once."""
        return f"{submissions_of(self.directory.parents[1], self)}{number}"

    def entry(self, task: Task) -> Entry | None:
        return tasks.entry(self.submission(task.number))

    @property
    def task_ids(self) -> list[str]:
        """Of those that Globus has accepted."""
        entries = (self.entry(task) for task in self.tasks)
        return [entry.task_id for entry in entries if entry is not None and entry.task_id is not None]

    def save(self) -> None:
        document = {"schema": SCHEMA, **asdict(self)}
        del document["directory"]
        files.write_atomic(self.directory / "run.json", records.dump(document))

    @property
    def settled(self) -> bool:
        return (self.directory / "settled").exists()


@dataclass(frozen=True)
class RecordedRun:
    """How the run under a key ended. `reported`: a caller of the key was told."""

    key: str
    request: str
    run: str
    once: bool
    outcome: str
    task_ids: list[str]
    issues: list[RunIssue]
    finished: float
    reported: bool = False
    schema: str = KEY_SCHEMA


class State:
    """The files of one profile, in its `directory`. Made on first use, private to the user."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.manifest = self.directory / "manifest.gz"
        self.lease = self.directory / "lease"
        self.runs = self.directory / "runs"
        self.unsure = self.directory / "unsure"
        self.keys = self.directory / "keys"
        self.mounts_file = self.directory / "mounts.json"
        self.last = self.directory / "last.json"
        self.log_file = self.directory / "log"

    def make(self) -> State:
        for directory in (self.directory, self.runs, self.unsure):
            files.private_directory(directory)
        return self

    def note(self, text: str) -> None:
        """A line in the log, and with -v on stderr."""
        log.say(text, 2)
        line = f"{time.strftime('%Y-%m-%dT%H:%M:%S%z')} [{os.getpid()}] {log.masked(text)}\n"
        descriptor = os.open(self.log_file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            os.write(descriptor, line.encode("utf-8", "backslashreplace"))
        finally:
            os.close(descriptor)

    def rotate(self) -> None:
        """Begin a new log when this one is full. Only with the lease."""
        try:
            if self.log_file.stat().st_size < LOG_BYTES:
                return
        except FileNotFoundError:
            return
        for number in range(LOGS_KEPT - 1, 0, -1):
            with contextlib.suppress(FileNotFoundError):
                os.replace(f"{self.log_file}.{number}", f"{self.log_file}.{number + 1}")
        os.replace(self.log_file, f"{self.log_file}.1")

    def numbers(self) -> list[int]:
        return sorted(int(name) for name in os.listdir(self.runs) if name.isdigit())

    def current(self) -> Run | None:
        """The run that is not over, if there is one. Raises Refused if it cannot be read."""
        numbers = self.numbers()
        if not numbers:
            return None
        directory = self.runs / f"{numbers[-1]:06}"
        return None if (directory / "settled").exists() else self._read(directory)

    def history(self) -> Iterator[Run]:
        """All runs that are still on disk: among them those of the last day. Raises Refused if one that is not over cannot be
        read; one that is over is left out then, and said."""
        for number in self.numbers():
            directory = self.runs / f"{number:06}"
            try:
                yield self._read(directory)
            except Refused as problem:
                if (directory / "settled").exists():
                    log.say(f"{directory / 'run.json'} is damaged; what that run sent is not counted", 0)
                elif directory.exists():  # else another process has just removed it
                    raise problem

    def _read(self, directory: Path) -> Run:
        try:
            path = directory / "run.json"
            document = records.load(path) or {}
            records.of_schema(document, SCHEMA, path)
            document["tasks"] = [Task(**task) for task in document["tasks"]]
            del document["schema"]
            document["issues"] = [RunIssue(**issue) for issue in document.get("issues", ())]
            return records.built(Run, {**document, "directory": directory}, path)
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise Refused(
                "run-damaged",
                f"{directory / 'run.json'} cannot be read: {error}",
                f"check the tasks (globus task list), then: touch '{directory / 'settled'}'; what it sent is sent once more",
            ) from None

    def last_number(self) -> int:
        """The number of the last run; 0 if there is none."""
        return max(self.numbers(), default=0)

    def draft(self, after: int | None = None) -> Run:
        """A run that is not one yet: a directory to write its tasks into. `after`: the run that was last (default: now)."""
        identity = uuid.uuid4().hex
        directory = files.private_directory(self.runs / f".draft-{identity}")
        return Run(directory, identity, time.time(), after=self.last_number() if after is None else after)

    def begin(self, draft: Run) -> Run | None:
        """Make the draft the next run; None if another process has begun one meanwhile. Durable before anything is sent."""
        draft.unsure = sorted(os.listdir(self.unsure))
        draft.save()
        last = self.last_number()
        if last != draft.after or (last and not (self.runs / f"{last:06}" / "settled").exists()):
            return None
        directory = self.runs / f"{last + 1:06}"
        try:
            os.rename(draft.directory, directory)
        except OSError:  # the number is taken
            return None
        files.sync_directory(self.runs)
        draft.directory = directory
        return draft

    def end(self, run: Run) -> None:
        """The run is over; what it no longer needs is removed."""
        files.write_atomic(run.directory / "settled", time.strftime("%Y-%m-%dT%H:%M:%S%z\n"))
        for task in run.tasks:
            for name in (task.delta, task.body):
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(run.directory / name)
        for number in self.numbers()[:-KEEP_RUNS]:
            with contextlib.suppress(FileNotFoundError):
                if time.time() - (self.runs / f"{number:06}" / "settled").stat().st_mtime > KEEP_FOR:
                    shutil.rmtree(self.runs / f"{number:06}", ignore_errors=True)

    def known(self, key: str) -> RecordedRun | None:
        """How the last run under a key ended, if one has. Raises Refused if that cannot be read."""
        path = self._key_path(key)
        try:
            document = records.load(path)
            if document is None:
                return None
            records.of_schema(document, KEY_SCHEMA, path)
            document["issues"] = [RunIssue(**issue) for issue in document["issues"]]
            return records.built(RecordedRun, document, path)
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise Refused(
                "run-damaged",
                f"{path} cannot be read, which says how the run under key {key} ended: {error}",
                f"read {self.log_file}; to allow a new run under that key: rm '{path}'",
            ) from None

    def remember(self, run: Run, once: bool) -> None:
        """Record how a run under a key ended; old records go, but those of `--once`."""
        assert run.key is not None
        files.private_directory(self.keys)
        self._write(
            RecordedRun(
                key=run.key,
                request=run.request,
                run=run.id,
                once=run.once or once,
                outcome="finished" if run.tasks else "nothing-to-do",
                task_ids=run.task_ids,
                issues=run.issues,
                finished=time.time(),
                reported=bool(run.tasks) and run.kept and not (run.once or once),
            )
        )
        for path in self.keys.glob("*.json"):
            with contextlib.suppress(OSError, ValueError, AttributeError):  # told of when its key is asked for
                old = time.time() - path.stat().st_mtime > journal.KEEP_FINISHED
                if old and not json.loads(path.read_bytes()).get("once", True):
                    os.unlink(path)

    def note_reported(self, known: RecordedRun) -> None:
        self._write(replace(known, reported=True))

    def _write(self, known: RecordedRun) -> None:
        files.write_atomic(self._key_path(known.key), records.dump(asdict(known)))

    def _key_path(self, key: str) -> Path:
        """A key stands for a run of this profile under one Globus environment, profile and account, as with a request."""
        return self.keys / f"{requests.key_of('', f'sync {self.directory.name} {key}')}.json"

    def mounts(self) -> set[bytes]:
        """The directories below the source that were mount points when last seen. Raises Refused if that is unreadable."""
        try:
            return {os.fsencode(path) for path in json.loads(self.mounts_file.read_bytes())}
        except FileNotFoundError:
            return set()
        except (OSError, ValueError, TypeError) as error:
            raise Refused(
                "mounts-damaged",
                f"{self.mounts_file} cannot be read: {error}",
                f"check that everything below the source is mounted, then: rm '{self.mounts_file}'",
            ) from None

    def set_mounts(self, paths: set[bytes]) -> None:
        if paths != self.mounts():
            files.write_atomic(self.mounts_file, json.dumps(sorted(map(os.fsdecode, paths))) + "\n")

    def tidy(self) -> None:
        """Remove drafts that a run left behind that was killed. Only with the lease."""
        for name in os.listdir(self.runs):
            if name.startswith(".draft-"):
                shutil.rmtree(self.runs / name, ignore_errors=True)
        places = (self.directory.glob(".manifest.gz.*"), self.directory.glob(".tmp-*"), self.keys.glob(".tmp-*"))
        for path in itertools.chain(*places):
            with contextlib.suppress(FileNotFoundError):
                if time.time() - path.stat().st_mtime > 3600:
                    os.unlink(path)

    def tell(self, exit_code: int, outcome: str, message: str, started: float) -> None:
        told = {"exit_code": exit_code, "outcome": outcome, "message": message, "started": started}
        files.write_atomic(self.last, records.dump({**told, "finished": time.time()}))

    def told(self) -> dict[str, Any] | None:
        try:
            document = json.loads(self.last.read_bytes())
        except (OSError, ValueError):
            return None
        return document if isinstance(document, dict) else None


def submissions_of(directory: Path, run: Run | None = None) -> str:
    """What the names of all submissions of a profile (by its directory), or of one of its runs, begin with."""
    return f"sync {directory.name} " + (f"{run.id} " if run is not None else "")


def root() -> Path:
    """The directory of all profiles' states."""
    return files.state_dir() / "sync"


def states() -> Iterator[State]:
    """The states of all profiles that have run."""
    return (State(runs.parent) for runs in sorted(root().glob("*/runs")))


def keys() -> set[str]:
    """The keys under which a run of any profile has ended, or is not over."""
    found: set[str] = set()
    for state in states():
        with contextlib.suppress(Refused):
            current = state.current()
            found |= {current.key} if current is not None and current.key else set()
        for path in state.keys.glob("*"):
            with contextlib.suppress(ValueError, KeyError):
                found.add(str((records.load(path) or {})["key"]))
    return found


def named(key: str) -> Named | None:
    """The tasks of the last run under a key, of every profile that has had one; None if none has."""
    found: list[str | Entry | None] = []
    any_run = False
    for state in states():
        try:
            current, known = state.current(), state.known(key)
        except Refused as problem:  # perhaps not of this key at all
            log.say(f"{problem.cause}; remedy: {problem.remedy}", 0)
            continue
        if current is not None and current.key == key:
            found += [current.entry(task) for task in current.tasks if task.ended != "refused"]
        elif known is not None:
            found += [journal.by_task(task_id) or task_id for task_id in known.task_ids]
        else:
            continue
        any_run = True
    return Named.of(found) if any_run else None
