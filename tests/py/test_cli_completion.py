"""Completion as a shell asks for it, and as a person sees it: TAB in a real bash and a real zsh on a terminal."""

from __future__ import annotations

import json
import os
import pty
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import support
from command_line import run
from globuswrap.cli import completing
from globuswrap.cli.completing import split
from globuswrap.cli.sandbox import Sandbox
from support import HOSTILE_NAMES


def asked(box: Sandbox, line: str) -> list[str]:
    """The candidates for a line typed so far; `how` first."""
    done = run(box, "__complete", "line", line)
    assert (done.returncode, done.stderr) == (0, "")
    how, _strip, *found = done.stdout.rstrip("\n").split("\n")
    return [how, *found]


def listed(box: Sandbox, line: str) -> list[str]:
    """The same, once the directory is listed: on a busy machine that is for the next question."""
    end = time.monotonic() + 240
    while (found := asked(box, line))[1:] == [] and time.monotonic() < end:
        time.sleep(0.05)
    return found


@pytest.mark.parametrize(
    "line, words, quote",
    [
        ("globuswrap ", ["globuswrap", ""], ""),
        ("globuswrap tr", ["globuswrap", "tr"], ""),
        ("g transfer archive:/a\\ b", ["g", "transfer", "archive:/a b"], ""),
        ("g transfer 'archive:/a b", ["g", "transfer", "archive:/a b"], "'"),
        ('g transfer "a\\"b $x', ["g", "transfer", 'a"b $x'], '"'),
        ("g 'it'\\''s'", ["g", "it's"], ""),
        ("g ''", ["g", ""], ""),
    ],
)
def test_a_line_is_split_as_the_shell_does(line: str, words: list[str], quote: str) -> None:
    assert split(line) == (words, quote)


def test_commands_options_and_values(sandbox: Sandbox) -> None:
    with sandbox.config_file.open("a") as file:
        file.write('[sync.beam]\nsource = "archive:/"\ndestination = "results:/"\n')
    assert asked(sandbox, "globuswrap tr") == ["plain", "transfer"]
    assert "submit" in asked(sandbox, "globuswrap ")
    assert asked(sandbox, "globuswrap sync ba") == ["plain", "baseline"]
    assert asked(sandbox, "globuswrap sync run be") == ["plain", "beam"]
    assert asked(sandbox, "globuswrap transfer --sync-l") == ["plain", "--sync-level"]
    assert asked(sandbox, "globuswrap transfer --sync-level=ch") == ["plain", "--sync-level=checksum"]
    assert asked(sandbox, "globuswrap transfer --sync-level ch") == ["plain", "checksum"]
    assert asked(sandbox, "globuswrap transfer arc") == ["nospace", "archive:"]
    assert asked(sandbox, "globuswrap transfer --wait archive:/a sc") == ["nospace", "scratch:"]
    assert asked(sandbox, "globuswrap transfer archive:/a scratch:/b more") == ["plain"]
    assert asked(sandbox, "globuswrap collection remove re") == ["plain", "results"]
    assert asked(sandbox, "globuswrap submit jo") == ["files"]
    assert asked(sandbox, "globuswrap transfer ./da") == ["files"]
    assert asked(sandbox, "globuswrap nosuch x") == ["plain"]
    assert asked(sandbox, "globuswrap collection resolve --lo") == ["plain", "--local"]
    assert asked(sandbox, "globuswrap doctor be") == ["plain", "beam"]
    assert asked(sandbox, "globuswrap wat") == ["plain", "watch"]
    assert asked(sandbox, "globuswrap watch ") == ["files"]
    assert asked(sandbox, "globuswrap watch rep") == ["plain", "repair"]
    assert asked(sandbox, "globuswrap watch repair --take") == ["plain", "--take-over"]


