"""Tasks of the sandbox: what is moved, how it is counted, how a task waits, faults, is paused, ends."""

from __future__ import annotations

import hashlib
import os
import time
from pathlib import Path
from typing import Any

import pytest

import support
from globus_sandbox.launch import Sandbox


def write(directory: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def tree(directory: Path) -> dict[str, str]:
    return {str(path.relative_to(directory)): path.read_text() for path in directory.rglob("*") if path.is_file()}


def test_a_directory_with_hostile_names_arrives_whole_and_is_counted(api: Any, archive: Path, scratch: Path) -> None:
    write(archive / "in", {f"{name}/{name}": name for name in support.HOSTILE_NAMES})
    document = api.ended(api.transfer(("/in", "/out")))
    assert tree(scratch / "out") == tree(archive / "in")
    files, directories = len(support.HOSTILE_NAMES), len(support.HOSTILE_NAMES) + 1
    expected = {
        "status": "SUCCEEDED",
        "files": files,
        "files_transferred": files,
        "directories": directories,
        "subtasks_total": files + directories + 1,
        "subtasks_succeeded": files + directories + 1,
        "subtasks_pending": 0,
        "bytes_transferred": sum(len(name.encode()) for name in support.HOSTILE_NAMES),
        "faults": 0,
        "nice_status": None,
        "is_ok": None,
        "fatal_error": None,
    }
    assert {name: document[name] for name in expected} == expected


def test_a_submission_id_makes_one_task_however_often_it_is_sent(api: Any, archive: Path) -> None:
    write(archive, {"a": "1"})
    body = api.transfer_body(("/a", "/a"))
    first, second = api.call("POST", "/transfer", body), api.call("POST", "/transfer", body)
    assert (first[0], first[1]["code"]) == (202, "Accepted")
    assert (second[0], second[1]["code"]) == (200, "Duplicate")
    assert first[1]["task_id"] == second[1]["task_id"]
    assert api.box.control.submissions()[0]["sent"] == 2
    assert len(api.box.control.tasks()) == 1


def test_a_submission_id_that_was_not_issued_is_refused(api: Any, archive: Path) -> None:
    body = api.transfer_body(("/a", "/a"), submission_id="00000000-0000-4000-8000-000000000001")
    status, document = api.call("POST", "/transfer", body)
    assert (status, document["code"]) == (400, "ClientError.BadRequest.InvalidSubmissionId")


def test_identical_paths_conflict_only_while_unfinished(api: Any, sandbox: Sandbox, archive: Path) -> None:
    write(archive, {"a": "1", "b": "2"})
    sandbox.control.progress("held")
    first = api.transfer(("/a", "/a"), ("/b", "/b"))
    status, document = api.call("POST", "/transfer", api.transfer_body(("/b", "/b"), ("/a", "/a")))
    assert (status, document["code"]) == (409, "Conflict")
    assert "has not yet completed" in document["message"] and first not in str(document)
    api.transfer(("/a", "/a"))  # other paths
    sandbox.control.progress("at-once")
    api.ended(first)
    api.ended(api.transfer(("/a", "/a"), ("/b", "/b")))


def test_a_missing_source_stays_active_with_growing_faults_until_its_deadline(api: Any, sandbox: Sandbox) -> None:
    task = api.transfer(("/nope", "/nope"))
    seen = api.until(task, lambda document: document["faults"] >= 2)
    assert (seen["status"], seen["nice_status"], seen["is_ok"]) == ("ACTIVE", "FILE_NOT_FOUND", False)
    assert seen["completion_time"] is None and (seen["subtasks_pending"], seen["subtasks_retrying"]) == (1, 0)
    assert api.events(task, errors=True)[:2] == ["FILE_NOT_FOUND", "FILE_NOT_FOUND"]
    sandbox.control.advance_clock(24 * 3600 + 1)
    done = api.ended(task)
    assert (done["status"], done["fatal_error"]) == ("FAILED", {"code": "EXPIRED", "description": "expired"})
    assert done["subtasks_expired"] == 1 and api.events(task)[0] == "EXPIRED"


def test_a_source_that_appears_late_is_moved(api: Any, archive: Path, scratch: Path) -> None:
    task = api.transfer(("/late", "/late"))
    api.until(task, lambda document: document["faults"] >= 1)
    write(archive, {"late": "here"})
    assert api.ended(task)["faults"] >= 1
    assert (scratch / "late").read_text() == "here"


def test_the_other_files_of_a_task_arrive_beside_a_missing_one(api: Any, archive: Path, scratch: Path) -> None:
    write(archive, {"a": "1", "b": "2"})
    task = api.transfer(("/a", "/a"), ("/nope", "/nope"), ("/b", "/b"))
    seen = api.until(task, lambda document: document["faults"] >= 1)
    assert tree(scratch) == {"a": "1", "b": "2"} and seen["files_transferred"] == 2


def test_skip_source_errors_succeeds_with_holes(api: Any, archive: Path, scratch: Path) -> None:
    write(archive, {"d/a": "1", "d/secret": "2"})
    (archive / "d/secret").chmod(0)
    task = api.transfer(("/d", "/d"), ("/nope", "/nope"), skip_source_errors=True)
    document = api.ended(task)
    assert (document["status"], document["subtasks_skipped_errors"]) == ("SUCCEEDED", 2)
    assert tree(scratch) == {"d/a": "1"}
    assert "SKIPPED_ERRORS" in api.events(task)
    skipped = {row["source_path"]: row["error_code"] for row in api.get(f"/task/{task}/skipped_errors")["DATA"]}
    assert skipped == {"/d/secret": "PERMISSION_DENIED", "/nope": "FILE_NOT_FOUND"}


def test_successful_transfers_lists_copied_files_alone_and_pages(api: Any, archive: Path, scratch: Path) -> None:
    write(archive / "d", {f"{number:04}": "x" for number in range(1005)})
    write(scratch / "d", {"0000": "x"})
    task = api.transfer(("/d", "/d"), sync_level=1)
    assert api.ended(task)["files_skipped"] == 1
    first = api.get(f"/task/{task}/successful_transfers")
    second = api.get(f"/task/{task}/successful_transfers?marker={first['next_marker']}")
    assert (len(first["DATA"]), len(second["DATA"]), second["next_marker"]) == (1000, 4, None)
    assert first["DATA"][0]["source_path"] == "/d/0001"


def old(path: Path, seconds: float) -> None:
    moment = time.time() - seconds
    os.utime(path, (moment, moment))


@pytest.mark.parametrize(
    ("level", "copied"),
    [
        (None, {"missing", "other", "older", "newer", "same"}),
        (0, {"missing"}),
        (1, {"missing", "other"}),
        (2, {"missing", "other", "older"}),
        (3, {"missing", "other", "older", "newer"}),
    ],
)
def test_sync_levels(api: Any, archive: Path, scratch: Path, level: int | None, copied: set[str]) -> None:
    """missing; other: size differs; older: same size, other content, older at the destination; newer: newer there."""
    write(archive / "d", {"missing": "1", "other": "22", "older": "new", "newer": "new", "same": "same"})
    write(scratch / "d", {"other": "1", "older": "old", "newer": "old", "same": "same"})
    for name in ("other", "older"):
        old(scratch / "d" / name, 100)
    for name in ("newer", "same"):
        old(archive / "d" / name, 100)
    options = {} if level is None else {"sync_level": level}
    task = api.transfer(("/d", "/d"), **options)
    document = api.ended(task)
    rows = api.get(f"/task/{task}/successful_transfers")["DATA"]
    assert {row["source_path"].rpartition("/")[2] for row in rows} == copied
    assert document["files_skipped"] == 5 - len(copied) and document["sync_level"] == level


def test_filters_hold_in_order_and_the_first_match_decides(api: Any, archive: Path, scratch: Path) -> None:
    write(
        archive / "d", {"keep.log": "", "drop.log": "", "a.txt": "", "sub/b.txt": "", "sub/c.dat": "", "tmp/x.txt": ""}
    )
    rules = [
        {"DATA_TYPE": "filter_rule", "method": "include", "type": "file", "name": "keep.*"},
        {"DATA_TYPE": "filter_rule", "method": "exclude", "type": "file", "name": "*.log"},
        {"DATA_TYPE": "filter_rule", "method": "exclude", "type": "file", "name": "?.dat"},
        {"DATA_TYPE": "filter_rule", "method": "exclude", "type": "dir", "name": "tmp"},
    ]
    task = api.transfer(("/d", "/d"), filter_rules=rules)
    assert api.ended(task)["filter_rules"] == rules
    assert set(tree(scratch / "d")) == {"keep.log", "a.txt", "sub/b.txt"}


def test_delete_destination_extra_deletes_what_the_source_lacks(api: Any, archive: Path, scratch: Path) -> None:
    write(archive / "d", {"a": "1", "sub/b": "2", "kind": "file"})
    write(scratch / "d", {"extra": "", "sub/extra": "", "gone/deep/x": "", "kind/x": ""})
    write(scratch, {"beside": "stays"})
    api.ended(api.transfer(("/d", "/d"), delete_destination_extra=True))
    assert tree(scratch / "d") == {"a": "1", "sub/b": "2", "kind": "file"}
    assert (scratch / "beside").exists() and not (scratch / "d/gone").exists()


def test_delete_destination_extra_is_skipped_when_source_errors_were(api: Any, archive: Path, scratch: Path) -> None:
    write(archive / "d", {"a": "1", "secret": "2"})
    (archive / "d/secret").chmod(0)
    write(scratch / "d", {"extra": "stays"})
    task = api.transfer(("/d", "/d"), delete_destination_extra=True, skip_source_errors=True)
    api.ended(task)
    assert "DELETE_DESTINATION_EXTRA_SKIPPED" in api.events(task)
    assert (scratch / "d/extra").exists()


def test_times_are_kept_only_when_asked(api: Any, archive: Path, scratch: Path) -> None:
    write(archive, {"a": "1"})
    old(archive / "a", 5000)
    api.ended(api.transfer(("/a", "/kept"), preserve_timestamp=True))
    api.ended(api.transfer(("/a", "/new")))
    assert (scratch / "kept").stat().st_mtime_ns == (archive / "a").stat().st_mtime_ns
    assert (scratch / "new").stat().st_mtime > (archive / "a").stat().st_mtime + 4000


def test_a_named_link_is_followed_and_others_are_not_there(api: Any, archive: Path, scratch: Path) -> None:
    write(archive, {"d/a": "1", "target": "2"})
    (archive / "d/link").symlink_to("a")
    (archive / "named").symlink_to("target")
    (archive / "linked").symlink_to("d")
    document = api.ended(api.transfer(("/named", "/named"), ("/linked", "/linked")))
    assert tree(scratch) == {"named": "2", "linked/a": "1"} and document["symlinks"] == 0
    assert not (scratch / "named").is_symlink()


@pytest.mark.parametrize(("mode", "link"), [("keep", True), ("copy", False)])
def test_links_inside_a_directory_as_asked(api: Any, archive: Path, scratch: Path, mode: str, link: bool) -> None:
    write(archive, {"d/a": "1"})
    (archive / "d/link").symlink_to("a")
    api.ended(api.transfer(("/d", "/d"), recursive_symlinks=mode))
    assert (scratch / "d/link").is_symlink() == link and (scratch / "d/link").read_text() == "1"


def test_links_do_not_lead_out_of_a_collection(api: Any, sandbox: Sandbox, archive: Path, scratch: Path) -> None:
    (sandbox.base / "outside").write_text("secret")
    (archive / "out").symlink_to(sandbox.base / "outside")
    (scratch / "away").symlink_to(sandbox.base)
    write(archive, {"a": "1"})
    task = api.transfer(("/out", "/stolen"), ("/a", "/away/a"), ("/../../outside", "/stolen"))
    seen = api.until(task, lambda document: document["faults"] >= 3)
    assert seen["nice_status"] in ("PERMISSION_DENIED", "FILE_NOT_FOUND")
    assert not (scratch / "stolen").exists() and not (sandbox.base / "a").exists()


def external(path: str, checksum: str, algorithm: str | None = None) -> dict[str, Any]:
    more = {"checksum_algorithm": algorithm} if algorithm else {}
    return {
        "DATA_TYPE": "transfer_item",
        "source_path": path,
        "destination_path": path,
        "external_checksum": checksum,
        **more,
    }


def test_an_external_checksum_that_differs_fails_the_task(api: Any, archive: Path) -> None:
    write(archive, {"a": "1", "b": "2"})
    good = [external("/a", hashlib.md5(b"1").hexdigest()), external("/b", hashlib.sha256(b"2").hexdigest(), "SHA256")]
    assert api.ended(api.transfer(*good))["status"] == "SUCCEEDED"
    bad = api.ended(api.transfer(external("/a", "0" * 32)))
    assert (bad["status"], bad["fatal_error"]["code"]) == ("FAILED", "EXTERNAL_CHECKSUM_MISMATCH")


@pytest.mark.parametrize(
    ("files", "pair", "recursive", "code"),
    [
        ({"f": ""}, ("/f", "/f"), True, "NOT_A_DIRECTORY"),
        ({"d/f": ""}, ("/d", "/d"), False, "IS_A_DIRECTORY"),
        ({"f": ""}, ("/f/", "/f"), None, "AMBIGUOUS_PATH"),
        ({"f": ""}, ("/f", "/here"), None, "IS_A_DIRECTORY"),
        ({"f": ""}, ("/f", "/file/f"), None, "NOT_A_DIRECTORY"),
    ],
)
def test_what_is_neither_file_nor_directory_where_it_must_be_faults(
    api: Any,
    archive: Path,
    scratch: Path,
    files: dict[str, str],
    pair: tuple[str, str],
    recursive: bool | None,
    code: str,
) -> None:
    write(archive, files)
    write(scratch, {"here/x": "", "file": ""})
    item: dict[str, Any] = {"DATA_TYPE": "transfer_item", "source_path": pair[0], "destination_path": pair[1]}
    if recursive is not None:
        item["recursive"] = recursive
    task = api.transfer(item)
    assert api.until(task, lambda document: document["faults"] >= 1)["nice_status"] == code


def test_three_of_each_type_are_worked_at_and_the_rest_is_queued(api: Any, sandbox: Sandbox, archive: Path) -> None:
    write(archive, {str(number): "x" for number in range(5)})
    write(sandbox.collection("scratch").path, {f"old{number}": "x" for number in range(4)})
    sandbox.control.progress("held")
    transfers = [api.transfer((f"/{number}", f"/{number}")) for number in range(5)]
    deletes = [api.delete(f"/old{number}") for number in range(4)]
    time.sleep(0.05)
    assert [api.task(task)["nice_status"] for task in transfers] == ["OK"] * 3 + ["Queued"] * 2
    assert [api.task(task)["nice_status"] for task in deletes] == ["OK"] * 3 + ["Queued"]
    assert all(api.task(task)["is_ok"] for task in transfers)
    api.call("POST", f"/task/{transfers[0]}/cancel")
    assert api.until(transfers[3], lambda document: document["nice_status"] == "OK")
    sandbox.control.progress("at-once")
    assert {api.ended(task)["status"] for task in (*transfers[1:], *deletes)} == {"SUCCEEDED"}


def test_a_task_that_backs_off_from_an_error_gives_its_place_to_others(api: Any, archive: Path) -> None:
    write(archive, {"a": "1"})
    for number in range(3):
        api.transfer((f"/nope{number}", "/nope"))
    assert api.ended(api.transfer(("/a", "/a")))["status"] == "SUCCEEDED"


def test_progress_by_polls(api: Any, sandbox: Sandbox, archive: Path, scratch: Path) -> None:
    write(archive, {"a": "1"})
    sandbox.control.progress("polls:3")
    task = api.transfer(("/a", "/a"))
    assert [api.task(task)["status"] for _ in range(3)] == ["ACTIVE"] * 3
    assert not (scratch / "a").exists()
    assert api.task(task)["status"] == "SUCCEEDED"
    assert (scratch / "a").exists()


def test_progress_by_time_follows_the_sandbox_clock(api: Any, sandbox: Sandbox, archive: Path) -> None:
    write(archive, {"a": "1"})
    sandbox.control.progress("timed:1000")
    task = api.transfer(("/a", "/a"))
    assert api.task(task)["status"] == "ACTIVE"
    sandbox.control.advance_clock(999)
    assert api.task(task)["status"] == "ACTIVE"
    sandbox.control.advance_clock(2)
    assert api.ended(task)["status"] == "SUCCEEDED"


def test_progress_of_one_task_alone(api: Any, sandbox: Sandbox, archive: Path) -> None:
    write(archive, {"a": "1", "b": "2"})
    sandbox.control.progress("held")
    first, second = api.transfer(("/a", "/a")), api.transfer(("/b", "/b"))
    sandbox.control.progress("at-once", task=second)
    assert api.ended(second)["status"] == "SUCCEEDED"
    assert api.task(first)["status"] == "ACTIVE"


def test_cancel_fails_the_task_once(api: Any, sandbox: Sandbox, archive: Path, scratch: Path) -> None:
    write(archive, {"a": "1"})
    sandbox.control.progress("held")
    task = api.transfer(("/a", "/a"))
    assert api.call("POST", f"/task/{task}/cancel")[1]["code"] == "Canceled"
    document = api.task(task)
    assert (document["status"], document["fatal_error"]["code"]) == ("FAILED", "CANCELED")
    assert document["subtasks_canceled"] == 1 and api.events(task)[0] == "CANCELED"
    assert api.call("POST", f"/task/{task}/cancel")[1]["code"] == "TaskComplete"
    sandbox.control.progress("at-once")
    assert not (scratch / "a").exists()


def test_a_given_deadline_is_kept_and_work_extends_only_the_default(api: Any, sandbox: Sandbox, archive: Path) -> None:
    write(archive, {"a": "1"})
    given = api.transfer(("/a", "/a"), deadline="2099-01-01T00:00:00+00:00")
    assert api.ended(given)["deadline"] == "2099-01-01T00:00:00+00:00"
    now = sandbox.control.health()["now"]
    done = api.ended(api.transfer(("/a", "/b")))
    assert time.strftime("%Y-%m-%d", time.gmtime(now + 3 * 86400)) in done["deadline"]
    sandbox.control.progress("held")
    late = api.transfer(("/a", "/c"), deadline="2026-01-01")
    assert api.ended(late)["fatal_error"]["code"] == "EXPIRED"


def test_a_transfer_that_only_waits_for_its_turn_does_not_expire(api: Any, sandbox: Sandbox, archive: Path) -> None:
    write(archive, {str(number): "x" for number in range(4)})
    sandbox.control.progress("held")
    tasks = [api.transfer((f"/{number}", f"/{number}")) for number in range(4)]
    for task, stands in zip(tasks, ("OK", "OK", "OK", "Queued"), strict=True):  # each is queued at first
        api.until(task, lambda document, stands=stands: document["nice_status"] == stands)
    sandbox.control.advance_clock(25 * 3600)
    assert [api.ended(task)["fatal_error"]["code"] for task in tasks[:3]] == ["EXPIRED"] * 3
    assert api.task(tasks[3])["status"] == "ACTIVE"


def test_label_and_deadline_can_be_changed_while_active(api: Any, sandbox: Sandbox, archive: Path) -> None:
    sandbox.control.progress("held")
    task = api.transfer(("/a", "/a"), label="before")
    body = {"DATA_TYPE": "task", "label": "after", "deadline": "2098-01-01"}
    assert api.call("PUT", f"/task/{task}", body)[0] == 200
    assert (api.task(task)["label"], api.task(task)["deadline"]) == ("after", "2098-01-01T00:00:00+00:00")
    api.call("POST", f"/task/{task}/cancel")
    assert api.call("PUT", f"/task/{task}", body)[0] == 409


@pytest.mark.parametrize("label", ["x" * 129, " padded", "two\nlines", 7])
def test_a_label_the_service_refuses(api: Any, label: Any) -> None:
    status, document = api.call("POST", "/transfer", api.transfer_body(("/a", "/a"), label=label))
    assert (status, document["code"]) == (400, "ClientError.BadRequest")


def test_deletes(api: Any, scratch: Path) -> None:
    write(scratch, {"a": "1", "d/b": "2", "d/c": "3", "x1": "", "x2": "", "y": ""})
    (scratch / "link").symlink_to("y")
    document = api.ended(api.delete("/a", "/d", "/link", recursive=True))
    assert set(tree(scratch)) == {"x1", "x2", "y"} and document["type"] == "DELETE"
    assert document["destination_endpoint_id"] is None and document["subtasks_pending"] == 0
    api.ended(api.delete("/x*", interpret_globs=True))
    assert set(tree(scratch)) == {"y"}
    assert api.ended(api.delete("/gone", ignore_missing=True))["status"] == "SUCCEEDED"
    missing = api.ended(api.delete("/gone"), seconds=1)  # at once: a delete does not wait for what may appear
    assert (missing["status"], missing["faults"]) == ("FAILED", 1)
    assert missing["fatal_error"]["code"] == "FILE_NOT_FOUND"
    assert (missing["recursive_symlinks"], missing["verify_checksum"]) == (None, False)
    write(scratch, {"e/f": ""})
    refused = api.until(api.delete("/e", recursive=False), lambda document: document["faults"] >= 1)
    assert refused["nice_status"] == "IS_A_DIRECTORY"
    api.ended(api.delete("/e"))  # without `recursive` the service finds out
    assert not (scratch / "e").exists()


def test_quota_waits_or_fails_as_asked(api: Any, sandbox: Sandbox, archive: Path) -> None:
    write(archive, {"a": "1"})
    fault = sandbox.control.fault(kind="quota", collection="scratch")
    waits = api.transfer(("/a", "/a"))
    assert api.until(waits, lambda document: document["faults"])["nice_status"] == "QUOTA_EXCEEDED"
    fails = api.ended(api.transfer(("/a", "/b"), fail_on_quota_errors=True))
    assert (fails["status"], fails["fatal_error"]["code"]) == ("FAILED", "QUOTA_EXCEEDED")
    sandbox.control.clear_faults(fault)
    assert api.ended(waits)["status"] == "SUCCEEDED"


def test_a_paused_task_says_so_and_goes_on_afterwards(api: Any, sandbox: Sandbox, archive: Path) -> None:
    write(archive, {"a": "1"})
    sandbox.control.fault(kind="paused", collection="archive", message="tape robot is being fed")
    task = api.transfer(("/a", "/a"))
    seen = api.until(task, lambda document: document["is_paused"])
    assert (seen["status"], seen["completion_time"]) == ("ACTIVE", None)
    info = api.get(f"/task/{task}/pause_info")
    assert info["pause_rules"][0]["message"] == "tape robot is being fed"
    sandbox.control.advance_clock(25 * 3600)
    assert api.task(task)["is_paused"], "paused tasks have 90 days"
    sandbox.control.clear_faults("paused")
    assert api.ended(task)["status"] == "SUCCEEDED"
    assert {"PAUSED", "UNPAUSED"} <= set(api.events(task))


def test_an_inactive_task_waits_for_credentials(api: Any, sandbox: Sandbox, archive: Path) -> None:
    write(archive, {"a": "1"})
    sandbox.control.fault(kind="inactive")
    task = api.transfer(("/a", "/a"))
    assert api.until(task, lambda document: document["status"] == "INACTIVE")["completion_time"] is None
    sandbox.control.clear_faults("inactive")
    assert api.ended(task)["status"] == "SUCCEEDED"


def test_a_fault_in_the_middle_leaves_a_part_and_the_retry_the_rest(
    api: Any, sandbox: Sandbox, archive: Path, scratch: Path
) -> None:
    write(archive / "d", {str(number): "x" for number in range(10)})
    sandbox.control.fault(kind="break", after=4, code="CONNECTION_RESET")
    task = api.transfer(("/d", "/d"))
    seen = api.task(task)
    assert (seen["files_transferred"], seen["nice_status"], seen["faults"]) == (4, "CONNECTION_RESET", 1)
    assert len(tree(scratch)) == 4
    assert api.ended(task)["files_transferred"] == 10


def test_a_fatal_error_in_the_middle(api: Any, sandbox: Sandbox, archive: Path) -> None:
    write(archive / "d", {str(number): "x" for number in range(10)})
    sandbox.control.fault(kind="fail", after=4, code="ENDPOINT_ERROR")
    document = api.ended(api.transfer(("/d", "/d")))
    assert (document["status"], document["fatal_error"]["code"]) == ("FAILED", "ENDPOINT_ERROR")
    assert (document["files_transferred"], document["subtasks_failed"]) == (4, 6)


def test_damage_on_the_way_is_found_by_checksums_and_only_by_them(
    api: Any, sandbox: Sandbox, archive: Path, scratch: Path
) -> None:
    write(archive, {"a": "precious"})
    sandbox.control.fault(kind="corrupt")
    verified = api.ended(api.transfer(("/a", "/a"), verify_checksum=True))
    assert verified["faults"] == 1 and (scratch / "a").read_text() == "precious"
    sandbox.control.fault(kind="corrupt")
    unverified = api.ended(api.transfer(("/a", "/b")))  # false when left out
    assert unverified["faults"] == 0 and (scratch / "b").read_bytes() != b"precious"


def test_a_large_file_is_moved_verified_and_damaged_like_a_small_one(
    api: Any, sandbox: Sandbox, archive: Path, scratch: Path
) -> None:
    data = os.urandom(3 * 2**20 + 7)
    (archive / "large").write_bytes(data)
    sandbox.control.fault(kind="corrupt")
    task = api.transfer(("/large", "/large"), verify_checksum=True)
    document = api.ended(task)
    assert (document["faults"], document["bytes_transferred"]) == (1, len(data))
    assert (scratch / "large").read_bytes() == data
    details = [event["details"] for event in api.get(f"/task/{task}/event_list")["DATA"] if event["is_error"]]
    assert "File: /large" in details[0] and str(sandbox.base) not in details[0]


def test_old_tasks_lose_their_history_and_then_their_id(api: Any, sandbox: Sandbox, archive: Path) -> None:
    write(archive, {"a": "1"})
    task = api.transfer(("/a", "/a"))
    api.ended(task)
    sandbox.control.advance_clock(31 * 86400)
    assert api.task(task)["history_deleted"] is True
    assert api.events(task) == [] and api.get(f"/task/{task}/successful_transfers")["DATA"] == []
    assert sandbox.control.forget_task(task)
    status, document = api.call("GET", f"/task/{task}")
    assert (status, document["code"]) == (404, "TaskNotFound")


def test_task_list_filters_orders_and_pages(api: Any, sandbox: Sandbox, archive: Path) -> None:
    write(archive, {"a": "1"})
    ids = [api.transfer(("/a", f"/{number}"), label=f"Run {number} gw-{number:012x}") for number in range(4)]
    for task in ids:
        api.ended(task)
    gone = api.ended(api.delete("/0"))["task_id"]

    def listed(query: str) -> list[str]:
        return [row["task_id"] for row in api.get(f"/task_list?limit=1000&{query}")["DATA"]]

    assert set(listed("filter=type:TRANSFER")) == set(ids) and listed("filter=type:DELETE") == [gone]
    assert set(listed("filter=type:TRANSFER,DELETE/status:SUCCEEDED")) == {*ids, gone}
    assert listed("filter=status:ACTIVE,INACTIVE") == []
    assert listed("filter=label:~*gw-000000000002") == [ids[2]]
    assert listed("filter=label:~run*/task_id:" + ids[1]) == [ids[1]]
    assert listed("filter=label:=Run%203%20gw-000000000003") == [ids[3]]
    assert set(listed("filter=type:TRANSFER/label:!~*2,!~*3")) == {ids[0], ids[1]}
    assert listed("filter=request_time:2099-01-01,") == [] and len(listed("filter=request_time:,2099-01-01")) == 5
    assert len(listed("filter=completion_time:2020-01-01,2099-01-01")) == 5
    assert listed("orderby=label%20ASC&filter=type:TRANSFER") == ids
    page = api.get("/task_list?limit=2&offset=3&fields=task_id")
    assert (page["length"], page["total"], page["limit"], page["offset"]) == (2, 5, 2, 3)
    assert set(page["DATA"][0]) == {"task_id"}
    assert api.get("/task_list")["limit"] == 10


def test_unreadable_and_unwritable_places_are_denied_even_to_root(api: Any, archive: Path, scratch: Path) -> None:
    write(archive, {"d/a": "1", "b": "2"})
    (archive / "d").chmod(0)
    write(scratch, {"locked/x": ""})
    (scratch / "locked").chmod(0o500)
    try:
        source = api.until(api.transfer(("/d", "/d")), lambda document: document["faults"])
        target = api.until(api.transfer(("/b", "/locked/b")), lambda document: document["faults"])
    finally:
        (archive / "d").chmod(0o700)
        (scratch / "locked").chmod(0o700)
    assert {source["nice_status"], target["nice_status"]} == {"PERMISSION_DENIED"}


def test_names_that_are_refused(api: Any) -> None:
    task = api.transfer(("/a\r\nb", "/x"))
    assert api.until(task, lambda document: document["faults"])["nice_status"] == "INVALID_PATH_NAME"
    assert api.call("POST", "/transfer", api.transfer_body(("", "/x")))[0] == 400
    status, document = api.call("POST", "/transfer", api.transfer_body())
    assert (status, document["code"]) == (400, "ClientError.BadRequest.NoTransferItems")


def test_a_hundred_pending_tasks_are_enough(api: Any, sandbox: Sandbox) -> None:
    sandbox.control.progress("held")
    for number in range(100):
        api.transfer((f"/{number}", "/x"))
    assert api.call("POST", "/transfer", api.transfer_body(("/more", "/x")))[0] == 409
