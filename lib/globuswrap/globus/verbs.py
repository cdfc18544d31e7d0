"""What is asked of Globus, each quirk of the CLI handled once. A target is `COLLECTION:PATH`, as `globus` takes it.

`retry_for`: how long to go on when Globus cannot be reached (seconds; None: the setting; 0: ask once).
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import IO, Any

from globuswrap.errors import Refused
from globuswrap.globus import arguments, command, queries
from globuswrap.globus.errors import NotFound

#: Tasks per process: keeps the request's address below 8 kB, which servers commonly refuse beyond.
PER_PROCESS = 150

#: What a listing of something that is no directory is refused with.
_NO_DIRECTORY = ("ExternalError.DirListingFailed.NotFound", "ExternalError.DirListingFailed.NotDirectory")


def send(
    *argv: str,
    stdin: bytes | Path | IO[bytes] | None = None,
    retry_for: float | None = None,
    timeout: float | None = None,
) -> Any:
    """What `globus` answers to a command. If that changes something, its caller knows what a second one is answered (Conflict,
    NotFound), or allows none (`retry_for` 0)."""
    return command.retrying(partial(command.call, *argv, stdin=stdin, timeout=timeout), retry_for)


def stat(target: str, retry_for: float | None = None) -> Mapping[str, Any] | None:
    """The document of a file or directory (`type`, `size`, ...); None if nothing is there.

    `globus stat` of a missing path exits 0 and prints the service's answer, whose code is NotFound (globus-cli 3.27 to 3.44).
    Raises Refused for any other answer: what could not be looked at is not gone.
    """
    try:
        answer = send("stat", "--", target, retry_for=retry_for)
    except NotFound as problem:
        _refuse_missing_collection(problem)
        return None
    if isinstance(answer, dict) and isinstance(answer.get("type"), str):
        return answer
    if queries.search(queries.CODE, answer) == "NotFound":
        return None
    raise Refused("odd-answer", f"globus reported nothing about {target}", f"run: globus stat '{target}'")


def _refuse_missing_collection(problem: NotFound) -> None:
    """That there is no such collection (any more) says nothing about the files on it."""
    if problem.code.startswith("Endpoint"):
        raise problem


def kind(target: str, retry_for: float | None = None) -> str | None:
    """`file`, `dir`, or another type of the service; None if nothing is there."""
    found = stat(target, retry_for)
    return None if found is None else str(found["type"])


def ls(
    target: str, retry_for: float | None = None, *, timeout: float | None = None
) -> Sequence[Mapping[str, Any]] | None:
    """The documents of a directory's entries, hidden ones too; None if it is not there, or is no directory.

    The service lists at most 100,000 entries (Transfer API documentation, "Limits").
    """
    try:
        answer = send("ls", "--all", "--", target, timeout=timeout, retry_for=retry_for)
    except NotFound as problem:
        _refuse_missing_collection(problem)
        return None
    except Refused as problem:
        if problem.code in _NO_DIRECTORY:
            return None
        raise
    rows = queries.search(queries.ROWS, answer)
    if not isinstance(rows, list):
        raise Refused("odd-answer", f"globus returned no listing of {target}", f"run: globus ls '{target}'")
    return rows


def tree(target: str, depth: int, timeout: float) -> list[Mapping[str, Any]]:
    """The entries of a directory and of `depth` levels of directories below it, named by their path from there."""
    return _rows(send(*arguments.tree(target, depth), timeout=timeout))


def mkdir(target: str, retry_for: float | None = None) -> bool:
    """Make a directory; False if it was there. A mkdir that is sent again reports what it has just made."""
    try:
        send("mkdir", "--", target, retry_for=retry_for)
    except Refused as problem:
        if problem.code == "ExternalError.MkdirFailed.Exists":
            return False
        raise
    return True


# --- tasks ------------------------------------------------------------------------------------------------------------


def task(task_id: str, retry_for: float | None = None) -> Mapping[str, Any]:
    """The document of a task. Raises NotFound if Globus does not find it."""
    shown = send("task", "show", task_id, retry_for=retry_for)
    if not isinstance(shown, dict) or shown.get("task_id") != task_id:
        raise Refused(
            "odd-answer",
            f"Globus was asked about task {task_id}, and its answer does not name that task",
            f"see: globus task show {task_id}",
        )
    return shown


def tasks(task_ids: Sequence[str], retry_for: float | None = None) -> dict[str, Mapping[str, Any]]:
    """The documents of those of these tasks that Globus lists, by id; one process for many."""
    found: dict[str, Mapping[str, Any]] = {}
    for first in range(0, len(task_ids), PER_PROCESS):
        part = task_ids[first : first + PER_PROCESS]
        rows = _rows(send(*arguments.task_list(part), retry_for=retry_for))
        found.update({row["task_id"]: row for row in rows if row.get("task_id") in part})
    return found


def my_tasks(
    *,
    statuses: Iterable[str] = (),
    label: str | None = None,
    limit: int = 100,
    retry_for: float | None = None,
) -> list[dict[str, Any]]:
    """The user's tasks (task_id, status, label, requested, source, destination), in any state unless `statuses` are named, whose
    label matches (`*` stands for any text)."""
    answer = send(*arguments.own_tasks(statuses, label, limit), retry_for=retry_for)
    return queries.search(queries.LABELLED, answer) or []


def cancel_task(task_id: str, retry_for: float | None = None) -> Mapping[str, Any]:
    """Cancel a task; the answer has `code` and `message`, also if it had ended. Raises NotFound if Globus does not find it."""
    answer = send("task", "cancel", task_id, retry_for=retry_for)
    return answer if isinstance(answer, dict) else {}


def task_events(task_id: str, retry_for: float | None = None) -> list[dict[str, Any]]:
    """The latest events of a task, the last one first."""
    answer = send(*arguments.events(task_id), retry_for=retry_for)
    return queries.search(queries.EVENTS, answer) or []


def pause_messages(task_id: str, retry_for: float | None = None) -> list[tuple[str, str]]:
    """Why a paused task is paused: pairs of the side (`source`, `destination`) or the name of the collection that it is about,
    and what its manager wrote."""
    answer = send("task", "pause-info", task_id, retry_for=retry_for)
    found = answer if isinstance(answer, dict) else {}
    rules = [(rule.get("endpoint_display_name"), rule.get("message")) for rule in found.get("pause_rules") or ()]
    sides = [
        (side, found.get(f"{side}_pause_message{share}")) for side in ("source", "destination") for share in _SHARED
    ]
    return [(str(where or ""), str(text)) for where, text in [*rules, *sides] if text]


#: A pause message is that of the collection, or of the one that it is shared from.
_SHARED = ("", "_share")


def successful_transfers(task_id: str, retry_for: float | None = None) -> list[dict[str, Any]]:
    """The files that a finished transfer copied: `source` and `destination` of each."""
    answer = send("task", "show", task_id, "--successful-transfers", retry_for=retry_for)
    return queries.search(queries.COPIED, answer) or []


def tasks_of_others(collection_id: str, since: str) -> Iterator[Mapping[str, Any]]:
    """The successful tasks of everyone that read from a collection and ended after `since` (UTC, as `2027-01-31T00:00:00`). It
    takes the role activity_monitor there, or a stronger one (Transfer documentation, "Endpoint Management")."""
    asked = {
        "filter_endpoint": collection_id,
        "filter_endpoint_use": "source",
        "filter_status": "SUCCEEDED",
        "filter_completion_time": f"{since},",
        "limit": "1000",
    }
    while True:
        answer = _asked("/endpoint_manager/task_list", asked)
        yield from _rows(answer)
        if not answer.get("has_next_page"):
            return
        asked["last_key"] = str(answer["last_key"])


def transfers_of_others(task_id: str) -> Iterator[Mapping[str, Any]]:
    """The files that a task of anyone copied, for those who may see it: `source_path` and `destination_path`."""
    asked: dict[str, str] = {}
    while True:
        answer = _asked(f"/endpoint_manager/task/{task_id}/successful_transfers", asked)
        yield from _rows(answer)
        if answer.get("next_marker") is None:
            return
        asked["marker"] = str(answer["next_marker"])


def _asked(path: str, query: Mapping[str, str]) -> Mapping[str, Any]:
    words = [word for name, value in query.items() for word in ("-Q", f"{name}={value}")]
    answer = send("api", "transfer", "GET", path, *words)
    if not isinstance(answer, dict) or not isinstance(answer.get("DATA"), list):
        raise Refused("odd-answer", f"globus returned no list for {path}", f"see: globus api transfer GET '{path}'")
    return answer


def skipped_errors(task_id: str, retry_for: float | None = None) -> list[dict[str, Any]]:
    """The files that a finished transfer left out for errors at the source, with the code and details of each."""
    answer = send("task", "show", task_id, "--skipped-errors", retry_for=retry_for)
    return queries.search(queries.SKIPPED, answer) or []


def new_submission_id(retry_for: float | None = None) -> str:
    """An id under which Globus accepts one task."""
    value = queries.search(queries.VALUE, send(*arguments.submission_id(), retry_for=retry_for))
    try:
        return str(uuid.UUID(value))
    except (ValueError, TypeError, AttributeError):
        raise Refused(
            "odd-answer",
            f"globus answered {value!r}, which is not a submission id; nothing was submitted",
            "run it yourself: globus task generate-submission-id",
        ) from None


_FROM_STDIN = ("--body-file", "-", "--content-type", "json")


def send_document(service: str, method: str, path: str, document: Mapping[str, Any]) -> Any:
    """Send a JSON document to the API of a service, as `send` does."""
    return send("api", service, method, path, *_FROM_STDIN, stdin=json.dumps(document).encode())


def post(path: str, body: Any) -> Any:
    """Send a document to the Transfer API (bytes, or a file to read), once."""
    return send("api", "transfer", "POST", path, *_FROM_STDIN, stdin=body, retry_for=0.0)


# --- who one is, and what there is ------------------------------------------------------------------------------------


def userinfo(*, retry_for: float | None = None, timeout: float | None = None) -> Mapping[str, Any]:
    """The primary identity of the login (`sub`, `preferred_username`). `globus whoami` does not map HTTP statuses, so a
    network that is down would look like a missing login."""
    found = send("api", "auth", "GET", "/v2/oauth2/userinfo", retry_for=retry_for, timeout=timeout)
    return found if isinstance(found, dict) else {}


def session() -> Mapping[str, Any]:
    """When each identity of the session authenticated: `auth_time` by its id."""
    shown = command.call("session", "show")
    return shown.get("authentications") or {} if isinstance(shown, dict) else {}


def collection(collection_id: str, retry_for: float | None = None) -> Mapping[str, Any]:
    """What Transfer knows about a collection. Raises NotFound if there is none. `globus endpoint show` refuses the newer kinds
    (exit 3, observed on 3.43)."""
    shown = send("api", "transfer", "GET", f"/endpoint/{collection_id}", retry_for=retry_for)
    return shown if isinstance(shown, dict) else {}


def has_permissions(collection_id: str) -> bool:
    """Can this collection have permissions of its own? Guest collections do (Transfer documentation, "Entity Types")."""
    return str(collection(collection_id).get("entity_type")).endswith(("_guest_collection", "_share"))


def pause_rules(collection_id: str) -> list[Mapping[str, Any]]:
    """The rules that pause this user's tasks there (Transfer documentation, "Get My Effective Endpoint Pause Rules")."""
    return _rows(command.call("api", "transfer", "GET", f"/endpoint/{collection_id}/my_effective_pause_rule_list"))


