"""The command line of a trigger: words with `{path} {name} {stem} {dir} {time} {key}` in them. No shell is involved."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence

from globuswrap.errors import UsageProblem
from globuswrap.system import machine

FIELDS = ("path", "name", "stem", "dir", "time", "key")
_FIELD = re.compile(r"\{(\w+)\}")


def checked(words: Sequence[str]) -> tuple[str, ...]:
    """The words, if every `{field}` in them is known; UsageProblem otherwise. Other braces (JSON, say) are left alone."""
    if not words or not words[0]:
        raise UsageProblem(
            "no-command", "no command is given", "put it after --: globuswrap watch DIR -- COMMAND {path}"
        )
    for word in words:
        for found in _FIELD.findall(word):
            if found not in FIELDS:
                known = " ".join(f"{{{field}}}" for field in FIELDS)
                raise UsageProblem(
                    "unknown-field", f"{{{found}}} in the command is not a known field", f"use one of: {known}"
                )
    return tuple(words)


def filled(words: Sequence[str], path: str, time: str, key: str) -> tuple[str, ...]:
    """The command line for one trigger. A file name is never read again: what looks like a field in it stays text."""
    name = os.path.basename(path)
    values = {
        "path": path,
        "name": name,
        "stem": os.path.splitext(name)[0],
        "dir": os.path.dirname(path),
        "time": time,
        "key": key,
    }
    argv = tuple(_FIELD.sub(lambda match: values[match[1]], word) for word in words)
    if argv[0] == "globuswrap":  # also where it is not on PATH: cron and services have a short one
        return (*machine.own_command(), *argv[1:])
    return argv
