"""`globuswrap watch`: what triggers, when, how often, and what becomes of failures. No Globus is needed."""

from __future__ import annotations

import json
import os
import shlex
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import support
from globuswrap.system import machine
from globuswrap.watch import ledger as ledgers
from globuswrap.watch import scanner
from globuswrap.watch.ledger import Ledger, Trigger
from globuswrap.watch.plan import Plan
from globuswrap.watch.run import Watcher, follow
from globuswrap.watch.scanner import Wanted


class Place:
    """A watched directory, a place for what commands write, and the watchers that were started."""

    def __init__(self, base: Path) -> None:
        self.inbox = base / "in box"
        self.out = base / "out"
        self.inbox.mkdir()
        self.out.mkdir()
        self.running: list[subprocess.Popen[str]] = []

    def argv(self, *options: str, command: tuple[str, ...] = ()) -> list[str]:
        return [str(support.LAUNCHER), "watch", str(self.inbox), *options, *(("--", *command) if command else ())]

    def drain(self, *options: str, command: tuple[str, ...], env: dict[str, str] | None = None) -> Any:
        return subprocess.run(
            self.argv("--drain", *options, command=command),
            capture_output=True,
            text=True,
            timeout=240,
            env={**os.environ, **(env or {})},
        )

    def start(self, *options: str, command: tuple[str, ...]) -> subprocess.Popen[str]:
        started = subprocess.Popen(self.argv(*options, command=command), stderr=subprocess.PIPE, text=True)
        self.running.append(started)
        return started

    def ledger(self, *options: str) -> list[dict[str, Any]]:
        done = self.repair("--json", *options)
        assert done.returncode == 0, done.stderr
        rows: list[dict[str, Any]] = json.loads(done.stdout)["data"]["triggers"]
        return rows

    def repair(self, *options: str) -> subprocess.CompletedProcess[str]:
        argv = [str(support.LAUNCHER), "watch", "repair", str(self.inbox), *options]
        return subprocess.run(argv, capture_output=True, text=True, timeout=240)

    def told(self) -> list[str]:
        """The lines that NOTE wrote."""
        try:
            return (self.out / "noted").read_text().splitlines()
        except FileNotFoundError:
            return []

    @property
    def note(self) -> tuple[str, ...]:
        """A command that notes the path it was given."""
        return ("sh", "-c", 'printf "%s\\n" "$1" >>"$0"', str(self.out / "noted"), "{path}")

    @property
    def stop_at_first(self) -> tuple[str, ...]:
        """A command that hangs the first time it is run, and notes the path it was given after that."""
        script = 'if mkdir "$0.first" 2>/dev/null; then exec sleep 60; fi; printf "%s\\n" "$1" >>"$0"'
        return ("sh", "-c", script, str(self.out / "noted"), "{path}")


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    made = Place(tmp_path)
    yield made
    for started in made.running:
        end(started)


def end(started: subprocess.Popen[str]) -> None:
    """Kill -9."""
    started.kill()
    started.wait()
    for stream in (started.stdin, started.stderr):
        if stream is not None:
            stream.close()


def until(true: Callable[[], object], seconds: float = 240.0) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it did not become true"
        time.sleep(0.02)


def said(started: subprocess.Popen[str], words: str) -> str:
    """Read what a watcher says until a line has these words."""
    assert started.stderr is not None
    for line in started.stderr:
        if words in line:
            return line
    raise AssertionError(f"it ended without saying {words!r}")


# what triggers


def test_any_file_name_reaches_the_command_as_one_argument(place: Place) -> None:
    names = [name for name in support.HOSTILE_NAMES if not name.startswith(".")]
    for name in names:
        (place.inbox / name).write_text("x")
    command = (sys.executable, "-c", "import sys; open(sys.argv[1], 'a').write(repr(sys.argv[2:]) + '\\n')")
    fields = ("{path}", "{name}", "{stem}", "{dir}", "x{name}y")
    done = place.drain("--settle", "0", command=(*command, str(place.out / "argv"), *fields))
    assert done.returncode == 0, done.stderr
    seen = {tuple(eval(line)) for line in (place.out / "argv").read_text().splitlines()}
    assert seen == {
        (f"{place.inbox}/{name}", name, os.path.splitext(name)[0], str(place.inbox), f"x{name}y") for name in names
    }
    assert not (place.inbox / "pwned").exists() and not Path("pwned").exists()


def test_a_name_that_is_not_utf_8_is_set_aside_by_name(place: Place) -> None:
    (Path(os.fsdecode(os.fsencode(place.inbox) + b"/caf\xe9"))).write_text("x")
    assert place.drain("--settle", "0", command=place.note).returncode == 1
    (row,) = place.ledger()
    assert row["state"] == "aside" and "UTF-8" in row["reason"]


