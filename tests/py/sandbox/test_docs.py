"""What docs/ says about the sandbox: every fault is there, and every example runs as it stands."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import support
from globus_sandbox import faults

DOCS = support.REPOSITORY / "docs"


def blocks(heading: str, language: str) -> list[str]:
    """The blocks of a section of docs/sandbox.md, in one language."""
    (section,) = (each for each in (DOCS / "sandbox.md").read_text().split("\n## ") if each.startswith(f"{heading}\n"))
    return re.findall(rf"^```{language}\n(.*?)^```", section, re.DOTALL | re.MULTILINE)


def test_every_fault_is_documented_with_what_it_takes() -> None:
    rows = dict(re.findall(r"^\| `([a-z-]+)` \| (.*?) \|", (DOCS / "sandbox.md").read_text(), re.MULTILINE))
    documented = {kind: tuple(re.findall(r"`(\w+)`", takes)) for kind, takes in rows.items() if kind in faults.KINDS}
    assert documented == faults.KINDS


def test_the_list_of_operations_is_that_of_the_code() -> None:
    done = subprocess.run(
        [sys.executable, str(support.REPOSITORY / "tools/generate-operations"), "--check"],
        env={**os.environ, "PYTHONPATH": str(support.REPOSITORY / "lib")},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr + " (make docs)"


def surroundings(tmp_path: Path, globus_path: str) -> dict[str, str]:
    bin = tmp_path / "bin"
    bin.mkdir()
    (bin / "globuswrap").symlink_to(support.LAUNCHER)
    (bin / "globus").symlink_to(globus_path)
    kept = {name: os.environ[name] for name in ("LANG", "LC_ALL") if name in os.environ}
    return {**kept, "PATH": f"{bin}:{os.environ['PATH']}", "HOME": str(tmp_path / "home"), "TMPDIR": str(tmp_path)}


def run(argv: list[str], env: dict[str, str], cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        argv, env=env, cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False, timeout=280
    )


@pytest.mark.slow
def test_the_rehearsal_runs_as_it_stands(tmp_path: Path, globus_path: str) -> None:
    script, *rest = blocks("Rehearse a script", "bash")
    (tmp_path / "rehearsal.sh").write_text(script)
    (tmp_path / "all.sh").write_text(
        "set -eux\ntrap 'globuswrap sandbox down' EXIT\n" + "\n".join(rest) + "\nglobuswrap sandbox log --unknown\n"
    )
    done = run(["bash", "all.sh"], surroundings(tmp_path, globus_path), tmp_path)
    assert done.returncode == 0, done.stdout
    assert "0001.h5" in done.stdout and "POST   /transfer/v0.10/transfer" in done.stdout
    assert not (tmp_path / "home/.local/state/globuswrap/sandbox").exists()


@pytest.mark.slow
def test_the_pytest_examples_run_as_they_stand(tmp_path: Path, globus_path: str) -> None:
    block, _ = blocks("Test with pytest", "python")
    name, text = block.split("\n", 1)
    (tmp_path / name.removeprefix("# ")).write_text(text)
    env = surroundings(tmp_path, globus_path)
    env["PYTHONPATH"] = str(support.REPOSITORY / "lib")
    done = run([sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", "."], env, tmp_path)
    assert done.returncode == 0 and "3 passed" in done.stdout, done.stdout


@pytest.mark.slow
def test_the_bats_examples_run_as_they_stand(tmp_path: Path, globus_path: str) -> None:
    support.require_tool("bats")
    (block,) = blocks("Test with bats", "bash")
    (tmp_path / "example.bats").write_text(
        block.replace("load sandbox", "bats_require_minimum_version 1.5.0\nload sandbox")
    )
    (tmp_path / "sandbox.bash").write_text((support.REPOSITORY / "tests/bats/sandbox.bash").read_text())
    stage = tmp_path / "stage-in.sh"
    stage.write_text('#!/bin/sh\nexec globuswrap transfer --wait --fault-grace 0 "$1" "$2"\n')
    stage.chmod(0o755)
    done = run(["bats", "example.bats"], surroundings(tmp_path, globus_path), tmp_path)
    assert done.returncode == 0, done.stdout
