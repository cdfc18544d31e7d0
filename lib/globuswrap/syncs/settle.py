"""Bring the tasks of a run to their end: submit each once, wait, record what they did in the manifest, note which failed."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

from globuswrap.batches import tasks
from globuswrap.batches.spool import Spool
from globuswrap.collections.address import normalised
from globuswrap.deletion import announcements
from globuswrap.errors import DONE, Refused, TryLater
from globuswrap.syncs import manifest, planning
from globuswrap.syncs.context import RunContext
from globuswrap.syncs.profile import Profile
from globuswrap.syncs.state import Run, Task, submissions_of
from globuswrap.system import records, units
from globuswrap.transfers import operations
from globuswrap.transfers import outcome as outcomes
from globuswrap.transfers import request as requests
from globuswrap.transfers import submit as submitting
from globuswrap.transfers.journal import Entry
from globuswrap.transfers.outcome import Outcome
from globuswrap.transfers.submit import Intent, Policy
from globuswrap.transfers.wait import WaitPolicy, Watcher


def whole(context: RunContext, draft: Run) -> None:
    """A run of one task: the service compares both sides itself."""
    level = "checksum" if (context.state.unsure / "whole").exists() else None
    task = Task(1, "transfer", 1, sync_level=level, whole=True)
    request = requests.checked(planning.frame(context.profile, task))
    task.digest = requests.digest_of(requests.content(request))
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
            _withdraw(context, current, task)
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


def _withdraw(context: RunContext, current: Run, task: Task) -> None:
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
    frame = planning.frame(profile, task)
    label = requests.tagged_label(frame.label, task.digest, task.kind)
    if task.whole:  # what was begun stays what it is, also when the profile is edited before its reply has come
        return replace(submitting.intent_of(frame), digest=task.digest, label=label)
    source, destination = profile.source.path, profile.destination.path
    within = (destination, None) if task.kind == "delete" else (source, destination)
    piece = Spool((current.directory / task.body).open("rb")).whole(task.items, task.digest)
    return tasks.intent_of(frame, piece, task.digest, label, within)


def settle(context: RunContext, current: Run, wait_policy: WaitPolicy) -> None:
    """Bring a run to its end if its tasks have ended; else the result says how they stand."""
    if current.tasks and all(task.ended for task in current.tasks):  # by a process that did not live to tell
        context.result.issues.extend(current.issues)
    entries = submit(context, current)
    found = tasks.outcomes(entries.values(), wait_policy, _watcher(context))
    context.renew()
    stand = [(task, found[str(entries[task.number].task_id)]) for task in current.tasks if task.number in entries]
    for _, known in stand:
        if not known.terminal and known.exit_code != TryLater.exit_code:
            cause = f"task {known.task_id}: {known.cause}"
            context.add_issue(f"task-{known.name}", cause, known.remedy, known.exit_code)
    commit(context, current, [(task, known) for task, known in stand if known.terminal])
    if all(task.ended for task in current.tasks):
        finish(context, current, found)
    else:
        context.result.later = True
        context.result.outcome = "running"
        running = [known.task_id for _, known in stand if not known.terminal]
        context.state.note(f"not finished: {len(running)} tasks of the last run, such as {running[0]}")


def _watcher(context: RunContext) -> Watcher:
    def watch(documents: Any) -> None:
        context.renew()
        if context.options.watcher is not None:
            context.options.watcher(documents)

    return watch


def commit(context: RunContext, current: Run, ended: list[tuple[Task, Outcome]]) -> None:
    """Take finished tasks into the manifest, in one pass, and note which failed. Done twice it does no harm."""
    before = len(context.result.issues)
    deltas: dict[tuple[Any, ...], list[Iterable[manifest.Delta]]] = {}
    for task, known in ended:
        good = known.name in outcomes.GOOD
        skipped = _skipped(context.profile, task, known) if good else None
        context.state.note(f"task {known.task_id}: {known.name}{': ' + known.cause if known.cause else ''}")
        if skipped is None:
            _tell_failed(context, known, good)
            _set_aside(context, current, task)
            continue
        if known.name == outcomes.WITH_SKIPS:
            cause = f"task {known.task_id}: {known.cause}; they are sent again"
            context.add_issue("files-skipped", cause, known.remedy, known.exit_code)
        if not task.whole:
            kind = (task.kind, task.sync_level)
            delta = manifest.without(manifest.delta_blocks(current.directory / task.delta), skipped)
            deltas.setdefault(kind, []).append(delta)
    for following in deltas.values():  # tasks of one kind follow each other in order
        blocks = _renewing(context, itertools.chain.from_iterable(following))
        context.result.committed += manifest.merge(context.state.manifest, blocks, context.state.manifest)
    for task, known in ended:
        task.ended = known.name
    current.issues += context.result.issues[before:]
    current.save()
    for task, _ in ended:
        entry = current.entry(task)
        if entry is not None:
            operations.report(entry)


def _tell_failed(context: RunContext, known: Outcome, skips_unreadable: bool) -> None:
    if skips_unreadable:
        context.add_issue(
            "skips-unreadable",
            f"task {known.task_id} skipped files, and the list of them cannot be read: all its files are sent again",
            f"globus task show {known.task_id} --skipped-errors",
        )
    else:
        cause = f"task {known.task_id} {known.name}: {known.cause}"
        context.add_issue(f"task-{known.name}", cause, known.remedy, known.exit_code)


def _renewing(context: RunContext, blocks: Iterable[manifest.Delta]) -> Iterable[manifest.Delta]:
    for block in blocks:
        context.renew()
        yield block


def _skipped(profile: Profile, task: Task, ended: Outcome) -> set[bytes] | None:
    """The paths that a good task skipped, below the root; None if that cannot be known."""
    if ended.name == outcomes.SUCCEEDED:
        return set()
    receipt = ended.receipt or {}
    listed = receipt.get("skipped")
    if not listed or len(listed) < int(receipt.get("skipped_errors") or 0):
        return None
    if task.whole:
        return set()
    top = normalised(profile.source.path).rstrip("/")
    below = set()
    for row in listed:
        path = normalised(str(row.get("source") or ""))
        if path != top and not path.startswith(f"{top}/"):
            return None
        below.add(path[len(top) + 1 :].encode("utf-8", "surrogatepass"))
    return below


def _set_aside(context: RunContext, current: Run, task: Task) -> None:
    """What a failed task covered is sent with checksums from now on: something of it may have arrived half."""
    if task.kind != "transfer":
        return
    if task.whole:
        (context.state.unsure / "whole").touch(mode=0o600)
        return
    aside = context.state.unsure / f"{current.id}-{task.delta}"
    with contextlib.suppress(FileNotFoundError):  # already done, and the run has ended
        records.link(str(current.directory / task.delta), aside)


def finish(context: RunContext, current: Run, found: dict[str, Outcome]) -> None:
    """All tasks have ended: the run is over, and what it sent again is no longer in doubt."""
    failed = [task for task in current.tasks if task.ended not in outcomes.GOOD]
    if not any(task.kind == "transfer" for task in failed):
        for name in current.unsure:
            (context.state.unsure / name).unlink(missing_ok=True)
    if context.lease is not None:
        context.lease.check()
    if any(task.kind == "delete" for task in current.tasks):
        announcements.clear(submissions_of(context.profile.directory, current))
    if current.key is not None and not any(task.ended in ("refused", "withdrawn") for task in current.tasks):
        context.state.remember(current, context.options.once and context.options.key == current.key)
    context.state.end(current)
    context.result.outcome = "finished"
    if context.options.key is None:
        conclude(context, found)  # under a key when that run is told of, and for no other


def conclude(context: RunContext, found: dict[str, Outcome], report: Callable[[], None] = lambda: None) -> None:
    """Do what comes after the run, for its worst outcome, then report it."""
    worst = sorted(found.values(), key=lambda each: each.exit_code == DONE)
    if worst:
        operations.conclude(worst[0], context.options.after, report)
    else:
        report()
