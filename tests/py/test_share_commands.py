"""`globuswrap share` through the real globus command: each twice, and under each fault that can strike it."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import support
from command_line import accepted, run, run_json
from globus_sandbox import auth
from globuswrap.cli.sandbox import Sandbox

pytestmark = [pytest.mark.usefixtures("globus_loaded")]

ANNA, BEN = "anna@example.org", "ben@example.org"


@pytest.fixture
def box(new_sandbox: Callable[..., Sandbox]) -> Sandbox:
    made = new_sandbox(collections=("archive", "share:gcp-guest", "results"))
    for name in (ANNA, BEN):
        add_person(made, name)
    return made


def add_person(box: Sandbox, name: str, key: str | None = None) -> str:
    document = auth.identity_document(key or auth.id_of("identity " + name), name)
    box.control.put("identity", document["id"], document)
    return str(document["id"])


def rules_of(box: Sandbox) -> list[tuple[str, str, str, str | None]]:
    rows = run_json(box, "share", "list", "share")["data"]["rules"]
    return sorted((row["path"], row["permissions"], row["name"], row["expires"]) for row in rows if row["id"])


def changing(box: Sandbox) -> list[dict[str, Any]]:
    """The requests that made, changed or took away a rule."""
    return [
        each
        for method in ("POST", "PUT", "DELETE")
        for each in box.control.requests("transfer", method, "/endpoint/*/access*")
    ]


def acts(envelope: dict[str, Any]) -> list[str]:
    return [each["act"] for each in envelope["data"]["steps"]]


def test_grant_twice_makes_one_rule(box: Sandbox) -> None:
    first = run_json(box, "share", "grant", "share:/project", ANNA, "--expires", "2099-01-01")
    assert acts(first) == ["create"]
    assert [each[:3] for each in rules_of(box)] == [("/project/", "r", ANNA)]
    before = len(changing(box))
    assert acts(run_json(box, "share", "grant", "share:/project/", ANNA, "--expires", "2099-01-01")) == ["keep"]
    assert acts(run_json(box, "share", "grant", "share:/project/", ANNA)) == ["keep"]
    assert len(changing(box)) == before


def test_grant_updates_what_differs_and_can_take_the_end_away(box: Sandbox) -> None:
    run_json(box, "share", "grant", "share:/p", ANNA, "--expires", "+30d")
    assert acts(run_json(box, "share", "grant", "share:/p", ANNA, "--expires", "+30d")) == ["keep"]
    assert acts(run_json(box, "share", "grant", "share:/p", ANNA, "--permissions", "rw")) == ["update"]
    ((_, may, _, ends),) = rules_of(box)
    assert may == "rw" and ends is not None
    assert acts(run_json(box, "share", "grant", "share:/p", ANNA, "--permissions", "rw", "--expires", "never")) == [
        "update"
    ]
    assert rules_of(box) == [("/p/", "rw", ANNA, None)]


def test_grant_to_groups_everyone_and_people_not_yet_known(box: Sandbox) -> None:
    who = ["group:Sandbox Users", "all-users", "anonymous", "new@example.org"]
    for acted in ("create", "keep"):
        assert acts(run_json(box, "share", "grant", "share:/open", *who, "--provision")) == [acted] * 4
    assert [each[2] for each in rules_of(box)] == ["all users", "anonymous", "group:Sandbox Users", "new@example.org"]


def test_grant_writes_a_mail_when_asked(box: Sandbox) -> None:
    run_json(box, "share", "grant", "share:/p", ANNA, "--mail", "--message", "it's here: $(id)")
    (sent,) = box.control.requests("transfer", "POST", "/endpoint/*/access")
    assert sent["body"]["notify_email"] == ANNA and sent["body"]["notify_message"] == "it's here: $(id)"


@pytest.mark.parametrize(
    ("arguments", "code", "name"),
    [
        (("grant", "share:/p", "nobody@example.org"), 2, "no-such-identity"),
        (("grant", "share:/p", "group:Nobody"), 2, "no-such-group"),
        (("grant", "share:/p", "dddddddd-0000-4000-8000-00000000000d"), 2, "no-such-identity"),
        (("grant", "share:p", ANNA), 2, "bad-path"),
        (("grant", "share:/p"), 2, "nobody"),
        (("grant", "share:/p", ANNA, "--permissions", "w"), 2, "bad-option"),
        (("grant", "share:/p", ANNA, "--expires", "2020-01-01"), 2, "already-over"),
        (("grant", "share:/p", ANNA, "--message", "x"), 2, "bad-option"),
        (("grant", "archive:/p", ANNA), 1, "globus-refused"),
        (("revoke", "share:/p"), 2, "nobody"),
    ],
)
def test_what_makes_no_sense_is_refused_and_changes_nothing(
    box: Sandbox, arguments: tuple[str, ...], code: int, name: str
) -> None:
    assert run_json(box, "share", *arguments, expect=code)["error"]["name"] == name
    assert not changing(box)


def test_someone_can_be_named_by_their_uuid(box: Sandbox) -> None:
    other = add_person(box, ANNA, "cccccccc-0000-4000-8000-00000000000c")
    found = run_json(box, "share", "grant", "share:/p", other)
    assert acts(found) == ["create"]


def test_revoke_takes_away_what_is_named_and_again_nothing(box: Sandbox) -> None:
    run_json(box, "share", "grant", "share:/p", ANNA, BEN, "all-users")
    run_json(box, "share", "grant", "share:/p/deeper", ANNA)
    assert acts(run_json(box, "share", "revoke", "share:/p", ANNA)) == ["delete"]
    assert acts(run_json(box, "share", "revoke", "share:/p", ANNA)) == []
    assert acts(run_json(box, "share", "revoke", "share:/p", "--all")) == ["delete", "delete"]
    assert [each[0] for each in rules_of(box)] == ["/p/deeper/"]


def test_what_globus_says_is_not_there_and_lists_all_the_same_is_not_revoked(box: Sandbox) -> None:
    run_json(box, "share", "grant", "share:/p", ANNA)
    box.control.fault(kind="not-found", method="DELETE")
    assert run_json(box, "share", "revoke", "share:/p", ANNA, expect=1)["error"]["name"] == "not-found"
    assert acts(run_json(box, "share", "revoke", "share:/p", ANNA)) == ["delete"]


def test_dry_runs_change_nothing(box: Sandbox) -> None:
    assert acts(run_json(box, "share", "grant", "share:/p", ANNA, "--dry-run")) == ["create"]
    assert not rules_of(box)
    run_json(box, "share", "grant", "share:/p", ANNA)
    assert acts(run_json(box, "share", "revoke", "share:/p", ANNA, "--dry-run")) == ["delete"]
    assert len(rules_of(box)) == 1


# deliver


def source(box: Sandbox, names: tuple[str, ...] = ("a", "it's b", "-c")) -> Path:
    place = box.collection("archive").path / "run 1"
    place.mkdir(exist_ok=True)
    for name in names:
        (place / name).write_text(name)
    return place


def names_in(place: Path) -> list[str]:
    return sorted(each.name for each in place.iterdir())


def test_deliver_grants_when_the_data_has_arrived_and_again_sends_nothing(box: Sandbox) -> None:
    source(box)
    arguments = ("share", "deliver", "archive:/run 1", "share:/for/anna", "--to", ANNA)
    first = run_json(box, *arguments)
    assert acts(first) == ["create"] and first["data"]["transfer"]["receipt"]["files_transferred"] == 3
    assert names_in(box.collection("share").path / "for" / "anna") == ["-c", "a", "it's b"]
    assert [each[:3] for each in rules_of(box)] == [("/for/anna/", "r", ANNA)]
    order = [each["path"] for each in box.control.requests("transfer", "POST") if "rename" not in each["path"]]
    assert [path.rpartition("/")[2] for path in order] == ["mkdir", "mkdir", "transfer", "access"]
    second = run_json(box, *arguments)
    assert acts(second) == ["keep"] and second["data"]["transfer"]["receipt"]["files_transferred"] == 0


def test_deliver_can_grant_first(box: Sandbox) -> None:
    source(box)
    run_json(box, "share", "deliver", "archive:/run 1", "share:/p", "--to", ANNA, "--grant-first")
    order = [each["path"].rpartition("/")[2] for each in box.control.requests("transfer", "POST")]
    assert order.index("access") < order.index("transfer")


def test_deliver_of_one_file_shares_the_directory_that_holds_it(box: Sandbox) -> None:
    source(box)
    run_json(box, "share", "deliver", "archive:/run 1/a", "share:/one/", "--to", ANNA)
    assert names_in(box.collection("share").path / "one") == ["a"]
    assert [each[:3] for each in rules_of(box)] == [("/one/", "r", ANNA)]


def test_a_failed_delivery_grants_nothing(box: Sandbox) -> None:
    source(box)
    box.control.fault(kind="fail")
    failed = run_json(box, "share", "deliver", "archive:/run 1", "share:/p", "--to", ANNA, expect=1)
    assert failed["error"]["name"] == "task-failed"
    assert not rules_of(box)
    assert acts(run_json(box, "share", "deliver", "archive:/run 1", "share:/p", "--to", ANNA)) == ["create"]


def test_a_missing_source_or_a_share_that_is_none_is_said_before_anything_moves(box: Sandbox) -> None:
    run_json(box, "share", "deliver", "archive:/none", "share:/p", "--to", ANNA, expect=2)
    source(box)
    run_json(box, "share", "deliver", "archive:/run 1", "results:/p", "--to", ANNA, expect=1)
    assert not accepted(box)


def test_share_data_sh_does_not_delete_what_is_there_before_the_new_data_is_safe(box: Sandbox) -> None:
    """The public script deleted the destination first, and what a colleague had put there with it. Here what an earlier delivery
    left goes last, not after a failure, and nothing else goes."""
    box.control.advance_clock(3600)
    place = source(box)
    (place / "old").write_text("old")
    replace = ("share", "deliver", "archive:/run 1", "share:/p", "--to", ANNA, "--replace")
    run_json(box, *replace)
    shared = box.collection("share").path / "p"
    (shared / "a colleague's").write_text("x")
    (place / "old").unlink()
    box.control.fault(kind="fail")
    run_json(box, *replace, expect=1)
    assert "old" in names_in(shared)
    assert run_json(box, *replace, "--dry-run")["data"]["to_delete"] == ["/p/old"] and "old" in names_in(shared)
    done = run_json(box, *replace)
    assert names_in(shared) == ["-c", "a", "a colleague's", "it's b"] and done["data"]["deleted"] == ["/p/old"]
    assert done["data"]["kept"] == [{"path": "/p/a colleague's", "reason": "no receipt says that it was delivered"}]
    assert not any(each["delete_destination_extra"] for each in accepted(box))


def test_what_was_delivered_and_then_modified_is_not_replaced(box: Sandbox) -> None:
    box.control.advance_clock(3600)
    place = source(box)
    (place / "old").write_text("old")
    run_json(box, "share", "deliver", "archive:/run 1", "share:/p", "--to", ANNA)
    (place / "old").unlink()
    old = box.collection("share").path / "p" / "old"
    later = old.stat().st_mtime + 7200
    os.utime(old, (later, later))
    done = run_json(box, "share", "deliver", "archive:/run 1", "share:/p", "--to", ANNA, "--replace")
    assert done["data"]["kept"][0]["reason"].startswith("was modified since task") and old.exists()


def test_an_empty_source_does_not_empty_the_destination(box: Sandbox) -> None:
    source(box, ())
    shared = box.collection("share").path / "p"
    shared.mkdir()
    (shared / "old").write_text("old")
    failed = run_json(box, "share", "deliver", "archive:/run 1", "share:/p", "--to", ANNA, "--replace", expect=1)
    assert failed["error"]["name"] == "empty-source" and names_in(shared) == ["old"]


def test_share_data_sh_does_not_fail_when_the_permission_exists(box: Sandbox) -> None:
    """The public script ended with an error at its second run."""
    source(box)
    for _ in range(2):
        run_json(box, "share", "deliver", "archive:/run 1", "share:/p", "--to", ANNA)
    assert len(rules_of(box)) == 1


# apply

POLICY = f"""
collection = "share"
[[rule]]
path = "/p/"
who = ["{ANNA}", "{BEN}"]
permissions = "rw"
[[rule]]
path = "/open/"
who = "all-users"
expires = 2099-01-01
[[role]]
who = "{BEN}"
role = "activity_monitor"
"""


def test_apply_brings_a_collection_to_what_the_file_says_and_again_changes_nothing(
    box: Sandbox, tmp_path: Path
) -> None:
    file = tmp_path / "policy.toml"
    file.write_text(POLICY)
    run_json(box, "share", "grant", "share:/p", ANNA)
    run_json(box, "share", "grant", "share:/old", BEN)
    shown = run_json(box, "share", "apply", str(file), "--dry-run")
    assert sorted(acts(shown)) == ["create", "create", "extra", "update"] and len(rules_of(box)) == 2
    first = run_json(box, "share", "apply", str(file), "--mkdir")
    assert first["data"]["changed"] == 4
    assert (box.collection("share").path / "open").is_dir()
    assert len(rules_of(box)) == 4
    pruned = run_json(box, "share", "apply", str(file), "--prune")
    assert acts(pruned)[-1] == "delete" and pruned["data"]["changed"] == 1
    before = len(changing(box))
    assert run_json(box, "share", "apply", str(file), "--prune", "--mkdir")["data"]["changed"] == 0
    assert len(changing(box)) == before
    listed = run_json(box, "share", "list", "share", "--roles")["data"]["roles"]
    assert [(each["role"], each["name"]) for each in listed][1:] == [("activity_monitor", BEN)]


NEW_PEOPLE = """
collection = "share"
[[rule]]
path = "/p/"
who = ["one@example.org", "two@example.org"]
[[role]]
who = ["two@example.org", "three@example.org"]
role = "activity_monitor"
"""


def test_apply_gives_rules_and_roles_to_people_that_globus_does_not_know_yet(box: Sandbox, tmp_path: Path) -> None:
    file = tmp_path / "policy.toml"
    file.write_text(NEW_PEOPLE)
    apply = ("share", "apply", str(file), "--provision")
    assert run_json(box, *apply, "--dry-run")["data"]["changed"] == 4 and not rules_of(box)
    known = [each["username"] for each in box.control.documents("identity")]
    assert "one@example.org" not in known, "a dry run makes no identities"
    assert run_json(box, *apply, "--mail")["data"]["changed"] == 4
    assert [each[2] for each in rules_of(box)] == ["one@example.org", "two@example.org"]
    listed = run_json(box, "share", "list", "share", "--roles")["data"]["roles"]
    assert [each["name"] for each in listed][1:] == ["two@example.org", "three@example.org"]
    assert run_json(box, *apply)["data"]["changed"] == 0


@pytest.mark.parametrize("options", [("--mkdir",), ("--mkdir", "--mail")])
def test_apply_changes_nothing_when_a_person_has_no_identity_or_no_address(
    box: Sandbox, tmp_path: Path, options: tuple[str, ...]
) -> None:
    file = tmp_path / "policy.toml"
    mailed = "--mail" in options
    file.write_text(NEW_PEOPLE.replace("one@example.org", "group:Sandbox Users") if mailed else NEW_PEOPLE)
    if not mailed:
        nobody: dict[str, Any] = {"kind": "status", "status": 200, "body": {"identities": []}, "count": None}
        box.control.fault(**nobody, service="auth", path="/v2/api/identities")
    done = run_json(box, "share", "apply", str(file), "--provision", *options, expect=2 if mailed else 1)
    assert done["error"]["name"] == ("no-mail" if mailed else "no-such-identity")
    assert not changing(box) and not (box.collection("share").path / "p").exists()


def test_the_plan_of_apply_is_shown_before_anything_changes(box: Sandbox, tmp_path: Path) -> None:
    file = tmp_path / "policy.toml"
    file.write_text(POLICY)
    box.control.fault(
        kind="status",
        status=403,
        body={"code": "PermissionDenied", "message": "no"},
        method="POST",
        path="/endpoint/*/access",
    )
    done = run(box, "share", "apply", str(file))
    assert done.returncode == 1
    assert f"create /p/ rw {ANNA}" in done.stderr and "create role activity_monitor" in done.stderr


def test_guest_prints_the_command_filled_in(box: Sandbox) -> None:
    done = run(box, "share", "guest", "archive:/project x", "Project X")
    assert done.stdout.splitlines()[0] == (
        f"globus collection create guest {box.collection('archive').id} '/project x' 'Project X'"
    )


# under faults

#: Fault -> exit code of the first run. None: it heals inside the run, which is then a success.
FAULTS: list[tuple[dict[str, Any], int]] = [
    ({"kind": "status", "status": 503, "count": 1}, 0),
    ({"kind": "drop-before"}, 0),
    ({"kind": "drop-after", "method": "POST"}, 0),
    ({"kind": "rate-limit", "retry_after": 0}, 0),
    ({"kind": "html"}, 0),
    ({"kind": "slow", "seconds": 0.2}, 0),
    ({"kind": "consent"}, 4),
    ({"kind": "session"}, 4),
    ({"kind": "expired-token", "count": 5}, 4),
    ({"kind": "logged-out"}, 4),
    ({"kind": "not-found", "method": "GET"}, 1),
    ({"kind": "conflict", "method": "POST", "path": "/endpoint/*/access"}, 75),
]


@pytest.mark.slow
@pytest.mark.parametrize(("fault", "code"), support.faults(FAULTS))
def test_grant_under_each_fault_and_again_without_makes_one_rule(
    box: Sandbox, fault: dict[str, Any], code: int
) -> None:
    box.control.fault(fault)
    done = run(box, "share", "grant", "share:/p", ANNA, "--json")
    assert done.returncode == code, done.stderr
    assert json.loads(done.stdout)["exit_code"] == code
    box.control.clear_faults()
    run_json(box, "share", "grant", "share:/p", ANNA)
    assert rules_of(box) == [("/p/", "r", ANNA, None)]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("fault", "code"),
    support.faults(
        [
            ({"kind": "unavailable"}, 0),
            ({"kind": "drop-after", "method": "DELETE", "path": "/endpoint/*/access/*"}, 0),
            ({"kind": "html"}, 0),
            ({"kind": "consent"}, 4),
            ({"kind": "session"}, 4),
            ({"kind": "logged-out"}, 4),
            (
                {
                    "kind": "status",
                    "status": 403,
                    "method": "DELETE",
                    "body": {"code": "PermissionDenied", "message": "no"},
                },
                1,
            ),
        ]
    ),
)
def test_revoke_under_each_fault_and_again_without_leaves_no_rule(
    box: Sandbox, fault: dict[str, Any], code: int
) -> None:
    run_json(box, "share", "grant", "share:/p", ANNA)
    box.control.fault(fault)
    run_json(box, "share", "revoke", "share:/p", ANNA, expect=code)
    box.control.clear_faults()
    assert len(rules_of(box)) == (0 if code == 0 else 1)
    run_json(box, "share", "revoke", "share:/p", ANNA)
    assert rules_of(box) == []


@pytest.mark.slow
@pytest.mark.parametrize(
    ("fault", "code"),
    support.faults(
        [({"kind": "unavailable"}, 0), ({"kind": "html"}, 0), ({"kind": "consent"}, 4), ({"kind": "logged-out"}, 4)]
    ),
)
def test_list_under_each_fault_tells_all_or_fails(box: Sandbox, fault: dict[str, Any], code: int) -> None:
    run_json(box, "share", "grant", "share:/p", ANNA)
    box.control.fault(fault)
    listed = run_json(box, "share", "list", "share", expect=code)["data"]
    assert code != 0 or "/p/" in [each["path"] for each in listed["rules"]]


def test_a_lost_reply_to_every_create_still_makes_one_rule(box: Sandbox) -> None:
    box.control.fault(kind="drop-after", method="POST", path="/endpoint/*/access", count=2)
    assert acts(run_json(box, "share", "grant", "share:/p", ANNA)) == ["create"]
    assert rules_of(box) == [("/p/", "r", ANNA, None)]


@pytest.mark.slow
@pytest.mark.parametrize("kind", support.faults(["denied", "full", "quota", "paused", "disconnected"]))
def test_deliver_under_each_fault_of_a_collection_grants_nothing_and_later_delivers(box: Sandbox, kind: str) -> None:
    source(box)
    box.control.fault(kind=kind, collection="share")
    arguments = ("share", "deliver", "archive:/run 1", "share:/p", "--to", ANNA, "--fault-grace", "0", "--timeout", "1")
    done = run(box, *arguments, "--retry-for", "0")
    assert done.returncode in (1, 5, 7, 75), done.stderr
    assert not rules_of(box)
    box.control.clear_faults()
    assert acts(run_json(box, *arguments)) == ["create"]
    assert names_in(box.collection("share").path / "p") == ["-c", "a", "it's b"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("fault", "code"),
    support.faults(
        [
            ({"kind": "unavailable"}, 0),
            ({"kind": "drop-after", "method": "POST", "path": "/endpoint/*/access", "count": 2}, 0),
            ({"kind": "drop-after", "method": "DELETE"}, 0),
            ({"kind": "consent"}, 4),
            (
                {
                    "kind": "status",
                    "status": 403,
                    "method": "PUT",
                    "body": {"code": "PermissionDenied", "message": "no"},
                },
                1,
            ),
        ]
    ),
)
def test_apply_under_each_fault_and_again_without_is_what_the_file_says(
    box: Sandbox, tmp_path: Path, fault: dict[str, Any], code: int
) -> None:
    file = tmp_path / "policy.toml"
    file.write_text(POLICY.partition("[[role]]")[0])
    run_json(box, "share", "grant", "share:/p", ANNA)
    run_json(box, "share", "grant", "share:/old", BEN)
    box.control.fault(fault)
    run_json(box, "share", "apply", str(file), "--prune", expect=code)
    box.control.clear_faults()
    run_json(box, "share", "apply", str(file), "--prune")
    assert [each[:3] for each in rules_of(box)] == [
        ("/open/", "r", "all users"),
        ("/p/", "rw", ANNA),
        ("/p/", "rw", BEN),
    ]
