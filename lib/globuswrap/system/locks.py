"""Take leases: at most one process works at a time, and a dead one does not block the others for long.

A lease is a file with who holds it, made by link(2), so that of many takers one wins. The holder renews it while it works;
`renew` is called from the work itself, so that a holder that hangs on another host loses it too.

What is promised:

* While a holder lives and renews within the time to live, nobody else gets the lease.
* A holder that died on this host (its process is gone, or the host was started again) loses it at once.
* A holder on another host, or in another container, loses it when its file has not been renewed for the time to live. Ages are
  taken from the file system's clock alone, so that two hosts need not agree about the time.
* Taking over from a dead holder is not atomic: two takers can both believe for a moment that they won. `renew` and `check`
  raise LeaseLost in the one that did not.

So a lease saves work that would be done twice. It never guards correctness: what must happen once is agreed on elsewhere (the
journal's submission ids, link(2) to a name that exists once).

The file system has to give atomic link(2) and rename(2) and to show a file that was just linked when it is opened by name.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import time
import uuid
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType

from globuswrap.errors import TryLater
from globuswrap.system import files, machine, process, records

TIME_TO_LIVE = 900.0


class LeaseTaken(TryLater):
    """Another process holds it; `holder` says which."""

    holder: Holder | None = None


class LeaseLost(TryLater):
    """It was ours, and another process has it now: this one must stop."""


@dataclass(frozen=True)
class Holder:
    """Who holds a lease. `boot` and `space` tell whether its `pid` means something here; `started` guards against a pid that was
    used again (clock ticks since boot, as /proc has it)."""

    token: str
    host: str
    pid: int
    started: str
    boot: str
    space: str
    since: float
    ttl: float

    @property
    def shown(self) -> str:
        return f"process {self.pid} on {self.host}"


def this_process(ttl: float) -> Holder:
    pid = os.getpid()
    return Holder(
        uuid.uuid4().hex,
        socket.gethostname(),
        pid,
        machine.started(pid),
        machine.boot(),
        machine.pid_space(),
        time.time(),
        ttl,
    )


class Lease:
    """A lease that is held; a context manager that gives it back."""

    def __init__(self, path: Path, holder: Holder) -> None:
        self.path = path
        self.holder = holder
        self._renewed = time.monotonic()

    def renew(self) -> None:
        """Say that the holder still works. Cheap to call often: the file is touched four times per time to live."""
        if time.monotonic() - self._renewed < self.holder.ttl / 4:
            return
        self.check()
        os.utime(self.path)
        self._renewed = time.monotonic()

    def check(self) -> None:
        """Raises LeaseLost if another process has taken it over."""
        now = _read(self.path)
        if now is None or now.token != self.holder.token:
            by = f"by {now.shown}" if now is not None else "by another process, which has finished"
            raise LeaseLost("lease-lost", f"{self.path.name} was taken over {by}", "rerun later")

    def release(self) -> None:
        """Give it back, unless it was lost."""
        with contextlib.suppress(LeaseLost, FileNotFoundError):
            self.check()
            os.unlink(self.path)

    def __enter__(self) -> Lease:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()


def take(path: Path, ttl: float = TIME_TO_LIVE) -> Lease:
    """Take the lease `path` (its directory exists), or raise LeaseTaken. `ttl` is seconds; see the module for what holds."""
    mine = this_process(ttl)
    temporary = files.write_temporary(path.parent, json.dumps(asdict(mine)) + "\n")
    try:
        for _ in range(3):
            if records.link(temporary, path):
                return Lease(path, mine)
            other = _read(path)
            if other is None and not path.exists():
                continue
            if not _dead(path, other, temporary):
                raise _taken(path, other)
            _put_aside(path, other)
        raise _taken(path, _read(path))
    finally:
        os.unlink(temporary)


def holder_of(path: Path) -> Holder | None:
    """Who holds the lease now; None if nobody, or a holder known to be dead."""
    holder = _read(path)
    if holder is None:
        return None
    probe = files.write_temporary(path.parent, b"")
    try:
        return None if _dead(path, holder, probe) else holder
    finally:
        os.unlink(probe)


def _taken(path: Path, holder: Holder | None) -> LeaseTaken:
    who = holder.shown if holder is not None else "another process"
    problem = LeaseTaken("lease-taken", f"{path.name} is held by {who}", "rerun later")
    problem.holder = holder
    return problem


def _read(path: Path) -> Holder | None:
    """None if it is not there or cannot be understood."""
    try:
        return Holder(**records.parsed(path.read_bytes()))
    except (OSError, ValueError, TypeError):
        return None


def _dead(path: Path, holder: Holder | None, fresh: str) -> bool:
    """Whether the holder is known to be dead. `fresh` is a file just written beside it: its time is the file system's now."""
    if holder is not None and holder.boot == machine.boot() and holder.space == machine.pid_space():
        return machine.started(holder.pid) != holder.started if holder.started else not process.exists(holder.pid)
    if (
        holder is not None
        and holder.host == socket.gethostname()
        and holder.space == machine.pid_space()
        and holder.started
    ):
        return True  # the same host under another boot id: it was started again
    ttl = holder.ttl if holder is not None else TIME_TO_LIVE
    try:
        return os.stat(fresh).st_mtime - path.stat().st_mtime > ttl
    except FileNotFoundError:
        return True


def _put_aside(path: Path, dead: Holder | None) -> None:
    """Take a dead holder's file away. If it was a living one's that came between, it is put back."""
    aside = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        os.rename(path, aside)
    except FileNotFoundError:
        return
    found = _read(aside)
    if found is not None and (dead is None or found.token != dead.token):
        records.link(str(aside), path)
    os.unlink(aside)
