"""A chain on disk, a plan that never changes and facts that are each written once; and in words, where it stands.

    chains/<id>/chain.json      the plan
    chains/<id>/script/...      the user's script as it was submitted; the generated scripts are beside it
    chains/<id>/g1/<fact>       facts of the first run; a resumed chain goes on in g2, g3, ...
    chains/<id>/log             what the stage jobs said

Of two hosts that add the same fact one wins, and both go on from what the winner wrote (system/records.py says how).
"""

from __future__ import annotations

import os
import shutil
import socket
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from globuswrap.errors import Problem, TryLater, UsageProblem
from globuswrap.schedulers.base import JobInfo
from globuswrap.staging import plan as plans
from globuswrap.staging.plan import Plan, Step
from globuswrap.system import files, records

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

T = TypeVar("T", bound="DataclassInstance")


def root() -> Path:
    return files.state_dir() / "chains"


def new_id() -> str:
    """An id that no task id or collection name looks like: `c` and eight hex digits (job names of PBS are short)."""
    return f"c{uuid.uuid4().hex[:8]}"


@dataclass(frozen=True)
class JobOutcome:
    """How the compute job ended. `evidence` is who says so, `unknown`: nobody does. `started`: whether it ever ran, if that
    is known, and `began` when, in seconds since the epoch."""

    success: bool
    raw_state: str = ""
    evidence: str = ""
    started: bool | None = None
    began: float | None = None
    unknown: bool = False
    at: float = 0.0


@dataclass(frozen=True)
class Ending:
    """Why a chain ends: an exit code, and of what failed the step, code, cause and remedy."""

    code: int
    step: str = ""
    name: str = "chain-ended"
    cause: str = ""
    remedy: str = ""


class BlockedOn(str, Enum):
    """What a chain that has not ended waits for."""

    TRANSFER = "transfer"  # a task at Globus
    JOB = "job"  # the scheduler has to run the job
    USER = "user"  # a login, a network, a paused collection: fixed from outside
    SUBMISSION = "submission"  # it is being submitted, or that was cut off


@dataclass(frozen=True)
class ChainStatus:
    """Where a chain stands. `blocked_on` is None when it has ended; `exit_code` then says how.

    `watch`: the job could be deleted without any other job of the chain starting, so that someone has to look again.
    """

    blocked_on: BlockedOn | None = None
    why: str = ""
    exit_code: int = 0
    problem: Problem | None = None
    watch: bool = False

    @property
    def ended(self) -> bool:
        return self.blocked_on is None

    @property
    def needs_user(self) -> bool:
        """Whether only a person can fix what it waits for: an outage may be over in a minute."""
        return self.blocked_on is BlockedOn.USER and not isinstance(self.problem, TryLater)


