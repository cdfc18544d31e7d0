"""Export a profile as a crontab line, systemd units or a Globus timer, and compare it with an existing timer."""

from __future__ import annotations

import json
import os
import shlex
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from globuswrap.collections.address import normalised
from globuswrap.errors import Problem, Refused, UsageProblem
from globuswrap.globus import command, queries
from globuswrap.syncs import schedule as schedules
from globuswrap.syncs.profile import Profile
from globuswrap.syncs.schedule import Schedule
from globuswrap.system import machine, process
from globuswrap.transfers.options import SYNC_LEVELS, Common, declared

#: What a timer and a profile are compared by.
_SWITCHES = tuple(each for each in declared(Common) if each.switch)

FORMS = ("cron", "systemd", "timer", "flow-timer")

#: What cron gives a program to find others in (Debian's cron: crontab(5)).
CRON_PATH = "/usr/bin:/bin"

#: Settings of this environment that a job started by cron would not have. Secrets are never among them.
_CARRIED = ("XDG_CONFIG_HOME", "XDG_STATE_HOME", "XDG_CACHE_HOME", "GLOBUSWRAP_CONFIG", "GLOBUS_PROFILE")


@dataclass(frozen=True)
class Exported:
    """The text, and what has to be said about it."""

    text: str
    remarks: tuple[str, ...] = ()


def export(profile: Profile, form: str, flow: str | None = None) -> Exported:
    """`flow`: the id of the flow that a `flow-timer` starts.

    Raises UsageProblem: no schedule, an unknown form, or a schedule that the form cannot keep.
    """
    if form not in FORMS:
        raise UsageProblem("bad-option", f"--as {form} is not valid", f"one of: {', '.join(FORMS)}")
    if profile.schedule is None:
        raise UsageProblem(
            "no-schedule",
            f"[sync.{profile.name}] has no schedule",
            "add schedule = \"15m\" (or '*/15 * * * *'), or give --schedule",
        )
    if (form == "flow-timer") != (flow is not None):
        raise UsageProblem("bad-option", "--as flow-timer and --flow need each other", "give both, or another --as")
    schedule = schedules.parse(profile.schedule)
    if flow is not None:
        return _flow_timer(profile, schedule, flow)
    return {"cron": _cron, "systemd": _systemd, "timer": _timer}[form](profile, schedule)


def carried() -> tuple[dict[str, str], tuple[str, ...]]:
    """The variables that a job without this environment needs, and what cannot be carried along."""
    variables = {name: os.environ[name] for name in _CARRIED if os.environ.get(name)}
    variables.update({name: value for name, value in os.environ.items() if name.startswith("GLOBUS_SDK_")})
    remarks: tuple[str, ...] = ()
    try:
        path = command.find().path
        if process.find_program("globus", CRON_PATH) != path:
            variables["GLOBUSWRAP_GLOBUS"] = path
    except Problem as problem:
        remarks += (f"no globus command was found here ({problem.cause}): the job will need GLOBUSWRAP_GLOBUS",)
    if os.environ.get("GLOBUS_CLI_CLIENT_SECRET"):
        remarks += (
            "you use a service account: its secret is not written here. Start the job through a script of mode 0700 that "
            "exports GLOBUS_CLI_CLIENT_ID and GLOBUS_CLI_CLIENT_SECRET",
        )
    return variables, remarks


def _spread(profile: Profile) -> int:
    """A number of its own for each profile and user, so that not all start in the same minute."""
    return zlib.crc32(f"{profile.name} {profile.identity} {os.getuid()}".encode())


def _cron(profile: Profile, schedule: Schedule) -> Exported:
    fields = schedules.cron_fields(schedule, _spread(profile))
    variables, remarks = carried()
    words = [*(f"{name}={shlex.quote(value)}" for name, value in variables.items())]
    words += [shlex.quote(word) for word in (*machine.own_command(), "sync", "run", profile.name)]
    line = " ".join(words).replace("%", "\\%")  # cron turns a plain % into a new line
    text = f"# {profile.title}: silent when all is well; cron mails what it prints\n{' '.join(fields)} {line}\n"
    return Exported(text, (*remarks, "add it with: crontab -e"))


