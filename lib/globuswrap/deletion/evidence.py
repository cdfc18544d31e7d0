"""Collect evidence about files that may be deleted: receipts, listings, mounts and inodes. Nothing is decided here.

`Evidence` is what receipts, the journal and live chains say about a collection; `View` is one look at both ends.
"""

from __future__ import annotations

import itertools
import os
import posixpath
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from globuswrap.collections import mounts
from globuswrap.collections.address import Address, normalised
from globuswrap.deletion import uses
from globuswrap.deletion.judge import Changed, Copy, Lister, Proof, Seen, Write
from globuswrap.deletion.uses import Use
from globuswrap.errors import Refused, UsageProblem
from globuswrap.globus import verbs
from globuswrap.system import log, units
from globuswrap.transfers import journal, outcome
from globuswrap.transfers.places import Index, Pair, Place, inside, pairs_of

CHECKSUM = 3

#: Where receipts come from; asked again for each look.
Receipts = Callable[[], Iterable[Mapping[str, Any]]]


class Evidence:
    """About one collection: what receipts prove by file and of whole directories, which transfers wrote where, and who uses
    what. Of the journal, what concerns a place is read when it is first asked about. `silent` counts the receipts that were
    looked at and prove nothing."""

    def __init__(
        self, collection: str, uses: list[Use], believed: Iterable[Mapping[str, Any]] | None, before: float | None
    ) -> None:
        self.collection = collection
        self.uses = uses
        self.silent = 0
        self._before = before
        self._from_journal = believed is None
        self._index = Index()
        self._read: set[str] = set()
        self._listed: dict[str, list[Proof]] = {}
        self._trees: list[Tree] = []
        self._wide: list[Write] = []
        self._exact: dict[Place, list[Write]] = {}
        self._into: set[str] = set()
        for receipt in believed or ():
            self._add(_write(receipt), receipt)

    def proofs(self, path: str) -> list[Proof]:
        self._learn(self._index.at((self.collection, path)))
        return [
            *self._listed.get(path, ()),
            *(proof for tree in self._trees for proof in tree.proofs(self.collection, path)),
        ]

    def writes_to(self, places: Iterable[Place]) -> list[Write]:
        """Those that wrote, or may have written, to one of these places."""
        listed = set(places)
        for place in listed:
            self._learn(self._index.at(place))
        wide = [write for write in self._wide if any(write.covers(place) for place in listed)]
        return [*wide, *(write for place in listed for write in self._exact.get(place, ()))]

    def delivered(self, directory: str) -> bool:
        """Does a receipt say that something was delivered into this directory?"""
        place = (self.collection, directory)
        for name in itertools.chain(self._index.at(place), self._index.below(place)):
            if directory in self._into:
                break
            self._learn([name])
        return directory in self._into

    def _learn(self, names: Iterable[str]) -> None:
        """Read these entries of the journal."""
        for name in names:
            if name in self._read:
                continue
            self._read.add(name)
            log.set_activity(f"reading receipts: {len(self._read)}")
            entry, receipt = journal.of_mark(name)
            if receipt is not None:
                self._add(_write(receipt), receipt if self._from_journal else None)
            elif entry is not None:
                self._add(_under_way(entry), None)

    def _add(self, write: Write | None, proving: Mapping[str, Any] | None) -> None:
        if write is not None and write.tops:
            self._wide.append(write)
        for path in write.paths if write is not None else ():
            assert write is not None
            self._exact.setdefault((write.collection, path), []).append(write)
        task = None if proving is None else _task(proving, self.collection, self._before)
        if proving is None or task is None:
            return
        files = proving.get("files_list") or ()
        for row in files:
            for proof in task.proofs(self.collection, normalised(row["source"]), normalised(row["destination"])):
                self._listed.setdefault(proof.path, []).append(proof)
                self._note_delivered(posixpath.dirname(proof.path))
        trees = _trees(proving, task)
        for tree in trees:
            for top in tree.tops(self.collection):
                self._note_delivered(top)
        self._trees += trees
        self.silent += not files and not trees

    def _note_delivered(self, directory: str) -> None:
        while directory not in self._into:
            self._into.add(directory)
            directory = posixpath.dirname(directory)


