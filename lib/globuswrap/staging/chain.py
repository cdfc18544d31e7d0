"""A chain: stage in, run the job, stage out, clean up. `advance` does the next possible thing, from wherever it is called.

It is called by short stage jobs, by `tend` on a login node, and by the jobs that follow the compute job. Two hosts may call
it at once: what must happen once is decided by a fact (record.py) or by the journal of transfers, and the rest may happen
twice. The compute job is held by the user's own hold, and only `advance` releases it: a purged or unknown parent can never
start it without its data.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from globuswrap import config
from globuswrap.collections.address import Address, normalised
from globuswrap.deletion import uses
from globuswrap.errors import (
    Held,
    Interrupted,
    LoginNeeded,
    NoGlobus,
    Problem,
    Refused,
    StoppedEarly,
    TryLater,
    UsageProblem,
    combined,
)
from globuswrap.staging import keys, moves, record, scripts
from globuswrap.staging import plan as plans
from globuswrap.staging.moves import Move
from globuswrap.staging.plan import CLEANUP, INLINE, JOBS, STAGE_IN, STAGE_OUT, Plan, Step
from globuswrap.staging.record import Chain
from globuswrap.staging.schedulers import base
from globuswrap.staging.schedulers.base import About, JobState, Scheduler, StageJob
from globuswrap.staging.schedulers.local import Local
from globuswrap.staging.schedulers.pbs import Pbs
from globuswrap.staging.schedulers.slurm import Slurm
from globuswrap.system import locks, log, units
from globuswrap.system.pacing import Pace

DATA = "data"  # a transfer is under way
JOB = "job"  # the scheduler has to run the job
PERSON = "person"  # a login, a network, a paused collection: fixed from outside
SUBMIT = "submit"  # the submission was cut off

_FOLLOWER = {
    base.AFTER_SUCCESS: ("job.after-success", "gw-ok-", "after the job succeeded"),
    base.AFTER_FAILURE: ("job.after-failure", "gw-no-", "after the job failed"),
    base.AFTER_EITHER: ("job.after-either", "gw-af-", "after the job"),
}
_ELEMENTS = "array"  # where the elements of an array note how they ended
_KEEP_ENDED = 90 * 86400.0
_FIRST_LOOK = 60.0  # after it was released, to see whether the job has started


@dataclass(frozen=True)
class Standing:
    """Where a chain stands. `waits_for` is empty when it has ended; `exit_code` then says how.

    `watch`: the job could be deleted without any other job of the chain starting, so that someone has to look again.
    """

    waits_for: str = ""
    why: str = ""
    exit_code: int = 0
    problem: Problem | None = None
    watch: bool = False

    @property
    def ended(self) -> bool:
        return not self.waits_for


def scheduler_of(chain: Chain) -> Scheduler:
    """The scheduler that the chain was submitted to."""
    return Local(chain) if chain.plan.scheduler == "local" else by_name(chain.plan.scheduler)


def by_name(name: str) -> Scheduler:
    return Slurm() if name == "slurm" else Pbs()


# --- submitting -------------------------------------------------------------------------------------------------------


def has_stage_jobs(plan: Plan) -> bool:
    """Whether short jobs on nodes advance the chain."""
    return plan.staging.mode == JOBS and plan.scheduler != "local"


def create(plan: Plan, script: bytes) -> Chain:
    """The chain on disk, with the user's script and the generated ones; nothing is submitted yet."""
    directory = record.root() / plan.id
    name = os.path.basename(plan.script)
    texts: dict[str, tuple[str | bytes, int]] = {f"script/{name}": (script, 0o700)}
    for file, text in generated(plan, directory, script).items():
        texts[file] = (text, 0o700)
    return record.create(plan, texts)


def renamed(plan: Plan, chain_id: str) -> Plan:
    """The plan as that of the chain of another id."""
    return replace(plan, id=chain_id, copy=str(record.root() / chain_id / "script" / os.path.basename(plan.script)))


def generated(plan: Plan, directory: Path, script: bytes) -> dict[str, str]:
    """The scripts that the chain submits besides the user's: file below the chain's directory -> text. Pure."""
    name = os.path.basename(plan.script)
    copy, text = directory / "script" / name, script.decode("utf-8", "surrogateescape")
    if plan.staging.mode == INLINE:
        prefix = "#PBS" if plan.scheduler == "pbs" else "#SBATCH"
        return {f"inline/{name}": scripts.inline(plan, copy, text, prefix)}
    if plan.scheduler == "local":
        return {}
    texts = {f"{_ELEMENTS}/{name}": scripts.element(plan, directory / _ELEMENTS, copy, text)} if plan.array else {}
    outcomes = [outcome for outcome in _FOLLOWER if outcome != base.AFTER_EITHER or plan.scheduler == "pbs"]
    if not has_stage_jobs(plan):
        witness = "#!/bin/bash\n# Never runs: the scheduler keeps it to tell how the job ended.\nexit 0\n"
        return texts | {_script_of(_FOLLOWER[outcome][0]): witness for outcome in outcomes}
    seconds = max(30, int(plan.staging.time - min(60.0, plan.staging.time / 4)))
    job = ["--in-job", "--for", str(seconds), plan.id]
    texts |= {"settings": scripts.settings(plan), "stage.sh": scripts.stage(plan, directory, "staging", job)}
    for outcome in outcomes:
        fact, _, what = _FOLLOWER[outcome]
        texts[_script_of(fact)] = scripts.stage(plan, directory, what, ["--after", outcome, *job])
    return texts


def _script_of(fact: str) -> str:
    """The name of a follower's script: by it a job is known that was submitted and not recorded."""
    return f"{fact.removeprefix('job.')}.sh"


def payload(plan: Plan, directory: Path) -> Path:
    """The script that is the compute job."""
    name = os.path.basename(plan.script)
    return directory / ("inline" if plan.staging.mode == INLINE else _ELEMENTS if plan.array else "script") / name


