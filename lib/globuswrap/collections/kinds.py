"""Ask Globus whether a path is missing, a file or a directory; local mounts do not decide."""

from __future__ import annotations

import posixpath
from collections.abc import Iterable

from globuswrap.collections.address import Address, normalised
from globuswrap.errors import Problem
from globuswrap.globus import verbs
from globuswrap.system.together import map_concurrently


class Kinds:
    """What is at a path, asked once each; of several paths in one directory, by one listing of it."""

    def __init__(self, addresses: Iterable[Address]) -> None:
        self._known: dict[tuple[str, str], str | None] = {}
        self._refused: dict[tuple[str, str], Problem] = {}
        self._wanted: dict[tuple[str, str], int] = {}
        self._whole: set[tuple[str, str]] = set()
        self._ahead = list(dict.fromkeys(addresses))
        for address in self._ahead:
            above = parent_of(address)
            if not address.path.startswith("/"):
                continue  # relative to a directory that only the collection knows
            self._wanted[above.collection, above.path] = self._wanted.get((above.collection, above.path), 0) + 1

    def ask_ahead(self) -> None:
        """Ask for all of them now, several at a time; `of` then answers, or raises what it met."""
        together: dict[tuple[str, str], list[Address]] = {}
        for address in self._ahead:
            above = parent_of(address)
            several = self._wanted.get((above.collection, above.path), 0) >= _SEVERAL
            key = (above.collection, above.path) if several else (address.collection, address.path)
            together.setdefault(key, []).append(address)

        def ask(addresses: list[Address]) -> None:
            for address in addresses:
                try:
                    self.of(address)
                except Problem as problem:
                    self._refused[address.collection, address.path] = problem

        map_concurrently(ask, together.values())

    def of(self, address: Address) -> str | None:
        """`file`, `dir` and so on, or None if there is nothing."""
        if (address.collection, address.path) in self._refused:
            raise self._refused[address.collection, address.path]
        key = (address.collection, normalised(address.path))
        if key not in self._known:
            above = parent_of(address)
            if self._wanted.get((above.collection, above.path), 0) >= _SEVERAL and key[1] != "/":
                self._list(above)
            if key not in self._known:
                whole = (above.collection, above.path) in self._whole
                self._known[key] = None if whole else verbs.kind(str(address), 0.0)
        return self._known[key]

    def _list(self, above: Address) -> None:
        place = (above.collection, above.path)
        self._wanted[place] = 0
        if self.of(above) != "dir":
            self._whole.add(place)  # with nothing in it
            return
        try:
            rows = verbs.ls(str(above), 0.0)
        except Problem:
            return  # each path by itself then
        if len(rows or []) < _LISTING:
            self._whole.add(place)
        for row in rows or []:
            path = normalised(posixpath.join(above.path, str(row.get("name"))))
            self._known[above.collection, path] = str(row.get("type"))


#: A listing has no more entries (Transfer documentation, "Limits").
_LISTING = 100_000
#: From so many paths in one directory on, listing it is less work than asking for each.
_SEVERAL = 3


def parent_of(address: Address) -> Address:
    path = address.path.rstrip("/")
    return Address(address.collection, posixpath.join(posixpath.dirname(path), "") or "/", address.name)
