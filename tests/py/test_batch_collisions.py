"""Destinations that items would fight over, compared with the obvious way to find them."""

from __future__ import annotations

import io
import posixpath
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from globuswrap.batches import collisions
from globuswrap.batches import prepare as batch
from globuswrap.batches.prepare import Choices, PathList
from globuswrap.errors import UsageProblem

A = "aaaaaaaa-0000-4000-8000-000000000001"
B = "bbbbbbbb-0000-4000-8000-000000000002"


def prepared(listed: str, choice: str = "error", sources: tuple[str, ...] = ("/data",)) -> batch.Prepared:
    return batch.prepare(
        [f"{A}:{source}" for source in sources],
        f"{B}:/in",
        PathList(io.BytesIO(listed.encode()), "tab" if "\t" in listed else "paths"),
        choices=Choices(on_collision=choice),
    )


def refused(listed: str, choice: str = "error", **how: Any) -> UsageProblem:
    with pytest.raises(UsageProblem) as caught:
        prepared(listed, choice, **how)
    assert caught.value.name == "collisions"
    return caught.value


def test_two_sources_for_one_destination() -> None:
    found = refused("a\tx\nb\ty\nc\tx\n")
    assert found.cause == "1 item has the same destination as another item; nothing was submitted"
    assert found.detail == "/data/a and /data/c -> /in/x"


def test_one_source_listed_twice() -> None:
    assert refused("a\nb\na\n").detail == "/data/a is listed twice -> /in/a"
    assert refused("a\n./a\n").detail == "/data/a is listed twice -> /in/a"
    assert refused("d/\nd\n").detail == "/data/d is listed twice -> /in/d"


def test_the_same_name_in_two_runs() -> None:
    found = refused("a.h5\nb.h5\n", sources=("/run1", "/run2"))
    assert found.detail.splitlines() == [
        "/run1/a.h5 and /run2/a.h5 -> /in/a.h5",
        "/run1/b.h5 and /run2/b.h5 -> /in/b.h5",
    ]


def test_long_lists_are_shortened() -> None:
    found = refused("".join(f"{number}\tx\n" for number in range(100)))
    assert len(found.detail.splitlines()) == 21
    assert found.detail.endswith("and 79 more")


@pytest.mark.parametrize("choice", collisions.CHOICES)
@pytest.mark.parametrize("listed", ["d\nd/a\n", "d/e/f\nd\n", "a\n.\n", "d/\nd/e/\n"])
def test_a_destination_inside_anothers_is_never_settled(listed: str, choice: str) -> None:
    assert ", inside that of " in refused(listed, choice).detail


def test_names_that_only_begin_alike_are_not_inside() -> None:
    assert prepared("d\nd.x\nda/b\nd-\n").items == 4


def test_first_and_last() -> None:
    listed = "a\tx\nb\ty\nc\tx\nd\tx\n"
    assert prepared(listed, "first").first(9) == [("/data/a", "/in/x"), ("/data/b", "/in/y")]
    found = prepared(listed, "last")
    assert found.first(9) == [("/data/b", "/in/y"), ("/data/d", "/in/x")]
    assert found.notes()["collisions"]["count"] == 2


def test_rename_takes_free_names() -> None:
    listed = "a\tx.h5\nb\tx.h5\nc\tx.2.h5\nd\tx.h5\na\tx.h5\n"
    found = prepared(listed, "rename")
    assert found.first(9) == [
        ("/data/a", "/in/x.h5"),
        ("/data/b", "/in/x.3.h5"),
        ("/data/c", "/in/x.2.h5"),
        ("/data/d", "/in/x.4.h5"),
    ]
    notes = found.notes()["collisions"]
    assert (notes["count"], notes["renamed"]) == (3, 2)


def test_rename_keeps_what_else_was_said_of_an_item() -> None:
    listed = b'{"source": "a", "destination": "x"}\n{"source": "b", "destination": "x", "recursive": true}\n'
    found = batch.prepare(
        f"{A}:/data", f"{B}:/in", PathList(io.BytesIO(listed), "json"), choices=Choices(on_collision="rename")
    )
    assert [item.get("recursive") for item in found.loads[0].spool.items()] == [None, True]


part = st.sampled_from(["a", "b", "a.b", "-", " "])
path = st.lists(part, min_size=1, max_size=4).map("/".join)


@given(st.lists(path, min_size=1, max_size=12), st.integers(1, 4))
@settings(max_examples=400)
def test_as_found_by_comparing_all_with_all(paths: list[str], share: int) -> None:
    listed = "".join(f"s{number}\t{each}\n" for number, each in enumerate(paths))
    expected = len(set(paths)) < len(paths) or any(
        other != each and (other + "/").startswith(each + "/") for each in paths for other in paths
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(collisions, "_SHARE", share)
        if expected:
            refused(listed)
        else:
            assert prepared(listed).items == len(paths)


@given(st.lists(part, min_size=1, max_size=12))
@settings(max_examples=200)
def test_renamed_destinations_are_all_different(names: list[str]) -> None:
    listed = "".join(f"s{number}\t{each}\n" for number, each in enumerate(names))
    found = [destination for _, destination in prepared(listed, "rename").first(99)]
    assert len(set(found)) == len(names)
    assert all(posixpath.dirname(each) == "/in" for each in found)