def commands(plan: Plan, directory: Path) -> list[tuple[str, ...]]:
    """The scheduler's commands in their order, for a dry run; JOB stands for the id of the compute job. Pure."""
    if plan.scheduler == "local":
        return [(str(payload(plan, directory)), *plan.arguments)]
    scheduler = by_name(plan.scheduler)
    hold = plan.staging.mode != INLINE
    listed = [scheduler.compute_command(payload(plan, directory), plan.arguments, hold=hold)]
    if not hold:
        return listed
    about = About("JOB", "", plan.user, plan.cwd)
    witness = plan.staging.mode != JOBS

    def stage(script: str, prefix: str, after: tuple[str, str] | None = None) -> tuple[str, ...]:
        staging = plan.staging
        job = StageJob(
            directory / script, prefix + plan.id, staging.time, staging.partition, staging.account, after, 0.0, witness
        )
        return scheduler.stage_command(job)

    for outcome in scheduler.outcomes(about):
        fact, prefix, _ = _FOLLOWER[outcome]
        listed.append(stage(_script_of(fact), prefix, ("JOB", outcome)))
    if not witness and plan.of(STAGE_IN):
        listed.append(stage("stage.sh", "gw-in-"))
    return listed


def start(chain: Chain) -> Standing:
    """Submit the chain's jobs, in an order in which nothing starts before everything is recorded, and advance it once.

    Raises the problem of whatever was refused, after undoing what was submitted, in reverse; TryLater while another process
    submits them.
    """
    with _submitting(chain):
        return _start(chain)


@contextlib.contextmanager
def _submitting(chain: Chain) -> Iterator[None]:
    """At most one process submits the jobs of a chain: sbatch and qsub have no id under which they would be sent twice."""
    try:
        lease = locks.take(chain.directory / "submitting")
    except locks.LeaseTaken as taken:
        who = taken.holder.shown if taken.holder is not None else "another process"
        cause = f"chain {chain.id} is being submitted by {who}"
        raise TryLater("submission-under-way", cause, "wait a moment, then rerun") from None
    with lease:
        yield


def _start(chain: Chain) -> Standing:
    scheduler = scheduler_of(chain)
    try:
        _submit_jobs(chain, scheduler)
        standing = advance(chain, until_released=True)
        if standing.waits_for == PERSON and standing.problem is not None and not isinstance(standing.problem, TryLater):
            raise standing.problem  # a login is wanted, and here is someone to give it
        # After the transfers: it would only compete for submitting them.
        if has_stage_jobs(chain.plan) and standing.waits_for in (DATA, PERSON):
            _submit_stage(chain, scheduler, 0.0)
        elif has_stage_jobs(chain.plan) and standing.watch:
            _submit_stage(chain, scheduler, _FIRST_LOOK)
    except Interrupted as problem:
        if chain.plan.scheduler != "local":  # a chain of this machine is taken up again where it was
            _undo(chain, scheduler, problem)
        raise
    except BaseException as problem:
        _undo(chain, scheduler, problem)
        raise
    return standing


def _submit_jobs(chain: Chain, scheduler: Scheduler) -> None:
    """The compute job (held) and its followers. What is recorded already is not submitted again."""
    plan = chain.plan
    hold = plan.staging.mode != INLINE
    compute = _recorded_job(chain, "job.compute")
    if compute is None:
        script = payload(plan, chain.directory)
        if not chain.add("submitting")[1]:
            chain.add("submitting-again")
        compute = scheduler.submit(scheduler.compute_command(script, plan.arguments, hold=hold), plan.cwd)
        chain.add("job.compute", id=compute)
        log.say(f"{chain.id}: {plan.scheduler} job {compute}{' (held until its data is there)' if hold else ''}", 2)
    about = _about(chain, scheduler, compute)
    plans.checked(plan, os.path.basename(plan.script), about.array)
    _hold_paths(chain)
    if plan.staging.mode != INLINE and plan.scheduler != "local":
        _submit_followers(chain, scheduler, about)
    chain.add("submitted")


def _hold_paths(chain: Chain) -> None:
    """Note what the chain uses, before anything of it runs: until it has ended, nobody cleans that up."""
    uses.hold(chain.id, chain.facts_directory / "ended", moves.paths_used(chain.plan, symbols(chain)))


def _submit_followers(chain: Chain, scheduler: Scheduler, about: About) -> None:
    witness = not has_stage_jobs(chain.plan)
    for outcome in scheduler.outcomes(about):
        fact, prefix, _ = _FOLLOWER[outcome]
        if _recorded_job(chain, fact) is None:
            script = chain.directory / _script_of(fact)
            job = _stage_job(chain, about, script, prefix, after=(about.id, outcome), witness=witness)
            chain.add(fact, id=scheduler.submit(scheduler.stage_command(job), chain.plan.cwd))


def _stage_job(
    chain: Chain,
    about: About,
    script: Path,
    prefix: str,
    *,
    after: tuple[str, str] | None = None,
    delay: float = 0.0,
    witness: bool = False,
) -> StageJob:
    staging = chain.plan.staging
    account = staging.account if staging.account is not None else about.account
    return StageJob(script, f"{prefix}{chain.id}", staging.time, staging.partition, account, after, delay, witness)


def _submit_stage(chain: Chain, scheduler: Scheduler, delay: float) -> str | None:
    """Submit the next stage job, `delay` seconds from now; None if someone else has just done so."""
    numbers = [int(name.rpartition(".")[2]) for name in chain.facts("claim.stage.")]
    number = max(numbers, default=0) + 1
    if number > 1:
        last = chain.fact(f"job.stage.{number - 1}")
        if last is not None and last["id"] != scheduler.own_job() and scheduler.states([last["id"]])[last["id"]].alive:
            return None
        claim = chain.fact(f"claim.stage.{number - 1}")
        if last is None and claim is not None and time.time() - claim["at"] < 60:
            return None  # claimed a moment ago: it is being submitted
    _, mine = chain.add(f"claim.stage.{number}")
    if not mine:
        return None
    about = _about(chain, scheduler, _compute(chain))
    job = _stage_job(chain, about, chain.directory / "stage.sh", "gw-in-", delay=delay)
    job_id = scheduler.submit(scheduler.stage_command(job), chain.plan.cwd)
    chain.add(f"job.stage.{number}", id=job_id)
    if chain.fact("ending") is not None:  # the chain was ended meanwhile by someone who did not see this job
        scheduler.cancel([job_id])
    return job_id


