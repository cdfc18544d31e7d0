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

from globuswrap.errors import Refused, TryLater
from globuswrap.schedulers import base
from globuswrap.schedulers.base import CurrentJob, JobInfo, JobState, Scheduler, StageJob
from globuswrap.system.process import Completed

_DEPENDENCY = {base.AFTER_SUCCESS: "afterok", base.AFTER_FAILURE: "afternotok", base.AFTER_EITHER: "afterany"}

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

_UNREACHABLE = re.compile(
    r"(?i)unable to contact|connection (refused|timed out)|communication|timed out|try again|socket"
)


def compute_command(script: Path, arguments: Sequence[str], *, hold: bool) -> tuple[str, ...]:
    """The `sbatch` of the user's script: nothing of theirs is replaced, only the hold is added."""
    return ("sbatch", "--parsable", *(("--hold",) if hold else ()), *arguments, str(script))


def stage_command(job: StageJob) -> tuple[str, ...]:
    """The `sbatch` of a stage job."""
    after = () if job.after is None else (f"--dependency={_DEPENDENCY[job.after[1]]}:{job.after[0]}",)
    begin: tuple[str, ...] = ()
    if job.witness:
        begin = (f"--begin={WITNESS_BEGIN}",)
    elif job.delay > 0:
        begin = (f"--begin=now+{math.ceil(job.delay)}",)
    return (
        *("sbatch", "--parsable", f"--job-name={job.name}", "--output=/dev/null", "--chdir=/"),
        *("--nodes=1", "--ntasks=1", f"--time={max(1, math.ceil(job.seconds / 60))}"),
        *(() if job.partition is None else (f"--partition={job.partition}",)),
        *(() if job.account is None else (f"--account={job.account}",)),
        *after,
        # Without it a job whose dependency can never be met stays in the queue for ever.
        *(("--kill-on-invalid-dep=yes",) if after else ()),
        *begin,
        str(job.script),
    )


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
    phases = [_phase(job) for job in jobs]
    shown = next((job for job, phase in zip(jobs, phases, strict=True) if phase == base.RUNNING), None)
    shown = shown or next((job for job, phase in zip(jobs, phases, strict=True) if phase != base.ENDED), None)
    shown = shown or next((job for job in jobs if not _succeeded(job)), jobs[0])
    phase = _phase(shown)
    success = all(_succeeded(job) for job in jobs) if phase == base.ENDED else None
    raw_state = shown["state"] + (f" {shown['exit']}" if phase == base.ENDED else "")
    satisfied = phase == base.WAITING and shown["dependency"] == "(null)"
    reason = "" if shown["reason"] == "None" else shown["reason"]
    started = began = None
    if phase == base.ENDED:
        ran = [job for job in jobs if job["nodes"] not in ("", "(null)")]
        started = bool(ran)
        began = min(filter(None, (_moment(job.get("began", "")) for job in ran)), default=None)
    return JobState(job_id, phase, raw_state, reason, success, satisfied, started, shown, began)


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
    settings = ("SLURM_CONF",)
    tells_of_deletion = True
    shows_environment = False
    remembers_elements = False  # they are purged one by one

    def compute_command(self, script: Path, arguments: Sequence[str], *, hold: bool) -> tuple[str, ...]:
        return compute_command(script, arguments, hold=hold)

    def stage_command(self, job: StageJob) -> tuple[str, ...]:
        return stage_command(job)

    def unfit(self, words: Sequence[str]) -> tuple[int, str] | None:
        refused = ("--wait", "-W", "--test-only", "--wrap")
        return next(((at, word) for at, word in enumerate(words) if word.split("=")[0] in refused), None)

    def accepted(self, words: Sequence[str]) -> tuple[str, ...]:
        return tuple(word for word in words if word != "--parsable")

    def asks_for_hold(self, words: Sequence[str]) -> bool:
        return "--hold" in words or "-H" in words

    def walltime(self, words: Sequence[str]) -> float | None:
        found = None
        for word, following in zip(words, [*words[1:], ""], strict=False):
            value = following if word in ("-t", "--time") else None
            if word.startswith("--time="):
                value = word[7:]
            elif re.match(r"-t\d", word):
                value = word[2:]
            seconds = None if value is None else seconds_of(value)
            found = found if seconds is None else seconds
        return found

    def outcomes(self, info: JobInfo) -> tuple[str, ...]:
        return self.dependencies  # of an array, afterok means all of its elements

    def current_job(self, environ: Mapping[str, str]) -> CurrentJob | None:
        if not environ.get("SLURM_JOB_ID"):
            return None
        return CurrentJob(
            environ["SLURM_JOB_ID"],
            environ.get("SLURM_JOB_NAME"),
            environ.get("SLURM_JOB_USER"),
            environ.get("SLURM_SUBMIT_DIR"),
            environ.get("SLURM_ARRAY_JOB_ID"),
            environ.get("SLURM_ARRAY_TASK_ID"),
            environ.get("SLURM_CLUSTER_NAME", ""),
        )

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
        raise base.refused(
            done, "sbatch would refuse it", "fix the reported problem in the script or after --, then submit again"
        )

    def submit(self, command: tuple[str, ...], cwd: str | None = None) -> str:
        # A stage job takes nothing from the job or shell it is submitted in: SBATCH_ARRAY_INX would make it an array.
        stage = any(word.startswith("--job-name=gw-") for word in command)
        env = {name: None for name in os.environ if name.startswith(("SBATCH_", "SLURM_"))} if stage else {}
        env.pop("SLURM_CONF", None)
        done = base.ran(command, cwd, env)
        if done.code != 0:
            raise self._refused(done, "sbatch refused the job", "fix the reported problem, then submit again")
        job_id = done.stdout.strip().split(";")[0]
        if not job_id.isdigit():
            raise base.refused(done, "sbatch printed no job id", "look for the job: squeue --me")
        return job_id

    def about(self, job_id: str) -> JobInfo:
        jobs = self._rows(job_id)
        if not jobs:
            raise Refused("job-gone", f"Slurm job {job_id} is gone", "see: globuswrap status")
        return about_of(job_id, jobs)

    def states(self, job_ids: Iterable[str]) -> dict[str, JobState]:
        return {job_id: state_of(job_id, self._rows(job_id)) for job_id in job_ids}

    def release(self, job_id: str) -> None:
        """Release the user's hold; of a job that is not held (any more), or by an administrator, this is success."""
        done = base.ran(("scontrol", "release", job_id))
        state = self.states([job_id])[job_id] if done.code != 0 else None
        if state is not None and state.phase == base.HELD and state.reason != "JobHeldAdmin":
            raise self._refused(done, f"job {job_id} cannot be released", f"scontrol release {job_id}")

    def cancel(self, job_ids: Iterable[str]) -> None:
        wanted = list(job_ids)
        if not wanted:
            return
        done = base.ran(("scancel", *wanted))
        if done.code != 0:
            left = [state.id for state in self.states(wanted).values() if state.phase in (base.HELD, base.WAITING)]
            if left:
                raise self._refused(done, f"jobs {' '.join(left)} cannot be canceled", f"scancel {' '.join(left)}")

    def find(self, directory: Path) -> dict[str, str]:
        done = base.ran(("squeue", "--noheader", f"--user={getpass.getuser()}", "--format=%F|%o"))
        if done.code != 0:
            raise self._refused(done, "Slurm refused", "fix the reported problem")
        pairs = (line.partition("|") for line in done.stdout.splitlines())
        return {job_id: script for job_id, _, script in pairs if script.startswith(f"{directory}/")}

    def _rows(self, job_id: str) -> list[dict[str, str]]:
        done = base.ran(("scontrol", "show", "job", "-o", job_id))
        if done.code == 0:
            return rows(done.stdout)
        if "Invalid job id" in done.stderr:
            return []
        raise self._refused(done, "Slurm refused", "fix the reported problem")

    @staticmethod
    def _refused(done: Completed, what: str, remedy: str) -> TryLater | Refused:
        told = (done.stderr or done.stdout).strip()
        if _UNREACHABLE.search(told):
            return TryLater("scheduler-unreachable", "Slurm does not answer", "rerun later", ran=done.argv, detail=told)
        return base.refused(done, what, remedy)


SCHEDULER = Slurm()
