"""PBS (OpenPBS, PBS Professional) by its commands. Facts observed on OpenPBS, v23.06.06 and later; see docs/job-scripts.md."""

from __future__ import annotations

import getpass
import math
import os
import re
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import ClassVar

from globuswrap.errors import Refused, TryLater
from globuswrap.schedulers import base
from globuswrap.schedulers.base import CurrentJob, JobInfo, JobState, Scheduler, StageJob
from globuswrap.system.process import Completed

_UNKNOWN = 153  # qstat's exit code for an unknown job; the known ones are on stdout all the same
_FINISHED = 35
_RUNNING = set("REBSUT")  # B: an array has begun
_WAITING = set("HQWM")


def jobs_in(text: str) -> dict[str, dict[str, str]]:
    """The jobs of `qstat -f -w`: id -> attributes, all of them text. TryLater if it is something else.

    Not JSON: there the head of OpenPBS prints one job only, however many are asked for, and v23.06.06 prints `.5` and
    `1e5` without quotes, and backslashes as they come. A value can have several lines (`-V` hands on shell functions).
    """
    jobs: dict[str, dict[str, str]] = {}
    job: dict[str, str] | None = None
    name = ""
    for line in text.split("\n"):
        attribute = re.fullmatch(r"    (\w+(?:\.\w+)?) = (.*)", line)
        if line.startswith("Job Id: "):
            job = jobs.setdefault(line.removeprefix("Job Id: ").strip(), {})
        elif job is None:
            if line.strip():
                raise _unreadable(f"qstat's answer begins with {line[:80]!r}", text)
        elif attribute is not None and attribute[1] not in job:
            name = attribute[1]
            job[name] = attribute[2]
        elif name in job and line:
            job[name] += "\n" + line
    return jobs


def _unreadable(cause: str, text: str) -> TryLater:
    return TryLater("scheduler-unreadable", cause, "rerun the command", detail=text[:2000])


def _moment(text: str) -> float | None:
    """PBS's times, in the zone of this machine: `Fri Nov 20 18:00:05 2026`. None for anything else."""
    try:
        return time.mktime(time.strptime(text, "%a %b %d %H:%M:%S %Y"))
    except (ValueError, OverflowError):
        return None


def state_of(job_id: str, jobs: Mapping[str, Mapping[str, str]]) -> JobState:
    """The state of a job among those qstat printed. Of an array, success is that of all its elements, as far as they are
    known: without them it is None, for an array's own Exit_status says little.

    Raises Refused for a state that is not known.
    """
    job = _find(job_id, jobs)
    if job is None:
        return JobState(job_id, base.GONE, "unknown to PBS")
    letter, holds = job.get("job_state", ""), job.get("Hold_Types", "n")
    reason = job.get("comment", "") or (f"held ({holds})" if letter == "H" else "")
    if letter in ("F", "X"):
        success, ending = _end(job_id, job, jobs)
        # Not by its substate, which is 92 both after success and for a job whose dependency failed.
        started, began = "stime" in job, _moment(job.get("stime", ""))
        return JobState(job_id, base.ENDED, ending, reason, success, started=started, began=began)
    if letter in _RUNNING:
        return JobState(job_id, base.RUNNING, letter, reason)
    if letter not in _WAITING:
        raise Refused("unknown-state", f"PBS job {job_id} has the state {letter!r}", f"see: qstat -f -x {job_id}")
    phase = base.HELD if letter == "H" and "u" in holds else base.WAITING
    raw_state = f"H {holds}" if letter == "H" else letter
    # Not by its substate, which stays 22 when the dependency of a job with a hold of its own is met.
    return JobState(job_id, phase, raw_state, reason, satisfied="s" not in holds)


def _find(job_id: str, jobs: Mapping[str, Mapping[str, str]]) -> Mapping[str, str] | None:
    return jobs.get(job_id) or next((each for known, each in jobs.items() if _same(known, job_id)), None)


def _end(job_id: str, job: Mapping[str, str], jobs: Mapping[str, Mapping[str, str]]) -> tuple[bool | None, str]:
    """Whether a job that has ended succeeded, and how it ended. Of an array, by its elements among the jobs."""
    if not is_array(job_id):
        return _succeeded(job), _exit(job)
    top = job_id.split("[")[0]
    elements = {known: each for known, each in jobs.items() if "[]" not in known and known.split("[")[0] == top}
    bad = [f"{element} {_exit(each)}" for element, each in elements.items() if not _succeeded(each)]
    if bad:
        shown = ", ".join(bad[:5]) + (", ..." if len(bad) > 5 else "")
        return False, f"{len(bad)} of {len(elements)} array elements: {shown}"
    return True if elements else None, _exit(job)


