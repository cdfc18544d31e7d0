"""The scheduler: whether it answers and takes the job, when the job may start and end, whether nodes reach Globus."""

from __future__ import annotations

import json
import os
import re
import shlex
import time
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from globuswrap.doctor.finding import Finding, Say, failure, of_problem, ok, warning
from globuswrap.errors import REFUSED, TRY_LATER, Problem, UsageProblem
from globuswrap.staging import scripts
from globuswrap.staging.chain import by_name
from globuswrap.staging.plan import Plan
from globuswrap.staging.schedulers import base, slurm
from globuswrap.staging.schedulers.base import StageJob
from globuswrap.staging.submission import chosen_scheduler
from globuswrap.system import files, machine, units
from globuswrap.system.pacing import Pace
from globuswrap.system.process import Completed

#: What stage-out may take after the job: the session has to last that much longer.
AFTERWARDS = 3600.0
_PROBE_LIMIT = 300.0


@dataclass(frozen=True)
class Forecast:
    """When the job is expected to start (seconds since the epoch; None: the scheduler does not say), and its walltime in
    seconds (None: not said)."""

    start: float | None = None
    walltime: float | None = None

    @property
    def until(self) -> float | None:
        """How long a login session has to last; None if nothing is known."""
        if self.start is None and self.walltime is None:
            return None
        return max(self.start or 0.0, time.time()) + (self.walltime or 0.0) + AFTERWARDS


def here() -> str | None:
    """The scheduler whose commands are on PATH; None on a machine without one."""
    try:
        return chosen_scheduler("auto")
    except UsageProblem:
        return None


def look(name: str, say: Say) -> Iterator[Finding]:
    """Whether the scheduler answers."""
    say(f"the scheduler ({name})")
    asked = ("scontrol", "ping") if name == "slurm" else ("qstat",)
    done = _run(asked)
    answered = done.code == 0 and (name != "slurm" or re.search(r"\bis UP\b", done.stdout) is not None)
    if answered:
        yield ok("scheduler", f"{name} answers")
    else:
        why = "no job can be submitted, released or watched"
        remedy = f"look at it, then try again: {shlex.join(asked)}"
        yield failure("scheduler-unreachable", f"{name} does not answer: {_told(done)}", why, remedy, TRY_LATER)


def forecast(plan: Plan, text: str, say: Say) -> tuple[Forecast, list[Finding]]:
    """When the job of a plan may run, by `sbatch --test-only`; PBS says nothing before a job is queued."""
    walltime = walltime_of(plan.scheduler, text, plan.arguments)
    if plan.scheduler != "slurm":
        return Forecast(None, walltime), []
    say("sbatch --test-only")
    done = _run(("sbatch", "--test-only", *plan.arguments, plan.script), plan.cwd)
    if done.code != 0 and re.search(r"(?i)test-only|heterogeneous", done.stderr):
        return Forecast(None, walltime), []  # it cannot be asked about, which says nothing about the job
    if done.code != 0:
        why = "the chain would stop at its first step"
        found = failure("scheduler-refuses", f"sbatch would refuse it: {_told(done)}", why, _REMEDY, REFUSED)
        return Forecast(None, walltime), [found]
    start = starts_at(done.stderr + done.stdout)
    expected = (
        "at a time it does not know" if start is None else f"at {time.strftime('%F %H:%M', time.localtime(start))}"
    )
    length = "" if walltime is None else f", for at most {units.human_duration(walltime)}"
    return Forecast(start, walltime), [ok("start", f"sbatch would start it {expected}{length}")]


_REMEDY = "fix what it names in the script or after --, then submit again"


def starts_at(text: str) -> float | None:
    """The time in `sbatch: Job 7 to start at 2026-11-20T12:00:00 using ...` (local time). Pure."""
    found = re.search(r"to start at (\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)", text)
    return None if found is None else time.mktime(time.strptime(found[1], "%Y-%m-%dT%H:%M:%S"))


