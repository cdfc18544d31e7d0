"""The journal: claims and facts on disk."""

from __future__ import annotations

import multiprocessing
import os
import time
import uuid
from pathlib import Path

import pytest

from globuswrap.transfers import journal
from globuswrap.transfers.journal import Claim, Entry

KEY = "ab" * 20


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    return tmp_path / "globuswrap"


def a_claim(key: str = KEY, attempt: int = 1, **rest: object) -> Claim:
    known: dict[str, object] = {
        "key": key,
        "attempt": attempt,
        "submission_id": str(uuid.uuid4()),
        "digest": "d" * 64,
        "label": "l gw-dddddddddddd",
        "kind": "transfer",
        "source": "s",
        "destination": "t",
        "items": 1,
        "examples": (("/a", "/b\n"),),
    }
    return journal.new_claim(**{**known, **rest})


def test_a_claim_is_read_back_as_it_was() -> None:
    written = a_claim()
    assert journal.claim(written).claim == written
    found = journal.latest(KEY)
    assert found is not None and found.claim == written and found.state == "intent" and not found.finished


def test_the_second_claim_of_an_attempt_reads_the_first() -> None:
    first = journal.claim(a_claim())
    second = journal.claim(a_claim())
    assert second.claim.submission_id == first.claim.submission_id


def test_state_is_private_and_leaves_no_temporary_file(state: Path) -> None:
    entry = journal.claim(a_claim())
    journal.record(entry, "task", {"task_id": "T"})
    for path in [state, *state.rglob("*")]:
        assert path.stat().st_mode & 0o077 == 0, path
    assert [path.name for path in entry.path.parent.iterdir() if path.name.startswith(".")] == []


def _claim_in_another_process(_: int) -> str:
    return journal.claim(a_claim()).claim.submission_id


def test_of_many_processes_one_wins() -> None:
    with multiprocessing.get_context("fork").Pool(16) as pool:
        ids = pool.map(_claim_in_another_process, range(200), chunksize=1)
    assert len(set(ids)) == 1


def test_a_lost_reply_over_nfs_looks_like_a_taken_name_and_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.link

    def link(source: str, target: Path) -> None:
        real(source, target)
        raise FileExistsError(target)

    monkeypatch.setattr(os, "link", link)
    mine = a_claim()
    assert journal.claim(mine).claim.submission_id == mine.submission_id


def test_facts_make_the_state() -> None:
    entry = journal.claim(a_claim())
    entry = journal.record(entry, "task", {"task_id": "T"})
    assert (entry.state, entry.task_id, entry.finished) == ("submitted", "T", False)
    entry = journal.record(entry, "receipt", {"outcome": "succeeded"})
    assert (entry.state, entry.finished, entry.reported) == ("succeeded", True, False)
    entry = journal.record(entry, "reported", {})
    assert entry.reported
    assert journal.by_task("T") == entry


def test_a_refused_attempt_is_not_finished() -> None:
    entry = journal.record(journal.claim(a_claim()), "refused", {"cause": "no"})
    assert entry.state == "refused" and not entry.finished


@pytest.mark.parametrize("damage", [b"", b"{", b"[]", b'{"key": "x"}', b"\0" * 400])
def test_a_damaged_claim_is_set_aside_and_said_so(damage: bytes, capsys: pytest.CaptureFixture[str]) -> None:
    entry = journal.claim(a_claim())
    entry.path.write_bytes(damage)
    assert journal.latest(KEY) is None
    assert "damaged" in capsys.readouterr().err
    (aside,) = journal.damaged()
    assert aside.read_bytes() == damage
    assert journal.highest_attempt(KEY) == 1  # its number is not used again: its submission id may have been sent


def test_a_damaged_fact_is_set_aside_and_the_rest_holds() -> None:
    entry = journal.record(journal.claim(a_claim()), "task", {"task_id": "T"})
    Path(f"{entry.path}.task").write_bytes(b"\xff\xfe")
    found = journal.latest(KEY)
    assert found is not None and found.task_id is None and found.claim == entry.claim
    assert len(journal.damaged()) == 1


def aged(entry: Entry, days: float) -> None:
    when = time.time() - days * 86400
    os.utime(entry.path, (when, when))


def finished(key: str, **rest: object) -> Entry:
    entry = journal.record(journal.claim(a_claim(key, **rest)), "task", {"task_id": key})
    entry = journal.record(entry, "receipt", {"outcome": "succeeded"})
    return journal.record(entry, "reported", {})


def test_pruning_takes_what_is_old_finished_and_reported() -> None:
    old, new, once = finished("a" * 40), finished("b" * 40), finished("c" * 40, once=True)
    unfinished = journal.claim(a_claim("d" * 40))
    for entry in (old, once, unfinished):
        aged(entry, 400)
    aged(new, 10)
    assert journal.prune() == 1
    assert {entry.claim.key[0] for entry in journal.entries()} == {"b", "c", "d"}
    assert [path.name for path in old.path.parent.iterdir()] == []


def test_tidying_prunes_once_a_day() -> None:
    aged(finished("a" * 40), 400)
    journal.tidy()
    assert list(journal.entries()) == []
    aged(finished("b" * 40), 400)
    journal.tidy()
    assert len(list(journal.entries())) == 1
    os.utime(journal.directory() / "pruned", (0, 0))
    journal.tidy()
    assert list(journal.entries()) == []


def test_pruning_leaves_alone_what_is_being_looked_at() -> None:
    entry = finished(KEY)
    aged(entry, 400)
    journal.latest(KEY)
    assert journal.prune() == 0
