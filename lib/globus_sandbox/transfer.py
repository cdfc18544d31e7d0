"""Globus Transfer: tasks. Routes, strictness about what is submitted, and the documents that come back."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import Any

from globus_sandbox import consents, rights
from globus_sandbox.documents import Collection, id_of, iso, seconds_of, spaced
from globus_sandbox.task import Item, Task
from globus_sandbox.web import Call, Refusal, Reply, Routes, Unknown, like, ordered, words

routes = Routes()
V = "/v0.10"
M = V + "/endpoint_manager"

_COMMON = words(
    "DATA_TYPE DATA submission_id label deadline notify_on_succeeded notify_on_failed "
    "notify_on_inactive skip_activation_check store_base_path_info"
)
_TRANSFER = (
    *_COMMON,
    *words(
        "source_endpoint destination_endpoint sync_level verify_checksum preserve_timestamp "
        "encrypt_data skip_source_errors fail_on_quota_errors delete_destination_extra filter_rules "
        "recursive_symlinks source_local_user destination_local_user perf_cc perf_p perf_pp perf_udt"
    ),
)
#: Taken, and without an effect that a client could see: nothing is mailed, encrypted or tuned here, and every user is the same.
_NO_EFFECT = words(
    "notify_on_succeeded notify_on_failed notify_on_inactive skip_activation_check store_base_path_info encrypt_data "
    "source_local_user destination_local_user local_user perf_cc perf_p perf_pp perf_udt"
)
_DELETE = (*_COMMON, *words("endpoint recursive ignore_missing interpret_globs local_user"))
_PATHS = ("source_path", "destination_path")
_LINK = frozenset(("DATA_TYPE", *_PATHS))
_ITEM = _LINK | {"recursive", "external_checksum", "checksum_algorithm"}
_DELETE_ITEM = frozenset(("DATA_TYPE", "path"))
_RULE = frozenset(("DATA_TYPE", "method", "name", "type"))
_ALGORITHMS = ("md5", "sha1", "sha256", "sha384", "sha512")


def bad(message: str, code: str = "ClientError.BadRequest") -> Refusal:
    return Refusal(400, code, message)


@routes("GET", V + "/submission_id")
def submission_id(state: Any, call: Call) -> dict[str, Any]:
    value = str(uuid.uuid4())
    state.documents.put(
        "submission", value, {"id": value, "issued": spaced(state.clock.now()), "task_id": None, "sent": 0}
    )
    return {"value": value}


@routes("POST", V + "/transfer", body=_TRANSFER, inert=_NO_EFFECT)
def submit_transfer(state: Any, call: Call) -> Reply:
    return _submit(state, call, "TRANSFER")


@routes("POST", V + "/delete", body=_DELETE, inert=_NO_EFFECT)
def submit_delete(state: Any, call: Call) -> Reply:
    return _submit(state, call, "DELETE")


def _submit(state: Any, call: Call, kind: str) -> Reply:
    body = call.body
    if body.get("DATA_TYPE") != kind.lower():
        raise bad(f"DATA_TYPE must be '{kind.lower()}'")
    key = body.get("submission_id")
    if not isinstance(key, str) or not key:
        raise bad("submission_id is required", "ClientError.BadRequest.MissingSubmissionId")
    issued = state.documents.get("submission", key)
    if issued is None:
        raise bad(f"submission_id '{key}' was not issued here", "ClientError.BadRequest.InvalidSubmissionId")
    issued = {**issued, "sent": issued["sent"] + 1}
    before = state.engine.get(issued["task_id"] or "")
    if before is not None:
        state.documents.put("submission", key, issued)
        body.items()  # the request was read when it came first
        return _result(call, kind, before, "Duplicate")
    task = _task(state, call, kind)
    if kind == "TRANSFER" and state.engine.conflicting(task):
        raise Refusal(409, "Conflict", "A transfer with identical paths has not yet completed")
    most = state.settings.pending_tasks
    if sum(one.owner == call.identity for one in state.engine.unfinished()) >= most:
        raise Refusal(409, "ClientError.Conflict.PendingTaskLimitExceeded", f"More than {most} pending tasks")
    state.documents.put("submission", key, {**issued, "task_id": task.id})
    state.engine.submit(task)
    return _result(call, kind, task, "Accepted")


def _result(call: Call, kind: str, task: Task, code: str) -> Reply:
    what, accepted = kind.lower(), code == "Accepted"
    message = "A task was already created with the given submission_id"
    if accepted:
        message = f"The {what} has been accepted and a task has been created and queued for execution"
    link = {
        "DATA_TYPE": "link",
        "href": f"{V}/task/{task.id}?format=json",
        "rel": "related",
        "resource": "task",
        "title": "related task",
    }
    document = result(call, code, message, DATA_TYPE=f"{what}_result", submission_id=task.submission_id)
    return Reply({**document, "task_id": task.id, "task_link": link}, 202 if accepted else 200)


def _task(state: Any, call: Call, kind: str) -> Task:
    """The task a submission asks for. Raises Refusal for bad input, Unknown for fields not served."""
    body, what = call.body, kind.lower()
    rows = body.get("DATA")
    if not isinstance(rows, list):
        raise bad("DATA must be a list")
    if not rows:
        raise bad(f"A {what} requires at least one item", f"ClientError.BadRequest.No{kind.title()}Items")
    items = [_transfer_item(row) for row in rows] if kind == "TRANSFER" else [_delete_item(row) for row in rows]
    names = ("source_endpoint", "destination_endpoint") if kind == "TRANSFER" else ("endpoint",)
    collections = [collection_of(state, str(body.get(name, "")), name) for name in names]
    consents.require(state, call, *collections)
    for name in _BOOLEANS:
        if name in body and not isinstance(body[name], bool):
            raise bad(f"{name} must be a boolean")
    level = body.get("sync_level")
    if level is not None and level not in (0, 1, 2, 3):
        raise bad("sync_level must be 0, 1, 2 or 3")
    for rule in body.get("filter_rules") or ():
        unknown = set(rule) - _RULE
        if unknown:
            raise Unknown(f"field '{min(unknown)}' of a filter rule")
        if rule.get("method", "exclude") not in ("include", "exclude") or rule.get("type") not in (None, "file", "dir"):
            raise bad("Invalid filter rule")
    if body.get("recursive_symlinks", "ignore") not in ("ignore", "keep", "copy"):
        raise bad("recursive_symlinks must be 'ignore', 'keep' or 'copy'")
    deadline = _deadline(body)
    options = {name: body[name] for name in (*_TRANSFER, *_DELETE) if name in body and name not in _NOT_OPTIONS}
    return Task(
        type=kind,
        owner=call.identity,
        label=checked_label(body.get("label")),
        submission_id=body["submission_id"],
        source=collections[0].id,
        destination=collections[1].id if kind == "TRANSFER" else None,
        items=items,
        options=options,
        deadline=deadline or 0.0,
        deadline_given=deadline is not None,
    )


_NOT_OPTIONS = ("DATA_TYPE", "DATA", "submission_id", "label", "source_endpoint", "destination_endpoint", "endpoint")
_BOOLEANS = words(
    "verify_checksum preserve_timestamp encrypt_data skip_source_errors fail_on_quota_errors "
    "delete_destination_extra notify_on_succeeded notify_on_failed notify_on_inactive recursive "
    "ignore_missing interpret_globs"
)


def _checked_item(row: Any, what: str, needed: tuple[str, ...], fields: frozenset[str]) -> dict[str, Any]:
    """An item of a submission. Raises Refusal for one that is none, Unknown for fields not served."""
    if not isinstance(row, dict) or row.get("DATA_TYPE") != what:
        raise bad(f"Items must be '{what}' documents")
    if not row.keys() <= fields:
        raise Unknown(f"field '{min(row.keys() - fields)}' of a {what}")
    for name in needed:
        if not isinstance(row.get(name), str) or not row[name]:
            raise bad(f"{name} is required")
    return row


def _transfer_item(row: Any) -> Item:
    if isinstance(row, dict) and row.get("DATA_TYPE") == "transfer_symlink_item":
        # a link that is transferred as a link (task_submit documentation)
        row = _checked_item(row, "transfer_symlink_item", _PATHS, _LINK)
        return Item(row["source_path"], row["destination_path"], link=True)
    row = _checked_item(row, "transfer_item", _PATHS, _ITEM)
    recursive, checksum, algorithm = row.get("recursive"), row.get("external_checksum"), row.get("checksum_algorithm")
    if recursive is not None and not isinstance(recursive, bool):
        raise bad("recursive must be a boolean")
    if checksum is not None and recursive:
        raise bad("external_checksum cannot be used with recursive")
    if algorithm is not None and str(algorithm).lower().replace("-", "") not in _ALGORITHMS:
        raise bad(f"checksum_algorithm '{algorithm}' is not supported")
    return Item(row["source_path"], row["destination_path"], recursive, checksum, algorithm)


def _delete_item(row: Any) -> Item:
    return Item(_checked_item(row, "delete_item", ("path",), _DELETE_ITEM)["path"])


def _deadline(body: dict[str, Any]) -> float | None:
    try:
        return None if body.get("deadline") is None else seconds_of(str(body["deadline"]))
    except ValueError:
        raise bad(f"Invalid deadline: '{body['deadline']}'") from None


def checked_label(label: Any) -> str | None:
    """At most 128 characters, no line breaks, no outer white space (task_submit documentation). Raises Refusal."""
    if label is None:
        return None
    if not isinstance(label, str) or len(label) > 128 or label != label.strip() or "\n" in label or "\r" in label:
        raise bad("Invalid label: at most 128 characters, no line breaks, no leading or trailing white space")
    return label


def collection_of(state: Any, key: str, what: str = "endpoint_id") -> Any:
    """The collection with this id. Raises Refusal: malformed, or not there (code seen: EndpointNotFound)."""
    try:
        canonical = str(uuid.UUID(key))
    except ValueError:
        raise bad(f"Invalid {what}: '{key}'") from None
    found = state.collections.get(canonical)
    if found is None and canonical in {id_of(f"endpoint of {one.id}") for one in state.collections}:
        raise Unknown(f"host endpoint {canonical}")
    if found is None:
        raise Refusal(404, "EndpointNotFound", f"No such endpoint '{key}'")
    return found


# tasks


def task_of(state: Any, call: Call) -> Task:
    task: Task | None = state.engine.get(call.params["task"].lower())
    if task is None or task.owner != call.identity:
        raise task_not_found(call)
    return task


def task_not_found(call: Call) -> Refusal:
    return Refusal(404, "TaskNotFound", f"Task '{call.params['task']}' not found")


def managed(state: Any, call: Call, task: Task, roles: tuple[str, ...] = rights.MONITORS) -> bool:
    """Whether the caller has one of these roles on a collection of a task."""
    sides = filter(None, (state.collections.get(task.source), state.collections.get(task.destination or "")))
    return any(rights.has_role(state, one, call.identity, roles) for one in sides)


def managed_task_of(state: Any, call: Call, roles: tuple[str, ...] = rights.MONITORS) -> Task:
    """A task of anyone, on a collection that the caller manages. Raises Refusal."""
    task: Task | None = state.engine.get(call.params["task"].lower())
    if task is None or not managed(state, call, task, roles):
        raise task_not_found(call)
    return task


def for_both(name: str, query: tuple[str, ...] = ()) -> Callable[..., Any]:
    """Registers what is seen of a task, for its owner and for those who manage its collections."""

    def register(handler: Callable[[Any, Call, Task], Any]) -> None:
        routes("GET", V + "/task/{task}/" + name, query=query)(
            lambda state, call: handler(state, call, task_of(state, call))
        )
        routes("GET", M + "/task/{task}/" + name, query=query)(
            lambda state, call: handler(state, call, managed_task_of(state, call))
        )

    return register


def some_fields(call: Call) -> Callable[[dict[str, Any]], dict[str, Any]]:
    """What makes of a document the fields that were asked for: all of them, or those of `fields`."""
    names = call.query.get("fields")
    if not names:
        return dict
    wanted = names.split(",")
    return lambda document: {name: value for name, value in document.items() if name in wanted}


@routes("GET", V + "/task/{task}", query=("fields",))
def task_show(state: Any, call: Call) -> dict[str, Any]:
    task = task_of(state, call)
    state.engine.look([task])
    return some_fields(call)(state.engine.document(task))


@routes("PUT", V + "/task/{task}", body=("DATA_TYPE", "label", "deadline"))
def task_update(state: Any, call: Call) -> dict[str, Any]:
    task = task_of(state, call)
    if not task.unfinished:
        raise Refusal(409, "ClientError.Conflict.TaskComplete", "The task has completed")
    body = call.body
    if body.get("label") is not None:
        task.label = checked_label(body["label"])
    deadline = _deadline(body)
    if deadline is not None:
        task.deadline, task.deadline_given = deadline, True
    state.engine.keep(task)
    state.engine.wake()
    return result(call, "Updated", "Updated task successfully")


@routes("POST", V + "/task/{task}/cancel", body=())
def task_cancel(state: Any, call: Call) -> dict[str, Any]:
    code = state.engine.cancel(task_of(state, call))
    message = {
        "Canceled": "The task has been cancelled successfully.",
        "TaskComplete": "The task completed before the cancel request was processed.",
    }[code]
    return result(call, code, message)


def result(call: Call, code: str, message: str, **more: Any) -> dict[str, Any]:
    """The "result" document (recorded for cancel, mkdir, rename and endpoint update)."""
    return {
        "DATA_TYPE": "result",
        "code": code,
        "message": message,
        "resource": call.path,
        "request_id": call.request_id,
        **more,
    }


_FILTERS = ("task_id", "type", "status", "label", "request_time", "completion_time")
_ORDERS = ("request_time", "completion_time", "task_id", "type", "status", "label", "faults", "deadline")


@routes("GET", V + "/task_list", query=("limit", "offset", "filter", "orderby", "fields"))
def task_list(state: Any, call: Call) -> dict[str, Any]:
    shortened = some_fields(call)
    tests = _task_tests(call.query.get("filter", ""))
    rows = [task for task in state.engine.all() if task.owner == call.identity and all(test(task) for test in tests)]
    if "task_id:" in call.query.get("filter", ""):
        state.engine.look(rows)
        rows = [task for task in rows if all(test(task) for test in tests)]
    rows = ordered(
        rows,
        call.several("orderby") or ["request_time DESC"],
        _ORDERS,
        lambda part: Unknown(f"orderby '{part}' of {call.path}"),
        lambda task, name: _order(state, task, name),
    )
    return listed(call, rows, "task_list", lambda task: shortened(state.engine.document(task)))


def _order(state: Any, task: Task, name: str) -> Any:
    if name == "request_time":
        return task.requested
    if name == "completion_time":
        return task.completed or 0.0
    value = state.engine.document(task).get(name)
    return "" if value is None else value


def _task_tests(text: str) -> list[Callable[[Task], bool]]:
    """The tests of `filter=task_id:a,b/status:ACTIVE/label:~x*,!y/request_time:from,to`. Raises Refusal, Unknown."""
    tests = []
    for part in filter(None, text.split("/")):
        name, colon, value = part.partition(":")
        if not colon:
            raise bad(f"Invalid filter: '{part}'")
        if name not in _FILTERS:
            raise Unknown(f"filter '{name}' of task_list")
        tests.append(_task_test(name, value.split(",")))
    return tests


def _task_test(name: str, values: list[str]) -> Callable[[Task], bool]:
    if name == "task_id":
        wanted = {one.lower() for one in values}
        return lambda task: task.id in wanted
    if name == "label":
        return lambda task: label_matches(task.label or "", values)
    if name in ("type", "status"):
        return lambda task: getattr(task, name) in values
    low, high = period(values)
    moment = {"request_time": "requested", "completion_time": "completed"}[name]
    return lambda task: getattr(task, moment) is not None and low <= getattr(task, moment) <= high


def period(values: list[str]) -> tuple[float, float]:
    try:
        low = seconds_of(values[0]) if values[0] else 0.0
        high = seconds_of(values[1]) if len(values) > 1 and values[1] else float("inf")
    except ValueError:
        raise bad(f"Invalid time in filter: '{','.join(values)}'") from None
    return low, high


def label_matches(label: str, patterns: list[str]) -> bool:
    """`=exact`, `~pattern*` (case does not count), `!not`, `!~not like`; any of the wanted, none of the unwanted."""
    wanted = [pattern for pattern in patterns if not pattern.startswith("!")]
    refused = [pattern[1:] for pattern in patterns if pattern.startswith("!")]

    def one(pattern: str) -> bool:
        if pattern.startswith("~"):
            return like(label.lower(), pattern[1:].lower())
        return label == pattern.removeprefix("=")

    return (not wanted or any(map(one, wanted))) and not any(map(one, refused))


@routes("GET", V + "/task/{task}/event_list", query=("limit", "offset", "filter"))
def event_list(state: Any, call: Call) -> dict[str, Any]:
    task = task_of(state, call)
    rows = state.engine.events(task)
    wanted = call.query.get("filter", "")
    if wanted:
        name, _, value = wanted.partition(":")
        if name == "is_error" and value in ("0", "1"):
            rows = [row for row in rows if row["is_error"] == (value == "1")]
        elif name == "code":
            rows = [row for row in rows if row["code"] in value.split(",")]
        else:
            raise Unknown(f"filter '{wanted}' of event_list")
    return listed(call, rows, "event_list")


def listed(call: Call, rows: list[Any], kind: str, document: Callable[[Any], Any] = dict) -> dict[str, Any]:
    """A part of a list, by limit and offset; `document` makes what is shown of a row."""
    limit, offset = call.integer("limit", 10, 0, 1000), call.integer("offset", 0)
    shown = [document(row) for row in rows[offset : offset + limit]]
    return {
        "DATA": shown,
        "DATA_TYPE": kind,
        "length": len(shown),
        "limit": limit,
        "offset": offset,
        "total": len(rows),
    }


_PAGE = 1000


@for_both("successful_transfers", query=("marker",))
def successful_transfers(state: Any, call: Call, task: Task) -> dict[str, Any]:
    """The files that a task has moved."""
    if task.unfinished:
        raise Refusal(400, "ClientError.BadRequest.TaskActive", "The task has not completed")
    if task.type != "TRANSFER":
        raise bad("Only transfers have successful transfers")
    rows = [
        {"destination_path": destination, "source_path": source, "DATA_TYPE": "successful_transfer"}
        for source, destination in task.done
    ]
    return _marked(call, rows, "successful_transfers")


@for_both("skipped_errors", query=("marker",))
def skipped_errors(state: Any, call: Call, task: Task) -> dict[str, Any]:
    """The errors that a task has skipped."""
    rows = [
        {
            "DATA_TYPE": "skipped_error",
            "checksum_algorithm": None,
            "destination_path": destination,
            "error_code": code,
            "error_details": f"{code} on {source}",
            "error_time": iso(at),
            "external_checksum": None,
            "is_delete_destination_extra": False,
            "is_directory": False,
            "is_symlink": False,
            "source_path": source,
        }
        for source, destination, code, at in task.skips
    ]
    return _marked(call, rows, "skipped_errors")


def _marked(call: Call, rows: list[dict[str, Any]], kind: str) -> dict[str, Any]:
    start = call.integer("marker", 0)
    end = start + _PAGE
    return {
        "DATA_TYPE": kind,
        "marker": start,
        "next_marker": end if end < len(rows) else None,
        "DATA": rows[start:end],
    }


@for_both("pause_info")
def pause_info(state: Any, call: Call, task: Task) -> dict[str, Any]:
    """What pauses a task."""
    rules = []
    explicit: dict[str, str | None] = {"source": None, "destination": None}
    for fault in state.faults.for_task(task.id, task.label, task.source, task.destination):
        collection = state.faults.collection_of(fault)
        if fault.kind == "pause-task":
            explicit["source"] = fault.message
        elif fault.kind == "paused" and collection is not None:
            rules.append(pause_rule(state, fault, collection))
    return {
        "DATA_TYPE": "pause_info_limited",
        "pause_rules": rules,
        "source_pause_message": explicit["source"],
        "source_pause_message_share": None,
        "destination_pause_message": explicit["destination"],
        "destination_pause_message_share": None,
    }


@routes("GET", V + "/endpoint/{endpoint}/my_effective_pause_rule_list")
def my_effective_pause_rules(state: Any, call: Call) -> dict[str, Any]:
    """The rules that pause the user's tasks on a collection (documented: "Get My Effective Endpoint Pause Rules")."""
    collection = collection_of(state, call.params["endpoint"])
    faults = [fault for fault in state.faults.for_collections(collection.id) if fault.kind == "paused"]
    return {
        "DATA_TYPE": "pause_rule_limited_list",
        "endpoint_display_name": collection.name,
        "DATA": [pause_rule(state, fault, collection) for fault in faults],
    }


#: What a pause rule holds up: everything.
_PAUSED = words("ls mkdir rename task_delete task_transfer_write task_transfer_read")


def pause_rule(state: Any, fault: Any, collection: Collection) -> dict[str, Any]:
    return {
        "DATA_TYPE": "pause_rule_limited",
        "id": fault.id,
        "message": fault.message,
        "start_time": None,
        "endpoint_id": collection.id,
        "endpoint_display_name": collection.name,
        "identity_id": None,
        "modified_time": spaced(state.clock.now()),
        "created_by_host_manager": False,
        "editable": False,
        **dict.fromkeys((f"pause_{what}" for what in _PAUSED), True),
    }
