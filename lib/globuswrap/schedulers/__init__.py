"""The batch systems that globuswrap knows. A new one is one module in this room, and its line in `KNOWN`."""

from __future__ import annotations

from collections.abc import Mapping

from globuswrap.errors import UsageProblem
from globuswrap.schedulers.base import CurrentJob, Scheduler
from globuswrap.schedulers.pbs import Pbs
from globuswrap.schedulers.slurm import Slurm
from globuswrap.system import process

#: In the order in which they are looked for: Slurm also ships a qsub of its own, which is no PBS.
KNOWN: tuple[Scheduler, ...] = (Slurm(), Pbs())

#: This machine instead of a batch system (staging/chain/local.py).
LOCAL = "local"
AUTO = "auto"
NAMES = (AUTO, *(each.name for each in KNOWN), LOCAL)


def batch_system(name: str) -> Scheduler | None:
    """The batch system of that name; None for this machine."""
    return next((each for each in KNOWN if each.name == name), None)


def choose(wanted: str) -> str:
    """The name of the scheduler: the wanted one, or the one whose commands are on PATH. UsageProblem if it is not here."""
    if wanted not in NAMES:
        raise UsageProblem("bad-scheduler", f"{wanted!r} is no known scheduler", f"use one of: {', '.join(NAMES)}")
    if wanted == AUTO:
        found = next((each.name for each in KNOWN if process.find_program(each.program)), None)
        if found is None:
            programs = " or ".join(each.program for each in KNOWN)
            remedy = "run it on a login node, or with --scheduler local"
            raise UsageProblem("no-scheduler", f"there is no {programs} on PATH", remedy)
        return found
    system = batch_system(wanted)
    if system is not None and not process.find_program(system.program):
        remedy = "run it on a login node of the cluster"
        raise UsageProblem("no-scheduler", f"there is no {system.program} on PATH", remedy)
    return wanted


def current_job(environ: Mapping[str, str]) -> tuple[Scheduler, CurrentJob] | None:
    """The batch job that this process runs in, by its environment; None outside of one."""
    for system in KNOWN:
        job = system.current_job(environ)
        if job is not None:
            return system, job
    return None
