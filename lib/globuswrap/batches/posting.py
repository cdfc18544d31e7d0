"""Start the `globus` process of a submission before its document is ready, and send the document through a pipe.

Starting takes the CLI longer than sending. So while the submission id is still awaited, the process that will send it is
under way; it is given the document, whole, only after the id is written down. Ended before that, it has nothing that Globus
would accept: the last bracket of a JSON document is what makes it one.
"""

from __future__ import annotations

import contextlib
import os
import threading
from typing import IO, Any

from globuswrap.globus import verbs


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
