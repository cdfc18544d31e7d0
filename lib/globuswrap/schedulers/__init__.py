"""The batch systems that globuswrap knows. A new one is one module in this room, and its line in `KNOWN`."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple, cast

from globuswrap.errors import UsageProblem
from globuswrap.system import process

if TYPE_CHECKING:
    from globuswrap.schedulers.base import CurrentJob, Scheduler


class Known(NamedTuple):
    """By what a batch system is known: its command for submitting on PATH, and the variable with a job's id in the job."""

    program: str
    job_variable: str


#: In the order in which they are looked for: Slurm also ships a qsub of its own, which is no PBS. The module of the same name
#: is imported when it is used: a plain transfer starts without any.
KNOWN = {
    "slurm": Known("sbatch", "SLURM_JOB_ID"),
    "pbs": Known("qsub", "PBS_JOBID"),
}

#: This machine instead of a batch system (staging/chain/local.py).
LOCAL = "local"
AUTO = "auto"
NAMES = (AUTO, *KNOWN, LOCAL)


def batch_system(name: str) -> Scheduler | None:
    """The batch system of that name; None for this machine."""
    if name not in KNOWN:
        return None
    return cast("Scheduler", importlib.import_module(f"globuswrap.schedulers.{name}").SCHEDULER)


def choose(wanted: str) -> str:
    """The name of the scheduler: the wanted one, or the one whose commands are on PATH. UsageProblem if it is not here."""
    if wanted not in NAMES:
        raise UsageProblem("bad-scheduler", f"{wanted!r} is not a known scheduler", f"use one of: {', '.join(NAMES)}")
    if wanted == AUTO:
        found = next((name for name, known in KNOWN.items() if process.find_program(known.program)), None)
        if found is None:
            programs = " or ".join(known.program for known in KNOWN.values())
            remedy = "run it on a login node, or with --scheduler local"
            raise UsageProblem("no-scheduler", f"there is no {programs} on PATH", remedy)
        return found
    if wanted in KNOWN and not process.find_program(KNOWN[wanted].program):
        remedy = "run it on a login node of the cluster"
        raise UsageProblem("no-scheduler", f"there is no {KNOWN[wanted].program} on PATH", remedy)
    return wanted


def current_job(environ: Mapping[str, str]) -> tuple[Scheduler, CurrentJob] | None:
    """The batch job that this process runs in, by its environment; None outside of one."""
    for name, known in KNOWN.items():
        system = batch_system(name) if environ.get(known.job_variable) else None
        job = system.current_job(environ) if system is not None else None
        if system is not None and job is not None:
            return system, job
    return None
