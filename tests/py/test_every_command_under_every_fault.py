"""Every command for sharing, cleaning up and instruments, under every fault of the sandbox.

A row is a command, a column a kind of fault; the kinds are the sandbox's own, so that a new one has its column by itself. The
healthy run of a command comes first, twice. What it asked of Globus says which faults can strike it, and where:

- a fault of requests strikes each request that the command makes, one after the other: it is run again until it gets through;
- a fault of collections strikes each collection at the first operation, and again at the task that works there;
- a fault of tasks strikes the tasks that it starts.

Each healthy run is made once with both programs as they are; all others are forked from loaded ones, which takes a fifth of the
time (forked).

After every run: an exit code that this kind may have, a message that is documented, nothing done twice, nothing lost. After the
one that gets through: exactly what the healthy run leaves behind. After one more: nothing has changed.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

import support
from command_line import run
from forked import Forked
from globus_sandbox import auth, faults
from globuswrap import errors
from globuswrap.cli.sandbox import Sandbox
from globuswrap.transfers import journal

ANNA, BEN = "anna@example.org", "ben@example.org"
INDEX = "99999999-0000-4000-8000-000000000009"
UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")

#: What a kind needs to be a fault at all, or to be a quick one.
FIELDS: dict[str, dict[str, Any]] = {
    "status": {
        "status": 403,
        "body": {"code": "PermissionDenied", "message": "no", "error": {"code": "FORBIDDEN", "detail": "no"}},
    },
    "rate-limit": {"retry_after": 0},
    "slow": {"seconds": 0.1},
}
#: How a command may end under a kind. The CLI mends some of them itself, and some strike what does not matter.
MENDS, HELD = {0, 75}, {7, 75}
CODES: dict[str, set[int]] = {
    "status": {1},
    "consent": {4},
    "session": {4},
    "expired-token": {0, 4},
    "logged-out": {4},
    "conflict": {0, 75},
    "not-found": {0, 1, 2, 75},
    "rate-limit": MENDS,
    "unavailable": MENDS,
    "html": MENDS,
    "drop-before": MENDS,
    "drop-after": MENDS,
    "slow": MENDS,
    "disconnected": {1, 75},
    "login-failed": {4, 75},
    "denied": {1, 5},
    "full": {1, 5, 75},
    "quota": {1, 5, 75},
    "paused": {1, *HELD},
    "inactive": HELD,
    "pause-task": HELD,
    "break": MENDS,
    "fail": {1},
    "file": {5},
    "corrupt": MENDS,
}
#: Of a kind that is new: documented, and no defect.
ANY = {0, 1, 2, 4, 5, 6, 7, 75}

QUICK = ("--timeout", "2", "--poll", "1", "--fault-grace", "0", "--retry-for", "0")


class Place:
    """A sandbox that all commands of one login share, emptied before each."""

    def __init__(self, base: Path, login: str) -> None:
        self.box = Sandbox(base / "box", ("archive", "scratch", "share:gcp-guest"), login=login)
        self.box.start()
        self.globus, self.globuswrap = (Forked(program, self.box.env) for program in ("globus", "globuswrap"))
        self.work = base / "work"
        self.healthy: dict[str, Healthy] = {}

    def stop(self) -> None:
        self.globus.stop()
        self.globuswrap.stop()
        self.box.stop()

    def fresh(self) -> None:
        self.box.control.progress("at-once")
        self.box.control.reset()
        self.box.set_login(self.box.login_mode)
        shutil.rmtree(self.box.home / ".local", ignore_errors=True)
        for place in (self.work, *(each.path for each in self.box.collections.values())):
            shutil.rmtree(place, ignore_errors=True)
            place.mkdir()
        for name in (ANNA, BEN):
            document = auth.identity_document(auth.id_of("identity " + name), name)
            self.put("identity", document["id"], document)
        self.put("index", INDEX, {"@datatype": "GSearchIndex", "id": INDEX, "display_name": "Runs"})

    def put(self, kind: str, key: str, document: dict[str, Any]) -> None:
        self.box.control.put(kind, key, document)

    def path(self, collection: str) -> Path:
        return self.box.collection(collection).path

    def write(self, collection: str, name: str, text: str) -> None:
        path = self.path(collection) / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def rule(self, path: str, who: str, permissions: str = "r") -> None:
        """A permission that is there, as the service keeps it."""
        key = auth.id_of(f"rule {path} {who}")
        rule = {
            "DATA_TYPE": "access",
            "id": key,
            "principal": auth.id_of("identity " + who),
            "principal_type": "identity",
            "path": path,
            "permissions": permissions,
            "role_id": None,
            "role_type": None,
            "create_time": "2026-01-01T00:00:00+00:00",
            "expiration_date": None,
        }
        self.put("access", key, {"collection": self.box.collection("share").id, "rule": rule})

    def rules(self) -> list[tuple[str, str, str]]:
        people = {auth.id_of("identity " + name): name for name in (ANNA, BEN)}
        rules = [each["rule"] for each in self.box.control.documents("access")]
        return sorted((each["path"], each["permissions"], people[each["principal"]]) for each in rules)

    def names(self, collection: str) -> list[str]:
        top = self.path(collection)
        return sorted(str(each.relative_to(top)) for each in top.rglob("*") if each.is_file())


@dataclass(frozen=True)
class Seen:
    """One run: its exit code, its envelope, what it said."""

    code: int
    envelope: dict[str, Any]
    said: str


@dataclass(frozen=True)
class Command:
    """A row. `prepare` makes what the command finds and returns its command line; `done` asserts the wanted end;
    `never` what must not be, however a run ended; `again` is done before it is run again."""

    name: str
    login: str
    prepare: Callable[[Place], tuple[str, ...]]
    done: Callable[[Place, Seen], None]
    never: Callable[[Place], None] = lambda place: None
    again: Callable[[Place], None] = lambda place: None


@dataclass(frozen=True)
class Healthy:
    """What a command asks of Globus, and leaves behind, when nothing goes wrong."""

    requests: list[tuple[str, str, str]]
    effects: Counter[tuple[str, str]]
    operations: dict[str, list[tuple[str, str]]]
    tasks: list[dict[str, Any]]
    state: Any


COMMANDS: list[Command] = []
SERVICE = " (service account)"


def command(
    name: str,
    done: Callable[[Place, Seen], None],
    *,
    logins: tuple[str, ...] = ("user",),
    never: Callable[[Place], None] = lambda place: None,
    again: Callable[[Place], None] = lambda place: None,
) -> Callable[[Callable[[Place], tuple[str, ...]]], Callable[[Place], tuple[str, ...]]]:
    """Adds a row for each kind of login; the function prepares it."""

    def add(prepare: Callable[[Place], tuple[str, ...]]) -> Callable[[Place], tuple[str, ...]]:
        for login in logins:
            shown = name if login == logins[0] else name + SERVICE
            COMMANDS.append(Command(shown, login, prepare, done, never, again))
        return prepare

    return add


def ends(check: Callable[[Place], bool]) -> Callable[[Place, Seen], None]:
    """The wanted end as something that is true of the place."""

    def done(place: Place, seen: Seen) -> None:
        assert check(place), (place.rules(), place.names("share"), place.names("scratch"), seen)

    return done


# the rows


def once_each(place: Place) -> None:
    assert len(place.rules()) == len(set(place.rules()))


@command(
    "share grant", ends(lambda place: place.rules() == [("/p/", "r", ANNA)]), logins=("user", "client"), never=once_each
)
def _(place: Place) -> tuple[str, ...]:
    return ("share", "grant", "share:/p", ANNA)


@command("share grant that updates", ends(lambda place: place.rules() == [("/p/", "rw", ANNA)]), never=once_each)
def _(place: Place) -> tuple[str, ...]:
    place.rule("/p/", ANNA)
    return ("share", "grant", "share:/p", ANNA, "--permissions", "rw")


def the_other_stays(place: Place) -> None:
    assert ("/p/", "r", BEN) in place.rules()


@command("share revoke", ends(lambda place: place.rules() == [("/p/", "r", BEN)]), never=the_other_stays)
def _(place: Place) -> tuple[str, ...]:
    place.rule("/p/", ANNA)
    place.rule("/p/", BEN)
    return ("share", "revoke", "share:/p", ANNA)


def all_listed(place: Place, seen: Seen) -> None:
    rows = seen.envelope["data"]["rules"]
    assert [(each["path"], each["name"]) for each in rows if each["path"] != "/"] == [("/p/", ANNA), ("/q/", BEN)]


@command("share list", all_listed)
def _(place: Place) -> tuple[str, ...]:
    place.rule("/p/", ANNA)
    place.rule("/q/", BEN)
    return ("share", "list", "share", "--roles")


def receipt_of(place: Place, pairs: list[dict[str, str]]) -> dict[str, Any]:
    """The receipt of a transfer from archive to share. What it lists was copied later than these files were made."""
    moment = datetime.now(timezone.utc) + timedelta(days=1)
    return {
        "schema": "globuswrap.receipt/1",
        "kind": "transfer",
        "task_id": "11111111-0000-4000-8000-000000000001",
        "outcome": "succeeded",
        "source": place.box.collection("archive").id,
        "destination": place.box.collection("share").id,
        "requested": moment.isoformat(),
        "completed": (moment + timedelta(minutes=1)).isoformat(),
        "files_list": pairs,
    }


def delivered(place: Place) -> bool:
    return {"p/a", "p/it's b"} <= set(place.names("share"))


def data_comes_first(place: Place) -> None:
    assert place.names("archive") == ["run/a", "run/it's b"]
    if not delivered(place):
        assert "p/old" in place.names("share") and not place.rules()


@command(
    "share deliver",
    ends(lambda place: place.names("share") == ["p/a", "p/it's b"] and place.rules() == [("/p/", "r", ANNA)]),
    never=data_comes_first,
)
def _(place: Place) -> tuple[str, ...]:
    for name in ("a", "it's b"):
        place.write("archive", f"run/{name}", name)
    place.write("share", "p/old", "old")
    earlier = [{"source": "/run/old", "destination": "/p/old"}]
    claim = journal.new_claim(
        key="1" * 40,
        attempt=1,
        submission_id="11111111-0000-4000-8000-000000000002",
        digest="1" * 64,
        label="earlier",
        kind="transfer",
        source=place.box.collection("archive").id,
        destination=place.box.collection("share").id,
        items=1,
        examples=(("/run/", "/p/"),),
    )
    with pytest.MonkeyPatch.context() as patched:  # what an earlier delivery left, which its source has not any more
        patched.setenv("XDG_STATE_HOME", str(place.box.env["XDG_STATE_HOME"]))
        journal.record(journal.claim(claim), "receipt", receipt_of(place, earlier))
    return ("share", "deliver", "archive:/run", "share:/p", "--to", ANNA, "--replace", *QUICK)


def as_the_policy_says(place: Place) -> bool:
    roles = [each["role"]["role"] for each in place.box.control.documents("role")]
    rules = [("/p/", "rw", ANNA), ("/q/", "r", BEN)]
    return place.rules() == rules and roles == ["activity_monitor"] and (place.path("share") / "q").is_dir()


@command("share apply", ends(as_the_policy_says), never=once_each)
def _(place: Place) -> tuple[str, ...]:
    place.rule("/p/", ANNA)
    place.rule("/old/", BEN)
    (place.path("share") / "p").mkdir()
    file = place.work / "policy.toml"
    file.write_text(
        f'collection = "share"\n[[rule]]\npath = "/p/"\nwho = ["{ANNA}"]\npermissions = "rw"\n'
        f'[[rule]]\npath = "/q/"\nwho = ["{BEN}"]\n[[role]]\nwho = "{BEN}"\nrole = "activity_monitor"\n'
    )
    return ("share", "apply", str(file), "--prune", "--mkdir")


def nothing_unproven_goes(place: Place) -> None:
    assert "for/ben/his own" in place.names("share") and place.names("archive") == ["run/1", "run/it's 2"]
    assert ("/for/ben/", "r", BEN) in place.rules()
    if ("/for/anna/", "r", ANNA) not in place.rules():
        assert not any(each.startswith("for/anna/") for each in place.names("share"))


@command(
    "cleanup",
    ends(lambda place: place.names("share") == ["for/ben/his own"] and place.rules() == [("/for/ben/", "r", BEN)]),
    never=nothing_unproven_goes,
)
def _(place: Place) -> tuple[str, ...]:
    pairs = []
    for name in ("1", "it's 2"):
        place.write("archive", f"run/{name}", name)
        place.write("share", f"for/anna/{name}", name)
        pairs.append({"source": f"/run/{name}", "destination": f"/for/anna/{name}"})
    place.write("share", "for/ben/his own", "x")
    place.rule("/for/anna/", ANNA)
    place.rule("/for/ben/", BEN)
    (place.work / "receipt.json").write_text(json.dumps(receipt_of(place, pairs)))
    return ("cleanup", "--under", "share:/for", "--from", str(place.work / "receipt.json"), "--yes", *QUICK)


def due_at_once(place: Place) -> None:
    """A failed attempt is tried again an hour after it: let that be over."""
    for file in (place.box.home / ".local" / "state" / "globuswrap" / "watch").rglob("*.exit"):
        os.utime(file, (time.time() - 1e6,) * 2)


@command(
    "watch",
    ends(lambda place: place.names("scratch") == ["it's 1"]),
    logins=("user", "client"),
    never=lambda place: None,
    again=due_at_once,
)
def _(place: Place) -> tuple[str, ...]:
    place.write("archive", "inbox/it's 1", "counts")
    inner = ("globuswrap", "transfer", "{path}", "scratch:/{name}", "--key", "{key}", "--wait", *QUICK)
    options = ("--settle", "0", "--retry-after", "1h", "--attempts", "99")
    return ("watch", str(place.path("archive") / "inbox"), "--drain", *options, "--", *inner)


DEFINITION = {"StartAt": "A", "States": {"A": {"Type": "Pass", "End": True}}}
SCHEMA = {"type": "object", "required": ["n"], "properties": {"n": {"type": "integer"}}}
FLOW = auth.id_of("flow")


def flow_directory(place: Place, more: str = "") -> Path:
    made = place.work / "my flow"
    made.mkdir()
    (made / "definition.json").write_text(json.dumps(DEFINITION))
    (made / "schema.json").write_text(json.dumps(SCHEMA))
    (made / "flow.toml").write_text(f'title = "Mine"\n{more}')
    return made


def deployed(place: Place) -> str:
    """A flow that is there, as the service keeps it."""
    owner = f"urn:globus:auth:identity:{auth.CLIENT}"
    lists = ("keywords", "flow_viewers", "flow_starters", "flow_administrators", "run_managers", "run_monitors")
    document = {
        **{"id": FLOW, "title": "Mine", "subtitle": "", "description": "", "definition": DEFINITION},
        **{"input_schema": SCHEMA, "globus_auth_scope": auth.scope_of(FLOW), "created_at": "2026-01-01T00:00:00+00:00"},
        **{"updated_at": "2026-01-01T00:00:00+00:00", "flow_owner": owner, "created_by": owner},
        **{"subscription_id": None, "authentication_policy_id": None},
        **{name: [] for name in lists},
    }
    place.put("flow", FLOW, document)
    return FLOW


def a_run(place: Place, *states: str) -> str:
    """A run that is there, and what it comes to at each look."""
    key = auth.id_of("run")
    moment = "2026-01-01T00:00:00+00:00"
    run_ = {
        **{"run_id": key, "action_id": key, "flow_id": deployed(place), "flow_title": "Mine", "status": "ACTIVE"},
        **{"display_status": "ACTIVE", "start_time": moment, "completion_time": None, "label": None, "tags": []},
        "details": {"code": "FlowStarting", "description": "The Flow is starting execution", "details": {}},
    }
    entry = {"time": moment, "code": "FlowStarted", "description": "The flow has started", "details": {}}
    place.put("run", key, {"run": run_, "states": list(states), "script": {}, "log": [entry]})
    return key


@command("flow deploy", ends(lambda place: len(place.box.control.documents("flow")) == 1), logins=("client",))
def _(place: Place) -> tuple[str, ...]:
    return ("flow", "deploy", str(flow_directory(place)))


@command(
    "flow deploy that updates",
    ends(lambda place: [each["subtitle"] for each in place.box.control.documents("flow")] == ["and better"]),
    logins=("client",),
)
def _(place: Place) -> tuple[str, ...]:
    directory = flow_directory(place, 'subtitle = "and better"\n')
    from globus_sandbox.launch import ENVIRONMENT

    name = f"{ENVIRONMENT}/{auth.CLIENT}"
    (directory / "deployed.json").write_text(json.dumps({name: {"keyword": "gw-0", "id": deployed(place)}}))
    return ("flow", "deploy", str(directory))


def runs_that_go_on(place: Place) -> int:
    """What a repeated request started besides is canceled."""
    return sum(each["run"]["status"] != "FAILED" for each in place.box.control.documents("run"))


@command("flow start", ends(lambda place: runs_that_go_on(place) == 1), logins=("client",))
def _(place: Place) -> tuple[str, ...]:
    place.put("flow-script", "*", {"states": ["ACTIVE"] * 99})
    return ("flow", "start", deployed(place), "--set", "n=1", "--key", "k")


def run_has_ended(place: Place, seen: Seen) -> None:
    assert seen.envelope["data"]["outcome"] == "succeeded"


@command("flow wait", run_has_ended, logins=("client",))
def _(place: Place) -> tuple[str, ...]:
    return ("flow", "wait", a_run(place, "ACTIVE", "SUCCEEDED"), "--poll", "0.5", "--timeout", "60")


def found_by(place: Place) -> list[str]:
    return sorted(each["subject"] for each in place.box.control.documents("entry"))


@command("search ingest", ends(lambda place: found_by(place) == ["a", "b"]), logins=("user", "client"))
def _(place: Place) -> tuple[str, ...]:
    file = place.work / "entries"
    rows = [{"subject": each, "content": {"word": "beam"}, "visible_to": ["public"]} for each in ("a", "b")]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return ("search", "ingest", INDEX, str(file), "--poll", "0.5", "--timeout", "60")


def beam_is_found(place: Place, seen: Seen) -> None:
    assert [each["subject"] for each in seen.envelope["data"]["result"]["gmeta"]] == ["a"]


@command("search query", beam_is_found)
def _(place: Place) -> tuple[str, ...]:
    entry = {"subject": "a", "content": {"word": "beam"}, "visible_to": ["public"]}
    place.put("entry", json.dumps([INDEX, "a", None]), {"index": INDEX, **entry})
    return ("search", "query", INDEX, "beam")


# looking


def documented() -> set[str]:
    text = (support.REPOSITORY / "docs" / "troubleshooting.md").read_text("utf-8")
    return set(re.findall(r"^(?:- |\| )`([a-z0-9-]+)`(?:: | \| \d)", text, re.M))


def pattern(path: str) -> str:
    """A path that fits the same request of another run."""
    return UUID.sub("*", path)


def asked(box: Sandbox) -> list[dict[str, Any]]:
    return box.control.requests()


def effects(log: list[dict[str, Any]]) -> Counter[tuple[str, str]]:
    """Rules and roles that were made and taken away. Tasks, flows, runs and entries are counted themselves, and a change that is
    sent again is the same change."""
    return Counter(
        (each["method"], pattern(each["path"]))
        for each in log
        if each["method"] in ("POST", "DELETE")
        and (each["status"] or 500) < 300
        and re.search("/(access|role)", each["path"])
    )


def operations(log: list[dict[str, Any]], tasks: list[dict[str, Any]]) -> dict[str, list[tuple[str, str]]]:
    """By collection, what it was asked for: (who asked, operation)."""
    found: dict[str, list[tuple[str, str]]] = {}
    for each in log:
        match = re.search(rf"/operation/endpoint/({UUID.pattern})/(ls|stat|mkdir|rename)$", each["path"])
        if match:
            found.setdefault(match[1], []).append(("command", match[3]))
    for task in tasks:
        found.setdefault(task["source_endpoint_id"], []).append(("task", "read"))
        if task["type"] == "TRANSFER":
            found.setdefault(task["destination_endpoint_id"], []).append(("task", "write"))
    return found


def state_of(place: Place) -> Any:
    """Everything that a command can have changed and that is to stay."""
    kinds = ("access", "role", "flow", "run", "entry")
    documents = {kind: place.box.control.documents(kind) for kind in kinds}
    trees = [
        (str(path), path.read_text(), path.stat().st_mtime_ns)
        for each in place.box.collections.values()
        for path in sorted(each.path.rglob("*"))
        if path.is_file()
    ]
    return json.loads(json.dumps([documents, trees]))


def moved(tasks: list[dict[str, Any]]) -> Counter[str]:
    """What tasks did: files that went over; deletions that were made. What a canceled one has brought counts where the next one
    compares, and does not send it again."""
    found: Counter[str] = Counter()
    for task in tasks:
        if task["status"] == "SUCCEEDED" or task["sync_level"] is not None:
            found[f"{task['type']} {task['destination_endpoint_id']}"] += (
                task["files_transferred"] if task["type"] == "TRANSFER" else 1
            )
    return found


# running


@dataclass
class Trial:
    """A command in its place, run until it gets through."""

    place: Place
    command: Command
    arguments: tuple[str, ...]
    runs: list[int] = field(default_factory=list)
    really_started: bool = False

    def run(self, kind: str | None = None) -> Seen:
        """One run, under a fault of this kind: it may end in each way that the kind may have, with 0 only if what was wanted
        is there. If no request was struck, as if nothing were wrong."""
        if self.runs:
            self.command.again(self.place)
        before = max((each["number"] for each in asked(self.place.box)), default=0)
        at = self.arguments.index("--") if "--" in self.arguments else len(self.arguments)
        line = (*self.arguments[:at], "--json", *self.arguments[at:])
        env = {"GLOBUSWRAP_RETRY_FOR": "0"}
        if self.really_started:
            done = run(self.place.box, *line, env=env, timeout=240)
        else:
            env["GLOBUSWRAP_GLOBUS"] = str(self.place.globus.path)
            done = self.place.globuswrap.run(line, env)
        said = f"exit {done.returncode}, after {self.runs}\n{done.stdout}\n{done.stderr}"
        self.runs.append(done.returncode)
        envelope = json.loads(done.stdout)
        seen = Seen(done.returncode, envelope, said)
        if self.command.name.startswith("watch") and seen.code == errors.TRY_LATER and envelope["error"] is None:
            code = self.inner_code()
        else:
            code = seen.code
            assert (code == 0) == (envelope["error"] is None), said
        log = [each for each in asked(self.place.box) if each["number"] > before]
        late = {errors.TRY_LATER} if "--timeout" in self.arguments else set()
        assert code in self.allowed(kind, log) | late, said
        if envelope["error"] is not None:
            assert envelope["error"]["name"] in documented(), said
            assert envelope["error"]["remedy"], said
        self.command.never(self.place)
        if seen.code == 0:
            self.command.done(self.place, seen)
        return seen

    def allowed(self, kind: str | None, log: list[dict[str, Any]]) -> set[int]:
        if kind is None:
            return {errors.DONE}
        if kind not in faults.REQUEST_KINDS:
            return CODES.get(kind, ANY)
        struck = [each["path"] for each in log if kind in each.get("faults", ())]
        # Whatever goes wrong while the CLI has its login checked, it says that there is none.
        login = {errors.LOGIN} if any("/oauth2/token" in path for path in struck) else set()
        mends = (
            {errors.DONE} if kind == "consent" and self.command.login == "client" else set()
        )  # it takes another token
        return CODES.get(kind, ANY) | login | mends if struck else {errors.DONE}

    def inner_code(self) -> int:
        """The exit code of the last attempt of the command that a watcher ran."""
        state = self.place.box.home / ".local" / "state" / "globuswrap" / "watch"
        found = sorted(state.rglob("*.exit"), key=lambda path: int(path.name.split(".")[1]))
        return int(found[-1].read_text())

    def mended(self) -> None:
        """Nothing is wrong any more: it gets through, and once more changes nothing."""
        for _ in range(5):  # on a busy machine a task can outlast --timeout
            if self.runs and self.runs[-1] == 0:
                break
            self.run()
        assert self.runs[-1] == 0, self.runs
        self.as_if_healthy()
        before = state_of(self.place)
        seen = self.run()
        assert seen.code == 0, seen.said
        assert state_of(self.place) == before, seen.said
        self.as_if_healthy()

    def as_if_healthy(self) -> None:
        box, healthy = self.place.box, self.place.healthy[self.command.name]
        assert effects(asked(box)) == healthy.effects
        tasks = box.control.tasks()
        assert moved(tasks) == moved(healthy.tasks)
        assert not [each["status"] for each in tasks if each["status"] not in ("SUCCEEDED", "FAILED")]
        sent = [each["task_id"] for each in box.control.submissions() if each["task_id"]]
        assert len(sent) == len(set(sent)) == len(tasks)
        assert box.control.unknown() == []


def begun(place: Place, row: Command) -> Trial:
    place.fresh()
    return Trial(place, row, row.prepare(place))


def healthy(place: Place, row: Command, *, really_started: bool = False) -> Healthy:
    """Run it with nothing wrong, twice; the second time nothing changes."""
    if row.name in place.healthy and not really_started:
        return place.healthy[row.name]
    trial = begun(place, row)
    trial.really_started = really_started
    while trial.run().code != 0:
        assert len(trial.runs) < 5, trial.runs
    log, tasks = asked(place.box), place.box.control.tasks()
    requests = list(dict.fromkeys((each["service"], each["method"], pattern(each["path"])) for each in log))
    found = Healthy(requests, effects(log), operations(log, tasks), tasks, state_of(place))
    place.healthy[row.name] = found
    trial.mended()
    assert state_of(place) == found.state
    return found


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], Place]]:
    """One sandbox for each kind of login."""
    made: dict[str, Place] = {}

    def place(login: str) -> Place:
        if login not in made:
            made[login] = Place(tmp_path_factory.mktemp(login), login)
        return made[login]

    yield place
    for each in made.values():
        each.stop()


# what can strike what


def strikes_request(kind: str, requests: list[tuple[str, str, str]]) -> list[dict[str, Any]]:
    """A fault for each request that one of this kind strikes, as the sandbox itself decides it."""
    found = []
    for service, method, path in requests:
        fault = {"kind": kind, **FIELDS.get(kind, {}), "service": service, "method": method, "path": path, "count": 1}
        if faults.Fault.of(fault).strikes_request(service, method, path):
            found.append(fault)
    if errors.DONE in CODES.get(kind, ANY):
        return found  # one run may meet them all
    # A kind that ends the run: before the first change, one place is like another.
    first = next((at for at, each in enumerate(found) if changes(each)), len(found))
    return [*found[: min(first, 1)], *found[first:]]


def changes(request: dict[str, Any]) -> bool:
    return request["method"] != "GET" and request["service"] != "auth"


def troubles(kind: str, known: list[tuple[str, str]], who: str) -> int:
    """How many of these operations of a collection a fault of this kind disturbs, as the sandbox itself decides it."""
    fault = faults.Fault.of({"kind": kind, **FIELDS.get(kind, {})})
    asked = [operation for each, operation in known if each == who]
    if kind == "paused" and who == "task":
        return len(asked)  # a task is held, whatever it was about to do
    return sum(fault.trouble(operation, "/") is not None for operation in asked)


def pairs_of(kinds: Iterable[str]) -> Any:
    """Every row with every one of these kinds. A service account differs where a login does, and is tried with that."""
    found = [
        pytest.param(row, kind, id=f"{row.name}-{kind}")
        for row in COMMANDS
        for kind in kinds
        if not row.name.endswith(SERVICE) or errors.LOGIN in CODES.get(kind, ANY)
    ]
    return pytest.mark.parametrize(("row", "kind"), found)


pytestmark = [pytest.mark.chaos]


@pytest.mark.parametrize("row", COMMANDS, ids=lambda row: row.name)
def test_twice_the_second_time_nothing_changes(places: Callable[[str], Place], row: Command) -> None:
    healthy(places(row.login), row, really_started=True)


@pairs_of(faults.REQUEST_KINDS)
def test_a_fault_of_each_request_in_turn(
    places: Callable[[str], Place], record_property: Callable[[str, object], None], row: Command, kind: str
) -> None:
    place = places(row.login)
    wanted = strikes_request(kind, healthy(place, row).requests)
    if not wanted:
        record_property("struck", 0)  # counted at the end
        return
    trial = begun(place, row)
    for each in wanted:
        place.box.control.fault(each)
    for _ in range(len(wanted) + 1):
        left = len(place.box.control.faults())
        if trial.run(kind).code == 0 or len(place.box.control.faults()) == left:
            break
    struck = len(wanted) - len(place.box.control.faults())
    assert struck, (kind, wanted, trial.runs)
    place.box.control.clear_faults()
    trial.mended()
    record_property("struck", struck)


@pairs_of(faults.COLLECTION_KINDS)
def test_a_fault_of_each_collection(
    places: Callable[[str], Place], record_property: Callable[[str, object], None], row: Command, kind: str
) -> None:
    place = places(row.login)
    known = sorted(healthy(place, row).operations.items())
    by_command = {collection: troubles(kind, each, "command") for collection, each in known}
    by_task = [collection for collection, each in known if troubles(kind, each, "task")]
    # First the command's own operations are disturbed; then those are let pass, and the task is.
    steps = [(each, 0) for each, count in by_command.items() if count] + [(each, by_command[each]) for each in by_task]
    trial = begun(place, row) if steps else None
    for collection, skip in steps:
        assert trial is not None
        fault = place.box.control.fault(kind=kind, **FIELDS.get(kind, {}), collection=collection, skip=skip)
        place.box.control.progress("at-once")
        seen = trial.run(kind)
        assert has_struck(place, fault), seen.said
        place.box.control.progress("held")  # a task that this one has left behind is there for the next
        place.box.control.clear_faults()
    place.box.control.progress("at-once")
    if trial is not None:
        trial.mended()
    record_property("struck", len(steps))


@pairs_of(faults.TASK_KINDS)
def test_a_fault_of_the_tasks(
    places: Callable[[str], Place], record_property: Callable[[str, object], None], row: Command, kind: str
) -> None:
    place = places(row.login)
    types = {task["type"] for task in healthy(place, row).tasks}
    if not types or (kind == "corrupt" and types == {"DELETE"}):  # a deletion has no contents to damage
        record_property("struck", 0)  # counted at the end
        return
    trial = begun(place, row)
    fault = place.box.control.fault(kind=kind, **FIELDS.get(kind, {}))
    seen = trial.run(kind)
    assert has_struck(place, fault), seen.said
    place.box.control.clear_faults()
    trial.mended()
    record_property("struck", 1)


def has_struck(place: Place, fault: str) -> bool:
    """Has it been counted, or been used up, or does a task show it?"""
    left = [each for each in place.box.control.faults() if each["id"] == fault]
    held = any(each["is_paused"] or each["status"] == "INACTIVE" for each in place.box.control.tasks())
    return held or not left or left[0]["struck"] > 0


def test_every_kind_has_its_columns() -> None:
    assert set(faults.KINDS) == {*faults.REQUEST_KINDS, *faults.COLLECTION_KINDS, *faults.TASK_KINDS}
    assert set(CODES) <= set(faults.KINDS)