def _undo(chain: Chain, scheduler: Scheduler, problem: BaseException) -> None:
    """After a refusal in the middle: cancel what was submitted, last first, and leave no chain behind."""
    cause = problem.cause if isinstance(problem, Problem) else str(problem) or type(problem).__name__
    code = problem.exit_code if isinstance(problem, Problem) else 1
    chain.add("ending", code=code, step="submit", cause=cause, remedy="submit again")
    submitted = [fact["id"] for name, fact in sorted(chain.facts("job.").items(), key=lambda item: item[1]["at"])]
    submitted += [job_id for job_id in _orphans(chain, scheduler) if job_id not in submitted]
    try:
        if submitted:
            scheduler.cancel(reversed(submitted))
        _cancel_tasks(chain)
        chain.add("ended", code=code)
        uses.release(chain.id)
        keys.settle(chain.plan, keys.NOTHING)
        if chain.generation == 1:
            shutil.rmtree(chain.directory, ignore_errors=True)
    except Problem as second:
        log.say(f"globuswrap: {chain.id}: undoing failed too: {second.cause}; run: globuswrap cancel {chain.id}", 0)


def _orphans(chain: Chain, scheduler: Scheduler) -> list[str]:
    """Jobs of the chain that were submitted and not recorded: told by their script, which lies in its directory."""
    try:
        return list(scheduler.find(chain.directory))
    except Problem as problem:
        log.say(f"{chain.id}: {problem.cause}", 2)
        return []


# --- advancing --------------------------------------------------------------------------------------------------------


def advance(chain: Chain, evidence: str | None = None, *, until_released: bool = False) -> Standing:
    """Do the next possible thing, and say what the chain waits for.

    `evidence` is the outcome of the compute job as the dependency of the calling job proves it; `until_released`: what
    comes after the job's release is left to others. Raises TryLater when the scheduler does not answer; a problem of a
    transfer is in the Standing.
    """
    ended = chain.fact("ended")
    if ended is not None:
        return _ended(chain)
    scheduler = scheduler_of(chain)
    if chain.fact("ending") is not None:
        return _end(chain, scheduler)
    compute = _recorded_job(chain, "job.compute")
    if compute is None or chain.fact("submitted") is None:
        return Standing(SUBMIT, "its submission was cut off", problem=_cut_off(chain))
    if chain.plan.staging.mode == INLINE:
        return _advance_inline(chain, scheduler, compute)
    if chain.fact("released") is None:
        waiting = _stage_in(chain, scheduler, compute)
        if waiting is not None:
            return waiting
    if until_released and chain.plan.scheduler != "local":
        return Standing(JOB, f"job {compute} is released", watch=not scheduler.tells_of_deletion)
    outcome = chain.fact("outcome") or _observe(chain, scheduler, compute, evidence)
    if outcome is None:
        return _for_job(chain, scheduler, compute)
    return _after(chain, scheduler, bool(outcome["success"]))


def _stage_in(chain: Chain, scheduler: Scheduler, compute: str) -> Standing | None:
    """Bring the data, then release the job. None when that is done."""
    state = scheduler.states([compute])[compute]
    held = chain.fact("releasing") is not None or state.phase == base.HELD
    if not held and (state.phase == base.GONE or (state.phase == base.ENDED and not state.started)):
        cause = f"job {compute} was gone before its data was there: {state.words}"
        return _fail(chain, scheduler, "job", StoppedEarly("job-gone", cause, f"globuswrap submit --resume {chain.id}"))
    found = _look(chain, inputs(chain))
    bad = next(((name, move) for name, move in found.items() if move.state == moves.FAILED), None)
    unfinished = _waiting(found)
    if not held and found and (bad or unfinished or state.phase != base.WAITING):
        # The link decides whether the hold went by the user's hand, or another process has just released the job.
        chain.add("releasing", by_user=True, words=state.words)
    if _by_user(chain):
        return _released_early(chain, scheduler, compute)
    if bad is not None:
        return _fail(chain, scheduler, bad[0], _problem_of(*bad))
    if unfinished is not None:
        return unfinished
    if state.phase == base.HELD:
        try:
            complete = _still_there(chain)
        except (LoginNeeded, TryLater, Held, NoGlobus) as problem:
            return Standing(PERSON, f"looking at the staged data: {problem.cause}", problem=problem)
        if not complete:
            return _stage_in(chain, scheduler, compute)
    return _release(chain, scheduler, compute)


def _release(chain: Chain, scheduler: Scheduler, compute: str) -> Standing | None:
    """Release the job, whose data is there."""
    if chain.fact("ending") is not None:
        return _end(chain, scheduler)
    scheduler.cancel(_twins(chain, scheduler, compute))
    # Before the act: a job that has been released may have run, whoever dies now.
    chain.add("releasing")
    if _by_user(chain):
        return _released_early(chain, scheduler, compute)
    if not chain.plan.held_by_user:
        why = "the data is there; " if chain.plan.of(STAGE_IN) else ""
        log.say(f"{chain.id}: {why}job {compute} is released")
        scheduler.release(compute)
    chain.add("released")
    return None


def _twins(chain: Chain, scheduler: Scheduler, compute: str | None) -> list[str]:
    """Other jobs of the user's script: the sbatch or qsub of a submission that was killed may have come through later."""
    if chain.fact("submitting-again") is None:
        return []
    jobs = scheduler.find(chain.directory).items()
    return [job_id for job_id, script in jobs if job_id != compute and _is_payload(chain, script)]


