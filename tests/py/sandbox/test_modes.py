"""What a sandbox can be asked for at its start: consents, limits, a seed, an address; and the same port after a restart."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from globus_sandbox import auth
from globus_sandbox.errors import BadRequest
from globus_sandbox.launch import Sandbox
from sandbox_api import TOKENS, Api

START = "2099-01-01T00:00:00"


def timer_between(box: Sandbox) -> tuple[str, ...]:
    archive, scratch = box.collection("archive").id, box.collection("scratch").id
    return ("timer", "create", "transfer", f"{archive}:/a", f"{scratch}:/a", "--interval", "1h", "--start", START)


def test_where_no_consent_is_asked_for_ls_and_timer_create_agree(globus: Any, sandbox: Sandbox, archive: Path) -> None:
    (archive / "a").write_text("x")
    assert globus("ls", f"{sandbox.collection('archive').id}:/").returncode == 0
    done = globus(*timer_between(sandbox))
    assert done.returncode == 0, done.stderr


def test_where_consents_are_asked_for_they_open_the_way(new_sandbox: Any, globus_in: Callable[..., Any]) -> None:
    box = new_sandbox(data_access=True)
    globus, archive, scratch = globus_in(box), box.collection("archive").id, box.collection("scratch").id
    (box.collection("archive").path / "a").write_text("x")
    status, document = Api(box).call("GET", f"/operation/endpoint/{archive}/ls?path=/")
    scope = f"urn:globus:auth:scope:transfer.api.globus.org:all[*https://auth.globus.org/scopes/{archive}/data_access]"
    assert (status, document["code"], document["required_scopes"]) == (403, "ConsentRequired", [scope])
    refused = globus("ls", f"{archive}:/")
    assert refused.returncode == 4 and f"globus session consent '{scope}'" in refused.stdout
    assert globus("transfer", f"{archive}:/a", f"{scratch}:/a").returncode == 4
    assert globus("session", "consent", scope).returncode == 0
    assert globus("ls", f"{archive}:/").stdout == "a\n"
    assert globus("transfer", f"{archive}:/a", f"{scratch}:/a").returncode == 4  # the other one is asked for still
    assert globus("session", "consent", scope.replace(archive, scratch)).returncode == 0
    assert globus("transfer", f"{archive}:/a", f"{scratch}:/a").returncode == 0

    assert globus(*timer_between(box)).returncode == 4
    both = ("--timer-data-access", archive, "--timer-data-access", scratch)
    assert globus("session", "consent", *both).returncode == 0
    done = globus(*timer_between(box))
    assert done.returncode == 0, done.stderr


def test_the_consent_of_one_identity_is_not_that_of_another(new_sandbox: Any) -> None:
    box = new_sandbox(data_access=True)
    archive = box.collection("archive").id
    scope = f"urn:globus:auth:scope:transfer.api.globus.org:all[*https://auth.globus.org/scopes/{archive}/data_access]"
    import sandbox_api

    given = {"grant_type": "client_credentials", "scope": scope}
    status, _ = sandbox_api.form(box, "/v2/oauth2/token", (auth.CLIENT, auth.CLIENT_SECRET), **given)
    assert status == 200
    api, path = Api(box), f"/operation/endpoint/{archive}/ls?path=/"
    assert api.call("GET", path)[0] == 403
    assert api.call("GET", path, token=auth.token("access", "transfer.api.globus.org", auth.CLIENT))[0] == 200


def test_more_requests_than_a_second_may_have(new_sandbox: Any) -> None:
    """20 at once, of which 5 are answered; another user is not held back."""
    box = new_sandbox(limits={"requests-per-second": 5})
    api = Api(box)
    import http.client

    line = http.client.HTTPConnection("127.0.0.1", urlsplit(box.url).port or 0)
    answers = []
    for _ in range(20):
        line.request("GET", "/transfer/v0.10/bookmark_list", headers={"Authorization": f"Bearer {TOKENS['transfer']}"})
        answer = line.getresponse()
        answers.append((answer.status, answer.headers.get("Retry-After"), json.load(answer).get("code")))
    assert answers[0][0] == 200 and (429, "1", "ClientError.TooManyRequests") in answers
    line.close()
    other = auth.token("access", "transfer.api.globus.org", auth.CLIENT)
    assert api.call("GET", "/bookmark_list", token=other)[0] == 200


def test_permissions_and_pending_tasks_are_limited(new_sandbox: Any) -> None:
    box = new_sandbox(
        collections=("archive", "scratch", "shared:guest"),
        limits={"permissions": 1, "pending-tasks": 1},
        progress="held",
    )
    api, access = Api(box), f"/endpoint/{box.collection('shared').id}/access"
    rule = {"DATA_TYPE": "access", "principal_type": "identity", "principal": auth.CLIENT, "permissions": "r"}
    assert api.call("POST", access, {**rule, "path": "/a/"})[0] == 201
    assert api.call("POST", access, {**rule, "path": "/b/"})[1]["code"] == "LimitExceeded"
    api.transfer(("/a", "/a"))
    refused = api.call("POST", "/transfer", api.transfer_body(("/b", "/b")))
    assert (refused[0], refused[1]["code"]) == (409, "ClientError.Conflict.PendingTaskLimitExceeded")


SEED = """
[collections]
archive = "mapped"
shared = "guest"

