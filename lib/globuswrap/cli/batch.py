"""`globuswrap batch`."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from globuswrap.cli import progress
from globuswrap.cli.options import (
    Commands,
    SubmitOptions,
    TransferOptions,
    WaitOptions,
    command,
    option,
)
from globuswrap.cli.output import Report
from globuswrap.errors import UsageProblem
from globuswrap.system import log, units

if TYPE_CHECKING:
    from globuswrap.batches.listing import Listing
    from globuswrap.batches.patterns import Patterns
    from globuswrap.batches.prepare import PathList, Prepared
    from globuswrap.batches.run import BatchResult

app = Commands()


@dataclass(frozen=True)
class ListOptions:
    """How a list file is read, or what is listed instead of reading one."""

    format_: str | None = option(
        None, "--format", help="Read lines as paths (default), tab (SRC TAB DST), shell (quoted SRC DST) or json."
    )
    null: bool = option(False, "--null", "-0", help="Split records at NUL, as find -print0 writes them.")
    filter_: str | None = option(
        None, "--filter", help="List the sources; send only files that match JMESPath: \"ends_with(name, '.h5')\"."
    )
    newer_than: str | None = option(
        None, help="List the sources; send only files changed in the last 2d, or since a time."
    )
    larger_than: int | None = option(
        None, parser=units.size, help="List the sources; send only files larger than this, e.g. 10M."
    )
    depth: int | None = option(None, help="List this many levels below the source; refuse a deeper tree (default 3).")

    def items(self, file: str | None) -> PathList | Listing:
        """Which items to send. UsageProblem if there is neither a list nor what to list, or both."""
        from globuswrap.batches.listing import Listing, since
        from globuswrap.batches.prepare import PathList

        selecting = {
            "--filter": self.filter_,
            "--newer-than": self.newer_than,
            "--larger-than": self.larger_than,
            "--depth": self.depth,
        }
        chosen = [name for name, value in selecting.items() if value is not None]
        if file is not None:
            if chosen:
                raise UsageProblem(
                    "bad-option",
                    f"{chosen[0]} selects from a listing and cannot be combined with a list file",
                    "remove the option or the list file",
                )
            return PathList(sys.stdin.buffer if file == "-" else Path(file), self.format_ or "paths", self.null)
        if not chosen:
            raise UsageProblem(
                "no-list",
                "nothing to transfer: no list file, no filter, and no pattern as SRC_BASE",
                "name a list file (- for stdin), give --filter, --newer-than or --depth, or write a pattern: "
                "'archive:/runs/*.h5'",
            )
        if self.format_ is not None or self.null:
            raise UsageProblem(
                "bad-option",
                "--format and --null describe a list file, and there is none",
                "name a list file, or remove these options",
            )
        return Listing(
            depth=3 if self.depth is None else self.depth,
            filter=self.filter_,
            newer_than=None if self.newer_than is None else since(self.newer_than),
            larger_than=self.larger_than,
        )


@command(app)
def batch(
    source: Annotated[
        str,
        typer.Argument(
            metavar="SRC_BASE",
            help="Copy the listed paths below this base, or a quoted pattern: 'archive:/runs/*/x.h5'.",
        ),
    ],
    destination: Annotated[
        str, typer.Argument(metavar="DST_BASE", help="Copy them to the same paths below this base.")
    ],
    options: TransferOptions,
    submitting: SubmitOptions,
    waiting: WaitOptions,
    listing: ListOptions,
    file: str | None = typer.Argument(
        None, metavar="[FILE|-]", help="Read the list from FILE, or from stdin (-); without it, list the sources."
    ),
    from_: list[str] | None = typer.Option(
        None, "--from", metavar="ADDRESS", help="Add another source base for the same destination (repeatable)."
    ),
    order: Path | None = typer.Option(
        None, help="Send items in the order of the paths in FILE, others last; for archives on tape."
    ),
    on_collision: str = typer.Option(
        "error", help="Handle items with the same destination: error, first, last or rename."
    ),
    skip_unsendable: bool = typer.Option(
        False, "--skip-unsendable", help="Skip files whose names Globus cannot handle (default: refuse the list)."
    ),
    check: bool = typer.Option(False, "--check", help="Check first that every source exists (exit 2)."),
    verify: bool = typer.Option(
        False, "--verify", help="Wait, then compare everything by checksum; fail if a file differed."
    ),
    chunk: int = typer.Option(100_000, help="Put this many items in one task."),
    in_flight: int = typer.Option(5, help="Run at most this many tasks at a time."),
    wait: bool = typer.Option(False, "--wait", "-w", help="Wait until all tasks are finished."),
) -> Report:
    """Transfer many items: any names, any number, checked before the first is sent.

    Items are sent in tasks of up to --chunk items, each task exactly once. A rerun continues where the last run stopped.
    """
    if options.recursive is not None:
        raise UsageProblem(
            "bad-option",
            "--recursive does not apply to a batch, where each item is a file or a directory",
            "remove it (Globus detects directories), or use --format json",
        )
    from globuswrap.batches.ahead import Ids

    policy = submitting.policy(waiting.retry_for)
    ids = Ids(policy.retry_for)
    if not submitting.dry_run:
        ids.ahead()  # first of all: what is imported and read meanwhile costs no time
    from globuswrap.batches import patterns
    from globuswrap.batches import prepare as batches

    sources = patterns.read_all([source, *(from_ or ())])
    if isinstance(sources, patterns.Patterns):
        if file is not None or listing != ListOptions():
            raise UsageProblem(
                "bad-pattern",
                f"{sources.each[0].shown} is a pattern, which already selects what to send",
                "remove either the pattern, or the list file and the list options",
            )
        items: PathList | Listing | Patterns = sources
    else:
        items = listing.items(file)
    prepared = batches.prepare(
        sources if isinstance(sources, list) else sources.sources,
        destination,
        items,
        choices=batches.Choices(
            chunk,
            in_flight,
            on_collision,
            skip_unsendable,
            check,
            verify,
            None if order is None else batches.PathList(order, null=listing.null),
        ),
        options=options.options(),
        **submitting.rest(),
    )
    if submitting.dry_run:
        return planned(prepared)
    with progress.shown() as watcher:
        result = batches.perform(
            prepared,
            policy,
            waiting.wait_policy(wait=wait or verify),
            waiting.after(),
            watcher,
            ids,
        )
    return told(result)


def planned(prepared: Prepared) -> Report:
    """What a dry run shows: how many items and tasks, and the first of them."""
    from globuswrap.batches.parse import shown

    first = prepared.first(10)
    text = [f"{shown(source)} -> {shown(destination)}" for source, destination in first]
    if prepared.items > len(first):
        text.append(f"... and {prepared.items - len(first)} more")
    log.say(f"{prepared.items} items in {prepared.tasks} tasks; nothing was submitted")
    data = {
        "items": prepared.items,
        "tasks": prepared.tasks,
        "first": [list(pair) for pair in first],
        **prepared.notes(),
    }
    return Report({"planned": data}, text)


def told(result: BatchResult) -> Report:
    """The task ids on stdout, one a line; the summary is talk."""
    from globuswrap.cli.transfer import outcome_line

    if result.outcome is None:
        how = "submitted" if result.new else "already running"
        log.say(f"{how}: {result.items} items in {len(result.task_ids)} tasks")
    else:
        receipt = result.outcome.receipt or {}
        line = outcome_line(result.outcome.name, receipt, result.outcome.cause)
        tasks = f" ({len(result.task_ids)} tasks)" if len(result.task_ids) > 1 else ""
        log.say(f"{line}{tasks}{_verified(receipt)}")
    return Report(result.as_data(), result.task_ids, result.exit_code)


def _verified(receipt: object) -> str:
    report = receipt.get("verification") if isinstance(receipt, dict) else None
    return f"; verified: {report['files_same']} files the same" if report else ""