def gather(
    collection: str, receipts: Receipts | None, *, completed_before: float | None = None, owner: str | None = None
) -> Evidence:
    """What is known from now on. `receipts`: those to believe (default: the journal's); only those whose task ended before
    `completed_before` (seconds since the epoch) prove anything. `owner` is who asks: its own uses do not count."""
    return Evidence(
        collection, uses.live(collection, owner), None if receipts is None else receipts(), completed_before
    )


def _write(receipt: Mapping[str, Any]) -> Write | None:
    """Where a transfer with a receipt wrote. A list of files is all of it if the task succeeded."""
    destination = receipt.get("destination")
    if receipt.get("kind") != "transfer" or not destination:
        return None
    requested, completed = units.seconds_of(receipt.get("requested")), units.seconds_of(receipt.get("completed"))
    infinite = float("inf")
    window = (infinite if requested is None else requested, infinite if completed is None else completed)
    task_id, files = str(receipt.get("task_id")), receipt.get("files_list")
    if files is not None and receipt.get("outcome") in outcome.GOOD:
        return Write(task_id, destination, *window, frozenset(normalised(row["destination"]) for row in files))
    submission = receipt.get("submission") or {}
    pairs = pairs_of(submission.get("items"), submission.get("examples") or (), submission.get("within"))
    return Write(task_id, destination, *window, tops=_tops(pairs))


def _under_way(entry: journal.Entry) -> Write | None:
    """Where a transfer without a receipt may be writing. One that was refused, or is too old to be sent, is not under way."""
    claim = entry.claim
    if entry.receipt is not None:
        return None
    expired = entry.lapsed or entry.refused is not None or time.time() - claim.created > journal.RESEND_WITHIN
    if claim.destination is None or (entry.task_id is None and expired):
        return None
    infinite = float("inf")
    return Write(entry.task_id or claim.label, claim.destination, infinite, infinite, tops=_tops(claim.pairs))


def _tops(pairs: Iterable[Pair]) -> tuple[str, ...]:
    return tuple(normalised(destination) for _, destination in pairs if destination is not None)


@dataclass(frozen=True)
class _Task:
    task_id: str
    source: Any
    destination: Any
    requested: float
    completed: float
    same_time: bool

    def proofs(self, collection: str, source: str, destination: str) -> Iterator[Proof]:
        """What one copied pair proves about this collection: on one side, or on both."""
        rest = (self.requested, self.same_time)
        if self.source == collection:
            yield Proof(self.task_id, source, self.destination, destination, self.requested, self.completed, *rest)
        if self.destination == collection:
            # With preserved times the copy has its source's time, which is older than the request.
            yield Proof(self.task_id, destination, self.source, source, self.completed, self.requested, *rest)


def _task(receipt: Mapping[str, Any], collection: str, before: float | None) -> _Task | None:
    """The transfer from or to a collection that a receipt is of; None if it proves nothing: of a task that did not end well, or
    not `before` that moment (seconds since the epoch)."""
    source, destination = receipt.get("source"), receipt.get("destination")
    if collection not in (source, destination) or receipt.get("kind") != "transfer" or None in (source, destination):
        return None
    requested, completed = units.seconds_of(receipt.get("requested")), units.seconds_of(receipt.get("completed"))
    if receipt.get("outcome") not in outcome.GOOD or requested is None or completed is None:
        return None
    if before is not None and completed > before:
        return None
    same_time = bool(receipt.get("preserve_timestamp"))
    return _Task(str(receipt.get("task_id")), source, destination, requested, completed, same_time)


@dataclass(frozen=True)
class Tree:
    """A directory that a checksum sync compared as a whole."""

    task: _Task
    source: str
    destination: str

    def tops(self, collection: str) -> Iterator[str]:
        """Its directory, or directories, on this collection."""
        if self.task.source == collection:
            yield self.source
        if self.task.destination == collection:
            yield self.destination

    def proofs(self, collection: str, path: str) -> Iterator[Proof]:
        for mine, top, far in (
            (self.task.source, self.source, self.destination),
            (self.task.destination, self.destination, self.source),
        ):
            if mine == collection and (path == top or inside(path, top)):
                other = far if path == top else posixpath.join(far, posixpath.relpath(path, top))
                pair = (path, other) if top == self.source else (other, path)
                yield from (each for each in self.task.proofs(collection, *pair) if each.path == path)


