"""Ask for submission ids ahead of time, while the list is read or the previous task is sent."""

from __future__ import annotations

import contextlib
import threading
import time

from globuswrap.errors import Problem
from globuswrap.globus import verbs

#: How long an id stays good is not documented: an older one is not used.
_FRESH = 600.0


class Ids:
    """`ahead` asks for an id and returns at once; `take` gives one, asking now if none was asked for ahead."""

    def __init__(self, retry_for: float | None = None) -> None:
        self._retry_for = retry_for
        self._asked: threading.Thread | None = None
        self._found: tuple[str, float] | None = None

    def ahead(self) -> None:
        if self._asked is None:
            # A daemon: a list that is refused does not wait for an id that it does not need.
            self._asked = threading.Thread(target=self._ask, daemon=True)
            self._asked.start()

    @property
    def awaited(self) -> bool:
        """Will `take` have to wait?"""
        return self._asked is None or self._asked.is_alive()

    def take(self) -> str:
        """Raises as `new_submission_id`: a failure ahead of time is forgotten, it is asked for again."""
        if self._asked is not None:
            self._asked.join()
            self._asked = None
        found, self._found = self._found, None
        if found is not None and time.monotonic() - found[1] < _FRESH:
            return found[0]
        return verbs.new_submission_id(self._retry_for)

    def _ask(self) -> None:
        with contextlib.suppress(Problem):
            self._found = verbs.new_submission_id(0.0), time.monotonic()
