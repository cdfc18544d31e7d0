"""Announce deletions that have started and may not have ended, so that no two of them delete each other's proof.

A deletion is announced durably, one record each: what it deletes, and the other copies it relies on. Only then does it look
at the announcements of others. If one of them deletes what it relies on, or relies on what it deletes, it withdraws; two that
race may both withdraw, and try again. In a cycle of any length no two neighbors both go on. After this look it looks at
its files and their copies once more: what a deletion that ended before removed is then seen to be gone.

A deletion goes on by claiming its journal key, when it is submitted. Whoever finds an old announcement in its way that has not
claimed its key claims the key itself, with a digest that no request has: the other process, should it only have been suspended,
then finds its key taken, and deletes nothing. Once claimed, a deletion is unfinished until its task has ended. If it is not known
whether the task was accepted, it is unfinished until the task's deadline has passed, which was set when it was announced.

All records are in one directory: over NFS, adding one's own entry makes the entries that others added before visible.
"""

from __future__ import annotations

import contextlib
import os
import time
import uuid
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from globuswrap.collections.address import normalised
from globuswrap.deletion.uses import Use
from globuswrap.errors import Problem, Refused, TryLater
from globuswrap.system import files, records
from globuswrap.transfers import journal, outcome
from globuswrap.transfers import request as requests
from globuswrap.transfers import wait as waiting
from globuswrap.transfers.places import Index, Place

SCHEMA = "globuswrap.deletion/1"
#: A digest that no request has: a key claimed with it stands for a deletion that must not begin any more.
VOID = "void"
#: Seconds after which an announcement that claimed nothing is taken to be left over from a killed process. Only others wait.
STALE = 900.0
#: Seconds within which a deletion task has to end; Globus cancels it then.
LASTS = 86400.0
#: How far this machine's clock and that of Globus may differ, in seconds.
CLOCK_SKEW = 600.0

Same = Callable[[Place, Place], bool]


@dataclass(frozen=True)
class Announcement:
    """One deletion. `deletes` maps each path on `collection` to the copy that it relies on, if any; `name` and `key` are its
    journal key as given and in full; `until` (seconds since the epoch) is its task's deadline."""

    path: Path
    name: str
    key: str
    collection: str
    deletes: dict[str, Place | None]
    created: float
    until: float


@dataclass(frozen=True)
class Conflict:
    """Another deletion that is in the way of `paths` (of those that were asked about). `task_id` is its task, if it is known to
    have one; `racing`: it may withdraw at any moment."""

    paths: frozenset[str]
    racing: bool
    task_id: str | None


def directory() -> Path:
    return files.state_dir() / "deletions"


def announce(collection: str, deletes: dict[str, Place | None], name: str | None = None) -> Announcement:
    """Announce, durably, the deletion of paths of a collection; `name` is its journal key (default: one of its own)."""
    unique = uuid.uuid4().hex
    name = name or f"deletion {unique}"
    now = time.time()
    made = Announcement(
        files.private_directory(directory()) / unique,
        name,
        requests.key_of("", name),
        collection,
        deletes,
        now,
        now + LASTS,
    )
    document = {**vars(made), "schema": SCHEMA, "path": None}
    files.write_atomic(made.path, records.dump(document))
    return made


