"""`globuswrap status`: the journal, chains, and what Globus says of the tasks."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from globuswrap.cli import output, progress
from globuswrap.cli.options import application, command
from globuswrap.cli.output import Report, table
from globuswrap.system import log, units

if TYPE_CHECKING:
    from globuswrap.errors import Problem
    from globuswrap.staging.chain.record import Chain
    from globuswrap.transfers.journal import Entry

app = application()


@command(app)
def status(
    tasks: Annotated[
        list[str] | None,
        typer.Argument(
            help="Task ids, keys or chains, or how they begin; none: all.", metavar="TASK_OR_KEY_OR_CHAIN..."
        ),
    ] = None,
    all_: Annotated[bool, typer.Option("--all", "-a", help="Finished ones too (see also: history).")] = False,
    live: Annotated[bool, typer.Option("--live/--no-live", help="Ask Globus about unfinished tasks (default).")] = True,
    watch: Annotated[
        bool, typer.Option("--watch", "-w", help="Show it again and again, until nothing is under way.")
    ] = False,
    every: Annotated[str, typer.Option("--every", help="With --watch: time between updates.")] = "5s",
) -> Report:
    """Show what is under way: chains, and tasks with their state, age, bytes, and why they wait. Nothing is changed.

    Works without Globus: it then shows what the journal knows. One task or chain in full: globuswrap show ID.
    """
    pause = max(0.5, units.duration(every))
    if not watch:
        with progress.doing() as say:
            say("asking Globus and the scheduler")
            report, _, _, notes = _look(tasks or [], all_, live)
        for note in notes:
            log.say(note)
        return report
    last: object = None
    progress.still()
    while True:
        report, under_way, standing, notes = _look(tasks or [], all_, live)
        if not under_way:
            if sys.stdout.isatty() and not output.state.json:
                _redraw([])
            return report
        if sys.stdout.isatty() and not output.state.json:
            _redraw(
                [
                    *report.text,
                    *notes,
                    "",
                    f"{under_way} under way; again in {units.human_duration(pause)}, ^C to leave",
                ]
            )
        elif standing != last and not output.state.json:
            output.show(report)  # in a log: what has changed
        last = standing
        time.sleep(pause)


def _redraw(lines: Sequence[str]) -> None:
    """In place of what was on the screen; what does not fit is left out, and said so."""
    width, height = shutil.get_terminal_size()
    shown = list(lines)
    if len(shown) > height - 1:
        shown = [*shown[: height - 4], f"... {len(shown) - height + 3} more lines", *shown[-2:]]
    text = "".join(f"{output.fitted(log.printable(line), width)}\x1b[K\n" for line in shown)
    print(f"\x1b[H{text}\x1b[J", end="", flush=True)


def _look(wanted: Sequence[str], all_: bool, live: bool) -> tuple[Report, int, object, list[str]]:
    """The report, how many tasks and chains are under way, what has to differ for it to be news, and what is said beside it."""
    from globuswrap.cli import lookup
    from globuswrap.reports import history
    from globuswrap.staging import status as chain_status
    from globuswrap.staging.chain import tend
    from globuswrap.transfers import journal, outcome

    missing = None
    over: list[Chain] = []
    if wanted:
        found = lookup.words(wanted, accepted=False)
        shown_chains, missing = found.chains, found.missing()
        entries = [_in_journal(each) for each in found.named.tasks]
    else:
        open_, over = tend.recent()
        shown_chains = [each.id for each in ([*over, *open_] if all_ else open_)]
        ours = (each for each in (journal.entries() if all_ else journal.unsettled()) if not history.is_inner(each))
        entries = sorted((each for each in ours if all_ or not each.claim.chain), key=lambda each: each.claim.created)
    documents, silence = _documents(entries) if live else ({}, None)
    if not wanted and not all_:
        entries = [each for each in entries if not _ended_long_ago(documents.get(each.task_id or "", {}))]
    lines: list[str] = []
    described = [chain_status.describe(each) for each in shown_chains]
    for each in described:
        lines.extend([*each["text"], ""])
    rows = [_row(entry, documents.get(entry.task_id or "", {})) for entry in entries]
    if rows:
        head, *listed = table([row[:-1] for row in rows], _HEAD)
        lines.append(head)
        for line, row in zip(listed, rows, strict=True):
            lines += [line, f"          {row[-1]}"] if row[-1] else [line]
    damaged = [str(path) for path in journal.damaged()]
    if missing is not None:
        lines.append(missing.cause)
    lines.extend(f"damaged entry, set aside: {path}" for path in damaged)
    data = {
        "submissions": [_data(entry, documents.get(entry.task_id or "")) for entry in entries],
        "chains": [each["data"] for each in described],
        "damaged": damaged,
    }
    notes = list(_notes(silence, [each for each in over if not all_ and each.exit_code], wanted or lines))
    under_way = sum(map(outcome.is_unfinished, documents.values()))
    under_way += sum(each["data"]["state"] in ("under way", "ending") for each in described)
    states = [[cell for at, cell in enumerate(row) if at != _AGE] for row in rows]
    steps = [(each["data"]["state"], [step["state"] for step in each["data"]["steps"]]) for each in described]
    return Report(data, [line for line in lines if line or len(lines) > 1]), under_way, (states, steps), notes


_HEAD = ("TASK", "STATE", "AGE", "BYTES", "FROM -> TO")
#: The column of a row that changes all the time.
_AGE = 2
#: A task that nobody waits for is shown so long after it has ended.
_SHOWN_FOR = 86400.0


def _documents(entries: Sequence[Entry]) -> tuple[Mapping[str, Mapping[str, Any]], Problem | None]:
    """What Globus says of those that have no receipt, or why it says nothing."""
    from globuswrap.errors import Problem
    from globuswrap.transfers import wait as waiting

    running = [each.task_id for each in entries if each.task_id and each.receipt is None]
    try:
        return waiting.documents(running) if running else {}, None
    except Problem as problem:
        return {}, problem


def _ended_long_ago(task: Mapping[str, Any]) -> bool:
    ended = units.seconds_of(task.get("completion_time"))
    return ended is not None and time.time() - ended > _SHOWN_FOR


def _notes(silence: Problem | None, failed: Sequence[Chain], anything: object) -> Iterator[str]:
    """What a person should know beside the list, of which it is no part."""
    if silence is not None:
        yield f"Globus was not reached: {silence.cause}. This is what the journal knows. Fix: {silence.remedy}"
    for chain in failed:
        ago = units.human_duration(max(0.0, time.time() - (chain.ended_at or 0.0)))
        yield f"Chain {chain.id} ended with a problem {ago} ago: globuswrap show {chain.id}"
    if not anything:
        yield "Nothing is under way. To begin: globuswrap transfer SOURCE DESTINATION, or: globuswrap submit job.sh"
        yield "What was moved: globuswrap history"


def _in_journal(task: str | Entry) -> Entry:
    from globuswrap.errors import UsageProblem

    if isinstance(task, str):
        raise UsageProblem("unknown-task", f"task {task} is not in the journal", f"ask Globus: globus task show {task}")
    return task


def _row(entry: Entry, task: Mapping[str, Any]) -> list[str]:
    """The cells of the table, and why it waits."""
    from globuswrap.reports import show

    state, why = show.standing(entry, task)
    more = f" (+{entry.claim.items - 1})" if entry.claim.items > 1 else ""
    moved = (entry.receipt or task).get("bytes_transferred")
    age = units.human_duration(max(0.0, time.time() - entry.claim.created))
    size = "-" if moved is None else units.human_size(moved)
    return [(entry.task_id or "-")[:8], state, age, size, show.route(entry) + more, why]


def _data(entry: Entry, task: Mapping[str, Any] | None) -> dict[str, Any]:
    return {
        **vars(entry.claim),
        "task_id": entry.task_id,
        "state": entry.state,
        "reported": entry.reported,
        "task": task,
    }
