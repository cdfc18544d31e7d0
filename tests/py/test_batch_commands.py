"""`globuswrap batch` as people run it, against the sandbox with the real `globus`."""

from __future__ import annotations

import json
import os
import random
import re
import signal
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from command_line import accepted, run, run_json
from globuswrap.batches import parse
from globuswrap.cli.sandbox import Sandbox
from globuswrap.system import process
from support import HOSTILE_NAMES, LAUNCHER

#: Each runs several commands, and each of those several processes.
pytestmark = [pytest.mark.usefixtures("globus_loaded")]

QUICK = ("--wait", "--poll", "0.1s")


def fill(sandbox: Sandbox, *names: str, collection: str = "archive") -> None:
    """Files, each with its name for content."""
    for name in names:
        path = sandbox.collection(collection).path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)


def there(sandbox: Sandbox, collection: str = "scratch") -> list[str]:
    """Every file of a collection."""
    top = sandbox.collection(collection).path
    return sorted(str(path.relative_to(top)) for path in top.rglob("*") if path.is_file())


def a_list(tmp_path: Path, *lines: str) -> str:
    path = tmp_path / "list"
    path.write_text("".join(f"{line}\n" for line in lines))
    return str(path)


def test_a_list_becomes_tasks_and_one_result(sandbox: Sandbox, tmp_path: Path) -> None:
    names = [f"d{number % 3}/f{number}" for number in range(10)]
    fill(sandbox, *(f"run/{name}" for name in names))
    done = run(sandbox, "batch", "archive:/run", "scratch:/in", a_list(tmp_path, *names), "--chunk", "4", *QUICK)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == [task["task_id"] for task in accepted(sandbox)]
    assert "succeeded: 10 files" in done.stderr and "(3 tasks)" in done.stderr
    assert there(sandbox) == sorted(f"in/{name}" for name in names)


def test_the_list_comes_from_stdin(sandbox: Sandbox) -> None:
    fill(sandbox, *HOSTILE_NAMES)
    listed = "\0".join(HOSTILE_NAMES)
    done = run(sandbox, "batch", "archive:/", "scratch:/", "-", "--null", *QUICK, input=listed)
    assert done.returncode == 0, done.stderr
    assert there(sandbox) == sorted(HOSTILE_NAMES)


def test_one_receipt_over_all(sandbox: Sandbox, tmp_path: Path) -> None:
    fill(sandbox, "a", "b", "c")
    receipt = tmp_path / "receipt.json"
    then = f'cp "$GLOBUSWRAP_RECEIPT" {tmp_path}/seen; echo "$GLOBUSWRAP_OUTCOME" > {tmp_path}/outcome'
    line = ("batch", "archive:/", "scratch:/", a_list(tmp_path, "a", "b", "c"), "--chunk", "2", *QUICK)
    data = run_json(sandbox, *line, "--receipt", str(receipt), "--then", then)["data"]
    document = json.loads(receipt.read_text())
    assert document == data["receipt"] == json.loads((tmp_path / "seen").read_text())
    assert (tmp_path / "outcome").read_text() == "succeeded\n"
    assert document["schema"] == "globuswrap.batch-receipt/1"
    assert (document["outcome"], document["items"], document["files_transferred"]) == ("succeeded", 3, 3)
    assert [(task["items"], task["receipt"]["files_transferred"]) for task in document["tasks"]] == [(2, 2), (1, 1)]


@pytest.mark.parametrize(
    ("listed", "options", "name"),
    [
        ("a\na\n", (), "collisions"),
        ("a\na/b\n", (), "collisions"),
        ("", (), "nothing-to-do"),
        ("a\n/b\n", (), "mixed-paths"),
        ("a\n../b\n", (), "bad-path"),
        ("a\nnot there\n", ("--check",), "missing-sources"),
        ("a\n", ("--format", "tab"), "bad-line"),
        ("a\n", ("--format", "xml"), "bad-option"),
        ("a\n", ("--on-collision", "maybe"), "bad-option"),
        ("a\n", ("--chunk", "0"), "bad-option"),
        ("a\n", ("--filter", "size"), "bad-option"),
        ("a\n", ("--recursive",), "bad-option"),
        ("a\n", ("--sync-level", "any"), "bad-option"),
    ],
)
def test_what_is_wrong_with_a_list_is_found_before_sending(
    sandbox: Sandbox, tmp_path: Path, listed: str, options: tuple[str, ...], name: str
) -> None:
    fill(sandbox, "a", "b")
    (tmp_path / "list").write_text(listed)
    envelope = run_json(sandbox, "batch", "archive:/", "scratch:/", str(tmp_path / "list"), *options, expect=2)
    assert envelope["error"]["name"] == name
    assert accepted(sandbox) == []


