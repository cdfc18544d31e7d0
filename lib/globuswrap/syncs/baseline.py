"""Record files as transferred without sending them, or undo that."""

from __future__ import annotations

import itertools
import os
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from globuswrap.errors import TryLater
from globuswrap.syncs import deleting, manifest, planning
from globuswrap.syncs.compare import ScanReport, scanned
from globuswrap.syncs.profile import Profile
from globuswrap.syncs.state import State
from globuswrap.system import locks


@dataclass(frozen=True)
class Recorded:
    """What a baseline changed: the number of files, the paths of the first, and what was seen (and could not be read)."""

    changed: int
    first: list[str]
    seen: ScanReport


def baseline(
    profile: Profile, *, until: float | None = None, path: str = "", forget: bool = False, dry_run: bool = False
) -> Recorded:
    """Record the present files as already transferred.

    `until` (epoch seconds): only files not modified later. `path`: only what is at or below it, seen from the source. `forget`:
    take it out of the manifest instead, so that it is sent again. `dry_run`: change nothing. Raises TryLater while a run is
    under way.
    """
    state = State(profile.directory).make()
    with locks.take(state.lease) as lease:
        current = state.current()
        if current is not None:
            raise TryLater(
                "run-unfinished",
                "the results of the last run are not recorded yet, and would change the same manifest",
                f"globuswrap sync run {profile.name} --wait",
            )
        if not dry_run:
            deleting.hold_source(profile, state)
        top = os.fsencode(path.strip("/"))
        limit = None if until is None else int(until * 1e9)
        seen = ScanReport()
        first: list[str] = []

        def wanted(directory: bytes, row: bytes) -> bool:
            if top and not manifest.at_or_below(manifest.signed_path(directory, row), {top}):
                return False
            later = limit is not None and len(row) > 1 and int(row[1:].split(b" ", 1)[0]) > limit
            return forget or (row[:1] == b"+" and not later)

        def taken() -> Iterator[manifest.Delta]:
            for directory, rows in _everything(state.manifest) if forget else scanned(profile, state.manifest, seen):
                lease.renew()
                mine = [row for row in rows if wanted(directory, row)]
                of_files = (row for row in mine if len(row) > 1)
                paths = itertools.islice(of_files, planning.SHOWN - len(first))
                first.extend(os.fsdecode(manifest.signed_path(directory, row)) for row in paths)
                yield directory, mine

        with tempfile.TemporaryDirectory(prefix="globuswrap-sync-") as rehearsal:
            result = Path(rehearsal) / "manifest.gz" if dry_run else state.manifest
            changed = manifest.merge(state.manifest, taken(), result)
        if not dry_run:
            if not forget:
                state.set_mounts(state.mounts() | seen.mounts)
            state.note(f"baseline{' forgotten' if forget else ''}: {changed} records")
        return Recorded(changed, first, seen)


def _everything(path: Path) -> Iterator[manifest.Delta]:
    for directory, rows in manifest.open_manifest(path):
        yield directory, [b"-", *(b"-" + row for row in rows.split(b"\0") if rows)]