def _systemd(profile: Profile, schedule: Schedule) -> Exported:
    variables, remarks = carried()
    name = f"globuswrap-sync-{profile.name}"
    environment = [f"Environment={_systemd_quoted(f'{key}={value}')}" for key, value in variables.items()]
    start = " ".join(_systemd_quoted(word) for word in (*machine.own_command(), "sync", "run", profile.name))
    service = [
        f"# ~/.config/systemd/user/{name}.service",
        "[Unit]",
        f"Description={profile.title}",
        "",
        "[Service]",
        "Type=oneshot",
        *environment,
        f"ExecStart={start}",
        "# 75: the last tasks are still running, or another run is",
        "SuccessExitStatus=75",
    ]
    timer = [
        f"# ~/.config/systemd/user/{name}.timer",
        "[Unit]",
        f"Description=when {profile.title} runs",
        "",
        "[Timer]",
        *schedules.on_calendar(schedule),
        "Persistent=true",
        "",
        "[Install]",
        "WantedBy=timers.target",
    ]
    text = "\n".join([*service, "", *timer]) + "\n"
    how = f"after writing both files: systemctl --user daemon-reload && systemctl --user enable --now {name}.timer"
    return Exported(text, (*remarks, how, "to run while you are not logged in: loginctl enable-linger"))


def _systemd_quoted(word: str) -> str:
    """A word of a unit file (systemd.syntax): specifiers and variables taken literally."""
    escaped = word.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%").replace("$", "$$")
    return f'"{escaped}"' if any(each in escaped for each in " \t'\"\\;") or not escaped else escaped


def _interval(profile: Profile, schedule: Schedule) -> str:
    interval = schedules.timer_interval(schedule)
    if interval is None:
        raise UsageProblem(
            "schedule-not-for-timer",
            f"a Globus timer runs at even intervals; {profile.schedule!r} is not one",
            "use --as cron or systemd, or an interval such as 1h",
        )
    return interval


def _flow_timer(profile: Profile, schedule: Schedule, flow: str) -> Exported:
    """A timer that starts a flow whose input is that of recipes/flows/transfer: two places, `recursive` and `label`."""
    given = {
        "source": {"id": profile.source.collection, "path": profile.source.path},
        "destination": {"id": profile.destination.collection, "path": profile.destination.path},
        "recursive": True,
        "label": profile.label or profile.title,
    }
    words = ["globus", "timer", "create", "flow", "--name", profile.title]
    words += ["--interval", _interval(profile, schedule)]
    words += ["--input", json.dumps(given), "--", flow]
    remarks = [
        "the flow decides how to transfer; it gets only source, destination and label from the profile",
        "a run does not wait for an earlier one to end; check that the input fits the flow: globuswrap flow start --dry-run",
    ]
    return Exported(shlex.join(words) + "\n", tuple(remarks))


def _timer(profile: Profile, schedule: Schedule) -> Exported:
    interval = _interval(profile, schedule)
    options = profile.options
    words: list[str] = ["globus", "timer", "create", "transfer", "--name", profile.title, "--interval", interval]
    words += ["--recursive", "--notify", _notify(profile)]
    said = replace(
        options, sync_level=options.sync_level or "mtime", source_local_user=None, destination_local_user=None
    )
    words += said.arguments()
    for kind, pattern in profile.filters.rules:
        words += [] if pattern.endswith("/") else [f"--{kind}", pattern]
    words += ["--label", profile.label] if profile.label else []
    words += ["--", str(profile.source), str(profile.destination)]
    return Exported(shlex.join(words) + "\n", tuple(_lost(profile)))


def _notify(profile: Profile) -> str:
    return profile.notify if profile.notify != "off" else "failed,inactive"


def _lost(profile: Profile) -> list[str]:
    """What a timer cannot do that the profile asks for, each in a sentence."""
    remarks = [
        "a Globus timer runs at Globus, and its outcome is not recorded here; it emails you on failure unless --notify off",
        "every run compares both sides in full, however little has changed; mtime misses an older file of the same size",
    ]
    if profile.local_root is not None:
        remarks.append(
            "the manifest is not used: files that were recorded with `sync baseline` are sent unless they are at the destination"
        )
        remarks.append("settle cannot be exported: files that are still being written are sent as they are")
    if profile.max_bytes is not None:
        remarks.append("max-bytes cannot be exported: a run sends everything")
    if profile.max_bytes_per_day is not None:
        remarks.append("max-bytes-per-day cannot be exported: a timer does not count what it sends")
    if profile.delete:
        remarks.append(
            "deletion cannot be exported: a timer's --delete-destination-extra deletes whatever the source lacks, "
            "without check-file or max-delete"
        )
    if profile.symlinks != "skip":
        remarks.append(f"symlinks = {profile.symlinks} cannot be exported: links inside a directory are left out")
    if any(pattern.endswith("/") for _, pattern in profile.filters.rules):
        remarks.append("filters on directories cannot be exported, and are left out")
    if profile.deadline:
        remarks.append("a deadline cannot be exported")
    for user in ("source_local_user", "destination_local_user"):
        if getattr(profile.options, user):
            remarks.append(f"{user.replace('_', '-')} cannot be exported")
    return remarks