def test_missing_sources_are_listed(sandbox: Sandbox, tmp_path: Path) -> None:
    fill(sandbox, "d/a", "d/.hidden", "e/b")
    line = ("batch", "archive:/", "scratch:/", "--check")
    missing = a_list(tmp_path, "d/a", "d/.hidden", "d/gone", "no/such", "e/b/c")
    detail = run_json(sandbox, *line, missing, expect=2)["error"]["detail"]
    assert detail.splitlines() == ["/d/gone", "/no/such", "/e/b/c"]
    assert run(sandbox, *line, a_list(tmp_path, "d/a", "d/.hidden", "e/b"), *QUICK).returncode == 0


def test_a_dry_run_sends_nothing(sandbox: Sandbox, tmp_path: Path) -> None:
    listed = a_list(tmp_path, *(f"f{number}" for number in range(12)))
    done = run(sandbox, "batch", "archive:/", "scratch:/in", listed, "--chunk", "5", "--dry-run")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[0] == "/f0 -> /in/f0"
    assert done.stdout.splitlines()[-1] == "... and 2 more"
    assert "12 items in 3 tasks; nothing was submitted" in done.stderr
    assert sandbox.control.requests() == []


def test_two_runs_into_one_directory(sandbox: Sandbox) -> None:
    fill(sandbox, "run1/a.h5", "run1/b.h5", "run1/note.txt", "run2/b.h5", "run2/deep/c.h5")
    line = ("batch", "archive:/run1", "scratch:/all", "--from", "archive:/run2", "--filter", "ends_with(name, '.h5')")
    refused = run_json(sandbox, *line, expect=2)
    assert refused["error"]["detail"] == "/run1/b.h5 and /run2/b.h5 -> /all/b.h5"
    done = run_json(sandbox, *line, "--on-collision", "rename", *QUICK)
    assert there(sandbox) == ["all/a.h5", "all/b.2.h5", "all/b.h5", "all/deep/c.h5"]
    assert (sandbox.collection("scratch").path / "all/b.2.h5").read_text() == "run2/b.h5"
    notes = done["data"]["receipt"]["collisions"]
    assert notes["count"] == 1
    assert notes["items"] == [{"kept": "/run1/b.h5", "other": "/run2/b.h5", "destination": "b.h5", "renamed": "b.2.h5"}]


def test_several_source_collections_are_several_tasks(sandbox: Sandbox, tmp_path: Path) -> None:
    fill(sandbox, "a")
    fill(sandbox, "a", collection="results")
    line = ("batch", "archive:/", "scratch:/", "--from", "results:/", a_list(tmp_path, "a"), "--on-collision", "rename")
    assert run(sandbox, *line, *QUICK).returncode == 0
    assert there(sandbox) == ["a", "a.2"]
    assert run(sandbox, "status").stdout == ""  # both are reported
    sources = [task["source_endpoint_id"] for task in accepted(sandbox)]
    assert sources == [sandbox.collection(name).id for name in ("archive", "results")]


def test_a_listing_by_size_and_time(sandbox: Sandbox) -> None:
    fill(sandbox, "small", "big", "old", ".dot")
    top = sandbox.collection("archive").path
    (top / "big").write_text("x" * 3000)
    (top / "old").write_text("x" * 3000)
    now = time.time()
    os.utime(top / "old", (now - 5 * 86400, now - 5 * 86400))
    line = ("batch", "archive:/", "scratch:/", "--dry-run")
    assert run(sandbox, *line, "--larger-than", "2K").stdout.split("\n")[:-1] == ["/big -> /big", "/old -> /old"]
    newer = run(sandbox, *line, "--newer-than", "2d").stdout
    assert newer.split("\n")[:-1] == ["/.dot -> /.dot", "/big -> /big", "/small -> /small"]
    both = run(sandbox, *line, "--newer-than", "2d", "--larger-than", "2K", "--filter", "name != 'x'").stdout
    assert both == "/big -> /big\n"
    assert run_json(sandbox, *line, "--filter", "name ==", expect=2)["error"]["name"] == "bad-filter"


