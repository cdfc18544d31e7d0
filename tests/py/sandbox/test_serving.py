"""The sandbox as a server: strict, several at once, durable when asked, isolated, gone afterwards."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from globus_sandbox.errors import BadRequest, Unreachable
from globus_sandbox.launch import Sandbox


@pytest.mark.sandbox_unknown
@pytest.mark.parametrize(
    ("method", "path", "body", "what"),
    [
        ("GET", "/nowhere", None, "route GET /v0.10/nowhere"),
        ("PATCH", "/submission_id", None, "method PATCH"),
        ("GET", "/submission_id?colour=red", None, "query parameter 'colour'"),
        ("POST", "/delete", {"DATA_TYPE": "delete", "shred": True}, "body field 'shred'"),
        ("GET", "/task_list?filter=mood:good", None, "filter 'mood'"),
        ("GET", "/task_list?orderby=mood", None, "orderby 'mood'"),
    ],
)
def test_what_is_not_served_answers_501_and_is_listed(
    api: Any, sandbox: Sandbox, method: str, path: str, body: Any, what: str
) -> None:
    status, document = api.call(method, path, body)
    assert status == 501 and what in document["message"]
    assert what in sandbox.control.unknown()[0]["what"]
    sandbox.control.reset()
    assert sandbox.control.unknown() == []


@pytest.mark.sandbox_unknown
@pytest.mark.parametrize(
    "change",
    [
        {"mood": "good"},
        {"DATA": [{"DATA_TYPE": "transfer_item", "source_path": "/a", "destination_path": "/b", "speed": 9}]},
        {"filter_rules": [{"DATA_TYPE": "filter_rule", "name": "x", "case": True}]},
    ],
)
def test_a_submission_with_a_field_that_is_not_served(api: Any, sandbox: Sandbox, change: dict[str, Any]) -> None:
    status, _ = api.call("POST", "/transfer", {**api.transfer_body(("/a", "/b")), **change})
    assert status == 501 and len(sandbox.control.unknown()) == 1 and sandbox.control.tasks() == []


@pytest.mark.sandbox_unknown
def test_the_fixture_fails_a_test_that_asks_for_what_is_not_served(tmp_path: Path) -> None:
    test = tmp_path / "test_it.py"
    test.write_text(
        "import urllib.error, urllib.request\n"
        "import pytest\n"
        "def test_it(globus_sandbox):\n"
        "    open_ = urllib.request.build_opener(urllib.request.ProxyHandler({})).open\n"
        "    with pytest.raises(urllib.error.HTTPError):\n"
        "        open_(globus_sandbox.url + '/transfer/v0.10/nowhere')\n"
    )
    library = [str(Path(__file__).parents[3] / "lib"), os.environ.get("PYTHONPATH", "")]
    argv = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", str(tmp_path), str(test)]
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(library)}
    done = subprocess.run(argv, capture_output=True, text=True, env=env, cwd=tmp_path)
    assert done.returncode == 1 and "not served by the sandbox" in done.stdout, done.stdout


def test_two_sandboxes_know_nothing_of_each_other(new_sandbox: Any, api_of: Any) -> None:
    first, second = new_sandbox(), new_sandbox()
    assert first.url != second.url
    api_of(first).submission_id()
    assert (len(first.control.submissions()), len(second.control.submissions())) == (1, 0)
    assert first.collection("archive").id == second.collection("archive").id, "ids come from names"
    assert first.collection("archive").path != second.collection("archive").path


def test_state_on_disk_survives_kill_9(new_sandbox: Any, api_of: Any) -> None:
    box = new_sandbox(durable=True)
    api = api_of(box)
    (box.collection("archive").path / "a").write_text("1")
    done = api.transfer(("/a", "/a"))
    before = api.ended(done)
    box.control.progress("held")
    body = api.transfer_body(("/a", "/b"), label="held one")
    held = api.call("POST", "/transfer", body)[1]["task_id"]
    unused = api.submission_id()
    box.control.fault(kind="conflict", path="/never", count=None)
    box.control.advance_clock(7200)
    requests = len(box.control.requests())
    url = box.url
    box.kill()
    with pytest.raises(Unreachable):
        box.control.health()
    box.restart()
    assert box.url == url
    after = api.task(done)
    for document in (before, after):
        document.pop("effective_bytes_per_second")
    assert after == before
    assert "SUCCEEDED" in api.events(done)
    assert api.task(held)["status"] == "ACTIVE"
    assert api.call("POST", "/transfer", body)[1]["code"] == "Duplicate"
    assert len(box.control.requests()) > requests
    assert [fault["kind"] for fault in box.control.faults()] == ["conflict"]
    assert box.control.health()["now"] > time.time() + 7000
    assert api.call("POST", "/transfer", api.transfer_body(("/a", "/c"), submission_id=unused))[0] == 202
    box.control.progress("at-once")
    assert api.ended(held)["status"] == "SUCCEEDED"
    assert (box.collection("scratch").path / "b").read_text() == "1"


@pytest.mark.parametrize("kind", ["pause-task", "inactive"])
def test_a_task_that_was_held_up_is_still_held_up_after_kill_9(new_sandbox: Any, api_of: Any, kind: str) -> None:
    box = new_sandbox(durable=True)
    api = api_of(box)
    (box.collection("archive").path / "a").write_text("1")
    box.control.fault(kind=kind)
    task = api.transfer(("/a", "/a"))
    api.until(task, lambda document: document["is_paused"] or document["status"] == "INACTIVE")
    box.kill()
    box.restart()
    time.sleep(0.3)
    document = api.task(task)
    assert document["completion_time"] is None and document["files_transferred"] == 0
    box.control.clear_faults()
    assert api.ended(task)["status"] == "SUCCEEDED"


def test_a_task_that_was_being_worked_at_is_done_after_kill_9(new_sandbox: Any, api_of: Any) -> None:
    box = new_sandbox(durable=True)
    api = api_of(box)
    directory = box.collection("archive").path / "d"
    directory.mkdir()
    for number in range(3000):
        (directory / str(number)).write_text(str(number))
    task = api.transfer(("/d", "/d"))
    time.sleep(0.05)
    box.kill()
    box.restart()
    document = api.ended(task)
    assert (document["status"], document["files_transferred"]) == ("SUCCEEDED", 3000)
    assert len(list((box.collection("scratch").path / "d").iterdir())) == 3000


def test_state_in_memory_is_gone_with_the_server(sandbox: Sandbox, api: Any) -> None:
    api.submission_id()
    sandbox.kill()
    sandbox.restart()
    assert sandbox.control.submissions() == []


def test_reset_forgets_tasks_but_no_files(sandbox: Sandbox, api: Any, archive: Path, scratch: Path) -> None:
    (archive / "a").write_text("1")
    api.ended(api.transfer(("/a", "/a")))
    sandbox.control.fault(kind="conflict")
    sandbox.control.advance_clock(100)
    sandbox.control.reset()
    assert sandbox.control.tasks() == sandbox.control.requests() == sandbox.control.faults() == []
    assert (scratch / "a").exists() and abs(sandbox.control.health()["now"] - time.time()) < 5


def test_the_log_holds_requests_and_no_secrets(sandbox: Sandbox, globus: Any) -> None:
    globus.json("task", "generate-submission-id")
    rows = sandbox.control.requests()
    assert [row["path"] for row in rows] == ["/v2/oauth2/token/validate", "/v0.10/submission_id"]
    assert all("globus-sdk-py" in row["user_agent"] and row["status"] == 200 for row in rows)
    assert "Globus CLI v" in rows[1]["user_agent"] and "sandbox:" not in str(rows)
    assert [row["number"] for row in sandbox.control.requests(service="transfer")] == [2]
    assert sandbox.control.requests(path="/submission*", method="get", after=2) == []


def test_a_token_of_the_real_globus_is_refused_and_not_written_down(api: Any, sandbox: Sandbox) -> None:
    status, _ = api.call("GET", "/submission_id", token="AgReal0Token0Of0Somebody")
    assert status == 401
    sandbox.stop()
    for file in sandbox.base.rglob("*"):
        assert not file.is_file() or b"AgReal0Token0Of0Somebody" not in file.read_bytes()


def test_the_surroundings_are_the_sandbox_alone(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GLOBUS_PROFILE", "work")
    monkeypatch.setenv("HTTP_PROXY", "http://proxy.invalid:1")
    done = sandbox.run(["env"])
    seen = dict(line.split("=", 1) for line in done.stdout.splitlines() if "=" in line)
    assert "GLOBUS_PROFILE" not in seen and "HTTP_PROXY" not in seen
    assert seen["HOME"].startswith(str(sandbox.base)) and seen["XDG_CONFIG_HOME"].startswith(seen["HOME"])
    services = [value for name, value in seen.items() if name.startswith("GLOBUS_SDK_SERVICE_URL_")]
    assert len(services) == 6 and all(value.startswith(sandbox.url + "/") for value in services)


def test_the_token_store_is_private_and_as_the_cli_leaves_it(sandbox: Sandbox) -> None:
    file = sandbox.home / ".globus/cli/storage.db"
    assert file.stat().st_mode & 0o777 == 0o600 and sandbox.home.stat().st_mode & 0o777 == 0o700
    store = sqlite3.connect(file)
    tables = {name for (name,) in store.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    names = {name for (name,) in store.execute("SELECT config_name FROM config_storage")}
    store.close()
    assert {"token_storage", "config_storage", "sdk_storage_adapter_internal"} <= tables
    assert names == {"auth_client_data", "auth_user_data", "scope_contract_versions"}


@pytest.mark.parametrize(
    ("login", "who"), [("user", "rehearsal@sandbox.example.org"), ("client", "@clients.auth.globus.org")]
)
def test_logins(new_sandbox: Any, globus_in: Any, login: str, who: str) -> None:
    done = globus_in(new_sandbox(login=login))("whoami")
    assert done.returncode == 0 and who in done.stdout


def test_a_server_ends_with_the_process_that_started_it(tmp_path: Path) -> None:
    library = str(Path(__file__).parents[3] / "lib")
    code = (
        f"import sys, os; sys.path.insert(0, {library!r})\n"
        "from globus_sandbox.launch import Sandbox\n"
        f"box = Sandbox({str(tmp_path / 'box')!r}); box.start(); print(box.pid, flush=True); os.kill(os.getpid(), 9)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300)
    pid = int(done.stdout)
    end = time.monotonic() + 240
    while Path(f"/proc/{pid}").exists() and "(python" in Path(f"/proc/{pid}/stat").read_text():
        if Path(f"/proc/{pid}/stat").read_text().split(") ")[1].startswith("Z"):
            break
        assert time.monotonic() < end, "the server is still there"
        time.sleep(0.05)


@pytest.mark.parametrize("names", [["a:b"], ["a/b"], [""]])
def test_a_collection_that_cannot_be(names: list[str], tmp_path: Path) -> None:
    with pytest.raises(BadRequest):
        Sandbox(tmp_path, collections=names)


def test_a_server_that_cannot_start_says_where_to_look(tmp_path: Path) -> None:
    (tmp_path / "state.sqlite").mkdir(parents=True)
    box = Sandbox(tmp_path, durable=True)
    with pytest.raises(Unreachable, match="did not"):
        box.start()
    box.stop()


@pytest.mark.slow
def test_a_directory_with_too_many_entries_cannot_be_listed(sandbox: Sandbox, api: Any, archive: Path) -> None:
    (archive / "one").touch()
    for number in range(100_000):
        (archive / str(number)).touch()
    status, document = api.call("GET", f"/operation/endpoint/{sandbox.collection('archive').id}/ls")
    assert (status, document["code"]) == (502, "ExternalError.DirListingFailed.SizeLimit")
    (archive / "one").unlink()
    assert len(api.get(f"/operation/endpoint/{sandbox.collection('archive').id}/ls")["DATA"]) == 100_000
