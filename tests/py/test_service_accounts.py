"""Client credentials from a file: used, private, in no argument and no other environment."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from command_line import run, run_json
from globus_sandbox import auth
from globuswrap.cli.sandbox import Sandbox


@pytest.fixture
def box(new_sandbox: Callable[..., Sandbox]) -> Sandbox:
    """Nobody is logged in; the user's own config names a file with the credentials."""
    made = new_sandbox(login="none")
    file = made.home / "service account.toml"
    file.write_text(f'client-id = "{auth.CLIENT}"\nclient-secret = "{auth.CLIENT_SECRET}"\n')
    file.chmod(0o600)
    with made.config_file.open("a") as config:
        config.write(f'[defaults]\ncredentials-file = "{file}"\n')
    return made


def test_the_account_of_the_file_acts_and_its_secret_is_nowhere(box: Sandbox, tmp_path: Path) -> None:
    (box.collection("archive").path / "file").write_text("x")
    seen = tmp_path / "seen"
    done = run(box, "transfer", "archive:/file", "results:/file", "--wait", "-vv", "--then", f"env >'{seen}'")
    assert done.returncode == 0, done.stderr
    assert auth.CLIENT_SECRET not in done.stderr + done.stdout
    assert auth.CLIENT_SECRET not in seen.read_text()
    state = [path for path in box.home.rglob("*") if path.is_file() and ".globus" not in path.parts]
    holding = [path.name for path in state if auth.CLIENT_SECRET.encode() in path.read_bytes()]
    assert holding == ["service account.toml"]


def test_the_same_request_of_another_account_is_another_request(box: Sandbox) -> None:
    (box.collection("archive").path / "file").write_text("x")
    arguments = ("transfer", "archive:/file", "results:/file", "--once", "--key", "k", "--wait")
    first = run_json(box, *arguments)["data"]
    (box.home / "service account.toml").rename(box.home / "away")
    given = {"GLOBUS_CLI_CLIENT_ID": auth.CLIENT, "GLOBUS_CLI_CLIENT_SECRET": auth.CLIENT_SECRET}
    again = run_json(box, *arguments, env=given)["data"]  # the environment counts, and it is the same account
    assert again["task_id"] == first["task_id"]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda file: file.chmod(0o640), "chmod 600"),
        (lambda file: file.unlink(), "No such file"),
        (lambda file: file.write_text("secret words"), "is not valid TOML"),
        (lambda file: file.write_text('client-id = "x"\n'), "client-secret"),
        (lambda file: file.write_text('client-id = "x"\nclient-secret = "y"\nmore = 1\n'), "nothing else"),
    ],
)
def test_a_file_that_others_can_read_or_that_is_none_is_refused(
    box: Sandbox, change: Callable[[Path], object], words: str
) -> None:
    change(box.home / "service account.toml")
    done = run(box, "transfer", "archive:/file", "results:/file")
    assert done.returncode == 2 and words in done.stderr and "secret words" not in done.stderr
    assert not box.control.requests("transfer")


@pytest.mark.slow
def test_doctor_says_where_the_account_comes_from(box: Sandbox) -> None:
    """Of the file, or of the environment, which counts; and what to check is said alike when it is refused."""
    file = box.home / "service account.toml"
    given = {"GLOBUS_CLI_CLIENT_ID": auth.CLIENT, "GLOBUS_CLI_CLIENT_SECRET": auth.CLIENT_SECRET}
    box.config_file.write_text(f'[defaults]\ncredentials-file = "{file}"\n')
    for env, origin in (({}, str(file)), (given, "GLOBUS_CLI_CLIENT_ID and GLOBUS_CLI_CLIENT_SECRET")):
        told = run(box, "doctor", "--json", env=env).stdout  # whatever scheduler this machine has
        said = {each["name"]: each["what"] for each in json.loads(told)["data"]["well"]}
        assert said["service-account"] == f"commands act as the service account of {origin}"
        assert f"logged in as {auth.CLIENT}@clients" in said["login"]
    file.write_text(f'client-id = "{auth.CLIENT}"\nclient-secret = "not this one"\n')
    done = run(box, "transfer", f"{auth.CLIENT}:/a", f"{auth.CLIENT}:/b")
    assert done.returncode == 4
    assert f"remedy: check {file}" in done.stderr
