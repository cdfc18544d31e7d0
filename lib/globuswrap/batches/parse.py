"""Parse lists of paths, bytes in one of four formats, into rows of text. Names that Globus cannot handle are kept apart.

    paths   one path a line, the same on both sides: nothing is special in it, neither quote, blank, `#` nor leading `-`
    tab     two columns, source and destination, with one tab between them
    shell   two columns quoted as for a shell, with --recursive, --no-recursive, --external-checksum and
            --checksum-algorithm: what `globus transfer --batch` takes
    json    a line is a string (the same on both sides), or an object of `source`, `destination`, `recursive`,
            `external_checksum`, `checksum_algorithm`

Lines end in a newline, records of `null` lists in a NUL: then a name can hold a newline.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Container, Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from typing import IO, Any

from globuswrap.errors import UsageProblem
from globuswrap.system import records
from globuswrap.transfers.request import Item

FORMATS = ("paths", "tab", "shell", "json")
_BLOCK = 1 << 20
_SHOWN = 10_000


@dataclass(frozen=True)
class Rows:
    """Some items: source paths, destination paths (None: the same), and for each the rest of its JSON document, begun
    with a comma (None: nothing for any)."""

    sources: list[str]
    destinations: list[str] | None = None
    extras: list[str] | None = None

    @property
    def arriving(self) -> list[str]:
        """The destination paths."""
        return self.sources if self.destinations is None else self.destinations

    def without(self, left_out: Container[int]) -> Rows:
        """All but the items with these numbers."""

        def rest(column: list[str]) -> list[str]:
            return [each for at, each in enumerate(column) if at not in left_out]

        return Rows(
            rest(self.sources),
            None if self.destinations is None else rest(self.destinations),
            None if self.extras is None else rest(self.extras),
        )


NOT_UTF8 = "not UTF-8"
#: Transfer API, file operations: CR LF ends the commands that carry a path; `/~/` is the home directory.
CR_LF = "with CR LF in it"
HOME = "read as the home directory"


@dataclass
class Unsendable:
    """Names that Globus cannot take; none is altered. Counted by the reason, and the first of them kept."""

    count: int = 0
    reasons: dict[str, int] = field(default_factory=dict)
    names: list[str] = field(default_factory=list)

    def add(self, name: bytes | str, reason: str = NOT_UTF8) -> None:
        self.count += 1
        self.reasons[reason] = self.reasons.get(reason, 0) + 1
        if len(self.names) < _SHOWN:
            self.names.append(shown(name))

    def told(self) -> str:
        names = "1 name" if self.count == 1 else f"{self.count} names"
        return f"{names} that Globus cannot handle: " + ", ".join(
            f"{count} {reason}" for reason, count in self.reasons.items()
        )

    def problem(self) -> UsageProblem:
        more = self.count - len(self.names)
        return UsageProblem(
            "unsendable-names",
            f"{self.told()}; nothing was submitted",
            "rename them, or skip them: --skip-unsendable",
            detail="\n".join([*self.names, *([f"and {more} more"] if more else [])]),
        )


def shown(name: bytes | str) -> str:
    """A name as bash takes it: as it is when nothing in it is special to a terminal, else `$'...'`."""
    text = name.decode("utf-8", "surrogateescape") if isinstance(name, bytes) else name
    if text.isprintable():
        return text
    escaped = []
    for character in text:
        if character in "\\'":
            escaped.append("\\" + character)
        elif character.isprintable():
            escaped.append(character)
        else:
            escaped.extend(f"\\x{byte:02x}" for byte in character.encode("utf-8", "surrogateescape"))
    return "$'" + "".join(escaped) + "'"


def some_of(lines: Iterable[str], most: int) -> tuple[int, str]:
    """How many lines there are, and the first of them as the detail of a message."""
    rest = iter(lines)
    first = list(islice(rest, most))
    more = sum(1 for _ in rest)
    return len(first) + more, "\n".join([*first, *([f"and {more} more"] if more else [])])


def read(file: IO[bytes], format: str, null: bool, unsendable: Unsendable) -> Iterator[Rows]:
    """The rows of a list, block by block; always the same blocks for the same list. UsageProblem names the line."""
    if format not in FORMATS:
        raise UsageProblem("bad-option", f"--format {format} is not valid", f"one of: {', '.join(FORMATS)}")
    if null and format in ("shell", "json"):
        raise UsageProblem("bad-option", f"--null cannot be combined with --format {format}", "remove --null")
    rows = _READERS[format]
    number = 1
    for read_records in _records(file, b"\0" if null else b"\n"):
        texts = _decoded(read_records, unsendable)
        found = rows(texts, number)
        if found.sources:
            yield found
        number += len(read_records)


def rows_of(items: Iterable[str | tuple[str, str] | Item]) -> Iterator[Rows]:
    """The rows of items made in Python: a path (the same on both sides), a pair, or an Item."""
    rest = iter(items)
    while block := list(islice(rest, 10_000)):
        yield _of_items(
            [each if isinstance(each, Item) else Item(each) if isinstance(each, str) else Item(*each) for each in block]
        )


def _of_items(items: list[Item]) -> Rows:
    extras = [_extra(each) for each in items]
    return Rows(
        [each.source for each in items],
        [each.source if each.destination is None else each.destination for each in items],
        extras if any(extras) else None,
    )


def _extra(item: Item) -> str:
    said = {name: value for name in _SAID if (value := getattr(item, name)) is not None}
    return ", " + json.dumps(said)[1:-1] if said else ""


def _records(file: IO[bytes], end: bytes) -> Iterator[list[bytes]]:
    """Whole records, in blocks of about 1 MiB. Empty records are kept: they count as lines."""
    rest = b""
    while block := file.read(_BLOCK):
        *records, rest = (rest + block).split(end)
        if records:
            yield records
    if rest:
        yield [rest]


def _decoded(records: list[bytes], unsendable: Unsendable) -> list[str | None]:
    """The records as text; None for those that are not UTF-8."""
    try:
        joined = b"\0".join(records).decode("utf-8")
        if joined.count("\0") == len(records) - 1:
            return [*joined.split("\0")]
    except UnicodeDecodeError:
        pass
    texts: list[str | None] = []
    for record in records:
        try:
            texts.append(record.decode("utf-8"))
        except UnicodeDecodeError:
            unsendable.add(record)
            texts.append(None)
    return texts


def _paths(texts: list[str | None], number: int) -> Rows:
    return Rows([text for text in texts if text])


def _tab(texts: list[str | None], number: int) -> Rows:
    pairs = [text.split("\t") for text in texts if text]
    if any(len(pair) != 2 or not all(pair) for pair in pairs):
        at = next(at for at, text in enumerate(texts) if text and (text.count("\t") != 1 or not all(text.split("\t"))))
        raise _bad_line(
            number + at, "not two columns with one tab between them", "use --format json for names with tabs"
        )
    return Rows([pair[0] for pair in pairs], [pair[1] for pair in pairs])


def _lines(parsed: Callable[[str, int], Item | None], texts: list[str | None], number: int) -> Rows:
    found = (parsed(text, number + at) for at, text in enumerate(texts) if text)
    return _of_items([item for item in found if item is not None])


#: The fields of an Item, and those of them that are not its paths.
_FIELDS: dict[str, type] = {
    "source": str,
    "destination": str,
    "recursive": bool,
    "external_checksum": str,
    "checksum_algorithm": str,
}
_SAID = ("recursive", "external_checksum", "checksum_algorithm")


def _json_line(text: str, number: int) -> Item | None:
    if not text.strip():
        return None
    try:
        found = records.parsed(text)
    except ValueError as error:
        raise _bad_line(number, f"not JSON: {error}", "write one string or object on each line") from None
    if isinstance(found, str):
        found = {"source": found}
    if not isinstance(found, dict) or not found.get("source"):
        raise _bad_line(number, "no source", 'write {"source": "PATH", "destination": "PATH"}')
    for name, value in found.items():
        if name not in _FIELDS:
            raise _bad_line(number, f"unknown field {name!r}", f"known: {', '.join(_FIELDS)}")
        if not isinstance(value, _FIELDS[name]) or value == "":
            raise _bad_line(number, f"{name} is {value!r}", f"write a {_FIELDS[name].__name__}, or remove {name}")
    return Item(**found)


def _shell_line(text: str, number: int) -> Item | None:
    import shlex

    try:
        words = shlex.split(text, comments=True)
    except ValueError as error:
        raise _bad_line(number, f"{error}", "quote as for a shell, or use --format paths, tab or json") from None
    if not words:
        return None
    paths: list[str] = []
    options: dict[str, Any] = {}
    rest = iter(words)
    for word in rest:
        name, equals, value = word.partition("=")
        if word == "--":
            paths.extend(rest)
        elif word in ("--recursive", "-r"):
            options["recursive"] = True
        elif word == "--no-recursive":
            options["recursive"] = False
        elif name in ("--external-checksum", "--checksum-algorithm"):
            options[name[2:].replace("-", "_")] = value if equals else next(rest, None)
        elif word.startswith("-") and word != "-":
            raise _bad_line(number, f"unknown option {word}", "put -- before a path that begins with -")
        else:
            paths.append(word)
    if len(paths) != 2 or not all(paths) or None in options.values():
        raise _bad_line(number, "not a source and a destination", "write SOURCE DESTINATION, quoted as for a shell")
    return Item(paths[0], paths[1], **options)


def _bad_line(number: int, cause: str, remedy: str) -> UsageProblem:
    return UsageProblem("bad-line", f"line {number}: {cause}; nothing was submitted", remedy)


_READERS: dict[str, Callable[[list[str | None], int], Rows]] = {
    "paths": _paths,
    "tab": _tab,
    "shell": partial(_lines, _shell_line),
    "json": partial(_lines, _json_line),
}
