"""What a ledger holds, in plain words, and the repairs that only a person can decide on: `globuswrap watch repair`.

Any of them may be done while watchers run: those see it when they next read the ledger.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from globuswrap.system import log, units
from globuswrap.watch import ledger as ledgers
from globuswrap.watch import scanner
from globuswrap.watch.ledger import Ledger, Trigger
from globuswrap.watch.scanner import Wanted

#: Of each state so many files are named, the latest; programs get all of them.
_SHOWN = 20
#: What counts when everything that is present is to be skipped: hidden files too, which a pattern may name.
_EVERYTHING = Wanted(("*", ".*"))


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
    """Do it, or without any repair only report; as data and in lines. With `dry_run` nothing is changed."""
    top = ledgers.watched(directory)
    ledger = ledgers.of(top, name)
    if repairs == Repairs():
        return _report(ledger, top)
    data: dict[str, Any] = {"ledger": ledger.root.name, "dry_run": dry_run}
    if repairs.take_over is not None:
        data["taken_over"] = ledger.take_over(repairs.take_over, dry_run=dry_run)
    if repairs.retry:
        data["retried"] = ledger.retry(dry_run=dry_run)
    if repairs.skip_present:
        data["skipped"] = _skip_present(ledger, top, dry_run=dry_run)
    if repairs.forget is not None:
        data["forgotten"] = ledger.forget(repairs.forget, dry_run=dry_run)
    if repairs.new_command:
        data["new_command"] = True
        if not dry_run:
            ledger.release()
    return data, list(_done(data, "would be " if dry_run else ""))


def _done(data: Mapping[str, Any], would: str) -> Iterator[str]:
    for name, act in (
        ("taken_over", f"{would}retried by the next run of the watcher, or set aside with --lost aside"),
        ("retried", f"{would}retried by the watcher"),
        ("skipped", f"{would}marked as done"),
        ("forgotten", f"{would}removed from the ledger"),
    ):
        if name in data:
            yield f"{units.counted(len(data[name]), 'file')} {act}"
            yield from _shown(data[name])
    if "new_command" in data:
        yield f"the command {would or 'is '}released: the next run of the watcher may use another"


def _skip_present(ledger: Ledger, top: str, *, dry_run: bool) -> list[str]:
    """Write down as done whatever is present and not in the ledger, under both keys that a file can have: with
    `--once-per-path` and without."""
    names = ledger.names()
    known = names.done | names.aside | names.waiting
    found = []
    for path in scanner.scan(top, _EVERYTHING):
        seen = scanner.look(path)
        if seen is None:
            continue
        keys = {scanner.key_of(top, path, seen, once_per_path=once) for once in (False, True)}
        if keys & known:
            continue
        found.append(path)
        if not dry_run:
            for key in keys:
                ledger.skip(Trigger(key, path, seen.size, seen.modified, ""))
    return sorted(found)


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
    return Entry(
        *(entry.key, "waiting" if attempt.state == "none" else attempt.state, entry.path, entry.found, entry.attempts),
        host=host,
        since=attempt.begun if host else None,
        reason=f"started on {host}" if host else None,
    )


def _report(ledger: Ledger, top: str) -> tuple[Mapping[str, Any], Sequence[str]]:
    found = entries(ledger)
    data = {"ledger": ledger.root.name, "command": list(ledger.command()), "triggers": [asdict(each) for each in found]}
    return data, list(_explained(ledger, top, found))


def _explained(ledger: Ledger, top: str, found: Sequence[Entry]) -> Iterator[str]:
    """State by state: how many files, which, and the command for what a person can do about them."""
    yield f"{log.printable(top)} is watched with the ledger {ledger.root.name}" + ("" if found else ", which is empty")
    if ledger.command():
        yield f"for the command: {log.shell_line(ledger.command())}"
        yield f"  to let the next run use another command: {ledger.repair_line('--new-command')}"
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
    yield f"To mark the present files as done: {ledger.repair_line('--skip-present')}"


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