def test_tasks_keys_and_chains(sandbox: Sandbox) -> None:
    (sandbox.collection("archive").path / "a").write_text("x")
    task = run(sandbox, "transfer", "archive:/a", "results:/a", "--key", "run 7", "--wait").stdout.strip()
    state = sandbox.home / ".local/state/globuswrap"
    (state / "chains" / "c0123abcd").mkdir(parents=True)
    listed = sandbox.home / "list"
    listed.write_text("a\n")
    assert run(sandbox, "batch", "archive:/", "scratch:/", str(listed), "--key", "night:2").returncode == 0
    last = state / "sync" / "beam-0123456789ab" / "runs" / "000007"
    last.mkdir(parents=True)
    (last / "run.json").write_text('{"key": "2026-11-20"}')
    assert asked(sandbox, f"globuswrap wait {task[:6]}") == ["plain", task]
    assert asked(sandbox, "globuswrap status ru") == ["plain", "run 7"]
    assert asked(sandbox, "globuswrap transfer a b --key 'ru") == ["quoted", "run 7"]
    assert asked(sandbox, "globuswrap wait ni") == ["plain", "night:2"]
    assert asked(sandbox, "globuswrap wait 2026-") == ["plain", "2026-11-20"]
    assert asked(sandbox, "globuswrap sync run beam --key 2026-") == ["plain", "2026-11-20"]
    assert asked(sandbox, "globuswrap cancel c01") == ["plain", "c0123abcd"]
    assert asked(sandbox, "globuswrap submit --resume c") == ["plain", "c0123abcd"]


def test_paths_of_a_mounted_collection_come_from_the_directory(sandbox: Sandbox) -> None:
    top = sandbox.collection("archive").path
    (top / "runs").mkdir()
    for name in HOSTILE_NAMES:
        (top / "runs" / name).write_text("x")
    (top / "runs" / ".hidden").write_text("x")
    assert asked(sandbox, "globuswrap transfer archive:") == ["nospace", "archive:/"]
    assert listed(sandbox, "globuswrap transfer archive:/ru") == ["nospace", "archive:/runs/"]
    shown = [f"archive:/runs/{name}" for name in HOSTILE_NAMES if name.isprintable()]
    assert listed(sandbox, "globuswrap transfer archive:/runs/") == ["plain", *sorted(shown)]
    assert listed(sandbox, "globuswrap transfer archive:/runs/.") == ["plain", "archive:/runs/.hidden"]
    assert sandbox.control.requests() == []  # nobody was asked


@pytest.mark.parametrize(
    "quote, left", [("'", 'a b|a"|a $(x)|a!|a\\'), ('"', "a b|a'"), ("", "a b|a\"|a'|a $(x)|a!|a\\")]
)
def test_within_quotation_marks_no_name_is_offered_that_would_end_them_or_run_something(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], quote: str, left: str
) -> None:
    """The shell inserts a candidate there as it is: `$(...)` would be run within double ones."""
    monkeypatch.setattr(completing, "candidates", lambda words: ["a b", 'a"', "a'", "a $(x)", "a!", "a\\"])
    assert completing.answer(["line", f"globuswrap transfer {quote}a"]) == 0
    how, _, *shown = capsys.readouterr().out.rstrip("\n").split("\n")
    assert how == ("quoted" if quote else "plain") and shown == sorted(left.split("|"))


def test_other_paths_are_listed_in_the_background_and_shown_the_next_time(sandbox: Sandbox) -> None:
    (sandbox.collection("archive").path / "runs").mkdir()
    (sandbox.collection("archive").path / "raw.h5").write_text("x")
    sandbox.config_file.write_text(f'[collections]\ntape = "{sandbox.collection("archive").id}"\n')
    sandbox.control.fault(kind="slow", seconds=1, path="*/ls")
    assert asked(sandbox, "globuswrap transfer tape:/r") == ["plain"]
    assert asked(sandbox, "globuswrap transfer tape:/r") == ["plain"]  # it is on its way, and not asked for twice
    kept = sandbox.home / ".cache/globuswrap/listings"
    end = time.monotonic() + 240
    while time.monotonic() < end and not [path for path in kept.iterdir() if path.suffix != ".asked"]:
        time.sleep(0.05)
    assert asked(sandbox, "globuswrap transfer tape:/r") == ["nospace", "tape:/raw.h5", "tape:/runs/"]
    assert len(sandbox.control.requests(path="/operation/endpoint/*/ls")) == 1
    for path in kept.iterdir():
        old = time.time() - 3600
        os.utime(path, (old, old))
    assert "tape:/runs/" in asked(sandbox, "globuswrap transfer tape:/r")  # old, and shown at once


