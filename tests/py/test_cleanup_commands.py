"""`globuswrap cleanup` through the real globus command."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections import Counter
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

import support
from command_line import run, run_json
from globus_sandbox import auth
from globuswrap.cli.sandbox import Sandbox
from globuswrap.deletion import storage, uses
from slurm.cluster import until

pytestmark = [pytest.mark.usefixtures("globus_loaded")]

ANNA = "anna@example.org"


@pytest.fixture
def box(new_sandbox: Callable[..., Sandbox]) -> Sandbox:
    made = new_sandbox(collections=("archive", "share:gcp-guest"))
    document = auth.identity_document(auth.id_of("identity " + ANNA), ANNA)
    made.control.put("identity", document["id"], document)
    # The service tells whole seconds: what is to count as older than a task has to be so by more than one.
    made.control.advance_clock(3600)
    return made


def source(box: Sandbox, *names: str) -> Path:
    place = box.collection("archive").path / "run"
    place.mkdir(exist_ok=True)
    for name in names or ("1", "it's 2"):
        (place / name).write_text(name)
    return place


def names_in(place: Path) -> list[str]:
    return sorted(each.name for each in place.iterdir())


def deliver(box: Sandbox, *options: str) -> dict[str, Any]:
    return run_json(box, "transfer", "archive:/run", "share:/run", "--wait", *options)


def kept(envelope: dict[str, Any]) -> dict[str, str]:
    return {Path(each["path"]).name: each["reason"] for each in envelope["data"]["kept"]}


def test_what_was_delivered_goes_and_again_nothing(box: Sandbox) -> None:
    place = source(box)
    deliver(box, "--receipt-files")
    (place / "new").write_text("came later")
    shown = run_json(box, "cleanup", "--under", "archive:/run")
    assert sorted(each["path"] for each in shown["data"]["to_delete"]) == ["/run/1", "/run/it's 2"]
    assert names_in(place) == ["1", "it's 2", "new"] and not shown["data"]["tasks"]
    done = run_json(box, "cleanup", "--under", "archive:/run", "--yes")
    assert names_in(place) == ["new"] and kept(done) == {"new": "no receipt proves that it was delivered"}
    again = run_json(box, "cleanup", "--under", "archive:/run", "--yes")
    assert not again["data"]["deleted"] and not again["data"]["tasks"]
    assert len([each for each in box.control.tasks() if each["label"].startswith("globuswrap cleanup gw-")]) == 1


def test_without_a_list_of_files_nothing_goes_and_it_says_what_to_do(box: Sandbox) -> None:
    source(box)
    deliver(box)
    done = run(box, "cleanup", "--under", "archive:/run", "--yes")
    assert done.returncode == 0 and "--receipt-files" in done.stdout
    assert len(names_in(box.collection("archive").path / "run")) == 2


def test_a_checksum_sync_proves_what_it_skipped_as_equal(box: Sandbox) -> None:
    place = source(box)
    deliver(box)
    box.control.advance_clock(60)
    deliver(box, "--sync-level", "checksum")
    assert len(run_json(box, "cleanup", "--under", "archive:/run", "--yes")["data"]["deleted"]) == 2
    assert names_in(place) == []


def test_what_changed_since_or_whose_copy_is_gone_or_changed_stays(box: Sandbox) -> None:
    place = source(box, "changed", "swapped", "gone", "other-size", "link", "fine")
    deliver(box, "--receipt-files")
    there = box.collection("share").path / "run"
    box.control.advance_clock(3600)
    later = os.stat(place / "fine").st_mtime + 7200
    (place / "changed").write_text("CHANGED")
    os.utime(place / "changed", (later, later))
    (there / "gone").unlink()
    (there / "other-size").write_text("x")
    (place / "link").unlink()
    (place / "link").symlink_to(place / "fine")
    done = run_json(box, "cleanup", "--under", "archive:/run", "--yes")
    reasons = kept(done)
    assert [Path(each["path"]).name for each in done["data"]["deleted"]] == ["fine", "swapped"]
    assert "was modified since" in reasons["changed"] and "is gone" in reasons["gone"]
    assert "another size" in reasons["other-size"] and "symbolic link" in reasons["link"]


def test_a_delivery_that_is_old_enough_goes_with_the_rules_that_pointed_there(box: Sandbox) -> None:
    """cleanup_cache.py deleted the common directory of whatever was transferred, whatever else was in it."""
    source(box)
    run_json(box, "share", "deliver", "archive:/run", "share:/for/anna", "--to", ANNA, "--receipt-files")
    other = box.collection("share").path / "for" / "ben"
    other.mkdir()
    (other / "his own").write_text("x")
    run_json(box, "share", "grant", "share:/for/ben", ANNA)
    box.control.advance_clock(3600)
    young = run_json(box, "cleanup", "--under", "share:/for", "--older-than", "90d")
    assert not young["data"]["to_delete"]
    shown = run_json(box, "cleanup", "--under", "share:/for")
    assert shown["data"]["rules"] == [f"/for/anna/ r {ANNA}"]
    run_json(box, "cleanup", "--under", "share:/for", "--yes")
    assert names_in(box.collection("share").path / "for" / "anna") == [] and names_in(other) == ["his own"]
    left = run_json(box, "share", "list", "share")["data"]["rules"]
    assert [each["path"] for each in left if each["id"]] == ["/for/ben/"]
    assert len(names_in(box.collection("archive").path / "run")) == 2


@pytest.mark.parametrize("how", ["--receipt-files", "--sync-level=checksum"])
def test_a_cut_off_cleanup_revokes_the_rule_the_next_time(box: Sandbox, how: str) -> None:
    """Also where other files are left below the directory that is cleaned up."""
    source(box)
    other = box.collection("share").path / "all" / "his own"
    other.parent.mkdir()
    other.write_text("x")
    run_json(box, "share", "deliver", "archive:/run", "share:/all/p", "--to", ANNA, how)
    box.control.advance_clock(3600)
    box.control.fault(kind="status", status=403, body={"code": "PermissionDenied", "message": "no"}, method="DELETE")
    run_json(box, "cleanup", "--under", "share:/all", "--yes", expect=1)
    again = run_json(box, "cleanup", "--under", "share:/all", "--yes")
    assert not again["data"]["deleted"] and again["data"]["rules"] == [f"/all/p/ r {ANNA}"]
    assert other.exists()


def test_permissions_that_cannot_be_read_stop_a_cleanup_before_it_deletes(box: Sandbox) -> None:
    """They would stay on directories that become empty, and nobody would know."""
    source(box)
    run_json(box, "share", "deliver", "archive:/run", "share:/for/anna", "--to", ANNA, "--receipt-files")
    box.control.advance_clock(3600)
    refusal = {"code": "PermissionDenied", "message": "no"}
    box.control.fault(kind="status", status=403, body=refusal, path="/v0.10/endpoint/*/access_list")
    done = run_json(box, "cleanup", "--under", "share:/for", "--yes", expect=1)
    assert done["error"]["name"] == "permission-denied" and "--keep-rules" in done["error"]["remedy"]
    assert len(names_in(box.collection("share").path / "for" / "anna")) == 2
    box.control.fault(kind="status", status=403, body=refusal, path="/v0.10/endpoint/*/access_list")
    done = run_json(box, "cleanup", "--under", "share:/for", "--yes", "--keep-rules")
    assert len(done["data"]["deleted"]) == 2 and done["data"]["rules"] == []


def test_receipts_can_come_from_files(box: Sandbox, tmp_path: Path) -> None:
    source(box)
    deliver(box, "--receipt-files", "--receipt", str(tmp_path / "receipt.json"))
    done = run_json(box, "cleanup", "--under", "archive:/run", "--from", str(tmp_path / "receipt.json"))
    assert len(done["data"]["to_delete"]) == 2
    (tmp_path / "bad.json").write_text("{}")
    run_json(box, "cleanup", "--under", "archive:/run", "--from", str(tmp_path), expect=2)


@pytest.mark.parametrize(
    "arguments", [(), ("--under", "archive:/"), ("--under", "archive:/run*"), ("archive:/x", "--under", "archive:/run")]
)
def test_what_is_not_bounded_is_refused(box: Sandbox, arguments: tuple[str, ...]) -> None:
    run_json(box, "cleanup", *arguments, "--yes", expect=2)
    assert not box.control.requests("transfer")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("fault", "codes"),
    support.faults(
        [
            ({"kind": "unavailable"}, (0,)),
            ({"kind": "drop-after", "method": "POST", "path": "/delete"}, (0,)),
            ({"kind": "expired-token", "count": 5}, (4,)),
            ({"kind": "consent"}, (4,)),
            ({"kind": "disconnected", "collection": "archive"}, (1, 5)),
            ({"kind": "denied", "collection": "archive"}, (1, 5)),
            ({"kind": "paused", "collection": "share"}, (75, 1, 7)),
        ]
    ),
)
def test_under_each_fault_nothing_unproven_goes_and_later_all_goes(
    box: Sandbox, fault: dict[str, Any], codes: tuple[int, ...]
) -> None:
    place = source(box)
    deliver(box, "--receipt-files")
    (place / "new").write_text("came later")
    box.control.fault(fault)
    arguments = ("cleanup", "--under", "archive:/run", "--yes", "--timeout", "1", "--fault-grace", "0")
    done = run(box, *arguments)
    assert done.returncode in codes, done.stderr
    assert "new" in names_in(place)
    box.control.clear_faults()
    run_json(box, *arguments)
    assert names_in(place) == ["new"]


def unmounted(box: Sandbox) -> Sandbox:
    """No collection is known to be mounted here: what Globus answers is all that is known."""
    config = Path(str(box.env["XDG_CONFIG_HOME"])) / "globuswrap" / "config.toml"
    config.write_text(re.sub(r", mounted = \{[^}]*\}", "", config.read_text()))
    assert "mounted" not in config.read_text()
    return box


def copies(box: Sandbox, *collections: str) -> dict[str, int]:
    """How many copies there are of each file. What is killed leaves its empty probe directory behind."""
    names = [name for each in collections for name in names_in(box.collection(each).path / "run")]
    return dict(Counter(name for name in names if not name.startswith(storage.PREFIX)))


def test_two_cleanups_at_once_of_both_ends_leave_a_copy_of_each_file(box: Sandbox) -> None:
    """Both looked at the other end before either had deleted anything: both copies went, three tries of three."""
    source(unmounted(box), *"abcdefgh")
    deliver(box, "--receipt-files", "--preserve-timestamp")
    both = [("cleanup", "--under", f"{end}:/run", "--yes", "--json") for end in ("archive", "share")]
    started = [
        subprocess.Popen([support.LAUNCHER, *each], env=environment(box), stdout=subprocess.PIPE, text=True)
        for each in both
    ]
    ended = [(each.communicate()[0], each.returncode) for each in started]
    assert set(copies(box, "archive", "share").values()) <= {1, 2} and len(copies(box, "archive", "share")) == 8
    assert {code for _, code in ended} <= {0, 75}
    run_json(box, "cleanup", "--under", "archive:/run", "--yes")
    run_json(box, "cleanup", "--under", "share:/run", "--yes")
    assert copies(box, "archive", "share") == dict.fromkeys("abcdefgh", 1)


@pytest.mark.parametrize("after", [1, *(pytest.param(number, marks=pytest.mark.chaos) for number in range(2, 12))])
def test_two_cleanups_of_which_one_is_killed_leave_a_copy_of_each_file(
    new_sandbox: Callable[..., Sandbox], after: int
) -> None:
    """kill -9 when Globus has answered so many of its requests; its task, if there is one, waits until the other has ended."""
    box = unmounted(new_sandbox(collections=("archive", "share")))
    box.control.advance_clock(3600)
    source(box, *"abcd")
    deliver(box, "--receipt-files", "--preserve-timestamp")
    box.control.progress("held")
    before = len(box.control.requests("transfer"))
    with open(os.devnull, "w") as nowhere:
        one = subprocess.Popen(
            [support.LAUNCHER, "cleanup", "--under", "archive:/run", "--yes"],
            env=environment(box),
            stdout=nowhere,
            stderr=nowhere,
        )
        until(lambda: len(box.control.requests("transfer")) >= before + after or one.poll() is not None, "it has asked")
        one.kill()
        one.wait()
    run(box, "cleanup", "--under", "share:/run", "--yes", "--timeout", "1s")
    box.control.progress("at-once")
    until(lambda: all(each["status"] != "ACTIVE" for each in box.control.tasks()), "all tasks have ended")
    assert set(copies(box, "archive", "share")) == set("abcd")


def test_a_deletion_that_timed_out_still_counts(box: Sandbox) -> None:
    """The task of the first waits at Globus; without its announcement, the second would delete the other copies."""
    source(box)
    deliver(box, "--receipt-files", "--preserve-timestamp")
    box.control.progress("held")
    run_json(box, "cleanup", "--under", "archive:/run", "--yes", "--timeout", "1s", expect=75)
    other = run_json(box, "cleanup", "--under", "share:/run", "--yes", expect=75)
    (task,) = [each for each in box.control.tasks() if each["label"].startswith("globuswrap cleanup gw-")]
    assert all(f"task {task['task_id']} deletes its other copy" in each for each in kept(other).values())
    assert not other["data"]["deleted"] and set(copies(box, "archive", "share").values()) == {2}
    again = run_json(box, "cleanup", "--under", "archive:/run", "--yes", "--timeout", "1s", expect=75)
    assert again["data"]["task_id"] == task["task_id"] and again["data"]["how"] == "adopted"
    box.control.progress("at-once")
    run_json(box, "wait", task["task_id"])
    assert set(copies(box, "archive", "share").values()) == {1}
    ended = run_json(box, "cleanup", "--under", "share:/run", "--yes")
    assert all("the other copy is gone" in each for each in kept(ended).values())


def test_a_plain_delete_that_waits_at_globus_removes_the_proof(box: Sandbox) -> None:
    """`delete` asks nobody: what it will take away proves nothing any more, though it is still there."""
    place = source(unmounted(box))
    deliver(box, "--receipt-files", "--preserve-timestamp")
    box.control.progress("held")
    run_json(box, "delete", "share:/run", "--recursive")
    (task,) = [each for each in box.control.tasks() if each["type"] == "DELETE"]
    other = run_json(box, "cleanup", "--under", "archive:/run", "--yes", expect=75)
    assert all(each.startswith(f"task {task['task_id']} deletes its other copy") for each in kept(other).values())
    box.control.progress("at-once")
    until(lambda: all(each["status"] != "ACTIVE" for each in box.control.tasks()), "all tasks have ended")
    ended = run_json(box, "cleanup", "--under", "archive:/run", "--yes")
    assert all("the other copy is gone" in each for each in kept(ended).values())
    assert names_in(place) == ["1", "it's 2"]


def test_what_an_unfinished_cleanup_relies_on_cannot_be_deleted(box: Sandbox) -> None:
    source(unmounted(box))
    deliver(box, "--receipt-files", "--preserve-timestamp")
    box.control.progress("held")
    run_json(box, "cleanup", "--under", "archive:/run", "--yes", "--timeout", "1s", expect=75)
    (task,) = [each for each in box.control.tasks() if each["type"] == "DELETE" and "cleanup gw-" in each["label"]]
    refused = run_json(box, "delete", "share:/run", "--recursive", expect=75)
    assert refused["error"]["name"] == "relied-on" and task["task_id"] in refused["error"]["cause"]
    assert not run_json(box, "delete", "share:/other", "--ignore-missing", "--no-check")["error"]
    box.control.progress("at-once")
    run_json(box, "wait", task["task_id"])
    run_json(box, "delete", "share:/run", "--recursive", "--wait")
    assert copies(box, "archive") == {} and not (box.collection("share").path / "run").exists()


def probes(box: Sandbox) -> list[Path]:
    return [each for each in box.base.rglob(f"{storage.PREFIX}*") if each.is_dir()]


def test_one_storage_under_two_names_keeps_its_only_copy(new_sandbox: Callable[..., Sandbox]) -> None:
    """A checksum sync between two servers of one file system proves nothing; a probe directory shows that it is one."""
    box = unmounted(new_sandbox(collections=("archive", "share")))
    place, twin = box.collection("archive").path, box.collection("share").path
    twin.rmdir()
    twin.symlink_to(place)
    box.control.advance_clock(3600)
    source(box)
    deliver(box, "--sync-level", "checksum")
    shown = run_json(box, "cleanup", "--under", "archive:/run")
    assert len(shown["data"]["to_delete"]) == 2 and not box.control.requests("transfer", "POST", "*/mkdir")
    done = run_json(box, "cleanup", "--under", "archive:/run", "--yes")
    assert all("the same file by another name" in each for each in kept(done).values())
    assert names_in(place / "run") == ["1", "it's 2"] and not probes(box)


def test_what_a_live_chain_uses_under_another_name_stays(
    new_sandbox: Callable[..., Sandbox], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The chain reads `twin:/run/`, which is `archive:/run/` on another server of the same file system."""
    box = unmounted(new_sandbox(collections=("archive", "share", "twin")))
    place, twin = box.collection("archive").path, box.collection("twin").path
    twin.rmdir()
    twin.symlink_to(place)
    box.control.advance_clock(3600)
    source(box)
    deliver(box, "--receipt-files")
    monkeypatch.setenv("XDG_STATE_HOME", str(box.env["XDG_STATE_HOME"]))
    ended = box.base / "ended"
    uses.hold("chain c1", ended, [(box.collection("twin").id, "/run")])
    done = run_json(box, "cleanup", "--under", "archive:/run", "--yes")
    assert set(kept(done).values()) == {"is in use by chain c1, which has not ended"}
    assert names_in(place / "run") == ["1", "it's 2"] and not probes(box)
    ended.touch()
    run_json(box, "cleanup", "--under", "archive:/run", "--yes")
    assert names_in(place / "run") == [] and not probes(box)


