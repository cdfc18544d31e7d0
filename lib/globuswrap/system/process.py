"""Run programs: the only module that imports `sh`.

Positional strings only, never a shell; no terminal, no standard input unless given; output goes to unlinked temporary
files and is decoded once, after the end. A failing program is not an exception here: the caller looks at `code`.
"""

from __future__ import annotations

import codecs
import os
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, NoReturn

from globuswrap.errors import Problem, Refused
from globuswrap.system import log, signals


@dataclass(frozen=True)
class Completed:
    """A program that ended. `code` is its exit status, negative for the signal that ended it; `seconds` is wall time."""

    argv: tuple[str, ...]
    code: int
    stdout: str
    stderr: str
    seconds: float


class ProgramMissing(Problem):
    """The program is not there or cannot be executed; callers turn this into what it means to them."""

    exit_code = 127


class ProgramTimedOut(Refused):
    """The program did not end within its time and was sent TERM, then KILL."""


def _program(argv: Sequence[str]) -> str:
    found = find_program(argv[0])
    if found is None:
        remedy = "install it, or put it on PATH"
        raise ProgramMissing("program-missing", f"{argv[0]}: no such program", remedy, ran=tuple(argv))
    return found


def _not_started(argv: Sequence[str], why: str) -> ProgramMissing:
    cause, remedy = f"{argv[0]}: cannot be started", "read the message below"
    return ProgramMissing("program-missing", cause, remedy, ran=tuple(argv), detail=why)


def find_program(name: str, path: str | None = None) -> str | None:
    """Absolute path of an executable: as given when it has a slash, else looked up on `path` (default: PATH)."""
    found = shutil.which(name, path=path)
    return os.path.abspath(found) if found else None


def child_environment(overrides: Mapping[str, str | None] | None) -> dict[str, str]:
    """This process's environment with `overrides` laid over it; None deletes a variable."""
    env = dict(os.environ)
    for name, value in (overrides or {}).items():
        if value is None:
            env.pop(name, None)
        else:
            env[name] = value
    return env


def run(
    argv: Sequence[str],
    *,
    env: Mapping[str, str | None] | None = None,
    stdin: bytes | Path | IO[bytes] | None = None,
    timeout: float | None = None,
    cwd: str | None = None,
    stdout: IO[bytes] | None = None,
    takes_signals: bool = False,
) -> Completed:
    """Run one program to its end.

    `argv[0]` is a name on PATH or a path. `env` is laid over this process's environment. `stdin` is bytes or a file to read,
    by its path or open and then closed here (None: /dev/null). `timeout` is seconds of wall time. With `stdout` the output
    goes to that open file, and `Completed.stdout` is empty. Undecodable output bytes become surrogate escapes. With
    `takes_signals` a signal that would end this run is sent to the program and its children instead, which run in a session of
    their own, and the program is waited for; `signals.check` then raises what was put off.

    Raises ProgramMissing and ProgramTimedOut.
    """
    program = _program(argv)
    import sh  # 60 ms: only when a program is really run

    signals.check()
    log.command(tuple(argv))
    started = time.monotonic()
    with (
        tempfile.TemporaryFile() as out_file,
        tempfile.TemporaryFile() as err_file,
        _input(stdin) as in_file,
        ExitStack() as stack,
    ):
        target = stdout if stdout is not None else out_file
        options: dict[str, Any] = {
            "_in": in_file,
            "_out": target,
            "_err": err_file,
            "_tty_out": False,
            "_truncate_exc": False,
            "_env": child_environment(env),
            "_cwd": cwd,
            "_encoding": _ARGUMENTS,
            "_new_session": takes_signals,
            **_UNJUDGED,
        }
        handed = _Handed()
        stack.enter_context(signals.taken_by(handed.take) if takes_signals else nullcontext())
        try:
            command = sh.Command(program)(*argv[1:], **options)
        except sh.ForkException as error:
            raise _not_started(argv, str(error).strip().splitlines()[-1]) from None
        handed.to(command.process.pid)
        with _watchdog(command.process, timeout) as barked:
            code = command.exit_code
        if barked.is_set():
            raise ProgramTimedOut(
                "program-timed-out",
                f"{argv[0]}: not finished within {timeout:g} s",
                "try again, or allow more time",
                ran=tuple(argv),
                detail=_text(err_file),
            )
        done = Completed(
            tuple(argv),
            code,
            "" if stdout is not None else _text(out_file),
            _text(err_file),
            time.monotonic() - started,
        )
    log.command_ended(done.argv, done.code, done.seconds, done.stderr)
    return done


