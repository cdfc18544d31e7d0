"""Track the steps of a chain: read what is recorded of each, and poll those that have not ended."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

from globuswrap.errors import Problem, Refused
from globuswrap.staging import steps
from globuswrap.staging.chain.record import Chain
from globuswrap.staging.chain.state import BlockedOn, ChainStatus
from globuswrap.staging.plan import CLEANUP, STAGE_IN, Step
from globuswrap.staging.steps import StepResult
from globuswrap.system import log, units
from globuswrap.transfers import hooks

#: Data that was staged longer ago than this is looked at before the job is released: scratch may have been purged.
LOOK_AGAIN_AFTER = 3600.0


def scope(chain: Chain) -> str:
    """Begins the keys of the chain's requests: each generation makes its own."""
    return f"chain/{chain.id}/g{chain.generation}"


def recorded(chain: Chain, step: str) -> StepResult | None:
    """What became of a step; None if it has not settled."""
    fact = chain.fact(f"step.{step}")
    return None if fact is None else _result(fact)


def _result(fact: Mapping[str, Any]) -> StepResult:
    names = ("state", "task_id", "outcome", "exit_code", "cause", "remedy", "receipt")
    return StepResult(**{name: fact[name] for name in names if name in fact})


def receipts(chain: Chain) -> dict[str, Mapping[str, Any]]:
    """The receipts of the staging steps that are done, by step."""
    facts = chain.facts("step.stage-").items()
    found = {name.removeprefix("step."): _result(fact) for name, fact in facts}
    return {name: each.receipt for name, each in found.items() if each.state == steps.DONE and each.receipt}


def look(chain: Chain, wanted: Sequence[Step]) -> dict[str, StepResult]:
    """Where these steps stand; what has just settled is recorded."""
    found = {step.name: recorded(chain, step.name) for step in wanted}
    results = {name: result for name, result in found.items() if result is not None}
    unsettled = [step for step in wanted if found[step.name] is None]
    if unsettled:
        cleaning = bool(chain.plan.of(CLEANUP))
        results |= steps.look(chain.plan, unsettled, chain.symbols, scope(chain), receipt_files=cleaning)
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
            about = {
                "kind": "chain",
                "chain": chain.id,
                "script": chain.plan.script,
                "step": step,
                "tasks": chain.tasks,
            }
            hooks.tell(hooks.ATTENTION, {**about, "cause": result.cause, "remedy": result.remedy})
        chain.note(step, state=result.state, cause=result.cause, remedy=result.remedy)
        return result
    content = asdict(replace(result, problem=None))
    content.pop("problem")
    known, mine = chain.add(f"step.{step}", **content)
    if mine:
        said = _said(result)
        log.say(f"{chain.id}: {step}: {result.state}{f' ({said})' if said else ''}")
    return _result(known)


def _said(result: StepResult) -> str:
    receipt = result.receipt or {}
    if receipt.get("files_transferred") is None or result.state == steps.FAILED:
        return result.cause
    size = units.human_size(receipt.get("bytes_transferred") or 0)
    return f"{units.counted(receipt['files_transferred'], 'file')}, {size}" + (
        f"; {result.cause}" if result.cause else ""
    )


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
        fact = chain.fact(f"step.{step.name}") or {"state": ""}
        if float(fact.get("at", 0.0)) < since and not steps.still_there(step, _result(fact), chain.symbols):
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