def _by_user(chain: Chain) -> bool:
    """Whether the job's hold was released by hand while its data was still being staged."""
    return bool((chain.fact("releasing") or {}).get("by_user"))


def _released_early(chain: Chain, scheduler: Scheduler, compute: str) -> Standing | None:
    """Cancel the job, or let it run and go on with it, as the chain's `on-early-release` says."""
    what = f"job {compute} was released by hand before its data was staged in"
    if chain.plan.staging.on_early_release == plans.LET_RUN:
        _, mine = chain.add("released", by_user=True)
        if mine:
            log.say(f"{chain.id}: {what}; it may run all the same (on-early-release={plans.LET_RUN})")
        return None
    remedy = f"globuswrap submit --resume {chain.id}"
    return _fail(chain, scheduler, "job", StoppedEarly("released-early", f"{what}, so it was canceled", remedy))


#: Data that was staged longer ago than this is looked at before the job is released: scratch may have been purged.
LOOK_AGAIN_AFTER = 3600.0


def inputs(chain: Chain) -> list[Step]:
    """The stage-in steps. One whose data has gone since it was staged is a new step, which copies what is missing."""
    return [_again(step, _times_missing(chain, step)) for step in chain.plan.of(STAGE_IN)]


def _times_missing(chain: Chain, step: Step) -> int:
    return len(chain.facts(f"missing.{step.name}."))


def _again(step: Step, times: int) -> Step:
    # What the job changed in its input before it failed is not overwritten, unless the line itself says so.
    options = {"sync-level": "exists", **step.options}
    return replace(step, name=f"{step.name}-again{times}", options=options) if times else step


def _still_there(chain: Chain) -> bool:
    """Look at inputs that were staged long ago, or before the chain was resumed; False if some are to be staged again.

    Raises the problem of whatever keeps Globus from answering.
    """
    since = max(float((chain.fact("resumed") or {}).get("at", 0.0)), time.time() - LOOK_AGAIN_AFTER)
    complete = True
    for original in chain.plan.of(STAGE_IN):
        times = _times_missing(chain, original)
        step = _again(original, times)
        fact = chain.fact(f"step.{step.name}") or {}
        if float(fact.get("at", 0.0)) < since and not moves.still_there(step, _recorded_move(fact), symbols(chain)):
            log.say(f"{chain.id}: {original.name}: staged data is missing; staging it again")
            chain.add(f"missing.{original.name}.{times + 1}")
            complete = False
    return complete


def _look(chain: Chain, steps: Iterable[Step]) -> dict[str, Move]:
    """Where these steps stand; what has just settled is recorded."""
    found: dict[str, Move] = {}
    wanted = []
    for step in steps:
        known = chain.fact(f"step.{step.name}")
        if known is not None:
            found[step.name] = _recorded_move(known)
        else:
            wanted.append(step)
    if wanted:
        cleaning = bool(chain.plan.of(CLEANUP))
        found.update(moves.look(chain.plan, wanted, symbols(chain), _scope(chain), receipt_files=cleaning))
    noted = {step: _noted(chain, step, move) for step, move in found.items()}
    if wanted and chain.fact("ending") is not None:
        _cancel_tasks(chain)  # ended meanwhile by someone who did not see what has just been submitted
    return noted


def _noted(chain: Chain, step: str, move: Move) -> Move:
    """Record what became of a step; the record of whoever was first holds."""
    if move.task_id is not None and chain.fact(f"task.{step}") is None:
        chain.add(f"task.{step}", id=move.task_id)
    if not move.settled:
        chain.note(step, state=move.state, cause=move.cause, remedy=move.remedy)
        return move
    content = asdict(Move(**{**vars(move), "problem": None}))
    content.pop("problem")
    known, mine = chain.add(f"step.{step}", **content)
    if mine:
        log.say(f"{chain.id}: {step}: {move.state}{f' ({_facts_of(move)})' if _facts_of(move) else ''}")
    return _recorded_move(known)


def _recorded_move(fact: Mapping[str, Any]) -> Move:
    names = ("state", "task_id", "outcome", "exit_code", "cause", "remedy", "receipt")
    return Move(**{name: fact[name] for name in names if name in fact})


def _facts_of(move: Move) -> str:
    receipt = move.receipt or {}
    if receipt.get("files_transferred") is None or move.state == moves.FAILED:
        return move.cause
    size = units.human_size(receipt.get("bytes_transferred") or 0)
    return f"{receipt['files_transferred']} files, {size}" + (f"; {move.cause}" if move.cause else "")


def _waiting(found: Mapping[str, Move]) -> Standing | None:
    """What these steps wait for; None when all are settled. A person goes first: nothing else fixes it."""
    for state, waits_for in ((moves.STUCK, PERSON), (moves.MOVING, DATA)):
        for name, move in found.items():
            if move.state == state:
                why = f"{name}: {move.cause or 'under way'}"
                return Standing(waits_for, why, problem=move.problem if state == moves.STUCK else None)
    return None


def _problem_of(step: str, move: Move) -> Problem:
    if move.problem is not None:
        move.problem.cause = (
            f"{step}: {move.problem.cause}" if not move.problem.cause.startswith(step) else move.problem.cause
        )
        return move.problem
    problem = Refused(f"task-{move.outcome}", f"{step}: {move.cause}", move.remedy)
    problem.exit_code = move.exit_code or 1
    return problem


