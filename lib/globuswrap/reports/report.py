"""Report what was moved, as one self-contained HTML page and as small bars for the terminal."""

from __future__ import annotations

import html
import math
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from globuswrap.reports.history import Moved
from globuswrap.system import units
from globuswrap.transfers.outcome import GOOD


@dataclass(frozen=True)
class Span:
    """A part of a chain's time line, in seconds since the epoch; `end` is None while it lasts."""

    name: str
    begin: float
    end: float | None


@dataclass(frozen=True)
class Line:
    """The time line of one chain."""

    chain: str
    state: str
    spans: tuple[Span, ...]


@dataclass(frozen=True)
class Figures:
    """The numbers of a report. Days are local dates; `rates` counts tasks by the upper end of their rate, in bytes per second."""

    tasks: int
    failed: int
    bytes: int
    days: Mapping[str, Mapping[str, int]]  # route -> day -> bytes
    rates: Mapping[str, Mapping[int, int]]  # route -> 10**n bytes/s -> tasks
    faults: Mapping[str, int]  # code -> errors
    outcomes: Mapping[str, int]
    lines: Sequence[Line]


def figures(moved: Iterable[Moved], lines: Sequence[Line] = ()) -> Figures:
    """The numbers of these tasks; pure. Of a task without a rate, only its bytes count."""
    days: dict[str, Counter[str]] = defaultdict(Counter)
    rates: dict[str, Counter[int]] = defaultdict(Counter)
    faults: Counter[str] = Counter()
    outcomes: Counter[str] = Counter()
    failed = total = 0
    for each in moved:
        outcomes[each.outcome] += 1
        failed += each.ended is not None and each.outcome not in GOOD
        faults.update(dict(each.faults))
        if each.kind != "transfer" or each.bytes is None:
            continue
        total += each.bytes
        days[each.route][time.strftime("%Y-%m-%d", time.localtime(each.requested))] += each.bytes
        if each.rate:
            rates[each.route][10 ** math.ceil(math.log10(max(1.0, each.rate)))] += 1
    plain_days = {route: dict(each) for route, each in days.items()}
    plain_rates = {route: dict(each) for route, each in rates.items()}
    tasks = sum(outcomes.values())
    return Figures(tasks, failed, total, plain_days, plain_rates, dict(faults), dict(outcomes), lines)


def as_data(found: Figures) -> dict[str, Any]:
    """For programs; rates are bytes per second."""
    data = asdict(found)
    data["chains"] = data.pop("lines")
    return data


@dataclass(frozen=True)
class Chart:
    """Numbers by a label. Each row is a label, its number, and that as people read it, where it differs."""

    name: str
    head: Sequence[str]
    rows: Sequence[tuple[str, int, str]]


def charts(found: Figures) -> Iterator[Chart]:
    """The charts of a report."""
    for route, by_day in sorted(found.days.items()):
        rows = [(day, count, units.human_size(count)) for day, count in sorted(by_day.items())]
        yield Chart(f"Bytes per day: {route}", ("day", "bytes", "size"), rows)
    for route, by_rate in sorted(found.rates.items()):
        rows = [(f"up to {units.human_size(top)}/s", count, "") for top, count in sorted(by_rate.items())]
        yield Chart(f"Rates: {route}", ("rate", "tasks"), rows)
    for name, what, counts in (("Faults by kind", "fault", found.faults), ("Outcomes", "outcome", found.outcomes)):
        if counts:
            rows = [(each, count, "") for each, count in sorted(counts.items(), key=lambda each: (-each[1], each[0]))]
            yield Chart(name, (what, "count"), rows)


# --- the page ---------------------------------------------------------------------------------------------------------

#: Nothing is loaded from anywhere, and nothing runs.
_POLICY = "default-src 'none'; style-src 'unsafe-inline'"
_STYLE = """
:root { color-scheme: light dark; --ink: #1b1f24; --paper: #fff; --bar: #2a6fb0; --line: #8a939c; --bad: #b3261e; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e6e9ec; --paper: #14171a; --bar: #7db7ec; --line: #77818b; --bad: #ff8a80; }
}
html { background: var(--paper); }
body { color: var(--ink); font: 16px/1.5 system-ui, sans-serif; margin: 1rem auto; max-width: 60rem; padding: 0 1rem; }
svg { display: block; max-width: 100%; height: auto; }
svg text { fill: var(--ink); font-size: 12px; }
svg rect { fill: var(--bar); stroke: var(--paper); }
svg rect.queue-and-job { fill: none; stroke: var(--line); stroke-dasharray: 4 3; }
svg rect.stage-in { fill-opacity: .55; }
svg rect.stage-out { fill-opacity: .3; stroke: var(--bar); }
table { border-collapse: collapse; display: block; overflow-x: auto; }
th, td { border-bottom: 1px solid var(--line); padding: .1rem .8rem .1rem 0; text-align: left; }
td.number, th.number { text-align: right; font-variant-numeric: tabular-nums; }
@media (forced-colors: active) { svg rect { fill: CanvasText; } svg rect.queue-and-job { fill: none; stroke: CanvasText; } }
@media print { details > * { display: block; } }
"""
#: The width of a drawing, and the height of one of its lines.
_WIDTH, _LINE = 760, 20
#: So many bars and chains are drawn; the tables have all of them.
_DRAWN = 120


