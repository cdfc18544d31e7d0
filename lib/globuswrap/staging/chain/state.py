"""Describe the state of a chain."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from globuswrap.errors import Problem, TryLater


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


def cut_off(chain_id: str) -> TryLater:
    """The problem of a chain whose submission was cut off."""
    return TryLater("submission-cut-off", "its submission was interrupted", f"globuswrap submit --resume {chain_id}")
