"""Submit a chain; under a key exactly once, as transfers do: a chain that is under way is adopted, the result of one that
nobody was told about is reported, and only then a new one begins."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from globuswrap.errors import UsageProblem
from globuswrap.staging import keys
from globuswrap.staging.chain import record
from globuswrap.staging.chain import submit as chains
from globuswrap.staging.chain.record import Chain, ChainStatus
from globuswrap.staging.chain.tend import tend
from globuswrap.staging.keys import Submission
from globuswrap.staging.plan import Plan

NEW = "new"
ADOPTED = "adopted"  # it had not ended
RECORDED = "recorded"  # it had ended, or its job had: nothing was submitted


@dataclass(frozen=True)
class Submitted:
    """What came of a submission; `how` is NEW, ADOPTED or RECORDED."""

    chain: Chain
    status: ChainStatus
    how: str = NEW


def submit(
    plan: Plan, script: bytes, key: str | None = None, once: bool = False, check: Callable[[], None] = lambda: None
) -> Submitted:
    """Make sure that one chain does this, and say which. `check` runs before a new one is begun, and may raise.

    Raises UsageProblem when the key names another submission, TryLater while another process is submitting it, and whatever
    the scheduler or Globus refused.
    """
    if key is None:
        check()
        chain = chains.create(plan, script)
        return Submitted(chain, chains.start(chain))
    digest = keys.digest_of(plan, script)
    known = keys.latest(key)
    if known is not None and _open(known, once):
        if known.digest != digest:
            raise _taken(known)
        if record.exists(known.chain):
            return _taken_up(record.load(known.chain))
    else:
        check()
        number = 1 if known is None else known.number + 1
        known = keys.claim(Submission(key, number, plan.id, digest, once, plan.script))
        if known.digest != digest:
            raise _taken(known)
    mine = known.chain == plan.id
    # Of two that create the same chain one does, and the other goes on with that.
    chain = chains.create(
        replace(chains.renamed(plan, known.chain), key=key, submission=known.number, once=known.once), script
    )
    return Submitted(chain, chains.start(chain)) if mine else _taken_up(chain)


def resume(chain: Chain) -> Submitted:
    """Go on with a chain where it stopped. Raises as `submit`."""
    ran = chain.outcome is not None
    following, status = chains.resume(chain)
    return Submitted(following, status, RECORDED if ran and following.generation == chain.generation else NEW)


def _open(known: Submission, once: bool) -> bool:
    """Whether the submission is the one to go on with: it has not ended, or its caller was never told, or `--once`."""
    if not known.settled:
        return True
    if known.settled == keys.NOTHING or not record.exists(known.chain):
        return False
    return known.once or once or not record.load(known.chain).ended


def _taken_up(chain: Chain) -> Submitted:
    if chain.ended:
        return Submitted(chain, tend(chain), RECORDED)
    if not chain.submitted or chain.plan.on_this_machine:
        chain, status = chains.resume(chain)
    else:
        status = tend(chain)
    return Submitted(chain, status, ADOPTED)


def _taken(known: Submission) -> UsageProblem:
    return UsageProblem(
        "key-taken",
        f"key {known.name!r} already names another submission: chain {known.chain}, {known.script}",
        f"use another --key, or see: globuswrap status {known.chain}",
    )


def told(submitted: Submitted) -> None:
    """Note that a caller is about to be told what became of it: only then may its key begin another chain."""
    keys.settle(submitted.chain.plan, keys.TOLD)
