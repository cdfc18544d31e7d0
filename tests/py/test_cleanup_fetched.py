"""`cleanup --fetched`: what collaborators have downloaded from a shared collection goes, everything else stays."""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest

from command_line import run, run_json
from globus_sandbox import auth
from globuswrap.cli.sandbox import Sandbox
from globuswrap.deletion import judge
from globuswrap.deletion.judge import Copy, Fetch, Proof, Seen, Verdict, Write
from globuswrap.deletion.uses import Use
from globuswrap.system import units
from sandbox_api import Api

pytestmark = [pytest.mark.usefixtures("globus_loaded")]

ANNA, BEN = "anna@example.org", "ben@example.org"
TRANSFER = auth.SERVER_OF_SERVICE["transfer"]


class Shared:
    """A guest collection with files for Anna and Ben, who fetch some of them to a collection of their own."""

    def __init__(self, box: Sandbox) -> None:
        self.box, self.api = box, Api(box)
        for name in (ANNA, BEN):
            document = auth.identity_document(auth.id_of("identity " + name), name)
            box.control.put("identity", document["id"], document)
        self.place = box.collection("share").path / "for"
        self.files("1", "2", "3", "4", "dir/a", "dir/deep/b")
        for who in (ANNA, BEN):
            run_json(box, "share", "grant", "share:/for/", who)
        box.control.advance_clock(3600)

    def files(self, *names: str, later: float = 0.0) -> None:
        for name in names:
            path = self.place / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(name)
            when = os.stat(path).st_mtime + later
            os.utime(path, (when, when))

    def left(self) -> list[str]:
        return sorted(str(path.relative_to(self.place)) for path in self.place.rglob("*") if path.is_file())

    def fetch(self, who: str, *names: str, to: str = "scratch", **options: Any) -> str:
        """A download by a collaborator, who is no user of globuswrap; its task."""
        body = self.api.transfer_body(*((f"/for/{name}", f"/{who}/{name}") for name in names), **options)
        body["source_endpoint"] = self.box.collection("share").id
        body["destination_endpoint"] = self.box.collection(to).id
        token = auth.token("access", TRANSFER, auth.id_of("identity " + who))
        status, answer = self.api.call("POST", "/transfer", body, token=token)
        assert status == 202, answer
        (task,) = (each for each in self.box.control.tasks() if each["task_id"] == answer["task_id"])
        return str(task["task_id"])

    def status(self, task: str) -> str:
        return str(next(each["status"] for each in self.box.control.tasks() if each["task_id"] == task))

    def cleanup(self, *options: str, expect: int = 0) -> dict[str, Any]:
        return run_json(self.box, "cleanup", "--under", "share:/for", "--fetched", *options, expect=expect)

    def reasons(self, *options: str) -> dict[str, str]:
        kept = self.cleanup(*options)["data"]["kept"]
        return {os.path.relpath(each["path"], "/for"): each["reason"] for each in kept}


@pytest.fixture
def shared(new_sandbox: Callable[..., Sandbox]) -> Shared:
    return Shared(new_sandbox(collections=("archive", "scratch", "share:gcp-guest")))


