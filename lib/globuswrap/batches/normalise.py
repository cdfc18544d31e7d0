"""Turn rows into spooled items: join paths to their bases, check them, and remember destinations as numbers.

What most lists hold, clean relative paths, is found out for a whole block at once; only other blocks are looked at path by
path. A destination is kept as its 8-byte hash: a million of them are 8 MB.
"""

from __future__ import annotations

import posixpath
from array import array
from dataclasses import dataclass
from json.encoder import encode_basestring_ascii

from globuswrap.batches.parse import CR_LF, HOME, Rows, Unsendable, shown
from globuswrap.batches.spool import END, Load
from globuswrap.collections.address import Address
from globuswrap.errors import UsageProblem

#: In a block of paths with a NUL before, between and after them: what makes one of them other than clean and relative.
_UNCLEAN = ("\0/", "\0\0", "//", "/\0", "\0./", "\0../", "/./", "/../", "/.\0", "/..\0", "\0.\0", "\0..\0")
_DIRECTORIES_KEPT = 50_000


@dataclass
class PathBase:
    """Where the paths of one column begin. `local` is the directory as the user wrote it, when that was a local path:
    absolute paths of a list may begin with it instead. What kind of path was seen is remembered: kinds are not mixed."""

    base: Address
    local: str | None = None
    absolute: str | None = None
    relative: str | None = None

    @property
    def prefix(self) -> str:
        path = self.base.path
        return path if path.endswith("/") else path + "/"

    def path(self, relative: str) -> str:
        return self.prefix + relative if relative else self.base.path

    def relative_of(self, path: str) -> str:
        """What a whole path of this column is below its base, without a trailing slash."""
        return path[len(self.prefix) :].rstrip("/")

    def cleaned(self, paths: list[str]) -> list[str]:
        """The paths relative to the base, in one spelling; a trailing slash stays. UsageProblem for what cannot be."""
        text = "\0" + "\0".join(paths) + "\0"
        if text.count("\0") != len(paths) + 1:
            bad = next(path for path in paths if "\0" in path)
            raise UsageProblem(
                "bad-path",
                f"{shown(bad)} contains a NUL character",
                "no path can contain one; check how the list was made",
            )
        absolute = text.count("\0/")
        if absolute:
            self.absolute = self.absolute or next(path for path in paths if path.startswith("/"))
        if absolute < len(paths):
            self.relative = self.relative or next(path for path in paths if not path.startswith("/"))
        if self.absolute and self.relative:
            raise UsageProblem(
                "mixed-paths",
                f"absolute and relative paths are mixed: {shown(self.absolute)}, {shown(self.relative)}",
                "write all of them relative to the base, or all of them absolute",
            )
        stripped = not absolute
        for prefix in self._prefixes() if absolute else ("./",):
            if text.count("\0" + prefix) == len(paths):
                text = text.replace("\0" + prefix, "\0")
                paths = text[1:-1].split("\0")
                stripped = True
                break
        if stripped and not any(unclean in text for unclean in _UNCLEAN):
            return paths
        return [_spelled(path) if stripped else self._one(path) for path in paths]

    def _prefixes(self) -> tuple[str, ...]:
        local = () if self.local is None else (self.local.rstrip("/") + "/",)
        return (*local, self.prefix)

    def _one(self, path: str) -> str:
        if not path.startswith("/"):
            return _spelled(path)
        whole = "/" + _spelled(path)
        for prefix in self._prefixes():
            if (whole + "/").startswith(prefix):
                return whole[len(prefix) :]
        raise UsageProblem(
            "outside-base",
            f"{shown(path)} is not below {self.local or self.base.path}",
            "write paths relative to the base, or choose a base that contains them all, such as /",
        )


def _spelled(path: str) -> str:
    """One spelling: no empty or `.` component; a trailing slash stays. UsageProblem for `..`."""
    parts = [part for part in path.split("/") if part not in ("", ".")]
    if ".." in parts:
        raise UsageProblem("bad-path", f"{shown(path)} contains '..'", "write the path without '..'")
    clean = "/".join(parts)
    return clean + "/" if clean and path.endswith("/") else clean


