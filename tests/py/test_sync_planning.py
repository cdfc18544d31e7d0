"""From differences to tasks: every file once, and deltas that lead to the listing."""

from __future__ import annotations

import itertools
import json
import os
from pathlib import Path
from typing import Any

import pytest

from globuswrap.batches import spool
from globuswrap.batches.spool import Spool
from globuswrap.collections.address import Address
from globuswrap.syncs import compare, manifest, planning
from globuswrap.syncs.profile import Profile
from globuswrap.syncs.state import Run, State
from globuswrap.transfers import request as requests
from support import HOSTILE_NAMES

ONE, TWO = "11111111-1111-4111-8111-111111111111", "22222222-2222-4222-8222-222222222222"


class Plan:
    """A profile on a tree of hostile names, and plans of it."""

    def __init__(self, tmp_path: Path, **settings: Any) -> None:
        self.root = tmp_path / "tree"
        self.root.mkdir()
        for directory in ("", "sub", "sub/deep", "zz"):
            (self.root / directory).mkdir(exist_ok=True)
            for name in HOSTILE_NAMES:
                self.write(f"{directory}/{name}" if directory else name)
        (self.root / "empty").mkdir()
        self.profile = Profile(
            "x", Address(ONE, "/from/"), Address(TWO, "/to"), local_root=str(self.root), settle=0.0, **settings
        )
        self.state = State(self.profile.directory).make()

    def write(self, name: str) -> None:
        (self.root / name).write_text("12345")
        os.utime(self.root / name, (1e9, 1e9))

    def plan(self) -> tuple[Run, planning.Planned]:
        draft = self.state.draft()
        delta = draft.directory / "candidates.delta.gz"
        found = compare.find(self.profile, self.state.manifest, delta, lambda: None)
        if not found.coming:
            return draft, planning.Planned()
        return draft, planning.plan(self.profile, self.state, draft, found, lambda: None)

    def documents(self, draft: Run) -> list[dict[str, Any]]:
        found = []
        for task in draft.tasks:
            piece = Spool((draft.directory / task.body).open("rb")).whole(task.items, task.digest)
            head = requests.document(planning.frame(self.profile, task), "an id", "a label")
            with spool.document(piece, head) as body:
                found.append(json.load(body))
        return found

    def commit(self, draft: Run) -> None:
        deltas = (manifest.delta_blocks(draft.directory / task.delta) for task in draft.tasks)
        manifest.merge(self.state.manifest, itertools.chain.from_iterable(deltas), self.state.manifest)

    def expected(self) -> set[tuple[str, str]]:
        names = [str(path.relative_to(self.root)) for path in self.root.rglob("*") if path.is_file()]
        return {(f"/from/{name}", f"/to/{name}") for name in [*names, "empty/"]}


@pytest.fixture
def plan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Plan:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    return Plan(tmp_path)


def pairs(documents: list[dict[str, Any]]) -> list[tuple[str, str]]:
    return [(item["source_path"], item["destination_path"]) for document in documents for item in document["DATA"]]


