"""A cluster as the scenarios of test_staging_scenarios.py see it: the real Slurm of node.py, or the PBS double."""

from __future__ import annotations

import os
import subprocess
import sys
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
    """PBS by its commands, the double's or those of a real one. `release` is the behaviour of the double: "head" or "23".

    On a real one, many tests share the server: jobs are told by the directory they were submitted in, `base`.
    """

    kind = "pbs"
    header = "#PBS"
    job_variable = "PBS_JOBID"
    index_variable = "PBS_ARRAY_INDEX"

    def __init__(self, base: Path, history: bool = True, release: str = "head") -> None:
        self.base, self.history, self.release = base, history, release
        server = base / "pbs server"
        server.mkdir(parents=True, exist_ok=True)
        self.conf = server / "pbs.conf"
        self.conf.write_text(f"PBS_HOME={server}/pbs\nHISTORY={int(history)}\nRELEASE={release}\n")
        if not (server / "python3").exists():
            (server / "python3").symlink_to(os.path.realpath(sys.executable))
        self.env = {"PBS_CONF_FILE": str(self.conf), "PATH": f"{DOUBLE}:{os.environ['PATH']}"}

    def run(self, *argv: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(argv, env={**os.environ, **self.env}, capture_output=True, text=True, timeout=300)

    def jobs(self, *options: str) -> dict[str, dict[str, str]]:
        """The jobs of this test: id -> attributes."""
        jobs: dict[str, dict[str, str]] = {}
        for line in self.run("qstat", *options, "-f", "-w").stdout.splitlines():
            if line.startswith("Job Id: "):
                job = jobs.setdefault(line.removeprefix("Job Id: ").strip(), {})
            elif " = " in line:
                job.setdefault(*line.strip().split(" = ", 1))
        return {job_id: job for job_id, job in jobs.items() if str(self.base) in job.get("Variable_List", "")}

    def known(self) -> dict[str, dict[str, str]]:
        """Also those that are over, with history."""
        return self.jobs("-x") if self.history else self.jobs()

    def queue(self) -> list[str]:
        """`id state name` of everything that waits or runs."""
        return [f"{job_id} {job['job_state']} {job['Job_Name']}" for job_id, job in self.jobs().items()]

    def ending(self, job_id: str) -> str:
        """`F 0` once the job is over, else an empty text; without history `F ?`: nobody knows."""
        job = self.known().get(job_id)
        if job is None:
            return "F ?"
        return f"F {job.get('Exit_status', 'none')}" if job["job_state"] == "F" else ""

    def running(self, job_id: str) -> bool:
        return self.jobs().get(job_id, {}).get("job_state") in ("R", "B")

    def cancel(self, *job_ids: str) -> None:
        self.run("qdel", *job_ids)

    def requeue(self, job_id: str) -> None:
        """What an operator does; anyone else is refused."""
        assert self.run("qrerun", job_id).returncode == 159
        self.operator("qrerun", job_id)

    def operator(self, *argv: str) -> None:
        """Run a command as an operator; `server down`, `server up`, `mom kill` and `mom up` are commands too."""
        env = {**os.environ, **self.env, "PBS_OPERATOR": "1"}
        subprocess.run([sys.executable, str(DOUBLE / "pbs.py"), *argv], env=env, check=True, timeout=300)

    def jobs_of(self, chain_id: str) -> dict[str, str]:
        return {job["Job_Name"]: job_id for job_id, job in self.known().items() if job["Job_Name"].endswith(chain_id)}


class RealPbs(PbsCluster):
    """An OpenPBS that runs on this machine and belongs to the tests: its commands are on PATH, and $GLOBUSWRAP_TEST_PBS_OPERATOR
    runs a command as its operator (qrerun, `pbs down`, ...)."""

    def __init__(self, base: Path, history: bool, release: str) -> None:
        self.base, self.history, self.release = base, history, release
        self.env = {"PBS_CONF_FILE": os.environ["GLOBUSWRAP_TEST_PBS_CONF"], "PATH": os.environ["PATH"]}

    def operator(self, *argv: str) -> None:
        subprocess.run([os.environ["GLOBUSWRAP_TEST_PBS_OPERATOR"], *argv], check=True, timeout=240)


def until(condition: Any, what: str, seconds: float = 240, pause: float = 0.2) -> Any:
    """What the condition returns once it is true. An AssertionError with `what` after `seconds`, which are there for what hangs:
    a busy machine is no failure."""
    if os.environ.get("GLOBUSWRAP_TEST_PBS"):  # a real one, which many tests share
        seconds, pause = 2 * seconds, 5 * pause
    deadline = time.monotonic() + seconds
    while True:
        found = condition()
        if found:
            return found
        assert time.monotonic() < deadline, f"not within {seconds} s: {what() if callable(what) else what}"
        time.sleep(pause)
