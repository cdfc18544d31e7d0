"""`report`: the numbers are those of the receipts, in the terminal and on a page that a real browser shows."""

from __future__ import annotations

import html.parser
import json
import re
import subprocess
import time
import uuid
import zlib
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from command_line import on_terminal, run, run_json
from globuswrap.cli.sandbox import Sandbox
from globuswrap.reports import history, report
from globuswrap.reports.history import Moved
from globuswrap.system import files
from globuswrap.transfers import journal
from test_cli_lookup import fill, killed_chain

pytestmark = [pytest.mark.usefixtures("globus_loaded")]

WAIT = ("--wait", "--fault-grace", "0", "--poll", "0.1s")


class Tables(html.parser.HTMLParser):
    """The cells of each table, by the heading above it."""

    def __init__(self) -> None:
        super().__init__()
        self.found: dict[str, list[list[str]]] = {}
        self.heading, self.inside = "", ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.inside = tag
        if tag == "h2":
            self.heading = ""
        if tag == "tr":
            self.found.setdefault(self.heading, []).append([])

    def handle_data(self, data: str) -> None:
        if self.inside == "h2":
            self.heading += data
        elif self.inside == "td":
            self.found[self.heading][-1].append(data)

    def handle_endtag(self, tag: str) -> None:
        self.inside = ""


def tables(page: str) -> dict[str, list[list[str]]]:
    parser = Tables()
    parser.feed(page)
    return {name: [row for row in rows if row] for name, rows in parser.found.items()}


@pytest.fixture
def browse(require_tool: Callable[..., Path], tmp_path: Path) -> Callable[..., str]:
    """Load a page in a headless browser: what it made of it; no word on its console is allowed."""
    chromium = require_tool("chromium")

    def load(page: Path, *more: str) -> str:
        flags = ("--headless", "--no-sandbox", "--window-size=800,1200", "--enable-logging=stderr", *more)
        profile = f"--user-data-dir={tmp_path}/profile-{uuid.uuid4().hex[:8]}"
        done = subprocess.run(
            [chromium, *flags, profile, "--dump-dom", page.as_uri()], capture_output=True, text=True, timeout=240
        )
        assert done.returncode == 0, done.stderr
        assert "CONSOLE" not in done.stderr, done.stderr
        return done.stdout

    return load


def moved(**more: Any) -> Moved:
    begin = time.time() - 3600
    known = Moved(
        str(uuid.uuid4()), "k", "transfer", "archive", "scratch", "archive:/a -> scratch:/a", 1, begin, begin + 10,
        "succeeded", "", 1, 1000, 100.0, (), None,
    )  # fmt: skip
    return replace(known, **more)


def test_the_numbers_are_those_of_the_receipts(sandbox: Sandbox, tmp_path: Path) -> None:
    fill(sandbox, "a", "bb")
    (sandbox.collection("archive").path / "bb").write_text("x" * 5000)
    for source, destination in (
        ("archive:/a", "scratch:/a"),
        ("archive:/bb", "scratch:/b"),
        ("archive:/a", "results:/a"),
    ):
        assert run(sandbox, "transfer", source, destination, *WAIT).returncode == 0
    sandbox.control.fault(kind="denied", collection="results")
    assert run(sandbox, "transfer", "archive:/bb", "results:/b", *WAIT).returncode == 5
    receipts = [each for each in run_json(sandbox, "history")["data"]["tasks"]]
    data = run_json(sandbox, "report")["data"]
    assert (data["tasks"], data["failed"], data["bytes"]) == (4, 1, sum(each["bytes"] for each in receipts))
    assert {route: sum(days.values()) for route, days in data["days"].items()} == {
        "archive -> scratch": 5001,
        "archive -> results": 1,
    }
    assert data["faults"].keys() == {"PERMISSION_DENIED"}
    assert data["outcomes"] == {"succeeded": 3, "permanent-fault": 1}
    page = tmp_path / "report.html"
    assert run(sandbox, "report", "-o", str(page)).stdout.strip() == str(page)
    found = tables(page.read_text())
    (day,) = found["Bytes per day: archive -> scratch"]
    assert day[1] == "5001"
    assert sum(int(row[1]) for row in found["Rates: archive -> scratch"]) == 2
    assert dict(found["Outcomes"]) == {"succeeded": "3", "permanent-fault": "1"}


def test_in_the_terminal_it_is_small_bars(sandbox: Sandbox) -> None:
    fill(sandbox, "a")
    assert run(sandbox, "transfer", "archive:/a", "scratch:/a", *WAIT).returncode == 0
    code, text = on_terminal(sandbox, "report")
    assert code == 0 and max(map(len, text.split("\r\n"))) <= 60
    assert re.search(r"  \d{4}-\d\d-\d\d  1 B  #{10,}\r\n", text)