def _exit(job: Mapping[str, str]) -> str:
    if "Exit_status" not in job:
        return "deleted before it ran" if "stime" not in job else "deleted"
    code = int(job["Exit_status"])
    if code == -29:
        return "killed at its walltime"
    return f"exit {code}" + (f" (signal {code - 256})" if code > 256 else "")


def _succeeded(job: Mapping[str, str]) -> bool:
    # No Exit_status: deleted while it waited, which is not a success.
    return job.get("Exit_status") == "0"


def is_array(job_id: str) -> bool:
    return "[]" in job_id


def _same(known: str, asked: str) -> bool:
    """Whether two ids are of one job: the server's name may be shortened in one of them."""
    number, _, server = known.partition(".")
    asked_number, _, asked_server = asked.partition(".")
    return number == asked_number and (server.split(".")[0] == asked_server.split(".")[0] or not asked_server)


def about_of(job_id: str, job: Mapping[str, str]) -> JobInfo:
    # A comma in a value has a backslash before it.
    pairs = re.split(r"(?<!\\),", job.get("Variable_List", ""))
    variables = dict(pair.replace("\\,", ",").split("=", 1) for pair in pairs if "=" in pair)
    user = job.get("Job_Owner", "").split("@")[0]
    workdir = variables.get("PBS_O_WORKDIR", "")
    account, queue, array = job.get("Account_Name") or None, job.get("queue"), is_array(job_id)
    elements = _count(job.get("array_indices_submitted", "")) if array else None
    return JobInfo(job_id, job.get("Job_Name", ""), user, workdir, array, account, queue, elements)


def _count(indices: str) -> int | None:
    """How many elements `1-9:2` names."""
    match = re.fullmatch(r"(\d+)-(\d+)(?::(\d+))?", indices)
    return None if match is None else len(range(int(match[1]), int(match[2]) + 1, int(match[3] or 1)))


def seconds_of(text: str) -> float | None:
    """PBS's durations: seconds, M:S, H:M:S (qsub(1B)). None for anything else."""
    total = 0
    for part in text.strip().split(":"):
        if not part.isdigit():
            return None
        total = total * 60 + int(part)
    return float(total)


