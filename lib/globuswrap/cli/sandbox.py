"""`globuswrap sandbox`: a local Globus to try things on."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import signal
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from globuswrap.cli.options import application, command
from globuswrap.cli.output import Report, table
from globuswrap.errors import TryLater, UsageProblem
from globuswrap.system import files, log, process

if TYPE_CHECKING:
    from globuswrap.sandbox.control import Control
    from globuswrap.sandbox.launch import Sandbox

app = application(
    no_args_is_help=True, help="A local Globus that the real globus command talks to; docs/rehearsing.md."
)

PASSING = {"ignore_unknown_options": True, "help_option_names": ["-h", "--help"]}


@dataclass(frozen=True)
class StartOptions:
    """What a sandbox is started with."""

    collection: Annotated[
        list[str] | None,
        typer.Option("--collection", help="NAME or NAME:KIND (mapped, guest, gcp, gcp-guest); may be repeated."),
    ] = None
    login: Annotated[str, typer.Option("--login", help="user, client (credentials in the environment) or none.")] = (
        "user"
    )
    progress: Annotated[
        str, typer.Option("--progress", help="When tasks end: at-once, polls:N, timed:SECONDS, held.")
    ] = "at-once"
    durable: Annotated[bool, typer.Option("--durable", help="Keep the state on disk.")] = False

    def sandbox(self, base: Path | None, *, keep: bool = False) -> Sandbox:
        from globuswrap.sandbox.launch import Sandbox

        names = self.collection or ["archive", "scratch", "results"]
        return Sandbox(
            base, collections=names, login=self.login, progress=self.progress, durable=self.durable, keep=keep
        )


@dataclass(frozen=True)
class Which:
    """Which running sandbox is meant."""

    base: Annotated[
        Path | None,
        typer.Option("--base", help="Directory of the sandbox (default: the one of this shell, or of `up`)."),
    ] = None

    def directory(self) -> Path:
        if self.base is not None:
            return self.base.absolute()
        inside = os.environ.get("GLOBUSWRAP_SANDBOX_BASE")
        return Path(inside) if inside else files.state_dir() / "sandbox"

    def address(self) -> dict[str, Any]:
        try:
            found: dict[str, Any] = json.loads((self.directory() / "address").read_text())
        except (OSError, ValueError):
            raise TryLater("no-sandbox", f"no sandbox at {self.directory()}", "globuswrap sandbox up") from None
        return found

    def control(self) -> Control:
        from globuswrap.sandbox.control import Control

        return Control(self.address()["url"])


@command(app, "run", context_settings=PASSING)
def run(
    argv: Annotated[list[str], typer.Argument(help="The command to run, after `--`.", metavar="-- COMMAND...")],
    starting: StartOptions,
    base: Annotated[
        Path | None,
        typer.Option("--base", help="Directory to keep it in (default: a temporary one, removed afterwards)."),
    ] = None,
) -> None:
    """Run one command with a fresh sandbox around it: own HOME, logged in, real `globus`, nothing leaves this machine."""
    box = starting.sandbox(base)
    box.start()
    process.become(argv, env=box.env)


@command(app, "shell")
def shell(starting: StartOptions, which: Which) -> None:
    """Open a shell in the running sandbox, or with a fresh one around it."""
    from globuswrap.sandbox.launch import surroundings

    try:
        which.control().health()
        env = surroundings(which.directory())
        words = "the running sandbox"
    except TryLater:
        box = starting.sandbox(which.base)
        box.start()
        env, words = box.env, "a sandbox of its own"
    log.say(f"A shell in {words}: `globus ls`, `globus transfer` and globuswrap talk to it alone. Leave it with exit.")
    env["GLOBUS_CLI_INTERACTIVE"] = None
    process.become([os.environ.get("SHELL") or "/bin/sh"], env=env)


@command(app, "up")
def up(starting: StartOptions, which: Which) -> Report:
    """Start a sandbox that stays, and say how to use it from any shell."""
    from globuswrap.sandbox.launch import surroundings

    base = which.directory()
    try:
        which.control().health()
        log.say("It is up already.")
    except TryLater:
        files.private_directory(base)
        (base / "address").unlink(missing_ok=True)
        starting.sandbox(base, keep=True).start()
    env = surroundings(base)
    file = base / "env.sh"
    files.write_atomic(file, _script(env))
    rows = which.control().collections()
    lines = [
        f"A local Globus is up at {which.address()['url']}. In any shell:",
        "",
        f'  . {shlex.quote(str(file))}    # or: eval "$(globuswrap sandbox env)"',
        *(f"  {row['name']}={row['id']}    # {row['path']}" for row in rows),
        f"  globus ls ${rows[0]['name']}:/" if rows else "",
        "",
        "`globuswrap sandbox shell` opens a shell that is set so; `globuswrap sandbox down` ends it.",
    ]
    return Report({"url": which.address()["url"], "base": str(base), "env": env, "collections": rows}, lines)


@command(app, "env")
def env_(which: Which) -> Report:
    """Print what points a shell at the running sandbox: eval "$(globuswrap sandbox env)"."""
    from globuswrap.sandbox.launch import surroundings

    which.control().health()
    env = surroundings(which.directory())
    return Report({"env": env}, _script(env).splitlines())


@command(app, "down")
def down(
    which: Which,
    keep: Annotated[bool, typer.Option("--keep", help="Leave its directory, and the files in it.")] = False,
) -> Report:
    """End the running sandbox and remove its directory."""
    base = which.directory()
    address = which.address()
    try:
        which.control().health()  # so that the process is ours
        os.kill(address["pid"], signal.SIGTERM)
        _gone(address["pid"])
    except (TryLater, ProcessLookupError):
        log.say("It was not running any more.")
    (base / "address").unlink(missing_ok=True)
    if not keep and (base / "server.log").exists():
        shutil.rmtree(base)
    return Report({"base": str(base), "removed": not keep}, ["The sandbox is down."])


def _gone(pid: int) -> None:
    end = time.monotonic() + 10
    while time.monotonic() < end:
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return
        try:
            if os.waitpid(pid, os.WNOHANG)[0]:
                return
        except ChildProcessError:
            pass
        time.sleep(0.02)


@command(app, "status")
def status(which: Which) -> Report:
    """Say whether it runs, and what it holds."""
    control = which.control()
    health = control.health()
    collections, tasks, faults, unknown = control.collections(), control.tasks(0), control.faults(), control.unknown()
    lines = [f"up at {health['url']}, base {which.directory()}"]
    lines += table(
        [(c["name"], c["id"], c["entity_type"], c["path"]) for c in collections], ("NAME", "ID", "TYPE", "DIRECTORY")
    )
    counts: dict[str, int] = {}
    for task in tasks:
        counts[task["status"]] = counts.get(task["status"], 0) + 1
    lines.append("tasks: " + (", ".join(f"{number} {name}" for name, number in sorted(counts.items())) or "none"))
    lines += [f"fault: {_fault_line(fault)}" for fault in faults]
    lines += [f"not served: {entry['what']}" for entry in unknown]
    data = {"health": health, "collections": collections, "tasks": counts, "faults": faults, "unknown": unknown}
    return Report(data, lines)


@command(app, "fault")
def fault(
    which: Which,
    kind: Annotated[
        str | None, typer.Argument(help="What is to go wrong; without it, list the faults in force.")
    ] = None,
    fields: Annotated[
        list[str] | None,
        typer.Argument(help="What the kind takes: status=503 path=/transfer count=2 ...", metavar="NAME=VALUE..."),
    ] = None,
    clear: Annotated[bool, typer.Option("--clear", help="Lift all faults, or those of this kind or id.")] = False,
) -> Report:
    """Make something go wrong: see docs/sandbox.md for the kinds and what each takes."""
    control = which.control()
    if clear:
        gone = control.clear_faults(kind)
        return Report({"cleared": gone}, [f"{gone} lifted"])
    if kind is None:
        faults = control.faults()
        return Report({"faults": faults}, [_fault_line(fault) for fault in faults] or ["no faults in force"])
    document: dict[str, Any] = {"kind": kind}
    for text in fields or []:
        name, equals, value = text.partition("=")
        if not equals:
            raise UsageProblem("bad-fault", f"{text!r} is not NAME=VALUE", "globuswrap sandbox fault status status=503")
        document[name] = _value(name, value)
    key = control.fault(document)
    return Report({"id": key, **document}, [key])


_LISTS = ("scopes", "domains", "policies", "identities")


def _value(name: str, text: str) -> Any:
    """A field of a fault: JSON where it is that, lists by comma, else the text; `count=always` never ends."""
    if name == "count" and text == "always":
        return None
    if name in _LISTS and not text.startswith("["):
        return text.split(",")
    try:
        return json.loads(text)
    except ValueError:
        return text


def _fault_line(fault: dict[str, Any]) -> str:
    rest = " ".join(
        f"{name}={value}" for name, value in fault.items() if name not in ("kind", "id") and value is not None
    )
    return f"{fault['id']}  {fault['kind']}  {rest}"


@command(app, "progress")
def progress(
    which: Which,
    mode: Annotated[str, typer.Argument(help="at-once, polls:N, timed:SECONDS or held.")],
    task: Annotated[str | None, typer.Option("--task", help="For this task alone.")] = None,
) -> Report:
    """Say when tasks end."""
    which.control().progress(mode, task)
    return Report({"progress": mode, "task": task}, [])


@command(app, "clock")
def clock(
    which: Which, forward: Annotated[str, typer.Argument(help="How far: 25h, 31d, 90.", metavar="DURATION")]
) -> Report:
    """Move the sandbox's time forward: deadlines pass, history ages."""
    from globuswrap.system import units

    now = which.control().advance_clock(units.duration(forward))
    return Report({"now": now}, [time.strftime("%Y-%m-%d %H:%M:%S+00:00", time.gmtime(now))])


