"""No path without a matching receipt is ever deleted: trees, links, changes and races that hypothesis thinks of."""

from __future__ import annotations

import os
import posixpath
import shutil
import tempfile
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import support
from globuswrap.collections.address import Address
from globuswrap.deletion import carry_out, evidence, judge
from globuswrap.deletion.evidence import Evidence, View
from globuswrap.deletion.judge import Copy, Plan, Proof, Seen, Verdict, Write
from globuswrap.deletion.uses import Use
from globuswrap.errors import Refused, UsageProblem
from globuswrap.transfers import journal
from globuswrap.transfers.places import Place

HERE, THERE = "here", "there"
OLD, REQUESTED, WRITTEN, COMPLETED, LATER = 1_000_000.0, 2_000_000.0, 2_000_010.0, 2_000_020.0, 3_000_000.0
DIRECTORIES = ("", "a", "a/$(x) *")
NAMES = ("1", "it's 2")


def iso(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, timezone.utc).isoformat()


@dataclass
class Pair:
    """Two collections in two directories, what was copied between them, and when each inode changed."""

    base: Path
    contents: dict[str, bytes] = field(default_factory=dict)
    changed: dict[str, float] = field(default_factory=dict)
    receipts: list[dict[str, Any]] = field(default_factory=list)
    #: (collection, path) -> the other side and the bytes at the time, as it truly was.
    copied: dict[tuple[str, str], list[tuple[str, str, bytes]]] = field(default_factory=dict)
    number: int = 0

    def place(self, collection: str, path: str) -> Path:
        return self.base / collection / path.lstrip("/")

    def write(self, collection: str, path: str, when: float, data: bytes | None = None) -> None:
        self.number += 1
        place = self.place(collection, path)
        try:
            place.parent.mkdir(parents=True, exist_ok=True)
            if place.is_dir() and not place.is_symlink():
                return
            if place.is_symlink():
                place.unlink()
            place.write_bytes(b"%05d" % self.number if data is None else data)
            os.utime(place, (when, when))
        except (FileExistsError, NotADirectoryError):
            return
        if collection == HERE:
            self.changed[os.path.realpath(place)] = max(when, self.changed.get(os.path.realpath(place), 0.0))

    def transfer(self, pairs: list[tuple[str, str]], how: str, *, preserved: bool, ended: str) -> None:
        """Copy files and write the receipt. `how` it tells of them: "listed", "tree" or "silent"."""
        done = []
        for source, destination in pairs:
            if not self.place(HERE, source).is_file():
                continue
            data = self.place(HERE, source).read_bytes()
            when = self.place(HERE, source).stat().st_mtime if preserved else WRITTEN
            self.write(THERE, destination, when, data)
            done.append((source, destination, data))
        if ended.startswith("succeeded") and how != "silent":
            for source, destination, data in done:
                self.copied.setdefault((HERE, source), []).append((THERE, destination, data))
                self.copied.setdefault((THERE, destination), []).append((HERE, source, data))
        listed = [{"source": source, "destination": destination} for source, destination, _ in done]
        tree = how == "tree"
        self.receipts.append(
            {
                "schema": "globuswrap.receipt/1",
                "kind": "transfer",
                "task_id": f"task-{len(self.receipts)}",
                "outcome": ended,
                "source": HERE,
                "destination": THERE,
                "requested": iso(REQUESTED),
                "completed": iso(COMPLETED),
                "preserve_timestamp": preserved,
                "sync_level": 3 if tree else None,
                "filter_rules": [],
                "skipped_errors": 0,
                "files_list": listed if how == "listed" else None,
                "submission": {"items": 1, "examples": [["/top", "/top"]]} if tree else None,
            }
        )

    def lister(self, collection: str, directory: str) -> Mapping[str, Seen] | None:
        """As `globus ls` shows a directory: a link as what it leads to, with its own time beside it."""
        place = self.place(collection, directory)
        if not place.is_dir():
            return None
        found = {}
        for each in place.iterdir():
            own = each.lstat()
            if each.is_symlink():
                led = each.stat() if each.exists() else own
                found[each.name] = Seen("link", led.st_size, led.st_mtime, own.st_mtime)
            else:
                found[each.name] = Seen("dir" if each.is_dir() else "file", own.st_size, own.st_mtime)
        return found

    def changed_here(self, collection: str, path: str) -> float | None:
        if collection == THERE:
            return None  # not mounted on this machine
        return self.changed.get(os.path.realpath(self.place(HERE, path)), float("inf"))

    def plan(self, collection: str, roots: Sequence[str] = ("/top",), before: float | None = None) -> Plan:
        return carry_out.plan(self.known(collection, before), roots, View(self.lister, self.changed_here))

    def known(self, collection: str, before: float | None = None) -> Evidence:
        return evidence.gather(collection, lambda: self.receipts, completed_before=before)


