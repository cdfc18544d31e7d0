"""Questions that do not depend on each other, asked side by side: most of what one takes is waiting."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterable
from typing import TypeVar

from globuswrap.system import log

Given = TypeVar("Given")
Found = TypeVar("Found")

#: `globus` processes at a time.
_AT_ONCE = 4


def map_concurrently(work: Callable[[Given], Found], given: Iterable[Given]) -> list[Found]:
    """What the work makes of each, in their order; of several exceptions the first one's is raised.

    With -v one after the other, so that what the commands print stays apart. A signal ends the wait at once: the threads are
    daemons, and start nothing more (system.signals).
    """
    wanted = list(given)
    if len(wanted) < 2 or log.level() >= 2:
        return [work(each) for each in wanted]
    todo: queue.SimpleQueue[int] = queue.SimpleQueue()
    done: queue.SimpleQueue[int] = queue.SimpleQueue()
    found: dict[int, Found] = {}
    failed: dict[int, BaseException] = {}

    def take() -> None:
        while True:
            try:
                at = todo.get_nowait()
            except queue.Empty:
                return
            try:
                found[at] = work(wanted[at])
            except BaseException as problem:  # raised again where it was asked for
                failed[at] = problem
            done.put(at)

    for at in range(len(wanted)):
        todo.put(at)
    for _ in range(min(_AT_ONCE, len(wanted))):
        threading.Thread(target=take, daemon=True).start()
    for _ in wanted:
        done.get()
    if failed:
        raise failed[min(failed)]
    return [found[at] for at in range(len(wanted))]
