"""`globuswrap watch`."""

from __future__ import annotations

import hashlib
import os
import re
import time
from typing import TYPE_CHECKING, Annotated, Any

import typer

from globuswrap.cli.options import application, command
from globuswrap.cli.output import Report, table
from globuswrap.errors import DONE, REFUSED, TRY_LATER, UsageProblem
from globuswrap.system import files, log, units

if TYPE_CHECKING:
    from globuswrap.watch import run as running
    from globuswrap.watch.ledger import Ledger
    from globuswrap.watch.run import Plan, Tally, Watcher

app = application()


@command(app)
def watch(
    directory: Annotated[str, typer.Argument(help="The directory to watch.", metavar="DIR")],
    words: Annotated[
        list[str] | None,
        typer.Argument(
            help="After --: the command for each file, with {path} {name} {stem} {dir} {time} {key} in it.",
            metavar="COMMAND...",
        ),
    ] = None,
    pattern: Annotated[
        list[str] | None,
        typer.Option("--pattern", help="Files of this pattern, once they are complete (default: all)."),
    ] = None,
    marker: Annotated[
        list[str] | None,
        typer.Option("--marker", help="Files of this pattern, at once: each says that something else is complete."),
    ] = None,
    ignore: Annotated[list[str] | None, typer.Option("--ignore", help="Leave files of this pattern out.")] = None,
    settle: Annotated[
        str | None, typer.Option("--settle", help="Complete is what has not changed for this long (default 10s).")
    ] = None,
    recursive: Annotated[bool, typer.Option("--recursive/--no-recursive", help="Subdirectories too (default).")] = True,
    once_per_path: Annotated[
        bool, typer.Option("--once-per-path", help="A file that changes later is not run for again.")
    ] = False,
    in_flight: Annotated[int, typer.Option("--in-flight", min=1, help="Commands at once.")] = 4,
    attempts: Annotated[int, typer.Option("--attempts", min=1, help="Failures until a file is set aside.")] = 5,
    retry_after: Annotated[
        str, typer.Option("--retry-after", help="Pause after the first failure; doubled after each.")
    ] = "30s",
    lost: Annotated[
        str, typer.Option("--lost", help="When a command was cut off by a crash: again, or aside.")
    ] = "again",
    observe: Annotated[
        str, typer.Option("--observe", help="auto, events, or poll (auto: poll on NFS, Lustre and their like).")
    ] = "auto",
    every: Annotated[
        str,
        typer.Option(
            "--every", help="Time between polls of the ledger, and of the directory where there are no events."
        ),
    ] = "10s",
    name: Annotated[
        str | None, typer.Option("--name", help="Name of the ledger; for two commands on one directory.")
    ] = None,
    drain: Annotated[
        bool, typer.Option("--drain", help="Exit when all present files are processed; for cron.")
    ] = False,
    list_: Annotated[bool, typer.Option("--list", help="Show the ledger and end.")] = False,
    retry: Annotated[bool, typer.Option("--retry", help="First retry what was set aside.")] = False,
    take_over: Annotated[
        str | None,
        typer.Option("--take-over", help="Retry what a host that is gone for good had started, and end."),
    ] = None,
    skip_present: Annotated[
        bool, typer.Option("--skip-present", help="First mark the present files as done; nothing runs for them.")
    ] = False,
    forget: Annotated[
        str | None, typer.Option("--forget", help="First forget what was done this long ago and is gone.")
    ] = None,
    change: Annotated[
        bool, typer.Option("--change", help="Go on with the ledger of this directory under a new command.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would be run now; run nothing.")] = False,
) -> Report:
    """Run a command line for each new file, once, over crashes and restarts.

    Files that arrived while the watcher was stopped are processed too. A command that fails is tried again with growing
    pauses; exit status 75 does not count as a failure. Stopping the watcher leaves running commands running: the next one
    waits for them.
    """
    from globuswrap.watch import run as running
    from globuswrap.watch import scanner, template
    from globuswrap.watch.ledger import Ledger
    from globuswrap.watch.run import Plan, Watcher
    from globuswrap.watch.scanner import Wanted

    top = os.path.abspath(os.path.expanduser(directory))
    if not os.path.isdir(top):
        raise UsageProblem("no-directory", f"{top} is not a directory", "name the directory to watch")
    ledger = Ledger(files.state_dir() / "watch" / _ledger_name(name, top))
    if list_:
        return _listed(ledger)
    if take_over is not None:
        return _taken_over(ledger, take_over)
    if settle is not None and marker:
        raise UsageProblem(
            "bad-option",
            "--marker cannot be combined with --settle: a marker triggers at once",
            "use --pattern with --settle",
        )
    plan = Plan(
        directory=top,
        command=template.checked(words or []),
        wanted=Wanted(tuple(marker or pattern or ("*",)), tuple(ignore or ()), recursive),
        settle=0.0 if marker else units.duration(settle if settle is not None else 10.0),
        once_per_path=once_per_path,
        in_flight=in_flight,
        attempts=attempts,
        retry_after=units.duration(retry_after),
        every=units.duration(every),
        lost=_one_of("--lost", lost, ("again", "aside")),
        remote=scanner.remote(top) or observe == "poll",
        take_over=("globuswrap", "watch", top, *(("--name", name) if name is not None else ()), "--take-over"),
    )
    _one_of("--observe", observe, ("auto", "events", "poll"))
    if marker and pattern:
        raise UsageProblem(
            "bad-option", "--marker cannot be combined with --pattern", "run two watchers, each with its own --name"
        )
    if dry_run:
        return _planned(Watcher(plan, ledger))
    ledger.bind(top, plan.command, change=change)
    if forget is not None:
        log.say(f"forgotten: {ledger.forget(units.duration(forget))}")
    if retry:
        log.say(f"to be retried: {ledger.retry()}")
    watcher = Watcher(plan, ledger)
    if skip_present:
        log.say(f"written down as done: {watcher.skip_present()}")
    tally = running.follow(watcher, _notices(plan, observe, drain), drain=drain, ready=lambda: _say_ready(watcher))
    waiting = len(watcher.pending) + len(watcher.candidates)
    elsewhere = watcher.elsewhere()
    data = {**tally.as_data(), "waiting": waiting, "elsewhere": [each.data for each in elsewhere]}
    if watcher.damaged:
        log.say(_line(tally, waiting), 0)
        problem = watcher.unreadable(watcher.damaged)
        problem.data = data
        raise problem
    if elsewhere and not tally.aside:
        log.say(_line(tally, waiting), 0)
        elsewhere[0].data = data
        raise elsewhere[0]
    code = REFUSED if tally.aside else TRY_LATER if watcher.pending or watcher.flying else DONE
    return Report(data, [_line(tally, waiting)], code)


