"""Deletions that must not go together find each other, whoever was killed, suspended or timed out."""

from __future__ import annotations

import itertools
import os
import time
import uuid
from pathlib import Path
from typing import Any

import pytest

from globuswrap.deletion import announcements
from globuswrap.deletion.announcements import Announcement, Place, announce, conflicts, withdraw
from globuswrap.errors import TryLater, UsageProblem
from globuswrap.globus import command
from globuswrap.system import records
from globuswrap.transfers import journal, outcome
from globuswrap.transfers import submit as submitting
from globuswrap.transfers import wait as waiting
from globuswrap.transfers.submit import Intent, Policy

A, B, C = ("a", "/x/1"), ("b", "/y/1"), ("c", "/z/1")


def deletion(gone: Place, copy: Place | None) -> Announcement:
    return announce(gone[0], {gone[1]: copy})


def begin(mine: Announcement, task: str | None = "task") -> None:
    """Submit it: claim the journal key; `task` None: killed before Globus answered."""

    def send(submission_id: str, label: str) -> Any:
        if task is None:
            raise TryLater("killed", "", "")
        return {"task_id": task, "code": "Accepted"}

    intent = Intent(
        digest="d" * 64,
        label="label",
        kind="delete",
        source=mine.collection,
        destination=None,
        items=1,
        examples=(),
        send=send,
    )
    try:
        submitting.submit_intent(intent, Policy(name=mine.name, once=True), lambda: str(uuid.uuid4()))
    except TryLater:
        assert task is None


@pytest.fixture
def status(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """What Globus says of tasks, by id."""
    said: dict[str, str] = {}
    monkeypatch.setattr(
        waiting,
        "documents",
        lambda ids: {each: {"task_id": each, "status": said.get(each, outcome.ABSENT)} for each in ids},
    )
    return said


def later(monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    now = time.time() + seconds
    monkeypatch.setattr(time, "time", lambda: now)


def test_two_that_delete_each_others_proof_find_each_other() -> None:
    one, two = deletion(A, B), deletion(B, A)
    assert [(each.paths, each.racing) for each in conflicts(one)] == [({"/x/1"}, True)]
    assert [(each.paths, each.racing) for each in conflicts(two)] == [({"/y/1"}, True)]
    withdraw(one)
    assert conflicts(two) == []


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
def test_of_a_cycle_no_two_neighbors_go_on(order: tuple[int, ...]) -> None:
    """A relies on B, B on C, C on A: the last to be announced sees both others."""
    cycle = [(A, B), (B, C), (C, A)]
    made = [deletion(*cycle[each]) for each in order]
    assert [len(conflicts(each)) for each in made] == [2, 2, 2]


def test_deletions_that_have_nothing_to_do_with_each_other_go_together() -> None:
    one = deletion(A, B)
    deletion(A, C), deletion(("a", "/x/2"), B), deletion(("c", "/other/1"), None)
    assert conflicts(one) == []


def test_one_file_under_two_names_is_one_file() -> None:
    """dtn1:/x/1 and dtn2:/x/1 are the same: who deletes the one deletes the proof that is the other."""
    deletion(("dtn1", "/x/it"), B)
    two = deletion(("c", "/z/2"), ("dtn2", "/x/it"))
    asked: list[tuple[Place, Place]] = []
    assert conflicts(two) == []
    assert len(conflicts(two, lambda one, other: asked.append((one, other)) or True)) == 1
    assert asked == [(("dtn2", "/x/it"), ("dtn1", "/x/it"))]


def test_a_deletion_that_timed_out_counts_until_its_task_has_ended(status: dict[str, str]) -> None:
    begin(deletion(A, B))
    two = deletion(B, A)
    for name in ("ACTIVE", "INACTIVE", "what", outcome.ABSENT):
        status["task"] = name
        assert [(each.racing, each.task_id) for each in conflicts(two)] == [(False, "task")]
    status["task"] = "SUCCEEDED"
    assert conflicts(two) == [] and len(announcements.announced()) == 1


def test_a_deletion_counts_while_globus_cannot_be_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    begin(deletion(A, B))
    two = deletion(B, A)

    def call(*args: str, **rest: Any) -> Any:
        raise TryLater("unreachable", "no answer", "")

    monkeypatch.setattr(command, "call", call)
    assert [each.task_id for each in conflicts(two)] == ["task"]


def test_a_receipt_of_a_task_that_was_given_up_on_is_not_its_end(status: dict[str, str]) -> None:
    one, two = deletion(A, B), deletion(B, A)
    begin(one)
    entry = journal.latest(one.key)
    assert entry is not None
    status["task"] = "ACTIVE"
    for given_up in (None, "ACTIVE"):
        journal.record(entry, "receipt", {"outcome": "gone", "status": given_up})
        assert len(conflicts(two)) == 1
    journal.record(entry, "receipt", {"outcome": "failed", "status": "FAILED"})
    assert conflicts(two) == []


def test_a_deletion_that_may_have_been_accepted_counts_until_its_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    begin(deletion(A, B), task=None)
    two = deletion(B, A)
    assert [(each.racing, each.task_id) for each in conflicts(two)] == [(False, None)]
    later(monkeypatch, announcements.LASTS)
    assert len(conflicts(two)) == 1  # clocks differ
    later(monkeypatch, announcements.CLOCK_SKEW + 10)
    assert conflicts(two) == []


def test_a_suspended_process_finds_that_it_must_not_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    one, two = deletion(A, B), deletion(B, A)
    later(monkeypatch, announcements.STALE + 10)
    assert conflicts(two) == []
    with pytest.raises(UsageProblem) as raised:
        begin(one)
    assert raised.value.name == "key-taken"
    assert conflicts(two) == []


def test_one_that_goes_on_while_it_is_made_void_is_found(
    monkeypatch: pytest.MonkeyPatch, status: dict[str, str]
) -> None:
    one, two = deletion(A, B), deletion(B, A)
    later(monkeypatch, announcements.STALE + 10)
    status["task"] = "ACTIVE"
    claim = journal.claim

    def late(new: journal.Claim) -> journal.Entry:
        monkeypatch.setattr(journal, "claim", claim)
        begin(one)
        return claim(new)

    monkeypatch.setattr(journal, "claim", late)
    assert [each.racing for each in conflicts(two)] == [False]


def test_what_ended_is_tidied_away_by_whoever_looks(status: dict[str, str]) -> None:
    one = deletion(A, B)
    begin(one)
    entry = journal.latest(one.key)
    assert entry is not None
    journal.record(entry, "receipt", {"outcome": "succeeded", "status": "SUCCEEDED"})
    two = deletion(C, ("d", "/elsewhere/1"))
    assert conflicts(two) == [] and [each.path for each in announcements.announced()] == [two.path]


def test_a_record_is_written_once_also_when_nfs_loses_the_reply(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = tmp_path / "record"
    assert records.write_once(place, "first") and not records.write_once(place, "second")
    assert place.read_text() == "first"
    link = os.link

    def lost(source: str, destination: Path) -> None:
        link(source, destination)
        raise FileExistsError

    monkeypatch.setattr(os, "link", lost)
    assert records.write_once(tmp_path / "other", "mine") and (tmp_path / "other").read_text() == "mine"
    assert {each.name for each in tmp_path.iterdir()} == {"record", "other"}
