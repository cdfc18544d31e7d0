"""A task and what it is made of, without what happens to it."""

from __future__ import annotations

import uuid
from collections import deque
from dataclasses import dataclass, field, fields
from functools import cached_property
from typing import Any, NamedTuple

#: First and longest pause of a task that hit an error, in seconds of the sandbox's clock (assumed; the service waits minutes).
BACKOFF = (0.25, 8.0)


class Item(NamedTuple):
    """What a submission names: for a delete, `destination` is empty."""

    source: str
    destination: str = ""
    recursive: bool | None = None
    checksum: str | None = None
    algorithm: str | None = None
    #: a transfer_symlink_item: the link itself is what is transferred
    link: bool = False


class Unit(NamedTuple):
    """One thing to do: an item, or a file, directory or link found in one."""

    kind: str
    source: str
    destination: str
    item: Item


@dataclass
class Counts:
    """What was done, by the names that the task document has for it."""

    bytes_checksummed: int = 0
    bytes_transferred: int = 0
    directories: int = 0
    files: int = 0
    files_skipped: int = 0
    files_transferred: int = 0
    symlinks: int = 0
    subtasks_canceled: int = 0
    subtasks_expired: int = 0
    subtasks_failed: int = 0
    subtasks_retrying: int = 0
    subtasks_skipped_errors: int = 0
    subtasks_succeeded: int = 0


@dataclass
class Record(Counts):
    """What is kept of a task, also on disk; the rest is made again."""

    id: str = field(default_factory=lambda: str(uuid.uuid4()))
    type: str = "TRANSFER"
    owner: str = ""
    label: str | None = None
    submission_id: str = ""
    status: str = "ACTIVE"
    requested: float = 0.0
    completed: float | None = None
    deadline: float = 0.0
    deadline_given: bool = False
    source: str = ""
    destination: str | None = None
    options: dict[str, Any] = field(default_factory=dict)
    faults: int = 0
    progress: str | None = None
    paused: str | None = None
    looks: int = 0
    started: float | None = None
    trouble: str | None = None
    trouble_at: float = 0.0
    fatal: dict[str, str] | None = None
    history_deleted: bool = False
    canceled_by: tuple[str, str] | None = None


COUNTS = tuple(one.name for one in fields(Counts))
KEPT = tuple(one.name for one in fields(Record))


@dataclass(eq=False)
class Task(Record):
    """One task. Numbers and flags are read by other threads while it is worked at; lists only grow."""

    items: list[Item] = field(default_factory=list)
    events: list[dict[str, Any]] = field(default_factory=list)
    done: list[tuple[str, str]] = field(default_factory=list)
    skips: list[tuple[str, str, str, float]] = field(default_factory=list)
    todo: deque[Unit] | None = None
    seen_directories: list[tuple[str, str]] = field(default_factory=list)
    # of the engine alone
    place: str = "queued"
    running: bool = False
    stop: bool = False
    retry_at: float = 0.0
    backoff: float = BACKOFF[0]
    settled: bool = False

    @property
    def unfinished(self) -> bool:
        return self.status in ("ACTIVE", "INACTIVE")

    @property
    def subtasks(self) -> int:
        """Recorded: one for each item, file and directory (1 file: 2; 1 item with 3 files and 2 directories: 6)."""
        return len(self.items) + self.files + self.directories + self.symlinks

    @cached_property
    def key(self) -> tuple[str, str | None, int]:
        """What makes two transfers the same for the service: endpoints and paths."""
        return (self.source, self.destination, hash(frozenset((item.source, item.destination) for item in self.items)))
