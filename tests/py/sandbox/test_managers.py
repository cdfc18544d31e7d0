"""The manager of an endpoint, reached by https: `globus collection ...`, and the SDK's GCSClient, as they are."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

import pytest

from globus_sandbox import auth
from globus_sandbox.launch import Sandbox
from sandbox_api import Api

KINDS = ("archive", "scratch", "shared:guest")


class Managers:
    """A sandbox, and requests to the manager of its first collection."""

    def __init__(self, box: Sandbox) -> None:
        self.box = box
        self.api = Api(box)
        self.archive = box.collection("archive")
        self.endpoint = str(self.api.get(f"/endpoint/{self.archive.id}")["owner_id"])
        for name in ("run7", "other"):
            (self.archive.path / name).mkdir()
        (self.archive.path / "run7" / "file").write_text("x")
        (self.archive.path / "out").symlink_to("/")

    def call(self, method: str, path: str, body: Any = None, who: str = auth.USER, server: str = "") -> Any:
        token = auth.token("access", server or self.endpoint, who)
        return self.api.call(method, f"/{self.endpoint}{path}", body, service="gcs", token=token)

    def create(self, base: str = "/run7/", who: str = auth.USER, **more: Any) -> Any:
        body = {
            "DATA_TYPE": "collection#1.0.0",
            "collection_type": "guest",
            "mapped_collection_id": self.archive.id,
            "collection_base_path": base,
            "display_name": "ours",
        }
        return self.call("POST", "/collections", {**body, **more}, who)

    def made(self, **more: Any) -> str:
        status, answer = self.create(**more)
        assert status == 201, answer
        return str(answer["data"][0]["id"])


@pytest.fixture
def managers(new_sandbox: Callable[..., Sandbox]) -> Managers:
    return Managers(new_sandbox(collections=KINDS, durable=True))


def test_the_cli_makes_shows_updates_and_deletes_a_guest_collection(managers: Managers, globus_in: Any) -> None:
    globus, archive = globus_in(managers.box), managers.archive.id
    asked = globus("collection", "show", archive)
    assert asked.returncode == 4 and f"globus login --gcs {managers.endpoint}" in asked.stderr
    assert globus("login", "--gcs", f"{managers.endpoint}:{archive}").returncode == 0
    assert globus.json("collection", "show", archive)["collection_type"] == "mapped"
    made = globus.json("gcs", "collection", "create", "guest", archive, "/run7/", "ours", "--keywords", "a,b")
    assert (made["mapped_collection_id"], made["keywords"]) == (archive, ["a", "b"])
    assert [one["name"] for one in globus.json("ls", f"{made['id']}:/")["DATA"]] == ["file"]
    shared = globus.json("endpoint", "my-shared-endpoint-list", archive)["DATA"]
    assert [one["id"] for one in shared] == [made["id"]]
    globus.json("collection", "update", made["id"], "--display-name", "theirs", "--verify", "force")
    shown = globus.json("gcs", "collection", "show", made["id"], "--include-private-policies")
    assert (shown["display_name"], shown["force_verify"], shown["root_path"]) == ("theirs", True, "/run7/")
    globus.json("collection", "update", archive, "--no-allow-guest-collections")
    assert globus("collection", "create", "guest", archive, "/run7/", "more").returncode == 1
    globus.json("collection", "delete", made["id"])
    assert managers.api.call("GET", f"/endpoint/{made['id']}")[0] == 404


#: As the SDK's documentation has it: an address and an authorizer, nothing of a sandbox.
PROGRAM = """
import sys, globus_sdk
client = globus_sdk.ConfidentialAppAuthClient(*sys.argv[1:3])
manager = globus_sdk.GCSClient(sys.argv[3])
scope = manager.get_gcs_endpoint_scopes(manager.endpoint_client_id).manage_collections
manager.authorizer = globus_sdk.ClientCredentialsAuthorizer(client, scope)
(mapped,) = manager.get_collection_list()
document = globus_sdk.GuestCollectionDocument(
    public=True, collection_base_path="/run7", display_name="ours", mapped_collection_id=mapped["id"]
)
made = manager.create_collection(document)
manager.update_collection(made["id"], globus_sdk.GuestCollectionDocument(description="of ours"))
print(manager.get_collection(made["id"])["description"], len(list(manager.get_collection_list())))
manager.delete_collection(made["id"])
"""


def test_a_program_of_the_sdk_manages_collections(new_sandbox: Callable[..., Sandbox]) -> None:
    managers = Managers(new_sandbox(login="client"))
    host = urlsplit(managers.api.get(f"/endpoint/{managers.archive.id}")["gcs_manager_url"]).hostname
    argv = [sys.executable, "-c", PROGRAM, auth.CLIENT, auth.CLIENT_SECRET, str(host)]
    done = managers.box.run(argv)
    assert (done.returncode, done.stdout) == (0, "of ours 2\n"), done.stderr
    listed = managers.box.control.requests(service="gcs")
    assert {row["status"] for row in listed} == {200, 201} and len(listed) == 7


def test_the_certificate_is_trusted_for_the_sandbox_alone(managers: Managers) -> None:
    """Without the sandbox's authority there is no connection; it may speak for no other name."""
    argv = [sys.executable, "-c", PROGRAM, auth.CLIENT, auth.CLIENT_SECRET, f"{managers.endpoint}.sandbox.invalid"]
    done = managers.box.run(argv, env={"GLOBUS_SDK_VERIFY_SSL": None}, timeout=240)
    assert done.returncode == 1 and "CERTIFICATE_VERIFY_FAILED" in done.stderr
    authority = managers.box.env["GLOBUS_SDK_VERIFY_SSL"]
    text = subprocess.run(["openssl", "x509", "-in", str(authority), "-noout", "-text"], capture_output=True, text=True)
    assert "Name Constraints: critical" in text.stdout and "DNS:sandbox.invalid" in text.stdout


