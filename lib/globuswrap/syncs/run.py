"""Run one `sync run`: check how the last tasks ended, find what is new, submit it, and exit.

The manifest changes only by what a task is known to have done. Submissions go through the journal under a key made of the
profile, the run and the task's number, so that whatever is killed where, each task is submitted once.
"""

from __future__ import annotations

import random
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from globuswrap.batches import tasks
from globuswrap.deletion import announcements
from globuswrap.errors import Problem, UsageProblem
from globuswrap.syncs import deleting, look, quota
from globuswrap.syncs import profile as profiles
from globuswrap.syncs.context import RunContext, RunOptions, RunResult
from globuswrap.syncs.planning import Planned
from globuswrap.syncs.profile import Profile
from globuswrap.syncs.settle import conclude, finish, settle, submit, whole
from globuswrap.syncs.state import RecordedRun, Run, State
from globuswrap.system import locks, log
from globuswrap.transfers import journal, operations, outcome
from globuswrap.transfers import wait as waiting


def sync(name: str | None = None, how: RunOptions | None = None, **given: Any) -> RunResult:
    """Run the profile [sync.NAME] once, as `globuswrap sync run` does. The keys `given` (`local_root`, `max_bytes`, ...) are laid
    over it; without a name they are the profile.

    What went wrong with the tasks is in the result (`issues`, `exit_code`); raises Problem for what stops the run.
    """
    return run(profiles.load(name, {key.replace("_", "-"): value for key, value in given.items()}), how)


def run(profile: Profile, how: RunOptions | None = None) -> RunResult:
    """Run a profile once. Troubles are in the result; raises Problem for what stops the run (login, unreadable source).

    Exit code 75 means: another run is at work, or the tasks of the last one are not finished.
    """
    how = how or RunOptions()
    state = State(profile.directory)
    if how.once and how.key is None:
        raise UsageProblem(
            "once-needs-key",
            "--once needs --key; without it, this profile would only ever run once",
            'name the run: --key "$(date +%F)" for one a day, --key "$SLURM_JOB_ID" for one in this job',
        )
    context = RunContext(profile, state, how, RunResult(key=how.key))
    if how.dry_run:
        return _rehearse(context)
    known = _known(context)
    if known is not None and known.reported:  # neither Globus, nor the tree, nor who works on it matters
        state.note(f"not run: {known.outcome} already under key {known.key!r}")
        _say_not_new(known.key, known.finished, known.task_ids, "ended")
        return _recorded(context, known)
    if how.start_delay > 0:
        time.sleep(random.uniform(0, how.start_delay))
    state.make()
    try:
        context.lease = locks.take(state.lease)
    except locks.LeaseTaken as taken:
        return _busy(context, f"not run: {taken.cause}")
    with context.lease:
        state.rotate()
        state.tidy()
        started = time.time()
        try:
            result = _run(context)
        except locks.LeaseLost as lost:
            return _busy(context, f"stopped: {lost.cause}")
        except Problem as problem:
            state.note(f"stopped: {problem.cause} [{problem.name}]")
            state.tell(problem.exit_code, "stopped", problem.cause, started)
            raise
        for issue in result.issues:
            state.note(f"{issue.name}: {issue.cause}")
        state.tell(result.exit_code, result.outcome, "; ".join(each.cause for each in result.issues), started)
        return result


def _busy(context: RunContext, note: str) -> RunResult:
    context.state.note(note)
    return RunResult(outcome="busy", later=True, key=context.options.key)


def _known(context: RunContext) -> RecordedRun | None:
    """The run under this key whose end is to be told, instead of beginning one; None if there is none.

    Raises UsageProblem if the key stands for a run of the same profile with another request.
    """
    how = context.options
    known = context.state.known(how.key) if how.key is not None else None
    if known is None or (known.reported and not (known.once or how.once)):
        return None
    _refuse_another(context, known.request)
    return known


def _refuse_another(context: RunContext, request: str) -> None:
    profile = context.profile
    if request != profile.request:
        raise UsageProblem(
            "key-taken",
            f"key {context.options.key} already names a run of {profile.name} with other options, rules, links or deletion",
            "use another --key",
        )


def _recorded(context: RunContext, known: RecordedRun) -> RunResult:
    skipped = outcome.code_of(outcome.WITH_SKIPS, strict=context.options.wait_policy.strict)
    issues = [replace(issue, code=skipped) if issue.name == "files-skipped" else issue for issue in known.issues]
    return RunResult(known.outcome, issues, list(known.task_ids), key=known.key, how="recorded")


def _say_not_new(key: str | None, moment: float, task_ids: Sequence[str], what: str) -> None:
    """Tell a person that a run under the key is there already, and no other is begun."""
    which = f" (task {', '.join(task_ids[:3])})" if task_ids else ""
    log.say(f"The run under key {key!r} {what} {operations.ago(moment)}{which}. Nothing new was sent.")


