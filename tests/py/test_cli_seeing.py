"""Names and paths, and what a person sees: tables, progress, colours, --watch, messages with their codes."""

from __future__ import annotations

import io
import json
import os
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import support
from command_line import on_terminal, run, run_json
from globuswrap.cli import output
from globuswrap.cli.sandbox import Sandbox
from globuswrap.collections import mounts, names
from globuswrap.collections.address import Address
from globuswrap.collections.names import Collection
from globuswrap.errors import UsageProblem

pytestmark = [pytest.mark.usefixtures("globus_loaded")]

# --- names ------------------------------------------------------------------------------------------------------------


def test_a_site_file_names_collections_and_a_users_file_wins(sandbox: Sandbox) -> None:
    archive, scratch = sandbox.collection("archive").id, sandbox.collection("scratch").id
    site = sandbox.home / ".config" / "site" / "globuswrap" / "config.toml"
    site.parent.mkdir(parents=True)
    site.write_text(f'[collections]\ntape = "{archive}"\nboth = "{archive}"\n[defaults]\npoll = "7s"\n')
    sandbox.config_file.write_text(f'[collections]\nboth = "{scratch}"\n')
    resolved = [run(sandbox, "collection", "resolve", f"{name}:/x").stdout.strip() for name in ("tape", "both")]
    assert resolved == [f"{archive}:/x", f"{scratch}:/x"]
    listed = run_json(sandbox, "collection", "list")["data"]["collections"]
    assert {each["name"] for each in listed} == {"tape", "both"}


def test_search_says_which_are_named_and_how_to_name_one(sandbox: Sandbox) -> None:
    known = sandbox.collection("archive")
    found = run_json(sandbox, "collection", "search", "archive")["data"]["collections"]
    assert [(each["id"], each["name"]) for each in found] == [(known.id, "archive")]
    sandbox.config_file.write_text("")
    done = run(sandbox, "collection", "search", "archive")
    assert f"globuswrap collection add NAME {known.id}" in done.stderr
    nothing = run(sandbox, "collection", "search", "--mine", "no", "such thing")
    assert (nothing.returncode, nothing.stdout) == (0, "")
    assert "'no such thing'" in nothing.stderr


def test_bookmarks_are_shown_as_addresses_and_become_names(sandbox: Sandbox) -> None:
    archive, scratch = sandbox.collection("archive"), sandbox.collection("scratch")
    for number, (title, collection) in enumerate((("beam", archive), ("my runs", scratch), ("arc", archive))):
        document = {
            "DATA_TYPE": "bookmark",
            "id": str(number),
            "name": title,
            "endpoint_id": collection.id,
            "path": "/runs/",
        }
        sandbox.control.put("bookmark", str(number), {"bookmark": {**document, "pinned": False}})
    assert "archive:/runs/" in run(sandbox, "collection", "bookmarks").stdout
    sandbox.config_file.write_text("")
    assert f"{archive.id}:/runs/" in run(sandbox, "collection", "bookmarks").stdout
    added = run(sandbox, "collection", "bookmarks", "--add")
    assert "beam:/runs/" in added.stdout
    assert f"globuswrap collection add NAME {scratch.id}" in added.stderr
    assert run(sandbox, "collection", "resolve", "beam:/a").stdout.strip() == f"{archive.id}:/a"


# --- local path <-> collection path -----------------------------------------------------------------------------------

_part = st.sampled_from(["a", "b", "ab", "data", "with space", "it's", "%j", "é"])
_directory = st.lists(_part, max_size=3).map(lambda parts: "/" + "/".join(parts))


@st.composite
def _mounted(draw: st.DrawFn) -> dict[str, str]:
    """A collection mounted in one or several places, each local directory and each collection path once."""
    local = draw(st.lists(_directory, min_size=1, max_size=3, unique=True))
    remote = draw(st.lists(_directory, min_size=len(local), max_size=len(local), unique=True))
    return dict(zip(local, remote, strict=True))


@settings(max_examples=300)
@given(mounted=_mounted(), below=st.lists(_part, max_size=3), data=st.data())
def test_both_ways_by_the_longest_prefix(mounted: dict[str, str], below: list[str], data: st.DataObject) -> None:
    identifier = "aaaaaaaa-0000-4000-8000-000000000001"
    known = {"c": Collection("c", identifier, mounted)}
    prefix = data.draw(st.sampled_from(sorted(mounted)))
    local = os.path.normpath(os.path.join(prefix, *below))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(names, "known", lambda: known)
        address = mounts.to_collection(local)
        inside = [each for each in mounted if local == each or local.startswith(each.rstrip("/") + "/")]
        longest = max(inside, key=len)
        assert os.path.normpath(address.path) == os.path.normpath(
            os.path.join(mounted[longest], os.path.relpath(local, longest))
        )
        back = mounts.to_local(address)
        # what is seen at the way back is the same file, wherever two mounts do not overlap on the collection
        assert mounts.to_collection(back) == address or len(mounted) > 1
        if len(mounted) == 1:
            assert back == local


