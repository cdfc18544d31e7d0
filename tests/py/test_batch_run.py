"""Batches from items to one result, against the sandbox with the real `globus`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from globuswrap import config
from globuswrap.batches import prepare as batch
from globuswrap.batches import run
from globuswrap.globus import command
from globuswrap.transfers import journal
from globuswrap.transfers.operations import Hooks
from globuswrap.transfers.submit import Policy
from globuswrap.transfers.wait import WaitPolicy


@pytest.fixture
def inside(sandbox: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """This process in the sandbox."""
    for name, value in sandbox.env.items():
        monkeypatch.delenv(name, raising=False)
        if value is not None:
            monkeypatch.setenv(name, value)
    config.load.cache_clear()
    command.find.cache_clear()
    return sandbox


def files(box: Any, name: str, count: int) -> list[str]:
    place: Path = box.collection(name).path
    names = [f"f{number:03}" for number in range(count)]
    for each in names:
        (place / each).write_text(each)
    return names


def started(box: Any, names: list[str], chunk: int, policy: Policy | None = None) -> tuple[run.Sent, run.Sending]:
    """The tasks of a batch, submitted and not settled: so a caller that waits for them leaves them when it is killed."""
    ends = f"{box.collection('archive').id}:/", f"{box.collection('scratch').id}:/in"
    sending = run.Sending(policy or Policy(), WaitPolicy(poll=0.1))
    prepared = batch.prepare(*ends, names)
    begun = run.begin(prepared.loads, sending.policy, chunk, sending.wait_policy)
    return run.send(begun, prepared.loads, sending), sending


def settled(sent: run.Sent, sending: run.Sending) -> run.BatchResult:
    return run.settle(sent, sending, Hooks(), verify=False, notes={})


def test_items_go_as_tasks_of_chunk_items_and_settle_to_one_result(inside: Any) -> None:
    names = files(inside, "archive", 25)
    sent, sending = started(inside, names, chunk=10)
    assert [part.items for part in sent.parts] == [10, 10, 5]
    result = settled(sent, sending)
    assert sorted(os.listdir(inside.collection("scratch").path / "in")) == names
    assert result.outcome is not None
    assert result.outcome.receipt is not None
    assert result.outcome.receipt["files_transferred"] == 25
    assert len(inside.control.tasks()) == 3


def test_not_settled_it_is_adopted_and_settled_it_is_done_anew(inside: Any) -> None:
    names = files(inside, "archive", 4)
    first, _ = started(inside, names, chunk=2)
    second, sending = started(inside, names, chunk=4)
    assert [each.task_id for each in second.submitted] == [each.task_id for each in first.submitted]
    settled(second, sending)
    assert all(entry.reported for entry in journal.entries())
    third, _ = started(inside, names, chunk=2)
    assert {each.task_id for each in third.submitted}.isdisjoint(each.task_id for each in first.submitted)


def test_once_is_recorded(inside: Any) -> None:
    names = files(inside, "archive", 4)
    for _ in range(2):
        settled(*started(inside, names, chunk=2, policy=Policy(name="night", once=True)))
    assert len(inside.control.tasks()) == 2
