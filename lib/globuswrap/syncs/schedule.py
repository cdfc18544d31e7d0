"""Parse schedules, cron expressions or intervals, and translate them for cron, systemd and Globus timers. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass

from globuswrap.errors import UsageProblem
from globuswrap.system import units

_NAMED = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
}
_FIELDS = (
    *(("minute", 0, 59), ("hour", 0, 23), ("day of the month", 1, 31)),
    *(("month", 1, 12), ("day of the week", 0, 7)),
)
_MONTHS = {name: number for number, name in enumerate(("jan", "feb", "mar", "apr", "may", "jun"), 1)}
_MONTHS |= {name: number for number, name in enumerate(("jul", "aug", "sep", "oct", "nov", "dec"), 7)}
_DAYS = dict(zip(["sun", "mon", "tue", "wed", "thu", "fri", "sat"], range(7), strict=True))
_SYSTEMD_DAYS = ("Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat")


@dataclass(frozen=True)
class Schedule:
    """Either an interval in seconds, or five cron fields and the numbers that each stands for (Sunday is 0)."""

    interval: float | None = None
    fields: tuple[str, ...] = ()
    numbers: tuple[frozenset[int], ...] = ()


def parse(text: str) -> Schedule:
    """`*/15 * * * *`, `@daily`, or an interval such as `15m`, `6h`, `1d`. Raises UsageProblem."""
    written = _NAMED.get(text.strip().lower(), text.strip())
    parts = tuple(written.split())
    if len(parts) == 5:
        minute, hour, day, month, weekday = (_numbers(*each, text) for each in zip(parts, _FIELDS, strict=True))
        return Schedule(None, parts, (minute, hour, day, month, frozenset(each % 7 for each in weekday)))
    if len(parts) == 1 and not written.startswith("@"):
        seconds = units.duration(written)
        if seconds < 60:
            raise UsageProblem("bad-schedule", f"schedule {text!r}: less than a minute", "write at least 1m")
        return Schedule(seconds)
    raise UsageProblem("bad-schedule", f"schedule {text!r} is not valid", "write '*/15 * * * *', '@daily' or '15m'")


def _numbers(part: str, field: tuple[str, int, int], whole: str) -> frozenset[int]:
    """What a cron field stands for: `*`, `5`, `mon-fri`, `8-18/2`, and lists of these."""
    name, low, high = field
    found: set[int] = set()
    for piece in part.split(","):
        match = re.fullmatch(r"(?:\*|(\w+)(?:-(\w+))?)(?:/(\d+))?", piece)
        one, other, step = match.groups() if match is not None else ("", None, None)
        first = low if one is None else _number(one)
        last = _number(other) if other else first if one and not step else high
        if first is None or last is None or not low <= first <= last <= high or int(step or 1) < 1:
            raise UsageProblem(
                "bad-schedule",
                f"schedule {whole!r}: {part!r} is not a valid {name}",
                f"{name}: {low}-{high}, * or */N",
            )
        found.update(range(first, last + 1, int(step or 1)))
    return frozenset(found)


def _number(text: str) -> int | None:
    lowered = text.lower()
    return int(text) if text.isdigit() else _MONTHS.get(lowered, _DAYS.get(lowered))


def cron_fields(schedule: Schedule, spread: int) -> tuple[str, ...]:
    """The five fields. `spread` is any number: it picks the minute, so that profiles do not all start at once.

    Raises UsageProblem for an interval that cron cannot keep.
    """
    if schedule.interval is None:
        return schedule.fields
    minutes, rest = divmod(int(schedule.interval), 60)
    if not rest and minutes < 60 and 60 % minutes == 0:
        first = spread % minutes
        return ("*" if minutes == 1 else f"{first}-59/{minutes}", "*", "*", "*", "*")
    hours, odd = divmod(minutes, 60)
    if not rest and not odd and hours < 24 and 24 % hours == 0:
        return (str(spread % 60), "*" if hours == 1 else f"{spread // 60 % hours}-23/{hours}", "*", "*", "*")
    if not rest and minutes == 24 * 60:
        return (str(spread % 60), str(spread // 60 % 24), "*", "*", "*")
    if not rest and minutes == 7 * 24 * 60:
        return (str(spread % 60), str(spread // 60 % 24), "*", "*", str(spread // 1440 % 7))
    raise UsageProblem(
        "schedule-not-for-cron",
        f"cron cannot run something every {units.human_duration(schedule.interval)} evenly",
        "choose a part of an hour or a day (5m, 15m, 2h, 6h, 1d), or a cron expression, or --as systemd",
    )


def on_calendar(schedule: Schedule) -> tuple[str, ...]:
    """Lines of a systemd `[Timer]` section (systemd.time, systemd.timer)."""
    if schedule.interval is not None:
        seconds = f"{schedule.interval:g}s"
        return (f"OnActiveSec={seconds}", f"OnUnitActiveSec={seconds}", "AccuracySec=1s")
    minute, hour, day, month = (
        "*" if len(numbers) == high - low + 1 else ",".join(map(str, sorted(numbers)))
        for numbers, (_, low, high) in zip(schedule.numbers[:4], _FIELDS[:4], strict=True)
    )
    weekdays = sorted(schedule.numbers[4], key=lambda number: (number - 1) % 7)
    days = ",".join(_SYSTEMD_DAYS[number] for number in weekdays) + " " if len(weekdays) < 7 else ""
    time = f"{hour}:{minute}:00"
    if "*" not in (schedule.fields[2], schedule.fields[4]):
        # cron runs when either day matches; a calendar line only when both do
        return (f"OnCalendar=*-{month}-{day} {time}", f"OnCalendar={days}*-{month}-* {time}")
    return (f"OnCalendar={days}*-{month}-{day} {time}",)


def timer_interval(schedule: Schedule) -> str | None:
    """The `--interval` of `globus timer create transfer`, which knows intervals alone; None for what is not one."""
    seconds = even_interval(schedule)
    if seconds is None:
        return None
    left = int(seconds)
    text = ""
    for size, unit in ((86400, "d"), (3600, "h"), (60, "m"), (1, "s")):
        count, left = divmod(left, size)
        text += f"{count}{unit}" if count else ""
    return text


def even_interval(schedule: Schedule) -> float | None:
    """Seconds from each run to the next; None for a cron expression that does not run evenly."""
    if schedule.interval is not None:
        return schedule.interval
    if schedule.fields[2:4] != ("*", "*"):
        return None
    minutes, hours, _, _, weekdays = schedule.numbers
    week = sorted((day * 24 + hour) * 60 + minute for day in weekdays for hour in hours for minute in minutes)
    between = {after - before for before, after in zip(week, [*week[1:], week[0] + 7 * 24 * 60], strict=True)}
    return between.pop() * 60.0 if len(between) == 1 else None
