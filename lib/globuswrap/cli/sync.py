"""`globuswrap sync add|run|check|baseline|list|export`."""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass
from typing import Annotated, Any

import typer

from globuswrap.cli import options, output, progress
from globuswrap.cli.options import Commands, OrderedFilters, WaitOptions, command, option
from globuswrap.cli.output import Report
from globuswrap.errors import UsageProblem
from globuswrap.system import log, units
from globuswrap.transfers.options import Common

app = Commands(help="Keep directories in sync, from cron or on demand.")

Name = Annotated[
    str | None,
    typer.Argument(metavar="[NAME]", help="Use the profile [sync.NAME]; without NAME, the options define the sync."),
]


@dataclass(frozen=True)
class ProfileRules(Common):
    """What a profile says beside its two ends, as options."""

    local_root: str | None = option(None, help="Find changes in this local directory, where the source is mounted.")
    include: list[str] | None = option(
        None, help="Include names that match this pattern; the order with --exclude matters."
    )
    exclude: list[str] | None = option(None, help="Exclude names that match this pattern; NAME/ matches directories.")
    symlinks: str | None = option(None, help="Handle symbolic links: skip (default), follow, keep or error.")
    schedule: str | None = option(None, help="Run on this schedule: '*/15 * * * *', @daily, 15m.")
    settle: str | None = option(None, help="Leave files that changed within this time for the next run (default: 10s).")
    max_bytes: str | None = option(None, help="Send at most this much in one run, and the rest in the next.")
    max_bytes_per_day: str | None = option(
        None, help="Send at most this much to the destination collection in 24 hours, over all profiles."
    )
    order: str | None = option(None, help="Send the oldest or the newest files first under a limit.")
    delete: bool | None = option(
        None, "--delete/--no-delete", help="Delete files at the destination that are gone from the source."
    )
    max_delete: str | None = option(
        None, help="Delete nothing if more files are gone than this number or share (default: 25%)."
    )
    check_file: str | None = option(
        None, help="Require this file at the source; without it nothing is sent or deleted."
    )
    skip_unsendable: bool | None = option(
        None, "--skip-unsendable", help="Skip files whose names Globus cannot handle, without a message."
    )
    label: options.Label = None
    notify: options.Notify = None
    deadline: options.Deadline = None

    def given(self) -> dict[str, Any]:
        """By the names that the configuration has for them."""
        values = {name.replace("_", "-"): value for name, value in vars(self).items()}
        patterns = [*(values.pop("include") or ()), *(values.pop("exclude") or ())]
        if patterns:
            values["filters"] = list(OrderedFilters.seen)
        return values


@dataclass(frozen=True)
class ProfileOptions(ProfileRules):
    """What a profile says, as options; what is given here wins over the configuration."""

    source: str | None = option(None, help="Sync from this directory: NAME_OR_UUID:/path.")
    destination: str | None = option(None, help="Sync to this directory: NAME_OR_UUID:/path.")


@command(app)
def add(
    name: Annotated[str, typer.Argument(help="Name the new profile.", metavar="NAME")],
    source: Annotated[
        str, typer.Argument(help="Sync from this directory: its address, or where it is mounted here.", metavar="SRC")
    ],
    destination: Annotated[str, typer.Argument(help="Sync to this directory.", metavar="DST")],
    profile: ProfileRules,
    dry_run: options.DryRun = False,
) -> Report:
    """Write a profile to your configuration.

    If the source is mounted here, that directory becomes its local-root. All problems are reported at once, and then nothing
    is written.
    """
    from globuswrap.syncs import profile as profiles

    made = profiles.add(name, source, destination, profile.given(), dry_run=dry_run)
    log.say(f"{'Would be written' if dry_run else 'Written'} to {made.file}:")
    if made.profile.local_root is None:
        log.say("The source is not mounted here: Globus compares both sides, and nothing is deleted.")
    if not dry_run:
        log.say(f"See what a run would send: globuswrap sync run {name} --dry-run")
    data = {"file": str(made.file), "dry_run": dry_run, **profiles.describe(made.profile)}
    return Report(data, list(made.lines))


