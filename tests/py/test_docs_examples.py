"""What docs/tutorial.md offers in place of scripts, run as it stands."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

import command_line
import support
from globus_sandbox import auth
from globuswrap.cli.sandbox import Sandbox

pytestmark = [pytest.mark.slow]

PAGE = support.REPOSITORY / "docs" / "tutorial.md"


def blocks(heading: str) -> dict[str, str]:
    """The blocks of a section, by their language."""
    sections = PAGE.read_text("utf-8").split("\n### ")
    (section,) = (each for each in sections if each.startswith(heading + "\n"))
    found = re.findall(r"^```(\w+)\n(.*?)^```", section, re.M | re.S)
    assert len(dict(found)) == len(found)
    return dict(found)


@pytest.fixture
def box(
    new_sandbox: Callable[..., Sandbox], tmp_path: Path, loaded_globus: str, monkeypatch: pytest.MonkeyPatch
) -> Sandbox:
    monkeypatch.setenv("GLOBUSWRAP_GLOBUS", loaded_globus)
    made = new_sandbox(collections=("archive", "scratch", "results", "share:gcp-guest"))
    person = auth.identity_document(auth.id_of("identity someone"), "someone@example.org")
    made.control.put("identity", person["id"], {**person, "email": "someone@example.org"})
    for name in ("raw/a b", "2018/1.h5", "2018/day 2/2.h5", "data/paper.pdf"):
        path = made.collection("archive").path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    return made


@pytest.fixture
def work(tmp_path: Path) -> Path:
    """A directory of the user's, with nothing of the sandbox below it."""
    made = tmp_path / "work"
    made.mkdir()
    return made


def run(box: Sandbox, script: str, cwd: Path) -> str:
    """A script as a user's shell runs it, with `globuswrap` and `globus` on PATH."""
    bin = cwd / "bin"
    bin.mkdir(exist_ok=True)
    for name, target in (("globuswrap", support.LAUNCHER), ("globus", Path(command_line.GLOBUS))):
        if not (bin / name).exists():
            (bin / name).symlink_to(target)
    env = {name: value for name, value in {**os.environ, **box.env}.items() if value is not None}
    env["PATH"] = f"{bin}:{env['PATH']}"
    done = subprocess.run(
        ["bash", "-ec", script], env=env, cwd=cwd, stdin=subprocess.DEVNULL, stdout=-1, stderr=-2, text=True
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


def test_transfer_and_wait(box: Sandbox, work: Path) -> None:
    analyse = work / "analyse"
    analyse.write_text("#!/bin/sh\necho analysed\n")
    analyse.chmod(0o755)
    assert "analysed" in run(box, blocks("Transfer and wait")["bash"], work)
    assert (box.collection("scratch").path / "in" / "a b").read_text() == "raw/a b"


def test_a_loop_over_many_files(box: Sandbox, work: Path) -> None:
    (work / "list.txt").write_text("1.h5\nday 2/2.h5\n")
    (work / "day 2").mkdir()
    (work / "day 2" / "2.h5").touch()
    run(box, blocks("A loop over many files")["bash"], work)
    assert (box.collection("scratch").path / "in" / "day 2" / "2.h5").read_text() == "2018/day 2/2.h5"
    assert [len(task["items"]) for task in box.control.tasks()] in ([1, 2], [2, 1])


def test_cli_sync_under_cron(box: Sandbox, work: Path) -> None:
    found = blocks("cli-sync under cron")
    box.config_file.write_text(f"{box.config_file.read_text()}\n{found['toml']}")
    out = run(box, found["bash"], work)
    (line,) = (each for each in out.splitlines() if re.match(r"[\d,/*-]+ \* \* \* \* ", each))
    assert "sync run" in line and "beamline" in line
    assert box.control.tasks() == []
    run(box, "globuswrap sync run beamline --wait --poll 1s", work)
    assert (box.collection("scratch").path / "2018" / "1.h5").exists()


def test_a_chain_by_hand(box: Sandbox, work: Path) -> None:
    lines = blocks("A chain by hand with afterok")["bash"]
    job = 'cd "$SCRATCH/$GLOBUSWRAP_JOB_ID" && mkdir out && cat in/*.h5 >out/all\n'
    (work / "job.sh").write_text(f"#!/bin/bash\n{lines}{job}")
    submit = f"SCRATCH='{box.collection('scratch').path}' globuswrap submit --scheduler local --poll 1s job.sh"
    run(box, submit, work)
    assert (box.collection("results").path / "2018" / "all").read_text() == "2018/1.h5"


def test_deliver_and_share(box: Sandbox, work: Path) -> None:
    old = box.collection("share").path / "project" / "old"
    old.parent.mkdir()
    old.write_text("old")
    run(box, blocks("Deliver and share")["bash"], work)
    assert {path.name for path in old.parent.iterdir()} == {"paper.pdf", "old"}  # nobody can say where old came from
    rules = command_line.run_json(box, "share", "list", "share")["data"]["rules"]
    assert "someone@example.org" in [rule["name"] for rule in rules]


def test_clean_up_what_was_moved(box: Sandbox, work: Path) -> None:
    cache = box.collection("scratch").path / "cache"
    cache.mkdir()
    box.control.advance_clock(3600)  # what was written in the second in which a task ended is never deleted
    (cache / "a").write_text("a")
    os.utime(cache / "a", (1_500_000_000, 1_500_000_000))
    later = 'later() { touch "$LATE"; globuswrap "$@"; }\n'
    script = blocks("Clean up what was moved")["bash"].splitlines()
    out = run(box, "\n".join([f"LATE='{cache}/late'\n{later}", script[0], "later --version", *script[1:]]), work)
    assert (box.collection("archive").path / "archive" / "a").read_text() == "a"
    assert [path.name for path in cache.iterdir()] == ["late"], out  # came after the transfer: not proved, not deleted
