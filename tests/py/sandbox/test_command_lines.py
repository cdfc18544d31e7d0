"""The command lines of globus-cli's own functional tests, run by the real `globus` in a sandbox: the same exit code, or a reason.

They are in command_lines.txt, one a line: `CODE (GIVEN) COMMAND < 'INPUT'`. CODE is what globus-cli's tests want; `0>1` says
that it is 1 here, for the reason behind `#`. What is in braces is made for that line, by the method of `Things` of that name,
and so is what is given. Input is the content of `{file}`, and the standard input.
"""

from __future__ import annotations

import ast
import re
import shlex
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import support
from forked import Forked
from globus_sandbox import auth, consents
from globus_sandbox.launch import Sandbox, write_token_store
from sandbox.place import Place, emptied

FORM = re.compile(
    r"(?P<code>\d+)(>(?P<ours>\d+))? (\((?P<given>[^)]*)\) )?(?P<command>.*?)( < (?P<input>'.*'))?( +# (?P<reason>.+))?"
)
NOBODY = "00000000-0000-4000-8000-000000000001"

#: Why some end otherwise here, or cannot be asked for.
REASONS = {
    "no-gcsv4": "their endpoint is one of GCSv4, which were shut down in 2023; collections of GCSv5 are updated otherwise",
    "no-host": "their endpoint is the one behind a collection, with its storage gateways; here are only collections",
    "no-subscriptions": "there are no subscriptions here: 501",
    "no-registered-apis": "registered APIs of Flows are not served: 501",
    "empty-definition": "their server answers whatever is wanted; an empty definition is none",
    "advanced": "the advanced query language of Search is not served: 501",
    "principal-sets": "principal sets of Search are not served: 501",
}


@dataclass(frozen=True)
class Line:
    code: int
    ours: int
    given: tuple[str, ...]
    command: str
    input: str
    reason: str | None

    @classmethod
    def of(cls, text: str) -> Line:
        found = FORM.fullmatch(text)
        assert found is not None, text
        code = int(found["code"])
        given = tuple((found["given"] or "").split(", ")) if found["given"] else ()
        told = ast.literal_eval(found["input"]) if found["input"] else ""
        return cls(code, int(found["ours"] or code), given, found["command"], told, found["reason"])


LINES = [
    Line.of(text)
    for text in (Path(__file__).parent / "command_lines.txt").read_text().splitlines()
    if text and not text.startswith("#")
]


@dataclass
class Server:
    box: Sandbox
    globus: Forked


