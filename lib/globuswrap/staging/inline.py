"""Staging inside the job itself, element by element: what the toolkit calls for an inline chain, and for #GLOBUS lines of a
script that was submitted without a chain. Here one does wait: the job holds its node anyway."""

from __future__ import annotations

import getpass
import os
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path

from globuswrap import schedulers
from globuswrap.collections import resolve
from globuswrap.deletion import uses
from globuswrap.errors import Problem, UsageProblem, combined
from globuswrap.staging import directives, steps
from globuswrap.staging import plan as plans
from globuswrap.staging.chain.local import Local
from globuswrap.staging.chain.record import Chain
from globuswrap.staging.directives import expand
from globuswrap.staging.plan import CLEANUP, STAGE_IN, STAGE_OUT, Staging, Step
from globuswrap.system import log
from globuswrap.transfers import journal, operations
from globuswrap.transfers import request as requests
from globuswrap.transfers.request import Request
from globuswrap.transfers.submit import Policy


def symbols(environ: Mapping[str, str]) -> dict[str, str]:
    """The values of the symbols as this job sees itself. UsageProblem outside of a job."""
    here = schedulers.current_job(environ)
    job = here[1] if here is not None else Local.current_job(environ)
    if job is None:
        raise UsageProblem(
            "no-job", "this is not a batch job", "use it in a job script, or: globuswrap transfer --wait"
        )
    found = {
        "j": job.id,
        "A": job.array,
        "a": job.task,
        "u": job.user or getpass.getuser(),
        "x": job.name or "job",
        "d": job.workdir or os.getcwd(),
    }
    return {letter: value for letter, value in found.items() if value}


def of_chain(chain: Chain, phase: str, code: int) -> int:
    """Stage in ("in") or out ("out") for the element of the chain that this job is; returns the exit code.

    What came of it is written down; an inline chain of one job ends when all of it went well.
    """
    values = symbols(os.environ)
    element = values["j"].replace("/", "_")
    worst, cause = _staged(chain.plan.steps, phase, code, values, chain)
    total = code or worst
    cause = cause or (f"the script ended with {code}" if code else "")
    itself = {"job": values.get("A", values["j"]), "name": values["x"], "array": "a" in values}
    chain.note(f"inline.{element}", **itself, phase=phase, code=total, staging=worst, cause=cause)
    if phase == "out" and total == 0 and "a" not in values:
        # One that fails may be requeued: whether it is over for good is seen from outside.
        chain.add("releasing")
        chain.add("outcome", success=True, raw_state="exit 0", evidence="the job's own report")
        chain.add("ending", code=0, step="", cause="", remedy="")
        chain.add("ended", code=0)
        uses.release(chain.id)
    return worst


def of_script(path: Path, phase: str, code: int) -> int:
    """The same for the #GLOBUS lines of a script that no chain knows; names come from this job's environment."""
    steps = directives.parse(_text(path), str(path), os.environ).steps
    return _staged(steps, phase, code, symbols(os.environ), None)[0]


def check(path: Path) -> None:
    """Raise the UsageProblem of the first bad line of a script, or of an address that is not known. Nothing is asked of
    Globus, and `${NAME}` has no value: whoever checks is not the user."""
    values = {letter: "0" for letter in "jAaux"} | {"d": "/"}
    for step in directives.parse(_text(path), "job script", {}).steps:
        for template in filter(None, (step.source, step.destination)):
            resolve.address(expand(template, values))


def _text(path: Path) -> str:
    try:
        return path.read_bytes().decode("utf-8", "surrogateescape")
    except OSError as error:
        raise UsageProblem("no-script", f"{path}: {error.strerror}", "give the path of the job script") from None


def _staged(
    steps: Iterable[Step], phase: str, code: int, values: Mapping[str, str], chain: Chain | None
) -> tuple[int, str]:
    """The steps of a phase, one after the other; the first stage-in that fails is the last. Exit code and cause of what
    failed."""
    wanted = [step for step in steps if step.runs_after(code == 0)]
    codes: list[int] = []
    causes: list[str] = []
    for step in wanted:
        if step.kind != (STAGE_IN if phase == "in" else STAGE_OUT):
            continue
        try:
            _one(step, values, chain)
        except Problem as problem:
            log.say_problem(problem, step.name)
            codes.append(problem.exit_code)
            causes.append(f"{step.name}: {problem.cause}")
            if phase == "in":
                break
    if phase == "out" and any(step.kind == CLEANUP for step in wanted):
        log.say("cleanup lines have no effect inside a job: use --staging jobs or login, or globuswrap cleanup")
    return combined(codes), "; ".join(causes)


def _one(step: Step, values: Mapping[str, str], chain: Chain | None) -> None:
    if step.if_present and not steps.present(resolve.address(expand(step.source, values)), 0.0):
        log.say(f"{step.name}: the source does not exist (--if-present)")
        return
    staging, policy = Staging(plans.INLINE), Policy()
    if chain is not None:
        element = f"{values['j']}/{values.get('a', '')}"
        staging = chain.plan.staging
        policy = Policy(name=f"{chain.scope}/{element}/{step.name}", chain=chain.id)
    request = requested_again(steps.request_of(step, values), policy)
    wait_policy = replace(steps.wait_policy_of(staging, step), timeout=None, retry_for=None, poll=staging.poll)
    result = operations.perform(request, policy, wait_policy)
    receipt = (result.outcome.receipt if result.outcome else None) or {}
    log.say(
        f"{step.name}: {result.outcome.name if result.outcome else 'submitted'}, {receipt.get('files_transferred')} files"
    )


def requested_again(request: Request, policy: Policy) -> Request:
    """The request, or if this job has made it before, the same compared by checksum: what is on the node may be gone, or half
    of it. With `once`, and until a caller was told how it ended, it is the same request, whose outcome is reported."""
    if request.options.sync_level is not None or policy.once:
        return request
    if policy.chain is None and schedulers.current_job(os.environ) is None:
        return request
    key = requests.key_of(requests.digest_of(requests.content(request)), policy.name, policy.chain)
    earlier = journal.latest(key)
    if earlier is None or not earlier.finished or not (earlier.kept or policy.name is None):
        return request
    return replace(request, options=replace(request.options, sync_level="checksum"))