def test_a_marker_fires_at_once_and_names_its_data(place: Place) -> None:
    (place.inbox / "scan_1.h5").write_text("data")
    (place.inbox / "scan_1.h5.done").touch()
    command = (*place.note[:4], "{dir}/{stem}")
    done = place.drain("--marker", "*.done", command=command)
    assert done.returncode == 0, done.stderr
    assert place.told() == [f"{place.inbox}/scan_1.h5"]


def test_a_pattern_still_waits_until_the_file_is_complete(place: Place) -> None:
    started = place.start("--pattern", "*.h5", "--settle", "0.6", command=place.note)
    said(started, "watching")
    with (place.inbox / "slow.h5").open("w") as file:
        for _ in range(8):
            file.write("part\n")
            file.flush()
            time.sleep(0.2)
            assert not place.told()
    until(place.told)
    assert place.told() == [f"{place.inbox}/slow.h5"]


def test_hidden_and_ignored_files_and_other_patterns_do_not_trigger(place: Place) -> None:
    for name in (".partial.h5", "a.h5.part", "a.txt", "a.h5", ".snapshot/b.h5", "sub/c.h5"):
        (place.inbox / name).parent.mkdir(exist_ok=True)
        (place.inbox / name).write_text("x")
    done = place.drain("--settle", "0", "--pattern", "*.h5*", "--ignore", "*.part", command=place.note)
    assert done.returncode == 0, done.stderr
    assert sorted(place.told()) == [f"{place.inbox}/a.h5", f"{place.inbox}/sub/c.h5"]
    assert place.drain("--settle", "0", "--name", "flat", "--no-recursive", command=place.note).returncode == 0
    assert f"{place.inbox}/sub/c.h5" not in place.told()[2:]


def test_an_empty_pattern_is_refused(place: Place) -> None:
    done = place.drain("--pattern", "", command=place.note)
    assert done.returncode == 2 and "empty-pattern" in done.stderr


@pytest.mark.parametrize("observe", ["events", "poll"])
def test_files_are_seen_as_they_come_and_moved_in_with_their_directory(place: Place, observe: str) -> None:
    started = place.start("--settle", "0.1", "--observe", observe, "--every", "0.2", command=place.note)
    said(started, "watching")
    (place.inbox / "one").write_text("1")
    until(lambda: len(place.told()) == 1)
    outside = place.out / "run 7"
    (outside / "deep").mkdir(parents=True)
    (outside / "deep" / "two").write_text("2")
    outside.rename(place.inbox / "run 7")
    until(lambda: len(place.told()) == 2)
    late = place.inbox / "run 7" / "deep" / "three"
    late.write_text("3")
    until(lambda: len(place.told()) == 3)
    assert place.told()[1:] == [f"{place.inbox}/run 7/deep/two", str(late)]


def test_a_changed_file_is_a_new_trigger_unless_once_per_path(place: Place) -> None:
    file = place.inbox / "file"
    file.write_text("1")
    for options in ([], ["--name", "path", "--once-per-path"]):
        place.drain("--settle", "0", *options, command=place.note)
    assert len(place.told()) == 2
    file.write_text("longer")
    place.drain("--settle", "0", command=place.note)
    assert len(place.told()) == 3
    place.drain("--settle", "0", "--name", "path", "--once-per-path", command=place.note)
    assert len(place.told()) == 3
    os.chmod(file, 0o600)  # not another content
    place.drain("--settle", "0", command=place.note)
    assert len(place.told()) == 3


def test_what_is_there_can_be_left_out_at_the_start(place: Place) -> None:
    (place.inbox / "old").write_text("x")
    (place.inbox / ".done-old").write_text("x")
    would, done, again = (place.repair("--skip-present", *more) for more in (("--dry-run",), (), ()))
    assert would.stdout.startswith("2 files would be marked as done\n") and done.stdout.startswith(
        "2 files marked as done\n"
    )
    assert again.stdout == "0 files marked as done\n"
    (place.inbox / "old").write_text("changed")
    assert place.repair("--skip-present").stdout == f"1 file marked as done\n  {place.inbox}/old\n"
    (place.inbox / "new").write_text("x")
    for options in ((), ("--once-per-path",), ("--pattern", ".done-*")):
        assert place.drain("--settle", "0", *options, command=place.note).returncode == 0
        assert set(place.told()) == {f"{place.inbox}/new"}
    assert "3 files done\n" in place.repair().stdout


# running


def test_a_second_drain_runs_nothing_again(place: Place) -> None:
    for number in range(5):
        (place.inbox / str(number)).write_text("x")
    for _ in range(2):
        assert place.drain("--settle", "0", command=place.note).returncode == 0
    assert len(place.told()) == 5
    assert [row["state"] for row in place.ledger()] == ["done"] * 5


