"""What the commands of a sandbox do: each takes the directory of a sandbox and returns an `Answer`."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shlex
import shutil
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from globus_sandbox.control import Control
from globus_sandbox.errors import BadRequest, Unreachable
from globus_sandbox.launch import WAS, Sandbox, for_shell, unset_shell


@dataclass(frozen=True)
class Answer:
    """A document for programs, lines for people, and the exit code."""

    document: dict[str, Any]
    lines: list[str] = field(default_factory=list)
    code: int = 0


def limits(texts: Iterable[str]) -> dict[str, int]:
    """`NAME=N` as numbers. Raises BadRequest."""
    found = {}
    for text in texts:
        name, _, number = text.partition("=")
        if not number.isdigit():
            raise BadRequest("sandbox-limit", f"limit {text!r}", "NAME=N, e.g. requests-per-second=10")
        found[name] = int(number)
    return found


def default_base() -> Path:
    """The directory of the sandbox of this shell; else the one that `up` makes."""
    inside = os.environ.get("GLOBUS_SANDBOX_BASE")
    if inside:
        return Path(inside)
    state = os.environ.get("XDG_STATE_HOME")
    return (Path(state) if state else Path.home() / ".local" / "state") / "globus-sandbox"


def address(base: Path) -> dict[str, Any]:
    """`url` and `pid` of the sandbox in this directory. Raises Unreachable."""
    try:
        found: dict[str, Any] = json.loads((base / "address").read_text())
    except (OSError, ValueError):
        raise Unreachable("no-sandbox", f"no sandbox at {base}", "globus-sandbox up") from None
    return found


def control(base: Path) -> Control:
    return Control(address(base)["url"])


def is_up(base: Path) -> bool:
    try:
        control(base).health()
    except Unreachable:
        return False
    return True


def up(base: Path, make: Callable[[], Sandbox], say: Callable[[str], None], program: str) -> Answer:
    """Start a sandbox that stays, unless it is up already. `program` is how the user calls these commands."""
    if is_up(base):
        say("The sandbox is already running.")
    else:
        base.mkdir(mode=0o700, parents=True, exist_ok=True)
        make().start()
    env = for_shell(base)
    file = base / "env.sh"
    part = base / f"env.sh.{os.getpid()}"
    part.write_text(script(env))
    os.replace(part, file)
    url, rows = address(base)["url"], control(base).collections()
    lines = [
        f"A local Globus is up at {url}. In any shell:",
        "",
        f'  . {shlex.quote(str(file))}    # or: eval "$({program} env)"',
        *(f"  {row['name']}={row['id']}    # {row['path']}" for row in rows),
        f"  globus ls ${rows[0]['name']}:/" if rows else "",
        "",
        f"`{program} shell` opens a shell with these settings; `{program} down` stops the sandbox.",
    ]
    return Answer({"url": url, "base": str(base), "env": env, "collections": rows}, lines)


def env(base: Path, *, unset: bool = False) -> Answer:
    """What points a shell at the sandbox; with `unset`, what takes that back, also after `down`."""
    if unset:
        found = unset_shell()
        return Answer({"env": found}, _assignments(found))
    control(base).health()
    found = for_shell(base)
    return Answer({"env": found}, script(found).splitlines())


def script(env: dict[str, str | None]) -> str:
    lines = [
        "# Read by a shell: . env.sh. What it replaces is kept, for `env --unset`.",
        'if [ -z "${GLOBUS_SANDBOX_URL-}" ]; then',
    ]
    kept = [name for name in env if not name.startswith("GLOBUS_SANDBOX_")]
    lines += [f'  [ -z "${{{name}+x}}" ] || export {WAS}{name}="${name}"' for name in kept]
    return "\n".join([*lines, "fi", *_assignments(env)]) + "\n"


def _assignments(env: dict[str, str | None]) -> list[str]:
    return [f"unset {name}" if value is None else f"export {name}={shlex.quote(value)}" for name, value in env.items()]


def down(base: Path, say: Callable[[str], None], program: str, *, keep: bool) -> Answer:
    """End the sandbox, and remove its directory unless `keep`. Not from a shell that lives in it."""
    if os.environ.get("GLOBUS_SANDBOX_SHELL") == str(base):
        raise BadRequest("sandbox-shell", "this shell runs in the sandbox and would lose its home directory", "exit")
    pid = address(base)["pid"]
    try:
        control(base).health()  # so that the process is ours
        os.kill(pid, signal.SIGTERM)
        _await_end(pid)
    except (Unreachable, ProcessLookupError):
        say("The sandbox was not running.")
    (base / "address").unlink(missing_ok=True)
    if not keep and (base / "server.log").exists():
        shutil.rmtree(base)
    lines = ["The sandbox is down."]
    if os.environ.get("GLOBUS_SANDBOX_BASE") == str(base):
        lines.append(f'This shell still points at it: eval "$({program} env --unset)"')
    return Answer({"base": str(base), "removed": not keep}, lines)


def _await_end(pid: int) -> None:
    end = time.monotonic() + 10
    while time.monotonic() < end:
        with contextlib.suppress(ChildProcessError):
            os.waitpid(pid, os.WNOHANG)
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return
        time.sleep(0.02)


def status(base: Path) -> Answer:
    asked = control(base)
    health = asked.health()
    collections, tasks, faults, unknown = asked.collections(), asked.tasks(0), asked.faults(), asked.unknown()
    lines = [f"up at {health['url']}, base {base}"]
    lines += columns(
        [("NAME", "ID", "TYPE", "DIRECTORY"), *((c["name"], c["id"], c["entity_type"], c["path"]) for c in collections)]
    )
    counts = Counter(task["status"] for task in tasks)
    lines.append("tasks: " + (", ".join(f"{number} {name}" for name, number in sorted(counts.items())) or "none"))
    lines += [f"fault: {fault_line(fault)}" for fault in faults]
    lines += [f"not served: {entry['what']}" for entry in unknown]
    document = {"health": health, "collections": collections, "tasks": counts, "faults": faults, "unknown": unknown}
    return Answer(document, lines)


def columns(rows: Iterable[tuple[str, ...]]) -> list[str]:
    every = list(rows)
    widths = [max(len(row[at]) for row in every) for at in range(len(every[0]))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in every]


def fault(base: Path, kind: str | None, fields: Iterable[str], *, clear: bool, program: str) -> Answer:
    """Put a fault in force, lift some, or list them."""
    asked = control(base)
    if clear:
        gone = asked.clear_faults(kind)
        return Answer({"cleared": gone}, [f"{gone} cleared"])
    if kind is None:
        faults = asked.faults()
        return Answer({"faults": faults}, [fault_line(one) for one in faults] or ["no active faults"])
    document: dict[str, Any] = {"kind": kind}
    for text in fields:
        name, equals, value = text.partition("=")
        if not equals:
            raise BadRequest("bad-fault", f"{text!r} is not NAME=VALUE", f"{program} fault status status=503")
        document[name] = _value(name, value)
    key = asked.fault(document)
    return Answer({"id": key, **document}, [key])


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


def fault_line(fault: dict[str, Any]) -> str:
    rest = " ".join(
        f"{name}={value}" for name, value in fault.items() if name not in ("kind", "id") and value is not None
    )
    return f"{fault['id']}  {fault['kind']}  {rest}"


def progress(base: Path, mode: str, task: str | None) -> Answer:
    control(base).progress(mode, task)
    return Answer({"progress": mode, "task": task})


def clock(base: Path, forward: float) -> Answer:
    now = control(base).advance_clock(forward)
    return Answer({"now": now}, [time.strftime("%Y-%m-%d %H:%M:%S+00:00", time.gmtime(now))])


def duration(text: str) -> float:
    """Seconds: `90`, `30s`, `5m`, `2h`, `1d`. Raises BadRequest."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([smhd]?)", text)
    if match is None:
        raise BadRequest("bad-duration", f"{text!r} is not a duration", "write 30s, 5m, 2h or 1d")
    return float(match[1]) * {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}[match[2]]


def log(base: Path, service: str | None, method: str | None, path: str | None, *, unknown: bool) -> Answer:
    """The requests that were made; or what was asked for and is not served, with exit code 1 unless there is nothing."""
    asked = control(base)
    if unknown:
        found = asked.unknown()
        return Answer({"unknown": found}, [entry["what"] for entry in found], 1 if found else 0)
    rows = asked.requests(service, method, path)
    lines = []
    for row in rows:
        query = "?" + "&".join(f"{name}={value}" for name, value in row["query"].items()) if row["query"] else ""
        ended = row["status"] if not row.get("dropped") and row["status"] is not None else "dropped"
        lines.append(f"{ended} {row['method']:6} /{row['service']}{row['path']}{query}")
    return Answer({"requests": rows}, lines)


def reset(base: Path) -> Answer:
    control(base).reset()
    return Answer({"reset": True})