@command(app)
def run(
    profile: ProfileOptions,
    waiting: WaitOptions,
    name: Name = None,
    allow_empty: bool = typer.Option(False, "--allow-empty", help="Accept a source that no longer has any files."),
    wait: bool = typer.Option(False, "--wait", "-w", help="Wait until the tasks of this run are finished."),
    dry_run: options.DryRun = False,
    start_delay: float = typer.Option(
        "0", parser=units.duration, help="Wait a random time up to this first, so that many hosts do not start at once."
    ),
    key: options.Key = None,
    once: options.Once = False,
) -> Report:
    """Send what is new: submit and return; the next run checks how these tasks ended.

    Made for cron: silent when all is well, and silent with exit 75 while another run or its tasks are active.
    """
    from globuswrap.syncs import profile as profiles
    from globuswrap.syncs import run as running
    from globuswrap.syncs.context import RunOptions

    if log.level() == 1 and not (wait and sys.stderr.isatty()):
        log.set_level(0)  # cron mails whatever is printed
    chosen = profiles.load(name, profile.given())
    with progress.shown() as watcher:
        options = RunOptions(
            wait=wait,
            wait_policy=waiting.wait_policy(),
            after=waiting.after(),
            dry_run=dry_run,
            start_delay=start_delay,
            watcher=watcher if wait else None,
            key=key,
            once=once,
            allow_empty=allow_empty,
        )
        result = running.run(chosen, options)
    for issue in result.issues:
        log.say(f"globuswrap sync {chosen.name}: {issue.cause}  [{issue.name}]", 0)
        if issue.remedy:
            log.say(f"  remedy: {issue.remedy}", 0)
    text: list[str] = []
    if dry_run:
        text = _rehearsed(chosen, result)
    elif log.level() >= 1:
        text = result.task_ids
        log.say(_done(result))
    return Report({"profile": chosen.name, **result.as_data()}, text, result.exit_code)


def _done(result: Any) -> str:
    """What a run did, for a person who watches it."""
    if result.planned is None:
        return f"{result.outcome}: {units.counted(len(result.task_ids), 'task')}"
    sent = f"{units.counted(result.planned.sent, 'file')}, {units.human_size(result.planned.size)}"
    return f"{result.outcome}: sent {sent}; deleted {units.counted(result.planned.deleted, 'file')}"


def _rehearsed(chosen: Any, result: Any) -> list[str]:
    if result.how is not None:
        stands = "has no recorded result yet" if result.how == "adopted" else f"is recorded: {result.outcome}"
        return [f"nothing would be sent: the run under key {result.key!r} {stands}"]
    if chosen.local_root is None:
        return [
            f"one task: {chosen.source.shown} -> {chosen.destination.shown}, --sync-level {chosen.options.sync_level}"
        ]
    planned = result.planned
    lines = [f"{what} {path}" for what, path in planned.shown]
    more = planned.sent + planned.deleted - len(lines)
    lines += [f"... and {more} more"] if more > 0 else []
    lines += [f"wait {path} (a file became a directory, or a directory a file)" for path in planned.blocked[:20]]
    lines += [f"cannot {name} (not UTF-8, or not for Globus)" for name in planned.unsendable[:20]]
    lines += [f"keep {path} at the destination: {reason}" for path, reason in planned.kept[:20]]
    if planned.deletions_refused:
        lines.append(f"nothing would be deleted: {planned.deletions_refused}")
    if planned.left_today is not None:
        limit = units.human_size(chosen.max_bytes_per_day)
        lines.append(f"the daily limit of {limit} leaves {units.human_size(planned.left_today)} now")
    lines.append(
        f"to send: {planned.sent} ({units.human_size(planned.size)}), to delete: {planned.deleted}, "
        f"still changing: {planned.settling}, for the next run: {planned.over_limit}"
    )
    return lines