def test_a_failing_command_is_tried_again_and_then_set_aside_with_its_reason(place: Place) -> None:
    (place.inbox / "bad").write_text("x")
    (place.inbox / "good").write_text("x")
    script = 'printf "%s\\n" "$1" >>"$0"; case $1 in *bad) echo no beam >&2; exit 3;; esac'
    command = ("sh", "-c", script, str(place.out / "noted"), "{path}")
    done = place.drain("--settle", "0", "--attempts", "3", "--retry-after", "0.05", command=command)
    while done.returncode == 75:
        done = place.drain("--settle", "0", "--attempts", "3", "--retry-after", "0.05", command=command)
    assert done.returncode == 1, done.stderr
    assert sorted(place.told()) == [f"{place.inbox}/bad"] * 3 + [f"{place.inbox}/good"]
    aside = next(row for row in place.ledger() if row["state"] == "aside")
    assert aside["attempts"] == 3 and "failed with 3" in aside["reason"] and aside["output"] == "no beam"
    assert place.drain("--settle", "0", command=command).returncode == 0
    assert len(place.told()) == 4
    see = shlex.join(["globuswrap", "watch", "repair", str(place.inbox)])
    assert f"{see}\n" in done.stderr
    report = place.repair().stdout
    assert f"1 file set aside\n  {place.inbox}/bad: its command failed with 3, after 3 attempts\n" in report
    assert f"{see} --retry\n" in report and "1 file done\n" in report
    done = place.repair("--retry", "--new-command")
    assert done.stdout.startswith(f"1 file retried by the watcher\n  {place.inbox}/bad\nthe command is released"), (
        done.stdout
    )
    again = place.drain("--settle", "0", command=place.note)
    assert again.returncode == 0, again.stderr
    assert [row["state"] for row in place.ledger()] == ["done", "done"]


def test_a_retry_starts_over_where_setting_aside_was_interrupted(tmp_path: Path) -> None:
    """Between the record that says so and the removal of its attempts; also when a watcher starts at that moment, which removes
    what such an end left behind."""
    ledger = Ledger(tmp_path / "ledger", "DIR")
    trigger = Trigger("a" * 32, "/data/file", 1, 1, "20261120T110557Z")
    assert ledger.add(trigger)
    ledger.set_aside(trigger, "its command failed with 1, after 5 attempts", 5, 1)
    ledger.path(trigger.key, "5.run").symlink_to("1:2:boot:host")
    ledger.path(trigger.key, "5.exit").write_text("1\n")
    seen_by_another = ledger.names()
    ledger.retry(trigger.key)
    ledger.sweep(seen_by_another)
    assert ledger.names().waiting == {trigger.key} and ledger.begun(trigger.key) == 0
    assert ledger.read(trigger.key) == trigger and ledger.waits(trigger.key)


def test_records_are_forgotten_only_of_files_that_are_gone(place: Place) -> None:
    for name in ("gone", "kept"):
        (place.inbox / name).write_text("x")
    assert place.drain("--settle", "0", command=place.note).returncode == 0
    (place.inbox / "gone").unlink()
    assert place.repair("--forget", "90d").stdout == "0 files removed from the ledger\n"
    lines = f"1 file {{}}removed from the ledger\n  {place.inbox}/gone\n"
    assert place.repair("--forget", "0", "--dry-run").stdout == lines.format("would be ")
    assert place.repair("--forget", "0").stdout == lines.format("")
    assert [row["path"] for row in place.ledger()] == [f"{place.inbox}/kept"]


def test_a_directory_that_nobody_watched_has_an_empty_ledger(place: Place) -> None:
    done = place.repair()
    assert done.returncode == 0 and "which is empty" in done.stdout and "--skip-present" in done.stdout
    done = subprocess.run([str(support.LAUNCHER), "watch", "repair", "nosuch"], capture_output=True, text=True)
    assert done.returncode == 2 and "[no-directory]" in done.stderr


def test_what_says_try_later_is_never_set_aside(place: Place) -> None:
    (place.inbox / "file").write_text("x")
    script = 'printf "x\\n" >>"$0"; test "$(wc -l <"$0")" -ge 5 || exit 75'
    command = ("sh", "-c", script, str(place.out / "noted"))
    options = ("--settle", "0", "--attempts", "2", "--retry-after", "0")
    done = place.drain(*options, command=command)
    while done.returncode == 75:
        done = place.drain(*options, command=command)
    assert done.returncode == 0, done.stderr
    assert len(place.told()) == 5


