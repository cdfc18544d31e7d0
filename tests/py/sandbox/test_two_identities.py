"""Whose things are whose: a user who owns the collections, and a service account that may do what it was given and no more."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from globus_sandbox import auth
from globus_sandbox.launch import Sandbox
from sandbox_api import Api

SERVERS = {**auth.SERVER_OF_SERVICE}


class Two:
    """One sandbox, of a user; and the same requests as a service account."""

    def __init__(self, box: Sandbox) -> None:
        self.box = box
        self.api = Api(box)
        self.shared = box.collection("shared")
        self.laptop = box.collection("laptop")
        (self.shared.path / "theirs").mkdir()
        (self.shared.path / "theirs" / "file").write_text("x")
        (self.shared.path / "private").mkdir()

    def mine(self, service: str, method: str, path: str, body: Any = None) -> Any:
        status, document = self.api.call(method, path, body, service=service)
        assert status < 300, document
        return document

    def theirs(self, service: str, method: str, path: str, body: Any = None, server: str = "") -> tuple[int, Any]:
        token = auth.token("access", server or SERVERS[service], auth.CLIENT)
        return self.api.call(method, path, body, service=service, token=token)

    def grant(self, path: str, permissions: str) -> str:
        rule = {"principal_type": "identity", "principal": auth.CLIENT, "path": path, "permissions": permissions}
        made = self.mine("transfer", "POST", f"/endpoint/{self.shared.id}/access", {"DATA_TYPE": "access", **rule})
        return str(made["access_id"])


@pytest.fixture
def two(new_sandbox: Callable[..., Sandbox]) -> Two:
    return Two(new_sandbox(collections=("archive", "scratch", "shared:guest", "laptop:gcp")))


def flow_body() -> dict[str, Any]:
    definition = {"StartAt": "A", "States": {"A": {"Type": "Pass", "End": True}}}
    return {"title": "A flow", "definition": definition, "input_schema": {}}


def started(two: Two, flow: str) -> str:
    token = auth.token("access", flow, auth.USER)
    status, run = two.api.call("POST", f"/flows/{flow}/run", {"body": {}}, service="flows", token=token)
    assert status == 201, run
    return str(run["run_id"])


def test_what_a_service_account_must_not_do_is_refused(two: Two) -> None:
    """Each of the things that belong to the user: refused, with the code of the service."""
    box, shared, laptop = two.box, two.shared.id, two.laptop.id
    rule = two.grant("/theirs/", "r")
    role = two.mine(
        "transfer",
        "POST",
        f"/endpoint/{laptop}/role",
        {"principal": auth.USER, "principal_type": "identity", "role": "access_manager"},
    )["id"]
    bookmark = two.mine("transfer", "POST", "/bookmark", {"endpoint_id": shared, "path": "/", "name": "b"})["id"]
    box.control.progress("held")
    task = two.api.transfer(("/a", "/a"))
    timer = {
        "timer_type": "transfer",
        "schedule": {"type": "once"},
        "body": {
            "source_endpoint": box.collection("archive").id,
            "destination_endpoint": box.collection("scratch").id,
            "DATA": [{"source_path": "/a", "destination_path": "/b"}],
        },
    }
    job = two.mine("timer", "POST", "/v2/timer", {"timer": timer})["timer"]["job_id"]
    flow = two.mine("flows", "POST", "/flows", flow_body())["id"]
    run = started(two, flow)
    index = two.mine("search", "POST", "/v1/index", {"display_name": "i", "description": "d"})["id"]
    group = two.mine("groups", "POST", "/v2/groups", {"name": "g"})["id"]
    operation, access = f"/operation/endpoint/{shared}", f"/endpoint/{shared}/access"
    entry = {"subject": "s", "visible_to": ["public"], "content": {}}
    new_rule = {"principal_type": "identity", "principal": auth.CLIENT, "path": "/", "permissions": "rw"}
    refused: list[tuple[int, str, tuple[Any, ...]]] = [
        (403, "EndpointPermissionDenied", ("transfer", "GET", f"{operation}/ls?path=/private/")),
        (403, "EndpointPermissionDenied", ("transfer", "GET", f"{operation}/stat?path=/private")),
        (403, "EndpointPermissionDenied", ("transfer", "POST", f"{operation}/mkdir", {"path": "/theirs/new"})),
        (
            403,
            "EndpointPermissionDenied",
            ("transfer", "POST", f"{operation}/rename", {"old_path": "/theirs/file", "new_path": "/theirs/other"}),
        ),
        (403, "PermissionDenied", ("transfer", "GET", f"{access}_list")),
        (403, "PermissionDenied", ("transfer", "POST", access, {"DATA_TYPE": "access", **new_rule})),
        (403, "PermissionDenied", ("transfer", "PUT", f"{access}/{rule}", {"permissions": "rw"})),
        (403, "PermissionDenied", ("transfer", "DELETE", f"{access}/{rule}")),
        (403, "PermissionDenied", ("transfer", "PUT", f"/endpoint/{shared}", {"display_name": "mine"})),
        (403, "PermissionDenied", ("transfer", "DELETE", f"/endpoint/{shared}")),
        (403, "PermissionDenied", ("transfer", "GET", f"/endpoint/{laptop}/role_list")),
        (403, "PermissionDenied", ("transfer", "DELETE", f"/endpoint/{laptop}/role/{role}")),
        (404, "BookmarkNotFound", ("transfer", "GET", f"/bookmark/{bookmark}")),
        (404, "BookmarkNotFound", ("transfer", "PUT", f"/bookmark/{bookmark}", {"name": "mine"})),
        (404, "BookmarkNotFound", ("transfer", "DELETE", f"/bookmark/{bookmark}")),
        (404, "TaskNotFound", ("transfer", "GET", f"/task/{task}")),
        (404, "TaskNotFound", ("transfer", "GET", f"/task/{task}/event_list")),
        (404, "TaskNotFound", ("transfer", "PUT", f"/task/{task}", {"label": "mine"})),
        (404, "TaskNotFound", ("transfer", "POST", f"/task/{task}/cancel")),
        (403, "PermissionDenied", ("transfer", "GET", f"/endpoint_manager/task_list?filter_endpoint={shared}")),
        (404, "TaskNotFound", ("transfer", "GET", f"/endpoint_manager/task/{task}")),
        (404, "NOT_FOUND", ("timer", "GET", f"/jobs/{job}")),
        (404, "NOT_FOUND", ("timer", "POST", f"/jobs/{job}/pause")),
        (404, "NOT_FOUND", ("timer", "DELETE", f"/jobs/{job}")),
        (403, "FORBIDDEN", ("flows", "GET", f"/flows/{flow}", None, "flows.globus.org")),
        (403, "FORBIDDEN", ("flows", "PUT", f"/flows/{flow}", {"title": "mine"}, "flows.globus.org")),
        (403, "FORBIDDEN", ("flows", "DELETE", f"/flows/{flow}", None, "flows.globus.org")),
        (403, "FORBIDDEN", ("flows", "POST", f"/flows/{flow}/run", {"body": {}}, flow)),
        (403, "FORBIDDEN", ("flows", "GET", f"/runs/{run}", None, "flows.globus.org")),
        (403, "FORBIDDEN", ("flows", "POST", f"/runs/{run}/cancel", None, "flows.globus.org")),
        (403, "Forbidden.Generic", ("search", "PATCH", f"/v1/index/{index}", {"display_name": "mine"})),
        (403, "Forbidden.Generic", ("search", "DELETE", f"/v1/index/{index}")),
        (
            403,
            "Forbidden.Generic",
            ("search", "POST", f"/v1/index/{index}/ingest", {"ingest_type": "GMetaEntry", "ingest_data": entry}),
        ),
        (403, "FORBIDDEN", ("groups", "GET", f"/v2/groups/{group}")),
        (403, "FORBIDDEN", ("groups", "DELETE", f"/v2/groups/{group}")),
        (403, "FORBIDDEN", ("groups", "POST", f"/v2/groups/{group}", {"add": [{"identity_id": auth.CLIENT}]})),
    ]
    answers = []
    for status, code, call in refused:
        got, document = two.theirs(*call)
        answers.append((call[1], call[2], got, document.get("code") or document["error"]["code"]))
        assert (got, answers[-1][3]) == (status, code), answers[-1]
    assert len(answers) > 20
    assert two.api.task(task)["status"] == "ACTIVE" and two.mine("groups", "GET", f"/v2/groups/{group}")["name"] == "g"


def test_lists_hold_what_is_ones_own(two: Two) -> None:
    two.mine("transfer", "POST", "/bookmark", {"endpoint_id": two.shared.id, "path": "/", "name": "b"})
    two.mine("flows", "POST", "/flows", flow_body())
    two.mine("search", "POST", "/v1/index", {"display_name": "i", "description": "d"})
    two.api.ended(two.api.transfer(("/", "/copy")))
    for service, path, name in (
        ("transfer", "/bookmark_list", "DATA"),
        ("transfer", "/task_list", "DATA"),
        ("transfer", "/endpoint_search?filter_scope=my-endpoints", "DATA"),
        ("transfer", "/endpoint_search?filter_scope=shared-with-me", "DATA"),
        ("search", "/v1/index_list", "index_list"),
        ("timer", "/jobs/", "jobs"),
    ):
        assert two.theirs(service, "GET", path)[1][name] == [], path
    assert two.theirs("flows", "GET", "/flows", None, "flows.globus.org")[1]["flows"] == []
    assert two.theirs("groups", "GET", "/v2/groups/my_groups")[1] == []


def test_a_permission_gives_what_it_says(two: Two) -> None:
    operation = f"/operation/endpoint/{two.shared.id}"
    rule = two.grant("/theirs/", "r")
    assert two.theirs("transfer", "GET", f"{operation}/ls?path=/theirs/")[0] == 200
    assert two.theirs("transfer", "POST", f"{operation}/mkdir", {"path": "/theirs/new"})[0] == 403
    assert two.theirs("transfer", "GET", "/endpoint_search?filter_scope=shared-with-me")[1]["DATA"]
    two.mine("transfer", "PUT", f"/endpoint/{two.shared.id}/access/{rule}", {"permissions": "rw"})
    assert two.theirs("transfer", "POST", f"{operation}/mkdir", {"path": "/theirs/new"})[0] == 200
    two.mine("transfer", "DELETE", f"/endpoint/{two.shared.id}/access/{rule}")
    assert two.theirs("transfer", "GET", f"{operation}/ls?path=/theirs/")[0] == 403


def test_a_permission_of_a_group_counts_for_its_members(two: Two) -> None:
    group = two.mine("groups", "POST", "/v2/groups", {"name": "g"})["id"]
    rule = {"principal_type": "group", "principal": group, "path": "/theirs/", "permissions": "r"}
    two.mine("transfer", "POST", f"/endpoint/{two.shared.id}/access", {"DATA_TYPE": "access", **rule})
    listing = ("transfer", "GET", f"/operation/endpoint/{two.shared.id}/ls?path=/theirs/")
    assert two.theirs(*listing)[0] == 403
    two.mine("groups", "POST", f"/v2/groups/{group}", {"add": [{"identity_id": auth.CLIENT, "role": "member"}]})
    assert two.theirs(*listing)[0] == 200


def test_a_task_without_a_permission_faults_as_at_a_denied_file(two: Two) -> None:
    """What fails most often with service accounts: the permission is for the person, and the task waits for its deadline."""
    body = two.api.transfer_body(("/theirs/file", "/file"))
    body["source_endpoint"] = two.shared.id
    token = auth.token("access", SERVERS["transfer"], auth.CLIENT)
    status, answer = two.api.call("POST", "/transfer", body, token=token)
    assert status == 202

    def seen() -> Any:
        return two.theirs("transfer", "GET", f"/task/{answer['task_id']}")[1]

    assert (seen()["status"], seen()["nice_status"]) == ("ACTIVE", "PERMISSION_DENIED")
    two.grant("/theirs/", "r")
    two.box.control.progress("polls:0")
    for _ in range(50):
        if seen()["status"] == "SUCCEEDED":
            break
    assert (two.box.collection("scratch").path / "file").read_text() == "x"
