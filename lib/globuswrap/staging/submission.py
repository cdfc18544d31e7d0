"""Plan a submission from a job script and options: what `globuswrap submit` decides before it submits anything."""

from __future__ import annotations

import getpass
import os
import re
import socket
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from globuswrap import config, schedulers
from globuswrap.collections import names, resolve
from globuswrap.errors import UsageProblem
from globuswrap.schedulers.base import Scheduler, header, option_words
from globuswrap.staging import directives, scripts, steps
from globuswrap.staging import plan as plans
from globuswrap.staging.chain import record
from globuswrap.staging.plan import INLINE, JOBS, STAGINGS, Plan, Staging
from globuswrap.system import log, machine, units


@dataclass(frozen=True)
class StagingRequest:
    """What the command line says, by the names of the settings; None: not said."""

    scheduler: str = "auto"
    staging: str | None = None
    stage_partition: str | None = None
    stage_account: str | None = None
    stage_time: str | None = None
    poll: str | None = None
    fault_grace: str | None = None


def plan_of(
    script: Path, wanted: StagingRequest, arguments: Sequence[str], environ: Mapping[str, str]
) -> tuple[Plan, bytes]:
    """The plan for a job script, and the script's bytes. Nothing is written or submitted.

    Raises UsageProblem for a script that cannot be read, a bad directive, an unknown collection, or parts that do not fit.
    """
    name = str(script)
    try:
        content = script.read_bytes()
    except OSError as error:
        raise UsageProblem("no-script", f"{name}: {error.strerror}", "give the path of a job script") from None
    text = content.decode("utf-8", "surrogateescape")
    parsed = directives.parse(text, name, environ)
    for line in parsed.late:
        log.say(f"{name}:{line}: this #GLOBUS line comes after the first command and has no effect")
    chosen = schedulers.choose(wanted.scheduler)
    scheduler = schedulers.batch_system(chosen)
    words = [] if scheduler is None else [*option_words(text, scheduler.prefix), *arguments]
    if scheduler is not None:
        check_header(scheduler, text, name)
    staging = staging_of(wanted, parsed.settings, scheduler)
    _no_secret_needed(scheduler, staging, environ)
    chain_id = record.new_id()
    path = script.resolve()
    plan = Plan(
        id=chain_id,
        scheduler=chosen,
        staging=staging,
        script=str(path),
        copy=str(record.root() / chain_id / "script" / path.name),
        cwd=os.getcwd(),
        user=getpass.getuser(),
        host=socket.gethostname(),
        created=time.time(),
        steps=parsed.steps,
        arguments=checked_arguments(scheduler, arguments),
        launcher=machine.own_command(),
        environment=scripts.environment(environ),
        held_by_user=scheduler is not None and scheduler.asks_for_hold(words),
        array=scheduler is not None and staging.mode != INLINE and scheduler.elements_report(words),
    )
    plans.checked(plan, name, array=False if scheduler is None else None)
    _possible(plan, name)
    return plan, content


#: Keys of [staging]; those of `#GLOBUS set` say `staging` for `mode`.
KEYS = ("mode", *directives.SETTINGS)


