"""A task and what it is made of, without what happens to it."""

from __future__ import annotations

from collections import deque
from typing import Any, NamedTuple

from globus_sandbox.web import words

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


class Task:
    """One task. Numbers and flags are read by other threads while it is worked at; lists only grow."""

    #: What is written to disk with it; the rest is rebuilt.
    KEPT = words(
        "id type owner label submission_id status requested completed deadline deadline_given source "
        "destination options faults files directories symlinks bytes checksummed skipped moved "
        "subtasks_done subtasks_skipped fatal paused looks started trouble trouble_at canceled "
        "expired failed history_deleted progress canceled_by"
    )

    def __init__(self, **values: Any) -> None:
        self.id = ""
        self.type = "TRANSFER"
        self.owner = ""
        self.label: str | None = None
        self.submission_id = ""
        self.status = "ACTIVE"
        self.requested = 0.0
        self.completed: float | None = None
        self.deadline = 0.0
        self.deadline_given = False
        self.source: str = ""
        self.destination: str | None = None
        self.options: dict[str, Any] = {}
        self.progress: str | None = None
        self.paused: str | None = None
        self.looks = 0
        self.started: float | None = None
        self.trouble: str | None = None
        self.trouble_at = 0.0
        self.fatal: dict[str, str] | None = None
        self.history_deleted = False
        self.canceled_by: tuple[str, str] | None = None
        self.items: list[Item] = []
        self.events: list[dict[str, Any]] = []
        self.done: list[tuple[str, str]] = []
        self.skips: list[tuple[str, str, str, float]] = []
        self.reset()
        for name, value in values.items():
            setattr(self, name, value)
        # of the engine alone
        self.place = "queued"
        self.running = False
        self.stop = False
        self.retry_at = 0.0
        self.backoff = BACKOFF[0]
        self.settled = False

    def reset(self) -> None:
        """Back to nothing done, for a new start after the server ended in the middle."""
        self.faults = self.files = self.directories = self.symlinks = self.bytes = self.checksummed = 0
        self.skipped = self.moved = self.subtasks_done = self.subtasks_skipped = 0
        self.canceled = self.expired = self.failed = 0
        self.retrying = 0
        self.todo: deque[Unit] | None = None
        self.seen_directories: list[tuple[str, str]] = []
        self.skipped_source = False

    @property
    def unfinished(self) -> bool:
        return self.status in ("ACTIVE", "INACTIVE")

    @property
    def subtasks(self) -> int:
        """Recorded: one for each item, file and directory (1 file: 2; 1 item with 3 files and 2 directories: 6)."""
        return len(self.items) + self.files + self.directories + self.symlinks

    def key(self) -> tuple[str, str | None, int]:
        """What makes two transfers the same for the service: endpoints and paths."""
        return (self.source, self.destination, hash(frozenset((item.source, item.destination) for item in self.items)))