def test_every_file_once_in_chunks_and_the_deltas_lead_to_the_listing(
    plan: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(planning, "CHUNK", 10)
    draft, planned = plan.plan()
    documents = plan.documents(draft)
    found = pairs(documents)
    assert len(found) == len(set(found)) == planned.sent and set(found) == plan.expected()
    assert len({task.number for task in draft.tasks}) == len(draft.tasks) > 3
    assert planned.size == 5 * (planned.sent - 1)
    assert {document["skip_activation_check"] for document in documents} == {True}
    assert documents[0]["submission_id"] == "an id" and documents[0]["source_endpoint"] == ONE
    plan.commit(draft)
    again, nothing = plan.plan()
    assert nothing.sent == 0 and again.tasks == []


def test_the_digest_of_a_task_follows_its_items(plan: Plan) -> None:
    first, _ = plan.plan()
    second, _ = plan.plan()
    assert [task.digest for task in first.tasks] == [task.digest for task in second.tasks]
    plan.write("one more")
    third, _ = plan.plan()
    assert [task.digest for task in third.tasks] != [task.digest for task in first.tasks]


def test_no_more_tasks_than_the_service_takes(plan: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(planning, "CHUNK", 5)
    monkeypatch.setattr(planning, "MOST_TASKS", 2)
    total = len(plan.expected())
    sent = 0
    for number in range(20):
        draft, planned = plan.plan()
        assert len(draft.tasks) <= 2
        if not draft.tasks:
            assert number > 1
            break
        assert planned.over_limit == total - sent - planned.sent
        sent += planned.sent
        plan.commit(draft)
    assert sent == total


def test_a_file_that_changes_between_scan_and_plan_waits(plan: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    original = compare.find

    def and_then(*arguments: Any) -> compare.Differences:
        found = original(*arguments)
        (plan.root / "sub" / "$HOME").write_text("other")
        (plan.root / "zz" / "-leading-dash").unlink()
        return found

    monkeypatch.setattr(compare, "find", and_then)
    draft, planned = plan.plan()
    missing = plan.expected() - set(pairs(plan.documents(draft)))
    assert missing == {("/from/sub/$HOME", "/to/sub/$HOME")} and planned.settling == 1


def test_in_a_large_run_what_changed_lately_is_looked_at_again(plan: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(planning, "LOOK_AT_ALL", 10)
    original = compare.find
    fresh = plan.root / "sub" / "fresh"
    fresh.write_text("x")

    def and_then(*arguments: Any) -> compare.Differences:
        found = original(*arguments)
        fresh.write_text("more")
        return found

    monkeypatch.setattr(compare, "find", and_then)
    draft, planned = plan.plan()
    assert plan.expected() - set(pairs(plan.documents(draft))) == {("/from/sub/fresh", "/to/sub/fresh")}
    assert planned.settling == 1


def test_what_a_failed_task_covered_goes_with_checksums(plan: Plan) -> None:
    with manifest.Writer(plan.state.unsure / "a.delta.gz", manifest.DELTA) as writer:
        writer.write(b"/sub\x00+1 1 $HOME\x00+1 1 star*and?[x]\x00")
    with manifest.Writer(plan.state.unsure / "b.delta.gz", manifest.DELTA) as writer:
        writer.write(b"/\x00+1 1 ~tilde\x00/sub\x00+1 1 --json\x00")
    draft, _ = plan.plan()
    checked = [document for document in plan.documents(draft) if document.get("sync_level") == 3]
    assert {source for source, _ in pairs(checked)} == {
        "/from/~tilde", "/from/sub/$HOME", "/from/sub/star*and?[x]", "/from/sub/--json",
    }  # fmt: skip
    assert set(pairs(plan.documents(draft))) == plan.expected()


def test_at_the_top_of_a_collection_a_tilde_is_the_home_directory(plan: Plan) -> None:
    for place in ("~", "zz"):
        (plan.root / place).mkdir(exist_ok=True)
        plan.write(f"{place}/~")
    plan.profile = Profile("x", Address(ONE, "/"), Address(TWO, "/to"), local_root=str(plan.root), settle=0.0)
    draft, planned = plan.plan()
    assert planned.unsendable == ["~/~"]
    assert ("/zz/~", "/to/zz/~") in pairs(plan.documents(draft))


@pytest.mark.parametrize("order", [None, "oldest"])
@pytest.mark.parametrize("stuck", ["!\udcff", "kind"])
def test_what_cannot_go_takes_nothing_from_the_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, order: str | None, stuck: str
) -> None:
    """Oldest and largest, it would keep all others from ever being sent."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    plan = Plan(tmp_path, max_bytes=10, order=order)
    place = plan.root / stuck
    place.write_text("1" * 50)
    os.utime(place, (1e8, 1e8))
    if stuck == "kind":  # a directory at the destination
        with manifest.Writer(plan.state.manifest, manifest.MANIFEST) as writer:
            writer.write(b"/kind\x001 1 x\x00")
    _, planned = plan.plan()
    assert (len(planned.unsendable), len(planned.blocked)) == ((1, 0) if stuck != "kind" else (0, 1))
    assert planned.sent >= 2