class Things(Place):
    """What stands in braces, and what is given; all of it made anew for each line."""

    def __init__(self, server: Server, file: Path) -> None:
        super().__init__(emptied(server.box))
        self.box.set_login("user")
        self.globus = server.globus
        self.file_ = file

    def of(self, name: str) -> str:
        return str(getattr(self, name.replace("-", "_"))())

    # in braces

    def file(self) -> Path:
        return self.file_

    def mapped(self) -> str:
        return self.archive.id

    def other(self) -> str:
        return self.scratch.id

    def guest(self) -> str:
        return self.box.collection("guest").id

    def gcp(self) -> str:
        return self.box.collection("laptop").id

    def gcp_guest(self) -> str:
        return self.box.collection("share").id

    def nobody(self) -> str:
        return NOBODY

    def me(self) -> str:
        return auth.USER

    def someone(self) -> str:
        return auth.CLIENT

    def username(self) -> str:
        return auth.USERNAME

    def other_username(self) -> str:
        return f"{auth.CLIENT}@clients.auth.globus.org"

    def urn(self) -> str:
        return f"urn:globus:auth:identity:{auth.USER}"

    def long(self) -> str:
        return "a" * 80

    def definition(self) -> str:
        return '{"StartAt": "A", "States": {"A": {"Type": "Pass", "End": true}}}'

    def schema(self) -> str:
        return '{"type": "object"}'

    def task(self) -> str:
        return self.moved()

    def held(self) -> str:
        self.box.control.progress("held")
        return self.api.transfer(("/a", "/a"))

    def bookmark(self) -> str:
        body = {"name": "sharebm", "endpoint_id": self.archive.id, "path": "/share/"}
        return str(self.call("transfer", "POST", "/bookmark", body)[1]["id"])

    def rule(self) -> str:
        body = {"principal_type": "identity", "principal": auth.CLIENT, "path": "/", "permissions": "r"}
        return str(self.call("transfer", "POST", f"/endpoint/{self.guest()}/access", body)[1]["access_id"])

    def my_flow(self) -> str:
        """One for which `globus login --flow` was done."""
        flow = self.flow()
        write_token_store(self.box.home / ".globus" / "cli" / "storage.db", {**auth.SCOPES, flow: auth.scope_of(flow)})
        return flow

    def timed_flow(self) -> str:
        flow = self.flow()
        done = self.globus.run(["login", "--timer", f"flow:{flow}"], {})
        assert done.returncode == 0, done.stderr
        return flow

    def ended_run(self) -> str:
        run = self.run()
        self.call("flows", "GET", f"/runs/{run}")
        return run

    def active_run(self) -> str:
        return self.run("ACTIVE")

    def inactive_run(self) -> str:
        run = str(self.start("INACTIVE", flow=self.my_flow())[1]["run_id"])
        self.call("flows", "GET", f"/runs/{run}")
        return run

    def inactive_timer(self) -> str:
        timer = self.timer()
        (document,) = self.box.control.documents("timer")
        scope = f"{consents.TIMER}[{consents.TRANSFER}[*{consents.data_access(self.archive)}]]"
        needed = {"required_scopes": [scope]}
        detail = {"code": "ConsentRequired", "authorization_parameters": needed}
        reason = {"cause": "globus_auth_requirements", "detail": detail}
        self.box.control.put("timer", timer, {**document, "status": "inactive", "inactive_reason": reason})
        return timer

    def role_index(self) -> str:
        self.index_ = self.index()
        return self.index_

    def role(self, index: str = "") -> Any:
        return super().role(index) if index else super().role(self.index_)[1]["id"]

    def filled_twice(self) -> str:
        index = self.filled()
        entry = {"subject": "foo-bar", "id": "second", "visible_to": ["public"], "content": {"foo": "baz"}}
        body = {"ingest_type": "GMetaEntry", "ingest_data": entry}
        task = self.call("search", "POST", f"/v1/index/{index}/ingest", body)[1]["task_id"]
        self.call("search", "GET", f"/v1/task/{task}")
        return index

    def index_task(self) -> str:
        index = self.filled()
        return str(self.call("search", "GET", f"/v1/task_list/{index}")[1]["tasks"][0]["task_id"])

    def membership(self, group: str, action: str, who: str, asker: str = auth.USER) -> str:
        token = auth.token("access", "groups.api.globus.org", asker)
        body = {action: [{"identity_id": who}]}
        assert self.call("groups", "POST", f"/v2/groups/{group}", body, token=token)[0] == 200
        return group

    def theirs(self) -> str:
        token = auth.token("access", "groups.api.globus.org", auth.CLIENT)
        body = {"name": "theirs", "description": "of others"}
        return str(self.call("groups", "POST", "/v2/groups", body, token=token)[1]["id"])

    def joinable(self) -> str:
        return self.theirs()

    def joined(self) -> str:
        return self.membership(self.theirs(), "add", auth.USER, auth.CLIENT)

    def inviting(self) -> str:
        return self.membership(self.theirs(), "invite", auth.USER, auth.CLIENT)

    def group_of_two(self) -> str:
        return self.membership(self.group(), "add", auth.CLIENT)

    def asked(self) -> str:
        return self.membership(self.group(), "request_join", auth.CLIENT, auth.CLIENT)

    # given

    def tree(self) -> None:
        for name in ("share/one", "mnt", "foo/bar", "baz"):
            (self.archive.path / name).mkdir(parents=True)
        (self.archive.path / "foo" / "bar.txt").write_text("four")

    def running(self) -> None:
        self.held()

    def fault(self, kind: str, **fields: Any) -> None:
        self.box.control.fault(kind=kind, count=9, **fields)

    def consent(self) -> None:
        self.fault("consent", path="*/ls")

    def unauthorized(self) -> None:
        self.fault("expired-token", path="*/ls")

    def denied(self) -> None:
        self.fault("denied", collection="archive")

    def lookup_fails(self) -> None:
        self.fault("status", status=400, path="*/endpoint/*")  # 500 would be tried again, for ten seconds

    def session(self) -> None:
        self.fault("session", service="flows", path="*")

    def unknown_scope(self) -> None:
        self.fault("status", status=409, path="*/validate")

    def data_access(self) -> None:
        """The sandbox that asks for it is another one."""


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[bool, Server]]:
    """One that asks for consents, and one that does not."""
    kinds = ("archive", "scratch", "guest:guest", "laptop:gcp", "share:gcp-guest")
    made = {}
    for asks in (False, True):
        box = Sandbox(tmp_path_factory.mktemp("lines") / "box", kinds, data_access=asks)
        box.start()
        made[asks] = Server(box, Forked("globus", box.env))
    yield made
    for one in made.values():
        one.globus.stop()
        one.box.stop()


def exit_code(servers: dict[bool, Server], line: Line, tmp_path: Path) -> tuple[int, str]:
    server = servers["data-access" in line.given]
    things = Things(server, tmp_path / "input")
    argv = [re.sub(r"\{([a-z0-9-]+)\}", lambda found: things.of(found[1]), word) for word in shlex.split(line.command)]
    for given in line.given:
        things.of(given)
    (tmp_path / "input").write_text(line.input)
    done = server.globus.run(argv, {}, stdin=tmp_path / "input")
    return done.returncode, done.stdout + done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("line", [pytest.param(line, id=line.command[:60]) for line in LINES])
def test_a_command_line_ends_as_in_the_tests_of_globus_cli(
    servers: dict[bool, Server], line: Line, tmp_path: Path
) -> None:
    code, output = exit_code(servers, line, tmp_path)
    assert code == line.ours, output
    assert ("NotServed" in output) == (": 501" in REASONS.get(line.reason or "", "")), output


def test_each_difference_has_its_reason() -> None:
    assert {line.reason for line in LINES if line.reason} == set(REASONS)
    assert not [line for line in LINES if line.code != line.ours and line.reason is None]


def test_the_figures_are_those_of_the_document() -> None:
    def name_of(line: Line) -> str:
        first, second = line.command.split()[:2]
        return f"{first} {second}" if second == "permission" else first

    total = Counter(map(name_of, LINES))
    differ = Counter(name_of(line) for line in LINES if line.reason)
    rows = [f"| `globus {name}` | {total[name] - differ[name]} | {differ[name]} |" for name in total]
    text = (support.REPOSITORY / "docs" / "sandbox" / "behavior.md").read_text()
    assert "\n".join(rows) in text, "\n".join(rows)
