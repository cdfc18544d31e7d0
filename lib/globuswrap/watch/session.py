"""One run of a watcher, from what a person asked for to what is reported: `globuswrap watch`."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from globuswrap.errors import DONE, REFUSED, TRY_LATER, UsageProblem
from globuswrap.system import log
from globuswrap.watch import ledger as ledgers
from globuswrap.watch import notices, scanner, template
from globuswrap.watch.run import Plan, Tally, Watcher, follow
from globuswrap.watch.scanner import Wanted

#: What an option of these names may say.
CHOICES = {"lost": ("again", "aside"), "observe": ("auto", "events", "poll")}


@dataclass(frozen=True)
class Settings:
    """How to watch, as the options of the command say it. Durations are seconds."""

    patterns: tuple[str, ...] = ()
    markers: tuple[str, ...] = ()
    ignored: tuple[str, ...] = ()
    recursive: bool = True
    settle: float | None = None
    once_per_path: bool = False
    in_flight: int = 4
    attempts: int = 5
    retry_after: float = 30.0
    every: float = 10.0
    lost: str = "again"
    observe: str = "auto"


@dataclass(frozen=True)
class Outcome:
    """What a run came to, for programs and in lines for people."""

    data: Mapping[str, Any]
    lines: Sequence[str]
    exit_code: int = DONE


def plan(directory: str, words: Sequence[str], settings: Settings) -> Plan:
    """What to watch for and what to do then. UsageProblem if the settings contradict each other."""
    top = ledgers.watched(directory)
    for name, known in CHOICES.items():
        value = getattr(settings, name)
        if value not in known:
            raise UsageProblem("bad-option", f"--{name} {value} is not valid", f"one of: {', '.join(known)}")
    if settings.markers and settings.settle is not None:
        raise UsageProblem(
            "bad-option",
            "--marker cannot be combined with --settle: a marker triggers at once",
            "use --pattern with --settle",
        )
    if settings.markers and settings.patterns:
        raise UsageProblem(
            "bad-option", "--marker cannot be combined with --pattern", "run two watchers, each with its own --name"
        )
    return Plan(
        directory=top,
        command=template.checked(words),
        wanted=Wanted(settings.markers or settings.patterns or ("*",), settings.ignored, settings.recursive),
        settle=0.0 if settings.markers else 10.0 if settings.settle is None else settings.settle,
        once_per_path=settings.once_per_path,
        in_flight=settings.in_flight,
        attempts=settings.attempts,
        retry_after=settings.retry_after,
        every=settings.every,
        lost=settings.lost,
        remote=scanner.remote(top) or settings.observe == "poll",
    )


def run(
    directory: str, words: Sequence[str], settings: Settings, *, name: str | None, drain: bool, dry_run: bool
) -> Outcome:
    """Watch until interrupted, or with `drain` until the present files are processed; with `dry_run` only show the commands.

    Raises what a person has to decide on, with what the run came to as its `data`: a damaged record, and, unless files were
    set aside, what another host started and did not end.
    """
    planned = plan(directory, words, settings)
    ledger = ledgers.of(planned.directory, name)
    if dry_run:
        return _preview(Watcher(planned, ledger))
    ledger.bind(planned.directory, planned.command)
    watcher = Watcher(planned, ledger)
    hints = notices.chosen(
        "poll" if drain else settings.observe,
        planned.directory,
        recursive=planned.wanted.recursive,
        remote=planned.remote,
        every=planned.every,
    )
    tally = follow(watcher, hints, drain=drain, ready=lambda: _say_ready(watcher))
    waiting = len(watcher.pending) + len(watcher.candidates)
    elsewhere = watcher.elsewhere()
    data = {**tally.as_data(), "waiting": waiting, "elsewhere": [each.data for each in elsewhere]}
    problem = (
        watcher.unreadable(watcher.damaged)
        if watcher.damaged
        else elsewhere[0]
        if elsewhere and not tally.aside
        else None
    )
    if problem is not None:
        log.say(_line(tally, waiting), 0)
        problem.data = data
        raise problem
    code = REFUSED if tally.aside else TRY_LATER if watcher.pending or watcher.flying else DONE
    return Outcome(data, [_line(tally, waiting)], code)


def _say_ready(watcher: Watcher) -> None:
    log.say(
        f"watching {watcher.plan.directory}: {len(watcher.pending)} to be run, {len(watcher.flying)} running,"
        f" {len(watcher.candidates)} not complete yet"
    )


def _line(tally: Tally, waiting: int) -> str:
    return f"{tally.done} done, {tally.failed} to be tried again, {tally.aside} set aside, {waiting} waiting"


def _preview(watcher: Watcher) -> Outcome:
    """The commands that would be run now."""
    watcher.scan()
    now = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    found = [(path, now, watcher.key(path, each.seen)) for path, each in sorted(watcher.candidates.items())]
    found += [(each.trigger.path, each.trigger.time, each.trigger.key) for each in watcher.pending.values()]
    rows = [
        {"path": path, "argv": list(template.filled(watcher.plan.command, path, stamp, key))}
        for path, stamp, key in found
    ]
    return Outcome({"planned": rows}, [log.shell_line(tuple(row["argv"])) for row in rows])
