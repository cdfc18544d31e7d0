"""What those who manage a collection do with the tasks of others on it: pause, resume, cancel."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest

from globus_sandbox import auth
from globus_sandbox.launch import Sandbox
from sandbox_api import Api

M = "/endpoint_manager"
CLIENT = auth.token("access", "transfer.api.globus.org", auth.CLIENT)


@pytest.fixture
def theirs(new_sandbox: Callable[..., Sandbox]) -> tuple[Api, str]:
    """The user's sandbox, with a task of a service account in it."""
    box = new_sandbox(progress="held")
    (box.collection("archive").path / "a").write_text("1")
    api = Api(box)
    status, answer = api.call("POST", "/transfer", api.transfer_body(("/a", "/a")), token=CLIENT)
    assert status == 202, answer
    return api, str(answer["task_id"])


def seen(api: Api, task: str) -> dict[str, Any]:
    """The task as its owner sees it."""
    status, document = api.call("GET", f"/task/{task}", token=CLIENT)
    assert status == 200
    return dict(document)


def until(api: Api, task: str, wanted: Callable[[Any], bool]) -> None:
    """Wait until the task is so, as its manager sees it."""
    end = time.monotonic() + 240
    while not wanted(document := api.get(f"{M}/task/{task}")):
        assert time.monotonic() < end, document
        time.sleep(0.01)


def done(api: Api, path: str, **body: Any) -> Any:
    status, answer = api.call("POST", M + path, body)
    assert status == 200, answer
    return answer


def test_a_task_of_someone_else_is_paused_and_resumed(theirs: tuple[Api, str]) -> None:
    api, task = theirs
    assert api.call("GET", f"/task/{task}")[0] == 404, "it is not the user's"
    done(api, "/admin_pause", task_id_list=[task], message="tape robot")
    until(api, task, lambda document: document["is_paused"])
    info = api.call("GET", f"/task/{task}/pause_info", token=CLIENT)[1]
    assert info["source_pause_message"] == "tape robot"
    assert api.get(f"{M}/task/{task}/pause_info") == info
    codes = [event["code"] for event in api.get(f"{M}/task/{task}/event_list")["DATA"]]
    assert "PAUSED" in codes
    api.box.control.progress("at-once")
    done(api, "/admin_resume", task_id_list=[task])
    until(api, task, lambda document: document["status"] == "SUCCEEDED")


def test_a_pause_rule_holds_all_tasks_on_a_collection_until_it_is_deleted(theirs: tuple[Api, str]) -> None:
    api, task = theirs
    archive = api.box.collection("archive").id
    rule = done(api, "/pause_rule", DATA_TYPE="pause_rule", endpoint_id=archive, message="maintenance")
    until(api, task, lambda document: document["is_paused"])
    assert [each["id"] for each in api.get(f"{M}/pause_rule_list?filter_endpoint={archive}")["DATA"]] == [rule["id"]]
    paused = f"{M}/task_list?filter_endpoint={archive}&filter_is_paused=1"
    assert [each["task_id"] for each in api.get(paused)["DATA"]] == [task]
    assert api.call("GET", f"/operation/endpoint/{archive}/ls?path=/")[0] == 409
    assert api.call("DELETE", f"{M}/pause_rule/{rule['id']}")[0] == 200
    until(api, task, lambda document: not document["is_paused"])
    assert api.get(f"{M}/pause_rule_list")["DATA"] == []
    assert api.call("DELETE", f"{M}/pause_rule/{rule['id']}")[0] == 404


def test_a_task_that_an_administrator_cancels_says_who_and_why(theirs: tuple[Api, str]) -> None:
    api, task = theirs
    assert done(api, "/admin_cancel", task_id_list=[task], message="disk is full")["done"]
    document = seen(api, task)
    assert (document["status"], document["fatal_error"]["code"]) == ("FAILED", "CANCELED")
    assert (document["canceled_by_admin"], document["canceled_by_admin_message"]) == ("SOURCE", "disk is full")
    last = api.get(f"{M}/task/{task}/event_list")["DATA"][0]
    assert last["code"] == "CANCELED" and "owner" not in last["details"]


def test_who_does_not_manage_the_collections_changes_nothing(theirs: tuple[Api, str]) -> None:
    """The owner of a task is not its manager; and a list with one task that is not theirs is refused as a whole."""
    api, task = theirs
    archive = api.box.collection("archive").id
    for path in ("admin_pause", "admin_cancel", "admin_resume"):
        assert api.call("POST", f"{M}/{path}", {"task_id_list": [task]}, token=CLIENT)[0] == 404
    assert api.call("POST", f"{M}/pause_rule", {"endpoint_id": archive}, token=CLIENT)[0] == 403
    for path in ("admin_pause", "admin_cancel"):
        assert api.call("POST", f"{M}/{path}", {"task_id_list": [task, auth.CLIENT], "message": "x"})[0] == 404
    assert api.box.control.faults() == [] and seen(api, task)["status"] == "ACTIVE"
