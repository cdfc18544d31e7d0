"""What differs between versions of the `globus` command, and the one cache of what was found out about it.

The version comes from `globus version`, with its look-up of the newest release sent to a closed loopback port: that look-up
has no time limit of its own (globus-cli 3.43, version.py) and would hang on a compute node without a way out.
"""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

from globuswrap.system import files, process, records

MINIMUM = (3, 27)

_NO_LOOKUP: dict[str, str | None] = {
    **dict.fromkeys(("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"), "http://127.0.0.1:9"),
    "NO_PROXY": None,
    "no_proxy": None,
}


def parse(text: str) -> tuple[int, ...] | None:
    """The version in what `globus version` prints, 1.x to 3.x."""
    found = re.search(r"(?im)(?:installed version|version)[^\d\n]*(\d+(?:\.\d+)+)", text)
    return tuple(int(part) for part in found[1].split(".")) if found else None


def known(path: str) -> dict[str, Any]:
    """What the cache holds about this very file: `version` (list of int) and `refused` (flags it does not take)."""
    try:
        entry = records.parsed(_cache_file().read_text("utf-8"))[path]
        return entry if entry.get("stamp") == _stamp(path) else {}
    except (OSError, ValueError, KeyError, AttributeError, TypeError):
        return {}  # a cache: anything unreadable is found out again


def remember(path: str, **facts: object) -> None:
    """Add facts about this file to the cache; a cache that cannot be written costs time, nothing else."""
    try:
        entries = records.parsed(_cache_file().read_text("utf-8"))
    except (OSError, ValueError):
        entries = {}
    if not isinstance(entries, dict):
        entries = {}
    entries[path] = {**known(path), **facts, "stamp": _stamp(path)}
    try:
        files.private_directory(_cache_file().parent)
        files.write_atomic(_cache_file(), json.dumps(entries))
    except OSError:
        return


def ask(path: str, env: dict[str, str | None]) -> tuple[int, ...] | None:
    """Run `globus version`; None if what it prints is no version."""
    done = process.run((path, "version"), env={**env, **_NO_LOOKUP}, timeout=120)
    return parse(done.stdout + "\n" + done.stderr)


def _stamp(path: str) -> list[int]:
    status = os.stat(path)
    return [status.st_mtime_ns, status.st_size, status.st_ino]


def _cache_file() -> Path:
    return files.cache_dir() / "globus-cli.json"