def search_collections(
    text: str, *, limit: int, owner: str | None = None, scope: str | None = None
) -> list[Mapping[str, Any]]:
    """The collections that a text finds; in a scope such as `recently-used` the text may be empty."""
    filters = (*arguments.option("filter-owner-id", owner), *arguments.option("filter-scope", scope))
    argv = ("endpoint", "search", "--limit", str(limit), *filters, *(("--", text) if text else ()))
    return _rows(send(*argv))


def bookmarks() -> list[Mapping[str, Any]]:
    return _rows(send("bookmark", "list"))


def identities(texts: Sequence[str], *, provision: bool = False) -> list[dict[str, Any]]:
    """The identities of these names and ids that Globus knows; `provision` makes those that are missing."""
    argv = ("get-identities", *arguments.switch("provision", provision), "--", *texts)
    answer = send(*argv)
    return (answer or {}).get("identities") or []


def groups() -> list[dict[str, Any]]:
    """The groups that one is in."""
    answer = send("group", "list")
    return answer if isinstance(answer, list) else []


def create_group(name: str, description: str | None) -> None:
    """Make a group, asked for once from here: there is no submission id that would keep a second one away."""
    command.call("group", "create", *arguments.option("description", description), "--", name)


def group_members(group_id: str) -> list[Mapping[str, Any]]:
    answer = send("group", "member", "list", group_id)
    return (answer or {}).get("memberships") or []


