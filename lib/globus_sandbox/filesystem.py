"""Collections on disk: where a collection path lies, and moving, listing and deleting what is there.

Every failure is a `TransferError` with an event code of the service. Mode bits count even for root, so that "permission denied"
can be rehearsed by anyone.
"""

from __future__ import annotations

import errno
import fnmatch
import glob
import grp
import hashlib
import os
import posixpath
import pwd
import shutil
import stat as stat_module
from functools import lru_cache
from typing import Any

from globus_sandbox.documents import Collection, spaced
from globus_sandbox.faults import TransferError

#: Bytes that are read at once.
BLOCK = 1 << 20

_BY_ERRNO = {
    errno.ENOENT: "FILE_NOT_FOUND",
    errno.EACCES: "PERMISSION_DENIED",
    errno.EPERM: "PERMISSION_DENIED",
    errno.ENOSPC: "NO_SPACE_LEFT",
    errno.EDQUOT: "QUOTA_EXCEEDED",
    errno.ENOTDIR: "NOT_A_DIRECTORY",
    errno.EISDIR: "IS_A_DIRECTORY",
    errno.ENAMETOOLONG: "INVALID_PATH_NAME",
    errno.EINVAL: "INVALID_PATH_NAME",
}


def trouble_of(error: OSError | UnicodeError, path: str, side: str) -> TransferError:
    if isinstance(error, UnicodeError):
        return TransferError("INVALID_PATH_NAME", path, side)
    return TransferError(_BY_ERRNO.get(error.errno or 0, "ENDPOINT_ERROR"), path, side, (error.strerror or "").lower())


def normal(path: str) -> str:
    """A collection path as the service reads it: absolute, `~` is the default directory (here `/`), no `..`, no `//`."""
    if path.startswith("/~"):
        path = path[1:]
    if path == "~" or path.startswith("~/"):
        path = path[1:]
    cleaned = posixpath.normpath("/" + path)
    return "/" + cleaned.lstrip("/")


def place(collection: Collection, path: str, side: str = "source") -> str:
    """The absolute local path of a collection path. Raises TransferError for names the service refuses."""
    if "\0" in path or "\r\n" in path:
        raise TransferError("INVALID_PATH_NAME", path, side)
    inner = normal(path)
    local = str(collection.path) + (inner if inner != "/" else "")
    try:
        os.fsencode(local)
    except UnicodeError as error:
        raise trouble_of(error, path, side) from None
    return local


def entry(collection: Collection, path: str, side: str = "source") -> str:
    """The local path of what need not be there; the directory that it is in does not lie outside. Raises TransferError."""
    local = place(collection, path, side)
    if normal(path) != "/":
        held_inside(collection, os.path.dirname(local), path, side)
    return local


def held_inside(collection: Collection, local: str, path: str, side: str) -> None:
    """Raises PERMISSION_DENIED when symbolic links lead out of the collection."""
    root = _real(str(collection.path))
    real = os.path.realpath(local)
    if real != root and not real.startswith(root + "/"):
        raise TransferError("PERMISSION_DENIED", path, side, "path not allowed")


@lru_cache(maxsize=64)
def _real(path: str) -> str:
    return os.path.realpath(path)


@lru_cache(maxsize=1024)
def user_name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


@lru_cache(maxsize=1024)
def group_name(gid: int) -> str:
    try:
        return grp.getgrgid(gid).gr_name
    except KeyError:
        return str(gid)


_KINDS = {
    stat_module.S_IFDIR: "dir",
    stat_module.S_IFREG: "file",
    stat_module.S_IFCHR: "chr",
    stat_module.S_IFBLK: "blk",
    stat_module.S_IFIFO: "pipe",
}


def kind_of(mode: int) -> str:
    return _KINDS.get(stat_module.S_IFMT(mode), "other")


