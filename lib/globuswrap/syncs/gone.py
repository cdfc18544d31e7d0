"""Check again which files are really gone at the source, before anything is deleted because of it.

That a scan does not list a file does not prove that somebody removed it. Its disk may not be mounted, a link may lead nowhere,
a rule may leave it out, or its name may differ only by case. What cannot be looked at is unknown, and unknown is not gone.
"""

from __future__ import annotations

import functools
import os
import stat
import unicodedata
from dataclasses import dataclass, field

from globuswrap.syncs.manifest import at_or_below

#: Directories whose subdirectories are kept in memory by name; files come in order, so that these are the ones above them.
CACHED = 16

LINK = "is a symbolic link now"
UNMOUNTED = "is on a file system that is no longer mounted"
EMPTY = "is empty now"


@dataclass(frozen=True)
class Unknown:
    """Why the files at or below a directory may still exist. `confirmable`: a person who looked may say that they are gone."""

    path: bytes
    reason: str
    confirmable: bool

    @property
    def shown(self) -> str:
        return f"{os.fsdecode(self.path) or '.'} {self.reason}"


@dataclass
class Looked:
    """What became of some files of one directory. Names that are neither here nor in `gone` still exist at the source.

    `twins`: the path of another name that differs from it only by case or Unicode normalization. `unknown`: why none of the
    names that were not found counts as gone.
    """

    gone: set[bytes] = field(default_factory=set)
    twins: dict[bytes, bytes] = field(default_factory=dict)
    unknown: Unknown | None = None


def folded(name: bytes) -> str:
    """The name as a file system sees it that ignores case and Unicode normalization."""
    text = name.decode("utf-8", "surrogateescape")
    return (
        text.lower() if text.isascii() else unicodedata.normalize("NFC", unicodedata.normalize("NFD", text).casefold())
    )


class Source:
    """The tree at `root`. `lost`: directories that were mount points when last seen and are none now; a file called `proof` in
    one of them says that it is meant to be there. `confirmed`: a person said that what seems to be gone is."""

    def __init__(self, root: bytes, *, follow: bool, lost: set[bytes], proof: bytes | None, confirmed: bool) -> None:
        self.root = root
        self.follow = follow
        self.lost = {path for path in lost if proof is None or not os.path.isfile(self._full(joined_to(path, proof)))}
        self.confirmed = confirmed
        self._directories = functools.lru_cache(CACHED)(self._listed)

    def look(self, directory: bytes, names: set[bytes]) -> Looked:
        """Look for `names`, which the last scan did not find in `directory` (as the manifest writes it)."""
        try:
            return self._look(directory[1:], names)
        except OSError as error:
            return Looked(unknown=Unknown(directory[1:], f"cannot be read: {error.strerror}", False))

    def _look(self, path: bytes, names: set[bytes]) -> Looked:
        unknown = self._hidden(path)
        if unknown is not None and not unknown.confirmable:
            return Looked(unknown=unknown)
        if unknown is not None and unknown.reason == LINK:
            missing = {name for name in names if not os.path.lexists(self._full(joined_to(path, name)))}
            there, twins = names - missing, dict[bytes, bytes]()
        else:
            there, twins = self._names(path, names)
        missing = names - there - twins.keys()
        if missing and unknown is not None and not self.confirmed:
            return Looked(twins=twins, unknown=unknown)
        return Looked(missing, twins)

    def _full(self, path: bytes) -> bytes:
        return self.root + b"/" + path if path else self.root

    def _hidden(self, path: bytes) -> Unknown | None:
        """What may hide the files of a directory; None if it, or the nearest directory above it that exists, shows what it holds.

        Raises OSError for what cannot be looked at.
        """
        nearest = at = b""
        for part in path.split(b"/") if path else ():
            at = joined_to(at, part)
            try:
                mode = os.lstat(self._full(at)).st_mode
            except (FileNotFoundError, NotADirectoryError):
                break
            if stat.S_ISLNK(mode) and not self.follow:
                return Unknown(at, LINK, True)
            if not stat.S_ISDIR(os.stat(self._full(at)).st_mode):
                break
            nearest = at
        lost = next((each for each in self.lost if at_or_below(path, {each})), None)
        if lost is not None:
            return Unknown(lost, UNMOUNTED, True)
        with os.scandir(self._full(nearest)) as entries:
            if next(entries, None) is None:
                return Unknown(nearest, EMPTY, True)
        return None

    def _names(self, path: bytes, names: set[bytes]) -> tuple[set[bytes], dict[bytes, bytes]]:
        """Which of the names exist after all, and which exist in another spelling."""
        wanted: dict[str, list[bytes]] = {}
        for name in names:
            wanted.setdefault(folded(name), []).append(name)
        there: set[bytes] = set()
        twins: dict[bytes, bytes] = {}
        for directory in self._spellings(path):
            with os.scandir(self._full(directory)) as entries:
                for entry in entries:
                    spelling = os.fsencode(entry.name)
                    for name in wanted.get(folded(spelling), ()):
                        if directory != path or spelling != name:
                            twins[name] = joined_to(directory, spelling)
                        elif not entry.is_dir(
                            follow_symlinks=self.follow
                        ):  # the file is gone where a directory took its name
                            there.add(name)
        return there, {name: twin for name, twin in twins.items() if name not in there}

    def _spellings(self, path: bytes) -> list[bytes]:
        """The directories that have this path on a file system that ignores case."""
        found = [b""]
        for part in path.split(b"/") if path else ():
            found = [
                joined_to(above, name) for above in found for name in self._directories(above).get(folded(part), ())
            ]
        return found

    def _listed(self, path: bytes) -> dict[str, list[bytes]]:
        """The directories in a directory, by their names as a file system sees them that ignores case."""
        found: dict[str, list[bytes]] = {}
        with os.scandir(self._full(path)) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=self.follow):
                    found.setdefault(folded(os.fsencode(entry.name)), []).append(os.fsencode(entry.name))
        return found


def joined_to(path: bytes, name: bytes) -> bytes:
    return path + b"/" + name if path else name
