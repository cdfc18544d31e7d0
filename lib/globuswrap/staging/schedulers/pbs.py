"""PBS (OpenPBS, PBS Professional) by its commands. Facts observed on OpenPBS 23.06; see docs/chains.md."""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from globuswrap.errors import Refused, TryLater
from globuswrap.staging.schedulers import base
from globuswrap.staging.schedulers.base import About, JobState, StageJob
from globuswrap.staging.schedulers.slurm import header
from globuswrap.system.process import Completed

_DEPENDENCY = {base.AFTER_SUCCESS: "afterok", base.AFTER_FAILURE: "afternotok", base.AFTER_EITHER: "afterany"}

_UNKNOWN = 153  # qstat's exit code for an unknown job; the known ones are on stdout all the same
_FINISHED = 35
_WAITING_FOR_DEPENDENCY = "22"  # substate
_RUNNING = set("REBSUT")  # B: an array has begun
_WAITING = set("QWM")


def compute_command(script: Path, arguments: Sequence[str], *, hold: bool) -> tuple[str, ...]:
    """The `qsub` of the user's script: nothing of theirs is replaced, only the hold is added."""
    return ("qsub", *(("-h",) if hold else ()), *arguments, str(script))


def stage_command(job: StageJob, now: float | None = None) -> tuple[str, ...]:
    """The `qsub` of a stage job. It writes its own log: `-o` takes no path with spaces."""
    seconds = math.ceil(job.seconds)
    walltime = f"{seconds // 3600:02}:{seconds % 3600 // 60:02}:{seconds % 60:02}"
    begin = time.localtime((time.time() if now is None else now) + job.delay + 1)
    return (
        *("qsub", "-N", job.name, "-j", "oe", "-o", "/dev/null"),
        *("-l", "select=1:ncpus=1", "-l", f"walltime={walltime}"),
        *(() if job.partition is None else ("-q", job.partition)),
        *(() if job.account is None else ("-A", job.account)),
        *(() if job.after is None else ("-W", f"depend={_DEPENDENCY[job.after[1]]}:{job.after[0]}")),
        *(("-h",) if job.witness else ()),
        *(("-a", time.strftime("%Y%m%d%H%M.%S", begin)) if job.delay > 0 and not job.witness else ()),
        str(job.script),
    )


def jobs_in(text: str) -> dict[str, dict[str, Any]]:
    """The jobs of `qstat -f -F json`; TryLater if it is not JSON (a server that is going down cuts it off)."""
    if not text.strip():
        return {}
    try:
        document = json.loads(text, strict=False)
        jobs = document.get("Jobs", {})
        return {str(job_id): dict(job) for job_id, job in jobs.items()}
    except (ValueError, AttributeError, TypeError) as error:
        raise TryLater(
            "scheduler-unreadable", f"qstat's answer cannot be read: {error}", "run it again", detail=text[:2000]
        ) from None


def state_of(job_id: str, jobs: Mapping[str, Mapping[str, Any]]) -> JobState:
    """The state of a job among those qstat printed. Of an array, success is that of all its elements, as far as they are
    known: without them it is None, for an array's own Exit_status says little.

    Raises Refused for a state that is not known.
    """
    job = jobs.get(job_id) or next((each for known, each in jobs.items() if _same(known, job_id)), None)
    if job is None:
        return JobState(job_id, base.GONE, "unknown to PBS")
    letter, substate, holds = (
        str(job.get("job_state", "")),
        str(job.get("substate", "")),
        str(job.get("Hold_Types", "n")),
    )
    fields = {name: str(value) for name, value in job.items() if isinstance(value, str | int)}
    reason = str(job.get("comment", "")) or (f"held ({holds})" if letter == "H" else "")
    if letter in ("F", "X"):
        # Deleted while it waited: substate 91 without a start time.
        started = "stime" in job or substate != "91"
        success = _success(job_id, job, jobs)
        return JobState(job_id, base.ENDED, _ending(job), reason, success, False, started, fields)
    if letter in _RUNNING:
        return JobState(job_id, base.RUNNING, letter, reason, fields=fields)
    satisfied = substate != _WAITING_FOR_DEPENDENCY and "s" not in holds
    if letter == "H":
        phase = base.HELD if "u" in holds else base.WAITING
        return JobState(job_id, phase, f"H {holds}", reason, satisfied=satisfied, fields=fields)
    if letter in _WAITING:
        return JobState(job_id, base.WAITING, letter, reason, satisfied=satisfied, fields=fields)
    raise Refused("unknown-state", f"PBS job {job_id} has the state {letter!r}", f"look at it: qstat -f -x {job_id}")


def _ending(job: Mapping[str, Any]) -> str:
    if "Exit_status" not in job:
        return "deleted before it ran"
    code = int(job["Exit_status"])
    if code == -29:
        return "killed at its walltime"
    return f"exit {code}" + (f" (signal {code - 256})" if code > 256 else "")


def _success(job_id: str, job: Mapping[str, Any], jobs: Mapping[str, Mapping[str, Any]]) -> bool | None:
    if not is_array(job_id):
        # No Exit_status: deleted while it waited, which is not a success.
        return "Exit_status" in job and int(job["Exit_status"]) == 0
    elements = [each for known, each in jobs.items() if known != job_id and known.split("[")[0] == job_id.split("[")[0]]
    if not elements:
        return None
    return all("Exit_status" in each and int(each["Exit_status"]) == 0 for each in elements)


