"""Wait for chains from outside, advancing them as `tend` does, until each has ended or cannot continue by itself."""

from __future__ import annotations

from collections.abc import Iterable

from globuswrap.errors import TryLater
from globuswrap.staging.chain.state import BlockedOn, ChainStatus
from globuswrap.staging.chain.tend import tend_all
from globuswrap.system import log, units
from globuswrap.system.pacing import Pace
from globuswrap.transfers.wait import WaitPolicy


def wait(chain_ids: Iterable[str], wait_policy: WaitPolicy | None = None) -> dict[str, ChainStatus]:
    """Advance chains until each has ended; returns where each stands.

    Of `wait_policy`, `timeout`, `poll` and `retry_for` count; the rest is each chain's own. A chain that needs a person (a
    login, a paused collection) is given up on, and left as it is; so is one whose scheduler or Globus cannot be reached for
    `retry_for`. A chain's problem stops no other.
    """
    wait_policy = (wait_policy or WaitPolicy()).settled()
    statuses: dict[str, ChainStatus] = {}
    pending = list(chain_ids)
    pace = Pace(wait_policy.poll, wait_policy.timeout)
    reached = dict.fromkeys(pending, 0.0)
    while True:
        before = {chain_id: statuses[chain_id].why for chain_id in pending if chain_id in statuses}
        tend_all(statuses.__setitem__, pending)
        now = pace.elapsed
        open_ = []
        for chain_id in pending:
            status = statuses[chain_id]
            if not _unreachable(status):
                reached[chain_id] = now
            lost = _unreachable(status) and now - reached[chain_id] >= (wait_policy.retry_for or 0.0)
            if not _settled(status) and not lost:
                open_.append(chain_id)
        pending = open_
        if not pending or pace.over:
            return statuses
        if any(statuses[chain_id].why != before.get(chain_id) for chain_id in pending):
            pace.news()
        first = statuses[pending[0]].why
        log.set_activity(f"{units.counted(len(pending), 'chain')} under way; {pending[0]}: {first}")
        pace.rest()


def _unreachable(status: ChainStatus) -> bool:
    """Whether the look did not get through. A submission that was cut off looks the same while it is made by another process."""
    return status.blocked_on in (BlockedOn.USER, BlockedOn.SUBMISSION) and isinstance(status.problem, TryLater)


def _settled(status: ChainStatus) -> bool:
    """Whether waiting can change nothing: it has ended, or only a person can fix what keeps it."""
    return status.ended or status.needs_user
