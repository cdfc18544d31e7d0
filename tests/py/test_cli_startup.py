"""A command that only has to say what it can do, or that its arguments are wrong, imports no more than that takes."""

from __future__ import annotations

import ast
import subprocess
import sys

import pytest

from globuswrap.cli import app, table
from support import REPOSITORY

#: What takes long to import, or talks to somebody: none of it is needed to print help or to read a command line.
HEAVY = {
    "pydantic", "pydantic_core", "rich", "sh", "jmespath", "watchdog", "jsonschema", "globus_sdk",
    "globus_cli", "requests", "sqlite3", "subprocess", "asyncio", "http", "urllib.request", "email", "ssl", "pty",
    "multiprocessing", "tomllib", "tomli", "socket", "dis",
}  # fmt: skip
#: Of our own: what a command does is imported when it is done.
ROOMS = {
    "api",
    "underway",
    "reports",
    "transfers",
    "staging",
    "sync",
    "sharing",
    "watch",
    "flows",
    "search",
    "collections",
    "globus",
    "doctor",
    "config",
}
#: --help is made from the one declaration of transfer options, which imports nothing.
DECLARATIONS = {"globuswrap.transfers", "globuswrap.transfers.options"}
#: What importing typer alone brings along is not ours to leave out; nor, for `sandbox`, what the other package does.
_WATCH = """
import sys
import typer
sys.path.insert(0, sys.argv.pop(1))
if sys.argv[1:2] == ["sandbox"]:
    import globus_sandbox.commands, globus_sandbox.launch
before = set(sys.modules)
from globuswrap.cli.main import run
code = run(sys.argv[1:])
sys.stdout.flush()
print("\\0" + repr([code, sorted(set(sys.modules) - before)]))
"""


def imported(*arguments: str) -> tuple[int, set[str]]:
    """The exit code of a command line in a fresh Python, and the modules it imported beyond typer."""
    done = subprocess.run(
        [sys.executable, "-I", "-X", "utf8", "-c", _WATCH, str(REPOSITORY / "lib"), *arguments],
        capture_output=True, text=True, check=True, cwd=REPOSITORY, env={"HOME": "/nonexistent", "PATH": ""},
    )  # fmt: skip
    code, names = ast.literal_eval(done.stdout.rpartition("\0")[2])
    return code, set(names)


def too_much(modules: set[str]) -> set[str]:
    heavy = {name for name in modules if name in HEAVY or name.partition(".")[0] in HEAVY}
    ours = {name for name in modules for room in ROOMS if f"{name}.".startswith(f"globuswrap.{room}.")}
    return heavy | ours - DECLARATIONS


def commands() -> list[tuple[str, ...]]:
    """Every command and subcommand."""
    found: list[tuple[str, ...]] = []
    for name in table.shown():
        command = app.load(name)
        below = command.list_commands(None) if hasattr(command, "list_commands") else []
        found += [tuple(name.split()), *((name, each) for each in below)]
    return found


@pytest.mark.parametrize("command", [(), *commands()], ids=" ".join)
def test_help_imports_nothing_heavy(command: tuple[str, ...]) -> None:
    code, modules = imported(*command, "--help")
    assert code == 0
    assert not too_much(modules)
    others = {name for name in modules if name.startswith("globuswrap.cli.")}
    known = {
        f"globuswrap.cli.{each}"
        for each in ("main", "app", "help", "options", "output", "progress", "streams", "table")
    }
    shared = {"globuswrap.cli.transfer", "globuswrap.cli.history"}  # their options are those of others too
    own = {f"globuswrap.cli.{table.module(command[0])}", *shared} if command else set()
    assert others <= known | own


@pytest.mark.parametrize(
    "line",
    [
        ("transfer", "--no-such-option"),
        ("transfer", "only-one"),
        ("batch", "a"),
        ("sync", "run", "--settle"),
        ("nosuch",),
        ("share", "nosuch"),
        ("status", "--every"),
    ],
    ids=" ".join,
)
def test_a_wrong_command_line_is_refused_without_anything_heavy(line: tuple[str, ...]) -> None:
    code, modules = imported(*line)
    assert code == 2
    assert not too_much(modules)


def test_the_watch_sees_what_it_looks_for() -> None:
    _, modules = imported("collection", "list")
    assert {"globuswrap.collections.names", "globuswrap.config"} <= too_much(modules)
