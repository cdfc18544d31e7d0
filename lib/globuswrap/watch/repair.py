"""What a ledger holds, in plain words, and the repairs that only a person can decide on: `globuswrap watch repair`.

Any of them may be done while watchers run: those see it when they next read the ledger.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any

from globuswrap.errors import UsageProblem
from globuswrap.system import log, units
from globuswrap.watch import ledger as ledgers
from globuswrap.watch import scanner
from globuswrap.watch.ledger import Ledger, Trigger
from globuswrap.watch.scanner import Wanted

#: Of each state so many files are named, the latest; programs get all of them.
_SHOWN = 20


@dataclass(frozen=True)
class Repairs:
    """What to repair. `forget` is an age in seconds."""

    retry: bool = False
    take_over: str | None = None
    forget: float | None = None
    skip_present: bool = False
    new_command: bool = False


@dataclass(frozen=True)
class Entry:
    """One trigger. Its state: `waiting`, `running`, `failed` (to be retried), `lost` (cut off), `elsewhere` (started on another
    host), `aside`, `done`, or `damaged`."""

    key: str
    state: str
    path: str
    found: str
    attempts: int
    host: str | None = None
    since: float | None = None
    reason: str | None = None
    output: str | None = None


def repair(
    directory: str, name: str | None, repairs: Repairs, *, dry_run: bool = False
) -> tuple[Mapping[str, Any], Sequence[str]]:
    """Do it, or without any repair only report; as data and in lines. With `dry_run` nothing is changed.

    UsageProblem if this host is to be taken over: whether its own commands run, it sees itself.
    """
    ledger = ledgers.of(directory, name)
    command, found = ledger.command(), entries(ledger)
    data: dict[str, Any] = {"ledger": ledger.root.name}
    if repairs == Repairs():
        data |= {"command": list(command), "triggers": [asdict(each) for each in found]}
        return data, list(_explained(ledger, command, found))
    would = "would be " if dry_run else ""
    data["dry_run"] = dry_run
    lines = []
    for done, acts in _chosen(ledger, found, repairs):
        data[done] = paths = sorted({path for path, _ in acts})
        lines += [f"{units.counted(len(paths), 'file')} {would}{_DONE[done]}", *_shown(paths)]
        for _, act in () if dry_run else acts:
            act()
    if repairs.new_command:
        data["new_command"] = True
        lines.append(f"the command {would or 'is '}released: the next run of the watcher may use another")
        if not dry_run:
            ledger.release()
    return data, lines


#: What was done, by its name in JSON.
_DONE = {
    "taken_over": "retried by the watcher, or set aside with --lost aside",
    "retried": "retried by the watcher",
    "skipped": "marked as done",
    "forgotten": "removed from the ledger",
}
#: Paths, each with what is to be done.
_Acts = list[tuple[str, Callable[[], None]]]


def _chosen(ledger: Ledger, found: Sequence[Entry], repairs: Repairs) -> Iterator[tuple[str, _Acts]]:
    host = repairs.take_over
    if host is not None:
        if host == socket.gethostname():
            raise UsageProblem(
                "bad-option",
                f"--take-over {host} names this host",
                "remove the option: the watcher detects interrupted commands on its own host",
            )
        lost = [each for each in found if each.state == "elsewhere" and each.host == host]
        yield "taken_over", [(each.path, partial(ledger.lose, each.key, each.attempts, host)) for each in lost]
    if repairs.retry:
        yield "retried", [(each.path, partial(ledger.retry, each.key)) for each in found if each.state == "aside"]
    if repairs.skip_present:
        yield "skipped", [(each.path, partial(ledger.skip, each)) for each in _present(ledger.top, found)]
    if repairs.forget is not None:
        limit = time.time() - repairs.forget
        gone = [each for each in found if each.state == "done" and not os.path.lexists(each.path)]
        old = [each for each in gone if ledger.path(each.key, "done").stat().st_ctime < limit]
        yield "forgotten", [(each.path, partial(ledger.forget, each.key)) for each in old]


def _present(top: str, found: Sequence[Entry]) -> Iterator[Trigger]:
    """Triggers of the present files that the ledger does not have, under both keys that a file can have: by its size and time,
    and with `--once-per-path`. The latter counts only if it was run: an earlier skip says nothing of a file changed since."""
    known, was_run = {each.key for each in found}, {each.key for each in found if each.found}
    everything = Wanted(top, ("*", ".*"))  # hidden files too, which a pattern may name
    for path in everything.scan():
        seen = scanner.look(path)
        if seen is None:
            continue
        as_seen, any_time = (scanner.key_of(top, path, seen, once_per_path=once) for once in (False, True))
        if as_seen not in known and any_time not in was_run:
            yield from (Trigger(key, path, seen.size, seen.modified, "") for key in (as_seen, any_time))


# the report


def entries(ledger: Ledger) -> list[Entry]:
    """Everything in the ledger, oldest first."""
    names = ledger.names()
    found = []
    for state, suffix, keys in (
        ("aside", "aside", names.aside),
        ("waiting", "trigger", names.waiting),
        ("done", "done", names.done),
    ):
        for key in keys:
            trigger = ledger.read(key, suffix)
            if trigger is None:
                if ledger.path(key, suffix).exists():
                    found.append(Entry(key, "damaged", str(ledger.path(key, suffix)), "", 0))
                continue
            more = ledger.details(key, suffix) if state == "aside" else {}
            entry = Entry(
                *(key, state, trigger.path, trigger.time, more.get("attempts", names.begun.get(key, 0))),
                reason=more.get("reason"),
                output=more.get("output"),
            )
            found.append(_tried(ledger, entry) if state == "waiting" and entry.attempts else entry)
    return sorted(found, key=lambda each: (each.found, each.path))


def _tried(ledger: Ledger, entry: Entry) -> Entry:
    """A waiting trigger, with how its last attempt stands."""
    attempt = ledger.attempt(entry.key, entry.attempts)
    host = attempt.host if attempt.state == "elsewhere" else None
    state = "waiting" if attempt.state == "none" else attempt.state
    if host is None:
        return replace(entry, state=state)
    return replace(entry, state=state, host=host, since=attempt.begun, reason=f"started on {host}")


def _explained(ledger: Ledger, command: tuple[str, ...], found: Sequence[Entry]) -> Iterator[str]:
    """State by state: how many files, which, and the command for what a person can do about them."""
    yield f"{log.printable(ledger.top)} is watched with the ledger {ledger.root.name}" + (
        "" if found else ", which is empty"
    )
    if command:
        yield f"for the command: {log.shell_line(command)}"
    of = {state: [each for each in found if each.state == state] for state in (*_MEANING, "elsewhere", "damaged")}
    for problem in ledgers.started_elsewhere(
        ledger, [(each.host or "", each.since or 0.0, each.path) for each in of["elsewhere"]]
    ):
        yield problem.cause
        yield f"  {problem.remedy}"
    if of["damaged"]:
        yield f"{units.counted(len(of['damaged']), 'damaged record')}: the watcher writes it again when it sees the file"
        for each in of["damaged"]:
            yield f"  if its file is gone: {log.shell_line(('rm', each.path))}"
    for state, (meaning, what, option) in _MEANING.items():
        paths = {each.path: each.reason for each in of[state]}
        if paths:
            yield f"{units.counted(len(paths), 'file')} {meaning}"
            yield from _shown([path + (f": {reason}" if reason else "") for path, reason in paths.items()])
            if option:
                yield f"  {what}: {ledger.repair_line(*option)}"
    yield f"to mark the present files as done: {ledger.repair_line('--skip-present')}"
    yield f"to let the next run use another command: {ledger.repair_line('--new-command')}"


#: By state: what is to be said of its files, and what a person can do about them.
_MEANING: dict[str, tuple[str, str, tuple[str, ...]]] = {
    "aside": ("set aside", "when the cause is fixed, to retry", ("--retry",)),
    "lost": ("cut off by a crash: the next run of the watcher decides, by its --lost", "", ()),
    "running": ("running on this host", "", ()),
    "failed": ("failed, to be retried when due", "", ()),
    "waiting": ("waiting for the watcher", "", ()),
    "done": ("done", "to forget those of 90 days ago whose files are gone", ("--forget", "90d")),
}


def _shown(lines: Sequence[str]) -> Iterator[str]:
    if len(lines) > _SHOWN:
        yield f"  {len(lines) - _SHOWN} earlier ones; --json has all"
    yield from (f"  {log.printable(each)}" for each in lines[-_SHOWN:])
