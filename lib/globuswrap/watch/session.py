"""One run of a watcher, from what a person asked for to what is reported: `globuswrap watch`."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from globuswrap.errors import DONE, REFUSED, TRY_LATER, Problem
from globuswrap.system import log
from globuswrap.watch import ledger as ledgers
from globuswrap.watch import notices
from globuswrap.watch.plan import Plan
from globuswrap.watch.run import Tally, Watcher, follow


@dataclass(frozen=True)
class Outcome:
    """What a run came to, for programs and in lines for people."""

    data: Mapping[str, Any]
    lines: Sequence[str]
    exit_code: int = DONE


def run(plan: Plan, *, name: str | None, drain: bool, dry_run: bool) -> Outcome:
    """Watch until interrupted, or with `drain` until the present files are processed; with `dry_run` only show the commands.

    Raises what a person has to decide on, with what the run came to as its `data`: a damaged record, and, unless files were
    set aside, what another host started and did not end.
    """
    ledger = ledgers.of(plan.directory, name)
    plan = replace(plan, directory=ledger.top)
    if dry_run:
        return _preview(Watcher(plan, ledger))
    ledger.bind(plan.command)
    watcher = Watcher(plan, ledger)
    tally = follow(watcher, notices.chosen(plan, drain=drain), drain=drain)
    waiting = len(watcher.pending) + len(watcher.candidates)
    elsewhere = watcher.elsewhere()
    data = {**vars(tally), "waiting": waiting, "elsewhere": [each.data for each in elsewhere]}
    problem: Problem | None = watcher.unreadable(watcher.damaged) if watcher.damaged else None
    if problem is None and elsewhere and not tally.aside:
        problem = elsewhere[0]
    if problem is not None:
        log.say(_line(tally, waiting), 0)
        problem.data = data
        raise problem
    code = REFUSED if tally.aside else TRY_LATER if watcher.pending or watcher.flying else DONE
    return Outcome(data, [_line(tally, waiting)], code)


def _line(tally: Tally, waiting: int) -> str:
    return f"{tally.done} done, {tally.failed} to be tried again, {tally.aside} set aside, {waiting} waiting"


def _preview(watcher: Watcher) -> Outcome:
    """The commands that would be run now."""
    watcher.scan()
    now = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    found = [(path, now, watcher.key(path, each.seen)) for path, each in sorted(watcher.candidates.items())]
    found += [(each.trigger.path, each.trigger.time, each.trigger.key) for each in watcher.pending.values()]
    rows = [{"path": path, "argv": list(watcher.plan.command_line(path, stamp, key))} for path, stamp, key in found]
    return Outcome({"planned": rows}, [log.shell_line(tuple(row["argv"])) for row in rows])
