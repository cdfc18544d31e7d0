"""Move research data around batch jobs, cron jobs and instruments with the `globus` command.

The functions here are the ones that the commands call: see docs/python.md.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from globuswrap.api import History, SubmittedJob, history, status, submit
    from globuswrap.batches.listing import Listing
    from globuswrap.batches.lookup import wait
    from globuswrap.batches.prepare import Choices, PathList, batch
    from globuswrap.batches.run import BatchResult
    from globuswrap.errors import Problem
    from globuswrap.sharing.deliver import Delivered, share
    from globuswrap.syncs.context import RunOptions, RunResult
    from globuswrap.syncs.run import sync
    from globuswrap.transfers.operations import Hooks, Result, delete, transfer
    from globuswrap.transfers.options import Options
    from globuswrap.transfers.outcome import Outcome
    from globuswrap.transfers.request import Item
    from globuswrap.transfers.submit import Policy
    from globuswrap.transfers.wait import WaitPolicy
    from globuswrap.underway.stand import Status

_FROM = {
    name: f"globuswrap.{module}"
    for module, names in {
        "api": ("History", "SubmittedJob", "history", "status", "submit"),
        "batches.lookup": ("wait",),
        "batches.listing": ("Listing",),
        "batches.prepare": ("Choices", "PathList", "batch"),
        "batches.run": ("BatchResult",),
        "errors": ("Problem",),
        "sharing.deliver": ("Delivered", "share"),
        "syncs.context": ("RunOptions", "RunResult"),
        "syncs.run": ("sync",),
        "transfers.operations": ("Hooks", "Result", "delete", "transfer"),
        "transfers.options": ("Options",),
        "transfers.outcome": ("Outcome",),
        "transfers.request": ("Item",),
        "transfers.submit": ("Policy",),
        "transfers.wait": ("WaitPolicy",),
        "underway.stand": ("Status",),
    }.items()
    for name in names
}

__all__ = [
    "BatchResult",
    "Choices",
    "Delivered",
    "History",
    "Hooks",
    "Item",
    "Listing",
    "Options",
    "Outcome",
    "PathList",
    "Policy",
    "Problem",
    "Result",
    "RunOptions",
    "RunResult",
    "Status",
    "SubmittedJob",
    "WaitPolicy",
    "__version__",
    "batch",
    "delete",
    "history",
    "share",
    "status",
    "submit",
    "sync",
    "transfer",
    "wait",
]


def __getattr__(name: str) -> Any:
    """Public names are imported when they are first used: the commands start without them."""
    if name not in _FROM:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_FROM[name]), name)


def __dir__() -> list[str]:
    """The public names, for completion at a prompt: none of them has to be imported for that."""
    return __all__
