"""`init`: the first set-up, with a terminal and without."""

from __future__ import annotations

import json
import os
import pty
import select
import time
from pathlib import Path

import pytest

import support
from command_line import run, run_json
from globuswrap.cli.sandbox import Sandbox
from globuswrap.doctor import setup

pytestmark = [pytest.mark.usefixtures("globus_loaded")]


@pytest.fixture
def fresh(sandbox: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Sandbox:
    """Logged in, nothing named, and a scheduler that answers."""
    sandbox.config_file.write_text("")
    programs = tmp_path / "programs"
    programs.mkdir()
    for name in ("sbatch", "scontrol"):
        (programs / name).write_text("#!/bin/sh\necho 'Slurmctld(primary) at here is UP'\n")
        (programs / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    return sandbox


def names(sandbox: Sandbox) -> dict[str, dict[str, object]]:
    found: dict[str, dict[str, object]] = json.loads((sandbox.config_file.parent / "collections.json").read_text())
    return found


def test_without_a_terminal_it_does_what_the_options_say(fresh: Sandbox) -> None:
    """The path of a local directory on the collection is found out, by a probe that is gone afterwards."""
    archive = fresh.collection("archive")
    (archive.path / "home" / "me").mkdir(parents=True)
    local = archive.path / "home" / "me"
    done = run(fresh, "init", "--collection", f"archive={archive.id}", "--mount", f"archive={local}")
    assert done.returncode == 0, done.stdout + done.stderr
    assert names(fresh)["archive"] == {"id": archive.id, "mounted": {str(local): "/home/me"}}
    assert f"globuswrap collection add archive {archive.id} \\\n    --mount {local}=/home/me" in done.stderr
    assert "logged in as" in done.stderr and "scheduler: Slurm" in done.stderr
    assert "all is well" in done.stdout  # doctor's verdict
    assert os.listdir(local) == []
    assert run(fresh, "collection", "resolve", f"{local}/x").stdout.strip() == f"{archive.id}:/home/me/x"


def test_a_mount_that_is_not_seen_there_is_left_out(fresh: Sandbox, tmp_path: Path) -> None:
    archive = fresh.collection("archive")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (archive.path / "other").mkdir()
    for mount in (f"a={elsewhere}", f"a={archive.path}=/other"):  # not on it at all; another place on it
        found = run_json(fresh, "init", "--collection", f"a={archive.id}", "--mount", mount)["data"]
        assert found["added"] == [{"name": "a", "id": archive.id, "mounted": {}}]
        assert names(fresh)["a"] == {"id": archive.id}
    assert os.listdir(elsewhere) == []


def test_without_a_login_it_prints_the_command_and_writes_nothing(fresh: Sandbox) -> None:
    fresh.control.fault(kind="logged-out")
    done = run(fresh, "init", "--collection", f"a={fresh.collection('archive').id}")
    assert done.returncode == 4 and "globus login" in done.stderr and "globuswrap init" in done.stderr
    assert not (fresh.config_file.parent / "collections.json").exists()


def test_wrong_options_are_named(fresh: Sandbox) -> None:
    archive = fresh.collection("archive").id
    for words in (
        ("--collection", "archive"),
        ("--collection", f"archive={archive}", "--mount", "/local=/x"),
        ("--collection", f"archive={archive}", "--mount", "scratch=/local"),
    ):
        done = run(fresh, "init", *words)
        assert done.returncode == 2 and "remedy: write" in done.stderr, words


def test_at_a_terminal_it_asks(fresh: Sandbox) -> None:
    """Search, pick, name, and the mount of a directory that no variable names."""
    scratch = fresh.collection("scratch")
    answers = [("nothing to finish", "scratch"), ("nothing to finish", "1"), ("Name to use", "mine")]
    answers += [("Local directory on it", str(scratch.path)), ("nothing to finish", "")]
    env = {name: value for name, value in {**os.environ, **fresh.env}.items() if value is not None}
    pid, master = pty.fork()
    if pid == 0:
        os.execvpe(str(support.LAUNCHER), [str(support.LAUNCHER), "init"], env)
    text, end = "", time.monotonic() + 240
    while time.monotonic() < end:
        if not select.select([master], [], [], 1.0)[0]:
            continue
        try:
            text += os.read(master, 65536).decode("utf-8", "replace")
        except OSError:
            break
        if answers and text.rstrip().endswith(":") and answers[0][0] in text.rpartition("\n")[2]:
            os.write(master, f"{answers.pop(0)[1]}\n".encode())
            text += "\n"
    os.close(master)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0, text
    assert not answers
    assert names(fresh)["mine"]["id"] == scratch.id
    assert names(fresh)["mine"]["mounted"] == {str(scratch.path): "/"}
    assert "all is well" in text


def test_where_a_local_directory_may_be() -> None:
    assert setup.paths_of("/gpfs/home/me") == ["/gpfs/home/me", "/home/me", "/me", "/", "/~/"]
    assert setup.name_for("  My Lab's Scratch (GPFS) ") == "my-lab-s-scratch-gpfs"
    assert setup.name_for("日本") == "c1"


def test_a_name_that_is_taken_is_not_proposed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(setup.names, "known", lambda: {"scratch": None, "scratch1": None})
    assert setup.name_for("Scratch") == "scratch2"
