"""What may be deleted: evidence in, verdict out. Nothing here acts.

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

import posixpath
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from globuswrap.errors import Refused


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
        found = [each for each in self.verdicts if inside(each.path, directory)]
        return (bool(found) or self.delivered(directory)) and all(each.delete for each in found)

    def delivered(self, directory: str) -> bool:
        """Does a receipt say that something was delivered into this directory?"""
        return any(inside(path, directory) for path in self.proven) or any(
            top == directory or inside(top, directory) for top in self.wholes
        )


def verdict(
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


def inside(path: str, top: str) -> bool:
    return path.startswith(top.rstrip("/") + "/")
