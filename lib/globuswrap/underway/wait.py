"""Wait for tasks and chains together."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from globuswrap.batches import lookup as tasks
from globuswrap.errors import Problem, TryLater, combined
from globuswrap.staging import status
from globuswrap.staging.chain import tend
from globuswrap.staging.chain.record import ChainStatus
from globuswrap.transfers.operations import Hooks
from globuswrap.transfers.outcome import Outcome
from globuswrap.transfers.wait import WaitPolicy, Watcher
from globuswrap.underway.lookup import LookupResult


@dataclass(frozen=True)
class WaitedChain:
    """How a chain stands. `problem` is what a person has to know of it, `exit_code` what that comes to."""

    id: str
    status: ChainStatus
    problem: Problem | None
    exit_code: int

    def as_data(self) -> dict[str, Any]:
        return {**status.describe(self.id)["data"], "why": self.status.why, "exit_code": self.exit_code}


@dataclass(frozen=True)
class Waited:
    """The outcome of each task, and how each chain stands; `missing` is the problem of tasks that are not submitted yet."""

    outcomes: Mapping[str, Outcome]
    chains: tuple[WaitedChain, ...]
    missing: TryLater | None

    @property
    def exit_code(self) -> int:
        """That of the worst."""
        missing = [] if self.missing is None else [self.missing.exit_code]
        chains = [each.exit_code for each in self.chains]
        return combined([*missing, *chains, *(each.exit_code for each in self.outcomes.values())])


def wait(
    found: LookupResult,
    wait_policy: WaitPolicy,
    watcher: Watcher | None = None,
    after: Hooks | None = None,
    tell: Callable[[Outcome | WaitedChain], None] = lambda ended: None,
) -> Waited:
    """Wait for all of it within one timeout. Chains first, which are advanced meanwhile: tasks go on without anyone. `tell` is
    called with each that has ended, or for which waiting was given up. Raises as `batches.lookup.wait`."""
    started = time.monotonic()
    waited = []
    for chain_id, stands in (tend.wait(found.chains, wait_policy) if found.chains else {}).items():
        waited.append(_chain(chain_id, stands))
        tell(waited[-1])
    if wait_policy.timeout is not None:
        left = wait_policy.timeout - (time.monotonic() - started)
        wait_policy = replace(wait_policy, timeout=max(0.0, left))
    submitted = found.named.submitted
    outcomes = tasks.wait(submitted, wait_policy, watcher, after, tell) if submitted else {}
    return Waited(outcomes, tuple(waited), found.missing())


def _chain(chain_id: str, stands: ChainStatus) -> WaitedChain:
    problem = stands.problem
    if problem is None and not stands.ended:
        problem = TryLater("chain-running", "the chain is still running", f"globuswrap wait {chain_id}")
    code = stands.exit_code if stands.ended or problem is None else problem.exit_code
    return WaitedChain(chain_id, stands, problem, code)
