"""Print results: data on stdout, as text or in the versioned JSON envelope; messages and problems on stderr."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TextIO

from globuswrap.errors import Interrupted, OutputLost, Problem
from globuswrap.system import log
from globuswrap.system.log import printable

SCHEMA = "globuswrap.output/1"


@dataclass(frozen=True)
class Report:
    """What a command has to say: `data` for --json, `text` (lines) for people, and its exit code."""

    data: Mapping[str, Any] = field(default_factory=dict)
    text: Sequence[str] = ()
    exit_code: int = 0


@dataclass
class _State:
    json: bool = False
    command: str = ""


state = _State()


def show(report: Report) -> None:
    """Print a report as asked for."""
    if state.json:
        _envelope(report.exit_code, report.data, None)
    else:
        _print(report.text, report.exit_code)


def show_problem(problem: Problem | Interrupted) -> None:
    """One line of cause, one of remedy, on stderr; with -v what was run and what came back. In JSON, the envelope too."""
    said = f"{printable(problem.cause)}  [{problem.name}]"
    log.say(log.Printable(f"{styled('globuswrap:', 'bad', sys.stderr)} {said}"), 0)
    if problem.remedy:
        log.say(log.Printable(f"  remedy: {styled(printable(problem.remedy), 'strong', sys.stderr)}"), 0)
    listed = problem.detail if problem.name in _SHOW_DETAIL or log.level() >= 2 else ""
    if problem.ran and log.level() >= 2:
        log.say(f"  ran: {log.shell_line(problem.ran)}", 0)
    for line in listed.splitlines():
        log.say(f"  | {line}", 0)
    if state.json:
        error = {
            "name": problem.name,
            "cause": problem.cause,
            "remedy": problem.remedy,
            "ran": [log.masked(word) for word in problem.ran],
            "detail": log.masked(problem.detail),
        }
        _envelope(problem.exit_code, problem.data, error)


#: Problems whose detail is a list that the remedy speaks of.
_SHOW_DETAIL = {"conflict", "unsendable-names", "collisions", "missing-sources", "wrong-paths"}


def _envelope(code: int, data: Mapping[str, Any] | None, error: Mapping[str, Any] | None) -> None:
    import json

    document = {
        "schema": SCHEMA,
        "command": state.command,
        "exit_code": code,
        "data": dict(data) if data is not None else None,
        "error": error,
    }
    _print(json.dumps(document, indent=1).split("\n"), code)


def _print(lines: Iterable[str], code: int) -> None:
    """Each on a line of its own. A terminal gets no control characters; a pipe gets the data as it is."""
    try:
        shown = printable if sys.stdout.isatty() else _encodable
        for line in lines:
            print(shown(line))
        sys.stdout.flush()
    except OutputLost as lost:
        lost.exit_code = code or lost.exit_code
        raise


def _encodable(text: str) -> str:
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def table(rows: Sequence[Sequence[str]], head: Sequence[str], width: int | None = None) -> list[str]:
    """Rows in columns under a head, one line each. On a terminal they fit its width (never cut when piped): the last column
    is shortened first, then the others, widest first; the first, which is what one copies, stays whole."""
    listed = [[printable(str(cell)) for cell in row] for row in (head, *rows)]
    widths = [max(_columns(row[column]) for row in listed) for column in range(len(head))]
    limit = width if width is not None else _terminal()
    if limit is not None:
        _shrink(widths, limit - 2 * (len(widths) - 1))
    return ["  ".join(_padded(cell, width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in listed]


#: What a shortened column keeps, so that it still says something.
_LEAST = 8


def _terminal() -> int | None:
    import shutil

    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


def _shrink(widths: list[int], room: int) -> None:
    last = len(widths) - 1
    for column in [last, *sorted(range(1, last), key=lambda each: -widths[each])]:
        excess = sum(widths) - room
        if excess > 0 and column > 0:
            widths[column] = max(min(_LEAST, widths[column]), widths[column] - excess)


def _padded(cell: str, width: int) -> str:
    shown = fitted(cell, width)
    return shown + " " * (width - _columns(shown))


def fitted(text: str, width: int) -> str:
    """The text, cut to so many columns of a terminal."""
    if _columns(text) <= width:
        return text
    kept, used = [], 0
    for letter in text:
        used += _columns(letter)
        if used > width - 1:
            break
        kept.append(letter)
    return "".join(kept) + "…"


def _columns(text: str) -> int:
    """How many columns of a terminal a text takes: wide letters take two, combining ones none."""
    if text.isascii():
        return len(text)
    import unicodedata

    return sum(
        0 if unicodedata.combining(each) else 2 if unicodedata.east_asian_width(each) in "WF" else 1 for each in text
    )


_STYLES = {"bad": "31;1", "warning": "33", "good": "32", "strong": "1", "faint": "2"}


def styled(text: str, style: str, stream: TextIO | None = None) -> str:
    """The text in a style, on a terminal that has colours; NO_COLOR (no-color.org) and TERM=dumb turn them off."""
    import os

    to = sys.stdout if stream is None else stream
    plain = not to.isatty() or os.environ.get("NO_COLOR") or os.environ.get("TERM", "dumb") == "dumb"
    return text if plain else f"\x1b[{_STYLES[style]}m{text}\x1b[0m"
