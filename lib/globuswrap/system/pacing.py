"""Pace polling loops: how long to rest between two polls, and when time is up.

Monotonic time. A signal is raised from a rest (system.signals), so no loop needs to know of signals.
"""

from __future__ import annotations

import time

from globuswrap.system import signals

#: A rest grows by this factor, from the first to the longest.
GROWTH = 1.5


class Pace:
    """Rests from `first` seconds up to `longest`, until `timeout` seconds are over (None: for ever; 0: one look)."""

    def __init__(self, longest: float | None, timeout: float | None = None, first: float = 1.0) -> None:
        self._longest = longest or 0.0
        self._first = self._pause = min(first, self._longest)
        self._timeout = timeout
        self._started = time.monotonic()

    @property
    def elapsed(self) -> float:
        return time.monotonic() - self._started

    @property
    def left(self) -> float | None:
        """Seconds until time is up, not below 0; None: for ever."""
        return None if self._timeout is None else max(0.0, self._timeout - self.elapsed)

    @property
    def over(self) -> bool:
        return self.left == 0.0

    @property
    def pause(self) -> float:
        """How long the next rest is, unless time is up before."""
        return self._pause

    def news(self) -> None:
        """Something has changed, so more may soon: rest shortly again."""
        self._pause = self._first

    def rest(self) -> None:
        left = self.left
        signals.check()
        time.sleep(self._pause if left is None else min(self._pause, left))
        self._pause = min(self._pause * GROWTH, self._longest)
