"""Translate between local and collection paths, by the longest mounted prefix."""

from __future__ import annotations

import os
import posixpath

from globuswrap.collections import names
from globuswrap.collections.address import Address, checked_path
from globuswrap.errors import UsageProblem


def to_collection(local: str) -> Address:
    """The address of a local path: of all mounts that hold it, the longest. UsageProblem if none does."""
    absolute = os.path.abspath(os.path.expanduser(local))
    candidates = [
        (prefix, remote, collection)
        for collection in names.known().values()
        for prefix, remote in collection.mounted.items()
        if _inside(absolute, os.path.normpath(prefix))
    ]
    if not candidates:
        raise UsageProblem(
            "not-mounted",
            f"{absolute}: no configured collection is mounted at this local path",
            "globuswrap collection add NAME UUID --mount /local/dir=/collection/path",
        )
    prefix, remote, collection = max(candidates, key=lambda each: len(os.path.normpath(each[0])))
    below = os.path.relpath(absolute, os.path.normpath(prefix))
    path = remote if below == "." else posixpath.join(remote, below)
    if local.endswith("/") and not path.endswith("/"):
        path += "/"
    return Address(collection.id, checked_path(path), collection.name)


def to_local(address: Address) -> str:
    """The local path of an address, by the longest mounted collection path. UsageProblem if it is mounted nowhere."""
    candidates = [
        (remote, prefix)
        for collection in names.known().values()
        if collection.id == address.collection
        for prefix, remote in collection.mounted.items()
        if _inside(posixpath.normpath(address.path), posixpath.normpath(remote))
    ]
    if not candidates:
        raise UsageProblem(
            "not-mounted",
            f"{address.shown} is not mounted here",
            'add `mounted = { "/local" = "/path" }` to the collection',
        )
    remote, prefix = max(candidates, key=lambda each: len(posixpath.normpath(each[0])))
    below = posixpath.relpath(posixpath.normpath(address.path), posixpath.normpath(remote))
    return os.path.normpath(prefix) if below == "." else os.path.join(prefix, below)


def _inside(path: str, prefix: str) -> bool:
    return path == prefix or path.startswith(prefix.rstrip("/") + "/")
