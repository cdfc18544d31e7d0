"""Whatever moves data takes the same options for submitting and waiting, and they hold without --wait too."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from command_line import run
from globuswrap.cli import app
from globuswrap.cli.options import SubmitOptions, WaitOptions
from globuswrap.cli.sandbox import Sandbox


@pytest.mark.parametrize("line", ["transfer", "delete", "batch", "stage in", "stage out", "sync run"])
def test_one_set_of_options(line: str) -> None:
    name, _, rest = line.partition(" ")
    found = app.load(name)
    if rest:
        found = found.get_command(None, rest)
    known = {option for each in found.params for option in each.opts}
    fields = [*dataclasses.fields(SubmitOptions), *dataclasses.fields(WaitOptions)]
    assert not {"--wait", *(f"--{field.name.replace('_', '-')}" for field in fields)} - known


def test_keep_keeps_the_task_that_a_command_without_wait_looks_at(sandbox: Sandbox) -> None:
    (sandbox.collection("archive").path / "a").touch()
    sandbox.control.fault(kind="quota", collection="scratch")
    line = ("transfer", "archive:/a", "scratch:/a", "--keep")
    first, again = (run(sandbox, *line, env={"GLOBUSWRAP_FAULT_GRACE": "0"}) for _ in range(2))
    assert (first.returncode, again.returncode) == (0, 5) and "the task was left running (--keep)" in again.stderr
    assert [task["status"] for task in sandbox.control.tasks()] == ["ACTIVE"]


def test_strict_holds_for_the_batch_that_a_command_without_wait_reports(sandbox: Sandbox, tmp_path: Path) -> None:
    (sandbox.collection("archive").path / "bad").touch()
    sandbox.control.fault(kind="file", files="*bad", code="PERMISSION_DENIED")
    (tmp_path / "list").write_text("bad\n")
    line = (
        "batch",
        "archive:/",
        "scratch:/",
        str(tmp_path / "list"),
        "--skip-source-errors",
        "--strict",
        "--then",
        "true",
    )
    assert [run(sandbox, *line).returncode for _ in range(2)] == [0, 6]
