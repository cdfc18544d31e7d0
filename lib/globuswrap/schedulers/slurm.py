"""Slurm by its commands: sbatch, scontrol, squeue, scancel. Facts observed on Slurm 22.05; see docs/job-scripts.md."""

from __future__ import annotations

import getpass
import math
import os
import re
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import ClassVar

from globuswrap.errors import Refused
from globuswrap.schedulers import base
from globuswrap.schedulers.base import CurrentJob, JobInfo, JobState, Scheduler, StageJob
from globuswrap.system.process import Completed

_ENDED_BADLY = {
    "FAILED", "TIMEOUT", "CANCELLED", "NODE_FAIL", "OUT_OF_MEMORY", "BOOT_FAIL", "DEADLINE", "PREEMPTED", "REVOKED",
}  # fmt: skip
_WAITING = {"PENDING", "REQUEUED", "REQUEUE_FED", "REQUEUE_HOLD", "SPECIAL_EXIT", "RESV_DEL_HOLD"}
_RUNNING = {"RUNNING", "COMPLETING", "CONFIGURING", "SUSPENDED", "STOPPED", "SIGNALING", "STAGE_OUT", "RESIZING"}

# JobName and Reason may hold spaces; what follows them is in a fixed order (22.05 to 24.05).
_JOB = re.compile(
    r"JobId=(?P<id>\d+) (?:ArrayJobId=(?P<array>\d+) ArrayTaskId=(?P<task>\S+) (?:ArrayTaskThrottle=\S+ )?)?"
    r"(?:HetJobId=\S+ )?(?:HetJobOffset=\S+ )?(?:HetJobIdSet=\S+ )?"
    r"JobName=(?P<name>.*?) UserId=(?P<user>[^(]*)\(\d+\) GroupId=\S+ MCS_label=.*?"
    r" Priority=(?P<priority>\d+) .*?Account=(?P<account>\S+) QOS=(?P<qos>\S+) (?:WCKey=\S* )?"
    r"JobState=(?P<state>\S+) Reason=(?P<reason>.*?) Dependency=(?P<dependency>.*?)"
    r" Requeue=.*? ExitCode=(?P<exit>\d+:\d+) .*? Partition=(?P<partition>\S+) .*? WorkDir=(?P<workdir>.*?)"
    r"(?= (?:AdminComment|SystemComment|Comment|StdErr)=|$)",
    re.DOTALL,
)

#: A witness is never meant to run: it is a job whose dependency the scheduler goes on judging, however long ago the
#: compute job was purged. Held jobs are not judged, those with a begin time are (observed).
WITNESS_BEGIN = "now+3650days"


def rows(text: str) -> list[dict[str, str]]:
    """The jobs of `scontrol show job -o`. Raises Refused for a line that is none."""
    lines: list[str] = []
    for line in text.split("\n"):
        if line.startswith("JobId="):
            lines.append(line)
        elif lines and line.strip():
            lines[-1] += "\n" + line  # a newline in a job's name
    found = []
    for line in lines:
        match = _JOB.match(line)
        if match is None:
            raise Refused(
                "odd-answer", "scontrol's answer cannot be read", "report it with the line below", detail=line
            )
        nodes = re.search(r" NodeList=(\S*)", line)
        fields = {name: value or "" for name, value in match.groupdict().items()}
        began = re.search(r" StartTime=(\S+)", line)
        found.append({**fields, "nodes": nodes[1] if nodes else "?", "began": began[1] if began else ""})
    return found


def state_of(job_id: str, jobs: Sequence[dict[str, str]]) -> JobState:
    """One state for a job, or for an array of all its elements: it runs while one runs, and succeeds if all do.

    Raises Refused for a state that is not known.
    """
    if not jobs:
        return JobState(job_id, base.GONE, "unknown to Slurm")
    # Of an array: one that runs, else one that waits, else one that failed.
    shown = min(jobs, key=lambda job: (_phase(job) == base.ENDED, _phase(job) != base.RUNNING, _succeeded(job)))
    phase = _phase(shown)
    reason = "" if shown["reason"] == "None" else shown["reason"]
    if phase != base.ENDED:
        satisfied = phase == base.WAITING and shown["dependency"] == "(null)"
        return JobState(job_id, phase, shown["state"], reason, satisfied=satisfied)
    success = all(_succeeded(job) for job in jobs)
    ran = [job for job in jobs if job["nodes"] not in ("", "(null)")]
    began = min(filter(None, (_moment(job["began"]) for job in ran)), default=None)
    raw_state = f"{shown['state']} {shown['exit']}"
    return JobState(job_id, phase, raw_state, reason, success, started=bool(ran), began=began)


