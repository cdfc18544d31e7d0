"""Submit the jobs of a chain: the compute job, those that follow it, and short ones that stage."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from globuswrap.errors import Problem, Refused, TryLater
from globuswrap.schedulers import base
from globuswrap.schedulers.base import JobInfo, JobState, JobSystem, StageJob
from globuswrap.staging import scripts
from globuswrap.staging.chain.local import Local
from globuswrap.staging.chain.record import Chain
from globuswrap.staging.plan import INLINE, STAGE_IN, Plan
from globuswrap.system import locks, log


@dataclass(frozen=True)
class Kind:
    """A kind of job of the chain's own. `name` is that of its script, and of its record; `prefix` begins the job's name; `after`
    is the outcome of the compute job that it follows."""

    name: str
    prefix: str
    what: str
    after: str | None = None

    @property
    def script(self) -> str:
        """By this name a job is known that was submitted and not recorded."""
        return f"{self.name}.sh"


STAGE = Kind("stage", "gw-in-", "staging")
FOLLOWERS = {
    base.AFTER_SUCCESS: Kind("after-success", "gw-ok-", "after the job succeeded", base.AFTER_SUCCESS),
    base.AFTER_FAILURE: Kind("after-failure", "gw-no-", "after the job failed", base.AFTER_FAILURE),
    base.AFTER_EITHER: Kind("after-either", "gw-af-", "after the job", base.AFTER_EITHER),
}

#: Where the elements of an array note how they ended.
ELEMENTS = "array"


def scheduler_of(chain: Chain) -> JobSystem:
    """The scheduler that the chain was submitted to."""
    return chain.plan.system or Local(chain, payload(chain.plan, chain.directory))


# --- texts and commands; pure -----------------------------------------------------------------------------------------


def generated(plan: Plan, directory: Path, script: bytes) -> dict[str, str]:
    """The scripts that the chain submits besides the user's: file below the chain's directory -> text."""
    name = os.path.basename(plan.script)
    copy, text = directory / "script" / name, script.decode("utf-8", "surrogateescape")
    system = plan.system
    if plan.staging.mode == INLINE:
        return {f"inline/{name}": scripts.inline(plan, copy, text, system)}
    if system is None:
        return {}
    texts = {}
    if plan.array:
        texts[f"{ELEMENTS}/{name}"] = scripts.element(plan, directory / ELEMENTS, copy, text, system)
    followers = [FOLLOWERS[outcome] for outcome in system.dependencies]
    if plan.stage_system is None:
        witness = "#!/bin/bash\n# Never runs: the scheduler keeps it to tell how the job ended.\nexit 0\n"
        return texts | {each.script: witness for each in followers}
    texts["settings"] = scripts.settings(plan)
    seconds = max(30, int(plan.staging.time - min(60.0, plan.staging.time / 4)))
    for each in (STAGE, *followers):
        after = [] if each.after is None else ["--after", each.after]
        texts[each.script] = scripts.stage(plan, directory, each.what, [*after, "--for", str(seconds), plan.id], system)
    return texts


def payload(plan: Plan, directory: Path) -> Path:
    """The script that is the compute job."""
    name = os.path.basename(plan.script)
    return directory / ("inline" if plan.staging.mode == INLINE else ELEMENTS if plan.array else "script") / name


def is_payload(chain: Chain, script: str) -> bool:
    return os.path.dirname(script) == str(payload(chain.plan, chain.directory).parent)


def commands(plan: Plan, directory: Path) -> list[tuple[str, ...]]:
    """The scheduler's commands in their order, for a dry run; JOB stands for the id of the compute job."""
    scheduler = plan.system
    if scheduler is None:
        return [(str(payload(plan, directory)),)]
    hold = plan.staging.mode != INLINE
    listed = [scheduler.compute_command(payload(plan, directory), plan.arguments, hold=hold)]
    if hold:
        info = JobInfo("JOB", "", plan.user, plan.cwd)
        kinds = [FOLLOWERS[outcome] for outcome in scheduler.outcomes(info)]
        if plan.stage_system is not None and plan.of(STAGE_IN):
            kinds.append(STAGE)
        listed += [scheduler.stage_command(_job(plan, directory, info, each)) for each in kinds]
    return listed


