"""`globuswrap cleanup`."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from globuswrap.cli import progress
from globuswrap.cli.options import WaitOptions, application, command
from globuswrap.cli.output import Report
from globuswrap.errors import DONE, TRY_LATER, Refused, UsageProblem
from globuswrap.system import log, units

if TYPE_CHECKING:
    from globuswrap.deletion.judge import Plan
    from globuswrap.sharing import rules
    from globuswrap.transfers.operations import Result

app = application()


@command(app)
def cleanup(
    waiting: WaitOptions,
    paths: Annotated[
        list[str] | None, typer.Argument(help="What to look at, below --under (default: all of it).", metavar="ADDR...")
    ] = None,
    under: Annotated[str, typer.Option("--under", help="Nothing outside this directory is ever deleted.")] = "",
    receipts: Annotated[
        list[Path] | None,
        typer.Option("--from", help="Receipts to believe: files, or directories of them (default: the journal's)."),
    ] = None,
    older_than: Annotated[
        str | None, typer.Option("--older-than", help="Only what was delivered at least this long ago.")
    ] = None,
    keep_rules: Annotated[
        bool, typer.Option("--keep-rules", help="Leave permissions on directories that are empty then.")
    ] = False,
    label: Annotated[str | None, typer.Option("--label", help="Label of the deletion task.")] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Delete. Without it, it is only shown.")] = False,
) -> Report:
    """Delete what receipts prove delivered and what has not changed since; say what remains, and why.

    A receipt proves a file when it lists it (--receipt-files), or when a checksum sync compared its whole directory. The other
    copy must still be there, of the same size. Permissions on directories that are empty then are revoked.
    """
    from globuswrap.collections import resolve
    from globuswrap.deletion import carry_out, evidence
    from globuswrap.sharing import actions

    if not under:
        raise UsageProblem(
            "no-under", "cleanup needs --under, which limits what it may delete", "add --under NAME:/dir/"
        )
    top = resolve.address(under)
    roots = carry_out.checked_roots(top, [resolve.address(each) for each in paths or []])
    age = units.duration(older_than) if older_than is not None else 0.0
    before = time.time() - age if age else None

    def known() -> evidence.Evidence:
        return evidence.gather(top.collection, places, completed_before=before)

    places = None if receipts is None else lambda: _receipts(receipts)
    found = carry_out.plan(known(), roots, evidence.View())
    results: list[Result] = []
    if yes and found.deleted:
        with progress.shown() as watcher:
            sending = carry_out.Sending(
                label or "globuswrap cleanup", wait_policy=waiting.wait_policy(), after=waiting.after(), watcher=watcher
            )
            results = carry_out.carry_out(
                found, lambda paths: carry_out.judged(known(), paths, evidence.View()), sending
            )
    pointed = [] if keep_rules else _rules(found, roots)
    if yes:
        actions.carry_out(top.collection, pointed)
    return Report(
        {
            "deleted" if yes else "to_delete": [
                {"path": each.path, "size": each.size, "task_id": each.proof.task_id, "other": each.proof.other}
                for each in found.deleted
                if each.proof is not None
            ],
            "kept": [{"path": each.path, "reason": each.reason} for each in found.kept],
            "rules": [each.what for each in pointed],
            "receipts_without_list": found.silent,
            "tasks": [each.task_id for each in results],
            "dry_run": not yes,
        },
        [*_lines(found, yes), *(f"revoke  {each.what}" for each in pointed), _summary(found, yes)],
        TRY_LATER if any(each.later for each in found.kept) else DONE,
    )


def _lines(found: Plan, yes: bool) -> Iterator[str]:
    for each in found.verdicts:
        if each.delete:
            yield f"{'deleted' if yes else 'delete '} {each.path}"
        else:
            yield f"keep    {each.path}  ({each.reason})"


def _summary(found: Plan, yes: bool) -> str:
    size = units.human_size(sum(each.size for each in found.deleted))
    what = f"{len(found.deleted)} files, {size}, {'deleted' if yes else 'would be deleted (--yes)'}"
    silent = f"; {found.silent} receipts list no files: use --receipt-files" if found.silent else ""
    return f"{what}; {len(found.kept)} kept{silent}"


def _rules(found: Plan, roots: list[str]) -> list[rules.Step]:
    """The permissions on directories within the roots that no file will be in any more."""
    from globuswrap.sharing import actions

    if not found.deleted and not any(found.delivered(root) for root in roots):
        return []
    try:
        there = actions.list_rules(found.collection, names=True)
    except Refused as problem:
        log.say(f"no permissions to look at: {problem.cause}", 2)  # not a guest collection
        return []
    return [
        actions.removal(each)
        for each in there
        if each.id is not None
        and any(each.path.startswith(root.rstrip("/") + "/") for root in roots)
        and found.emptied(each.path.rstrip("/"))
    ]


def _receipts(places: list[Path]) -> Iterator[Mapping[str, Any]]:
    for place in places:
        for file in sorted(place.glob("*.json")) if place.is_dir() else [place]:
            try:
                document = json.loads(file.read_text("utf-8"))
            except (OSError, ValueError) as error:
                raise UsageProblem("bad-receipt", f"{file}: {error}", "name receipts that globuswrap wrote") from None
            if not isinstance(document, dict) or document.get("schema") != "globuswrap.receipt/1":
                raise UsageProblem("bad-receipt", f"{file} is not a receipt", "name receipts that globuswrap wrote")
            yield document