def withdraw(mine: Announcement) -> None:
    """Take back an announcement that claimed nothing; also what removes one whose deletion has ended."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(mine.path)


def conflicts(mine: Announcement, same: Same = lambda one, other: one == other) -> list[Conflict]:
    """The deletions that mine must not go together with. `same`: are these two places one file? Equal ones are.

    To be called after `announce`. What has ended is tidied away, and what is left over from a killed process made void.
    """
    others = [each for each in announced() if each.path != mine.path and each.key != mine.key]
    found = [_unfinished(each, frozenset(_contested(mine, each, same))) for each in others]
    known = {mine.key, *(each.key for each in others)}
    return [each for each in found if each is not None] + list(_unannounced(mine, known))


def check_not_relied_on(collection: str, paths: Iterable[str]) -> None:
    """Raise TryLater (75) if an unfinished deletion relies on a copy at or below one of these paths of a collection."""
    doomed = [Use("", collection, normalised(path)) for path in paths]
    for each in announced():
        copies = [copy[1] for copy in each.deletes.values() if copy is not None and copy[0] == collection]
        relied_on = frozenset(path for path in copies if any(top.covers(path) for top in doomed))
        conflict = _unfinished(each, relied_on)
        if conflict is not None:
            by = f"task {conflict.task_id}" if conflict.task_id else "a deletion that has just started"
            follow = f": globuswrap wait {conflict.task_id}" if conflict.task_id else ""
            raise TryLater(
                "relied-on",
                f"{min(relied_on)} is the only other copy of what {by} deletes",
                f"rerun when that has ended; nothing was deleted{follow}",
            )


def _unfinished(other: Announcement, paths: frozenset[str]) -> Conflict | None:
    """That another deletion, which is in the way of these paths, has not ended; None if it has, or is in the way of none."""
    entry = journal.latest(other.key)
    if not paths and not _overdue(other):
        if entry is not None and _terminal(entry.receipt):
            withdraw(other)
        return None
    if entry is None and abs(time.time() - other.created) > STALE:
        entry = _void(other)
    if entry is not None and _ended(other, entry):
        withdraw(other)
        return None
    return Conflict(paths, entry is None, entry.task_id if entry is not None else None) if paths else None


def _unannounced(mine: Announcement, known: Collection[str]) -> Iterator[Conflict]:
    """Deletions that ask nobody (`globuswrap delete`) and may take away what mine relies on. `known`: keys of those that do."""
    index = Index()
    names = {name for copy in mine.deletes.values() if copy is not None for name in index.at(copy)}
    for name in names:
        entry, _ = journal.of_mark(name)
        claim = entry.claim if entry is not None else None
        if entry is None or claim is None or claim.kind != "delete" or claim.digest == VOID:
            continue
        if claim.key in known or _terminal(entry.receipt):
            continue
        doomed = [Use("", collection, path) for collection, path in claim.places]
        copies = {path: copy for path, copy in mine.deletes.items() if copy is not None and copy[0] == claim.source}
        paths = frozenset(path for path, copy in copies.items() if any(top.covers(copy[1]) for top in doomed))
        never = entry.task_id is None and (entry.lapsed or entry.refused is not None)
        long_ago = time.time() - claim.created > journal.RESEND_WITHIN
        if paths and not _task_ended(entry.task_id, never or long_ago):
            yield Conflict(paths, False, entry.task_id)


def under_way(collection: str, paths: Iterable[str]) -> list[tuple[Announcement, journal.Entry]]:
    """The deletions of some of these paths that have a task, which is not known to have ended."""
    wanted = set(paths)
    found = []
    for each in announced():
        entry = journal.latest(each.key) if each.collection == collection and wanted & set(each.deletes) else None
        if entry is not None and entry.task_id is not None and not _ended(each, entry):
            found.append((each, entry))
    return found


def clear(prefix: str) -> None:
    """Withdraw the announcements whose names begin like this and that are over: those that have ended, and those that nobody
    submitted, which do not begin any more then. To be called by who is known to be the only one to submit them."""
    for each in announced():
        if each.name.startswith(prefix):
            entry = journal.latest(each.key)
            if _ended(each, _void(each) if entry is None else entry):
                withdraw(each)


def announced() -> list[Announcement]:
    """All announcements, of all processes and hosts."""
    return [_of(path, document) for path, document in records.documents(directory(), SCHEMA)]


def _of(path: Path, document: dict[str, Any]) -> Announcement:
    document.pop("schema")
    deletes = {name: None if relied is None else (relied[0], relied[1]) for name, relied in document["deletes"].items()}
    return Announcement(**{**document, "path": path, "deletes": deletes})


def _contested(mine: Announcement, other: Announcement, same: Same) -> Iterable[str]:
    """My paths whose other copy the other deletes, or that the other relies on."""
    for relies, deletes, of_relying in ((mine, other, True), (other, mine, False)):
        doomed: dict[str, list[str]] = {}
        for path in deletes.deletes:
            doomed.setdefault(os.path.basename(path), []).append(path)
        for path, copy in relies.deletes.items():
            if copy is None:
                continue
            for lost in doomed.get(os.path.basename(copy[1]), ()):
                if copy == (deletes.collection, lost) or same(copy, (deletes.collection, lost)):
                    yield path if of_relying else lost


def _void(other: Announcement) -> journal.Entry:
    """Claim the key of a deletion, so that it cannot begin; the entry returned says who has the key now."""
    claim = journal.new_claim(
        key=other.key,
        attempt=1,
        submission_id=str(uuid.uuid4()),
        digest=VOID,
        label="",
        kind="delete",
        source=other.collection,
        destination=None,
        items=0,
        examples=(),
        name=other.name,
        once=True,
    )
    entry = journal.claim(claim)
    return journal.record(entry, "lapsed", {"time": time.time()}) if entry.claim.digest == VOID else entry


def _ended(other: Announcement, entry: journal.Entry) -> bool:
    """Has the task of a deletion ended? False while that is not known for sure: a task that is not found may be another
    account's, and a receipt may be that of a task that was given up on."""
    if entry.claim.digest == VOID or _terminal(entry.receipt) is True:
        return True
    return _task_ended(entry.task_id, _overdue(other))


def _task_ended(task_id: str | None, otherwise: bool) -> bool:
    """Has this task ended? `otherwise` where there is none, or Globus does not say; False where it cannot be asked."""
    try:
        known = None if task_id is None else _terminal(waiting.documents([task_id])[task_id])
    except Problem:
        return False
    return otherwise if known is None else known


def _overdue(other: Announcement) -> bool:
    """Has its deadline passed, by any clock?"""
    return time.time() > other.until + CLOCK_SKEW


def _terminal(task: Mapping[str, Any] | None) -> bool | None:
    """Has the task of this document ended? None if the document does not say."""
    if task and task.get("status") == outcome.ABSENT:
        return None
    try:
        return outcome.phase(task or {}, ()).terminal
    except Refused:
        return None
