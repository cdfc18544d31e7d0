"""Detect lost standard output, and never let standard error stop the work.

A result that nobody can have read is no success, whatever kind of command wrote it: so all of stdout raises OutputLost, once, and
is silent after that. Messages are different. They may be lost, but no transfer ends half-way because a log is full.
"""

from __future__ import annotations

import errno
import io
import os
import signal
import sys

from globuswrap.errors import TRY_LATER, OutputLost


class _Output(io.TextIOWrapper):
    def write(self, text: str) -> int:
        try:
            return super().write(text)
        except OSError as error:
            raise _lost(error) from None

    def flush(self) -> None:
        try:
            super().flush()
        except OSError as error:
            raise _lost(error) from None


class _Messages(io.TextIOWrapper):
    def write(self, text: str) -> int:
        try:
            return super().write(text)
        except OSError:
            return len(text)

    def flush(self) -> None:
        try:
            super().flush()
        except OSError:
            return


def guard() -> None:
    """Put both in place of this process's streams; once, where a command line begins."""
    for number in (0, 1, 2):
        _open(number)
    output = open(1, "wb", closefd=False)  # noqa: SIM115 (the process's own)
    sys.stdout = _Output(output, "utf-8", "surrogateescape", line_buffering=output.isatty())
    messages = open(2, "wb", buffering=0, closefd=False)  # noqa: SIM115
    sys.stderr = _Messages(messages, "utf-8", "backslashreplace", write_through=True)
    if sys.stdin is None:
        sys.stdin = open(0, closefd=False)  # noqa: SIM115


def _open(number: int) -> None:
    """A closed descriptor would be given to the next file that is opened, and output written into it. What is written to this one
    fails, as it does to a closed one; standard error alone takes it, for the programs that inherit it."""
    try:
        os.fstat(number)
    except OSError:
        os.open(os.devnull, os.O_WRONLY if number == 2 else os.O_RDONLY)  # the lowest that is free, so this one
        os.set_inheritable(number, True)


def _lost(error: OSError) -> OutputLost:
    """From now on nothing is written: what is still in the buffer would be tried, and fail, at the end of the process."""
    silent = os.open(os.devnull, os.O_WRONLY)
    os.dup2(silent, 1)
    os.close(silent)
    if error.errno == errno.EPIPE:
        return OutputLost("", 128 + signal.SIGPIPE)
    return OutputLost(f"the output could not be written: {os.strerror(error.errno or errno.EIO)}", TRY_LATER)
