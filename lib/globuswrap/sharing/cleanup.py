"""Clean up: delete what receipts prove delivered, then revoke permissions on directories that became empty."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from globuswrap.batches import batch_run
from globuswrap.collections.address import Address
from globuswrap.collections.principals import Who
from globuswrap.deletion import carry_out, evidence
from globuswrap.deletion import fetched as fetching
from globuswrap.deletion.carry_out import Sending
from globuswrap.deletion.judge import Plan, Verdict
from globuswrap.errors import Refused, UsageProblem
from globuswrap.globus import verbs
from globuswrap.sharing import actions
from globuswrap.sharing.rules import Step
from globuswrap.transfers import receipt
from globuswrap.transfers.operations import Result


@dataclass(frozen=True)
class CleanedUp:
    """The verdict on each file, the deletions that were sent, and the permissions that go."""

    plan: Plan
    results: list[Result]
    revoked: list[Step]


@dataclass(frozen=True)
class Collaborators:
    """Delete what these have fetched: `by` (None: those whom the permissions on the file name), or with `anyone` whoever has
    since `since` (seconds since the epoch)."""

    by: Sequence[Who] | None = None
    anyone: bool = False
    since: float = 0.0


def clean_up(
    under: Address,
    paths: Sequence[Address] = (),
    *,
    receipts: Sequence[Path] | None = None,
    older_than: float = 0.0,
    fetched: Collaborators | None = None,
    keep_rules: bool = False,
    sending: Sending | None = None,
) -> CleanedUp:
    """Judge every file at `paths` (all below `under`, which is the default) and delete what may go; without `sending` only say
    what would. `receipts`: files and directories to believe instead of the journal. `older_than`: seconds since delivery.
    `fetched`: delete what others have fetched instead of what receipts prove.

    Raises UsageProblem for what is never cleaned up, and the Problem of the first deletion that ends badly.
    """
    roots = carry_out.checked_roots(under, paths)
    before = time.time() - older_than if older_than else None

    fetches = None if fetched is None else _fetches(under.collection, fetched, before)

    def known() -> evidence.Evidence:
        places = None if receipts is None else lambda: _receipts(receipts)
        return evidence.gather(under.collection, places, completed_before=before)

    def judged(known: evidence.Evidence, paths: Iterable[str], view: evidence.View) -> list[Verdict]:
        if fetches is None:
            return carry_out.judged(known, paths, view)
        return fetching.judged(known, fetches, paths, view)

    now, view = known(), evidence.View()
    verdicts = judged(now, carry_out.files_below(under.collection, roots, view), view)
    found = Plan(under.collection, verdicts, now.delivered, now.silent if fetches is None else 0)
    revoked = [] if keep_rules else _rules(found, roots)
    results = []
    if sending is not None and found.deleted:
        results = carry_out.carry_out(found, lambda left: judged(known(), left, evidence.View()), sending)
    if sending is not None:
        actions.carry_out(under.collection, revoked)
    return CleanedUp(found, results, revoked)


def _fetches(collection: str, wanted: Collaborators, before: float | None) -> fetching.Fetches:
    if wanted.anyone:
        return fetching.gather(collection, lambda _: None, wanted.since, before)
    if wanted.by is not None:
        named = {who.id: str(who) for who in wanted.by}
        return fetching.gather(collection, lambda _: named, wanted.since, before)
    rules = [each for each in actions.list_rules(collection, names=True) if each.id is not None]

    def recipients(path: str) -> Mapping[str, str]:
        """Those whom the permissions name; nobody, if these are not all: a group, or everyone, may read it too."""
        mine = [each.who for each in rules if path.startswith(each.path)]
        return {who.id: str(who) for who in mine} if all(who.kind == "identity" for who in mine) else {}

    return fetching.gather(collection, recipients, wanted.since, before)


def _rules(found: Plan, roots: Iterable[str]) -> list[Step]:
    """The permissions on directories within the roots that no file will be in any more. Refused if they cannot be read."""
    if not found.deleted and not any(found.delivered(root) for root in roots):
        return []
    if not verbs.has_permissions(found.collection):
        return []
    try:
        there = actions.list_rules(found.collection, names=True)
    except Refused as problem:
        cause = f"the permissions there cannot be read ({problem.cause}); nothing was deleted"
        remedy = (
            "ask the collection's manager for the role access_manager, or add --keep-rules to leave them as they are"
        )
        raise Refused("permission-denied", cause, remedy, ran=problem.ran, detail=problem.detail) from None
    return [
        Step("delete", None, each)
        for each in there
        if each.id is not None
        and any(each.path.startswith(root.rstrip("/") + "/") for root in roots)
        and found.emptied(each.path.rstrip("/"))
    ]


def _receipts(places: Iterable[Path]) -> Iterator[Mapping[str, Any]]:
    for place in places:
        for file in sorted(place.glob("*.json")) if place.is_dir() else [place]:
            try:
                document = json.loads(file.read_text("utf-8"))
            except (OSError, ValueError) as error:
                raise UsageProblem("bad-receipt", f"{file}: {error}", "name receipts that globuswrap wrote") from None
            schema = document.get("schema") if isinstance(document, dict) else None
            if schema == batch_run.RECEIPT:
                yield from (task["receipt"] for task in document["tasks"] if task["receipt"] is not None)
            elif schema == receipt.SCHEMA:
                yield document
            else:
                raise UsageProblem("bad-receipt", f"{file} is not a receipt", "name receipts that globuswrap wrote")
