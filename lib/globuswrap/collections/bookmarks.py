"""The user's Globus bookmarks as addresses: `bookmark:NAME/path`."""

from __future__ import annotations

import difflib
import posixpath
from collections.abc import Sequence
from functools import cache

from globuswrap.collections import names
from globuswrap.collections.address import Address, checked_path
from globuswrap.errors import UsageProblem
from globuswrap.globus import verbs


def address(text: str) -> Address:
    """The address that `NAME`, or `NAME/path` below it, stands for; of several names that fit, the longest counts.

    Raises UsageProblem for a name that is no bookmark.
    """
    found = [(name, place) for name, place in known() if text == name or text.startswith(f"{name}/")]
    if not found:
        name = text.partition("/")[0]
        near = difflib.get_close_matches(name, [each for each, _ in known()], 1)
        remedy = f"did you mean bookmark:{near[0]}?" if near else "see: globuswrap collection bookmarks"
        raise UsageProblem("unknown-bookmark", f"you have no bookmark named {name!r}", remedy)
    name, place = max(found, key=lambda each: len(each[0]))
    path = checked_path(posixpath.join(place.path, text[len(name) :].lstrip("/")))
    return Address(place.collection, path, names.name_of(place.collection) or "")


@cache  # one listing in a process: a command has few addresses, and they are to mean the same
def known() -> Sequence[tuple[str, Address]]:
    """Each bookmark's name, and where it is."""
    return [
        (str(row.get("name")), Address(str(row.get("endpoint_id")).lower(), str(row.get("path") or "/")))
        for row in verbs.bookmarks()
    ]
