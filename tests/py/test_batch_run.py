"""Batches from items to one result, against the sandbox with the real `globus`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from globuswrap import config
from globuswrap.batches import prepare as batch
from globuswrap.globus import command
from globuswrap.transfers import journal
from globuswrap.transfers.request import Item
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


def ends(box: Any) -> tuple[str, str]:
    return box.collection("archive").id, box.collection("scratch").id


def test_items_go_as_tasks_of_chunk_items_and_settle_to_one_result(inside: Any) -> None:
    names = files(inside, "archive", 25)
    items = (Item(f"/{name}", f"/in/{name}") for name in names)
    sent = batch.submit_items(*ends(inside), items, chunk=10)
    assert [part.items for part in sent.parts] == [10, 10, 5]
    result = batch.settle(sent, WaitPolicy(poll=0.1))
    assert sorted(os.listdir(inside.collection("scratch").path / "in")) == names
    assert result.outcome is not None
    assert result.outcome.receipt is not None
    assert result.outcome.receipt["files_transferred"] == 25
    assert len(inside.control.tasks()) == 3


def test_not_settled_it_is_adopted_and_settled_it_is_done_anew(inside: Any) -> None:
    names = files(inside, "archive", 4)
    items = [Item(f"/{name}", f"/in/{name}") for name in names]
    first = batch.submit_items(*ends(inside), items, chunk=2)
    second = batch.submit_items(*ends(inside), items, chunk=4)
    assert [each.task_id for each in second.submitted] == [each.task_id for each in first.submitted]
    batch.settle(second, WaitPolicy(poll=0.1))
    assert all(entry.reported for entry in journal.entries())
    third = batch.submit_items(*ends(inside), items, chunk=2)
    assert {each.task_id for each in third.submitted}.isdisjoint(each.task_id for each in first.submitted)


def test_once_is_recorded(inside: Any) -> None:
    names = files(inside, "archive", 4)
    items = [Item(f"/{name}", f"/in/{name}") for name in names]
    for _ in range(2):
        sent = batch.submit_items(*ends(inside), items, policy=Policy(name="night", once=True), chunk=2)
        batch.settle(sent, WaitPolicy(poll=0.1))
    assert len(inside.control.tasks()) == 2