def test_a_file_server_that_hangs_holds_no_prompt(sandbox: Sandbox, tmp_path: Path) -> None:
    """Listing the mounted directory takes until `answers` is there; the question comes back before, and once it is, the next
    one has the names."""
    (sandbox.collection("archive").path / "runs").mkdir()
    code = """import os, sys, time
listing = os.scandir
def hanging(path):
    while not os.path.exists("answers"):
        time.sleep(0.01)
    return listing(path)
os.scandir = hanging
sys.path.insert(0, sys.argv.pop(1))
from globuswrap.cli.main import run
run(["__complete", "line", "globuswrap transfer archive:/r"])"""
    argv = [sys.executable, "-I", "-c", code, str(support.REPOSITORY / "lib")]

    def asked() -> list[str]:
        return sandbox.run(argv, cwd=tmp_path, env={"GLOBUSWRAP_GLOBUS": "/nonexistent"}, timeout=300).stdout.split()

    assert asked() == ["plain", "8"]
    assert asked() == ["plain", "8"]
    (tmp_path / "answers").touch()
    kept = sandbox.home / ".cache/globuswrap/listings"
    end = time.monotonic() + 240
    while not [path for path in kept.iterdir() if not path.suffix]:
        assert time.monotonic() < end, "nothing was kept"
        time.sleep(0.02)
    assert asked() == ["nospace", "8", "archive:/runs/"]


@given(names=st.sets(st.text("abé", min_size=1, max_size=6), min_size=20, max_size=60), begun=st.text("ab", max_size=1))
def test_of_many_names_it_is_shown_how_they_go_on(names: set[str], begun: str) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(completing, "_SHOWN", 9)
        shown = completing._beginning(sorted(names), begun)
    wanted = [name for name in names if name.startswith(begun)]
    if len(wanted) <= 9:
        assert sorted(shown) == sorted(wanted)
        return
    assert shown.pop() == completing.CUT
    assert 1 < len(shown) <= 4
    assert all(each in wanted or len(each) > len(begun) for each in shown)
    assert all(any(name.startswith(each) for name in wanted) for each in shown)
    assert all(name == begun or any(name.startswith(each) for each in shown) for name in wanted)


def test_a_broken_configuration_breaks_no_prompt(sandbox: Sandbox) -> None:
    sandbox.config_file.write_text("[collections\n")
    assert asked(sandbox, "globuswrap transfer arc") == ["plain"]
    assert asked(sandbox, "globuswrap tra") == ["plain", "transfer"]


def test_the_script_is_printed_and_an_unknown_shell_refused(sandbox: Sandbox) -> None:
    for shell in ("bash", "zsh"):
        support.require_tool(shell)
        script = run(sandbox, "completion", shell).stdout
        assert subprocess.run([shell, "-n"], input=script, text=True, check=False).returncode == 0
        envelope = json.loads(run(sandbox, "completion", shell, "--json").stdout)
        assert envelope["data"]["script"] == script
    assert run(sandbox, "completion", "fish").returncode == 2


# --- at a terminal ----------------------------------------------------------------------------------------------------