def test_exactly_what_the_collaborator_has_as_it_is_now_goes(shared: Shared) -> None:
    """Half of the files fetched; a directory as a whole, a renamed file, a failed fetch, and one before the last change."""
    shared.files("renamed", "changed", "failed")
    shared.fetch(ANNA, "1", "renamed", "changed")
    shared.fetch(ANNA, "dir")
    soon = datetime.now(timezone.utc) + timedelta(hours=3)
    # It copied the first file, and never the second: FAILED at its deadline.
    failed = shared.fetch(ANNA, "failed", "not there", deadline=units.utc_text(soon))
    shared.box.control.advance_clock(4 * 3600)
    assert shared.status(failed) == "FAILED"
    (shared.place / "renamed").rename(shared.place / "new name")
    shared.files("changed", later=2 * 3600)
    before = shared.left()
    options = ("--by", ANNA, "--since", "10d")
    shown = shared.cleanup(*options)["data"]
    assert sorted(each["path"] for each in shown["to_delete"]) == ["/for/1", "/for/dir/a", "/for/dir/deep/b"]
    assert shared.left() == before
    shared.cleanup(*options, "--yes")
    assert shared.left() == ["2", "3", "4", "changed", "failed", "new name"]
    theirs = shared.box.collection("scratch").path / ANNA
    assert (theirs / "dir" / "deep" / "b").read_text() == "dir/deep/b"
    reasons = shared.reasons(*options)
    assert "was modified since task" in reasons["changed"]
    assert reasons["failed"] == reasons["new name"] == reasons["2"] == f"has not been downloaded by {ANNA}"


def test_every_recipient_has_to_have_it_unless_anyone_is_enough(shared: Shared) -> None:
    shared.fetch(ANNA, "1", "2")
    shared.fetch(BEN, "2", "3")
    assert [each["path"] for each in shared.cleanup()["data"]["to_delete"]] == ["/for/2"]
    assert [each["path"] for each in shared.cleanup("--by", ANNA, "--by", BEN)["data"]["to_delete"]] == ["/for/2"]
    assert shared.reasons()["1"] == f"has not been downloaded by {BEN}"
    shared.cleanup("--by", "anyone", "--yes")
    assert shared.left() == ["4", "dir/a", "dir/deep/b"]


def test_where_a_group_or_everyone_may_read_the_recipients_have_to_be_named(shared: Shared) -> None:
    run_json(shared.box, "share", "grant", "share:/for/dir/", "all-users")
    shared.fetch(ANNA, "1", "dir")
    shared.fetch(BEN, "1", "dir")
    shared.cleanup("--yes")
    assert shared.left() == ["2", "3", "4", "dir/a", "dir/deep/b"]
    assert shared.reasons()["dir/a"] == "no recipient is known: name them with --by"
    shared.cleanup("--by", ANNA, "--yes")
    assert shared.left() == ["2", "3", "4"]


def test_ones_own_copies_and_those_on_the_share_itself_are_no_fetches(shared: Shared) -> None:
    run_json(shared.box, "transfer", "share:/for/1", "scratch:/mine", "--wait")
    run_json(shared.box, "share", "grant", f"share:/{ANNA}/", ANNA, "--permissions", "rw")
    assert shared.status(shared.fetch(ANNA, "2", to="share")) == "SUCCEEDED"
    assert (shared.place.parent / ANNA / "2").read_text() == "2"
    assert shared.cleanup("--by", "anyone")["data"]["to_delete"] == []


def test_what_a_later_delivery_overwrote_stays(shared: Shared) -> None:
    """The times are those of the source: nothing but our own receipt shows that it is another file."""
    shared.fetch(ANNA, "1", "2")
    other = shared.box.collection("archive").path / "1"
    other.write_text("a later version")
    os.utime(other, (1_000_000_000, 1_000_000_000))
    shared.box.control.advance_clock(60)
    run_json(shared.box, "transfer", "archive:/1", "share:/for/1", "--preserve-timestamp", "--wait")
    shared.cleanup("--by", ANNA, "--yes")
    assert shared.left() == ["1", "3", "4", "dir/a", "dir/deep/b"]


def test_only_downloads_of_that_time_and_age_count(shared: Shared) -> None:
    shared.fetch(ANNA, "1")
    assert len(shared.cleanup("--by", ANNA)["data"]["to_delete"]) == 1
    assert shared.cleanup("--by", ANNA, "--older-than", "30d")["data"]["to_delete"] == []


