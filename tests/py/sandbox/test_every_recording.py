"""Every recorded case of globus_sdk.testing beside the sandbox's answer: alike, or on a list with its reason, or not served.

Alike means: the same status, the same keys at every depth, the same types of values. Nothing else may differ in silence: a case
that is in none of the lists below fails, and so does one on a list where it does not belong.
"""

from __future__ import annotations

import pkgutil
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import support
from globus_sandbox import application, auth, web
from globus_sandbox.launch import Sandbox
from sandbox.place import Answer, Place, emptied
from sandbox_api import TOKENS, differences, form, shape

try:
    import globus_sdk.testing as testing
    from globus_sdk.testing import data
except ImportError as missing:
    support.cannot(f"no recordings: {missing}")


def recordings() -> Iterator[tuple[str, str, Any]]:
    """Name, case and the recorded response; of several (pages), the first."""
    for module in pkgutil.walk_packages(data.__path__, data.__name__ + "."):
        name = module.name.removeprefix(data.__name__ + ".")
        if module.ispkg or name.endswith("_common"):
            continue
        found = testing.get_response_set(name)
        for case in found.cases():
            response = found.lookup(case)
            yield name, case, getattr(response, "responses", [response])[0]


RECORDINGS = {(name, case): response for name, case, response in recordings()}


def has_route(response: Any) -> bool:
    path = ("/endpoint" if response.service == "gcs" else "") + response.path  # there, the endpoint comes first
    try:
        web.find(application.routes_of(response.service), response.method.upper(), path)
    except web.Unknown:
        return False
    return True


TRANSFER = "urn:globus:auth:scope:transfer.api.globus.org:all"

