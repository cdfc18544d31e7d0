"""Remember on disk how long a task has had a fault, because many short processes watch one chain.

Hosts that share the state directory may disagree about the time by minutes, and a wrong answer cancels a task. So no wall
clock is read. Each host notes when it first saw the fault on the clock that counts since its boot, and how long the fault
is known to have lasted; a host that sees it for the first time goes on from there. What is told is never more than what has
passed. It is less by the time between the last look of one host and the first of the next.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from globuswrap.system import files, machine
from globuswrap.transfers.journal import Entry


@dataclass(frozen=True)
class Lasting:
    """A fault: for how many seconds it is known to have lasted, and how often it was seen."""

    seconds: float
    looks: int


class Mark:
    """The note of one task's fault, beside its journal entry if it has one. No fact: two writers at worst lose a look."""

    def __init__(self, task_id: str, entry: Entry | None) -> None:
        self._path = (
            Path(f"{entry.path}.fault") if entry is not None else files.state_dir() / "faults" / f"{task_id}.json"
        )
        self._absent = False

    def seen(self, reason: str) -> Lasting:
        """Note that the task has this fault now; another reason begins anew."""
        known = self._read()
        if known["reason"] != reason:
            known = {**_NOTHING, "reason": reason, "since": {}, "stopping": known["stopping"]}
        here, now = machine.boot(), _now()
        since = min(known["since"].get(here, now), now)
        seconds = max(known["seconds"], now - since)
        known["since"][here] = now - seconds
        self._write({**known, "seconds": seconds, "looks": known["looks"] + 1})
        return Lasting(seconds, known["looks"] + 1)

    def stopping(self, reason: str) -> None:
        """Note why the task is about to be canceled by us, before it is: whoever sees its end knows the cause."""
        self._write({**self._read(), "stopping": reason})

    @property
    def stopped_for(self) -> str | None:
        """Why we have canceled the task, if we have."""
        return self._read()["stopping"] or None

    def healthy(self) -> None:
        """The task has no fault now."""
        if not self._absent and self.stopped_for is None:
            self.ended()

    def ended(self) -> None:
        """The task has ended, and that is recorded."""
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self._path)
        self._absent = True

    def _read(self) -> dict[str, Any]:
        try:
            found = json.loads(self._path.read_bytes())
            return {name: type(empty)(found[name]) for name, empty in _NOTHING.items()}
        except (OSError, ValueError, TypeError, KeyError):
            return {**_NOTHING, "since": {}}

    def _write(self, known: dict[str, Any]) -> None:
        files.private_directory(self._path.parent)
        files.write_atomic(self._path, json.dumps(known))
        self._absent = False


_NOTHING: dict[str, Any] = {"reason": "", "seconds": 0.0, "looks": 0, "since": {}, "stopping": ""}


def _now() -> float:
    """Seconds since boot, with those asleep where the system counts them."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))
