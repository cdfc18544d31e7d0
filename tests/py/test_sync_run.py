"""`sync run` against the sandbox, with the real globus."""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from globuswrap.cli.sandbox import Sandbox
from globuswrap.collections.address import Address
from globuswrap.syncs import settle
from globuswrap.syncs.profile import Profile
from globuswrap.syncs.state import State, Task
from globuswrap.transfers.outcome import Outcome
from support import HOSTILE_NAMES
from sync_support import GLOBUS, Beam

pytestmark = [pytest.mark.usefixtures("globus_loaded")]


@pytest.fixture
def beam(sandbox: Sandbox) -> Beam:
    return Beam(sandbox)


def test_only_what_changed_is_sent_and_nothing_is_asked_when_nothing_has(beam: Beam) -> None:
    for name in ("a", "sub/b", "sub/deep/c"):
        beam.write(name)
    beam.quiet()
    beam.quiet()
    beam.same()
    (first,) = beam.tasks()
    assert {item["source_path"] for item in first["items"]} == {"/data/a", "/data/sub/b", "/data/sub/deep/c"}
    asked = len(beam.box.control.requests())
    beam.quiet()
    assert len(beam.box.control.requests()) == asked

    beam.write("sub/b", "changed", age=50)
    beam.write("new")
    beam.quiet("--wait")
    beam.same()
    assert {item["source_path"] for item in beam.tasks()[-1]["items"]} == {"/data/sub/b", "/data/new"}
    beam.quiet()
    assert len(beam.tasks()) == 2


def test_hostile_names_arrive(beam: Beam) -> None:
    for name in HOSTILE_NAMES:
        beam.write(name, name)
        beam.write(f"in {name}/{name}", name)
        (beam.source / f"empty {name}").mkdir()
    beam.quiet("--wait")
    beam.same()
    asked = len(beam.box.control.requests())
    beam.quiet()
    assert len(beam.box.control.requests()) == asked


def test_dry_run_shows_and_changes_nothing(beam: Beam) -> None:
    beam.write("a", "12345")
    beam.write("b")
    done = beam.run("--dry-run")
    assert done.stdout == "send a\nsend b\nto send: 2 (6 B), to delete: 0, still changing: 0, for the next run: 0\n"
    assert beam.box.control.requests() == []
    assert not (beam.box.home / ".local" / "state" / "globuswrap").exists()


def test_unfinished_is_75_and_a_line_only_with_v(beam: Beam) -> None:
    beam.box.control.progress("held")
    beam.write("a")
    beam.quiet()
    beam.quiet(code=75)
    done = beam.run("-v", code=75)
    assert "not finished: 1 tasks of the last run" in done.stderr
    beam.box.control.progress("at-once")
    beam.settle()
    beam.same()
    assert len(beam.tasks()) == 1


def test_a_failed_task_loses_nothing_and_is_sent_again_with_checksums(beam: Beam) -> None:
    beam.write("ok")
    beam.quiet("--wait")
    beam.write("a")
    beam.write("sub/b")
    beam.box.control.fault(kind="fail", code="ENDPOINT_ERROR")
    done = beam.run("--wait", code=1)
    assert "task-failed" in done.stderr and done.stderr.count("\n") == 2
    beam.write("later")
    beam.quiet("--wait")
    beam.same()
    by_level = {task["sync_level"]: {item["source_path"] for item in task["items"]} for task in beam.tasks()[2:]}
    assert by_level == {None: {"/data/later"}, 3: {"/data/a", "/data/sub/b"}}
    beam.write("a", "more", age=10)
    beam.quiet("--wait")
    assert beam.tasks()[-1]["sync_level"] is None
    beam.same()


def test_a_failure_is_told_by_the_next_run_which_also_sends_again(beam: Beam) -> None:
    beam.write("a")
    beam.box.control.fault(kind="fail", code="ENDPOINT_ERROR")
    beam.quiet()
    assert "task-failed" in beam.run(code=1).stderr
    beam.quiet()
    beam.same()
    assert [task["status"] for task in beam.tasks()] == ["FAILED", "SUCCEEDED"]


