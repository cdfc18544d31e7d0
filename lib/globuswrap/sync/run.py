"""One `sync run`: settle what the last one submitted, look for what is new, submit it, and leave.

The manifest changes here alone, and only by what a task is known to have done. Submissions go through the journal under a key
made of the profile, the run and the task's number, so that whatever is killed where, each task is submitted once.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import random
import shutil
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from globuswrap.collections.address import normalised
from globuswrap.deletion import announcements, mirror, uses
from globuswrap.deletion.announcements import Announcement
from globuswrap.errors import DONE, FinishedWithSkips, Problem, Refused, TryLater, UsageProblem, combined
from globuswrap.sync import check as checking
from globuswrap.sync import deleting, manifest, planning, scan
from globuswrap.sync.compare import Seen, compare
from globuswrap.sync.manifest import at_or_below
from globuswrap.sync.profile import Profile
from globuswrap.sync.state import Known, Run, State, Task, Trouble
from globuswrap.system import locks, log, units
from globuswrap.transfers import journal, operations
from globuswrap.transfers import request as requests
from globuswrap.transfers import submit as submitting
from globuswrap.transfers import wait as waiting
from globuswrap.transfers.operations import After
from globuswrap.transfers.options import Options
from globuswrap.transfers.outcome import Outcome
from globuswrap.transfers.submit import Intent, Policy
from globuswrap.transfers.wait import Patience, Watcher


@dataclass(frozen=True)
class How:
    """How to run. `wait`: hold until the tasks of this run are finished. `start_delay`: wait up to so many seconds first.

    `key` names this run of the profile: rerun under it, the same run is settled until the caller has what it was promised, which
    is the outcome with `wait` and the submission without; with `once` there is no other, and the recorded outcome is told again.
    `allow_empty`: a source without files is meant to be so.
    """

    wait: bool = False
    patience: Patience = field(default_factory=Patience)
    after: After = field(default_factory=After)
    dry_run: bool = False
    start_delay: float = 0.0
    watcher: Watcher | None = None
    key: str | None = None
    once: bool = False
    allow_empty: bool = False

    def __post_init__(self) -> None:
        requests.checked_name(self.key)

    @property
    def awaited(self) -> bool:
        """Is the caller promised the outcome, not just the submission?"""
        return self.wait or self.after != After()


@dataclass
class Result:
    """What a run did. `outcome`: `nothing-to-do`, `submitted`, `running`, `busy`, `finished`, `waiting`, `planned`.

    `how`, of the run under a key: `new`, `adopted` (begun before), `recorded` (its end was known before).
    """

    outcome: str = "nothing-to-do"
    troubles: list[Trouble] = field(default_factory=list)
    task_ids: list[str] = field(default_factory=list)
    planned: planning.Planned | None = None
    committed: int = 0
    later: bool = False
    key: str | None = None
    how: str | None = None

    @property
    def exit_code(self) -> int:
        return combined([trouble.code for trouble in self.troubles] + ([75] if self.later else []))

    def as_data(self) -> dict[str, Any]:
        return {
            "outcome": self.outcome,
            "key": self.key,
            "how": self.how,
            "task_ids": self.task_ids,
            "committed": self.committed,
            "troubles": [vars(trouble) for trouble in self.troubles],
            "plan": planning.as_data(self.planned) if self.planned is not None else None,
        }


def run(profile: Profile, how: How | None = None) -> Result:
    """Run a profile once. Troubles are in the result; raises Problem for what stops the run (login, unreadable source).

    Exit code 75 means: another run is at work, or the tasks of the last one are not finished.
    """
    how = how or How()
    state = State(profile.directory)
    if how.once and how.key is None:
        raise UsageProblem(
            "once-needs-key",
            "--once without --key would be one run of this profile for ever",
            'name the run: --key "$(date +%F)" for one a day, --key "$SLURM_JOB_ID" for one in this job',
        )
    if how.dry_run:
        return _Runner(profile, state, how, None).rehearse()
    known = _known(profile, state, how)
    if known is not None and known.reported:  # neither Globus, nor the tree, nor who works on it matters
        state.note(f"not run: {known.outcome} already under key {known.key!r}")
        log.say(not_new(known.key, known.finished, known.task_ids, "ended"))
        return _recorded(known, how)
    if how.start_delay > 0:
        time.sleep(random.uniform(0, how.start_delay))
    state.make()
    try:
        lease = locks.take(state.lease)
    except locks.LeaseTaken as taken:
        state.note(f"not run: {taken.cause}")
        return Result(outcome="busy", later=True, key=how.key)
    with lease:
        state.rotate()
        state.tidy()
        started = time.time()
        try:
            result = _Runner(profile, state, how, lease).run()
        except locks.LeaseLost as lost:
            state.note(f"stopped: {lost.cause}")
            return Result(outcome="busy", later=True, key=how.key)
        except Problem as problem:
            state.note(f"stopped: {problem.cause} [{problem.name}]")
            state.tell(_told(problem.exit_code, started, "stopped", problem.cause))
            raise
        for trouble in result.troubles:
            state.note(f"{trouble.name}: {trouble.cause}")
        state.tell(_told(result.exit_code, started, result.outcome, "; ".join(each.cause for each in result.troubles)))
        return result


def _told(code: int, started: float, outcome: str, message: str) -> dict[str, Any]:
    return {
        "exit_code": code,
        "outcome": outcome,
        "message": message,
        "started": started,
        "finished": time.time(),
    }


def _known(profile: Profile, state: State, how: How) -> Known | None:
    """The run under this key whose end is to be told, instead of beginning one; None if there is none.

    Raises UsageProblem if the key stands for a run of the same profile with another request.
    """
    known = state.known(how.key) if how.key is not None else None
    if known is None or (known.reported and not (known.once or how.once)):
        return None
    _refuse_another(profile, known.request, known.key)
    return known


def _refuse_another(profile: Profile, request: str, key: str | None) -> None:
    if request != profile.request:
        raise UsageProblem(
            "key-taken",
            f"key {key} already stands for a run of {profile.name} with other options, rules, links or deletion",
            "use another --key",
        )


def _recorded(known: Known, how: How) -> Result:
    def now(trouble: Trouble) -> Trouble:
        return replace(trouble, code=_skips(how.patience)) if trouble.name == "files-skipped" else trouble

    troubles = [now(trouble) for trouble in known.troubles]
    return Result(known.outcome, troubles, list(known.task_ids), key=known.key, how="recorded")


def not_new(key: str | None, moment: float, task_ids: Sequence[str], what: str) -> str:
    """What a person is told when a run under a key is there already, and another is not begun."""
    tasks = f" (task {', '.join(task_ids[:3])})" if task_ids else ""
    return f"The run under key {key!r} {what} {operations.ago(moment)}{tasks}. Nothing new was sent."


def _skips(patience: Patience) -> int:
    return FinishedWithSkips.exit_code if patience.strict else DONE


class _Runner:
    def __init__(self, profile: Profile, state: State, how: How, lease: locks.Lease | None) -> None:
        self.profile = profile
        self.state = state
        self.how = how
        self.lease = lease
        self.result = Result(key=how.key)
        self.found: dict[str, Outcome] = {}
        #: The run that this process planned: only that one's deletions are submitted, because only for them it looked.
        self.planned_id: str | None = None
        self.announced: Announcement | None = None

    def renew(self) -> None:
        if self.lease is not None:
            self.lease.renew()

    def run(self) -> Result:
        _hold_source(self.profile, self.state)
        after = self.state.last_number()  # before anything is looked at: see State
        current = self.state.current()
        mine = current is not None and self.is_mine(current)
        if not mine and (known := _known(self.profile, self.state, self.how)) is not None:
            log.say(not_new(known.key, known.finished, known.task_ids, "ended"))
            return self.told()
        if current is not None:
            again = mine and self._is_done_with(current)
            if mine and not again:
                self._promise(current)
                task_ids = [task.task_id for task in current.tasks if task.task_id]
                if all(task.task_id or task.ended for task in current.tasks):
                    log.say(not_new(current.key, current.created, task_ids, "was begun"))
            self.settle(current, self.how.patience if self.how.wait else replace(self.how.patience, timeout=0.0))
            if (mine and not again) or not _settled(current):
                return self.told()
        before = len(self.result.troubles)
        draft = self.state.draft(after)
        if self.profile.local_root is None:
            self.whole(draft)
        elif not self.changes(draft):
            if self.how.key is None or self.result.outcome == "waiting" or len(self.result.troubles) > before:
                return self.result  # under a key too: what could not be sent is no run
            draft = self.state.draft(after)
        self.planned_id = draft.id
        draft.troubles = self.result.troubles[before:]
        draft.key, draft.once, draft.request = self.how.key, self.how.once, self.profile.request
        draft.awaited = self.how.awaited
        begun = self.state.begin(draft)
        if begun is None:
            if self.announced is not None:
                announcements.withdraw(self.announced)
            self.result.outcome, self.result.later = "busy", True
            self.state.note("another process has begun a run meanwhile")
            return self.result
        if begun.key is not None:
            self.result.how = "new"
        self.submit(begun)
        self.result.outcome = "submitted"
        self._promise(begun)
        if self.how.wait and not all(task.ended for task in begun.tasks):
            self.settle(begun, self.how.patience)
        elif all(task.ended for task in begun.tasks):
            self.finish(begun, {})
        return self.told()

    def _is_done_with(self, current: Run) -> bool:
        """Is a new run due under its key: the tasks have ended, and who began it has what it was promised?"""
        if not current.kept or current.once or self.how.once:
            return False
        tasks = [task for task in current.tasks if not task.ended]
        entries = [journal.read(Path(task.entry)) if task.entry else None for task in tasks]
        running = [entry for entry in entries if entry is not None and not entry.finished]
        if None in entries or any(entry.task_id is None for entry in running):
            return False
        looked = waiting.wait(running, replace(self.how.patience, timeout=0.0)) if running else {}
        return all(found.terminal for found in looked.values())

    def _promise(self, current: Run) -> None:
        """Note what the caller of a run under a key is promised: the outcome if it waits, else the task ids."""
        fact = "awaited" if self.how.awaited else "answered"
        if current.key is not None and not getattr(current, fact):
            setattr(current, fact, True)
            current.save()

    def is_mine(self, current: Run) -> bool:
        """Is it the run under this key? Raises UsageProblem if it is, of another request."""
        if self.how.key is None or current.key != self.how.key:
            return False
        _refuse_another(self.profile, current.request, current.key)
        self.result.how = "adopted"
        return True

    def told(self) -> Result:
        """The result, with the end of the run under this key; what comes after it is done until it has been told once."""
        known = _known(self.profile, self.state, self.how)
        if known is None:
            return self.result
        recorded = _recorded(known, self.how)
        others = [trouble for trouble in self.result.troubles if trouble not in known.troubles]
        self.result = replace(
            recorded,
            troubles=others + recorded.troubles,
            planned=self.result.planned,
            committed=self.result.committed,
            how=self.result.how or "recorded",
        )
        if not known.reported:
            found = {task_id: each for task_id, each in self.found.items() if task_id in known.task_ids}
            for entry in map(journal.read, map(Path, known.entries)):
                if entry is not None and entry.task_id and entry.receipt is not None:
                    found.setdefault(entry.task_id, waiting.from_receipt(entry, strict=self.how.patience.strict))
            self.conclude(found, lambda: self.state.note_reported(known))
        return self.result

    def conclude(self, found: dict[str, Outcome], report: Callable[[], None] = lambda: None) -> None:
        """Do what comes after the run, for its worst outcome, then report it."""
        worst = sorted(found.values(), key=lambda each: each.exit_code == DONE)
        if worst:
            operations.conclude(worst[0], self.how.after, report)
        else:
            report()

    # What the last run submitted.

    def settle(self, current: Run, patience: Patience) -> None:
        """Bring a run to its end if its tasks have ended; else the result says how they stand."""
        if current.tasks and all(task.ended for task in current.tasks):  # by a process that did not live to tell
            self.result.troubles.extend(current.troubles)
        self.submit(current)
        entries = [journal.read(Path(task.entry)) for task in current.tasks if task.entry and not task.ended]
        pending = [entry for entry in entries if entry is not None]
        found = self.found = {}
        strict = self.how.patience.strict
        done = {
            entry.task_id: waiting.from_receipt(entry, strict=strict) for entry in pending if entry.receipt is not None
        }
        found.update({task_id: each for task_id, each in done.items() if task_id})
        rest = [entry for entry in pending if entry.receipt is None and entry.task_id]
        known = {entry.task_id for entry in pending}
        lost = [task.task_id for task in current.tasks if task.task_id and not task.ended and task.task_id not in known]
        if rest or lost:
            found.update(waiting.wait([*rest, *lost], patience, self._watcher()))
        self.renew()
        ended: dict[int, Outcome] = {}
        for task in current.tasks:
            stands = found.get(task.task_id or "")
            if stands is None or task.ended:
                continue
            if stands.terminal:
                ended[task.number] = stands
            else:
                self._unfinished(task, stands)
        self.commit(current, [(task, ended[task.number]) for task in current.tasks if task.number in ended])
        if all(task.ended for task in current.tasks):
            self.finish(current, found)
        else:
            self.result.later = True
            self.result.outcome = "running"
            running = [task.task_id for task in current.tasks if not task.ended]
            self.state.note(f"not finished: {len(running)} tasks of the last run, such as {running[0]}")

    def _watcher(self) -> Watcher:
        def watch(documents: Any) -> None:
            self.renew()
            if self.how.watcher is not None:
                self.how.watcher(documents)

        return watch

    def _unfinished(self, task: Task, ended: Outcome) -> None:
        if ended.exit_code != TryLater.exit_code:
            self._trouble(ended.exit_code, f"task-{ended.name}", f"task {task.task_id}: {ended.cause}", ended.remedy)

    def commit(self, current: Run, ended: list[tuple[Task, Outcome]]) -> None:
        """Take finished tasks into the manifest, in one pass, and note which failed. Done twice it does no harm."""
        before = len(self.result.troubles)
        deltas: dict[tuple[Any, ...], list[Iterable[manifest.Delta]]] = {}
        for task, known in ended:
            good = known.name in ("succeeded", "succeeded-with-skips")
            skipped = self._skipped(task, known) if good else None
            self.state.note(f"task {task.task_id}: {known.name}{': ' + known.cause if known.cause else ''}")
            if skipped is None:
                self._tell_failed(task, known, good)
                self._set_aside(current, task)
                continue
            if known.name == "succeeded-with-skips":
                cause = f"task {task.task_id}: {known.cause}; they are sent again"
                self._trouble(_skips(self.how.patience), "files-skipped", cause, known.remedy)
            if not task.whole:
                kind = (task.kind, task.sync_level)
                delta = _without(manifest.delta_blocks([current.directory / task.delta]), skipped)
                deltas.setdefault(kind, []).append(delta)
        for following in deltas.values():  # tasks of one kind follow each other in order
            blocks = self._renewing(itertools.chain.from_iterable(following))
            self.result.committed += manifest.merge(self.state.manifest, blocks, self.state.manifest)
        for task, known in ended:
            task.ended = known.name
        current.troubles += self.result.troubles[before:]
        current.save()
        for task, _ in ended:
            entry = journal.read(Path(task.entry)) if task.entry is not None else None
            if entry is not None:
                operations.report(entry)

    def _tell_failed(self, task: Task, known: Outcome, skips_unreadable: bool) -> None:
        if skips_unreadable:
            self._trouble(
                Refused.exit_code,
                "skips-unreadable",
                f"task {task.task_id} skipped files, and which cannot be read: all it sent is sent again",
                f"globus task show {task.task_id} --skipped-errors",
            )
        else:
            cause = f"task {task.task_id} {known.name}: {known.cause}"
            self._trouble(known.exit_code, f"task-{known.name}", cause, known.remedy)

    def _renewing(self, blocks: Iterable[manifest.Delta]) -> Iterable[manifest.Delta]:
        for block in blocks:
            self.renew()
            yield block

    def _skipped(self, task: Task, ended: Outcome) -> set[bytes] | None:
        """The paths that a good task skipped, below the root; None if that cannot be known."""
        if ended.name == "succeeded":
            return set()
        receipt = ended.receipt or {}
        listed = receipt.get("skipped")
        if not listed or len(listed) < int(receipt.get("skipped_errors") or 0):
            return None
        if task.whole:
            return set()
        top = normalised(self.profile.source.path).rstrip("/")
        below = set()
        for row in listed:
            path = normalised(str(row.get("source") or ""))
            if path != top and not path.startswith(f"{top}/"):
                return None
            below.add(path[len(top) + 1 :].encode("utf-8", "surrogatepass"))
        return below

    def _set_aside(self, current: Run, task: Task) -> None:
        """What a failed task covered is sent with checksums from now on: something of it may have arrived half."""
        if task.kind != "transfer":
            return
        if task.whole:
            (self.state.unsure / "whole").touch(mode=0o600)
            return
        aside = self.state.unsure / f"{current.id}-{task.delta}"
        with contextlib.suppress(FileExistsError, FileNotFoundError):
            os.link(current.directory / task.delta, aside)

    def finish(self, current: Run, found: dict[str, Outcome]) -> None:
        """All tasks have ended: the run is over, and what it sent again is no longer in doubt."""
        failed = [task for task in current.tasks if task.ended not in ("succeeded", "succeeded-with-skips")]
        if not any(task.kind == "transfer" for task in failed):
            for name in current.unsure:
                (self.state.unsure / name).unlink(missing_ok=True)
        if self.lease is not None:
            self.lease.check()
        if any(task.kind == "delete" for task in current.tasks):
            announcements.clear(planning.submissions_of(self.profile, current))
        if current.key is not None and not any(task.ended in ("refused", "withdrawn") for task in current.tasks):
            self.state.remember(current, self.how.once and self.how.key == current.key)
        self.state.end(current)
        self.result.outcome = "finished"
        if self.how.key is None:
            self.conclude(found)  # under a key when that run is told of, and for no other

    # What is to be sent now.

    def whole(self, draft: Run) -> None:
        """A run of one task: the service compares both sides itself."""
        level = "checksum" if (self.state.unsure / "whole").exists() else None
        task = Task(1, "transfer", 1, sync_level=level, whole=True)
        task.digest = self._intent(draft, task).digest
        draft.tasks.append(task)

    def changes(self, draft: Run) -> bool:
        """A run of what differs from the manifest; False, and the draft is gone, if nothing is to be sent."""
        keep = False
        try:
            if not self.check_file_stands():
                return False
            seen = Seen()
            found = self.look(draft, seen)
            if seen.left_out:
                path, what = seen.examples[0]
                self.state.note(f"{seen.left_out} left out, such as {os.fsdecode(path)} ({what})")
            self._tell_unreadable(seen)
            if self.unexpectedly_empty(found, seen):
                return False
            self.state.set_mounts(self.mounts(found, seen))
            if not (found.coming or (self.profile.delete and found.gone)):
                self.state.note(
                    f"nothing new; {found.gone} gone files are still at the destination"
                    if found.gone
                    else "nothing new"
                )
                return False
            planned = self.plan(draft, found, seen)
            forgotten = draft.directory / deleting.FORGOTTEN
            if planned.forgotten:
                manifest.merge(self.state.manifest, manifest.delta_blocks([forgotten]), self.state.manifest)
                forgotten.unlink()
            self.result.planned = planned
            self._tell_plan(planned, found.gone)
            found.delta.unlink()
            keep = bool(draft.tasks)
            if not keep and planned.settling:
                self.result.outcome = "waiting"
            return keep
        finally:
            if not keep:
                shutil.rmtree(draft.directory, ignore_errors=True)

    def look(self, draft: Run, seen: Seen) -> planning.Differences:
        """Scan, compare, and write down what differs."""
        frames = _counted(scan.scan(self.profile.root, self.profile.scanning))
        blocks = compare(frames, manifest.open_manifest(self.state.manifest), seen)
        return planning.write_candidates(blocks, draft.directory / "candidates.delta.gz", self.renew)

    def plan(self, draft: Run, found: planning.Differences, seen: Seen) -> planning.Planned:
        planned = planning.plan(self.profile, self.state, draft, found, self.renew)
        if self.profile.delete and found.gone:
            self.announced = deleting.plan(
                self.profile, self.state, draft, found, seen, planned, self.renew, announce=not self.how.dry_run
            )
        return planned

    def check_file_stands(self) -> bool:
        """Whether the check-file, if the profile has one, is there; else the result says that it is not."""
        problem = checking.check_file(self.profile)
        if isinstance(problem, UsageProblem):
            raise problem
        if problem is not None:
            self._trouble(problem.exit_code, problem.name, problem.cause, problem.remedy)
        return problem is None

    def unexpectedly_empty(self, found: planning.Differences, seen: Seen) -> bool:
        """Whether a source that had files has none, and nobody said that it is meant; the result says so then."""
        if seen.any_file or not found.gone or self.how.allow_empty:
            return False
        problem = checking.source_empty(self.profile)
        self._trouble(problem.exit_code, problem.name, problem.cause, problem.remedy)
        return True

    def mounts(self, found: planning.Differences, seen: Seen) -> set[bytes]:
        """The mount points to remember: those of now, and those that are none any more while files below them are gone."""
        lost = self.state.mounts() - seen.mounts
        still = {path for path in lost if seen.is_unknown(path)}
        if lost and found.gone:
            for directory, rows in manifest.delta_blocks([found.delta]):
                if any(row[:1] == b"-" and len(row) > 1 for row in rows):
                    still |= {path for path in lost if at_or_below(directory[1:], {path})}
        return seen.mounts | still

    def submit(self, current: Run) -> None:
        """Submit what of a run has not been. Raises TryLater and LoginNeeded; a refusal ends that task."""
        for task in sorted(current.tasks, key=lambda each: each.kind != "delete"):  # while what was looked at is fresh
            self.renew()
            if task.task_id or task.ended:
                continue
            if task.kind == "delete" and current.id != self.planned_id:
                self.withdraw(current, task)
                continue
            policy = Policy(
                name=planning.submission_name(self.profile, current, task.number), retry_for=self.how.patience.retry_for
            )
            try:
                submitted = submitting.submit_intent(self._intent(current, task), policy)
            except Refused as problem:
                if problem.name == "odd-answer":
                    raise
                self._trouble(problem.exit_code, problem.name, problem.cause, problem.remedy)
                current.troubles.append(self.result.troubles[-1])
                task.ended = "refused"
                current.save()
                continue
            task.task_id = submitted.task_id
            task.entry = str(submitted.entry.path)
            current.save()
            self.state.note(f"task {task.task_id}: {task.kind} of {task.items} items, {units.human_size(task.bytes)}")
            self.result.task_ids.append(task.task_id)

    def withdraw(self, current: Run, task: Task) -> None:
        """End a deletion that another process planned and is not known to have submitted: what it looked at is long ago.

        What it covers stays in the manifest, and is looked at anew.
        """
        announcements.clear(planning.submissions_of(self.profile, current))
        task.ended = "withdrawn"
        current.save()
        self.state.note(
            f"a deletion of {units.counted(task.items, 'file')} was not submitted in time; it is planned anew"
        )

    def _intent(self, current: Run, task: Task) -> Intent:
        profile = self.profile
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

        def send(submission_id: str, label: str) -> Any:
            body = planning.write_body(profile, current, task, submission_id, label)
            try:
                return submitting.post(f"/{task.kind}", body)
            finally:
                body.unlink(missing_ok=True)

        frame = planning.frame(profile, task)
        return Intent(
            digest=task.digest,
            label=requests.tagged_label(frame.label, task.digest, task.kind),
            kind=task.kind,
            source=frame.source,
            destination=frame.destination,
            items=task.items,
            examples=((profile.source.path, profile.destination.path),),
            send=send,
        )

    # What to tell.

    def _trouble(self, code: int, name: str, cause: str, remedy: str) -> None:
        self.result.troubles.append(Trouble(code, name, cause, remedy))

    def _tell_unreadable(self, seen: Seen) -> None:
        if not seen.unknown:
            return
        path, reason = next(iter(seen.unknown.items()))
        links = self.profile.symlinks == "error" and reason == "is a symbolic link"
        self._trouble(
            Refused.exit_code,
            "symbolic-links" if links else "source-partly-unreadable",
            f"{len(seen.unknown)} paths cannot be sent, such as {os.fsdecode(path)!r}: {reason}; the rest is",
            "choose what to do with links: symlinks = skip, follow or keep"
            if links
            else "let this user read them, or exclude them",
        )

    def _tell_plan(self, planned: planning.Planned, gone: int) -> None:
        self.state.note(
            f"to send {planned.sent} ({units.human_size(planned.size)}), to delete {planned.deleted}, "
            f"still changing {planned.settling}, for the next run {planned.over_limit}"
        )
        if planned.unsendable and not self.profile.skip_unsendable:
            self._trouble(
                Refused.exit_code,
                "unsendable-names",
                f"{len(planned.unsendable)} names that Globus cannot take, such as {planned.unsendable[0]}; the rest is sent",
                "rename them, or set skip-unsendable = true",
            )
        if planned.blocked:
            path = planned.blocked[0]
            self._trouble(
                Refused.exit_code,
                "kind-changed",
                f"{len(planned.blocked)} files wait, such as {path!r}: a file became a directory or a directory a file, and the "
                "old one is at the destination",
                "they follow when it is deleted: at the next runs with delete = true, else delete it there and then: "
                f"globuswrap sync baseline {self.profile.name} --forget --path PATH",
            )
        if planned.forgotten:
            self.state.note(
                f"{planned.forgotten} files are gone here, and are no longer at the destination or ours to delete"
            )
        if planned.kept:
            path, reason = planned.kept[0]
            self._trouble(
                Refused.exit_code,
                "kept-at-destination",
                f"{units.counted(len(planned.kept), 'file')} that are gone at the source stay at the destination, such as "
                f"{self.profile.destination.joined(path).shown!r}: {reason}",
                "delete them there yourself if nobody needs them; to stop tracking one: "
                + log.shell_line(("globuswrap", "sync", "baseline", self.profile.name, "--forget", "--path", path)),
            )
        if planned.deletions_refused:
            self._trouble(
                Refused.exit_code,
                "nothing-deleted",
                f"nothing was deleted: {planned.deletions_refused}",
                self._confirmation(gone) if planned.unconfirmed else "let this user read the whole source",
            )

    def _confirmation(self, gone: int) -> str:
        """How a person says that the files are really gone."""
        return (
            f"check that everything below {self.profile.local_root} is mounted; if the files are really gone, confirm it (of a "
            f"profile in the configuration): globuswrap sync run {self.profile.name} --max-delete {gone}"
        )

    def rehearse(self) -> Result:
        """What `run` would do now; nothing is sent, nothing of the state changes."""
        state = self.state
        self.result.outcome = "planned"
        known = _known(self.profile, state, self.how)
        if known is not None:
            return _recorded(known, self.how)
        current = state.current() if state.runs.exists() else None
        if current is not None:
            self.result.task_ids = [task.task_id for task in current.tasks if task.task_id]
            if self.is_mine(current):
                return self.result
        if self.profile.local_root is None:
            return self.result
        with tempfile.TemporaryDirectory(prefix="globuswrap-sync-") as directory:
            draft = Run(Path(directory), "", 0.0)
            seen = Seen()
            self.result.planned = planning.Planned()
            if not self.check_file_stands():
                return self.result
            found = self.look(draft, seen)
            self._tell_unreadable(seen)
            if not self.unexpectedly_empty(found, seen) and (found.coming or found.gone):
                self.result.planned = self.plan(draft, found, seen)
        return self.result


@dataclass(frozen=True)
class Recorded:
    """What a baseline changed: the number of files, the paths of the first, and what was seen (and could not be read)."""

    changed: int
    first: list[str]
    seen: Seen


def baseline(
    profile: Profile, *, until: float | None = None, path: str = "", forget: bool = False, dry_run: bool = False
) -> Recorded:
    """Record what is there now as already transferred.

    `until` (epoch seconds): only files not modified later. `path`: only what is at or below it, seen from the source. `forget`:
    take it out of the manifest instead, so that it is sent again. `dry_run`: change nothing. Raises TryLater while a run is
    under way.
    """
    state = State(profile.directory).make()
    with locks.take(state.lease) as lease:
        current = state.current()
        if current is not None:
            raise TryLater(
                "run-unfinished",
                "the tasks of the last run are not settled, and would change the same manifest",
                f"globuswrap sync run {profile.name} --wait",
            )
        if not dry_run:
            _hold_source(profile, state)
        top = os.fsencode(path.strip("/"))

        def inside(directory: bytes, row: bytes) -> bool:
            return not top or at_or_below(manifest.signed_path(directory, row), {top})

        def taken(deltas: Iterable[manifest.Delta]) -> Iterable[manifest.Delta]:
            for directory, rows in deltas:
                mine = [row for row in rows if inside(directory, row)]
                of_files = (row for row in mine if len(row) > 1)
                paths = itertools.islice(of_files, planning.SHOWN - len(first))
                first.extend(os.fsdecode(manifest.signed_path(directory, row)) for row in paths)
                yield directory, mine

        seen = Seen()
        first: list[str] = []
        if forget:
            blocks: Iterable[manifest.Delta] = _everything(state.manifest)
        else:
            frames = _counted(scan.scan(profile.root, profile.scanning))
            blocks = _arrived(compare(frames, manifest.open_manifest(state.manifest), seen), until)
        draft = state.draft().directory
        delta = draft / "baseline.delta.gz"
        try:
            with manifest.Writer(delta, manifest.DELTA, level=1) as writer:
                for directory, rows in blocks:
                    lease.renew()
                    writer.write(manifest.delta_text(directory, rows))
            result = draft / "manifest.gz" if dry_run else state.manifest
            changed = manifest.merge(state.manifest, taken(manifest.delta_blocks([delta])), result)
        finally:
            shutil.rmtree(draft, ignore_errors=True)
        if not dry_run:
            if not forget:
                state.set_mounts(state.mounts() | seen.mounts)
            state.note(f"baseline{' forgotten' if forget else ''}: {changed} records")
        return Recorded(changed, first, seen)


def _hold_source(profile: Profile, state: State) -> None:
    """Let nobody clean up the source of a sync that deletes: the copies that this would rely on are deleted in turn."""
    owner = f"{mirror.SYNC}{profile.directory.name}"
    if not profile.delete:
        uses.release(owner)
    elif not any(each.owner == owner for each in uses.live(profile.source.collection)):
        uses.hold(owner, state.directory / "no-longer-deletes", [(profile.source.collection, profile.source.path)])


def _counted(frames: Iterable[scan.Frame]) -> Iterable[scan.Frame]:
    """The frames, saying how far it has come."""
    names = 0
    for kind, payload in frames:
        names += payload.count(b"\0") if kind == scan.TEXT else 0
        log.doing(f"looking through the tree: {names} files and directories")
        yield kind, payload
    log.doing("")


def _settled(run: Run) -> bool:
    return (run.directory / "settled").exists()


def _without(blocks: Iterable[manifest.Delta], skipped: set[bytes]) -> Iterable[manifest.Delta]:
    """A delta without what is at or below the paths that were skipped."""
    if not skipped:
        return blocks
    return ((directory, manifest.kept(directory, rows, skipped)) for directory, rows in blocks)


def _everything(path: Path) -> Iterable[manifest.Delta]:
    for directory, rows in manifest.open_manifest(path):
        yield directory, [b"-", *(b"-" + row for row in rows.split(b"\0") if rows)]


def _arrived(blocks: Iterable[manifest.Delta], until: float | None) -> Iterable[manifest.Delta]:
    limit = None if until is None else int(until * 1e9)
    for directory, rows in blocks:
        taken = [
            row
            for row in rows
            if row[:1] == b"+" and (limit is None or len(row) == 1 or int(row[1:].split(b" ", 1)[0]) <= limit)
        ]
        if taken:
            yield directory, taken