class Collector:
    """Takes the rows of a batch into the spools of its loads."""

    def __init__(self, destination: PathBase, unsendable: Unsendable) -> None:
        self.destination = destination
        self.unsendable = unsendable
        self.hashes = array("q")
        self.directories = array("q")
        self._known: set[str] = set()

    def add(self, load: Load, source: PathBase, rows: Rows) -> None:
        """Add rows whose sources are below `source`. UsageProblem for a path that cannot be in a batch."""
        rows = self._sendable(rows)
        if not rows.sources:
            return
        rows = Rows(
            source.cleaned(rows.sources),
            None if rows.destinations is None else self.destination.cleaned(rows.destinations),
            rows.extras,
        )
        bad = self._misread(source, rows.sources)
        if rows.destinations is not None or self.destination.prefix != source.prefix:
            bad |= self._misread(self.destination, rows.arriving)
        if bad:
            for at, reason in sorted(bad.items()):
                self.unsendable.add(rows.sources[at], reason)
            rows = rows.without(bad)
        self._refuse_same(load, source, rows)
        load.spool.add(self._lines(source, rows))
        self._remember(rows.arriving)

    def _sendable(self, rows: Rows) -> Rows:
        """Without the rows that hold lone surrogates: bytes that are not UTF-8, come by way of JSON or Python."""
        texts = [*rows.sources, *(rows.destinations or ())]
        try:
            "\0".join(texts).encode("utf-8")
            return rows
        except UnicodeEncodeError:
            pass
        bad = set()
        for at, names in enumerate(zip(rows.sources, rows.arriving, strict=True)):
            name = next((each for each in names if not _utf8(each)), None)
            if name is not None:
                bad.add(at)
                self.unsendable.add(name.encode("utf-8", "surrogatepass" if _not_escapes(name) else "surrogateescape"))
        return rows.without(bad)

    def _misread(self, column: PathBase, paths: list[str]) -> dict[int, str]:
        """Which of these paths the service would refuse, or take for another, and why."""
        text = "\0" + "\0".join(paths) + "\0"
        home = column.prefix == "/" and ("\0~\0" in text or "\0~/" in text)
        if not home and "\r\n" not in text:
            return {}
        found = {at: CR_LF for at, path in enumerate(paths) if "\r\n" in path}
        if home:
            found.update({at: HOME for at, path in enumerate(paths) if path == "~" or path.startswith("~/")})
        return found

    def _refuse_same(self, load: Load, source: PathBase, rows: Rows) -> None:
        if load.request.source != load.request.destination:
            return
        for path, other in zip(rows.sources, rows.arriving, strict=True):
            if source.path(path) == self.destination.path(other):
                raise UsageProblem(
                    "same-place",
                    f"{shown(source.path(path))}: source and destination are the same",
                    "choose another destination",
                )

    def _lines(self, source: PathBase, rows: Rows) -> list[str]:
        sources, destinations, extras = rows.sources, rows.arriving, rows.extras
        if "" in sources or "" in destinations:  # a base itself: its path has no slash to end in
            quoted = [
                (encode_basestring_ascii(source.path(one)), encode_basestring_ascii(self.destination.path(other)))
                for one, other in zip(sources, destinations, strict=True)
            ]
            ends = extras or [""] * len(quoted)
            return [
                f'{{"DATA_TYPE": "transfer_item", "source_path": {one}, "destination_path": {other}{extra}}}{END}'
                for (one, other), extra in zip(quoted, ends, strict=True)
            ]
        head = '{"DATA_TYPE": "transfer_item", "source_path": "' + encode_basestring_ascii(source.prefix)[1:-1]
        middle = '", "destination_path": "' + encode_basestring_ascii(self.destination.prefix)[1:-1]
        here = [quoted[1:-1] for quoted in map(encode_basestring_ascii, sources)]
        if rows.destinations is None and extras is None:
            return [f'{head}{each}{middle}{each}"}}{END}' for each in here]
        there = (
            here if rows.destinations is None else [text[1:-1] for text in map(encode_basestring_ascii, destinations)]
        )
        ends = extras or [""] * len(here)
        return [
            f'{head}{one}{middle}{other}"{extra}}}{END}' for one, other, extra in zip(here, there, ends, strict=True)
        ]

    def _remember(self, destinations: list[str]) -> None:
        """Keep the hash of each destination, and of every directory above it up to the base."""
        text = "\0".join(destinations)
        if "/\0" in text or text.endswith("/"):
            destinations = [each.rstrip("/") for each in destinations]
        self.hashes.extend(map(hash, destinations))
        found = {each.rpartition("/")[0] for each in destinations if each} if "/" in text else {""}
        if text == "":
            found = set()
        new = []
        if len(self._known) > _DIRECTORIES_KEPT:
            self._known.clear()
        for directory in found:
            while directory not in self._known:
                self._known.add(directory)
                new.append(directory)
                directory = posixpath.dirname(directory)
        self.directories.extend(map(hash, new))


def _utf8(name: str) -> bool:
    try:
        name.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _not_escapes(name: str) -> bool:
    return any("\ud800" <= each <= "\udfff" and not "\udc80" <= each <= "\udcff" for each in name)
