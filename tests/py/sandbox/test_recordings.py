"""The sandbox's answers beside the recorded ones in globus_sdk.testing: status, keys, and the types of values.

What differs is listed here by name, with its reason; nothing else may.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import support
from globus_sandbox import auth
from globus_sandbox.launch import Sandbox
from sandbox_api import differences, form, shape

try:
    import globus_sdk.testing as testing
except ImportError as missing:
    support.cannot(f"no recordings: {missing}")

#: Fields the sandbox sends beside the recorded ones, and why they are known.
MORE = {
    "endpoint": "fields of a GCSv5 collection, which the recording of a GCSv4 host does not have: see docs/sandbox/behavior.md",
    "task": {"DATA_TYPE"},  # in endpoint_manager's recording of the same document, and in the documentation
    "introspect": {"session_info"},
    "identity": {"identity_type"},  # recorded for one identity, absent for two others
    "group": {"subscription_id"},
}


def recorded(name: str, case: str = "default") -> tuple[int, Any]:
    response = testing.get_response_set(name).lookup(case)
    status = response.status if isinstance(response.status, int) else 200
    return status, response.json


def assert_like(
    ours: tuple[int, Any], name: str, case: str = "default", more: Any = (), status: int | None = None
) -> None:
    wanted_status, document = recorded(name, case)
    assert ours[0] == (status or wanted_status)
    assert list(differences(shape(ours[1]), shape(document), more)) == []


@pytest.fixture
def moved(api: Any, archive: Path) -> str:
    (archive / "d/e").mkdir(parents=True)
    for name in ("1", "2", "e/3"):
        (archive / "d" / name).write_text("four")
    task = str(api.transfer(("/d", "/d"), verify_checksum=True))
    api.ended(task)
    return task


def test_submission_id(api: Any) -> None:
    assert_like(api.call("GET", "/submission_id"), "transfer.get_submission_id")


def test_submit_transfer(api: Any) -> None:
    answer = api.call("POST", "/transfer", api.transfer_body(("/a", "/a")))
    assert_like(answer, "transfer.submit_transfer", status=202)  # documented; recordings have no status of their own
    assert answer[1]["code"] == recorded("transfer.submit_transfer")[1]["code"]
    assert answer[1]["message"] == recorded("transfer.submit_transfer")[1]["message"]


def test_submit_transfer_without_items(api: Any) -> None:
    answer = api.call("POST", "/transfer", api.transfer_body())
    assert_like(answer, "transfer.submit_transfer", "failure")
    for name in ("code", "message", "resource"):
        assert answer[1][name] == recorded("transfer.submit_transfer", "failure")[1][name]


def test_submit_delete(api: Any, sandbox: Sandbox) -> None:
    body = {
        "DATA_TYPE": "delete",
        "DATA": [{"DATA_TYPE": "delete_item", "path": "/a"}],
        "endpoint": sandbox.collection("scratch").id,
        "submission_id": api.submission_id(),
    }
    answer = api.call("POST", "/delete", body)
    assert_like(answer, "transfer.submit_delete", status=202)
    assert answer[1]["message"] == recorded("transfer.submit_delete")[1]["message"]


def test_task_list(api: Any, moved: str) -> None:
    answer = api.call("GET", "/task_list?limit=1000")
    assert_like(answer, "transfer.task_list", more=MORE["task"])
    one, theirs = answer[1]["DATA"][0], recorded("transfer.task_list")[1]["DATA"][0]
    for name in (
        *("status", "type", "command", "is_ok", "fatal_error", "is_paused", "sync_level", "history_deleted"),
        *("nice_status", "nice_status_details", "nice_status_expires_in", "nice_status_short_description"),
        *("recursive_symlinks", "verify_checksum"),
    ):
        assert one.get(name) == theirs.get(name), name


def test_a_task_counts_as_recorded(api: Any, moved: str) -> None:
    """3 files and 2 directories in one item: 6 subtasks (recorded for the same document in endpoint_manager)."""
    theirs = recorded("transfer.endpoint_manager_task_list")[1]["DATA"][0]
    ours = api.task(moved)
    for name in ("files", "directories", "files_transferred", "subtasks_total", "subtasks_succeeded"):
        assert ours[name] == theirs[name], name
    single = api.task(api.transfer(("/d/1", "/one")))
    theirs = recorded("transfer.task_list")[1]["DATA"][0]
    for name in ("files", "directories", "bytes_transferred", "subtasks_total", "subtasks_succeeded"):
        assert single[name] == theirs[name], name


def test_successful_transfers(api: Any, moved: str) -> None:
    answer = api.call("GET", f"/task/{moved}/successful_transfers")
    assert_like(answer, "transfer.endpoint_manager_task_successful_transfers")


def test_cancel(api: Any, sandbox: Sandbox) -> None:
    sandbox.control.progress("held")
    answer = api.call("POST", f"/task/{api.transfer(('/a', '/a'))}/cancel")
    assert_like(answer, "transfer.cancel_task")
    for name in ("code", "message", "DATA_TYPE"):
        assert answer[1][name] == recorded("transfer.cancel_task")[1][name]


def test_endpoint(api: Any, sandbox: Sandbox) -> None:
    assert_like(
        api.call("GET", f"/endpoint/{sandbox.collection('archive').id}"), "transfer.get_endpoint", more=MORE["endpoint"]
    )


@pytest.mark.parametrize("operation", ["mkdir", "rename"])
def test_mkdir_and_rename(api: Any, sandbox: Sandbox, archive: Path, operation: str) -> None:
    (archive / "old").mkdir()
    body = {"mkdir": {"path": "/new"}, "rename": {"old_path": "/old", "new_path": "/new"}}[operation]
    answer = api.call("POST", f"/operation/endpoint/{sandbox.collection('archive').id}/{operation}", body)
    assert_like(answer, f"transfer.operation_{operation}")
    for name in ("code", "message", "DATA_TYPE"):
        assert answer[1][name] == recorded(f"transfer.operation_{operation}")[1][name]


@pytest.mark.parametrize("case", ["default", "not_found", "permission_denied"])
def test_stat(api: Any, sandbox: Sandbox, archive: Path, case: str) -> None:
    (archive / "file1.txt").write_text("four")
    if case == "permission_denied":
        sandbox.control.fault(kind="denied", collection="archive")
    path = "/nope" if case == "not_found" else "/file1.txt"
    answer = api.call("GET", f"/operation/endpoint/{sandbox.collection('archive').id}/stat?path={path}")
    assert_like(answer, "transfer.operation_stat", case)
    theirs = recorded("transfer.operation_stat", case)[1]
    for name in ("DATA_TYPE", "name", "size", "type", "permissions", "code"):
        assert answer[1].get(name) == theirs.get(name), name


def test_client_credentials_tokens(sandbox: Sandbox) -> None:
    scope = "urn:globus:auth:scope:transfer.api.globus.org:all"
    answer = form(
        sandbox, "/v2/oauth2/token", (auth.CLIENT, auth.CLIENT_SECRET), grant_type="client_credentials", scope=scope
    )
    assert_like(answer, "auth.oauth2_client_credentials_tokens")
    theirs = recorded("auth.oauth2_client_credentials_tokens")[1]
    for name in ("scope", "expires_in", "token_type", "resource_server", "other_tokens"):
        assert answer[1][name] == theirs[name]


def test_introspection(sandbox: Sandbox) -> None:
    token = auth.token("access", "auth.globus.org", auth.USER)
    assert_like(form(sandbox, "/v2/oauth2/token/introspect", token=token), "auth.oauth2_token_introspect")
    answer = form(sandbox, "/v2/oauth2/token/introspect", token=token, include="session_info")
    assert_like(answer, "auth.oauth2_token_introspect", more=_deep(answer[1], MORE["introspect"]))


def _deep(document: Any, names: Any) -> set[str]:
    """The names, and all below them."""
    found = set(names)
    for name in names:
        stack = [document[name]]
        while stack:
            one = stack.pop()
            if isinstance(one, dict):
                found |= set(one)
                stack += one.values()
    return found


def test_userinfo_without_a_token(api: Any) -> None:
    assert_like(api.call("GET", "/v2/oauth2/userinfo", service="auth", token=None), "auth.userinfo", "unauthorized")


def test_identities(api: Any) -> None:
    found = api.call("GET", f"/v2/api/identities?usernames={auth.USERNAME}&provision=false", service="auth")
    assert_like(found, "auth.get_identities", "sirosen", more=MORE["identity"])
    none = api.call("GET", "/v2/api/identities?usernames=nobody@example.org&provision=false", service="auth")
    assert_like(none, "auth.get_identities", "empty")
    new = api.call("GET", "/v2/api/identities?usernames=new@example.org&provision=true", service="auth")
    assert_like(new, "auth.get_identities", more=MORE["identity"])
    assert new[1]["identities"][0]["status"] == "unused"
    refused = api.call("GET", "/v2/api/identities?usernames=x", service="auth", token=None)
    assert_like(refused, "auth.get_identities", "unauthorized")


def test_consents(api: Any) -> None:
    assert_like(api.call("GET", f"/v2/api/identities/{auth.USER}/consents", service="auth"), "auth.get_consents")


def test_groups(api: Any) -> None:
    mine = api.call("GET", "/v2/groups/my_groups", service="groups")
    assert_like(mine, "groups.get_my_groups", more=MORE["group"])
    one = api.call("GET", f"/v2/groups/{mine[1][0]['id']}", service="groups")
    assert_like(one, "groups.get_group", more={"terms_and_conditions", "subscription_admin_verified_id"})


def test_the_comparison_can_fail() -> None:
    assert list(differences({"a": int}, {"a": str, "b": str})) == [
        f".a is {int}, recorded {str}",
        ".b is missing",
    ]
    assert list(differences({"a": int, "c": int}, {"a": None})) == [".c is not recorded"]
