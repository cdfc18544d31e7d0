"""Output that cannot be written: an exit code that says so, no traceback, for every kind of output; and the work is done once."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

import support
from command_line import accepted
from globuswrap.cli.sandbox import Sandbox

KINDS = {
    "table": ("collection", "list"),
    "json": ("collection", "list", "--json"),
    "text": ("toolkit",),
    "long text": ("completion", "bash"),
    "help": ("--help",),
    "help of a command": ("transfer", "--help"),
    "no arguments": (),
    "version": ("--version",),
    "completion": ("__complete", "words", "globuswrap", ""),
    "problem as json": ("collection", "resolve", "nobody:/", "--json"),
    "bad usage as json": ("transfer", "--bogus", "--json"),
}
#: What a command exits with when its output is read.
OWN = {"no arguments": 2, "problem as json": 2, "bad usage as json": 2}
#: The shell's way to lose stdout, and the exit code of a command that would end with 0.
LOST = {">/dev/full": 75, ">&-": 75, "| true": 141}


@pytest.fixture(autouse=True)
def names() -> None:
    file = Path.home() / ".config" / "globuswrap" / "config.toml"
    file.parent.mkdir(parents=True)
    file.write_text('[collections]\nbeam = "aaaaaaaa-0000-4000-8000-000000000001"\n')


def shell(arguments: tuple[str, ...], how: str) -> subprocess.CompletedProcess[str]:
    """Run a command with its streams as the shell's words say; what a pipe leads to has ended before the command begins."""
    line = 'exec 3> >(true); wait $!; exec "$@" >&3' if how == "| true" else f'exec "$@" {how}'
    return subprocess.run(
        ["bash", "-c", line, "bash", support.LAUNCHER, *arguments], capture_output=True, text=True, timeout=300
    )


@pytest.mark.parametrize("how", LOST)
@pytest.mark.parametrize("kind", KINDS)
def test_output_that_is_lost_is_no_success(kind: str, how: str) -> None:
    done = shell(KINDS[kind], how)
    assert done.returncode == OWN.get(kind, LOST[how]), done.stderr
    assert "Traceback" not in done.stderr and "Exception ignored" not in done.stderr, done.stderr
    assert ("[output-lost]" in done.stderr) == (how != "| true"), done.stderr
    assert not list(Path.home().rglob("defects/*"))


@pytest.mark.parametrize("how", ["2>/dev/full", "2>&-"])
@pytest.mark.parametrize("kind", ["table", "help", "problem as json"])
def test_messages_that_are_lost_change_nothing_else(kind: str, how: str) -> None:
    done = shell(KINDS[kind], how)
    usual = shell(KINDS[kind], "")
    assert (done.returncode, done.stdout) == (usual.returncode, usual.stdout)
    assert usual.returncode == OWN.get(kind, 0)


def test_everything_closed() -> None:
    assert shell(("collection", "list"), "<&- >&- 2>&-").returncode == 75


@pytest.mark.parametrize("how", [">/dev/full", ">&- 2>&-", "2>/dev/full"])
def test_a_transfer_whose_output_is_lost_is_made_once(sandbox: Sandbox, how: str) -> None:
    (sandbox.collection("archive").path / "file").write_text("x")
    line = f'"$@" {how}'
    argv = ["bash", "-c", line, "bash", str(support.LAUNCHER), "transfer", "archive:/file", "scratch:/file"]
    done = sandbox.run([*argv, "--key", "mine", "--once", "--wait", "--json"])
    assert done.returncode == (0 if how == "2>/dev/full" else 75), done.stderr
    again = sandbox.run([str(support.LAUNCHER), *argv[5:], "--key", "mine", "--once", "--wait", "--json"])
    assert again.returncode == 0 and len(accepted(sandbox)) == 1
    assert json.loads(again.stdout)["data"]["task_id"] == sandbox.control.tasks()[0]["task_id"]
