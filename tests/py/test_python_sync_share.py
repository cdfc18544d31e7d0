"""`globuswrap.sync()` and `globuswrap.share()`, imported as people import the public examples, with the files to look at."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable

import pytest

import support
from command_line import run_json
from globus_sandbox import auth
from globuswrap.cli.sandbox import Sandbox

ANNA = "anna@example.org"
Python = Callable[[Sandbox, str], subprocess.CompletedProcess[str]]


@pytest.fixture
def python(loaded_globus: str) -> Python:
    """A program in a Python of its own."""
    env = {"PYTHONPATH": str(support.REPOSITORY / "lib"), "GLOBUSWRAP_POLL": "1s", "GLOBUSWRAP_GLOBUS": loaded_globus}
    return lambda box, program: box.run([sys.executable, "-c", program], env=env)


def test_sync_sends_what_is_new_and_then_nothing(sandbox: Sandbox, python: Python) -> None:
    source = sandbox.collection("archive").path / "data"
    (source / "deep").mkdir(parents=True)
    (source / "deep" / "a").write_text("one")
    program = f"""
import globuswrap
import globuswrap.syncs.manifest  # what is imported besides takes nothing away
for _ in range(2):
    done = globuswrap.sync(
        source="archive:/data/", destination="results:/copy/", local_root={str(source)!r}, settle=0,
        how=globuswrap.RunOptions(wait=True),
    )
    print(done.outcome, done.exit_code, done.committed)
"""
    done = python(sandbox, program)
    assert done.stdout.splitlines() == ["finished 0 1", "nothing-to-do 0 0"], done.stderr
    assert (sandbox.collection("results").path / "copy" / "deep" / "a").read_text() == "one"


def test_share_transfers_and_then_gives_permission(new_sandbox: Callable[..., Sandbox], python: Python) -> None:
    box = new_sandbox(collections=("archive", "share:guest"))
    document = auth.identity_document(auth.id_of("identity " + ANNA), ANNA)
    box.control.put("identity", document["id"], document)
    (box.collection("archive").path / "run").mkdir()
    (box.collection("archive").path / "run" / "a").write_text("data")
    program = f"""
from globuswrap import share
done = share("archive:/run", "share:/for/anna", [{ANNA!r}], expires="+30d")
print(done.result.outcome.name, [step.act for step in done.steps])
"""
    done = python(box, program)
    assert done.stdout == "succeeded ['create']\n", done.stderr
    assert (box.collection("share").path / "for" / "anna" / "a").read_text() == "data"
    (rule,) = [each for each in run_json(box, "share", "list", "share")["data"]["rules"] if each["id"]]
    assert (rule["path"], rule["name"], rule["permissions"]) == ("/for/anna/", ANNA, "r") and rule["expires"]


def test_nothing_is_shared_when_the_transfer_fails(new_sandbox: Callable[..., Sandbox], python: Python) -> None:
    box = new_sandbox(collections=("archive", "share:guest"))
    done = python(box, 'import globuswrap; globuswrap.share("archive:/none", "share:/x", ["all-users"])')
    assert done.returncode == 1 and "does not exist" in done.stderr
    assert [each for each in run_json(box, "share", "list", "share")["data"]["rules"] if each["id"]] == []
