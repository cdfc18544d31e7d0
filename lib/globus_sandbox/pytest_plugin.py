"""pytest fixtures: a sandbox for each test; loaded by itself where the package is installed.

A test fails when something was asked for that the sandbox does not serve, unless it is marked `sandbox_unknown`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from globus_sandbox.launch import Sandbox


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "sandbox_unknown: what the sandbox does not serve is asked for on purpose")


@pytest.fixture
def globus_sandbox_type() -> type[Sandbox]:
    """The class of the sandboxes; override it to use a subclass."""
    return Sandbox


@pytest.fixture
def new_globus_sandbox(
    globus_sandbox_type: type[Sandbox], tmp_path: Path, request: pytest.FixtureRequest
) -> Iterator[Callable[..., Any]]:
    """A function that starts a sandbox with the options of launch.Sandbox; all are ended after the test."""
    started: list[Sandbox] = []

    def start(**options: Any) -> Sandbox:
        base = options.pop("base", tmp_path / f"sandbox-{len(started) or 'first'}")
        box = globus_sandbox_type(base, **options)
        box.start()
        started.append(box)
        return box

    yield start
    unknown = []
    for box in started:
        if box.running and request.node.get_closest_marker("sandbox_unknown") is None:
            unknown += box.control.unknown()
        box.stop()
    assert not unknown, f"asked for, and not served by the sandbox: {unknown}"


@pytest.fixture
def globus_sandbox(new_globus_sandbox: Callable[..., Sandbox]) -> Sandbox:
    """A sandbox with the collections archive, scratch and results, and a user logged in."""
    return new_globus_sandbox()
