"""Bookmarks as addresses, groups and their members, through the real globus command."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from command_line import run_json
from globus_sandbox import auth
from globuswrap.cli.sandbox import Sandbox

pytestmark = [pytest.mark.usefixtures("globus_loaded")]

ANNA, BEN = "anna@example.org", "ben@example.org"


def bookmark(box: Sandbox, name: str, collection: str, path: str) -> None:
    where = f"{box.collection(collection).id}:{path}"
    assert box.run(["globus", "bookmark", "create", where, name]).returncode == 0


# Bookmarks


def test_a_bookmark_is_the_beginning_of_an_address(sandbox: Sandbox) -> None:
    """Also of a collection that has a name, with a title that cannot be one."""
    top = sandbox.collection("archive").path / "runs" / "2026"
    top.mkdir(parents=True)
    (top / "x.h5").write_text("data")
    bookmark(sandbox, "My runs", "archive", "/runs/")
    run_json(sandbox, "transfer", "bookmark:My runs/2026/x.h5", "scratch:/x.h5", "--wait")
    assert (sandbox.collection("scratch").path / "x.h5").read_text() == "data"
    found = run_json(sandbox, "collection", "resolve", "bookmark:My runs")["data"]
    assert f"{sandbox.collection('archive').id}:/runs/" in found.values()


def test_of_several_bookmarks_the_longest_name_counts(sandbox: Sandbox) -> None:
    bookmark(sandbox, "a", "archive", "/first/")
    bookmark(sandbox, "a/b", "archive", "/second/")
    found = run_json(sandbox, "collection", "resolve", "bookmark:a/b/c")["data"]
    assert f"{sandbox.collection('archive').id}:/second/c" in found.values()


def test_what_is_no_bookmark_is_refused_with_what_is_near(sandbox: Sandbox) -> None:
    bookmark(sandbox, "beamline", "archive", "/runs/")
    refused = run_json(sandbox, "transfer", "bookmark:beamlne/x", "scratch:/x", expect=2)
    assert refused["error"]["name"] == "unknown-bookmark" and "bookmark:beamline" in refused["error"]["remedy"]


# Groups


@pytest.fixture
def box(new_sandbox: Callable[..., Sandbox]) -> Sandbox:
    made = new_sandbox(collections=("archive", "share:guest"))
    for name in (ANNA, BEN):
        document = auth.identity_document(auth.id_of("identity " + name), name)
        made.control.put("identity", document["id"], document)
    return made


def members(answer: dict[str, Any]) -> dict[str, str]:
    return {each["name"]: each["role"] for each in answer["data"]["members"] if each["status"] == "active"}


def acts(answer: dict[str, Any]) -> list[str]:
    return [each["act"] for each in answer["data"]["changes"]]


def test_a_group_is_made_once_and_has_the_members_that_were_asked_for(box: Sandbox) -> None:
    line = ("share", "group", "beam team", "--create", "--add", ANNA, "--add", BEN)
    planned = run_json(box, *line, "--dry-run")
    assert acts(planned) == ["create", "add", "add"] and box.control.documents("group") == []
    made = run_json(box, *line)
    assert members(made).items() >= {ANNA: "member", BEN: "member"}.items()
    again = run_json(box, *line)
    assert acts(again) == ["keep", "keep"] and again["data"]["group"] == made["data"]["group"]
    assert len(box.control.documents("group")) == 1
    left = run_json(box, "share", "group", "beam team", "--remove", BEN, "--remove", ANNA, "--add", BEN, expect=2)
    assert left["error"]["name"] == "contradiction"
    left = run_json(box, "share", "group", "beam team", "--remove", BEN)
    assert BEN not in members(left) and ANNA in members(left)


def test_a_permission_for_the_group_reaches_its_members(box: Sandbox) -> None:
    run_json(box, "share", "group", "beam team", "--create", "--add", ANNA)
    run_json(box, "share", "grant", "share:/for/", "group:beam team")
    (rule,) = [each for each in run_json(box, "share", "list", "share")["data"]["rules"] if each["id"]]
    group = run_json(box, "share", "group", "beam team")["data"]["group"]
    assert (rule["principal_type"], rule["principal"]) == ("group", group)


def test_a_group_whose_reply_was_lost_is_one_group(box: Sandbox) -> None:
    box.control.fault(kind="drop-after", service="groups", method="POST", path="/v2/groups")
    run_json(box, "share", "group", "beam team", "--create", "--add", ANNA)
    assert len([each for each in box.control.documents("group") if not each.get("deleted")]) == 1
    assert members(run_json(box, "share", "group", "beam team", "--create"))[ANNA] == "member"


def test_no_group_is_made_unless_that_is_said(box: Sandbox) -> None:
    assert run_json(box, "share", "group", "typo", "--add", ANNA, expect=2)["error"]["name"] == "no-such-group"
    assert box.control.documents("group") == []
