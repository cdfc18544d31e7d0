"""`globuswrap in-job`: what generated scripts and the shell toolkit call. Not for people: it may change in any release."""

from __future__ import annotations

import os
from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from globuswrap.cli.options import Commands, command
from globuswrap.cli.output import Report
from globuswrap.errors import UsageProblem
from globuswrap.system import log

app = Commands(help="Run the steps of generated job scripts and the shell toolkit.")


class Phase(str, Enum):
    """Before or after the user's script."""

    IN = "in"
    OUT = "out"


Code = Annotated[int, typer.Option("--code", help="How the user's script ended.")]


@command(app)
def advance(
    chain: str,
    seconds: float = typer.Option(540.0, "--for", help="At most so many seconds."),
    after: str | None = typer.Option(None, help="The dependency that started this job."),
) -> Report:
    """Advance a chain in one of its own jobs."""
    from globuswrap.staging.chain import record, tend

    known = record.load(chain)
    status = tend.in_job(known, seconds, after)
    log.say(f"{chain}: {status.why or 'done'}")
    return Report({"chain": chain, "blocked_on": status.blocked_on, "why": status.why}, [], status.exit_code)


@command(app)
def inline(phase: Phase, chain: str, code: Code = 0) -> Report:
    """Stage in or out for a chain that stages inside its job."""
    from globuswrap.staging import inline as staging
    from globuswrap.staging.chain import record

    return Report({}, [], staging.of_chain(record.load(chain), phase.value, code))


@command(app)
def script(phase: Phase, path: Path, code: Code = 0) -> Report:
    """Stage in or out by the #GLOBUS lines of a script that no chain knows."""
    from globuswrap.staging import inline as staging

    return Report({}, [], staging.of_script(path, phase.value, code))


@command(app)
def check(path: Path) -> Report:
    """Check the #GLOBUS lines of a script."""
    from globuswrap.staging import inline as staging

    staging.check(path)
    return Report()


@command(app)
def probe(answer: Path) -> Report:
    """Write what Globus says to this compute node."""
    from globuswrap.doctor import jobs

    jobs.report_from_node(answer)
    return Report()


@command(app)
def seconds_left(
    elapsed: float = typer.Option(0.0, help="How long the job has run, in seconds."),
) -> Report:
    """Print the time that this job has left, in whole seconds."""
    from globuswrap import schedulers

    here = schedulers.current_job(os.environ)
    left = None if here is None else here[0].seconds_left(here[1], elapsed)
    if left is None:
        raise UsageProblem("no-walltime", "the scheduler does not say how long this job may run", "set a walltime")
    return Report({"seconds": int(left)}, [str(int(left))])
