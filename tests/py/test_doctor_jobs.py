"""What doctor and submit find out from schedulers: pure parsing, then a real Slurm, and the PBS double."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import support
from command_line import run
from globuswrap.cli.sandbox import Sandbox
from globuswrap.doctor import examine, finding, jobs, login, places
from globuswrap.doctor.login import Session
from globuswrap.errors import LOGIN, NO_GLOBUS, REFUSED, USAGE, Problem
from globuswrap.system import together
from slurm.node import SlurmNode, missing_programs

# --- pure -------------------------------------------------------------------------------------------------------------


def test_the_session_has_to_last_beyond_the_end_of_the_job() -> None:
    soon = time.time() + 3600
    assert jobs.session_end(None, None) is None
    assert jobs.session_end(soon, 7200) == soon + 7200 + jobs.AFTERWARDS
    assert abs((jobs.session_end(None, 60) or 0) - (time.time() + 60 + jobs.AFTERWARDS)) < 5


def test_a_session_that_a_fresh_login_could_not_make_last_either() -> None:
    session = Session("me", time.time() - 3600)
    assert login.lasts(session, "archive", 7200, None).code == 0
    assert login.lasts(session, "archive", 1800, None).code == LOGIN
    longer = login.lasts(session, "archive", 7200, time.time() + 86400)
    assert longer.code == LOGIN
    assert "shortly before" in longer.why
    assert "shortly before" not in login.lasts(session, "archive", 5400, time.time() + 3600).why
    assert login.lasts(Session("service", None), "archive", 60, time.time() + 86400).code == 0


def test_what_has_to_be_mended_first_gives_the_code() -> None:
    found = [finding.failure(str(code), "x", "y", "z", code) for code in (REFUSED, USAGE, LOGIN)]
    assert finding.exit_code([finding.ok("a", "b"), finding.warning("a", "b", "c", "d")]) == 0
    assert finding.exit_code(found) == LOGIN
    assert finding.exit_code([*found, finding.failure("g", "x", "y", "z", NO_GLOBUS)]) == NO_GLOBUS
    worst = finding.worst(found)
    assert worst is not None and worst.code == LOGIN
    with pytest.raises(Problem) as stopped:
        examine.stop(found, "globuswrap submit --no-check")
    assert stopped.value.exit_code == LOGIN
    assert "--no-check" in stopped.value.remedy
    examine.stop([finding.warning("a", "b", "c", "d")], "x")


def test_pause_rules_that_leave_transfers_alone_are_no_matter() -> None:
    listing = {"pause_ls": True, "pause_task_transfer_read": False, "pause_task_transfer_write": False}
    assert {each.name for each in places.judged("archive", {}, [listing])} == {"collection"}
    assert {each.name for each in places.judged("a", {}, [{"pause_task_transfer_write": True}])} == {
        "collection-paused"
    }
    assert {each.name for each in places.judged("a", {"gcp_paused": True}, [])} == {"collection-paused"}
    assert {each.name for each in places.judged("a", {"non_functional": True}, [])} == {"collection-broken"}


def test_questions_side_by_side_are_answered_in_their_order() -> None:
    met = threading.Barrier(3)

    def ask(number: int) -> int:
        met.wait(240)  # nobody comes by whom only one is asked at a time
        time.sleep(0.02 * (3 - number))
        if number == 7:
            raise ValueError
        return number

    assert together.map_concurrently(ask, (1, 2, 3)) == [1, 2, 3]
    with pytest.raises(ValueError):
        together.map_concurrently(ask, (1, 7, 2))
    assert together.map_concurrently(str, ()) == []


# --- submit looks first -----------------------------------------------------------------------------------------------


def script_in(directory: Path, *lines: str, header: str = "") -> str:
    path = directory / "job.sh"
    path.write_text("\n".join(["#!/bin/bash", header, *(f"#GLOBUS {line}" for line in lines), "touch ran", ""]))
    return str(path)


@pytest.mark.slow
def test_submit_stops_before_anything_is_queued(sandbox: Sandbox, tmp_path: Path, loaded_globus: str) -> None:
    env = {"GLOBUSWRAP_GLOBUS": loaded_globus}
    path = script_in(tmp_path, "stage-in archive:/nowhere/ scratch:/in/")
    done = run(sandbox, "submit", "--scheduler", "local", path, cwd=tmp_path, env=env)
    assert done.returncode == 2
    assert "[source-missing]" in done.stderr
    assert "or, to submit anyway: globuswrap submit --no-check" in done.stderr
    assert sandbox.control.tasks() == []
    assert not (sandbox.home / ".local/state/globuswrap/chains").exists()
    assert not (tmp_path / "ran").exists()
    again = run(
        sandbox, "submit", "--scheduler", "local", "--no-check", "--fault-grace", "0", path, cwd=tmp_path, env=env
    )
    assert again.returncode == 5
    assert len(sandbox.control.tasks()) == 1


@pytest.mark.slow
def test_doctor_of_a_profile_says_that_a_collection_is_paused(sandbox: Sandbox, loaded_globus: str) -> None:
    env = {"GLOBUSWRAP_GLOBUS": loaded_globus}
    (sandbox.collection("archive").path / "in").mkdir()
    with sandbox.config_file.open("a") as file:
        file.write('[sync.beam]\nsource = "archive:/in/"\ndestination = "results:/copy/"\n')
    assert run(sandbox, "doctor", "beam", env=env).returncode == 0
    rule = {"gcp_paused": True}
    sandbox.control.put("endpoint", sandbox.collection("results").id, rule)
    done = run(sandbox, "doctor", "beam", env=env)
    assert done.returncode == 7
    assert "collection-paused" in done.stdout


# --- a real Slurm -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def slurm_node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SlurmNode]:
    missing = missing_programs()
    if missing:
        support.cannot(f"no {', '.join(missing)} here")
    with SlurmNode(tmp_path_factory.mktemp("slurm"), kill_wait=5) as node:
        yield node


@pytest.fixture
def site(
    sandbox: Sandbox, slurm_node: SlurmNode, tmp_path: Path, loaded_globus: str
) -> tuple[Sandbox, dict[str, Any], Path]:
    (sandbox.collection("archive").path / "in").mkdir()
    return sandbox, {"env": {**slurm_node.env, "GLOBUSWRAP_GLOBUS": loaded_globus}, "cwd": tmp_path}, tmp_path


Site = tuple[Sandbox, dict[str, Any], Path]


@pytest.mark.slurm
@pytest.mark.slow
def test_slurm_says_when_the_job_would_start_and_that_it_would_take_it(site: Site, slurm_node: SlurmNode) -> None:
    box, how, work = site
    path = script_in(work, "stage-in archive:/in/ scratch:/%j/", header="#SBATCH --time=30")
    done = run(box, "doctor", path, "--scheduler", "slurm", "-v", **how)
    assert (done.returncode, done.stdout.startswith("all is well")) == (0, True), done.stdout
    assert "for at most 30 min 0 s  [start]" in done.stderr
    refused = run(box, "doctor", path, "--scheduler", "slurm", "--", "--partition=nosuch", **how)
    assert refused.returncode == 1
    assert "[scheduler-refused]" in refused.stdout and "nvalid partition" in refused.stdout
    stopped = run(box, "submit", "--scheduler", "slurm", path, "--", "--partition=nosuch", **how)
    assert stopped.returncode == 1
    assert "[scheduler-refused]" in stopped.stderr
    assert slurm_node.queue() == []


@pytest.mark.slurm
@pytest.mark.slow
def test_the_session_is_compared_with_the_end_of_the_job(site: Site) -> None:
    box, how, work = site
    policy = {"high_assurance": True, "authentication_timeout_mins": 240}
    box.control.put("endpoint", box.collection("archive").id, policy)
    short = script_in(work, "stage-in archive:/in/ scratch:/%j/", header="#SBATCH --time=30")
    assert run(box, "doctor", short, "--no-probe", "--scheduler", "slurm", **how).returncode == 0
    long = script_in(work, "stage-in archive:/in/ scratch:/%j/", header="#SBATCH --time=12:00:00")
    done = run(box, "doctor", long, "--no-probe", "--scheduler", "slurm", **how)
    assert done.returncode == 4
    assert "[session-ends-first]" in done.stdout


@pytest.mark.slurm
@pytest.mark.slow
def test_a_probe_job_says_whether_a_node_reaches_globus(site: Site, slurm_node: SlurmNode) -> None:
    box, how, _ = site
    path = ("doctor", "--probe-node", "--probe-wait", "60s", "-v")
    done = run(box, *path, **how)
    assert done.returncode == 0, (done.stdout, done.stderr)
    assert "reaches Globus as rehearsal@sandbox.example.org  [node]" in done.stderr
    left = box.home / ".local/state/globuswrap/doctor"
    assert os.listdir(left) == []
    box.control.fault(kind="expired-token", service="auth", path="/v2/oauth2/userinfo", skip=1, count=9)
    failed = run(box, *path, "--json", **how)
    findings = json.loads(failed.stdout)["data"]["findings"]
    assert "node-cannot-stage" in {each["name"] for each in findings}, findings
    assert os.listdir(left) == []
    assert slurm_node.queue() == []


@pytest.mark.slow
def test_the_pbs_double_as_a_scheduler(sandbox: Sandbox, tmp_path: Path) -> None:
    from slurm.cluster import PbsCluster

    cluster = PbsCluster(tmp_path / "pbs")
    (sandbox.collection("archive").path / "in").mkdir()
    policy = {"high_assurance": True, "authentication_timeout_mins": 240}
    sandbox.control.put("endpoint", sandbox.collection("archive").id, policy)
    path = script_in(tmp_path, "stage-in archive:/in/ scratch:/%j/", header="#PBS -l walltime=12:00:00")
    done = run(sandbox, "doctor", path, "--no-probe", "--scheduler", "pbs", env=dict(cluster.env), cwd=tmp_path)
    assert done.returncode == 4, done.stdout + done.stderr
    assert "[session-ends-first]" in done.stdout
