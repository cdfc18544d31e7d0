"""The journal: claims and facts on disk."""

from __future__ import annotations

import errno
import itertools
import json
import multiprocessing
import os
import signal
import time
import uuid
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from globuswrap.errors import Refused, UsageProblem
from globuswrap.transfers import journal, places
from globuswrap.transfers import request as requests
from globuswrap.transfers import submit as submitting
from globuswrap.transfers.journal import Claim, Entry
from globuswrap.transfers.submit import Policy

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
    with ProcessPoolExecutor(16, multiprocessing.get_context("fork")) as pool:
        ids = list(pool.map(_claim_in_another_process, range(200)))
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


@pytest.mark.parametrize("damage", [b"", b"{", b"[]", b'{"key": "x"}', b"\0" * 400, b'{"schema": 1}'])
def test_a_damaged_claim_is_set_aside_and_said_so(damage: bytes, capsys: pytest.CaptureFixture[str]) -> None:
    entry = journal.claim(a_claim())
    entry.path.write_bytes(damage)
    assert journal.latest(KEY) is None
    assert "damaged" in capsys.readouterr().err
    (aside,) = journal.damaged()
    assert aside.read_bytes() == damage
    assert journal.highest_attempt(KEY) == 1  # its number is not used again: its submission id may have been sent


def test_who_meets_a_damaged_claim_has_its_facts_in_the_next_attempt() -> None:
    damaged = journal.record(journal.claim(a_claim()), "task", {"task_id": "T"})
    damaged.path.write_bytes(b"{")
    entry = journal.claim(a_claim())
    assert (entry.claim.attempt, entry.claim.replaces, entry.task_id) == (2, 1, "T")


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
    unfinished = journal.record(journal.claim(a_claim("d" * 40)), "task", {"task_id": "T"})
    unfinished = journal.record(unfinished, "answered", {})
    for entry in (old, once, unfinished):
        aged(entry, 400)
    aged(new, 10)
    assert journal.prune() == 1
    assert {entry.claim.key[0] for entry in journal.entries()} == {"b", "c", "d"}
    assert [path.name for path in old.path.parent.iterdir()] == []


@pytest.mark.parametrize("facts", [{}, {"answered": True, "awaited": True}, {"awaited": True}])
def test_pruning_leaves_what_its_caller_was_not_told(facts: dict[str, bool]) -> None:
    entry = journal.record(journal.claim(a_claim()), "task", {"task_id": "T"})
    for fact in facts:
        entry = journal.record(entry, fact, {})
    entry = journal.record(entry, "receipt", {"outcome": "failed"})
    aged(entry, 400)
    assert journal.prune() == 0 and journal.by_task("T") == entry
    journal.record(entry, "reported", {})
    aged(entry, 400)
    assert journal.prune() == 1


def test_pruning_takes_the_facts_of_damaged_claims_with_what_replaced_them() -> None:
    damaged = finished(KEY)
    damaged.path.write_bytes(b"{")
    assert journal.latest(KEY) is None
    entry = journal.claim(a_claim(attempt=2, replaces=1))
    assert (entry.task_id, entry.state, entry.kept) == (KEY, "succeeded", True)
    aged(entry, 400)
    assert journal.prune() == 1
    assert [path.name for path in entry.path.parent.iterdir()] == [f"{KEY}.1.damaged"]


def test_a_promise_is_kept_when_its_caller_has_what_it_was_promised() -> None:
    submission = journal.claim(a_claim("a" * 40))
    outcome = journal.claim(a_claim("b" * 40, awaited=True))
    assert not submission.kept and not outcome.kept
    submission, outcome = (journal.record(entry, "answered", {}) for entry in (submission, outcome))
    assert submission.kept and not outcome.kept
    submission = journal.record(submission, "awaited", {})
    assert not submission.kept
    assert all(journal.record(entry, "reported", {}).kept for entry in (submission, outcome))


