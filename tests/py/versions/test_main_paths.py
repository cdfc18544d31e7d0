"""The main paths with every supported globus-cli, each in an environment of its own (tests/versions.sh makes them).

`make test-rest` runs the oldest and the newest, `make test-versions` all.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import command_line
import support
from forked import Forked
from globus_sandbox import auth
from globuswrap.cli.sandbox import Sandbox
from globuswrap.globus import versions
from sync_support import Beam

NEWEST = "newest"
OLDER = ("3.27.0", "3.30.1", "3.36.0")
CHOSEN = (*OLDER, NEWEST) if os.environ.get("GLOBUSWRAP_TEST_VERSIONS") == "all" else (OLDER[0], NEWEST)
ANNA = "anna@example.org"
QUICK = ("--wait", "--poll", "0.2s")

pytestmark = [pytest.mark.versions, pytest.mark.slow]


def program(version: str) -> Path:
    """The `globus` of this version; the newest is that of the environment the tests run in."""
    if version == NEWEST:
        return Path(command_line.GLOBUS)
    found = support.REPOSITORY / ".venvs" / f"globus-{version}" / "bin" / "globus"
    if not found.exists():
        support.cannot(f"no globus-cli {version}: tests/versions.sh --make makes its environment")
    return found


@pytest.fixture(scope="module", params=CHOSEN)
def box(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    """A sandbox where `globus` is that of one version, and nothing else is called globus."""
    chosen = program(request.param)
    base = tmp_path_factory.mktemp("versions")
    with Sandbox(base / "box", collections=("archive", "scratch", "results", "share:gcp-guest")) as made:
        environment = dict(made.env)
        config = made.config_file.read_text()
        with Forked("globus", environment, chosen.parent / "python") as forked:
            made.config_file.write_text(f'{config}\n[defaults]\nglobus-command = "{forked.path}"\n')
            assert not any(name.startswith("GLOBUSWRAP_GLOBUS") for name in environment)
            yield made
        assert made.control.unknown() == []
        assert agents(made) <= {version_of(chosen)}


def agents(box: Sandbox) -> set[str]:
    """The versions of globus-cli that have asked the service."""
    named = {str(each["user_agent"]).partition(" v")[2] for each in box.control.requests(service="transfer")}
    return {name.partition(" ")[0] for name in named}


def version_of(chosen: Path) -> str:
    asked = "import importlib.metadata; print(importlib.metadata.version('globus-cli'))"
    return subprocess.run([chosen.parent / "python", "-c", asked], capture_output=True, text=True).stdout.strip()


def done(box: Sandbox, *words: str, expect: int = 0, **rest: Any) -> dict[str, Any]:
    data: dict[str, Any] = command_line.run_json(box, *words, expect=expect, **rest)
    return data


def put(box: Sandbox, name: str, text: str = "data\n") -> None:
    path = box.collection("archive").path / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def test_the_version_is_known_and_supported(box: Sandbox) -> None:
    chosen = box.config_file.read_text().rpartition('globus-command = "')[2].partition('"')[0]
    # Its look-up of the newest release goes to a closed port: requests reads the lower-case name first.
    closed = dict.fromkeys(("HTTPS_PROXY", "https_proxy"), "http://127.0.0.1:9")
    found = versions.parse(box.run([chosen, "version"], env=closed).stdout)
    assert found is not None and found >= versions.MINIMUM
    done(box, "ls", "archive:/")
    assert agents(box) == {".".join(map(str, found))}


def test_transfer(box: Sandbox) -> None:
    put(box, "transfer/a b")
    put(box, "transfer/skip.tmp")
    line = (
        "transfer",
        "archive:/transfer/",
        "scratch:/transfer/",
        "-r",
        "--sync-level",
        "checksum",
        "--exclude",
        "*.tmp",
    )
    before = len(box.control.tasks())
    told = done(box, *line, "--preserve-timestamp", "--encrypt", "--label", "a label", *QUICK)["data"]
    assert told["outcome"] == "succeeded" and told["receipt"]["files_transferred"] == 1
    assert len(box.control.tasks()) == before + 1
    got = box.collection("scratch").path / "transfer"
    assert [path.name for path in got.iterdir()] == ["a b"]
    # A file that is not there, a request that is refused, and a deletion.
    line = ("transfer", "archive:/missing", "scratch:/m", *QUICK)
    assert done(box, *line, expect=2)["error"]["name"] == "source-missing"
    missing = done(box, *line, "--no-check", "--fault-grace", "0", expect=5)
    assert missing["error"]["name"] == "task-permanent-fault"
    assert done(box, "delete", "scratch:/transfer/", "-r", *QUICK)["data"]["outcome"] == "succeeded"
    assert not got.exists()


def test_what_is_refused(box: Sandbox) -> None:
    put(box, "refused/a")
    line = ("transfer", "archive:/refused/a", "scratch:/refused/a")
    for fault, code, name in (
        ({"kind": "consent", "scopes": ["urn:x"]}, 4, "consent-needed"),
        ({"kind": "session", "domains": ["example.org"]}, 4, "session-needed"),
        ({"kind": "status", "status": 400, "path": "/transfer", "body": {"code": "Bad", "message": "no"}}, 1, None),
    ):
        box.control.fault(fault)
        told = done(box, *line, expect=code)
        assert name is None or told["error"]["name"] == name, told
        box.control.clear_faults()
    assert done(box, *line, *QUICK)["data"]["outcome"] == "succeeded"


def test_batch(box: Sandbox) -> None:
    for name in support.HOSTILE_NAMES:
        put(box, f"batch/{name}")
    names = "\0".join(support.HOSTILE_NAMES)
    told = done(box, "batch", "archive:/batch/", "scratch:/batch/", "-", "--null", *QUICK, input=names)
    assert told["exit_code"] == 0
    assert sorted(path.name for path in (box.collection("scratch").path / "batch").iterdir()) == sorted(
        support.HOSTILE_NAMES
    )


def test_wait_status_and_cancel(box: Sandbox) -> None:
    put(box, "wait/a")
    box.control.progress("held")
    task = done(box, "transfer", "archive:/wait/a", "scratch:/wait/a")["data"]["task_id"]
    again = done(box, "transfer", "archive:/wait/a", "scratch:/wait/a")["data"]
    assert (again["task_id"], again["how"]) == (task, "adopted")
    assert done(box, "wait", task, "--timeout", "0", expect=75)["exit_code"] == 75
    assert done(box, "status", task)["exit_code"] == 0
    done(box, "cancel", task)
    box.control.progress("at-once")
    assert done(box, "wait", task, expect=5)["exit_code"] == 5


def test_sync(box: Sandbox) -> None:
    beam = Beam(box)
    beam.write("day 1/a", "one")
    beam.write("b", "two")
    beam.settle()
    beam.same()
    beam.write("b", "changed", age=50)
    beam.settle()
    beam.same()
    assert beam.doctor().returncode == 0


def test_share(box: Sandbox) -> None:
    document = auth.identity_document(auth.id_of("identity " + ANNA), ANNA)
    box.control.put("identity", document["id"], document)
    for act in ("create", "keep"):
        told = done(box, "share", "grant", "share:/project", ANNA, "--expires", "2099-01-01")
        assert [step["act"] for step in told["data"]["steps"]] == [act]
    rows = done(box, "share", "list", "share")["data"]["rules"]
    assert [row["name"] for row in rows if row["id"]] == [ANNA]
    done(box, "share", "revoke", "share:/project", ANNA)
    assert not [row for row in done(box, "share", "list", "share")["data"]["rules"] if row["id"]]


JOB = """#!/bin/bash
#GLOBUS stage-in archive:/chain/ scratch:/%j/in/
#GLOBUS stage-out scratch:/%j/out/ results:/chain/
cd "$SCRATCH/$GLOBUSWRAP_JOB_ID" && mkdir out && cat in/* >out/all
"""


def test_chain(box: Sandbox, tmp_path: Path) -> None:
    put(box, "chain/a", "one\n")
    put(box, "chain/b", "two\n")
    (tmp_path / "job.sh").write_text(JOB)
    scratch = {"SCRATCH": str(box.collection("scratch").path)}
    told = done(box, "submit", "--scheduler", "local", "--poll", "0.2s", "job.sh", env=scratch, cwd=tmp_path)
    assert all(step["state"] == "done" for step in told["data"]["steps"]), told
    assert (box.collection("results").path / "chain" / "all").read_text() == "one\ntwo\n"
