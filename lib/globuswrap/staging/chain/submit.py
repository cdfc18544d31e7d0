"""Start a chain: write its record, submit its jobs, and recover a killed submission."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import Any

from globuswrap import schedulers
from globuswrap.deletion import uses
from globuswrap.errors import Interrupted
from globuswrap.schedulers.base import JobSystem
from globuswrap.staging import plan as plans
from globuswrap.staging import steps
from globuswrap.staging.chain import end as ends
from globuswrap.staging.chain import jobs, record
from globuswrap.staging.chain.advance import advance
from globuswrap.staging.chain.record import Chain
from globuswrap.staging.chain.state import BlockedOn, ChainStatus
from globuswrap.staging.chain.tend import tend
from globuswrap.staging.plan import INLINE, STAGE_IN, Plan

_FIRST_LOOK = 60.0  # after it was released, to see whether the job has started


def create(plan: Plan, script: bytes) -> Chain:
    """The chain on disk, with the user's script and the generated ones; nothing is submitted yet."""
    directory = record.root() / plan.id
    name = os.path.basename(plan.script)
    texts: dict[str, tuple[str | bytes, int]] = {f"script/{name}": (script, 0o700)}
    for file, text in jobs.generated(plan, directory, script).items():
        texts[file] = (text, 0o700)
    return record.create(plan, texts)


def renamed(plan: Plan, chain_id: str) -> Plan:
    """The plan as that of the chain of another id."""
    return replace(plan, id=chain_id, copy=str(record.root() / chain_id / "script" / os.path.basename(plan.script)))


def start(chain: Chain) -> ChainStatus:
    """Submit the chain's jobs, in an order in which nothing starts before everything is recorded, and advance it once.

    Raises the problem of whatever was refused, after undoing what was submitted, in reverse; TryLater while another process
    submits them.
    """
    with jobs.submitting(chain):
        return _start(chain)


def _start(chain: Chain) -> ChainStatus:
    scheduler = jobs.scheduler_of(chain)
    try:
        _submit_jobs(chain, scheduler)
        status = advance(chain, until_released=True)
        if status.needs_user and status.problem is not None:
            raise status.problem  # a login is wanted, and here is someone to give it
        # After the transfers: it would only compete for submitting them.
        system = jobs.stage_system(chain.plan)
        if system is not None and status.blocked_on in (BlockedOn.TRANSFER, BlockedOn.USER):
            jobs.submit_stage(chain, system, 0.0)
        elif system is not None and status.watch:
            jobs.submit_stage(chain, system, _FIRST_LOOK)
    except Interrupted as problem:
        if not chain.plan.on_this_machine:  # a chain of this machine is taken up again where it was
            ends.undo(chain, scheduler, problem)
        raise
    except BaseException as problem:
        ends.undo(chain, scheduler, problem)
        raise
    return status


def _submit_jobs(chain: Chain, scheduler: JobSystem) -> None:
    """The compute job (held) and its followers. What is recorded already is not submitted again."""
    plan = chain.plan
    compute = jobs.submit_compute(chain, scheduler)
    info = jobs.info_of(chain, scheduler, compute)
    plans.checked(plan, os.path.basename(plan.script), info.array)
    _hold_paths(chain)
    system = schedulers.batch_system(plan.scheduler)
    if system is not None and plan.staging.mode != INLINE:
        jobs.submit_followers(chain, system, info)
    chain.add("submitted")


def _hold_paths(chain: Chain) -> None:
    """Note what the chain uses, before anything of it runs: until it has ended, nobody cleans that up."""
    uses.hold(chain.id, chain.facts_directory / "ended", steps.paths_used(chain.plan, chain.symbols))


def resume(chain: Chain) -> tuple[Chain, ChainStatus]:
    """Go on with a chain where it stopped, without repeating what is done. Raises as `start`."""
    scheduler = jobs.scheduler_of(chain)
    if not chain.ended and chain.ending is None:
        if chain.outcome is not None:
            return chain, tend(chain)
        with jobs.submitting(chain):
            jobs.adopt(chain, scheduler)
            return chain, _start(chain)
    if not chain.ended:
        ends.end(chain, scheduler)
    if chain.exit_code == 0:
        return chain, ends.status(chain)
    following = chain.begin_generation(_carried(chain))
    if following.outcome is None:
        return following, start(following)
    _hold_paths(following)
    return following, tend(following)


def _carried(chain: Chain) -> dict[str, dict[str, Any]]:
    """The facts that stay true in the next generation."""
    done = {name: fact for name, fact in chain.facts("step.").items() if fact.get("state") == steps.DONE}
    left = chain.facts("left.")
    if chain.outcome is not None and chain.outcome.success:
        names = ("job.compute", "about", "submitted", "releasing", "released", "outcome")
        kept = {name: fact for name in names if (fact := chain.fact(name)) is not None}
        return {**kept, **done, **left}
    # The job runs again under another id: what was staged under the old one is not where the new one looks.
    again = {step.name for step in chain.plan.of(STAGE_IN) if not step.uses(*plans.PER_JOB)}
    return {name: fact for name, fact in done.items() if name.removeprefix("step.") in again} | left
