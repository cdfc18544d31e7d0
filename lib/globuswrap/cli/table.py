"""The table of commands. A name may have two words. One without a line of help is for generated scripts, and not shown."""

from __future__ import annotations

from typing import NamedTuple

#: In the order of the help page.
MOVE, STAGE, SYNC, SHARE, AUTOMATE, LOOK, SET_UP, MORE = GROUPS = (
    *("Move data", "Stage data around jobs", "Keep directories in sync", "Share and clean up", "Automate"),
    *("See what happens", "Set up", "For scripts and shells"),
)


class Entry(NamedTuple):
    """A command: the line that help shows for it, and its group there."""

    line: str
    group: str = ""


COMMANDS = {
    "transfer": Entry("Transfer a file or directory, exactly once.", MOVE),
    "batch": Entry("Transfer many items, of any names and any number.", MOVE),
    "delete": Entry("Delete paths of a collection, exactly once.", MOVE),
    "ls": Entry("List a directory of a collection.", MOVE),
    "submit": Entry("Submit a job script with its #GLOBUS lines.", STAGE),
    "stage": Entry("Stage data in or out, inside a job.", STAGE),
    "sync": Entry("Keep directories in sync, from cron or on demand.", SYNC),
    "share": Entry("Grant access to shared collections, and deliver data.", SHARE),
    "cleanup": Entry("Delete files that receipts prove delivered.", SHARE),
    "watch": Entry("Run a command for each new file.", AUTOMATE),
    "watch repair": Entry("Show what a watcher did with each file, and repair it.", AUTOMATE),
    "flow": Entry("Deploy, start and follow Globus flows.", AUTOMATE),
    "search": Entry("Ingest into and query Globus Search.", AUTOMATE),
    "status": Entry("Show what is under way.", LOOK),
    "show": Entry("Show one task or chain in full: what happened, why, what next.", LOOK),
    "history": Entry("List what was moved: when, how much, how fast, how it ended.", LOOK),
    "report": Entry("Report where time and bytes went, as bars or as an HTML page.", LOOK),
    "wait": Entry("Wait for tasks and chains, and say how each ended.", LOOK),
    "cancel": Entry("Cancel tasks and chains.", LOOK),
    "init": Entry("Set up globuswrap, the first time or again.", SET_UP),
    "doctor": Entry("Find problems before you submit, with the command that fixes each.", SET_UP),
    "collection": Entry("Name collections and their local directories.", SET_UP),
    "sandbox": Entry("Run a local Globus to try things out.", SET_UP),
    "tend": Entry("Advance all chains once, or until they have ended.", MORE),
    "toolkit": Entry("Print the path of the shell toolkit for job scripts.", MORE),
    "completion": Entry("Print the completion script for bash or zsh.", MORE),
    "in-job": Entry(""),
}


def shown() -> dict[str, Entry]:
    """The commands that people use."""
    return {name: entry for name, entry in COMMANDS.items() if entry.line}


def module(name: str) -> str:
    """The module that has the command, under globuswrap.cli."""
    return name.partition(" ")[0].replace("-", "_")
