"""Describe one checked item, and what it means."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from globuswrap.errors import DONE, LOGIN, NO_GLOBUS, USAGE, Problem, combined

OK = "ok"
WARNING = "warning"
FAILURE = "failure"

#: Told what is being looked at, since asking Globus takes its time.
Say = Callable[[str], None]

#: Why a problem that can come from anywhere matters.
_WHY = {
    "no-globus": "everything here goes through the globus command",
    "old-globus": "it lacks what exactly-once submission needs",
    "login-needed": "every transfer of a job would be refused",
    "consent-needed": "without it Globus refuses to read or write there, and a job would fail",
    "session-needed": "the collection's policy refuses this login",
    "globus-unreachable": "nothing can be submitted or checked from here",
    "globus-busy": "nothing else can be checked now",
    "globus-timeout": "nothing else can be checked now",
    "not-found": "Globus refuses any transfer to or from it",
    "bad-config": "no globuswrap command works with it",
    "unknown-config-key": "no globuswrap command works with it",
}


@dataclass(frozen=True)
class Finding:
    """`name` is stable, `what` one line of fact, `why` one of consequence, `remedy` the exact command that fixes it.

    `code` is the exit code that it will lead to: 0 unless the level is FAILURE.
    """

    name: str
    what: str
    level: str = OK
    why: str = ""
    remedy: str = ""
    code: int = DONE


def ok(name: str, what: str) -> Finding:
    return Finding(name, what)


def warning(name: str, what: str, why: str, remedy: str) -> Finding:
    """Something to know; it stops nothing."""
    return Finding(name, what, WARNING, why, remedy)


def failure(name: str, what: str, why: str, remedy: str, code: int) -> Finding:
    return Finding(name, what, FAILURE, why, remedy, code)


def of_problem(problem: Problem, why: str = "", where: str = "") -> Finding:
    """A failure from the problem that a look ended in; `where` says of what."""
    what = f"{where}: {problem.cause}" if where else problem.cause
    return failure(problem.name, what, why or _WHY.get(problem.name, ""), problem.remedy, problem.exit_code)


def exit_code(findings: Iterable[Finding]) -> int:
    """0 without failures; else what has to be fixed first: no globus (127), login (4), usage (2), and then by
    errors.PRECEDENCE."""
    codes = {finding.code for finding in findings}
    first = next((code for code in (NO_GLOBUS, LOGIN, USAGE) if code in codes), None)
    return combined(codes) if first is None else first


def worst(findings: Iterable[Finding]) -> Finding | None:
    """The failure that gives the exit code; None if there is none."""
    failures = [finding for finding in findings if finding.level == FAILURE]
    code = exit_code(failures)
    return next((finding for finding in failures if finding.code == code), None)
