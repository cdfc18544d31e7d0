"""Advance a chain: do the next possible step, from wherever it is called.

It is called by short stage jobs, by `tend` on a login node, and by the jobs that follow the compute job. Two hosts may call
it at once: what must happen once is decided by a fact (record.py) or by the journal of transfers, and the rest may happen
twice. The compute job is held by the user's own hold, and only `advance` releases it: a purged or unknown parent can never
start it without its data.
"""

from __future__ import annotations

from globuswrap.errors import Held, LoginNeeded, NoGlobus, Refused, StoppedEarly, TryLater, combined
from globuswrap.schedulers import base
from globuswrap.staging import plan as plans
from globuswrap.staging import steps
from globuswrap.staging.chain import end as ends
from globuswrap.staging.chain import jobs, progress
from globuswrap.staging.chain import observe as observing
from globuswrap.staging.chain.record import BlockedOn, Chain, ChainStatus, JobOutcome
from globuswrap.staging.plan import CLEANUP, INLINE, STAGE_IN, STAGE_OUT, Step
from globuswrap.staging.steps import StepResult
from globuswrap.system import log


def advance(chain: Chain, evidence: str | None = None, *, until_released: bool = False) -> ChainStatus:
    """Do the next possible thing, and say what the chain waits for.

    `evidence` is the outcome of the compute job as the dependency of the calling job proves it; `until_released`: what
    comes after the job's release is left to others. Raises TryLater when the scheduler does not answer; a problem of a
    transfer is in the status.
    """
    if chain.ended:
        return ends.status(chain)
    if chain.ending is not None:
        return ends.end(chain)
    compute = chain.compute
    if compute is None or not chain.submitted:
        return ChainStatus(BlockedOn.SUBMISSION, "its submission was interrupted", problem=chain.cut_off)
    if chain.plan.staging.mode == INLINE:
        return _advance_inline(chain, compute)
    if not chain.released:
        waiting = _stage_in(chain, compute)
        if waiting is not None:
            return waiting
    if until_released and not chain.plan.on_this_machine:
        return ChainStatus(
            BlockedOn.JOB, f"job {compute} is released", watch=not jobs.scheduler_of(chain).tells_of_deletion
        )
    outcome = chain.outcome or observing.observe(chain, compute, evidence)
    if outcome is None:
        return _blocked_on_job(chain, compute)
    return _after(chain, outcome)


def _blocked_on_job(chain: Chain, compute: str) -> ChainStatus:
    state = jobs.state(chain, compute)
    why = f"job {compute} {state.raw_state.lower()}" + (f" ({state.reason})" if state.reason else "")
    watch = not jobs.scheduler_of(chain).tells_of_deletion and state.phase != base.RUNNING
    return ChainStatus(BlockedOn.JOB, why, watch=watch)


# --- before the job ---------------------------------------------------------------------------------------------------


def _stage_in(chain: Chain, compute: str) -> ChainStatus | None:
    """Bring the data, then release the job. None when that is done."""
    state = jobs.state(chain, compute)
    held = chain.releasing or state.phase == base.HELD
    if not held and (state.phase == base.GONE or (state.phase == base.ENDED and not state.started)):
        cause = f"job {compute} ended before its data had arrived: {state.raw_state}"
        problem = StoppedEarly("job-gone", cause, f"globuswrap submit --resume {chain.id}")
        return ends.fail(chain, "job", problem)
    found = progress.look(chain, progress.inputs(chain))
    bad = progress.failed(found)
    unfinished = progress.blocked(found)
    if not held and found and (bad or unfinished or state.phase != base.WAITING):
        # The link decides whether the hold went by the user's hand, or another process has just released the job.
        chain.add("releasing", by_user=True, raw_state=state.raw_state)
    if chain.released_early:
        return _released_early(chain, compute)
    if bad:
        name, result = bad[0]
        return ends.fail(chain, name, progress.problem_of(name, result))
    if unfinished is not None:
        return unfinished
    if state.phase == base.HELD:
        try:
            complete = progress.still_there(chain)
        except (LoginNeeded, TryLater, Held, NoGlobus) as problem:
            return ChainStatus(BlockedOn.USER, f"checking the staged data: {problem.cause}", problem=problem)
        if not complete:
            return _stage_in(chain, compute)
    return _release(chain, compute)


def _release(chain: Chain, compute: str) -> ChainStatus | None:
    """Release the job, whose data is there."""
    if chain.ending is not None:
        return ends.end(chain)
    jobs.scheduler_of(chain).cancel(jobs.twins(chain, compute))
    # Before the act: a job that has been released may have run, whoever dies now.
    chain.add("releasing")
    if chain.released_early:
        return _released_early(chain, compute)
    if not chain.plan.held_by_user:
        why = "the data has arrived; " if chain.plan.of(STAGE_IN) else ""
        log.say(f"{chain.id}: {why}job {compute} is released")
        jobs.scheduler_of(chain).release(compute)
    chain.add("released")
    return None


