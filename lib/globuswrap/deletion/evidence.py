"""What is known about files that may be deleted: receipts as proofs, listings, mounts and inodes. Nothing is decided here."""

from __future__ import annotations

import os
import posixpath
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any

from globuswrap.collections import mounts
from globuswrap.collections.address import Address, normalised
from globuswrap.deletion.judge import Lister, Proof, Seen, inside
from globuswrap.errors import Refused, UsageProblem
from globuswrap.globus import command, queries
from globuswrap.globus.faults import Absent
from globuswrap.system import log

CHECKSUM = 3


def proofs(
    receipts: Iterable[Mapping[str, Any]], collection: str, *, completed_before: float | None = None
) -> tuple[dict[str, list[Proof]], list[Tree], int]:
    """By file, and of whole directories, what receipts prove about a collection; and how many receipts prove nothing.

    `completed_before`: only those whose task ended before this moment (seconds since the epoch).
    """
    listed: dict[str, list[Proof]] = {}
    trees: list[Tree] = []
    silent = 0
    for number, each in enumerate(receipts, 1):
        log.doing(f"reading receipts: {number}")
        sides = (each.get("source"), each.get("destination"))
        if collection not in sides or each.get("kind") != "transfer" or None in sides:
            continue
        requested, completed = _seconds(each.get("requested")), _seconds(each.get("completed"))
        if each.get("outcome") not in ("succeeded", "succeeded-with-skips") or requested is None or completed is None:
            continue
        if completed_before is not None and completed > completed_before:
            continue
        task = _Task(
            str(each.get("task_id")), sides[0], sides[1], requested, completed, bool(each.get("preserve_timestamp"))
        )
        pairs = [(row["source"], row["destination"]) for row in each.get("files_list") or ()]
        for source, destination in pairs:
            for proof in task.proofs(collection, normalised(source), normalised(destination)):
                listed.setdefault(proof.path, []).append(proof)
        whole = _trees(each, task)
        trees += whole
        silent += not pairs and not whole
    return listed, trees, silent


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
    whole = receipt.get("sync_level") == CHECKSUM and receipt.get("outcome") == "succeeded"
    if not whole or not complete or receipt.get("filter_rules") != [] or receipt.get("skipped_errors"):
        return []
    return [Tree(task, normalised(source), normalised(destination)) for source, destination in examples]


def _seconds(text: object) -> float | None:
    if not isinstance(text, str):
        return None
    try:
        found = datetime.fromisoformat(text.replace("Z", "+00:00"))
    except ValueError:
        return None
    return (found if found.tzinfo is not None else found.replace(tzinfo=timezone.utc)).timestamp()


def walk(collection: str, root: str, lister: Lister, afresh: Lister) -> Iterator[tuple[str, Seen]]:
    """Every entry below a root that is no directory; links are entries, and not followed. The root may be a file.

    Refused when a directory is not there by its own listing, and there by that of the one above, asked `afresh`: a directory
    that cannot be looked into must not pass for an empty one.
    """
    waiting = [root]
    while waiting:
        directory = waiting.pop()
        entries = lister(collection, directory)
        if entries is None:
            above, name = posixpath.split(directory)
            entry = (afresh(collection, above or "/") or {}).get(name)
            if entry is not None and entry.kind == "dir":
                raise Refused(
                    "odd-answer",
                    f"Globus says that {directory} is not there, and lists it in the directory above",
                    f"run it again; look: globus ls '{collection}:{directory}/'",
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


def cached(lister: Lister) -> Lister:
    known: dict[tuple[str, str], Mapping[str, Seen] | None] = {}

    def listed(collection: str, directory: str) -> Mapping[str, Seen] | None:
        key = (collection, directory)
        if key not in known:
            known[key] = lister(collection, directory)
        return known[key]

    return listed


def listing(collection: str, directory: str) -> Mapping[str, Seen] | None:
    """A directory as `globus ls` shows it; None if it is not there, or is no directory."""
    target = f"{collection}:{directory.rstrip('/')}/"
    try:
        answer = command.retrying(lambda: command.call("ls", "--all", "--", target))
    except Absent:
        return None
    except Refused as problem:
        if "NotDirectory" in problem.cause:
            return None
        raise
    rows = queries.search(queries.ROWS, answer)
    if not isinstance(rows, list):
        raise Refused("odd-answer", f"globus gave no listing of {target}", f"globus ls {target}")
    return {str(row["name"]): entry(row) for row in rows}


def entry(row: Mapping[str, Any]) -> Seen:
    """A file document. The service shows a link as what it leads to, with `link_target` set."""
    kind = "link" if row.get("link_target") is not None else str(row.get("type"))
    link = _seconds(row.get("link_last_modified"))
    if kind == "link" and link is None:
        link = float("inf")  # of unknown age: as if just made
    modified = _seconds(row.get("last_modified"))
    return Seen(kind, int(row.get("size") or 0), float("inf") if modified is None else modified, link)


def changed_here(collection: str, path: str) -> float | None:
    """When the inode of a path last changed, where the collection is mounted on this machine; None where it is not."""
    try:
        return os.lstat(mounts.to_local(Address(collection, path))).st_ctime
    except UsageProblem:
        return None
    except OSError:
        return float("inf")  # mounted here, and not to be seen: not what was delivered
