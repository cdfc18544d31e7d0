"""A real one-node Slurm (slurmctld, slurmd, munged) in a directory of its own, on 127.0.0.1, for tests and benchmarks.

`with SlurmNode(directory) as slurm:` starts it in about a second; `slurm.env` is what a client needs. Only processes
started here are ended, by their recorded pids.
"""

from __future__ import annotations

import contextlib
import getpass
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path

PROGRAMS = ("slurmctld", "slurmd", "munged", "sbatch", "scontrol", "squeue", "scancel", "sinfo")

CONF = """\
ClusterName={cluster}
SlurmctldHost={host}(127.0.0.1)
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
AuthInfo=socket={short}/munge.socket
CredType=cred/munge
SlurmctldPort={ctld_port}
SlurmdPort={slurmd_port}
CommunicationParameters=NoInAddrAny,NoCtldInAddrAny
StateSaveLocation={base}/state
SlurmdSpoolDir={short}/spool
SlurmctldPidFile={base}/slurmctld.pid
SlurmdPidFile={base}/slurmd.pid
SlurmctldLogFile={base}/slurmctld.log
SlurmdLogFile={base}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
SwitchType=switch/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
JobCompType=jobcomp/filetxt
JobCompLoc={base}/jobcomp.log
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerParameters=batch_sched_delay=0,sched_interval=2,sched_min_interval=0,bf_interval=2
SlurmdParameters=config_overrides
ReturnToService=2
KillWait={kill_wait}
MinJobAge={min_job_age}
{extra}
NodeName={host} NodeAddr=127.0.0.1 CPUs={cpus}
PartitionName=debug Nodes=ALL Default=YES State=UP
PartitionName=stage Nodes=ALL State=UP
"""


def missing_programs() -> list[str]:
    """The programs of Slurm that this machine does not have."""
    path = os.environ.get("PATH", "") + ":/usr/sbin"
    return [program for program in PROGRAMS if shutil.which(program, path=path) is None]


def free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    try:
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
    finally:
        for each in sockets:
            each.close()


