"""What may be deleted because receipts prove that a copy of it is elsewhere; and deleting it, exactly once.

A file is proven when a receipt lists it as copied, or when it lies in a directory that a checksum sync without filters and
without skipped files compared as a whole. It is deleted only if, besides,

- it is older than the transfer: not modified since the transfer was requested (the delivered copy: since it was completed);
- the other copy is still there, a regular file of the same size, and itself not modified since;
- with preserved times, both still have the same time;
- no directory on the way to either of them was replaced by a symbolic link since;
- where a collection is mounted here, the inode has not changed since either (that of a renamed or back-dated file has).

The other copy of what is deleted is never deleted in the same run. Directories are never deleted: between looking and
deleting something may have come into them.
"""

from __future__ import annotations

import os
import posixpath
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Any

from globuswrap.collections import mounts
from globuswrap.collections.address import Address, checked_path, normalised
from globuswrap.errors import Refused, UsageProblem
from globuswrap.globus import command, queries
from globuswrap.globus.faults import Absent
from globuswrap.system import log
from globuswrap.transfers import operations
from globuswrap.transfers import request as requests
from globuswrap.transfers.operations import After, Result
from globuswrap.transfers.request import Options
from globuswrap.transfers.submit import Policy
from globuswrap.transfers.wait import Patience, Watcher

#: Paths of one deletion: a document of this many stays well below the largest that were measured.
PER_TASK = 10_000
CHECKSUM = 3


@dataclass(frozen=True)
class Seen:
    """An entry of a listing. `kind` is file, dir, link or another; times are seconds since the epoch, sizes bytes."""

    kind: str
    size: int = 0
    modified: float = 0.0
    link_modified: float | None = None


#: A directory of a collection by the names in it; None if it is not there.
Lister = Callable[[str, str], Mapping[str, Seen] | None]
#: When the inode of a path of a collection changed (seconds since the epoch); None where that cannot be seen.
Changed = Callable[[str, str], float | None]


@dataclass(frozen=True)
class Proof:
    """That `path` and `other` (on `other_collection`) were the same when a task ended. Times are seconds since the epoch."""

    task_id: str
    path: str
    other_collection: str
    other: str
    unchanged_since: float
    other_unchanged_since: float
    requested: float
    same_time: bool


@dataclass(frozen=True)
class Verdict:
    """What is to become of one file: deleted because of `proof`, or kept for `reason`."""

    path: str
    reason: str = ""
    proof: Proof | None = None
    size: int = 0

    @property
    def delete(self) -> bool:
        return self.proof is not None


@dataclass
class Plan:
    """What a look came to. `proven` are the paths that receipts list, and `wholes` the directories that they are about as a
    whole, there or not; `silent` counts receipts that list none."""

    collection: str
    verdicts: list[Verdict] = field(default_factory=list)
    proven: frozenset[str] = frozenset()
    wholes: frozenset[str] = frozenset()
    silent: int = 0

    @property
    def deleted(self) -> list[Verdict]:
        return [each for each in self.verdicts if each.delete]

    @property
    def kept(self) -> list[Verdict]:
        return [each for each in self.verdicts if not each.delete]

    def emptied(self, directory: str) -> bool:
        """Will no file be left below this directory, where something had been delivered?

        Also when the files went in an earlier run; not where nothing ever was: that is waiting for its data.
        """
        inside = [each for each in self.verdicts if _inside(each.path, directory)]
        return (bool(inside) or self.delivered(directory)) and all(each.delete for each in inside)

    def delivered(self, directory: str) -> bool:
        """Does a receipt say that something was delivered into this directory?"""
        return any(_inside(path, directory) for path in self.proven) or any(
            top == directory or _inside(top, directory) for top in self.wholes
        )


def checked_roots(under: Address, paths: Sequence[Address]) -> list[str]:
    """The paths to look at, all below `under` (itself if none is given). UsageProblem for what is never cleaned up."""
    if under.path.strip("/") in ("", "~", ".") or not under.path.startswith("/"):
        raise UsageProblem(
            "refused-root", f"{under.shown} is too much to clean up", "name a directory: --under NAME:/dir/"
        )
    for each in (under, *paths):
        checked_path(each.path)
        if any(letter in each.path for letter in "*?["):
            raise UsageProblem(
                "refused-glob", f"{each.shown}: patterns are not cleaned up", "name directories or files"
            )
    top = normalised(under.path)
    found = []
    for each in paths:
        path = normalised(each.path)
        if each.collection != under.collection or not (path == top or _inside(path, top)):
            raise UsageProblem("outside", f"{each.shown} is not below {under.shown}", "name what lies under --under")
        found.append(path)
    return found or [top]