def _run(context: RunContext) -> RunResult:
    deleting.hold_source(context.profile, context.state)
    after = context.state.last_number()  # before anything is looked at: see State
    current = context.state.current()
    mine = current is not None and _is_mine(context, current)
    if not mine and (known := _known(context)) is not None:
        _say_not_new(known.key, known.finished, known.task_ids, "ended")
        return _reported(context)
    if current is not None:
        again = mine and _is_done_with(context, current)
        if mine and not again:
            _promise(context, current)
            if all(task.ended or ((entry := current.entry(task)) and entry.task_id) for task in current.tasks):
                _say_not_new(current.key, current.created, current.task_ids, "was started")
        wait_policy = context.options.wait_policy
        settle(context, current, wait_policy if context.options.wait else replace(wait_policy, timeout=0.0))
        if (mine and not again) or not current.settled:
            return _reported(context)
    before = len(context.result.issues)
    draft = context.state.draft(after)
    if context.profile.local_root is None:
        whole(context, draft)
    elif not look.draft_changes(context, draft):
        if context.options.key is None or context.result.outcome == "waiting" or len(context.result.issues) > before:
            return context.result  # under a key too: what could not be sent is no run
        draft = context.state.draft(after)
    context.planned_id = draft.id
    draft.issues = context.result.issues[before:]
    draft.key, draft.once, draft.request = context.options.key, context.options.once, context.profile.request
    draft.awaited, draft.destination = context.options.awaited, context.profile.destination.collection
    begun = context.state.begin(draft)
    if begun is None:
        if context.announced is not None:
            announcements.withdraw(context.announced)
        context.result.outcome, context.result.later = "busy", True
        context.state.note("another process has started a run")
        return context.result
    if begun.key is not None:
        context.result.how = "new"
    if quota.exceeded(context.profile):
        _withdraw_transfers(context, begun)
    submit(context, begun)
    context.result.outcome = "submitted"
    _promise(context, begun)
    if context.options.wait and not all(task.ended for task in begun.tasks):
        settle(context, begun, context.options.wait_policy)
    elif all(task.ended for task in begun.tasks):
        finish(context, begun, {})
    return _reported(context)


def _withdraw_transfers(context: RunContext, begun: Run) -> None:
    """Another profile has begun a run in the same moment, and both together are above the daily limit: this one waits."""
    for task in begun.tasks:
        task.ended = "withdrawn" if task.kind == "transfer" else task.ended
    begun.save()
    context.state.note("another profile sends as much as the daily limit allows: nothing is sent now")
    context.result.later = True


def _is_done_with(context: RunContext, current: Run) -> bool:
    """Is a new run due under its key: the tasks have ended, and who began it has what it was promised?"""
    if not current.kept or current.once or context.options.once:
        return False
    entries = [current.entry(task) for task in current.tasks if not task.ended]
    return tasks.ended(entries, context.options.wait_policy) is not None


def _promise(context: RunContext, current: Run) -> None:
    """Note what the caller of a run under a key is promised: the outcome if it waits, else the task ids."""
    fact = "awaited" if context.options.awaited else "answered"
    if current.key is not None and not getattr(current, fact):
        setattr(current, fact, True)
        current.save()


def _is_mine(context: RunContext, current: Run) -> bool:
    """Is it the run under this key? Raises UsageProblem if it is, of another request."""
    if context.options.key is None or current.key != context.options.key:
        return False
    _refuse_another(context, current.request)
    context.result.how = "adopted"
    return True


def _reported(context: RunContext) -> RunResult:
    """The result, with the end of the run under this key; what comes after it is done until it has been told once."""
    known = _known(context)
    if known is None:
        return context.result
    recorded = _recorded(context, known)
    others = [issue for issue in context.result.issues if issue not in known.issues]
    context.result = replace(
        recorded,
        issues=others + recorded.issues,
        planned=context.result.planned,
        committed=context.result.committed,
        how=context.result.how or "recorded",
    )
    if not known.reported:
        entries = (entry for entry in map(journal.by_task, known.task_ids) if entry is not None and entry.receipt)
        strict = context.options.wait_policy.strict
        found = {str(entry.task_id): waiting.from_receipt(entry, strict=strict) for entry in entries}
        conclude(context, found, lambda: context.state.note_reported(known))
    return context.result


def _rehearse(context: RunContext) -> RunResult:
    """What `run` would do now; nothing is sent, nothing of the state changes."""
    state = context.state
    context.result.outcome = "planned"
    known = _known(context)
    if known is not None:
        return _recorded(context, known)
    current = state.current() if state.runs.exists() else None
    if current is not None:
        context.result.task_ids = current.task_ids
        if _is_mine(context, current):
            return context.result
    if context.profile.local_root is None:
        return context.result
    with tempfile.TemporaryDirectory(prefix="globuswrap-sync-") as directory:
        draft = Run(Path(directory), "", 0.0)
        found = look.find(context, draft)
        context.result.planned = Planned() if found is None else look.plan(context, draft, found)
    return context.result