def _observe(chain: Chain, scheduler: Scheduler, compute: str, evidence: str | None) -> dict[str, Any] | None:
    """How the compute job ended, as a fact; None while it has not.

    What the scheduler says of the job itself counts when it is one job; of an array, elements may be forgotten before the
    last one ends. Then, and when the job itself is forgotten, its followers tell: exactly one of them can start.
    """
    state = scheduler.states([compute])[compute]
    about = _about(chain, scheduler, compute)
    if state.alive:
        if state.phase == base.RUNNING:
            chain.add("started")  # the scheduler may forget it
        return None  # also when a follower runs: the job was requeued since
    if evidence in (base.AFTER_SUCCESS, base.AFTER_FAILURE):
        return _outcome(chain, evidence == base.AFTER_SUCCESS, state, f"the scheduler started the job after {evidence}")
    if state.phase == base.ENDED and state.success is not None and (not about.array or chain.plan.scheduler == "pbs"):
        return _outcome(chain, state.success, state, "the scheduler's own record")
    told = _followers_tell(chain, scheduler)
    if told is not None:
        return _outcome(chain, told, state, "the job that followed it")
    elements = _elements_tell(chain, about)
    if elements is not None:
        success, words, complete = elements
        # Over NFS, what was written on another node shows up within a minute.
        if not complete and _settling(chain, state, 60.0):
            return None
        return _outcome(chain, success, replace(state, words=words), "the elements' own notes")
    followers = scheduler.states(fact["id"] for fact in chain.facts("job.after-").values()).values()
    waiting = [each for each in followers if each.alive and not _has_started(each)]
    # PBS tells the followers at once, or never.
    if waiting and _settling(chain, state, 60.0 if scheduler.tells_of_deletion else 10.0):
        return None  # the dependencies are judged a moment later
    if waiting and len(waiting) == len(followers) and not scheduler.tells_of_deletion:
        state = replace(state, words="deleted before it ran", started=False)
        return _outcome(chain, False, state, "the jobs that follow it still wait")
    started = evidence is not None or any(map(_has_started, followers)) or chain.fact("started") is not None
    cause = f"the scheduler does not know how job {compute} ended ({state.words})"
    if not started:
        cause = f"the scheduler does not know how job {compute} ended, or whether it ever started ({state.words})"
    return chain.add(
        "outcome",
        success=False,
        unknown=True,
        words=state.words,
        evidence=cause,
        started=bool(started or state.started),
    )[0]


def _elements_tell(chain: Chain, about: About) -> tuple[bool, str, bool] | None:
    """What the elements of an array noted at their ends: whether all succeeded, in words, and whether all have noted it.
    None if none has, or nobody knows how many there are."""
    start = f"exit.{about.id.partition('[')[0]}["
    noted = {path.name: path.read_text().strip() for path in (chain.directory / _ELEMENTS).glob("exit.*")}
    codes = {name.removeprefix("exit."): code for name, code in noted.items() if name.startswith(start) and code}
    if not codes or about.elements is None:
        return None
    bad = [f"{name} exit {code}" for name, code in sorted(codes.items()) if code != "0"]
    silent = about.elements - len(codes)
    shown = bad[:5] + (["..."] if len(bad) > 5 else []) + ([f"{silent} killed or deleted"] if silent else [])
    if not shown:
        return True, "exit 0", True
    return False, f"{len(bad) + silent} of {about.elements} array elements: {', '.join(shown)}", not silent


def _settling(chain: Chain, state: JobState, seconds: float) -> bool:
    """Whether the job was seen to be over only just now."""
    chain.note("job-over", words=state.words)
    return bool(time.time() - float(chain.noted("job-over").get("at", 0.0)) < seconds)


def _followers_tell(chain: Chain, scheduler: Scheduler) -> bool | None:
    jobs = {name.removeprefix("job.after-"): fact["id"] for name, fact in chain.facts("job.after-").items()}
    if set(jobs) != {base.AFTER_SUCCESS, base.AFTER_FAILURE}:
        return None
    states = scheduler.states(jobs.values())
    started = {outcome: _has_started(states[job_id]) for outcome, job_id in jobs.items()}
    if started[base.AFTER_SUCCESS] == started[base.AFTER_FAILURE]:
        return None
    return started[base.AFTER_SUCCESS]


def _has_started(state: JobState) -> bool:
    """Whether the follower's dependency was met: it waits for nothing but its begin, runs, or has run."""
    if state.phase == base.ENDED:
        return bool(state.started)
    return state.phase == base.RUNNING or state.satisfied


def _outcome(chain: Chain, success: bool, state: JobState, evidence: str) -> dict[str, Any]:
    fact, mine = chain.add("outcome", success=success, words=state.words, evidence=evidence, started=state.started)
    if mine:
        log.say(f"{chain.id}: the job {'succeeded' if success else f'failed ({state.words})'}")
    return fact


def _for_job(chain: Chain, scheduler: Scheduler, compute: str) -> Standing:
    state = scheduler.states([compute])[compute]
    why = f"job {compute} {state.words.lower()}" + (f" ({state.reason})" if state.reason else "")
    chain.note("job", words=state.words, reason=state.reason)
    return Standing(JOB, why, watch=not scheduler.tells_of_deletion and state.phase != base.RUNNING)


def _after(chain: Chain, scheduler: Scheduler, success: bool) -> Standing:
    """Stage out and clean up, by the outcome, and end the chain."""
    plan = chain.plan
    outcome = chain.fact("outcome") or {}
    ran = chain.fact("releasing") is not None and outcome.get("started") is not False
    outs = [step for step in plan.of(STAGE_OUT) if _runs(chain, step, success, ran)]
    found = _look(chain, [*_late_inputs(chain), *outs])
    waiting = _waiting(found)
    if waiting is not None:
        return waiting
    bad = [(name, move) for name, move in found.items() if move.state == moves.FAILED]
    cleanups = [step for step in plan.of(CLEANUP) if _runs(chain, step, success, ran)]
    for step in cleanups:
        if chain.fact(f"step.{step.name}") is None:
            move = Move(moves.SKIPPED, cause="not everything was staged out") if bad else _clean(chain, step)
            found[step.name] = _noted(chain, step.name, move)
        else:
            found[step.name] = _recorded_move(chain.fact(f"step.{step.name}") or {})
    waiting = _waiting(found)
    if waiting is not None:
        return waiting
    bad = [(name, move) for name, move in found.items() if move.state == moves.FAILED]
    codes = [move.exit_code or 1 for _, move in bad] + ([] if success else [1])
    if bad:
        name, move = bad[0]
        problem = _problem_of(name, move)
        also = "" if success else f" (and the job failed: {outcome.get('words')})"
        return _fail(chain, scheduler, name, problem, code=combined(codes), also=also)
    if not success:
        if outcome.get("unknown"):
            cause = str(outcome.get("evidence"))
        elif not ran:
            cause = f"the job never started: {outcome.get('words')}"
        else:
            cause = f"the job failed: {outcome.get('words')}"
        remedy = f"look at its output, then: globuswrap submit --resume {chain.id}"
        return _fail(chain, scheduler, "job", Refused("job-failed", cause, remedy))
    chain.add("ending", code=0, step="", cause="", remedy="")
    return _end(chain, scheduler)


