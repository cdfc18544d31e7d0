"""Plan what a cleanup deletes, and delete, exactly once, what a last check still allows.

Whatever deletes goes through `begin`: it announces the deletion, looks at the deletions of others, looks at its files once
more, and only then submits. See `announcements` for why this order.
"""

from __future__ import annotations

import posixpath
import random
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone

from globuswrap.collections.address import Address, checked_path, normalised
from globuswrap.deletion import announcements, judge, uses
from globuswrap.deletion.announcements import Announcement
from globuswrap.deletion.evidence import Evidence, View
from globuswrap.deletion.judge import Plan, Verdict
from globuswrap.deletion.storage import Probes, probing
from globuswrap.errors import Problem, UsageProblem
from globuswrap.system import log, units
from globuswrap.transfers import journal, operations
from globuswrap.transfers import request as requests
from globuswrap.transfers import submit as submitting
from globuswrap.transfers.operations import Hooks, Result
from globuswrap.transfers.options import Options
from globuswrap.transfers.places import Place, inside
from globuswrap.transfers.submit import Policy, Submitted
from globuswrap.transfers.wait import WaitPolicy, Watcher

#: Paths of one deletion: a document of this many stays well below the largest that were measured.
PER_TASK = 10_000
#: How often a deletion that meets one that has not begun either tries again, with growing random pauses (seconds).
TRIES = 6
PAUSE = 0.1

#: The verdicts on these paths as they are now.
Again = Callable[[Sequence[str]], Iterable[Verdict]]


def checked_roots(under: Address, paths: Sequence[Address]) -> list[str]:
    """The paths to look at, all below `under` (itself if none is given). UsageProblem for what is never cleaned up."""
    for each in (under, *paths):
        checked_path(each.path)
        if any(letter in each.path for letter in "*?["):
            raise UsageProblem(
                "refused-glob", f"{each.shown}: cleanup does not expand patterns", "name directories or files"
            )
    top = normalised(under.path)
    if not top.startswith("/") or top in ("/", "/~"):
        raise UsageProblem(
            "refused-root",
            f"{under.shown} is the top of a collection, which is never cleaned up",
            "name a directory: --under NAME:/dir/",
        )
    found = []
    for each in paths:
        path = normalised(each.path)
        if each.collection != under.collection or not (path == top or inside(path, top)):
            raise UsageProblem("outside", f"{each.shown} is not below {under.shown}", "name paths below --under")
        found.append(path)
    return found or [top]


def plan(known: Evidence, roots: Sequence[str], view: View) -> Plan:
    """Look at every file below the roots and judge it."""
    return Plan(
        known.collection, judged(known, files_below(known.collection, roots, view), view), known.delivered, known.silent
    )


def files_below(collection: str, roots: Sequence[str], view: View) -> list[str]:
    """The paths of all that is below the roots and no directory, each once."""
    return list(dict(entry for root in roots for entry in view.walk(collection, root)))


def judged(known: Evidence, paths: Iterable[str], view: View) -> list[Verdict]:
    """The verdicts on these files as they are now: of two that prove each other, only the first goes."""
    verdicts: list[Verdict] = []
    needed: set[Place] = set()
    taken: set[Place] = set()
    for path in paths:
        here = (known.collection, path)
        seen = view.seen(here)
        proofs = known.proofs(path)
        writes = known.writes_to([here, *(proof.copy for proof in proofs)])
        if seen is None:
            found = Verdict(path, "has just been removed")
        elif here in needed:
            found = Verdict(path, "is the other copy of what is deleted")
        else:
            left = [proof for proof in proofs if proof.copy not in taken]
            found = judge.verdict(here, seen, left, writes, known.uses, view.copy)
            if found.proof is not None:
                taken.add(here)
                needed.add(found.proof.copy)
            elif len(left) < len(proofs):
                found = replace(found, reason="its other copy is deleted in this run")
        verdicts.append(found)
        log.set_activity(f"checking each file: {len(verdicts)}")
    log.set_activity("")
    return verdicts


def leftovers(
    known: Evidence, source: Address, top: str, view: View, paths: Iterable[str] | None = None
) -> list[Verdict]:
    """What is to become of the files below `top` that the directory `source` does not have (of `paths`, if given).

    A name that differs from one at the source only in case may be the same file, and is not listed.
    """
    listed = (path for path, _ in view.walk(known.collection, top)) if paths is None else paths
    verdicts = []
    for path in listed:
        at = posixpath.join(normalised(source.path), posixpath.relpath(path, top))
        names = view.entries(source.collection, posixpath.dirname(at)) or {}
        seen = view.seen((known.collection, path))
        if seen is not None and posixpath.basename(at).casefold() not in {name.casefold() for name in names}:
            here = (known.collection, path)
            verdicts.append(judge.delivered(here, seen, known.writes_to([here]), known.uses))
        elif paths is not None:
            verdicts.append(Verdict(path, "has just changed"))
    return verdicts


@dataclass(frozen=True)
class Sending:
    """How deletions are submitted and waited for. `name` is the journal key (default: one of its own)."""

    label: str
    name: str | None = None
    chain: str | None = None
    notify: str = "off"
    wait_policy: WaitPolicy = field(default_factory=WaitPolicy)
    after: Hooks | None = None
    watcher: Watcher | None = None


@dataclass
class Begun:
    """What was submitted, if anything, and the final verdicts, by path."""

    verdicts: dict[str, Verdict]
    submitted: Submitted | None = None
    announced: Announcement | None = None