def test_a_chain_has_its_time_line(sandbox: Sandbox, tmp_path: Path) -> None:
    chain = killed_chain(sandbox, tmp_path)
    sandbox.control.progress("at-once")
    assert run(sandbox, "wait", chain, "--poll", "0.2s", "--timeout", "60s").returncode == 0
    (line,) = run_json(sandbox, "report")["data"]["chains"]
    assert (line["chain"], line["state"]) == (chain, "done")
    assert [each["name"] for each in line["spans"]] == ["stage in", "queue", "job", "stage out"]
    for each in line["spans"]:
        assert each["begin"] <= each["end"]
    ends = [each["end"] for each in line["spans"][:-1]]
    assert [each["begin"] for each in line["spans"][1:]] == ends


def test_a_browser_shows_it_dark_and_light_on_800_pixels(browse: Callable[..., str], tmp_path: Path) -> None:
    days = [moved(requested=time.time() - 86400 * each, bytes=1000 * each, rate=10.0**each) for each in range(1, 9)]
    lines = [
        report.Line("c7e5a001", "done", (report.Span("stage in", 1.0, 9.0), report.Span("queue and job", 9.0, 20.0)))
    ]
    found = report.figures([*days, moved(outcome="failed", faults=(("FILE_NOT_FOUND", 3),), bytes=0)], lines)
    page = tmp_path / "report.html"
    page.write_text(report.page(found, "Report"))
    shown = browse(page)
    assert shown.count("<svg") == shown.count("<table") == 5
    per_day = tables(shown)["Bytes per day: archive -> scratch"]
    assert sorted(int(row[1]) for row in per_day) == [0, *range(1000, 9000, 1000)]
    assert tables(shown)["Faults by kind"] == [["FILE_NOT_FOUND", "3"]]
    assert [row[2] for row in tables(shown)["Chains"]] == ["stage in", "queue and job"]
    measured = tmp_path / "measured.html"
    script = "<script>document.title = [document.documentElement.scrollWidth, innerWidth].join()</script>"
    measured.write_text(re.sub(r"<meta http-equiv[^>]*>", "", page.read_text()).replace("</body>", f"{script}</body>"))
    needs, has = map(int, re.findall(r"<title>(\d+),(\d+)</title>", browse(measured))[0])
    assert needs <= has == 800
    corners = []
    for more in ((), ("--force-dark-mode",)):
        picture = tmp_path / f"picture{len(more)}.png"
        browse(page, f"--screenshot={picture}", *more)
        corners.append(corner(picture.read_bytes()))
    assert corners == [(255, 255, 255), (0x14, 0x17, 0x1A)]


def corner(png: bytes) -> tuple[int, ...]:
    """The first pixel: whatever the filter of its row, it is written as it is."""
    data, at = b"", 8
    while at < len(png):
        size = int.from_bytes(png[at : at + 4], "big")
        if png[at + 4 : at + 8] == b"IDAT":
            data += png[at + 8 : at + 8 + size]
        at += 12 + size
    return tuple(zlib.decompress(data)[1:4])


def test_what_servers_say_is_text_on_the_page_and_nothing_is_loaded() -> None:
    evil = '<img src=x onerror="alert(1)">'
    page = report.page(report.figures([moved(source=evil, outcome=evil, faults=((evil, 1),))]), evil)
    assert "<img" not in page and "<script" not in page
    assert "default-src 'none'" in page
    assert not re.search(r"<[^>]*(?:src|href)=|url\(", page)


@pytest.mark.slow
def test_ten_thousand_tasks_are_a_small_page(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    now = time.time()
    for number in range(10_000):
        key = f"{number:040x}"[::-1]
        task = str(uuid.UUID(int=number))
        claim = journal.new_claim(
            key=key, attempt=1, submission_id=task, digest=key, label="x", kind="transfer",
            source=str(uuid.UUID(int=number % 3)), destination=str(uuid.UUID(int=7)), items=1, examples=(("/a", "/b"),),
        )  # fmt: skip
        path = files.state_dir() / "journal" / key[:2] / f"{key}.1"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(asdict(replace(claim, created=now - 86400 * (number % 80)))))
        Path(f"{path}.task").write_text(json.dumps({"task_id": task}))
        document = {
            "schema": "globuswrap.receipt/1",
            "outcome": "succeeded",
            "bytes_transferred": number,
            "rate": number,
        }
        Path(f"{path}.receipt").write_text(json.dumps({**document, "task_id": task}))
    found = report.figures(history.moved(live=False))
    page = report.page(found, "Report")
    assert found.tasks == 10_000 and found.bytes == sum(range(10_000))
    assert len(page.encode()) < 1_000_000
