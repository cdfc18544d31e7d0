"""Share the state of one sync run: its options, its results so far, and the lease."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from globuswrap.deletion.announcements import Announcement
from globuswrap.errors import Problem, Refused, combined
from globuswrap.syncs.planning import Planned
from globuswrap.syncs.profile import Profile
from globuswrap.syncs.state import RunIssue, State
from globuswrap.system import locks
from globuswrap.system.described import Described
from globuswrap.transfers import request as requests
from globuswrap.transfers.operations import Hooks
from globuswrap.transfers.wait import WaitPolicy, Watcher


@dataclass(frozen=True)
class RunOptions:
    """How to run. `wait`: hold until the tasks of this run are finished. `start_delay`: wait up to so many seconds first.

    `key` names this run of the profile: rerun under it, the same run is settled until the caller has what it was promised, which
    is the outcome with `wait` and the submission without; with `once` there is no other, and the recorded outcome is told again.
    `allow_empty`: a source without files is meant to be so.
    """

    wait: bool = False
    wait_policy: WaitPolicy = field(default_factory=WaitPolicy)
    after: Hooks = field(default_factory=Hooks)
    dry_run: bool = False
    start_delay: float = 0.0
    watcher: Watcher | None = None
    key: str | None = None
    once: bool = False
    allow_empty: bool = False

    def __post_init__(self) -> None:
        requests.checked_name(self.key)

    @property
    def awaited(self) -> bool:
        """Is the caller promised the outcome, not just the submission?"""
        return self.wait or self.after != Hooks()


@dataclass(repr=False)
class RunResult(Described):
    """What a run did. `outcome`: `nothing-to-do`, `submitted`, `running`, `busy`, `finished`, `waiting`, `planned`.

    `how`, of the run under a key: `new`, `adopted` (begun before), `recorded` (its end was known before).
    """

    outcome: str = "nothing-to-do"
    issues: list[RunIssue] = field(default_factory=list)
    task_ids: list[str] = field(default_factory=list)
    planned: Planned | None = None
    committed: int = 0
    later: bool = False
    key: str | None = None
    how: str | None = None

    @property
    def exit_code(self) -> int:
        return combined([issue.code for issue in self.issues] + ([75] if self.later else []))

    def facts(self) -> dict[str, object]:
        issues = "; ".join(str(each.cause) for each in self.issues)
        facts: dict[str, object] = {"outcome": self.outcome, "committed": self.committed, "tasks": len(self.task_ids)}
        return {**facts, "issues": issues, "key": self.key}

    def as_data(self) -> dict[str, Any]:
        return {
            "outcome": self.outcome,
            "key": self.key,
            "how": self.how,
            "task_ids": self.task_ids,
            "committed": self.committed,
            "issues": [vars(issue) for issue in self.issues],
            "plan": self.planned.as_data() if self.planned is not None else None,
        }


@dataclass
class RunContext:
    """One run at work. `planned_id`: the run that this process planned; only that one's deletions are submitted, because only for
    them it looked. `announced`: the deletion that it announced."""

    profile: Profile
    state: State
    options: RunOptions
    result: RunResult
    lease: locks.Lease | None = None
    planned_id: str | None = None
    announced: Announcement | None = None

    def renew(self) -> None:
        if self.lease is not None:
            self.lease.renew()

    def add_issue(self, name: str, cause: str, remedy: str, code: int = Refused.exit_code) -> None:
        """Add an issue to the result."""
        self.result.issues.append(RunIssue(code, name, cause, remedy))

    def add_problem(self, problem: Problem) -> None:
        self.add_issue(problem.name, problem.cause, problem.remedy, problem.exit_code)
