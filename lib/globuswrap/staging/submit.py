"""Submit a chain; under a key exactly once, as transfers do: a chain that is under way is adopted, the result of one that
nobody was told about is reported, and only then a new one begins."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from globuswrap.errors import UsageProblem
from globuswrap.staging import chain as chains
from globuswrap.staging import keys, record
from globuswrap.staging.chain import Standing
from globuswrap.staging.keys import Submission
from globuswrap.staging.plan import Plan
from globuswrap.staging.record import Chain

NEW = "new"
ADOPTED = "adopted"  # it had not ended
RECORDED = "recorded"  # it had ended: nothing was done


@dataclass(frozen=True)
class Submitted:
    """What came of a submission; `how` is NEW, ADOPTED or RECORDED."""

    chain: Chain
    standing: Standing
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


def _open(known: Submission, once: bool) -> bool:
    """Whether the submission is the one to go on with: it has not ended, or its caller was never told, or `--once`."""
    if not known.settled:
        return True
    if known.settled == keys.NOTHING or not record.exists(known.chain):
        return False
    return known.once or once or record.load(known.chain).fact("ended") is None


def _taken_up(chain: Chain) -> Submitted:
    if chain.fact("ended") is not None:
        return Submitted(chain, chains.tend(chain), RECORDED)
    if chain.fact("submitted") is None or chain.plan.scheduler == "local":
        chain, standing = chains.resume(chain)
    else:
        standing = chains.tend(chain)
    return Submitted(chain, standing, ADOPTED)


def _taken(known: Submission) -> UsageProblem:
    return UsageProblem(
        "key-taken",
        f"key {known.name!r} already stands for another submission: chain {known.chain}, {known.script}",
        f"use another --key, or look at it: globuswrap status {known.chain}",
    )


def told(submitted: Submitted) -> None:
    """Note that a caller is about to be told what became of it: only then may its key begin another chain."""
    keys.settle(submitted.chain.plan, keys.TOLD)