@command(app)
def baseline(
    profile: ProfileOptions,
    name: Name = None,
    until: str | None = typer.Option(
        None, help="Record only files last modified by then: 2026-11-20T18:00, or -2h for two hours ago."
    ),
    path: str = typer.Option("", help="Record only files at or below this path, relative to the source."),
    forget: bool = typer.Option(False, "--forget", help="Record the files as not transferred instead."),
    dry_run: options.DryRun = False,
) -> Report:
    """Record the present files as already transferred, without sending them."""
    from globuswrap.syncs import baseline as baselines
    from globuswrap.syncs import profile as profiles

    chosen = profiles.load(name, profile.given())
    if chosen.local_root is None:
        raise UsageProblem("no-manifest", "this profile has no local-root, so it keeps no manifest", "add local-root")
    if forget and until is not None:
        raise UsageProblem("bad-option", "--forget cannot be combined with --until", "use --path to forget a part")
    done = baselines.baseline(chosen, until=_moment(until), path=path, forget=forget, dry_run=dry_run)
    for unread, reason in list(done.seen.unknown.items())[:10]:
        log.say(f"not recorded: {unread.decode('utf-8', 'backslashreplace')}: {reason}", 0)
    verb = "forgotten" if forget else "recorded as transferred"
    data = {"profile": chosen.name, "changed": done.changed, "unreadable": len(done.seen.unknown), "dry_run": dry_run}
    lines = [f"{done.changed} {'would be ' if dry_run else ''}{verb}"]
    if dry_run:
        more = done.changed - len(done.first)
        lines = [*(log.printable(each) for each in done.first), *([f"... and {more} more"] if more else []), *lines]
    return Report(data, lines, 1 if done.seen.unknown else 0)


def _moment(text: str | None) -> float | None:
    if text is None:
        return None
    if text.startswith("-"):
        return time.time() - units.duration(text[1:])
    return units.moment(text).timestamp()


@command(app, "list")
def list_profiles() -> Report:
    """List the profiles and how their last runs went."""
    from globuswrap.syncs import profile as profiles
    from globuswrap.syncs.state import State

    rows: list[tuple[str, str, str, str]] = []
    data: list[dict[str, Any]] = []
    for name in profiles.names():
        try:
            chosen = profiles.load(name)
        except UsageProblem as problem:
            rows.append((name, "", "", f"cannot be used: {problem.cause}"))
            data.append({"name": name, "problem": problem.cause})
            continue
        last = State(chosen.directory).told()
        rows.append((name, chosen.source.shown, chosen.destination.shown, _last(last)))
        data.append({**profiles.describe(chosen), "last": last})
    return Report({"profiles": data}, output.table(rows, ("NAME", "SOURCE", "DESTINATION", "LAST RUN")))


def _last(last: dict[str, Any] | None) -> str:
    if last is None:
        return "never"
    when = time.strftime("%Y-%m-%d %H:%M", time.localtime(last["finished"]))
    return f"{when} {last['outcome']} ({last['exit_code']}){': ' + last['message'] if last['message'] else ''}"


@command(app)
def export(
    profile: ProfileOptions,
    name: Name = None,
    form: str = typer.Option("cron", "--as", help="Export for cron, systemd, timer (a Globus timer) or flow-timer."),
    flow: str | None = typer.Option(
        None, help="Start this flow with --as flow-timer: its directory or ID.", metavar="DIR_OR_ID"
    ),
    diff: bool = typer.Option(False, "--diff", help="Show how the existing Globus timer differs; exit 1 if it does."),
) -> Report:
    """Print the crontab line, the systemd units, or the `globus timer` command for a profile."""
    from globuswrap.flows import deploy as deploying
    from globuswrap.syncs import export as exporting
    from globuswrap.syncs import profile as profiles

    chosen = profiles.load(name, profile.given())
    if diff:
        if form != "timer":
            raise UsageProblem("bad-option", "--diff works only for a Globus timer", "add --as timer")
        drift = exporting.drift(chosen)
        return Report(drift.as_data(), drift.lines(), drift.exit_code)
    if name is None:
        raise UsageProblem(
            "no-profile", "only a named profile can be exported", "add it to your configuration as [sync.NAME]"
        )
    made = exporting.export(chosen, form, deploying.flow_id(flow) if flow is not None else None)
    for remark in made.remarks:
        log.say(remark, 0)
    return Report({"as": form, "text": made.text, "remarks": list(made.remarks)}, made.text.splitlines())
