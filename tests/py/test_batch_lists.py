"""From a list as bytes to spooled items: formats, names, bases, and what is refused."""

from __future__ import annotations

import io
import json
import string
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import support
from globuswrap.batches import parse
from globuswrap.batches import prepare as batch
from globuswrap.batches.prepare import Choices, PathList
from globuswrap.errors import UsageProblem
from globuswrap.transfers.request import Item

A = "aaaaaaaa-0000-4000-8000-000000000001"
B = "bbbbbbbb-0000-4000-8000-000000000002"


def prepared(text: bytes, source: str = "/data", destination: str = "/in", **how: Any) -> batch.Prepared:
    choices = {name: how.pop(name) for name in ("skip_unsendable", "on_collision", "chunk") if name in how}
    return batch.prepare(
        f"{A}:{source}",
        f"{how.pop('into', B)}:{destination}",
        PathList(io.BytesIO(text), **how),
        choices=Choices(**choices),
    )


def pairs(text: bytes, **how: Any) -> list[tuple[str, str]]:
    return prepared(text, **how).first(1_000_000)


def items(text: bytes, **how: Any) -> list[dict[str, Any]]:
    return [item for load in prepared(text, **how).loads for item in load.spool.items()]


def problem(text: bytes, **how: Any) -> UsageProblem:
    with pytest.raises(UsageProblem) as caught:
        prepared(text, **how)
    return caught.value


def test_a_line_is_a_path_whatever_is_in_it() -> None:
    names = [name for name in support.HOSTILE_NAMES if "\n" not in name]
    listed = "".join(f"{name}\n" for name in names).encode()
    assert pairs(listed) == [(f"/data/{name}", f"/in/{name}") for name in names]


def test_records_that_end_in_nul_hold_every_name() -> None:
    listed = b"".join(name.encode() + b"\0" for name in support.HOSTILE_NAMES)
    assert pairs(listed, null=True) == [(f"/data/{name}", f"/in/{name}") for name in support.HOSTILE_NAMES]


def test_the_last_line_may_lack_its_end_and_empty_lines_name_nothing() -> None:
    assert pairs(b"\na\n\nb") == [("/data/a", "/in/a"), ("/data/b", "/in/b")]


def test_two_columns_with_a_tab() -> None:
    assert pairs(b"a b\tc d\n'x'\t#y\n", format="tab") == [("/data/a b", "/in/c d"), ("/data/'x'", "/in/#y")]


@pytest.mark.parametrize("line", ["one", "one\ttwo\tthree", "\ttwo", "one\t"])
def test_a_line_without_two_columns_is_named(line: str) -> None:
    found = problem(f"a\tb\n{line}\n".encode(), format="tab")
    assert found.name == "bad-line"
    assert found.cause.startswith("line 2:")


def test_two_columns_quoted_as_the_cli_takes_them() -> None:
    listed = b"""\
# a comment
'a b' "c d"
e f --recursive
-r g h
--no-recursive i j
k l --external-checksum abc --checksum-algorithm=sha256
-- -m -n

o\\ p q
"""
    found = items(listed, format="shell")
    assert [(item["source_path"], item["destination_path"], item.get("recursive")) for item in found] == [
        ("/data/a b", "/in/c d", None),
        ("/data/e", "/in/f", True),
        ("/data/g", "/in/h", True),
        ("/data/i", "/in/j", False),
        ("/data/k", "/in/l", None),
        ("/data/-m", "/in/-n", None),
        ("/data/o p", "/in/q", None),
    ]
    assert found[4]["external_checksum"] == "abc"
    assert found[4]["checksum_algorithm"] == "sha256"


@pytest.mark.parametrize("line", ["it's a", "a", "a b c", "a b --force", "a b --external-checksum", "a ''"])
def test_a_shell_line_that_is_none_is_named(line: str) -> None:
    assert problem(f"a b\n{line}\n".encode(), format="shell").cause.startswith("line 2:")


