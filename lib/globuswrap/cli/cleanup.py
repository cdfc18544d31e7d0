"""`globuswrap cleanup`."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from globuswrap.cli import progress
from globuswrap.cli.options import Commands, WaitOptions, command
from globuswrap.cli.output import Report
from globuswrap.errors import DONE, TRY_LATER, UsageProblem, raise_together
from globuswrap.system import units

if TYPE_CHECKING:
    from globuswrap.deletion.judge import Plan
    from globuswrap.sharing.cleanup import Collaborators

app = Commands()


@command(app)
def cleanup(
    waiting: WaitOptions,
    paths: list[str] | None = typer.Argument(
        None, help="Consider only these paths, below --under (default: all of it).", metavar="ADDRESS..."
    ),
    under: str = typer.Option("", help="Delete nothing outside this directory (required)."),
    receipts: list[Path] | None = typer.Option(
        None,
        "--from",
        metavar="RECEIPTS",
        help="Trust the receipts in these files or directories (default: the journal's).",
    ),
    fetched: bool = typer.Option(
        False, "--fetched", help="Delete what collaborators have downloaded, according to the collection's activity."
    ),
    since: float | None = typer.Option(
        None, parser=units.duration, help="Count downloads since this long ago, with --fetched (default: 90d)."
    ),
    by: list[str] | None = typer.Option(
        None, help="Require a download by WHO or anyone, with --fetched (default: all with permission)."
    ),
    older_than: float | None = typer.Option(
        None, parser=units.duration, help="Delete only what was delivered at least this long ago."
    ),
    keep_rules: bool = typer.Option(False, "--keep-rules", help="Keep permissions on directories that become empty."),
    label: str | None = typer.Option(None, help="Label the deletion task with this text."),
    yes: bool = typer.Option(False, "--yes", help="Delete; without it, only show what would be deleted."),
) -> Report:
    """Delete files that receipts prove delivered and that have not changed since.

    A receipt proves a file when it lists it (--receipt-files), or when a checksum sync compared its whole directory. The other
    copy must still exist, with the same size. With --fetched, the proof is that collaborators have downloaded it.
    Permissions on directories that become empty are revoked.
    """
    from globuswrap.collections import resolve
    from globuswrap.deletion.carry_out import Sending
    from globuswrap.sharing.cleanup import clean_up

    wrong = []
    if not under:
        wrong.append(
            UsageProblem("no-under", "cleanup needs --under, which limits what it may delete", "add --under NAME:/dir/")
        )
    if (since is not None or by) and not fetched:
        wrong.append(
            UsageProblem("bad-option", "--since and --by work only with --fetched", "add --fetched, or remove them")
        )
    if fetched and receipts is not None:
        wrong.append(UsageProblem("bad-option", "--fetched and --from are two ways to prove a copy", "use one of them"))
    raise_together(wrong)
    assert under
    with progress.shown() if yes else contextlib.nullcontext() as watcher:
        done = clean_up(
            resolve.address(under),
            [resolve.address(each) for each in paths or []],
            receipts=receipts,
            older_than=older_than or 0.0,
            fetched=_collaborators(units.duration("90d") if since is None else since, by) if fetched else None,
            keep_rules=keep_rules,
            sending=Sending(
                label or "globuswrap cleanup", wait_policy=waiting.wait_policy(), after=waiting.after(), watcher=watcher
            )
            if yes
            else None,
        )
    found = done.plan
    return Report(
        {
            "deleted" if yes else "to_delete": [
                {"path": each.path, "size": each.size, "task_id": each.proof.task_id, "other": each.proof.other}
                if each.proof is not None
                else {"path": each.path, "size": each.size, "fetched_in": list(each.tasks)}
                for each in found.deleted
            ],
            "kept": [{"path": each.path, "reason": each.reason} for each in found.kept],
            "rules": [each.what for each in done.revoked],
            "receipts_without_list": found.silent,
            "tasks": [each.task_id for each in done.results],
            "dry_run": not yes,
        },
        [*_lines(found, yes), *(f"revoke  {each.what}" for each in done.revoked), _summary(found, yes)],
        TRY_LATER if any(each.later for each in found.kept) else DONE,
    )


def _collaborators(since: float, by: list[str] | None) -> Collaborators:
    from globuswrap.collections import principals
    from globuswrap.sharing.cleanup import Collaborators

    start = time.time() - since
    if by == ["anyone"]:
        return Collaborators(anyone=True, since=start)
    people = None if not by else principals.resolve(by)
    if people is not None and any(who.kind != "identity" for who in people):
        raise UsageProblem("bad-option", "--by takes people, or only the word anyone", "name each member of a group")
    return Collaborators(people, since=start)


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
