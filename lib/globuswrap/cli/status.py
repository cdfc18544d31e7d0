"""`globuswrap status`: the journal, chains, and what Globus says of the tasks."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from globuswrap.cli import output, progress
from globuswrap.cli.options import application, command
from globuswrap.cli.output import Report, table
from globuswrap.system import log, units

if TYPE_CHECKING:
    from globuswrap.transfers.journal import Entry

app = application()


@command(app)
def status(
    tasks: Annotated[
        list[str] | None, typer.Argument(help="Task ids, keys or chains; none: all.", metavar="TASK_OR_KEY_OR_CHAIN...")
    ] = None,
    all_: Annotated[bool, typer.Option("--all", "-a", help="Finished ones too.")] = False,
    live: Annotated[bool, typer.Option("--live/--no-live", help="Ask Globus about unfinished tasks (default).")] = True,
    watch: Annotated[
        bool, typer.Option("--watch", "-w", help="Show it again and again, until nothing is under way.")
    ] = False,
    every: Annotated[str, typer.Option("--every", help="With --watch: time between two looks.")] = "5s",
) -> Report:
    """Show submissions in the journal and how their tasks stand. Nothing is changed."""
    pause = max(0.5, units.duration(every))
    if not watch:
        with progress.doing() as say:
            say("asking Globus and the scheduler")
            return _look(tasks or [], all_, live)[0]
    last: object = None
    progress.still()
    while True:
        report, under_way, standing = _look(tasks or [], all_, live)
        if not under_way:
            if sys.stdout.isatty() and not output.state.json:
                _redraw([])
            return report
        if sys.stdout.isatty() and not output.state.json:
            _redraw([*report.text, "", f"{under_way} under way; again in {units.human_duration(pause)}, ^C to leave"])
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


def _look(wanted: Sequence[str], all_: bool, live: bool) -> tuple[Report, int, object]:
    """The report, how many tasks and chains are under way, and what has to differ for it to be news."""
    from globuswrap.cli import lookup
    from globuswrap.staging import status as chain_status
    from globuswrap.staging.chain import tend
    from globuswrap.transfers import journal, outcome
    from globuswrap.transfers import wait as waiting

    missing = None
    if wanted:
        found = lookup.words(wanted, accepted=False)
        shown_chains, missing = found.chains, found.missing()
        entries = [_in_journal(each) for each in found.named.tasks]
    else:
        shown_chains = tend.recent()
        entries = sorted(journal.entries() if all_ else journal.unsettled(), key=lambda entry: entry.claim.created)
    running = [each.task_id for each in entries if each.task_id and each.receipt is None] if live else []
    documents = waiting.documents(running) if running else {}
    lines: list[str] = []
    described = [chain_status.describe(each) for each in shown_chains]
    for each in described:
        lines.extend([*each["text"], ""])
    rows = [_row(entry, documents.get(entry.task_id or "", {})) for entry in entries]
    if rows:
        lines.extend(table(rows, ["TASK", "STATE", "AGE", "KIND", "FILES", "WHAT"]))
    damaged = [str(path) for path in journal.damaged()]
    if missing is not None:
        lines.append(missing.cause)
    lines.extend(f"damaged entry, set aside: {path}" for path in damaged)
    data = {
        "submissions": [_data(entry, documents.get(entry.task_id or "")) for entry in entries],
        "chains": [each["data"] for each in described],
        "damaged": damaged,
    }
    under_way = sum(map(outcome.is_unfinished, documents.values()))
    under_way += sum(each["data"]["state"] in ("under way", "ending") for each in described)
    states = [[cell for at, cell in enumerate(row) if at != _AGE] for row in rows]
    steps = [(each["data"]["state"], [step["state"] for step in each["data"]["steps"]]) for each in described]
    return Report(data, [line for line in lines if line or len(lines) > 1]), under_way, (states, steps)


#: The column of a row that changes all the time.
_AGE = 2


def _in_journal(task: str | Entry) -> Entry:
    from globuswrap.errors import UsageProblem

    if isinstance(task, str):
        raise UsageProblem("unknown-task", f"task {task} is not in the journal", f"ask Globus: globus task show {task}")
    return task


def _row(entry: Entry, task: Mapping[str, Any]) -> list[str]:
    claim = entry.claim
    source, destination = claim.examples[0] if claim.examples else ("", None)
    more = f" (+{claim.items - 1})" if claim.items > 1 else ""
    what = f"{source}{' -> ' + destination if destination else ''}{more}"
    state = _state(entry, task)
    receipt = entry.receipt or task
    files = f"{receipt.get('files_transferred')}/{receipt.get('files')}" if receipt.get("files") is not None else "-"
    age = units.human_duration(max(0.0, time.time() - claim.created))
    return [entry.task_id or "-", state, age, claim.kind, files, what]


def _state(entry: Entry, task: Mapping[str, Any]) -> str:
    if entry.receipt is None and task.get("status"):
        nice = task.get("nice_status")
        return f"{task['status']}{' ' + str(nice) if nice and nice != 'OK' else ''}"
    return entry.state


def _data(entry: Entry, task: Mapping[str, Any] | None) -> dict[str, Any]:
    return {
        **vars(entry.claim),
        "task_id": entry.task_id,
        "state": entry.state,
        "reported": entry.reported,
        "task": task,
    }
