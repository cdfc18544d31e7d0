"""What globuswrap needs to know of a batch system. Builders and parsers are pure; the rest runs one program each."""

from __future__ import annotations

import abc
import re
import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from globuswrap.errors import Refused, TryLater
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
#: As both Slurm and PBS call them.
DEPENDENCY = {AFTER_SUCCESS: "afterok", AFTER_FAILURE: "afternotok", AFTER_EITHER: "afterany"}


@dataclass(frozen=True)
class JobState:
    """What the scheduler says of a job. `success` is None unless it ended and the scheduler said how; `raw_state` is in its own
    words.

    `satisfied`: of a job with a dependency, that the dependency has been met (the job itself may wait for its begin time).
    `started`: of a job that ended, whether it ever ran; None if the scheduler does not say. `began`: when, in seconds since the
    epoch; None if it did not, or that is not said.
    """

    id: str
    phase: str
    raw_state: str = ""
    reason: str = ""
    success: bool | None = None
    satisfied: bool = False
    started: bool | None = None
    began: float | None = None

    @property
    def alive(self) -> bool:
        return self.phase in (HELD, WAITING, RUNNING)


@dataclass(frozen=True)
class JobInfo:
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


@dataclass(frozen=True)
class CurrentJob:
    """The batch job that a process runs in, by its environment. `array` and `task`: of an element of an array."""

    id: str
    name: str | None = None
    user: str | None = None
    workdir: str | None = None
    array: str | None = None
    task: str | None = None
    cluster: str = ""

    @property
    def whole(self) -> str:
        """The id of the job, or of the array that this is an element of."""
        return self.array or self.id


class JobSystem(abc.ABC):
    """What runs the job of a chain: a batch system, or this machine."""

    #: What the environment says of the job that a process runs in: field of CurrentJob, at least `id` -> variable.
    variables: ClassVar[Mapping[str, str]]
    #: Whether a job that follows another one starts when that one is deleted before it ran.
    tells_of_deletion: ClassVar[bool]
    #: Whether the state of an array counts those of its elements that are over.
    remembers_elements: ClassVar[bool] = False

    @abc.abstractmethod
    def compute_command(self, script: Path, arguments: Sequence[str], *, hold: bool) -> tuple[str, ...]:
        """Submits the user's script: nothing of theirs is replaced, only the hold is added. Pure."""

    @classmethod
    def current_job(cls, environ: Mapping[str, str]) -> CurrentJob | None:
        """The job of this system that the process runs in; None outside of one. Pure."""
        found = {field: environ[name] for field, name in cls.variables.items() if environ.get(name)}
        return CurrentJob(**found) if "id" in found else None

    def element_of(self, job_id: str, element: str) -> bool:
        """Whether the id is that of an element of this array. Pure."""
        return False

    @abc.abstractmethod
    def submit(self, command: tuple[str, ...], cwd: str | None = None) -> str:
        """Submit, and return the job's id. Raises Refused with the scheduler's reason, TryLater if it does not answer."""

    @abc.abstractmethod
    def about(self, job_id: str) -> JobInfo | None:
        """What the chain must know of a job; None if the scheduler does not know it."""

    @abc.abstractmethod
    def states(self, job_ids: Iterable[str]) -> dict[str, JobState]:
        """The state of each job. TryLater if the scheduler does not answer; a job it does not know is GONE."""

    @abc.abstractmethod
    def release(self, job_id: str) -> None:
        """Release the user's hold; of a job that is not held (any more) this is success."""

    @abc.abstractmethod
    def cancel(self, job_ids: Iterable[str]) -> None:
        """Cancel jobs; no error for those that are over or unknown."""

    @abc.abstractmethod
    def find(self, directory: Path) -> dict[str, str]:
        """Unfinished jobs of this user whose script lies below the directory: id -> script."""


