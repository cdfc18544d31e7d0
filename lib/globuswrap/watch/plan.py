"""What to watch for, and the command to run then: words with `{path} {name} {stem} {dir} {time} {key}` in them. No shell is
involved."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from functools import cached_property

from globuswrap.errors import UsageProblem
from globuswrap.system import machine
from globuswrap.watch import scanner
from globuswrap.watch.scanner import Wanted

#: What an option of these names may say.
CHOICES = {"lost": ("again", "aside"), "observe": ("auto", "events", "poll")}

FIELDS = ("path", "name", "stem", "dir", "time", "key")
_FIELD = re.compile(r"\{(\w+)\}")


@dataclass(frozen=True)
class Plan:
    """As the options say it; durations are seconds. UsageProblem if they contradict each other."""

    directory: str
    command: tuple[str, ...]
    patterns: tuple[str, ...] = ()
    markers: tuple[str, ...] = ()
    ignored: tuple[str, ...] = ()
    recursive: bool = True
    settle: float | None = None
    once_per_path: bool = False
    in_flight: int = 4
    attempts: int = 5
    retry_after: float = 30.0
    every: float = 10.0
    rescan: float = 300.0
    lost: str = "again"
    observe: str = "auto"

    def __post_init__(self) -> None:
        for name, known in CHOICES.items():
            value = getattr(self, name)
            if value not in known:
                raise UsageProblem("bad-option", f"--{name} {value} is not valid", f"one of: {', '.join(known)}")
        if self.markers and self.settle is not None:
            raise UsageProblem(
                "bad-option",
                "--marker cannot be combined with --settle: a marker triggers at once",
                "use --pattern with --settle",
            )
        if self.markers and self.patterns:
            raise UsageProblem(
                "bad-option", "--marker cannot be combined with --pattern", "run two watchers, each with its own --name"
            )
        if not all((*self.markers, *self.patterns)):
            raise UsageProblem(
                "empty-pattern", "an empty pattern matches nothing", "write --pattern '*.h5', or leave it out"
            )
        if not self.command or not self.command[0]:
            raise UsageProblem(
                "no-command", "no command is given", "put it after --: globuswrap watch DIR -- COMMAND {path}"
            )
        # Other braces (JSON, say) are left alone.
        strange = next((each for each in _FIELD.findall(" ".join(self.command)) if each not in FIELDS), None)
        if strange is not None:
            fields = " ".join(f"{{{field}}}" for field in FIELDS)
            raise UsageProblem(
                "unknown-field", f"{{{strange}}} in the command is not a known field", f"use one of: {fields}"
            )

    @cached_property
    def wanted(self) -> Wanted:
        """Which files count."""
        return Wanted(self.directory, self.markers or self.patterns or ("*",), self.ignored, self.recursive)

    @property
    def quiet(self) -> float:
        """For how long a complete file has not changed."""
        return 0.0 if self.markers else 10.0 if self.settle is None else self.settle

    @cached_property
    def remote(self) -> bool:
        """Is the file system's clock, or what it reports, not to be relied on?"""
        return self.observe == "poll" or scanner.remote(self.directory)

    def command_line(self, path: str, time: str, key: str) -> tuple[str, ...]:
        """The command for one trigger. A file name is never read again: what looks like a field in it stays text."""
        directory, name = os.path.split(path)
        stem, _ = os.path.splitext(name)
        values = {"path": path, "name": name, "stem": stem, "dir": directory, "time": time, "key": key}
        argv = tuple(_FIELD.sub(lambda match: values[match[1]], word) for word in self.command)
        if argv[0] == "globuswrap":  # also where it is not on PATH: cron and services have a short one
            return (*machine.own_command(), *argv[1:])
        return argv
