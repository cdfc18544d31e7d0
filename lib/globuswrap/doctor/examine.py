"""Run all checks, in an order in which those that make the rest pointless come first."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from globuswrap import schedulers
from globuswrap.doctor import finding, jobs, leftovers, login, machine, places, profiles
from globuswrap.doctor.finding import WARNING, Finding, Say, of_problem
from globuswrap.doctor.places import Place
from globuswrap.errors import Problem, UsageProblem
from globuswrap.schedulers.base import Scheduler
from globuswrap.staging.plan import Plan
from globuswrap.staging.submission import StagingRequest, plan_of
from globuswrap.syncs import profile as sync_profile
from globuswrap.syncs.profile import Profile
from globuswrap.system import log


@dataclass(frozen=True)
class Questions:
    """What to look at. `subject` is a job script or the name of a profile; `until` (seconds since the epoch) is how long the
    login session has to last; `write` probes destinations; `node` asks from a compute node, for at most `node_wait` s."""

    subject: str | None = None
    until: float | None = None
    write: bool = True
    node: bool = False
    node_wait: float = 300.0
    staging: StagingRequest = StagingRequest()  # noqa: RUF009 (frozen)
    arguments: tuple[str, ...] = ()


def _quiet(text: str) -> None:
    return None


def examine(questions: Questions, say: Say = _quiet) -> list[Finding]:
    """Every finding, the good ones too. Changes nothing but for the probes, which it removes.

    Raises UsageProblem for a subject that is neither a job script nor a profile.
    """
    found = list(machine.look())
    if not any(each.name == "configuration" for each in found):
        return found  # nothing that follows can be looked at
    stateless = any(each.name == "state-not-writable" for each in found)
    write = questions.write and not stateless
    plan: Plan | None = None
    profile: Profile | None = None
    text, wanted = "", list[Place]()
    try:
        plan, profile, text, wanted = _subject(questions)
    except Problem as problem:
        if problem.name == "unknown-subject":
            raise
        found.append(of_problem(problem, "nothing would be submitted"))
    if profile is not None and not stateless:
        found += profiles.look(profile)
    scheduler = _scheduler(questions, plan)
    until = questions.until
    if scheduler is not None:
        answers = list(jobs.look(scheduler, say))
        found += answers
        if plan is not None and all(each.code == 0 for each in answers):
            foreseen, said = jobs.forecast(plan, text, say)
            found += said
            until = until if until is not None else foreseen
    said, session = login.look(say)
    found += said
    if session is not None:
        found += places.look(wanted, session, until, say, write=write, mounts=True)
        if profile is not None:
            found += profiles.same_tree(profile)
        if write:
            found += places.removed_probes()
        if questions.node and scheduler is not None:
            found += jobs.probe(scheduler, questions.staging.stage_partition, questions.node_wait, say)
    if questions.subject is None and not stateless:
        found += leftovers.look()
    return found


def _scheduler(questions: Questions, plan: Plan | None) -> Scheduler | None:
    """The batch system to look at: that of the job, else the one that was asked for. A profile needs none."""
    wanted = plan.scheduler if plan is not None else questions.staging.scheduler
    if wanted != schedulers.AUTO:
        return schedulers.batch_system(wanted)
    return jobs.here() if questions.subject is None or questions.node else None


def _subject(questions: Questions) -> tuple[Plan | None, Profile | None, str, list[Place]]:
    subject = questions.subject
    if subject is None:
        return None, None, "", list(places.of_names())
    if Path(subject).is_file():
        plan, content = plan_of(Path(subject), questions.staging, questions.arguments, os.environ)
        return plan, None, content.decode("utf-8", "surrogateescape"), list(places.of_plan(plan))
    if subject in sync_profile.names():
        profile = sync_profile.load(subject)
        return None, profile, "", list(places.of_profile(profile))
    known = ", ".join(sync_profile.names()) or "none"
    raise UsageProblem(
        "unknown-subject",
        f"{subject!r} is neither a job script nor a profile (known: {known})",
        "globuswrap doctor --help",
    )


def before_submit(plan: Plan, content: bytes, say: Say = _quiet) -> None:
    """What has to hold for a chain, looked at before anything of it is queued. Nothing is written at the destination.

    Warnings are said; raises the problem of the worst failure, after saying the others.
    """
    until, found = jobs.forecast(plan, content.decode("utf-8", "surrogateescape"), say)
    said, session = login.look(say)
    found += said
    if session is not None:
        found += places.look(places.of_plan(plan), session, until, say, write=False, mounts=False)
    stop(found, "globuswrap submit --no-check")


def stop(findings: list[Finding], anyway: str) -> None:
    """Say what was found, and raise the worst failure as a problem; `anyway` is how to go on all the same."""
    bad = finding.worst(findings)
    for each in findings:
        if each.level == WARNING or (each.level == finding.FAILURE and each is not bad):
            log.say(told(each), 1 if each.level == WARNING else 0)
    if bad is not None:
        remedy = f"{bad.remedy}  (or, to submit anyway: {anyway})"
        problem = Problem(bad.name, f"{bad.what}; {bad.why}" if bad.why else bad.what, remedy)
        problem.exit_code = bad.code
        raise problem


def told(each: Finding) -> str:
    """A finding for people."""
    lines = [f"{each.what}  [{each.name}]"]
    if each.why:
        lines.append(f"  why: {each.why}")
    if each.remedy:
        lines.append(f"  remedy: {each.remedy}")
    return "\n".join(lines)