def is_array(job_id: str) -> bool:
    return "[]" in job_id


def _same(known: str, asked: str) -> bool:
    """Whether two ids are of one job: the server's name may be shortened in one of them."""
    number, _, server = known.partition(".")
    asked_number, _, asked_server = asked.partition(".")
    return number == asked_number and (server.split(".")[0] == asked_server.split(".")[0] or not asked_server)


def about_of(job_id: str, job: Mapping[str, Any]) -> About:
    variables = job.get("Variable_List", {})
    if isinstance(variables, str):
        variables = dict(pair.split("=", 1) for pair in variables.split(",") if "=" in pair)
    user = str(job.get("Job_Owner", "")).split("@")[0]
    account = str(job["Account_Name"]) if job.get("Account_Name") else None
    workdir = str(variables.get("PBS_O_WORKDIR", ""))
    return About(job_id, str(job.get("Job_Name", "")), user, workdir, is_array(job_id), account, job.get("queue"))


def held_by_user(script: str, arguments: Sequence[str]) -> bool:
    """Whether the user asked for a hold themself: then it is theirs to release."""
    words = [word for line in header(script, "#PBS") for word in line.split()]
    return "-h" in {*words, *arguments}


class Pbs:
    """The functions that act; each runs one program."""

    name = "pbs"

    def compute_command(self, script: Path, arguments: Sequence[str], *, hold: bool) -> tuple[str, ...]:
        return compute_command(script, arguments, hold=hold)

    def stage_command(self, job: StageJob) -> tuple[str, ...]:
        return stage_command(job)

    def submit(self, command: tuple[str, ...], cwd: str | None = None) -> str:
        """Submit, and return the job id. Raises Refused with what qsub said."""
        done = base.ran(command, cwd)
        if done.code != 0:
            raise base.refused(done, "qsub refused the job", "mend what it names, then submit again")
        job_id = done.stdout.strip().splitlines()[-1].strip() if done.stdout.strip() else ""
        if not job_id[:1].isdigit() or " " in job_id:
            raise base.refused(done, "qsub printed no job id", "look for the job: qstat -u $USER")
        return job_id

    def about(self, job_id: str) -> About:
        jobs = self._jobs([job_id])
        if not jobs:
            raise Refused("job-gone", f"PBS job {job_id} is gone", "see: globuswrap status")
        return about_of(job_id, next(iter(jobs.values())))

    def states(self, job_ids: Iterable[str]) -> dict[str, JobState]:
        wanted = list(job_ids)
        jobs = self._jobs(wanted) if wanted else {}
        return {job_id: state_of(job_id, jobs) for job_id in wanted}

    def release(self, job_id: str) -> None:
        """Release the user's hold; of a job that is not held (any more) this is success."""
        done = base.ran(("qrls", "-h", "u", job_id))
        if done.code != 0 and self.states([job_id])[job_id].phase == base.HELD:
            raise base.refused(done, f"job {job_id} cannot be released", f"qrls -h u {job_id}")

    def cancel(self, job_ids: Iterable[str]) -> None:
        """Delete jobs; unknown and finished ones are none of its business."""
        wanted = list(job_ids)
        if not wanted:
            return
        done = base.ran(("qdel", *wanted))
        if done.code != 0:
            left = [state.id for state in self.states(wanted).values() if state.phase in (base.HELD, base.WAITING)]
            if left:
                raise base.refused(done, f"jobs {' '.join(left)} cannot be deleted", f"qdel {' '.join(left)}")

    def outcomes(self, about: About) -> tuple[str, ...]:
        """The dependencies by which PBS itself tells the outcome. Of an array it does not (afterok runs although an element
        failed): there is one follower, which asks for the elements."""
        return (base.AFTER_EITHER,) if about.array else (base.AFTER_SUCCESS, base.AFTER_FAILURE)

    def find(self, directory: Path) -> dict[str, str]:
        """Unfinished jobs whose script lies below the directory: id -> script."""
        done = base.ran(("qstat", "-f", "-F", "json"))
        if done.code not in (0, _UNKNOWN):
            raise self._unreachable(done)
        found = {}
        for job_id, job in jobs_in(done.stdout).items():
            submitted = str(job.get("Submit_arguments", ""))
            at = submitted.find(f"{directory}/")
            if at >= 0:
                found[job_id] = submitted[at:].strip().rstrip("'\"")
        return found

    def own_job(self) -> str | None:
        return os.environ.get("PBS_ARRAY_ID") or os.environ.get("PBS_JOBID")

    def _jobs(self, job_ids: Sequence[str]) -> dict[str, dict[str, Any]]:
        elements = ("-t",) if any(is_array(job_id) for job_id in job_ids) else ()
        done = base.ran(("qstat", *elements, "-f", "-F", "json", "-x", *job_ids))
        if done.code not in (0, _UNKNOWN, _FINISHED):
            raise self._unreachable(done)
        return jobs_in(done.stdout)

    @staticmethod
    def _unreachable(done: Completed) -> TryLater:
        told = (done.stderr or done.stdout).strip()
        return TryLater(
            "scheduler-unreachable", "PBS does not answer", "run it again later", ran=done.argv, detail=told
        )
