"""Many items as few tasks: any names, any number, checked before the first is sent."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from globuswrap.errors import UsageProblem
from globuswrap.transfers import request as requests
from globuswrap.transfers.batching import run
from globuswrap.transfers.batching.run import CHUNK, IN_FLIGHT, BatchResult, Load, Sent, settle
from globuswrap.transfers.batching.spool import Spool
from globuswrap.transfers.request import Item, Options, Request
from globuswrap.transfers.submit import Policy
from globuswrap.transfers.wait import Patience, Watcher


def submit_items(
    source_collection: str,
    destination_collection: str,
    items: Iterable[Item],
    options: Options | None = None,
    policy: Policy | None = None,
    *,
    chunk: int = CHUNK,
    in_flight: int | None = None,
    patience: Patience | None = None,
    watcher: Watcher | None = None,
    **rest: Any,
) -> Sent:
    """Submit items (absolute paths, or relative to the default directory) between two collections (UUIDs), exactly once.

    For callers that made the list themselves, as sync does: `items` is read once and kept on disk, `chunk` items make a
    task, and by default nothing is waited for: `sent.submitted` has one `Submitted` for each task, and its journal entry
    can be waited for now or by another process. `settle(sent, wait, after)` then gives one result and one receipt over
    all; until that (or until each task was reported) the same items under the same policy are adopted, never sent again.
    With `in_flight` never more than so many tasks are unfinished, which waits (see `run.send`). `rest`: label, notify,
    deadline.

    The caller answers for the items: only an empty list is refused here. Raises UsageProblem, and what `submit_intent`
    raises.
    """
    request = checked(Request(source_collection, destination_collection, (), options or Options(), **rest))
    spool = Spool()
    spool.add_items(items)
    if not spool.count:
        raise nothing_to_do()
    return _sent([Load(request, spool)], policy or Policy(), chunk, in_flight, patience, watcher)


def _sent(
    loads: list[Load],
    policy: Policy,
    chunk: int,
    in_flight: int | None,
    patience: Patience | None,
    watcher: Watcher | None,
) -> Sent:
    if chunk < 1 or (in_flight is not None and in_flight < 1):
        raise UsageProblem("bad-option", "--chunk and --in-flight are at least 1", "leave them out")
    round_ = run.begin(loads, policy, chunk)
    return run.send(round_, loads, policy, in_flight=in_flight, patience=patience, watcher=watcher)


def checked(request: Request) -> Request:
    """A request without items, if the rest of it makes sense."""
    return replace(requests.checked(replace(request, items=(Item("/a", "/b"),))), items=())


def nothing_to_do() -> UsageProblem:
    return UsageProblem("nothing-to-do", "the list of items is empty", "check how the list was made")


__all__ = ["CHUNK", "IN_FLIGHT", "BatchResult", "Item", "Sent", "settle", "submit_items"]