def _released_early(chain: Chain, compute: str) -> ChainStatus | None:
    """Cancel the job, or let it run and go on with it, as the chain's `on-early-release` says."""
    what = f"job {compute} was released by hand before its data was staged in"
    if chain.plan.staging.on_early_release == plans.LET_RUN:
        _, mine = chain.add("released", by_user=True)
        if mine:
            log.say(f"{chain.id}: {what}; it may still run (on-early-release={plans.LET_RUN})")
        return None
    remedy = f"globuswrap submit --resume {chain.id}"
    return ends.fail(chain, "job", StoppedEarly("released-early", f"{what}, so it was canceled", remedy))


# --- after the job ----------------------------------------------------------------------------------------------------


def _after(chain: Chain, outcome: JobOutcome) -> ChainStatus:
    """Stage out and clean up, by the outcome, and end the chain."""
    plan = chain.plan
    ran = chain.releasing and outcome.started is not False
    outs = [step for step in plan.of(STAGE_OUT) if _runs(chain, step, outcome.success, ran)]
    found = progress.look(chain, [*progress.late_inputs(chain), *outs])
    waiting = progress.blocked(found)
    if waiting is not None:
        return waiting
    bad = bool(progress.failed(found))
    for step in plan.of(CLEANUP):
        if not _runs(chain, step, outcome.success, ran):
            continue
        result = progress.recorded(chain, step.name)
        if result is None:
            result = (
                StepResult(steps.SKIPPED, cause="not everything was staged out") if bad else ends.clean(chain, step)
            )
            result = progress.note(chain, step.name, result)
        found[step.name] = result
    waiting = progress.blocked(found)
    if waiting is not None:
        return waiting
    failed = progress.failed(found)
    codes = [result.exit_code or 1 for _, result in failed] + ([] if outcome.success else [1])
    if failed:
        problem = progress.problem_of(*failed[0])
        also = "" if outcome.success else f" (and the job failed: {outcome.raw_state})"
        return ends.fail(chain, failed[0][0], problem, code=combined(codes), also=also)
    if not outcome.success:
        cause = f"the job {'failed' if ran else 'never started'}: {outcome.raw_state}"
        if outcome.unknown:
            cause = outcome.evidence
        return ends.fail(chain, "job", _job_failed(chain, cause))
    return ends.succeed(chain)


def _runs(chain: Chain, step: Step, success: bool, ran: bool) -> bool:
    """Whether the step is for this outcome; what is not is recorded as skipped."""
    if step.runs_after(success) and ran:
        return True
    cause = f"only after {step.when}" if ran else "the job never started"
    progress.note(chain, step.name, StepResult(steps.SKIPPED, cause=cause))
    return False


def _job_failed(chain: Chain, cause: str) -> Refused:
    return Refused("job-failed", cause, f"check its output, then: globuswrap submit --resume {chain.id}")


def _advance_inline(chain: Chain, compute: str) -> ChainStatus:
    """An inline chain advances by itself, inside the job: here it is only watched, and ended when the job is over."""
    chain.add("released")
    state = jobs.state(chain, compute)
    if chain.plan.on_this_machine and state.phase == base.HELD:
        chain.add("releasing")
        jobs.scheduler_of(chain).release(compute)
        state = jobs.state(chain, compute)
    if state.alive:
        return _blocked_on_job(chain, compute)
    reports = chain.notes("inline.")
    info = jobs.info_of(chain, compute)
    # An element that said nothing at its end was killed; the scheduler may have forgotten it while others still ran.
    silent = info.array or state.success is None
    bad = {name: fact for name, fact in reports.items() if fact.get("code") or (silent and fact.get("phase") == "in")}
    # Without their number nobody knows whether all elements have started.
    complete = bool(reports) and (len(reports) >= info.elements if info.elements else not info.array)
    success = (state.success is True or (state.success is None and complete)) and not bad
    evidence = "the scheduler's own record" if state.success is not None else "the job's report"
    if observing.note(chain, success, state, evidence).success:
        return ends.succeed(chain)
    cause = f"the job {'never started' if state.started is False else 'failed'}: {state.raw_state}"
    if state.phase == base.GONE and not reports:
        cause = observing.unknown_ending(compute, state, False)
    if bad:
        name, fact = min(bad.items())
        cause = f"{name}: {fact.get('cause') or cause}"
    code = combined(int(fact.get("staging") or 0) for fact in bad.values()) or 1
    return ends.fail(chain, "job", _job_failed(chain, cause), code=code)
