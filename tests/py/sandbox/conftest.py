"""What the tests of the sandbox share: the real `globus` in a sandbox, and plain requests to it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from globus_sandbox.launch import Sandbox
from sandbox_api import Api


def globus_command() -> str:
    beside = os.path.join(os.path.dirname(sys.executable), "globus")
    return beside if os.path.exists(beside) else (shutil.which("globus") or "")


@pytest.fixture(scope="session")
def globus_path() -> str:
    found = globus_command()
    if not found:
        if os.environ.get("CI") == "true":
            pytest.fail("there is no globus command")
        pytest.skip("there is no globus command")
    return found


@pytest.fixture
def new_sandbox(new_globus_sandbox: Callable[..., Sandbox]) -> Callable[..., Sandbox]:
    """As those have it who install the package: without globuswrap's own settings."""
    return new_globus_sandbox


@pytest.fixture
def globus_sandbox_type() -> type[Sandbox]:
    return Sandbox


class Cli:
    """The real `globus` in a sandbox: loaded once, and forked for each command (forked.py)."""

    def __init__(self, box: Sandbox, program: str) -> None:
        self.box = box
        self.program = program

    def __call__(self, *argv: str, **options: Any) -> subprocess.CompletedProcess[str]:
        return self.box.run([self.program, *argv], **options)

    def json(self, *argv: str, **options: Any) -> Any:
        done = self(*argv, "--format", "json", **options)
        assert done.returncode == 0, done.stderr + done.stdout
        return json.loads(done.stdout)

    def submitted(self, *argv: str, **options: Any) -> str:
        return str(self.json(*argv, **options)["task_id"])


@pytest.fixture
def globus(sandbox: Sandbox, loaded_globus: str) -> Cli:
    return Cli(sandbox, loaded_globus)


@pytest.fixture
def globus_in(loaded_globus: str) -> Callable[[Sandbox], Cli]:
    return lambda box: Cli(box, loaded_globus)


@pytest.fixture
def api(sandbox: Sandbox) -> Api:
    return Api(sandbox)


@pytest.fixture
def api_of() -> type[Api]:
    return Api


@pytest.fixture
def archive(sandbox: Sandbox) -> Path:
    return sandbox.collection("archive").path


@pytest.fixture
def scratch(sandbox: Sandbox) -> Path:
    return sandbox.collection("scratch").path
