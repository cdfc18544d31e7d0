"""Write files atomically, and find where they belong (XDG base directories).

State is private: directories 0700, files 0600. A file is written beside its target, fsynced, renamed over it, and the
directory fsynced, so that after a crash a reader sees the old or the new content whole.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import stat
import tempfile
from collections.abc import Iterable
from pathlib import Path

from globuswrap.errors import UsageProblem


def config_dir() -> Path:
    """`$XDG_CONFIG_HOME/globuswrap`, default `~/.config/globuswrap`."""
    return _xdg("XDG_CONFIG_HOME", ".config")


def state_dir() -> Path:
    """`$XDG_STATE_HOME/globuswrap`, default `~/.local/state/globuswrap`."""
    return _xdg("XDG_STATE_HOME", ".local/state")


def cache_dir() -> Path:
    """`$XDG_CACHE_HOME/globuswrap`, default `~/.cache/globuswrap`: everything in it can be made again."""
    return _xdg("XDG_CACHE_HOME", ".cache")


def site_config_files() -> list[Path]:
    """The site's config files, first one wins: `$XDG_CONFIG_DIRS`, default `/etc/xdg`."""
    directories = os.environ.get("XDG_CONFIG_DIRS") or "/etc/xdg"
    return [Path(directory) / "globuswrap" / "config.toml" for directory in directories.split(":") if directory]


def _xdg(variable: str, default: str) -> Path:
    base = os.environ.get(variable, "")
    # The XDG specification says a relative path there is to be ignored.
    root = Path(base) if os.path.isabs(base) else Path.home() / default
    return root / "globuswrap"


def refuse_if_others_write(path: Path) -> None:
    """Raises UsageProblem `unsafe-config` if someone other than you and root can change the file, or put another in its place.

    A link is judged by what it leads to, and by where it is itself. In a sticky directory only the owner replaces a file.
    """
    real = Path(os.path.realpath(path))
    for each in dict.fromkeys((real, real.parent, path.parent)):
        try:
            found = os.stat(each)
        except OSError:
            continue  # who reads the file says what is wrong with it
        quoted = shlex.quote(str(each))
        if found.st_uid not in (os.geteuid(), 0):
            whose = f"{each} belongs to {_user(found.st_uid)}"
            remedy = f"if you trust what is in it: sudo chown {_user(os.geteuid())} {quoted}"
            raise UsageProblem("unsafe-config", f"{path} is not read: {whose}, who can change it", remedy)
        shared = found.st_mode & stat.S_IWOTH or (found.st_mode & stat.S_IWGRP and not _is_private_group(found))
        if shared and not (stat.S_ISDIR(found.st_mode) and found.st_mode & stat.S_ISVTX):
            cause = f"{path} is not read: other users can write to {each} (mode {stat.S_IMODE(found.st_mode):04o})"
            raise UsageProblem("unsafe-config", cause, f"check what is in it, then: chmod go-w {quoted}")


def _user(number: int) -> str:
    import pwd

    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:
        return f"user {number}"


def _is_private_group(found: os.stat_result) -> bool:
    """Whether the group is its owner's alone. Many distributions give each user one, and the umask 002 with it."""
    import grp

    try:
        group = grp.getgrgid(found.st_gid)
    except KeyError:
        return False
    return group.gr_name == _user(found.st_uid) and set(group.gr_mem) <= {group.gr_name}


def private_directory(path: Path) -> Path:
    """Make the directory, and those above it that are missing, with mode 0700; return it."""
    missing = path
    above = []
    while not missing.exists():
        above.append(missing)
        missing = missing.parent
    for directory in reversed(above):
        directory.mkdir(mode=0o700, exist_ok=True)
    return path


def names(directory: Path) -> list[str]:
    """The names in a directory; none if it is not there, or is none."""
    try:
        return os.listdir(directory)
    except (FileNotFoundError, NotADirectoryError):
        return []


def private(path: str, flags: int) -> int:
    """For `open(..., opener=private)`: a file that is made is its owner's alone, whatever the umask."""
    return os.open(path, flags, 0o600)


def mark(paths: Iterable[Path]) -> None:
    """Make empty files, durably, with their directories. One that is there is as good as new."""
    changed = set()
    for path in paths:
        changed |= {path.parent} if path.parent.is_dir() else {path.parent, path.parent.parent}
        private_directory(path.parent)
        try:
            os.close(private(str(path), os.O_CREAT | os.O_EXCL))
        except FileExistsError:
            with contextlib.suppress(FileNotFoundError):
                os.utime(path)
    for directory in changed:
        sync_directory(directory)


def write_atomic(path: Path, data: bytes | str, mode: int = 0o600) -> None:
    """Replace the file's content as a whole and durably; OSError leaves the old content in place."""
    temporary = write_temporary(path.parent, data, mode)
    try:
        os.replace(temporary, path)
    except OSError:
        os.unlink(temporary)
        raise
    sync_directory(path.parent)


def write_temporary(directory: Path, data: bytes | str, mode: int = 0o600) -> str:
    """Write and fsync a new hidden temporary file in the directory; return its path."""
    descriptor, temporary = tempfile.mkstemp(prefix=".tmp-", dir=directory)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data.encode("utf-8", "surrogateescape") if isinstance(data, str) else data)
            file.flush()
            os.fchmod(file.fileno(), mode)
            os.fsync(file.fileno())
    except BaseException:  # a signal too: nothing half written stays behind
        os.unlink(temporary)
        raise
    return temporary


def sync_directory(directory: Path) -> None:
    """Make renames and links in the directory durable."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
