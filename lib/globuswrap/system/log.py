"""Talk: everything a person reads while globuswrap works goes to stderr through here, with secrets masked and control
characters escaped: file names and messages of servers are written by others, and a terminal does what they say.

Levels: 0 quiet (only problems), 1 normal, 2 `-v` (what is decided, and the commands as they ran), 3 `-vv` (their output).
"""

from __future__ import annotations

import os
import re
import shlex
import sys
from collections.abc import Callable

from globuswrap.errors import Problem

_level = 1
#: What is being done, as the code says it, and the program that runs; the command line may show it (cli/progress.py).
_doing = ""
_running = ""
_hide: Callable[[], None] | None = None

#: Names whose values are never shown, whatever prints them.
_SECRET = re.compile(
    r"(?i)((?:[\w-]*(?:secret|token|password)|authorization)[\"']?\s*[=:]\s*[\"']?)(?:bearer\s+)?[^\s\"',}]+"
)


class Printable(str):
    """Text that may hold terminal styles of ours: what came from outside is escaped in it already."""

    __slots__ = ()


def printable(text: str) -> str:
    """The text on one line, with all that is not printable as escapes: control characters (C1 too), line separators,
    characters that change the direction of writing, bytes that are not UTF-8."""
    if isinstance(text, Printable) or text.isprintable():
        return text
    return "".join(
        each if each.isprintable() else each.encode("unicode_escape", "surrogatepass").decode("ascii") for each in text
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
    """A message, of one line or more, to stderr when the level is at least `at`."""
    if _level >= at:
        suspend()
        shown = text if isinstance(text, Printable) else "\n".join(map(printable, text.split("\n")))
        sys.stderr.write(masked(shown) + "\n")  # in one piece: threads may talk too
        sys.stderr.flush()


def say_problem(problem: Problem, about: str = "") -> None:
    """One problem of several, of the task or chain that it is `about`; whoever says it goes on."""
    where = f"{printable(about)}: " if about else ""
    say(f"{where}{printable(problem.cause)}  [{problem.name}]", 0)
    if problem.remedy:
        say(f"  remedy: {printable(problem.remedy)}", 0)


def set_activity(text: str) -> None:
    """Say what is being done, as often as one likes: it is shown on a terminal alone, when it takes long, and goes again."""
    global _doing
    _doing = text


def activity() -> str:
    """What is being done; else the program that runs, without what it works on; else nothing."""
    return masked(_doing) or _running


def suspend() -> None:
    """What shows what is being done is to leave the terminal to others for now."""
    if _hide is not None:
        _hide()


def on_suspend(hide: Callable[[], None] | None) -> None:
    global _hide
    _hide = hide


def command(argv: tuple[str, ...]) -> None:
    global _running
    words = [os.path.basename(argv[0]), *argv[1:3]]
    _running = " ".join(words[: next((at for at, word in enumerate(words) if word[:1] in ("-", "/")), 3)])
    if _level >= 2:
        say(f"+ {shell_line(argv)}", 2)


def command_ended(argv: tuple[str, ...], code: int, seconds: float, stderr: str) -> None:
    global _running
    _running = ""
    if _level >= 3 or (_level >= 2 and code != 0):
        say(f"  = exit {code} after {seconds:.2f} s", 2)
        for line in stderr.rstrip().splitlines():
            say(f"  | {line}", 3)
