"""The table of commands. One without a line of help is for generated scripts, and not shown."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple


class Entry(NamedTuple):
    """A command: the module under globuswrap.cli that has its `app`, and the line that help shows for it."""

    module: str
    line: str


COMMANDS = {
    "transfer": Entry("transfer", "Transfer a file or directory, exactly once."),
    "delete": Entry("delete", "Delete paths of a collection, exactly once."),
    "batch": Entry("batch", "Transfer many items, of any names and any number."),
    "wait": Entry("wait", "Wait for tasks, and say how each ended."),
    "status": Entry("status", "Show submissions, chains and their tasks."),
    "show": Entry("show", "Show one task or chain in full: what happened, why, what next."),
    "history": Entry("history", "List what was moved: when, how much, how fast, how it ended."),
    "cancel": Entry("cancel", "Cancel tasks, by task id, key or chain."),
    "stage": Entry("stage", "Stage data in or out, inside a job."),
    "toolkit": Entry("toolkit", "Print the path of the shell toolkit for job scripts."),
    "submit": Entry("submit", "Submit a job script with its #GLOBUS lines."),
    "tend": Entry("tend", "Advance all chains once, or keep on."),
    "sync": Entry("sync", "Keep directories in step, from cron or by hand."),
    "share": Entry("share", "Permissions on shared collections."),
    "cleanup": Entry("cleanup", "Delete what receipts prove delivered."),
    "watch": Entry("watch", "Run a command line for each new file."),
    "flow": Entry("flow", "Deploy, start and follow Globus flows."),
    "search": Entry("search", "Ingest into and query Globus Search."),
    "collection": Entry("collection", "Names for collections, local and collection paths."),
    "doctor": Entry("doctor", "Find what is known to go wrong, before it does."),
    "completion": Entry("completion", "Print the completion script for bash or zsh."),
    "in-job": Entry("in_job", ""),
    "sandbox": Entry("sandbox", "A local Globus to try things on."),
}


def available() -> dict[str, Entry]:
    return {name: entry for name, entry in COMMANDS.items() if _exists(entry.module)}


def shown() -> dict[str, Entry]:
    """The commands that people use."""
    return {name: entry for name, entry in available().items() if entry.line}


def _exists(module: str) -> bool:
    return (Path(__file__).parent / f"{module}.py").exists()
