"""Whatever the umask, what globuswrap keeps is its user's alone."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Any

import pytest

import support
from globuswrap.cli.sandbox import Sandbox
from sync_support import Beam

pytestmark = [pytest.mark.usefixtures("globus_loaded")]


def test_nothing_in_the_state_directory_is_open_to_others_under_umask_000(sandbox: Sandbox, tmp_path: Path) -> None:
    archive = sandbox.collections["archive"].path
    (archive / "in").mkdir()
    (archive / "in" / "a").write_text("a\n")
    script = tmp_path / "job.sh"
    lines = "#GLOBUS stage-in archive:/in/ scratch:/in/\n#GLOBUS cleanup scratch:/in/\n"
    script.write_text(f"#!/bin/bash\n{lines}umask >the-umask\n")
    (tmp_path / "bad.sh").write_text(f"#!/bin/bash\n{lines}exit 7\n")
    beam = Beam(sandbox)
    beam.write("b")
    (tmp_path / "inbox").mkdir()
    (tmp_path / "inbox" / "new").write_text("n\n")
    commands: list[tuple[Any, ...]] = [
        (None, "watch", "inbox", "--drain", "--settle", "0", "--", "sh", "-c", "echo failed; exit 3"),
        (0, "transfer", "archive:/in/", "scratch:/one/", "--wait", "--receipt-files", "--then", "true"),
        (0, "transfer", "archive:/in/", "scratch:/two/", "--wait", "--key", "k", "--once"),
        (0, "submit", "--no-check", "--scheduler", "local", "--poll", "1", "--key", "j", "job.sh"),
        (1, "submit", "--no-check", "--scheduler", "local", "--poll", "1", "bad.sh"),
        (0, "sync", "run", "beam", "--wait"),
        (0, "cleanup", "--under", "scratch:/one/"),
        (0, "status"),
    ]
    for expected, *words in commands:
        shell = ["sh", "-c", 'umask 000; exec "$@"', "sh", str(support.LAUNCHER), *words]
        done = sandbox.run(shell, cwd=str(tmp_path), timeout=240)
        assert expected in (None, done.returncode), (words, done.stdout, done.stderr)
    top = Path(str(sandbox.env["XDG_STATE_HOME"])) / "globuswrap"
    found = {path: stat.S_IMODE(path.lstat().st_mode) for path in (top, *top.rglob("*")) if not path.is_symlink()}
    assert {str(path): oct(mode) for path, mode in found.items() if mode & 0o077} == {}
    assert {path.name for path in found} >= {"local.pid", "local.code", "journal", "chains", "chain-keys", "watch"}
    assert any(path.suffix == ".log" for path in found) and any(path.suffix == ".exit" for path in found)
    # The job itself has the umask of its user.
    assert (tmp_path / "the-umask").read_text() == "0000\n"
    assert os.access(top, os.W_OK)
