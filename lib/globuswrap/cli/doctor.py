"""`globuswrap doctor`: find problems before they happen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import TYPE_CHECKING

import typer

from globuswrap.cli import progress
from globuswrap.cli.options import Commands, StagePartition, command
from globuswrap.cli.output import Report, styled
from globuswrap.errors import UsageProblem
from globuswrap.system import log, units

if TYPE_CHECKING:
    from globuswrap.doctor.examine import Questions
    from globuswrap.doctor.finding import Finding

app = Commands()


@command(app)
def doctor(
    subject: str | None = typer.Argument(
        None, help="Check what this job script or sync profile needs.", metavar="[JOB_SCRIPT|PROFILE]"
    ),
    scheduler_arguments: list[str] | None = typer.Argument(
        None, help="Check with these arguments for sbatch or qsub.", metavar="[-- ARGUMENTS...]"
    ),
    until: str | None = typer.Option(
        None, help="Require a login that lasts for +36h or until a time (default: the job's expected end)."
    ),
    expiring: float | None = typer.Option(
        None, parser=units.duration, help="Report only what unfinished work will lose within this time (7d); for cron."
    ),
    credentials: str | None = typer.Option(
        None, help="Check only that Globus accepts the secret in this file, with a new token."
    ),
    probe: bool = typer.Option(
        True, "--probe/--no-probe", help="Create and remove a directory at each destination (default)."
    ),
    probe_node: bool = typer.Option(
        False, "--probe-node", help="Submit a short job that checks whether nodes reach Globus."
    ),
    probe_wait: float = typer.Option("5m", parser=units.duration, help="Wait this long for that job."),
    scheduler: str = typer.Option("auto", help="Use this batch system, as in submit."),
    stage_partition: StagePartition = None,
) -> Report:
    """Find problems before you submit, and print the command that fixes each one.

    Without an argument, it checks this machine, the login, every named collection, and leftovers of earlier runs. With one,
    it checks what that job or profile needs.
    """
    from globuswrap import schedulers
    from globuswrap.doctor import examine
    from globuswrap.staging.submission import StagingRequest

    if expiring is not None or credentials is not None:
        return _only(subject, expiring, credentials)
    if probe_node and subject is None:
        schedulers.choose(scheduler)
    questions = examine.Questions(
        subject=subject,
        until=None if until is None else units.moment(until).timestamp(),
        write=probe,
        node=probe_node,
        node_wait=probe_wait,
        staging=StagingRequest(scheduler, stage_partition=stage_partition),
        arguments=tuple(scheduler_arguments or ()),
    )
    return examined(questions)


def examined(questions: Questions) -> Report:
    """What an examination found, or that nothing was."""
    from globuswrap.doctor import examine

    with progress.doing() as say:
        found = examine.examine(questions, say)
    report = told(found)
    if not report.text and log.level() >= 1:
        report = replace(report, text=[f"all is well: {len(found)} checks passed"])
    return report


def _only(subject: str | None, expiring: float | None, credentials: str | None) -> Report:
    from globuswrap.doctor import expiring as ends
    from globuswrap.doctor import login

    if subject is not None or (expiring is not None and credentials is not None):
        raise UsageProblem(
            "bad-option",
            "--expiring and --credentials cannot be combined with each other or with a subject",
            "use one of them alone",
        )
    with progress.doing() as say:
        found = ends.look(expiring, say) if expiring is not None else list(login.secret(str(credentials), say))
    return told(found)


def told(found: Sequence[Finding]) -> Report:
    """What was found, for people: the bad ones; with -v the good ones too."""
    from globuswrap.doctor import examine, finding

    bad = [each for each in found if each.level != finding.OK]
    lines = []
    for each in bad:
        style = "bad" if each.level == finding.FAILURE else "warning"
        first, *rest = examine.told(each).split("\n")
        lines += [log.Printable(f"{styled(each.level + ':', style)} {log.printable(first)}"), *rest]
    for each in found:
        if each.level == finding.OK:
            log.say(f"ok: {each.what}  [{each.name}]", 2)
    data = {"findings": [asdict(each) for each in bad], "well": [asdict(each) for each in found if each not in bad]}
    return Report(data, lines, finding.exit_code(found))
