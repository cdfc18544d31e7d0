"""Describe a chain for people and programs: each step, its job and task, why it waits, and since when."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from typing import Any

from globuswrap.errors import Problem
from globuswrap.schedulers.base import HELD, JobState
from globuswrap.staging.chain import jobs as chain_jobs
from globuswrap.staging.chain import progress, record
from globuswrap.staging.chain.record import Chain
from globuswrap.staging.plan import CLEANUP, STAGE_IN, STAGE_OUT, Step
from globuswrap.system import log, units

#: The states of a chain that has not ended.
UNDER_WAY = ("under way", "ending")


def describe(chain_id: str) -> dict[str, Any]:
    """A chain for people (`text`: lines) and for programs (`data`): each step with its state, job, task, why it waits and
    since when. Asks the scheduler about jobs that are not over, changes nothing."""
    chain = record.load(chain_id)
    states, silence = _states(chain)
    steps = [_step(chain, step) for step in progress.inputs(chain)]
    steps.append(_job(chain, states))
    steps.extend(_step(chain, step) for kind in (STAGE_OUT, CLEANUP) for step in chain.plan.of(kind))
    ending = chain.ending
    if not chain.ended:
        state = "ending" if ending else "under way"
    else:
        state = "done" if chain.exit_code == 0 else "failed"
        if ending and ending.name == "chain-canceled":
            state = "canceled"
    problem = None
    if ending and ending.code != 0:
        problem = {"step": ending.step, "code": ending.code, "cause": ending.cause, "remedy": ending.remedy}
    data = {
        "chain": chain.id,
        "script": chain.plan.script,
        "scheduler": chain.plan.scheduler,
        "staging": chain.plan.staging.mode,
        "created": chain.plan.created,
        "generation": chain.generation,
        "state": state,
        "exit_code": chain.exit_code,
        "steps": steps,
        "jobs": dict(sorted(chain.jobs.items())),
        "job_states": {job_id: each.raw_state for job_id, each in states.items()},
        "problem": problem,
        "scheduler_silent": silence or None,
        "log": str(chain.log),
    }
    return {"data": data, "text": _text(chain, data)}


def _states(chain: Chain) -> tuple[dict[str, JobState], str]:
    if chain.ended:
        return {}, ""
    try:
        return chain_jobs.scheduler_of(chain).states(chain.jobs.values()), ""
    except Problem as problem:
        return {}, problem.cause


def _step(chain: Chain, step: Step) -> dict[str, Any]:
    settled, task = chain.fact(f"step.{step.name}"), chain.fact(f"task.{step.name}")
    known = settled or chain.noted(step.name)
    state, why = str(known.get("state")), str(known.get("cause") or "")
    if not known:
        state = "not done" if chain.ended else "waiting"
        why = "for the job" if not chain.ended and step.kind != STAGE_IN and chain.outcome is None else ""
    return {
        "name": step.name,
        "what": f"{step.source} -> {step.destination}" if step.destination else step.source,
        "state": state,
        "task": task["id"] if task else None,
        "job": None,
        "why": why,
        "remedy": str(known.get("remedy") or ""),
        "since": known.get("at"),
    }


def _job(chain: Chain, states: Mapping[str, JobState]) -> dict[str, Any]:
    compute, outcome = chain.compute, chain.outcome
    now = states.get(compute or "")
    state, why, since = "not submitted" if compute is None else "submitted", "", None
    if outcome is not None:
        state, why, since = "done" if outcome.success else "failed", outcome.raw_state, outcome.at
    elif chain.ended:
        state = "unknown" if chain.releasing else "not run"
    elif now is not None:
        state, why = now.phase, ", ".join(part for part in (now.raw_state, now.reason) if part)
        if now.phase == HELD and not chain.releasing:
            why = "until its data has arrived"
        since = (chain.fact("released") or chain.fact("job.compute") or {}).get("at")
    return {
        "name": "job",
        "what": os.path.basename(chain.plan.script),
        "state": state,
        "task": None,
        "job": compute,
        "why": why,
        "remedy": "",
        "since": since,
    }


def _text(chain: Chain, data: Mapping[str, Any]) -> list[str]:
    """Lines that a terminal of 80 columns shows whole, but for long paths."""
    age = units.human_duration(max(0.0, time.time() - chain.plan.created))
    script = log.printable(os.path.basename(chain.plan.script))
    lines = [f"{chain.id}  {data['state']}  {script}  ({data['scheduler']}, {data['staging']}, {age} old)"]
    rows = [(each["name"], each["state"], _id(each), log.printable(str(each["what"]))) for each in data["steps"]]
    widths = [max(len(str(row[column])) for row in rows) for column in range(3)]
    for row, step in zip(rows, data["steps"], strict=True):
        cells = [str(cell).ljust(width) for cell, width in zip(row, widths, strict=False)]
        lines.append(f"  {'  '.join([*cells, row[3]])}".rstrip())
        lines.extend(f"      {each}" for each in [_why(step)] if each)
    if data["scheduler_silent"]:
        lines.append(f"  the scheduler does not answer: {data['scheduler_silent']}")
    problem = data["problem"]
    if problem:
        lines.append(f"  {problem['cause']}")
        lines.append(f"  remedy: {problem['remedy']}")
    return lines


def _id(step: Mapping[str, Any]) -> str:
    return str(step["task"])[:8] if step["task"] else str(step["job"] or "-")


def _why(step: Mapping[str, Any]) -> str:
    parts = [str(step["why"])] if step["why"] else []
    if step["since"] and step["state"] not in ("done", "skipped"):
        parts.append(f"for {units.human_duration(max(0.0, time.time() - float(step['since'])))}")
    if step["remedy"] and step["state"] == "stuck":
        parts.append(str(step["remedy"]))
    return "; ".join(parts)