@command(app, "log")
def show_log(
    which: Which,
    service: Annotated[
        str | None, typer.Option("--service", help="auth, transfer, timer, flows, search or groups.")
    ] = None,
    method: Annotated[str | None, typer.Option("--method", help="GET, POST, PUT, DELETE.")] = None,
    path: Annotated[str | None, typer.Option("--path", help="With wildcards, e.g. '/task/*'.")] = None,
    unknown: Annotated[
        bool, typer.Option("--unknown", help="What was asked for and is not served; exit 1 unless there is nothing.")
    ] = False,
) -> Report:
    """Show the requests that were made."""
    control = which.control()
    if unknown:
        found = control.unknown()
        return Report({"unknown": found}, [entry["what"] for entry in found], 1 if found else 0)
    rows = control.requests(service, method, path)
    lines = []
    for row in rows:
        query = "?" + "&".join(f"{name}={value}" for name, value in row["query"].items()) if row["query"] else ""
        ended = row["status"] if not row.get("dropped") and row["status"] is not None else "dropped"
        lines.append(f"{ended} {row['method']:6} /{row['service']}{row['path']}{query}")
    return Report({"requests": rows}, lines)


@command(app, "reset")
def reset(which: Which) -> Report:
    """Forget tasks, faults, log and clock; files stay."""
    which.control().reset()
    return Report({"reset": True}, [])


def _script(env: dict[str, str | None]) -> str:
    lines = ["# Read by a shell: . env.sh. It sets HOME too, so that no login of yours is used."]
    for name, value in env.items():
        lines.append(f"unset {name}" if value is None else f"export {name}={shlex.quote(value)}")
    return "\n".join(lines) + "\n"
