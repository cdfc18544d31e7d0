"""The flows of the recipes, carried out in the sandbox from end to end: files, permissions and entries to look at."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import support
from command_line import run, run_json
from globus_sandbox import auth
from globuswrap.cli.sandbox import Sandbox

pytestmark = [pytest.mark.usefixtures("globus_loaded")]

RECIPES = support.REPOSITORY / "recipes" / "flows"
ANNA = "anna@example.org"
FUNCTION = {
    "endpoint_id": "dddddddd-0000-4000-8000-000000000004",
    "function_id": "eeeeeeee-0000-4000-8000-000000000005",
}


class Bench:
    """A sandbox of a service account that owns what the flows use."""

    def __init__(self, box: Sandbox, place: Path) -> None:
        self.box, self.place = box, place
        for name in ("run 1/a", "run 1/deep/b", "notes.txt"):
            path = box.collection("archive").path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(name)

    def at(self, collection: str, path: str) -> dict[str, str]:
        return {"id": self.box.collection(collection).id, "path": path}

    def script(self, **actions: Any) -> None:
        self.box.control.put("flow-script", "*", {"actions": actions})

    def start(self, recipe: str, given: dict[str, Any], expect: int = 0) -> dict[str, Any]:
        mine = Path(shutil.copytree(RECIPES / recipe, self.place / recipe, dirs_exist_ok=True))
        run_json(self.box, "flow", "deploy", str(mine))
        (self.place / "input.json").write_text(json.dumps(given))
        line = ("flow", "start", str(mine), "--input", str(self.place / "input.json"), "--wait", "--poll", "1s")
        return run_json(self.box, *line, "--timeout", "60s", expect=expect)

    def there(self, collection: str) -> dict[str, str]:
        top = self.box.collection(collection).path
        return {str(path.relative_to(top)): path.read_text() for path in sorted(top.rglob("*")) if path.is_file()}


@pytest.fixture
def bench(new_sandbox: Callable[..., Sandbox], tmp_path: Path) -> Bench:
    return Bench(new_sandbox(login="client", collections=("archive", "scratch", "share:guest")), tmp_path)


RUN1 = {"run 1/a": "run 1/a", "run 1/deep/b": "run 1/deep/b"}


def moved(bench: Bench, collection: str = "scratch") -> dict[str, Any]:
    return {
        "source": bench.at("archive", "/run 1/"),
        "destination": bench.at(collection, "/run 1/"),
        "recursive": True,
        "label": "run 1",
    }


def test_transfer(bench: Bench) -> None:
    assert bench.start("transfer", moved(bench))["data"]["outcome"] == "succeeded"
    assert bench.there("scratch") == RUN1


def test_transfer_and_share(bench: Bench) -> None:
    anna = auth.id_of("identity " + ANNA)
    bench.box.control.put("identity", anna, auth.identity_document(anna, ANNA))
    share = {"principal": anna, "principal_type": "identity"}
    bench.start("transfer-share", {**moved(bench, "share"), "share": share})
    assert bench.there("share") == RUN1
    (rule,) = [each for each in run_json(bench.box, "share", "list", "share")["data"]["rules"] if each["id"]]
    assert (rule["path"], rule["principal"], rule["permissions"]) == ("/run 1/", anna, "r")


def test_transfer_and_publish(bench: Bench) -> None:
    index = json.loads(
        bench.box.run(["globus", "search", "index", "create", "runs", "of the beamline", "-F", "json"]).stdout
    )["id"]
    example = json.loads((RECIPES / "transfer-publish" / "input.example.json").read_text())
    publish = {**example["publish"], "index": index, "subject": "run-1", "visible_to": ["public"]}
    bench.start("transfer-publish", {**moved(bench), "publish": publish})
    assert bench.there("scratch") == RUN1
    found = json.loads(bench.box.run(["globus", "search", "query", index, "-q", "*", "-F", "json"]).stdout)
    assert [(each["subject"], each["entries"][0]["content"]) for each in found["gmeta"]] == [
        ("run-1", publish["content"])
    ]


def test_transfer_and_compute(bench: Bench) -> None:
    ended = bench.start("transfer-compute", {**moved(bench), "compute": {**FUNCTION, "directory": "/scratch/run 1"}})
    assert bench.there("scratch") == RUN1
    (record,) = bench.box.control.documents("run")
    computed = next(
        e["details"] for e in record["log"] if e["details"].get("state_name") == "Compute" and "input" in e["details"]
    )
    assert computed["input"]["tasks"][0]["kwargs"] == {"directory": "/scratch/run 1", "run_id": ended["data"]["run_id"]}


def test_a_function_is_called_by_its_name(bench: Bench) -> None:
    with bench.box.config_file.open("a") as config:
        config.write(f'[functions]\nplot = "{FUNCTION["function_id"]}"\n')
    mine = Path(shutil.copytree(RECIPES / "transfer-compute", bench.place / "named"))
    run_json(bench.box, "flow", "deploy", str(mine))
    line = (
        "flow",
        "start",
        str(mine),
        "--address",
        "source=archive:/run 1/",
        "--address",
        "destination=scratch:/run 1/",
    )
    line += ("--set", "recursive=true", "--set", "label=x", "--set", f"compute.endpoint_id={FUNCTION['endpoint_id']}")
    line += ("--set", "compute.directory=/run 1", "--dry-run")
    given = run_json(bench.box, *line, "--function", "compute.function_id=plot")["data"]["input"]
    assert given["compute"]["function_id"] == FUNCTION["function_id"]
    refused = run_json(bench.box, *line, "--function", "compute.function_id=plto", expect=2)
    assert refused["error"]["name"] == "unknown-function"


def test_transfer_compute_and_share(bench: Bench) -> None:
    results = bench.box.collection("scratch").path / "results"
    results.mkdir()
    (results / "plot").write_text("made by the function")
    group = run_json(bench.box, "share", "group", "team", "--create")["data"]["group"]
    bench.start(
        "transfer-compute-share",
        {
            **moved(bench),
            "compute": {**FUNCTION, "kwargs": {}},
            "results": bench.at("scratch", "/results/"),
            "delivery": bench.at("share", "/for/team/"),
            "share": {"principal": group, "principal_type": "group"},
        },
    )
    assert bench.there("share") == {"for/team/plot": "made by the function"}
    (rule,) = [each for each in run_json(bench.box, "share", "list", "share")["data"]["rules"] if each["id"]]
    assert (rule["principal_type"], rule["principal"], rule["path"]) == ("group", group, "/for/team/")


def tar(bench: Bench, keep: bool) -> dict[str, Any]:
    (bench.box.collection("archive").path / "run 1.tar").write_text("all of run 1")
    return {
        "source": bench.at("archive", "/run 1.tar"),
        "destination": bench.at("scratch", "/run 1.tar"),
        "label": "run 1",
        "tar": {**FUNCTION, "directory": "/data/run 1", "archive": "/data/run 1.tar"},
        "keep_archive": keep,
    }


@pytest.mark.parametrize("keep", [True, False])
def test_tar_and_transfer_goes_the_way_that_was_chosen(bench: Bench, keep: bool) -> None:
    bench.start("tar-transfer", tar(bench, keep))
    assert bench.there("scratch") == {"run 1.tar": "all of run 1"}
    (record,) = bench.box.control.documents("run")
    entered = [
        e["details"]["state_name"]
        for e in record["log"]
        if e["code"].endswith("Started") and "state_name" in e["details"]
    ]
    assert entered == ["Tar", "Move", "Keep", *([] if keep else ["Remove"]), "Done"]


def test_an_archive_that_cannot_be_made_moves_nothing(bench: Bench) -> None:
    bench.script(Tar={"status": "FAILED", "details": {"description": "no space left"}})
    failed = bench.start("tar-transfer", tar(bench, True), expect=1)
    assert bench.there("scratch") == {}
    assert failed["error"]["name"] == "run-failed" and "the archive could not be made" in failed["error"]["cause"]


def test_looping_batch_moves_every_item(bench: Bench) -> None:
    given = {
        "source_id": bench.box.collection("archive").id,
        "destination_id": bench.box.collection("scratch").id,
        "items": [
            {"source": "/run 1/", "destination": "/in/1/", "recursive": True},
            {"source": "/notes.txt", "destination": "/in/notes.txt", "recursive": False},
        ],
    }
    ended = bench.start("looping-batch", given)
    assert bench.there("scratch") == {"in/1/a": "run 1/a", "in/1/deep/b": "run 1/deep/b", "in/notes.txt": "notes.txt"}
    labels = sorted(task["label"] for task in bench.box.control.tasks())
    assert labels == [f"item {number} of 2, run {ended['data']['run_id']}" for number in (1, 2)]


def test_flow_wait_shows_the_state_that_failed_and_its_input(bench: Bench) -> None:
    given = {**moved(bench), "compute": {**FUNCTION, "directory": "/scratch/run 1"}}
    bench.script(
        Compute={"status": "FAILED", "details": {"code": "FunctionFailed", "description": "no such directory"}}
    )
    failed = bench.start("transfer-compute", given, expect=1)
    assert (failed["data"]["state"], failed["data"]["input"]["endpoint_id"]) == ("Compute", FUNCTION["endpoint_id"])
    told = run(bench.box, "flow", "wait", failed["data"]["run_id"])
    assert told.returncode == 1
    for words in ("State Compute failed", "no such directory", "input of state Compute", FUNCTION["function_id"]):
        assert words in told.stderr
    assert bench.there("scratch") == RUN1


def test_a_transfer_that_is_not_allowed_fails_its_run(bench: Bench) -> None:
    given = {**moved(bench), "source": {"id": "aaaaaaaa-0000-4000-8000-0000000000aa", "path": "/x/"}}
    failed = bench.start("transfer", given, expect=1)
    assert failed["data"]["state"] == "Move" and bench.there("scratch") == {}


def test_a_wait_state_waits_by_the_sandboxes_clock(bench: Bench) -> None:
    place = bench.place / "waits"
    place.mkdir()
    states = {"Rest": {"Type": "Wait", "Seconds": 3600, "Next": "Done"}, "Done": {"Type": "Pass", "End": True}}
    (place / "definition.json").write_text(json.dumps({"StartAt": "Rest", "States": states}))
    (place / "schema.json").write_text('{"type": "object"}')
    run_json(bench.box, "flow", "deploy", str(place))
    begun = run_json(bench.box, "flow", "start", str(place))["data"]["run_id"]
    assert run(bench.box, "flow", "wait", begun, "--timeout", "0").returncode == 75
    bench.box.control.advance_clock(3601)
    assert run_json(bench.box, "flow", "wait", begun)["data"]["outcome"] == "succeeded"
