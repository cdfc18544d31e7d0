"""Plan what a cleanup deletes, and delete it, exactly once."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from globuswrap.collections.address import Address, checked_path, normalised
from globuswrap.deletion import evidence
from globuswrap.deletion.evidence import changed_here
from globuswrap.deletion.judge import Changed, Lister, Plan, Verdict, inside, verdict
from globuswrap.errors import UsageProblem
from globuswrap.system import log
from globuswrap.transfers import operations
from globuswrap.transfers import request as requests
from globuswrap.transfers.operations import After, Result
from globuswrap.transfers.options import Options
from globuswrap.transfers.submit import Policy
from globuswrap.transfers.wait import Patience, Watcher

#: Paths of one deletion: a document of this many stays well below the largest that were measured.
PER_TASK = 10_000


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
        if each.collection != under.collection or not (path == top or inside(path, top)):
            raise UsageProblem("outside", f"{each.shown} is not below {under.shown}", "name what lies under --under")
        found.append(path)
    return found or [top]


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
    listed, trees, silent = evidence.proofs(receipts, collection, completed_before=completed_before)
    cached = evidence.cached(lister)
    wholes = frozenset(top for tree in trees for top in tree.tops(collection))
    found = Plan(collection, proven=frozenset(listed), wholes=wholes, silent=silent)
    needed: set[tuple[str, str]] = set()
    taken: set[str] = set()
    for root in roots:
        for path, seen in evidence.walk(collection, root, cached, lister):
            if path in taken:
                continue
            known = [*listed.get(path, ()), *(proof for tree in trees for proof in tree.proofs(collection, path))]
            judged = verdict(collection, path, seen, known, cached, changed_here, taken, needed)
            if judged.proof is not None:
                taken.add(path)
                needed.add((judged.proof.other_collection, judged.proof.other))
            found.verdicts.append(judged)
            log.doing(f"looking at each file: {len(found.verdicts)}")
    log.doing("")
    return found


def looked_again(collection: str, judged: Verdict, changed: Changed, chosen: set[str]) -> Verdict:
    """The verdict as it is right before the deletion: listing many directories takes a while."""
    if judged.proof is None or judged.path not in chosen:
        return judged
    proof = judged.proof
    mine, other = changed(collection, judged.path), changed(proof.other_collection, proof.other)
    if mine is not None and mine >= proof.unchanged_since:
        return Verdict(judged.path, "has just changed")
    if other is not None and other >= proof.other_unchanged_since:
        return Verdict(judged.path, "the other copy has just changed")
    return judged


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
