"""`globuswrap doctor`: what is known to go wrong, before it does."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from globuswrap.cli import progress
from globuswrap.cli.options import application, command
from globuswrap.cli.output import Report, styled
from globuswrap.system import log, units

app = application()


@command(app)
def doctor(
    subject: Annotated[
        str | None,
        typer.Argument(help="What is to run: a job script, or a sync profile.", metavar="[JOB_SCRIPT|PROFILE]"),
    ] = None,
    scheduler_arguments: Annotated[
        list[str] | None, typer.Argument(help="After --: arguments for sbatch or qsub.", metavar="[-- ARGUMENTS...]")
    ] = None,
    until: Annotated[
        str | None,
        typer.Option(
            "--until", help="How long the login has to last: +36h, or a time (default: the job's expected end)."
        ),
    ] = None,
    probe: Annotated[
        bool,
        typer.Option("--probe/--no-probe", help="Make a directory at each destination, and remove it (default)."),
    ] = True,
    probe_node: Annotated[
        bool, typer.Option("--probe-node", help="Submit a short job that looks whether nodes reach Globus.")
    ] = False,
    probe_wait: Annotated[str, typer.Option("--probe-wait", help="How long to wait for that job.")] = "5m",
    scheduler: Annotated[str, typer.Option("--scheduler", help="The batch system, as in submit.")] = "auto",
    stage_partition: Annotated[
        str | None, typer.Option("--stage-partition", "--stage-queue", help="Partition or queue of stage jobs.")
    ] = None,
) -> Report:
    """Find what is known to go wrong before it does, with the command that fixes it.

    Without a subject: this machine, the login, every named collection, and what earlier runs have left. With one: what
    that job or profile needs.
    """
    from globuswrap import schedulers
    from globuswrap.doctor import examine, finding
    from globuswrap.staging.submission import StagingRequest

    if probe_node and subject is None:
        schedulers.choose(scheduler)
    questions = examine.Questions(
        subject=subject,
        until=None if until is None else units.moment(until).timestamp(),
        write=probe,
        node=probe_node,
        node_wait=units.duration(probe_wait),
        staging=StagingRequest(scheduler, partition=stage_partition),
        arguments=tuple(scheduler_arguments or ()),
    )
    with progress.doing() as say:
        found = examine.examine(questions, say)
    bad = [each for each in found if each.level != finding.OK]
    lines = []
    for each in bad:
        style = "bad" if each.level == finding.FAILURE else "warning"
        first, *rest = examine.told(each).split("\n")
        lines += [log.Printable(f"{styled(each.level + ':', style)} {log.printable(first)}"), *rest]
    for each in found:
        if each.level == finding.OK:
            log.say(f"ok: {each.what}  [{each.name}]", 2)
    if not bad and log.level() >= 1:
        lines = [f"all is well: {len(found)} things looked at"]
    data = {"findings": [asdict(each) for each in bad], "well": [asdict(each) for each in found if each not in bad]}
    return Report(data, lines, finding.exit_code(found))