# --- permissions and roles --------------------------------------------------------------------------------------------


def permissions(collection_id: str) -> list[Mapping[str, Any]]:
    """The access rules of a collection. Refused if it is none that can have any."""
    answer = send("endpoint", "permission", "list", collection_id)
    rows = queries.search(queries.ROWS, answer)
    if not isinstance(rows, list):
        raise Refused(
            "odd-answer", "globus returned no list of permissions", f"globus endpoint permission list {collection_id}"
        )
    return rows


def roles(collection_id: str) -> list[Mapping[str, Any]]:
    answer = send("endpoint", "role", "list", collection_id)
    return queries.search(queries.ROWS, answer) or []


# --- flows and search -------------------------------------------------------------------------------------------------


def flow(flow_id: str) -> Mapping[str, Any]:
    """The document of a flow. Raises NotFound if it is gone, or not shown to this account."""
    return dict(send("flows", "show", flow_id))


def my_flows(limit: int) -> list[Mapping[str, Any]]:
    answer = send("flows", "list", "--filter-role", "flow_owner", "--limit", str(limit))
    return _listed_as("flows", answer)


def flow_runs(flow_id: str, limit: int) -> list[Mapping[str, Any]]:
    """The runs of a flow, the newest first."""
    argv = ("flows", "run", "list", "--filter-flow-id", flow_id, "--limit", str(limit))
    return _listed_as("runs", send(*argv))


def flow_run(run_id: str, retry_for: float | None = None) -> Mapping[str, Any]:
    return dict(send("flows", "run", "show", run_id, retry_for=retry_for))


def flow_run_log(run_id: str, retry_for: float | None = None) -> list[Mapping[str, Any]]:
    """What a run did, the last first; of a long one the last part."""
    argv = ("flows", "run", "show-logs", run_id, "--reverse", "--limit", "100")
    return _listed_as("entries", send(*argv, retry_for=retry_for))


def _listed_as(name: str, answer: Any) -> list[Mapping[str, Any]]:
    """The CLI prints the service's document, or the bare list (both seen, 3.27 to 3.44)."""
    return (answer.get(name) if isinstance(answer, dict) else answer) or []


def search_task(task_id: str) -> Mapping[str, Any]:
    """The document of an ingest task of Globus Search."""
    return dict(send("search", "task", "show", task_id))


def _rows(answer: object) -> list[Mapping[str, Any]]:
    return [row for row in queries.search(queries.ROWS, answer) or [] if isinstance(row, dict)]