#: How each case that is served is asked for.
CASES: dict[tuple[str, str], Callable[[Place], Answer]] = {
    ("transfer.get_submission_id", "default"): lambda p: p.call("transfer", "GET", "/submission_id"),
    ("transfer.submit_transfer", "default"): lambda p: p.call(
        "transfer", "POST", "/transfer", p.api.transfer_body(("/a", "/a"))
    ),
    ("transfer.submit_transfer", "failure"): lambda p: p.call("transfer", "POST", "/transfer", p.api.transfer_body()),
    ("transfer.submit_delete", "default"): Place.delete_task,
    ("transfer.task_list", "default"): lambda p: (p.moved(), p.call("transfer", "GET", "/task_list"))[1],
    ("transfer.cancel_task", "default"): Place.canceled,
    ("transfer.get_endpoint", "default"): lambda p: p.call("transfer", "GET", f"/endpoint/{p.archive.id}"),
    ("transfer.update_endpoint", "default"): lambda p: p.call(
        "transfer", "PUT", f"/endpoint/{p.archive.id}", {"DATA_TYPE": "endpoint", "display_name": "other"}
    ),
    ("transfer.operation_mkdir", "default"): lambda p: p.operation("mkdir", {"path": "/new"}),
    ("transfer.operation_rename", "default"): lambda p: (
        (p.archive.path / "old").mkdir(),
        p.operation("rename", {"old_path": "/old", "new_path": "/new"}),
    )[1],
    ("transfer.operation_stat", "default"): lambda p: p.stat("/file1.txt"),
    ("transfer.operation_stat", "not_found"): lambda p: p.stat("/nope"),
    ("transfer.operation_stat", "permission_denied"): Place.refused_stat,
    ("transfer.endpoint_manager_task_list", "default"): lambda p: (
        p.moved(),
        p.call("transfer", "GET", f"/endpoint_manager/task_list?filter_endpoint={p.archive.id}"),
    )[1],
    ("transfer.endpoint_manager_task_successful_transfers", "default"): lambda p: p.call(
        "transfer", "GET", f"/endpoint_manager/task/{p.moved()}/successful_transfers"
    ),
    ("auth.get_identities", "default"): lambda p: p.identities("usernames=new@example.org&provision=true"),
    ("auth.get_identities", "empty"): lambda p: p.identities("usernames=nobody@example.org"),
    ("auth.get_identities", "multiple"): lambda p: p.identities(f"ids={auth.USER},{auth.CLIENT}"),
    ("auth.get_identities", "globusid"): lambda p: p.identities(f"ids={auth.USER}"),
    ("auth.get_identities", "sirosen"): lambda p: p.identities(f"usernames={auth.USERNAME}"),
    ("auth.get_identities", "unauthorized"): lambda p: p.identities("usernames=x", token=None),
    ("auth.get_consents", "default"): lambda p: p.call("auth", "GET", f"/v2/api/identities/{auth.USER}/consents"),
    ("auth.userinfo", "unauthorized"): lambda p: p.call("auth", "GET", "/v2/oauth2/userinfo", token=None),
    ("auth.userinfo", "forbidden"): lambda p: p.call("auth", "GET", "/v2/oauth2/userinfo", token=TOKENS["transfer"]),
    ("auth.oauth2_client_credentials_tokens", "default"): lambda p: p.credentials(TRANSFER),
    ("auth.oauth2_client_credentials_tokens", "openid"): lambda p: p.credentials("openid email profile"),
    ("auth.oauth2_exchange_code_for_tokens", "default"): lambda p: p.code(TRANSFER),
    ("auth.oauth2_exchange_code_for_tokens", "openid"): lambda p: p.code("openid+email+profile+" + TRANSFER),
    ("auth.oauth2_exchange_code_for_tokens", "invalid_grant"): lambda p: form(
        p.box, "/v2/oauth2/token", grant_type="authorization_code", code="no such code"
    ),
    ("auth.oauth2_revoke_token", "default"): lambda p: form(
        p.box, "/v2/oauth2/token/revoke", token=auth.token("access", "auth.globus.org", auth.USER)
    ),
    ("auth.oauth2_token_introspect", "default"): Place.introspected,
    **{
        ("auth.create_native_app_instance", case): Place.instance
        for case in ("default", "name", "template_id_str", "template_id_uuid")
    },
    ("flows.create_flow", "default"): Place.create_flow,
    ("flows.create_flow", "bad_admin_principal_error"): lambda p: p.call(
        "flows",
        "POST",
        "/flows",
        {
            "title": "t",
            "definition": {},
            "input_schema": {},
            "flow_administrators": ["ae341a98-d274-11e5-b888-dbae3a8ba545"],
        },
    ),
    ("flows.get_flow", "default"): lambda p: p.call("flows", "GET", f"/flows/{p.flow()}"),
    ("flows.update_flow", "default"): lambda p: p.call("flows", "PUT", f"/flows/{p.flow()}", {"title": "other"}),
    ("flows.delete_flow", "default"): lambda p: p.call("flows", "DELETE", f"/flows/{p.flow()}"),
    ("flows.list_flows", "default"): lambda p: (p.flow(), p.call("flows", "GET", "/flows"))[1],
    ("flows.list_flows", "paginated"): lambda p: (p.flow(), p.flow(), p.call("flows", "GET", "/flows?per_page=1"))[2],
    ("flows.validate_flow", "default"): lambda p: p.call(
        "flows",
        "POST",
        "/flows/validate",
        {"definition": {"StartAt": "A", "States": {"A": {"Type": "Action", "ActionScope": TRANSFER, "End": True}}}},
    ),
    ("flows.validate_flow", "definition_error"): lambda p: p.call(
        "flows",
        "POST",
        "/flows/validate",
        {"definition": {"StartAt": "Step1", "States": {"Step1": {"Type": "Action"}}}},
    ),
    ("flows.run_flow", "default"): Place.start,
    ("flows.run_flow", "missing_scope_error"): lambda p: p.call(
        "flows", "POST", f"/flows/{p.flow()}/run", {"body": {}}
    ),
    ("flows.get_run", "default"): lambda p: p.call("flows", "GET", f"/runs/{p.run()}"),
    ("flows.get_run_definition", "default"): lambda p: p.call("flows", "GET", f"/runs/{p.run()}/definition"),
    ("flows.get_run_logs", "default"): lambda p: p.call("flows", "GET", f"/runs/{p.run()}/log"),
    ("flows.get_run_logs", "paginated"): lambda p: (
        run := p.run(),
        p.call("flows", "GET", f"/runs/{run}"),
        p.call("flows", "GET", f"/runs/{run}/log?limit=1"),
    )[2],
    ("flows.list_runs", "default"): lambda p: p.after(("flows", "GET", f"/runs/{p.run()}"), ("flows", "GET", "/runs")),
    ("flows.list_runs", "filter_flow_id"): lambda p: (
        run := p.start()[1],
        p.after(("flows", "GET", f"/runs/{run['run_id']}"), ("flows", "GET", f"/runs?filter_flow_id={run['flow_id']}")),
    )[1],
    ("flows.list_runs", "paginated"): lambda p: (
        p.run(),
        p.after(("flows", "GET", f"/runs/{p.run()}"), ("flows", "GET", "/runs?per_page=1")),
    )[1],
    ("flows.cancel_run", "default"): lambda p: p.call("flows", "POST", f"/runs/{p.run('ACTIVE')}/cancel"),
    ("flows.update_run", "default"): lambda p: p.call("flows", "PUT", f"/runs/{p.run('ACTIVE')}", {"label": "other"}),
    ("flows.resume_run", "default"): lambda p: (
        run := p.run("INACTIVE"),
        p.after(("flows", "GET", f"/runs/{run}"), ("flows", "POST", f"/runs/{run}/resume")),
    )[1],
    ("flows.delete_run", "default"): lambda p: (
        run := p.run(),
        p.after(("flows", "GET", f"/runs/{run}"), ("flows", "POST", f"/runs/{run}/release")),
    )[1],
    ("flows.delete_run", "conflict"): lambda p: p.call("flows", "POST", f"/runs/{p.run('ACTIVE')}/release"),
    ("groups.get_my_groups", "default"): lambda p: p.call("groups", "GET", "/v2/groups/my_groups"),
    ("groups.get_group", "default"): lambda p: p.call("groups", "GET", f"/v2/groups/{p.group()}"),
    ("groups.create_group", "default"): lambda p: p.call(
        "groups", "POST", "/v2/groups", {"name": "a", "description": "b"}
    ),
    ("groups.delete_group", "default"): lambda p: p.call("groups", "DELETE", f"/v2/groups/{p.group()}"),
    ("groups.set_group_policies", "default"): lambda p: p.call(
        "groups", "PUT", f"/v2/groups/{p.group()}/policies", {"join_requests": True, "signup_fields": ["address1"]}
    ),
    ("timer.create_timer", "default"): Place.create_timer,
    ("timer.create_timer", "flow_timer_success"): lambda p: p.call(
        "timer",
        "POST",
        "/v2/timer",
        {
            "timer": {
                "timer_type": "flow",
                "flow_id": p.flow(),
                "name": "a timer",
                "schedule": {"type": "once", "datetime": "2099-01-01T00:00:00+00:00"},
                "body": {"body": {}, "run_managers": []},
            }
        },
    ),
    ("timer.get_job", "default"): lambda p: p.call("timer", "GET", f"/jobs/{p.timer()}"),
    ("timer.get_job", "inactive_user"): lambda p: (
        job := p.timer(),
        p.after(("timer", "POST", f"/jobs/{job}/pause"), ("timer", "GET", f"/jobs/{job}")),
    )[1],
    ("timer.list_jobs", "default"): lambda p: (p.timer(), p.call("timer", "GET", "/jobs/"))[1],
    ("timer.delete_job", "default"): lambda p: p.call("timer", "DELETE", f"/jobs/{p.timer()}"),
    ("timer.pause_job", "default"): lambda p: p.call("timer", "POST", f"/jobs/{p.timer()}/pause"),
    ("timer.resume_job", "default"): lambda p: p.call(
        "timer", "POST", f"/jobs/{p.timer()}/resume", {"update_credentials": True}
    ),
    **{
        (f"globus_connect_server.{name}", "default"): lambda p, path=path: p.manager(path)
        for name, path in (
            ("get_gcs_info", "info"),
            ("get_collection_list", "collections"),
            ("get_user_credential_list", "user_credentials"),
        )
    },
    ("search.create_index", "default"): Place.create_index,
    ("search.create_index", "trial_limit"): lambda p: [p.create_index() for _ in range(4)][-1],
    ("search.index_list", "default"): lambda p: (p.index(), p.call("search", "GET", "/v1/index_list"))[1],
    ("search.delete_index", "default"): lambda p: p.call("search", "DELETE", f"/v1/index/{p.index()}"),
    ("search.delete_index", "delete_pending"): lambda p: (
        index := p.index(),
        p.after(("search", "DELETE", f"/v1/index/{index}"), ("search", "DELETE", f"/v1/index/{index}")),
    )[1],
    ("search.reopen_index", "default"): lambda p: (
        index := p.index(),
        p.after(("search", "DELETE", f"/v1/index/{index}"), ("search", "POST", f"/v1/index/{index}/reopen")),
    )[1],
    ("search.reopen_index", "already_open"): lambda p: p.call("search", "POST", f"/v1/index/{p.index()}/reopen"),
    ("search.update_index", "default"): lambda p: p.call(
        "search", "PATCH", f"/v1/index/{p.index()}", {"display_name": "o"}
    ),
    ("search.update_index", "forbidden"): lambda p: p.call(
        "search",
        "PATCH",
        f"/v1/index/{p.index()}",
        {"display_name": "o"},
        token=auth.token("access", "search.api.globus.org", auth.CLIENT),
    ),
    ("search.search", "default"): lambda p: p.call("search", "GET", f"/v1/index/{p.filled()}/search?q=bar"),
    ("search.post_search", "default"): lambda p: p.call(
        "search", "POST", f"/v1/index/{p.filled()}/search", {"q": "bar"}
    ),
    ("search.batch_delete_by_subject", "default"): lambda p: p.call(
        "search", "POST", f"/v1/index/{p.filled()}/batch_delete_by_subject", {"subjects": ["foo-bar"]}
    ),
    ("search.create_role", "default"): lambda p: p.role(p.index()),
    ("search.get_role_list", "default"): lambda p: p.call("search", "GET", f"/v1/index/{p.index()}/role_list"),
    ("search.delete_role", "default"): lambda p: (
        index := p.index(),
        p.call("search", "DELETE", f"/v1/index/{index}/role/{p.role(index)[1]['id']}"),
    )[1],
}

