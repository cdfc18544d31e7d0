"""Durations and sizes as people write them: `30s`, `5m`, `2h`, `1d`, `1w`, `1mo` (30 days), a bare number is seconds; `10M`, `1G`
are binary."""

from __future__ import annotations

import re
from datetime import datetime, timedelta, timezone

from globuswrap.errors import UsageProblem

_SECONDS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400, "mo": 30 * 86400}
#: Longer than anyone waits, and short enough to be added to any date of today.
_LONGEST = 100 * 365 * 86400.0
_BYTES = {unit: 1024**power for power, unit in enumerate(["", "K", "M", "G", "T", "P"])}


def duration(text: str | float) -> float:
    """Seconds of `90`, `1.5h`, `1h30m`; UsageProblem otherwise."""
    written = str(text).strip().lower()
    parts = re.findall(r"(\d+(?:\.\d+)?)\s*(mo|[smhdw]?)", written)
    if not parts or "".join(number + unit for number, unit in parts) != written.replace(" ", ""):
        raise UsageProblem(
            "bad-duration", f"{text!r} is not a duration", "write 30s, 5m, 2h, 1d, or seconds as a number"
        )
    seconds = float(sum(float(number) * _SECONDS[unit] for number, unit in parts))
    if seconds > _LONGEST:
        raise UsageProblem("bad-duration", f"{text!r} is longer than 100 years", "write 30s, 5m, 2h, 1d")
    return seconds


def size(text: str | int) -> int:
    """Bytes of `10M`, `1.5G`, `4096`, `1GiB`; UsageProblem otherwise."""
    match = re.fullmatch(r"(\d{1,15}(?:\.\d+)?)\s*([KMGTP]?)(?:i?B)?", str(text).strip(), re.IGNORECASE)
    if match is None:
        raise UsageProblem("bad-size", f"{text!r} is not a size", "write 500K, 10M, 1G, or bytes as a number")
    return int(float(match[1]) * _BYTES[match[2].upper()])


def counted(count: int, what: str) -> str:
    """`1 file`, `2 files`."""
    return f"{count} {what}" if count == 1 else f"{count} {what}s"


def human_duration(seconds: float) -> str:
    """Two leading units: `42 s`, `3 min 5 s`, `2 h 10 min`, `1 d 4 h`."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    for big, small, big_name, small_name in ((86400, 3600, "d", "h"), (3600, 60, "h", "min"), (60, 1, "min", "s")):
        if whole >= big:
            return f"{whole // big} {big_name} {whole % big // small} {small_name}"
    raise AssertionError(whole)


def human_size(count: float) -> str:
    """`512 B`, `4.0 KiB`, `1.2 GiB`."""
    if count < 1024:
        return f"{round(count)} B"
    for unit in ("KiB", "MiB", "GiB", "TiB"):
        count /= 1024
        if count < 1024:
            return f"{count:.1f} {unit}"
    return f"{count / 1024:.1f} PiB"


def moment(text: str, now: datetime | None = None) -> datetime:
    """A point in time with its zone: `+2h` from now, or ISO 8601 (local time unless it names a zone)."""
    base = now if now is not None else datetime.now(timezone.utc)
    written = text.strip()
    if written.startswith("+"):
        return base + timedelta(seconds=duration(written[1:]))
    try:
        found = datetime.fromisoformat(written.replace("Z", "+00:00"))
        local = found.astimezone(timezone.utc).astimezone()
    except (ValueError, OverflowError):  # the first and last day of the calendar are not in it in every zone
        raise UsageProblem(
            "bad-time", f"{text!r} is not a time", "write +2h, 2026-11-20, 2026-11-20T18:00 or 2026-11-20T18:00+01:00"
        ) from None
    return found if found.tzinfo is not None else local


def instant(text: object) -> datetime:
    """A time in a document of Globus, ISO 8601: UTC where it names no zone. ValueError if it is none."""
    found = datetime.fromisoformat(str(text).replace("Z", "+00:00"))
    return found if found.tzinfo is not None else found.replace(tzinfo=timezone.utc)


def seconds_of(text: object) -> float | None:
    """A time in a document of Globus, as seconds since the epoch; None if it is none."""
    try:
        return instant(text).timestamp()
    except ValueError:
        return None


def local_text(seconds: float | None) -> str:
    """A moment (epoch seconds) as people read it here: `2026-11-20 18:00:05`."""
    return "-" if seconds is None else datetime.fromtimestamp(seconds).strftime("%Y-%m-%d %H:%M:%S")


def utc_text(when: datetime) -> str:
    """As the CLI sends a deadline: UTC, `YYYY-MM-DD HH:MM:SS` (the service reads a time without zone as UTC)."""
    return when.astimezone(timezone.utc).strftime("%Y-%m-%d %H:%M:%S")
