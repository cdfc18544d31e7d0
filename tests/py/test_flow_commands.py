"""`globuswrap flow` through the real globus command: deploy, start, wait, logs; the flows of the recipes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import support
from command_line import run_json
from globuswrap.cli.sandbox import Sandbox
from globuswrap.flows import definition, runs

pytestmark = [pytest.mark.usefixtures("globus_loaded")]

RECIPES = sorted(path for path in (support.REPOSITORY / "recipes" / "flows").iterdir() if path.is_dir())


@pytest.fixture
def box(new_sandbox: Callable[..., Sandbox]) -> Sandbox:
    return new_sandbox(login="client")


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A small flow of our own."""
    made = tmp_path / "my flow"
    made.mkdir()
    (made / "definition.json").write_text('{"StartAt": "A", "States": {"A": {"Type": "Pass", "End": true}}}')
    schema = {"type": "object", "required": ["n"], "properties": {"n": {"type": "integer"}, "at": {"type": "object"}}}
    (made / "schema.json").write_text(json.dumps(schema))
    return made


def deployed(box: Sandbox, place: Path) -> str:
    return str(run_json(box, "flow", "deploy", str(place))["data"]["flow_id"])


def changes(box: Sandbox, path: str = "*") -> list[str]:
    return [each["method"] for each in box.control.requests("flows", path=path) if each["method"] != "GET"]


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: path.name)
def test_each_recipe_is_a_flow_with_an_input_that_fits(recipe: Path) -> None:
    described = definition.read(recipe)
    example = json.loads((recipe / "input.example.json").read_text())
    assert definition.input_problems(described.schema, example) == []
    assert definition.input_problems(described.schema, {}) != []
    # Every path that the definition reads is one that the schema requires.
    text = json.dumps(dict(described.definition["States"]))
    read = {part.split(".")[1] for part in text.split('"') if part.startswith("$.") and not part.startswith("$._")}
    states = described.definition["States"].values()
    written = [part for state in states for part in (state, *state.get("Catch", ())) if "ResultPath" in part]
    results = {part["ResultPath"].split(".")[1] for part in written}
    assert read - results <= set(described.schema["required"])


def test_deploy_creates_then_keeps_then_updates_what_differs(box: Sandbox, place: Path) -> None:
    (place / "flow.toml").write_text(
        'title = "Mine"\nstarters = ["all-users"]\nviewers = ["public"]\nkeywords = ["a"]\n'
    )
    assert run_json(box, "flow", "deploy", str(place), "--dry-run")["data"]["act"] == "create"
    first = run_json(box, "flow", "deploy", str(place))["data"]
    assert first["act"] == "created" and changes(box) == ["POST"]
    again = run_json(box, "flow", "deploy", str(place))["data"]
    assert again == {**first, "act": "kept"} and changes(box) == ["POST"]
    (place / "flow.toml").write_text(
        'title = "Mine"\nsubtitle = "and better"\nviewers = ["public"]\nkeywords = ["a", "b"]\n'
    )
    third = run_json(box, "flow", "deploy", str(place))["data"]
    assert third["act"] == "updated" and sorted(third["changed"]) == ["flow_starters", "keywords", "subtitle"]
    assert run_json(box, "flow", "deploy", str(place))["data"]["act"] == "kept"
    assert changes(box) == ["POST", "PUT"]


def test_a_flow_whose_reply_was_lost_is_one_flow(box: Sandbox, place: Path) -> None:
    box.control.fault(kind="drop-after", service="flows", method="POST", path="/flows")
    flow = deployed(box, place)
    assert [each["id"] for each in box.control.documents("flow")] == [flow]
    assert deployed(box, place) == flow


def test_a_flow_that_is_gone_is_not_silently_made_again(box: Sandbox, place: Path) -> None:
    flow = deployed(box, place)
    assert box.run([str(Path(sys.executable).parent / "globus"), "flows", "delete", flow]).returncode == 0
    failed = run_json(box, "flow", "deploy", str(place), expect=1)
    assert failed["error"]["name"] == "flow-gone" and "deployed.json" in failed["error"]["remedy"]


@pytest.mark.parametrize(
    ("file", "text", "words"),
    [
        ("definition.json", "{", "definition.json"),
        ("definition.json", "[]", "not a JSON object"),
        ("definition.json", '{"StartAt": "B", "States": {"A": {"End": true}}}', "StartAt"),
        ("definition.json", '{"StartAt": "A", "States": {"A": {"Next": "B"}}}', "continues with 'B'"),
        ("definition.json", '{"StartAt": "A", "States": {"A": {"Type": "Pass"}}}', "neither Next nor End"),
        ("definition.json", '{"StartAt": "A", "States": {"A": {"End": true}, "B": {"End": true}}}', "never reached"),
        ("schema.json", '{"type": "nonsense"}', "schema.json"),
        ("flow.toml", "starter = []", "unknown key starter"),
        ("flow.toml", 'starters = "x"', "is not a list of strings"),
        ("flow.toml", "=", "TOML"),
    ],
)
def test_what_cannot_be_right_is_said_before_anything_is_sent(
    monkeypatch: pytest.MonkeyPatch, place: Path, file: str, text: str, words: str
) -> None:
    (place / file).write_text(text)
    done = subprocess.run(
        [str(support.LAUNCHER), "flow", "deploy", str(place), "--dry-run"], capture_output=True, text=True
    )
    assert done.returncode == 2 and words in done.stderr