@pytest.mark.parametrize("mounted", [True, False])
def test_a_directory_link_inside_one_collection_is_no_second_copy(box: Sandbox, mounted: bool) -> None:
    place = source((mounted and box) or unmounted(box))
    place.with_name("link").symlink_to("run")
    run_json(box, "transfer", "archive:/run", "archive:/link", "--wait", "--sync-level", "checksum")
    done = run_json(box, "cleanup", "--under", "archive:/run", "--yes")
    assert len(kept(done)) == 2 and names_in(place) == ["1", "it's 2"]


@pytest.mark.parametrize("path", ["*/mkdir", "*/stat"])
def test_where_the_storage_cannot_be_told_apart_nothing_goes(box: Sandbox, path: str) -> None:
    place = source(unmounted(box))
    deliver(box, "--receipt-files")
    box.control.fault(kind="status", status=403, body={"code": "PermissionDenied", "message": "no"}, path=path)
    done = run_json(box, "cleanup", "--under", "archive:/run", "--yes")
    assert all(each.startswith("cannot tell whether the other copy") for each in kept(done).values()), kept(done)
    assert names_in(place) == ["1", "it's 2"] and not probes(box)


def test_a_later_transfer_that_overwrote_the_other_copy_voids_the_proof(box: Sandbox) -> None:
    """Same size and, with preserved times, the same time: only the later receipt tells."""
    place = source(box, "1")
    deliver(box, "--receipt-files", "--preserve-timestamp")
    other = place.with_name("other")
    other.mkdir()
    (other / "1").write_text("X")
    shutil.copystat(place / "1", other / "1")
    box.control.advance_clock(60)
    run_json(box, "transfer", "archive:/other", "share:/run", "--wait", "--preserve-timestamp")
    done = run_json(box, "cleanup", "--under", "archive:/run", "--yes")
    assert "the other copy may have been overwritten by task" in kept(done)["1"]
    assert (place / "1").read_text() == "1"
    box.control.advance_clock(60)
    deliver(box, "--receipt-files", "--preserve-timestamp", "--sync-level", "checksum")
    assert len(run_json(box, "cleanup", "--under", "archive:/run", "--yes")["data"]["deleted"]) == 1


