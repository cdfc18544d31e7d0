"""Track the steps of a chain: read what is recorded of each, and poll those that have not ended."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from globuswrap.errors import Problem, Refused
from globuswrap.staging import steps
from globuswrap.staging.chain.record import BlockedOn, Chain, ChainStatus, typed
from globuswrap.staging.plan import STAGE_IN, Step
from globuswrap.staging.steps import StepResult
from globuswrap.system import log, units
from globuswrap.transfers import hooks

#: Data that was staged longer ago than this is looked at before the job is released: scratch may have been purged.
LOOK_AGAIN_AFTER = 3600.0


def recorded(chain: Chain, step: str) -> StepResult | None:
    """What became of a step; None if it has not settled."""
    return typed(StepResult, chain.fact(f"step.{step}"))


def receipts(chain: Chain) -> dict[str, Mapping[str, Any]]:
    """The receipts of the staging steps that are done, by step."""
    facts = chain.facts("step.stage-").items()
    done = {name: fact.get("receipt") for name, fact in facts if fact["state"] == steps.DONE}
    return {name.removeprefix("step."): receipt for name, receipt in done.items() if receipt}


def look(chain: Chain, wanted: Sequence[Step]) -> dict[str, StepResult]:
    """Where these steps stand; what has just settled is recorded."""
    results = {step.name: result for step in wanted if (result := recorded(chain, step.name)) is not None}
    unsettled = [step for step in wanted if step.name not in results]
    if unsettled:
        results |= steps.look(chain, unsettled)
    noted = {name: note(chain, name, result) for name, result in results.items()}
    if unsettled and chain.ending is not None:
        cancel_tasks(chain)  # ended meanwhile by someone who did not see what has just been submitted
    return noted


def note(chain: Chain, step: str, result: StepResult) -> StepResult:
    """Record what became of a step; the record of whoever was first holds."""
    if result.task_id is not None and chain.fact(f"task.{step}") is None:
        chain.add(f"task.{step}", id=result.task_id)
    if not result.settled:
        if result.state == steps.STUCK and chain.noted(step).get("state") != steps.STUCK:
            tell(chain, hooks.ATTENTION, step=step, cause=result.cause, remedy=result.remedy)
        chain.note(step, state=result.state, cause=result.cause, remedy=result.remedy)
        return result
    content = {name: value for name, value in vars(result).items() if name != "problem"}
    _, mine = chain.add(f"step.{step}", **content)
    if mine:
        said = "; ".join(filter(None, (_moved(result), result.cause)))
        log.say(f"{chain.id}: {step}: {result.state}{f' ({said})' if said else ''}")
    return recorded(chain, step) or result


def _moved(result: StepResult) -> str:
    receipt = result.receipt or {}
    if receipt.get("files_transferred") is None or result.state == steps.FAILED:
        return ""
    size = units.human_size(receipt.get("bytes_transferred") or 0)
    return f"{units.counted(receipt['files_transferred'], 'file')}, {size}"


def tell(chain: Chain, event: str, **more: Any) -> None:
    """Run the hooks of an event for a chain."""
    hooks.tell(event, {"kind": "chain", "chain": chain.id, "script": chain.plan.script, "tasks": chain.tasks, **more})


def blocked(found: Mapping[str, StepResult]) -> ChainStatus | None:
    """What these steps wait for; None when all are settled. A person goes first: nothing else fixes it."""
    for state, on in ((steps.STUCK, BlockedOn.USER), (steps.MOVING, BlockedOn.TRANSFER)):
        for name, result in found.items():
            if result.state == state:
                why = f"{name}: {result.cause or 'under way'}"
                return ChainStatus(on, why, problem=result.problem if state == steps.STUCK else None)
    return None


def failed(found: Mapping[str, StepResult]) -> list[tuple[str, StepResult]]:
    return [(name, result) for name, result in found.items() if result.state == steps.FAILED]


def problem_of(step: str, result: StepResult) -> Problem:
    """The problem of a step that failed; its cause names the step."""
    if result.problem is not None:
        if not result.problem.cause.startswith(step):
            result.problem.cause = f"{step}: {result.problem.cause}"
        return result.problem
    problem = Refused(f"task-{result.outcome}", f"{step}: {result.cause}", result.remedy)
    problem.exit_code = result.exit_code or 1
    return problem


def cancel_tasks(chain: Chain) -> None:
    """Cancel the chain's tasks; also those that are not recorded, unless it ends well."""
    for step, task_id in chain.tasks.items():
        if recorded(chain, step) is None:
            steps.cancel_task(task_id)
            note(chain, step, StepResult(steps.FAILED, task_id, "canceled", 5, "canceled with the chain"))
    if chain.ending is not None and chain.ending.code != 0:
        known = chain.tasks.values()
        for task_id in steps.unfinished_tasks(chain.id):
            if task_id not in known:
                steps.cancel_task(task_id)


# --- inputs -----------------------------------------------------------------------------------------------------------


def inputs(chain: Chain) -> list[Step]:
    """The stage-in steps. One whose data has gone since it was staged is a new step, which copies what is missing."""
    return [_again(step, _times_missing(chain, step)) for step in chain.plan.of(STAGE_IN)]


def _times_missing(chain: Chain, step: Step) -> int:
    return len(chain.facts(f"missing.{step.name}."))


def _again(step: Step, times: int) -> Step:
    # What the job changed in its input before it failed is not overwritten, unless the line itself says so.
    options = {"sync-level": "exists", **step.options}
    return replace(step, name=f"{step.name}-again{times}", options=options) if times else step


def still_there(chain: Chain) -> bool:
    """Look at inputs that were staged long ago, or before the chain was resumed; False if some are to be staged again.

    Raises the problem of whatever keeps Globus from answering.
    """
    since = max(chain.resumed_at, time.time() - LOOK_AGAIN_AFTER)
    complete = True
    for original in chain.plan.of(STAGE_IN):
        times = _times_missing(chain, original)
        step = _again(original, times)
        staged, at = recorded(chain, step.name) or StepResult(""), chain.settled_at(step)
        if (at or 0.0) < since and not steps.still_there(step, staged, chain.symbols):
            log.say(f"{chain.id}: {original.name}: staged data is missing; staging it again")
            chain.add(f"missing.{original.name}.{times + 1}")
            complete = False
    return complete


def late_inputs(chain: Chain) -> list[Step]:
    """Stage-ins that were under way when the job was let run without them: the chain ends when they have ended too."""
    if not chain.released_early:
        return []
    begun = []
    for step in inputs(chain):
        if step.name in chain.tasks:
            begun.append(step)
        elif recorded(chain, step.name) is None:
            note(chain, step.name, StepResult(steps.SKIPPED, cause="the job was released before it began"))
    return begun
