"""Plain requests to a sandbox, without the CLI."""

from __future__ import annotations

import base64
import json
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from typing import Any

from globus_sandbox import auth
from globus_sandbox.launch import Sandbox


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
        timeout: float = 240,
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

    def ended(self, task_id: str, seconds: float = 240) -> Any:
        """The task's document, once it has ended."""
        end = time.monotonic() + seconds
        while (document := self.task(task_id))["completion_time"] is None:
            assert time.monotonic() < end, document
        return document

    def until(self, task_id: str, wanted: Callable[[Any], bool], seconds: float = 240) -> Any:
        end = time.monotonic() + seconds
        while not wanted(document := self.task(task_id)):
            assert time.monotonic() < end, document
            time.sleep(0.01)
        return document


TOKENS = {service: auth.token("access", server or "", auth.USER) for service, server in auth.SERVER_OF_SERVICE.items()}
OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))


#: What the asker has put there: what is in it says nothing about the service.
GIVEN = (
    "definition",
    "input_schema",
    "input",
    "output",
    "content",
    "callback_body",
    "body",
    "schedule",
    "session_timeouts",
)


def shape(value: Any) -> Any:
    """The types of a document; None is a type of its own and fits any."""
    if isinstance(value, dict):
        return {name: type(one) if name in GIVEN else shape(one) for name, one in value.items()}
    if isinstance(value, list):
        return [shape(value[0])] if value else []
    return None if value is None else type(value)


def differences(ours: Any, theirs: Any, more: Any = (), path: str = "") -> Iterator[str]:
    """What a reader of the recording would miss in ours, or find there that it does not know."""
    if isinstance(theirs, dict) and isinstance(ours, dict):
        for name in theirs:
            if name not in ours:
                yield f"{path}.{name} is missing"
            else:
                yield from differences(ours[name], theirs[name], more, f"{path}.{name}")
        if not isinstance(more, str):
            for name in set(ours) - set(theirs) - set(more):
                yield f"{path}.{name} is not recorded"
    elif isinstance(theirs, list) and isinstance(ours, list):
        if ours and theirs:
            yield from differences(ours[0], theirs[0], more, f"{path}[]")
    elif ours is not None and theirs is not None and ours is not theirs:
        yield f"{path} is {ours}, recorded {theirs}"


def form(
    box: Sandbox, path: str, client: tuple[str, str] = (auth.INSTANCE, auth.INSTANCE_SECRET), **fields: str
) -> Any:
    request = urllib.request.Request(f"{box.url}/auth{path}", data=urllib.parse.urlencode(fields).encode())
    request.add_header("Authorization", "Basic " + base64.b64encode(":".join(client).encode()).decode())
    request.add_header("Content-Type", "application/x-www-form-urlencoded")
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=300) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.load(error)