def file_document(local: str, name: str) -> dict[str, Any]:
    """The "file" document of `ls` and `stat`; a symbolic link is shown as what it leads to, with the link_ fields set.

    Raises OSError when there is nothing.
    """
    link = seen = os.lstat(local)
    is_link = stat_module.S_ISLNK(link.st_mode)
    kind = kind_of(link.st_mode)
    if is_link:
        try:
            seen = os.stat(local)
            kind = kind_of(seen.st_mode)
        except OSError:
            kind = "invalid_symlink"
    linked = _about(link) if is_link else {}
    return {
        "DATA_TYPE": "file",
        **_about(seen),
        **{f"link_{name}": linked.get(name) for name in ("group", "last_modified", "size", "user")},
        "link_target": os.readlink(local) if is_link else None,
        "name": name,
        "permissions": f"{stat_module.S_IMODE(seen.st_mode):04o}",
        "type": kind,
    }


def _about(status: os.stat_result) -> dict[str, Any]:
    return {
        "group": group_name(status.st_gid),
        "last_modified": spaced(status.st_mtime),
        "size": status.st_size,
        "user": user_name(status.st_uid),
    }


def readable(status: os.stat_result) -> bool:
    needed = 0o500 if stat_module.S_ISDIR(status.st_mode) else 0o400
    return status.st_mode & needed == needed


def make_directories(collection: Collection, local: str, path: str) -> None:
    """The directory and those above it, to be written to. Raises TransferError."""
    try:
        os.makedirs(local, exist_ok=True)
    except FileExistsError:
        raise TransferError("NOT_A_DIRECTORY", path, "destination") from None
    except OSError as error:
        raise trouble_of(error, path, "destination") from None
    held_inside(collection, local, path, "destination")
    if not writable(local):
        raise TransferError("PERMISSION_DENIED", path, "destination")


def writable(local_directory: str) -> bool:
    try:
        return os.stat(local_directory).st_mode & 0o200 != 0
    except OSError:
        return True


def _sums(algorithm: str) -> Any:
    return hashlib.new(algorithm.lower().replace("-", ""), usedforsecurity=False)


def digest(local: str, algorithm: str = "md5") -> str:
    """Hex digest of a file. Raises OSError."""
    sums = _sums(algorithm)
    with open(local, "rb", buffering=0) as file:
        while block := file.read(BLOCK):
            sums.update(block)
    return str(sums.hexdigest())


def copy(source: str, destination: str, size: int, *, verify: bool, spoil: bool = False) -> None:
    """The bytes of one file, `size` of them, to another place. `spoil` damages some on the way.

    Raises OSError; TransferError: FILE_SIZE_CHANGED for more or fewer, VERIFY_CHECKSUM when `verify` finds a difference.
    """
    sums, copied = _sums("md5"), 0
    with open(source, "rb", buffering=0) as file, open(destination, "wb") as target:
        while block := file.read(BLOCK):
            copied += len(block)
            if verify:
                sums.update(block)
            target.write(block[:-1] + bytes([block[-1] ^ 0xFF]) if spoil else block)
    if copied != size:
        raise TransferError("FILE_SIZE_CHANGED", source)
    if verify and digest(destination) != sums.hexdigest():
        raise TransferError("VERIFY_CHECKSUM", destination, "destination")


def remove_tree(local: str) -> None:
    """Delete a path and all below it, following no link. Raises OSError."""
    if os.path.isdir(local) and not os.path.islink(local):
        shutil.rmtree(local)
    else:
        os.unlink(local)


def globbed(collection: Collection, path: str) -> list[str]:
    """The collection paths that a delete item with globs stands for; the path itself when it has none."""
    if not glob.has_magic(path):
        return [path]
    return ["/" + found for found in sorted(glob.iglob(normal(path)[1:], root_dir=collection.path))]


def kept_by_filters(rules: list[dict[str, Any]], name: str, kind: str) -> bool:
    """Ordered, the first that matches decides, default: kept. Source: task_submit documentation, "Filter Rules"."""
    for rule in rules:
        if rule.get("type") not in (None, kind):
            continue
        if fnmatch.fnmatchcase(name, rule["name"]):
            return bool(rule.get("method", "exclude") == "include")
    return True
