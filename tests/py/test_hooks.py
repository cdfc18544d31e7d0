"""`[hooks]` of the configuration: programs that are told of every outcome, as JSON on stdin."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from command_line import accepted, run
from globuswrap.cli.sandbox import Sandbox
from test_cli_lookup import fill, killed_chain

pytestmark = [pytest.mark.usefixtures("globus_loaded")]

WAIT = ("--wait", "--fault-grace", "0", "--poll", "0.1s")
EVENTS = ("on-success", "on-failure", "on-attention")


@pytest.fixture
def told(sandbox: Sandbox, tmp_path: Path) -> Path:
    """A directory that has what each hook was told, by its event and a number."""
    directory = tmp_path / "told"
    directory.mkdir()
    hook = tmp_path / "hook"
    hook.write_text('#!/bin/bash\nn=$(ls "$1" | wc -l)\ncat >"$1/$2.$n"\n')
    hook.chmod(0o755)
    with sandbox.config_file.open("a") as file:
        file.write("[hooks]\n")
        for event in EVENTS:
            file.write(f'{event} = ["{hook}", "{directory}", "{event}"]\n')
    return directory


def events(told: Path) -> list[tuple[str, dict[str, Any]]]:
    paths = sorted(told.iterdir(), key=lambda path: int(path.suffix[1:]))
    return [(path.stem, json.loads(path.read_text())) for path in paths]


def test_each_outcome_is_told_once(sandbox: Sandbox, told: Path) -> None:
    fill(sandbox, "a")
    assert run(sandbox, "transfer", "archive:/a", "scratch:/a", *WAIT).returncode == 0
    sandbox.control.fault(kind="denied", collection="results")
    assert run(sandbox, "transfer", "archive:/a", "results:/a", *WAIT).returncode == 5
    (first, good), (second, bad) = events(told)
    tasks = [each["task_id"] for each in accepted(sandbox)]
    assert (first, good["outcome"], good["exit_code"], good["task_id"]) == ("on-success", "succeeded", 0, tasks[0])
    assert good["schema"] == "globuswrap.hook/1" and good["receipt"]["files_transferred"] == 1
    assert (second, bad["outcome"], bad["exit_code"], bad["task_id"]) == ("on-failure", "permanent-fault", 5, tasks[1])
    assert "PERMISSION_DENIED" in bad["cause"] and "globus whoami" in bad["remedy"]


def test_what_waits_for_a_person_is_told_of(sandbox: Sandbox, told: Path) -> None:
    fill(sandbox, "a")
    sandbox.control.fault(kind="paused", collection="archive", message="New disks")
    task = run(sandbox, "transfer", "archive:/a", "scratch:/a").stdout.strip()
    assert events(told) == []  # its outcome is nobody's yet
    assert run(sandbox, "wait", task, "--fault-grace", "0", "--poll", "0.1s").returncode == 7
    ((event, data),) = events(told)
    assert (event, data["outcome"], data["exit_code"]) == ("on-attention", "paused", 7)
    assert "New disks" in data["cause"]


def test_a_chain_is_told_of_as_one(sandbox: Sandbox, told: Path, tmp_path: Path) -> None:
    chain = killed_chain(sandbox, tmp_path, "exit 3")
    sandbox.control.fault(kind="logged-out", count=1)
    run(sandbox, "tend", chain)
    sandbox.control.clear_faults()
    sandbox.control.progress("at-once")
    assert run(sandbox, "wait", chain, "--poll", "0.2s", "--timeout", "60s").returncode == 1
    run(sandbox, "tend", chain)
    (first, stuck), (second, ended) = events(told)
    assert (first, stuck["chain"], stuck["remedy"]) == ("on-attention", chain, "globus login")
    assert (second, ended["kind"], ended["chain"], ended["exit_code"]) == ("on-failure", "chain", chain, 1)
    assert f"globuswrap submit --resume {chain}" in ended["remedy"]


@pytest.mark.parametrize("argv", ['["/no/such/program"]', '["false"]'])
def test_a_hook_that_fails_is_said_and_changes_nothing(sandbox: Sandbox, argv: str) -> None:
    fill(sandbox, "a")
    with sandbox.config_file.open("a") as file:
        file.write(f"[hooks]\non-success = {argv}\n")
    done = run(sandbox, "transfer", "archive:/a", "scratch:/a", *WAIT)
    assert done.returncode == 0 and "the on-success hook" in done.stderr


@pytest.mark.parametrize("line", ['on-success = "mail me"', "on-success = []", "on-success = [1]", 'on-sucess = ["x"]'])
def test_a_hook_is_a_list_of_words(sandbox: Sandbox, line: str) -> None:
    """One text would need a shell, and then what is in it is a program."""
    with sandbox.config_file.open("a") as file:
        file.write(f"[hooks]\n{line}\n")
    done = run(sandbox, "status")
    assert done.returncode == 2 and "[hooks]" in done.stderr


def test_no_hook_comes_from_the_current_directory(sandbox: Sandbox, tmp_path: Path) -> None:
    fill(sandbox, "a")
    for name in ("config.toml", "globuswrap.toml", ".globuswrap.toml"):
        (tmp_path / name).write_text(f'[hooks]\non-success = ["touch", "{tmp_path}/hit"]\n')
    assert run(sandbox, "transfer", "archive:/a", "scratch:/a", *WAIT, cwd=str(tmp_path)).returncode == 0
    assert not (tmp_path / "hit").exists()
