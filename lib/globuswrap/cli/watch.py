"""`globuswrap watch` and `globuswrap watch repair`."""

from __future__ import annotations

from typing import Annotated

import typer

from globuswrap.cli.options import Commands, DryRun, command
from globuswrap.cli.output import Report
from globuswrap.system import units

app = Commands()


@command(app)
def watch(
    directory: Annotated[str, typer.Argument(help="Watch this directory.", metavar="DIR")],
    words: Annotated[
        list[str] | None,
        typer.Argument(
            help="Run this command, after --, for each new file.",
            metavar="COMMAND...",
        ),
    ] = None,
    pattern: Annotated[list[str] | None, typer.Option(help="Process matching complete files (default: all).")] = None,
    marker: Annotated[
        list[str] | None, typer.Option(help="Process matching files at once: markers of complete data.")
    ] = None,
    ignore: Annotated[list[str] | None, typer.Option(help="Ignore matching files.")] = None,
    settle: Annotated[str | None, typer.Option(help="Wait until a file is unchanged this long (default 10s).")] = None,
    recursive: Annotated[bool, typer.Option("--recursive/--no-recursive", help="Include subdirectories.")] = True,
    once_per_path: Annotated[
        bool, typer.Option("--once-per-path", help="Ignore later changes to a processed file.")
    ] = False,
    in_flight: Annotated[int, typer.Option(min=1, help="Run at most N commands at once.")] = 4,
    attempts: Annotated[int, typer.Option(min=1, metavar="N", help="Set aside a file after N failures.")] = 5,
    retry_after: Annotated[str, typer.Option(help="Wait to retry, doubling each time.")] = "30s",
    lost: Annotated[str, typer.Option(metavar="ACTION", help="Treat cut-off runs: again, or aside.")] = "again",
    observe: Annotated[str, typer.Option(metavar="HOW", help="Use events, or poll (auto: poll on NFS).")] = "auto",
    every: Annotated[str, typer.Option(help="Poll this often, if events do not tell.")] = "10s",
    name: Annotated[str | None, typer.Option(help="Name the ledger, for a second command on DIR.")] = None,
    drain: Annotated[
        bool, typer.Option("--drain", help="Exit when the present files are processed, for cron.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would run now; run nothing.")] = False,
) -> Report:
    """Run a command for each new file, once, across crashes and restarts.

    Files that arrived while the watcher was stopped are processed too. A command that fails is tried again with growing
    pauses; exit status 75 does not count as a failure. Stopping the watcher leaves running commands running: the next one
    waits for them. `globuswrap watch repair DIR` shows what happened to each file.

    In the command, {path} {name} {stem} {dir} {time} and {key} are replaced by those of the file.
    """
    from globuswrap.watch import session
    from globuswrap.watch.plan import Plan

    plan = Plan(
        directory,
        tuple(words or ()),
        patterns=tuple(pattern or ()),
        markers=tuple(marker or ()),
        ignored=tuple(ignore or ()),
        recursive=recursive,
        settle=None if settle is None else units.duration(settle),
        once_per_path=once_per_path,
        in_flight=in_flight,
        attempts=attempts,
        retry_after=units.duration(retry_after),
        every=units.duration(every),
        lost=lost,
        observe=observe,
    )
    done = session.run(plan, name=name, drain=drain, dry_run=dry_run)
    return Report(done.data, done.lines, done.exit_code)


@command(app, "watch repair")
def watch_repair(
    directory: Annotated[str, typer.Argument(help="Repair the ledger of this directory.", metavar="DIR")],
    name: Annotated[str | None, typer.Option(help="Use the ledger of this name, as the watcher does.")] = None,
    retry: Annotated[bool, typer.Option("--retry", help="Retry the files that were set aside.")] = False,
    take_over: Annotated[
        str | None, typer.Option(metavar="HOST", help="Retry what this host started, which is gone for good.")
    ] = None,
    skip_present: Annotated[
        bool, typer.Option("--skip-present", help="Mark the present files as done; nothing runs for them.")
    ] = False,
    forget: Annotated[
        str | None, typer.Option(metavar="DURATION", help="Remove records older than this whose files are gone.")
    ] = None,
    new_command: Annotated[
        bool, typer.Option("--new-command", help="Let the next run of the watcher use another command.")
    ] = False,
    dry_run: DryRun = False,
) -> Report:
    """Show what a watcher did with each file, and repair it.

    Without an option it reports: what was set aside and why, what another host started and did not end, what runs, and what
    is done, each with the command that repairs it. A running watcher notices repairs by itself.
    """
    from globuswrap.watch import repair
    from globuswrap.watch.repair import Repairs

    repairs = Repairs(retry, take_over, None if forget is None else units.duration(forget), skip_present, new_command)
    data, lines = repair.repair(directory, name, repairs, dry_run=dry_run)
    return Report(data, lines)
