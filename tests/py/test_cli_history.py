"""`history`: what was moved, by the journal of this machine."""

from __future__ import annotations

import csv
import os
import time
from pathlib import Path
from typing import Any

import pytest

from command_line import accepted, on_terminal, run, run_json
from globuswrap.cli.sandbox import Sandbox
from test_cli_lookup import fill

pytestmark = [pytest.mark.usefixtures("globus_loaded")]

WAIT = ("--wait", "--fault-grace", "0", "--poll", "0.1s")


def listed(sandbox: Sandbox, *more: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = run_json(sandbox, "history", *more)["data"]["tasks"]
    return found


@pytest.fixture
def moved(sandbox: Sandbox) -> list[str]:
    """One that went well, one that was denied, and a deletion; the ids of their tasks."""
    fill(sandbox, "a", "b")
    assert run(sandbox, "transfer", "archive:/a", "scratch:/a", *WAIT).returncode == 0
    sandbox.control.fault(kind="denied", collection="results")
    assert run(sandbox, "transfer", "archive:/b", "results:/b", *WAIT).returncode == 5
    assert run(sandbox, "delete", "scratch:/a", *WAIT).returncode == 0
    return [str(each["task_id"]) for each in accepted(sandbox)]


def test_each_task_has_its_route_bytes_and_end(sandbox: Sandbox, moved: list[str]) -> None:
    found = listed(sandbox)
    assert [each["task_id"] for each in found] == moved
    assert [each["outcome"] for each in found] == ["succeeded", "permanent-fault", "succeeded"]
    assert (found[0]["bytes"], found[0]["files"], found[0]["what"]) == (1, 1, "archive:/a -> scratch:/a")
    assert found[0]["requested"] <= found[0]["ended"] and found[0]["rate"] >= 0
    assert found[1]["faults"].keys() == {"PERMISSION_DENIED"} and "PERMISSION_DENIED" in found[1]["cause"]
    assert (found[2]["kind"], found[2]["destination"]) == ("delete", None)


def test_it_needs_no_login_and_fits_a_terminal(sandbox: Sandbox, moved: list[str]) -> None:
    sandbox.control.fault(kind="logged-out")
    done = run(sandbox, "history")
    assert done.returncode == 0, done.stderr
    assert [line[:8] for line in done.stdout.splitlines()[1:]] == [each[:8] for each in moved]
    assert "archive -> scratch" in done.stdout and "3 tasks, 1 B" in done.stderr
    code, text = on_terminal(sandbox, "history")
    assert code == 0 and max(map(len, text.split("\r\n"))) <= 60


def test_one_route(sandbox: Sandbox, moved: list[str]) -> None:
    assert [each["task_id"] for each in listed(sandbox, "--route", "archive:scratch")] == moved[:1]
    assert [each["task_id"] for each in listed(sandbox, "--route", "archive:")] == moved[:2]
    assert [each["task_id"] for each in listed(sandbox, "--route", ":results")] == moved[1:2]
    refused = run(sandbox, "history", "--route", "archive")
    assert refused.returncode == 2 and "bad-route" in refused.stderr


def test_only_of_the_last_time(sandbox: Sandbox, moved: list[str]) -> None:
    """What was claimed long ago, and looked at since, is still old."""
    import json

    journal = sandbox.home / ".local/state/globuswrap/journal"
    (claim,) = (path for path in journal.glob("??/*.1") if json.loads(path.read_bytes())["examples"][0][0] == "/b")
    long_ago = time.time() - 3 * 86400
    claim.write_text(json.dumps({**json.loads(claim.read_text()), "created": long_ago}))
    assert moved[1] not in [each["task_id"] for each in listed(sandbox, "--since", "2d")]
    assert len(listed(sandbox, "--since", "1w")) == len(listed(sandbox, "--since", "1mo")) == 3
    os.utime(claim, (long_ago, long_ago))
    assert len(listed(sandbox, "--since", "2d")) == 2


def test_csv_has_a_row_for_each(sandbox: Sandbox, moved: list[str]) -> None:
    rows = list(csv.DictReader(run(sandbox, "history", "--csv").stdout.splitlines()))
    assert [row["task_id"] for row in rows] == moved
    assert rows[1]["faults"].startswith("PERMISSION_DENIED:") and rows[2]["destination"] == ""


def test_what_nobody_waited_for_is_asked_of_globus(sandbox: Sandbox) -> None:
    fill(sandbox, "a")
    run(sandbox, "transfer", "archive:/a", "scratch:/a")
    assert [each["outcome"] for each in listed(sandbox)] == ["succeeded"]
    assert [each["outcome"] for each in listed(sandbox, "--no-live")] == ["submitted"]
    sandbox.control.fault(kind="logged-out")
    done = run(sandbox, "history")
    assert done.returncode == 0 and "submitted" in done.stdout
    assert "1 task may have ended since: not logged in" in done.stderr and "globus login" in done.stderr


def test_nothing_was_moved(sandbox: Sandbox) -> None:
    done = run(sandbox, "history")
    assert (done.returncode, done.stdout) == (0, "")
    assert done.stderr == "Nothing was submitted from this machine in that time.\n"


def test_probes_are_not_in_it(sandbox: Sandbox, tmp_path: Path) -> None:
    """`doctor` makes a directory to see whether it can be written, and removes it."""
    fill(sandbox, "a")
    script = tmp_path / "job.sh"
    script.write_text("#!/bin/bash\n#GLOBUS stage-in archive:/a scratch:/in/\n")
    run(sandbox, "doctor", "--scheduler", "local", str(script))
    assert [each["type"] for each in accepted(sandbox)] == ["DELETE"]
    assert listed(sandbox) == []
