"""Provide the functions that commands, notebooks and gateways call: submit exactly once, wait if asked, report."""

from __future__ import annotations

import json
import math
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from globuswrap.collections import resolve
from globuswrap.errors import TRY_LATER, Problem, Refused
from globuswrap.globus import queries, verbs
from globuswrap.system import files, log, process, signals, units
from globuswrap.system.described import Described
from globuswrap.transfers import check as checking
from globuswrap.transfers import hooks, journal
from globuswrap.transfers import request as requests
from globuswrap.transfers import submit as submitting
from globuswrap.transfers import wait as waiting
from globuswrap.transfers.journal import Entry
from globuswrap.transfers.options import Options
from globuswrap.transfers.outcome import Outcome
from globuswrap.transfers.request import Request
from globuswrap.transfers.submit import Policy, Submitted
from globuswrap.transfers.wait import WaitPolicy, Watcher


@dataclass(frozen=True)
class Hooks:
    """What to do when the outcome is known: shell command lines, and where the receipt goes besides the journal."""

    then: str | None = None
    on_failure: str | None = None
    receipt: Path | None = None


@dataclass(frozen=True, repr=False)
class Result(Described):
    """What became of a request. `outcome` is None if it was submitted and not waited for."""

    submitted: Submitted
    outcome: Outcome | None = None

    @property
    def task_id(self) -> str:
        return self.submitted.task_id

    @property
    def exit_code(self) -> int:
        return 0 if self.outcome is None else self.outcome.exit_code

    def facts(self) -> dict[str, object]:
        if self.outcome is not None:
            return self.outcome.facts()
        return {"task": self.task_id, "outcome": "submitted", "how": self.submitted.how}

    def as_data(self) -> dict[str, Any]:
        claim = self.submitted.entry.claim
        return {
            "task_id": self.task_id,
            "submission_id": claim.submission_id,
            "attempt": claim.attempt,
            "created": claim.created,
            "key": claim.name or claim.key,
            "how": self.submitted.how,
            "label": claim.label,
            "web": queries.WEBAPP.format(task_id=self.task_id),
            "outcome": self.outcome.name if self.outcome else "submitted",
            "receipt": dict(self.outcome.receipt) if self.outcome and self.outcome.receipt else None,
        }


def transfer(
    source: str,
    destination: str,
    *,
    recursive: bool | None = None,
    options: Options | None = None,
    policy: Policy | None = None,
    wait: bool | WaitPolicy = False,
    after: Hooks | None = None,
    watcher: Watcher | None = None,
    check: bool | None = None,
    **rest: Any,
) -> Result:
    """Transfer one file or directory, exactly once. `rest`: label, notify, deadline. `check`: look first whether the source
    exists (default: with `wait`).

    Returns the result; raises the Problem of any bad end, whose `data` holds the receipt where there is one.
    """
    request = requests.transfer(
        resolve.address(source),
        resolve.address(destination),
        recursive=recursive,
        options=options or Options(),
        **rest,
    )
    look = WaitPolicy.of(wait).wait if check is None else check
    return perform(request, policy, wait, after, watcher, check=look)


def delete(
    *addresses: str,
    recursive: bool | None = None,
    options: Options | None = None,
    policy: Policy | None = None,
    wait: bool | WaitPolicy = False,
    after: Hooks | None = None,
    watcher: Watcher | None = None,
    check: bool = True,
    **rest: Any,
) -> Result:
    """Delete paths of one collection, exactly once. `rest`: label, notify, deadline. Returns and raises as `transfer`.

    `check`: look first whether the paths exist, and whether a directory is meant: it needs `recursive`.
    """
    request = requests.delete(
        [resolve.address(each) for each in addresses],
        recursive=recursive,
        options=options or Options(),
        **rest,
    )
    return perform(request, policy, wait, after, watcher, check=check)


def perform(
    request: Request,
    policy: Policy | None = None,
    wait: bool | WaitPolicy = False,
    after: Hooks | None = None,
    watcher: Watcher | None = None,
    *,
    check: bool = False,
) -> Result:
    """Submit a request and, if asked, wait for it. With `check`, a new attempt begins with a look at the sources. Without
    waiting, an adopted task is looked at once: it may be done, or be kept from going on, which is raised as at a timeout. Who
    waits, or asks for a receipt or a command afterwards, is promised the outcome, everyone else the submission: see
    `journal.Entry.kept`."""
    wait_policy = WaitPolicy.of(wait)
    after = after or Hooks()
    promised = replace(policy or Policy(), awaited=wait_policy.wait or after != Hooks())
    looked: dict[str, Outcome] = {}

    def look(entry: Entry) -> Entry:
        # Only a look: a task that this run has to give up on is adopted, and ends with its outcome.
        seen = waiting.wait([entry], replace(wait_policy, timeout=0.0, keep=True, fault_grace=math.inf))
        found = journal.read(entry.path) or entry
        if found.finished:
            looked.update(seen)
            log.say(
                f"Task {found.task_id} of the same request, submitted {ago(found.submitted)}, has ended: {found.state}. "
                "Starting a new one."
            )
        return found

    def fresh() -> str:
        if check:
            checking.sources(request)
        return verbs.new_submission_id(promised.retry_for)

    submitted = submitting.submit_intent(submitting.intent_of(requests.checked(request)), promised, fresh, look)
    say_what_is_not_new(submitted)
    with submitting.recording(submitted):
        if promised.awaited and not submitted.entry.awaited and not submitted.entry.finished:
            journal.record(submitted.entry, "awaited", {"time": time.time()})
        return settle(submitted, wait_policy, after, watcher, looked.get(submitted.task_id))