@settings(max_examples=100)
@given(path=_directory)
def test_what_is_not_mounted_is_refused(path: str) -> None:
    known = {"c": Collection("c", "aaaaaaaa-0000-4000-8000-000000000001", {"/mnt/x": "/y"})}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(names, "known", lambda: known)
        with pytest.raises(UsageProblem) as refused:
            mounts.to_collection(path)
        assert refused.value.name == "not-mounted"
        with pytest.raises(UsageProblem):
            mounts.to_local(Address("aaaaaaaa-0000-4000-8000-000000000001", "/yy" + path))


# --- tables and colours -----------------------------------------------------------------------------------------------

_cells = st.text(st.characters(codec="utf-8"), max_size=40)


@settings(max_examples=200)
@given(rows=st.lists(st.tuples(_cells, _cells, _cells), max_size=5), width=st.integers(60, 200))
def test_a_table_has_one_line_for_each_row_and_fits(rows: list[tuple[str, ...]], width: int) -> None:
    lines = output.table(rows, ["A", "B", "C"], width)
    assert len(lines) == len(rows) + 1
    first = max(output._columns(output.printable(row[0])) for row in [("A",), *rows])
    for line in lines:
        assert line.isprintable()
        assert output._columns(line) <= max(width, first + 2 * 2 + 2 * output._LEAST)


def test_a_table_keeps_what_one_copies() -> None:
    task = "aaaaaaaa-0000-4000-8000-000000000001"
    lines = output.table([[task, "ACTIVE", "x" * 80]], ["TASK", "STATE", "WHAT"], 60)
    assert lines[1] == f"{task}  ACTIVE  {'x' * 13}…"
    assert output.table([[task, "ACTIVE", "x" * 80]], ["TASK", "STATE", "WHAT"])[1].endswith("x" * 80)  # piped


def test_wide_letters_are_counted_as_a_terminal_shows_them() -> None:
    assert output.table([["日本", "x"], ["abcd", "y"]], ["A", "B"], 80) == ["A     B", "日本  x", "abcd  y"]
    assert output.fitted("日本語", 5) == "日本…"


