"""Define the one exception tree, and the exit codes that are an interface.

Every expected failure is a `Problem`: a stable kebab-case name, one line of cause, one line of remedy, and optionally what
was run and what came back. Anything else that reaches the boundary in `cli.main` is a defect (exit 3).
"""

from __future__ import annotations

import signal
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

DONE = 0
REFUSED = 1
USAGE = 2
DEFECT = 3
LOGIN = 4
STOPPED = 5
SKIPPED = 6
HELD = 7
TRY_LATER = 75
NO_GLOBUS = 127

#: Of several outcomes, the first of these that occurs is the exit code of the whole.
PRECEDENCE = (DEFECT, LOGIN, REFUSED, STOPPED, HELD, TRY_LATER, SKIPPED, DONE)


#: The tasks that Globus has accepted in this process. A global, for the boundary in `cli.main` alone: whatever goes wrong
#: after one was accepted, and wherever, the command does not end with USAGE, which says that nothing was submitted.
accepted: list[str] = []


class Problem(Exception):
    """An expected failure.

    `name` is stable and documented in docs/troubleshooting.md; `cause` and `remedy` are one line each; `ran` is the command that
    failed (secrets already masked), `detail` what it printed, `code` the service's own error code, if it gave one, `data` what
    is known all the same (a receipt, say).
    """

    exit_code = REFUSED
    code: str = ""
    data: Mapping[str, Any] | None = None

    def __init__(self, name: str, cause: str, remedy: str, *, ran: tuple[str, ...] = (), detail: str = "") -> None:
        super().__init__(cause)
        self.name = name
        self.cause = cause
        self.remedy = remedy
        self.ran = ran
        self.detail = detail


class Refused(Problem):
    """Globus or the scheduler said no; or the task failed, expired or is gone."""


class UsageProblem(Problem):
    """Bad usage or input: nothing was submitted."""

    exit_code = USAGE


class LoginNeeded(Problem):
    """Login, consent or session: `remedy` is the exact `globus ...` command."""

    exit_code = LOGIN


class StoppedEarly(Problem):
    """Canceled, by us for a permanent fault or by someone."""

    exit_code = STOPPED


class FinishedWithSkips(Problem):
    """Finished, but files were skipped, under --strict."""

    exit_code = SKIPPED


class Held(Problem):
    """Paused or inactive for longer than the grace, or at the timeout."""

    exit_code = HELD


class TryLater(Problem):
    """Another run has it, the task still runs at the timeout, or Globus cannot be reached."""

    exit_code = TRY_LATER


class NoGlobus(Problem):
    """There is no `globus` command, or it cannot be started."""

    exit_code = NO_GLOBUS


class Interrupted(BaseException):
    """A signal ended the run: 128 + its number. What runs at Globus is left running, the next run takes it up.

    No Problem, and no Exception, as KeyboardInterrupt is none: what fixes a Problem must not swallow it.
    """

    name = "interrupted"
    remedy = "rerun the command; it continues from here"
    ran: tuple[str, ...] = ()
    detail = ""
    data: Mapping[str, Any] | None = None

    def __init__(self, number: int) -> None:
        self.number = number
        self.cause = "interrupted" if number == signal.SIGINT else f"interrupted by {signal.Signals(number).name}"
        self.exit_code = 128 + number
        super().__init__(self.cause)


class OutputLost(BaseException):
    """What a command printed could not be written to stdout. `exit_code` is the command's own where that is not 0. Without a
    cause, whoever read it had enough, as `head` has: no message is needed.

    No Problem, and no OSError: what handles those (the parser does) must not end the command as if nothing were lost.
    """

    name = "output-lost"
    remedy = "redirect the output to another place, and rerun the command"

    def __init__(self, cause: str, exit_code: int) -> None:
        self.cause = cause
        self.exit_code = exit_code
        super().__init__(cause)


def combined(codes: Iterable[int]) -> int:
    """The exit code of several outcomes: the first of PRECEDENCE that occurs; 0 of none.

    A code that is not in the table (a signal, 2, 127) wins over all of them: it says the run itself did not go through.
    """
    seen = set(codes)
    for code in sorted(seen):
        if code not in PRECEDENCE:
            return code
    return next((code for code in PRECEDENCE if code in seen), DONE)


def raise_together(problems: Sequence[UsageProblem], what: str = "") -> None:
    """Raise what is wrong with one request, all of it at once; nothing if nothing is. `what` begins the message."""
    if not problems:
        return
    start = f"{what}: " if what else ""
    causes = "; ".join(each.cause for each in problems)
    raise UsageProblem(problems[0].name, f"{start}{causes}", "; ".join(dict.fromkeys(each.remedy for each in problems)))


def did_you_mean(word: str, known: Iterable[str], otherwise: str, prefix: str = "") -> str:
    """The remedy for a word that is not known: the known one that is most like it, with what stands before it, or something
    else."""
    import difflib  # takes longer than most commands need for all their errors

    near = difflib.get_close_matches(word, list(known), 1)
    return f"did you mean {prefix}{near[0]}?" if near else otherwise
