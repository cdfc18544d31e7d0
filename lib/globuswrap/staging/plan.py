"""Plan a chain: written once as chain.json, with pure functions over it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from globuswrap import schedulers
from globuswrap.errors import UsageProblem
from globuswrap.schedulers.base import Scheduler
from globuswrap.staging.directives import CLEANUP, STAGE_IN, STAGE_OUT, Step
from globuswrap.system import log, records

SCHEMA = "globuswrap.chain/1"

JOBS = "jobs"
LOGIN = "login"
INLINE = "inline"
STAGINGS = (JOBS, LOGIN, INLINE)

#: What becomes of a job whose hold the user releases while its data is being staged.
CANCEL = "cancel"
LET_RUN = "let-run"
ON_EARLY_RELEASE = (CANCEL, LET_RUN)

#: Symbols that differ from one job of the same script to the next.
PER_JOB = ("j", "A", "a")


@dataclass(frozen=True)
class Staging:
    """How to stage. Durations are seconds; `time` bounds each stage job; `stop_before` is how long
    before its walltime an inline job gets TERM. None: take what the job or the settings say."""

    mode: str = JOBS
    partition: str | None = None
    account: str | None = None
    time: float = 600.0
    poll: float | None = None
    fault_grace: float | None = None
    stop_before: float | None = None
    on_early_release: str = CANCEL


@dataclass(frozen=True)
class Plan:
    """Everything about a chain that does not change while it runs.

    `script` is where the user's script was, `copy` the one that is submitted (same bytes, below the chain's directory, so
    that a job can be told by its command). `launcher` starts globuswrap on any node; `environment` is what stage jobs set.
    `array`: the job is an array whose elements note how they end. `key` is that of `submit --key`, and this is the
    chain of its `submission`-th use; `once` keeps its record for good.
    """

    id: str
    scheduler: str
    staging: Staging
    script: str
    copy: str
    cwd: str
    user: str
    host: str
    created: float
    steps: tuple[Step, ...]
    arguments: tuple[str, ...] = ()
    launcher: tuple[str, ...] = ("globuswrap",)
    environment: Mapping[str, str] = field(default_factory=dict)
    held_by_user: bool = False
    array: bool = False
    key: str = ""
    submission: int = 0
    once: bool = False
    schema: str = SCHEMA

    @property
    def on_this_machine(self) -> bool:
        """Whether the job runs here, without a batch system."""
        return self.scheduler == schedulers.LOCAL

    @property
    def system(self) -> Scheduler | None:
        """The batch system that the job goes to; None for this machine."""
        return schedulers.batch_system(self.scheduler)

    @property
    def stage_system(self) -> Scheduler | None:
        """The batch system whose nodes run short jobs that advance the chain; None if others advance it."""
        return self.system if self.staging.mode == JOBS else None

    def of(self, kind: str) -> tuple[Step, ...]:
        return tuple(step for step in self.steps if step.kind == kind)

    def step(self, name: str) -> Step:
        return next(step for step in self.steps if step.name == name)

    def to_json(self) -> str:
        return json.dumps(asdict(self), indent=1) + "\n"


def from_json(text: str) -> Plan:
    """The plan of a chain.json. Raises ValueError, KeyError or TypeError if it is none."""
    document = records.parsed(text)
    if document.get("schema") != SCHEMA:
        raise ValueError(f"schema {document.get('schema')!r}, expected {SCHEMA}")
    steps = tuple(Step(**{**step, "options": _options(step["options"])}) for step in document.pop("steps"))
    staging = Staging(**document.pop("staging"))
    for name in ("arguments", "launcher"):
        document[name] = tuple(document[name])
    return Plan(steps=steps, staging=staging, **document)


def _options(document: Mapping[str, Any]) -> dict[str, Any]:
    filters = document.get("filters")
    return dict(document) if filters is None else {**document, "filters": tuple(tuple(each) for each in filters)}


def checked(plan: Plan, name: str, array: bool | None = None) -> Plan:
    """The plan, if its parts fit together; UsageProblem otherwise. `array`: whether the job is one, if that is known."""
    if not plan.steps:
        raise UsageProblem(
            "no-directives",
            f"{log.printable(name)}: no #GLOBUS lines before the first command",
            "add `#GLOBUS stage-in SOURCE DESTINATION` after the first line (see docs/job-scripts.md)",
        )
    for step in plan.steps:
        where = f"{log.printable(name)}:{step.line}"
        if step.uses("a") and plan.staging.mode != INLINE:
            cause = f"{where}: %a stages once per array task, which {plan.staging.mode} staging does not do"
            raise UsageProblem("element-needs-inline", cause, "submit with --staging inline, or write %A")
        if step.uses("a", "A") and array is False:
            cause = f"{where}: %a or %A, but the job is not an array"
            raise UsageProblem("not-an-array", cause, "make it an array, or write %j")
        if step.uses("j") and array and plan.staging.mode != INLINE:
            cause = f"{where}: %j differs in every array task, but data is staged once per array"
            raise UsageProblem("element-needs-inline", cause, "write %A, or submit with --staging inline")
    return plan


__all__ = ["CLEANUP", "INLINE", "JOBS", "LOGIN", "STAGE_IN", "STAGE_OUT", "Plan", "Staging", "Step"]