def test_a_retry_that_is_not_due_is_left_to_the_next_drain(place: Place) -> None:
    (place.inbox / "file").write_text("x")
    done = place.drain("--settle", "0", "--retry-after", "1h", command=("false",))
    assert done.returncode == 75
    assert place.drain("--settle", "0", "--retry-after", "1h", command=("false",)).returncode == 75
    assert [row["attempts"] for row in place.ledger()] == [1]


def test_as_many_commands_as_allowed_run_at_once_and_no_more(place: Place) -> None:
    for number in range(7):
        (place.inbox / str(number)).write_text("x")
    script = 'mkdir "$0/$1"; while ! [ -e "$0.go" ]; do sleep 0.05; done'
    now = place.out / "now"
    now.mkdir()
    command = ("sh", "-c", script, str(now), "{name}")
    started = place.start("--settle", "0", "--in-flight", "3", command=command)
    until(lambda: len(list(now.iterdir())) >= 3)
    time.sleep(0.3)
    assert len(list(now.iterdir())) == 3
    now.with_name("now.go").touch()
    until(lambda: len(list(now.iterdir())) == 7)
    end(started)


def test_a_command_finds_the_key_of_its_trigger(place: Place) -> None:
    (place.inbox / "file").write_text("x")
    script = 'printf "%s\\n" "$1" "$GLOBUSWRAP_TRIGGER" "$GLOBUSWRAP_TRIGGER_PATH" >"$0"'
    place.drain("--settle", "0", command=("sh", "-c", script, str(place.out / "noted"), "{key}"))
    (row,) = place.ledger()
    assert place.told() == [row["key"], row["key"], f"{place.inbox}/file"]


def test_globuswrap_itself_is_found_without_a_path(place: Place) -> None:
    (place.inbox / "file").write_text("x")
    done = place.drain("--settle", "0", command=("globuswrap", "--version"), env={"PATH": "/usr/bin:/bin"})
    assert done.returncode == 0, done.stderr
    assert "| globuswrap " in done.stderr


# over crashes


def test_a_command_that_runs_when_the_watcher_is_killed_is_taken_up_and_not_run_again(place: Place) -> None:
    (place.inbox / "file").write_text("x")
    script = 'printf "begun\\n" >>"$0"; while ! [ -e "$0.go" ]; do sleep 0.05; done; printf "ended\\n" >>"$0"'
    command = ("sh", "-c", script, str(place.out / "noted"))
    started = place.start("--settle", "0", command=command)
    until(place.told)
    end(started)
    again = place.start("--settle", "0", command=command)
    assert "still runs" in said(again, "attempt 1")
    assert f"1 file running on this host\n  {place.inbox}/file\n" in place.repair().stdout
    (place.out / "noted.go").touch()
    said(again, "done")
    assert place.told() == ["begun", "ended"]
    assert [row["state"] for row in place.ledger()] == ["done"]


def begun_elsewhere(place: Place, host: str, *options: str) -> None:
    """Of the files that are there, one was begun on another host, which has died since."""
    first = place.start("--settle", "0", "--in-flight", "1", *options, command=place.stop_at_first)
    said(first, "watching")
    until(lambda: list((Path.home() / ".local/state/globuswrap/watch").rglob("*.run")))
    end(first)
    (claim,) = (Path.home() / ".local/state/globuswrap/watch").rglob("*.run")
    pid, start, boot, _ = os.readlink(claim).split(":")
    os.killpg(int(pid), signal.SIGKILL)
    claim.unlink()
    claim.symlink_to(f"{pid}:{start}:{boot}:{host}")


def test_what_a_dead_host_had_begun_blocks_nothing_else_and_is_named_with_what_takes_it_up(place: Place) -> None:
    """Whether it runs cannot be seen from here, and to run it again could be once too often."""
    for name in ("one", "it's two"):
        (place.inbox / name).write_text("x")
    begun_elsewhere(place, "elsewhere.example.org")
    options = ("--settle", "0", "--in-flight", "1")
    done = place.drain(*options, "--json", command=place.stop_at_first)
    assert done.returncode == 75, done.stderr
    error, data = (json.loads(done.stdout)[each] for each in ("error", "data"))
    assert error["name"] == "started-elsewhere" and "elsewhere.example.org" in error["cause"]
    ((there,), (ran,)) = ([each["paths"] for each in data["elsewhere"]], [place.told()])
    assert {*there, *ran} == {f"{place.inbox}/one", f"{place.inbox}/it's two"}
    rows = place.ledger()
    assert sorted(row["state"] for row in rows) == ["done", "elsewhere"]
    assert [row["host"] for row in rows if row["state"] == "elsewhere"] == ["elsewhere.example.org"]
    _, _, line = error["remedy"].partition("gone for good: ")
    words = shlex.split(line)
    assert words == ["globuswrap", "watch", "repair", str(place.inbox), "--take-over", "elsewhere.example.org"]
    report = place.repair().stdout
    assert "1 command started on elsewhere.example.org, the first " in report and error["remedy"] in report
    assert place.repair("--take-over", "elsewhere.example.org", "--dry-run").stdout.startswith(
        "1 file would be retried"
    )
    for expected in (1, 0):
        taken = subprocess.run([str(support.LAUNCHER), *words[1:], "--json"], capture_output=True, text=True)
        assert taken.returncode == 0 and len(json.loads(taken.stdout)["data"]["taken_over"]) == expected
    assert place.drain(*options, "--retry-after", "0", command=place.stop_at_first).returncode == 0
    assert sorted(place.told()) == sorted([*there, *ran])
    assert [row["state"] for row in place.ledger()] == ["done", "done"]
    assert not list((Path.home() / ".local/state/globuswrap/watch").rglob("*.lost"))


