"""Signals end a run wherever it is."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from globuswrap.errors import Interrupted
from globuswrap.system import process, signals
from globuswrap.system.pacing import Pace
from globuswrap.watch.ledger import Ledger
from globuswrap.watch.notices import Events
from globuswrap.watch.plan import Plan
from globuswrap.watch.run import Watcher, follow


@pytest.fixture(autouse=True)
def handlers(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The handlers of pytest come back afterwards."""
    numbers = (signal.SIGHUP, signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)
    before = {number: signal.getsignal(number) for number in numbers}
    monkeypatch.setattr(signals, "_noted", None)
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGINT, signal.SIGTERM, signal.SIGUSR1])
def test_a_signal_is_128_and_its_number(number: signal.Signals) -> None:
    signals.become_interrupted()
    with pytest.raises(Interrupted) as caught:
        os.kill(os.getpid(), number)
    assert caught.value.exit_code == 128 + number


class Dying:
    def __del__(self) -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        for _ in range(1000):  # the handler runs between two of these
            pass


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_one_that_python_drops_is_raised_when_the_next_program_would_start() -> None:
    signals.become_interrupted()
    dying = Dying()
    del dying
    with pytest.raises(Interrupted):
        process.run(["true"])


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_one_that_python_drops_ends_a_loop_that_starts_no_program(tmp_path: Path) -> None:
    signals.become_interrupted()
    dying = Dying()
    del dying
    with pytest.raises(Interrupted):
        Pace(0.01).rest()

    class Still(Events):
        def __init__(self) -> None:
            pass

        def next(self, timeout: float) -> set[str]:
            raise AssertionError("the watcher goes on")

    with pytest.raises(Interrupted):
        follow(Watcher(Plan(str(tmp_path), ("true",)), Ledger(tmp_path / "ledger", "DIR")), Still())


def test_what_is_ignored_stays_ignored() -> None:
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    signals.become_interrupted()
    os.kill(os.getpid(), signal.SIGHUP)
    process.run(["true"])


def test_a_child_that_was_just_forked_leaves_it_to_its_parent() -> None:
    """The handler runs in the child too when a thread forks between the signal and its handling."""
    signals.become_interrupted()
    child = os.fork()
    if child == 0:
        try:
            os.kill(os.getpid(), signal.SIGTERM)
        except Interrupted:
            os._exit(1)
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    assert signals._noted is None
