"""A profile's state on disk.

    manifest.gz         the last state known to be at the destination (sync.manifest)
    lease               who works on it now (system.locks): saves work, guards nothing
    runs/000012/        one run: run.json (what was submitted), and for every task its delta and its items
    runs/000012/settled the run is over: its deltas are in the manifest, or set aside
    unsure/             deltas of tasks that failed: what they cover is sent with checksums the next time
    last.json, log      what the last run said, and what all runs did

A run is written whole under a temporary name and given its number by rename(2), which fails if the number is taken. So of two
processes that both believe to hold the lease one begins the run, and the other joins it or stops; a number is never used twice.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import time
import uuid
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from globuswrap.errors import Refused
from globuswrap.sync.profile import Profile
from globuswrap.system import files, log

SCHEMA = "globuswrap.sync-run/1"
KEEP_RUNS = 20
LOG_BYTES = 1_000_000
LOGS_KEPT = 4


@dataclass
class Task:
    """One task of a run. `whole`: the service's own recursive sync, without delta. `ended` is the outcome's name once it is known
    to be final; `refused`: Globus said no to the submission."""

    number: int
    kind: str
    items: int
    bytes: int = 0
    sync_level: str | None = None
    whole: bool = False
    recursive: bool = False
    digest: str = ""
    task_id: str | None = None
    entry: str | None = None
    ended: str | None = None

    @property
    def delta(self) -> str:
        return f"{self.number}.delta.gz"

    @property
    def body(self) -> str:
        return f"{self.number}.items.json"


@dataclass
class Run:
    """What was submitted together. `unsure`: the files in `unsure/` that this run sends again."""

    directory: Path
    id: str
    created: float
    tasks: list[Task] = field(default_factory=list)
    unsure: list[str] = field(default_factory=list)

    def save(self) -> None:
        document = {"schema": SCHEMA, "id": self.id, "created": self.created, "unsure": self.unsure}
        document["tasks"] = [asdict(task) for task in self.tasks]
        files.write_atomic(self.directory / "run.json", json.dumps(document, indent=1) + "\n")


class State:
    """The files of one profile. Made on first use, private to the user."""

    def __init__(self, profile: Profile) -> None:
        self.directory = profile.directory
        self.manifest = self.directory / "manifest.gz"
        self.lease = self.directory / "lease"
        self.runs = self.directory / "runs"
        self.unsure = self.directory / "unsure"
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
        if (directory / "settled").exists():
            return None
        try:
            document = json.loads((directory / "run.json").read_bytes())
            tasks = [Task(**task) for task in document["tasks"]]
            return Run(directory, document["id"], document["created"], tasks, document["unsure"])
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise Refused(
                "run-damaged",
                f"{directory / 'run.json'} cannot be read: {error}",
                f"look at the tasks (globus task list), then: touch '{directory / 'settled'}'; what it sent is sent once more",
            ) from None

    def draft(self) -> Run:
        """A run that is not one yet: a directory to write its tasks into."""
        identity = uuid.uuid4().hex
        directory = files.private_directory(self.runs / f".draft-{identity}")
        return Run(directory, identity, time.time())

    def begin(self, draft: Run) -> Run | None:
        """Make the draft the next run; None if another process has begun one meanwhile. Durable before anything is sent."""
        draft.unsure = sorted(os.listdir(self.unsure))
        draft.save()
        numbers = self.numbers()
        if numbers and not (self.runs / f"{numbers[-1]:06}" / "settled").exists():
            return None
        directory = self.runs / f"{(numbers[-1] if numbers else 0) + 1:06}"
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
            shutil.rmtree(self.runs / f"{number:06}", ignore_errors=True)

    def tidy(self) -> None:
        """Remove drafts that a run left behind that was killed. Only with the lease."""
        for name in os.listdir(self.runs):
            if name.startswith(".draft-"):
                shutil.rmtree(self.runs / name, ignore_errors=True)
        for path in (*self.directory.glob(".manifest.gz.*"), *self.directory.glob(".tmp-*")):
            with contextlib.suppress(FileNotFoundError):
                if time.time() - path.stat().st_mtime > 3600:
                    os.unlink(path)

    def tell(self, result: dict[str, Any]) -> None:
        files.write_atomic(self.last, json.dumps(result, indent=1) + "\n")

    def told(self) -> dict[str, Any] | None:
        try:
            document = json.loads(self.last.read_bytes())
        except (OSError, ValueError):
            return None
        return document if isinstance(document, dict) else None
