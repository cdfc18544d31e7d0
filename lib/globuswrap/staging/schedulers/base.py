"""What a chain needs of a scheduler, and what it is told. Builders and parsers are pure; the rest runs one program each."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from globuswrap.errors import Refused
from globuswrap.system import process
from globuswrap.system.process import Completed

HELD = "held"  # by a user's hold
WAITING = "waiting"
RUNNING = "running"
ENDED = "ended"
GONE = "gone"  # the scheduler does not know it: never a success

#: Dependencies of the two jobs that follow a compute job.
AFTER_SUCCESS = "success"
AFTER_FAILURE = "failure"
AFTER_EITHER = "either"


@dataclass(frozen=True)
class JobState:
    """What the scheduler says of a job. `success` is None unless it ended and the scheduler said how; `words` are its own.

    `satisfied`: of a job with a dependency, that the dependency has been met (the job itself may wait for its begin time).
    `started`: of a job that ended, whether it ever ran; None if the scheduler does not say.
    """

    id: str
    phase: str
    words: str = ""
    reason: str = ""
    success: bool | None = None
    satisfied: bool = False
    started: bool | None = None
    fields: Mapping[str, str] = field(default_factory=dict)

    @property
    def alive(self) -> bool:
        return self.phase in (HELD, WAITING, RUNNING)


@dataclass(frozen=True)
class About:
    """What the chain must know of a compute job that was submitted: for symbols, and for the jobs around it. `elements`: of
    an array, how many there are, if the scheduler says so."""

    id: str
    name: str
    user: str
    workdir: str
    array: bool = False
    account: str | None = None
    partition: str | None = None
    elements: int | None = None

    def symbols(self) -> dict[str, str]:
        values = {"j": self.id, "u": self.user, "x": self.name, "d": self.workdir}
        return {**values, "A": self.id} if self.array else values


@dataclass(frozen=True)
class StageJob:
    """A short job that advances a chain. `after` is the compute job and the outcome it waits for; `delay` seconds."""

    script: Path
    name: str
    seconds: float
    partition: str | None = None
    account: str | None = None
    after: tuple[str, str] | None = None
    delay: float = 0.0
    witness: bool = False


class Scheduler(Protocol):
    """Slurm, PBS, or this machine.

    `tells_of_deletion`: whether a follower of a job starts when the job is deleted before it ran.
    """

    name: str
    tells_of_deletion: bool

    def compute_command(self, script: Path, arguments: Sequence[str], *, hold: bool) -> tuple[str, ...]: ...

    def stage_command(self, job: StageJob) -> tuple[str, ...]: ...

    def submit(self, command: tuple[str, ...], cwd: str | None = None) -> str: ...

    def about(self, job_id: str) -> About: ...

    def states(self, job_ids: Iterable[str]) -> dict[str, JobState]: ...

    def release(self, job_id: str) -> None: ...

    def cancel(self, job_ids: Iterable[str]) -> None: ...

    def outcomes(self, about: About) -> tuple[str, ...]: ...

    def find(self, directory: Path) -> dict[str, str]: ...

    def own_job(self) -> str | None: ...


def ran(argv: Sequence[str], cwd: str | None = None, env: Mapping[str, str | None] | None = None) -> Completed:
    """Run a scheduler's command. Raises Refused when it cannot be run at all, or does not answer within two minutes."""
    try:
        return process.run(tuple(argv), cwd=cwd, env=env, timeout=120)
    except process.ProgramMissing as problem:
        raise Refused(
            "no-scheduler",
            problem.cause,
            "submit where the scheduler's commands are, or name --scheduler",
            ran=problem.ran,
        ) from None


def refused(done: Completed, what: str, remedy: str) -> Refused:
    """The problem of a scheduler's command that failed."""
    # qsub says what is wrong, and then how it is used.
    text = (done.stderr or done.stdout).partition("\nusage: ")[0]
    told = [line.strip() for line in text.splitlines() if line.strip()]
    return Refused(
        "scheduler-refused",
        f"{what}: {told[-1] if told else f'exit {done.code}'}",
        remedy,
        ran=done.argv,
        detail=(done.stderr + done.stdout).strip(),
    )
