"""What a sync deletes at the destination, against the sandbox, with the real globus: only what is gone and what it sent."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys

import pytest

from globuswrap.cli.sandbox import Sandbox
from support import LAUNCHER, REPOSITORY
from sync_support import Beam

pytestmark = [pytest.mark.usefixtures("globus_loaded")]


@pytest.fixture
def mirror(sandbox: Sandbox) -> Beam:
    """Eleven files, all at the destination, and a profile that deletes."""
    beam = Beam(sandbox, delete=True, check_file=".mounted", max_delete="50%")
    beam.write(".mounted")
    for number in range(10):
        beam.write(f"d{number % 2}/f{number}")
    beam.quiet("--wait")
    beam.same()
    return beam


def nothing_deleted(beam: Beam, *, because: str, sent: bytes | None = None) -> None:
    before = beam.there().keys()
    done = beam.run("--wait", code=1)
    assert "nothing-deleted" in done.stderr and because in done.stderr, done.stderr
    assert beam.there().keys() - {sent} == before - {sent} and not beam.tasks("DELETE")


def test_gone_files_are_deleted_by_name_and_shown_before(mirror: Beam) -> None:
    (mirror.source / "d0" / "f0").unlink()
    (mirror.source / "d1" / "f1").unlink()
    (mirror.copy / "d0" / "not ours").write_text("x")
    shown = mirror.run("--dry-run").stdout
    assert "delete d0/f0\ndelete d1/f1\n" in shown and "to delete: 2" in shown
    assert not (mirror.box.home / ".local" / "state" / "globuswrap" / "deletions").exists()
    mirror.quiet("--wait")
    assert mirror.there().keys() - mirror.here().keys() == {b"d0/not ours"}
    (task,) = mirror.tasks("DELETE")
    assert [item["source_path"] for item in task["items"]] == ["/copy/d0/f0", "/copy/d1/f1"]
    assert task["deadline"] is not None
    mirror.quiet()
    assert len(mirror.tasks()) == 2
    assert list((mirror.box.home / ".local" / "state" / "globuswrap" / "deletions").iterdir()) == []


def test_without_delete_gone_files_stay_and_are_remembered(mirror: Beam) -> None:
    mirror.set(delete=False)
    (mirror.source / "d0" / "f0").unlink()
    mirror.quiet("--wait")
    assert b"d0/f0" in mirror.there() and not mirror.tasks("DELETE")
    mirror.set(delete=True)
    mirror.quiet("--wait")
    mirror.same()


def test_no_more_is_deleted_than_allowed_and_new_files_go_all_the_same(mirror: Beam) -> None:
    for number in range(6):
        (mirror.source / f"d{number % 2}" / f"f{number}").unlink()
    mirror.write("new")
    done = mirror.run("--wait", code=1)
    assert "6 of 11 files are gone, more than max-delete 50%" in done.stderr and "--max-delete 6" in done.stderr
    assert not mirror.tasks("DELETE") and b"new" in mirror.there()
    mirror.quiet("--wait", "--max-delete", "6")
    mirror.same()


def test_nothing_is_deleted_after_a_scan_with_errors(mirror: Beam) -> None:
    (mirror.source / "d0" / "f0").unlink()
    (mirror.source / "loop").symlink_to("loop")
    mirror.set(symlinks="follow")
    nothing_deleted(mirror, because="1 path could not be read")


def test_a_file_left_out_by_a_new_rule_is_not_deleted(mirror: Beam) -> None:
    mirror.set(exclude=["f0"])
    mirror.quiet("--wait")
    assert b"d0/f0" in mirror.there()


# A source that cannot be seen.


def test_a_missing_check_file_fails_run_and_doctor_without_delete_too(sandbox: Sandbox) -> None:
    beam = Beam(sandbox, check_file=".mounted")
    beam.write("a")
    for done in (beam.sync("run"), beam.sync("run", "--dry-run"), beam.doctor()):
        assert done.returncode == 1 and "check-file-missing" in done.stdout + done.stderr, done.args
    assert beam.tasks() == []
    beam.write(".mounted")
    beam.quiet("--wait")
    beam.same()


def test_a_check_file_that_is_a_directory_is_refused(sandbox: Sandbox) -> None:
    beam = Beam(sandbox, check_file="sub")
    beam.write("sub/a")
    for done in (beam.sync("run"), beam.doctor()):
        assert done.returncode == 2 and "is not a regular file" in done.stdout + done.stderr, done.args
    assert beam.tasks() == []


def test_a_source_that_lost_all_its_files_fails_run_and_doctor_unless_that_is_meant(sandbox: Sandbox) -> None:
    beam = Beam(sandbox)
    beam.write("d/a")
    beam.quiet("--wait")
    (beam.source / "d" / "a").unlink()
    for done in (beam.sync("run"), beam.doctor()):
        assert done.returncode == 1 and "source-empty" in done.stdout + done.stderr, done.args
    beam.quiet("--allow-empty")
    assert beam.there() == {b"d/a": b"x"}


@pytest.mark.parametrize("symlinks", ["skip", "keep", "follow"])
def test_a_directory_moved_to_a_disk_that_is_not_mounted_is_not_taken_for_deleted(mirror: Beam, symlinks: str) -> None:
    """Only a link is left of it, and the link leads nowhere."""
    disk = mirror.box.base / "disk"
    disk.mkdir()
    mirror.set(symlinks=symlinks)
    shutil.move(str(mirror.source / "d0"), disk / "d0")
    (mirror.source / "d0").symlink_to(disk / "d0")
    disk.rename(mirror.box.base / "unmounted")
    before = mirror.there()
    for options in ((), ("--dry-run",)):
        done = mirror.sync("run", "--wait", *options)
        said = done.stdout + done.stderr
        assert "d0 is a symbolic link now" in said or "symbolic link leads nowhere" in said, said
        assert done.returncode == (1 if not options else done.returncode)
    assert mirror.there() == before and not mirror.tasks("DELETE")


def test_an_emptied_directory_is_not_taken_for_deleted_until_a_person_says_so(mirror: Beam) -> None:
    for path in (mirror.source / "d0").iterdir():
        path.unlink()
    nothing_deleted(mirror, because="d0 is empty now")
    nothing_deleted(mirror, because="--max-delete 5")  # the profile's own 50% is no confirmation
    mirror.quiet("--wait", "--max-delete", "5")
    assert not [path for path in mirror.there() if path.startswith(b"d0/f")]


def test_a_file_in_an_emptied_directory_shows_that_it_is_mounted(mirror: Beam) -> None:
    for path in (mirror.source / "d0").iterdir():
        path.unlink()
    mirror.write("d0/.mounted")
    mirror.quiet("--wait")
    mirror.same()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount")
def test_an_unmounted_file_system_inside_the_tree_is_not_taken_for_deleted(mirror: Beam) -> None:
    """Also if the directory that it is mounted on holds a file of its own."""
    where, there = mirror.source / "disk", mirror.copy / "disk" / "a"
    mirror.write("disk/README", "not mounted")
    there.parent.mkdir()
    there.write_text("x")
    os.utime(there, (1e6, 1e6))
    script = f'mount -t tmpfs none "{where}" && printf x >"{where}/a" && touch -d @1000000 "{where}/a" && exec "$@"'
    command = ["unshare", "--mount", "--propagation", "private", "sh", "-c", script, "sh", *mirror.command("baseline")]
    done = mirror.box.run(command, env={"PYTHONPATH": str(LAUNCHER.parents[1] / "lib")})
    if done.returncode and ("unshare:" in done.stderr or "mount:" in done.stderr):
        pytest.skip(f"no mount namespaces here: {done.stderr}")
    assert done.stdout == "1 recorded as transferred\n", done.stderr
    for _ in range(2):  # it is remembered for as long as something of it is missing
        nothing_deleted(mirror, because="disk is on a file system that is no longer mounted", sent=b"disk/README")
    mirror.quiet("--wait", "--max-delete", "1")
    mirror.same()
    assert json.loads((mirror.state() / "mounts.json").read_text()) == ["disk"]
    mirror.write("new")
    mirror.quiet("--wait")
    assert json.loads((mirror.state() / "mounts.json").read_text()) == []


# A destination where others work.


def test_what_a_colleague_put_there_under_a_gone_name_stays_and_is_reported(mirror: Beam) -> None:
    for name in ("f0", "f2", "f4", "f6"):
        (mirror.source / "d0" / name).unlink()
    theirs, as_long, newer = (mirror.copy / "d0" / name for name in ("f0", "f2", "f4"))
    theirs.write_text("of a colleague")
    as_long.write_text("y")
    os.utime(newer)
    done = mirror.run("--wait", code=1)
    assert "kept-at-destination" in done.stderr and "3 files" in done.stderr, done.stderr
    assert "results:/copy/d0/f0" in done.stderr and "another size" in done.stderr
    assert "globuswrap sync baseline beam --forget --path d0/f0" in done.stderr
    assert [item["source_path"] for task in mirror.tasks("DELETE") for item in task["items"]] == ["/copy/d0/f6"]
    assert (theirs.read_text(), as_long.read_text(), newer.read_text()) == ("of a colleague", "y", "x")
    shown = mirror.sync("run", "--dry-run").stdout
    assert "keep d0/f2 at the destination: has another modification time than was sent" in shown
    for name in ("f0", "f2", "f4"):
        assert mirror.sync("baseline", "--forget", "--path", f"d0/{name}").returncode == 0
    mirror.quiet("--wait")
    assert theirs.exists() and as_long.exists()


def test_a_directory_at_the_destination_is_never_deleted(mirror: Beam) -> None:
    """Between a look and the deletion somebody may put a file into it."""
    mirror.write("deep/er/file")
    mirror.quiet("--wait")
    shutil.rmtree(mirror.source / "deep")
    for _ in range(3):
        mirror.quiet("--wait")
    assert (mirror.copy / "deep" / "er").is_dir() and not (mirror.copy / "deep" / "er" / "file").exists()
    assert len(mirror.tasks("DELETE")) == 1


def test_what_is_gone_at_the_destination_too_is_forgotten_without_a_task(mirror: Beam) -> None:
    (mirror.source / "d0" / "f0").unlink()
    (mirror.copy / "d0" / "f0").unlink()
    mirror.quiet("--wait")
    assert not mirror.tasks("DELETE")
    (mirror.copy / "d0" / "f0").write_text("x")
    asked = len(mirror.box.control.requests())
    mirror.quiet()
    assert (mirror.copy / "d0" / "f0").exists() and len(mirror.box.control.requests()) == asked


def test_a_directory_that_cannot_be_listed_keeps_its_files(mirror: Beam) -> None:
    (mirror.source / "d0" / "f0").unlink()
    key = mirror.box.control.fault(
        kind="status", status=403, path="*/ls", count=1000, body={"code": "PermissionDenied", "message": "no"}
    )
    done = mirror.run("--wait", code=1)
    assert "kept-at-destination" in done.stderr and not mirror.tasks("DELETE")
    mirror.box.control.clear_faults(key)
    mirror.quiet("--wait")
    mirror.same()


def test_a_deletion_that_was_planned_and_not_submitted_is_planned_anew(mirror: Beam) -> None:
    """Its process looked at the destination long ago; a colleague has written there since."""
    (mirror.source / "d0" / "f0").unlink()
    key = mirror.box.control.fault(kind="status", status=503, path="*/submission_id", count=1000)
    mirror.run("--retry-for", "0", code=75)
    mirror.box.control.clear_faults(key)
    (mirror.copy / "d0" / "f0").write_text("of a colleague")
    done = mirror.run("--wait", code=1)
    assert "kept-at-destination" in done.stderr and not mirror.tasks("DELETE")
    assert (mirror.copy / "d0" / "f0").read_text() == "of a colleague"


DIES_WITH_A_TASK = """
import os, signal, sys
from pathlib import Path

