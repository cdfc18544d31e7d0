"""`globuswrap cleanup` through the real globus command."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import support
from command_line import run, run_json
from globus_sandbox import auth
from globuswrap.cli.sandbox import Sandbox

pytestmark = [pytest.mark.timeout(240), pytest.mark.usefixtures("globus_loaded")]  # many globus processes

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
    assert len(box.control.requests("transfer", "POST", "/delete")) == 1


def test_without_a_list_of_files_nothing_goes_and_it_says_what_to_do(box: Sandbox) -> None:
    source(box)
    deliver(box)
    done = run(box, "cleanup", "--under", "archive:/run", "--yes")
    assert done.returncode == 0 and "--receipt-files" in done.stdout
    assert len(names_in(box.collection("archive").path / "run")) == 2


def test_a_checksum_sync_proves_what_it_skipped_as_equal(box: Sandbox) -> None:
    place = source(box)
    deliver(box)
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
    box.control.advance_clock(30 * 86400)
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
