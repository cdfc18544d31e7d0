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
    words: list[str] | None = typer.Argument(
        None, help="Run this command, after --, for each new file.", metavar="COMMAND..."
    ),
    pattern: list[str] | None = typer.Option(None, help="Process matching complete files (default: all)."),
    marker: list[str] | None = typer.Option(None, help="Process matching files at once: markers of complete data."),
    ignore: list[str] | None = typer.Option(None, help="Ignore matching files."),
    settle: float | None = typer.Option(
        None, parser=units.duration, help="Wait until a file is unchanged this long (default 10s)."
    ),
    recursive: bool = typer.Option(True, "--recursive/--no-recursive", help="Include subdirectories."),
    once_per_path: bool = typer.Option(False, "--once-per-path", help="Ignore later changes to a processed file."),
    in_flight: int = typer.Option(4, min=1, help="Run at most N commands at once."),
    attempts: int = typer.Option(5, min=1, help="Set aside a file after N failures."),
    retry_after: float = typer.Option("30s", parser=units.duration, help="Wait to retry, doubling each time."),
    lost: str = typer.Option("again", help="Treat cut-off runs: again, or aside."),
    observe: str = typer.Option("auto", metavar="HOW", help="Use events, or poll (auto: poll on NFS)."),
    every: float = typer.Option("10s", parser=units.duration, help="Poll this often, if events do not tell."),
    name: str | None = typer.Option(None, help="Name the ledger, for a second command on DIR."),
    drain: bool = typer.Option(False, "--drain", help="Exit when the present files are processed, for cron."),
    dry_run: bool = typer.Option(False, "--dry-run", help="Show what would run now; run nothing."),
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
        settle=settle,
        once_per_path=once_per_path,
        in_flight=in_flight,
        attempts=attempts,
        retry_after=retry_after,
        every=every,
        lost=lost,
        observe=observe,
    )
    done = session.run(plan, name=name, drain=drain, dry_run=dry_run)
    return Report(done.data, done.lines, done.exit_code)


@command(app, "watch repair")
def watch_repair(
    directory: Annotated[str, typer.Argument(help="Repair the ledger of this directory.", metavar="DIR")],
    name: str | None = typer.Option(None, help="Use the ledger of this name, as the watcher does."),
    retry: bool = typer.Option(False, "--retry", help="Retry the files that were set aside."),
    take_over: str | None = typer.Option(
        None, metavar="HOST", help="Retry what this host started, which is gone for good."
    ),
    skip_present: bool = typer.Option(
        False, "--skip-present", help="Mark the present files as done; nothing runs for them."
    ),
    forget: float | None = typer.Option(
        None, parser=units.duration, help="Remove records older than this whose files are gone."
    ),
    new_command: bool = typer.Option(
        False, "--new-command", help="Let the next run of the watcher use another command."
    ),
    dry_run: DryRun = False,
) -> Report:
    """Show what a watcher did with each file, and repair it.

    Without an option it reports: what was set aside and why, what another host started and did not end, what runs, and what
    is done, each with the command that repairs it. A running watcher notices repairs by itself.
    """
    from globuswrap.watch import repair
    from globuswrap.watch.repair import Repairs

    repairs = Repairs(retry, take_over, forget, skip_present, new_command)
    data, lines = repair.repair(directory, name, repairs, dry_run=dry_run)
    return Report(data, lines)
