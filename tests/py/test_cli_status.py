"""`status`: what is under way, at a glance, on a small terminal, with Globus or without."""

from __future__ import annotations

from pathlib import Path

import pytest

from command_line import accepted, on_terminal, run, run_json
from globuswrap.cli.sandbox import Sandbox
from globuswrap.transfers.request import PROBES
from test_cli_lookup import fill, killed_chain

pytestmark = [pytest.mark.usefixtures("globus_loaded")]


def started(sandbox: Sandbox, source: str = "archive:/a", destination: str = "scratch:/a") -> str:
    fill(sandbox, "a")
    assert run(sandbox, "transfer", source, destination).returncode == 0
    return str(accepted(sandbox)[-1]["task_id"])


def cells(sandbox: Sandbox) -> list[list[str]]:
    return [line.split(maxsplit=2) for line in run(sandbox, "status").stdout.splitlines()[1:]]


def test_a_row_has_what_one_asks_for_and_fits_80_columns(sandbox: Sandbox) -> None:
    sandbox.control.progress("held")
    task = started(sandbox)
    head, row = run(sandbox, "status").stdout.splitlines()
    assert head.split("  ")[0] == "TASK" and "FROM -> TO" in head
    assert row.startswith(f"{task[:8]}  ") and row.endswith("archive:/a -> scratch:/a") and len(row) <= 80
    assert row.split()[1] in ("running", "queued")


def test_why_it_waits_is_below_the_row(sandbox: Sandbox) -> None:
    sandbox.control.fault(kind="paused", collection="archive", message="New disks until Monday")
    task = started(sandbox)
    run(sandbox, "wait", task, "--timeout", "0.5s", "--poll", "0.1s")  # until Globus has paused it
    _, row, why = run(sandbox, "status").stdout.splitlines()
    assert row.split()[:2] == [task[:8], "paused"] and "New disks until Monday" in why


@pytest.mark.parametrize(
    "fault", [{"kind": "logged-out"}, {"kind": "drop-before", "count": 1000}], ids=lambda each: each["kind"]
)
def test_it_works_without_globus_and_without_a_login(sandbox: Sandbox, fault: dict[str, object]) -> None:
    sandbox.control.progress("held")
    task = started(sandbox)
    sandbox.control.fault(**fault)
    done = run(sandbox, "status")
    assert done.returncode == 0
    assert done.stdout.splitlines()[1].startswith(f"{task[:8]}  submitted")
    assert "Globus was not reached: " in done.stderr and "This is what the journal knows." in done.stderr
    assert ("globus login" in done.stderr) == (fault["kind"] == "logged-out")


def test_nothing_under_way_says_so_and_what_to_do_first(sandbox: Sandbox) -> None:
    done = run(sandbox, "status")
    assert (done.returncode, done.stdout) == (0, "")
    assert done.stderr.startswith("Nothing is under way. To start: globuswrap transfer")
    assert run_json(sandbox, "status")["data"] == {"submissions": [], "chains": [], "damaged": []}


def test_a_chain_is_shown_while_it_is_under_way_and_its_tasks_only_in_it(sandbox: Sandbox, tmp_path: Path) -> None:
    chain = killed_chain(sandbox, tmp_path)
    shown = run(sandbox, "status").stdout
    assert shown.startswith(f"{chain}  under way  job.sh  (local, ")
    assert shown.count(str(accepted(sandbox)[0]["task_id"])[:8]) == 1
    assert max(map(len, shown.splitlines())) <= 80
    run(sandbox, "cancel", chain)
    done = run(sandbox, "status")
    assert done.stdout == "" and f"globuswrap show {chain}" in done.stderr
    assert chain in run(sandbox, "status", "--all").stdout


def test_a_task_that_nobody_waited_for_leaves_it_after_a_day(sandbox: Sandbox) -> None:
    import json

    task = started(sandbox)
    assert cells(sandbox)[0][:2] == [task[:8], "succeeded"]
    sandbox.control.advance_clock(-2 * 86400.0)
    old = started(sandbox, "archive:/a", "results:/a")
    assert [row[0] for row in cells(sandbox)] == [task[:8]]
    found = json.loads(run(sandbox, "history", "--json").stdout)["data"]["tasks"]
    assert {each["task_id"] for each in found} == {task, old}


def test_what_globuswrap_removes_for_itself_is_not_in_it(sandbox: Sandbox) -> None:
    fill(sandbox, "a")
    sandbox.control.progress("held")
    assert run(sandbox, "delete", "archive:/a", "--label", PROBES).returncode == 0
    assert [each["status"] for each in accepted(sandbox)] == ["ACTIVE"]
    assert run(sandbox, "status").stdout == ""


def test_on_a_narrow_terminal_the_ids_stay_whole(sandbox: Sandbox) -> None:
    sandbox.control.progress("held")
    task = started(sandbox, "archive:/a", f"scratch:/{'long' * 20}")
    code, text = on_terminal(sandbox, "status")
    row = next(line for line in text.split("\r\n") if line.startswith(task[:8]))
    assert code == 0 and len(row) <= 60 and row.endswith("…")