class _Tty(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_colours_are_for_terminals_and_no_color_turns_them_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert output.styled("x", "bad", _Tty()) == "\x1b[31;1mx\x1b[0m"
    assert output.styled("x", "bad", io.StringIO()) == "x"
    monkeypatch.setenv("NO_COLOR", "1")
    assert output.styled("x", "bad", _Tty()) == "x"
    monkeypatch.delenv("NO_COLOR")
    monkeypatch.setenv("TERM", "dumb")
    assert output.styled("x", "bad", _Tty()) == "x"


# --- at a terminal ----------------------------------------------------------------------------------------------------


def test_problems_are_coloured_on_a_terminal_alone(sandbox: Sandbox) -> None:
    code, text = on_terminal(sandbox, "collection", "resolve", "nosuch:/", env={"TERM": "xterm"})
    assert code == 2
    assert "\x1b[31;1mglobuswrap:\x1b[0m no collection is named 'nosuch'  [unknown-collection]" in text
    code, text = on_terminal(sandbox, "collection", "resolve", "nosuch:/", env={"NO_COLOR": "1"})
    assert "\x1b" not in text
    assert "\x1b" not in run(sandbox, "collection", "resolve", "nosuch:/").stderr


@pytest.mark.slow
def test_what_takes_longer_than_two_seconds_says_what_it_does(sandbox: Sandbox) -> None:
    sandbox.control.fault(kind="slow", seconds=4, path="/endpoint_search")
    code, text = on_terminal(sandbox, "collection", "search", "archive")
    assert code == 0
    assert "searching (" in text
    assert text.count("\n") == 2  # the head and the row: progress leaves nothing behind
    assert "searching" not in run(sandbox, "collection", "search", "archive").stderr


@pytest.mark.slow
def test_a_list_that_is_read_for_long_says_how_far_it_is(sandbox: Sandbox, tmp_path: Path) -> None:
    """batch: the list comes slowly, and is counted; talk does not run into the line, and nothing of it stays."""
    os.mkfifo(tmp_path / "list")
    slowly = "for ((i = 0; i < 400; i += 100)); do seq $i $((i + 99)); sleep 1; done"
    writer = subprocess.Popen(["bash", "-c", f"{slowly} >{tmp_path}/list"])
    code, text = on_terminal(sandbox, "batch", "archive:/", "results:/", str(tmp_path / "list"), "--dry-run")
    assert writer.wait() == 0
    assert code == 0
    assert re.search(r"\r. reading the list \(\d s\)\x1b\[K", text), text
    assert "\r\x1b[K400 items in 1 tasks; nothing was submitted\r\n" in text
    done = run(sandbox, "batch", "archive:/", "results:/", "-", "--dry-run", input="a\nb\n")
    assert done.stderr == "2 items in 1 tasks; nothing was submitted\n"


@pytest.mark.slow
def test_a_program_that_takes_long_is_named_and_then_another_may_have_the_terminal(sandbox: Sandbox) -> None:
    """transfer without --wait while Globus is slow; and a program that takes the place of this one is not ended by the timer."""
    (sandbox.collection("archive").path / "a").write_text("x")
    sandbox.control.fault(kind="slow", seconds=4, path="/submission_id")
    code, text = on_terminal(sandbox, "transfer", "archive:/a", "results:/a")
    assert code == 0
    assert "globus task generate-submission-id (" in text
    assert [line.rpartition("\x1b[K")[2] for line in text.split("\r\n")][-1] == ""
    shell = ("-c", "trap 'echo hit' ALRM; sleep 2.5; echo over")
    code, text = on_terminal(sandbox, "sandbox", "run", "--", "bash", *shell)
    assert (code, text) == (0, "over\r\n")


@pytest.mark.slow
def test_watch_goes_on_until_nothing_is_under_way(new_sandbox: Callable[..., Sandbox]) -> None:
    sandbox = new_sandbox(progress="held")
    (sandbox.collection("archive").path / "a").write_text("x")
    task = run(sandbox, "transfer", "archive:/a", "results:/a").stdout.strip()
    environment = {name: value for name, value in {**os.environ, **sandbox.env}.items() if value is not None}
    watching = [str(support.LAUNCHER), "status", "--watch", "--every", "1s"]
    with subprocess.Popen(watching, env=environment, stdout=subprocess.PIPE, text=True) as watch:
        assert watch.stdout is not None
        lines = [next(line for line in watch.stdout if line.startswith(task[:8]))]
        sandbox.control.progress("at-once")
        lines += [line for line in watch.stdout if line.startswith(task[:8])]
    assert watch.returncode == 0
    states = [line.split()[1] for line in lines]
    assert states[0] in ("running", "queued")
    assert states[-1] == "succeeded"
    assert len(states) == len(set(states))  # only what changed


@pytest.mark.slow
def test_watch_redraws_in_place_and_fits_the_terminal(new_sandbox: Callable[..., Sandbox]) -> None:
    sandbox = new_sandbox(progress="held")
    (sandbox.collection("archive").path / ("long" * 20)).write_text("x")
    run(sandbox, "transfer", f"archive:/{'long' * 20}", "results:/a")
    code, text = on_terminal(sandbox, "status", "--watch", "--every", "0.5s", until="1 under way")
    assert code == 130
    assert text.startswith("\x1b[H")
    assert max(len(line.partition("\x1b[K")[0].removeprefix("\x1b[H")) for line in text.split("\r\n")[:3]) <= 60
    assert "…" in text


def test_every_message_has_its_code(sandbox: Sandbox, tmp_path: Path) -> None:
    wrong = (
        ("transfer", "nosuch:/a", "archive:/b"),
        ("collection", "resolve", "/not/mounted"),
        ("wait", "nosuch"),
        ("submit", str(tmp_path / "nosuch.sh")),
        ("status", "--every", "soon"),
        ("frobnicate",),
    )
    for line in wrong:
        done = run(sandbox, *line)
        assert done.returncode == 2, line
        first, second = done.stderr.splitlines()
        name = first.rpartition("  [")[2].rstrip("]")
        assert first.startswith("globuswrap: ") and first.endswith(f"  [{name}]") and name
        assert second.startswith("  remedy: ")
        told = json.loads(run(sandbox, *line, "--json").stdout)
        assert told["error"]["name"] == name and told["exit_code"] == 2