def _late_inputs(chain: Chain) -> list[Step]:
    """Stage-ins that were under way when the job was let run without them: the chain ends when they have ended too."""
    if not _by_user(chain):
        return []
    begun = []
    for step in inputs(chain):
        if chain.fact(f"task.{step.name}") is not None:
            begun.append(step)
        elif chain.fact(f"step.{step.name}") is None:
            _noted(chain, step.name, Move(moves.SKIPPED, cause="the job was released before it began"))
    return begun


def _runs(chain: Chain, step: Step, success: bool, ran: bool) -> bool:
    """Whether the step is for this outcome; what is not is recorded as skipped."""
    if step.runs_after(success) and ran:
        return True
    cause = f"only after {step.when}" if ran else "the job never started"
    _noted(chain, step.name, Move(moves.SKIPPED, cause=cause))
    return False


def _clean(chain: Chain, step: Step) -> Move:
    done = chain.facts("step.stage-")
    receipts = {
        name.removeprefix("step."): fact["receipt"]
        for name, fact in done.items()
        if fact.get("state") == moves.DONE and fact.get("receipt")
    }
    try:
        address, covered = moves.covered(step, receipts, symbols(chain))
        left = [fact["paths"] for fact in chain.facts("left.").values() if fact["collection"] == address.collection]
        covered = sorted({*covered, *moves.below(address, (path for paths in left for path in paths))})
        # Written once: who looks at the task later must not ask for other paths, though other chains have ended meanwhile.
        paths = chain.add(f"paths.{step.name}", paths=_not_in_use(chain, step, address, covered))[0]["paths"]
    except Problem as problem:
        return moves.of_problem(problem)
    if covered and not paths:
        return Move(moves.SKIPPED, cause="another chain still uses these files")
    return moves.clean(chain.plan, step, address, paths, symbols(chain), _scope(chain))


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


def _fail(
    chain: Chain, scheduler: Scheduler, step: str, problem: Problem, *, code: int | None = None, also: str = ""
) -> Standing:
    """Record what went wrong at which step, and end the chain: nothing of it stays queued."""
    remedy = f"fix it ({problem.remedy}), then: globuswrap submit --resume {chain.id}"
    if "--resume" in problem.remedy:
        remedy = problem.remedy
    chain.add(
        "ending",
        code=problem.exit_code if code is None else code,
        step=step,
        name=problem.name,
        cause=problem.cause + also,
        remedy=remedy,
    )
    return _end(chain, scheduler)


def _end(chain: Chain, scheduler: Scheduler) -> Standing:
    """Cancel what is left of the chain's tasks and jobs (not the job this runs in), and mark its end. Can be repeated."""
    _cancel_tasks(chain)
    own = scheduler.own_job()
    for job_id in _unrecorded(chain, scheduler):
        chain.add(f"job.found.{job_id}", id=job_id)
    jobs = _jobs(chain)
    compute = jobs.pop("job.compute", None)
    # The followers first: one of them would start when the compute job is cancelled.
    order = [job_id for _, job_id in sorted(jobs.items(), reverse=True)] + ([compute] if compute else [])
    order += _twins(chain, scheduler, compute)
    left = [state.id for state in scheduler.states(order).values() if state.alive and state.id != own]
    scheduler.cancel([job_id for job_id in order if job_id in left])
    chain.add("ended", code=(chain.fact("ending") or {}).get("code", 0))
    uses.release(chain.id)
    return _ended(chain)


def _cancel_tasks(chain: Chain) -> None:
    tasks = {name.removeprefix("task."): fact["id"] for name, fact in chain.facts("task.").items()}
    for step, task_id in tasks.items():
        if chain.fact(f"step.{step}") is None:
            moves.cancel_task(task_id)
            _noted(chain, step, Move(moves.FAILED, task_id, "cancelled", 5, "cancelled with the chain"))
    if int((chain.fact("ending") or {}).get("code", 0)) != 0:
        for task_id in moves.unfinished_tasks(chain.id):
            if task_id not in tasks.values():
                moves.cancel_task(task_id)


def _ended(chain: Chain) -> Standing:
    ending = chain.fact("ending") or {}
    code = int((chain.fact("ended") or {}).get("code", 1))
    problem = None
    if code != 0:
        problem = Refused(str(ending.get("name", "chain-ended")), str(ending.get("cause")), str(ending.get("remedy")))
        problem.exit_code = code
    return Standing("", str(ending.get("cause", "")), code, problem)


