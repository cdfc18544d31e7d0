"""What is asked of a collection, each quirk of the CLI handled once. A target is `COLLECTION:PATH`, as `globus` takes it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from globuswrap.errors import Refused
from globuswrap.globus import command, queries
from globuswrap.globus.faults import Absent

#: What a listing of something that is no directory is refused with.
_NO_DIRECTORY = ("ExternalError.DirListingFailed.NotFound", "ExternalError.DirListingFailed.NotDirectory")


def stat(target: str, retry_for: float | None = None) -> Mapping[str, Any] | None:
    """The document of a file or directory (`type`, `size`, ...); None if nothing is there.

    `globus stat` of a missing path exits 0 and prints the service's answer, whose code is NotFound (globus-cli 3.27 to 3.44).
    Raises Refused for any other answer: what could not be looked at is not gone.
    """
    try:
        answer = command.retrying(lambda: command.call("stat", "--", target), retry_for)
    except Absent:
        return None
    if isinstance(answer, dict) and isinstance(answer.get("type"), str):
        return answer
    if queries.search(queries.CODE, answer) == "NotFound":
        return None
    raise Refused("odd-answer", f"globus does not say what is at {target}", f"run: globus stat '{target}'")


def kind(target: str, retry_for: float | None = None) -> str | None:
    """`file`, `dir`, or another type of the service; None if nothing is there."""
    found = stat(target, retry_for)
    return None if found is None else str(found["type"])


def ls(target: str, retry_for: float | None = None) -> Sequence[Mapping[str, Any]] | None:
    """The documents of a directory's entries, hidden ones too; None if it is not there, or is no directory.

    The service lists at most 100,000 entries (Transfer API documentation, "Limits").
    """
    try:
        answer = command.retrying(lambda: command.call("ls", "--all", "--", target), retry_for)
    except Absent:
        return None
    except Refused as problem:
        if problem.code in _NO_DIRECTORY:
            return None
        raise
    rows = queries.search(queries.ROWS, answer)
    if not isinstance(rows, list):
        raise Refused("odd-answer", f"globus gave no listing of {target}", f"run: globus ls '{target}'")
    return rows


def mkdir(target: str) -> bool:
    """Make a directory; False if it was there. A mkdir that is sent again reports what it has just made."""
    try:
        command.retrying(lambda: command.call("mkdir", target))
    except Refused as problem:
        if problem.code == "ExternalError.MkdirFailed.Exists":
            return False
        raise
    return True