def carry_out(found: Plan, again: Again, sending: Sending) -> list[Result]:
    """Delete what the plan says, by name, in few tasks, and wait for them. Raises the Problem of the first bad end.

    What may not go any more is kept: the plan then says so.
    """
    results = []
    adopted: set[str] = set()
    for other, entry in announcements.under_way(found.collection, {each.path for each in found.deleted}):
        adopted |= set(other.deletes)
        results.append(_settled(Submitted(entry, "adopted"), other, sending))
    wanted = [each for each in found.deleted if each.path not in adopted]
    with probing() as probes:
        for first in range(0, len(wanted), PER_TASK):
            begun = begin(found.collection, wanted[first : first + PER_TASK], again, sending, probes)
            found.verdicts = [begun.verdicts.get(each.path, each) for each in found.verdicts]
            if begun.submitted is not None and begun.announced is not None:
                results.append(_settled(begun.submitted, begun.announced, sending))
    return results


def _settled(submitted: Submitted, announced: Announcement, sending: Sending) -> Result:
    result = operations.settle(submitted, sending.wait_policy, sending.after, sending.watcher)
    announcements.withdraw(announced)
    return result


def once(collection: str, paths: Sequence[str], again: Again, sending: Sending) -> Begun:
    """As `begin`, for a deletion whose key is given (`sending.name`): what has begun under that key is taken up."""
    name, number = sending.name, 1
    while (entry := journal.latest(requests.key_of("", sending.name))) is not None:
        if entry.task_id is not None or entry.receipt is not None:
            return Begun({}, Submitted(entry, "adopted"))
        for each in announcements.announced():
            request = request_of(each, sending)
            if each.key == entry.claim.key and requests.digest_of(requests.content(request)) == entry.claim.digest:
                return Begun({}, submitting.submit(request, _policy(each, sending)), each)
        # Taken for dead, or never known to have been accepted before its deadline passed.
        number += 1
        sending = replace(sending, name=f"{name}/{number}")
    with probing() as probes:
        return begin(collection, list(again(paths)), again, sending, probes)


def begin(collection: str, wanted: Sequence[Verdict], again: Again, sending: Sending, probes: Probes) -> Begun:
    """Submit one deletion of what may go right now, and say of each path what became of it.

    `wanted` are verdicts to delete. `again` judges paths by evidence that is gathered when it is called.
    """
    verdicts = {each.path: _apart(collection, each, probes) for each in wanted}
    for number in range(TRIES):
        left = {path: each.copy for path, each in verdicts.items() if each.delete}
        if not left:
            return Begun(verdicts)
        mine = announcements.announce(collection, left, sending.name)
        request = request_of(mine, sending)
        try:
            conflicts = announcements.conflicts(mine, lambda copy, doomed: probes.same(doomed, copy) is not False)
            if not conflicts:
                verdicts.update(_unused(collection, again(list(left)), sending, probes))
                if {path: each.copy for path, each in verdicts.items() if each.delete} == left:
                    return Begun(verdicts, submitting.submit(request, _policy(mine, sending)), mine)
        except Problem as problem:
            # A key that somebody else has: this deletion was taken for dead, or another process does the same step.
            if problem.name != "key-taken":
                raise
            conflicts = []
        finally:
            if not _claimed(mine, request, sending):
                announcements.withdraw(mine)
        racing = any(each.racing for each in conflicts)
        if racing and number < TRIES - 1:
            time.sleep(random.uniform(0, PAUSE * 2**number))
            continue
        for conflict in conflicts:
            by = f"task {conflict.task_id}" if conflict.task_id else "a deletion that has just started"
            reason = f"{by} deletes its other copy, or relies on this one: rerun when that has ended"
            verdicts.update({path: Verdict(path, reason, later=True) for path in conflict.paths})
    reason = "other deletions were in the way: rerun later"
    return Begun({path: Verdict(path, reason, later=True) if each.delete else each for path, each in verdicts.items()})


def _apart(collection: str, found: Verdict, probes: Probes) -> Verdict:
    """The verdict, unless the file and the copy that proves it are one file, or may be."""
    if found.copy is None:
        return found
    same = probes.same((collection, found.path), found.copy)
    where = ":".join(found.copy)
    if same is None:
        return Verdict(found.path, f"cannot tell whether the other copy is on the same storage: {where}")
    return Verdict(found.path, f"the other copy is the same file by another name: {where}") if same else found


def _unused(
    collection: str, found: Iterable[Verdict], sending: Sending, probes: Probes
) -> Iterator[tuple[str, Verdict]]:
    """The verdicts by path; files that a live chain uses on another collection, where they have another name, are kept."""
    live = uses.live(exclude_owner=sending.chain)
    for each in found:
        use = probes.used((collection, each.path), live) if each.delete else None
        yield each.path, each if use is None else Verdict(each.path, judge.in_use(use))


def request_of(mine: Announcement, sending: Sending) -> requests.Request:
    return requests.delete(
        [Address(mine.collection, path) for path in mine.deletes],
        recursive=False,
        options=Options(ignore_missing=True),
        label=sending.label,
        notify=sending.notify,
        deadline=units.utc_text(datetime.fromtimestamp(mine.until, timezone.utc)),
    )


def _policy(mine: Announcement, sending: Sending) -> Policy:
    return Policy(name=mine.name, once=True, retry_for=sending.wait_policy.retry_for, chain=sending.chain)


def _claimed(mine: Announcement, request: requests.Request, sending: Sending) -> bool:
    """May this deletion happen? Not before it claimed its key, nor when Globus refused it and nobody else sends it."""
    entry = journal.latest(mine.key)
    if entry is None or entry.claim.digest != requests.digest_of(requests.content(request)):
        return False
    return entry.task_id is not None or entry.refused is None or sending.name is not None
