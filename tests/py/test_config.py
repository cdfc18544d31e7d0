"""Layers of settings; durations, sizes and times; files that are never half written."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest

import support
from globuswrap import config
from globuswrap.errors import Problem, UsageProblem, combined
from globuswrap.system import files, units


@pytest.fixture(autouse=True)
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A project, a user and a site, each with its directory."""
    for name in ("project", "user/globuswrap", "site/globuswrap"):
        (tmp_path / name).mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "project")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "user"))
    monkeypatch.setenv("XDG_CONFIG_DIRS", str(tmp_path / "site"))
    config.load.cache_clear()
    yield tmp_path
    config.load.cache_clear()


def test_each_layer_wins_over_the_next(places: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    site, user = places / "site/globuswrap/config.toml", places / "user/globuswrap/config.toml"
    project = places / "project" / "globuswrap.toml"
    site.write_text(
        '[defaults]\npoll = "1s"\nfault-grace = "1s"\nretry-for = "1s"\nnotify = "failed"\n'
        '[collections]\na = "site"\nb = "site"\n'
    )
    user.write_text('[defaults]\npoll = "2s"\nfault-grace = "2s"\nretry-for = 2\n[collections]\na = "user"\n')
    project.write_text('[defaults]\npoll = "3s"\nfault-grace = "3s"\n')
    monkeypatch.setenv("GLOBUSWRAP_POLL", "4")
    found = config.load()
    assert (found.settings.poll, found.settings.fault_grace, found.settings.retry_for) == (4, 3, 2)
    assert found.settings.notify == "failed"
    assert found.table("collections") == {"a": "user", "b": "site"}


def test_a_chosen_file_is_read_alone(places: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (places / "user/globuswrap/config.toml").write_text("[defaults]\npoll = 2\n")
    chosen = places / "chosen.toml"
    chosen.write_text("[defaults]\nretry-for = 7\n")
    monkeypatch.setenv("GLOBUSWRAP_CONFIG", str(chosen))
    assert (config.load().settings.poll, config.load().settings.retry_for) == (60, 7)
    config.load.cache_clear()
    monkeypatch.setenv("GLOBUSWRAP_CONFIG", "/no/such")
    with pytest.raises(UsageProblem, match="no such file"):
        config.load()


@pytest.mark.parametrize(
    ("text", "name", "says"),
    [
        ("[defaults]\npol = 3\n", "unknown-config-key", "pol"),
        ("[default]\npoll = 3\n", "unknown-config-key", "default"),
        ("[defaults]\npoll = 'soon'\n", "bad-duration", "poll"),
        ("[defaults]\nmax-faults = 'x'\n", "bad-setting", "max-faults"),
        ("[defaults]\njson = 'perhaps'\n", "bad-setting", "json"),
        ("[defaults\n", "bad-config", "config.toml"),
        ("defaults = 3\n", "bad-config", "defaults"),
    ],
)
def test_what_is_wrong_in_a_file_is_named(places: Path, text: str, name: str, says: str) -> None:
    (places / "user/globuswrap/config.toml").write_text(text)
    with pytest.raises(UsageProblem) as caught:
        config.load()
    assert caught.value.name == name and says in caught.value.cause and caught.value.remedy


def test_a_project_cannot_choose_the_program(places: Path) -> None:
    (places / "project/globuswrap.toml").write_text("[defaults]\nglobus-command = './globus'\n")
    with pytest.raises(UsageProblem, match="project file"):
        config.load()


def test_every_key_and_variable_is_documented() -> None:
    text = (support.REPOSITORY / "docs" / "configuration.md").read_text()
    rows = dict(re.findall(r"(?m)^\| `([a-z-]+)` \| `(GLOBUSWRAP_[A-Z_]+)` \|", text))
    assert rows == {name.replace("_", "-"): variable for name, variable in config.VARIABLES.items()}
    for forbidden in ("KEY", "ONCE", "YES", "PRUNE", "DELETE"):
        assert f"GLOBUSWRAP_{forbidden}" not in config.VARIABLES.values()


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("30s", 30), ("5m", 300), ("2h", 7200), ("1d", 86400), ("90", 90), ("1h30m", 5400), ("0.5s", 0.5), (7, 7)],
)
def test_durations(text: str, seconds: float) -> None:
    assert units.duration(text) == seconds


@pytest.mark.parametrize("text", ["", "5x", "-5s", "5 minutes ago", "s", "1h-2m", "5m!"])
def test_what_is_no_duration(text: str) -> None:
    with pytest.raises(UsageProblem):
        units.duration(text)


def test_sizes() -> None:
    assert [units.size(text) for text in ("4096", "10M", "1.5G", "2KiB", "1tb")] == [
        4096,
        10 << 20,
        3 << 29,
        2048,
        1 << 40,
    ]
    with pytest.raises(UsageProblem):
        units.size("big")


def test_a_deadline_carries_its_zone(monkeypatch: pytest.MonkeyPatch) -> None:
    now = datetime(2026, 11, 20, 12, tzinfo=timezone(timedelta(hours=1)))
    assert units.utc_text(units.moment("+2h", now)) == "2026-11-20 13:00:00"
    assert units.utc_text(units.moment("2026-11-20T18:00+01:00")) == "2026-11-20 17:00:00"
    assert units.utc_text(units.moment("2026-11-20T18:00Z")) == "2026-11-20 18:00:00"
    monkeypatch.setenv("TZ", "America/Chicago")
    import time

    time.tzset()
    assert units.utc_text(units.moment("2026-11-20T18:00")) == "2026-11-21 00:00:00"
    monkeypatch.undo()
    time.tzset()


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "file"
    files.write_atomic(target, "old")

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError):
        files.write_atomic(target, "new")
    assert target.read_text() == "old" and [each.name for each in tmp_path.iterdir() if each.name.startswith(".")] == []


def test_of_several_codes_the_worst_decides() -> None:
    order = [3, 4, 1, 5, 7, 75, 6, 0]
    for at, code in enumerate(order):
        assert combined(order[at:]) == code
    assert combined([]) == 0 and combined([0, 130]) == 130


def test_the_documented_exit_codes_are_those_of_the_exceptions() -> None:
    text = (support.REPOSITORY / "docs" / "exit-codes.md").read_text()
    documented = {int(code) for code in re.findall(r"(?m)^\| (\d+) \|", text)}

    def below(kind: type[Problem]) -> set[int]:
        return {kind.exit_code}.union(*(below(each) for each in kind.__subclasses__()))

    assert below(Problem) <= documented
