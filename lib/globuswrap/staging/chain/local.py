"""Use this machine as a scheduler: one job, run here once it is released. For a laptop, a rehearsal and `make demo`."""

from __future__ import annotations

import getpass
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import ClassVar

from globuswrap.schedulers import base
from globuswrap.schedulers.base import JobInfo, JobState, JobSystem
from globuswrap.staging.chain.record import Chain
from globuswrap.system import log, process

#: The shell outlives a killed globuswrap and still writes down how the job ended. The job has its user's umask.
_RUN = '(umask 077; printf "%s\\n" "$$" >"$1/local.pid"); "$2"; code=$?; umask 077; ' \
    'printf "%s\\n" "$code" >"$1/local.tmp"; mv -f "$1/local.tmp" "$1/local.code"; exit "$code"'  # fmt: skip


class Local(JobSystem):
    """Runs the job of one chain. Its hold is that it has not been started."""

    tells_of_deletion = True
    variables: ClassVar[Mapping[str, str]] = {"id": "GLOBUSWRAP_JOB_ID"}

    def __init__(self, chain: Chain, payload: Path) -> None:
        self.chain = chain
        self.payload = payload

    @property
    def output(self) -> Path:
        """Where the job's output goes: beside where it was submitted, as with a batch system."""
        return Path(self.chain.plan.cwd) / f"{self.chain.script.name}-{self.chain.id}.out"

    def compute_command(self, script: Path, arguments: Sequence[str], *, hold: bool) -> tuple[str, ...]:
        return (str(script),)

    def submit(self, command: tuple[str, ...], cwd: str | None = None) -> str:
        return f"local-{self.chain.id}"

    def about(self, job_id: str) -> JobInfo:
        return JobInfo(job_id, self.chain.script.name, getpass.getuser(), self.chain.plan.cwd)

    def states(self, job_ids: Iterable[str]) -> dict[str, JobState]:
        return {job_id: self._state(job_id) for job_id in job_ids}

    def release(self, job_id: str) -> None:
        """Run the job, to its end; does nothing if it was started before."""
        _, mine = self.chain.add("local.started")
        if not mine:
            return
        log.say(f"{self.chain.id}: the job runs; its output goes to {self.output}")
        with self.output.open("ab") as output:
            process.run(
                ("/bin/sh", "-c", f"exec 2>&1; {_RUN}", "sh", str(self.chain.facts_directory), str(self.payload)),
                cwd=self.chain.plan.cwd,
                env={self.variables["id"]: job_id},
                stdout=output,
            )

    def cancel(self, job_ids: Iterable[str]) -> None:
        pid = self._number("local.pid") if list(job_ids) else None
        if pid is not None and self._number("local.code") is None and process.exists(pid):
            process.run(("pkill", "-TERM", "-P", str(pid)))

    def find(self, directory: Path) -> dict[str, str]:
        return {}

    def _state(self, job_id: str) -> JobState:
        started = self.chain.fact("local.started")
        if started is None:
            return JobState(job_id, base.HELD, "not started")
        code = self._number("local.code")
        if code is not None:
            return JobState(job_id, base.ENDED, f"exit {code}", success=code == 0)
        pid = self._number("local.pid")
        if process.exists(pid) if pid is not None else time.time() - float(started["at"]) < 5:
            return JobState(job_id, base.RUNNING, f"process {pid}")
        return JobState(job_id, base.ENDED, "it vanished", success=False)

    def _number(self, name: str) -> int | None:
        try:
            return int((self.chain.facts_directory / name).read_text())
        except (FileNotFoundError, ValueError):
            return None