@dataclass(frozen=True)
class Chain:
    """A chain's plan, directory and current generation (each resumption begins a new one).

    The properties are its facts as they are on disk now: another process may have added one a moment ago.
    """

    plan: Plan
    directory: Path
    generation: int

    @property
    def id(self) -> str:
        return self.plan.id

    @property
    def cut_off(self) -> TryLater:
        """The problem of a submission that was cut off."""
        remedy = f"globuswrap submit --resume {self.id}"
        return TryLater("submission-cut-off", "its submission was interrupted", remedy)

    @property
    def scope(self) -> str:
        """Begins the keys of the chain's requests: each generation makes its own."""
        return f"chain/{self.id}/g{self.generation}"

    @property
    def facts_directory(self) -> Path:
        return self.directory / f"g{self.generation}"

    @property
    def log(self) -> Path:
        return self.directory / "log"

    @property
    def script(self) -> Path:
        return Path(self.plan.copy)

    @property
    def compute(self) -> str | None:
        """The id of the compute job, once it was submitted."""
        fact = self.fact("job.compute")
        return None if fact is None else str(fact["id"])

    @property
    def info(self) -> JobInfo | None:
        """What the scheduler said of the compute job when it was submitted."""
        return typed(JobInfo, self.fact("about"))

    @property
    def symbols(self) -> dict[str, str]:
        """The values of the symbols for this chain's compute job."""
        return (self.info or JobInfo("", "", "", "")).symbols()

    @property
    def jobs(self) -> dict[str, str]:
        """All jobs of the chain that are recorded: compute, after-..., stage.N, found.ID -> id, oldest first."""
        found = sorted(self.facts("job.").items(), key=lambda item: float(item[1]["at"]))
        return {name.removeprefix("job."): str(fact["id"]) for name, fact in found}

    @property
    def submitted(self) -> bool:
        """Whether all jobs that the chain begins with are submitted and recorded."""
        return self.fact("submitted") is not None

    @property
    def releasing(self) -> bool:
        """Whether the compute job may have been released: noted before the act."""
        return self.fact("releasing") is not None

    @property
    def released_early(self) -> bool:
        """Whether the user released the job while its data was still being staged."""
        return bool((self.fact("releasing") or {}).get("by_user"))

    @property
    def released(self) -> bool:
        return self.fact("released") is not None

    @property
    def outcome(self) -> JobOutcome | None:
        return typed(JobOutcome, self.fact("outcome"))

    @property
    def ending(self) -> Ending | None:
        """Why the chain ends, once that is decided; its jobs and tasks may still be there."""
        return typed(Ending, self.fact("ending"))

    @property
    def ended(self) -> bool:
        return self.fact("ended") is not None

    @property
    def ended_at(self) -> float | None:
        """Seconds since the epoch; None if it has not ended."""
        fact = self.fact("ended")
        return None if fact is None else float(fact["at"])

    @property
    def exit_code(self) -> int | None:
        """None if it has not ended."""
        fact = self.fact("ended")
        return None if fact is None else int(fact.get("code", 1))

    @property
    def resumed_at(self) -> float:
        """When this generation began, in seconds since the epoch; 0 for the first."""
        return float((self.fact("resumed") or {}).get("at", 0.0))

    @property
    def tasks(self) -> dict[str, str]:
        """The step of each task that is recorded -> the task's id."""
        return {name.removeprefix("task."): str(fact["id"]) for name, fact in self.facts("task.").items()}

    def settled_at(self, step: Step) -> float | None:
        """When the step settled, in seconds since the epoch; None if it has not."""
        fact = self.fact(f"step.{step.name}")
        return None if fact is None else float(fact["at"])

    def fact(self, name: str) -> dict[str, Any] | None:
        """The content of a fact, with its time as `at`; None if it is not there."""
        return _load(self.facts_directory / name)

    def add(self, name: str, /, **content: Any) -> tuple[dict[str, Any], bool]:
        """Add a fact, durably, unless it is there. Returns it as it is now, and whether this call wrote it."""
        final = self.facts_directory / name
        known = _load(final)
        if known is not None:
            return known, False
        content = {"at": time.time(), "host": socket.gethostname(), **content}
        if records.write_once(final, records.dump(content)):
            return content, True
        known = _load(final)
        return known if known is not None else content, False

    def facts(self, prefix: str = "") -> dict[str, dict[str, Any]]:
        """All facts whose names start so, by name."""
        names = sorted(name for name in os.listdir(self.facts_directory) if name.startswith(prefix))
        found = {name: _load(self.facts_directory / name) for name in names if not name.startswith(".tmp-")}
        return {name: content for name, content in found.items() if content is not None}

    def note(self, name: str, /, **content: Any) -> None:
        """Remember something that changes, such as why a step waits: the last writer wins, and nothing depends on it."""
        path = self.directory / f"note.{name}"
        known = _load(path) or {}
        same = {key: value for key, value in known.items() if key != "at"} == content
        if not same:
            files.write_atomic(path, records.dump({"at": time.time(), **content}))

    def noted(self, name: str) -> dict[str, Any]:
        return _load(self.directory / f"note.{name}") or {}

    def notes(self, prefix: str) -> dict[str, dict[str, Any]]:
        """All notes whose names start so, by what follows."""
        start = f"note.{prefix}"
        names = sorted(name for name in os.listdir(self.directory) if name.startswith(start))
        return {name.removeprefix(start): _load(self.directory / name) or {} for name in names}

    def begin_generation(self, carried: Mapping[str, Mapping[str, Any]]) -> Chain:
        """The next generation, with these facts in it from the start. Of two callers one wins, and both get its chain."""
        following = self.generation + 1
        temporary = self.directory / f".tmp-g{following}-{uuid.uuid4().hex[:8]}"
        files.private_directory(temporary)
        for name, content in {"resumed": {"at": time.time()}, **carried}.items():
            files.write_atomic(temporary / name, records.dump(content))
        _name(temporary, self.directory / f"g{following}")
        return Chain(self.plan, self.directory, following)