def _advance_inline(chain: Chain, scheduler: Scheduler, compute: str) -> Standing:
    """An inline chain advances by itself, inside the job: here it is only watched, and ended when the job is over."""
    chain.add("released")
    state = scheduler.states([compute])[compute]
    if isinstance(scheduler, Local) and state.phase == base.HELD:
        chain.add("releasing")
        scheduler.release(compute)
        state = scheduler.states([compute])[compute]
    if state.alive:
        return _for_job(chain, scheduler, compute)
    reports = chain.notes("inline.")
    about = _about(chain, scheduler, compute)
    # An element that said nothing at its end was killed; the scheduler may have forgotten it while others still ran.
    silent = about.array or state.success is None
    bad = {name: fact for name, fact in reports.items() if fact.get("code") or (silent and fact.get("phase") == "in")}
    complete = len(reports) >= (about.elements or 1)
    success = (state.success is True or (state.success is None and complete)) and not bad
    outcome = _outcome(
        chain, success, state, "the scheduler's own record" if state.success is not None else "the job's report"
    )
    if outcome["success"]:
        chain.add("ending", code=0, step="", cause="", remedy="")
        return _end(chain, scheduler)
    cause = f"the job failed: {state.words}"
    if state.started is False:
        cause = f"the job never started: {state.words}"
    elif state.phase == base.GONE and not reports:
        cause = f"the scheduler does not know how job {compute} ended, or whether it ever started ({state.words})"
    if bad:
        name, fact = min(bad.items())
        cause = f"{name}: {fact.get('cause') or cause}"
    remedy = f"look at its output, then: globuswrap submit --resume {chain.id}"
    code = combined(int(fact.get("staging") or 0) for fact in bad.values()) or 1
    return _fail(chain, scheduler, "job", Refused("job-failed", cause, remedy), code=code)


# --- following --------------------------------------------------------------------------------------------------------


def follow(
    chain: Chain,
    *,
    evidence: str | None = None,
    until: float | None = None,
    leave: Callable[[Standing], bool] = lambda standing: False,
) -> Standing:
    """Advance the chain again and again, from 1 s up to the poll interval apart, until it has ended, `until` (time.monotonic)
    has come, or `leave` says so."""
    poll = chain.plan.staging.poll if chain.plan.staging.poll is not None else config.load().settings.poll
    pace = Pace(poll, None if until is None else until - time.monotonic())
    last = ""
    while True:
        try:
            standing = advance(chain, evidence)
        except TryLater as problem:
            standing = Standing(PERSON, problem.cause, problem=problem)
        if standing.ended or leave(standing):
            return standing
        if standing.why != last:
            pace.news()
            last = standing.why
        if pace.left is not None and pace.left <= pace.pause:
            return standing
        log.doing(f"chain {chain.id}: {standing.why}")
        pace.rest()


def in_job(chain: Chain, seconds: float, evidence: str | None) -> Standing:
    """What a stage job does: advance for at most `seconds`, then hand over to a follow-up that begins later, so that no node
    is held by waiting."""
    scheduler = scheduler_of(chain)

    def leave(standing: Standing) -> bool:
        # What only a person fixes is not waited for on a node; an outage may be over in a minute.
        person = standing.waits_for == PERSON and not isinstance(standing.problem, TryLater)
        over = bool(chain.noted("job-over"))  # a moment more tells how it ended
        return person or standing.waits_for == SUBMIT or (standing.waits_for == JOB and evidence is None and not over)

    standing = follow(chain, evidence=evidence, until=time.monotonic() + seconds, leave=leave)
    if standing.ended or (standing.waits_for == JOB and not standing.watch):
        return standing
    handed = len(chain.facts("claim.stage."))
    delay = min(60.0 * 2 ** max(0, min(handed - 1, 4)), 900.0)
    if standing.waits_for == PERSON:
        delay = 900.0
    job_id = _submit_stage(chain, scheduler, delay)
    if job_id is not None:
        log.say(f"{chain.id}: {standing.why}; job {job_id} goes on in {units.human_duration(delay)}")
    return standing


def tend(chain: Chain) -> Standing:
    """Advance a chain from a login node, once; submit a stage job where one has vanished."""
    if chain.fact("ended") is not None:
        return _ended(chain)
    standing = advance(chain)
    scheduler = scheduler_of(chain)
    if standing.waits_for == SUBMIT:
        return _tend_cut_off(chain, scheduler, standing)
    wanted = standing.waits_for in (DATA, PERSON) or standing.watch
    if has_stage_jobs(chain.plan) and wanted and not _helped(chain, scheduler):
        job_id = _submit_stage(chain, scheduler, 0.0)
        if job_id is not None:
            log.say(f"{chain.id}: its stage job has vanished; job {job_id} takes over")
    return standing


def _helped(chain: Chain, scheduler: Scheduler) -> bool:
    """Whether a job is there that advances the chain. A follower is one once its dependency is met: on PBS those of a job
    that was deleted before it started wait for ever."""
    jobs = {name: job_id for name, job_id in _jobs(chain).items() if name != "job.compute"}
    states = scheduler.states(jobs.values())
    return any(
        states[job_id].alive and (name.startswith("job.stage.") or _has_started(states[job_id]))
        for name, job_id in jobs.items()
    )


def _tend_cut_off(chain: Chain, scheduler: Scheduler, standing: Standing) -> Standing:
    """A submission that was killed: after ten minutes what it submitted is undone."""
    if time.time() - max(chain.plan.created, float((chain.fact("resumed") or {}).get("at", 0.0))) < 600:
        return standing
    with contextlib.suppress(TryLater), _submitting(chain):
        if chain.fact("submitted") is None:
            _undo(chain, scheduler, _cut_off(chain))
            return _ended(chain)
    return standing


def _cut_off(chain: Chain) -> Problem:
    return TryLater("submission-cut-off", "its submission was cut off", f"globuswrap submit --resume {chain.id}")


def resume(chain: Chain) -> tuple[Chain, Standing]:
    """Go on with a chain where it stopped, without repeating what is done. Raises as `start`."""
    scheduler = scheduler_of(chain)
    if chain.fact("ended") is None and chain.fact("ending") is None:
        if chain.fact("outcome") is not None:
            return chain, tend(chain)
        with _submitting(chain):
            _adopt(chain, scheduler)
            return chain, _start(chain)
    if chain.fact("ended") is None:
        _end(chain, scheduler)
    if int((chain.fact("ended") or {}).get("code", 1)) == 0:
        return chain, _ended(chain)
    following = chain.begin_generation(_carried(chain))
    if following.fact("outcome") is None:
        return following, start(following)
    _hold_paths(following)
    return following, tend(following)


