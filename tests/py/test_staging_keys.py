"""`submit --key`: killed anywhere and run again, by one process or by two, it is one chain and one job."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

import support
from command_line import run
from globuswrap.cli.sandbox import Sandbox
from slurm.cluster import Cluster, PbsCluster, SlurmCluster, until
from slurm.node import SlurmNode

pytestmark = [pytest.mark.slow]

LINES = "#GLOBUS stage-in archive:/in/ scratch:/in/\n"
DYING = str(support.REPOSITORY / "tests" / "py" / "dying.py")


@dataclass
class Desk:
    """Where a user submits the same job again and again."""

    box: Sandbox
    cluster: Cluster
    work: Path
    globus: str
    more: dict[str, str] = field(default_factory=dict)

    def script(self, text: str = "touch ran\n") -> None:
        (self.work / "job.sh").write_text(f"#!/bin/bash\n{self.cluster.header} -o /dev/null\n{LINES}{text}")

    def submit(self, *words: str, program: tuple[str, ...] = (str(support.LAUNCHER),)) -> subprocess.Popen[str]:
        settings = {name: value for name, value in self.box.env.items() if name != "PATH"}
        env = {**os.environ, **self.cluster.env, **settings, "GLOBUSWRAP_GLOBUS": self.globus, **self.more}
        options = ("--no-check", "--scheduler", self.cluster.kind, "--poll", "1", *words)
        return subprocess.Popen(
            [*program, "submit", *options, "job.sh"],
            env={name: value for name, value in env.items() if value is not None},
            cwd=self.work,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, *words: str, expect: int = 0, **rest: Any) -> tuple[str, str]:
        with self.submit(*words, **rest) as process:
            out, err = process.communicate(timeout=250)
        assert process.returncode == expect, (process.returncode, out, err)
        return out.strip(), err

    def chains(self) -> list[str]:
        top = Path(str(self.box.env["XDG_STATE_HOME"])) / "globuswrap" / "chains"
        return [path.name for path in top.iterdir() if not path.name.startswith(".")] if top.exists() else []

    def fact(self, name: str) -> dict[str, Any]:
        (chain,) = self.chains()
        path = Path(str(self.box.env["XDG_STATE_HOME"])) / "globuswrap" / "chains" / chain / "g1" / name
        return json.loads(path.read_text()) if path.exists() else {}

    def compute_jobs(self) -> list[str]:
        """The ids of all jobs of the user's script that are queued."""
        return [line.split()[0] for line in self.cluster.queue() if " job.sh" in line]

    def clear(self) -> None:
        for line in self.cluster.queue():
            self.cluster.cancel(line.split()[0])