class SlurmNode:
    """One controller and one node. `env` has SLURM_CONF; `cpus` bounds how many one-core jobs run at once."""

    def __init__(
        self, base: Path, *, cpus: int = 16, kill_wait: int = 2, min_job_age: int = 300, extra: str = ""
    ) -> None:
        self.base = base
        self.conf = base / "slurm.conf"
        self.short: Path | None = None
        self.env = {"SLURM_CONF": str(self.conf)}
        self.settings = {"cpus": cpus, "kill_wait": kill_wait, "min_job_age": min_job_age, "extra": extra}
        self._munged: subprocess.Popen[bytes] | None = None
        self._controller: subprocess.Popen[bytes] | None = None
        self._node: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> SlurmNode:
        try:
            self.start()
        except BaseException:  # raised again: also after a signal, no daemon is left behind
            self.stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        (self.base / "state").mkdir(parents=True, exist_ok=True)
        # Sockets live here, and their paths may not be longer than 107 bytes.
        short = self.short = Path(tempfile.mkdtemp(prefix="slurm-"))
        (short / "spool").mkdir()
        short.chmod(0o755)
        self.base.chmod(0o755)
        ctld_port, slurmd_port = free_ports(2)
        self.conf.write_text(
            CONF.format(
                base=self.base,
                short=short,
                host=socket.gethostname().split(".")[0],
                user=getpass.getuser(),
                cluster=f"test{os.getpid()}",
                ctld_port=ctld_port,
                slurmd_port=slurmd_port,
                **self.settings,
            )
        )
        key = self.base / "munge.key"
        key.write_bytes(os.urandom(128))
        key.chmod(0o400)
        munge = [f"--{name}={self.base}/munge.{name}" for name in ("log-file", "pid-file", "seed-file")]
        munge.append(f"--socket={short}/munge.socket")
        self._munged = self._popen(
            ["munged", "--foreground", "--force", f"--key-file={key}", "--num-threads=1", *munge], "munged.out"
        )
        self._until(lambda: (short / "munge.socket").exists(), "munged's socket")
        self.start_controller()
        self._node = self._popen(["slurmd", "-D", "-f", str(self.conf)], "slurmd.out")
        self._until(lambda: self._sinfo() == "idle", "an idle node")

    def start_controller(self) -> None:
        self._controller = self._popen(["slurmctld", "-D", "-f", str(self.conf)], "slurmctld.out")

    def stop_controller(self) -> None:
        """End the controller; its state is on disk for the next one."""
        self._end(self._controller)
        self._controller = None

    def restart_controller(self) -> None:
        self.stop_controller()
        self.start_controller()
        self._until(lambda: self._sinfo() in ("idle", "mix", "alloc"), "the controller")

    def stop(self) -> None:
        # No controller to ask: the daemons are ended below all the same.
        with contextlib.suppress(OSError, subprocess.SubprocessError):
            jobs = self.run(["squeue", "-h", "-o", "%A"], check=False).stdout.split()
            if jobs:
                self.run(["scancel", "--signal=KILL", "--full", *jobs], check=False)
                self.run(["scancel", *jobs], check=False)
        for process in (self._node, self._controller, self._munged):
            self._end(process)
        self._node = self._controller = self._munged = None
        if self.short is not None:
            shutil.rmtree(self.short, ignore_errors=True)

    def run(self, argv: list[str], *, check: bool = True, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            argv, env={**os.environ, **self.env}, capture_output=True, text=True, check=check, timeout=300, cwd=cwd
        )

    def job(self, job_id: str) -> dict[str, str]:
        """The fields of `scontrol show job` that have no spaces, of the job or the array's first line; {} of an unknown one."""
        done = self.run(["scontrol", "show", "job", "-o", job_id], check=False)
        if done.returncode != 0:
            return {}
        line = done.stdout.splitlines()[0]
        return dict(word.split("=", 1) for word in line.split() if "=" in word)

    def queue(self) -> list[str]:
        """`id state reason name` of everything that waits or runs."""
        return self.run(["squeue", "-h", "-o", "%i %T %r %j"]).stdout.splitlines()

    def wait_state(self, job_id: str, *states: str, seconds: float = 240) -> dict[str, str]:
        self._until(lambda: self.job(job_id).get("JobState") in states, f"job {job_id} in {states}", seconds)
        return self.job(job_id)

    def _popen(self, argv: list[str], output: str) -> subprocess.Popen[bytes]:
        path = os.environ.get("PATH", "") + ":/usr/sbin"
        program = shutil.which(argv[0], path=path)
        assert program, argv[0]
        with (self.base / output).open("ab") as file:
            return subprocess.Popen(
                [program, *argv[1:]],
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=file,
                env={**os.environ, **self.env, "PATH": path},
                start_new_session=True,
            )

    def _sinfo(self) -> str:
        done = self.run(["sinfo", "-h", "-p", "debug", "-o", "%t"], check=False)
        return done.stdout.strip()

    def _until(self, condition: object, what: str, seconds: float = 240) -> None:
        assert callable(condition)
        deadline = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > deadline:
                logs = "\n".join(self._tail(path) for path in sorted(self.base.glob("*.log")))
                raise TimeoutError(f"no {what} within {seconds} s\n{self.queue_or_nothing()}\n{logs}")
            time.sleep(0.1)

    def queue_or_nothing(self) -> str:
        return self.run(["squeue", "-h"], check=False).stdout

    @staticmethod
    def _tail(path: Path) -> str:
        return f"== {path.name}\n" + "\n".join(path.read_text(errors="replace").splitlines()[-15:])

    @staticmethod
    def _end(process: subprocess.Popen[bytes] | None) -> None:
        if process is None or process.poll() is not None:
            return
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(240)
