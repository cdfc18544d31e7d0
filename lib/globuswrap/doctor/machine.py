"""Check this machine: Python, configuration, the state directory and its file system, the clock, the CLI's token store."""

from __future__ import annotations

import contextlib
import os
import platform
import stat
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from globuswrap import config
from globuswrap.collections import names
from globuswrap.doctor.finding import Finding, failure, of_problem, ok, warning
from globuswrap.errors import REFUSED, USAGE, Problem
from globuswrap.system import files, log, machine, units

#: A file server's clock that differs by less is no matter: files settle for longer than that.
_SKEW = 5.0
_ROOM = 50 * 1024**2
_VOLATILE = ("tmpfs", "ramfs", "devtmpfs")


def look() -> Iterator[Finding]:
    """Everything that is known without asking anyone."""
    yield ok("python", f"Python {platform.python_version()} at {sys.executable}")
    yield from _configuration()
    yield from _state()
    yield from _tokens()


def _configuration() -> Iterator[Finding]:
    try:
        read = config.load().files
        known = names.known()
    except Problem as problem:
        yield of_problem(problem, "no globuswrap command works with it")
        return
    yield ok("configuration", f"{len(known)} collections named; read: {', '.join(map(str, read)) or 'no file'}")


def _state() -> Iterator[Finding]:
    """Whether submissions can be written down, privately and for good."""
    directory = files.state_dir()
    why = "submissions cannot be recorded, so none is made"
    elsewhere = "free some space, or set XDG_STATE_HOME to a directory of yours"
    try:
        files.private_directory(directory)
        skew = _written(directory)
    except OSError as error:
        yield failure("state-not-writable", f"{directory}: {error.strerror or error}", why, elsewhere, USAGE)
        return
    found = os.stat(directory)
    quoted = log.shell_line((str(directory),))
    if found.st_uid != os.geteuid():
        why = "whoever owns it can read what you move, and change it"
        yield failure("state-of-another", f"{directory} belongs to user {found.st_uid}", why, elsewhere, REFUSED)
    elif found.st_mode & 0o077:
        mode = stat.S_IMODE(found.st_mode)
        why = "others can read the paths and names of what you move"
        yield warning("state-readable", f"{directory} is open to others ({mode:04o})", why, f"chmod 700 {quoted}")
    kind = machine.file_system(str(directory))
    if kind in _VOLATILE and not os.environ.get("GLOBUS_SANDBOX_URL"):
        why = "a restart loses the journal, and with it what was submitted"
        yield warning(
            "state-volatile",
            f"{directory} is on a memory file system ({kind})",
            why,
            "set XDG_STATE_HOME to a directory on disk",
        )
    room = os.statvfs(directory)
    if room.f_bavail * room.f_frsize < _ROOM:
        left = units.human_size(room.f_bavail * room.f_frsize)
        why = "when it is full, nothing can be submitted"
        yield warning("state-nearly-full", f"{left} left for {directory}", why, elsewhere)
    if abs(skew) > _SKEW:
        how = f"{units.human_duration(abs(skew))} {'ahead of' if skew > 0 else 'behind'}"
        why = "files look newer or older than they are: sync waits too long, or sends files that are still changing"
        remedy = "synchronize the clocks of this host and its file server (check: chronyc tracking)"
        yield warning("clock-differs", f"the file system of {directory} is {how} this host", why, remedy)
    else:
        yield ok("state", f"{directory}: private, writable ({kind or 'file system unknown'}), clock agrees")


def _written(directory: Path) -> float:
    """Write, link and remove a file as the journal does. Returns how far the file system's clock is ahead, in seconds."""
    temporary = Path(files.write_temporary(directory, b"globuswrap doctor"))
    linked = temporary.with_name(f"{temporary.name}.link")
    try:
        skew = os.stat(temporary).st_mtime - time.time()
        os.link(temporary, linked)
        return skew
    finally:
        for path in (linked, temporary):
            with contextlib.suppress(FileNotFoundError):
                path.unlink()


def _tokens() -> Iterator[Finding]:
    """The CLI's token store (globus-cli 3.x: ~/.globus/cli/storage.db) is as good as a password."""
    store = Path.home() / ".globus" / "cli" / "storage.db"
    try:
        mode = stat.S_IMODE(store.stat().st_mode)
    except OSError:
        return
    if mode & 0o077:
        quoted = log.shell_line((str(store),))
        why = "whoever reads it can act as you at Globus"
        yield warning("tokens-readable", f"{store} is open to others ({mode:04o})", why, f"chmod 600 {quoted}")