@pytest.fixture(params=[pytest.param("slurm", marks=pytest.mark.slurm), "pbs"])
def cluster(request: pytest.FixtureRequest, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    if request.param == "pbs":
        yield PbsCluster(tmp_path)
        return
    for name in ("slurmctld", "slurmd", "munged", "sbatch"):
        support.require_tool(name)
    with SlurmNode(tmp_path_factory.mktemp("slurm")) as node:
        yield SlurmCluster(node)


@pytest.fixture
def desk(cluster: Cluster, new_sandbox: Callable[..., Sandbox], tmp_path: Path, loaded_globus: str) -> Any:
    box = new_sandbox(progress="held")
    source = box.collections["archive"].path / "in"
    source.mkdir()
    (source / "a").write_text("a\n")
    work = tmp_path / "work"
    work.mkdir()
    desk = Desk(box, cluster, work, loaded_globus)
    desk.script()
    yield desk
    desk.clear()


#: What is written on the way of a submission: its claim, before and after each job, the tasks, that it was told.
STEPS = ("1", "submitting", "job.compute", "about", "job.after-success", "submitted", "task.stage-in.1", "job.stage.1")


@pytest.mark.parametrize("cluster", ["pbs"], indirect=True)  # what is written is the same with any scheduler
@pytest.mark.parametrize("step", [*STEPS, "1.settled"])
def test_killed_right_after_a_record_and_rerun_it_is_one_chain_and_one_job(desk: Desk, step: str) -> None:
    desk.run("--key", "k", expect=-9, program=(sys.executable, DYING, step))
    chain, err = desk.run("--key", "k")
    assert desk.chains() == [chain] and len(desk.compute_jobs()) == 1
    assert len(desk.box.control.tasks()) == 1
    assert f"chain {chain}, submitted" in err and "no other chain was submitted" in err
    names = [line.split()[-1] for line in desk.cluster.queue()]
    assert len(set(names)) == len(names), names


@pytest.mark.parametrize("call", [1, 2, 3])
def test_killed_after_a_job_was_submitted_and_not_yet_recorded(desk: Desk, call: int) -> None:
    tools = wrapped(desk, f"'{{real}}' \"$@\" || exit\n[[ $(wc -c <'{{tools}}/count') -ne {call} ]] || kill -9 $PPID\n")
    desk.run("--key", "k", expect=-9)
    desk.more.clear()
    assert tools.exists()
    chain, _ = desk.run("--key", "k")
    assert desk.chains() == [chain] and len(desk.compute_jobs()) == 1
    followers = [line for line in desk.cluster.queue() if "gw-" in line]
    assert len({line.split()[-1] for line in followers}) == len(followers), followers


def wrapped(desk: Desk, text: str) -> Path:
    """Put a program before the real sbatch or qsub; it counts its calls."""
    name = "sbatch" if desk.cluster.kind == "slurm" else "qsub"
    path = desk.cluster.env.get("PATH", os.environ["PATH"])
    real = subprocess.run(
        ["which", name], env={**os.environ, "PATH": path}, capture_output=True, text=True
    ).stdout.strip()
    tools = desk.work / "tools"
    tools.mkdir()
    (tools / name).write_text(f"#!/bin/bash\nprintf x >>'{tools}/count'\n{text.format(real=real, tools=tools)}")
    (tools / name).chmod(0o755)
    desk.more["PATH"] = f"{tools}:{path}"
    return tools


def test_an_sbatch_that_outlives_the_kill_makes_no_second_run(desk: Desk) -> None:
    """It comes through after the rerun has submitted the job again: held, and canceled before the other is released."""
    tools = wrapped(
        desk, "kill -9 $PPID\nuntil [[ -e '{tools}/go' ]]; do sleep 0.1; done\n'{real}' \"$@\"\ntouch '{tools}/done'\n"
    )
    desk.run("--key", "k", "--staging", "login", expect=-9)
    desk.more.clear()
    chain, _ = desk.run("--key", "k", "--staging", "login")
    (tools / "go").touch()
    until((tools / "done").exists, "the late submission")
    assert len(desk.compute_jobs()) == 2
    desk.box.control.progress("at-once")
    settings = {**desk.cluster.env, "GLOBUSWRAP_GLOBUS": desk.globus}
    settings.pop("PATH", None)
    env = {**settings, **({"PATH": desk.cluster.env["PATH"]} if "PATH" in desk.cluster.env else {})}

    def ended() -> bool:
        run(desk.box, "tend", env=env)
        return bool(desk.fact("ended"))

    until(ended, lambda: str(desk.cluster.queue()))
    assert desk.fact("ended")["code"] == 0 and desk.chains() == [chain]
    until(lambda: not desk.cluster.queue(), lambda: str(desk.cluster.queue()))


def test_while_one_process_submits_another_does_not(desk: Desk) -> None:
    """The first one's sbatch or qsub has not returned yet, so nobody can know its job."""
    waits = "touch '{tools}/begun'\nuntil [[ -e '{tools}/go' ]]; do sleep 0.1; done\nexec '{real}' \"$@\"\n"
    tools = wrapped(desk, waits)
    first = desk.submit("--key", "k")
    until((tools / "begun").exists, "the first submission")
    desk.more.clear()
    _, err = desk.run("--key", "k", expect=75)
    assert "[submission-under-way]" in err, err
    (tools / "go").touch()
    out, err = first.communicate(timeout=250)
    assert first.returncode == 0, (out, err)
    assert desk.run("--key", "k")[0] == out.strip()
    assert len(desk.chains()) == 1 and len(desk.compute_jobs()) == 1


def test_another_submission_under_the_same_key_is_refused(desk: Desk) -> None:
    chain, _ = desk.run("--key", "k")
    desk.script("touch other\n")
    _, err = desk.run("--key", "k", expect=2)
    assert "[key-taken]" in err and chain in err
    desk.script()
    _, err = desk.run("--key", "k", "--stage-time", "5m", expect=2)
    assert "[key-taken]" in err
    assert desk.run("--key", "k", "--fault-grace", "1m")[0] == chain  # how long it waits makes it no other job
    assert desk.chains() == [chain] and len(desk.compute_jobs()) == 1


LOCAL = ("submit", "--no-check", "--scheduler", "local", "--poll", "1")


def local(sandbox: Sandbox, directory: Path, text: str) -> str:
    top = sandbox.collections["archive"].path / "in"
    top.mkdir(exist_ok=True)
    (top / "a").write_text("a\n")
    (directory / "job.sh").write_text(f"#!/bin/bash\n{LINES}{text}")
    return str(directory)


@pytest.mark.usefixtures("globus_loaded")
def test_when_it_has_ended_and_was_told_a_rerun_is_a_new_chain_but_not_with_once(
    sandbox: Sandbox, tmp_path: Path
) -> None:
    cwd = local(sandbox, tmp_path, "echo >>runs\n")
    first, second = (run(sandbox, *LOCAL, "--key", "k", "job.sh", cwd=cwd) for _ in range(2))
    assert first.returncode == second.returncode == 0, (first.stderr, second.stderr)
    assert first.stdout != second.stdout
    once = run(sandbox, *LOCAL, "--key", "k", "--once", "job.sh", cwd=cwd)
    assert once.returncode == 0 and once.stdout == second.stdout and "no other chain was submitted" in once.stderr
    assert (tmp_path / "runs").read_text() == "\n\n"
    # Another job under the same key is another submission, and may follow one that is over.
    cwd = local(sandbox, tmp_path, "echo >>others\n")
    assert run(sandbox, *LOCAL, "--key", "k", "--once", "job.sh", cwd=cwd).returncode == 2
    assert run(sandbox, *LOCAL, "--key", "k", "job.sh", cwd=cwd).returncode == 0


@pytest.mark.usefixtures("globus_loaded")
def test_with_once_a_failure_is_repeated_too(sandbox: Sandbox, tmp_path: Path) -> None:
    cwd = local(sandbox, tmp_path, "echo >>runs; exit 7\n")
    for _ in range(2):
        done = run(sandbox, *LOCAL, "--key", "k", "--once", "job.sh", cwd=cwd)
        assert done.returncode == 1 and "[job-failed]" in done.stderr, done.stderr
    assert (tmp_path / "runs").read_text() == "\n"


@pytest.mark.parametrize("step", ["ended", "outcome", "submitting"])
def test_killed_before_it_was_told_its_result_is_reported(sandbox: Sandbox, tmp_path: Path, step: str) -> None:
    cwd = local(sandbox, tmp_path, "echo >>runs\n")
    assert sandbox.run([sys.executable, DYING, step, *LOCAL, "--key", "k", "job.sh"], cwd=cwd).returncode == -9
    again = run(sandbox, *LOCAL, "--key", "k", "job.sh", cwd=cwd)
    assert again.returncode == 0 and "no other chain was submitted" in again.stderr, again.stderr
    assert (tmp_path / "runs").read_text() == "\n"
    assert run(sandbox, *LOCAL, "--key", "k", "job.sh", cwd=cwd).stdout != again.stdout


def test_a_refused_submission_does_not_use_up_its_key(new_sandbox: Callable[..., Sandbox], tmp_path: Path) -> None:
    sandbox = new_sandbox()
    cwd = local(sandbox, tmp_path, "echo >>runs\n")
    storage = Path(str(sandbox.env["HOME"])) / ".globus" / "cli" / "storage.db"
    aside = storage.rename(storage.with_suffix(".away"))
    assert run(sandbox, *LOCAL, "--key", "k", "--once", "job.sh", cwd=cwd).returncode == 4
    aside.rename(storage)
    assert run(sandbox, *LOCAL, "--key", "k", "--once", "job.sh", cwd=cwd).returncode == 0
    assert (tmp_path / "runs").read_text() == "\n"


@pytest.mark.parametrize(
    ("words", "name"),
    [(("--key", ""), "bad-key"), (("--once",), "once-needs-key"), (("--key", "k", "--resume", "c1"), "bad-usage")],
)
def test_a_key_that_makes_no_sense(sandbox: Sandbox, tmp_path: Path, words: tuple[str, ...], name: str) -> None:
    cwd = local(sandbox, tmp_path, "true\n")
    script = () if "--resume" in words else ("job.sh",)
    done = run(sandbox, *LOCAL, *words, *script, cwd=cwd)
    assert done.returncode == 2 and f"[{name}]" in done.stderr


def test_key_and_once_are_not_taken_from_the_environment(sandbox: Sandbox, tmp_path: Path) -> None:
    """Jobs inherit the environment of whoever submits them."""
    cwd = local(sandbox, tmp_path, "echo >>runs\n")
    env = {"GLOBUSWRAP_KEY": "k", "GLOBUSWRAP_ONCE": "1", "GLOBUSWRAP_SUBMIT_KEY": "k"}
    for _ in range(2):
        assert run(sandbox, *LOCAL, "job.sh", cwd=cwd, env=env).returncode == 0
    assert (tmp_path / "runs").read_text() == "\n\n"
