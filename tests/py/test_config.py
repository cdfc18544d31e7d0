"""Layers of settings; durations, sizes and times; files that are never half written."""

from __future__ import annotations

import grp
import json
import os
import pwd
import re
import subprocess
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest

import support
from globuswrap import config
from globuswrap.collections import names
from globuswrap.errors import Problem, UsageProblem, combined
from globuswrap.system import files, units


def run_launcher(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([support.LAUNCHER, *arguments], capture_output=True, text=True)


@pytest.fixture(autouse=True)
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A user and a site, each with its directory; the current directory is a third."""
    for name in ("here", "user/globuswrap", "site/globuswrap"):
        (tmp_path / name).mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "user"))
    monkeypatch.setenv("XDG_CONFIG_DIRS", str(tmp_path / "site"))
    config.load.cache_clear()
    names.known.cache_clear()
    yield tmp_path
    config.load.cache_clear()
    names.known.cache_clear()


def test_each_layer_wins_over_the_next(places: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    site, user = places / "site/globuswrap/config.toml", places / "user/globuswrap/config.toml"
    named = places / "named.toml"
    site.write_text(
        '[defaults]\npoll = "1s"\nfault-grace = "1s"\nretry-for = "1s"\nnotify = "failed"\n'
        '[collections]\na = "site"\nb = "site"\n'
    )
    user.write_text('[defaults]\npoll = "2s"\nfault-grace = "2s"\nretry-for = 2\n[collections]\na = "user"\n')
    named.write_text('[defaults]\npoll = "3s"\nfault-grace = "3s"\n')
    monkeypatch.setenv("GLOBUSWRAP_CONFIG", str(named))
    monkeypatch.setenv("GLOBUSWRAP_POLL", "4")
    found = config.load()
    assert (found.settings.poll, found.settings.fault_grace, found.settings.retry_for) == (4, 3, 2)
    assert found.settings.notify == "failed"
    assert found.table("collections") == {"a": "user", "b": "site"}


@pytest.mark.parametrize(("named", "says"), [("/no/such", "no such file"), ("config.toml", "is a relative path")])
def test_a_named_file_that_is_not_there_or_depends_on_the_directory_is_refused(
    places: Path, monkeypatch: pytest.MonkeyPatch, named: str, says: str
) -> None:
    (places / "here/config.toml").write_text("[defaults]\npoll = 1\n")
    monkeypatch.setenv("GLOBUSWRAP_CONFIG", named)
    with pytest.raises(UsageProblem, match=says):
        config.load()


def test_nothing_is_read_from_the_current_directory(places: Path) -> None:
    for name in ("globuswrap.toml", "config.toml", ".globuswrap.toml"):
        (places / "here" / name).write_text("[defaults]\npoll = 1\nnonsense = 1\n")
    found = config.load()
    assert found.files == () and found.settings.poll == 60


@pytest.mark.parametrize("layer", ["user", "site", "named"])
@pytest.mark.parametrize(("what", "mode"), [("file", 0o666), ("file", 0o602), ("directory", 0o777)])
def test_a_file_that_others_can_change_is_refused_with_the_command_that_fixes_it(
    places: Path, monkeypatch: pytest.MonkeyPatch, layer: str, what: str, mode: int
) -> None:
    file = places / layer / "globuswrap" / "config.toml"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("[defaults]\npoll = 2\n")
    if layer == "named":
        monkeypatch.setenv("GLOBUSWRAP_CONFIG", str(file))
    place = file if what == "file" else file.parent
    place.chmod(mode)
    with pytest.raises(UsageProblem) as caught:
        config.load()
    assert caught.value.name == "unsafe-config" and str(place) in caught.value.cause
    command = caught.value.remedy.partition(": ")[2]
    subprocess.run(command, shell=True, check=True)
    assert config.load().settings.poll == 2


def test_a_link_to_a_file_that_others_can_change_is_refused(places: Path) -> None:
    shared = places / "shared"
    shared.mkdir()
    (shared / "theirs.toml").write_text("")
    (places / "user/globuswrap/config.toml").symlink_to(shared / "theirs.toml")
    config.load()
    config.load.cache_clear()
    shared.chmod(0o777)
    with pytest.raises(UsageProblem, match="shared"):
        config.load()


def test_added_names_that_others_can_change_are_refused(places: Path) -> None:
    names.add("archive", "aaaaaaaa-0000-4000-8000-000000000001", {})
    names.own_file().chmod(0o666)
    names.known.cache_clear()
    with pytest.raises(UsageProblem, match="other users can write"):
        names.known()


def test_a_sticky_directory_and_a_private_group_are_no_danger(places: Path) -> None:
    file = places / "user/globuswrap/config.toml"
    file.write_text("[defaults]\npoll = 2\n")
    file.parent.chmod(0o1777)
    assert config.load().settings.poll == 2
    config.load.cache_clear()
    file.parent.chmod(0o755)
    file.chmod(0o664)
    user = pwd.getpwuid(os.geteuid()).pw_name
    group = grp.getgrgid(file.stat().st_gid)
    if group.gr_name == user and not group.gr_mem:
        assert config.load().settings.poll == 2
    else:
        with pytest.raises(UsageProblem, match="0664"):
            config.load()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_a_file_of_another_user_or_group_is_refused(places: Path) -> None:
    file = places / "user/globuswrap/config.toml"
    file.write_text("")
    file.chmod(0o664)
    os.chown(file, 0, 12345)
    with pytest.raises(UsageProblem, match="0664"):
        config.load()
    file.chmod(0o600)
    os.chown(file, 12345, 0)
    with pytest.raises(UsageProblem, match="belongs to user 12345") as caught:
        config.load()
    assert f"sudo chown {pwd.getpwuid(0).pw_name} {file}" in caught.value.remedy


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


@pytest.mark.parametrize("given", [["--config", "mine.toml"], ["--config=mine.toml"]])
def test_an_option_names_a_file_for_this_command_and_what_it_starts(places: Path, given: list[str]) -> None:
    (places / "here/mine.toml").write_text('[collections]\nbeam = "aaaaaaaa-0000-4000-8000-000000000001"\n')
    done = run_launcher(*given, "collection", "list")
    assert done.returncode == 0 and "beam" in done.stdout, done.stderr
    done = run_launcher(*given, "--config", "none.toml", "collection", "list", "--json")
    assert done.returncode == 2 and json.loads(done.stdout)["error"]["name"] == "no-config-file"
    offered = run_launcher("__complete", "words", "globuswrap", *given, "collection", "remove", "b")
    assert "beam" in offered.stdout, offered.stdout


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
    text = (support.REPOSITORY / "docs" / "troubleshooting.md").read_text()
    documented = {int(code) for code in re.findall(r"(?m)^\| (\d+) \|", text)}

    def below(kind: type[Problem]) -> set[int]:
        return {kind.exit_code}.union(*(below(each) for each in kind.__subclasses__()))

    assert below(Problem) <= documented
