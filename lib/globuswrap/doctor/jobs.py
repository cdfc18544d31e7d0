"""Check the scheduler: whether it answers and takes the job, when the job may start and end, whether nodes reach Globus."""

from __future__ import annotations

import json
import os
import shlex
import socket
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

from globuswrap import schedulers
from globuswrap.doctor.finding import Finding, Say, failure, of_problem, ok, warning
from globuswrap.errors import REFUSED, TRY_LATER, Problem, UsageProblem
from globuswrap.globus import verbs
from globuswrap.schedulers.base import Scheduler, StageJob, last_line, option_words
from globuswrap.staging import scripts
from globuswrap.staging.plan import Plan
from globuswrap.system import files, machine, units
from globuswrap.system.pacing import Pace

#: What stage-out may take after the job: the session has to last that much longer.
AFTERWARDS = 3600.0
_PROBE_LIMIT = 300.0


def here() -> Scheduler | None:
    """The batch system whose commands are on PATH; None on a machine without one."""
    try:
        return schedulers.batch_system(schedulers.choose(schedulers.AUTO))
    except UsageProblem:
        return None


def look(scheduler: Scheduler, say: Say) -> Iterator[Finding]:
    """Whether the scheduler answers."""
    say(f"the scheduler ({scheduler.name})")
    why = "no job can be submitted, released or watched"
    try:
        done = scheduler.ping()
    except Problem as problem:
        yield of_problem(problem, why, scheduler.title)
        return
    if done.code == 0:
        yield ok("scheduler", f"{scheduler.title} answers")
    else:
        remedy = f"check it, then try again: {shlex.join(done.argv)}"
        cause = f"{scheduler.title} does not answer: {last_line(done)}"
        yield failure("scheduler-unreachable", cause, why, remedy, TRY_LATER)


def session_end(start: float | None, walltime: float | None) -> float | None:
    """Until when a login session has to last for a job that is expected to start then (seconds since the epoch) and runs so
    long (seconds); None if neither is known."""
    if start is None and walltime is None:
        return None
    return max(start or 0.0, time.time()) + (walltime or 0.0) + AFTERWARDS


def forecast(plan: Plan, text: str, say: Say) -> tuple[float | None, list[Finding]]:
    """Until when a login session has to last for the job of a plan, as far as the scheduler says before it is queued."""
    scheduler = plan.system
    if scheduler is None:
        return None, []
    walltime = scheduler.walltime([*option_words(text, scheduler.prefix), *plan.arguments])
    say(f"{scheduler.title}: when the job could start")
    try:
        start = scheduler.expected_start(plan.script, plan.arguments, plan.cwd)
    except Problem as problem:
        return session_end(None, walltime), [of_problem(problem, "the chain would stop at its first step")]
    if start is None:
        return session_end(None, walltime), []
    expected = f"at {time.strftime('%F %H:%M', time.localtime(start))}"
    length = "" if walltime is None else f", for at most {units.human_duration(walltime)}"
    return session_end(start, walltime), [ok("start", f"{scheduler.title} would start it {expected}{length}")]


# --- a job that looks from a compute node -----------------------------------------------------------------------------


def probe(scheduler: Scheduler, partition: str | None, wait: float, say: Say) -> Iterator[Finding]:
    """Submit a short job that asks Globus who is logged in, and wait for what it writes; it is canceled when that takes
    longer than `wait` seconds. Nothing of it stays."""
    directory = files.private_directory(files.state_dir() / "doctor")
    stem = directory / f"node-{uuid.uuid4().hex[:12]}"
    script, answer = Path(f"{stem}.sh"), Path(f"{stem}.json")
    files.write_atomic(script, _script(answer), 0o700)
    job_id = ""
    try:
        job_id = scheduler.submit(
            scheduler.stage_command(StageJob(script, "gw-probe", _PROBE_LIMIT, partition)), str(directory)
        )
        say(f"job {job_id} on a compute node")
        last = _awaited(scheduler, job_id, answer, wait)
        if not answer.exists():
            why = "stage jobs would wait as long, and it is still unknown whether nodes reach Globus"
            remedy = "try later, or with another queue: globuswrap doctor --probe-node --stage-partition NAME"
            yield warning(
                "probe-did-not-run", f"the probe job {job_id} did not report within the time: {last}", why, remedy
            )
            return
        yield from _reported(json.loads(answer.read_text("utf-8")))
    except Problem as problem:
        yield of_problem(problem, "stage jobs would be refused in the same way", "the probe job")
    finally:
        if job_id:
            scheduler.cancel([job_id])
        for path in (script, answer):
            path.unlink(missing_ok=True)


def _script(answer: Path) -> str:
    exports = [f"export {name}={shlex.quote(value)}" for name, value in scripts.environment(os.environ).items()]
    line = shlex.join([*machine.own_command(), "in-job", "probe", str(answer)])
    return "\n".join(["#!/bin/bash", "umask 077", *exports, f"exec {line} </dev/null", ""])


def _awaited(scheduler: Scheduler, job_id: str, answer: Path, wait: float) -> str:
    """Wait for the answer, the end of the job, or the time; what the scheduler said last."""
    pace, last = Pace(10.0, wait, first=0.5), ""
    while not answer.exists() and not pace.over:
        state = scheduler.states([job_id])[job_id]
        last = " ".join(part for part in (state.raw_state, state.reason) if part)
        if not state.alive:
            time.sleep(1.0)  # a shared file system shows the answer a moment later
            return last
        pace.rest()
    return last


def _reported(document: dict[str, str]) -> Iterator[Finding]:
    host = document.get("host", "a compute node")
    cause = document.get("cause")
    if not cause:
        yield ok("node", f"{host} reaches Globus as {document.get('who')}")
        return
    why = "staging from jobs fails there"
    remedy = "stage from the login node: globuswrap submit --staging login"
    if document.get("name") not in ("globus-unreachable", "globus-timeout"):
        remedy = document.get("remedy") or remedy
    yield failure("node-cannot-stage", f"{host}: {cause}", why, remedy, REFUSED)


def report_from_node(answer: Path) -> None:
    """In the probe job: write what Globus says to this node."""
    document = {"host": socket.gethostname()}
    try:
        document["who"] = str(verbs.userinfo(retry_for=0.0, timeout=60).get("preferred_username") or "")
    except Problem as problem:
        document |= {"name": problem.name, "cause": problem.cause, "remedy": problem.remedy}
    files.write_atomic(answer, json.dumps(document))
