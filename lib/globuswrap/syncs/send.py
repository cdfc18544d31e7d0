"""Submit the tasks of a run, each once, through the journal."""

from __future__ import annotations

from dataclasses import replace

from globuswrap.batches import tasks
from globuswrap.batches.spool import Spool
from globuswrap.deletion import announcements
from globuswrap.errors import Refused
from globuswrap.syncs import planning
from globuswrap.syncs.context import RunContext
from globuswrap.syncs.state import Run, Task, submissions_of
from globuswrap.system import units
from globuswrap.transfers import request as requests
from globuswrap.transfers import submit as submitting
from globuswrap.transfers.journal import Entry
from globuswrap.transfers.options import Options
from globuswrap.transfers.submit import Intent, Policy


def whole(context: RunContext, draft: Run) -> None:
    """A run of one task: the service compares both sides itself."""
    level = "checksum" if (context.state.unsure / "whole").exists() else None
    task = Task(1, "transfer", 1, sync_level=level, whole=True)
    task.digest = _intent(context, draft, task).digest
    draft.tasks.append(task)


def submit(context: RunContext, current: Run) -> dict[int, Entry]:
    """Submit what of a run has not been; the entries of its tasks that are not settled, by number. Raises TryLater and
    LoginNeeded; a refusal ends that task."""
    entries: dict[int, Entry] = {}
    for task in sorted(current.tasks, key=lambda each: each.kind != "delete"):  # while what was looked at is fresh
        context.renew()
        if task.ended:
            continue
        before = current.entry(task)
        known = before is not None and before.task_id is not None
        if task.kind == "delete" and not known and current.id != context.planned_id:
            withdraw(context, current, task)
            continue
        policy = Policy(retry_for=context.options.wait_policy.retry_for)
        try:
            submitted = tasks.submit(current.submission(task.number), _intent(context, current, task), policy)
        except Refused as problem:
            if problem.name == "odd-answer":
                raise
            context.add_problem(problem)
            current.issues.append(context.result.issues[-1])
            task.ended = "refused"
            current.save()
            continue
        entries[task.number] = submitted.entry
        if not known:
            what = f"{task.kind} of {task.items} items, {units.human_size(task.bytes)}"
            context.state.note(f"task {submitted.task_id}: {what}")
            context.result.task_ids.append(submitted.task_id)
    return entries


def withdraw(context: RunContext, current: Run, task: Task) -> None:
    """End a deletion that another process planned and is not known to have submitted: what it looked at is long ago.

    What it covers stays in the manifest, and is looked at anew.
    """
    announcements.clear(submissions_of(context.profile.directory, current))
    task.ended = "withdrawn"
    current.save()
    context.state.note(
        f"a deletion of {units.counted(task.items, 'file')} was not submitted in time; it is planned again"
    )


def _intent(context: RunContext, current: Run, task: Task) -> Intent:
    profile = context.profile
    if task.whole:
        options = Options(
            **{**vars(profile.options), "filters": profile.filters.rules}
            | ({"sync_level": task.sync_level} if task.sync_level else {})
        )
        request = requests.transfer(
            profile.source,
            profile.destination,
            recursive=True,
            options=options,
            label=profile.label or f"globuswrap sync {profile.name}",
            notify=profile.notify,
            deadline=planning.deadline(profile),
        )
        intent = submitting.intent_of(request)
        if not task.digest:
            return intent
        # What was begun stays what it is, also when the profile is edited before its reply has come.
        label = requests.tagged_label(request.label, task.digest, task.kind)
        return replace(intent, digest=task.digest, label=label)

    frame = planning.frame(profile, task)
    label = requests.tagged_label(frame.label, task.digest, task.kind)
    within: tuple[str, str | None] = (profile.source.path, profile.destination.path)
    if task.kind == "delete":
        within = (profile.destination.path, None)
    piece = Spool((current.directory / task.body).open("rb")).whole(task.items, task.digest)
    return tasks.intent_of(frame, piece, task.digest, label, within)
