"""Who uses a path: a live chain's uses count, also when a record was never released; nothing else does."""

from __future__ import annotations

from pathlib import Path

import pytest

from globuswrap.deletion import uses
from globuswrap.deletion.uses import Use
from globuswrap.errors import Refused


def test_a_use_is_live_until_its_owner_has_ended(tmp_path: Path) -> None:
    (tmp_path / "g1").mkdir()
    uses.hold("chain c1", tmp_path / "g1" / "ended", [("here", "/in//x/"), ("there", "/y")])
    assert uses.live("here") == [Use("chain c1", "here", "/in/x")] and len(uses.live()) == 2
    assert uses.live("here", exclude_owner="chain c1") == []
    (tmp_path / "g1" / "ended").write_text("{}")
    assert uses.live() == []


def test_a_resumed_owner_uses_its_paths_again(tmp_path: Path) -> None:
    (tmp_path / "g1").mkdir()
    (tmp_path / "g2").mkdir()
    (tmp_path / "g1" / "ended").write_text("{}")
    uses.hold("chain c1", tmp_path / "g1" / "ended", [("here", "/x")])
    assert uses.live() == []
    uses.hold("chain c1", tmp_path / "g2" / "ended", [("here", "/x")])
    assert len(uses.live()) == 1
    uses.release("chain c1")
    uses.release("chain c1")
    assert uses.live() == []


def test_an_owner_that_was_removed_uses_nothing(tmp_path: Path) -> None:
    uses.hold("chain c1", tmp_path / "removed" / "ended", [("here", "/x")])
    assert uses.live() == []


def test_whether_an_owner_has_ended_is_not_guessed(tmp_path: Path) -> None:
    uses.hold("chain c1", tmp_path / "loop" / "ended", [("here", "/x")])
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(OSError, match="loop"):
        uses.live("here")


def test_a_use_covers_everything_below_and_nothing_beside() -> None:
    use = Use("chain c1", "here", "/in/x")
    assert [use.covers(path) for path in ("/in/x", "/in/x/1/2", "/in/xy", "/in")] == [True, True, False, False]
    assert Use("chain c1", "here", "/").covers("/in")


@pytest.mark.parametrize("text", ["", "{", "[]", '{"schema": "globuswrap.uses/9"}', "[" * 100_000])
def test_a_record_that_cannot_be_read_uses_who_knows_what(tmp_path: Path, text: str) -> None:
    uses.hold("chain c1", tmp_path / "ended", [("here", "/x")])
    next(uses.directory().iterdir()).write_text(text)
    with pytest.raises(Refused, match=r"is damaged|has the schema"):
        uses.live("here")
