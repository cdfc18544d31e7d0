"""Settings that every test shares. Per-test timeout, markers and warnings-as-errors are in pyproject.toml."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path

import pytest

import support

if importlib.util.find_spec("globuswrap.sandbox") and importlib.util.find_spec("globuswrap.sandbox.pytest_plugin"):
    pytest_plugins = ["globuswrap.sandbox.pytest_plugin"]


#: Of the tests of one file that start a sandbox, so many belong to `make test-fast`: the first ones, where the main path is.
#: Each takes seconds of a processor, for the server and for every `globus` that is started.
QUICK_OF_EACH_FILE = 2


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """There is one Slurm on a machine: with several test processes, its tests share one of them. And what is slow."""
    started: dict[Path, int] = {}
    for item in items:
        if item.get_closest_marker("slurm"):
            item.add_marker(pytest.mark.xdist_group("slurm"))
        if "new_sandbox" in getattr(item, "fixturenames", ()) and item.get_closest_marker("slow") is None:
            started[item.path] = started.get(item.path, 0) + 1
            if started[item.path] > QUICK_OF_EACH_FILE:
                item.add_marker(pytest.mark.slow)


@pytest.fixture(autouse=True)
def a_quiet_environment(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    """No test reads or writes the home directory, the state or the login of its user, or sees their batch job."""
    for name in support.inherited_settings():
        monkeypatch.delenv(name)
    home = tmp_path_factory.mktemp("home")
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1,localhost")


@pytest.fixture(scope="session")
def require_tool() -> Callable[..., Path]:
    """`require_tool("bats")`: its path; else the test is skipped, or fails where CI=true."""
    return support.require_tool


@pytest.fixture(scope="session")
def repository() -> Path:
    """The checkout."""
    return support.REPOSITORY