def test_what_another_host_took_first_is_not_waited_for(place: Place, tmp_path: Path) -> None:
    (place.inbox / "one").write_text("x")
    watcher = Watcher(Plan(str(place.inbox), ("true",), settle=0.0, in_flight=1), Ledger(tmp_path / "ledger", "DIR"))
    watcher.scan()
    watcher.ripen()
    (key,) = watcher.pending
    watcher.ledger.path(key, "1.run").symlink_to("1:2:boot:elsewhere.example.org")
    (place.inbox / "two").write_text("x")
    tally = follow(watcher, None, drain=True)
    assert tally.done == 1 and [each.name for each in watcher.elsewhere()] == ["started-elsewhere"]


def test_a_running_watcher_goes_on_when_a_dead_host_is_given_up(place: Place) -> None:
    (place.inbox / "one").write_text("x")
    begun_elsewhere(place, "elsewhere.example.org", "--lost", "aside")
    second = place.start("--settle", "0", "--lost", "aside", command=place.stop_at_first)
    assert "--take-over elsewhere.example.org" in said(second, "remedy")
    assert place.repair("--take-over", "elsewhere.example.org").returncode == 0
    said(second, "set aside")
    assert [row["state"] for row in place.ledger()] == ["aside"] and not place.told()


def test_the_host_that_one_is_on_is_not_taken_over(place: Place) -> None:
    done = place.repair("--take-over", socket.gethostname())
    assert done.returncode == 2 and "this host" in done.stderr


def test_the_commands_environment_is_the_watchers(place: Place) -> None:
    (place.inbox / "file").write_text("x")
    mine = {name: "kept" for name in ("base", "run", "where", "code", "line")}
    script = 'printf "%s\\n" "$base" "$run" "$where" "$code" "$line" >"$0"'
    place.drain("--settle", "0", command=("sh", "-c", script, str(place.out / "noted")), env=mine)
    assert place.told() == ["kept"] * 5


def test_stopping_a_watcher_leaves_its_commands_running(place: Place) -> None:
    (place.inbox / "file").write_text("x")
    script = 'printf "begun\\n" >>"$0"; sleep 0.5; printf "ended\\n" >>"$0"'
    started = place.start("--settle", "0", command=("sh", "-c", script, str(place.out / "noted")))
    until(place.told)
    started.send_signal(signal.SIGTERM)
    assert started.wait(240) == 128 + signal.SIGTERM
    until(lambda: place.told() == ["begun", "ended"])


def step_by_step(script: str) -> str:
    """The script with a pause before each of its commands: of several that run it, all look before the first one acts."""
    slowed = shlex.quote("trap 'sleep 0.05' DEBUG\n" + script)
    return f'exec bash -c {slowed} "$0" "$@"'


