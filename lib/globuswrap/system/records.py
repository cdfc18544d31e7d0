"""Records that are written once: of all processes and hosts that share a directory, one writes a name, the others read it.

The content is written to a temporary file, fsynced, and given its name by link(2), which fails if the name is taken. No
lock guards this. It holds where link(2) and rename(2) are atomic and a file opened by name has the content that was fsynced
before its link was made (close-to-open, as NFS gives). Over NFS a lost reply makes a successful link look like EEXIST: the
link count of one's own temporary file decides.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from globuswrap.errors import Refused
from globuswrap.system import files


def write_once(path: Path, text: str) -> bool:
    """Give the file this content, durably, unless it exists; was it this call that wrote it?"""
    temporary = files.write_temporary(path.parent, text)
    try:
        os.link(temporary, path)
    except FileExistsError:
        if os.stat(temporary).st_nlink != 2:
            return False
    finally:
        os.unlink(temporary)
    files.sync_directory(path.parent)
    return True


def dump(document: Mapping[str, Any]) -> str:
    return json.dumps(document, indent=1) + "\n"


def documents(directory: Path, schema: str) -> Iterator[tuple[Path, dict[str, Any]]]:
    """The records of a directory. Refused for one that is damaged or of another schema: nothing safe can be concluded."""
    try:
        names = sorted(os.listdir(directory))
    except FileNotFoundError:
        return
    for name in names:
        if name.startswith(".tmp-"):
            continue
        try:
            document = json.loads((directory / name).read_bytes())
        except FileNotFoundError:  # it has just been removed
            continue
        except (ValueError, RecursionError):
            document = None
        if not isinstance(document, dict) or document.get("schema") != schema:
            raise Refused(
                "unknown-record",
                f"{directory / name} is damaged or was written by another version of globuswrap",
                "use that version; if nothing is under way, remove the file and rerun",
            )
        yield directory / name, document