def test_what_was_written_in_the_second_of_the_task_stays_and_says_so(new_sandbox: Callable[..., Sandbox]) -> None:
    box = unmounted(new_sandbox(collections=("archive", "share")))
    place = source(box, "1")
    os.utime(place / "1", (1_000_000, 1_000_000))
    done = deliver(box, "--receipt-files")
    second = datetime.fromisoformat(done["data"]["receipt"]["completed"]).timestamp()
    os.utime(box.collection("share").path / "run" / "1", (second, second))
    (reason,) = kept(run_json(box, "cleanup", "--under", "archive:/run", "--yes")).values()
    assert reason.startswith("the other copy was written in the same second in which task") and "checksum" in reason
    assert names_in(place) == ["1"]
    box.control.advance_clock(60)
    deliver(box, "--sync-level", "checksum")
    assert len(run_json(box, "cleanup", "--under", "archive:/run", "--yes")["data"]["deleted"]) == 1


def test_what_a_live_chain_uses_stays(box: Sandbox, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    source(box)
    deliver(box, "--receipt-files")
    with monkeypatch.context() as patched:
        patched.setenv("XDG_STATE_HOME", str(box.env["XDG_STATE_HOME"]))
        uses.hold("chain c123", tmp_path / "ended", [(box.collection("archive").id, "/run")])
    done = run_json(box, "cleanup", "--under", "archive:/run", "--yes")
    assert set(kept(done).values()) == {"is in use by chain c123, which has not ended"}
    (tmp_path / "ended").write_text("")
    assert len(run_json(box, "cleanup", "--under", "archive:/run", "--yes")["data"]["deleted"]) == 2


def test_a_file_that_is_mounted_here_and_cannot_be_seen_has_changed(box: Sandbox) -> None:
    """The mount may be another directory than Globus lists: what is not there is not what was delivered."""
    place = source(box)
    deliver(box, "--receipt-files")
    empty = box.base / "empty"
    empty.mkdir()
    mount = f"{empty}=/run"
    run_json(box, "collection", "add", "here", box.collection("archive").id, "--mount", mount)
    done = run_json(box, "cleanup", "--under", "archive:/run", "--yes")
    assert all("(its inode)" in each for each in kept(done).values()) and names_in(place) == ["1", "it's 2"]


def environment(box: Sandbox) -> dict[str, str]:
    return {name: value for name, value in {**os.environ, **box.env}.items() if value is not None}
