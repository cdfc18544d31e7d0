"""Run a command line: every one starts and ends here.

Expected problems leave with their documented exit code; anything else is a defect (3) with a log to report.
"""

from __future__ import annotations

import gc
import os
import sys
from typing import NoReturn

from globuswrap import __version__, errors
from globuswrap.cli import output, streams
from globuswrap.errors import Interrupted, OutputLost, Problem, UsageProblem
from globuswrap.system import log, signals


def main() -> NoReturn:
    """Run the command line of this process and exit."""
    # Looking for garbage while modules are imported takes 10 ms of a start, and once more at the end 20 ms.
    gc.set_threshold(50_000)
    streams.guard()
    code = run(sys.argv[1:])
    gc.freeze()
    sys.exit(code)


def run(arguments: list[str]) -> int:
    """Run one command line in this process and return its exit code."""
    code = errors.DONE
    try:
        code = _run(arguments)
        sys.stdout.flush()
        return code
    except OutputLost as lost:
        if lost.cause:
            log.say(f"globuswrap: {lost.cause}  [{lost.name}]\n  remedy: {lost.remedy}", 0)
        return code or lost.exit_code


def _run(arguments: list[str]) -> int:
    if arguments[:1] == ["help"]:
        arguments = [*arguments[1:], "--help"]
    if arguments[:1] in (["--version"], ["-V"], ["version"]) and arguments[1:] in ([], ["--help"]):
        print(f"globuswrap {__version__}")
        return errors.DONE
    if arguments[:1] == ["__complete"]:
        from globuswrap.cli import completing

        return completing.answer(arguments[1:])
    output.state.json = "--json" in arguments
    output.state.command = ""
    errors.accepted.clear()  # of an earlier command line of this process
    signals.become_interrupted()
    try:
        from globuswrap.cli import app

        return app.invoke(arguments)
    except (Problem, Interrupted) as problem:
        if problem.exit_code == errors.USAGE and errors.accepted:
            problem.exit_code = errors.REFUSED
        output.show_problem(problem)
        return problem.exit_code
    except Exception as error:
        return _defect(error)


def _defect(error: BaseException) -> int:
    """Write what happened where it can be reported from, and say where."""
    import errno
    import time
    import traceback

    from globuswrap.system import files

    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES):
        where = f"{error.filename}: " if error.filename else ""
        full = UsageProblem(
            "no-place-to-write",
            f"{where}{error.strerror}",
            "free some space, or set XDG_STATE_HOME to another directory",
        )
        if errors.accepted:
            full.exit_code = errors.REFUSED
            full.remedy = f"free some space; Globus has accepted this task: globuswrap wait {errors.accepted[-1]}"
        output.show_problem(full)
        return full.exit_code
    text = log.masked(f"globuswrap {__version__}\n{sys.argv}\n{''.join(traceback.format_exception(error))}")
    place = files.state_dir() / "defects"
    path = place / f"{time.strftime('%Y%m%dT%H%M%S')}-{os.getpid()}.log"
    try:
        files.private_directory(place)
        files.write_atomic(path, text)
        where = f"report it with {path}"
    except OSError:
        log.say(text, 0)
        where = "report it with the text above"
    problem = Problem("defect", f"a defect in globuswrap: {type(error).__name__}: {error}", where)
    problem.exit_code = errors.DEFECT
    output.show_problem(problem)
    return errors.DEFECT
