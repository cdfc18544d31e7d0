"""Choose which files a run deletes at the destination: gone at the source, and unchanged since they were sent.

One task for each run, of a bounded number of files and directories: every file is looked at on both sides right before, and the
rest follows with the next runs. The process that looked submits the task; none that takes the run up later does (`syncs.run`).
"""

from __future__ import annotations

import heapq
import os
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby
from json.encoder import encode_basestring_ascii as quoted
from pathlib import Path
from zlib import crc32

from globuswrap.collections.address import normalised
from globuswrap.deletion import announcements, evidence, mirror, uses
from globuswrap.deletion.announcements import Announcement
from globuswrap.deletion.mirror import Sent
from globuswrap.syncs import gone, manifest
from globuswrap.syncs.compare import Differences
from globuswrap.syncs.context import RunContext
from globuswrap.syncs.manifest import DELTA, Writer, delta_blocks, delta_text, file_name, joined
from globuswrap.syncs.planning import Planned, Tasks, sendable
from globuswrap.syncs.profile import Profile
from globuswrap.syncs.state import Run, State, submissions_of
from globuswrap.system import units

#: Files that one run deletes, and directories at the destination that it lists before, each with a process.
MOST_FILES = 20_000
MOST_LISTED = 200
#: The delta of what leaves the manifest without being deleted.
FORGOTTEN = "forgotten.delta.gz"


