"""`globuswrap sandbox`: the commands of globus_sandbox, with a globuswrap that knows the sandbox's collections.

The only module of globuswrap that imports globus_sandbox.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from globus_sandbox import commands, launch
from globus_sandbox.documents import Collection
from globus_sandbox.errors import BadRequest, SandboxError
from globus_sandbox.faults import KINDS
from globuswrap.cli.options import Commands, command, option
from globuswrap.cli.output import Report
from globuswrap.errors import TryLater, UsageProblem
from globuswrap.system import files, log, process

app = Commands(help="Run a local Globus for the real globus command; see docs/sandbox.md.")

PASSING = {"ignore_unknown_options": True, "help_option_names": ["-h", "--help"]}
PROGRAM = "globuswrap sandbox"

#: The kinds of faults, for completion.
FAULTS = tuple(KINDS)


class Sandbox(launch.Sandbox):
    """A sandbox in which globuswrap finds the collections by name, and where they lie here."""

    @property
    def config_file(self) -> Path:
        """The config.toml that commands run in this sandbox read; yours to add to."""
        return self.home / ".config" / "globuswrap" / "config.toml"

    @property
    def env(self) -> dict[str, str | None]:
        return with_own_settings(super().env)

    def furnish(self) -> None:
        write_config(self.config_file, self.collections.values())


def with_own_settings(env: dict[str, str | None]) -> dict[str, str | None]:
    """The surroundings of a sandbox, without the settings of globuswrap that this shell has."""
    return {**{name: None for name in os.environ if name.startswith("GLOBUSWRAP_")}, **env}


def write_config(file: Path, collections: Iterable[Collection]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    lines = ["# written by the sandbox; yours to add to", "[collections]"]
    for one in collections:
        mounted = json.dumps(str(one.path), ensure_ascii=False)
        lines.append(f'{json.dumps(one.name)} = {{ id = "{one.id}", mounted = {{ {mounted} = "/" }} }}')
    file.write_text("\n".join(lines) + "\n")


@contextmanager
def as_problems() -> Iterator[None]:
    """Raises the problems of a sandbox as those of globuswrap."""
    try:
        yield
    except SandboxError as error:
        kind = UsageProblem if isinstance(error, BadRequest) else TryLater
        remedy = error.remedy.replace("globus-sandbox", PROGRAM)
        raise kind(error.name, error.cause, remedy, detail=error.detail) from None


def report(answer: Callable[[], commands.Answer]) -> Report:
    with as_problems():
        found = answer()
    return Report(found.document, found.lines, found.code)


@dataclass(frozen=True)
class StartOptions:
    """What a sandbox is started with."""

    collection: list[str] | None = option(
        None,
        metavar="NAME[:KIND]",
        help="Create a collection of a KIND: mapped (default), guest, gcp, gcp-guest; repeatable.",
    )
    login: str = option("user", help="Log in as user, client (credentials in the environment) or none.")
    progress: str = option("at-once", help="Set when tasks end: at-once, polls:N, timed:SECONDS, held.")
    durable: bool = option(False, "--durable", help="Keep the state on disk.")
    seed: Path | None = option(None, help="Start with the identities, groups and collections of this TOML file.")
    bind: str = option("127.0.0.1", help="Listen on this address.", metavar="ADDRESS")
    data_access: bool = option(False, "--data-access", help="Require a data_access consent for mapped collections.")
    limit: list[str] | None = option(
        None, help="Set requests-per-second, permissions or pending-tasks; repeatable.", metavar="NAME=N"
    )

    def sandbox(self, base: Path | None, *, keep: bool = False) -> Sandbox:
        names = self.collection or ["archive", "scratch", "results"]
        return Sandbox(
            base,
            collections=names,
            login=self.login,
            progress=self.progress,
            durable=self.durable,
            keep=keep,
            seed=self.seed,
            bind=self.bind,
            data_access=self.data_access,
            limits=commands.limits(self.limit or ()),
        )


@dataclass(frozen=True)
class Which:
    """Which running sandbox is meant."""

    base: Path | None = option(None, help="Use the sandbox in this directory (default: this shell's, or that of `up`).")

    def directory(self) -> Path:
        if self.base is not None:
            return self.base.absolute()
        inside = os.environ.get("GLOBUS_SANDBOX_BASE")
        return Path(inside) if inside else files.state_dir() / "sandbox"


@command(app, "run", context_settings=PASSING)
def run(
    argv: Annotated[list[str], typer.Argument(help="Run this command.", metavar="-- COMMAND...")],
    starting: StartOptions,
    base: Path | None = typer.Option(
        None, help="Keep the sandbox in this directory (default: a temporary one, removed afterwards)."
    ),
) -> None:
    """Run one command in a fresh sandbox.

    It has its own HOME, is logged in, and uses the real `globus`; nothing leaves this machine.
    """
    with as_problems():
        box = starting.sandbox(base)
        box.start()
    process.become(argv, env=box.env)


@command(app, "shell")
def shell(starting: StartOptions, which: Which) -> None:
    """Open a shell in the running sandbox, or in a fresh one."""
    base = which.directory()
    with as_problems():
        if commands.is_up(base):
            env, words = with_own_settings(launch.surroundings(base)), "the running sandbox"
        else:
            box = starting.sandbox(which.base)
            box.start()
            base, env, words = box.base, box.env, "a sandbox of its own"
        argv, env = launch.shell(base, env)
    log.say(f"This shell uses {words} and nothing else. Leave it with exit.")
    process.become(argv, env=env)


@command(app, "up")
def up(starting: StartOptions, which: Which) -> Report:
    """Start a sandbox that keeps running, and print how to use it from any shell."""
    base = which.directory()
    files.private_directory(base)
    return report(lambda: commands.up(base, lambda: starting.sandbox(base, keep=True), log.say, PROGRAM))


@command(app, "env")
def env_(
    which: Which,
    unset: bool = typer.Option(False, "--unset", help="Undo it in a shell that used a sandbox, even after `down`."),
) -> Report:
    """Print the settings that make a shell use the running sandbox.

    Use it as eval "$(globuswrap sandbox env)".
    """
    return report(lambda: commands.env(which.directory(), unset=unset))


@command(app, "down")
def down(
    which: Which,
    keep: bool = typer.Option(False, "--keep", help="Keep its directory and the files in it."),
) -> Report:
    """Stop the running sandbox and remove its directory."""
    return report(lambda: commands.down(which.directory(), log.say, PROGRAM, keep=keep))


@command(app, "status")
def status(which: Which) -> Report:
    """Show whether the sandbox is running, and what it contains."""
    return report(lambda: commands.status(which.directory()))


@command(app, "fault")
def fault(
    which: Which,
    kind: str | None = typer.Argument(None, help="Inject this kind of fault; without it, list the active faults."),
    fields: list[str] | None = typer.Argument(
        None, help="Set the fields of the fault: status=503 path=/transfer count=2 ...", metavar="NAME=VALUE..."
    ),
    clear: bool = typer.Option(False, "--clear", help="Clear all faults, or those of this kind or id."),
) -> Report:
    """Inject a fault; docs/sandbox.md lists the kinds and their fields."""
    return report(lambda: commands.fault(which.directory(), kind, fields or (), clear=clear, program=PROGRAM))


@command(app, "progress")
def progress(
    which: Which,
    mode: Annotated[str, typer.Argument(help="Set the mode: at-once, polls:N, timed:SECONDS or held.")],
    task: str | None = typer.Option(None, help="Change only this task."),
) -> Report:
    """Set when tasks end."""
    return report(lambda: commands.progress(which.directory(), mode, task))


@command(app, "clock")
def clock(
    which: Which,
    forward: Annotated[
        str, typer.Argument(help="Move the clock by this much: 25h, 31d, 90 (seconds).", metavar="DURATION")
    ],
) -> Report:
    """Move the sandbox's clock forward: deadlines pass, history ages."""
    return report(lambda: commands.clock(which.directory(), commands.duration(forward)))


@command(app, "log")
def show_log(
    which: Which,
    service: str | None = typer.Option(
        None, help="Show requests to auth, transfer, timer, flows, search, groups or gcs."
    ),
    method: str | None = typer.Option(None, help="Show requests with this method: GET, POST, PUT or DELETE."),
    path: str | None = typer.Option(None, help="Show requests for paths that match, e.g. '/task/*'."),
    unknown: bool = typer.Option(
        False, "--unknown", help="Show requests that the sandbox does not serve; exit 1 if there are any."
    ),
) -> Report:
    """Show the requests that the sandbox received."""
    return report(lambda: commands.log(which.directory(), service, method, path, unknown=unknown))


@command(app, "reset")
def reset(which: Which) -> Report:
    """Forget tasks, faults, log and clock; files stay."""
    return report(lambda: commands.reset(which.directory()))