def test_a_canceled_task_is_5_and_sent_again(beam: Beam) -> None:
    beam.box.control.progress("held")
    beam.write("a")
    beam.quiet()
    beam.box.run([GLOBUS, "task", "cancel", beam.tasks()[0]["task_id"]])
    beam.box.control.progress("at-once")
    assert "task-canceled" in beam.run(code=5).stderr
    beam.settle()
    beam.same()


def test_skipped_files_are_not_taken_for_transferred(beam: Beam) -> None:
    for name in ("good", "bad", "sub/good", "sub/bad"):
        beam.write(name)
    key = beam.box.control.fault(kind="file", files="*bad", code="PERMISSION_DENIED")
    done = beam.run("--wait")
    assert "files-skipped" in done.stderr
    beam.box.control.clear_faults(key)
    assert beam.run("--wait", "--strict").returncode == 0
    beam.same()
    assert {item["source_path"] for item in beam.tasks()[-1]["items"]} == {"/data/bad", "/data/sub/bad"}


def test_skips_under_strict_are_6(beam: Beam) -> None:
    beam.write("bad")
    beam.write("good")
    beam.box.control.fault(kind="file", files="*bad", code="PERMISSION_DENIED")
    beam.run("--wait", "--strict", code=6)


def test_skips_that_cannot_be_read_commit_nothing(beam: Beam) -> None:
    beam.write("good")
    beam.write("bad")
    key = beam.box.control.fault(kind="file", files="*bad", code="PERMISSION_DENIED")
    beam.quiet()
    beam.box.control.fault(kind="not-found", path="*/skipped_errors", count=1)
    assert "skips-unreadable" in beam.run(code=1).stderr
    beam.box.control.clear_faults(key)
    beam.settle()
    beam.same()
    assert {item["source_path"] for item in beam.tasks()[1]["items"]} == {"/data/good", "/data/bad"}


