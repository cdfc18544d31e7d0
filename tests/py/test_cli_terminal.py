"""What others have written, names of files and messages of servers, reaches a terminal escaped, whatever prints it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import support
from command_line import on_terminal, run
from globuswrap.cli import progress
from globuswrap.cli.sandbox import Sandbox
from globuswrap.system import log

pytestmark = [pytest.mark.usefixtures("globus_loaded")]

#: Sets a title, rings, colors by one 8-bit control, reverses the direction of writing, ends the line, deletes.
HOSTILE = "x\x1b]0;owned\x07\x9b31m\u202e\u2028\x7fy"
RAW = ("\x1b]", "\x07", "\x9b", "\u202e", "\u2028", "\x7f")
UUID = "aaaaaaaa-0000-4000-8000-000000000001"


@pytest.fixture(scope="module")
def box(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    """A sandbox full of hostile names."""
    found = Sandbox(tmp_path_factory.mktemp("hostile") / "box", ("archive", "scratch", "share:gcp-guest"))
    found.start()
    top = found.collection("archive").path
    (top / HOSTILE).write_text("x")
    (top / f"{HOSTILE}.d").mkdir()
    job = f"#!/bin/sh\n#GLOBUS stage-in 'archive:/{HOSTILE}/nope' scratch:/\ntrue\n"
    (found.home / "job.sh").write_text(job)
    (found.home / "list").write_text(json.dumps({"source": f"{HOSTILE}/nope", "destination": "x"}) + "\n")
    (found.home / "watched").mkdir()
    (found.home / "watched" / HOSTILE).write_text("x")
    profile = f'[sync.beam]\nsource = "archive:/"\ndestination = "scratch:/s/"\nlocal-root = "{top}"\n'
    found.config_file.write_text(found.config_file.read_text() + profile)
    bookmark = {"DATA_TYPE": "bookmark", "id": "1", "name": HOSTILE, "path": "/", "pinned": False}
    found.control.put("bookmark", "1", {"bookmark": {**bookmark, "endpoint_id": found.collection("archive").id}})
    yield found
    found.stop()


#: Command lines that print names, or what a server says; `{home}` is the sandbox's home directory.
PRINT_NAMES = {
    "transfer": ("transfer", f"archive:/{HOSTILE}/nope", "scratch:/a"),
    "transfer --dry-run": ("transfer", f"archive:/{HOSTILE}", "scratch:/a", "--dry-run"),
    "delete": ("delete", f"archive:/{HOSTILE}.d"),
    "batch --check": ("batch", "archive:/", "scratch:/", "{home}/list", "--format", "json", "--check"),
    "batch --dry-run": ("batch", "archive:/", "scratch:/", "{home}/list", "--format", "json", "--dry-run"),
    "submit": ("submit", "{home}/job.sh", "--scheduler", "local"),
    "doctor": ("doctor", "{home}/job.sh", "--scheduler", "local", "--no-probe"),
    "watch": ("watch", "{home}/watched", "--dry-run", "--drain", "--settle", "0s", "--", "cat", "{name}"),
    "sync run --dry-run": ("sync", "run", "beam", "--dry-run"),
    "collection bookmarks": ("collection", "bookmarks"),
    "collection resolve": ("collection", "resolve", f"archive:/{HOSTILE}"),
    "an unknown name": ("collection", "resolve", f"{HOSTILE}:/"),
    "an unknown task": ("wait", HOSTILE),
    "an unknown option": ("status", f"--{HOSTILE}"),
}
SERVER_SPEAKS = {
    "transfer": ("transfer", "archive:/a", "scratch:/a", "--no-check", "--retry-for", "0s"),
    "delete": ("delete", "archive:/a", "--no-check", "--retry-for", "0s"),
    "batch": ("batch", "archive:/", "scratch:/", "{home}/list", "--format", "json", "--retry-for", "0s"),
    "wait": ("wait", UUID, "--retry-for", "0s"),
    "cancel": ("cancel", UUID),
    "share list": ("share", "list", "share"),
    "share grant": ("share", "grant", "share:/p", "anna@example.org"),
    "collection search": ("collection", "search", "archive"),
    "submit": ("submit", "{home}/job.sh", "--scheduler", "local"),
    "search": ("search", "query", UUID, "x"),
    "flow": ("flow", "wait", UUID),
    "doctor": ("doctor", "{home}/job.sh", "--scheduler", "local", "--no-probe"),
}


def shown(box: Sandbox, line: tuple[str, ...]) -> str:
    code, text = on_terminal(box, *(each.replace("{home}", str(box.home)) for each in line), env={"NO_COLOR": "1"})
    assert code != 3, text
    return text


@pytest.mark.parametrize("name", PRINT_NAMES)
def test_a_name_is_escaped_on_a_terminal(box: Sandbox, name: str) -> None:
    text = shown(box, PRINT_NAMES[name])
    assert [each for each in RAW if each in text] == [], text
    assert r"\x1b]0" in text or r"\u001b]0" in text, text  # it was printed


@pytest.mark.parametrize("name", SERVER_SPEAKS)
def test_a_message_of_a_server_is_escaped_on_a_terminal(box: Sandbox, name: str) -> None:
    says = {
        "code": "Bad",
        "message": HOSTILE,
        "error": {"code": "BAD", "detail": HOSTILE},
        "errors": [{"detail": HOSTILE}],
    }
    for service in ("transfer", "search", "flows"):
        box.control.fault(kind="status", status=400, body=says, count=100_000, service=service)
    box.control.fault(kind="status", status=400, body=says, count=100_000, service="auth", path="*/identities")
    try:
        text = shown(box, SERVER_SPEAKS[name])
    finally:
        box.control.clear_faults()
    assert [each for each in RAW if each in text] == [], text
    assert r"\x1b]0" in text or r"\u001b]0" in text, text


def test_names_in_journal_and_receipts_are_escaped_on_a_terminal(box: Sandbox) -> None:
    line = ("transfer", f"archive:/{HOSTILE}", f"scratch:/d/{HOSTILE}", "--receipt-files", "--preserve-timestamp")
    assert run(box, *line, "--wait", "--poll", "0.1s").returncode == 0
    for line in (
        ("status", "--all"),
        ("cleanup", "--under", "scratch:/d/"),
        ("cleanup", "--under", "scratch:/d/", "-v"),
    ):
        text = shown(box, line)
        assert [each for each in RAW if each in text] == [] and r"\x1b]" in text, text


def test_what_is_piped_is_the_data_as_it_is(box: Sandbox) -> None:
    piped = run(box, "collection", "resolve", f"archive:/{HOSTILE}").stdout
    assert piped == f"{box.collection('archive').id}:/{HOSTILE}\n"
    named = json.loads(run(box, "collection", "resolve", f"archive:/{HOSTILE}", "--json").stdout)
    assert named["data"]["path"] == f"/{HOSTILE}"


def test_a_message_cannot_make_a_second_line(box: Sandbox) -> None:
    done = run(box, "collection", "resolve", "x\nglobuswrap: all is well\r:/")
    assert len(done.stderr.splitlines()) == 2 and r"x\nglobuswrap" in done.stderr.replace("\\\\", "\\")


def test_styles_of_ours_are_let_through_and_those_of_others_are_not(capsys: pytest.CaptureFixture[str]) -> None:
    log.say(log.Printable("\x1b[1mours\x1b[0m"), 0)
    log.say("\x1b[1mtheirs\nnext\tline", 0)
    assert capsys.readouterr().err == "\x1b[1mours\x1b[0m\n\\x1b[1mtheirs\nnext\\tline\n"


def test_nothing_writes_to_a_terminal_but_the_places_that_escape() -> None:
    """What prints by itself does so for a reason that is written there."""
    library = support.REPOSITORY / "lib" / "globuswrap"
    writes = re.compile(r"\bprint\(|std(?:out|err)\.write\(|os\.write\([12],|\becho\(")
    found = {str(path.relative_to(library)) for path in library.rglob("*.py") if writes.search(path.read_text("utf-8"))}
    allowed = {
        "system/log.py",  # escapes
        "cli/output.py",  # escapes
        "cli/progress.py",  # escapes
        "cli/status.py",  # escapes
        "cli/main.py",  # the version
        "cli/app.py",  # help
        "cli/completing.py",  # printable names alone
        "transfers/operations.py",  # what the user's own hook has printed
    }
    assert found <= allowed
    assert Path(library / "cli" / "completing.py").read_text("utf-8").count("isprintable") >= 1


def test_progress_says_which_task_how_far_how_fast_and_what_is_left() -> None:
    task = {"task_id": "0bf74f58-0000-4000-8000-000000000000", "status": "ACTIVE", "nice_status": "OK", "files": 40}
    task |= {
        "files_transferred": 8,
        "files_skipped": 2,
        "bytes_transferred": 3 << 20,
        "effective_bytes_per_second": 1 << 20,
    }
    assert progress.line_of([task]) == "0bf74f58: 25%, 10/40 files, 3.0 MiB (OK)"
    assert progress.pace_of([task]) == ", 1.0 MiB/s, 9 s left"
    ended = {**task, "status": "SUCCEEDED", "nice_status": None, "files_transferred": 38, "faults": 1}
    assert progress.line_of([task, ended]) == "2 tasks, 1 running: 62%, 50/80 files, 6.0 MiB, 1 fault (OK, SUCCEEDED)"
    assert progress.pace_of([ended]) == "" and progress.pace_of([{**task, "files": None}]) != ""
    assert progress.line_of([{"task_id": "0bf74f58", "status": "ACTIVE"}]) == "0bf74f58: 0/0 files, 0 B (ACTIVE)"


@pytest.mark.slow
def test_a_transfer_that_goes_well_shows_no_red(box: Sandbox) -> None:
    (box.collection("archive").path / "well").write_text("data")
    box.control.progress("held")
    try:
        line = ("transfer", "archive:/well", "scratch:/well", "--wait", "--poll", "0.5s")
        code, text = on_terminal(box, *line, env={"TERM": "xterm", "COLUMNS": "79"}, until=" files, ")
    finally:
        box.control.progress("at-once")
    assert code == 130
    before = text.partition("^C")[0]
    assert re.search(r"\r. [0-9a-f]{8}: \d/\d files, 0 B \(.*\(\d+ s\)\x1b\[K", before), before
    assert not re.search(r"\x1b\[[\d;]*\b31\b|\x1b\[38", before)
