"""Find out how the compute job ended: from the scheduler's record, the jobs that follow it, or notes of the array tasks."""

from __future__ import annotations

import time
from dataclasses import replace

from globuswrap.schedulers import base
from globuswrap.schedulers.base import JobInfo, JobState
from globuswrap.staging.chain import jobs
from globuswrap.staging.chain.record import Chain, JobOutcome
from globuswrap.system import log

#: Over NFS, what was written on another node shows up within a minute. Slurm judges dependencies a moment after the end.
_SETTLES = 60.0
#: Where the scheduler tells the followers at once, or never.
_SETTLES_AT_ONCE = 10.0


def observe(chain: Chain, compute: str, evidence: str | None) -> JobOutcome | None:
    """How the compute job ended, recorded; None while it has not. `evidence`: the dependency that started the calling job.

    What the scheduler says of the job itself counts when it is one job; of an array, elements may be forgotten before the
    last one ends. Then, and when the job itself is forgotten, its followers tell: exactly one of them can start.
    """
    scheduler = jobs.scheduler_of(chain)
    state, info = jobs.state(chain, compute), jobs.info_of(chain, compute)
    if state.alive:
        if state.phase == base.RUNNING:
            chain.add("started")  # the scheduler may forget it
        return None  # also when a follower runs: the job was requeued since
    if evidence in (base.AFTER_SUCCESS, base.AFTER_FAILURE):
        return note(chain, evidence == base.AFTER_SUCCESS, state, f"the scheduler started the job after {evidence}")
    if state.phase == base.ENDED and state.success is not None and (not info.array or scheduler.remembers_elements):
        return note(chain, state.success, state, "the scheduler's own record")
    success = _followers_tell(chain)
    if success is not None:
        return note(chain, success, state, "the job that followed it")
    elements = _elements_tell(chain, info)
    if elements is not None:
        success, raw_state, complete = elements
        if not complete and _settling(chain, state, _SETTLES):
            return None
        return note(chain, success, replace(state, raw_state=raw_state), "the elements' own notes")
    return _nobody_tells(chain, compute, state, evidence)


def _nobody_tells(chain: Chain, compute: str, state: JobState, evidence: str | None) -> JobOutcome | None:
    scheduler = jobs.scheduler_of(chain)
    followers = scheduler.states(_followers(chain).values()).values()
    waiting = [each for each in followers if each.alive and not jobs.has_started(each)]
    if waiting and _settling(chain, state, _SETTLES if scheduler.tells_of_deletion else _SETTLES_AT_ONCE):
        return None
    if waiting and len(waiting) == len(followers) and not scheduler.tells_of_deletion:
        state = replace(state, raw_state="deleted before it ran", started=False)
        return note(chain, False, state, "the jobs that follow it still wait")
    started = evidence is not None or any(map(jobs.has_started, followers)) or chain.fact("started") is not None
    state = replace(state, started=bool(started or state.started))
    return note(chain, False, state, unknown_ending(compute, state, started), unknown=True)


def unknown_ending(compute: str, state: JobState, started: bool) -> str:
    whether = "" if started else ", or whether it ever started"
    return f"the scheduler does not know how job {compute} ended{whether} ({state.raw_state})"


def note(chain: Chain, success: bool, state: JobState, evidence: str, *, unknown: bool = False) -> JobOutcome:
    """Record how the job ended; what is recorded first holds."""
    said = {"raw_state": state.raw_state, "evidence": evidence, "started": state.started, "began": state.began}
    _, mine = chain.add("outcome", success=success, **said, unknown=unknown)
    if mine and not unknown:
        log.say(f"{chain.id}: the job {'succeeded' if success else f'failed ({state.raw_state})'}")
    outcome = chain.outcome
    assert outcome is not None
    return outcome


def _followers(chain: Chain) -> dict[str, str]:
    return {name.removeprefix("after-"): job for name, job in chain.jobs.items() if name.startswith("after-")}


def _followers_tell(chain: Chain) -> bool | None:
    followers = _followers(chain)
    if set(followers) != {base.AFTER_SUCCESS, base.AFTER_FAILURE}:
        return None
    states = jobs.scheduler_of(chain).states(followers.values())
    started = {outcome: jobs.has_started(states[job_id]) for outcome, job_id in followers.items()}
    if started[base.AFTER_SUCCESS] == started[base.AFTER_FAILURE]:
        return None
    return started[base.AFTER_SUCCESS]


def _elements_tell(chain: Chain, info: JobInfo) -> tuple[bool, str, bool] | None:
    """What the elements of an array noted at their ends: whether all succeeded, in words, and whether all have noted it.
    None if none has, or nobody knows how many there are."""
    noted = {path.name: path.read_text().strip() for path in (chain.directory / jobs.ELEMENTS).glob("exit.*")}
    codes = {name.removeprefix("exit."): code for name, code in noted.items() if code}
    codes = {name: code for name, code in codes.items() if jobs.scheduler_of(chain).element_of(info.id, name)}
    if not codes or info.elements is None:
        return None
    bad = [f"{name} exit {code}" for name, code in sorted(codes.items()) if code != "0"]
    silent = info.elements - len(codes)
    shown = bad[:5] + (["..."] if len(bad) > 5 else []) + ([f"{silent} killed or deleted"] if silent else [])
    if not shown:
        return True, "exit 0", True
    return False, f"{len(bad) + silent} of {info.elements} array elements: {', '.join(shown)}", not silent


def _settling(chain: Chain, state: JobState, seconds: float) -> bool:
    """Whether the job was seen to be over only just now."""
    chain.note("job-over", raw_state=state.raw_state)
    return bool(time.time() - float(chain.noted("job-over").get("at", 0.0)) < seconds)
