"""A chain as people and programs see it: each step, its job and task, why it waits, and since when."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from typing import Any

from globuswrap.errors import Problem
from globuswrap.staging.directives import printable
from globuswrap.staging.plan import CLEANUP, STAGE_IN, STAGE_OUT, Step
from globuswrap.staging.record import Chain
from globuswrap.staging.schedulers.base import JobState
from globuswrap.system import units


def describe(chain: Chain) -> dict[str, Any]:
    """`text` (lines) and `data` of a chain. Asks the scheduler about jobs of a chain that has not ended."""
    from globuswrap.staging.chain import inputs

    states, silence = _states(chain)
    steps = [_step(chain, step) for step in inputs(chain)]
    steps.append(_job(chain, states))
    steps.extend(_step(chain, step) for kind in (STAGE_OUT, CLEANUP) for step in chain.plan.of(kind))
    ending = chain.fact("ending")
    ended = chain.fact("ended")
    if ended is None:
        state = "ending" if ending else "under way"
    else:
        state = "done" if int(ended.get("code", 1)) == 0 else "failed"
        if ending and ending.get("name") == "chain-cancelled":
            state = "cancelled"
    problem = None
    if ending and int(ending.get("code", 0)) != 0:
        problem = {name: ending.get(name) for name in ("step", "code", "cause", "remedy")}
    data = {
        "chain": chain.id,
        "script": chain.plan.script,
        "scheduler": chain.plan.scheduler,
        "staging": chain.plan.staging.mode,
        "created": chain.plan.created,
        "generation": chain.generation,
        "state": state,
        "exit_code": None if ended is None else ended.get("code"),
        "steps": steps,
        "jobs": {name.removeprefix("job."): fact["id"] for name, fact in chain.facts("job.").items()},
        "job_states": {job_id: each.words for job_id, each in states.items()},
        "problem": problem,
        "scheduler_silent": silence or None,
        "log": str(chain.log),
    }
    return {"data": data, "text": _text(chain, data)}


def _states(chain: Chain) -> tuple[dict[str, JobState], str]:
    from globuswrap.staging.chain import scheduler_of

    if chain.fact("ended") is not None:
        return {}, ""
    jobs = [str(fact["id"]) for fact in chain.facts("job.").values()]
    try:
        return scheduler_of(chain).states(jobs), ""
    except Problem as problem:
        return {}, problem.cause


def _step(chain: Chain, step: Step) -> dict[str, Any]:
    fact = chain.fact(f"step.{step.name}")
    task = chain.fact(f"task.{step.name}")
    note = chain.noted(step.name) if fact is None else {}
    if fact is not None:
        state, why, since = str(fact["state"]), str(fact.get("cause") or ""), fact.get("at")
    elif note:
        state, why, since = str(note.get("state")), str(note.get("cause") or ""), note.get("at")
    elif chain.fact("ended") is not None:
        state, why, since = "not done", "", None
    else:
        state, since = "waiting", None
        why = "" if step.kind == STAGE_IN else "for the job" if chain.fact("outcome") is None else ""
    return {
        "name": step.name,
        "what": f"{step.source} -> {step.destination}" if step.destination else step.source,
        "state": state,
        "task": task["id"] if task else None,
        "job": None,
        "why": why,
        "remedy": str((fact or note).get("remedy") or ""),
        "since": since,
    }


def _job(chain: Chain, states: Mapping[str, JobState]) -> dict[str, Any]:
    compute = chain.fact("job.compute")
    outcome = chain.fact("outcome")
    job_id = str(compute["id"]) if compute else None
    now = states.get(job_id or "")
    since: Any = None
    if outcome is not None:
        state = "done" if outcome.get("success") else "failed"
        why, since = str(outcome.get("words") or ""), outcome.get("at")
    elif chain.fact("ended") is not None:
        state, why = "not run" if chain.fact("releasing") is None else "unknown", ""
    elif now is not None:
        state, why = now.phase, ", ".join(part for part in (now.words, now.reason) if part)
        if now.phase == "held" and chain.fact("releasing") is None:
            why = "until its data is there"
        since = (chain.fact("released") or compute or {}).get("at")
    else:
        state, why = ("not submitted", "") if compute is None else ("submitted", "")
    return {
        "name": "job",
        "what": os.path.basename(chain.plan.script),
        "state": state,
        "task": None,
        "job": job_id,
        "why": why,
        "remedy": "",
        "since": since,
    }


def _text(chain: Chain, data: Mapping[str, Any]) -> list[str]:
    age = units.human_duration(max(0.0, time.time() - chain.plan.created))
    head = f"{chain.id}  {data['state']}  {printable(chain.plan.script)}  {data['scheduler']}, {data['staging']}, {age} old"
    rows = [(each["name"], each["state"], each["task"] or each["job"] or "-", _why(each)) for each in data["steps"]]
    widths = [max(len(str(row[column])) for row in rows) for column in range(3)]
    lines = [head]
    for row in rows:
        cells = [str(cell).ljust(width) for cell, width in zip(row, widths, strict=False)]
        lines.append(f"  {'  '.join([*cells, row[3]])}".rstrip())
    if data["scheduler_silent"]:
        lines.append(f"  the scheduler does not answer: {data['scheduler_silent']}")
    problem = data["problem"]
    if problem:
        lines.append(f"  {problem['cause']}")
        lines.append(f"  remedy: {problem['remedy']}")
    return lines


def _why(step: Mapping[str, Any]) -> str:
    parts = [printable(str(step["what"]))]
    if step["why"]:
        parts.append(str(step["why"]))
    if step["since"] and step["state"] not in ("done", "skipped"):
        parts.append(f"for {units.human_duration(max(0.0, time.time() - float(step['since'])))}")
    if step["remedy"] and step["state"] == "stuck":
        parts.append(str(step["remedy"]))
    return "; ".join(parts)