def test_json_lines() -> None:
    listed = "\n".join(
        json.dumps(each)
        for each in (
            "plain",
            {"source": "new\nline", "destination": "tab\there"},
            {"source": "dir", "recursive": True},
            {"source": "f", "external_checksum": "abc", "checksum_algorithm": "md5"},
        )
    )
    assert items(listed.encode(), format="json") == [
        {"DATA_TYPE": "transfer_item", "source_path": "/data/plain", "destination_path": "/in/plain"},
        {"DATA_TYPE": "transfer_item", "source_path": "/data/new\nline", "destination_path": "/in/tab\there"},
        {"DATA_TYPE": "transfer_item", "source_path": "/data/dir", "destination_path": "/in/dir", "recursive": True},
        {
            "DATA_TYPE": "transfer_item",
            "source_path": "/data/f",
            "destination_path": "/in/f",
            "external_checksum": "abc",
            "checksum_algorithm": "md5",
        },
    ]


@pytest.mark.parametrize(
    "line",
    ["{", "3", "{}", '{"source": ""}', '{"source": "a", "recursiv": true}', '{"source": "a", "recursive": "yes"}'],
)
def test_a_json_line_that_is_none_is_named(line: str) -> None:
    assert problem(f'"a"\n{line}\n'.encode(), format="json").cause.startswith("line 2:")


def test_spellings_of_a_path_become_one() -> None:
    assert pairs(b"./a\n./b//c\n./d/./e\n./f/\n") == [
        ("/data/a", "/in/a"),
        ("/data/b/c", "/in/b/c"),
        ("/data/d/e", "/in/d/e"),
        ("/data/f/", "/in/f/"),
    ]
    assert pairs(b"a\n.b/..c\nd..\n./e") == [
        ("/data/a", "/in/a"),
        ("/data/.b/..c", "/in/.b/..c"),
        ("/data/d..", "/in/d.."),
        ("/data/e", "/in/e"),
    ]


def test_the_base_itself() -> None:
    assert pairs(b".\n") == [("/data", "/in")]
    assert pairs(b"/data/\n") == [("/data", "/in")]
    assert pairs(b"x\n", source="/", destination="/") == [("/x", "/x")]


@pytest.mark.parametrize("path", ["..", "../a", "a/../b", "a/.."])
def test_no_path_goes_up(path: str) -> None:
    assert problem(f"a\n{path}\n".encode()).name == "bad-path"


def test_absolute_paths_are_below_their_base() -> None:
    assert pairs(b"/data/a\n/data//b/c\n") == [("/data/a", "/in/a"), ("/data/b/c", "/in/b/c")]
    assert pairs(b"/data/a\t/in/b\n", format="tab") == [("/data/a", "/in/b")]
    assert pairs(b"/a\n//b\n", source="/") == [("/a", "/in/a"), ("/b", "/in/b")]
    for outside in (b"/data/a\n/database/b\n", b"/a\n", b"/data/../a\n"):
        assert problem(outside).name in ("outside-base", "bad-path")


@pytest.mark.parametrize("listed", [b"a\n/data/b\n", b"/data/b\na\n"])
def test_absolute_and_relative_paths_are_not_mixed(listed: bytes) -> None:
    found = problem(listed)
    assert found.name == "mixed-paths"
    assert "/data/b" in found.cause