class Scheduler(JobSystem):
    """A batch system: facts as attributes, what differs as methods. `words` are options as in a command line."""

    name: ClassVar[str]
    title: ClassVar[str]
    #: Begins a script's own lines of options.
    prefix: ClassVar[str]
    #: In what its commands say when the server does not answer.
    unreachable: ClassVar[re.Pattern[str]]
    #: Variables that its commands read.
    settings: ClassVar[tuple[str, ...]] = ()
    #: Keys of [staging] that name the queue of stage jobs; the first that is set counts.
    queue_keys: ClassVar[tuple[str, str]] = ("stage-partition", "stage-queue")
    #: Whether anyone can list a job's environment.
    shows_environment: ClassVar[bool]
    #: The dependencies that jobs of a chain may use; `outcomes` says which of them one does.
    dependencies: ClassVar[tuple[str, ...]] = (AFTER_SUCCESS, AFTER_FAILURE)

    # --- commands and scripts; pure ---

    @abc.abstractmethod
    def stage_command(self, job: StageJob) -> tuple[str, ...]:
        """Submits a job of the chain's own."""

    def unfit(self, words: Sequence[str]) -> tuple[int, str] | None:
        """The first option with which the job's id is not known at once, or never: its index, and what it is."""
        return None

    def accepted(self, words: Sequence[str]) -> tuple[str, ...]:
        """The user's arguments, without those that `compute_command` gives itself."""
        return tuple(words)

    @abc.abstractmethod
    def asks_for_hold(self, words: Sequence[str]) -> bool:
        """Whether the user asks for a hold themself: then it is theirs to release."""

    def elements_report(self, words: Sequence[str]) -> bool:
        """Whether this is an array whose elements have to note how they end, since the scheduler does not keep it."""
        return False

    @abc.abstractmethod
    def walltime(self, words: Sequence[str]) -> float | None:
        """The walltime in seconds that these options ask for; the last one counts. None if none does."""

    @abc.abstractmethod
    def outcomes(self, info: JobInfo) -> tuple[str, ...]:
        """The dependencies by which the scheduler itself tells how the job ended."""

    # --- what asks ---

    @abc.abstractmethod
    def seconds_left(self, job: CurrentJob, elapsed: float) -> float | None:
        """The time that a job which began `elapsed` seconds ago has left; None if the scheduler does not say."""

    @abc.abstractmethod
    def ping(self) -> Completed:
        """Ask whether the scheduler answers: exit code 0 if it does."""

    def expected_start(self, script: str, words: Sequence[str], cwd: str) -> float | None:
        """When the job would start (seconds since the epoch); None if that cannot be asked. Raises Refused if the scheduler
        would not take it."""
        return None

    def refused(
        self, done: Completed, what: str, remedy: str = "fix the reported problem, then submit again"
    ) -> TryLater | Refused:
        """The problem of a command that failed."""
        told = done.stderr + done.stdout
        if done.code != 0 and self.unreachable.search(told):
            return self.silent(done)
        return Refused("scheduler-refused", f"{what}: {last_line(done)}", remedy, ran=done.argv, detail=told.strip())

    def silent(self, done: Completed) -> TryLater:
        """The problem of a server that does not answer."""
        told = (done.stderr or done.stdout).strip()
        cause = f"{self.title} does not answer"
        return TryLater("scheduler-unreachable", cause, "rerun later", ran=done.argv, detail=told)


def values_of(words: Sequence[str], *names: str) -> Iterator[str]:
    """The values of an option in their order: of `-t` also in `-t5`, of `--time` also in `--time=5`."""
    for word, following in zip(words, [*words[1:], ""], strict=False):
        for name in names:
            joined = f"{name}=" if name.startswith("--") else name
            if word == name:
                yield following
            elif word.startswith(joined):
                yield word.removeprefix(joined)


def last_known(values: Iterable[float | None]) -> float | None:
    """Of an option that is given several times the last value counts, as far as it can be read."""
    return next((value for value in reversed(list(values)) if value is not None), None)


def option_words(text: str, prefix: str) -> list[str]:
    """The options on a script's own lines, as words; a line that a shell could not split counts by its spaces."""
    words: list[str] = []
    for _, line in header(text, prefix):
        try:
            words += shlex.split(line, comments=True)
        except ValueError:
            words += line.split()
    return words


def header(text: str, prefix: str) -> Iterator[tuple[int, str]]:
    """What follows the prefix on the lines before the first command, with the number of each line."""
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip() and not line.startswith("#"):
            return
        if line.startswith(prefix):
            yield number, line.removeprefix(prefix)


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


def last_line(done: Completed) -> str:
    """What a command said last."""
    # qsub says what is wrong, and then how it is used.
    text = (done.stderr or done.stdout).partition("\nusage: ")[0]
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else f"exit {done.code}"