def _moment(text: str) -> float | None:
    """Slurm's times, in the zone of this machine: `2026-11-20T18:00:05`. None for `Unknown`."""
    try:
        return datetime.fromisoformat(text).timestamp()
    except ValueError:
        return None


def _phase(job: dict[str, str]) -> str:
    state = job["state"]
    if state in _WAITING:
        # Not by its reason: a held job that also waits for another one says `Dependency`.
        return base.HELD if job["priority"] == "0" else base.WAITING
    if state in _RUNNING:
        return base.RUNNING
    if state == "COMPLETED" or state in _ENDED_BADLY:
        return base.ENDED
    raise Refused(
        "unknown-state", f"Slurm job {job['id']} has the state {state}", f"see: scontrol show job {job['id']}"
    )


def _succeeded(job: dict[str, str]) -> bool:
    return job["state"] == "COMPLETED" and job["exit"] == "0:0"


def about_of(job_id: str, jobs: Sequence[dict[str, str]]) -> JobInfo:
    job = jobs[0]
    account = job["account"] if job["account"] != "(null)" else None
    return JobInfo(job_id, job["name"], job["user"], job["workdir"], bool(job["array"]), account, job["partition"])


def seconds_of(text: str) -> float | None:
    """Slurm's durations: minutes, M:S, H:M:S, D-H, D-H:M, D-H:M:S (sbatch(1), --time). None for anything else."""
    match = re.fullmatch(r"(?:(\d+)-)?(\d+)(?::(\d+))?(?::(\d+))?", text.strip())
    if match is None:
        return None
    days, first, second, third = (None if part is None else int(part) for part in match.groups())
    if days is not None:
        return float(days * 86400 + (first or 0) * 3600 + (second or 0) * 60 + (third or 0))
    if third is not None:
        return float((first or 0) * 3600 + (second or 0) * 60 + third)
    return float((first or 0) * 60 + (second or 0))


def starts_at(text: str) -> float | None:
    """The time in `sbatch: Job 7 to start at 2026-11-20T12:00:00 using ...` (local time)."""
    found = re.search(r"to start at (\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)", text)
    return None if found is None else time.mktime(time.strptime(found[1], "%Y-%m-%dT%H:%M:%S"))