@pytest.mark.parametrize(
    ("skipped", "errors", "found"),
    [
        ([{"source": "/data/sub/bad"}], 1, {b"sub/bad"}),
        ([{"source": "/data/bad"}], 2, None),  # one is missing from the list
        ([{"source": "/elsewhere/bad"}], 1, None),
        ([], None, None),  # only an event told of them
        ([], 0, None),
        (None, 1, None),
    ],
)
def test_which_files_were_skipped_must_be_known_in_full(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    skipped: list[dict[str, str]] | None,
    errors: int | None,
    found: set[bytes] | None,
) -> None:
    """Else nothing of the task counts as being at the destination."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    place = Address("11111111-1111-4111-8111-111111111111", "/data/")
    profile = Profile("x", place, place, local_root="/data")
    receipt = {"skipped": skipped, "skipped_errors": errors}
    ended = Outcome("t", "succeeded-with-skips", 0, "", receipt=receipt)
    assert settle._skipped(profile, Task(1, "transfer", 2), ended) == found


def test_a_task_that_vanished_does_not_wedge(beam: Beam) -> None:
    beam.write("a")
    beam.quiet()
    beam.box.control.forget_task(beam.tasks()[0]["task_id"])
    beam.run(code=75)  # one answer that it is not found is not the end of a task
    assert "task-gone" in beam.run("--wait", "--poll", "0.1s", "--fault-grace", "0s", code=1).stderr
    beam.settle()
    beam.same()


def test_a_file_replaced_by_an_older_one_of_the_same_size_is_sent(beam: Beam) -> None:
    beam.write("a", "new!", age=100)
    beam.quiet("--wait")
    beam.write("a", "old!", age=100_000)
    beam.quiet("--wait")
    beam.same()


def test_the_service_alone_misses_an_older_file_of_the_same_size_as_the_docs_say(beam: Beam) -> None:
    beam.set(local_root=None, settle=None)
    beam.write("a", "new!", age=100)
    beam.quiet("--wait")
    beam.write("a", "old!", age=100_000)
    beam.quiet("--wait")
    assert beam.there() == {b"a": b"new!"}
    beam.set(sync_level="checksum")
    beam.quiet("--wait")
    beam.same()


def test_a_clock_set_back_loses_nothing(beam: Beam) -> None:
    beam.set(settle="10s")
    beam.write("now", age=100)
    beam.write("ahead", age=-3600)  # written before the clock went back an hour
    beam.quiet("--wait")
    beam.same()
    beam.write("ahead", "again", age=-1800)
    beam.write("now", "again", age=7200)  # a later write under an earlier time
    beam.quiet("--wait")
    beam.same()


def test_a_file_that_still_grows_waits(beam: Beam) -> None:
    beam.set(settle="1h")
    beam.write("fresh", age=100)
    beam.write("a bit ahead", age=-1000)
    beam.write("old", age=7200)
    beam.quiet("--wait")
    assert beam.there() == {b"old": b"x"}
    beam.set(settle="1m")
    beam.write("a bit ahead", age=-30)
    beam.quiet("--wait")
    assert beam.there() == {b"old": b"x", b"fresh": b"x"}


def test_empty_directories_are_made(beam: Beam) -> None:
    (beam.source / "empty" / "inner").mkdir(parents=True)
    (beam.source / "other").mkdir()
    beam.quiet("--wait")
    beam.same()
    beam.quiet()
    assert len(beam.tasks()) == 1


def test_links_are_kept_or_followed(beam: Beam) -> None:
    beam.write("real/file", "12345")
    (beam.source / "link").symlink_to("real/file")
    (beam.source / "nowhere").symlink_to("absent")
    (beam.source / "directory").symlink_to("real")
    beam.quiet("--wait")
    assert beam.there() == {b"real/file": b"12345"}
    beam.set(symlinks="keep")
    beam.quiet("--wait")
    beam.same()
    beam.quiet()
    assert len(beam.tasks()) == 2


def test_followed_links_and_a_dangling_one(beam: Beam) -> None:
    beam.set(symlinks="follow")
    beam.write("real/file", "12345")
    (beam.source / "link").symlink_to("real/file")
    (beam.source / "directory").symlink_to("real")
    beam.quiet("--wait")
    assert beam.there() == {b"real/file": b"12345", b"link": b"12345", b"directory/file": b"12345"}
    (beam.source / "nowhere").symlink_to("absent")
    beam.write("new")
    done = beam.run("--wait", code=1)
    assert "source-partly-unreadable" in done.stderr and "'nowhere'" in done.stderr
    assert b"new" in beam.there()


def test_links_can_be_an_error(beam: Beam) -> None:
    beam.set(symlinks="error")
    beam.write("a")
    (beam.source / "link").symlink_to("a")
    done = beam.run("--wait", code=1)
    assert "symbolic-links" in done.stderr
    assert beam.there() == {b"a": b"x"}


def test_names_that_are_not_utf8_are_refused_by_name_and_the_rest_is_sent(beam: Beam) -> None:
    beam.write("good")
    beam.write(b"caf\xe9")
    beam.write(b"dir \xff/inside")
    beam.write("ends\r\nthe command")
    done = beam.run("--wait", code=1)
    assert "unsendable-names" in done.stderr and r"caf\xe9" in done.stderr
    assert beam.there() == {b"good": b"x"}
    beam.set(skip_unsendable=True)
    beam.quiet()


def test_max_bytes_sends_the_rest_next_time(beam: Beam) -> None:
    beam.set(max_bytes=100)
    for number in range(5):
        beam.write(f"f{number}", "x" * 40)
    beam.write("larger than all", "x" * 500)
    beam.quiet("--wait")
    assert sorted(beam.there()) == [b"f0", b"f1"]
    beam.settle()
    beam.same()


def test_filters(beam: Beam) -> None:
    beam.set(include=["keep.tmp"], exclude=["*.tmp", "cache/"])
    for name in ("a", "b.tmp", "keep.tmp", "cache/c", "sub/cache/d", "sub/e.tmp"):
        beam.write(name)
    beam.quiet("--wait")
    assert sorted(beam.there()) == [b"a", b"keep.tmp"]


def test_two_profiles_on_one_tree(beam: Beam, sandbox: Sandbox) -> None:
    beam.write("a")
    beam.quiet("--wait")
    other = Beam(sandbox, name="other", destination="scratch:/mirror/")
    other.quiet("--wait")
    beam.quiet()
    assert (sandbox.collection("scratch").path / "mirror" / "a").exists()
    assert len(beam.tasks()) == 2


def test_a_profile_in_options_alone(sandbox: Sandbox, beam: Beam) -> None:
    beam.write("a b")
    beam.write("c.tmp")
    argv = beam.command("run")[:-1]
    argv += ["--source", "archive:/data/", "--destination", "results:/copy/", "--local-root", str(beam.source)]
    done = sandbox.run([*argv, "--settle", "0", "--exclude", "*.tmp", "--wait"])
    assert (done.returncode, done.stderr) == (0, "")
    assert beam.there() == {b"a b": b"x"}


def test_a_receipt_and_a_command_after_it(beam: Beam) -> None:
    beam.write("a")
    receipt = beam.box.base / "receipt.json"
    beam.quiet("--wait", "--receipt", str(receipt), "--then", f"cp \"$GLOBUSWRAP_RECEIPT\" '{beam.box.base}/copy.json'")
    assert receipt.read_text() == (beam.box.base / "copy.json").read_text()


def test_login_is_told_once_and_nothing_is_lost(beam: Beam) -> None:
    beam.write("a")
    beam.box.set_login("none")
    done = beam.run(code=4)
    assert "globus login" in done.stderr
    beam.box.set_login("user")
    beam.settle()
    beam.same()


def test_a_refused_submission_does_not_wedge(beam: Beam) -> None:
    beam.write("a")
    key = beam.box.control.fault(
        kind="status",
        status=403,
        path="/transfer",
        method="POST",
        count=100,
        body={"code": "PermissionDenied", "message": "no"},
    )
    beam.run(code=1)
    beam.box.control.clear_faults(key)
    beam.settle()
    beam.same()


def test_a_lost_reply_makes_no_second_task(beam: Beam) -> None:
    beam.write("a")
    key = beam.box.control.fault(kind="drop-after", path="/transfer", method="POST", count=1000)
    beam.run("--retry-for", "0", code=75)
    beam.box.control.clear_faults(key)
    beam.settle()
    beam.same()
    assert len(beam.tasks()) == 1


def test_the_service_way_uses_checksums_after_a_failure(beam: Beam) -> None:
    beam.set(local_root=None, settle=None)
    beam.write("a")
    beam.box.control.fault(kind="fail", code="ENDPOINT_ERROR")
    beam.run("--wait", code=1)
    beam.quiet("--wait")
    beam.quiet("--wait")
    assert [task["sync_level"] for task in beam.tasks()] == [2, 3, 2]
    beam.same()


def test_a_profile_edited_while_the_reply_is_lost_does_not_wedge(beam: Beam) -> None:
    beam.set(local_root=None, settle=None)
    beam.write("a")
    beam.box.control.fault(kind="drop-after", path="/transfer", count=1000)
    beam.run("--retry-for", "0s", code=75)
    beam.box.control.clear_faults()
    beam.set(encrypt_data=True)
    beam.quiet("--wait")
    assert len(beam.tasks()) == 2  # the one whose reply was lost, and what is asked for now
    beam.same()


def test_without_local_root_nothing_local_can_be_asked_for(beam: Beam) -> None:
    for key, value in {"delete": True, "max-bytes": "1G", "symlinks": "keep", "settle": "5s"}.items():
        beam.set(local_root=None, **{"settle": None, key: value})
        assert "needs local-root" in beam.run(code=2).stderr
        beam.set(**{key: None})


def test_a_directory_turned_into_a_file_without_deletion_waits_and_is_not_lost(beam: Beam) -> None:
    beam.write("thing/a")
    beam.write("else")
    beam.quiet("--wait")
    shutil.rmtree(beam.source / "thing")
    beam.write("thing", "now a file")
    beam.write("new")
    for _ in range(2):
        done = beam.run("--wait", code=1)
        assert "kind-changed" in done.stderr and "--forget" in done.stderr
    assert beam.there() == {b"thing/a": b"x", b"else": b"x", b"new": b"x"}
    shutil.rmtree(beam.copy / "thing")
    assert beam.sync("baseline", "--forget", "--path", "thing").returncode == 0
    beam.quiet("--wait")
    beam.same()


# Baseline, check, list.


def test_baseline_records_without_sending(beam: Beam) -> None:
    beam.write("old", age=10_000)
    beam.write("new", age=100)
    beam.write("sub/old", age=10_000)
    shown = beam.sync("baseline", "--until", "-1h", "--dry-run").stdout
    assert shown == "old\nsub/old\n2 would be recorded as transferred\n"
    assert beam.sync("baseline", "--until", "-1h").stdout == "2 recorded as transferred\n"
    beam.quiet("--wait")
    assert beam.there() == {b"new": b"x"}
    assert beam.sync("baseline", "--forget", "--path", "sub").stdout == "1 forgotten\n"
    beam.quiet("--wait")
    assert beam.there() == {b"new": b"x", b"sub/old": b"x"}


def test_baseline_of_a_subtree(beam: Beam) -> None:
    for name in ("a", "sub/b", "subtle/c"):
        beam.write(name)
    assert beam.sync("baseline", "--path", "sub/").returncode == 0
    beam.quiet("--wait")
    assert beam.there() == {b"a": b"x", b"subtle/c": b"x"}


def test_baseline_waits_for_the_last_run(beam: Beam) -> None:
    beam.box.control.progress("held")
    beam.write("a")
    beam.quiet()
    assert beam.sync("baseline").returncode == 75


def test_a_damaged_manifest_is_told_and_sends_nothing(beam: Beam) -> None:
    beam.write("a")
    beam.quiet("--wait")
    path = beam.state() / "manifest.gz"
    path.write_bytes(path.read_bytes()[:-6])
    done = beam.run(code=1)
    assert "manifest-damaged" in done.stderr and "baseline" in done.stderr
    assert len(beam.tasks()) == 1
    path.unlink()
    assert beam.sync("baseline").returncode == 0
    beam.quiet()


def test_a_damaged_run_record_is_told_with_what_to_do(beam: Beam) -> None:
    beam.write("a")
    beam.quiet()
    (beam.state() / "runs" / "000001" / "run.json").write_text("{")
    done = beam.run(code=1)
    assert "run-damaged" in done.stderr and "settled" in done.stderr
    (beam.state() / "runs" / "000001" / "settled").touch()
    beam.settle()
    beam.same()


def test_doctor_of_a_profile_that_works(beam: Beam) -> None:
    beam.write("a")
    done = beam.doctor()
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.startswith("all is well") and "the same tree" in done.stderr


@pytest.mark.parametrize(
    ("change", "said", "code"),
    [
        ({"local_root": "/nonexistent"}, "local-root /nonexistent: No such file or directory  [source-unreadable]", 1),
        ({"source": "archive:/absent/"}, "archive:/absent/ does not exist  [source-missing]", 2),
        ({"source": "archive:/"}, "is not at archive:/a, or differs there  [source-differs]", 1),
        ({"delete": True, "check-file": "mounted"}, "check-file mounted is not at the source", 1),
        ({"destination": "results:/file"}, "results:/file/ is a file, not a directory  [destination-not-directory]", 2),
        ({"source": "archive:/data/a"}, "archive:/data/a/ is a file, not a directory  [source-not-directory]", 2),
    ],
)
def test_doctor_finds_what_is_wrong_with_a_profile(beam: Beam, change: dict[str, object], said: str, code: int) -> None:
    beam.write("a")
    (beam.box.collection("results").path / "file").write_text("x")
    beam.set(**change)
    done = beam.doctor()
    assert said in done.stdout and done.returncode == code, done.stdout + done.stderr


def test_list_shows_the_last_run(beam: Beam) -> None:
    assert "never" in beam.box.run(beam.command("list")[:-1]).stdout
    beam.write("a")
    beam.quiet("--wait")
    shown = beam.box.run(beam.command("list")[:-1]).stdout
    assert "beam" in shown and "finished (0)" in shown


def test_the_log_is_rotated(beam: Beam) -> None:
    beam.write("a")
    beam.quiet("--wait")
    log: Path = beam.state() / "log"
    for _ in range(6):
        log.write_text("x" * 1_000_001)
        beam.quiet()
    assert sorted(path.name for path in beam.state().glob("log*")) == ["log", "log.1", "log.2", "log.3", "log.4"]
    assert "nothing new" in log.read_text()


def test_state_is_private(beam: Beam) -> None:
    beam.write("a")
    beam.quiet("--wait")
    for path in [beam.state(), *beam.state().rglob("*")]:
        assert path.stat().st_mode & 0o077 == 0, path


def test_json(beam: Beam) -> None:
    import json

    beam.write("a")
    document = json.loads(beam.run("--wait", "--json").stdout)
    assert document["data"]["outcome"] == "finished" and document["data"]["plan"]["sent"] == 1


Runs = Callable[..., Sandbox]


def test_globus_outside_the_path_and_an_empty_environment(beam: Beam) -> None:
    import sys

    beam.write("a")
    keep = {name: value for name, value in beam.box.env.items() if value and name.startswith(("GLOBUS_SDK", "HOME"))}
    env = ["/usr/bin/env", "-i", *(f"{name}={value}" for name, value in keep.items())]
    env += ["PATH=/usr/bin:/bin", f"GLOBUSWRAP_GLOBUS={Path(sys.executable).parent / 'globus'}"]
    from support import LAUNCHER

    done = beam.box.run([*env, str(LAUNCHER), "sync", "run", "beam", "--wait"])
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    beam.same()


def test_a_dead_holder_on_another_host_does_not_keep_the_lease(beam: Beam) -> None:
    import dataclasses
    import json
    import os

    from globuswrap.system import locks

    beam.write("a")
    beam.quiet("--wait")
    beam.write("b")
    lease = beam.state() / "lease"
    holder = dataclasses.replace(locks.this_process(900.0), host="other.example.org", boot="another")
    lease.write_text(json.dumps(dataclasses.asdict(holder)))
    assert "lease is held by process" in beam.run("-v", code=75).stderr
    os.utime(lease, (0, 0))
    beam.quiet("--wait")
    beam.same()


def test_two_that_both_believe_to_hold_the_lease_begin_one_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    place = Address("11111111-1111-4111-8111-111111111111", "/data/")
    state = State(Profile("x", place, place.joined("copy"), local_root="/data").directory).make()
    one, other = state.draft(), state.draft()
    for draft in (one, other):
        draft.tasks.append(Task(1, "transfer", 1))
    monkeypatch.setattr(state, "numbers", lambda: [])  # both look before either begins
    assert state.begin(one) is not None
    assert state.begin(other) is None
    monkeypatch.undo()
    current = state.current()
    assert current is not None and current.id == one.id


def test_five_thousand_names_of_every_kind_of_byte_arrive_or_are_refused_by_name(beam: Beam) -> None:
    chance = random.Random(2018)
    names = {bytes([byte]) + b"x" for byte in range(1, 256) if byte != ord("/")}
    while len(names) < 5000:
        kind = chance.randrange(3)
        if kind == 0:
            name = bytes(chance.choice([*range(1, 47), *range(48, 128)]) for _ in range(chance.randrange(1, 12)))
        elif kind == 1:
            name = "".join(
                chr(chance.choice([*range(0x80, 0x300), 0x2028, 0x1F600, 0xFFFD])) for _ in range(6)
            ).encode()
        else:
            name = bytes(chance.choice([*range(1, 47), *range(48, 256)]) for _ in range(chance.randrange(1, 12)))
        if name not in (b".", b".."):
            names.add(name)
    root = os.fsencode(beam.source)
    for number, name in enumerate(sorted(names)):
        directory = root + b"/d%d" % (number % 7)
        os.makedirs(directory, exist_ok=True)
        with open(directory + b"/" + name, "wb") as file:
            file.write(name)
    done = beam.run("--wait", code=1)

    def sendable(path: bytes) -> bool:
        try:
            path.decode()
        except UnicodeDecodeError:
            return False
        return b"\r\n" not in path

    here = beam.here()
    assert len(here) == 5000
    assert beam.there() == {path: content for path, content in here.items() if sendable(path)}
    refused = sum(not sendable(path) for path in here)
    assert f"{refused} names that Globus cannot handle" in done.stderr and refused > 1000
    beam.set(skip_unsendable=True)
    beam.quiet()
    assert len(beam.tasks()) == 1
