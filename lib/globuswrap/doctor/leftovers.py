"""Check what earlier runs have left: dead leases, chains that wait for a person, damaged and forgotten journal entries."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator

from globuswrap.doctor.finding import Finding, of_problem, warning
from globuswrap.errors import Problem
from globuswrap.staging import steps
from globuswrap.staging.chain import progress, record, tend
from globuswrap.staging.chain.record import Chain
from globuswrap.system import files, locks, log, units
from globuswrap.transfers import journal

#: A chain that failed longer ago is not reported any more.
_RECENT = 7 * 86400.0


def look() -> Iterator[Finding]:
    """Everything that waits for someone to look at it. Asks nobody."""
    yield from _journal()
    yield from _leases()
    yield from _chains()


def _journal() -> Iterator[Finding]:
    now = time.time()
    try:
        for entry in journal.unsettled():
            age = now - entry.claim.created
            if entry.finished or age < journal.RESEND_WITHIN:
                continue
            what = f"{entry.claim.kind} of {entry.claim.items} items, {units.human_duration(age)} old, is not finished"
            if entry.task_id is not None:
                why = "the outcome of its task was not reported"
                remedy = f"globuswrap wait {entry.task_id} --timeout 1m"
            else:
                why = "it was never accepted; the same command now starts a new attempt"
                remedy = "see what it is: globuswrap status"
            yield warning("submission-forgotten", f"{what} (key {entry.claim.name or entry.claim.key})", why, remedy)
        damaged = journal.damaged()
    except OSError:
        return  # said of the state directory already
    for path in damaged:
        why = "it held a submission id: rerunning its request would start a second task"
        remedy = f"check whether its task runs (globus task list), then: {log.shell_line(('rm', '--', str(path)))}"
        yield warning("journal-damaged", f"{path} is damaged and was quarantined", why, remedy)


def _leases() -> Iterator[Finding]:
    """Leases of holders that are dead. The next run takes them over by itself; it is said because that run was killed."""
    for path in sorted((files.state_dir() / "sync").glob("*/lease")):
        try:
            if not path.exists() or locks.holder_of(path) is not None:
                continue
        except OSError:
            continue
        name = path.parent.name.rpartition("-")[0]
        why = "that run did not end by itself: the machine went down, or it was killed"
        remedy = f"the next run takes it over: globuswrap sync run {log.shell_line((name,))}"
        yield warning("lease-stale", f"{path} is held by a process that no longer exists", why, remedy)


def _chains() -> Iterator[Finding]:
    for chain_id in record.ids():
        try:
            yield from _chain(record.load(chain_id))
        except Problem as problem:
            yield of_problem(problem, "this chain cannot continue by itself")


def _chain(chain: Chain) -> Iterator[Finding]:
    script = os.path.basename(chain.plan.script)
    if chain.ended_at is not None:
        ending = chain.ending
        recent = time.time() - chain.ended_at < _RECENT
        if ending is not None and recent and chain.exit_code != 0 and ending.name != "chain-canceled":
            what = f"chain {chain.id} ({script}) failed: {ending.cause}"
            remedy = ending.remedy or f"globuswrap submit --resume {chain.id}"
            yield warning("chain-failed", what, "its input or its results have not arrived", remedy)
        return
    since = time.time() - max(chain.plan.created, chain.resumed_at)
    if chain.info is None and since > tend.CUT_OFF_AFTER:
        what = f"the submission of chain {chain.id} ({script}) was interrupted {units.human_duration(since)} ago"
        yield warning("chain-cut-off", what, "a held job may wait forever", f"globuswrap submit --resume {chain.id}")
    for step, note in chain.notes("").items():
        if note.get("state") == steps.STUCK and progress.recorded(chain, step) is None:
            what = f"chain {chain.id} ({script}): {step} waits: {note.get('cause')}"
            why = "the data and the job wait until this is fixed"
            yield warning("chain-stuck", what, why, str(note.get("remedy") or f"globuswrap status {chain.id}"))
