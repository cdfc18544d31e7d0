"""`globuswrap submit`: from #GLOBUS lines to a chain."""

from __future__ import annotations

import os
import shlex
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from globuswrap.cli import progress
from globuswrap.cli.options import Commands, Key, Once, StagePartition, command
from globuswrap.cli.output import Report
from globuswrap.errors import UsageProblem
from globuswrap.system import log, units

if TYPE_CHECKING:
    from globuswrap.staging.submit import Submitted

app = Commands()


@command(app, context_settings={"ignore_unknown_options": False, "help_option_names": ["-h", "--help"]})
def submit(
    job_script: str | None = typer.Argument(None, help="Submit this job script, with its #GLOBUS lines."),
    scheduler_arguments: list[str] | None = typer.Argument(
        None, help="Pass these arguments to sbatch or qsub.", metavar="[-- ARGUMENTS...]"
    ),
    scheduler: str = typer.Option("auto", help="Use this batch system, or local for this machine (auto: detect)."),
    staging: str | None = typer.Option(
        None, help="Stage data in jobs (default), from a login node (login) or in the job itself (inline)."
    ),
    stage_partition: StagePartition = None,
    stage_account: str | None = typer.Option(None, help="Charge stage jobs to this account (default: the job's)."),
    stage_time: str | None = typer.Option(None, help="Limit each stage job to this time (default 10m)."),
    poll: str | None = typer.Option(None, help="Poll each task at least this often."),
    fault_grace: str | None = typer.Option(
        None, help="Tolerate a permanent fault or a pause for this long (default 5m)."
    ),
    resume: str | None = typer.Option(None, help="Continue this chain where it stopped.", metavar="CHAIN"),
    key: Key = None,
    once: Once = False,
    dry_run: bool = typer.Option(
        False, "--dry-run", help="Show what would happen, with -v every script and command too; submit nothing."
    ),
    check: bool = typer.Option(True, "--check/--no-check", help="Check first for problems, as doctor does (default)."),
) -> Report:
    """Submit a job script as a chain: stage data in, release the job, stage results out.

    The script goes to the scheduler unchanged and is held until its data has arrived. With --scheduler local, the chain runs
    on this machine at once.
    """
    from globuswrap.api import checked_key
    from globuswrap.staging import submit as submitting
    from globuswrap.staging.chain import record
    from globuswrap.staging.submission import StagingRequest, plan_of
    from globuswrap.underway import lookup

    if resume is not None:
        if job_script is not None:
            raise UsageProblem(
                "bad-usage", "--resume cannot be combined with a job script", f"globuswrap submit --resume {resume}"
            )
        if key is not None or once:
            raise UsageProblem(
                "bad-usage", "--resume cannot be combined with --key", f"globuswrap submit --resume {resume}"
            )
        known = record.load(lookup.whole(resume))
        _warn_of_changes(known)
        return _told(submitting.resume(known))
    if job_script is None:
        raise UsageProblem("bad-usage", "no job script given", "globuswrap submit JOB_SCRIPT")
    checked_key(key, once)
    wanted = StagingRequest(scheduler, staging, stage_partition, stage_account, stage_time, poll, fault_grace)
    plan, content = plan_of(Path(job_script), wanted, scheduler_arguments or (), os.environ)
    if dry_run:
        return _planned(plan, content)

    def examined() -> None:
        from globuswrap.doctor import examine

        with progress.doing() as say:
            examine.before_submit(plan, content, say)

    submitted = submitting.submit(plan, content, key, once, examined if check else lambda: None)
    if submitted.how != submitting.NEW:
        age = units.human_duration(max(0.0, time.time() - submitted.chain.plan.created))
        state = "has ended" if submitted.how == submitting.RECORDED else "is under way"
        log.say(f"chain {submitted.chain.id}, submitted {age} ago with this key, {state}; no other chain was submitted")
    return _told(submitted)


def _told(submitted: Submitted) -> Report:
    """The chain's id on the first line; the rest is talk. On this machine, the chain is followed to its end."""
    from globuswrap.api import described

    chain, stands = submitted.chain, described(submitted)
    for line in stands["text"]:
        log.say(line)
    if stands["data"]["exit_code"] is None:
        log.say(f"follow it with: globuswrap status {chain.id}")
        if chain.plan.staging.mode == "login":
            log.say("nothing runs on nodes: `globuswrap tend` advances it, from cron or with --follow")
    return Report(stands["data"], [chain.id])


def _warn_of_changes(chain: Any) -> None:
    try:
        changed = Path(chain.plan.script).read_bytes() != chain.script.read_bytes()
    except OSError:
        return
    if changed:
        log.say(f"{chain.plan.script} has changed since; the chain continues with the script as it was submitted")


def _planned(plan: Any, content: bytes) -> Report:
    """A dry run: what will happen, and with -v each file and command, with words for ids of jobs that do not exist yet."""
    from globuswrap.staging.chain import jobs, record
    from globuswrap.staging.outline import outline

    directory = record.root() / plan.id
    texts = jobs.generated(plan, directory, content)
    commands = jobs.commands(plan, directory)
    lines = outline(plan)
    data = {
        "steps": lines[: lines.index("")],
        "planned": {str(directory / name): text for name, text in texts.items()},
        "commands": [list(words) for words in commands],
        "plan": plan.to_json(),
    }
    if log.level() > 1:
        for name, text in texts.items():
            lines += ["", f"# {directory / name}", *text.rstrip("\n").split("\n")]
        lines += ["", *(shlex.join(words) for words in commands)]
    return Report(data, lines)