def test_what_lies_deeper_is_refused_and_not_left_out(sandbox: Sandbox) -> None:
    fill(sandbox, "a", "d/b", "d/e/c")
    line = ("batch", "archive:/", "scratch:/", "--dry-run", "--depth")
    assert run_json(sandbox, *line, "0", expect=2)["error"]["name"] == "deeper-than-listed"
    refused = run_json(sandbox, *line, "1", expect=2)["error"]
    assert refused["cause"] == "archive:/ goes deeper than --depth 1: d/e"
    assert len(run(sandbox, *line, "2").stdout.splitlines()) == 3


def test_never_more_than_so_many_unfinished(sandbox: Sandbox, tmp_path: Path) -> None:
    names = [f"f{number}" for number in range(7)]
    fill(sandbox, *names)
    sandbox.control.progress("held")
    line = ("batch", "archive:/", "scratch:/", a_list(tmp_path, *names), "--chunk", "1", "--in-flight", "3", *QUICK)
    first = run_json(sandbox, *line, "--timeout", "0.5s", expect=75)
    assert "4 tasks were not submitted yet" in first["error"]["cause"]
    held = accepted(sandbox)
    assert len(held) == 3
    sandbox.control.progress("at-once", held[1]["task_id"])
    run_json(sandbox, *line, "--timeout", "1s", expect=75)
    assert len(accepted(sandbox)) == 4
    sandbox.control.progress("at-once")
    for task in accepted(sandbox):
        sandbox.control.progress("at-once", task["task_id"])
    assert run_json(sandbox, *line)["data"]["receipt"]["files_transferred"] == 7
    assert len(accepted(sandbox)) == 7
    assert there(sandbox) == names


def test_without_waiting_it_is_adopted_then_begun_again(sandbox: Sandbox, tmp_path: Path) -> None:
    fill(sandbox, "a", "b")
    sandbox.control.progress("held")
    line = ("batch", "archive:/", "scratch:/", a_list(tmp_path, "a", "b"), "--chunk", "1")
    first = run_json(sandbox, *line)["data"]
    assert run_json(sandbox, *line)["data"] == first
    assert first["outcome"] == "submitted"
    for task in accepted(sandbox):
        sandbox.control.progress("at-once", task["task_id"])
    while any(task["status"] == "ACTIVE" for task in accepted(sandbox)):
        time.sleep(0.05)
    again = run_json(sandbox, *line)["data"]
    assert {each["task_id"] for each in again["tasks"]}.isdisjoint(each["task_id"] for each in first["tasks"])


def test_waited_for_one_by_one_it_counts_as_reported(sandbox: Sandbox, tmp_path: Path) -> None:
    fill(sandbox, "a", "b")
    line = ("batch", "archive:/", "scratch:/", a_list(tmp_path, "a", "b"), "--chunk", "1")
    first = [task["task_id"] for task in run_json(sandbox, *line)["data"]["tasks"]]
    assert run(sandbox, "wait", *first, "--poll", "0.1s").returncode == 0
    assert len({*first, *(task["task_id"] for task in run_json(sandbox, *line)["data"]["tasks"])}) == 4


def test_what_comes_after_has_the_task_ids_and_the_receipt(sandbox: Sandbox, tmp_path: Path) -> None:
    fill(sandbox, "a", "b")
    line = (
        "batch",
        "archive:/",
        "scratch:/",
        a_list(tmp_path, "a", "b"),
        "--chunk",
        "1",
        "--key",
        "of/slashes",
        *QUICK,
    )
    then = f'echo "$GLOBUSWRAP_TASK_ID" > {tmp_path}/ids; cp "$GLOBUSWRAP_RECEIPT" {tmp_path}/receipt'
    done = run(sandbox, *line, "--then", then)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "ids").read_text().split() == done.stdout.split()
    assert json.loads((tmp_path / "receipt").read_text())["name"] == "of/slashes"


