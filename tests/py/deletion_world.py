"""A world in memory behind the `globus` command, in which deletions of several processes run step by step, as a seed says.

What deletes is the real thing, with its records on disk: evidence, judge, announcements, carry_out, journal, submission,
waiting. Each process stops at every `globus` command, every record and every pause; then another goes on, a task at Globus is
carried out, time passes, or a process is killed, or suspended for minutes or days.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import random
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from globuswrap.deletion import announcements, carry_out, evidence, uses
from globuswrap.deletion.carry_out import Sending
from globuswrap.deletion.judge import Plan, Verdict
from globuswrap.errors import Problem
from globuswrap.globus import command
from globuswrap.globus.errors import NotFound
from globuswrap.system import files
from globuswrap.transfers import journal
from globuswrap.transfers.wait import WaitPolicy

#: Collection -> its storage and where it is rooted there: `twin` shows what is below /p of `a`.
COLLECTIONS = {"a": ("A", ""), "twin": ("A", "/p"), "b": ("B", ""), "c": ("C", "")}
TOP = {"a": "/p/d", "twin": "/d", "b": "/d", "c": "/d"}
NAMES = ("1", "2")
START = 1_800_000_000.0
#: When everything was written: with preserved times a later version does not show.
OLD = START - 1_000


class Killed(BaseException):
    """kill -9: nothing that this process would have done happens any more."""


def iso(seconds: float) -> str:
    return datetime.fromtimestamp(int(seconds), timezone.utc).isoformat()


@dataclass
class Actor(threading.Thread):
    """One process of globuswrap. It runs only between `go` and its next step."""

    world: World
    what: str
    body: Callable[[], Any]
    dead: bool = False
    ended: bool = False
    asleep_until: float = 0.0
    problem: BaseException | None = None

    def __post_init__(self) -> None:
        super().__init__(daemon=True)
        self.go = threading.Semaphore(0)

    __hash__ = threading.Thread.__hash__

    def run(self) -> None:
        self.go.acquire()
        try:
            if not self.dead:
                self.body()
        except (Problem, Killed) as problem:
            self.problem = problem
        except BaseException as problem:
            self.problem = problem
            self.world.defects.append(f"{self.what}: {problem!r}")
        finally:
            self.ended = True
            self.world.back.release()


@dataclass
class World:
    seed: int
    now: float = START
    storage: dict[str, dict[str, tuple[str, float]]] = field(default_factory=lambda: {"A": {}, "B": {}, "C": {}})
    directories: dict[str, set[str]] = field(default_factory=lambda: {"A": set(), "B": set(), "C": set()})
    tasks: dict[str, dict[str, Any]] = field(default_factory=dict)
    submissions: dict[str, str] = field(default_factory=dict)
    actors: list[Actor] = field(default_factory=list)
    defects: list[str] = field(default_factory=list)
    trace: list[str] = field(default_factory=list)
    #: Contents that a user removed where a mirror follows: nobody promises anything about them.
    given_up: set[str] = field(default_factory=set)
    #: For what a test patches besides: undone in the right order. The `monkeypatch` fixture would put this world's own back.
    patched: pytest.MonkeyPatch = field(default_factory=pytest.MonkeyPatch)

    def __post_init__(self) -> None:
        self.random = random.Random(self.seed)
        self.back = threading.Semaphore(0)

    def refuse(self, what: str, where: str, problem: Exception) -> None:
        """From now on, `globus WHAT` of a target that begins with `where` ends with this problem."""
        call = command.call

        def refusing(*args: str, **rest: object) -> object:
            if args[0] == what and args[-1].startswith(where):
                raise problem
            return call(*args, **rest)

        self.patched.setattr(command, "call", refusing)

    # storage

    def place(self, collection: str, path: str) -> tuple[str, str]:
        storage, root = COLLECTIONS[collection]
        return storage, root + path

    def contents(self) -> set[str]:
        return {content for files in self.storage.values() for content, _ in files.values()}

    def deliver(self, source: str, target: str, *, listed: bool = True, name: str | None = None) -> None:
        """A transfer of ours that has ended, with its receipt in the journal."""
        self.now += 10
        requested, pairs = self.now, []
        self.now += 10
        for each in NAMES if name is None else (name,):
            here, there = f"{TOP[source]}/{each}", f"{TOP[target]}/{each}"
            storage, path = self.place(source, here)
            if path in self.storage[storage]:
                to, far = self.place(target, there)
                self.storage[to][far] = self.storage[storage][path]
                pairs.append({"source": here, "destination": there})
        self.now += 10
        key = uuid.UUID(int=self.random.getrandbits(128)).hex + "00000000"
        example = (f"{TOP[source]}", f"{TOP[target]}")
        claim = journal.new_claim(
            key=key,
            attempt=1,
            submission_id=str(uuid.uuid4()),
            digest="x",
            label="x",
            kind="transfer",
            source=source,
            destination=target,
            items=1,
            examples=(example,),
        )
        entry = journal.record(journal.claim(claim), "task", {"task_id": key})
        receipt = {
            "schema": "globuswrap.receipt/1",
            "kind": "transfer",
            "task_id": key,
            "status": "SUCCEEDED",
            "outcome": "succeeded",
            "source": source,
            "destination": target,
            "requested": iso(requested),
            "completed": iso(self.now),
            "preserve_timestamp": True,
            "sync_level": None,
            "filter_rules": [],
            "files_list": pairs if listed else None,
            "submission": {"items": 1, "examples": [list(example)]},
        }
        journal.record(entry, "receipt", receipt)
        self.now += 10

    # the globus command

    def call(self, *args: str, stdin: Any = None, timeout: float | None = None) -> Any:
        self.step(" ".join(args[:2]))
        match args[:2]:
            case ("ls", _):
                return {"DATA": self._listing(args[-1])}
            case ("stat", "--"):
                address = args[-1]
                storage, path = self.place(*address.split(":", 1))
                return {"type": "dir"} if path in self.directories[storage] else {"code": "NotFound"}
            case ("mkdir", _):
                storage, path = self.place(*args[-1].split(":", 1))
                self.directories[storage].add(path)
                return {}
            case ("task", "generate-submission-id"):
                return {"value": str(uuid.uuid4())}
            case ("delete", submission_id) if submission_id == "--submission-id":
                option = dict(itertools.pairwise(args))
                collection, path = args[-1].split(":", 1)
                return self._accepted(
                    option["--submission-id"], option["--label"], collection, [path], option.get("--deadline")
                )
            case ("api", "transfer") if "/delete" in args:
                body = json.loads(stdin)
                paths = [item["path"] for item in body["DATA"]]
                return self._accepted(
                    body["submission_id"], body["label"], body["endpoint"], paths, body.get("deadline")
                )
            case ("task", "list"):
                ids = [after for option, after in itertools.pairwise(args) if option == "--filter-task-id"]
                return {"DATA": [self._document(each) for each in ids if each in self.tasks]}
            case ("task", "event-list"):
                return {"DATA": []}
            case ("task", "show"):
                return self._document(args[2])
        raise AssertionError(args)

    def _listing(self, address: str) -> list[dict[str, Any]]:
        storage, top = self.place(*address.rstrip("/").split(":", 1))
        known = {**dict.fromkeys(self.directories[storage]), **self.storage[storage]}
        below = {path[len(top) + 1 :]: entry for path, entry in known.items() if path.startswith(f"{top}/")}
        if not below and top not in ("", "/d", "/p", "/p/d", *self.directories[storage]):
            raise NotFound("not-found", "", "")
        rows = {}
        for name, entry in below.items():
            first, deeper, _ = name.partition("/")
            if deeper or entry is None:
                rows[first] = {"name": first, "type": "dir", "last_modified": iso(START)}
            else:
                rows[first] = {"name": first, "type": "file", "size": 1, "last_modified": iso(entry[1])}
        return list(rows.values())

    def _accepted(self, submission: str, label: str, collection: str, paths: list[str], until: str | None) -> Any:
        if submission in self.submissions:
            return {"task_id": self.submissions[submission], "code": "Duplicate"}
        task_id = str(uuid.UUID(int=self.random.getrandbits(128)))
        deadline = float("inf")
        if until is not None:
            deadline = datetime.fromisoformat(until).replace(tzinfo=timezone.utc).timestamp()
        self.tasks[task_id] = {
            "label": label,
            "collection": collection,
            "paths": paths,
            "deadline": deadline,
            "status": "ACTIVE",
        }
        self.submissions[submission] = task_id
        self.step("answered")
        return {"task_id": task_id, "code": "Accepted"}

    def _document(self, task_id: str) -> dict[str, Any]:
        task = self.tasks.get(task_id)
        if task is None:
            raise NotFound("not-found", "", "")
        if task["status"] == "ACTIVE" and self.now > task["deadline"]:
            task["status"] = "FAILED"
        times = {"request_time": iso(self.now), "completion_time": iso(self.now)}
        failed = {"fatal_error": {"code": "EXPIRED"}} if task["status"] == "FAILED" else {}
        return {"task_id": task_id, "type": "DELETE", "status": task["status"], "label": task["label"]} | times | failed

    def carry_out(self, task_id: str) -> None:
        """What Globus does when it gets to a task."""
        task = self.tasks[task_id]
        if self._document(task_id)["status"] != "ACTIVE":
            return
        before = self.contents()
        for each in task["paths"]:
            storage, path = self.place(task["collection"], each)
            self.storage[storage].pop(path, None)
            self.directories[storage].discard(path)
        task["status"] = "SUCCEEDED"
        self.trace.append(f"carried out {task['collection']}:{task['paths']}")
        lost = before - self.contents() - self.given_up
        if lost:
            self.defects.append(f"the last copy of {sorted(lost)} is gone")

    # processes

    def step(self, name: str) -> None:
        """Where another process may go on, or this one be killed."""
        actor = threading.current_thread()
        if not isinstance(actor, Actor):
            return
        if not actor.dead:
            self.trace.append(f"{actor.what}: {name}")
            self.back.release()
            actor.go.acquire()
        if actor.dead:
            raise Killed

    def start(self, what: str, body: Callable[[], Any]) -> None:
        actor = Actor(self, what, body)
        self.actors.append(actor)
        actor.start()

    def run(self, actor: Actor) -> None:
        actor.go.release()
        assert self.back.acquire(timeout=300), f"{actor.what} does not come back"

    def kill(self, actor: Actor) -> None:
        self.trace.append(f"{actor.what}: killed")
        actor.dead = True
        while not actor.ended:
            self.run(actor)

    def play(self, *, kills: bool = True) -> list[BaseException]:
        """Until every process has ended: some step of some process, a task, time, a kill, a suspension. What they ended with."""
        while living := [each for each in self.actors if not each.ended]:
            dice = self.random.random()
            awake = [each for each in living if each.asleep_until <= self.now]
            waiting = [each for each, task in self.tasks.items() if task["status"] == "ACTIVE"]
            if kills and dice < 0.02:
                self.kill(self.random.choice(living))
            elif kills and dice < 0.04:
                one = self.random.choice(living)
                one.asleep_until = self.now + self.random.choice((60.0, 2_000.0, 100_000.0))
                self.trace.append(f"{one.what}: suspended")
            elif dice < 0.07 and waiting:
                self.carry_out(self.random.choice(waiting))
            elif dice < 0.11 or not awake:
                self.now += self.random.choice((1.0, 30.0, 1_000.0)) if awake else 1_000.0
            else:
                self.run(self.random.choice(awake))
        problems = [each.problem for each in self.actors if each.problem is not None]
        self.actors.clear()
        return problems


# what the processes do


def cleanup(collection: str, owner: str | None = None, timeout: float | None = 5.0) -> Plan:
    """`globuswrap cleanup --under COLLECTION:/d --yes`."""

    def known() -> evidence.Evidence:
        return evidence.gather(collection, None, owner=owner)

    found = carry_out.plan(known(), [TOP[collection]], evidence.View())
    sending = Sending("cleanup", wait_policy=WaitPolicy(timeout=timeout, poll=1.0, retry_for=0.0))
    carry_out.carry_out(found, lambda paths: carry_out.judged(known(), paths, evidence.View()), sending)
    return found


def mirrored(collection: str, name: str) -> None:
    """A sync that deletes what the user has removed at its source."""
    path = f"{TOP[collection]}/{name}"
    found = Plan(collection, [Verdict(path)])
    sending = Sending("sync", wait_policy=WaitPolicy(timeout=5.0, poll=1.0, retry_for=0.0))
    carry_out.carry_out(found, lambda paths: [Verdict(each) for each in paths], sending)


def chain(world: World, number: int, collection: str, directory: Path) -> None:
    """A chain that uses a directory, and cleans it up when it ends."""
    owner = f"chain {number}"
    directory.mkdir()
    uses.hold(owner, directory / "ended", [(collection, TOP[collection])])
    for _ in range(5):
        world.step("works")
    cleanup(collection, owner)
    (directory / "ended").write_text("")


@contextlib.contextmanager
def world_of(seed: int, state: Path) -> Iterator[World]:
    """A world with its own state directory; what the real code asks of time and Globus, it asks of this world."""
    world = World(seed)
    with pytest.MonkeyPatch.context() as patched:
        world.patched = patched
        patched.setenv("XDG_STATE_HOME", str(state))
        patched.setattr(time, "time", lambda: world.now)
        patched.setattr(time, "monotonic", lambda: world.now)
        patched.setattr(os, "fsync", lambda descriptor: None)
        patched.setattr(random, "uniform", world.random.uniform)
        patched.setattr(command, "call", world.call)
        patched.setattr(command, "find", lambda: SimpleNamespace(version=(3, 44)))

        def sleep(seconds: float) -> None:
            actor = threading.current_thread()
            if isinstance(actor, Actor):
                actor.asleep_until = world.now + seconds
                world.step("sleeps")
            else:
                world.now += seconds

        def stepping(module: Any, name: str) -> None:
            real = getattr(module, name)

            def stepped(*args: Any, **rest: Any) -> Any:
                world.step(f"{name} begins")
                done = real(*args, **rest)
                world.step(f"{name} done")
                return done

            patched.setattr(module, name, stepped)

        patched.setattr(time, "sleep", sleep)
        for module, name in (
            (announcements, "announce"),
            (announcements, "conflicts"),
            (announcements, "withdraw"),
            (journal, "claim"),
            (journal, "record"),
        ):
            stepping(module, name)
        files.private_directory(files.state_dir())
        yield world