def _job(plan: Plan, directory: Path, info: JobInfo, kind: Kind, delay: float = 0.0) -> StageJob:
    staging = plan.staging
    return StageJob(
        *(directory / kind.script, f"{kind.prefix}{plan.id}", staging.time, staging.partition),
        account=staging.account if staging.account is not None else info.account,
        after=None if kind.after is None else (info.id, kind.after),
        delay=delay,
        witness=plan.stage_system is None,
    )


# --- what the scheduler says ------------------------------------------------------------------------------------------


def state(chain: Chain, job_id: str) -> JobState:
    """The state of one job."""
    return scheduler_of(chain).states([job_id])[job_id]


def own_job(chain: Chain) -> str | None:
    """The id of the job that this process runs in, of an element that of its array; None outside of one."""
    job = scheduler_of(chain).current_job(os.environ)
    return None if job is None else job.whole


def info_of(chain: Chain, compute: str) -> JobInfo:
    """What the scheduler says of the compute job, asked once."""
    known = chain.info
    if known is None:
        info, ran = scheduler_of(chain).about(compute), _ran_inline(chain)
        if info is None and ran is not None:
            # The scheduler has forgotten it already: what a job that stages by itself wrote down is enough.
            info = JobInfo(compute, str(ran.get("name", "")), chain.plan.user, chain.plan.cwd, bool(ran.get("array")))
        if info is None:
            raise Refused("job-gone", f"{chain.plan.scheduler} job {compute} is gone", "see: globuswrap status")
        chain.add("about", **asdict(info))
        known = chain.info
        assert known is not None
    return known


def has_started(state: JobState) -> bool:
    """Whether a follower's dependency was met: it waits for nothing but its begin, runs, or has run."""
    if state.phase == base.ENDED:
        return bool(state.started)
    return state.phase == base.RUNNING or state.satisfied


def is_helped(chain: Chain) -> bool:
    """Whether a job is there that advances the chain. A follower is one once its dependency is met: where the scheduler does
    not tell of deletion, those of a job that was deleted before it started wait for ever."""
    jobs = {name: job_id for name, job_id in chain.jobs.items() if name != "compute"}
    states = scheduler_of(chain).states(jobs.values())
    return any(
        states[job_id].alive and (name.startswith("stage.") or has_started(states[job_id]))
        for name, job_id in jobs.items()
    )


def twins(chain: Chain, compute: str | None) -> list[str]:
    """Other jobs of the user's script: the submission of one that was killed may have come through later."""
    if chain.fact("submitting-again") is None:
        return []
    jobs = scheduler_of(chain).find(chain.directory).items()
    return [job_id for job_id, script in jobs if job_id != compute and is_payload(chain, script)]


def orphans(chain: Chain) -> list[str]:
    """Jobs of the chain, recorded or not: known by their script, which lies in its directory. None if the scheduler cannot
    say."""
    try:
        return list(scheduler_of(chain).find(chain.directory))
    except Problem as problem:
        log.say(f"{chain.id}: {problem.cause}", 2)
        return []


def unrecorded(chain: Chain) -> list[str]:
    """Jobs in the queue that whoever submitted them was killed before recording."""
    claimed = {name.removeprefix("claim.") for name in chain.facts("claim.stage.")}
    recorded = chain.jobs
    if chain.submitted and claimed <= recorded.keys():
        return []
    return [job_id for job_id in orphans(chain) if job_id not in recorded.values()]


# --- submitting -------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def submitting(chain: Chain) -> Iterator[None]:
    """At most one process submits the jobs of a chain: sbatch and qsub have no id under which they would be sent twice."""
    try:
        lease = locks.take(chain.directory / "submitting")
    except locks.LeaseTaken as taken:
        who = taken.holder.shown if taken.holder is not None else "another process"
        cause = f"chain {chain.id} is being submitted by {who}"
        raise TryLater("submission-under-way", cause, "wait a moment, then rerun") from None
    with lease:
        yield