[[identity]]
username = "ben@example.org"

[[group]]
name = "beamline"
members = { "ben@example.org" = "member" }

[[permission]]
collection = "shared"
path = "/run7/"
group = "beamline"
permissions = "r"

[[task]]
source = "archive:/run7"
destination = "shared:/run7"
label = "last night"
"""


def test_a_seed_is_what_a_sandbox_begins_with(new_sandbox: Any, tmp_path: Path) -> None:
    file = tmp_path / "seed.toml"
    file.write_text(SEED)
    box = new_sandbox(seed=file, progress="held")
    api = Api(box)
    assert set(box.collections) == {"archive", "shared"}
    (task,) = api.get("/task_list")["DATA"]
    assert task["label"] == "last night"
    (ben,) = api.get("/v2/api/identities?usernames=ben@example.org", service="auth")["identities"]
    (box.collection("shared").path / "run7").mkdir()
    listing = f"/operation/endpoint/{box.collection('shared').id}/ls?path=/run7/"
    assert api.call("GET", listing, token=auth.token("access", "transfer.api.globus.org", ben["id"]))[0] == 200
    assert api.call("GET", listing, token=auth.token("access", "transfer.api.globus.org", auth.CLIENT))[0] == 403


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[[robot]]\n", "robot"),
        ("[[identity]]\nname = 'x'\n", "username"),
        ("[[identity]]\nusername = 'x'\nage = 3\n", "age"),
        ("[collections\n", "seed.toml"),
    ],
)
def test_a_seed_that_says_what_is_not_known(tmp_path: Path, text: str, words: str) -> None:
    file = tmp_path / "seed.toml"
    file.write_text(text)
    with pytest.raises(BadRequest, match=words):
        Sandbox(tmp_path / "box", seed=file)


def test_a_limit_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(BadRequest, match="speed"):
        Sandbox(tmp_path / "box", limits={"speed": 1})


def test_the_command_comes_up_again_at_the_same_port(tmp_path: Path) -> None:
    """A shell that was opened before a crash of the sandbox works again after `up`."""
    import os
    import signal

    def command(*argv: str) -> Any:
        line = [sys.executable, "-m", "globus_sandbox", "--json", *argv, "--base", str(tmp_path / "box")]
        done = subprocess.run(line, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    first = command("up")
    pid = json.loads((tmp_path / "box" / "address").read_text())["pid"]
    os.kill(pid, signal.SIGKILL)
    second = command("up")
    command("down")
    assert second["url"] == first["url"]


def test_an_address_to_listen_on(new_sandbox: Any) -> None:
    box = new_sandbox(bind="127.0.0.2")
    assert urlsplit(box.url).hostname == "127.0.0.2"
    assert box.control.health()["healthy"]


def test_a_deleted_collection_stays_away_until_the_reset(new_globus_sandbox: Any, tmp_path: Path) -> None:
    box = new_globus_sandbox(collections=("archive", "scratch", "laptop:gcp"), durable=True)
    laptop = f"/endpoint/{box.collection('laptop').id}"
    assert Api(box).call("DELETE", laptop)[0] == 200
    box.kill()
    box.restart()
    assert Api(box).call("GET", laptop)[0] == 404
    box.control.reset()
    assert Api(box).call("GET", laptop)[0] == 200
