"""What a command prints: data on stdout, as text or in the versioned JSON envelope; talk and problems on stderr."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from globuswrap.errors import Problem
from globuswrap.system import log

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
        _print(report.text)


def show_problem(problem: Problem) -> None:
    """One line of cause, one of remedy, on stderr; with -v what was run and what came back. In JSON, the envelope too."""
    log.say(f"globuswrap: {problem.cause}  [{problem.name}]", 0)
    if problem.remedy:
        log.say(f"  remedy: {problem.remedy}", 0)
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
_SHOW_DETAIL = {"conflict", "unsendable-names", "collisions", "missing-sources"}


def _envelope(code: int, data: Mapping[str, Any] | None, error: Mapping[str, Any] | None) -> None:
    import json

    document = {
        "schema": SCHEMA,
        "command": state.command,
        "exit_code": code,
        "data": dict(data) if data is not None else None,
        "error": error,
    }
    _print([json.dumps(document, indent=1)])


def _print(lines: Iterable[str]) -> None:
    for line in lines:
        # Names that are not UTF-8 never reach Globus, but may reach a terminal.
        print(line.encode("utf-8", "backslashreplace").decode("utf-8"))
    sys.stdout.flush()


def table(rows: Sequence[Sequence[str]], head: Sequence[str], width: int | None = None) -> list[str]:
    """Rows in columns under a head, the last column shortened to fit the terminal (never when piped)."""
    import shutil

    listed = [list(map(str, head)), *(list(map(str, row)) for row in rows)]
    widths = [max(len(row[column]) for row in listed) for column in range(len(head))]
    limit = width if width is not None else shutil.get_terminal_size().columns if sys.stdout.isatty() else None
    lines = []
    for row in listed:
        line = "  ".join(cell.ljust(widths[column]) for column, cell in enumerate(row)).rstrip()
        lines.append(line if limit is None or len(line) <= limit else line[: limit - 1] + "…")
    return lines
