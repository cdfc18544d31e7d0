"""What the tests of the sandbox share: the real `globus` in a sandbox, and plain requests to it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from globus_sandbox import auth
from globus_sandbox.launch import Sandbox


def globus_command() -> str:
    beside = os.path.join(os.path.dirname(sys.executable), "globus")
    return beside if os.path.exists(beside) else (shutil.which("globus") or "")


@pytest.fixture(scope="session")
def globus_path() -> str:
    found = globus_command()
    if not found:
        if os.environ.get("CI") == "true":
            pytest.fail("there is no globus command")
        pytest.skip("there is no globus command")
    return found


@pytest.fixture
def new_sandbox(new_globus_sandbox: Callable[..., Sandbox]) -> Callable[..., Sandbox]:
    """As those have it who install the package: without globuswrap's own settings."""
    return new_globus_sandbox


@pytest.fixture
def globus_sandbox_type() -> type[Sandbox]:
    return Sandbox


class Cli:
    """The real `globus` in a sandbox."""

    def __init__(self, box: Sandbox, program: str) -> None:
        self.box = box
        self.program = program

    def __call__(self, *argv: str, **options: Any) -> subprocess.CompletedProcess[str]:
        return self.box.run([self.program, *argv], **options)

    def json(self, *argv: str, **options: Any) -> Any:
        done = self(*argv, "--format", "json", **options)
        assert done.returncode == 0, done.stderr + done.stdout
        return json.loads(done.stdout)

    def submitted(self, *argv: str, **options: Any) -> str:
        return str(self.json(*argv, **options)["task_id"])


@pytest.fixture
def globus(sandbox: Sandbox, globus_path: str) -> Cli:
    return Cli(sandbox, globus_path)


@pytest.fixture
def globus_in(globus_path: str) -> Callable[[Sandbox], Cli]:
    return lambda box: Cli(box, globus_path)


class Api:
    """Transfer requests without the CLI, for what needs many of them. `call` returns status and document."""

    def __init__(self, box: Sandbox) -> None:
        self.box = box

    def call(
        self,
        method: str,
        path: str,
        body: Any = None,
        service: str = "transfer",
        token: str | None = "",
        timeout: float = 30,
    ) -> tuple[int, Any]:
        version = "/v0.10" if service == "transfer" and not path.startswith("/v2") else ""
        request = urllib.request.Request(
            f"{self.box.url}/{service}{version}{path}",
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={"Content-Type": "application/json"},
        )
        if token is not None:
            request.add_header("Authorization", f"Bearer {token or TOKENS[service]}")
        try:
            with OPENER.open(request, timeout=timeout) as answer:
                return answer.status, json.load(answer)
        except urllib.error.HTTPError as error:
            with error:
                return error.code, json.load(error)

    def get(self, path: str, **options: Any) -> Any:
        status, document = self.call("GET", path, **options)
        assert status == 200, document
        return document

    def submission_id(self) -> str:
        return str(self.get("/submission_id")["value"])

    def transfer_body(self, *pairs: tuple[str, str] | dict[str, Any], **options: Any) -> dict[str, Any]:
        items = [
            pair
            if isinstance(pair, dict)
            else {"DATA_TYPE": "transfer_item", "source_path": pair[0], "destination_path": pair[1]}
            for pair in pairs
        ]
        return {
            "DATA_TYPE": "transfer",
            "DATA": items,
            "source_endpoint": self.box.collection("archive").id,
            "destination_endpoint": self.box.collection("scratch").id,
            "submission_id": options.pop("submission_id", None) or self.submission_id(),
            **options,
        }

    def transfer(self, *pairs: tuple[str, str] | dict[str, Any], **options: Any) -> str:
        status, document = self.call("POST", "/transfer", self.transfer_body(*pairs, **options))
        assert status == 202, document
        return str(document["task_id"])

    def delete(self, *paths: str, **options: Any) -> str:
        body = {
            "DATA_TYPE": "delete",
            "DATA": [{"DATA_TYPE": "delete_item", "path": path} for path in paths],
            "endpoint": self.box.collection(options.pop("collection", "scratch")).id,
            "submission_id": self.submission_id(),
            **options,
        }
        status, document = self.call("POST", "/delete", body)
        assert status == 202, document
        return str(document["task_id"])

    def task(self, task_id: str) -> Any:
        return self.get(f"/task/{task_id}")

    def events(self, task_id: str, errors: bool = False) -> list[str]:
        query = "?limit=1000" + ("&filter=is_error:1" if errors else "")
        return [event["code"] for event in self.get(f"/task/{task_id}/event_list{query}")["DATA"]]

    def ended(self, task_id: str, seconds: float = 20) -> Any:
        """The task's document, once it has ended."""
        end = time.monotonic() + seconds
        while (document := self.task(task_id))["completion_time"] is None:
            assert time.monotonic() < end, document
        return document

    def until(self, task_id: str, wanted: Callable[[Any], bool], seconds: float = 10) -> Any:
        end = time.monotonic() + seconds
        while not wanted(document := self.task(task_id)):
            assert time.monotonic() < end, document
            time.sleep(0.01)
        return document


TOKENS = {service: auth.token("access", server or "", auth.USER) for service, server in auth.SERVER_OF_SERVICE.items()}
OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))


@pytest.fixture
def api(sandbox: Sandbox) -> Api:
    return Api(sandbox)


@pytest.fixture
def api_of() -> type[Api]:
    return Api


@pytest.fixture
def archive(sandbox: Sandbox) -> Path:
    return sandbox.collection("archive").path


@pytest.fixture
def scratch(sandbox: Sandbox) -> Path:
    return sandbox.collection("scratch").path
