"""What has no effect is not accepted: a parameter or a field that its handler never reads is 501, and on the list."""

from __future__ import annotations

import re
from typing import Any

import pytest

from globus_sandbox import application, auth, web
from globus_sandbox.launch import Sandbox
from sandbox_api import Api

V = "/v0.10"


def asked(handler: Any, query: dict[str, str], body: Any, **options: Any) -> None:
    """A request to a service with one handler, as the server answers it."""
    routes = web.Routes()
    routes("POST", "/it", query=query, body=body, **options)(handler)
    route, _ = web.find(routes.table, "POST", "/it")
    call = web.Call("transfer", "POST", "/it", query=web.Fields(query), body=web.Fields(body))
    web.check_strictly(route, call)
    route.handler(None, call)  # type: ignore[arg-type]
    web.check_all_read(route, call)


def test_what_a_handler_reads_is_served() -> None:
    asked(lambda state, call: (call.query.get("a"), call.body["b"], "c" in call.body), {"a": "1"}, {"b": 1, "c": 2})


@pytest.mark.parametrize(("query", "body", "name"), [({"a": "1", "b": "2"}, {}, "b"), ({"a": "1"}, {"c": 1}, "c")])
def test_what_a_handler_never_reads_is_not(query: dict[str, str], body: dict[str, Any], name: str) -> None:
    with pytest.raises(web.Unknown, match=f"'{name}'"):
        asked(lambda state, call: call.query.get("a"), query, body)


def test_what_has_no_effect_on_purpose_is_declared() -> None:
    asked(lambda state, call: None, {"a": "1"}, {}, inert=("a",))


@pytest.mark.sandbox_unknown
@pytest.mark.parametrize(
    ("service", "path"),
    [
        ("transfer", "/task_list?filter_is_paused=1"),
        ("transfer", "/task/{task}/event_list?fields=code"),
        ("transfer", "/task/{task}/event_list?orderby=time"),
        ("transfer", "/endpoint/{shared}/access_list?fields=id"),
        ("transfer", "/bookmark_list?limit=1"),
        ("flows", "/flows?filter_public=true"),
        ("search", "/v1/index/{index}/search?q=a&advanced=true"),
        ("groups", "/v2/groups/{group}?include=allowed_actions"),
        ("transfer", "/endpoint/{host}"),
        ("transfer", "/operation/endpoint/{host}/ls"),
    ],
)
def test_what_was_accepted_and_ignored(new_sandbox: Any, service: str, path: str) -> None:
    box: Sandbox = new_sandbox(collections=("archive", "scratch", "shared:guest"))
    api = Api(box)
    host = api.get(f"/endpoint/{box.collection('archive').id}")["host_endpoint_id"]
    names = {
        "task": api.transfer(("/a", "/b")) if "{task}" in path else "",
        "shared": box.collection("shared").id,
        "host": host,
        "index": api.call("POST", "/v1/index", {"display_name": "a", "description": "b"}, service="search")[1]["id"],
        "group": api.get("/v2/groups/my_groups", service="groups")[0]["id"],
    }
    assert api.call("GET", path.format(**names), service=service)[0] == 501
    assert len(box.control.unknown()) == 1


@pytest.mark.sandbox_unknown
def test_a_parameter_that_is_served_is_served_where_there_is_nothing(api: Api) -> None:
    """Of an empty index, an empty list, a new sandbox: what no row asked for has been asked for all the same."""
    names = {
        "endpoint": api.box.collection("archive").id,
        "group": api.get("/v2/groups/my_groups", service="groups")[0]["id"],
        "index": api.call("POST", "/v1/index", {"display_name": "a", "description": "b"}, service="search")[1]["id"],
        "identity": auth.USER,
    }
    asked = 0
    for service in application.SERVICES:
        for route in application.routes_of(service):
            path = re.sub(r"\(\?P<(\w+)>\[\^/\]\+\)", lambda found: names.get(found[1], "?"), route.pattern.pattern)
            if route.method != "GET" or "?" in path or not route.query or not route.login:
                continue
            for name in sorted(route.query):
                path_ = path.replace("\\", "").removeprefix(V) + f"?{name}={VALUES.get(name, '1')}"
                _, answer = api.call("GET", path_, service=service)
                assert "has no effect" not in str(answer), (path_, answer)
                asked += 1
    assert asked > 40


#: A value for each parameter that takes no number.
VALUES = {"filter_scope": "my-endpoints", "orderby": "name", "order": "name", "include": "policies"}


@pytest.mark.parametrize(
    ("service", "path", "status"),
    [
        ("transfer", "/endpoint_search?filter_scope=bogus", 400),
        ("flows", "/flows?filter_roles=bogus", 422),
        ("flows", "/flows?orderby=bogus", 422),
        ("flows", "/runs?filter_roles=bogus", 422),
        ("timer", "/jobs/?order=bogus", 422),
    ],
)
def test_a_value_that_means_nothing_is_refused(api: Any, service: str, path: str, status: int) -> None:
    assert api.call("GET", path, service=service)[0] == status


def test_a_connection_by_https_is_refused_and_listed(new_globus_sandbox: Any) -> None:
    """Neither the real Globus nor a dead address answers for what is asked for by https and is not here."""
    import socket
    from urllib.parse import urlsplit

    box = new_globus_sandbox()
    assert box.env["HTTPS_PROXY"] == box.url
    with socket.create_connection((urlsplit(box.url).hostname, urlsplit(box.url).port), timeout=300) as line:
        line.sendall(b"CONNECT abc.data.globus.org:443 HTTP/1.1\r\nHost: abc.data.globus.org:443\r\n\r\n")
        assert line.recv(100).startswith(b"HTTP/1.1 501")
    (listed,) = box.control.unknown()
    assert listed["what"] == "https connection to abc.data.globus.org:443"
    box.stop()