def test_once_repeats_what_was_recorded(sandbox: Sandbox, tmp_path: Path) -> None:
    fill(sandbox, "a", "b")
    line = ("batch", "archive:/", "scratch:/", a_list(tmp_path, "a", "b"), "--once", "--key", "night", *QUICK)
    first = run_json(sandbox, *line)["data"]
    before = len(sandbox.control.requests(path="/transfer"))
    assert run_json(sandbox, *line)["data"] == first
    assert len(sandbox.control.requests(path="/transfer")) == before
    other = ("batch", "archive:/", "scratch:/", a_list(tmp_path, "a"), "--key", "night")
    assert run_json(sandbox, *other, expect=2)["error"]["name"] == "key-taken"


def test_another_batch_under_an_unfinished_key_is_refused(sandbox: Sandbox, tmp_path: Path) -> None:
    fill(sandbox, "a", "b")
    sandbox.control.progress("held")
    line = ("batch", "archive:/", "scratch:/", "--key", "night")
    run_json(sandbox, *line, a_list(tmp_path, "a"))
    assert run_json(sandbox, *line, a_list(tmp_path, "b"), expect=2)["error"]["name"] == "key-taken"
    assert len(accepted(sandbox)) == 1


def test_one_bad_task_is_the_exit_code_of_all(sandbox: Sandbox, tmp_path: Path) -> None:
    fill(sandbox, "a", "b", "c")
    sandbox.control.fault(kind="fail", code="NO_SPACE_LEFT", count=1)
    receipt = tmp_path / "receipt.json"
    line = ("batch", "archive:/", "scratch:/", a_list(tmp_path, "a", "b", "c"), "--chunk", "1", *QUICK)
    envelope = run_json(sandbox, *line, "--receipt", str(receipt), expect=1)
    assert envelope["error"]["name"] == "task-failed"
    assert re.match(r"1 of 3 tasks: archive:/[abc]: NO_SPACE_LEFT", envelope["error"]["cause"])
    document = json.loads(receipt.read_text())
    assert sorted(task["outcome"] for task in document["tasks"]) == ["failed", "succeeded", "succeeded"]
    assert (document["outcome"], document["exit_code"], document["files_transferred"]) == ("failed", 1, 2)


def test_a_missing_source_stops_its_task_alone(sandbox: Sandbox, tmp_path: Path) -> None:
    fill(sandbox, "a", "c")
    line = ("batch", "archive:/", "scratch:/", a_list(tmp_path, "a", "b", "c"), "--chunk", "1", *QUICK)
    envelope = run_json(sandbox, *line, "--fault-grace", "0s", expect=5)
    assert "FILE_NOT_FOUND" in envelope["error"]["cause"]
    assert there(sandbox) == ["a", "c"]


def test_verification_compares_everything_again(sandbox: Sandbox, tmp_path: Path) -> None:
    fill(sandbox, "a", "b", "c")
    line = ("batch", "archive:/", "scratch:/", a_list(tmp_path, "a", "b", "c"), "--chunk", "2", "--poll", "0.1s")
    done = run_json(sandbox, *line, "--verify")["data"]["receipt"]
    report = done["verification"]
    assert (report["outcome"], report["files_expected"], report["files_same"], report["files_copied"]) == (
        "same",
        3,
        3,
        0,
    )
    tasks = accepted(sandbox)
    assert [task["options"].get("sync_level") for task in tasks] == [None, None, 3, 3]
    assert done["files_transferred"] == 3


def test_verification_finds_what_differs(sandbox: Sandbox, tmp_path: Path) -> None:
    fill(sandbox, "a", "b", "c")
    line = ("batch", "archive:/", "scratch:/", a_list(tmp_path, "a", "b", "c"))
    sandbox.control.progress("held")
    run_json(sandbox, *line, "--wait", "--timeout", "0s", expect=75)
    sandbox.control.progress("at-once", accepted(sandbox)[0]["task_id"])
    sandbox.control.progress("at-once")
    while accepted(sandbox)[0]["status"] == "ACTIVE":
        time.sleep(0.05)
    (sandbox.collection("scratch").path / "b").write_text("spoilt")
    envelope = run_json(sandbox, *line, "--verify", "--poll", "0.1s", expect=1)
    assert "1 files differed" in envelope["error"]["cause"]
    assert envelope["data"]["receipt"]["verification"]["outcome"] == "differs"


def test_each_task_has_a_key_of_its_own(sandbox: Sandbox, tmp_path: Path) -> None:
    fill(sandbox, "a", "b")
    line = ("batch", "archive:/", "scratch:/", a_list(tmp_path, "a", "b"), "--chunk", "1", "--key", "night")
    tasks = run(sandbox, *line).stdout.split()
    done = run_json(sandbox, "wait", "batch:night:1:1", "batch:night:1:2", "--poll", "0.1s")
    assert all(task in json.dumps(done["data"]) for task in tasks)


