"""What a sync may delete at its destination: what it put there, that nobody changed and nobody needs."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from globuswrap.deletion import announcements, mirror, uses
from globuswrap.deletion.judge import Seen
from globuswrap.deletion.mirror import Examined, Sent, as_sent
from globuswrap.errors import Refused, TryLater
from globuswrap.transfers import journal

HERE = "11111111-1111-4111-8111-111111111111"
ELSEWHERE = "22222222-2222-4222-8222-222222222222"


@pytest.mark.parametrize(
    ("sent", "seen", "reason"),
    [
        (Sent(5, 1000), Seen("file", 5, 1000.0), ""),
        (Sent(5, -1), Seen("file", 5, -1.0), ""),
        (Sent(5, 1000), Seen("file", 6, 1000.0), "size"),
        (Sent(5, 1000), Seen("file", 5, 1001.0), "time"),
        (Sent(5, 1000), Seen("file", 5, float("inf")), "time"),
        (Sent(5, 1000), Seen("dir", 5, 1000.0), "is a dir now"),
        (Sent(5, 1000), Seen("link", 5, 1000.0, 1000.0), "is a link now"),
        (Sent(5, 1000, link=True), Seen("file", 5, 1000.0), "is a file now"),
        (Sent(5, 1000, link=True), Seen("link", 5, 7.0, 9.0), ""),
        (Sent(5, 1000, link=True), Seen("link", 6, 7.0, 9.0), "size"),
    ],
)
def test_only_what_has_the_size_and_time_that_were_sent_is_ours(sent: Sent, seen: Seen, reason: str) -> None:
    why = as_sent(sent, seen)
    assert reason in why and bool(why) == bool(reason)


def lister(collection: str, directory: str) -> Mapping[str, Seen] | None:
    assert collection == HERE
    if directory == "/closed":
        raise Refused("denied", "permission denied", "")
    return {"/d": {"a": Seen("file", 1, 7.0), "b": Seen("file", 1, 8.0)}}.get(directory)


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    return tmp_path


def examine(*paths: str, announced: bool = True) -> Examined:
    sent = {path: Sent(1, 7) for path in paths}
    mine = announcements.announce(HERE, dict.fromkeys(paths), "mine") if announced else None
    return mirror.examine(HERE, sent, lister, mine)


def test_what_is_as_sent_goes_and_the_rest_is_told(state: Path) -> None:
    found = examine("/d/a", "/d/b", "/d/c", "/no/such", "/closed/x")
    assert (found.deleted, found.absent) == (["/d/a"], ["/d/c", "/no/such"])
    assert found.kept == {
        "/d/b": "has another modification time than was sent",
        "/closed/x": "cannot be read: permission denied",
    }


def test_an_unreachable_globus_is_no_absent_file() -> None:
    def unreachable(_collection: str, _directory: str) -> None:
        raise TryLater("unreachable", "no answer", "")

    with pytest.raises(TryLater):
        mirror.examine(HERE, {"/d/a": Sent(1, 7)}, unreachable, None)


def test_the_copy_that_another_deletion_relies_on_is_not_deleted() -> None:
    announcements.announce(ELSEWHERE, {"/other/a": (HERE, "/d/a")}, "theirs")
    found = examine("/d/a")
    assert (found.relied_on, found.deleted) == (["/d/a"], [])


def test_a_path_that_a_live_chain_uses_waits_but_not_one_of_a_sync(state: Path) -> None:
    uses.hold("chain 1", state / "ended", [(HERE, "/d")])
    assert examine("/d/a").used == ["/d/a"]
    (state / "ended").touch()
    uses.hold("sync x", state / "never", [(HERE, "/d")])
    assert examine("/d/a").deleted == ["/d/a"]


def test_a_rehearsal_announces_nothing() -> None:
    assert examine("/d/a", announced=False).deleted == ["/d/a"] and announcements.announced() == []


def test_a_deletion_that_nobody_submitted_is_cleared_and_then_does_not_begin() -> None:
    mine, other = (announcements.announce(HERE, {"/d/a": None}, name) for name in ("mine 1", "other"))
    announcements.clear("mine ")
    entry = journal.latest(mine.key)
    assert [each.name for each in announcements.announced()] == ["other"] and journal.latest(other.key) is None
    assert entry is not None and entry.claim.digest == announcements.VOID


def test_a_deletion_that_was_submitted_and_perhaps_not_accepted_is_not_cleared() -> None:
    """Its reply was lost: the task may still run."""
    mine = announcements.announce(HERE, {"/d/a": None}, "mine 1")
    claim = journal.new_claim(
        key=mine.key,
        attempt=1,
        submission_id="33333333-3333-4333-8333-333333333333",
        digest="0" * 64,
        label="",
        kind="delete",
        source=HERE,
        destination=None,
        items=1,
        examples=(),
        name=mine.name,
        once=False,
    )
    journal.claim(claim)
    announcements.clear("mine ")
    assert [each.name for each in announcements.announced()] == ["mine 1"]