def test_of_many_who_start_one_attempt_one_runs_its_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A watcher that was killed after the fork, and the next one: both have started attempt 1."""
    monkeypatch.setattr(ledgers, "WRAPPER", step_by_step(ledgers.WRAPPER))
    ledger = Ledger(tmp_path / "ledger", "DIR")
    trigger = Trigger("a" * 32, "/data/file", 1, 1, "20261120T110557Z")
    assert ledger.add(trigger) and not ledger.add(trigger)
    note = ("sh", "-c", 'sleep 0.1; printf "x\\n" >>"$0"', str(tmp_path / "noted"))
    started = [ledger.start(trigger, 1, note) for _ in range(8)]
    until(lambda: not any(each.running() for each in started))
    late = ledger.start(trigger, 2, note)  # and one that comes when all is over
    until(lambda: not late.running())
    assert (tmp_path / "noted").read_text() == "x\n"
    assert ledger.attempt(trigger.key, 1).state == "done"
    ledger.finished(trigger.key, 2)
    assert [path.name for path in (tmp_path / "ledger" / "aa").iterdir()] == [f"{trigger.key}.done"]


@pytest.mark.parametrize(("lost", "begun", "state"), [("again", 2, "done"), ("aside", 1, "aside")])
def test_a_command_that_was_cut_off_with_its_shell(place: Place, lost: str, begun: int, state: str) -> None:
    (place.inbox / "file").write_text("x")
    script = 'printf "%s\\n" "$$" >>"$0"; [ -e "$0.go" ] || exec sleep 60'
    command = ("sh", "-c", script, str(place.out / "noted"))
    options = ("--settle", "0", "--lost", lost, "--retry-after", "0")
    started = place.start(*options, command=command)
    until(place.told)
    end(started)
    (place.out / "noted.go").touch()
    child = int(place.told()[0])
    os.killpg(os.getpgid(child), signal.SIGKILL)
    done = place.drain(*options, command=command)
    assert "cut off" in done.stderr
    assert len(place.told()) == begun
    assert [row["state"] for row in place.ledger()] == [state]


# several watchers, and what is left of one


def record_of(suffix: str) -> Path:
    (found,) = (Path.home() / ".local/state/globuswrap/watch").rglob(f"*.{suffix}")
    return found


def left_waiting(place: Place) -> Path:
    """A trigger that was written down by a watcher that ended before it ran anything: its record."""
    watcher = Watcher(Plan(str(place.inbox), place.note, settle=0.0), ledger_of(place))
    watcher.scan()
    watcher.ripen()
    return record_of("trigger")


def ledger_of(place: Place) -> Ledger:
    place.drain("--settle", "0", "--pattern", "none", command=place.note)
    return Ledger(record_of("json").parent, "DIR")


@pytest.mark.parametrize(
    "text", ["", '{"key": "', "[]", "{}", "[" * 100_000], ids=["empty", "cut", "list", "none", "deep"]
)
@pytest.mark.parametrize("begun", [False, True])
def test_a_damaged_trigger_is_run_when_its_file_is_seen(place: Place, text: str, begun: bool) -> None:
    (place.inbox / "file").write_text("x")
    record = left_waiting(place)
    record.write_text(text)
    if begun:  # attempt 1 has failed
        record.with_suffix(".1.run").symlink_to("1:2:boot:elsewhere.example.org")
        record.with_suffix(".1.exit").write_text("4\n")
    done = place.drain("--settle", "0", "--retry-after", "0", command=place.note)
    assert done.returncode == 0 and "damaged" in done.stderr, done.stderr
    assert place.told() == [f"{place.inbox}/file"]
    assert [row["state"] for row in place.ledger()] == ["done"]
    assert place.drain("--settle", "0", command=place.note).returncode == 0 and len(place.told()) == 1


def test_a_damaged_trigger_whose_file_is_gone_is_an_error_until_it_is_removed(place: Place) -> None:
    (place.inbox / "file").write_text("x")
    record = left_waiting(place)
    record.write_text('{"key"')
    (place.inbox / "file").unlink()
    (place.inbox / "other").write_text("x")
    assert [row["state"] for row in place.ledger()] == ["damaged"]
    assert shlex.join(["rm", str(record)]) in place.repair().stdout
    for _ in range(2):
        done = place.drain("--settle", "0", "--json", command=place.note)
        error = json.loads(done.stdout)["error"]
        assert done.returncode == 1 and error["name"] == "damaged-trigger" and str(record) in error["cause"]
    assert place.told() == [f"{place.inbox}/other"], "the rest goes on"
    subprocess.run(error["remedy"].partition("record: ")[2], shell=True, check=True)
    assert place.drain("--settle", "0", command=place.note).returncode == 0


def test_a_running_watcher_names_a_damaged_trigger(place: Place) -> None:
    (place.inbox / "file").write_text("x")
    record = left_waiting(place)
    record.write_text("")
    (place.inbox / "file").unlink()
    started = place.start("--settle", "0", "--every", "0.1", command=place.note)
    assert str(record) in said(started, "[damaged-trigger]")


@pytest.mark.parametrize("suffix", ["trigger", "aside", "json"])
def test_a_record_of_another_version_is_refused_and_left_alone(place: Place, suffix: str) -> None:
    (place.inbox / "file").write_text("x")
    if suffix == "aside":
        place.drain("--settle", "0", "--attempts", "1", command=("false",))
    else:
        left_waiting(place)
    record = record_of(suffix)
    newer = json.dumps({**json.loads(record.read_text()), "schema": "globuswrap.watch/2", "priority": 3})
    record.write_text(newer)
    runs = [place.repair()]
    runs += [place.repair("--retry")] if suffix == "aside" else [place.drain("--settle", "0", command=place.note)]
    runs += [place.repair("--new-command")] if suffix == "json" else []
    for done in runs:
        assert done.returncode == 1 and "[unknown-record]" in done.stderr
    assert record.read_text() == newer and not place.told()


def test_what_a_dead_watcher_left_is_run_by_the_one_that_runs(place: Place) -> None:
    (place.inbox / "first").write_text("x")
    running = place.start("--settle", "0", "--every", "0.1", command=place.note)
    said(running, "done")
    ledger = Ledger(record_of("json").parent, "DIR")
    # A watcher on another host saw this one first, wrote it down, and died before it ran anything.
    (place.inbox / ".new").write_text("x")
    seen = scanner.look(str(place.inbox / ".new"))
    assert seen is not None
    trigger = Trigger(
        scanner.key_of(str(place.inbox), str(place.inbox / "second"), seen, once_per_path=False),
        str(place.inbox / "second"),
        seen.size,
        seen.modified,
        "20261120T110557Z",
    )
    assert ledger.add(trigger)
    (place.inbox / ".new").rename(place.inbox / "second")
    until(lambda: len(place.told()) == 2)
    assert place.told()[1] == f"{place.inbox}/second"


def test_two_watchers_that_share_a_ledger_run_each_trigger_once(place: Place) -> None:
    """Also when the command moves its file away, so that the other watcher finds the file gone."""
    script = 'printf "%s\\n" "$1" >>"$0"; rm "$1"; sleep 0.02'
    command = ("sh", "-c", script, str(place.out / "noted"), "{path}")
    options = ("--settle", "0", "--every", "0.05", "--in-flight", "1")
    started = [place.start(*options, command=command) for _ in range(2)]
    for each in started:
        said(each, "watching")
    names = [f"{place.inbox}/{number}" for number in range(30)]
    for name in names:
        Path(name).write_text("x")
    states: list[str] = []

    def all_settled() -> bool:
        states[:] = [row["state"] for row in place.ledger()]
        return len(states) == len(names) and set(states) <= {"done", "aside", "damaged"}

    until(all_settled)
    assert states == ["done"] * len(names)
    assert sorted(place.told()) == sorted(names)


def test_a_file_that_is_gone_is_not_given_up_while_another_watcher_runs_its_command(
    place: Place, tmp_path: Path
) -> None:
    """The command may have moved it."""
    (place.inbox / "file").write_text("x")
    watcher = Watcher(Plan(str(place.inbox), ("true",), settle=0.0), Ledger(tmp_path / "ledger", "DIR"))
    watcher.scan()
    watcher.ripen()
    (key,) = watcher.pending
    (place.inbox / "file").unlink()
    other = subprocess.Popen(["cat"], stdin=subprocess.PIPE, start_new_session=True, text=True)
    place.running.append(other)
    watcher.ledger.path(key, "1.run").symlink_to(f"{other.pid}:0:{watcher.ledger.where}")
    watcher.launch()
    watcher.land()
    assert list(watcher.flying) == [key] and watcher.tally.aside == 0 and watcher.ledger.waits(key)
    watcher.ledger.path(key, "trigger").rename(watcher.ledger.path(key, "done"))
    watcher.land()
    assert watcher.tally.done == 1 and not watcher.flying


def test_what_another_watcher_has_settled_is_neither_added_nor_taken(tmp_path: Path) -> None:
    """It ended between a listing of this watcher and what it concludes from it."""
    ledger = Ledger(tmp_path / "ledger", "DIR")
    trigger = Trigger("a" * 32, "/data/file", 1, 1, "20261120T110557Z")
    assert ledger.add(trigger)
    ledger.path(trigger.key, "trigger").rename(ledger.path(trigger.key, "done"))
    assert not ledger.take(trigger.key, 2) and ledger.begun(trigger.key) == 0
    assert not ledger.add(trigger) and ledger.names().done == {trigger.key}
    assert not ledger.path(trigger.key, "trigger").exists()


def test_a_lost_reply_of_the_file_server_is_no_other_watcher(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Over NFS a link or symbolic link that was made can be reported as one that was there."""
    ledger = Ledger(tmp_path / "ledger", "DIR")
    trigger = Trigger("a" * 32, "/data/file", 1, 1, "20261120T110557Z")

    def lossy(make: Callable[..., None]) -> Callable[..., None]:
        def made(*arguments: Any, **rest: Any) -> None:
            make(*arguments, **rest)
            raise FileExistsError(17, "File exists")

        return made

    monkeypatch.setattr(os, "link", lossy(os.link))
    monkeypatch.setattr(os, "symlink", lossy(os.symlink))
    assert ledger.add(trigger) and ledger.take(trigger.key, 1)
    assert not Ledger(tmp_path / "ledger", "DIR").add(trigger)


