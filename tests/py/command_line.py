"""Run globuswrap as its users do, through its launcher, in a sandbox."""

from __future__ import annotations

import json
import os
import pty
import select
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import support
from globuswrap.cli.sandbox import Sandbox

#: The real one, beside the Python that runs the tests.
GLOBUS = str(Path(sys.executable).parent / "globus")


#: What `run` starts in place of the launcher: one that is loaded, and forked (the fixture globus_loaded).
loaded: str | None = None


def run(sandbox: Sandbox, *arguments: str, **rest: Any) -> subprocess.CompletedProcess[str]:
    """One command line; its streams as text."""
    return sandbox.run([loaded or str(support.LAUNCHER), *arguments], **{"timeout": 240.0, **rest})


def run_json(sandbox: Sandbox, *arguments: str, expect: int = 0, **rest: Any) -> dict[str, Any]:
    """The envelope of one command line with --json, whose exit code must be `expect`."""
    done = run(sandbox, *arguments, "--json", **rest)
    assert done.returncode == expect, (done.returncode, done.stdout, done.stderr)
    envelope: dict[str, Any] = json.loads(done.stdout)
    assert envelope["exit_code"] == expect
    return envelope


def accepted(sandbox: Sandbox) -> list[dict[str, Any]]:
    """The tasks that the sandbox accepted."""
    return sandbox.control.tasks()


def globus_starts(stderr: str) -> list[str]:
    """The globus commands that -v showed."""
    return [line[2:] for line in stderr.splitlines() if line.startswith("+ ")]


def on_terminal(
    box: Sandbox, *arguments: str, env: Mapping[str, str | None] | None = None, until: str = ""
) -> tuple[int, str]:
    """Run a command on a terminal of 60 columns; its exit code and everything it wrote. With `until`, it is interrupted (as
    by ^C) when that has come."""
    laid = {name: value for name, value in {**os.environ, **box.env, **(env or {})}.items() if value is not None}
    pid, master = pty.fork()
    if pid == 0:
        os.execvpe(
            str(support.LAUNCHER), [str(support.LAUNCHER), *arguments], {"TERM": "xterm", **laid, "COLUMNS": "60"}
        )
    text, end = "", time.monotonic() + 240
    try:
        while time.monotonic() < end:
            if not select.select([master], [], [], 1.0)[0]:
                continue
            try:
                text += os.read(master, 65536).decode("utf-8", "replace")
            except OSError:  # it has closed the terminal
                break
            if until and until in text:
                os.write(master, b"\x03")
                until = ""
    finally:
        os.close(master)
        if time.monotonic() >= end:
            os.kill(pid, signal.SIGKILL)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), text