@dataclass(frozen=True)
class Candidate:
    """A file that is gone at the source: where the manifest has it, its record, and its path at the destination."""

    directory: bytes
    row: bytes
    target: str

    @property
    def sent(self) -> Sent:
        modified, size, _ = self.row.split(b" ", 2)
        return Sent(int(size.lstrip(b"@")), int(modified) // 10**9, size.startswith(b"@"))

    @property
    def shown(self) -> str:
        return os.fsdecode(joined(self.directory, file_name(self.row)))


def plan(context: RunContext, run: Run, found: Differences, planned: Planned) -> Announcement | None:
    """Add to `run` the task that deletes what is gone, and to `planned` what became of the rest.

    A dry run announces nothing. What leaves the manifest without being deleted is written to `FORGOTTEN`. Returns the
    announcement of the task, to be withdrawn if it is not submitted.
    """
    profile = context.profile
    assert profile.check_file is not None
    source = gone.Source(
        profile.root.rstrip(b"/") or b"/",
        follow=profile.symlinks == "follow",
        lost=context.state.mounts() - found.seen.mounts,
        proof=os.fsencode(os.path.basename(profile.check_file)),
        confirmed=profile.max_delete_raised,
    )
    planned.deletions_refused = _refusal(context, source, found, planned)
    if planned.deletions_refused is not None:
        return None
    chosen = _candidates(context, source, run, found, planned)
    if not chosen:
        return None
    tasks = Tasks(run, profile, "delete")
    if not tasks.room:
        planned.over_limit += len(chosen)
        return None
    collection = profile.destination.collection
    targets = {each.target: each for each in chosen}
    name = run.submission(tasks.next_number)
    mine = None
    if not context.options.dry_run:
        announcements.clear(submissions_of(profile.directory))  # of runs that were killed before they began
        mine = announcements.announce(collection, dict.fromkeys(targets), name)
    try:
        sent = {target: each.sent for target, each in targets.items()}
        examined = mirror.examine(collection, sent, evidence.listing, mine, context.renew)
        _write(run, planned, tasks, targets, examined)
    except BaseException:  # raised again: also after a signal, an announcement left behind would make others wait
        if mine is not None:
            announcements.withdraw(mine)
        raise
    if mine is not None and not examined.deleted:
        announcements.withdraw(mine)
        return None
    return mine


def _refusal(context: RunContext, source: gone.Source, found: Differences, planned: Planned) -> str | None:
    """Why nothing may be deleted. Anything unknown at the source stops all of it."""
    known = manifest.count(context.state.manifest)
    limit = context.profile.max_delete
    if found.seen.unknown:
        return f"{units.counted(len(found.seen.unknown), 'path')} could not be read"
    if not limit.allows(found.gone, known):
        planned.unconfirmed = True
        return f"{found.gone} of {known} files are gone, more than max-delete {limit.shown}"
    for directory, rows in _gone(found.delta):
        context.renew()
        unknown = source.look(directory, set(rows)).unknown
        if unknown is not None:
            planned.unconfirmed = unknown.confirmable
            return f"{unknown.shown}; files that were sent from there may still exist"
    return None


def _candidates(
    context: RunContext, source: gone.Source, run: Run, found: Differences, planned: Planned
) -> list[Candidate]:
    """What is gone at the source, of as many files and directories as one run takes.

    Every run chooses other directories, so that those with files that have to stay do not keep the rest from its turn.
    """
    salt = crc32(run.id.encode())
    directories = (directory for directory, _ in groupby(each for each, _ in _gone(found.delta)))
    chosen = set(heapq.nsmallest(MOST_LISTED, directories, key=lambda each: crc32(each, salt)))
    candidates: list[Candidate] = []
    top = normalised(context.profile.destination.path).rstrip("/")
    for directory, rows in _gone(found.delta):
        context.renew()
        if directory not in chosen or len(candidates) >= MOST_FILES:
            planned.over_limit += len(rows)
            continue
        looked = source.look(directory, set(rows))
        base = f"{top}{'' if directory == b'/' else directory.decode()}/"
        these = [Candidate(directory, rows[name], base + name.decode()) for name in sorted(looked.gone)]
        planned.over_limit += max(0, len(candidates) + len(these) - MOST_FILES)
        candidates += these[: MOST_FILES - len(candidates)]
        for name, twin in sorted(looked.twins.items()):
            path, other = os.fsdecode(joined(directory, name)), os.fsdecode(twin)
            planned.kept.append((path, f"differs only by case or Unicode normalization from {other!r}"))
    return candidates


def _write(run: Run, planned: Planned, tasks: Tasks, targets: dict[str, Candidate], examined: mirror.Examined) -> None:
    for directory, group in groupby((targets[target] for target in examined.deleted), key=_directory_of):
        these = list(group)
        items = [f'{{"DATA_TYPE":"delete_item","path":{quoted(each.target)}}}' for each in these]
        tasks.add(directory, [b"-" + each.row for each in these], items, 0)
        for each in these:
            planned.show("delete", joined(directory, file_name(each.row)))
    tasks.close()
    planned.deleted = len(examined.deleted)
    planned.over_limit += len(examined.used)
    planned.kept += [(targets[target].shown, why) for target, why in examined.kept.items()]
    forgotten = {*examined.absent, *examined.relied_on}
    if forgotten:
        with Writer(run.directory / FORGOTTEN, DELTA, level=1) as writer:
            leaving = (each for target, each in targets.items() if target in forgotten)
            for directory, group in groupby(leaving, key=_directory_of):
                writer.write(delta_text(directory, [b"-" + each.row for each in group]))
    planned.forgotten = len(forgotten)


def _directory_of(candidate: Candidate) -> bytes:
    return candidate.directory


def _gone(delta: Path) -> Iterator[tuple[bytes, dict[bytes, bytes]]]:
    """What a comparison did not find: by directory the names of files and their records. What Globus cannot take never went."""
    for directory, rows in delta_blocks(delta):
        gone_rows = [row[1:] for row in rows if row[:1] == b"-" and len(row) > 1 and sendable(directory) is not None]
        found = {name: row for row in gone_rows if sendable(name := file_name(row)) is not None}
        if found:
            yield directory, found


def hold_source(profile: Profile, state: State) -> None:
    """Let nobody clean up the source of a sync that deletes: the copies that this would rely on are deleted in turn."""
    owner = f"{mirror.SYNC}{profile.directory.name}"
    if not profile.delete:
        uses.release(owner)
    elif not any(each.owner == owner for each in uses.live(profile.source.collection)):
        uses.hold(owner, state.directory / "no-longer-deletes", [(profile.source.collection, profile.source.path)])
