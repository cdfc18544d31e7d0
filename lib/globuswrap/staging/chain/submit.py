"""Start a chain: write its record, submit its jobs, and recover a killed submission."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import Any

from globuswrap.deletion import uses
from globuswrap.errors import Interrupted
from globuswrap.staging import plan as plans
from globuswrap.staging import steps
from globuswrap.staging.chain import end as ends
from globuswrap.staging.chain import jobs, record
from globuswrap.staging.chain.advance import advance
from globuswrap.staging.chain.record import BlockedOn, Chain, ChainStatus
from globuswrap.staging.chain.tend import tend
from globuswrap.staging.plan import STAGE_IN, Plan

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
    try:
        _submit_jobs(chain)
        status = advance(chain, until_released=True)
        if status.needs_user and status.problem is not None:
            raise status.problem  # a login is wanted, and here is someone to give it
        # After the transfers: it would only compete for submitting them.
        if status.blocked_on in (BlockedOn.TRANSFER, BlockedOn.USER):
            jobs.submit_stage(chain, 0.0)
        elif status.watch:
            jobs.submit_stage(chain, _FIRST_LOOK)
    except BaseException as problem:
        # One of this machine that is interrupted is taken up again where it was.
        if not (isinstance(problem, Interrupted) and chain.plan.on_this_machine):
            ends.undo(chain, problem)
        raise
    return status


def _submit_jobs(chain: Chain) -> None:
    """The compute job (held) and its followers. What is recorded already is not submitted again."""
    info = jobs.info_of(chain, jobs.submit_compute(chain))
    plans.checked(chain.plan, os.path.basename(chain.plan.script), info.array)
    _hold_paths(chain)
    jobs.submit_followers(chain, info)
    chain.add("submitted")


def _hold_paths(chain: Chain) -> None:
    """Note what the chain uses, before anything of it runs: until it has ended, nobody cleans that up."""
    uses.hold(chain.id, chain.facts_directory / "ended", steps.paths_used(chain.plan, chain.symbols))


def resume(chain: Chain) -> tuple[Chain, ChainStatus]:
    """Go on with a chain where it stopped, without repeating what is done. Raises as `start`."""
    if not chain.ended and chain.ending is None:
        if chain.outcome is not None:
            return chain, tend(chain)
        with jobs.submitting(chain):
            jobs.adopt(chain)
            return chain, _start(chain)
    if not chain.ended:
        ends.end(chain)
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
