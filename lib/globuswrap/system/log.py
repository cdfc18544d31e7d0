"""Talk: everything a person reads while globuswrap works goes to stderr through here, with secrets masked.

Levels: 0 quiet (only problems), 1 normal, 2 `-v` (what is decided, and the commands as they ran), 3 `-vv` (their output).
"""

from __future__ import annotations

import re
import shlex
import sys

_level = 1

#: Names whose values are never shown, whatever prints them.
_SECRET = re.compile(
    r"(?i)((?:[\w-]*(?:secret|token|password)|authorization)[\"']?\s*[=:]\s*[\"']?)(?:bearer\s+)?[^\s\"',}]+"
)


def set_level(level: int) -> None:
    global _level
    _level = level


def level() -> int:
    return _level


def masked(text: str) -> str:
    """The text with the values of secret-looking names replaced by ***."""
    return _SECRET.sub(r"\1***", text)


def shell_line(argv: tuple[str, ...]) -> str:
    """A command as it can be pasted into a shell, secrets masked."""
    return masked(shlex.join(argv))


def say(text: str, at: int = 1) -> None:
    """One line to stderr when the level is at least `at`."""
    if _level >= at:
        print(masked(_printable(text)), file=sys.stderr, flush=True)


def command(argv: tuple[str, ...]) -> None:
    if _level >= 2:
        say(f"+ {shell_line(argv)}", 2)


def command_ended(argv: tuple[str, ...], code: int, seconds: float, stderr: str) -> None:
    if _level >= 3 or (_level >= 2 and code != 0):
        say(f"  = exit {code} after {seconds:.2f} s", 2)
        for line in stderr.rstrip().splitlines():
            say(f"  | {line}", 3)


def _printable(text: str) -> str:
    return text.encode("utf-8", "backslashreplace").decode("utf-8")