def test_an_input_that_does_not_fit_is_not_sent(box: Sandbox, place: Path) -> None:
    deployed(box, place)
    failed = run_json(box, "flow", "start", str(place), "--set", "n=x", "--set", "at=3", expect=2)
    assert failed["error"]["name"] == "bad-input"
    assert failed["data"]["problems"] == ["at: 3 is not of type 'object'", "n: 'x' is not of type 'integer'"]
    assert changes(box, "/flows/*/run") == []


def test_start_once_per_key(box: Sandbox, place: Path) -> None:
    deployed(box, place)
    arguments = ("flow", "start", str(place), "--set", "n=1", "--address", "at=archive:/a b", "--key", "run 1")
    first = run_json(box, *arguments)["data"]
    again = run_json(box, *arguments)["data"]
    assert (first["how"], again["how"]) == ("new", "adopted") and first["run_id"] == again["run_id"]
    assert changes(box, "/flows/*/run") == ["POST"]
    (record,) = box.control.documents("run")
    assert record["log"][0]["details"]["input"] == {"n": 1, "at": {"id": box.collection("archive").id, "path": "/a b"}}
    other = run_json(box, "flow", "start", str(place), "--set", "n=2", "--key", "run 1", expect=2)
    assert other["error"]["name"] == "key-taken"
    run_json(box, "flow", "start", str(place), "--set", "n=1")
    assert len(changes(box, "/flows/*/run")) == 2


def test_a_start_whose_reply_was_lost_leaves_one_run(box: Sandbox, place: Path) -> None:
    deployed(box, place)
    box.control.fault(kind="drop-after", service="flows", method="POST", path="/flows/*/run")
    box.control.put("flow-script", "*", {"states": ["ACTIVE"] * 50})
    run_json(box, "flow", "start", str(place), "--set", "n=1", "--key", "k")
    states = [each["run"]["status"] for each in box.control.documents("run")]
    assert sorted(states) == ["ACTIVE", "FAILED"]  # the second is canceled


@pytest.mark.parametrize(
    ("script", "options", "code", "outcome"),
    [
        ({"states": ["ACTIVE", "SUCCEEDED"]}, (), 0, "succeeded"),
        ({"states": ["FAILED"], "code": "StateFailed", "description": "no beam"}, (), 1, "failed"),
        ({"states": ["FAILED"], "code": "FlowCanceled"}, (), 5, "canceled"),
        ({"states": ["INACTIVE"]}, ("--fault-grace", "0"), 7, "inactive"),
        ({"states": ["ACTIVE"]}, ("--timeout", "0"), 75, "running"),
    ],
)
def test_wait_ends_as_wait_does(
    box: Sandbox, place: Path, script: dict[str, Any], options: tuple[str, ...], code: int, outcome: str
) -> None:
    deployed(box, place)
    box.control.put("flow-script", "*", script)
    started = run_json(box, "flow", "start", str(place), "--set", "n=1")["data"]["run_id"]
    done = run_json(box, "flow", "wait", started, "--poll", "0.1", *options, expect=code)
    assert done["data"]["outcome"] == outcome


def test_an_unknown_status_is_an_error() -> None:
    with pytest.raises(Exception, match="unknown status"):
        runs.judged({"run_id": "r", "status": "FINE"}, 0.0, 0.0)


def test_starting_needs_a_login_for_the_flow_and_says_so(new_sandbox: Callable[..., Sandbox], place: Path) -> None:
    box = new_sandbox(login="user")
    flow = deployed(box, place)
    failed = run_json(box, "flow", "start", str(place), "--set", "n=1", expect=4)
    assert failed["error"]["remedy"] == f"globus login --flow {flow}"


def test_without_jsonschema_it_says_how_to_install_it(place: Path, tmp_path: Path) -> None:
    hidden = tmp_path / "hidden" / "jsonschema"
    hidden.mkdir(parents=True)
    (hidden / "__init__.py").write_text("raise ImportError('hidden')\n")
    env = {**os.environ, "PYTHONPATH": f"{hidden.parent}:{support.REPOSITORY / 'lib'}"}
    argv = [sys.executable, "-m", "globuswrap", "flow", "deploy", str(place), "--dry-run"]
    done = subprocess.run(argv, env=env, capture_output=True, text=True, timeout=300)
    assert done.returncode == 2 and "pip install '.[flows]'" in done.stderr


@pytest.mark.slow
@pytest.mark.parametrize(
    ("fault", "code"),
    support.faults(
        [
            ({"kind": "unavailable", "service": "flows"}, 0),
            ({"kind": "drop-before", "service": "flows"}, 0),
            ({"kind": "html", "service": "flows"}, 0),
            ({"kind": "slow", "service": "flows", "seconds": 0.2}, 0),
            (
                {
                    "kind": "status",
                    "status": 403,
                    "service": "flows",
                    "body": {"error": {"code": "FORBIDDEN", "detail": "no"}},
                },
                1,
            ),
        ],
        often=("drop-before",),
    ),
)
def test_start_under_each_fault_and_again_without_is_one_run(
    box: Sandbox, place: Path, fault: dict[str, Any], code: int
) -> None:
    deployed(box, place)
    box.control.fault(fault)
    arguments = ("flow", "start", str(place), "--set", "n=1", "--key", "k")
    run_json(box, *arguments, expect=code)
    box.control.clear_faults()
    run_json(box, *arguments)
    assert len(box.control.documents("run")) == 1


def test_a_time_that_is_none_starts_nothing(box: Sandbox, place: Path) -> None:
    deployed(box, place)
    before = changes(box)
    refused = run_json(box, "flow", "start", str(place), "--set", "n=1", "--wait", "--timeout", "5x", expect=2)
    assert refused["error"]["name"] == "bad-duration" and changes(box) == before
