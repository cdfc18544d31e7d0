"""Start the `globus` processes of a submission ahead of time, since starting takes the CLI longer than asking or sending.

A submission id is asked for while the list is read or the previous task is sent. While it is still awaited, the process that
will send the document is under way; it is given the document, whole, only after the id is written down. Ended before that, it
has nothing that Globus would accept: the last bracket of a JSON document is what makes it one.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from typing import IO, Any

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


class Posting:
    """One `globus api transfer POST /transfer`, for one document."""

    def __init__(self) -> None:
        read, write = os.pipe()
        self._write: IO[bytes] = os.fdopen(write, "wb")
        self._answer: Any = None
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run, args=(os.fdopen(read, "rb"),), daemon=True)
        self._thread.start()

    def _run(self, document: IO[bytes]) -> None:
        try:
            self._answer = verbs.post("/transfer", document)
        except BaseException as failure:  # raised again where the answer is awaited
            self._failure = failure
        finally:
            document.close()

    def send(self, document: IO[bytes]) -> Any:
        """Give it the document; returns and raises as `verbs.post`."""
        with contextlib.suppress(BrokenPipeError), self._write as target:  # it has ended early, and says why
            while block := document.read(1 << 18):
                target.write(block)
        self._thread.join()
        if self._failure is not None:
            raise self._failure
        return self._answer

    def __del__(self) -> None:
        with contextlib.suppress(BrokenPipeError):
            self._write.close()
