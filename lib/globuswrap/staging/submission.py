"""From a job script and options to a plan: what `globuswrap submit` decides before anything is submitted."""

from __future__ import annotations

import getpass
import os
import re
import socket
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from globuswrap import config
from globuswrap.collections import resolve
from globuswrap.errors import UsageProblem
from globuswrap.staging import directives, moves, record, scripts
from globuswrap.staging import plan as plans
from globuswrap.staging.plan import INLINE, JOBS, STAGINGS, Plan, Staging
from globuswrap.staging.schedulers import pbs, slurm
from globuswrap.system import log, machine, process, units

SCHEDULERS = ("auto", "slurm", "pbs", "local")


@dataclass(frozen=True)
class Wishes:
    """What the command line says; None: not said."""

    scheduler: str = "auto"
    staging: str | None = None
    partition: str | None = None
    account: str | None = None
    time: str | None = None
    poll: str | None = None
    fault_grace: str | None = None


def plan_of(script: Path, wishes: Wishes, arguments: Sequence[str], environ: Mapping[str, str]) -> tuple[Plan, bytes]:
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
    scheduler = chosen_scheduler(wishes.scheduler)
    check_header(scheduler, text, name)
    staging = staging_of(wishes, dict(parsed.settings), scheduler)
    _no_secret_needed(scheduler, staging, environ)
    held = pbs.held_by_user if scheduler == "pbs" else slurm.held_by_user
    chain_id = record.new_id()
    path = script.resolve()
    plan = Plan(
        id=chain_id,
        scheduler=scheduler,
        staging=staging,
        script=str(path),
        copy=str(record.root() / chain_id / "script" / path.name),
        cwd=os.getcwd(),
        user=getpass.getuser(),
        host=socket.gethostname(),
        created=time.time(),
        steps=plans.steps_of(parsed),
        arguments=checked_arguments(scheduler, arguments),
        launcher=machine.own_command(),
        environment=scripts.environment(environ),
        held_by_user=scheduler != "local" and held(text, arguments),
        array=scheduler == "pbs" and staging.mode != INLINE and pbs.asks_for_array(text, arguments),
    )
    plans.checked(plan, name, array=False if scheduler == "local" else None)
    _possible(plan, name)
    return plan, content


#: Keys of [staging]; those of `#GLOBUS set` say `staging` for `mode`.
KEYS = (
    *("mode", "stage-partition", "stage-queue", "stage-account", "stage-time", "poll", "fault-grace", "stop-before"),
    *("on-early-release", "staging"),
)


def staging_of(wishes: Wishes, said: Mapping[str, str], scheduler: str) -> Staging:
    """How to stage: option, then `#GLOBUS set`, then `[staging]` of the configuration, then the default."""
    table = config.load().table("staging")
    unknown = set(table) - set(KEYS)
    if unknown:
        known = f"known are: {', '.join(KEYS)}"
        raise UsageProblem("unknown-config-key", f"[staging]: unknown key: {min(unknown)}", known)

    def first(option: str | None, *names: str) -> str | None:
        if option is not None:
            return option
        for source in (said, table):
            for name in names:
                if source.get(name) is not None:
                    return str(source[name])
        return None

    queue = ("stage-queue", "stage-partition") if scheduler == "pbs" else ("stage-partition", "stage-queue")
    mode = first(wishes.staging, "staging", "mode") or JOBS
    if mode not in STAGINGS:
        raise UsageProblem("bad-staging", f"{mode!r} is no way of staging", f"one of: {', '.join(STAGINGS)}")
    seconds = units.duration(first(wishes.time, "stage-time") or "10m")
    if seconds < 60:
        raise UsageProblem("bad-stage-time", f"a stage time of {seconds:g} s is too short", "give at least 1m")
    poll = first(wishes.poll, "poll")
    grace = first(wishes.fault_grace, "fault-grace")
    margin = first(None, "stop-before")
    early = first(None, "on-early-release") or plans.CANCEL
    if early not in plans.ON_EARLY_RELEASE:
        choices = " or ".join(f"on-early-release={each}" for each in plans.ON_EARLY_RELEASE)
        raise UsageProblem("bad-early-release", f"on-early-release={early} is not valid", f"use {choices}")
    return Staging(
        mode,
        first(wishes.partition, *queue),
        first(wishes.account, "stage-account"),
        seconds,
        None if poll is None else units.duration(poll),
        None if grace is None else units.duration(grace),
        None if margin is None else units.duration(margin),
        early,
    )


