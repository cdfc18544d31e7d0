"""Addresses: `NAME_OR_UUID:/path`, or a local path where a mount is known."""

from __future__ import annotations

import posixpath
import re
import uuid
from dataclasses import dataclass

from globuswrap.collections import mounts, names
from globuswrap.errors import UsageProblem

_UUID = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
#: A name: what cannot be mistaken for a path, an option or part of an address.
NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.@-]*")


@dataclass(frozen=True)
class Address:
    """A path on a collection. `collection` is a lower-case UUID; `path` is absolute, or relative to the default directory
    (`~/...` or no leading slash); `name` is what the user called the collection."""

    collection: str
    path: str
    name: str = ""

    def __str__(self) -> str:
        return f"{self.collection}:{self.path}"

    @property
    def shown(self) -> str:
        return f"{self.name or self.collection}:{self.path}"

    def joined(self, *parts: str) -> Address:
        """The address of something below this one."""
        return Address(self.collection, posixpath.join(self.path, *parts), self.name)


def parse(text: str) -> Address:
    """The address a user wrote.

    Raises UsageProblem (2): unknown name, malformed UUID, no path, a local path that no mount covers, bytes that are not
    UTF-8, `..` or NUL in the path.
    """
    if text.startswith(("/", "./", "../", "~/")) or text in (".", ".."):
        return mounts.to_collection(text)
    head, colon, path = text.partition(":")
    if not colon:
        raise UsageProblem(
            "bad-address", f"{text!r} is not an address", "write NAME:/path or UUID:/path (names: globuswrap collection list)"
        )
    known = collection_id(head)
    if not path:
        raise UsageProblem("bad-address", f"{text!r} has no path", f"write {head}:/ for the top directory")
    return Address(known, checked_path(path), head if head != known else names.name_of(known) or "")


def collection_id(text: str) -> str:
    """The UUID of a collection given by UUID or by name; UsageProblem if it is neither."""
    if _UUID.fullmatch(text):
        return str(uuid.UUID(text))
    known = names.lookup(text)
    if known is not None:
        return known.id
    if re.fullmatch(r"[0-9a-fA-F-]{20,}", text):
        raise UsageProblem(
            "bad-uuid", f"{text!r} looks like a UUID and is none", "a UUID has 8-4-4-4-12 hexadecimal digits: check for a lost one"
        )
    raise UsageProblem("unknown-collection", f"no collection is called {text!r}", names.remedy_for(text))


def checked_path(path: str) -> str:
    """The path as it is, if Globus can take it: UTF-8, no NUL, no `..` (which the CLI resolves before sending)."""
    try:
        path.encode("utf-8")
    except UnicodeEncodeError:
        raise UsageProblem(
            "not-utf-8", f"{path!r} is not UTF-8; Globus cannot name it", "rename the file, or leave it out"
        ) from None
    if "\0" in path:
        raise UsageProblem("bad-path", f"{path!r} holds a NUL", "no path can; check how it was made")
    if ".." in path.split("/"):
        raise UsageProblem("bad-path", f"{path!r} goes up with '..'", "write the path without '..'")
    return path


def normalised(path: str) -> str:
    """One spelling of a path, for keys and comparisons: no `//`, `/./` or trailing slash."""
    clean = posixpath.normpath(path)
    return "/" + clean.lstrip("/") if path.startswith("/") else clean
