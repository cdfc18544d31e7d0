"""Describe what a chain will do, in plain lines, from the plan alone."""

from __future__ import annotations

import os
from collections.abc import Iterator

from globuswrap.collections import mounts, resolve
from globuswrap.errors import UsageProblem
from globuswrap.staging import directives
from globuswrap.staging.plan import CLEANUP, INLINE, LOGIN, STAGE_IN, STAGE_OUT, Plan, Step
from globuswrap.system import log, units

#: A directory with more files than this is not counted to its end.
_COUNTED = 10_000

_DOES = {STAGE_IN: "Stage in", STAGE_OUT: "Stage out", CLEANUP: "Clean up"}
_WHEN = {
    directives.SUCCESS: "when the job has succeeded",
    directives.FAILURE: "when the job has failed",
    directives.ALWAYS: "when the job has ended, however it ended",
}


def outline(plan: Plan) -> list[str]:
    """Numbered lines in the order in which things happen, and below them what else there is to know."""
    inputs, outputs, cleaning = (plan.of(kind) for kind in (STAGE_IN, STAGE_OUT, CLEANUP))
    happens = [
        *(_step(each) for each in inputs),
        _run(plan, bool(inputs)),
        *(_step(each) for each in (*outputs, *cleaning)),
    ]
    lines = [f"{number}. {text}" for number, text in enumerate(happens, 1)]
    return [*lines, *_notes(plan)]


def _run(plan: Plan, waits: bool) -> str:
    arguments = f" with {' '.join(plan.arguments)}" if plan.arguments else ""
    where = "this machine" if plan.system is None else plan.system.title
    until = ", held until its data has arrived" if waits and plan.staging.mode != INLINE else ""
    return f"Run        {log.printable(os.path.basename(plan.script))} on {where}{arguments}{until}"


def _step(step: Step) -> str:
    arrow = f" -> {log.printable(step.destination)}" if step.destination else ""
    size = _size(step) if step.kind == STAGE_IN else ""
    when = "" if step.kind == STAGE_IN else f", {_WHEN[step.when]}"
    missing = ", unless it is missing" if step.if_present else ""
    return f"{_DOES[step.kind]:<10} {log.printable(step.source)}{arrow}{size}{when}{missing}"


def _size(step: Step) -> str:
    """How much there is to stage in, where it can be seen on this machine."""
    if directives.symbols_of(step.source):
        return ""
    try:
        local = mounts.to_local(resolve.address(directives.expand(step.source, {})))
        sizes = list(_sizes(local))
    except (UsageProblem, OSError):
        return ""
    more = "more than " if len(sizes) > _COUNTED else ""
    return f" ({more}{units.counted(len(sizes), 'file')}, {units.human_size(sum(sizes))})"


def _sizes(local: str) -> Iterator[int]:
    """The sizes of the files at or below a local path, and of one more than are counted. OSError if it is not there."""
    if not os.path.isdir(local):
        yield os.stat(local).st_size
        return
    count = 0
    for directory, _, names in os.walk(local):
        for name in names:
            yield os.lstat(os.path.join(directory, name)).st_size
            count += 1
            if count > _COUNTED:
                return


def _notes(plan: Plan) -> Iterator[str]:
    yield ""
    if any(step.uses("j", "A") for step in plan.steps):
        yield "%j is the id of the job, %A that of the array: known once it is submitted."
    if plan.on_this_machine:
        yield "Everything runs on this machine, now."
    elif plan.staging.mode == INLINE:
        yield "The job itself stages its data, on its nodes."
    elif plan.staging.mode == LOGIN:
        yield "No scheduler job stages the data: run globuswrap tend on a login node, from cron or with --follow."
    else:
        yield "Short scheduler jobs start the transfers and poll them; no node waits for one."
    yield "Nothing was submitted. Add -v to see every script and command."
    yield "To submit, give the same command without --dry-run."
