"""From what a user wrote to a collection or an address: `NAME_OR_UUID:/path`, or a local path where a mount is known."""

from __future__ import annotations

import posixpath
import re
import uuid
from collections.abc import Sequence
from functools import cache

from globuswrap.collections import mounts, names
from globuswrap.collections.address import Address, checked_path
from globuswrap.errors import UsageProblem, did_you_mean

#: In place of a collection: what follows begins with the name of one of the user's Globus bookmarks.
BOOKMARK = "bookmark"


def address(text: str) -> Address:
    """The address a user wrote; `bookmark:NAME/path` begins at a bookmark.

    Raises UsageProblem (2): unknown name, malformed UUID, no path, a local path that no mount covers, bytes that are not
    UTF-8, `..` or NUL in the path.
    """
    if text.startswith(("/", "./", "../", "~/")) or text in (".", ".."):
        return mounts.to_collection(text)
    head, colon, path = text.partition(":")
    if not colon:
        raise UsageProblem(
            "bad-address",
            f"{text!r} is not an address",
            "write NAME:/path or UUID:/path (names: globuswrap collection list)",
        )
    if head == BOOKMARK and names.lookup(head) is None:
        return _of_bookmark(path)
    known = collection(head)
    if not path:
        raise UsageProblem("bad-address", f"{text!r} has no path", f"write {head}:/ for the top directory")
    return Address(known, checked_path(path), head if head != known else names.name_of(known) or "")


def collection(text: str) -> str:
    """The UUID of a collection given by UUID or by name; UsageProblem if it is neither."""
    if names.UUID.fullmatch(text):
        return str(uuid.UUID(text))
    known = names.lookup(text)
    if known is not None:
        return known.id
    if re.fullmatch(r"[0-9a-fA-F-]{20,}", text):
        raise UsageProblem(
            "bad-uuid",
            f"{text!r} looks like a UUID but is not one",
            "a UUID has 8-4-4-4-12 hexadecimal digits: check whether one is missing",
        )
    raise UsageProblem("unknown-collection", f"no collection is named {text!r}", names.remedy_for(text))


def _of_bookmark(text: str) -> Address:
    """The address that `NAME`, or `NAME/path` below it, stands for; of several names that fit, the longest counts.

    Raises UsageProblem for a name that is no bookmark.
    """
    found = [(name, place) for name, place in _bookmarks() if text == name or text.startswith(f"{name}/")]
    if not found:
        name = text.partition("/")[0]
        known = (each for each, _ in _bookmarks())
        remedy = did_you_mean(name, known, "see: globuswrap collection bookmarks", f"{BOOKMARK}:")
        raise UsageProblem("unknown-bookmark", f"you have no bookmark named {name!r}", remedy)
    name, place = max(found, key=lambda each: len(each[0]))
    path = checked_path(posixpath.join(place.path, text[len(name) :].lstrip("/")))
    return Address(place.collection, path, names.name_of(place.collection) or "")


@cache  # one listing in a process: a command has few addresses, and they are to mean the same
def _bookmarks() -> Sequence[tuple[str, Address]]:
    """Each bookmark's name, and where it is."""
    from globuswrap.globus import verbs  # here: --help is to import nothing that asks Globus

    return [
        (str(row.get("name")), Address(str(row.get("endpoint_id")).lower(), str(row.get("path") or "/")))
        for row in verbs.bookmarks()
    ]
