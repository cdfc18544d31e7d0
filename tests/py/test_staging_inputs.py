"""Staged data that has gone by the time the job is to be released: it is looked for, and what is missing is staged again."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

import support
from command_line import run
from globuswrap.cli.sandbox import Sandbox

pytestmark = [pytest.mark.usefixtures("globus_loaded")]

LINES = "#GLOBUS stage-in archive:/in/ scratch:/same/\n#GLOBUS stage-out scratch:/same/ results:/out/\n"
OPTIONS = ("--no-check", "--scheduler", "local", "--poll", "1")


def prepared(sandbox: Sandbox, directory: Path, more: str = "") -> Path:
    """A job that needs two files, one of them in a directory of its own, and fails until `fixed` is there."""
    top = sandbox.collections["archive"].path / "in"
    (top / "sub").mkdir(parents=True)
    (top / "a").write_text("a\n")
    (top / "sub" / "b").write_text("b\n")
    scratch = sandbox.collections["scratch"].path
    script = directory / "job.sh"
    script.write_text(
        f"#!/bin/bash\n{LINES}[[ -e '{directory}/fixed' ]] || exit 7\ncat '{scratch}/same/a' '{scratch}/same/sub/b'\n{more}"
    )
    return script


def chain_of(sandbox: Sandbox) -> Path:
    (chain,) = (Path(str(sandbox.env["XDG_STATE_HOME"])) / "globuswrap" / "chains").iterdir()
    return chain


def tasks(sandbox: Sandbox) -> list[str]:
    return [str(task["label"]).rpartition(" gw-")[0] for task in reversed(sandbox.control.tasks())]


@pytest.mark.parametrize("gone", ["same", "same/sub", "same/sub/b", "same/a", None])
def test_a_resumed_chain_stages_again_what_is_gone(sandbox: Sandbox, tmp_path: Path, gone: str | None) -> None:
    script = prepared(sandbox, tmp_path)
    failed = run(sandbox, "submit", *OPTIONS, str(script), cwd=str(tmp_path))
    assert failed.returncode == 1, failed.stderr
    scratch = sandbox.collections["scratch"].path
    (scratch / "same" / "a").write_text("changed by the job\n")
    if gone is not None:
        subprocess.run(["rm", "-r", str(scratch / gone)], check=True)
    (tmp_path / "fixed").touch()
    chain = chain_of(sandbox)
    again = run(sandbox, "submit", "--resume", chain.name, cwd=str(tmp_path))
    assert again.returncode == 0, again.stderr
    assert ("staged data is missing" in again.stderr) == (gone is not None)
    assert len(sandbox.control.tasks()) == (2 if gone is None else 3), tasks(sandbox)
    assert (scratch / "same" / "sub" / "b").read_text() == "b\n"
    # Only what is missing is copied: what the job has changed in place is its own.
    changed = "a\n" if gone in ("same", "same/a") else "changed by the job\n"
    assert (scratch / "same" / "a").read_text() == changed


def test_what_a_stage_in_found_there_and_left_is_staged_too_when_it_is_gone(sandbox: Sandbox, tmp_path: Path) -> None:
    """With a sync level the list of what was copied does not name it."""
    script = prepared(sandbox, tmp_path)
    script.write_text(script.read_text().replace("scratch:/same/\n", "scratch:/same/ --sync-level size\n", 1))
    there = sandbox.collections["scratch"].path / "same" / "sub"
    there.mkdir(parents=True)
    (there / "b").write_text("b\n")
    failed = run(sandbox, "submit", *OPTIONS, str(script), cwd=str(tmp_path))
    assert failed.returncode == 1, failed.stderr
    (there / "b").unlink()
    (tmp_path / "fixed").touch()
    again = run(sandbox, "submit", "--resume", chain_of(sandbox).name, cwd=str(tmp_path))
    assert again.returncode == 0 and "staged data is missing" in again.stderr, again.stderr


@pytest.mark.parametrize("hours", [2, 0])
def test_data_staged_long_before_the_release_is_looked_at(sandbox: Sandbox, tmp_path: Path, hours: int) -> None:
    """More than an hour lies between the stage-in and the release of the job: scratch may have been purged."""
    script = prepared(sandbox, tmp_path)
    (tmp_path / "fixed").touch()
    words = [
        sys.executable,
        str(support.REPOSITORY / "tests/py/dying.py"),
        "step.stage-in.1",
        "submit",
        *OPTIONS,
        str(script),
    ]
    assert sandbox.run(words, cwd=str(tmp_path)).returncode == -9
    chain = chain_of(sandbox)
    fact = chain / "g1" / "step.stage-in.1"
    content = json.loads(fact.read_text())
    fact.write_text(json.dumps({**content, "at": content["at"] - hours * 3600}))
    (sandbox.collections["scratch"].path / "same" / "a").unlink()
    again = run(sandbox, "submit", "--resume", chain.name, cwd=str(tmp_path))
    # What was staged a moment ago is not looked at: that would cost every chain a question.
    assert again.returncode == (0 if hours else 1), again.stderr
    assert len(sandbox.control.tasks()) == (3 if hours else 1), tasks(sandbox)


def test_a_chain_waits_when_globus_cannot_say_whether_its_data_is_there(sandbox: Sandbox, tmp_path: Path) -> None:
    script = prepared(sandbox, tmp_path)
    assert run(sandbox, "submit", *OPTIONS, str(script), cwd=str(tmp_path)).returncode == 1
    (tmp_path / "fixed").touch()
    (Path(str(sandbox.env["HOME"])) / ".globus" / "cli" / "storage.db").unlink()
    again = run(sandbox, "submit", "--resume", chain_of(sandbox).name, cwd=str(tmp_path))
    assert again.returncode == 4, again.stderr
    assert "globus login" in again.stderr and len(sandbox.control.tasks()) == 1
