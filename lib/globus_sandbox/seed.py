"""A seed file (TOML): the identities, groups, collections, permissions and tasks that a sandbox begins with.

[collections]
archive = "mapped"
shared = "guest"

[[identity]]
username = "ben@example.org"

[[group]]
name = "beamline"
members = { "ben@example.org" = "member" }

[[permission]]
collection = "shared"
path = "/run7/"
identity = "ben@example.org"        # or: group = "beamline", or: all-users = true
permissions = "r"

[[task]]
source = "archive:/run7"
destination = "shared:/run7"
label = "last night"
"""

from __future__ import annotations

import json
import sys
import urllib.error
from pathlib import Path
from typing import Any

from globus_sandbox import auth, groups
from globus_sandbox.control import Control
from globus_sandbox.documents import id_of
from globus_sandbox.errors import BadRequest

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

#: The fields of each table; those with a star must be there.
TABLES = {
    "identity": ("username*", "id", "name"),
    "group": ("name*", "id", "members"),
    "permission": ("collection*", "path*", "permissions*", "identity", "group", "all-users"),
    "task": ("source*", "destination*", "label", "recursive"),
}


def read(file: Path) -> dict[str, Any]:
    """Raises BadRequest for a file that cannot be read, a table or a field that is not known, or one that is missing."""
    try:
        found: dict[str, Any] = tomllib.loads(file.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise _bad(file, str(error)) from None
    for name, rows in found.items():
        if name == "collections":
            continue
        if name not in TABLES or not isinstance(rows, list):
            raise _bad(file, f"no table {name!r} (collections, {', '.join(f'[[{one}]]' for one in TABLES)})")
        known = {field.rstrip("*") for field in TABLES[name]}
        needed = {field.rstrip("*") for field in TABLES[name] if field.endswith("*")}
        for row in rows:
            wrong = sorted((row.keys() - known) | (needed - row.keys()))
            if wrong:
                raise _bad(file, f"[[{name}]] {wrong[0]!r}: unknown, or missing")
    return found


def _bad(file: Path, cause: str) -> BadRequest:
    return BadRequest("sandbox-seed", f"{file}: {cause}", "see docs/sandbox.md")


def collections_of(seed: dict[str, Any]) -> list[str]:
    return [f"{name}:{kind}" for name, kind in seed.get("collections", {}).items()]


def sow(seed: dict[str, Any], control: Control, owner: str) -> None:
    """Put everything of a seed into a running sandbox. Raises BadRequest for a name that nothing has."""
    people = {auth.USERNAME: auth.USER}
    for row in seed.get("identity", ()):
        key = str(row.get("id") or id_of("identity " + row["username"].lower()))
        document = {**auth.identity_document(key, row["username"]), "name": row.get("name")}
        control.put("identity", key, document)
        people[row["username"]] = key
    made = {}
    for row in seed.get("group", ()):
        key = made[row["name"]] = str(row.get("id") or id_of("group " + row["name"]))
        members = {owner: "admin", **{_of(people, name): role for name, role in row.get("members", {}).items()}}
        control.put("group", key, _group(key, row["name"], members, people))
    collections = {each["name"]: each["id"] for each in control.collections()}
    for row in seed.get("permission", ()):
        if "identity" in row:
            kind, principal = "identity", _of(people, row["identity"])
        elif "group" in row:
            kind, principal = "group", _of(made, row["group"])
        else:
            kind, principal = "all_authenticated_users", ""
        rule = {
            "DATA_TYPE": "access",
            "principal_type": kind,
            "principal": principal,
            "path": row["path"],
            "permissions": row["permissions"],
        }
        _ask(control, owner, f"/endpoint/{_of(collections, row['collection'])}/access", rule)
    for row in seed.get("task", ()):
        _submit(control, owner, row, collections)


def _of(known: dict[str, str], name: str) -> str:
    if name not in known:
        raise BadRequest("sandbox-seed", f"the seed names {name!r}, which it does not create", "see docs/sandbox.md")
    return known[name]


def _group(key: str, name: str, members: dict[str, str], people: dict[str, str]) -> dict[str, Any]:
    names = {one: username for username, one in people.items()}
    rows = [groups.member(key, one, names.get(one, one), role) for one, role in members.items()]
    return {**groups.empty(), "id": key, "name": name, "description": "", "memberships": rows}


def _submit(control: Control, owner: str, row: dict[str, Any], collections: dict[str, str]) -> None:
    source, _, source_path = row["source"].partition(":")
    destination, _, destination_path = row["destination"].partition(":")
    item = {"DATA_TYPE": "transfer_item", "source_path": source_path, "destination_path": destination_path}
    if "recursive" in row:
        item["recursive"] = row["recursive"]
    body = {
        "DATA_TYPE": "transfer",
        "submission_id": _ask(control, owner, "/submission_id", None)["value"],
        "source_endpoint": _of(collections, source),
        "destination_endpoint": _of(collections, destination),
        "DATA": [item],
        **({"label": row["label"]} if "label" in row else {}),
    }
    _ask(control, owner, "/transfer", body)


def _ask(control: Control, owner: str, path: str, body: dict[str, Any] | None) -> dict[str, Any]:
    """A request to Transfer as the owner, so that a seed is checked as what a client sends."""
    token = auth.token("access", "transfer.api.globus.org", owner)
    try:
        found: dict[str, Any] = control.send(f"/transfer/v0.10{path}", body, token=token)
        return found
    except urllib.error.HTTPError as error:
        with error:
            message = json.load(error).get("message", "")
        raise BadRequest("sandbox-seed", f"the seed is refused: {message}", "see docs/sandbox.md") from None
