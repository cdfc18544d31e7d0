"""Advance chains from stage jobs, from `tend` under cron or on a login node, or from a command that waits for them."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterable

from globuswrap import config
from globuswrap.errors import Problem, TryLater, UsageProblem
from globuswrap.staging.chain import end as ends
from globuswrap.staging.chain import jobs, record
from globuswrap.staging.chain.advance import advance
from globuswrap.staging.chain.record import BlockedOn, Chain, ChainStatus
from globuswrap.system import log, units
from globuswrap.system.pacing import Pace
from globuswrap.transfers.wait import WaitPolicy

#: A submission that has not recorded its jobs by then was killed, and is undone.
CUT_OFF_AFTER = 600.0
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
    job_id = jobs.submit_stage(chain, delay)
    if job_id is not None:
        log.say(f"{chain.id}: {status.why}; job {job_id} continues in {units.human_duration(delay)}")
    return status


def tend(chain: Chain) -> ChainStatus:
    """Advance a chain from a login node, once; submit a stage job where one has vanished."""
    if chain.ended:
        return ends.status(chain)
    status = advance(chain)
    if status.blocked_on is BlockedOn.SUBMISSION:
        return _tend_cut_off(chain, status)
    wanted = status.blocked_on in (BlockedOn.TRANSFER, BlockedOn.USER) or status.watch
    if wanted and chain.plan.stage_system is not None and not jobs.is_helped(chain):
        job_id = jobs.submit_stage(chain, 0.0)
        if job_id is not None:
            log.say(f"{chain.id}: its stage job has vanished; job {job_id} takes over")
    return status


def _tend_cut_off(chain: Chain, status: ChainStatus) -> ChainStatus:
    """Undo a submission that was killed a while ago."""
    if time.time() - max(chain.plan.created, chain.resumed_at) < CUT_OFF_AFTER:
        return status
    with contextlib.suppress(TryLater), jobs.submitting(chain):
        if not chain.submitted:
            ends.undo(chain, chain.cut_off)
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


def wait(chain_ids: Iterable[str], wait_policy: WaitPolicy | None = None) -> dict[str, ChainStatus]:
    """Advance chains until each has ended; returns where each stands.

    Of `wait_policy`, `timeout`, `poll` and `retry_for` count; the rest is each chain's own. A chain that needs a person (a
    login, a paused collection) is given up on, and left as it is; so is one whose scheduler or Globus cannot be reached for
    `retry_for`. A chain's problem stops no other.
    """
    wait_policy = (wait_policy or WaitPolicy()).settled()
    statuses: dict[str, ChainStatus] = {}
    pending = list(chain_ids)
    pace = Pace(wait_policy.poll, wait_policy.timeout)
    reached = dict.fromkeys(pending, 0.0)
    while True:
        before = {chain_id: statuses[chain_id].why for chain_id in pending if chain_id in statuses}
        tend_all(statuses.__setitem__, pending)
        now = pace.elapsed
        open_ = []
        for chain_id in pending:
            status = statuses[chain_id]
            if not _unreachable(status):
                reached[chain_id] = now
            lost = _unreachable(status) and now - reached[chain_id] >= (wait_policy.retry_for or 0.0)
            if not _settled(status) and not lost:
                open_.append(chain_id)
        pending = open_
        if not pending or pace.over:
            return statuses
        if any(statuses[chain_id].why != before.get(chain_id) for chain_id in pending):
            pace.news()
        first = statuses[pending[0]].why
        log.set_activity(f"{units.counted(len(pending), 'chain')} under way; {pending[0]}: {first}")
        pace.rest()


def _unreachable(status: ChainStatus) -> bool:
    """Whether the look did not get through. A submission that was cut off looks the same while it is made by another process."""
    return status.blocked_on in (BlockedOn.USER, BlockedOn.SUBMISSION) and isinstance(status.problem, TryLater)


def _settled(status: ChainStatus) -> bool:
    """Whether waiting can change nothing: it has ended, or only a person can fix what keeps it."""
    return status.ended or status.needs_user


def cancel(chain_id: str) -> ChainStatus:
    """Cancel a chain: its tasks and its jobs. One that has ended is left as it is."""
    chain = record.load(chain_id)
    if chain.ended:
        return ends.status(chain)
    remedy = f"globuswrap submit --resume {chain.id}"
    chain.add("ending", code=5, step="", name="chain-canceled", cause="canceled on request", remedy=remedy)
    return ends.end(chain)


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