def test_a_directory_that_is_away_is_not_an_empty_one(place: Place) -> None:
    (place.inbox / "file").write_text("x")
    place.drain("--settle", "0", command=place.note)
    started = place.start("--settle", "0", "--observe", "poll", "--every", "0.1", command=place.note)
    said(started, "watching")
    away = place.inbox.with_name("away")
    place.inbox.rename(away)
    said(started, "checked again")
    (away / "new").write_text("x")
    away.rename(place.inbox)
    said(started, "can be read again")
    until(lambda: len(place.told()) == 2)
    assert place.told()[1] == f"{place.inbox}/new"


# usage


def test_a_ledger_is_for_one_command(place: Place) -> None:
    place.drain("--settle", "0", command=("true", "{path}"))
    (place.inbox / "file").write_text("x")
    done = place.drain("--settle", "0", command=place.note)
    assert done.returncode == 2 and "ledger-taken" in done.stderr and "--name" in done.stderr
    _, _, line = done.stderr.partition("to replace the old command: ")
    assert shlex.split(line) == ["globuswrap", "watch", "repair", str(place.inbox), "--new-command"]
    assert place.drain("--settle", "0", "--name", "second", command=place.note).returncode == 0
    assert place.told() == [f"{place.inbox}/file"]
    assert place.repair("--new-command", "--dry-run").returncode == 0
    assert place.drain("--settle", "0", command=place.note).returncode == 2
    assert place.repair("--new-command").returncode == 0
    assert place.drain("--settle", "0", command=place.note).returncode == 0
    assert place.drain("--settle", "0", command=("true", "{path}")).returncode == 2