replace = os.replace

def replace_and_die(source, target, **rest):
    replace(source, target, **rest)
    if str(target).endswith(".task"):
        os.kill(os.getpid(), signal.SIGKILL)

os.replace = replace_and_die
from globuswrap.cli.main import main
sys.exit(main())
"""


def test_a_deletion_that_was_submitted_is_settled_by_whoever_finds_it_in_the_journal(mirror: Beam) -> None:
    """Its process was killed as soon as it knew the task, and had written nothing else down."""
    (mirror.source / "d0" / "f0").unlink()
    environment: dict[str, str | None] = {"PYTHONPATH": str(REPOSITORY / "lib")}
    died = mirror.box.run([sys.executable, "-c", DIES_WITH_A_TASK, *mirror.command("run")[3:]], env=environment)
    assert died.returncode == -signal.SIGKILL
    mirror.settle()
    mirror.same()
    assert len(mirror.tasks("DELETE")) == 1
    assert "not submitted in time" not in mirror.log()


def test_a_lost_reply_to_a_deletion_wedges_nothing(mirror: Beam) -> None:
    (mirror.source / "d0" / "f0").unlink()
    key = mirror.box.control.fault(kind="drop-after", path="/delete", method="POST", count=1000)
    mirror.run("--retry-for", "0", code=75)
    mirror.box.control.clear_faults(key)
    mirror.settle()
    mirror.same()
    assert len(mirror.tasks("DELETE")) == 1


def test_what_a_live_chain_uses_waits(mirror: Beam) -> None:
    (mirror.source / "d0" / "f0").unlink()
    state = mirror.box.home / ".local" / "state" / "globuswrap"
    (state / "uses").mkdir(mode=0o700, exist_ok=True)
    ended = mirror.box.base / "ended"
    collection = mirror.box.collection("results").id
    record = {
        "schema": "globuswrap.uses/1",
        "owner": "chain 1",
        "ended": str(ended),
        "uses": [[collection, "/copy/d0"]],
    }
    (state / "uses" / "chain 1").write_text(json.dumps(record))
    mirror.quiet("--wait")
    assert not mirror.tasks("DELETE")
    ended.touch()
    mirror.quiet("--wait")
    mirror.same()


def test_the_source_of_a_sync_that_deletes_is_not_cleaned_up(mirror: Beam) -> None:
    """The sync would delete the copy that the cleanup relies on: both would be gone."""
    arguments = ["--receipt-files", "--preserve-timestamp", "--wait"]
    program = [*mirror.command("run")[:3]]
    other = mirror.box.collection("scratch").path / "also"
    env: dict[str, str | None] = {"PYTHONPATH": str(LAUNCHER.parents[1] / "lib")}
    sent = mirror.box.run(
        [*program, "transfer", "archive:/data/", "scratch:/also/", "--recursive", *arguments], env=env
    )
    assert sent.returncode == 0 and other.is_dir(), sent.stderr
    before = mirror.here()
    cleaned = mirror.box.run([*program, "cleanup", "--under", "archive:/data/", "--yes"], env=env)
    assert mirror.here() == before and "is in use by sync beam-" in cleaned.stdout, cleaned.stdout + cleaned.stderr
    mirror.set(delete=False)
    mirror.quiet()
    assert list((mirror.box.home / ".local" / "state" / "globuswrap" / "uses").iterdir()) == []


@pytest.mark.parametrize(("old", "new"), [("readme", "README"), ("caf\u00e9", "cafe\u0301"), ("d1/f1", "D1/F1")])
def test_a_name_that_changed_only_in_case_or_normalization_is_not_deleted(mirror: Beam, old: str, new: str) -> None:
    """A destination that ignores case has one file for both: deleted after the transfer, it would be gone."""
    mirror.write(old)
    mirror.quiet("--wait")
    path = mirror.source / new
    path.parent.mkdir(exist_ok=True)
    os.rename(mirror.source / old, path)
    done = mirror.run("--wait", code=1)
    assert "kept-at-destination" in done.stderr and "differs only by case" in done.stderr
    assert not mirror.tasks("DELETE") and {old.encode(), new.encode()} <= mirror.there().keys()
    assert mirror.sync("baseline", "--forget", "--path", old).returncode == 0
    mirror.quiet("--wait")


# A file where a directory was, and the other way round.


def test_a_file_becomes_a_directory(mirror: Beam) -> None:
    mirror.write("thing", "a file")
    mirror.quiet("--wait")
    (mirror.source / "thing").unlink()
    mirror.write("thing/again/c", "now a directory")
    assert "kind-changed" in mirror.run("--wait", code=1).stderr
    mirror.quiet("--wait")
    mirror.same()


def test_a_directory_becomes_a_file_and_waits_until_someone_removed_the_old_one(mirror: Beam) -> None:
    mirror.write("thing/a")
    mirror.quiet("--wait")
    shutil.rmtree(mirror.source / "thing")
    mirror.write("thing", "now a file")
    mirror.write("other")
    for _ in range(3):
        done = mirror.run("--wait", code=1)
        assert "kind-changed" in done.stderr
    assert b"other" in mirror.there() and mirror.there()[b"thing"] == b"/"
    (mirror.copy / "thing").rmdir()
    assert mirror.sync("baseline", "--forget", "--path", "thing").returncode == 0
    mirror.quiet("--wait")
    mirror.same()