class Terminal:
    """A shell on a pseudo-terminal."""

    def __init__(self, box: Sandbox, argv: list[str], cwd: Path) -> None:
        env = {name: value for name, value in {**os.environ, **box.env}.items() if value is not None}
        env |= {"PATH": f"{support.LAUNCHER.parent}:{env['PATH']}", "TERM": "dumb", "PS1": "", "HISTFILE": ""}
        self.pid, self.master = pty.fork()
        if self.pid == 0:
            os.chdir(cwd)
            os.execvpe(argv[0], argv, env)
        self.text = ""

    def send(self, text: str) -> None:
        os.write(self.master, text.encode())

    def until(self, mark: str, seconds: float = 240) -> str:
        """What comes up to a mark."""
        end = time.monotonic() + seconds
        while mark not in self.text:
            ready, _, _ = select.select([self.master], [], [], max(0.0, end - time.monotonic()))
            assert ready, f"no {mark!r} in {self.text!r}"
            self.text += os.read(self.master, 65536).decode("utf-8", "replace")
        found, _, self.text = self.text.partition(mark)
        return found

    def quiet(self, seconds: float = 1.0) -> None:
        """Until nothing has come for a while: the shell has done what TAB does."""
        while select.select([self.master], [], [], seconds)[0]:
            self.text += os.read(self.master, 65536).decode("utf-8", "replace")

    def close(self) -> None:
        os.close(self.master)
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)


SHELLS = {
    "bash": (
        ["bash", "--norc", "--noprofile", "-i"],
        "bind 'set enable-bracketed-paste off'; bind 'set bell-style none'",
    ),
    "zsh": (["zsh", "-f", "-i"], "autoload -Uz compinit; compinit -u -D; unsetopt beep; PROMPT="),
}


@pytest.fixture(params=list(SHELLS))
def terminal(request: pytest.FixtureRequest, sandbox: Sandbox, tmp_path: Path) -> Iterator[Terminal]:
    support.require_tool(request.param)
    argv, setting_up = SHELLS[request.param]
    for name in ("with space", "it's $(touch pwned)", "plain"):
        (sandbox.collection("archive").path / name[:4]).mkdir(exist_ok=True)
        (sandbox.collection("archive").path / name[:4] / name).write_text("x")
    shell = Terminal(sandbox, argv, tmp_path)
    try:
        shell.send(f"{setting_up}; source <(globuswrap completion {request.param}); echo 're''ady'\n")
        shell.until("ready\r\n")
        yield shell
    finally:
        shell.close()


@pytest.mark.parametrize(
    "typed, words",
    [
        ("globuswrap transf\t", ["globuswrap", "transfer"]),
        ("globuswrap transfer arch\t/plai\tplai\t", ["globuswrap", "transfer", "archive:/plai/plain"]),
        ("globuswrap transfer arch\t/with\twith\t", ["globuswrap", "transfer", "archive:/with/with space"]),
        ("globuswrap transfer archive:/it\\'\t", ["globuswrap", "transfer", "archive:/it's/"]),
        ("globuswrap transfer 'archive:/with/wi\t", ["globuswrap", "transfer", "archive:/with/with space"]),
        ("globuswrap transfer --sync-level chec\t", ["globuswrap", "transfer", "--sync-level", "checksum"]),
    ],
)
def test_tab(terminal: Terminal, tmp_path: Path, typed: str, words: list[str]) -> None:
    """The line after TAB, run with another command before it, so that its words show."""
    for part in typed.split("\t")[:-1]:
        terminal.send(part + "\t")
        terminal.quiet()
    # to the beginning of the line, a command before it, and off; a quotation mark still open is closed
    terminal.send("\x01printf '<%s>\\n' \x05")
    terminal.quiet(0.2)
    terminal.send("\n")
    try:
        terminal.until("\r\n<globuswrap>\r\n", 5.0)
    except AssertionError:
        terminal.send("'\n")
        terminal.until("\r\n<globuswrap>\r\n")
    terminal.quiet(0.5)
    shown = [line for line in terminal.text.split("\r\n") if line.startswith("<")]
    assert shown == [f"<{word}>" for word in words[1:]]
    assert not (tmp_path / "pwned").exists()