@pytest.mark.parametrize("before", ["nothing", "finished", "damaged"])
def test_who_is_overtaken_sends_the_id_of_the_attempt_that_was_claimed_meanwhile(
    before: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another process claims the next attempt after this one has looked which is the last."""
    first = {"nothing": 1, "finished": 2, "damaged": 2}[before]
    key = requests.key_of("d" * 64, "k")
    if before != "nothing":
        entry = finished(key, name="k")
        if before == "damaged":
            entry.path.write_bytes(b"{")
            for fact in ("task", "receipt", "reported"):
                Path(f"{entry.path}.{fact}").unlink()
    other = a_claim(key, first, name="k", replaces=int(before == "damaged"))
    real = journal.latest

    def latest(key: str) -> Entry | None:
        found = real(key)
        journal.claim(other)
        return found

    monkeypatch.setattr(journal, "latest", latest)
    monkeypatch.setattr(submitting, "_unfinished_rows", list)
    sent = []

    def send(submission_id: str, label: str) -> dict[str, str]:
        sent.append(submission_id)
        return {"task_id": "T", "code": "Accepted"}

    intent = submitting.Intent(**a_claim().summary(), send=send)
    submitting.submit_intent(intent, Policy(name="k"), lambda: str(uuid.uuid4()))
    assert sent == [other.submission_id]
    assert journal.highest_attempt(key) == first


def test_who_is_overtaken_by_another_request_under_its_key_sends_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    key = requests.key_of("d" * 64, "k")
    real = journal.latest

    def latest(key: str) -> Entry | None:
        found = real(key)
        journal.claim(a_claim(key, name="k", digest="e" * 64))
        return found

    monkeypatch.setattr(journal, "latest", latest)
    sent: list[str] = []
    intent = submitting.Intent(**a_claim().summary(), send=lambda submission_id, label: sent.append(submission_id))
    with pytest.raises(UsageProblem) as refused:
        submitting.submit_intent(intent, Policy(name="k"), lambda: str(uuid.uuid4()))
    assert refused.value.name == "key-taken" and sent == [] and journal.highest_attempt(key) == 1


@pytest.fixture
def synced(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """What was fsynced, in order."""
    found: list[Path] = []
    real = os.fsync

    def fsync(descriptor: int) -> None:
        found.append(Path(os.readlink(f"/proc/self/fd/{descriptor}")))
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    return found


def test_a_claim_is_on_disk_before_its_name_is_and_the_name_before_anything_is_sent(
    synced: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.link

    def link(source: str, target: Path) -> None:
        assert synced[-1] == Path(source)  # or a crash leaves the name with nothing in it
        real(source, target)

    monkeypatch.setattr(os, "link", link)
    entry = journal.claim(a_claim())
    assert synced[-1] == entry.path.parent  # or a crash loses the name, and with it the submission id


@pytest.mark.parametrize("fact", journal.FACTS)
def test_a_fact_is_on_disk_before_it_is_relied_on(
    synced: list[Path], fact: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry = journal.claim(a_claim())
    real = os.replace

    def replace(source: str, target: Path) -> None:
        assert synced[-1] == Path(source)
        real(source, target)

    monkeypatch.setattr(os, "replace", replace)
    journal.record(entry, fact, {"task_id": "T"})
    assert synced[-1] == entry.path.parent


def test_a_directory_in_place_of_a_record_is_said_so() -> None:
    entry = journal.claim(a_claim())
    Path(f"{entry.path}.task").mkdir()
    with pytest.raises(Refused) as refused:
        journal.latest(KEY)
    assert refused.value.name == "not-a-record" and f"{entry.path}.task" in refused.value.cause
    entry.path.unlink()
    entry.path.mkdir()
    with pytest.raises(Refused, match="should be a file"):
        journal.latest(KEY)


@pytest.mark.parametrize("number", [errno.EPERM, errno.EOPNOTSUPP, errno.EMLINK])
def test_a_file_system_without_hard_links_is_said_so(number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    def link(source: str, target: Path) -> None:
        raise OSError(number, os.strerror(number), str(source), None, str(target))

    monkeypatch.setattr(os, "link", link)
    with pytest.raises(UsageProblem) as refused:
        journal.claim(a_claim())
    assert refused.value.name == "no-hard-links" and "XDG_STATE_HOME" in refused.value.remedy
    assert [
        path for path in journal.directory().rglob("*") if path.is_file() and places.directory() not in path.parents
    ] == []


def test_a_record_that_is_nested_too_deeply_is_damaged() -> None:
    entry = journal.claim(a_claim())
    entry.path.write_text('{"key": ' * 100_000)
    assert journal.latest(KEY) is None and len(journal.damaged()) == 1


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


def marks() -> list[str]:
    return [path.name for path in mark_files()]


def mark_files() -> list[Path]:
    return [path for kind in ("tasks", "places") for path in (journal.directory() / kind).rglob("*") if path.is_file()]


#: What a crash can come between: each call that changes a directory.
CHANGES = ("open", "link", "replace", "unlink", "mkdir")


def killed_at(step: int, act: Callable[[], object]) -> bool:
    """Run it in a process that dies, as by kill -9, before its change number `step`; was there one?"""
    child = os.fork()
    if child == 0:
        left = [step]

        def counted(real: Callable[..., Any]) -> Callable[..., Any]:
            def call(*given: Any, **named: Any) -> Any:
                if real is not os_open or given[1] & os.O_CREAT:
                    left[0] -= 1
                    if left[0] < 0:
                        os.kill(os.getpid(), signal.SIGKILL)
                return real(*given, **named)

            return call

        os_open = os.open
        for name in CHANGES:
            setattr(os, name, counted(getattr(os, name)))
        try:
            act()
        finally:
            os._exit(0)
    _, status = os.waitpid(child, 0)
    return os.WIFSIGNALED(status)


def test_killed_at_any_step_a_task_that_is_recorded_is_found_and_no_other(state: Path) -> None:
    outcomes = []
    for step in itertools.count():
        key, task_id = f"{step:040}", str(uuid.UUID(int=step))
        entry = journal.claim(a_claim(key))
        killed = killed_at(step, lambda: journal.record(entry, "task", {"task_id": task_id}))  # noqa: B023
        found, recorded = journal.by_task(task_id), journal.latest(key)
        assert recorded is not None and found == (recorded if recorded.task_id == task_id else None)
        outcomes.append((killed, recorded.task_id is not None, bool([name for name in marks() if task_id in name])))
        if killed:  # and the next run, which sends the same id again, records it
            journal.record(recorded, "task", {"task_id": task_id})
            assert journal.by_task(task_id) == journal.latest(key) != entry
        else:
            break
    assert outcomes[-1] == (False, True, True)
    assert (True, False, True) in outcomes and (True, False, False) in outcomes  # before the fact, and before the mark


def found_at(collection: str, path: str) -> set[str]:
    """The keys of the entries that may have read, written or deleted this path."""
    entries = (journal.of_mark(name)[0] for name in places.Index().at((collection, path)))
    return {entry.claim.key for entry in entries if entry is not None}


def test_killed_at_any_step_a_claim_is_found_by_its_places(state: Path) -> None:
    outcomes = []
    for step in itertools.count():
        key = f"{step:040}"
        claim = a_claim(key, examples=((f"/{step}", f"/to {step}/x"),))
        killed = killed_at(step, lambda: journal.claim(claim))  # noqa: B023
        recorded = journal.latest(key) is not None
        assert found_at("s", f"/{step}/a/b") == found_at("t", f"/to {step}/x") == ({key} if recorded else set())
        outcomes.append((killed, recorded, bool([name for name in marks() if key in name])))
        if not killed:
            break
        journal.claim(claim)  # the next run goes on
        assert found_at("t", f"/to {step}/x") == {key}
    assert outcomes[-1] == (False, True, True)
    assert (True, False, True) in outcomes and (
        True,
        False,
        False,
    ) in outcomes  # before the claim, and before the marks


def test_killed_at_any_step_a_receipt_is_found_by_the_files_it_lists(state: Path) -> None:
    """The service may name files in another way than the request did: below a home directory, for one."""
    outcomes = []
    for step in itertools.count():
        entry = journal.claim(a_claim(f"{step:040}", examples=((f"/~/{step}", f"/to/{step}"),)))
        rows = [{"source": f"/home/{step}/{name}", "destination": f"/to/{step}/{name}"} for name in ("x/1", "x y/2")]
        receipt = {"outcome": "succeeded", "source": "s", "destination": "t", "files_list": rows}
        killed = killed_at(step, lambda: journal.record(entry, "receipt", receipt))  # noqa: B023
        (recorded,) = [each for each in journal.entries() if each.claim.key == entry.claim.key]
        found = [entry.claim.key in found_at("s", row["source"]) for row in rows]
        outcomes.append((killed, recorded.receipt is not None, all(found)))
        if not killed:
            break
    assert outcomes[-1] == (False, True, True)
    assert (True, False, True) in outcomes and (True, False, False) in outcomes
    assert not [each for each in outcomes if each[1] and not each[2]]


@pytest.mark.parametrize("examples", [(("/", "/d"),), (("/a/$(x) *", "/~/b"), ("/a/é", "/d//c/"))])
@pytest.mark.parametrize("items", [1, 2, 3])
def test_what_may_have_touched_a_path_is_found_by_it(items: int, examples: tuple[tuple[str, str], ...]) -> None:
    """Also of a submission that shows only some of its items; nothing else is found."""
    journal.claim(a_claim(items=items, examples=examples))
    everywhere = items != len(examples)
    asked = [
        "/",
        "/a",
        "/a/$(x) *",
        "/a/$(x) */1\n",
        "/a/$(x)",
        "/a/é/2",
        "/d",
        "/d/c",
        "/d/c/1",
        "/d/cc",
        "/~/b/1",
        "/b",
    ]
    for side, collection in enumerate("st"):
        tops = [pair[side].rstrip("/").replace("//", "/") for pair in examples]
        for path in asked:
            touched = everywhere or any(path == top or path.startswith(f"{top}/") for top in tops)
            assert found_at(collection, path) == ({KEY} if touched else set()), (collection, path)
        below = {name for name in places.Index().below((collection, "/d"))}
        assert below == ({f"{KEY}.1"} if not everywhere and any(f"{top}/".startswith("/d/") for top in tops) else set())
    assert found_at("another", "/a") == set()


@pytest.mark.parametrize(
    ("within", "asked", "found"),
    [
        (("/a", "/d/"), "/d/x/1", True),
        (("/a", "/d/"), "/d2", False),
        (("/a", "."), "/d2", True),
        (None, "/d2", True),
    ],
)
def test_of_many_items_the_directories_that_hold_them_count(
    within: tuple[str, str] | None, asked: str, found: bool
) -> None:
    journal.claim(a_claim(items=100, within=within))
    entry = journal.latest(KEY)
    assert entry is not None and entry.claim.within == within
    assert bool(found_at("t", asked)) is found


def test_many_paths_are_in_the_directory_that_holds_them_all() -> None:
    sent = [("/a/b/1", "/d/1"), ("/a/bc/2", "/d/2/x"), ("/a/b", "/e"), ("/a/b/c", "/d/3")]
    request = requests.Request("s", "t", tuple(requests.Item(*pair) for pair in sent))
    assert submitting.intent_of(request).within == ("/a", "/")
    request = requests.Request("s", None, tuple(requests.Item(source) for source, _ in sent))
    assert submitting.intent_of(request).within == ("/a", None)
    assert [places.common(paths) for paths in (["~/x", "~/y"], ["x", "y"], ["/", "/a"])] == ["~", "/", "/"]


def test_a_path_of_any_depth_and_length_is_found_by_what_touched_it() -> None:
    deep = "".join(f"/{number}{'ü' * 120}" for number in range(200))
    journal.claim(a_claim(examples=((deep, "/b"),)))
    assert found_at("s", deep) == found_at("s", f"{deep}/x") == {KEY}
    assert max(len(os.fsencode(name)) for name in marks()) < 250


def test_a_mark_is_on_disk_before_the_claim_has_its_name(synced: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.link

    def link(source: str, target: Path) -> None:
        assert {places.directory(), *(mark.parent for mark in mark_files())} <= set(synced)
        real(source, target)

    monkeypatch.setattr(os, "link", link)
    journal.claim(a_claim())
    assert len(mark_files()) == 2


def test_pruning_leaves_the_mark_of_a_claim_that_is_about_to_be_made() -> None:
    """Left over from a process that was killed long ago, it is taken over by the one that claims the attempt now."""
    entry = journal.claim(a_claim())
    entry.path.unlink()
    for mark in mark_files():
        os.utime(mark, (0, 0))
    places.mark([("s", "/a"), ("t", "/b\n")], entry.path.name)
    journal.prune()
    assert len(mark_files()) == 2


def test_pruning_that_was_killed_at_any_step_is_finished_by_the_next(state: Path) -> None:
    for step in itertools.count():
        entry = finished(f"{step:040}")
        aged(entry, 400)
        assert {mark.parents[1].name for mark in mark_files()} == {"tasks", "places"}
        for mark in mark_files():
            os.utime(mark, (0, 0))
        killed = killed_at(step, journal.prune)
        assert journal.prune() == (1 if killed and step == 0 else 0)
        assert marks() == [] and list(entry.path.parent.iterdir()) == []
        if not killed:
            break
    assert step > 3


def test_a_task_of_a_damaged_claim_is_found_by_what_replaces_it_and_pruning_leaves_that() -> None:
    damaged = finished(KEY)
    damaged.path.write_bytes(b"{")
    assert journal.latest(KEY) is None and journal.by_task(KEY) is None
    for mark in mark_files():
        os.utime(mark, (0, 0))
    before = marks()
    assert journal.prune() == 0 and marks() == before
    entry = journal.claim(a_claim(attempt=2, replaces=1))
    assert journal.by_task(KEY) == entry
    aged(entry, 400)
    assert journal.prune() == 1 and marks() == []


def test_two_entries_that_share_a_task_are_both_found_by_it() -> None:
    first, second = (journal.record(journal.claim(a_claim(k * 40)), "task", {"task_id": "T"}) for k in "ab")
    assert journal.by_task("T") in (first, second)
    first.path.unlink()
    assert journal.by_task("T") == second


FACT_SETS = [
    facts
    for count in range(5)
    for facts in itertools.combinations(("task", "lapsed", "receipt", "answered", "awaited", "reported"), count)
]


@pytest.mark.parametrize("awaited", [False, True])
def test_the_names_of_the_facts_say_what_reading_them_says(awaited: bool, state: Path) -> None:
    for number, facts in enumerate(FACT_SETS):
        entry = journal.claim(a_claim(f"{number:040}", awaited=awaited))
        for fact in facts:
            entry = journal.record(entry, fact, {"task_id": f"T{number}"} if fact == "task" else {"outcome": "failed"})
    open_ = {entry.claim.key for entry in journal.entries() if not entry.finished or not entry.kept}
    assert {entry.claim.key for entry in journal.unsettled()} == open_
    by_name = {name[:40] for seen in journal._survey().values() for name in seen.unsettled}
    assert by_name == open_  # nothing that is settled is read


def test_what_changes_after_a_look_is_seen_by_the_next_one(state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    entry = journal.claim(a_claim())
    assert [each.claim.key for each in journal.unsettled()] == [KEY]
    monkeypatch.setattr(journal, "_file_clock", lambda: time.time_ns() + 10**10)  # old enough to be remembered
    assert [each.claim.key for each in journal.unsettled()] == [KEY]
    real, listed = os.listdir, []
    monkeypatch.setattr(os, "listdir", lambda path: listed.append(Path(path).name) or real(path))
    assert [each.claim.key for each in journal.unsettled()] == [KEY] and KEY[:2] not in listed
    for fact in ("task", "receipt", "reported"):
        entry = journal.record(entry, fact, {"task_id": "T", "outcome": "succeeded"})
    assert list(journal.unsettled()) == [] and KEY[:2] in listed
    Path(f"{entry.path}.receipt").write_bytes(b"{")
    assert journal.latest(KEY) is not None  # it is read, and set aside
    assert [each.path for each in journal.unsettled()] == [entry.path] and len(journal.damaged()) == 1


def test_a_directory_that_has_just_changed_is_not_remembered(state: Path) -> None:
    """Its next change may come within the same tick of the file system's clock, and leave its times as they are."""
    journal.claim(a_claim())
    assert len(list(journal.unsettled())) == 1
    assert json.loads((state / "journal" / "survey").read_text()) == {}


@pytest.mark.parametrize("memory", [b"", b"{", b"[]", b'{"ab": 1}', b'{"ab": [1]}', b'{"ab": [[0], [], []]}'])
def test_a_survey_that_cannot_be_read_or_is_old_counts_for_nothing(memory: bytes, state: Path) -> None:
    journal.claim(a_claim())
    (state / "journal" / "survey").write_bytes(memory)
    assert [each.claim.key for each in journal.unsettled()] == [KEY]
