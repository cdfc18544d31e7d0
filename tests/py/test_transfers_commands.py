"""transfer, delete, wait, status, cancel, stage and collection through the real globus."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from command_line import GLOBUS, accepted, run, run_json
from globuswrap.cli.sandbox import Sandbox
from support import HOSTILE_NAMES, REPOSITORY

pytestmark = pytest.mark.usefixtures("globus_loaded")


def put(sandbox: Sandbox, name: str = "a", text: str = "data", collection: str = "archive") -> Path:
    path = sandbox.collection(collection).path / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


@pytest.mark.parametrize("name", HOSTILE_NAMES)
def test_any_name_arrives_as_it_is(sandbox: Sandbox, name: str) -> None:
    """public defect: batch lines break names; PSI/J quotes paths twice."""
    put(sandbox, f"in/{name}", name)
    run_json(sandbox, "transfer", f"archive:/in/{name}", f"scratch:/{name}", "--wait", "--poll", "0.1s")
    assert (sandbox.collection("scratch").path / name).read_text() == name
    assert os.listdir(sandbox.collection("scratch").path) == [name]


def test_then_runs_once_with_the_receipt_and_on_failure_does_not(sandbox: Sandbox, tmp_path: Path) -> None:
    put(sandbox)
    seen = tmp_path / "seen"
    then = f'printf "%s %s\\n" "$GLOBUSWRAP_OUTCOME" "$GLOBUSWRAP_TASK_ID" >>{seen}; cp "$GLOBUSWRAP_RECEIPT" {tmp_path}/copy'
    line = (
        "transfer",
        "archive:/a",
        "scratch:/a",
        "--wait",
        "--once",
        "--then",
        then,
        "--on-failure",
        f"echo bad >>{seen}",
    )
    first = run_json(sandbox, *line)["data"]
    run_json(sandbox, *line)
    assert seen.read_text() == f"succeeded {first['task_id']}\n"
    assert json.loads((tmp_path / "copy").read_text()) == first["receipt"]


def test_on_failure_runs_and_the_code_stays(sandbox: Sandbox, tmp_path: Path) -> None:
    seen = tmp_path / "seen"
    line = ("transfer", "archive:/no", "scratch:/a", "--no-check", "--wait", "--fault-grace", "0s", "--poll", "0.1s")
    done = run(sandbox, *line, "--then", f"echo good >{seen}", "--on-failure", f'echo "$GLOBUSWRAP_OUTCOME" >{seen}')
    assert done.returncode == 5
    assert seen.read_text() == "permanent-fault\n"


def test_a_command_that_fails_afterwards_is_said_so(sandbox: Sandbox) -> None:
    put(sandbox)
    done = run(sandbox, "transfer", "archive:/a", "scratch:/a", "--wait", "--then", "echo out; exit 3")
    assert done.returncode == 1
    assert "[then-failed]" in done.stderr and "exit code 3" in done.stderr and "out\n" in done.stderr


def test_the_receipt_says_what_was_done(sandbox: Sandbox, tmp_path: Path) -> None:
    put(sandbox, "d/x", "12345")
    put(sandbox, "d/y z", "123")
    file = tmp_path / "receipt.json"
    line = (
        "transfer",
        "archive:/d",
        "scratch:/d",
        "--wait",
        "--receipt",
        str(file),
        "--receipt-files",
        "--label",
        "run 7",
    )
    data = run_json(sandbox, *line)["data"]
    receipt = json.loads(file.read_text())
    assert receipt == data["receipt"]
    assert receipt["schema"] == "globuswrap.receipt/1"
    assert (receipt["outcome"], receipt["files_transferred"], receipt["bytes_transferred"]) == ("succeeded", 2, 8)
    assert receipt["label"].startswith("run 7 gw-")
    assert sorted(each["source"] for each in receipt["files_list"]) == ["/d/x", "/d/y z"]
    assert receipt["submission"]["submission_id"] == data["submission_id"]
    assert file.stat().st_mode & 0o077 == 0


def test_a_list_of_files_that_cannot_be_read_is_not_an_empty_one(sandbox: Sandbox) -> None:
    """A cleanup would take it for all that the task wrote, a resumed chain for all that it needs."""
    (sandbox.collection("archive").path / "a").write_text("data")
    denied = {"code": "PermissionDenied", "message": "no"}
    sandbox.control.fault(kind="status", path="/task/*/successful_transfers", status=403, body=denied, count=100)
    line = ("transfer", "archive:/a", "scratch:/a", "--wait", "--receipt-files")
    assert run_json(sandbox, *line)["data"]["receipt"]["files_list"] is None


def test_filters_go_in_the_order_they_were_given(sandbox: Sandbox) -> None:
    for name in ("a.h5", "b.txt"):
        put(sandbox, f"d/{name}")
    run_json(sandbox, "transfer", "archive:/d", "scratch:/1", "-r", "--include", "*.h5", "--exclude", "*", "--wait")
    assert os.listdir(sandbox.collection("scratch").path / "1") == ["a.h5"]
    run_json(sandbox, "transfer", "archive:/d", "scratch:/2", "-r", "--exclude=*", "--include=*.h5", "--wait")
    there = sandbox.collection("scratch").path / "2"
    assert not there.exists() or os.listdir(there) == []


def test_a_deletion_of_several_paths(sandbox: Sandbox) -> None:
    for name in ("x\ny", "-z"):
        put(sandbox, name)
    keep = put(sandbox, "keep")
    run_json(sandbox, "delete", "archive:/x\ny", "archive:/-z", "--wait", "--poll", "0.1s")
    assert os.listdir(keep.parent) == ["keep"]


def test_local_paths_are_addresses_where_they_are_mounted(sandbox: Sandbox) -> None:
    source = put(sandbox, "d/a")
    target = sandbox.collection("scratch").path / "a"
    run_json(sandbox, "transfer", str(source), str(target), "--wait", "--poll", "0.1s")
    assert target.read_text() == "data"


def test_status_shows_what_is_under_way_and_changes_nothing(sandbox: Sandbox) -> None:
    put(sandbox)
    sandbox.control.progress("held")
    task = run_json(sandbox, "transfer", "archive:/a", "scratch:/a", "--key", "k")["data"]["task_id"]
    (row,) = run_json(sandbox, "status")["data"]["submissions"]
    assert (row["task_id"], row["state"], row["name"]) == (task, "submitted", "k")
    assert row["task"]["status"] == "ACTIVE"
    assert task[:8] in run(sandbox, "status").stdout
    assert [each["method"] for each in sandbox.control.requests(service="transfer")].count("POST") == 1


@pytest.mark.parametrize("by", ["task", "key"])
def test_cancel_by_task_or_key(sandbox: Sandbox, by: str) -> None:
    put(sandbox)
    sandbox.control.progress("held")
    task = run_json(sandbox, "transfer", "archive:/a", "scratch:/a", "--key", "k")["data"]["task_id"]
    run_json(sandbox, "cancel", task if by == "task" else "k")
    assert accepted(sandbox)[0]["status"] == "FAILED"
    assert run(sandbox, "wait", "k").returncode == 5


def test_without_waiting_a_task_that_cannot_go_on_is_told_too(sandbox: Sandbox, tmp_path: Path) -> None:
    put(sandbox)
    listed = tmp_path / "list"
    listed.write_text("a\n")
    sandbox.control.progress("held")
    lines = (("transfer", "archive:/a", "scratch:/a"), ("batch", "archive:/", "results:/", str(listed)))
    for line in lines:
        assert run(sandbox, *line).returncode == 0
        done = run(sandbox, *line)
        assert done.returncode == 0 and "already running" in done.stderr
    sandbox.control.fault(kind="paused", collection="archive")
    for line in lines:
        done = run(sandbox, *line)
        assert done.returncode == 7 and "until it is resumed: globuswrap wait " in done.stderr, (line, done.stderr)
    assert {task["status"] for task in accepted(sandbox)} == {"ACTIVE"} and len(accepted(sandbox)) == 2
    sandbox.control.clear_faults()
    for line in lines:
        assert run(sandbox, *line).returncode == 0


def test_wait_takes_the_worst_of_several(sandbox: Sandbox) -> None:
    put(sandbox)
    good = run_json(sandbox, "transfer", "archive:/a", "scratch:/a")["data"]["task_id"]
    sandbox.control.progress("held")
    slow = run_json(sandbox, "transfer", "archive:/a", "scratch:/b")["data"]["task_id"]
    envelope = run_json(sandbox, "wait", good, slow, "--timeout", "1s", "--poll", "0.1s", expect=75)
    assert {each["outcome"] for each in envelope["data"]["tasks"]} == {"succeeded", "running"}
    sandbox.run([GLOBUS, "task", "cancel", slow]).check_returncode()
    assert run(sandbox, "wait", good, slow).returncode == 5


@pytest.mark.parametrize("job", [{"SLURM_CLUSTER_NAME": "c", "SLURM_JOB_ID": "7"}, {"PBS_JOBID": "7.server"}])
def test_a_requeued_job_adopts_what_runs_and_else_compares_by_checksum(sandbox: Sandbox, job: dict[str, str]) -> None:
    put(sandbox)
    sandbox.control.progress("held")
    line = ("stage", "in", "archive:/a", "scratch:/a", "--poll", "0.1s")
    assert run(sandbox, *line, "--timeout", "1s", env=job).returncode == 75
    sandbox.control.progress("at-once")
    first = run_json(sandbox, *line, env=job)["data"]
    assert len(accepted(sandbox)) == 1
    second = run_json(sandbox, *line, env=job)["data"]
    assert second["task_id"] != first["task_id"] and second["receipt"]["sync_level"] == 3
    *_, variable = job
    other = run_json(sandbox, *line, env={**job, variable: "8"})["data"]
    assert other["receipt"]["sync_level"] is None
    outside = [run_json(sandbox, *line)["data"] for _ in range(2)]
    assert [each["receipt"]["sync_level"] for each in outside] == [None, None]


def test_stage_out_if_present(sandbox: Sandbox) -> None:
    assert (
        run_json(sandbox, "stage", "out", "scratch:/none", "results:/x", "--if-present")["data"]["outcome"]
        == "not-present"
    )
    assert accepted(sandbox) == []
    put(sandbox, "some", collection="scratch")
    run_json(sandbox, "stage", "out", "scratch:/some", "results:/x", "--if-present", "--poll", "0.1s")
    assert (sandbox.collection("results").path / "x").read_text() == "data"


def test_dry_run_submits_nothing(sandbox: Sandbox) -> None:
    data = run_json(sandbox, "transfer", "archive:/a", "scratch:/a", "--dry-run")["data"]
    assert data["planned"]["DATA"] == [
        {"DATA_TYPE": "transfer_item", "source_path": "/a", "destination_path": "/a"},
    ]
    assert data["command"].startswith("globus transfer --submission-id")
    assert sandbox.control.requests() == []


def test_collections_by_name(sandbox: Sandbox) -> None:
    archive = sandbox.collection("archive")
    run_json(sandbox, "collection", "add", "tape", archive.id, "--mount", "/mnt/tape=/sub")
    listed = {each["name"]: each for each in run_json(sandbox, "collection", "list")["data"]["collections"]}
    assert listed["tape"]["id"] == archive.id and listed["tape"]["mounted"] == {"/mnt/tape": "/sub"}
    assert run(sandbox, "collection", "resolve", "/mnt/tape/x y").stdout == f"{archive.id}:/sub/x y\n"
    assert run(sandbox, "collection", "resolve", "--local", "tape:/sub/x y").stdout == "/mnt/tape/x y\n"
    run_json(sandbox, "collection", "remove", "tape")
    assert run(sandbox, "collection", "resolve", "tape:/x").returncode == 2
    assert run(sandbox, "collection", "remove", "archive").returncode == 2
    unknown = "aaaaaaaa-0000-4000-8000-000000000001"
    assert run(sandbox, "collection", "add", "no", unknown).returncode == 1
    assert run(sandbox, "collection", "add", "no", unknown, "--no-check").returncode == 0


def test_verbose_shows_the_commands_and_no_secret(new_sandbox: object) -> None:
    sandbox = new_sandbox(login="client")  # type: ignore[operator]
    put(sandbox)
    done = run(sandbox, "transfer", "archive:/a", "scratch:/a", "--wait", "-vv")
    assert done.returncode == 0 and "+ " in done.stderr and "--submission-id" in done.stderr
    secret = sandbox.env["GLOBUS_CLI_CLIENT_SECRET"]
    state = [path.read_bytes() for path in sandbox.home.rglob("*") if path.is_file() and ".globus/" not in str(path)]
    assert secret and secret not in done.stderr + done.stdout
    assert all(secret.encode() not in content for content in state)


def test_a_pipe_that_closes_is_no_defect(sandbox: Sandbox) -> None:
    env = {name: value for name, value in {**os.environ, **sandbox.env}.items() if value is not None}
    line = f"{REPOSITORY}/bin/globuswrap collection list | true"
    done = subprocess.run(["bash", "-c", line], env=env, capture_output=True, text=True, check=False)
    assert done.stderr == ""