def _taken_over(ledger: Ledger, host: str) -> Report:
    paths = ledger.take_over(host)
    return Report(
        {"host": host, "taken_over": paths},
        [*paths, f"{len(paths)} started on {host} and not ended: the next run of the watcher retries them"],
    )


def _one_of(option: str, value: str, known: tuple[str, ...]) -> str:
    if value not in known:
        raise UsageProblem("bad-option", f"{option} {value} is not valid", f"one of: {', '.join(known)}")
    return value


def _ledger_name(name: str | None, top: str) -> str:
    if name is not None:
        if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.-]*", name):
            raise UsageProblem("bad-name", f"{name!r} is not a valid ledger name", "use only letters, digits and _ . -")
        return name
    base = re.sub(r"[^A-Za-z0-9_]+", "-", os.path.basename(top)).strip("-") or "top"
    return f"{base[:40]}-{hashlib.sha256(os.fsencode(os.path.realpath(top))).hexdigest()[:12]}"


def _notices(plan: Plan, observe: str, drain: bool) -> running.Notices:
    """Hints from the kernel where it has them; otherwise, and for a drain, looking in intervals."""
    from globuswrap.watch import run as running

    if observe == "poll" or drain or (observe == "auto" and plan.remote):
        return running.Intervals()
    try:
        return running.Events(plan.directory, plan.wanted.recursive)
    except UsageProblem as problem:
        if observe == "events":
            raise
        log.say(f"{problem.cause}: looking every {units.human_duration(plan.every)}; {problem.remedy}", 0)
    except OSError as error:
        if observe == "events":
            raise UsageProblem(
                "no-events",
                f"the kernel allows no more inotify watches: {error.strerror}",
                "raise fs.inotify.max_user_watches, or use --observe poll",
            ) from None
        log.say(f"no events from the kernel ({error.strerror}): looking every {units.human_duration(plan.every)}", 0)
    return running.Intervals()