class _Handed:
    """Signals on their way to a program's session, some of which come before it has been started."""

    def __init__(self) -> None:
        self._numbers: list[int] = []
        self._session: int | None = None

    def take(self, number: int) -> None:
        self._numbers.append(number)
        if self._session is not None:
            self.to(self._session)

    def to(self, session: int) -> None:
        self._session = session
        while self._numbers:
            with suppress(ProcessLookupError):
                os.killpg(session, self._numbers.pop(0))


@contextmanager
def _watchdog(running: Any, timeout: float | None) -> Iterator[threading.Event]:
    """Send TERM after `timeout` seconds, KILL a while later; the event says that it had to.

    sh's own `_timeout` looks only every 0.1 s whether a program has ended, which is most of what a short one takes.
    """
    ended, barked = threading.Event(), threading.Event()

    def watch() -> None:
        if ended.wait(timeout):
            return
        barked.set()
        for number in (signal.SIGTERM, signal.SIGKILL):
            with suppress(ProcessLookupError):
                running.signal(number)
            if ended.wait(_TERM_GRACE):
                return

    if timeout is not None:
        threading.Thread(target=watch, daemon=True).start()
    try:
        yield barked
    finally:
        ended.set()


#: Seconds between TERM and KILL.
_TERM_GRACE = 5.0


def exists(pid: int) -> bool:
    """Is there a process with this id on this host?"""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


class Started:
    """A program that was started and goes on by itself; it is not ended with this process."""

    def __init__(self, command: Any) -> None:
        self._command = command

    def running(self) -> bool:
        return bool(self._command.process.is_alive()[0])


def start(
    argv: Sequence[str], *, env: Mapping[str, str | None] | None = None, stdout: IO[bytes], stderr: IO[bytes]
) -> Started:
    """Start a program in a session of its own and return at once; its output goes to open files.

    For servers. `env` is laid over this process's environment. Raises ProgramMissing.
    """
    program = _program(argv)
    import sh

    log.command(tuple(argv))
    with _input(None) as in_file:
        options: dict[str, Any] = {
            "_in": in_file,
            "_out": stdout,
            "_err": stderr,
            "_tty_out": False,
            "_env": child_environment(env),
            "_new_session": True,
            **_UNJUDGED,
        }
        command = sh.Command(program)(*argv[1:], **options)
    return Started(command)


def become(argv: Sequence[str], *, env: Mapping[str, str | None] | None = None) -> NoReturn:
    """End this program and be another one, with the same process id, terminal and files. Raises ProgramMissing."""
    program = _program(argv)
    log.command(tuple(argv))
    signal.setitimer(signal.ITIMER_REAL, 0.0)  # it would go off in the other program, and end it
    log.suspend()
    sys.stdout.flush()
    sys.stderr.flush()
    try:
        os.execve(program, list(argv), child_environment(env))
    except OSError as error:
        raise _not_started(argv, str(error.strerror)) from None


def _input(stdin: bytes | Path | IO[bytes] | None) -> IO[bytes]:
    if stdin is None:
        return open(os.devnull, "rb")
    if isinstance(stdin, Path):
        return stdin.open("rb")
    if not isinstance(stdin, bytes):
        return stdin
    file = tempfile.TemporaryFile()  # noqa: SIM115 (the caller closes it)
    file.write(stdin)
    file.seek(0)
    return file


def _text(file: IO[bytes]) -> str:
    file.seek(0)
    return file.read().decode("utf-8", "surrogateescape")


#: A codec under which `sh` passes arguments as they came, whatever the locale: names need not be valid in any encoding.
_ARGUMENTS = "globuswrap-arguments"


def _argument_codec(name: str) -> codecs.CodecInfo | None:
    if name.replace("-", "_") != _ARGUMENTS.replace("-", "_"):
        return None
    return codecs.CodecInfo(
        lambda text, errors="strict": (os.fsencode(text), len(text)),
        lambda data, errors="strict": (os.fsdecode(bytes(data)), len(data)),
        name=_ARGUMENTS,
    )


codecs.register(_argument_codec)
# Looked up here, once: sh encodes between fork and exec, where a first look-up would import, and hang for ever on an import
# lock that another thread held when the process forked.
codecs.lookup(_ARGUMENTS)


class _Everything:
    """A container that holds every exit code, signals included: `run` never raises for one."""

    def __contains__(self, code: object) -> bool:
        return True

    def __iter__(self) -> Any:
        return iter(range(256))


#: How `sh` starts each program: it does not wait by itself, and takes no exit code for an exception.
_UNJUDGED: dict[str, Any] = {"_bg": True, "_bg_exc": False, "_return_cmd": True, "_ok_code": _Everything()}
