"""Every command that the sandbox promises to serve, run one after the other with one version of the real `globus`."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from globus_sandbox import auth
from globus_sandbox.launch import Sandbox

COLLECTIONS = ("archive", "scratch", "shared:guest", "laptop:gcp")


@dataclass(frozen=True)
class Step:
    """A command that was run: its name, exit code, what it asked for, and what it printed when it should not have failed."""

    name: str
    code: int
    requests: tuple[str, ...]
    output: str


class Scenario:
    """Runs the commands of one version; `steps` has what happened."""

    def __init__(self, box: Sandbox, program: str) -> None:
        self.box = box
        self.program = program
        self.steps: list[Step] = []
        self.seen = 0

    def run(self, name: str, *rest: str, input: str | None = None, parse: bool = True, **env: str | None) -> Any:
        """Run `globus NAME REST`; its JSON, or its text. A code other than 0 is noted, not raised."""
        form = ("--format", "json") if parse else ()
        done = self.box.run([self.program, *name.split(), *rest, *form], input=input, env=env)
        rows = self.box.control.requests(after=self.seen)
        self.seen = rows[-1]["number"] if rows else self.seen
        asked = tuple(dict.fromkeys(_pattern(row) for row in rows))
        self.steps.append(Step(name, done.returncode, asked, done.stdout + done.stderr))
        if not parse:
            return done.stdout
        try:
            return json.loads(done.stdout)
        except ValueError:
            return {}

    def all(self) -> list[Step]:
        box = self.box
        archive, scratch = box.collection("archive"), box.collection("scratch")
        shared, laptop = box.collection("shared").id, box.collection("laptop").id
        (archive.path / "data").mkdir(exist_ok=True)
        for name in ("a.txt", "b c.txt"):
            (archive.path / "data" / name).write_text(name)
        source, target = archive.id, scratch.id

        self.run("whoami")
        self.run("whoami", "--linked-identities")
        self.run("session show")
        self.run("get-identities", auth.USERNAME, auth.USER, "nobody@example.org")
        self.run("session update", auth.USERNAME, parse=False)
        self.run("session consent", auth.SCOPES["transfer.api.globus.org"], parse=False)
        self.run("ls", f"{source}:/data/", "--all")
        self.run("ls", f"{source}:/data/", "--filter", "~*.txt", "--orderby", "size:DESC")
        self.run("ls", f"{source}:/", "--recursive")
        self.run("stat", f"{source}:/data/a.txt")
        self.run("mkdir", f"{target}:/new")
        self.run("rename", target, "/new", "/renamed")
        submission = self.run("task generate-submission-id")["value"]
        both = (f"{source}:/data/", f"{target}:/copy/")
        quiet = ("--notify", "off", "--skip-activation-check")
        task = self.run(
            "transfer",
            *both,
            *("--recursive", "--label", "a label", "--sync-level", "checksum", "--preserve-timestamp", "--encrypt"),
            *("--skip-source-errors", "--fail-on-quota-errors", "--exclude", "*.tmp", "--deadline", "2099-01-01"),
            *("--submission-id", submission, *quiet),
        )["task_id"]
        batch = (
            "'a.txt' one.txt\n--external-checksum 7d4a0b8a5f0a5d1f 'b c.txt' 'two three.txt'\n".splitlines()[0] + "\n"
        )
        self.run("transfer", *both, *quiet, "--batch", "-", input=batch)
        self.run("transfer", *both, "--dry-run")
        self.run("task wait", task, "--timeout", "30", "--polling-interval", "1")
        self.run("task show", task)
        self.run("task show", task, "--successful-transfers")
        self.run("task show", task, "--skipped-errors")
        self.run("task event-list", task)
        self.run("task event-list", task, "--filter-errors")
        self.run("task list")
        self.run(
            "task list",
            *("--filter-task-id", task, "--filter-status", "SUCCEEDED", "--filter-type", "TRANSFER"),
            *("--filter-label", "a label", "--filter-requested-after", "2020-01-01", "--limit", "20"),
        )
        self.run("task list", "--inexact", "--filter-label", "*label*", "--filter-not-label", "other*")
        self.run("task pause-info", task)
        box.control.progress("held")
        held = self.run("transfer", f"{source}:/data/a.txt", f"{target}:/held", *quiet)["task_id"]
        self.run("task update", held, "--label", "another label", "--deadline", "2098-01-01")
        self.run("task cancel", held)
        self.run("transfer", f"{source}:/data/a.txt", f"{target}:/held", *quiet)
        self.run("task cancel", "--all")
        box.control.progress("at-once")
        self.run("delete", f"{target}:/renamed", "--recursive", "--ignore-missing", *quiet)
        self.run("rm", f"{target}:/copy", "--recursive", "--timeout", "30", "--polling-interval", "1")
        self.run("endpoint search", "archive")
        self.run("endpoint search", "--filter-scope", "my-endpoints", "--filter-owner-id", auth.USERNAME)
        self.run("endpoint show", laptop)
        made = self.run(
            "endpoint permission create",
            *("--permissions", "r", "--provision-identity", "new@example.org", f"{shared}:/data/"),
        )
        self.run("endpoint permission list", shared)
        self.run("endpoint permission list", shared, parse=False)
        rule = made.get("access_id", "")
        self.run("endpoint permission show", shared, rule)
        self.run("endpoint permission update", shared, rule, "--permissions", "rw")
        self.run("endpoint permission delete", shared, rule)
        role = self.run("endpoint role create", laptop, "--role", "access_manager", "--identity", auth.USER)
        self.run("endpoint role list", laptop)
        self.run("endpoint role show", laptop, role.get("id", ""))
        self.run("endpoint role delete", laptop, role.get("id", ""))
        self.run("bookmark create", f"{source}:/data/", "my data")
        self.run("bookmark list", parse=False)
        self.run("bookmark show", "my data")
        self.run("bookmark rename", "my data", "their data")
        self.run("bookmark delete", "their data")
        self.run("bookmark create", f"{source}:/data/", "gone", parse=False)
        self.run("endpoint update", laptop, "--description", "of mine", "--keywords", "one,two")
        self.run("endpoint my-shared-endpoint-list", source)
        self.run("endpoint delete", laptop)
        self.managers(source)
        self.timers(source, target)
        self.flows()
        self.search()
        self.groups()
        self.run("api transfer", "GET", f"/endpoint/{source}")
        body = {
            "DATA_TYPE": "transfer",
            "submission_id": self.run("task generate-submission-id")["value"],
            "source_endpoint": source,
            "destination_endpoint": target,
            "DATA": [{"DATA_TYPE": "transfer_item", "source_path": "/data/a.txt", "destination_path": "/by\nbody"}],
        }
        self.run("api transfer", "POST", "/transfer", "--body-file", "-", input=json.dumps(body))
        self.run("logout", "--yes", parse=False)
        self.run("login", parse=False)
        self.run("whoami", GLOBUS_CLI_CLIENT_ID=auth.CLIENT, GLOBUS_CLI_CLIENT_SECRET=auth.CLIENT_SECRET)
        return self.steps

    def managers(self, mapped: str) -> None:
        """What is asked of the manager of an endpoint, by https."""
        host = self.run("api transfer", "GET", f"/endpoint/{mapped}").get("owner_id", "")
        self.run("login", "--gcs", f"{host}:{mapped}", parse=False)
        self.run("collection show", mapped)
        self.run("collection show", mapped, "--include-private-policies", parse=False)
        self.run("collection update", mapped, "--description", "of ours", "--keywords", "one,two")
        made = self.run("gcs collection create guest", mapped, "/data/", "shared data")
        self.run("collection delete", made.get("id") or made["data"][0]["id"])

    def timers(self, source: str, target: str) -> None:
        both = (f"{source}:/data/", f"{target}:/copy/")
        made = self.run("timer create transfer", *both, "--recursive", "--interval", "1d", "--name", "nightly")
        self.run("timer create transfer", *both, "--stop-after-runs", "1", "--label", "once", "--start", "2099-01-01")
        timer = made.get("job_id", "")
        self.run("timer list")
        self.run("timer list", parse=False)
        for name in ("show", "pause", "resume", "delete"):
            self.run(f"timer {name}", timer)

    def flows(self) -> None:
        definition = json.dumps({"StartAt": "A", "States": {"A": {"Type": "Pass", "End": True}}})
        me = f"urn:globus:auth:identity:{auth.USER}"
        schema = ("--input-schema", json.dumps({"type": "object"}))
        flow = self.run("flows create", "a flow", definition, *schema, "--keyword", "one", "--viewer", me).get("id", "")
        self.run("flows validate", definition, *schema)
        self.run("flows update", flow, "--title", "another", "--starters", me)
        self.run("flows list", "--filter-role", "flow_owner")
        self.run("flows show", flow, parse=False)
        self.run("login", "--flow", flow, parse=False)
        self.box.control.put("flow-script", flow, {"states": ["INACTIVE"] * 9})
        run = self.run("flows start", flow, "--input", "{}", "--label", "one run", "--tag", "t").get("run_id", "")
        self.run("flows run list")
        self.run("flows run list", "--filter-flow-id", flow)
        for name in ("show", "show-definition", "show-logs", "resume", "cancel", "delete"):
            self.run(f"flows run {name}", run)
        other = self.run("flows start", flow, "--input", "{}").get("run_id", "")
        self.run("flows run update", other, "--label", "two", "--tags", "u")
        self.run("flows delete", flow)

    def search(self) -> None:
        index = self.run("search index create", "an index", "of ours").get("id", "")
        entry = {"subject": "a:b", "visible_to": ["public"], "content": {"k": "v"}}
        task = self.run("search ingest", index, "-", input=json.dumps({"@datatype": "GMetaEntry", **entry})).get(
            "task_id", ""
        )
        self.run("search task show", task)
        self.run("search task list", index)
        self.run("search index list")
        self.run("search index show", index)
        self.run("search query", index, "-q", "v", "--limit", "5")
        self.run("search subject show", index, "a:b")
        role = self.run("search index role create", index, "writer", auth.USERNAME, "--type", "identity").get("id", "")
        self.run("search index role list", index)
        self.run("search index role delete", index, role)
        self.run("search delete-by-query", index, "-q", "v")
        self.run("search subject delete", index, "a:b")
        self.run("search index delete", index)

    def groups(self) -> None:
        self.run("group list")
        group = self.run("group create", "ours", "--description", "of us").get("id", "")
        self.run("group show", group)
        self.run("group update", group, "--name", "theirs")
        self.run("group set-policies", group, "--join-requests")
        for name in ("add", "remove", "invite"):
            self.run(f"group member {name}", group, auth.CLIENT)
        self.run("group member list", group)
        self.run("group delete", group)


_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
_ROLE = re.compile(r"/role/[^/]+$")  # of a search index: eight characters


def _pattern(row: dict[str, Any]) -> str:
    """A request without its ids, e.g. `GET transfer /task/ID`."""
    path = _ROLE.sub("/role/ID", _UUID.sub("ID", row["path"])).removeprefix("/v0.10")
    return f"{row['method']} {row['service']} `{path}`"


def is_unknown(step: Step) -> bool:
    """Whether this version has no such command."""
    return step.code == 2 and "No such command" in step.output


def failures(steps: list[Step]) -> Iterator[str]:
    for step in steps:
        if step.code != 0 and not is_unknown(step):
            yield f"globus {step.name}: exit {step.code}\n{step.output}"
