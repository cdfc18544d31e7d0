"""A sandbox with what a test needs in it, made by plain requests."""

from __future__ import annotations

import re
import shutil
from typing import Any

from globus_sandbox import auth
from globus_sandbox.launch import Sandbox
from sandbox_api import TOKENS, Api, form

Answer = tuple[int, Any]


def emptied(box: Sandbox) -> Sandbox:
    """The same server, with nothing in it and nothing wrong with it."""
    box.control.reset()
    box.control.progress("at-once")
    for one in box.collections.values():
        for entry in one.path.iterdir():
            shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
    return box


class Place:
    """A sandbox, with what the cases need in it."""

    PAGE = "https://auth.globus.org/v2/web/auth-code"

    def __init__(self, box: Sandbox) -> None:
        self.box = box
        self.api = Api(box)
        self.archive, self.scratch = box.collection("archive"), box.collection("scratch")

    def call(self, service: str, method: str, path: str, body: Any = None, **options: Any) -> Answer:
        return self.api.call(method, path, body, service=service, **options)

    def create_flow(self) -> Answer:
        someone = "urn:globus:auth:identity:" + auth.USER
        body = {
            "title": "A flow",
            "subtitle": "of two steps",
            "description": "moves",
            "definition": {"StartAt": "A", "States": {"A": {"Type": "Pass", "End": True}}},
            "input_schema": {"type": "object"},
            "keywords": ["one"],
            **{name: [someone] for name in ("flow_viewers", "flow_starters", "flow_administrators")},
            **{name: [someone] for name in ("run_managers", "run_monitors")},
        }
        return self.call("flows", "POST", "/flows", body)

    def flow(self) -> str:
        return str(self.create_flow()[1]["id"])

    def start(self, *states: str, flow: str = "") -> Answer:
        self.box.control.put("flow-script", "*", {"states": list(states or ("SUCCEEDED",))})
        flow = flow or self.flow()
        someone = "urn:globus:auth:identity:" + auth.USER
        body = {"body": {"a": 1}, "label": "a run", "tags": ["t"], "run_managers": [someone], "run_monitors": [someone]}
        return self.call("flows", "POST", f"/flows/{flow}/run", body, token=auth.token("access", flow, auth.USER))

    def run(self, *states: str) -> str:
        return str(self.start(*states)[1]["run_id"])

    def timer(self) -> str:
        return str(self.create_timer()[1]["timer"]["job_id"])

    def create_timer(self) -> Answer:
        body = {
            "timer_type": "transfer",
            "name": "a timer",
            "schedule": {
                "type": "recurring",
                "start": "2099-01-01T00:00:00+00:00",
                "interval_seconds": 3600,
                "end": {"count": 2},
            },
            "body": {
                "DATA_TYPE": "transfer",
                "source_endpoint": self.archive.id,
                "destination_endpoint": self.scratch.id,
                "DATA": [{"DATA_TYPE": "transfer_item", "source_path": "/a", "destination_path": "/b"}],
            },
        }
        return self.call("timer", "POST", "/v2/timer", {"timer": body})

    def manager(self, path: str) -> Answer:
        endpoint = self.api.get(f"/endpoint/{self.archive.id}")["owner_id"]
        token = auth.token("access", endpoint, auth.USER)
        return self.call("gcs", "GET", f"/{endpoint}/{path}", token=token)

    def create_index(self) -> Answer:
        return self.call("search", "POST", "/v1/index", {"display_name": "an index", "description": "of ours"})

    def index(self) -> str:
        return str(self.create_index()[1]["id"])

    def filled(self) -> str:
        index = self.index()
        entry = {"subject": "foo-bar", "visible_to": ["public"], "content": {"foo": "bar"}}
        path = f"/v1/index/{index}/ingest"
        task = self.call("search", "POST", path, {"ingest_type": "GMetaEntry", "ingest_data": entry})[1]["task_id"]
        assert self.call("search", "GET", f"/v1/task/{task}")[1]["state"] == "SUCCESS"
        return index

    def role(self, index: str) -> Answer:
        body = {"role_name": "writer", "principal": "urn:globus:auth:identity:" + auth.CLIENT}
        return self.call("search", "POST", f"/v1/index/{index}/role", body)

    def group(self) -> str:
        return str(self.call("groups", "POST", "/v2/groups", {"name": "ours", "description": "of us"})[1]["id"])

    def moved(self) -> str:
        directory = self.archive.path / "d"
        (directory / "e").mkdir(parents=True, exist_ok=True)
        for name in ("1", "2", "e/3"):
            (directory / name).write_text("four")
        task = self.api.transfer(("/d", "/d"))
        self.api.ended(task)
        return task

    def operation(self, verb: str, body: dict[str, Any]) -> Answer:
        return self.call("transfer", "POST", f"/operation/endpoint/{self.archive.id}/{verb}", body)

    def stat(self, path: str) -> Answer:
        (self.archive.path / "file1.txt").write_text("four")
        return self.call("transfer", "GET", f"/operation/endpoint/{self.archive.id}/stat?path={path}")

    def refused_stat(self) -> Answer:
        self.box.control.fault(kind="denied", collection="archive")
        return self.stat("/file1.txt")

    def delete_task(self) -> Answer:
        item = {"DATA_TYPE": "delete_item", "path": "/a"}
        body = {"DATA_TYPE": "delete", "DATA": [item], "endpoint": self.scratch.id}
        return self.call("transfer", "POST", "/delete", {**body, "submission_id": self.api.submission_id()})

    def canceled(self) -> Answer:
        self.box.control.progress("held")
        return self.call("transfer", "POST", f"/task/{self.api.transfer(('/a', '/a'))}/cancel")

    def after(self, *calls: tuple[str, str, str]) -> Answer:
        for one in calls[:-1]:
            self.call(*one)
        return self.call(*calls[-1])

    def identities(self, query: str, **options: Any) -> Answer:
        return self.call("auth", "GET", f"/v2/api/identities?{query}", **options)

    def introspected(self) -> Answer:
        return form(self.box, "/v2/oauth2/token/introspect", token=TOKENS["auth"])

    def code(self, scope: str) -> Answer:
        import urllib.request

        query = f"client_id={auth.INSTANCE}&scope={scope}&redirect_uri={self.PAGE}"
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(f"{self.box.url}/auth/v2/oauth2/authorize?{query}") as page:
            code = re.findall(r"<code>(\w+)", page.read().decode())[0]
        return form(self.box, "/v2/oauth2/token", grant_type="authorization_code", code=code, redirect_uri=self.PAGE)

    def credentials(self, scope: str) -> Answer:
        client = (auth.CLIENT, auth.CLIENT_SECRET)
        return form(self.box, "/v2/oauth2/token", client, grant_type="client_credentials", scope=scope)

    def instance(self) -> Answer:
        body = {"client": {"template_id": auth.id_of("template"), "name": "an instance"}}
        return self.call("auth", "POST", "/v2/api/clients", body)
