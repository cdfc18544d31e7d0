"""How long a loop rests between two looks."""

from __future__ import annotations

import time

import pytest

from globuswrap.system.pacing import Pace


@pytest.fixture(autouse=True)
def rests(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The rests that were taken; the clock moves by them alone."""
    taken: list[float] = []
    monkeypatch.setattr(time, "sleep", taken.append)
    monkeypatch.setattr(time, "monotonic", lambda: 1000.0 + sum(taken))
    return taken


def test_rests_grow_from_the_first_to_the_longest(rests: list[float]) -> None:
    pace = Pace(4.0)
    for _ in range(6):
        pace.rest()
    assert rests == [1.0, 1.5, 2.25, 3.375, 4.0, 4.0] and not pace.over and pace.left is None


def test_after_news_rests_are_short_again(rests: list[float]) -> None:
    pace = Pace(60.0, first=0.5)
    pace.rest()
    pace.rest()
    pace.news()
    pace.rest()
    assert rests == [0.5, 0.75, 0.5]


def test_the_last_rest_ends_when_time_is_up(rests: list[float]) -> None:
    pace = Pace(60.0, timeout=2.0)
    while not pace.over:
        pace.rest()
    assert rests == [1.0, 1.0] and pace.left == 0.0


@pytest.mark.parametrize("longest", [0.2, 0.0, None])
def test_no_rest_is_longer_than_the_longest(longest: float | None, rests: list[float]) -> None:
    Pace(longest).rest()
    assert rests == [longest or 0.0]


def test_without_time_there_is_one_look() -> None:
    assert Pace(1.0, timeout=0.0).over