def say_what_is_not_new(submitted: Submitted) -> None:
    """Tell a person whose command found its task submitted already which one that is, and that no other was begun."""
    if submitted.how == "new":
        return
    entry = submitted.entry
    which = f"Task {submitted.task_id} of the same request, submitted {ago(entry.submitted)}"
    if not entry.finished:
        log.say(f"{which}, is adopted. Nothing new was sent.")
    elif entry.kept:
        log.say(f"{which}, is done, and --once returns its recorded outcome. Nothing new was sent.")
    else:
        log.say(f"{which}, has ended, and its outcome was not reported yet. Nothing new was sent.")


def ago(moment: float) -> str:
    """How long ago a moment was (epoch seconds), for people."""
    return f"{units.human_duration(max(0.0, time.time() - moment))} ago"


def settle(
    submitted: Submitted,
    wait: bool | WaitPolicy = False,
    after: Hooks | None = None,
    watcher: Watcher | None = None,
    looked: Outcome | None = None,
) -> Result:
    """From a submission to a result: its record, or by waiting; then `after`, then it counts as reported. `looked`: what a look
    this moment found."""
    wait_policy = WaitPolicy.of(wait)
    entry = submitted.entry
    known = waiting.recorded(entry, strict=wait_policy.strict)
    if known is not None:
        found = known
    elif wait_policy.wait:
        found = waiting.wait([entry], wait_policy, watcher)[submitted.task_id]
    elif submitted.how != "new":
        found = looked or waiting.wait([entry], replace(wait_policy, timeout=0.0))[submitted.task_id]
    else:
        answer(entry)
        return Result(submitted)
    if not found.terminal and not wait_policy.wait:
        answer(entry)
        if found.exit_code == TRY_LATER:
            return Result(submitted)
    result = Result(submitted, found)
    if found.terminal and not (entry.claim.once and entry.reported):
        conclude(found, after or Hooks(), lambda: report(entry))
    elif found.terminal:
        report(entry)
    else:
        hooks.task(found)
    problem = found.problem()
    if problem is not None:
        problem.data = result.as_data()
        raise problem
    return result


def answer(entry: Entry) -> None:
    """Note that a caller has been told the task id."""
    if not entry.answered:
        journal.record(entry, "answered", {"time": time.time()})


def report(entry: Entry) -> None:
    """Note that a caller has been told how this attempt ended."""
    if not entry.reported:
        journal.record(entry, "reported", {"host": entry.claim.host})


def conclude(ended: Outcome, after: Hooks, report: Callable[[], None]) -> None:
    """Do what comes after an outcome, then `report` it: a run that is stopped before the hook has ended has not kept its
    promise, and the next one runs the hook again. Raises what `go_on` raises, and Interrupted after a hook that was let finish.
    """
    try:
        go_on(ended, after)
        hooks.task(ended)
    except Problem:
        hooks.task(ended)
        report()
        raise
    report()
    signals.check()


def go_on(ended: Outcome, after: Hooks) -> None:
    """Write the receipt where it was asked for and run the command line for this outcome.

    The command finds GLOBUSWRAP_RECEIPT (a file), GLOBUSWRAP_OUTCOME and GLOBUSWRAP_TASK_ID in its environment. A signal is
    handed to it, and it is waited for. Raises Refused if it fails, Interrupted if it fails after a signal.
    """
    if after.receipt is not None and ended.receipt is not None:
        files.write_atomic(after.receipt, json.dumps(ended.receipt, indent=1) + "\n")
    line = after.then if ended.exit_code == 0 else after.on_failure
    if line is None or ended.receipt is None:
        return
    path = after.receipt or files.private_directory(files.state_dir() / "receipts") / f"{ended.task_id}.json"
    if after.receipt is None:
        files.write_atomic(path, json.dumps(ended.receipt, indent=1) + "\n")
    env = {"GLOBUSWRAP_RECEIPT": str(path), "GLOBUSWRAP_OUTCOME": ended.name, "GLOBUSWRAP_TASK_ID": ended.task_id}
    done = process.run(("/bin/sh", "-c", line), env=dict(env), takes_signals=True)
    for text in (done.stdout, done.stderr):
        if text:
            log.suspend()
            print(text, end="", file=sys.stderr)
    if done.code != 0:
        signals.check()
        option = "--then" if ended.exit_code == 0 else "--on-failure"
        raise Refused(
            "then-failed",
            f"The task ended ({ended.name}), but the {option} command failed with exit code {done.code}",
            f"run that command yourself; the receipt is {path}",
            ran=done.argv,
        )


__all__ = ["Hooks", "Policy", "Problem", "Result", "WaitPolicy", "delete", "perform", "settle", "transfer"]