def page(found: Figures, title: str) -> str:
    """The whole page. Every name in it is escaped: file and collection names may hold anything."""
    failed = f", {found.failed} did not succeed" if found.failed else ""
    parts = [
        "<!doctype html>",
        '<html lang="en"><head><meta charset="utf-8">',
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>{html.escape(title)}</title><style>{_STYLE}</style></head><body><main>",
        f"<h1>{html.escape(title)}</h1>",
        f"<p>{units.counted(found.tasks, 'task')}, {units.human_size(found.bytes)}{failed}.</p>",
    ]
    for number, chart in enumerate(charts(found)):
        cells = [(label, str(count), *([shown] if shown else [])) for label, count, shown in chart.rows]
        parts += _section(f"chart-{number}", chart.name, _bars(chart.rows[-_DRAWN:]), chart.head, cells)
    if found.lines:
        cells = [
            (line.chain, line.state, span.name, units.local_text(span.begin), units.local_text(span.end), _length(span))
            for line in found.lines
            for span in line.spans
        ]
        head = ("chain", "state", "part", "from", "to", "took")
        parts += _section("chains", "Chains", _gantt(found.lines[-_DRAWN:]), head, cells)
    if not found.tasks:
        parts.append("<p>Nothing was submitted from this machine in that time.</p>")
    return "\n".join([*parts, "</main></body></html>", ""])


def _section(
    ident: str, name: str, drawing: Sequence[str], head: Sequence[str], rows: Sequence[Sequence[str]]
) -> list[str]:
    """A drawing, of which each element is one line, and the same numbers as a table below it."""
    escaped = html.escape(name)
    cells = "".join(f"<th>{html.escape(each)}</th>" for each in head)
    body = "\n".join(
        "<tr>" + "".join(f"<td{_number(each)}>{html.escape(each)}</td>" for each in row) + "</tr>" for row in rows
    )
    return [
        f'<section><h2 id="{ident}">{escaped}</h2>',
        f'<svg role="img" aria-labelledby="{ident}-title {ident}-desc" viewBox="0 0 {_WIDTH} {_LINE * len(drawing) + 4}">',
        f'<title id="{ident}-title">{escaped}</title>',
        f'<desc id="{ident}-desc">The table below has the same numbers.</desc>',
        *drawing,
        "</svg>",
        f"<details><summary>Table: {escaped}</summary><table><thead><tr>{cells}</tr></thead>",
        f"<tbody>{body}</tbody></table></details></section>",
    ]


def _number(cell: str) -> str:
    return ' class="number"' if cell.isdigit() else ""


def _bars(rows: Sequence[tuple[str, int, str]]) -> list[str]:
    """Horizontal bars, their labels and numbers beside them."""
    most = max((count for _, count, _ in rows), default=0) or 1
    lines = []
    for at, (label, count, shown) in enumerate(rows):
        y, width = _LINE * at, 400 * count / most
        lines.append(
            f'<text x="0" y="{y + 14}">{html.escape(label[:28])}</text>'
            f'<rect x="220" y="{y + 3}" width="{max(width, 1):.1f}" height="14"/>'
            f'<text x="{226 + width:.1f}" y="{y + 14}">{shown or count}</text>'
        )
    return lines


def _gantt(lines: Sequence[Line]) -> list[str]:
    """Each chain on a line, from its own beginning."""

    def end(span: Span) -> float:
        return span.end if span.end is not None else time.time()

    longest = max((end(span) - line.spans[0].begin for line in lines for span in line.spans), default=0.0) or 1.0
    drawn = []
    for at, line in enumerate(lines):
        y = _LINE * at
        shapes = f'<text x="0" y="{y + 14}">{html.escape(line.chain)} {html.escape(line.state)}</text>'
        for span in line.spans:
            x = 220 + 520 * (span.begin - line.spans[0].begin) / longest
            width = 520 * (end(span) - span.begin) / longest
            what = f"{span.name}: {units.human_duration(end(span) - span.begin)}"
            shapes += (
                f'<rect class="{span.name.replace(" ", "-")}" x="{x:.1f}" y="{y + 3}" width="{max(width, 1):.1f}" height="14">'
                f"<title>{html.escape(what)}</title></rect>"
            )
        drawn.append(shapes)
    return drawn


def _length(span: Span) -> str:
    return "-" if span.end is None else units.human_duration(span.end - span.begin)


# --- the terminal -----------------------------------------------------------------------------------------------------


def text(found: Figures, width: int = 80) -> list[str]:
    """The same as small bars, on so many columns."""
    lines = [f"{units.counted(found.tasks, 'task')}, {units.human_size(found.bytes)}, {found.failed} did not succeed"]
    for chart in charts(found):
        rows = [(label, count, shown or str(count)) for label, count, shown in chart.rows]
        lines += ["", chart.name, *_small(rows, width)]
    for line in found.lines:
        parts = ", ".join(f"{span.name} {_length(span)}" for span in line.spans)
        lines += ["", f"Chain {line.chain} {line.state}: {parts}"]
    return lines


def _small(rows: Sequence[tuple[str, int, str]], width: int) -> list[str]:
    most = max((count for _, count, _ in rows), default=0) or 1
    label = max(len(name) for name, _, _ in rows)
    said = max(len(shown) for _, _, shown in rows)
    room = max(5, width - label - said - 6)
    return [
        f"  {name:<{label}}  {shown:>{said}}  {'#' * max(count > 0, round(room * count / most))}"
        for name, count, shown in rows
    ]