def test_the_ledger_of_another_directory_is_not_repaired(place: Place) -> None:
    assert place.drain("--settle", "0", "--name", "mine", command=place.note).returncode == 0
    (place.inbox / "file").write_text("x")
    argv = [str(support.LAUNCHER), "watch", "repair", str(place.out), "--name", "mine", "--skip-present"]
    done = subprocess.run(argv, capture_output=True, text=True)
    assert done.returncode == 2 and "[ledger-taken]" in done.stderr
    assert not place.ledger("--name", "mine")


def test_a_dry_run_shows_the_commands_and_runs_none(place: Place) -> None:
    (place.inbox / "a file").write_text("x")
    done = place.drain("--dry-run", command=place.note)
    assert done.returncode == 0 and f"'{place.inbox}/a file'" in done.stdout
    assert not place.told() and not place.ledger()


def test_an_unknown_field_is_refused_and_other_braces_are_not(place: Place) -> None:
    done = place.drain(command=("echo", "{file}"))
    assert done.returncode == 2 and "{path} {name}" in done.stderr
    plan = Plan("/d", ("echo", '{"a": {"b": 1}}', "{}", "{name}"))
    assert plan.command_line("/d/{path}", "", "") == ("echo", '{"a": {"b": 1}}', "{}", "{path}")


def test_without_watchdog_it_says_how_to_install_it(place: Place, tmp_path: Path) -> None:
    hidden = tmp_path / "hidden" / "watchdog"
    hidden.mkdir(parents=True)
    (hidden / "__init__.py").write_text("raise ImportError('hidden')\n")
    env = {**os.environ, "PYTHONPATH": f"{hidden.parent}:{support.REPOSITORY / 'lib'}"}
    argv = [sys.executable, "-m", "globuswrap", *place.argv("--observe", "events", command=("true",))[1:]]
    done = subprocess.run(argv, env=env, capture_output=True, text=True, timeout=300)
    assert done.returncode == 2 and "pip install '.[watch]'" in done.stderr


MOUNTS = r"""
22 1 254:0 / / rw,relatime - ext4 /dev/vda rw
30 22 0:40 / /lustre rw - lustre mgs:/fs rw
31 22 0:41 / /home/my\040data rw,relatime shared:1 - nfs4 server:/x rw
32 31 0:42 / /home/my\040data/local rw - xfs /dev/sdb rw
""".strip()


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/tmp/x", "ext4"),
        ("/lustre", "lustre"),
        ("/lustre2/x", "ext4"),
        ("/home/my data/in", "nfs4"),
        ("/home/my data/local/in", "xfs"),
    ],
)
def test_the_file_system_is_that_of_the_longest_mount(path: str, kind: str) -> None:
    assert machine.file_system(path, MOUNTS) == kind
    assert bool(scanner.REMOTE.fullmatch(kind)) == (kind in ("lustre", "nfs4"))


def test_patterns_with_a_slash_are_of_the_path_below() -> None:
    assert Wanted("/d", ("raw/*.h5",)).name("raw/a.h5")
    assert not Wanted("/d", ("raw/*.h5",)).name("cooked/a.h5")
    assert Wanted("/d", (".done-*",)).name("run/.done-1")
