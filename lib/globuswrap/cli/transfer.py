"""`globuswrap transfer`."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from globuswrap.cli import progress
from globuswrap.cli.options import (
    Commands,
    Destination,
    SubmitOptions,
    TransferOptions,
    WaitOptions,
    command,
)
from globuswrap.cli.output import Report
from globuswrap.errors import UsageProblem
from globuswrap.system import log

if TYPE_CHECKING:
    from globuswrap.transfers.operations import Result
    from globuswrap.transfers.request import Request

app = Commands()

Waits = Annotated[bool, typer.Option("--wait", "-w", help="Wait until the task is finished.")]
Check = Annotated[
    bool | None,
    typer.Option(
        "--check/--no-check", help="Check first that the source exists (default with --wait or at a terminal)."
    ),
]


@command(app)
def transfer(
    source: Annotated[
        str,
        typer.Argument(help="Copy from NAME_OR_UUID:/path, a local path on a known mount, or a quoted pattern."),
    ],
    destination: Destination,
    options: TransferOptions,
    submitting: SubmitOptions,
    waiting: WaitOptions,
    wait: Waits = False,
    external_checksum: str | None = typer.Option(None, help="Verify the file against this checksum."),
    checksum_algorithm: str | None = typer.Option(
        None, help="Compute the checksum with this algorithm (default: MD5)."
    ),
    check: Check = None,
) -> Report:
    """Transfer a file, a directory or the matches of a pattern as one Globus task, exactly once.

    With --wait or at a terminal, it first checks that the source exists. A rerun adopts a task that is still running. If an
    earlier --wait was interrupted, a rerun reports how that task ended. Otherwise it sends what is new as a new task.
    """
    from globuswrap.batches import patterns
    from globuswrap.collections import resolve
    from globuswrap.transfers import request as requests

    found, into, rest = patterns.read(source), resolve.address(destination), submitting.rest()
    if isinstance(found, patterns.Pattern):
        if external_checksum is not None:
            raise UsageProblem(
                "bad-option", "--external-checksum applies to a single file", "name the file, without a pattern"
            )
        request = patterns.request(found, into, options.recursive, options=options.options(), **rest)
        return performed(request, submitting, waiting, wait)  # what was just listed is there
    request = requests.transfer(
        found,
        into,
        recursive=options.recursive,
        options=options.options(),
        external_checksum=external_checksum,
        checksum_algorithm=checksum_algorithm,
        **rest,
    )
    look = check if check is not None else wait or sys.stderr.isatty()
    return performed(request, submitting, waiting, wait, look)


def performed(
    request: Request, submitting: SubmitOptions, waiting: WaitOptions, wait: bool, check: bool = False
) -> Report:
    """Submit a request as the options say, wait if asked, and tell; with --dry-run only show it."""
    from globuswrap.transfers import operations

    if submitting.dry_run:
        return planned(request)
    with progress.shown() as watcher:
        policy = submitting.policy(waiting.retry_for)
        wait_policy, after = waiting.wait_policy(wait=wait), waiting.after()
        return told(operations.perform(request, policy, wait_policy, after, watcher, check=check))


def planned(request: Request) -> Report:
    """What a dry run shows: the document that would be sent, and the key under which it would be journalled."""
    from globuswrap.transfers import request as requests
    from globuswrap.transfers.options import NEWEST

    digest = requests.digest_of(requests.content(request))
    label = requests.tagged_label(request.label, digest, request.kind)
    if len(request.items) == 1:
        line = log.shell_line(("globus", *requests.command(request, "SUBMISSION_ID", label, NEWEST)))
    else:
        line = f"globus api transfer POST /{request.kind} --body-file -   # {len(request.items)} items"
    first = request.items[:10] if len(request.items) > 1 and request.destination is not None else ()
    shown = [f"{item.source} -> {item.destination}" for item in first]
    shown += [f"... and {len(request.items) - len(first)} more"] if 0 < len(first) < len(request.items) else []
    return Report({"planned": requests.document(request, "SUBMISSION_ID", label), "command": line}, [*shown, line])


def told(result: Result) -> Report:
    """A result for people: the task id on the first line, for scripts that read only that."""
    text = [result.task_id]
    log.say(summary(result))
    return Report(result.as_data(), text, result.exit_code)


def summary(result: Result) -> str:
    web = result.as_data()["web"]
    if result.outcome is None:
        return f"{'submitted' if result.submitted.how == 'new' else 'already running'}: {web}"
    return outcome_line(result.outcome.name, result.outcome.receipt or {}, result.outcome.cause)


def outcome_line(name: str, receipt: Any, cause: str = "") -> str:
    from globuswrap.system import units

    parts = []
    if receipt.get("files_transferred") is not None:
        files = units.counted(receipt["files_transferred"], "file")
        parts.append(f"{files}, {units.human_size(receipt.get('bytes_transferred') or 0)}")
    if receipt.get("files_skipped"):
        parts.append(f"{receipt['files_skipped']} already up to date")
    if receipt.get("faults"):
        parts.append(units.counted(receipt["faults"], "fault"))
    if cause:
        parts.append(cause)
    return f"{name}: {', '.join(parts)}" if parts else name