def submit_compute(chain: Chain) -> str:
    """Submit the user's job, held unless it stages by itself; one that is recorded already is not submitted again."""
    plan = chain.plan
    if chain.compute is not None:
        return chain.compute
    hold = plan.staging.mode != INLINE
    if not chain.add("submitting")[1]:
        chain.add("submitting-again")
    scheduler = scheduler_of(chain)
    command = scheduler.compute_command(payload(plan, chain.directory), plan.arguments, hold=hold)
    compute = scheduler.submit(command, plan.cwd)
    chain.add("job.compute", id=compute)
    log.say(f"{chain.id}: {plan.scheduler} job {compute}{' (held until its data has arrived)' if hold else ''}", 2)
    return compute


def submit_followers(chain: Chain, info: JobInfo) -> None:
    """Submit the jobs by which a batch system tells how the compute job ended, as far as they are not recorded."""
    scheduler = chain.plan.system
    if scheduler is None or chain.plan.staging.mode == INLINE:
        return
    for each in (FOLLOWERS[outcome] for outcome in scheduler.outcomes(info)):
        if chain.fact(f"job.{each.name}") is None:
            command = scheduler.stage_command(_job(chain.plan, chain.directory, info, each))
            chain.add(f"job.{each.name}", id=scheduler.submit(command, chain.plan.cwd))


def submit_stage(chain: Chain, delay: float) -> str | None:
    """Submit the next stage job, `delay` seconds from now; None if someone else has just done so, or the chain has none."""
    scheduler = chain.plan.stage_system
    if scheduler is None:
        return None
    number = _last_claim(chain) + 1
    if number > 1:
        last = chain.jobs.get(f"stage.{number - 1}")
        if last is not None and last != own_job(chain) and state(chain, last).alive:
            return None
        claim = chain.fact(f"claim.stage.{number - 1}")
        if last is None and claim is not None and time.time() - claim["at"] < 60:
            return None  # claimed a moment ago: it is being submitted
    _, mine = chain.add(f"claim.stage.{number}")
    if not mine:
        return None
    if chain.compute is None:
        raise chain.cut_off
    info = info_of(chain, chain.compute)
    command = scheduler.stage_command(_job(chain.plan, chain.directory, info, STAGE, delay))
    job_id = scheduler.submit(command, chain.plan.cwd)
    chain.add(f"job.stage.{number}", id=job_id)
    if chain.ending is not None:  # the chain was ended meanwhile by someone who did not see this job
        scheduler.cancel([job_id])
    return job_id


def _last_claim(chain: Chain) -> int:
    """The number of the latest stage job that somebody has begun to submit; 0: none."""
    return max((int(name.rpartition(".")[2]) for name in chain.facts("claim.stage.")), default=0)


def adopt(chain: Chain) -> None:
    """Record jobs that a killed submission had submitted and not written down."""
    there = scheduler_of(chain).find(chain.directory).items()
    if chain.compute is None:
        found = (job_id for job_id, script in there if is_payload(chain, script))
        job_id = next(found, None) or (_ran_inline(chain) or {}).get("job")
        if job_id is not None:
            chain.add("job.compute", id=job_id)
    recorded = set(chain.jobs.values())
    names = {each.script: each.name for each in FOLLOWERS.values()}
    if claimed := _last_claim(chain):
        names[STAGE.script] = f"stage.{claimed}"
    for job_id, script in there:
        name = names.get(os.path.basename(script))
        if name is not None and job_id not in recorded:
            chain.add(f"job.{name}", id=job_id)


def _ran_inline(chain: Chain) -> dict[str, Any] | None:
    """What a job that stages by itself, and has begun to, wrote down of itself."""
    noted = chain.notes("inline.").values() if chain.generation == 1 else ()
    return next((note for note in noted if note.get("job")), None)
