"""End a chain: cancel its remaining tasks and jobs, and record its exit code."""

from __future__ import annotations

import contextlib
import shutil
import time
from collections.abc import Iterable

from globuswrap.collections.address import Address, normalised
from globuswrap.deletion import uses
from globuswrap.errors import Problem, Refused, UsageProblem
from globuswrap.schedulers import base
from globuswrap.staging import keys, steps
from globuswrap.staging.chain import jobs, progress, record
from globuswrap.staging.chain.record import Chain, ChainStatus
from globuswrap.staging.plan import Step
from globuswrap.staging.steps import StepResult
from globuswrap.system import log
from globuswrap.transfers import hooks

_KEEP_ENDED = 90 * 86400.0


def succeed(chain: Chain) -> ChainStatus:
    """Everything went well: end the chain."""
    chain.add("ending", code=0, step="", cause="", remedy="")
    return end(chain)


def fail(chain: Chain, step: str, problem: Problem, *, code: int | None = None, also: str = "") -> ChainStatus:
    """Record what went wrong at which step, and end the chain: nothing of it stays queued."""
    remedy = problem.remedy
    if "--resume" not in remedy:
        remedy = f"fix it ({remedy}), then: globuswrap submit --resume {chain.id}"
    code = problem.exit_code if code is None else code
    chain.add("ending", code=code, step=step, name=problem.name, cause=problem.cause + also, remedy=remedy)
    return end(chain)


def end(chain: Chain) -> ChainStatus:
    """Cancel what is left of the chain's tasks and jobs (not the job this runs in), and mark its end. Can be repeated.

    In a job of the chain, others of its jobs that run here are left to see the end for themselves: two that end the chain at
    once would cancel each other, and neither would be there to mark it.
    """
    progress.cancel_tasks(chain)
    scheduler, own = jobs.scheduler_of(chain), jobs.own_job(chain)
    for job_id in jobs.unrecorded(chain):
        chain.add(f"job.found.{job_id}", id=job_id)
    listed = chain.jobs
    compute = listed.pop("compute", None)
    # The followers first: one of them would start when the compute job is canceled.
    order = [job_id for _, job_id in sorted(listed.items(), reverse=True)] + ([compute] if compute else [])
    order += jobs.twins(chain, compute)
    siblings = set(listed.values()) if own in order else set()
    states = scheduler.states(order)
    scheduler.cancel(
        job_id
        for job_id in order
        if states[job_id].alive and not (job_id == own or (states[job_id].phase == base.RUNNING and job_id in siblings))
    )
    _, mine = chain.add("ended", code=0 if chain.ending is None else chain.ending.code)
    uses.release(chain.id)
    ended = status(chain)
    if mine:
        event = hooks.SUCCESS if ended.exit_code == 0 else hooks.FAILURE
        remedy = ended.problem.remedy if ended.problem is not None else ""
        progress.tell(chain, event, exit_code=ended.exit_code, cause=ended.why, remedy=remedy)
    return ended


def status(chain: Chain) -> ChainStatus:
    """Where a chain stands that has ended."""
    ending = chain.ending or record.Ending(1)
    code = 1 if chain.exit_code is None else chain.exit_code
    problem = Refused(ending.name, ending.cause, ending.remedy)
    problem.exit_code = code
    return ChainStatus(None, ending.cause, code, problem if code != 0 else None)


def undo(chain: Chain, problem: BaseException) -> None:
    """After a refusal in the middle of a submission: cancel what was submitted, last first, and leave no chain behind."""
    cause = problem.cause if isinstance(problem, Problem) else str(problem) or type(problem).__name__
    code = problem.exit_code if isinstance(problem, Problem) else 1
    chain.add("ending", code=code, step="submit", cause=cause, remedy="submit again")
    submitted = list(chain.jobs.values())
    submitted += [job_id for job_id in jobs.orphans(chain) if job_id not in submitted]
    try:
        if submitted:
            jobs.scheduler_of(chain).cancel(reversed(submitted))
        progress.cancel_tasks(chain)
        chain.add("ended", code=code)
        uses.release(chain.id)
        keys.settle(chain.plan, keys.NOTHING)
        if chain.generation == 1:
            shutil.rmtree(chain.directory, ignore_errors=True)
    except Problem as second:
        log.say(f"globuswrap: {chain.id}: undoing failed too: {second.cause}; run: globuswrap cancel {chain.id}", 0)


def clean(chain: Chain, step: Step) -> StepResult:
    """Carry out a cleanup step: what receipts of this chain cover and no other live chain uses, once."""
    try:
        address, covered = steps.covered(step, progress.receipts(chain), chain.symbols)
        left = [fact["paths"] for fact in chain.facts("left.").values() if fact["collection"] == address.collection]
        covered = sorted({*covered, *steps.below(address, (path for paths in left for path in paths))})
        # Written once: who looks at the task later must not ask for other paths, though other chains have ended meanwhile.
        paths = chain.add(f"paths.{step.name}", paths=_not_in_use(chain, step, address, covered))[0]["paths"]
    except Problem as problem:
        return steps.of_problem(problem)
    if covered and not paths:
        return StepResult(steps.SKIPPED, cause="another chain still uses these files")
    return steps.clean(chain, step, address, paths)


def _not_in_use(chain: Chain, step: Step, address: Address, paths: Iterable[str]) -> list[str]:
    """The paths that no other live chain uses. The others are left to one that does, to clean up when it ends."""
    live = uses.live(address.collection, exclude_owner=chain.id)
    users = {path: next((use.owner for use in live if use.covers(normalised(path))), None) for path in paths}
    for owner in {owner for owner in users.values() if owner is not None}:
        log.say(f"{chain.id}: {step.name}: chain {owner} still uses some of these files; they are left to it")
        with contextlib.suppress(UsageProblem):  # no record that can be read: nobody to leave them to
            kept = [path for path, user in users.items() if user == owner]
            record.load(owner).add(f"left.{chain.id}.{step.name}", collection=address.collection, paths=kept)
    return [path for path, user in users.items() if user is None]


def prune(chain: Chain) -> None:
    """Remove the record of a chain that ended long ago, unless its key says that it was done for good."""
    if chain.plan.once or chain.ended_at is None:
        return
    if time.time() - chain.ended_at > _KEEP_ENDED:
        keys.settle(chain.plan, keys.TOLD)
        shutil.rmtree(chain.directory, ignore_errors=True)