def test_without_a_login_nothing_is_begun(new_sandbox: Any, tmp_path: Path) -> None:
    sandbox = new_sandbox(login="none")
    envelope = run_json(sandbox, "batch", "archive:/", "scratch:/", a_list(tmp_path, "a"), expect=4)
    assert envelope["error"]["remedy"].startswith("globus login")
    assert accepted(sandbox) == []


@pytest.mark.slow
def test_a_lost_reply_is_one_task(sandbox: Sandbox, tmp_path: Path) -> None:
    fill(sandbox, "a")
    sandbox.control.fault(kind="drop-after", path="/transfer", count=8)  # more than the CLI itself tries again
    assert run(sandbox, "batch", "archive:/", "scratch:/", a_list(tmp_path, "a"), *QUICK).returncode == 0
    assert len(accepted(sandbox)) == 1
    assert len(sandbox.control.requests(path="/transfer", method="POST")) > 1


def test_every_document_is_as_promised(sandbox: Sandbox, tmp_path: Path) -> None:
    fill(sandbox, "a", "b")
    line = ("batch", "archive:/", "scratch:/", a_list(tmp_path, "a", "b"), "--label", "night", "--chunk", "1", *QUICK)
    assert run(sandbox, *line).returncode == 0
    issued = {each["id"] for each in sandbox.control.submissions()}
    for number, request in enumerate(sandbox.control.requests(path="/transfer", method="POST"), 1):
        body: Any = request["body"]
        body = json.loads(body) if isinstance(body, str) else body
        assert body["submission_id"] in issued
        assert body["skip_activation_check"] is True
        assert [body[f"notify_on_{event}"] for event in ("succeeded", "failed", "inactive")] == [False] * 3
        assert body["label"].startswith(f"night {number}/2 gw-")
        assert "recursive" not in body["DATA"][0]


def hostile_names(count: int) -> list[bytes]:
    """Names of every byte that one can hold: each byte alone and between others, shell's and JSON's favourites, UTF-8 of
    every length, what is almost UTF-8, and any bytes at all."""
    chance = random.Random(6)
    names = {bytes([byte]) for byte in range(1, 256)} | {b"x%cy" % byte for byte in range(1, 256)}
    names |= {name.encode() for name in HOSTILE_NAMES} | {
        b"\xc0\x80",
        b"\xed\xa0\x80",
        b"\xf5\x80\x80\x80",
        b"a\xe2\x80",
    }
    names |= {b"-r", b"--", b"#", b"'", b'"', b"\\", b"a b", b"\xef\xbb\xbfbom", "\ufffdmark".encode(), b"n\xc3\xa9e"}
    words = [
        b" ",
        b"'",
        b'"',
        b"\\",
        b"$(x)",
        b"`",
        b"\n",
        b"\r",
        b"\t",
        b"#",
        b"-",
        b"%j",
        b"*",
        b"\xe2\x80\xa8",
        b"\x1b[0m",
    ]
    while len(names) < count:
        kind = chance.randrange(3)
        if kind == 0:
            name = b"".join(chance.choice(words) for _ in range(chance.randint(1, 8)))
        elif kind == 1:
            name = "".join(
                chr(chance.choice([chance.randint(1, 0xD7FF), chance.randint(0xE000, 0x10FFFF)])) for _ in range(5)
            ).encode()
        else:
            name = bytes(chance.randint(1, 255) for _ in range(chance.randint(1, 60)))
        names.add(name)
    return sorted(name for name in names if b"/" not in name and name not in (b".", b".."))