def walltime_of(scheduler: str, script: str, arguments: Sequence[str]) -> float | None:
    """The walltime in seconds that the script's header or the arguments ask for; arguments win. None if none does. Pure."""
    prefix = "#PBS" if scheduler == "pbs" else "#SBATCH"
    words: list[str] = []
    for line in slurm.header(script, prefix):
        try:
            words += shlex.split(line, comments=True)
        except ValueError:
            continue
    words += arguments
    found: float | None = None
    for at, word in enumerate(words):
        following = words[at + 1] if at + 1 < len(words) else ""
        value: str | None = None
        if scheduler == "pbs":
            match = re.search(r"(?:^|,)walltime=([\d:]+)", following if word == "-l" else word.removeprefix("-l"))
            value = match[1] if match and word.startswith("-l") else None
        elif word in ("-t", "--time"):
            value = following
        elif word.startswith("--time="):
            value = word[7:]
        elif re.match(r"-t\d", word):
            value = word[2:]
        seconds = None if value is None else _seconds(scheduler, value)
        found = found if seconds is None else seconds
    return found


def _seconds(scheduler: str, text: str) -> float | None:
    """Slurm: minutes, M:S, H:M:S, D-H, D-H:M, D-H:M:S (sbatch(1), --time). PBS: seconds, M:S, H:M:S (qsub(1B))."""
    days, dash, rest = text.rpartition("-")
    parts = rest.split(":")
    if not all(part.isdigit() for part in parts) or (dash and not days.isdigit()) or len(parts) > 3:
        return None
    numbers = [int(part) for part in parts]
    if dash:
        hours, minutes, seconds = [*numbers, 0, 0][:3]
        return float(int(days) * 86400 + hours * 3600 + minutes * 60 + seconds)
    if len(numbers) == 1:
        return float(numbers[0] if scheduler == "pbs" else numbers[0] * 60)
    total = 0
    for number in numbers:
        total = total * 60 + number
    return float(total)


def _run(argv: Sequence[str], cwd: str | None = None) -> Completed:
    try:
        return base.ran(argv, cwd)
    except Problem as problem:
        return Completed(tuple(argv), 127, "", problem.cause, 0.0)


def _told(done: Completed) -> str:
    lines = [line.strip() for line in (done.stderr or done.stdout).splitlines() if line.strip()]
    return lines[-1] if lines else f"exit {done.code}"


# --- a job that looks from a compute node -----------------------------------------------------------------------------


def probe(name: str, partition: str | None, wait: float, say: Say) -> Iterator[Finding]:
    """Submit a short job that asks Globus who is logged in, and wait for what it writes; it is cancelled when that takes
    longer than `wait` seconds. Nothing of it stays."""
    directory = files.private_directory(files.state_dir() / "doctor")
    stem = directory / f"node-{uuid.uuid4().hex[:12]}"
    script, answer = Path(f"{stem}.sh"), Path(f"{stem}.json")
    files.write_atomic(script, _script(answer), 0o700)
    scheduler = by_name(name)
    job_id = ""
    try:
        job_id = scheduler.submit(
            scheduler.stage_command(StageJob(script, "gw-probe", _PROBE_LIMIT, partition)), str(directory)
        )
        say(f"job {job_id} on a compute node")
        words = _awaited(name, job_id, answer, wait)
        if not answer.exists():
            why = "stage jobs would wait as long; whether nodes reach Globus is not known"
            remedy = "try later, or with another queue: globuswrap doctor --probe-node --stage-partition NAME"
            yield warning(
                "probe-did-not-run", f"the probe job {job_id} did not report within the time: {words}", why, remedy
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
    line = shlex.join([*machine.own_command(), "doctor", "--in-node", str(answer)])
    return "\n".join(["#!/bin/bash", "umask 077", *exports, f"exec {line} </dev/null", ""])


def _awaited(name: str, job_id: str, answer: Path, wait: float) -> str:
    """Wait for the answer, the end of the job, or the time; what the scheduler said last."""
    scheduler = by_name(name)
    pace, words = Pace(10.0, wait, first=0.5), ""
    while not answer.exists() and not pace.over:
        state = scheduler.states([job_id])[job_id]
        words = " ".join(part for part in (state.words, state.reason) if part)
        if not state.alive:
            time.sleep(1.0)  # a shared file system shows the answer a moment later
            return words
        pace.rest()
    return words


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
    import socket

    from globuswrap.globus import verbs

    document = {"host": socket.gethostname()}
    try:
        document["who"] = str(verbs.userinfo(retry_for=0.0, timeout=60).get("preferred_username") or "")
    except Problem as problem:
        document |= {"name": problem.name, "cause": problem.cause, "remedy": problem.remedy}
    files.write_atomic(answer, json.dumps(document))
