"""Expand a source pattern (`*`, `?`, `[...]`) as a shell would, by listing directories at Globus.

A path that exists as it is written is no pattern, so that any name can be given as it is. Each match keeps, at the destination,
its path from the first part that is a pattern: no two matches meet there.
"""

from __future__ import annotations

import fnmatch
import posixpath
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from globuswrap.batches import listing
from globuswrap.batches.parse import Rows, Unsendable, shown
from globuswrap.collections import resolve
from globuswrap.collections.address import Address
from globuswrap.errors import UsageProblem
from globuswrap.globus import verbs
from globuswrap.system import log
from globuswrap.system.together import map_concurrently
from globuswrap.transfers import request as requests
from globuswrap.transfers.request import Item, Request

_ESCAPED = re.compile(r"\\([*?\[])")
_SPECIAL = re.compile(r"[*?]|\[.+\]")


@dataclass(frozen=True)
class Match:
    """What a pattern found: its path below the base, and whether it is a directory."""

    path: str
    directory: bool


@dataclass(frozen=True)
class Pattern:
    """`base` is the directory above the first part that is a pattern; `parts` are that part and those below it. Of a pattern that
    ends in a slash, the last part is empty, and only directories match."""

    base: Address
    parts: tuple[str, ...]

    @property
    def shown(self) -> str:
        return self.base.joined(*self.parts).shown


@dataclass(frozen=True)
class Patterns:
    """What to send of several sources: what the pattern of each finds."""

    each: tuple[Pattern, ...]

    @property
    def sources(self) -> list[str]:
        return [str(pattern.base) for pattern in self.each]


def read(text: str) -> Address | Pattern:
    r"""The source that a user wrote: an address, in which `\*`, `\?` and `\[` stand for these characters, or a pattern."""
    address = resolve.address(text)
    parts = address.path.split("/")
    if not any(_is_pattern(part) or _ESCAPED.search(part) for part in parts):
        return address
    if verbs.stat(str(address)) is not None:
        log.say(f"{shown(address.shown)} exists under exactly this name, so it is not treated as a pattern.")
        return address
    first = next((at for at, part in enumerate(parts) if _is_pattern(part)), None)
    if first is None:
        return replace(address, path=_literal(address.path))
    if "**" in parts:
        raise UsageProblem(
            "bad-pattern",
            f"{address.shown}: ** is not supported",
            "list a tree: globuswrap batch SRC_BASE DST_BASE --depth 5 --filter \"ends_with(name, '.h5')\"",
        )
    above = "/".join([*map(_literal, parts[:first]), ""]) or "~/"
    return Pattern(replace(address, path=above), tuple(parts[first:]))


def matches(pattern: Pattern) -> list[Match]:
    """What is there that the pattern matches, in order. UsageProblem if that is nothing, or if a name cannot be sent."""
    found = [Match("", True)]
    for at, part in enumerate(pattern.parts):
        last = at == len(pattern.parts) - 1
        below = [each for each in found if each.directory]
        expanded = map_concurrently(partial(_below, pattern, part, last), below)
        found = [match for some in expanded for match in some]
    if not found:
        raise UsageProblem(
            "no-match",
            f"nothing on the collection matches {shown(pattern.shown)}; nothing was submitted",
            f"list the directory: globus ls '{pattern.base}'; a literal * is written \\*",
        )
    unsendable = Unsendable()
    listing.sendable((match.path for match in found), unsendable)
    if unsendable.count:
        raise unsendable.problem()
    return found


def request(pattern: Pattern, into: Address, recursive: bool | None, **rest: Any) -> Request:
    """One transfer of what a pattern matches. `recursive` False refuses directories. `rest`: options, label, notify, deadline."""
    found = matches(pattern)
    directory = next((match.path for match in found if match.directory), None)
    if recursive is False and directory is not None:
        where = pattern.base.joined(directory).shown
        raise UsageProblem(
            "is-a-directory", f"{shown(where)} is a directory", "use --recursive instead of --no-recursive"
        )
    items = (
        Item(posixpath.join(pattern.base.path, each.path), posixpath.join(into.path, each.path), each.directory)
        for each in found
    )
    return requests.checked(Request(pattern.base.collection, into.collection, tuple(items), **rest))


def rows(pattern: Pattern) -> Rows:
    """The matches as the items of a batch."""
    return Rows([match.path for match in matches(pattern)])


def read_all(texts: Sequence[str]) -> Patterns | list[str]:
    """The patterns that these sources are, or the sources as addresses. UsageProblem for some of each."""
    found = [read(text) for text in texts]
    patterns = tuple(each for each in found if isinstance(each, Pattern))
    if patterns and len(patterns) < len(found):
        raise UsageProblem("bad-pattern", "some sources are patterns and some are not", "run the batch once for each")
    if patterns:
        return Patterns(patterns)
    return [text if resolve.address(text) == each else str(each) for text, each in zip(texts, found, strict=True)]


def _below(pattern: Pattern, part: str, last: bool, above: Match) -> list[Match]:
    """What one part of a pattern matches in one directory."""
    if not part:  # a trailing slash
        return [above]
    if not _is_pattern(part):
        path = posixpath.join(above.path, _literal(part))
        there = verbs.stat(str(pattern.base.joined(path))) if last else {"type": "dir"}  # the next part finds out
        return [] if there is None else [Match(path, there["type"] == "dir")]
    directory = pattern.base.joined(above.path, "")
    entries = verbs.ls(str(directory)) or ()
    if len(entries) >= listing.LS_LIMIT:
        raise listing.cut_off(directory)
    named = re.compile(
        fnmatch.translate(_ESCAPED.sub(r"[\1]", part))
    )  # fnmatch knows no escapes, but a set of one character
    hidden = part.startswith(".")
    chosen = sorted(
        (str(row["name"]), row["type"] == "dir")
        for row in entries
        if row.get("type") in ("dir", "file")
        and named.fullmatch(str(row["name"]))
        and (hidden or not str(row["name"]).startswith("."))
    )
    return [Match(posixpath.join(above.path, name), is_directory) for name, is_directory in chosen]


def _is_pattern(part: str) -> bool:
    return _SPECIAL.search(_ESCAPED.sub("", part)) is not None


def _literal(part: str) -> str:
    return _ESCAPED.sub(r"\1", part)