def _trees(receipt: Mapping[str, Any], task: _Task) -> list[Tree]:
    """The directories of a checksum sync that left nothing out: no filters, no skipped errors, every item known."""
    submission = receipt.get("submission") or {}
    examples = submission.get("examples") or []
    complete = bool(examples) and submission.get("items") == len(examples)
    whole = receipt.get("sync_level") == CHECKSUM and receipt.get("outcome") == outcome.SUCCEEDED
    if not whole or not complete or receipt.get("filter_rules") != [] or receipt.get("skipped_errors"):
        return []
    return [Tree(task, normalised(source), normalised(destination)) for source, destination in examples]


@dataclass
class View:
    """One look at collections: each directory is listed once. `listing` and `changed` are how."""

    listing: Lister = field(default_factory=lambda: listing)
    changed: Changed = field(default_factory=lambda: changed_here)
    known: dict[Place, Mapping[str, Seen] | None] = field(default_factory=dict)

    def entries(self, collection: str, directory: str) -> Mapping[str, Seen] | None:
        """The entries of a directory by name; None if it is not there."""
        key = (collection, directory)
        if key not in self.known:
            self.known[key] = self.listing(collection, directory)
        return self.known[key]

    def seen(self, place: Place) -> Seen | None:
        directory, name = posixpath.split(place[1])
        return (self.entries(place[0], directory) or {}).get(name)

    def copy(self, place: Place, proof: Proof) -> Copy:
        """One of the two copies of a proof, as it is now."""
        return Copy(self.seen(place), self.changed(*place), self._through_new_link(place, proof.requested))

    def _through_new_link(self, place: Place, requested: float) -> bool:
        """Is a directory on the way a symbolic link that was made since? Where the way cannot be listed, it is not ours."""
        collection, at = place[0], posixpath.dirname(place[1])
        while at not in ("/", "", "~", "."):
            above, name = posixpath.split(at)
            try:
                entry = (self.entries(collection, above or "/") or {}).get(name)
            except Refused:
                return False
            if entry is not None and entry.link_modified is not None and entry.link_modified >= requested:
                return True
            at = above
        return False

    def walk(self, collection: str, root: str) -> Iterator[tuple[str, Seen]]:
        """Every entry below a root that is no directory; links are entries, and not followed. The root may be a file.

        Refused when a directory is not there by its own listing, and there by that of the one above, asked afresh: a
        directory that cannot be looked into must not pass for an empty one.
        """
        waiting = [root]
        while waiting:
            directory = waiting.pop()
            entries = self.entries(collection, directory)
            if entries is None:
                above, name = posixpath.split(directory)
                entry = (self.listing(collection, above or "/") or {}).get(name)
                if entry is not None and entry.kind == "dir":
                    raise Refused(
                        "odd-answer",
                        f"Globus says that {directory} does not exist, but lists it in its parent directory",
                        f"rerun; see: globus ls '{collection}:{directory}/'",
                    )
                if entry is not None and directory == root:
                    yield root, entry
                continue
            for name, seen in sorted(entries.items()):
                path = posixpath.join(directory, name)
                if seen.kind == "dir":
                    waiting.append(path)
                else:
                    yield path, seen


def listing(collection: str, directory: str) -> Mapping[str, Seen] | None:
    """A directory as `globus ls` shows it; None if it is not there, or is no directory."""
    rows = verbs.ls(f"{collection}:{directory.rstrip('/')}/")
    return None if rows is None else {str(row["name"]): entry(row) for row in rows}


def entry(row: Mapping[str, Any]) -> Seen:
    """A file document. The service shows a link as what it leads to, with `link_target` set; the size is the link's own."""
    kind = "link" if row.get("link_target") is not None else str(row.get("type"))
    link = units.seconds_of(row.get("link_last_modified"))
    if kind == "link" and link is None:
        link = float("inf")  # of unknown age: as if just made
    modified = units.seconds_of(row.get("last_modified"))
    size = row.get("link_size" if kind == "link" else "size")
    return Seen(kind, int(size or 0), float("inf") if modified is None else modified, link)


def changed_here(collection: str, path: str) -> float | None:
    """When the inode of a path last changed, where the collection is mounted on this machine; None where it is not."""
    try:
        return os.lstat(mounts.to_local(Address(collection, path))).st_ctime
    except UsageProblem:
        return None
    except OSError:
        return float("inf")  # mounted here, and not to be seen: not what was delivered