@pytest.mark.slow
def test_five_thousand_hostile_names_arrive_or_are_refused_by_name(sandbox: Sandbox, tmp_path: Path) -> None:
    names = hostile_names(5300)
    assert len(names) >= 5000 and {byte for name in names for byte in name} == {*range(1, 256)} - {ord("/")}
    top = os.fsencode(sandbox.collection("archive").path)
    for number, name in enumerate(names):
        with open(os.path.join(top, name), "wb") as file:
            file.write(b"%d" % number)
    sendable = [name for name in names if takes(name)]
    (tmp_path / "list").write_bytes(b"".join(name + b"\0" for name in names))
    line = ("batch", "archive:/", "scratch:/", str(tmp_path / "list"), "--null", "--poll", "0.1s")

    refused = run_json(sandbox, *line, expect=2)["error"]
    assert refused["name"] == "unsendable-names"
    assert refused["cause"].startswith(f"{len(names) - len(sendable)} names that Globus cannot handle: ")
    listed = refused["detail"].splitlines()
    assert sorted(listed) == sorted(parse.shown(name) for name in names if not takes(name))
    assert accepted(sandbox) == []

    done = run(sandbox, *line, "--skip-unsendable", "--verify", timeout=240)
    assert done.returncode == 0, done.stderr
    into = os.fsencode(sandbox.collection("scratch").path)
    assert sorted(os.listdir(into)) == sendable
    for number, name in enumerate(names):
        if takes(name):
            with open(os.path.join(into, name), "rb") as file:
                assert file.read() == b"%d" % number


def takes(name: bytes) -> bool:
    """Can Globus take it? Not by its documentation what is not UTF-8, CR LF, and in the top directory `~`."""
    if b"\r\n" in name or name == b"~":
        return False
    try:
        name.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def killed_and_run_again(sandbox: Sandbox, tmp_path: Path, kills: int, seed: int) -> int:
    """A batch of 20 tasks, its process group killed at random moments until so many kills hit, then run to its end."""
    chance = random.Random(seed)
    names = [f"f{number:02}" for number in range(40)]
    fill(sandbox, *names)
    listed = a_list(tmp_path, *names)
    argv = [str(LAUNCHER), "batch", "archive:/", "scratch:/", listed, "--chunk", "2", "--in-flight", "4", *QUICK]
    started = time.monotonic()
    assert run(sandbox, "batch", "--help").returncode == 0
    unit = time.monotonic() - started
    hit = 0
    for _ in range(kills):
        process_ = subprocess.Popen(
            argv,
            env=process.child_environment(sandbox.env),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        try:
            process_.wait(chance.uniform(1, 6) * unit)
            break
        except subprocess.TimeoutExpired:
            # The whole group, or globuswrap alone: then the globus that it has started goes on.
            chance.choice((os.killpg, os.kill))(process_.pid, signal.SIGKILL)
            process_.wait()
            hit += 1
    done = sandbox.run(argv, timeout=300)
    assert done.returncode == 0, done.stderr
    tasks = accepted(sandbox)
    sent = [tuple(item["source_path"] for item in task["items"]) for task in tasks]
    assert sorted(sent) == [(f"/f{number:02}", f"/f{number + 1:02}") for number in range(0, 40, 2)]
    assert there(sandbox) == names
    assert len(done.stdout.split()) == 20
    return hit


@pytest.mark.slow
def test_two_at_once_are_one_batch(sandbox: Sandbox, tmp_path: Path) -> None:
    names = [f"f{number}" for number in range(6)]
    fill(sandbox, *names)
    line = ["batch", "archive:/", "scratch:/", a_list(tmp_path, *names), "--chunk", "1", "--in-flight", "2", *QUICK]
    with ThreadPoolExecutor() as pool:
        done = [each.result() for each in [pool.submit(run, sandbox, *line, timeout=240) for _ in range(2)]]
    assert [each.returncode for each in done] == [0, 0], [each.stderr for each in done]
    assert done[0].stdout == done[1].stdout
    assert len(accepted(sandbox)) == 6


@pytest.mark.slow
def test_killed_again_and_again_each_task_is_one(sandbox: Sandbox, tmp_path: Path) -> None:
    assert killed_and_run_again(sandbox, tmp_path, 10, 1) > 0


@pytest.mark.chaos
@pytest.mark.timeout(2400)
def test_fifty_kills_each_task_is_one(sandbox: Sandbox, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    hits = 0
    batches = 0
    while hits < 50:
        batches += 1
        for path in sandbox.collection("scratch").path.iterdir():
            path.unlink()
        state = sandbox.home / ".local" / "state" / "globuswrap"
        if state.exists():
            state.rename(tmp_path / f"state-{batches}")
        sandbox.control.reset()
        hits += killed_and_run_again(sandbox, tmp_path, 12, 100 + batches)
    with capsys.disabled():
        print(f"\n{hits} kills in {batches} batches of 20 tasks: each task once")
