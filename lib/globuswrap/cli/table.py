"""The table of commands. A name may have two words. One without a line of help is for generated scripts, and not shown."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

#: In the order of the help page.
MOVE, STAGE, SYNC, SHARE, AUTOMATE, LOOK, SET_UP, MORE = GROUPS = (
    *("Move data", "Stage data around jobs", "Keep directories in sync", "Share and clean up", "Automate"),
    *("See what happens", "Set up", "For scripts and shells"),
)


class Entry(NamedTuple):
    """A command: the module under globuswrap.cli that has its `app`, the line that help shows for it, and its group there."""

    module: str
    line: str
    group: str = ""


COMMANDS = {
    "transfer": Entry("transfer", "Transfer a file or directory, exactly once.", MOVE),
    "batch": Entry("batch", "Transfer many items, of any names and any number.", MOVE),
    "delete": Entry("delete", "Delete paths of a collection, exactly once.", MOVE),
    "ls": Entry("ls", "List a directory of a collection.", MOVE),
    "submit": Entry("submit", "Submit a job script with its #GLOBUS lines.", STAGE),
    "stage": Entry("stage", "Stage data in or out, inside a job.", STAGE),
    "sync": Entry("sync", "Keep directories in sync, from cron or on demand.", SYNC),
    "share": Entry("share", "Grant access to shared collections, and deliver data.", SHARE),
    "cleanup": Entry("cleanup", "Delete files that receipts prove delivered.", SHARE),
    "watch": Entry("watch", "Run a command for each new file.", AUTOMATE),
    "watch repair": Entry("watch", "Show what a watcher did with each file, and repair it.", AUTOMATE),
    "flow": Entry("flow", "Deploy, start and follow Globus flows.", AUTOMATE),
    "search": Entry("search", "Ingest into and query Globus Search.", AUTOMATE),
    "status": Entry("status", "Show what is under way.", LOOK),
    "show": Entry("show", "Show one task or chain in full: what happened, why, what next.", LOOK),
    "history": Entry("history", "List what was moved: when, how much, how fast, how it ended.", LOOK),
    "report": Entry("report", "Report where time and bytes went, as bars or as an HTML page.", LOOK),
    "wait": Entry("wait", "Wait for tasks and chains, and say how each ended.", LOOK),
    "cancel": Entry("cancel", "Cancel tasks and chains.", LOOK),
    "init": Entry("init", "Set up globuswrap, the first time or again.", SET_UP),
    "doctor": Entry("doctor", "Find problems before you submit, with the command that fixes each.", SET_UP),
    "collection": Entry("collection", "Name collections and their local directories.", SET_UP),
    "sandbox": Entry("sandbox", "Run a local Globus to try things out.", SET_UP),
    "tend": Entry("tend", "Advance all chains once, or until they have ended.", MORE),
    "toolkit": Entry("toolkit", "Print the path of the shell toolkit for job scripts.", MORE),
    "completion": Entry("completion", "Print the completion script for bash or zsh.", MORE),
    "in-job": Entry("in_job", ""),
}


def available() -> dict[str, Entry]:
    return {name: entry for name, entry in COMMANDS.items() if _exists(entry.module)}


def shown() -> dict[str, Entry]:
    """The commands that people use."""
    return {name: entry for name, entry in available().items() if entry.line}


def _exists(module: str) -> bool:
    return (Path(__file__).parent / f"{module}.py").exists()