def create(plan: Plan, texts: Mapping[str, tuple[str | bytes, int]]) -> Chain:
    """Write a new chain, whole or not at all: the files `texts` (name below the directory -> content and mode), the plan,
    generation 1. Of two callers one wins, and both get its chain."""
    temporary = files.private_directory(root()) / f".tmp-{plan.id}-{uuid.uuid4().hex[:8]}"
    for name, (content, mode) in texts.items():
        path = temporary / name
        files.private_directory(path.parent)
        files.write_atomic(path, content, mode)
    files.private_directory(temporary / "g1")
    files.write_atomic(temporary / "chain.json", plan.to_json())
    _name(temporary, root() / plan.id)
    return load(plan.id)


def _name(temporary: Path, final: Path) -> None:
    """Give a directory its name, or remove it if there is one of that name."""
    try:
        os.rename(temporary, final)
    except OSError:
        if not final.is_dir():
            raise
        shutil.rmtree(temporary, ignore_errors=True)
    files.sync_directory(final.parent)


def load(chain_id: str) -> Chain:
    """The chain of that id. UsageProblem if there is none, or its record is damaged."""
    directory = root() / chain_id
    if not exists(chain_id):
        raise UsageProblem("unknown-chain", f"there is no chain named {chain_id!r}", "see: globuswrap status")
    try:
        plan = plans.from_json((directory / "chain.json").read_text("utf-8"))
    except (ValueError, KeyError, TypeError) as error:
        raise UsageProblem(
            "damaged-chain",
            f"chain {chain_id}: {directory / 'chain.json'} is damaged: {error}",
            "cancel its jobs by hand, then remove that directory",
        ) from None
    numbers = [int(name[1:]) for name in os.listdir(directory) if name.startswith("g") and name[1:].isdigit()]
    return Chain(plan, directory, max(numbers, default=1))


def exists(chain_id: str) -> bool:
    return "/" not in chain_id and (root() / chain_id / "chain.json").is_file()


def ids() -> list[str]:
    """The ids of all chains, oldest first."""
    try:
        names = os.listdir(root())
    except FileNotFoundError:
        return []
    known = [name for name in names if not name.startswith(".") and exists(name)]
    return sorted(known, key=lambda name: (root() / name / "chain.json").stat().st_mtime)


def typed(kind: type[T], fact: Mapping[str, Any] | None) -> T | None:
    """The fact as an object; what it does not know was written by another version, and is left out."""
    if fact is None:
        return None
    try:
        return kind(**{name: fact[name] for name in kind.__dataclass_fields__ if name in fact})
    except TypeError as error:
        remedy = "cancel its jobs by hand, then remove its directory"
        raise UsageProblem("damaged-chain", f"a record of a chain is damaged: {error}", remedy) from None


def _load(path: Path) -> dict[str, Any] | None:
    try:
        return records.load(path)
    except records.Damaged:
        raise UsageProblem(
            "damaged-chain", f"{path} is damaged", "remove that file; the chain then does this step again"
        ) from None
