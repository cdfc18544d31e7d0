"""The daily limit of sync profiles: over days that the sandbox's clock and ours simulate, counted by what tasks transferred."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from globuswrap import config
from globuswrap.cli.sandbox import Sandbox
from globuswrap.globus import command
from globuswrap.syncs import profile as profiles
from globuswrap.syncs import quota
from globuswrap.syncs import run as running
from globuswrap.syncs.context import RunOptions, RunResult
from globuswrap.system import units
from sync_support import Beam, tree

pytestmark = [pytest.mark.usefixtures("globus_loaded")]

LIMIT = 1000


class Days:
    """Two profiles that send to one collection, and a clock."""

    def __init__(self, box: Sandbox, patch: pytest.MonkeyPatch) -> None:
        for name, value in box.env.items():
            patch.delenv(name, raising=False)
            if value is not None:
                patch.setenv(name, value)
        command.find.cache_clear()
        self.box = box
        self.ahead = 0.0
        real = quota.now
        patch.setattr(quota, "now", lambda: real() + self.ahead)
        self.one = Beam(box, "one", max_bytes_per_day=str(LIMIT))
        source = box.collection("archive").path / "second"
        source.mkdir()
        self.two = Beam(
            box,
            "two",
            **{"source": "archive:/second/", "destination": "results:/copy2/", "local-root": str(source)},
            max_bytes_per_day=str(LIMIT),
        )
        self.two.source, self.two.copy = source, box.collection("results").path / "copy2"

    def pass_hours(self, hours: float) -> None:
        self.ahead += hours * 3600
        self.box.control.advance_clock(hours * 3600)

    def run(self, beam: Beam, **how: Any) -> RunResult:
        config.load.cache_clear()
        return running.run(profiles.load(beam.name), RunOptions(**{"wait": True, **how}))

    def sent(self) -> list[tuple[float, int]]:
        """When each task ended, by the sandbox's clock, and the bytes it transferred."""
        ended = [task for task in self.box.control.tasks(items=0) if task["type"] == "TRANSFER"]
        return [(units.instant(task["completion_time"]).timestamp(), int(task["bytes_transferred"])) for task in ended]

    def most_within_a_day(self) -> int:
        sent = self.sent()
        return max(sum(size for at, size in sent if end - quota.DAY < at <= end) for end, _ in sent)


