"""Check sync profiles: what a run needs on this machine, and whether both names of the source mean one directory."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from dataclasses import replace

from globuswrap.doctor.finding import Finding, failure, of_problem, ok
from globuswrap.errors import REFUSED, Problem
from globuswrap.globus import verbs
from globuswrap.syncs import look as looking
from globuswrap.syncs import manifest, scan
from globuswrap.syncs.compare import ScanReport
from globuswrap.syncs.profile import Profile
from globuswrap.syncs.state import State
from globuswrap.system import locks


def look(profile: Profile) -> Iterator[Finding]:
    """The source on this machine, its check-file, and what earlier runs have left. Asks Globus nothing."""
    root = profile.local_root
    if root is not None:
        try:
            os.listdir(root)
        except OSError as error:
            yield failure(
                "source-unreadable",
                f"[sync.{profile.name}]: local-root {root}: {error.strerror}",
                "a run sees no files there, and fails",
                f"mount it, or let this user read it: ls {root}",
                REFUSED,
            )
            return
        yield ok("local-root", f"local-root {root} can be read")
        problem = looking.check_file(profile)
        if problem is not None:
            yield of_problem(problem, "no run of this profile sends or deletes anything")
    try:
        yield from _state(profile)
    except Problem as problem:
        yield of_problem(problem, "no run of this profile starts")


def _state(profile: Profile) -> Iterator[Finding]:
    state = State(profile.directory).make()
    holder = locks.holder_of(state.lease)
    yield ok("lease", f"a run is under way: {holder.shown}" if holder else "no other run is under way")
    current = state.current()
    if current is not None:
        entries = [current.entry(task) for task in current.tasks if not task.ended]
        tasks = [(each.task_id if each is not None else None) or "not yet submitted" for each in entries]
        yield ok(
            "unsettled-run",
            f"the results of the last run are not recorded yet: {', '.join(tasks[:3])}; the next run does that",
        )
    if profile.local_root is not None:
        count = manifest.count(state.manifest)
        yield ok("manifest", f"{count} files are known to be at the destination")
        if count and not _any_file(profile):
            yield of_problem(looking.source_empty(profile), "every run of this profile fails this way")


def _any_file(profile: Profile) -> bool:
    """Whether the source holds a file, as a run sees it. What cannot be read is told otherwise."""
    frames = scan.scan(profile.root, replace(profile.scanning, workers=1))
    seen = ScanReport()
    return any(rows or seen.unknown for _, rows in manifest.blocks(seen.texts(frames))) or bool(seen.unknown)


def same_tree(profile: Profile) -> Iterator[Finding]:
    """Whether the local root is the source: its first file must be there too, of the same size. Asks Globus once."""
    if profile.local_root is None:
        return
    found = _first_file(profile.local_root)
    if found is None:
        return
    name, size = found
    there = profile.source.joined(name)
    try:
        known = verbs.stat(str(there), 0.0)
    except Problem as problem:
        yield of_problem(problem, where=there.shown)
        return
    if known is not None and (known["type"], known.get("size")) == ("file", size):
        yield ok("same-tree", f"local-root and source are the same tree, judging by {name!r}")
    else:
        yield failure(
            "source-differs",
            f"[sync.{profile.name}]: {name!r} of local-root is not at {there.shown}, or differs there",
            "a run would compare one directory and send another",
            "make local-root and source name the same directory",
            REFUSED,
        )


def _first_file(root: str) -> tuple[str, int] | None:
    """The first name, in order, of a regular file that Globus can take, and its size."""
    try:
        entries = sorted(os.scandir(root), key=lambda each: each.name)
    except OSError:
        return None  # told by `look`
    for entry in entries:
        try:
            entry.name.encode()
            status = entry.stat(follow_symlinks=False)
        except (OSError, UnicodeEncodeError):
            continue
        if stat.S_ISREG(status.st_mode):
            return entry.name, status.st_size
    return None