# proofs


def proofs(
    receipts: Iterable[Mapping[str, Any]], collection: str, *, completed_before: float | None = None
) -> tuple[dict[str, list[Proof]], list[_Tree], int]:
    """By file, and of whole directories, what receipts prove about a collection; and how many receipts prove nothing.

    `completed_before`: only those whose task ended before this moment (seconds since the epoch).
    """
    listed: dict[str, list[Proof]] = {}
    trees: list[_Tree] = []
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
class _Tree:
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
            if mine == collection and (path == top or _inside(path, top)):
                other = far if path == top else posixpath.join(far, posixpath.relpath(path, top))
                pair = (path, other) if top == self.source else (other, path)
                yield from (each for each in self.task.proofs(collection, *pair) if each.path == path)


def _trees(receipt: Mapping[str, Any], task: _Task) -> list[_Tree]:
    """The directories of a checksum sync that left nothing out: no filters, no skipped errors, every item known."""
    submission = receipt.get("submission") or {}
    examples = submission.get("examples") or []
    complete = bool(examples) and submission.get("items") == len(examples)
    whole = receipt.get("sync_level") == CHECKSUM and receipt.get("outcome") == "succeeded"
    if not whole or not complete or receipt.get("filter_rules") != [] or receipt.get("skipped_errors"):
        return []
    return [_Tree(task, normalised(source), normalised(destination)) for source, destination in examples]


def _seconds(text: object) -> float | None:
    if not isinstance(text, str):
        return None
    try:
        found = datetime.fromisoformat(text.replace("Z", "+00:00"))
    except ValueError:
        return None
    return (found if found.tzinfo is not None else found.replace(tzinfo=timezone.utc)).timestamp()


# the plan


def plan(
    collection: str,
    roots: Sequence[str],
    receipts: Iterable[Mapping[str, Any]],
    lister: Lister,
    *,
    completed_before: float | None = None,
    changed_here: Changed = lambda collection, path: None,
) -> Plan:
    """Look at every file below the roots and judge it."""
    listed, trees, silent = proofs(receipts, collection, completed_before=completed_before)
    cached = _cached(lister)
    wholes = frozenset(top for tree in trees for top in tree.tops(collection))
    found = Plan(collection, proven=frozenset(listed), wholes=wholes, silent=silent)
    needed: set[tuple[str, str]] = set()
    taken: set[str] = set()
    for root in roots:
        for path, seen in _walk(collection, root, cached, lister):
            if path in taken:
                continue
            known = [*listed.get(path, ()), *(proof for tree in trees for proof in tree.proofs(collection, path))]
            verdict = _judged(collection, path, seen, known, cached, changed_here, taken, needed)
            if verdict.proof is not None:
                taken.add(path)
                needed.add((verdict.proof.other_collection, verdict.proof.other))
            found.verdicts.append(verdict)
            log.doing(f"looking at each file: {len(found.verdicts)}")
    log.doing("")
    return found


def _judged(
    collection: str,
    path: str,
    seen: Seen,
    known: Sequence[Proof],
    lister: Lister,
    changed_here: Changed,
    taken: set[str],
    needed: set[tuple[str, str]],
) -> Verdict:
    if seen.kind == "link":
        return Verdict(path, "is a symbolic link")
    if seen.kind != "file":
        return Verdict(path, f"is a {seen.kind}")
    if (collection, path) in needed:
        return Verdict(path, "is the other copy of what is deleted")
    reason = "no receipt proves that it was delivered"
    for proof in sorted(known, key=lambda each: -each.requested):
        if proof.other_collection == collection and proof.other in taken:
            reason = "its other copy is deleted in this run"
            continue
        why = _against(collection, proof, seen, lister, changed_here)
        if not why:
            return Verdict(path, proof=proof, size=seen.size)
        reason = why
    return Verdict(path, reason)


