"""Run the `[hooks]` of the configuration: programs that get every outcome.

A hook is a list of words, run as they are, without a shell: what a server says, or a file is called, is never part of a command
line. It gets the outcome as JSON on stdin. What it does changes nothing: if it fails, that is said.
"""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Mapping
from typing import Any

from globuswrap import config
from globuswrap.errors import HELD, Problem
from globuswrap.system import log, process
from globuswrap.transfers.outcome import Outcome

SCHEMA = "globuswrap.hook/1"
SUCCESS, FAILURE, ATTENTION = config.HOOKS
#: A hook that takes longer is ended.
_LONGEST = 60.0


def task(ended: Outcome) -> None:
    """Tell of a task, or of several that were one request. One that has not ended is told of only if it waits for a person."""
    if ended.terminal:
        tell(SUCCESS if ended.exit_code == 0 else FAILURE, {"kind": "task", **ended.as_data(), "remedy": ended.remedy})
    elif ended.exit_code == HELD:
        tell(ATTENTION, {"kind": "task", **ended.as_data(), "remedy": ended.remedy})


def tell(event: str, data: Mapping[str, Any]) -> None:
    """Run the hook for an event, if there is one."""
    argv = config.load().table("hooks").get(event)
    if not argv:
        return
    document = {"schema": SCHEMA, "event": event, "time": time.time(), "host": socket.gethostname(), **data}
    try:
        done = process.run(argv, stdin=json.dumps(document).encode(), timeout=_LONGEST)
    except Problem as problem:
        log.say(f"the {event} hook was not run: {problem.cause}", 0)
        return
    if done.code != 0:
        last = (done.stderr.strip().splitlines() or [""])[-1]
        log.say(f"the {event} hook ended with exit code {done.code}{': ' + last if last else ''}", 0)
