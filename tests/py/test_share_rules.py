"""What `share` decides, without Globus: equal or not, the plan, the policy file."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest

from globuswrap.collections import principals
from globuswrap.collections.principals import Who
from globuswrap.errors import UsageProblem
from globuswrap.sharing import actions, policy, rules
from globuswrap.sharing.actions import Role
from globuswrap.sharing.rules import Existing, Expiry, Wanted

NOW = datetime(2026, 11, 20, 12, tzinfo=timezone.utc)
ANNA = Who("identity", "aaaaaaaa-0000-4000-8000-000000000001", shown="anna@example.org")
BEN = Who("identity", "bbbbbbbb-0000-4000-8000-000000000002", shown="ben@example.org")
ALL = Who("all_authenticated_users")


def there(who: Who = ANNA, path: str = "/p/", may: str = "r", ends: datetime | None = None) -> Existing:
    return Existing("rule-1", who, path, may, ends)


@pytest.mark.parametrize(
    ("wanted", "rule", "act"),
    [
        (Wanted(ANNA, "/p/"), there(), "keep"),
        (Wanted(ANNA, "/p/"), there(BEN), "create"),
        (Wanted(ANNA, "/p/"), there(path="/p/q/"), "create"),
        (Wanted(ANNA, "/p/", "rw"), there(), "update"),
        (Wanted(ANNA, "/p/"), there(ends=NOW + timedelta(days=1)), "keep"),
        (Wanted(ANNA, "/p/"), there(ends=NOW - timedelta(days=1)), "update"),  # over: it gives nothing any more
        (Wanted(ANNA, "/p/", expires=Expiry(None)), there(ends=NOW + timedelta(days=1)), "update"),
        (Wanted(ANNA, "/p/", expires=Expiry(NOW + timedelta(days=1))), there(), "update"),
        (Wanted(ANNA, "/p/", expires=Expiry(NOW + timedelta(days=1))), there(ends=NOW + timedelta(days=1)), "keep"),
        (
            Wanted(ANNA, "/p/", expires=Expiry(NOW + timedelta(days=30), timedelta(days=1.5))),
            there(ends=NOW + timedelta(days=29)),
            "keep",
        ),
        (Wanted(ANNA, "/p/"), Existing(None, ANNA, "/p/", "rw"), "create"),  # the owner's own rule is none to change
    ],
)
def test_one_rule_is_created_updated_or_kept(wanted: Wanted, rule: Existing, act: str) -> None:
    assert rules.step(wanted, [rule], NOW).act == act


def test_unlisted_rules_go_only_with_prune() -> None:
    rows = [there(BEN), Existing(None, ANNA, "/", "rw"), there(ALL, "/open/")]
    wanted = [Wanted(ANNA, "/p/")]
    assert [each.act for each in rules.plan(wanted, rows)] == ["create"]
    assert [each.act for each in rules.unlisted(wanted, rows, prune=False)] == ["extra", "extra"]
    assert [each.act for each in rules.unlisted(wanted, rows, prune=True)] == ["delete", "delete"]


def test_two_rules_that_contradict_each_other_are_refused() -> None:
    with pytest.raises(UsageProblem, match="two rules for anna"):
        rules.plan([Wanted(ANNA, "/p/"), Wanted(ANNA, "/p/", "rw")], [])


def test_no_administrator_is_ever_pruned() -> None:
    found = [Role(ANNA, "administrator", "1"), Role(BEN, "activity_monitor", "2")]
    assert actions.plan_roles([], found, prune=True) == [("delete", found[1])]
    assert actions.plan_roles([Role(BEN, "activity_monitor")], found, prune=True) == [
        ("keep", Role(BEN, "activity_monitor"))
    ]


@pytest.mark.parametrize(
    ("written", "path"), [("/p", "/p/"), ("/p//q/", "/p/q/"), ("/", "/"), ("//", "/"), ("/a b", "/a b/")]
)
def test_a_permission_is_on_a_directory(written: str, path: str) -> None:
    assert rules.directory(written) == path


@pytest.mark.parametrize("written", ["p", "~/p", "/p/../q"])
def test_a_permission_is_on_an_absolute_path(written: str) -> None:
    with pytest.raises(UsageProblem):
        rules.directory(written)


def test_a_rule_without_a_zone_is_utc_and_one_of_a_role_is_built_in() -> None:
    row = {"id": "x", "principal_type": "identity", "principal": "A", "path": "/", "permissions": "r", "role_id": "r"}
    assert rules.existing({**row, "role_id": None, "expiration_date": "2026-11-20T12:00:00"}).expires == NOW
    assert rules.existing(row).id is None


@pytest.mark.parametrize(
    "text",
    [
        "x = 1",
        "collection = 3",
        'collection = "aaaaaaaa-0000-4000-8000-000000000001"\nrule = 1',
        'collection = "aaaaaaaa-0000-4000-8000-000000000001"\n[[rule]]\nwho = "all-users"',
        'collection = "aaaaaaaa-0000-4000-8000-000000000001"\n[[rule]]\npath = "/p/"\nwho = []',
        'collection = "aaaaaaaa-0000-4000-8000-000000000001"\n[[rule]]\npath = "/p/"\nwho = "all-users"\npermissions = "x"',
        'collection = "aaaaaaaa-0000-4000-8000-000000000001"\n[[rule]]\npath = "/p/"\nwho = "all-users"\nexpires = 3',
        'collection = "aaaaaaaa-0000-4000-8000-000000000001"\n[[rule]]\npath = "/p/"\nwho = "all-users"\nexpire = "never"',
        'collection = "aaaaaaaa-0000-4000-8000-000000000001"\n[[rule]]\npath = "/p/"\nwho = "all-users"\nexpires = 2020-01-01',
        'collection = "aaaaaaaa-0000-4000-8000-000000000001"\n[[role]]\nwho = "all-users"\nrole = "access_manager"',
        'collection = "aaaaaaaa-0000-4000-8000-000000000001"\n[[role]]\nwho = "all-users"\nrole = "king"',
        "not toml",
    ],
)
def test_a_wrong_policy_says_where(tmp_path: Path, text: str) -> None:
    file = tmp_path / "policy.toml"
    file.write_text(text)
    with pytest.raises(UsageProblem) as raised:
        policy.read(file)
    assert str(file) in raised.value.cause or raised.value.name in ("already-over",)


def test_a_policy_is_read(tmp_path: Path) -> None:
    file = tmp_path / "policy.toml"
    file.write_text(
        'collection = "AAAAAAAA-0000-4000-8000-000000000001"\n'
        '[[rule]]\npath = "/open"\nwho = ["all-users", "anonymous"]\n'
        f'[[rule]]\npath = "/p/"\nwho = "group:{BEN.id}"\npermissions = "rw"\nexpires = 2099-01-01T00:00:00Z\n'
    )
    found = policy.read(file)
    assert found.collection == "aaaaaaaa-0000-4000-8000-000000000001" and found.roles is None
    assert [(each.who.kind, each.path, each.permissions) for each in found.rules] == [
        ("all_authenticated_users", "/open/", "r"),
        ("anonymous", "/open/", "r"),
        ("group", "/p/", "rw"),
    ]
    assert found.rules[2].expires == Expiry(datetime(2099, 1, 1, tzinfo=timezone.utc))
    assert found.rules[0].expires == Expiry(None)


def test_a_name_of_two_identities_is_not_guessed() -> None:
    rows = [{"id": ANNA.id, "username": ANNA.shown}, {"id": BEN.id, "username": ANNA.shown}]
    with pytest.raises(UsageProblem) as raised:
        principals._identity(ANNA.shown, rows, False)
    assert raised.value.name == "several-identities" and ANNA.id in raised.value.cause
    assert principals._identity(BEN.id, rows, False) == BEN
