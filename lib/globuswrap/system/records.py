"""Read and write records that are written once, and never guess what a damaged one said.

Of all processes and hosts that share a directory, one writes a name, the others read it. The content is written to a
temporary file, fsynced, and given its name by link(2), which fails if the name is taken. No lock guards this. It holds where
link(2) and rename(2) are atomic and a file opened by name has the content that was fsynced before its link was made
(close-to-open, as NFS gives). Over NFS a lost reply makes a successful link look like EEXIST: the link count of one's own
temporary file decides.

Read back, a record is one of four things. *Whole*. *Damaged*: cut short, not JSON, or without the fields that its schema
has; the caller decides what that means for what the record guards. *Of another version*: another schema, or a field that
this version does not know, so a newer globuswrap wrote it. That is refused and nothing is touched, since guessing could
undo what the record is there for. *Not there*.
"""

from __future__ import annotations

import dataclasses
import errno
import json
import os
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

from globuswrap.errors import Refused, UsageProblem
from globuswrap.system import files

Record = TypeVar("Record")

#: What link(2) says where there are no hard links (FAT, some FUSE and SMB mounts, AFS between directories).
_NO_HARD_LINKS = (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK, errno.EXDEV)


class Damaged(ValueError):
    """A record that is cut short, is not JSON, or lacks fields of its schema."""


def write_once(path: Path, text: str) -> bool:
    """Give the file this content, durably, unless it exists; was it this call that wrote it?"""
    temporary = files.write_temporary(path.parent, text)
    try:
        if not link(temporary, path):
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
        path = directory / name
        try:
            document = load(path)
            if document is None:  # it has just been removed
                continue
            of_schema(document, schema, path)
        except Damaged as error:
            raise Refused(
                "unknown-record",
                f"{path} is damaged ({error})",
                "if nothing is under way, remove the file and rerun",
            ) from None
        yield path, document


def link(temporary: str, final: Path) -> bool:
    """Give one's own new file a second name: whether that name was free. UsageProblem where there are no hard links."""
    try:
        os.link(temporary, final)
    except FileExistsError:
        return os.stat(temporary).st_nlink == 2
    except OSError as error:
        if error.errno not in _NO_HARD_LINKS:
            raise
        raise UsageProblem(
            "no-hard-links",
            f"{final.parent}: this file system has no hard links ({error.strerror}), which globuswrap needs to claim records",
            "set XDG_STATE_HOME to a directory on a local disk, NFS or Lustre",
        ) from None
    return True


def parsed(text: bytes | str) -> Any:
    """The value of a JSON text. ValueError if it is not JSON, or is nested more deeply than can be read."""
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def given_object(source: str | Path) -> dict[str, Any]:
    """The JSON object in a file that a person wrote, or on stdin (-). UsageProblem says what is wrong with it."""
    try:
        found = parsed(sys.stdin.read() if source == "-" else Path(source).read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise UsageProblem("bad-document", f"{source}: {error}", "write a JSON object: {...}") from None
    if not isinstance(found, dict):
        raise UsageProblem("bad-document", f"{source} is not a JSON object", "write a JSON object: {...}")
    return found


def load(path: Path) -> dict[str, Any] | None:
    """The document of a record; None if it is not there. Raises Damaged, and Refused for what is not a file."""
    try:
        text = path.read_bytes()
    except FileNotFoundError:
        return None
    except (IsADirectoryError, NotADirectoryError):
        raise Refused(
            "not-a-record",
            f"{path} should be a file that globuswrap wrote, but it, or its directory, is something else",
            f"inspect it, then move it away: mv '{path}' '{path}.moved'",
        ) from None
    try:
        document = parsed(text)
    except ValueError as error:
        raise Damaged(str(error)) from None
    if not isinstance(document, dict):
        raise Damaged("not an object")
    return document


def of_schema(document: Mapping[str, Any], schema: str, path: Path) -> None:
    """Nothing, if the document is of this schema. Raises Damaged if it names none, Refused if it names another."""
    found = document.get("schema")
    if not isinstance(found, str):
        raise Damaged("no schema")
    if found != schema:
        raise _newer(path, f"has the schema {found!r}, and this globuswrap knows {schema!r}")


def built(kind: type[Record], document: Mapping[str, Any], path: Path) -> Record:
    """The dataclass of a document. Raises Damaged if a field is missing, Refused if there is one that it does not know."""
    fields = dataclasses.fields(kind)  # type: ignore[arg-type]
    unknown = sorted(set(document) - {each.name for each in fields})
    if unknown:
        raise _newer(path, f"has the field {unknown[0]!r}, which this globuswrap does not know")
    missing = [
        each.name
        for each in fields
        if each.default is dataclasses.MISSING
        and each.default_factory is dataclasses.MISSING
        and each.name not in document
    ]
    if missing:
        raise Damaged(f"no {missing[0]!r}")
    return kind(**document)


def _newer(path: Path, what: str) -> Refused:
    return Refused(
        "unknown-record",
        f"{path} {what}: a newer version wrote it",
        "use the newest globuswrap that you run anywhere with this state directory; nothing was changed or submitted",
    )