#: Cases with a route here, whose particular request is refused with 501, or cannot be asked for.
NOT_SERVED: dict[str, str] = {
    "auth.create_client": "only the instance client of `globus login` is made",
    "auth.create_child_client": "only the instance client of `globus login` is made",
    "auth.delete_client": "only the instance client of `globus logout` is deleted, which has no document",
    "auth.oauth2_get_dependent_tokens": "dependent tokens are what services ask for, not their clients",
    "groups.get_group subscription": "there are no subscriptions",
    "timer.get_job simple_500_error": "an internal error; the fault `status` answers whatever is wanted",
    "globus_connect_server.get_collection_list forbidden": "everyone may list the collections that they may see",
    "timer.get_job inactive_gare": "no timer runs here, so none loses its consent",
}

#: What differs, and why it stays so. A text for each difference, or one for the case.
DIFFER: dict[tuple[str, str], str] = {
    ("transfer.task_list", "default"): "DATA_TYPE of a task is recorded for endpoint_manager and documented, not here",
    ("transfer.get_endpoint", "default"): "a GCSv4 host was recorded; the fields of GCSv5 collections are documented",
    **{
        ("auth.get_identities", case): "identity_type is recorded for the case globusid, not for this one"
        for case in ("default", "multiple", "sirosen")
    },
    ("auth.oauth2_exchange_code_for_tokens", "openid"): "state is recorded for the case default, not for this one",
    **{
        ("auth.create_native_app_instance", case): "the recording wraps the document once more than the CLI reads it"
        for case in ("default", "name", "template_id_str", "template_id_uuid")
    },
    (
        "flows.list_flows",
        "paginated",
    ): "run_managers and run_monitors are recorded for the case default, not for this one",
    (
        "globus_connect_server.get_collection_list",
        "default",
    ): "the rest of a collection is recorded in globus-cli's fixtures: collection_operations",
    ("flows.list_runs", "filter_flow_id"): "marker is recorded for the case default, not for this one",
    (
        "groups.get_group",
        "default",
    ): "terms_and_conditions and subscription_admin_verified_id, which the CLI reads, are later",
    **{
        (name, case): "recorded in 2022, before timers had a schedule and a timer_type, which the CLI reads"
        for name, case in (
            ("timer.get_job", "default"),
            ("timer.get_job", "inactive_user"),
            ("timer.list_jobs", "default"),
            ("timer.delete_job", "default"),
        )
    },
}


