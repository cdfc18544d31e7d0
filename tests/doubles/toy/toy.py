"""The batch system of `toyq`: what a new scheduler takes. It becomes globuswrap/schedulers/toy.py in the copy that is tested."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from globuswrap.schedulers import base
from globuswrap.schedulers.base import CurrentJob, JobInfo, JobState, Scheduler, StageJob
from globuswrap.system.process import Completed

_PHASES = {"held": base.HELD, "waiting": base.WAITING, "running": base.RUNNING, "ended": base.ENDED}


class Toy(Scheduler):
    """One program, `toyq`, does everything."""

    name = "toy"
    title = "Toy"
    prefix = "#TOY"
    variables: ClassVar[Mapping[str, str]] = {"id": "TOYQ_JOB"}
    unreachable = re.compile("cannot open the queue")
    settings = ("TOYQ",)
    tells_of_deletion = True
    shows_environment = False

    def compute_command(self, script: Path, arguments: Sequence[str], *, hold: bool) -> tuple[str, ...]:
        return ("toyq", "submit", *(("--hold",) if hold else ()), *arguments, str(script))

    def stage_command(self, job: StageJob) -> tuple[str, ...]:
        wanted = {base.AFTER_SUCCESS: "ok", base.AFTER_FAILURE: "failed"}
        after = () if job.after is None else ("--after", f"{wanted[job.after[1]]}:{job.after[0]}")
        delay = 10 * 365 * 86400.0 if job.witness else job.delay
        return ("toyq", "submit", *after, "--delay", str(delay), str(job.script))

    def asks_for_hold(self, words: Sequence[str]) -> bool:
        return "--hold" in words

    def walltime(self, words: Sequence[str]) -> float | None:
        return None

    def outcomes(self, info: JobInfo) -> tuple[str, ...]:
        return self.dependencies

    def seconds_left(self, job: CurrentJob, elapsed: float) -> float | None:
        return None

    def ping(self) -> Completed:
        return base.ran(("toyq", "list"))

    def submit(self, command: tuple[str, ...], cwd: str | None = None) -> str:
        done = base.ran(command, cwd)
        if done.code != 0:
            raise self.refused(done, "toyq refused the job")
        return done.stdout.strip()

    def about(self, job_id: str) -> JobInfo | None:
        job = self._jobs().get(job_id)
        return (
            None if job is None else JobInfo(job_id, Path(job["script"]).name, os.environ.get("USER", ""), os.getcwd())
        )

    def states(self, job_ids: Iterable[str]) -> dict[str, JobState]:
        known = self._jobs()
        return {job_id: self._state(job_id, known.get(job_id)) for job_id in job_ids}

    def _state(self, job_id: str, job: Mapping[str, Any] | None) -> JobState:
        if job is None:
            return JobState(job_id, base.GONE, "unknown to Toy")
        over = job["state"] == "ended"
        return JobState(
            job_id,
            _PHASES[job["state"]],
            f"{job['state']} {job['code'] or ''}".strip(),
            success=job["code"] == "0" if over else None,
            satisfied=not job["waits"],
            started=job["started"] if over else None,
        )

    def release(self, job_id: str) -> None:
        base.ran(("toyq", "release", job_id))

    def cancel(self, job_ids: Iterable[str]) -> None:
        listed = list(job_ids)
        if listed:
            base.ran(("toyq", "kill", *listed))

    def find(self, directory: Path) -> dict[str, str]:
        jobs = self._jobs().items()
        return {
            key: job["script"] for key, job in jobs if job["script"].startswith(f"{directory}/") and job["code"] is None
        }

    def _jobs(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(base.ran(("toyq", "list")).stdout)
        return found


SCHEDULER = Toy()