@pytest.fixture
def days(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> Days:
    return Days(sandbox, monkeypatch)


def ages(beam: Beam, *files: tuple[str, int]) -> None:
    """Files of so many bytes, the first the oldest; in listing order the oldest comes last."""
    for at, (name, size) in enumerate(files):
        beam.write(f"{chr(ord('z') - at)}-{name}", "x" * size, age=100_000 - at * 100)


def arrived(beam: Beam) -> list[str]:
    return sorted(path.decode().partition("-")[2] for path in tree(beam.copy))


def test_over_three_days_two_profiles_stay_below_the_limit_and_everything_arrives(days: Days) -> None:
    ages(days.one, *((f"a{number}", 300) for number in range(5)))
    ages(days.two, *((f"b{number}", 250) for number in range(5)))
    log = []
    for _ in range(3):
        for _ in range(3):  # in each of three runs a day
            days.run(days.one)
            days.run(days.two)
            days.pass_hours(1)
        log.append((arrived(days.one), arrived(days.two)))
        days.pass_hours(22)
    assert log[0] == (["a0", "a1", "a2"], [])
    assert log[1][0] == ["a0", "a1", "a2", "a3", "a4"] and log[1][1] == ["b0"]
    assert log[2] == (["a0", "a1", "a2", "a3", "a4"], ["b0", "b1", "b2", "b3", "b4"])
    days.one.same()
    days.two.same()
    assert sum(size for _, size in days.sent()) == 5 * 300 + 5 * 250
    assert 900 <= days.most_within_a_day() <= LIMIT


@pytest.mark.parametrize(("order", "first"), [("oldest", ["a", "b"]), ("newest", ["c", "d"])])
def test_the_order_says_which_files_go_first(days: Days, order: str, first: list[str]) -> None:
    ages(days.one, ("a", 400), ("b", 400), ("c", 400), ("d", 400))
    days.one.set(order=order)
    result = days.run(days.one)
    assert arrived(days.one) == first and result.exit_code == 0
    assert result.planned is not None and result.planned.over_limit == 2


def test_of_many_files_of_one_moment_as_many_go_as_fit(days: Days) -> None:
    for number in range(10):
        days.one.write(f"x-{number}", "x" * 300, age=5000)
        path = days.one.source / f"x-{number}"
        os.utime(path, (1_000_000, 1_000_000))
    days.run(days.one)
    assert len(arrived(days.one)) == 3


def test_what_is_under_way_counts_before_its_receipt_is_there(days: Days) -> None:
    days.box.control.progress("held")
    ages(days.one, ("a", 700))
    ages(days.two, ("b", 600), ("c", 200))
    assert days.run(days.one, wait=False).outcome == "submitted"
    waiting = days.run(days.two, wait=False)
    assert waiting.outcome == "waiting" and len(days.box.control.tasks()) == 1
    days.pass_hours(30)
    assert days.run(days.two, wait=False).outcome == "waiting"  # it has still not ended
    days.box.control.progress("at-once")
    days.run(days.one)
    days.pass_hours(30)
    days.run(days.two)
    assert arrived(days.two) == ["b", "c"]


def test_of_two_that_begin_in_the_same_moment_one_waits(days: Days, monkeypatch: pytest.MonkeyPatch) -> None:
    ages(days.one, ("a", 700))
    ages(days.two, ("b", 700))
    real = running.submit

    def meanwhile(*given: Any) -> Any:
        """The second profile plans while the first has not begun, and begins after it."""
        monkeypatch.setattr(running, "submit", real)
        with monkeypatch.context() as patch:
            patch.setattr(quota, "left", lambda _: LIMIT)
            withdrawn = days.run(days.two)
            assert withdrawn.exit_code == 75 and withdrawn.task_ids == []
        return real(*given)

    monkeypatch.setattr(running, "submit", meanwhile)
    days.run(days.one)
    assert (arrived(days.one), arrived(days.two)) == (["a"], [])
    days.pass_hours(25)
    days.run(days.two)
    assert arrived(days.two) == ["b"]


def test_a_file_larger_than_a_day_is_said_and_holds_nothing_up(days: Days) -> None:
    ages(days.one, ("huge", LIMIT + 1), ("a", 100))
    result = days.run(days.one)
    assert arrived(days.one) == ["a"]
    assert [(issue.name, issue.code) for issue in result.issues] == [("larger-than-a-day", 1)]


def test_a_file_larger_than_a_run_goes_alone_when_its_turn_comes(days: Days) -> None:
    days.one.set(max_bytes_per_day=None, max_bytes="500", order="oldest")
    ages(days.one, ("a", 300), ("big", 900), ("b", 100))
    seen = []
    for _ in range(3):
        days.run(days.one)
        seen.append(arrived(days.one))
    assert seen == [["a"], ["a", "big"], ["a", "b", "big"]]


@pytest.mark.slow
def test_the_runs_of_a_day_are_kept_however_many(days: Days) -> None:
    for number in range(25):
        days.one.write(f"x-{number}", "x" * 10)
        days.run(days.one)
    assert quota.sent_to(days.box.collection("results").id) == 250


def test_a_dry_run_says_what_the_day_leaves(days: Days) -> None:
    ages(days.one, ("a", 600), ("b", 600))
    days.run(days.one)
    shown = days.one.run("--dry-run").stdout
    assert "the daily limit of 1000 B leaves 400 B now" in shown and "for the next run: 1" in shown


@pytest.mark.parametrize(
    ("settings", "words"),
    [({"order": "newest", "max-bytes-per-day": None}, "order needs a limit"), ({"order": "first"}, "oldest, newest")],
)
def test_what_makes_no_sense_is_refused(days: Days, settings: dict[str, Any], words: str) -> None:
    days.one.set(**settings)
    assert words in days.one.run(code=2).stderr


def test_a_damaged_run_of_another_profile_is_said_and_not_counted(days: Days) -> None:
    ages(days.one, ("a", 100))
    days.run(days.one)
    (record,) = Path(days.one.state()).glob("runs/*/run.json")
    record.write_text("{")
    ages(days.two, ("b", 100))
    days.run(days.two)
    assert arrived(days.two) == ["b"]