def _adopt(chain: Chain, scheduler: Scheduler) -> None:
    """Record jobs that a killed submission had submitted and not written down."""
    if _recorded_job(chain, "job.compute") is None:
        found = (job_id for job_id, script in scheduler.find(chain.directory).items() if _is_payload(chain, script))
        job_id = next(found, None) or _ran_inline(chain)
        if job_id is not None:
            chain.add("job.compute", id=job_id)
    recorded = set(_jobs(chain).values())
    for job_id, script in scheduler.find(chain.directory).items():
        name = os.path.basename(script)
        for fact, _, _ in _FOLLOWER.values():
            if job_id not in recorded and name == _script_of(fact):
                chain.add(fact, id=job_id)
        claims = [claim.removeprefix("claim.") for claim in chain.facts("claim.stage.")]
        if job_id not in recorded and name == "stage.sh" and claims:
            chain.add(f"job.{claims[-1]}", id=job_id)


def _is_payload(chain: Chain, script: str) -> bool:
    return os.path.dirname(script) == str(payload(chain.plan, chain.directory).parent)


def _ran_inline(chain: Chain) -> str | None:
    """The id of a job that stages by itself and has done so already, as it wrote it down."""
    noted = chain.notes("inline.").values() if chain.generation == 1 else ()
    return next((str(note["job"]) for note in noted if note.get("job")), None)


def _carried(chain: Chain) -> dict[str, dict[str, Any]]:
    """The facts that stay true in the next generation."""
    outcome = chain.fact("outcome") or {}
    steps = {name: fact for name, fact in chain.facts("step.").items() if fact.get("state") == moves.DONE}
    left = chain.facts("left.")
    if outcome.get("success"):
        names = ("job.compute", "about", "submitted", "releasing", "released", "outcome")
        kept = {name: fact for name in names if (fact := chain.fact(name)) is not None}
        return {**kept, **steps, **left}
    # The job runs again under another id: what was staged under the old one is not where the new one looks.
    plan = chain.plan
    again = {step.name for step in plan.of(STAGE_IN) if not step.uses(*plans.PER_JOB)}
    return {name: fact for name, fact in steps.items() if name.removeprefix("step.") in again} | left


def cancel(chain_id: str) -> Standing:
    """Cancel a chain: its tasks and its jobs. One that has ended is left as it is."""
    chain = record.load(chain_id)
    if chain.fact("ended") is not None:
        return _ended(chain)
    remedy = f"globuswrap submit --resume {chain.id}"
    chain.add("ending", code=5, step="", name="chain-cancelled", cause="cancelled on request", remedy=remedy)
    return _end(chain, scheduler_of(chain))


def _unrecorded(chain: Chain, scheduler: Scheduler) -> list[str]:
    """Jobs in the queue that whoever submitted them was killed before recording."""
    claimed = {name.removeprefix("claim.") for name in chain.facts("claim.stage.")}
    recorded = {name.removeprefix("job.") for name in chain.facts("job.stage.")}
    if chain.fact("submitted") is not None and claimed <= recorded:
        return []
    return [job_id for job_id in _orphans(chain, scheduler) if job_id not in _jobs(chain).values()]


def tend_all(seen: Callable[[str, Standing], None], wanted: Iterable[str] | None = None) -> int:
    """Advance every chain that has not ended (or those wanted), once each; returns how many are left.

    One chain's problem stops no other.
    """
    left = 0
    for chain_id in record.ids() if wanted is None else wanted:
        try:
            chain = record.load(chain_id)
            if chain.fact("ended") is not None and wanted is None:
                _prune(chain)
                continue
            standing = tend(chain)
        except Problem as problem:
            standing = Standing(PERSON, problem.cause, problem=problem)
        left += not standing.ended
        seen(chain_id, standing)
    return left


def _prune(chain: Chain) -> None:
    if chain.plan.once:
        return  # it says that this was done, ever
    if time.time() - float((chain.fact("ended") or {}).get("at", time.time())) > _KEEP_ENDED:
        keys.settle(chain.plan, keys.TOLD)
        shutil.rmtree(chain.directory, ignore_errors=True)


# --- small things -----------------------------------------------------------------------------------------------------


def symbols(chain: Chain) -> dict[str, str]:
    """The values of the symbols for this chain's compute job."""
    about = chain.fact("about") or {}
    about = {name: value for name, value in about.items() if name in About.__dataclass_fields__}
    return About(**about).symbols()


def _scope(chain: Chain) -> str:
    return f"chain/{chain.id}/g{chain.generation}"


def _about(chain: Chain, scheduler: Scheduler, compute: str) -> About:
    known = chain.fact("about")
    if known is None:
        known, _ = chain.add("about", **asdict(scheduler.about(compute)))
    return About(**{name: value for name, value in known.items() if name in About.__dataclass_fields__})


def _recorded_job(chain: Chain, name: str) -> str | None:
    fact = chain.fact(name)
    return None if fact is None else str(fact["id"])


def _compute(chain: Chain) -> str:
    compute = _recorded_job(chain, "job.compute")
    if compute is None:
        raise _cut_off(chain)
    return compute


def _jobs(chain: Chain) -> dict[str, str]:
    return {name: str(fact["id"]) for name, fact in chain.facts("job.").items()}


def list_chains() -> list[str]:
    """The ids of chains that have not ended, or ended within the last week, oldest first."""
    recent = []
    for chain_id in record.ids():
        try:
            ended = record.load(chain_id).fact("ended")
        except UsageProblem as problem:
            log.say(problem.cause, 0)
            continue
        if ended is None or time.time() - float(ended["at"]) < 7 * 86400:
            recent.append(chain_id)
    return recent


def describe(chain_id: str) -> dict[str, Any]:
    """A chain for people (`text`: lines) and for programs (`data`): each step with its state, job, task, why it waits and
    since when. Asks the scheduler about jobs that are not over, changes nothing."""
    from globuswrap.staging import describing

    return describing.describe(record.load(chain_id))
