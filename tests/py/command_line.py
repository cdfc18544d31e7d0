"""Run globuswrap as its users do, through its launcher, in a sandbox."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import support
from globuswrap.sandbox.launch import Sandbox

#: The real one, beside the Python that runs the tests.
GLOBUS = str(Path(sys.executable).parent / "globus")


def run(sandbox: Sandbox, *arguments: str, **rest: Any) -> subprocess.CompletedProcess[str]:
    """One command line; its streams as text."""
    return sandbox.run([str(support.LAUNCHER), *arguments], **rest)


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
