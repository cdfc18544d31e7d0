"""Chains that stage the same data to the same place, each with `#GLOBUS cleanup`: the last one to end cleans it up."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

import support
from globuswrap.cli.sandbox import Sandbox
from slurm.cluster import until

pytestmark = [pytest.mark.usefixtures("globus_loaded")]


def start(sandbox: Sandbox, directory: Path, name: str, option: str = "") -> subprocess.Popen[str]:
    """A chain whose job says that it has begun, waits until it is told to end, and then reads its input."""
    shared = sandbox.collections["scratch"].path / "shared"
    script = directory / f"{name}.sh"
    script.write_text(
        f"#!/bin/bash\n#GLOBUS stage-in archive:/in/ scratch:/shared/ {option}\n#GLOBUS cleanup scratch:/shared/\n"
        f"touch {name}.begun\nuntil [[ -e {name}.end ]]; do sleep 0.1; done\ncat '{shared}/a' '{shared}/sub/b'\n"
    )
    env = {**os.environ, **sandbox.env}
    process = subprocess.Popen(
        [str(support.LAUNCHER), "submit", "--no-check", "--scheduler", "local", "--poll", "1", script.name],
        env={key: value for key, value in env.items() if value is not None},
        cwd=directory,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    until((directory / f"{name}.begun").exists, f"{name} runs")
    return process


def end(directory: Path, name: str, process: subprocess.Popen[str]) -> str:
    (directory / f"{name}.end").touch()
    out, err = process.communicate(timeout=240)
    assert process.returncode == 0, (out, err)
    return err


@pytest.fixture
def shared(sandbox: Sandbox) -> Path:
    # Globus reports whole seconds: what is to count as older than a task has to be so by more than one.
    sandbox.control.advance_clock(3600)
    source = sandbox.collections["archive"].path / "in"
    (source / "sub").mkdir(parents=True)
    (source / "a").write_text("a\n")
    (source / "sub" / "b").write_text("b\n")
    return sandbox.collections["scratch"].path / "shared"


def files(directory: Path) -> list[str]:
    return sorted(str(path.relative_to(directory)) for path in directory.rglob("*") if path.is_file())


@pytest.mark.parametrize("option", ["", "--sync-level size"])
def test_input_that_another_live_chain_uses_is_kept_and_the_last_one_cleans_it_up(
    sandbox: Sandbox, tmp_path: Path, shared: Path, option: str
) -> None:
    first = start(sandbox, tmp_path, "first")
    # Two transfers within one second may have written in any order: nothing would be deleted.
    sandbox.control.advance_clock(60)
    # With a sync level the second copies nothing: its own receipt proves nothing either.
    second = start(sandbox, tmp_path, "second", option)
    said = end(tmp_path, "first", first)
    assert files(shared) == ["a", "sub/b"], "the input of a job that runs was deleted"
    assert "still uses" in said
    end(tmp_path, "second", second)
    assert files(shared) == []


def test_two_that_end_at_once_fail_neither(sandbox: Sandbox, tmp_path: Path, shared: Path) -> None:
    both = {name: start(sandbox, tmp_path, name) for name in ("first", "second")}
    for name in both:
        (tmp_path / f"{name}.end").touch()
    for name, process in both.items():
        end(tmp_path, name, process)
    assert files(shared) in ([], ["a", "sub/b"])