class Pbs(Scheduler):
    """PBS. What acts runs one program each."""

    name = "pbs"
    title = "PBS"
    prefix = "#PBS"
    variables: ClassVar[Mapping[str, str]] = {
        "id": "PBS_JOBID",
        "name": "PBS_JOBNAME",
        "user": "PBS_O_LOGNAME",
        "workdir": "PBS_O_WORKDIR",
        "array": "PBS_ARRAY_ID",
        "task": "PBS_ARRAY_INDEX",
    }
    unreachable = re.compile(r"(?i)cannot connect to server|connection refused|timed out|no route to host|errno=15010")
    settings = ("PBS_CONF_FILE", "PBS_EXEC", "PBS_SERVER")
    queue_keys = ("stage-queue", "stage-partition")
    tells_of_deletion = False
    shows_environment = True  # qstat -f
    remembers_elements = True
    dependencies = (base.AFTER_SUCCESS, base.AFTER_FAILURE, base.AFTER_EITHER)

    def compute_command(self, script: Path, arguments: Sequence[str], *, hold: bool) -> tuple[str, ...]:
        return ("qsub", *(("-h",) if hold else ()), *arguments, str(script))

    def stage_command(self, job: StageJob) -> tuple[str, ...]:
        seconds = math.ceil(job.seconds)
        walltime = f"{seconds // 3600:02}:{seconds % 3600 // 60:02}:{seconds % 60:02}"
        begin = time.strftime("%Y%m%d%H%M.%S", time.localtime(time.time() + job.delay + 1))
        return (
            # It writes its own log: `-o` takes no path with spaces. Without `-m n` the user gets mail when the one of two
            # followers that is not needed is deleted.
            *("qsub", "-N", job.name, "-j", "oe", "-o", "/dev/null", "-m", "n"),
            *("-l", "select=1:ncpus=1", "-l", f"walltime={walltime}"),
            *(() if job.partition is None else ("-q", job.partition)),
            *(() if job.account is None else ("-A", job.account)),
            *(() if job.after is None else ("-W", f"depend={base.DEPENDENCY[job.after[1]]}:{job.after[0]}")),
            *(("-h",) if job.witness else ()),
            *(("-a", begin) if job.delay > 0 and not job.witness else ()),
            str(job.script),
        )

    def unfit(self, words: Sequence[str]) -> tuple[int, str] | None:
        for at, word in enumerate(words):
            if word.startswith("-W"):
                value = word[2:] or (words[at + 1] if at + 1 < len(words) else "")
                if re.search(r"(^|[\s,'\"])block=(true|t|y|1)\b", value, re.IGNORECASE):
                    return at, "-W block=true"
            elif word in ("-I", "-X", "-z"):
                return at, word
        return None

    def asks_for_hold(self, words: Sequence[str]) -> bool:
        return "-h" in words

    def elements_report(self, words: Sequence[str]) -> bool:
        """Without job history PBS cannot tell how an array went: its Exit_status is that of the element that ended last.
        What `-S` names may be no shell, which would have to run the note."""
        options = {word[:2] for word in words}
        return "-J" in options and "-S" not in options

    def element_of(self, job_id: str, element: str) -> bool:
        return "[" in element and element.partition("[")[0] == job_id.partition("[")[0]

    def walltime(self, words: Sequence[str]) -> float | None:
        limits = (re.search(r"(?:^|,)walltime=([\d:]+)", value) for value in base.values_of(words, "-l"))
        return base.last_known(None if limit is None else seconds_of(limit[1]) for limit in limits)

    def outcomes(self, info: JobInfo) -> tuple[str, ...]:
        """Of an array PBS does not tell (afterok runs although an element failed): there is one follower, which asks for the
        elements."""
        return (base.AFTER_EITHER,) if info.array else (base.AFTER_SUCCESS, base.AFTER_FAILURE)

    def seconds_left(self, job: CurrentJob, elapsed: float) -> float | None:
        # PBS gives a job a PATH without its own commands, and beside it the one that qsub had.
        path = os.pathsep.join(filter(None, (os.environ.get("PATH"), os.environ.get("PBS_O_PATH"))))
        done = base.ran(("qstat", "-f", job.id), env={"PATH": path})
        limit = re.search(r"^ *Resource_List\.walltime = (\S+)", done.stdout, re.MULTILINE)
        seconds = None if limit is None else seconds_of(limit[1])
        return None if seconds is None else seconds - elapsed

    def ping(self) -> Completed:
        return base.ran(("qstat",))

    def submit(self, command: tuple[str, ...], cwd: str | None = None) -> str:
        done = base.ran(command, cwd)
        if done.code != 0:
            raise self.refused(done, "qsub refused the job")
        job_id = done.stdout.strip().splitlines()[-1].strip() if done.stdout.strip() else ""
        if not job_id[:1].isdigit() or " " in job_id:
            raise self.refused(done, "qsub printed no job id", "look for the job: qstat -u $USER")
        return job_id

    def about(self, job_id: str) -> JobInfo | None:
        job = _find(job_id, self._jobs([job_id]))
        return None if job is None else about_of(job_id, job)

    def states(self, job_ids: Iterable[str]) -> dict[str, JobState]:
        wanted = list(job_ids)
        jobs = self._jobs(wanted) if wanted else {}
        return {job_id: state_of(job_id, jobs) for job_id in wanted}

    def release(self, job_id: str) -> None:
        done = base.ran(("qrls", "-h", "u", job_id))
        if done.code != 0 and self.states([job_id])[job_id].phase == base.HELD:
            raise self.refused(done, f"job {job_id} cannot be released", f"qrls -h u {job_id}")

    def cancel(self, job_ids: Iterable[str]) -> None:
        for job_id in job_ids:
            # One at a time: the server of v23.06.06 dies of a list in which one job is over and forgotten.
            done = base.ran(("qdel", job_id))
            if done.code != 0 and self.states([job_id])[job_id].phase in (base.HELD, base.WAITING):
                raise self.refused(done, f"job {job_id} cannot be deleted", f"qdel {job_id}")

    def find(self, directory: Path) -> dict[str, str]:
        done = base.ran(("qselect", "-u", getpass.getuser()))
        if done.code != 0:
            raise self.silent(done)
        found = {}
        for job_id, job in self._jobs(done.stdout.split()).items():
            submitted = job.get("Submit_arguments", "")
            at = submitted.find(f"{directory}/")
            if at >= 0:
                found[job_id] = submitted[at:].strip().rstrip("'\"")
        return found

    def _jobs(self, job_ids: Sequence[str]) -> dict[str, dict[str, str]]:
        """What PBS says of these jobs. One that is not in the answer is unknown to it, by its own words: to say nothing of a
        job is no answer.

        Without job history, which is the default, `-x` shows no job at all, not even one that runs: so without it first.
        """
        elements = ("-t",) if any(is_array(job_id) for job_id in job_ids) else ()
        found: dict[str, dict[str, str]] = {}
        left = list(job_ids)
        for history in ((), ("-x",)):
            if not left:
                break
            done = base.ran(("qstat", *elements, *history, "-f", "-w", *left))
            if done.code not in (0, _UNKNOWN, _FINISHED):
                raise self.silent(done)
            found |= jobs_in(done.stdout)
            unknown = re.findall(r"Unknown Job Id (\S+)", done.stderr)
            left = [
                job_id
                for job_id in left
                if _find(job_id, found) is None and not any(_same(each, job_id) for each in unknown)
            ]
        if left:
            raise _unreadable(f"PBS reported nothing about job {left[0]}", done.stdout + done.stderr)
        return found


SCHEDULER = Pbs()