def _say_ready(watcher: Watcher) -> None:
    log.say(
        f"watching {watcher.plan.directory}: {len(watcher.pending)} to be run, {len(watcher.flying)} running,"
        f" {len(watcher.candidates)} not complete yet"
    )


def _line(tally: Tally, waiting: int) -> str:
    return f"{tally.done} done, {tally.failed} to be tried again, {tally.aside} set aside, {waiting} waiting"


def _planned(watcher: Watcher) -> Report:
    from globuswrap.watch import scanner, template

    watcher.scan()
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    rows: list[dict[str, Any]] = []
    for path, candidate in sorted(watcher.candidates.items()):
        key = scanner.key_of(
            os.path.relpath(path, watcher.plan.directory), candidate.seen, once_per_path=watcher.plan.once_per_path
        )
        rows.append({"path": path, "argv": list(template.filled(watcher.plan.command, path, stamp, key))})
    for each in watcher.pending.values():
        argv = template.filled(watcher.plan.command, each.trigger.path, each.trigger.time, each.trigger.key)
        rows.append({"path": each.trigger.path, "argv": list(argv)})
    return Report({"planned": rows}, [log.shell_line(tuple(row["argv"])) for row in rows])


def _listed(ledger: Ledger) -> Report:
    from globuswrap.watch.ledger import Trigger

    names = ledger.names()
    rows: list[dict[str, Any]] = []
    for state, suffix, keys in (
        ("aside", "aside", names.aside),
        ("waiting", "trigger", names.waiting),
        ("done", "done", names.done),
    ):
        for key in keys:
            trigger = ledger.read(key, suffix)
            shown, host = state, ""
            if trigger is None:
                if not ledger.path(key, suffix).exists():
                    continue
                trigger = Trigger(key, str(ledger.path(key, suffix)), 0, 0, "")
                shown = "damaged"
            elif state == "waiting" and names.begun.get(key):
                found = ledger.attempt(key, names.begun[key])
                host = found.host if found.state == "elsewhere" else ""
                shown = {"failed": "to be tried again", "none": "waiting"}.get(found.state, found.state)
            details = ledger.details(key, suffix)
            rows.append(
                {
                    "key": key,
                    "state": shown,
                    "path": trigger.path,
                    "found": trigger.time,
                    "attempts": details.get("attempts", names.begun.get(key, 0)),
                    "host": host or None,
                    "reason": details.get("reason") or (f"started on {host}" if host else None),
                    "output": details.get("output"),
                }
            )
    rows.sort(key=lambda row: (row["found"], row["path"]))
    lines = table(
        [
            [
                row["state"],
                row["found"] or "-",
                str(row["attempts"] or "-"),
                row["path"] + (f"  ({row['reason']})" if row["reason"] else ""),
            ]
            for row in rows
        ],
        ["STATE", "FOUND", "ATTEMPTS", "PATH"],
    )
    return Report({"ledger": ledger.root.name, "triggers": rows}, lines if rows else [])
