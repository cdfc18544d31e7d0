"""Advance chains from stage jobs, from `tend` under cron or on a login node, or from a command that follows one."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterable

from globuswrap import config
from globuswrap.errors import Problem, TryLater, UsageProblem
from globuswrap.schedulers.base import JobSystem
from globuswrap.staging.chain import end as ends
from globuswrap.staging.chain import jobs, record
from globuswrap.staging.chain.advance import advance
from globuswrap.staging.chain.record import Chain
from globuswrap.staging.chain.state import BlockedOn, ChainStatus, cut_off
from globuswrap.system import log, units
from globuswrap.system.pacing import Pace

#: A submission that was killed is undone after this time.
_CUT_OFF_AFTER = 600.0
_LISTED_FOR = 7 * 86400.0


def follow(
    chain: Chain,
    *,
    evidence: str | None = None,
    until: float | None = None,
    leave: Callable[[ChainStatus], bool] = lambda status: False,
) -> ChainStatus:
    """Advance the chain again and again, from 1 s up to the poll interval apart, until it has ended, `until` (time.monotonic)
    has come, or `leave` says so."""
    poll = chain.plan.staging.poll if chain.plan.staging.poll is not None else config.load().settings.poll
    pace = Pace(poll, None if until is None else until - time.monotonic())
    last = ""
    while True:
        try:
            status = advance(chain, evidence)
        except TryLater as problem:
            status = ChainStatus(BlockedOn.USER, problem.cause, problem=problem)
        if status.ended or leave(status):
            return status
        if status.why != last:
            pace.news()
            last = status.why
        if pace.left is not None and pace.left <= pace.pause:
            return status
        log.set_activity(f"chain {chain.id}: {status.why}")
        pace.rest()


def in_job(chain: Chain, seconds: float, evidence: str | None) -> ChainStatus:
    """What a stage job does: advance for at most `seconds`, then hand over to a follow-up that begins later, so that no node
    is held by waiting."""

    def leave(status: ChainStatus) -> bool:
        # What only a person fixes is not waited for on a node. When the job is over, a moment more tells how it ended.
        over = bool(chain.noted("job-over"))
        job = status.blocked_on is BlockedOn.JOB and evidence is None and not over
        return status.needs_user or job or status.blocked_on is BlockedOn.SUBMISSION

    status = follow(chain, evidence=evidence, until=time.monotonic() + seconds, leave=leave)
    if status.ended or (status.blocked_on is BlockedOn.JOB and not status.watch):
        return status
    handed = len(chain.facts("claim.stage."))
    delay = min(60.0 * 2 ** max(0, min(handed - 1, 4)), 900.0)
    if status.blocked_on is BlockedOn.USER:
        delay = 900.0
    system = jobs.stage_system(chain.plan)
    job_id = jobs.submit_stage(chain, system, delay) if system is not None else None
    if job_id is not None:
        log.say(f"{chain.id}: {status.why}; job {job_id} continues in {units.human_duration(delay)}")
    return status


def tend(chain: Chain) -> ChainStatus:
    """Advance a chain from a login node, once; submit a stage job where one has vanished."""
    if chain.ended:
        return ends.status(chain)
    status = advance(chain)
    scheduler = jobs.scheduler_of(chain)
    if status.blocked_on is BlockedOn.SUBMISSION:
        return _tend_cut_off(chain, scheduler, status)
    wanted = status.blocked_on in (BlockedOn.TRANSFER, BlockedOn.USER) or status.watch
    system = jobs.stage_system(chain.plan)
    if system is not None and wanted and not jobs.is_helped(chain, system):
        job_id = jobs.submit_stage(chain, system, 0.0)
        if job_id is not None:
            log.say(f"{chain.id}: its stage job has vanished; job {job_id} takes over")
    return status


def _tend_cut_off(chain: Chain, scheduler: JobSystem, status: ChainStatus) -> ChainStatus:
    """Undo a submission that was killed a while ago."""
    if time.time() - max(chain.plan.created, chain.resumed_at) < _CUT_OFF_AFTER:
        return status
    with contextlib.suppress(TryLater), jobs.submitting(chain):
        if not chain.submitted:
            ends.undo(chain, scheduler, cut_off(chain.id))
            return ends.status(chain)
    return status


def tend_all(seen: Callable[[str, ChainStatus], None], wanted: Iterable[str] | None = None) -> int:
    """Advance every chain that has not ended (or those wanted), once each; returns how many are left.

    One chain's problem stops no other.
    """
    left = 0
    for chain_id in record.ids() if wanted is None else wanted:
        try:
            chain = record.load(chain_id)
            if chain.ended and wanted is None:
                ends.prune(chain)
                continue
            status = tend(chain)
        except Problem as problem:
            status = ChainStatus(BlockedOn.USER, problem.cause, problem=problem)
        left += not status.ended
        seen(chain_id, status)
    return left


def cancel(chain_id: str) -> ChainStatus:
    """Cancel a chain: its tasks and its jobs. One that has ended is left as it is."""
    chain = record.load(chain_id)
    if chain.ended:
        return ends.status(chain)
    remedy = f"globuswrap submit --resume {chain.id}"
    chain.add("ending", code=5, step="", name="chain-canceled", cause="canceled on request", remedy=remedy)
    return ends.end(chain, jobs.scheduler_of(chain))


def recent() -> tuple[list[Chain], list[Chain]]:
    """The chains that have not ended, and those that ended within the last week, oldest first."""
    open_, over = [], []
    for chain_id in record.ids():
        try:
            chain = record.load(chain_id)
            ended = chain.ended_at
        except UsageProblem as problem:
            log.say(problem.cause, 0)
            continue
        if ended is None:
            open_.append(chain)
        elif time.time() - ended < _LISTED_FOR:
            over.append(chain)
    return open_, over
