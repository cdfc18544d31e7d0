"""What a chain must not do when somebody else has ended it a moment ago, or when not all of it went well.

The other process comes in between at a place that the test names: what it does is done from there, by the real functions,
against a sandbox and the PBS double.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from command_line import run
from globuswrap import config
from globuswrap.cli.sandbox import Sandbox
from globuswrap.collections import names
from globuswrap.schedulers import base
from globuswrap.schedulers.pbs import Pbs
from globuswrap.staging import steps
from globuswrap.staging.chain import record, submit, tend
from globuswrap.staging.chain.record import BlockedOn, Chain
from globuswrap.staging.submission import StagingRequest, plan_of
from globuswrap.system import records
from slurm.cluster import PbsCluster, until

pytestmark = [pytest.mark.slow]

LINES = "#GLOBUS stage-in archive:/in/ scratch:/in/\n#GLOBUS stage-out scratch:/out/ results:/out/\n"


@dataclass
class Place:
    box: Sandbox
    cluster: PbsCluster
    work: Path

    def create(self, mode: str, lines: str = LINES) -> Chain:
        """A chain of a job that leaves a file `ran`; nothing is submitted yet."""
        script = self.work / "job.sh"
        script.write_text(f"#!/bin/bash\n#PBS -o /dev/null -j oe\n{lines}touch '{self.work}/ran'\n")
        plan, content = plan_of(script, StagingRequest("pbs", mode, poll="1"), (), os.environ)
        return submit.create(plan, content)

    def states(self) -> dict[str, str]:
        return {job_id: job["job_state"] for job_id, job in self.cluster.known().items()}


@pytest.fixture
def place(
    new_sandbox: Callable[..., Sandbox], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, loaded_globus: str
) -> Place:
    """The surroundings of a login node, in this very process."""
    box, cluster = new_sandbox(), PbsCluster(tmp_path)
    for name, value in {**box.env, **cluster.env}.items():
        if value is None:
            monkeypatch.delenv(name, raising=False)
        elif name != "PATH":
            monkeypatch.setenv(name, value)
    monkeypatch.setenv("PATH", f"{cluster.env['PATH']}:{box.env.get('PATH') or ''}")
    monkeypatch.setenv("GLOBUSWRAP_GLOBUS", loaded_globus)
    monkeypatch.chdir(tmp_path)
    source = box.collections["archive"].path / "in"
    source.mkdir()
    (source / "a").write_text("a\n")
    return Place(box, cluster, tmp_path)


def test_files_on_tape_are_asked_for_by_submit_and_the_job_waits_for_them(place: Place) -> None:
    archive = place.box.collection("archive")
    text = place.box.config_file.read_text()
    place.box.config_file.write_text(text.replace(f'id = "{archive.id}"', f'id = "{archive.id}", tape = true'))
    assert names.on_tape(archive.id)
    lines = "#GLOBUS set fault-grace=0\n#GLOBUS stage-in archive:/in/late scratch:/in/late\n"
    chain = place.create("login", lines)
    submit.start(chain)
    (task,) = place.box.control.tasks()  # before any job of the chain has run
    assert task["status"] == "ACTIVE"
    for _ in range(3):
        tend.tend(chain)
    assert place.box.control.tasks()[0]["nice_status"] == "FILE_NOT_FOUND" and not chain.ended
    assert place.states()[str(chain.compute)] == "H"
    (archive.path / "in" / "late").write_text("recalled")
    place.box.control.progress("at-once")
    until(lambda: tend.tend(chain).ended, lambda: tend.tend(chain).why)
    assert chain.exit_code == 0 and (place.work / "ran").exists()
    assert (place.box.collection("scratch").path / "in" / "late").read_text() == "recalled"


def test_a_job_that_would_hold_its_node_while_files_are_recalled_is_named(
    place: Place, capfd: pytest.CaptureFixture[str]
) -> None:
    archive = place.box.collection("archive")
    text = place.box.config_file.read_text()
    place.create("inline")
    assert "tape" not in capfd.readouterr().err
    place.box.config_file.write_text(text.replace(f'id = "{archive.id}"', f'id = "{archive.id}", tape = true'))
    names.known.cache_clear()
    config.load.cache_clear()
    place.create("inline")
    assert "job.sh:3: archive:/in/ is on tape" in capfd.readouterr().err


def test_a_job_is_not_released_after_its_chain_has_ended(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    chain = place.create("login")
    place.box.control.progress("held")
    submit.start(chain)
    place.box.control.progress("at-once")
    released: list[str] = []
    monkeypatch.setattr(Pbs, "release", lambda self, job_id: released.append(job_id))
    write_once = records.write_once

    def canceled_then(path: Path, text: str) -> bool:
        mine = write_once(path, text)
        if path.name == "step.stage-in.1":
            tend.cancel(chain.id)
        return mine

    monkeypatch.setattr(records, "write_once", canceled_then)
    for _ in range(50):
        status = tend.tend(chain)
        if status.ended:
            break
    assert status.ended and status.exit_code == 5
    assert released == [] and not chain.releasing
    assert set(place.states().values()) == {"F"}


def test_a_stage_job_submitted_while_the_chain_ends_is_canceled(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """The one who ends the chain cannot know its id yet."""
    place.box.control.progress("held")
    chain = place.create("jobs")
    real = Pbs.submit

    def held(self: Pbs, command: tuple[str, ...], cwd: str | None = None) -> str:
        if not command[-1].endswith("/stage.sh"):
            return real(self, command, cwd)
        job_id = real(self, ("qsub", "-h", *command[1:]), cwd)  # held, or it would end by itself
        monkeypatch.setattr(Pbs, "find", lambda self, directory: {})
        tend.cancel(chain.id)
        return job_id

    monkeypatch.setattr(Pbs, "submit", held)
    submit.start(chain)
    assert chain.ended and "stage.1" in chain.jobs
    assert set(place.states().values()) == {"F"}, place.states()


def test_a_task_submitted_while_the_chain_ends_is_canceled(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    place.box.control.progress("held")
    chain = place.create("login")
    real = steps.look

    def look(*arguments: Any, **rest: Any) -> dict[str, steps.StepResult]:
        tend.cancel(chain.id)
        return real(*arguments, **rest)

    monkeypatch.setattr(steps, "look", look)
    submit.start(chain)
    (task,) = place.box.control.tasks()
    assert task["status"] == "FAILED", task
    assert (record.load(chain.id).fact("step.stage-in.1") or {})["outcome"] == "canceled"
    assert set(place.states().values()) == {"F"}


def test_a_job_does_not_run_when_its_stage_in_failed(sandbox: Sandbox, tmp_path: Path) -> None:
    script = tmp_path / "job.sh"
    script.write_text(f"#!/bin/bash\n#GLOBUS stage-in archive:/missing/ scratch:/in/\ntouch '{tmp_path}/ran'\n")
    options = ("--no-check", "--scheduler", "local", "--fault-grace", "0", "--poll", "1")
    done = run(sandbox, "submit", *options, str(script), cwd=str(tmp_path))
    assert done.returncode == 5 and "stage-in.1" in done.stderr, done.stderr
    assert not (tmp_path / "ran").exists()


def test_nothing_is_cleaned_up_when_a_stage_out_failed(sandbox: Sandbox, tmp_path: Path) -> None:
    sandbox.control.advance_clock(3600)  # what is as old as the transfer, to the second, would stay in any case
    source = sandbox.collections["archive"].path / "in"
    source.mkdir()
    (source / "a").write_text("a\n")
    scratch = sandbox.collections["scratch"].path
    script = tmp_path / "job.sh"
    script.write_text(
        "#!/bin/bash\n#GLOBUS stage-in archive:/in/ scratch:/in/\n#GLOBUS stage-out scratch:/out/ results:/out/\n"
        "#GLOBUS stage-out scratch:/missing/ results:/missing/\n#GLOBUS cleanup scratch:/in/\n#GLOBUS cleanup scratch:/out/\n"
        f"mkdir '{scratch}/out'; echo result >'{scratch}/out/r'\n"
    )
    options = ("--no-check", "--scheduler", "local", "--fault-grace", "0", "--poll", "1")
    done = run(sandbox, "submit", *options, str(script), cwd=str(tmp_path))
    assert done.returncode == 5 and "stage-out.2" in done.stderr, done.stderr
    assert (scratch / "in" / "a").exists() and (scratch / "out" / "r").exists()
    assert [task["type"] for task in sandbox.control.tasks()] == ["TRANSFER"] * 3


def test_a_job_is_released_once_its_data_is_there(place: Place) -> None:
    """The way without anyone in between: the tests above would see a release."""
    chain = place.create("login")
    status = submit.start(chain)
    for _ in range(50):
        if status.blocked_on is BlockedOn.JOB or status.ended:
            break
        status = tend.tend(chain)
    job_id = chain.compute or ""
    assert chain.released and Pbs().states([job_id])[job_id].phase != base.HELD
