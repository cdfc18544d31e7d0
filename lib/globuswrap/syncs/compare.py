"""Scan a tree and compare it with the manifest: new, changed and vanished files, in one pass over two sorted streams.

Where a directory's listing is the same, it is compared as bytes and nothing is parsed. Where it differs, its records are compared
as sets.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from globuswrap.errors import Refused
from globuswrap.syncs import manifest, scan
from globuswrap.syncs.profile import Profile
from globuswrap.system import log

#: More paths than this that cannot be read, and the tree as a whole counts as unreadable.
MOST_TROUBLES = 100_000


@dataclass
class ScanReport:
    """What a comparison met on its way. `unknown`: paths (below the root, no leading slash) that could not be read, with the
    reason. `left_out`: how many links and special files were left out; `examples` some of them. `mounts`: directories on another
    device than the one that holds them. `any_file`: whether the tree holds a file at all."""

    unknown: dict[bytes, str] = field(default_factory=dict)
    left_out: int = 0
    examples: list[tuple[bytes, str]] = field(default_factory=list)
    mounts: set[bytes] = field(default_factory=set)
    any_file: bool = False

    def note(self, kind: int, payload: bytes) -> None:
        path, _, reason = payload.rpartition(b"\0")
        path = path[1:]
        if kind == scan.MOUNT:
            self.mounts.add(path)
            return
        if kind == scan.NOTE:
            self.left_out += 1
            if len(self.examples) < 10:
                self.examples.append((path, reason.decode("utf-8", "replace")))
            return
        self.unknown[path] = reason.decode("utf-8", "replace")
        if len(self.unknown) > MOST_TROUBLES:
            raise Refused(
                "source-mostly-unreadable",
                f"more than {MOST_TROUBLES} files and directories cannot be read",
                "make the tree readable for this user; nothing was submitted",
            )

    def texts(self, frames: Iterable[scan.Frame]) -> Iterator[bytes]:
        """The listing in the frames; of the others it takes note."""
        for kind, payload in frames:
            if kind == scan.TEXT:
                yield payload
            else:
                self.note(kind, payload)

    def is_unknown(self, path: bytes) -> bool:
        """Whether that path, or a directory it is in, could not be read."""
        return bool(self.unknown) and manifest.at_or_below(path, self.unknown)


@dataclass(frozen=True)
class Differences:
    """What a look at the source found, written down in `delta`: how many files (and empty directories) are new or changed, how
    many files are gone, and how many directories that were empty."""

    delta: Path
    seen: ScanReport
    coming: int
    gone: int
    empty: int


def find(profile: Profile, known: Path, delta: Path, renew: Callable[[], None]) -> Differences:
    """Scan the source, and write into `delta` what differs from the manifest `known`. `renew` says that this still works."""
    coming = gone = empty = 0
    seen = ScanReport()
    with manifest.Writer(delta, manifest.DELTA, level=1) as writer:
        for directory, rows in scanned(profile, known, seen):
            renew()
            new = sum(1 for row in rows if row[:1] == b"+")
            coming += new
            gone += sum(1 for row in rows if row[:1] == b"-" and len(row) > 1) if new != len(rows) else 0
            empty += rows.count(b"-")
            writer.write(manifest.delta_text(directory, rows))
    return Differences(delta, seen, coming, gone, empty)


def scanned(profile: Profile, known: Path, seen: ScanReport) -> Iterator[manifest.Delta]:
    """What `compare` says of the source as it is now, and of the manifest `known`."""
    return compare(_counted(scan.scan(profile.root, profile.scanning)), manifest.open_manifest(known), seen)


def _counted(frames: Iterable[scan.Frame]) -> Iterator[scan.Frame]:
    """The frames, saying how far it has come."""
    names = 0
    for kind, payload in frames:
        names += payload.count(b"\0") if kind == scan.TEXT else 0
        log.set_activity(f"scanning the tree: {names} files and directories")
        yield kind, payload
    log.set_activity("")


def compare(frames: Iterable[scan.Frame], old: Iterator[manifest.Block], seen: ScanReport) -> Iterator[manifest.Delta]:
    """(directory, signed records), as a delta has them, for every directory with a difference, in the manifest's order.

    `+` is a new or changed file, `-` one that is there no more. What is at or below a path that could not be read never comes
    as `-`: it is not known to have vanished. Raises ManifestDamaged if the manifest cannot be read.
    """
    for directory, known, now in manifest.aligned(old, manifest.blocks(seen.texts(frames))):
        if now:
            seen.any_file = True
        if known == now:
            continue
        if known or now:
            signed = _differences(directory, known or b"", now or b"", seen)
            if signed:
                yield directory, signed
        elif known is None:
            yield directory, [b"+"]
        elif now is None and not seen.is_unknown(directory[1:]):
            yield directory, [b"-"]


def _differences(directory: bytes, known: bytes, now: bytes, seen: ScanReport) -> list[bytes]:
    if not known:
        return [b"+" + row for row in now.split(b"\0")]
    before, after = set(known.split(b"\0")), set(now.split(b"\0") if now else ())
    gone = {manifest.file_name(row): b"-" + row for row in before - after}
    come = {manifest.file_name(row): b"+" + row for row in after - before}
    signed = {
        name: row for name, row in gone.items() if name in come or not seen.is_unknown(manifest.joined(directory, name))
    }
    return [row for _, row in sorted({**signed, **come}.items())]
