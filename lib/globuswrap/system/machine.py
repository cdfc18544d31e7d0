"""Identify this host and its processes (Linux: /proc), and find how to start this program again."""

from __future__ import annotations

import contextlib
import os
import re
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

from globuswrap.system import process


def boot() -> str:
    """An id of this start of this host; without one (not Linux) the host name stands for it."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()
    except OSError:
        return socket.gethostname()


def pid_space() -> str:
    """The namespace in which pids mean something; empty if unknown."""
    try:
        return os.readlink("/proc/self/ns/pid")
    except OSError:
        return ""


def started(pid: int) -> str:
    """When a process started, in clock ticks since boot; empty if that cannot be known, or it is gone or a zombie.

    Together with `boot` this tells a process from a later one with the same pid.
    """
    fields = _stat(f"/proc/{pid}")
    return fields[19] if fields else ""


def session_alive(leader: int) -> bool:
    """Does any process of this session still run?"""
    with contextlib.suppress(OSError), os.scandir("/proc") as entries:
        for entry in entries:
            if entry.name.isdigit() and _stat(entry.path)[3:4] == [str(leader)]:
                return True
    return False


def _stat(directory: str) -> list[str]:
    """What the kernel says of a process, from its state on (proc(5): state is the third field); nothing of one that has ended."""
    try:
        fields = Path(directory, "stat").read_bytes().rpartition(b") ")[2].decode("ascii").split()
    except OSError:
        return []
    return [] if fields[:1] in ([], ["Z"], ["X"]) else fields


def mounts(text: str | None = None) -> Iterator[tuple[str, str, str]]:
    """Mount point, type and device of each mount in /proc/self/mountinfo (proc(5)), or in `text`; none if that is unknown."""
    if text is None:
        try:
            text = Path("/proc/self/mountinfo").read_text("utf-8", "surrogateescape")
        except OSError:
            return
    for line in text.splitlines():
        left, separator, right = line.partition(" - ")
        if separator:
            kind, device, *_ = right.split(" ")
            yield re.sub(r"\\(\d{3})", lambda match: chr(int(match[1], 8)), left.split(" ")[4]), kind, device


def file_system(path: str, text: str | None = None) -> str:
    """The type of the file system that holds a path (`nfs4`, `lustre`, ...): of the longest mount point; empty if unknown."""
    real = os.path.realpath(path)
    best, kind = "", ""
    for point, of_point, _ in mounts(text):
        if (real == point or real.startswith(point.rstrip("/") + "/")) and len(point) >= len(best):
            best, kind = point, of_point
    return kind


def own_command() -> tuple[str, ...]:
    """How to start this globuswrap from anywhere that sees its files, also where PATH is short (cron, services, nodes)."""
    launcher = Path(__file__).resolve().parents[3] / "bin" / "globuswrap"
    called = Path(sys.argv[0])
    for each in (launcher, called):
        if each.name == "globuswrap" and each.is_absolute() and os.access(each, os.X_OK):
            return (str(each),)
    found = process.find_program("globuswrap")
    return (found,) if found else (sys.executable, "-m", "globuswrap")
