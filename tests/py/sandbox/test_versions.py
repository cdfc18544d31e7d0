"""The commands of the list with the `globus` of this environment and with older ones.

tests/versions.sh makes the environments; docs/sandbox/commands.md is written by its --write and compared otherwise.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

import support
from forked import Forked
from globus_sandbox.launch import Sandbox
from sandbox import scenario

TABLE = support.REPOSITORY / "docs" / "sandbox" / "commands.md"
OLDER = ("3.27.0", "3.30.1", "3.36.0")


def program(version: str) -> Path:
    """The `globus` of an older version. Without its environment the test is skipped; under CI=true it fails."""
    found = support.REPOSITORY / ".venvs" / f"globus-{version}" / "bin" / "globus"
    if not found.exists():
        support.cannot(f"no globus-cli {version} here: tests/versions.sh --make makes its environment")
    return found


def run_all(base: Path, globus: Path) -> list[scenario.Step]:
    with (
        Sandbox(base, collections=scenario.COLLECTIONS) as box,
        Forked("globus", box.env, globus.parent / "python") as forked,
    ):
        steps = scenario.Scenario(box, str(forked.path)).all()
        assert list(scenario.failures(steps)) == []
        assert box.control.unknown() == []
    return steps


@pytest.mark.versions
@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_every_command_with_every_version(tmp_path: Path, globus_path: str) -> None:
    programs = {version: program(version) for version in OLDER}
    newest = globus_version(globus_path, tmp_path)
    seen = {version: run_all(tmp_path / version, path) for version, path in programs.items()}
    seen[newest] = run_all(tmp_path / "newest", Path(globus_path))
    text = table(seen, newest)
    if os.environ.get("GLOBUSWRAP_TEST_WRITE"):
        TABLE.write_text(text)
    assert TABLE.read_text() == text, "run tests/versions.sh --write"


@pytest.mark.versions
@pytest.mark.slow
@pytest.mark.parametrize("version", OLDER)
def test_errors_have_the_same_exit_codes_and_streams(new_sandbox: Any, globus_in: Any, version: str) -> None:
    """As test_faults.py says for the newest version."""
    older = str(program(version))
    box = new_sandbox()
    globus = globus_in(box)
    globus.program = older

    def ends(*fault: dict[str, Any], json: bool, argv: tuple[str, ...] = ("task", "generate-submission-id")) -> Any:
        for one in fault:
            box.control.fault(one)
        done = globus(*argv, *(("--format", "json") if json else ()))
        box.control.clear_faults()
        return done.returncode, bool(done.stdout.strip()), bool(done.stderr.strip())

    consent = {"kind": "consent", "scopes": ["urn:x"]}
    session = {"kind": "session", "domains": ["example.org"]}
    assert [ends({"kind": "not-found"}, json=json) for json in (False, True)] == [(1, False, True)] * 2
    assert [ends(fault, json=False) for fault in (consent, session)] == [(4, True, False)] * 2
    assert [ends(fault, json=True) for fault in (consent, session)] == [(1, False, True)] * 2
    assert [ends({"kind": "logged-out"}, json=json) for json in (False, True)] == [(4, False, True)] * 2
    missing = ("stat", f"{box.collection('archive').id}:/nope")
    assert [ends(json=json, argv=missing) for json in (False, True)] == [(0, True, False)] * 2


def globus_version(globus: str, base: Path) -> str:
    import subprocess

    python = str(Path(globus).parent / "python")
    code = "import importlib.metadata; print(importlib.metadata.version('globus-cli'))"
    return subprocess.run([python, "-c", code], capture_output=True, text=True, check=True).stdout.strip()


def table(seen: dict[str, list[scenario.Step]], newest: str) -> str:
    """One row for each command; a cell has how often it ran and ended with 0, and a note where it asks for other things."""
    lines = [
        "# The commands, version by version",
        "",
        "Written by `tests/versions.sh --write`, which runs each command with each of these versions of globus-cli against the",
        "sandbox, and checked by `make test-versions`. A number says how often the command was run, with different options;",
        "every run ended with exit code 0. Requests are those of the newest version, without the check of the login that goes",
        "before each; `*` marks a version that asks for other things, and `–` one that has no such command.",
        "",
        f"| command | {' | '.join(seen)} | requests |",
        f"|---|{'---|' * len(seen)}---|",
    ]
    asked = {version: requests(steps) for version, steps in seen.items()}
    for name in dict.fromkeys(step.name for step in seen[newest]):
        cells = []
        for version, steps in seen.items():
            count = sum(step.name == name and step.code == 0 for step in steps)
            cells.append("–" if not count else f"{count}{'' if asked[version][name] == asked[newest][name] else '*'}")
        lines.append(f"| `globus {name}` | {' | '.join(cells)} | {', '.join(asked[newest][name])} |")
    return "\n".join(lines) + "\n"


def requests(steps: list[scenario.Step]) -> dict[str, list[str]]:
    found: dict[str, dict[str, None]] = {}
    for step in steps:
        found.setdefault(step.name, {}).update(
            dict.fromkeys(one for one in step.requests if "/token/validate" not in one)
        )
    return {name: sorted(ones) for name, ones in found.items()}
