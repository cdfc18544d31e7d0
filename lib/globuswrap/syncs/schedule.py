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
_RANGES = ((0, 59), (0, 23), (1, 31), (1, 12), (0, 7))
_FIELD_NAMES = ("minute", "hour", "day of the month", "month", "day of the week")
_MONTHS = {name: number for number, name in enumerate(("jan", "feb", "mar", "apr", "may", "jun"), 1)}
_MONTHS |= {name: number for number, name in enumerate(("jul", "aug", "sep", "oct", "nov", "dec"), 7)}
_DAYS = dict(zip(["sun", "mon", "tue", "wed", "thu", "fri", "sat"], range(7), strict=True))
_SYSTEMD_DAYS = ("Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")


@dataclass(frozen=True)
class Schedule:
    """Either five cron fields or an interval in seconds."""

    fields: tuple[str, ...] = ()
    interval: float | None = None


def parse(text: str) -> Schedule:
    """`*/15 * * * *`, `@daily`, or an interval such as `15m`, `6h`, `1d`. Raises UsageProblem."""
    written = _NAMED.get(text.strip().lower(), text.strip())
    parts = tuple(written.split())
    if len(parts) == 5:
        for part, limits, name in zip(parts, _RANGES, _FIELD_NAMES, strict=True):
            _check(part, limits, name, text)
        return Schedule(fields=parts)
    if len(parts) == 1 and not written.startswith("@"):
        seconds = units.duration(written)
        if seconds < 60:
            raise UsageProblem("bad-schedule", f"schedule {text!r}: less than a minute", "write at least 1m")
        return Schedule(interval=seconds)
    raise UsageProblem("bad-schedule", f"schedule {text!r} is not valid", "write '*/15 * * * *', '@daily' or '15m'")


def _check(part: str, limits: tuple[int, int], name: str, whole: str) -> None:
    for piece in part.split(","):
        match = re.fullmatch(r"(\*|\w+(?:-\w+)?)(?:/(\d+))?", piece)
        numbers = [] if match is None or match[1] == "*" else [_number(each) for each in match[1].split("-")]
        wrong = match is None or any(each is None or not limits[0] <= each <= limits[1] for each in numbers)
        if wrong or (match is not None and match[2] is not None and int(match[2]) < 1):
            raise UsageProblem(
                "bad-schedule",
                f"schedule {whole!r}: {part!r} is not a valid {name}",
                f"{name}: {limits[0]}-{limits[1]}, * or */N",
            )


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
    minute, hour, day, month, weekday = schedule.fields
    time = f"{_calendar(hour, 0, 23)}:{_calendar(minute, 0, 59)}:00"
    days = _weekdays(weekday)
    by_date = f"*-{_calendar(month, 1, 12)}-{_calendar(day, 1, 31)} {time}"
    if day != "*" and weekday != "*":  # cron runs when either matches; a calendar line only when both do
        return (f"OnCalendar={by_date}", f"OnCalendar={days}*-{_calendar(month, 1, 12)}-* {time}")
    return (f"OnCalendar={days}{by_date}",)


def _calendar(part: str, low: int, high: int) -> str:
    pieces = []
    for piece in part.split(","):
        body, _, step = piece.partition("/")
        if body == "*":
            pieces.append("*" if not step or step == "1" else f"{low}/{step}")
            continue
        first, _, last = body.partition("-")
        start, end = _number(first), _number(last) if last else None
        assert start is not None
        if step:
            pieces.append(f"{start}..{end if end is not None else high}/{step}")
        else:
            pieces.append(f"{start}..{end}" if end is not None else str(start))
    return ",".join(pieces)


def _weekdays(part: str) -> str:
    if part == "*":
        return ""
    days: set[int] = set()
    for piece in part.split(","):
        body, _, step = piece.partition("/")
        first, _, last = body.partition("-")
        start, end = (0, 6) if body == "*" else (_number(first), _number(last or first))
        assert start is not None and end is not None
        days.update(day % 7 for day in range(start, end + 1, int(step or 1)))
    return ",".join(_SYSTEMD_DAYS[day] for day in sorted(days, key=lambda day: (day - 1) % 7)) + " "


def timer_interval(schedule: Schedule) -> str | None:
    """The `--interval` of `globus timer create transfer`, which knows intervals alone; None for what is not one."""
    seconds = schedule.interval
    if seconds is None:
        seconds = _interval_of(schedule.fields)
    if seconds is None:
        return None
    left = int(seconds)
    text = ""
    for size, unit in ((86400, "d"), (3600, "h"), (60, "m"), (1, "s")):
        count, left = divmod(left, size)
        text += f"{count}{unit}" if count else ""
    return text


def _interval_of(fields: tuple[str, ...]) -> int | None:
    """Seconds between the runs of a cron expression that runs evenly, else None."""
    minute, hour, day, month, weekday = fields
    if (day, month) != ("*", "*"):
        return None
    if weekday != "*":
        plain = minute.isdigit() and hour.isdigit() and _number(weekday) is not None
        return 7 * 86400 if plain else None
    if minute.isdigit() and hour.isdigit():
        return 86400
    if minute.isdigit() and hour == "*":
        return 3600
    for part, size, parts in ((minute, 60, 60), (hour, 3600, 24)):
        match = re.fullmatch(r"\*/(\d+)", part)
        if match and parts % int(match[1]) == 0:
            if size == 60 and hour == "*":
                return int(match[1]) * 60
            if size == 3600 and minute.isdigit():
                return int(match[1]) * 3600
    return 60 if (minute, hour) == ("*", "*") else None
