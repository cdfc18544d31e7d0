"""Find who uses a path: files of a live chain are not deleted.

One record for each owner, `uses/<owner>`. A use is live until the fact file that ends its owner exists, or the directory of
that file is gone: a record that nobody released harms nobody.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from globuswrap.collections.address import normalised
from globuswrap.system import files, records

SCHEMA = "globuswrap.uses/1"


@dataclass(frozen=True)
class Use:
    """`owner`, as people call it, uses `path` and everything below it on `collection` (a UUID)."""

    owner: str
    collection: str
    path: str

    def covers(self, path: str) -> bool:
        return self.path in (path, "/") or path.startswith(f"{self.path}/")


def directory() -> Path:
    return files.state_dir() / "uses"


def _record(owner: str) -> Path:
    return directory() / quote(owner, safe=" ")


def hold(owner: str, ended: Path, uses: Iterable[tuple[str, str]]) -> None:
    """Note, durably, that `owner` uses these (collection, path) until the file `ended` exists. Again: replaces the record.

    Call it when `ended`'s directory exists and before anything relies on the paths.
    """
    files.private_directory(directory())
    listed = [[collection, normalised(path)] for collection, path in uses]
    document = {"schema": SCHEMA, "owner": owner, "ended": os.path.abspath(ended), "uses": listed}
    files.write_atomic(_record(owner), records.dump(document))


def release(owner: str) -> None:
    """Remove the record of an owner that has ended: only to tidy up."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(_record(owner))


def live(collection: str | None = None, exclude_owner: str | None = None) -> list[Use]:
    """The uses whose owners have not ended, of one collection or of all."""
    found = []
    for _, document in records.documents(directory(), SCHEMA):
        owner, ended = str(document["owner"]), Path(document["ended"])
        if owner == exclude_owner or _exists(ended) or not _exists(ended.parent):
            continue
        found += [Use(owner, used, path) for used, path in document["uses"] if collection in (None, used)]
    return found


def _exists(path: Path) -> bool:
    """Is it there? What cannot be looked at raises: Path.exists() takes it for gone."""
    try:
        os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        return False
    return True
