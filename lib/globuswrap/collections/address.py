"""Parse addresses, and check which paths Globus can handle."""

from __future__ import annotations

import posixpath
from dataclasses import dataclass

from globuswrap.errors import UsageProblem


@dataclass(frozen=True)
class Address:
    """A path on a collection. `collection` is a lower-case UUID; `path` is absolute, or relative to the default directory
    (`~/...` or no leading slash); `name` is what the user called the collection."""

    collection: str
    path: str
    name: str = ""

    def __str__(self) -> str:
        return f"{self.collection}:{self.path}"

    @property
    def collection_shown(self) -> str:
        return self.name or self.collection

    @property
    def shown(self) -> str:
        return f"{self.collection_shown}:{self.path}"

    def joined(self, *parts: str) -> Address:
        """The address of something below this one."""
        return Address(self.collection, posixpath.join(self.path, *parts), self.name)


def checked_path(path: str) -> str:
    """The path as it is, if Globus can take it: UTF-8, no NUL, no `..` (which the CLI resolves before sending)."""
    try:
        path.encode("utf-8")
    except UnicodeEncodeError:
        raise UsageProblem(
            "not-utf-8", f"{path!r} is not UTF-8; Globus cannot handle this name", "rename the file, or exclude it"
        ) from None
    if "\0" in path:
        raise UsageProblem("bad-path", f"{path!r} contains a NUL character", "remove it; check how the path was built")
    if ".." in path.split("/"):
        raise UsageProblem("bad-path", f"{path!r} contains '..'", "write the path without '..'")
    return path


def normalised(path: str) -> str:
    """One spelling of a path, for keys and comparisons: no `//`, `/./` or trailing slash."""
    clean = posixpath.normpath(path)
    return "/" + clean.lstrip("/") if path.startswith("/") else clean
