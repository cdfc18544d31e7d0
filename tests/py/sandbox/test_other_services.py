"""Flows, Timers and Search of the sandbox: beside the recordings, and as the real CLI meets them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from globus_sandbox import auth
from globus_sandbox.launch import Sandbox
from sandbox.test_recordings import differences, recorded, shape, testing

#: Fields of a kind, or recorded only for some documents of it.
OPTIONAL_FLOW = {"subscription_id", "authentication_policy_id"}


def assert_like(ours: Any, name: str, more: Any = (), case: str = "default", part: str = "") -> None:
    _, document = recorded(name, case)
    theirs = document[part] if part else document
    assert list(differences(shape(ours), shape(theirs), more)) == []


DEFINITION = {"StartAt": "Only", "States": {"Only": {"Type": "Pass", "End": True}}}
SCHEMA = {"type": "object", "required": ["n"], "properties": {"n": {"type": "integer"}}}


def make_flow(api: Any, **more: Any) -> dict[str, Any]:
    body = {"title": "One", "definition": DEFINITION, "input_schema": SCHEMA, **more}
    status, flow = api.call("POST", "/flows", body, service="flows")
    assert status == 201, flow
    return dict(flow)


def start(api: Any, flow: dict[str, Any], body: dict[str, Any]) -> Any:
    """A flow starts with a token of its own."""
    token = auth.token("access", flow["id"], auth.USER)
    return api.call("POST", f"/flows/{flow['id']}/run", body, service="flows", token=token)


def started(api: Any, flow: dict[str, Any]) -> dict[str, Any]:
    body = {"body": {"n": 1}, "tags": ["x"]}
    status, run = start(api, flow, body)
    assert status == 201, run
    return dict(run)


def without_contents(flow: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in flow.items() if name not in ("definition", "input_schema")}


@pytest.mark.parametrize("name", ["create_flow", "get_flow", "update_flow"])
def test_a_flow_document(api: Any, name: str) -> None:
    flow = make_flow(api)
    if name == "update_flow":
        _, flow = api.call("PUT", f"/flows/{flow['id']}", {"subtitle": "x"}, service="flows")
    elif name == "get_flow":
        _, flow = api.call("GET", f"/flows/{flow['id']}", service="flows")
    _, theirs = recorded(f"flows.{name}")
    assert list(differences(shape(without_contents(flow)), shape(without_contents(theirs)), OPTIONAL_FLOW)) == []


def test_a_run_document_and_its_log(api: Any) -> None:
    run = started(api, make_flow(api))
    _, shown = api.call("GET", f"/runs/{run['run_id']}", service="flows")
    theirs = testing.get_response_set("flows.get_run").lookup("default").responses[0].json
    ours = {name: value for name, value in shown.items() if name != "details"}
    theirs = {name: value for name, value in theirs.items() if name != "details"}
    assert list(differences(shape(ours), shape(theirs))) == []
    assert shown["status"] == "SUCCEEDED" and shown["details"]["code"] == "FlowSucceeded"
    _, log = api.call("GET", f"/runs/{run['run_id']}/log", service="flows")
    assert [entry["code"] for entry in log["entries"]] == [
        "FlowStarted",
        "PassStarted",
        "PassCompleted",
        "FlowSucceeded",
    ]


def test_runs_follow_their_script_and_can_be_canceled(api: Any) -> None:
    flow = make_flow(api)
    api.box.control.put("flow-script", flow["id"], {"states": ["ACTIVE", "INACTIVE", "FAILED"], "code": "StateFailed"})
    run = started(api, flow)
    seen = [api.call("GET", f"/runs/{run['run_id']}", service="flows")[1] for _ in range(4)]
    assert [each["status"] for each in seen] == ["ACTIVE", "INACTIVE", "FAILED", "FAILED"]
    assert seen[-1]["details"]["code"] == "StateFailed"
    other = started(api, flow)
    _, ended = api.call("POST", f"/runs/{other['run_id']}/cancel", service="flows")
    assert ended["status"] == "FAILED" and ended["details"]["code"] == "FlowCanceled"


@pytest.mark.parametrize(
    ("body", "where"),
    [
        ({"title": ""}, ["title"]),
        ({"definition": {"StartAt": "A", "States": {}}}, ["definition", "States"]),
        ({"definition": {"StartAt": "B", "States": {"A": {}}}}, ["definition", "StartAt"]),
        ({"definition": {"StartAt": "A", "States": {"A": {"Next": "B"}}}}, ["definition", "States", "A"]),
        ({"flow_administrators": ["ae341a98-d274-11e5-b888-dbae3a8ba545"]}, ["flow_administrators", 0]),
    ],
)
def test_a_wrong_flow_is_refused_as_recorded(api: Any, body: dict[str, Any], where: list[Any]) -> None:
    given = {"title": "One", "definition": DEFINITION, "input_schema": {}, **body}
    status, error = api.call("POST", "/flows", given, service="flows")
    assert status == 422
    assert_like(error, "flows.create_flow", case="bad_admin_principal_error")
    assert error["error"]["detail"][0]["loc"] == where


def test_a_wrong_input_is_refused(api: Any) -> None:
    flow = make_flow(api)
    status, error = start(api, flow, {"body": {"n": "one"}})
    assert status == 422 and error["error"]["detail"][0]["loc"] == ["body", "n"]


def test_a_timer_document(api: Any) -> None:
    timer = {
        "timer_type": "transfer",
        "name": "Very Cool Timer",
        "schedule": {
            "type": "recurring",
            "interval_seconds": 604800,
            "start": "2023-10-27T05:00:00+00:00",
            "end": {"count": 2},
        },
        "body": {name: value for name, value in api.transfer_body(("/a", "/a")).items() if name != "submission_id"},
    }
    status, made = api.call("POST", "/v2/timer", {"timer": timer}, service="timer")
    assert status == 201
    _, theirs = recorded("timer.create_timer")
    ours = {name: value for name, value in made["timer"].items() if name != "body"}
    theirs = {name: value for name, value in theirs["timer"].items() if name != "body"}
    assert list(differences(shape(ours), shape(theirs))) == []
    _, job = api.call("GET", f"/jobs/{made['timer']['job_id']}", service="timer")
    _, theirs = recorded("timer.get_job")
    assert set(theirs) <= set(job)


def test_the_cli_makes_lists_shows_and_deletes_a_timer(
    new_sandbox: Callable[..., Sandbox], globus_in: Callable[[Sandbox], Any]
) -> None:
    globus = globus_in(new_sandbox(collections=("archive:gcp", "scratch:gcp")))  # mapped ones need a consent more
    source, destination = (globus.box.collection(name).id for name in ("archive", "scratch"))
    made = globus.json(
        "timer", "create", "transfer", "--interval", "1d", "--name", "nightly", f"{source}:/a/", f"{destination}:/a/"
    )
    assert [each["name"] for each in globus.json("timer", "list")] == ["nightly"]
    assert globus.json("timer", "show", made["job_id"])["callback_body"]["body"]["source_endpoint"] == source
    assert globus("timer", "list").returncode == 0 and globus("timer", "show", made["job_id"]).returncode == 0
    globus.json("timer", "delete", made["job_id"])
    assert globus.json("timer", "list") == []
    assert globus("timer", "show", made["job_id"]).returncode == 1


def test_a_search_result_and_who_sees_what(api: Any) -> None:
    _, index = api.call("POST", "/v1/index", {"display_name": "One", "description": "d"}, service="search")
    assert_like(index, "search.create_index")
    entries = [
        {"subject": "mine", "content": {"word": "beam"}, "visible_to": [f"urn:globus:auth:identity:{auth.USER}"]},
        {"subject": "open", "content": {"word": "beam"}, "visible_to": ["public"]},
        {"subject": "other", "content": {"word": "beam"}, "visible_to": [f"urn:globus:auth:identity:{auth.CLIENT}"]},
    ]
    body = {"@datatype": "GIngest", "ingest_type": "GMetaList", "ingest_data": {"gmeta": entries}}
    status, answer = api.call("POST", f"/v1/index/{index['id']}/ingest", body, service="search")
    assert status == 202 and answer["acknowledged"]
    _, task = api.call("GET", f"/v1/task/{answer['task_id']}", service="search")
    assert task["state"] == "SUCCESS"
    _, result = api.call("GET", f"/v1/index/{index['id']}/search?q=beam", service="search")
    assert_like({**result, "gmeta": [{**result["gmeta"][0], "entries": []}]}, "search.search")
    assert [each["subject"] for each in result["gmeta"]] == ["mine", "open"]
    _, result = api.call("POST", f"/v1/index/{index['id']}/search", {"q": "beam", "limit": 1}, service="search")
    assert result["count"] == 1 and result["total"] == 2 and result["has_next_page"]
    bad = {**body, "ingest_data": {"gmeta": [{"subject": "x", "content": {}}]}}
    status, error = api.call("POST", f"/v1/index/{index['id']}/ingest", bad, service="search")
    assert status == 400 and error["@datatype"] == "GError"


def test_the_cli_makes_starts_and_follows_a_flow(
    new_sandbox: Callable[..., Sandbox], globus_in: Callable[[Sandbox], Any], tmp_path: Path
) -> None:
    globus = globus_in(new_sandbox(login="client"))
    for name, document in (("definition", DEFINITION), ("schema", SCHEMA)):
        (tmp_path / name).write_text(json.dumps(document))
    flow = globus.json(
        "flows", "create", "One", str(tmp_path / "definition"), "--input-schema", str(tmp_path / "schema")
    )
    run = globus.json("flows", "start", flow["id"], "--input", '{"n": 1}', "--tag", "x")
    assert globus.json("flows", "run", "show", run["run_id"])["status"] == "SUCCEEDED"
    assert [each["run_id"] for each in globus.json("flows", "run", "list", "--filter-flow-id", flow["id"])["runs"]] == [
        run["run_id"]
    ]
    assert len(globus.json("flows", "run", "show-logs", run["run_id"])["entries"]) == 4
    assert globus("flows", "start", flow["id"], "--input", "{}").returncode == 1


@pytest.mark.sandbox_unknown
@pytest.mark.parametrize(
    ("url", "given", "what"),
    [
        ("https://transfer.actions.globus.org/transfer", {"no_such_field": 1}, "body field 'no_such_field'"),
        ("https://actions.globus.org/transfer/set_permission", {"operation": "DELETE"}, "operation 'DELETE'"),
    ],
)
def test_what_an_action_does_not_know_is_listed(api: Any, url: str, given: dict[str, Any], what: str) -> None:
    """An action is as strict as the request that it stands for."""
    state = {"Type": "Action", "ActionUrl": url, "Parameters": given, "End": True}
    flow = make_flow(api, definition={"StartAt": "Do", "States": {"Do": state}}, input_schema={})
    run = started(api, flow)
    assert api.call("GET", f"/runs/{run['run_id']}", service="flows")[0] == 501
    assert what in api.box.control.unknown()[0]["what"]
