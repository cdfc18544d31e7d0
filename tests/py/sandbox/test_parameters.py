"""Parameters that once were accepted and ignored: each has its effect now."""

from __future__ import annotations

from typing import Any

import pytest

from globus_sandbox import auth
from sandbox.place import Place

ME = "urn:globus:auth:identity:" + auth.USER


@pytest.fixture
def place(new_sandbox: Any) -> Place:
    return Place(new_sandbox(collections=("archive", "scratch", "shared:guest", "laptop:gcp")))


def names(place: Place, query: str, **options: Any) -> set[str]:
    status, document = place.call("transfer", "GET", f"/endpoint_search?{query}", **options)
    assert status == 200, document
    return {row["display_name"] for row in document["DATA"]}


def test_endpoint_search_looks_where_it_is_told_to(place: Place) -> None:
    other = auth.token("access", "transfer.api.globus.org", auth.CLIENT)
    place.box.control.progress("held")
    place.api.transfer(("/a", "/a"))
    assert names(place, "filter_scope=recently-used") == names(place, "filter_scope=in-use") == {"archive", "scratch"}
    place.api.call("POST", f"/task/{place.box.control.tasks()[0]['task_id']}/cancel")
    assert names(place, "filter_scope=recently-used") == {"archive", "scratch"}
    assert names(place, "filter_scope=in-use") == set()
    for scope in ("administered-by-me", "my-endpoints"):
        assert names(place, f"filter_scope={scope}") == {"archive", "scratch", "shared", "laptop"}
    for scope in ("recently-used", "administered-by-me", "my-endpoints", "shared-with-me"):
        assert names(place, f"filter_scope={scope}", token=other) == set()
    assert names(place, "filter_scope=my-gcp-endpoints") == {"laptop"}
    assert names(place, "filter_scope=shared-by-me") == {"shared"}
    assert names(place, "filter_fulltext=archive&filter_non_functional=false") == {"archive"}
    assert names(place, "filter_fulltext=archive&filter_non_functional=true") == set()


def rows(place: Place, service: str, path: str, name: str) -> list[Any]:
    status, document = place.call(service, "GET", path)
    assert status == 200, document
    return list(document[name])


def test_flows_are_listed_by_role_in_order_and_in_pages(place: Place) -> None:
    base = {"definition": {"StartAt": "A", "States": {"A": {"Type": "Pass", "End": True}}}, "input_schema": {}}
    for title, roles in (("b", {"flow_viewers": [ME]}), ("a", {"flow_administrators": [ME]}), ("c", {})):
        assert place.call("flows", "POST", "/flows", {"title": title, **base, **roles})[0] == 201

    def titles(query: str) -> str:
        return "".join(flow["title"] for flow in rows(place, "flows", f"/flows?{query}", "flows"))

    assert titles("orderby=title%20ASC") == "abc" and titles("orderby=title%20DESC") == "cba"
    assert titles("filter_roles=flow_viewer") == titles("filter_role=flow_viewer") == "b"
    assert titles("filter_roles=flow_viewer,flow_administrator&orderby=title") == "ab"
    assert titles("filter_roles=flow_owner&orderby=title") == "abc"
    _, first = place.call("flows", "GET", "/flows?orderby=title&per_page=2")
    assert [flow["title"] for flow in first["flows"]] == ["a", "b"] and first["has_next_page"]
    assert titles(f"orderby=title&per_page=2&marker={first['marker']}") == "c"


def test_runs_are_listed_without_a_filter_by_role_and_in_order(place: Place) -> None:
    flow = place.flow()
    for label in ("b", "a"):
        run = place.start(flow=flow)[1]["run_id"]
        status, answer = place.call("flows", "PUT", f"/runs/{run}", {"label": label, "run_monitors": []})
        assert status == 200, answer

    def labels(query: str = "") -> str:
        return "".join(run["label"] for run in rows(place, "flows", f"/runs?{query}", "runs"))

    assert labels() == "ab", "the newest first"
    assert labels("orderby=label%20DESC") == "ba"
    assert labels("filter_roles=run_manager") == "ab" and labels("filter_roles=run_monitor") == ""
    assert labels("filter_roles=run_owner&per_page=1") == "a"


def test_timers_are_listed_in_order_and_as_many_as_asked_for(place: Place) -> None:
    job, other = place.timer(), place.timer()
    assert place.call("timer", "POST", f"/jobs/{other}/pause")[0] == 200

    def jobs(query: str) -> list[str]:
        return [each["job_id"] for each in rows(place, "timer", f"/jobs/?{query}", "jobs")]

    assert jobs("order=status%20desc") == [job, other] and jobs("order=status%20asc") == [other, job]
    assert jobs("order=status%20asc&limit=1") == [other]


def test_groups_are_listed_by_the_status_of_the_membership(place: Place) -> None:
    theirs = auth.token("access", "groups.api.globus.org", auth.CLIENT)
    group = place.call("groups", "POST", "/v2/groups", {"name": "theirs"}, token=theirs)[1]["id"]
    invited = {"invite": [{"identity_id": auth.USER, "role": "member"}]}
    assert place.call("groups", "POST", f"/v2/groups/{group}", invited, token=theirs)[0] == 200

    def listed(query: str = "") -> set[str]:
        return {each["name"] for each in place.call("groups", "GET", f"/v2/groups/my_groups{query}")[1]}

    assert listed() == listed("?statuses=active") == {"Sandbox Users"}
    assert listed("?statuses=invited") == {"theirs"} and listed("?statuses=active,invited") == {
        "Sandbox Users",
        "theirs",
    }


def test_a_group_shows_its_members_when_asked_to(place: Place) -> None:
    group = place.group()
    assert "memberships" not in place.call("groups", "GET", f"/v2/groups/{group}")[1]
    _, shown = place.call("groups", "GET", f"/v2/groups/{group}?include=memberships,my_memberships")
    assert [one["identity_id"] for one in shown["memberships"]] == [auth.USER]
