"""Deploy a flow from its directory: create it once, update it when it differs, find it again by its recorded id.

Creating has no submission id, and the CLI sends it again when a reply is lost. So the flow carries a keyword that is written down
before it is created; a flow with that keyword is ours, and of two the older one stays.
"""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from globuswrap import config
from globuswrap.collections import principals
from globuswrap.collections.names import UUID
from globuswrap.errors import Refused, UsageProblem
from globuswrap.flows import definition
from globuswrap.flows.definition import PEOPLE, Described
from globuswrap.globus import accounts, verbs
from globuswrap.globus.errors import NotFound
from globuswrap.system import files, log, records

#: Flows of one's own that are looked through for a keyword.
LISTED = 1000


@dataclass(frozen=True)
class Deployed:
    """What was done: `created`, `updated` (with what differed) or `kept`."""

    flow_id: str
    act: str
    changed: Sequence[str] = ()


def place() -> str:
    """Under which name this account's deployment is recorded: Globus environment, profile, service account."""
    environ = os.environ
    parts = (
        environ.get("GLOBUS_SDK_ENVIRONMENT") or "production",
        environ.get("GLOBUS_PROFILE", ""),
        accounts.client_id(),
    )
    return "/".join(part for part in parts if part)


def record_of(directory: Path) -> dict[str, Any]:
    """What is recorded of this account: `id`, and `keyword` since before the flow was created."""
    path = directory / "deployed.json"
    found = records.given_object(path).get(place(), {}) if path.exists() else {}
    if not isinstance(found, dict):
        raise UsageProblem("bad-document", f"{path}: {place()} is not an object", "fix or remove the file")
    return found


def _write(directory: Path, entry: dict[str, Any]) -> None:
    path = directory / "deployed.json"
    everything = records.given_object(path) if path.exists() else {}
    files.write_atomic(path, json.dumps({**everything, place(): entry}, indent=1) + "\n", mode=0o644)


def flow_id(text: str) -> str:
    """The id of a flow given by its id, or by the directory it was deployed from."""
    if UUID.fullmatch(text):
        return text.lower()
    directory = Path(text)
    if not directory.is_dir():
        raise UsageProblem(
            "no-flow", f"{text!r} is neither a flow's id nor a directory", "give a flow ID, or the directory of a flow"
        )
    found = record_of(directory).get("id")
    if not isinstance(found, str):
        raise UsageProblem(
            "not-deployed", f"{directory} is not deployed as {place()}", f"globuswrap flow deploy {text}"
        )
    return found


def function_id(name: str) -> str:
    """The id of a compute function by its name in `[functions]`, or as it is. UsageProblem if it is neither."""
    found = config.load().table("functions").get(name, name)
    if not UUID.fullmatch(str(found)):
        known = ", ".join(config.load().table("functions")) or "none"
        raise UsageProblem(
            "unknown-function",
            f"there is no function named {name!r} (known: {known})",
            f'add {name} = "UUID" to [functions]',
        )
    return str(found).lower()


def wanted_of(described: Described) -> dict[str, Any]:
    """The fields of the flow, its people resolved."""
    texts = [text for listed in described.people.values() for text in listed]
    known = dict(zip(texts, principals.urns(texts), strict=True))
    people = {field: [known[text] for text in described.people[name]] for name, field in PEOPLE.items()}
    return {
        "title": described.title,
        "subtitle": described.subtitle,
        "description": described.description,
        "definition": dict(described.definition),
        "input_schema": dict(described.schema),
        "keywords": list(described.keywords),
        **people,
    }


def difference(wanted: Mapping[str, Any], there: Mapping[str, Any]) -> list[str]:
    """Fields in which the flow that is there is another one; lists are compared as sets."""

    def comparable(value: Any) -> Any:
        return sorted(map(str, value)) if isinstance(value, list) else value or None

    return [name for name, value in wanted.items() if comparable(there.get(name)) != comparable(value)]


def plan(directory: Path) -> tuple[dict[str, Any], Deployed]:
    """The fields that are wanted, and what would be done; nothing is changed."""
    wanted = wanted_of(definition.read(directory))
    record = record_of(directory)
    there = _there(directory, record)
    if there is None:
        return wanted, Deployed("", "created")
    # The keyword it was found by stays where it is.
    wanted["keywords"] = [
        *wanted["keywords"],
        *(word for word in there.get("keywords", ()) if word == record.get("keyword")),
    ]
    changed = difference(wanted, there)
    return wanted, Deployed(str(there["id"]), "updated" if changed else "kept", changed)


def _there(directory: Path, record: dict[str, Any]) -> Mapping[str, Any] | None:
    if "id" in record:
        try:
            return verbs.flow(record["id"])
        except NotFound:
            raise Refused(
                "flow-gone",
                f"flow {record['id']} no longer exists, or this account may not see it",
                f"to create a new one, remove its entry from {directory / 'deployed.json'}",
            ) from None
    if "keyword" in record:
        mine = _carrying(record["keyword"])
        return verbs.flow(mine[0]) if mine else None
    return None


def deploy(directory: Path) -> Deployed:
    """Create or update the flow of a directory. Raises UsageProblem for what cannot be right, Refused by the service."""
    wanted, planned = plan(directory)
    record = record_of(directory)
    if planned.act == "created":
        record = {"keyword": f"gw-{uuid.uuid4().hex[:12]}"}
        _write(directory, record)
        said = {name: value for name, value in wanted.items() if value not in ("", [])}
        said["keywords"] = [*wanted["keywords"], record["keyword"]]
        made = verbs.send_document("flows", "POST", "/flows", said)["id"]
        mine = _carrying(record["keyword"])
        for extra in mine[1:]:  # a reply was lost, and the CLI asked twice
            log.say(f"flow {extra} was created twice; this copy was deleted")
            verbs.send("flows", "delete", extra)
        planned = Deployed(mine[0] if mine else str(made), "created")
    elif planned.act == "updated":
        said = {name: wanted[name] for name in planned.changed}
        verbs.send_document("flows", "PUT", f"/flows/{planned.flow_id}", said)
    if record.get("id") != planned.flow_id:
        _write(directory, {**record, "id": planned.flow_id})
    return planned


def _carrying(keyword: str) -> list[str]:
    """One's own flows with a keyword, oldest first."""
    mine = [row for row in verbs.my_flows(LISTED) if keyword in (row.get("keywords") or ())]
    return [str(row["id"]) for row in sorted(mine, key=lambda row: str(row.get("created_at")))]