def test_a_local_base_takes_local_paths(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    from globuswrap import config
    from globuswrap.collections import names

    file = tmp_path / "config.toml"
    file.write_text(f'[collections]\nhere = {{ id = "{A}", mounted = {{ "/lustre/x" = "/data" }} }}\n')
    monkeypatch.setenv("GLOBUSWRAP_CONFIG", str(file))
    config.load.cache_clear()
    names.known.cache_clear()
    try:
        found = batch.prepare("/lustre/x", f"{B}:/in", PathList(io.BytesIO(b"/lustre/x/a\n/lustre/x/b\n")))
        assert found.first(9) == [("/data/a", "/in/a"), ("/data/b", "/in/b")]
    finally:
        monkeypatch.undo()
        config.load.cache_clear()
        names.known.cache_clear()


def test_an_empty_list_is_refused() -> None:
    for empty in (b"", b"\n\n"):
        assert problem(empty).name == "nothing-to-do"


def test_source_and_destination_the_same() -> None:
    assert problem(b"a\n", into=A, destination="/data").name == "same-place"
    assert problem(b"a\tb\nc\tc\n", into=A, destination="/data", format="tab").name == "same-place"
    assert problem(b"a\tb/a\nb/c\tc\n", into=A, destination="/data/b", format="tab").name == "same-place"
    assert pairs(b"a\tb\n", into=A, destination="/data", format="tab") == [("/data/a", "/data/b")]


def test_names_that_are_not_utf8_are_refused_with_the_list() -> None:
    found = problem(b"good\ncaf\xe9\n\xff\xfe\nalso good\n")
    assert found.name == "unsendable-names"
    assert found.detail.splitlines() == [r"$'caf\xe9'", r"$'\xff\xfe'"]
    escaped = json.dumps("caf\udce9").encode()
    assert problem(escaped, format="json").detail == r"$'caf\xe9'"


def test_or_left_out() -> None:
    found = prepared(b"good\ncaf\xe9\nalso\tgood\n", skip_unsendable=True)
    assert found.first(9) == [("/data/good", "/in/good"), ("/data/also\tgood", "/in/also\tgood")]
    assert found.notes()["unsendable"] == {"count": 1, "reasons": {"not UTF-8": 1}, "names": [r"$'caf\xe9'"]}
    assert problem(b"caf\xe9\n", skip_unsendable=True).name == "nothing-to-do"


def test_what_the_service_would_read_otherwise_is_refused_by_name() -> None:
    found = problem(b"a\r\nb\0c\rd\0\xff\0", null=True)
    assert found.cause.startswith("2 names that Globus cannot handle: 1 not UTF-8, 1 with CR LF in it;")
    assert found.detail.splitlines() == [r"$'\xff'", r"$'a\x0d\x0ab'"]
    for home in (b"~\n", b"./~/x\n", b"~\ta\n"):
        assert "home directory" in problem(home, source="/", format="tab" if b"\t" in home else "paths").cause
    assert "home directory" in problem(b"~\n", destination="/").cause
    assert pairs(b"~\n~x\n") == [("/data/~", "/in/~"), ("/data/~x", "/in/~x")]
    assert pairs(b"a\r\nb\0c\0", null=True, skip_unsendable=True) == [("/data/c", "/in/c")]


def test_a_list_from_python() -> None:
    listed = ["a", ("b", "c"), Item("d", "e", True)]
    found = batch.prepare(f"{A}:/data", f"{B}:/in", listed)
    assert found.first(9) == [("/data/a", "/in/a"), ("/data/b", "/in/c"), ("/data/d", "/in/e")]


#: What a name can hold: any byte but `/` and NUL, here as characters of one to four bytes; CR LF is refused elsewhere.
name = st.text(st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1, max_size=40).filter(
    lambda each: each not in (".", "..") and "\r\n" not in each
)


@given(st.lists(name, min_size=1, max_size=20, unique=True))
@settings(max_examples=200)
def test_every_name_arrives_as_it_is(names: list[str]) -> None:
    listed = b"".join(each.encode() + b"\0" for each in names)
    assert pairs(listed, null=True) == [(f"/data/{each}", f"/in/{each}") for each in names]


@given(st.lists(name, min_size=1, max_size=20, unique=True), st.integers(1, 200))
@settings(max_examples=100)
def test_where_blocks_end_does_not_matter(names: list[str], size: int) -> None:
    listed = b"".join(each.encode() + b"\0" for each in names)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(parse, "_BLOCK", size)
        assert pairs(listed, null=True) == [(f"/data/{each}", f"/in/{each}") for each in names]


def test_names_are_shown_as_bash_takes_them() -> None:
    assert parse.shown("plain name") == "plain name"
    assert parse.shown("it's\n") == "$'it\\'s\\x0a'"
    assert parse.shown("a\u2028b") == r"$'a\xe2\x80\xa8b'"
    assert parse.shown(string.ascii_letters) == string.ascii_letters