def _against(collection: str, proof: Proof, seen: Seen, lister: Lister, changed_here: Changed) -> str:
    """Why this proof does not hold for the file as it is now; empty if it does."""
    if seen.modified >= proof.unchanged_since:
        return f"was modified since task {proof.task_id}"
    changed = changed_here(collection, proof.path)
    if changed is not None and changed >= proof.unchanged_since:
        return f"was replaced or changed since task {proof.task_id} (its inode)"
    if _through_new_link(collection, proof.path, proof.requested, lister):
        return f"is reached through a symbolic link made since task {proof.task_id}"
    other = (lister(proof.other_collection, posixpath.dirname(proof.other)) or {}).get(posixpath.basename(proof.other))
    where = f"{proof.other_collection}:{proof.other}"
    if other is None:
        return f"the other copy is gone: {where}"
    if other.kind != "file":
        return f"the other copy is no regular file any more: {where}"
    if other.size != seen.size:
        return f"the other copy has another size: {where}"
    if other.modified >= proof.other_unchanged_since:
        return f"the other copy was modified since task {proof.task_id}: {where}"
    changed = changed_here(proof.other_collection, proof.other)
    if changed is not None and changed >= proof.other_unchanged_since:
        return f"the other copy was replaced or changed since task {proof.task_id} (its inode): {where}"
    if proof.same_time and int(other.modified) != int(seen.modified):
        return f"the other copy has another time: {where}"
    if _through_new_link(proof.other_collection, proof.other, proof.requested, lister):
        return f"the other copy is reached through a symbolic link made since task {proof.task_id}: {where}"
    return ""


def _through_new_link(collection: str, path: str, requested: float, lister: Lister) -> bool:
    """Is a directory on the way a symbolic link that was made since? Where the way cannot be listed, it is not ours."""
    at = posixpath.dirname(path)
    while at not in ("/", "", "~", "."):
        above, name = posixpath.split(at)
        try:
            entries = lister(collection, above or "/")
        except Refused:
            return False
        entry = (entries or {}).get(name)
        if entry is not None and entry.link_modified is not None and entry.link_modified >= requested:
            return True
        at = above
    return False


def _walk(collection: str, root: str, lister: Lister, afresh: Lister) -> Iterator[tuple[str, Seen]]:
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


def _cached(lister: Lister) -> Lister:
    known: dict[tuple[str, str], Mapping[str, Seen] | None] = {}

    def listed(collection: str, directory: str) -> Mapping[str, Seen] | None:
        key = (collection, directory)
        if key not in known:
            known[key] = lister(collection, directory)
        return known[key]

    return listed


def _inside(path: str, top: str) -> bool:
    return path.startswith(top.rstrip("/") + "/")


# what acts


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


def looked_again(collection: str, verdict: Verdict, changed: Changed, chosen: set[str]) -> Verdict:
    """The verdict as it is right before the deletion: listing many directories takes a while."""
    if verdict.proof is None or verdict.path not in chosen:
        return verdict
    proof = verdict.proof
    mine, other = changed(collection, verdict.path), changed(proof.other_collection, proof.other)
    if mine is not None and mine >= proof.unchanged_since:
        return Verdict(verdict.path, "has just changed")
    if other is not None and other >= proof.other_unchanged_since:
        return Verdict(verdict.path, "the other copy has just changed")
    return verdict


def carry_out(
    found: Plan,
    *,
    label: str | None = None,
    notify: str = "off",
    deadline: str | None = None,
    patience: Patience | None = None,
    after: After | None = None,
    watcher: Watcher | None = None,
) -> list[Result]:
    """Delete what the plan says, by name, in few tasks, and wait for them. Raises the Problem of the first bad end.

    What has changed since the plan was made, as far as that can be seen here, is kept: the plan then says so.
    """
    results = []
    paths = [each.path for each in found.deleted]
    for first in range(0, len(paths), PER_TASK):
        chosen = set(paths[first : first + PER_TASK])
        found.verdicts = [looked_again(found.collection, each, changed_here, chosen) for each in found.verdicts]
        part = [Address(found.collection, each.path) for each in found.deleted if each.path in chosen]
        if not part:
            continue
        request = requests.delete(
            part,
            recursive=False,
            options=Options(ignore_missing=True),
            label=label or "globuswrap cleanup",
            notify=notify,
            deadline=deadline,
        )
        results.append(operations.perform(request, Policy(), patience or Patience(), after, watcher))
    return results
