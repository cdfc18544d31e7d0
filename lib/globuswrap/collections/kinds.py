"""Ask Globus whether a path is missing, a file or a directory; local mounts do not decide."""

from __future__ import annotations

import posixpath
from collections.abc import Iterable

from globuswrap.collections.address import Address, normalised
from globuswrap.errors import Problem
from globuswrap.globus import verbs
from globuswrap.system.together import map_concurrently

#: A listing has no more entries (Transfer documentation, "Limits").
_LISTING = 100_000
#: From so many paths in one directory on, listing it is less work than asking for each.
_SEVERAL = 3


class Kinds:
    """What is at each of several paths, asked at once, side by side; of several in one directory, by one listing of it."""

    def __init__(self, addresses: Iterable[Address]) -> None:
        self._found: dict[tuple[str, str], str | Problem | None] = {}
        together: dict[Address, list[Address]] = {}
        for address in dict.fromkeys(addresses):
            # Which directory a relative path is in, only the collection knows.
            place = parent_of(address) if address.path.startswith("/") else address
            together.setdefault(place, []).append(address)
        several = [group for group in together.values() if len(group) >= _SEVERAL]
        single = [[each] for group in together.values() if len(group) < _SEVERAL for each in group]
        map_concurrently(self._ask, several + single)

    def of(self, address: Address) -> str | None:
        """`file`, `dir` and so on, or None if there is nothing. Another path than those is asked for now. Raises what was met."""
        if _key(address) not in self._found:
            self._ask([address])
        found = self._found[_key(address)]
        if isinstance(found, Problem):
            raise found
        return found

    def _ask(self, addresses: list[Address]) -> None:
        """Of several, which are in one directory, first for what is in that."""
        try:
            if len(addresses) >= _SEVERAL:
                self._list(parent_of(addresses[0]), addresses)
            for each in addresses:
                if _key(each) not in self._found:
                    self._found[_key(each)] = verbs.kind(str(each), 0.0)
        except Problem as problem:
            for each in addresses:
                self._found.setdefault(_key(each), problem)

    def _list(self, above: Address, addresses: list[Address]) -> None:
        try:
            rows = verbs.ls(str(above), 0.0) or [] if self.of(above) == "dir" else []
        except Problem:
            return  # each path by itself then
        for row in rows:
            self._found[_key(above.joined(str(row.get("name"))))] = str(row.get("type"))
        if len(rows) < _LISTING:
            for each in addresses:
                self._found.setdefault(_key(each), None)


def _key(address: Address) -> tuple[str, str]:
    return address.collection, normalised(address.path)


def parent_of(address: Address) -> Address:
    path = address.path.rstrip("/")
    return Address(address.collection, posixpath.join(posixpath.dirname(path), "") or "/", address.name)