paths = st.builds(
    lambda directory, name: posixpath.join("/top", directory, name),
    st.sampled_from(DIRECTORIES),
    st.sampled_from(NAMES),
)
directories = st.sampled_from(DIRECTORIES[1:]).map(lambda name: f"/top/{name}")
sides = st.sampled_from((HERE, THERE))
changes = st.one_of(
    st.tuples(st.just("modify"), sides, paths),
    st.tuples(st.just("back-date"), st.just(HERE), paths),
    st.tuples(st.just("remove"), sides, paths),
    st.tuples(st.just("grow"), sides, paths),
    st.tuples(st.just("link-file"), sides, paths, paths),
    st.tuples(st.just("link-directory"), sides, directories, directories),
    st.tuples(st.just("across"), directories),
    st.tuples(st.just("add"), sides, paths),
)


def change(pair: Pair, what: tuple[Any, ...]) -> None:
    """Something that happens after the transfer."""
    if what[0] == "across":  # the delivered directory is now a link to the source itself
        place = pair.place(THERE, what[1])
        if place.is_dir() and not place.is_symlink() and pair.place(HERE, what[1]).is_dir():
            shutil.rmtree(place)
            place.symlink_to(pair.place(HERE, what[1]))
        return
    kind, side, path = what[:3]
    place = pair.place(side, path)
    if kind in ("modify", "add"):
        pair.write(side, path, LATER)
    elif kind == "back-date" and place.is_file() and not place.is_symlink():
        # Another file of the same size and an old time, moved over it: only its inode tells.
        pair.write(side, path, OLD)
        pair.changed[os.path.realpath(place)] = LATER
    elif kind == "grow" and place.is_file() and not place.is_symlink():
        pair.write(side, path, OLD + 5, b"another size")
        pair.changed[os.path.realpath(place)] = LATER
    elif kind == "remove" and place.exists() and not place.is_dir():
        place.unlink()
    elif kind == "link-file" and place.is_file() and what[3] != path:
        place.unlink()
        place.symlink_to(pair.place(side, what[3]))
    elif kind == "link-directory" and place.is_dir() and not place.is_symlink():
        target = what[3]
        if target.startswith(path) or path.startswith(target):
            return
        shutil.rmtree(place)
        place.symlink_to(pair.place(side, target))


def alone(pair: Pair, verdict: Verdict, collection: str, gone: set[str]) -> str:
    """Why this deletion would lose something; empty if a true copy of it stays elsewhere."""
    place = pair.place(collection, verdict.path)
    if place.is_symlink() or not place.is_file():
        return "not a regular file"
    data = place.read_bytes()
    for other_side, other, then in pair.copied.get((collection, verdict.path), []):
        copy = pair.place(other_side, other)
        if then == data and copy.is_file() and copy.read_bytes() == data:
            if os.path.realpath(copy) == os.path.realpath(place) or os.path.realpath(copy) in gone:
                continue
            return ""
    return "no receipt, or no copy"


