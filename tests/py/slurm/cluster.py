"""A cluster as the scenarios of test_staging_scenarios.py see it: the real Slurm of node.py, or the PBS double."""

from __future__ import annotations

import json
import os
import subprocess
import time
from pathlib import Path
from typing import Any, Protocol

import support
from slurm.node import SlurmNode

DOUBLE = support.REPOSITORY / "tests" / "doubles" / "pbs"


class Cluster(Protocol):
    """Commands of a scheduler, as a user types them. `env` is what they need; `header` begins a directive."""

    kind: str
    env: dict[str, str]
    header: str
    job_variable: str
    index_variable: str

    def queue(self) -> list[str]: ...

    def ending(self, job_id: str) -> str: ...

    def running(self, job_id: str) -> bool: ...

    def cancel(self, *job_ids: str) -> None: ...

    def requeue(self, job_id: str) -> None: ...

    def jobs_of(self, chain_id: str) -> dict[str, str]: ...


class SlurmCluster:
    kind = "slurm"
    header = "#SBATCH"
    job_variable = "SLURM_JOB_ID"
    index_variable = "SLURM_ARRAY_TASK_ID"

    def __init__(self, node: SlurmNode) -> None:
        self.node = node
        self.env = dict(node.env)

    def queue(self) -> list[str]:
        return self.node.queue()

    def ending(self, job_id: str) -> str:
        """`COMPLETED 0:0` once the job is over, else an empty text."""
        job = self.node.job(job_id)
        state = job.get("JobState", "GONE")
        return "" if state in ("PENDING", "RUNNING", "COMPLETING", "CONFIGURING") else f"{state} {job.get('ExitCode')}"

    def running(self, job_id: str) -> bool:
        return self.node.job(job_id).get("JobState") == "RUNNING"

    def cancel(self, *job_ids: str) -> None:
        self.node.run(["scancel", *job_ids])

    def requeue(self, job_id: str) -> None:
        self.node.run(["scontrol", "requeue", job_id])
        # Slurm lets a requeued job wait for about two minutes; an operator can bring it forward.
        until(lambda: self.node.job(job_id).get("JobState") == "PENDING", "the requeued job")
        time.sleep(3)  # the node is still clearing up after the first run
        self.node.run(["scontrol", "update", f"JobId={job_id}", "StartTime=now"])

    def jobs_of(self, chain_id: str) -> dict[str, str]:
        """Name of a job -> its id, of those that are known and belong to the chain."""
        lines = self.node.run(["squeue", "-h", "-t", "all", "-o", "%A|%j"]).stdout.splitlines()
        pairs = (line.split("|", 1) for line in lines)
        return {name: job_id for job_id, name in pairs if name.endswith(chain_id)}


class PbsCluster:
    kind = "pbs"
    header = "#PBS"
    job_variable = "PBS_JOBID"
    index_variable = "PBS_ARRAY_INDEX"

    def __init__(self, base: Path, history: bool = True) -> None:
        base.mkdir(parents=True, exist_ok=True)
        conf = base / "pbs.conf"
        conf.write_text(f"PBS_HOME={base}/pbs\nHISTORY={int(history)}\n")
        self.home = base / "pbs"
        self.env = {"PBS_CONF_FILE": str(conf), "PATH": f"{DOUBLE}:{os.environ['PATH']}"}

    def run(self, *argv: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(argv, env={**os.environ, **self.env}, capture_output=True, text=True, timeout=60)

    def jobs(self) -> dict[str, dict[str, Any]]:
        """What the server itself knows, history or not."""
        path = self.home / "jobs.json"
        return json.loads(path.read_text()) if path.exists() else {}

    def queue(self) -> list[str]:
        return [f"{job_id} {job['Job_Name']}" for job_id, job in self.jobs().items() if job["job_state"] != "F"]

    def ending(self, job_id: str) -> str:
        job = self.jobs()[job_id]
        return f"F {job.get('Exit_status', 'none')}" if job["job_state"] == "F" else ""

    def running(self, job_id: str) -> bool:
        job = self.jobs()[job_id]
        return job["job_state"] in ("R", "B") and bool(job.get("pids"))

    def cancel(self, *job_ids: str) -> None:
        self.run("qdel", *job_ids)

    def requeue(self, job_id: str) -> None:
        self.run("qrerun", job_id)

    def jobs_of(self, chain_id: str) -> dict[str, str]:
        return {job["Job_Name"]: job_id for job_id, job in self.jobs().items() if job["Job_Name"].endswith(chain_id)}


def until(condition: Any, what: str, seconds: float = 240, pause: float = 0.2) -> Any:
    """What the condition returns once it is true. An AssertionError with `what` after `seconds`, which are there for what hangs:
    a busy machine is no failure."""
    deadline = time.monotonic() + seconds
    while True:
        found = condition()
        if found:
            return found
        assert time.monotonic() < deadline, f"not within {seconds} s: {what() if callable(what) else what}"
        time.sleep(pause)