def chosen_scheduler(wanted: str) -> str:
    """The scheduler: as asked for, or the one whose commands are here. UsageProblem if it is not here."""
    if wanted not in SCHEDULERS:
        raise UsageProblem("bad-scheduler", f"{wanted!r} is no known scheduler", f"one of: {', '.join(SCHEDULERS)}")
    # Slurm also ships a qsub of its own, which is no PBS: sbatch goes first.
    commands = {"slurm": "sbatch", "pbs": "qsub"}
    if wanted == "auto":
        for name, command in commands.items():
            if process.find_program(command):
                return name
        raise UsageProblem(
            "no-scheduler", "neither sbatch nor qsub is here", "run it on a login node, or with --scheduler local"
        )
    if wanted in commands and not process.find_program(commands[wanted]):
        raise UsageProblem("no-scheduler", f"no {commands[wanted]} is here", "run it on a login node of the cluster")
    return wanted


#: Options of sbatch and qsub with which the job's id is not known at once, or never.
_UNFIT = {"slurm": ("--wait", "-W", "--test-only", "--wrap"), "pbs": ("-I", "-X", "-z"), "local": ()}
_PREFIX = {"slurm": "#SBATCH", "pbs": "#PBS"}


def unfit(scheduler: str, words: Sequence[str]) -> tuple[int, str] | None:
    """The first option that does not go with a chain: its index, and what it is. Pure."""
    for index, word in enumerate(words):
        if scheduler == "pbs" and word.startswith("-W"):
            value = word[2:] or (words[index + 1] if index + 1 < len(words) else "")
            if re.search(r"(^|[\s,'\"])block=(true|t|y|1)\b", value, re.IGNORECASE):
                return index, "-W block=true"
        elif word.split("=")[0] in _UNFIT[scheduler]:
            return index, word
    return None


def checked_arguments(scheduler: str, arguments: Sequence[str]) -> tuple[str, ...]:
    """The scheduler's arguments, without any that would keep the job's id from being known."""
    found = unfit(scheduler, arguments)
    if found is not None:
        raise UsageProblem("bad-argument", f"{found[1]} does not work with a chain", "leave it out")
    return tuple(word for word in arguments if not (scheduler == "slurm" and word == "--parsable"))


def check_header(scheduler: str, text: str, name: str) -> None:
    """Raise the UsageProblem of the first option on the script's own #SBATCH or #PBS lines that does not go with a chain."""
    prefix = _PREFIX.get(scheduler)
    if prefix is None:
        return
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip() and not line.startswith("#"):
            return
        if not line.startswith(prefix):
            continue
        words = list(re.finditer(r"""(?:[^\s"']|"[^"]*"|'[^']*')+""", line[len(prefix) :]))
        found = unfit(scheduler, [word[0] for word in words])
        if found is not None:
            column = len(prefix) + words[found[0]].start() + 1
            raise UsageProblem(
                "bad-argument",
                f"{directives.printable(name)}:{number}:{column}: {found[1]} does not work with a chain",
                f"remove it from line {number}; nothing was submitted",
            )


def _no_secret_needed(scheduler: str, staging: Staging, environ: Mapping[str, str]) -> None:
    """PBS shows a job's environment to anyone who asks, so a service account's secret cannot go with the stage jobs."""
    if scheduler == "pbs" and staging.mode != plans.LOGIN and environ.get("GLOBUS_CLI_CLIENT_SECRET"):
        raise UsageProblem(
            "secret-needed",
            "GLOBUS_CLI_CLIENT_SECRET is set, and PBS jobs must not carry it where qstat shows it",
            "submit with --staging login, or log in with: globus login",
        )


def _possible(plan: Plan, name: str) -> None:
    """Every step makes a request, as far as that can be told before the job has an id: addresses and options are good."""
    values = {"j": "0", "A": "0", "a": "0", "u": plan.user, "x": "job", "d": plan.cwd}
    for step in plan.steps:
        try:
            if step.kind == plans.CLEANUP:
                resolve.address(directives.expand(step.source, values))
            else:
                moves.request_of(step, values)
                moves.patience_of(plan.staging, step, False)
        except UsageProblem as problem:
            where = f"{directives.printable(name)}:{step.line}"
            raise UsageProblem(problem.name, f"{where}: {problem.cause}", problem.remedy) from None


__all__ = ["INLINE", "Wishes", "plan_of"]
