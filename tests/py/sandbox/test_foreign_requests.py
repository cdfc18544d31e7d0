"""A web page that somebody on this machine opens must not reach a sandbox: not by its address, not by a name that leads there."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from typing import Any

import pytest

from globus_sandbox.launch import Sandbox

OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def ask(box: Sandbox, path: str, headers: dict[str, str], body: Any = None) -> tuple[int, str]:
    data = None if body is None else json.dumps(body).encode()
    headers = {name: value.replace("PORT", box.url.rpartition(":")[2]) for name, value in headers.items()}
    request = urllib.request.Request(box.url + path, data, headers)
    try:
        with OPENER.open(request, timeout=300) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


@pytest.mark.parametrize("host", ["127.0.0.1:PORT", "localhost:PORT", "LOCALHOST:PORT", "[::1]:PORT"])
def test_the_sandbox_answers_to_its_own_address(sandbox: Sandbox, host: str) -> None:
    assert ask(sandbox, "/_sandbox/health", {"Host": host})[0] == 200


@pytest.mark.parametrize(
    "host", ["attacker.example:PORT", "attacker.example", "127.0.0.1", "localhost:1", "127.0.0.1.example:PORT"]
)
@pytest.mark.parametrize("path", ["/_sandbox/tasks", "/auth/jwk.json"])
def test_a_host_name_that_is_not_the_sandboxs_is_refused(sandbox: Sandbox, host: str, path: str) -> None:
    status, text = ask(sandbox, path, {"Host": host})
    assert status == 403 and "Host" in text and sandbox.url in text, text


@pytest.mark.parametrize("origin", ["https://attacker.example", "null", "http://127.0.0.1:PORT"])
def test_a_request_from_a_web_page_changes_nothing(sandbox: Sandbox, origin: str) -> None:
    headers = {"Origin": origin, "Content-Type": "text/plain"}
    status, text = ask(sandbox, "/_sandbox/progress", headers, {"progress": "held"})
    assert status == 403 and "Origin" in text, text
    assert ask(sandbox, "/_sandbox/reset", headers, {})[0] == 403
    assert ask(sandbox, "/auth/v2/api/clients", headers, {"client": {}})[0] == 403
    assert sandbox.control.requests() == [] and sandbox.control.unknown() == []