def not_served(key: tuple[str, str], response: Any) -> str | None:
    """Why a case is not served; None when it is."""
    if not has_route(response):
        return "no route"
    return NOT_SERVED.get(key[0], NOT_SERVED.get(" ".join(key)))


@pytest.fixture(scope="module")
def server_of_all(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    with Sandbox(tmp_path_factory.mktemp("recordings"), durable=False) as box:
        yield box


@pytest.fixture
def place(server_of_all: Sandbox) -> Iterator[Place]:
    """The same server for all cases, with nothing in it."""
    yield Place(emptied(server_of_all))


def found_differences(key: tuple[str, str], answer: Answer) -> list[str]:
    response = RECORDINGS[key]
    status = response.status if isinstance(response.status, int) else 200
    # a recording without a status of its own says 200
    alike = answer[0] == status or (status == 200 and answer[0] < 300)
    found = [] if alike else [f"status {answer[0]}, recorded {status}"]
    return found + sorted(differences(shape(answer[1]), shape(response.json)))


@pytest.mark.parametrize("key", [pytest.param(key, id="-".join(key)) for key in CASES])
def test_a_served_case_is_alike_or_on_the_list(place: Place, key: tuple[str, str]) -> None:
    found = found_differences(key, CASES[key](place))
    if key in DIFFER:
        assert found, "it is alike now: take it off the list"
    else:
        assert not found, "\n".join(found)


def test_every_case_is_served_or_said_not_to_be() -> None:
    open_ = [key for key, response in RECORDINGS.items() if key not in CASES and not_served(key, response) is None]
    assert open_ == []
    assert not [key for key in CASES if not_served(key, RECORDINGS[key]) is not None]
    known = {*(name for name, _ in RECORDINGS), *(" ".join(key) for key in RECORDINGS)}
    assert set(NOT_SERVED) <= known and set(DIFFER) <= set(CASES)


def test_the_figures_are_those_of_the_document() -> None:
    services = [response.service for response in RECORDINGS.values()]
    served = Counter(RECORDINGS[key].service for key in CASES)
    differ = Counter(RECORDINGS[key].service for key in DIFFER)
    rows = [
        f"| {name} | {served[name] - differ[name]} | {differ[name]} | {total - served[name]} |"
        for name, total in sorted(Counter(services).items())
    ]
    text = (support.REPOSITORY / "docs" / "sandbox" / "behavior.md").read_text()
    assert "\n".join(rows) in text, "\n".join(rows)