def staging_of(wanted: StagingRequest, said: Mapping[str, str], scheduler: Scheduler | None) -> Staging:
    """How to stage: option, then `#GLOBUS set`, then `[staging]` of the configuration, then the default."""
    table = config.load().table("staging")
    unknown = set(table) - set(KEYS)
    if unknown:
        known = f"use one of: {', '.join(KEYS)}"
        raise UsageProblem("unknown-config-key", f"[staging]: unknown key: {min(unknown)}", known)
    options = {name.replace("_", "-"): value for name, value in vars(wanted).items()}

    def first(*names: str) -> str | None:
        values = (source.get(name) for source in (options, said, table) for name in names)
        return next((str(value) for value in values if value is not None), None)

    def seconds(name: str) -> float | None:
        value = first(name)
        return None if value is None else units.duration(value)

    mode = first("staging", "mode") or JOBS
    if mode not in STAGINGS:
        raise UsageProblem("bad-staging", f"{mode!r} is not a staging mode", f"one of: {', '.join(STAGINGS)}")
    time_limit = units.duration(first("stage-time") or "10m")
    if time_limit < 60:
        raise UsageProblem("bad-stage-time", f"a stage time of {time_limit:g} s is too short", "give at least 1m")
    early = first("on-early-release") or plans.CANCEL
    if early not in plans.ON_EARLY_RELEASE:
        choices = " or ".join(f"on-early-release={each}" for each in plans.ON_EARLY_RELEASE)
        raise UsageProblem("bad-early-release", f"on-early-release={early} is not valid", f"use {choices}")
    return Staging(
        mode,
        first(*(Scheduler if scheduler is None else scheduler).queue_keys),
        first("stage-account"),
        time_limit,
        seconds("poll"),
        seconds("fault-grace"),
        seconds("stop-before"),
        early,
    )


def checked_arguments(scheduler: Scheduler | None, arguments: Sequence[str]) -> tuple[str, ...]:
    """The scheduler's arguments, without any that would keep the job's id from being known."""
    if scheduler is None:
        if arguments:
            cause = "arguments after -- go to sbatch or qsub, and this machine runs the job by itself"
            raise UsageProblem("bad-argument", cause, "remove them, or name a scheduler: --scheduler slurm")
        return ()
    found = scheduler.unfit(arguments)
    if found is not None:
        raise UsageProblem("bad-argument", f"{found[1]} does not work with a chain", "remove it")
    return scheduler.accepted(arguments)


def check_header(scheduler: Scheduler, text: str, name: str) -> None:
    """Raise the UsageProblem of the first option on the script's own lines for the scheduler that does not go with
    a chain."""
    for number, line in header(text, scheduler.prefix):
        words = list(re.finditer(r"""(?:[^\s"']|"[^"]*"|'[^']*')+""", line))
        found = scheduler.unfit([word[0] for word in words])
        if found is not None:
            column = len(scheduler.prefix) + words[found[0]].start() + 1
            raise UsageProblem(
                "bad-argument",
                f"{log.printable(name)}:{number}:{column}: {found[1]} does not work with a chain",
                f"remove it from line {number}; nothing was submitted",
            )


def _no_secret_needed(scheduler: Scheduler | None, staging: Staging, environ: Mapping[str, str]) -> None:
    """Where anyone can list a job's environment, a service account's secret cannot go with the stage jobs."""
    shown = scheduler is not None and scheduler.shows_environment
    if scheduler is not None and shown and staging.mode != plans.LOGIN and environ.get("GLOBUS_CLI_CLIENT_SECRET"):
        raise UsageProblem(
            "secret-needed",
            f"GLOBUS_CLI_CLIENT_SECRET is set, and anyone can list the environment of {scheduler.title} jobs",
            "submit with --staging login, or log in with: globus login",
        )


def _possible(plan: Plan, name: str) -> None:
    """Every step makes a request, as far as that can be known before the job has an id: addresses and options are good.
    Says what would make a job wait on its node."""
    values = {"j": "0", "A": "0", "a": "0", "u": plan.user, "x": "job", "d": plan.cwd}
    for step in plan.steps:
        try:
            if step.kind == plans.CLEANUP:
                resolve.address(directives.expand(step.source, values))
            else:
                request = steps.request_of(step, values)
                steps.wait_policy_of(plan.staging, step)
                if step.kind == plans.STAGE_IN and plan.staging.mode == INLINE and names.on_tape(request.source):
                    log.say(
                        f"{log.printable(name)}:{step.line}: {step.source} is on tape, and the job will hold its node "
                        "while files are recalled. To have them recalled before it starts: --staging jobs"
                    )
        except UsageProblem as problem:
            where = f"{log.printable(name)}:{step.line}"
            raise UsageProblem(problem.name, f"{where}: {problem.cause}", problem.remedy) from None