class Slurm(Scheduler):
    """Slurm. What acts runs one program each."""

    name = "slurm"
    title = "Slurm"
    prefix = "#SBATCH"
    variables: ClassVar[Mapping[str, str]] = {
        "id": "SLURM_JOB_ID",
        "name": "SLURM_JOB_NAME",
        "user": "SLURM_JOB_USER",
        "workdir": "SLURM_SUBMIT_DIR",
        "array": "SLURM_ARRAY_JOB_ID",
        "task": "SLURM_ARRAY_TASK_ID",
        "cluster": "SLURM_CLUSTER_NAME",
    }
    unreachable = re.compile(
        r"(?i)unable to contact|connection (refused|timed out)|communication|timed out|try again|socket"
    )
    settings = ("SLURM_CONF",)
    tells_of_deletion = True
    shows_environment = False
    remembers_elements = False  # they are purged one by one

    def compute_command(self, script: Path, arguments: Sequence[str], *, hold: bool) -> tuple[str, ...]:
        return ("sbatch", "--parsable", *(("--hold",) if hold else ()), *arguments, str(script))

    def stage_command(self, job: StageJob) -> tuple[str, ...]:
        begin = WITNESS_BEGIN if job.witness else f"now+{math.ceil(job.delay)}"
        after = () if job.after is None else (f"--dependency={base.DEPENDENCY[job.after[1]]}:{job.after[0]}",)
        return (
            *("sbatch", "--parsable", f"--job-name={job.name}", "--output=/dev/null", "--chdir=/"),
            *("--nodes=1", "--ntasks=1", f"--time={max(1, math.ceil(job.seconds / 60))}"),
            *(() if job.partition is None else (f"--partition={job.partition}",)),
            *(() if job.account is None else (f"--account={job.account}",)),
            *after,
            # Without it a job whose dependency can never be met stays in the queue for ever.
            *(("--kill-on-invalid-dep=yes",) if after else ()),
            *((f"--begin={begin}",) if job.witness or job.delay > 0 else ()),
            str(job.script),
        )

    def unfit(self, words: Sequence[str]) -> tuple[int, str] | None:
        refused = ("--wait", "-W", "--test-only", "--wrap")
        return next(((at, word) for at, word in enumerate(words) if word.split("=")[0] in refused), None)

    def accepted(self, words: Sequence[str]) -> tuple[str, ...]:
        return tuple(word for word in words if word != "--parsable")

    def asks_for_hold(self, words: Sequence[str]) -> bool:
        return "--hold" in words or "-H" in words

    def walltime(self, words: Sequence[str]) -> float | None:
        return base.last_known(map(seconds_of, base.values_of(words, "-t", "--time")))

    def outcomes(self, info: JobInfo) -> tuple[str, ...]:
        return self.dependencies  # of an array, afterok means all of its elements

    def seconds_left(self, job: CurrentJob, elapsed: float) -> float | None:
        done = base.ran(("squeue", "--noheader", f"--jobs={job.id}", "--format=%L"))
        return seconds_of(done.stdout) if done.code == 0 else None

    def ping(self) -> Completed:
        done = base.ran(("scontrol", "ping"))
        up = re.search(r"\bis UP\b", done.stdout) is not None
        return done if up or done.code != 0 else replace(done, code=1)

    def expected_start(self, script: str, words: Sequence[str], cwd: str) -> float | None:
        done = base.ran(("sbatch", "--test-only", *words, script), cwd)
        if done.code == 0:
            return starts_at(done.stderr + done.stdout)
        if re.search(r"(?i)test-only|heterogeneous", done.stderr):
            return None  # it cannot be asked about, which says nothing about the job
        raise self.refused(
            done, "sbatch would refuse it", "fix the reported problem in the script or after --, then submit again"
        )

    def submit(self, command: tuple[str, ...], cwd: str | None = None) -> str:
        # A stage job takes nothing from the job or shell it is submitted in: SBATCH_ARRAY_INX would make it an array.
        stage = any(word.startswith("--job-name=gw-") for word in command)
        env = {name: None for name in os.environ if name.startswith(("SBATCH_", "SLURM_"))} if stage else {}
        env.pop("SLURM_CONF", None)
        done = base.ran(command, cwd, env)
        if done.code != 0:
            raise self.refused(done, "sbatch refused the job")
        job_id = done.stdout.strip().split(";")[0]
        if not job_id.isdigit():
            raise self.refused(done, "sbatch printed no job id", "look for the job: squeue --me")
        return job_id

    def about(self, job_id: str) -> JobInfo | None:
        jobs = self._rows(job_id)
        return about_of(job_id, jobs) if jobs else None

    def states(self, job_ids: Iterable[str]) -> dict[str, JobState]:
        return {job_id: state_of(job_id, self._rows(job_id)) for job_id in job_ids}

    def release(self, job_id: str) -> None:
        """Release the user's hold; of a job that is not held (any more), or by an administrator, this is success."""
        done = base.ran(("scontrol", "release", job_id))
        state = self.states([job_id])[job_id] if done.code != 0 else None
        if state is not None and state.phase == base.HELD and state.reason != "JobHeldAdmin":
            raise self.refused(done, f"job {job_id} cannot be released", f"scontrol release {job_id}")

    def cancel(self, job_ids: Iterable[str]) -> None:
        wanted = list(job_ids)
        if not wanted:
            return
        done = base.ran(("scancel", *wanted))
        if done.code != 0:
            left = [state.id for state in self.states(wanted).values() if state.phase in (base.HELD, base.WAITING)]
            if left:
                raise self.refused(done, f"jobs {' '.join(left)} cannot be canceled", f"scancel {' '.join(left)}")

    def find(self, directory: Path) -> dict[str, str]:
        done = base.ran(("squeue", "--noheader", f"--user={getpass.getuser()}", "--format=%F|%o"))
        if done.code != 0:
            raise self.refused(done, "Slurm refused", "fix the reported problem")
        pairs = (line.partition("|") for line in done.stdout.splitlines())
        return {job_id: script for job_id, _, script in pairs if script.startswith(f"{directory}/")}

    def _rows(self, job_id: str) -> list[dict[str, str]]:
        done = base.ran(("scontrol", "show", "job", "-o", job_id))
        if done.code == 0:
            return rows(done.stdout)
        if "Invalid job id" in done.stderr:
            return []
        raise self.refused(done, "Slurm refused", "fix the reported problem")


SCHEDULER = Slurm()
