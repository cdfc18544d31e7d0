"""Turn signals that end a run into `Interrupted`, wherever the program is.

Python drops an exception that a handler raises inside a destructor or a weak reference's callback. So the signal is also
noted, and `check`, which every start of a program and every rest of a loop calls, raises it again.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from globuswrap.errors import Interrupted

_ENDING = (signal.SIGHUP, signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)
_noted: int | None = None
_pid = 0
_taker: Callable[[int], None] | None = None


def become_interrupted() -> None:
    """From now on HUP, INT, TERM and USR1 raise Interrupted. One that is ignored (nohup, a background job) stays so."""
    global _pid
    _pid = os.getpid()
    for number in _ENDING:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _interrupt)


def check() -> None:
    """Raise the Interrupted of a signal that was noted and got lost."""
    if _noted is not None:
        raise Interrupted(_noted)


@contextmanager
def taken_by(taker: Callable[[int], None]) -> Iterator[None]:
    """In this block a signal raises nothing: `taker` gets its number. It is noted all the same, so `check` raises afterwards."""
    global _taker
    before, _taker = _taker, taker
    try:
        yield
    finally:
        _taker = before


def _interrupt(number: int, _frame: object) -> None:
    global _noted
    if os.getpid() != _pid:
        return  # sent to the process that this one was just forked from, which has seen to it
    _noted = number
    if _taker is not None:
        _taker(number)
        return
    raise Interrupted(number)