@settings(max_examples=500, suppress_health_check=list(HealthCheck))
@given(
    written=st.lists(paths, min_size=2, max_size=8, unique=True),
    sent=st.lists(st.tuples(paths, paths), max_size=6),
    how=st.sampled_from(("listed", "listed", "tree", "tree", "silent")),
    preserved=st.booleans(),
    ended=st.sampled_from((*["succeeded"] * 6, "succeeded-with-skips", "failed", "canceled")),
    happened=st.lists(changes, max_size=5),
    meanwhile=st.lists(
        changes.filter(lambda what: what[0] in ("modify", "back-date", "grow") and what[1] == HERE), max_size=2
    ),
    collection=sides,
)
def test_no_path_without_a_matching_receipt_is_ever_deleted(
    written: list[str],
    sent: list[tuple[str, str]],
    how: str,
    preserved: bool,
    ended: str,
    happened: list[tuple[Any, ...]],
    meanwhile: list[tuple[Any, ...]],
    collection: str,
) -> None:
    with tempfile.TemporaryDirectory() as base:
        pair = Pair(Path(base))
        for path in written:
            pair.write(HERE, path, OLD)
        same = [(path, path) for path in written]
        pairs = same if how == "tree" else [*same[: len(same) // 2], *sent]
        if len({destination for _, destination in pairs}) < len(pairs):
            pairs = same[: len(same) // 2]  # two into one: the service would have refused or raced
        pair.transfer(pairs, how, preserved=preserved, ended=ended)
        for what in happened:
            change(pair, what)
        found = pair.plan(collection)
        for what in meanwhile:  # on the side that is mounted here it is looked at again right before
            change(pair, what)
        paths = [each.path for each in found.deleted]
        found.verdicts = carry_out.judged(pair.known(collection), paths, View(pair.lister, pair.changed_here))
        gone = {os.path.realpath(pair.place(collection, each.path)) for each in found.deleted}
        assert [(each.path, why) for each in found.deleted if (why := alone(pair, each, collection, gone))] == []
        assert len({each.path for each in found.verdicts}) == len(found.verdicts)
        if not happened and not meanwhile and ended.startswith("succeeded") and how == "listed":
            wanted = {path for side, path in pair.copied if side == collection}
            assert {each.path for each in found.deleted} == wanted


# what the property does not show


def pair_with(tmp_path: Path, *names: str) -> Pair:
    pair = Pair(tmp_path)
    for name in names:
        pair.write(HERE, f"/top/{name}", OLD)
    return pair


def test_any_name_that_was_delivered_is_cleaned_up(tmp_path: Path) -> None:
    names = [name for name in support.HOSTILE_NAMES if "/" not in name]
    pair = pair_with(tmp_path, *names)
    pair.transfer([(f"/top/{name}", f"/top/{name}") for name in names], "listed", preserved=False, ended="succeeded")
    assert sorted(each.path for each in pair.plan(HERE).deleted) == sorted(f"/top/{name}" for name in names)


@pytest.mark.parametrize(
    "spoiled",
    [
        {"filter_rules": [{"method": "exclude"}]},
        {"filter_rules": None},
        {"skipped_errors": 1},
        {"outcome": "succeeded-with-skips"},
        {"sync_level": 2},
        {"submission": {"items": 9, "examples": [["/top", "/top"]]}},
        {"submission": None},
    ],
)
def test_a_checksum_sync_that_left_something_out_proves_no_directory(tmp_path: Path, spoiled: dict[str, Any]) -> None:
    pair = pair_with(tmp_path, "1")
    pair.transfer([("/top/1", "/top/1")], "tree", preserved=False, ended="succeeded")
    assert pair.plan(HERE).deleted
    pair.receipts[0].update(spoiled)
    found = pair.plan(HERE)
    assert not found.deleted and found.silent == 1


def test_a_failed_task_proves_nothing_of_what_it_lists(tmp_path: Path) -> None:
    pair = pair_with(tmp_path, "1")
    pair.transfer([("/top/1", "/top/1")], "listed", preserved=False, ended="succeeded")
    assert pair.plan(HERE).deleted
    pair.receipts[0]["outcome"] = "failed"
    assert not pair.plan(HERE).deleted


def test_only_what_was_delivered_long_enough_ago(tmp_path: Path) -> None:
    pair = pair_with(tmp_path, "1")
    pair.transfer([("/top/1", "/top/1")], "listed", preserved=False, ended="succeeded")
    for before, count in ((COMPLETED - 1, 0), (COMPLETED + 1, 1)):
        found = pair.plan(HERE, before=before)
        assert len(found.deleted) == count


def test_of_two_copies_on_one_collection_one_stays(tmp_path: Path) -> None:
    pair = pair_with(tmp_path, "1", "2")
    pair.place(HERE, "/top/2").write_bytes(pair.place(HERE, "/top/1").read_bytes())
    os.utime(pair.place(HERE, "/top/2"), (WRITTEN, WRITTEN))
    pair.transfer([], "listed", preserved=False, ended="succeeded")
    pair.receipts[0].update(destination=HERE, files_list=[{"source": "/top/1", "destination": "/top/2"}])
    found = carry_out.plan(pair.known(HERE), ["/top"], View(pair.lister, lambda *_: None))
    assert [each.path for each in found.deleted] == ["/top/1"]
    assert [each.reason for each in found.kept] == ["is the other copy of what is deleted"]


def test_a_directory_is_emptied_only_where_something_was_delivered(tmp_path: Path) -> None:
    pair = pair_with(tmp_path, "a/1", "c/1")
    pair.place(HERE, "/top/waiting").mkdir()
    pair.transfer([("/top/a/1", "/top/a/1")], "listed", preserved=False, ended="succeeded")
    found = pair.plan(HERE)
    assert [found.emptied(f"/top/{name}") for name in ("a", "c", "waiting")] == [True, False, False]
    pair.place(HERE, "/top/a/1").unlink()
    assert pair.plan(HERE).emptied("/top/a")  # the run before was cut off before it could say so
    pair.receipts[0].update(sync_level=3, filter_rules=[], files_list=[])
    pair.receipts[0]["submission"] = {"items": 1, "examples": [["/top/a", "/top/a"]]}
    assert [pair.plan(HERE).emptied(f"/top/{name}") for name in ("a", "c", "waiting")] == [True, False, False]


@pytest.mark.parametrize("odd", ["/top", "/top/a"])
def test_a_directory_that_cannot_be_looked_into_is_not_an_empty_one(tmp_path: Path, odd: str) -> None:
    """Globus answers 404 for it and lists it in the one above; a rule that points there must not go. One that has gone may."""
    pair = pair_with(tmp_path, "a/1", "b/1")

    def once_gone(collection: str, directory: str) -> Mapping[str, Seen] | None:
        return None if directory == odd else pair.lister(collection, directory)

    with pytest.raises(Refused, match="does not exist") as refused:
        carry_out.plan(pair.known(HERE), ["/top"], View(once_gone))
    assert refused.value.name == "odd-answer"

    def vanishing(collection: str, directory: str) -> Mapping[str, Seen] | None:
        if directory == "/top/a":
            shutil.rmtree(pair.place(collection, directory), ignore_errors=True)
        return pair.lister(collection, directory)

    assert [each.path for each in carry_out.plan(pair.known(HERE), ["/top"], View(vanishing)).kept] == ["/top/b/1"]


@pytest.mark.parametrize(
    ("under", "path", "name"),
    [
        ("/", None, "refused-root"),
        ("/~/", None, "refused-root"),
        ("/./.", None, "refused-root"),
        ("/~/.", None, "refused-root"),
        ("/.//~//", None, "refused-root"),
        ("//", None, "refused-root"),
        (".", None, "refused-root"),
        ("/a/..", None, "bad-path"),
        ("~/x", None, "refused-root"),
        ("/data/*", None, "refused-glob"),
        ("/data", "/data/[ab]", "refused-glob"),
        ("/data/../x", None, "bad-path"),
        ("/data", "/data/../x", "bad-path"),
        ("/data", "/database", "outside"),
        ("/data", "/", "outside"),
    ],
)
def test_roots_globs_and_what_lies_outside_are_refused(under: str, path: str | None, name: str) -> None:
    listed = [] if path is None else [Address(HERE, path)]
    with pytest.raises(UsageProblem) as raised:
        carry_out.checked_roots(Address(HERE, under), listed)
    assert raised.value.name == name


def test_another_collection_is_outside() -> None:
    with pytest.raises(UsageProblem):
        carry_out.checked_roots(Address(HERE, "/data"), [Address(THERE, "/data/x")])
    assert carry_out.checked_roots(Address(HERE, "/data/"), [Address(HERE, "/data//x/")]) == ["/data/x"]


def test_a_directory_above_that_became_a_link_leads_to_other_files(tmp_path: Path) -> None:
    """Detector files are all of one size: only the way to them tells that these are not the ones that were delivered."""
    pair = pair_with(tmp_path, "a/run/1", "b/run/1")
    pair.transfer([("/top/a/run/1", "/top/a/run/1")], "listed", preserved=False, ended="succeeded")
    shutil.rmtree(pair.place(HERE, "/top/a"))
    pair.place(HERE, "/top/a").symlink_to(pair.place(HERE, "/top/b"))
    found = pair.plan(HERE, ["/top/a/run"])
    assert [each.reason for each in found.verdicts] == ["is reached through a symbolic link made since task task-0"]


def test_of_a_chain_of_proofs_no_link_goes_with_the_next(tmp_path: Path) -> None:
    """1 goes because of its copy elsewhere; 2 is proven by 1 alone, which is then no more."""
    pair = pair_with(tmp_path, "1", "2")
    pair.place(HERE, "/top/2").write_bytes(pair.place(HERE, "/top/1").read_bytes())
    os.utime(pair.place(HERE, "/top/2"), (WRITTEN, WRITTEN))
    pair.transfer([("/top/1", "/top/1")], "listed", preserved=False, ended="succeeded")
    inner = {"task_id": "inner", "destination": HERE, "requested": iso(OLD + 10), "completed": iso(COMPLETED)}
    pair.receipts.append({**pair.receipts[0], **inner, "files_list": [{"source": "/top/1", "destination": "/top/2"}]})
    pair.receipts[0].update(requested=iso(LATER), completed=iso(LATER))
    found = carry_out.plan(pair.known(HERE), ["/top"], View(pair.lister, lambda *_: None))
    assert [each.path for each in found.deleted] == ["/top/1"]
    assert [each.reason for each in found.kept] == ["its other copy is deleted in this run"]


def test_a_later_transfer_that_failed_may_have_written_what_it_does_not_list(tmp_path: Path) -> None:
    pair = pair_with(tmp_path, "1", "2")
    pair.transfer([("/top/1", "/top/1"), ("/top/2", "/top/2")], "listed", preserved=False, ended="succeeded")
    pair.receipts.append({**pair.receipts[0], "task_id": "failed", "outcome": "failed", "completed": iso(LATER)})
    pair.receipts[1]["files_list"] = [{"source": "/top/1", "destination": "/top/1"}]
    assert [each.reason for each in pair.plan(HERE).verdicts] == [
        "the other copy may have been overwritten by task failed since task task-0"
    ] * 2


@pytest.mark.parametrize(("items", "kept"), [(1, 0), (2, 1)])
def test_a_transfer_under_way_may_write_wherever_it_is_not_known_not_to(tmp_path: Path, items: int, kept: int) -> None:
    """Its journal entry shows the first of its items; what the others are it does not say."""
    pair = pair_with(tmp_path, "1")
    pair.transfer([("/top/1", "/top/1")], "listed", preserved=False, ended="succeeded")
    claim = journal.new_claim(
        key="ab" * 20,
        attempt=1,
        submission_id=str(uuid.uuid4()),
        digest="d" * 64,
        label="another",
        kind="transfer",
        source=HERE,
        destination=THERE,
        items=items,
        examples=(("/elsewhere", "/elsewhere"),),
    )
    assert len(pair.plan(HERE).deleted) == 1
    journal.claim(claim)
    assert len(pair.plan(HERE).kept) == kept
    journal.claim(replace(claim, key="cd" * 20, items=1, examples=(("/elsewhere", "/top"),)))
    assert "overwritten by task another" in pair.plan(HERE).kept[0].reason


def delivered_by_journal(pair: Pair, name: str, *, index: int) -> journal.Entry:
    """The newest receipt of the pair, in the journal."""
    receipt = {**pair.receipts[index], "submission": {"items": 1, "examples": [[f"/top/{name}", f"/top/{name}"]]}}
    claim = journal.new_claim(
        key=f"{index:040}",
        attempt=1,
        submission_id=str(uuid.uuid4()),
        digest="d" * 64,
        label="x",
        kind="transfer",
        source=HERE,
        destination=THERE,
        items=1,
        examples=((f"/top/{name}", f"/top/{name}"),),
    )
    return journal.record(journal.claim(claim), "receipt", receipt)


def journal_plan(pair: Pair, roots: Sequence[str] = ("/top",)) -> Plan:
    return carry_out.plan(evidence.gather(HERE, None), roots, View(pair.lister, pair.changed_here))


def test_of_the_journal_only_what_concerns_the_files_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pair = pair_with(tmp_path, *(f"{number}/x" for number in range(20)))
    for number in range(20):
        pair.transfer([(f"/top/{number}/x", f"/top/{number}/x")], "listed", preserved=False, ended="succeeded")
        delivered_by_journal(pair, f"{number}/x", index=number)
    read, of_mark = [], journal.of_mark
    monkeypatch.setattr(journal, "of_mark", lambda name: read.append(name) or of_mark(name))
    assert [each.path for each in journal_plan(pair, ["/top/7"]).deleted] == ["/top/7/x"]
    assert read == [f"{7:040}.1"]
    pair.place(HERE, "/top/8/x").unlink()
    found = journal_plan(pair, ["/top/8"])
    assert found.emptied("/top/8") and not found.emptied("/top/80") and read[1:] == [f"{8:040}.1"]
    assert found.delivered("/top") and len(read) == 2


def test_a_receipt_counts_also_without_its_claim(tmp_path: Path) -> None:
    """A damaged claim is set aside; that a later transfer wrote there is still known by its receipt."""
    pair = pair_with(tmp_path, "1")
    for _ in range(2):
        pair.transfer([("/top/1", "/top/1")], "listed", preserved=False, ended="succeeded")
    delivered_by_journal(pair, "1", index=0)
    assert len(journal_plan(pair).deleted) == 1
    delivered_by_journal(pair, "1", index=1).path.write_bytes(b"{")
    assert "may have been overwritten by task" in journal_plan(pair).kept[0].reason


def test_what_a_listing_does_not_say_is_no_proof() -> None:
    """Without its time, a file counts as just written, and a link as just made."""
    assert evidence.entry({"type": "file", "size": 1}).modified == float("inf")
    assert evidence.entry({"type": "dir", "link_target": "/x", "size": 1}).link_modified == float("inf")


def test_what_the_source_has_in_another_spelling_is_not_left_over(tmp_path: Path) -> None:
    pair = pair_with(tmp_path, "A", "B")
    pair.transfer([("/top/A", "/top/A"), ("/top/B", "/top/B")], "listed", preserved=False, ended="succeeded")
    pair.place(HERE, "/top/A").rename(pair.place(HERE, "/top/a"))
    pair.place(HERE, "/top/B").unlink()
    view = View(pair.lister, lambda *_: None)
    found = carry_out.leftovers(pair.known(THERE), Address(HERE, "/top/"), "/top", view)
    assert [(each.path, each.reason) for each in found] == [("/top/B", "")]


# the rules, one by one

PROOF = Proof("t1", "/x/1", "there", "/y/1", REQUESTED, COMPLETED, REQUESTED, False)
GOOD = Copy(Seen("file", 1, OLD))


def test_copies_that_are_as_they_were_prove_each_other() -> None:
    assert judge.against(PROOF, GOOD, GOOD) == ""


@pytest.mark.parametrize(
    ("mine", "other", "reason"),
    [
        (Copy(None), GOOD, "has just changed"),
        (GOOD, Copy(None), "is gone"),
        (GOOD, Copy(Seen("dir")), "no longer a regular file"),
        (GOOD, Copy(Seen("file", 2, OLD)), "another size"),
        (Copy(Seen("file", 1, REQUESTED)), GOOD, "was written in the same second in which task t1 was requested"),
        (Copy(Seen("file", 1, REQUESTED + 1)), GOOD, "was modified since"),
        (
            GOOD,
            Copy(Seen("file", 1, COMPLETED)),
            "the other copy was written in the same second in which task t1 ended",
        ),
        (GOOD, Copy(Seen("file", 1, COMPLETED + 0.9)), "the other copy was written in the same second"),
        (GOOD, Copy(Seen("file", 1, COMPLETED + 1)), "the other copy was modified since"),
        (GOOD, Copy(Seen("file", 1, float("inf"))), "the other copy was modified since"),
        (Copy(GOOD.seen, changed=REQUESTED + 0.5), GOOD, "was written in the same second"),
        (Copy(GOOD.seen, changed=REQUESTED + 1), GOOD, "(its inode)"),
        (GOOD, Copy(GOOD.seen, changed=float("inf")), "(its inode)"),
        (Copy(GOOD.seen, new_link=True), GOOD, "symbolic link"),
        (GOOD, Copy(GOOD.seen, new_link=True), "the other copy is reached through a symbolic link"),
    ],
)
def test_what_is_not_as_it_was_proves_nothing(mine: Copy, other: Copy, reason: str) -> None:
    assert reason in judge.against(PROOF, mine, other)


def test_with_preserved_times_a_copy_of_another_time_proves_nothing() -> None:
    older = Copy(Seen("file", 1, OLD - 1))
    assert judge.against(PROOF, GOOD, older) == ""
    assert "another time" in judge.against(replace(PROOF, same_time=True), GOOD, older)


def test_a_verdict_asks_every_rule() -> None:
    def reason(
        seen: Seen = GOOD.seen, *, other: Copy = GOOD, writes: Sequence[Write] = (), using: Sequence[Use] = ()
    ) -> str:
        def look(place: Place, proof: Proof) -> Copy:
            return other if place == proof.copy else Copy(seen)

        return judge.verdict(("here", "/x/1"), seen, [PROOF], writes, using, look).reason

    assert reason() == ""
    assert "symbolic link" in reason(Seen("link", 1, OLD))
    assert "in use by chain c1" in reason(using=[Use("chain c1", "here", "/x")])
    assert "overwritten by task t2" in reason(writes=[Write("t2", "there", LATER, LATER, frozenset({"/y/1"}))])
    assert "is gone" in reason(other=Copy(None))


@pytest.mark.parametrize(
    ("write", "void"),
    [
        (Write("t2", "there", REQUESTED + 50, COMPLETED + 50, frozenset({"/y/1"})), True),
        (Write("t2", "there", REQUESTED + 50, COMPLETED + 50, frozenset({"/y/2"})), False),
        (Write("t2", "here", REQUESTED + 50, COMPLETED + 50, frozenset({"/x/1"})), True),
        (Write("t2", "elsewhere", REQUESTED + 50, COMPLETED + 50, frozenset({"/y/1"})), False),
        (Write("t2", "there", REQUESTED + 50, COMPLETED + 50, tops=("/y",)), True),
        (Write("t2", "there", REQUESTED + 50, COMPLETED + 50, tops=("/z",)), False),
        (Write("t2", "there", REQUESTED + 50, COMPLETED + 50, tops=("/",)), True),
        (Write("t2", "there", OLD, REQUESTED - 1, tops=("/",)), False),
        (Write("t2", "there", OLD, REQUESTED, tops=("/",)), False),
        (Write("t2", "there", OLD, REQUESTED + 1, tops=("/",)), True),
        (Write("t2", "there", REQUESTED, REQUESTED, tops=("/",)), True),
        (Write("t2", "there", float("inf"), float("inf"), tops=("/",)), True),
        (Write("t1", "there", REQUESTED, COMPLETED, frozenset({"/y/1"})), False),
    ],
)
def test_the_newest_transfer_that_wrote_there_decides(write: Write, void: bool) -> None:
    assert bool(judge.voided(("here", "/x/1"), PROOF, [write])) is void


def test_what_earlier_deliveries_left_goes_and_the_rest_stays() -> None:
    def reason(seen: Seen, *writes: Write, using: Sequence[Use] = ()) -> str:
        return judge.delivered(("here", "/x/1"), seen, writes, using).reason

    ours = Write("t1", "here", REQUESTED, COMPLETED, frozenset({"/x/1"}))
    old = Seen("file", 1, OLD)
    assert reason(old, ours) == ""
    assert "no receipt" in reason(old) and "no receipt" in reason(old, Write("t2", "here", OLD, LATER, tops=("/x",)))
    assert "same second" in reason(Seen("file", 1, COMPLETED), ours)
    assert "modified since" in reason(Seen("file", 1, LATER), ours)
    assert reason(Seen("link"), ours) == "is a link"
    assert "in use by chain c1" in reason(old, ours, using=[Use("chain c1", "here", "/x")])