def test_without_the_role_it_says_which_one_and_deletes_nothing(shared: Shared) -> None:
    shared.fetch(ANNA, "1")
    denied = {"code": "PermissionDenied", "message": "You do not have the required effective role"}
    shared.box.control.fault(kind="status", path="/endpoint_manager/task_list", status=403, body=denied, count=9)
    failed = shared.cleanup("--by", ANNA, "--yes", expect=1)
    assert failed["error"]["name"] == "no-activity-monitor" and "activity_monitor" in failed["error"]["remedy"]
    assert "1" in shared.left()


def test_a_monitor_who_is_not_the_owner_may_clean_up(shared: Shared) -> None:
    shared.fetch(ANNA, "1")
    shared.box.set_login("client")
    assert shared.cleanup("--by", ANNA, expect=1)["error"]["name"] == "no-activity-monitor"
    share = shared.box.collection("share").id
    client = {"principal_type": "identity", "principal": auth.CLIENT}
    for path, body in (
        ("role", {"DATA_TYPE": "role", **client, "role": "activity_monitor"}),
        ("access", {"DATA_TYPE": "access", **client, "path": "/for/", "permissions": "rw"}),
    ):
        status, answer = shared.api.call("POST", f"/endpoint/{share}/{path}", body)
        assert status < 300, answer
    shared.cleanup("--by", ANNA, "--keep-rules", "--yes")
    assert "1" not in shared.left()


@pytest.mark.parametrize("options", [("--since", "3d"), ("--by", ANNA), ("--fetched", "--from", "receipts")])
def test_options_that_do_not_go_together_are_refused(shared: Shared, options: tuple[str, ...]) -> None:
    done = run(shared.box, "cleanup", "--under", "share:/for", *options)
    assert done.returncode == 2 and "bad-option" in done.stderr


# The rule itself

HERE = ("share", "/f")
FILE = Seen("file", 3, 100.0)


def fetch(owner: str = "anna", task: str = "t1", requested: float = 200.0) -> Fetch:
    return Fetch(owner, Proof(task, "/f", "theirs", "/f", requested, requested + 10, requested, same_time=False))


def verdict(
    *fetches: Fetch,
    recipients: dict[str, str] | None = None,
    copy: Copy | None = None,
    seen: Seen = FILE,
    writes: tuple[Write, ...] = (),
    uses: tuple[Use, ...] = (),
) -> Verdict:
    return judge.fetched(HERE, seen, recipients, fetches, writes, uses, lambda _, __: copy or Copy(seen))


def test_the_rule_asks_all_that_a_deletion_asks() -> None:
    assert verdict(fetch()).delete and verdict(fetch()).tasks == ("t1",)
    assert not verdict().delete
    assert not verdict(fetch(), seen=Seen("link")).delete
    assert not verdict(fetch(), uses=(Use("job 1", "share", "/"),)).delete
    assert not verdict(fetch(), writes=(Write("t2", "share", 300.0, 310.0, frozenset({"/f"})),)).delete
    assert verdict(fetch(), writes=(Write("t0", "share", 50.0, 60.0, frozenset({"/f"})),)).delete
    for copy in (
        Copy(None),
        Copy(Seen("dir")),
        Copy(Seen("file", 3, 201.5)),
        Copy(Seen("file", 3, 200.4)),
        Copy(FILE, changed=230.0),
        Copy(FILE, new_link=True),
    ):
        assert not verdict(fetch(), copy=copy).delete


def test_each_recipient_counts_for_itself() -> None:
    both = {"anna": "Anna", "ben": "Ben"}
    assert not verdict(fetch(), recipients=both).delete
    assert verdict(fetch(), fetch("ben", "t2"), recipients=both).tasks == ("t1", "t2")
    assert not verdict(fetch(), recipients={}).delete
    # Of two fetches by one person the one that still holds counts.
    changed = Copy(Seen("file", 3, 250.0))
    assert not verdict(fetch(), copy=changed).delete
    assert verdict(fetch(), fetch(task="t3", requested=300.0), copy=changed).tasks == ("t3",)
