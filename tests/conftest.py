"""Settings that every test shares. Per-test timeout, markers and warnings-as-errors are in pyproject.toml."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path

import pytest

import support

if importlib.util.find_spec("globuswrap.sandbox") and importlib.util.find_spec("globuswrap.sandbox.pytest_plugin"):
    pytest_plugins = ["globuswrap.sandbox.pytest_plugin"]


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """There is one Slurm on a machine: with several test processes, its tests share one of them."""
    for item in items:
        if item.get_closest_marker("slurm"):
            item.add_marker(pytest.mark.xdist_group("slurm"))


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
