"""Judge what may be deleted: evidence in, verdict out. Nothing here reads or changes files.

A file is proven when a receipt lists it as copied, or when it lies in a directory that a checksum sync without filters and
without skipped files compared as a whole. It is deleted only if, besides,

- no later transfer of ours wrote to it or to its other copy, or may have: the newest receipt decides;
- no live chain uses it;
- it is older than the transfer: not modified since the transfer was requested (the delivered copy: since it was completed);
- the other copy is still there, a regular file of the same size, and itself not modified since;
- with preserved times, both still have the same time;
- no directory on the way to either of them was replaced by a symbolic link since;
- where a collection is mounted here, the inode has not changed since either (that of a renamed or back-dated file has);
- the two are not one file on one storage that has two names.

The other copy of what is deleted is never deleted in the same run, nor while any other deletion is unfinished
(`announcements`). Directories are never deleted: between looking and deleting something may have come into them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from globuswrap.deletion.uses import Use
from globuswrap.transfers.places import Place, inside


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
class Copy:
    """One of two copies as it is now; `seen` None: gone. `changed` is when its inode changed, None where that cannot be seen;
    `new_link`: a directory on the way to it was made a symbolic link since the transfer."""

    seen: Seen | None
    changed: float | None = None
    new_link: bool = False


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

    @property
    def copy(self) -> Place:
        return self.other_collection, self.other


@dataclass(frozen=True)
class Fetch:
    """That an identity copied a shared file in a task of its own: what that proves, but for the copy, which only it can see."""

    owner: str
    proof: Proof


@dataclass(frozen=True)
class Write:
    """A transfer that wrote, or may have written, to these `paths` and below these `tops` of a collection. Times are seconds
    since the epoch; `ended` is infinite while it is under way."""

    task_id: str
    collection: str
    started: float
    ended: float
    paths: frozenset[str] = frozenset()
    tops: tuple[str, ...] = ()

    def covers(self, place: Place) -> bool:
        collection, path = place
        if collection != self.collection:
            return False
        return path in self.paths or any(top in (path, "/") or inside(path, top) for top in self.tops)


@dataclass(frozen=True)
class Verdict:
    """What is to become of one file: deleted, or kept for `reason`. `copy` is what the deletion relies on; `later`: it may be
    deleted when another deletion has ended; `tasks`: those in which others have fetched it."""

    path: str
    reason: str = ""
    proof: Proof | None = None
    size: int = 0
    later: bool = False
    tasks: tuple[str, ...] = ()

    @property
    def delete(self) -> bool:
        return not self.reason

    @property
    def copy(self) -> Place | None:
        return self.proof.copy if self.proof is not None else None


@dataclass
class Plan:
    """What a look came to. `delivered`: does a receipt say that something was delivered into this directory? `silent` counts
    the receipts that were looked at and list nothing."""

    collection: str
    verdicts: list[Verdict] = field(default_factory=list)
    delivered: Callable[[str], bool] = lambda _: False
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


def verdict(
    here: Place,
    seen: Seen,
    proofs: Sequence[Proof],
    writes: Sequence[Write],
    uses: Iterable[Use],
    look: Callable[[Place, Proof], Copy],
) -> Verdict:
    """What is to become of the file that `seen` shows at `here`. Of several proofs the newest that holds decides; `look` shows
    either of the two copies of a proof."""
    path = here[1]
    if reason := _kept_anyway(here, seen, uses):
        return Verdict(path, reason)
    reason = "no receipt proves that it was delivered"
    for proof in sorted(proofs, key=lambda each: -each.requested):
        why = voided(here, proof, writes) or against(proof, look(here, proof), look(proof.copy, proof))
        if not why:
            return Verdict(path, proof=proof, size=seen.size)
        reason = why
    return Verdict(path, reason)


def delivered(here: Place, seen: Seen, writes: Iterable[Write], uses: Iterable[Use]) -> Verdict:
    """What is to become of a file that its source does not have any more: deleted if it is as we delivered it."""
    path = here[1]
    newest = max((each for each in writes if path in each.paths), key=lambda each: each.ended, default=None)
    reason = used(here, uses)
    if seen.kind != "file":
        reason = f"is a {seen.kind}"
    elif newest is None:
        reason = reason or "no receipt says that it was delivered"
    elif seen.modified // 1 == newest.ended // 1:
        reason = (
            f"was written in the same second in which task {newest.task_id} ended: cannot tell whether it changed since"
        )
    elif seen.modified > newest.ended:
        reason = f"was modified since task {newest.task_id}"
    return Verdict(path, reason, size=seen.size)


def fetched(
    here: Place,
    seen: Seen,
    recipients: Mapping[str, str] | None,
    fetches: Sequence[Fetch],
    writes: Sequence[Write],
    uses: Iterable[Use],
    look: Callable[[Place, Proof], Copy],
) -> Verdict:
    """What is to become of a shared file: deleted if each of the recipients (name by identity) has fetched it as it is now; None:
    anyone. Their copies cannot be looked at: a successful task of theirs that lists the file is the proof."""
    path = here[1]
    if reason := _kept_anyway(here, seen, uses):
        return Verdict(path, reason)
    good: dict[str, str] = {}
    against: dict[str, str] = {}
    for fetch in sorted(fetches, key=lambda each: -each.proof.requested):
        copy = look(here, fetch.proof)
        gone = copy.seen is None or copy.seen.kind != "file"
        why = "has just changed" if gone else voided(here, fetch.proof, writes)
        why = why or touched(fetch.proof, copy, fetch.proof.unchanged_since, "")
        if why:
            against.setdefault(fetch.owner, why)
        else:
            good.setdefault(fetch.owner, fetch.proof.task_id)
    if recipients is None:
        reason = "" if good else next(iter(against.values()), "nobody else has downloaded it")
    elif not recipients:
        reason = "no recipient is known: name them with --by"
    else:
        missing = {owner: name for owner, name in recipients.items() if owner not in good}
        again = [f"{name}: {against[owner]}" for owner, name in missing.items() if owner in against]
        never = [name for owner, name in missing.items() if owner not in against]
        reason = "; ".join([*([f"has not been downloaded by {', '.join(never)}"] if never else []), *again])
    tasks = tuple(task for owner, task in good.items() if recipients is None or owner in recipients)
    return Verdict(path, reason, size=seen.size, tasks=() if reason else tasks)


def _kept_anyway(here: Place, seen: Seen, uses: Iterable[Use]) -> str:
    """Why a file stays, whatever else is known of it; empty if nothing keeps it."""
    if seen.kind != "file":
        return "is a symbolic link" if seen.kind == "link" else f"is a {seen.kind}"
    return used(here, uses)


def used(here: Place, uses: Iterable[Use]) -> str:
    """Who still uses it; empty if nobody does."""
    use = next((use for use in uses if use.collection == here[0] and use.covers(here[1])), None)
    return in_use(use) if use is not None else ""


def in_use(use: Use) -> str:
    return f"is in use by {use.owner}, which has not ended"


def voided(here: Place, proof: Proof, writes: Iterable[Write]) -> str:
    """Which later transfer wrote to one of the two copies, or may have; empty if none did.

    Transfers that overlap may have written in either order. One that began in the second in which the proof's began may be the
    later one; one that ended in that second ended before.
    """
    for write in writes:
        later = write.started >= proof.requested or write.ended > proof.requested
        if write.task_id == proof.task_id or not later:
            continue
        for place, what in ((here, "it"), (proof.copy, "the other copy")):
            if write.covers(place):
                return f"{what} may have been overwritten by task {write.task_id} since task {proof.task_id}"
    return ""


def against(proof: Proof, mine: Copy, other: Copy) -> str:
    """Why this proof does not hold for the two copies as they are now; empty if it does."""
    where = f"{proof.other_collection}:{proof.other}"
    if mine.seen is None or mine.seen.kind != "file":
        return "has just changed"
    if other.seen is None:
        return f"the other copy is gone: {where}"
    if other.seen.kind != "file":
        return f"the other copy is no longer a regular file: {where}"
    if other.seen.size != mine.seen.size:
        return f"the other copy has another size: {where}"
    for copy, limit, what, tail in (
        (mine, proof.unchanged_since, "", ""),
        (other, proof.other_unchanged_since, "the other copy ", f": {where}"),
    ):
        why = touched(proof, copy, limit, what)
        if why:
            return f"{why}{tail}"
    if proof.same_time and int(other.seen.modified) != int(mine.seen.modified):
        return f"the other copy has another time: {where}"
    return ""


def touched(proof: Proof, copy: Copy, limit: float, what: str) -> str:
    """How a copy may have changed since `limit`, one of the times of a proof; empty if it has not."""
    assert copy.seen is not None
    since = f"since task {proof.task_id}"
    changed = copy.changed if copy.changed is not None else float("-inf")
    if copy.seen.modified >= limit // 1 + 1:
        return f"{what}was modified {since}"
    if changed >= limit // 1 + 1:
        return f"{what}was replaced or changed {since} (its inode)"
    if max(copy.seen.modified, changed) >= limit // 1:
        return (
            f"{what}was written in the same second in which task {proof.task_id} "
            f"{'was requested' if limit == proof.requested else 'ended'}: cannot tell whether it changed since; "
            "transfer it again with --sync-level checksum, and clean up after that"
        )
    if copy.new_link:
        return f"{what}is reached through a symbolic link made {since}"
    return ""
