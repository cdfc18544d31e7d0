"""Describe a chain as a timeline: which part took how long."""

from __future__ import annotations

from collections.abc import Iterable

from globuswrap.errors import Problem
from globuswrap.reports.report import Line, Span
from globuswrap.staging.chain import record
from globuswrap.staging.chain.record import Chain
from globuswrap.staging.plan import CLEANUP, STAGE_IN, STAGE_OUT, Step
from globuswrap.system import log


def lines(since: float) -> list[Line]:
    """The time lines of the chains that were made since then (epoch seconds), oldest first."""
    found = []
    for chain_id in record.ids():
        try:
            chain = record.load(chain_id)
            if chain.plan.created >= since:
                found.append(line(chain))
        except Problem as problem:
            log.say(f"{problem.cause}; skipped", 0)
    return found


def line(chain: Chain) -> Line:
    """One chain's time line, of its last run. Where nobody has said when the job began, queue and job are one part."""
    outcome = chain.outcome
    begin = max(chain.plan.created, chain.resumed_at)
    done = chain.fact("released")
    # On this machine the job runs while it is released.
    released = None if done is None else float((chain.fact("releasing") or done)["at"])
    over = outcome.at if outcome is not None else None
    spans = []
    if chain.plan.of(STAGE_IN):
        spans.append(Span("stage in", begin, released or _last(chain, chain.plan.of(STAGE_IN)) or chain.ended_at))
    if released is not None:
        local = chain.fact("local.started")
        began = float(local["at"]) if local is not None else outcome.began if outcome is not None else None
        if began is not None and (over is None or began <= over):
            # The clocks of the scheduler and of this machine may differ by a moment.
            begun = max(began, released)
            spans += [Span("queue", released, begun), Span("job", begun, over or chain.ended_at)]
        else:
            spans.append(Span("queue and job", released, over or chain.ended_at))
    if over is not None and chain.plan.of(STAGE_OUT):
        spans.append(
            Span(
                "stage out", over, _last(chain, [*chain.plan.of(STAGE_OUT), *chain.plan.of(CLEANUP)]) or chain.ended_at
            )
        )
    state = "under way" if not chain.ended else "done" if chain.exit_code == 0 else "failed"
    return Line(chain.id, state, tuple(spans))


def _last(chain: Chain, steps: Iterable[Step]) -> float | None:
    """When the last of these steps had settled; None while one has not."""
    moments = [chain.settled_at(step) for step in steps]
    return max((each for each in moments if each is not None), default=None) if all(moments) else None
