"""Find unfinished work that will expire unless somebody acts: for cron."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from globuswrap.collections import names
from globuswrap.collections.address import Address
from globuswrap.doctor import login, places
from globuswrap.doctor.finding import OK, Finding, Say, failure, of_problem
from globuswrap.doctor.login import Session
from globuswrap.doctor.places import Place
from globuswrap.errors import HELD, TRY_LATER, Problem
from globuswrap.globus import verbs
from globuswrap.staging.chain import record
from globuswrap.syncs import profile as sync_profile
from globuswrap.system import units
from globuswrap.system.together import map_concurrently
from globuswrap.transfers import journal, outcome
from globuswrap.transfers.journal import Entry

#: A session that is this far through its time is to be renewed, if the window does not end before.
_SHARE = 0.5


def look(window: float, say: Say) -> list[Finding]:
    """The failures alone. Of the login session: where it ends for a collection that unfinished work needs, within `window`
    seconds (of a session that lasts less, within half of what it lasts). Of tasks: those that stand still, and are given up at
    their deadline. Of submissions: those that Globus has not accepted, whose id may not be sent again after a while."""
    entries = [entry for entry in journal.unsettled() if not entry.finished]
    found = [_intent(entry, window) for entry in entries if entry.task_id is None]
    needed, problems = _needed(entries)
    found += problems
    if not needed and not any(entry.task_id for entry in entries):
        return [each for each in found if each is not None]
    said, session = login.look(say)
    found += [each for each in said if each.level != OK]
    if session is not None:
        say("unfinished tasks")
        found += _tasks([entry for entry in entries if entry.task_id is not None])
        say("collections that unfinished work needs")
        for some in map_concurrently(lambda place: list(_session(place, session, window)), needed):
            found += some
    return [each for each in found if each is not None]


def _needed(entries: Sequence[Entry]) -> tuple[list[Place], list[Finding]]:
    """The collections of unfinished submissions, of live chains and of profiles with a schedule, each once."""
    wanted = [
        Place(Address(each, "/", names.name_of(each) or ""), places.ANY, f"task {entry.task_id or entry.claim.label}")
        for entry in entries
        for each in (entry.claim.source, entry.claim.destination)
        if each is not None
    ]
    problems = []
    for chain_id in record.ids():
        try:
            chain = record.load(chain_id)
            if chain.ended_at is None:
                wanted += places.of_plan(chain.plan)
        except Problem as problem:
            problems.append(of_problem(problem, "this chain cannot continue by itself"))
    for name in sync_profile.names():
        try:
            profile = sync_profile.load(name)
        except Problem as problem:
            problems.append(of_problem(problem, "this profile does not run"))
            continue
        if profile.schedule is not None:
            wanted += places.of_profile(profile)
    return list(places.first_of_each(wanted).values()), problems


def _session(place: Place, session: Session, window: float) -> Iterator[Finding]:
    try:
        limit = login.limit_of(verbs.collection(place.address.collection, 0.0))
    except Problem as problem:
        yield of_problem(problem, where=f"{place.said}: {place.address.collection_shown}")
        return
    if limit is not None:
        until = time.time() + min(window, limit * _SHARE)
        found = login.lasts(session, place.address.collection_shown, limit, until)
        if found.level != OK:
            yield found


def _tasks(entries: Sequence[Entry]) -> Iterator[Finding]:
    """Unfinished tasks that do not go on by themselves. One that does is nobody's business, however near its deadline."""
    documents = verbs.tasks([str(entry.task_id) for entry in entries]) if entries else {}
    for task_id, task in documents.items():
        stopped = task.get("status") == outcome.SUSPENDED
        faulty = task.get("status") == outcome.MOVING and task.get("is_ok") is False
        if not stopped and not faulty:
            continue
        yield failure(
            "task-inactive" if stopped else "task-stands-still",
            f"task {task_id} {'is INACTIVE' if stopped else 'makes no progress'}: {_cause(task)}",
            f"Globus gives it up at {_when(task)}, and its files are not transferred",
            "renew the login: globus session update --all"
            if stopped
            else f"globuswrap wait {task_id} --timeout 0  (it names the fault and what fixes it)",
            HELD,
        )


def _cause(task: Mapping[str, Any]) -> str:
    told = task.get("nice_status_short_description") or task.get("nice_status") or "no reason is given"
    return " ".join(str(told).split())


def _when(task: Mapping[str, Any]) -> str:
    try:
        return login.moment(units.instant(task.get("deadline")).timestamp())
    except ValueError:
        return "its deadline"


def _intent(entry: Entry, window: float) -> Finding | None:
    ends = entry.claim.created + journal.RESEND_WITHIN
    if time.time() + window < ends or entry.lapsed:
        return None
    what = (
        f"{entry.claim.kind} of {units.counted(entry.claim.items, 'item')} (key {entry.claim.name or entry.claim.key})"
    )
    return failure(
        "submission-expires",
        f"{what} was not accepted by Globus yet",
        f"after {login.moment(ends)} the same command starts a new attempt instead of sending the same id",
        "run the command that submits it again; see: globuswrap status",
        TRY_LATER,
    )