def test_a_guest_collection_belongs_to_whoever_made_it(managers: Managers) -> None:
    guest = managers.made(who=auth.CLIENT)
    listing = f"/operation/endpoint/{guest}/ls?path=/"
    assert managers.api.call("GET", listing)[0] == 403
    theirs = auth.token("access", "transfer.api.globus.org", auth.CLIENT)
    assert [one["name"] for one in managers.api.call("GET", listing, token=theirs)[1]["DATA"]] == ["file"]
    for method, body in (("PATCH", {"display_name": "mine"}), ("DELETE", None)):
        status, answer = managers.call(method, f"/collections/{guest}", body)
        assert (status, answer["code"]) == (403, "permission_denied"), answer
    assert managers.call("PATCH", f"/collections/{managers.archive.id}", {"public": False}, auth.CLIENT)[0] == 403
    mine = managers.call("GET", "/collections")[1]["data"]
    assert [one["id"] for one in mine] == [managers.archive.id]
    assert managers.call("GET", "/collections", server="another endpoint")[0] == 401


def test_a_guest_collection_is_still_there_after_kill_9(managers: Managers) -> None:
    guest = managers.made()
    managers.box.kill()
    managers.box.restart()
    document = managers.api.get(f"/endpoint/{guest}")
    assert (document["display_name"], document["mapped_collection_id"]) == ("ours", managers.archive.id)
    managers.box.control.reset()
    assert managers.api.call("GET", f"/endpoint/{guest}")[0] == 404


@pytest.mark.parametrize(
    ("more", "status"),
    [
        ({"base": "/missing"}, 422),
        ({"base": "/run7/file"}, 422),
        ({"base": "/out"}, 422),
        ({"display_name": ""}, 422),
        ({"user_credential_id": auth.CLIENT}, 422),
        ({"identity_id": auth.CLIENT}, 403),
        ({"mapped_collection_id": auth.CLIENT}, 404),
    ],
)
def test_a_guest_collection_that_cannot_be(managers: Managers, more: dict[str, Any], status: int) -> None:
    assert managers.create(**more)[0] == status


@pytest.mark.sandbox_unknown
@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("PATCH", "/collections/{archive}", {"domain_name": "a.b"}),
        ("POST", "/collections", {"collection_type": "mapped"}),
        ("DELETE", "/collections/{archive}", None),
        ("GET", "/storage_gateways", None),
        ("GET", "/collections/{archive}?include=everything", None),
    ],
)
def test_what_a_manager_does_not_serve_is_501(managers: Managers, method: str, path: str, body: Any) -> None:
    assert managers.call(method, path.format(archive=managers.archive.id), body)[0] == 501
    assert len(managers.box.control.unknown()) == 1


def test_a_consent_for_the_data_is_asked_for_where_the_sandbox_asks_for_consents(new_sandbox: Any) -> None:
    managers = Managers(new_sandbox(data_access=True))
    status, answer = managers.create()
    scope = f"https://auth.globus.org/scopes/{managers.archive.id}/data_access"
    wanted = f"urn:globus:auth:scope:{managers.endpoint}:manage_collections[*{scope}]"
    assert (status, answer["required_scopes"]) == (403, [wanted]), json.dumps(answer)