@dataclass(frozen=True)
class Drift:
    """How an existing timer differs from the profile: (what, the timer's, the profile's)."""

    timer_id: str
    differences: tuple[tuple[str, str, str], ...]

    @property
    def exit_code(self) -> int:
        return Refused.exit_code if self.differences else 0

    def lines(self) -> list[str]:
        head = [f"timer {self.timer_id}: {'differs' if self.differences else 'matches the profile'}"]
        return head + [f"  {what}: the timer has {has}, the profile {wants}" for what, has, wants in self.differences]

    def as_data(self) -> dict[str, Any]:
        rows = [{"what": what, "timer": has, "profile": wants} for what, has, wants in self.differences]
        return {"timer_id": self.timer_id, "differences": rows}


def drift(profile: Profile) -> Drift:
    """Compare the newest timer of this profile's name with the profile. Raises Refused if there is none."""
    answer = command.retrying(lambda: command.call("timer", "list"))
    jobs = queries.search("jobs || @", answer) or []
    mine = [job for job in jobs if isinstance(job, dict) and job.get("name") == profile.title]
    if not mine:
        raise Refused(
            "no-timer",
            f"there is no timer called {profile.title!r}",
            f"create it: globuswrap sync export {profile.name} --as timer",
        )
    job = max(mine, key=lambda each: str(each.get("submitted_at")))
    wanted, has = _wanted(profile), described(job)
    differences = tuple(
        (what, str(has.get(what)), str(wants)) for what, wants in wanted.items() if has.get(what) != wants
    )
    return Drift(str(job.get("job_id")), differences)


def _wanted(profile: Profile) -> dict[str, Any]:
    interval: float | str | None = None
    if profile.schedule is not None:
        seconds = schedules.even_interval(schedules.parse(profile.schedule))
        interval = seconds if seconds is not None else f"{profile.schedule} (not for a timer)"
    options = profile.options
    rules = [[kind, pattern] for kind, pattern in profile.filters.rules if not pattern.endswith("/")]
    return {
        "active": True,
        "interval": interval,
        "source": f"{profile.source.collection}:{normalised(profile.source.path)}",
        "destination": f"{profile.destination.collection}:{normalised(profile.destination.path)}",
        "sync level": options.sync_level or "mtime",
        **{each.key.replace("-", " "): bool(each.sent(getattr(options, each.name))) for each in _SWITCHES},
        "mirrored deletion": False,
        "filters": rules,
    }


def described(job: Mapping[str, Any]) -> dict[str, Any]:
    """A timer's document in the terms of a profile; both shapes that the service has (recorded bodies of the SDK)."""
    body: Mapping[str, Any] = job.get("body") or (job.get("callback_body") or {}).get("body") or {}
    items = body.get("DATA") or body.get("transfer_items") or [{}]
    first = items[0] if len(items) == 1 else {}
    level = body.get("sync_level")
    plan = job.get("schedule") or {}
    interval = job.get("interval") if job.get("interval") is not None else plan.get("interval_seconds")
    source = body.get("source_endpoint") or body.get("source_endpoint_id")
    destination = body.get("destination_endpoint") or body.get("destination_endpoint_id")
    return {
        "active": job.get("status") not in ("inactive", "ended", "deleted") and job.get("inactive_reason") is None,
        "interval": None if interval is None else float(interval),
        "source": f"{source}:{normalised(str(first.get('source_path')))}",
        "destination": f"{destination}:{normalised(str(first.get('destination_path')))}",
        "sync level": SYNC_LEVELS[level] if isinstance(level, int) and 0 <= level < len(SYNC_LEVELS) else level,
        **{each.key.replace("-", " "): bool(each.sent(body.get(each.name))) for each in _SWITCHES},
        "mirrored deletion": bool(body.get("delete_destination_extra")),
        "filters": [[rule.get("method"), rule.get("name")] for rule in body.get("filter_rules") or ()],
    }
