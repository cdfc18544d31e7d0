"""Settings that every test shares. Per-test timeout, markers and warnings-as-errors are in pyproject.toml."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import hypothesis
import pytest

import command_line
import support
from command_line import GLOBUS
from globuswrap import config
from globuswrap.cli.sandbox import Sandbox
from globuswrap.collections import names
from globuswrap.globus import command

# Under nohup, or in the background of a script, these would be ignored, and by every program that a test starts.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)
#: How long an example takes, or its making, is nothing that a test is about.
hypothesis.settings.register_profile("untimed", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow])
hypothesis.settings.load_profile("untimed")
ENDING = (signal.SIGHUP, signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)


#: Of the tests of one file that start a sandbox, so many belong to `make test`: the first ones, where the main path is.
#: Each takes seconds of a processor, for the server and for every `globus` that is started.
QUICK_OF_EACH_FILE = 2


#: Of PBS, the variant that `make test-rest` runs of a scenario, by its mode; the others in `make test-pbs`.
PBS_VARIANTS = {"jobs": "head-off", "login": "23-off", "inline": "23-on", None: "head-on"}


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Which tests are slow, and which variant of PBS is left to `make test-pbs`. With GLOBUSWRAP_TEST_SHUFFLE=SEED the order is
    another one, the same in each process."""
    started: dict[Path, int] = {}
    chosen = []
    for item in items:
        params = item.callspec.params if hasattr(item, "callspec") else {}
        variant = params.get("cluster", "slurm")
        shown = item.get_closest_marker("main") or item.get_closest_marker("chaos")
        if (params.get("cluster"), params.get("mode")) == ("slurm", "login") and not shown:
            continue  # the main path shows `tend` on Slurm, and PBS the rest
        if variant in PBS_VARIANTS.values() and variant != PBS_VARIANTS[params.get("mode")]:
            item.add_marker(pytest.mark.pbs)
        if "new_sandbox" in getattr(item, "fixturenames", ()) and item.get_closest_marker("slow") is None:
            started[item.path] = started.get(item.path, 0) + 1
            if started[item.path] > QUICK_OF_EACH_FILE:
                item.add_marker(pytest.mark.slow)
        chosen.append(item)
    items[:] = chosen
    if seed := os.environ.get("GLOBUSWRAP_TEST_SHUFFLE"):
        random.Random(seed).shuffle(items)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Of the commands under faults: how many pairs there were."""
    ended = [*terminalreporter.getreports("passed"), *terminalreporter.getreports("failed")]
    struck = [number for report in ended for name, number in report.user_properties if name == "struck"]
    if struck:
        terminalreporter.write_line(
            f"commands under faults: {sum(number > 0 for number in struck)} pairs of a command and a kind, struck at"
            f" {sum(struck)} places; {struck.count(0)} more where the kind has nothing to strike"
        )


@pytest.fixture(autouse=True)
def a_quiet_environment(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """No test reads or writes the home directory, the state or the login of its user, or sees their batch job. What an
    earlier test in this process read of its configuration is forgotten, and the signals that a command line took are given
    back: what is forked from a process with its handlers cannot be terminated."""
    handlers = {number: signal.getsignal(number) for number in ENDING}
    for cached in (config.load, names.known, command.find):
        cached.cache_clear()
    for name in support.inherited_settings():
        monkeypatch.delenv(name)
    home = tmp_path_factory.mktemp("home")
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1,localhost")
    yield
    for number, handler in handlers.items():
        signal.signal(number, handler)


@pytest.fixture
def globus_sandbox_type() -> type[Sandbox]:
    """Sandboxes in which globuswrap knows the collections."""
    return Sandbox


@pytest.fixture
def sandbox(new_sandbox: Callable[..., Sandbox]) -> Sandbox:
    """A sandbox with the collections archive, scratch and results, and a user logged in."""
    return new_sandbox()


@pytest.fixture
def new_sandbox(
    new_globus_sandbox: Callable[..., Sandbox], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[..., Sandbox]]:
    """As in the plugin; what `globus version` says of this very file is asked once, not in each sandbox (0.3 s each)."""
    known = tmp_path_factory.getbasetemp() / "globus-cli.json"
    started: list[Path] = []

    def start(**options: object) -> Sandbox:
        box = new_globus_sandbox(**options)
        cache = Path(box.env["XDG_CACHE_HOME"] or "") / "globuswrap" / known.name
        started.append(cache)
        if known.exists():
            cache.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            shutil.copy(known, cache)
        return box

    yield start
    for cache in started:
        if cache.is_file() and not known.exists() and (entry := json.loads(cache.read_text()).get(GLOBUS)):
            known.write_text(json.dumps({GLOBUS: {name: entry[name] for name in ("version", "stamp")}}))


@pytest.fixture(scope="session")
def loaded_globus() -> Iterator[str]:
    """GLOBUSWRAP_GLOBUS for tests of what surrounds the real one: it is loaded once, and forked for each command (forked.py).

    With GLOBUSWRAP_TEST_GLOBUS=started each command starts it, as users do; it takes twice the time.
    """
    if os.environ.get("GLOBUSWRAP_TEST_GLOBUS") == "started":
        yield GLOBUS
        return
    from forked import Forked
    from globus_sandbox.launch import ENVIRONMENT

    server = Forked("globus", {**dict.fromkeys(support.inherited_settings()), "GLOBUS_SDK_ENVIRONMENT": ENVIRONMENT})
    yield str(server.path)
    server.stop()


@pytest.fixture(scope="session")
def loaded_globuswrap() -> Iterator[str | None]:
    """globuswrap in the same way, for command lines that are run to their end (command_line.run)."""
    if os.environ.get("GLOBUSWRAP_TEST_GLOBUS") == "started":
        yield None
        return
    from forked import Forked

    server = Forked("globuswrap", dict.fromkeys(support.inherited_settings()))
    yield str(server.path)
    server.stop()


@pytest.fixture
def globus_loaded(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """The loaded one comes first on PATH, and globuswrap is a loaded one too. Not for tests of kills, by their names: what is
    forked would go on."""
    if "kill" not in request.node.name:
        directory = Path(request.getfixturevalue("loaded_globus")).parent
        monkeypatch.setenv("PATH", f"{directory}:{os.environ['PATH']}")
        monkeypatch.setattr(command_line, "loaded", request.getfixturevalue("loaded_globuswrap"))


@pytest.fixture(scope="session")
def require_tool() -> Callable[..., Path]:
    """`require_tool("bats")`: its path; else the test is skipped, or fails where CI=true."""
    return support.require_tool


@pytest.fixture(scope="session")
def repository() -> Path:
    """The checkout."""
    return support.REPOSITORY
