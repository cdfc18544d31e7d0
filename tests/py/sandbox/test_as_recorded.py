"""What tasks, timers, runs and searches say of themselves, value by value, where the recordings say it."""

from __future__ import annotations

import re
from typing import Any

import pytest

from globus_sandbox import auth
from sandbox.place import Place

MOMENT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?\+00:00")


@pytest.fixture
def place(new_sandbox: Any) -> Place:
    return Place(new_sandbox(collections=("archive", "scratch", "laptop:gcp", "share:gcp-guest")))


def events(place: Place, task: str) -> list[dict[str, Any]]:
    return list(place.api.get(f"/task/{task}/event_list?limit=100")["DATA"])


def test_a_canceled_task_ends_with_an_error_event(place: Place) -> None:
    place.canceled()
    (task,) = place.box.control.tasks()
    last = events(place, task["task_id"])[0]
    assert (last["code"], last["is_error"], last["details"]) == ("CANCELED", True, "Canceled by the task owner")


def test_times_of_a_task_and_its_events_have_a_t(place: Place) -> None:
    task = place.moved()
    document = place.api.task(task)
    for name in ("request_time", "completion_time", "deadline"):
        assert MOMENT.fullmatch(document[name]), document[name]
    for event in events(place, task):
        assert MOMENT.fullmatch(event["time"]), event


def test_the_time_of_a_skipped_error_is_when_it_was_skipped(place: Place) -> None:
    task = place.api.transfer(("/gone", "/gone"), skip_source_errors=True)
    place.api.ended(task)
    (before,) = place.api.get(f"/task/{task}/skipped_errors")["DATA"]
    place.box.control.advance_clock(3600)
    assert place.api.get(f"/task/{task}/skipped_errors")["DATA"] == [before]
    assert MOMENT.fullmatch(before["error_time"])


def test_a_flow_starts_with_its_own_scope_alone(place: Place) -> None:
    flow = place.flow()
    status, answer = place.call("flows", "POST", f"/flows/{flow}/run", {"body": {}})
    assert (status, answer["error"]["code"]) == (403, "MISSING_SCOPE")
    assert f"flow_{flow.replace('-', '_')}_user" in answer["error"]["detail"]
    assert place.start(flow=flow)[0] == 201


def test_flows_are_listed_with_definition_and_schema(place: Place) -> None:
    place.flow()
    (listed,) = place.call("flows", "GET", "/flows")[1]["flows"]
    assert listed["definition"]["StartAt"] == "A" and listed["input_schema"] == {"type": "object"}


def test_a_run_that_has_ended_shows_its_output(place: Place) -> None:
    run = place.call("flows", "GET", f"/runs/{place.run()}")[1]
    assert run["details"]["output"] == {"input": {"a": 1}}


def test_an_inactive_run_names_the_scope_it_waits_for(place: Place) -> None:
    flow = place.flow()
    run = place.start("INACTIVE", flow=flow)[1]["run_id"]
    details = place.call("flows", "GET", f"/runs/{run}")[1]["details"]
    assert details["required_scope"] == auth.scope_of(flow)


def test_a_timer_that_was_paused_says_who_did_it(place: Place) -> None:
    job = place.timer()
    assert place.call("timer", "POST", f"/jobs/{job}/pause")[0] == 200
    shown = place.call("timer", "GET", f"/jobs/{job}")[1]
    assert (shown["status"], shown["inactive_reason"]) == ("inactive", {"cause": "user", "detail": None})


def test_a_search_for_what_is_not_there(place: Place) -> None:
    nobody = auth.id_of("no index")
    paths = (f"/v1/index/{nobody}", f"/v1/index/{nobody}/search?q=a", f"/v1/task/{nobody}")
    for path in (*paths, f"/v1/index/{place.index()}/subject?subject=a"):
        status, answer = place.call("search", "GET", path)
        assert (status, answer["code"], answer["@datatype"]) == (404, "NotFound.Generic", "GError"), path


def test_a_search_task_has_the_dates_of_its_beginning_and_end(place: Place) -> None:
    (task,) = place.call("search", "GET", f"/v1/task_list/{place.filled()}")[1]["tasks"]
    assert MOMENT.fullmatch(task["creation_date"]) and MOMENT.fullmatch(task["completion_date"])


def test_a_collection_of_connect_personal_says_so(place: Place) -> None:
    gcp, guest, v5 = (
        place.api.get(f"/endpoint/{place.box.collection(name).id}") for name in ("laptop", "share", "archive")
    )
    for one in (gcp, guest):
        assert (one["is_globus_connect"], one["gcp_connected"], one["gcp_paused"]) == (True, True, False)
        assert (one["gcs_version"], one["gcs_manager_url"], one["host_endpoint_id"]) == (None, None, None)
        assert one["owner_id"] == auth.USER
    assert (v5["is_globus_connect"], v5["gcp_connected"], v5["gcp_paused"]) == (False, None, None)
    assert (gcp["acl_available"], guest["acl_available"]) == (False, True)
