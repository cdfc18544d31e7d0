"""`globuswrap stage in|out`: stage data inside a job, before the next line needs it."""

from __future__ import annotations

import typer

from globuswrap.cli.options import (
    Commands,
    Destination,
    Source,
    SubmitOptions,
    TransferOptions,
    WaitOptions,
    command,
)
from globuswrap.cli.output import Report
from globuswrap.cli.transfer import performed
from globuswrap.errors import DONE
from globuswrap.system import log

app = Commands(help="Stage data in or out, inside a job.")


@command(app, "in")
def stage_in(
    source: Source,
    destination: Destination,
    options: TransferOptions,
    submitting: SubmitOptions,
    waiting: WaitOptions,
    wait: bool = typer.Option(True, "--wait/--no-wait", help="Wait until the data has arrived (default)."),
) -> Report:
    """Stage data in: transfer and wait.

    A requeued job transfers again only what differs by checksum.
    """
    return _staged(source, destination, options, submitting, waiting, wait)


@command(app, "out")
def stage_out(
    source: Source,
    destination: Destination,
    options: TransferOptions,
    submitting: SubmitOptions,
    waiting: WaitOptions,
    wait: bool = typer.Option(True, "--wait/--no-wait", help="Wait until the data has arrived (default)."),
    if_present: bool = typer.Option(False, "--if-present", help="Accept a source that does not exist."),
) -> Report:
    """Stage results out: transfer and wait."""
    from globuswrap.collections import resolve
    from globuswrap.staging import steps

    if if_present and not steps.present(resolve.address(source)):
        log.say(f"{source} does not exist: nothing to stage out")
        return Report({"outcome": "not-present"}, [], DONE)
    return _staged(source, destination, options, submitting, waiting, wait)


def _staged(
    source: str,
    destination: str,
    options: TransferOptions,
    submitting: SubmitOptions,
    waiting: WaitOptions,
    wait: bool,
) -> Report:
    from globuswrap.collections import resolve
    from globuswrap.staging import inline
    from globuswrap.transfers import request as requests

    request = requests.transfer(
        resolve.address(source),
        resolve.address(destination),
        recursive=options.recursive,
        options=options.options(),
        **submitting.rest(),
    )
    request = inline.requested_again(request, submitting.policy(waiting.retry_for))
    return performed(request, submitting, waiting, wait)
