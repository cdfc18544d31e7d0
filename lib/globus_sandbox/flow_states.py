"""The states of a flow, carried out: Pass, Choice, Wait, Fail, ExpressionEval, and of the actions those that transfer, set a
permission, and ingest into a search index. They do what the services here do, as the identity that owns the run.

Any other action ends as the script of its flow says (kind "flow-script": `{"actions": {STATE: {"status": "FAILED", "details":
{...}}}}`), or succeeds with nothing to say. Paths are `$.a.b[0]`; expressions (`name.=`) know names of the context, numbers,
texts, lists, arithmetic, comparisons, `and`/`or`/`not`, `len`, `str`, `int`. Documented: "Authoring Flows", "Flow context".
"""

from __future__ import annotations

import ast
import fnmatch
import operator
import re
import uuid
from collections.abc import Callable, Mapping
from typing import Any

from globus_sandbox import auth
from globus_sandbox.documents import iso, seconds_of
from globus_sandbox.web import Call, Fields, Refusal, Unknown, find, handled

#: Seconds that an action may take unless its state says so (documented: WaitTime).
WAIT_TIME = 300.0
#: States that one look goes through at most: a loop that never waits is to be seen, not to hang.
STEPS = 1000

Document = dict[str, Any]


class Failed(Exception):
    """A state that fails: the error that `Catch` names, and the cause."""

    def __init__(self, error: str, cause: str) -> None:
        super().__init__(cause)
        self.error, self.cause = error, cause


def begin(state: Any, run: Document, definition: Document, given: Document) -> Document:
    """Where a run stands before its first state."""
    owner = str(run["run_owner"]).rpartition(":")[2]
    me = auth.known(state).get(owner) or {}
    context = {"flow_id": run["flow_id"], "run_id": run["run_id"], "user_id": owner, "username": me.get("username")}
    context["email"] = me.get("email")
    return {
        "at": definition["StartAt"],
        "definition": definition,
        "context": {**given, "_context": context},
        "owner": owner,
        "action": None,
    }


def advance(state: Any, record: Document) -> Document:
    """The record of a run, as far on as it comes now."""
    record = {**record, "log": list(record["log"])}
    for _ in range(STEPS):
        at = record["execution"]
        if at["at"] is None or not _step(state, record):
            break
    return record


def _step(state: Any, record: Document) -> bool:
    """One state: False while it is under way, or the run has ended."""
    at = record["execution"] = dict(record["execution"])
    name = str(at["at"])
    here = at["definition"]["States"][name]
    kind = str(here.get("Type"))
    try:
        if at.get("entered") != name:
            at["entered"], at["since"], at["input"] = name, state.clock.now(), None
            at["input"] = _parameters(here, at["context"])
            _log(state, record, f"{kind}Started", f"State {name} of type {kind} started", name, input=at["input"])
        if kind not in _KINDS:
            raise Failed("States.Runtime", f"states of type {kind} are not carried out here")
        done, output, following = _KINDS[kind](state, record, here)
        if not done:
            return False
    except Failed as failed:
        return _failed(state, record, here, failed)
    _log(state, record, f"{kind}Completed", f"State {name} of type {kind} completed", name, output=output)
    if here.get("ResultPath") and kind != "Choice":
        at["context"] = put(at["context"], here["ResultPath"], output)
    _go(state, record, following or here.get("Next"))
    return at["at"] is not None


def _go(state: Any, record: Document, following: str | None) -> None:
    at = record["execution"]
    at["at"], at["entered"], at["action"] = following, None, None
    if following is None:
        completed = "The Flow Instance completed successfully"
        _end(state, record, "SUCCEEDED", "FlowSucceeded", completed, {"output": at["context"]})


def _failed(state: Any, record: Document, here: Document, failed: Failed) -> bool:
    at = record["execution"]
    said = {"state_name": at["at"], "error": failed.error, "cause": failed.cause}
    for catch in here.get("Catch") or ():
        if set(catch.get("ErrorEquals") or ()) & {"States.ALL", failed.error}:
            if catch.get("ResultPath"):
                at["context"] = put(at["context"], catch["ResultPath"], said)
            _go(state, record, catch["Next"])
            return True
    described = f"State {at['at']} failed: {failed.cause}"
    _log(state, record, "StateFailed", described, str(at["at"]), error=failed.error, cause=failed.cause)
    _end(state, record, "FAILED", "FlowFailed", described, {"details": said})
    at["at"] = None
    return False


def _end(state: Any, record: Document, status: str, code: str, description: str, more: Document) -> None:
    record["run"] = {
        **record["run"],
        "status": status,
        "display_status": status,
        "completion_time": iso(state.clock.now()),
        "details": {"code": code, "description": description, **more},
    }
    record["log"].append(entry(state, code, description, dict(more)))


def entry(state: Any, code: str, description: str, details: Document) -> Document:
    """What the log of a run has for one event."""
    return {"time": iso(state.clock.now()), "code": code, "description": description, "details": details}


def _log(state: Any, record: Document, code: str, description: str, name: str, **more: Any) -> None:
    kind = record["execution"]["definition"]["States"][name].get("Type")
    record["log"].append(entry(state, code, description, {"state_name": name, "state_type": kind, **more}))


# the kinds: (done, output, the next state if it is not `Next`)

Outcome = tuple[bool, Any, str | None]


def _pass(state: Any, record: Document, here: Document) -> Outcome:
    return True, here.get("Result", record["execution"]["input"]), None


def _wait(state: Any, record: Document, here: Document) -> Outcome:
    at = record["execution"]
    if "Timestamp" in here or "TimestampPath" in here:
        until = seconds_of(str(here.get("Timestamp") or get(at["context"], here["TimestampPath"])))
    else:
        until = at["since"] + float(here["Seconds"] if "Seconds" in here else get(at["context"], here["SecondsPath"]))
    return state.clock.now() >= until, None, None


def _fail(state: Any, record: Document, here: Document) -> Outcome:
    raise Failed(str(here.get("Error") or "States.TaskFailed"), str(here.get("Cause") or "Fail state"))


def _choice(state: Any, record: Document, here: Document) -> Outcome:
    for choice in here.get("Choices") or ():
        if _holds(choice, record["execution"]["context"]):
            return True, None, str(choice["Next"])
    if not here.get("Default"):
        raise Failed("States.NoChoiceMatched", "no choice matches, and there is no Default")
    return True, None, str(here["Default"])


def _action(state: Any, record: Document, here: Document) -> Outcome:
    at = record["execution"]
    url = str(here.get("ActionUrl")).rstrip("/")
    if at["action"] is None:
        start = next((served for end, served in _ACTIONS.items() if url.endswith(end)), None)
        try:
            at["action"] = start(state, at) if start is not None else _scripted(record, str(at["at"]))
        except Refusal as refusal:
            at["action"] = {"status": "FAILED", "details": {"code": refusal.code, "description": refusal.message}}
    answer = _looked(state, at)
    if answer is None:
        if state.clock.now() - at["since"] > float(here.get("WaitTime", WAIT_TIME)):
            raise Failed("ActionTimeout", f"{at['at']} took longer than its WaitTime")
        return False, None, None
    status, details = answer
    output = {
        "action_id": at["action"].get("id") or str(uuid.uuid4()),
        "status": status,
        "display_status": status,
        "details": details,
        "state_name": at["at"],
    }
    if status == "FAILED" and here.get("ExceptionOnActionFailure", True):
        code = str(details.get("nice_status") or details.get("code") or "FAILED")
        said = details.get("description") or details.get("nice_status_short_description") or ""
        raise Failed("ActionFailedException", " ".join(f"{code} {said}".split()))
    return True, output, None


_KINDS: dict[str, Callable[[Any, Document, Document], Outcome]] = {
    "Pass": _pass,
    "ExpressionEval": _pass,
    "Wait": _wait,
    "Fail": _fail,
    "Choice": _choice,
    "Action": _action,
}


# actions


def _asked(state: Any, at: Document, service: str, method: str, path: str, body: Any = None) -> Document:
    """What a service answers to the identity that owns the run. Raises Refusal, Unknown."""
    call = Call(service, method, path, body=Fields(body or {}), identity=at["owner"])
    call.server = auth.SERVER_OF_SERVICE[service]
    route, call.params = find(state.routes[service], method, path)
    return dict(handled(route, state, call).body)


def _transfer(state: Any, at: Document) -> Document:
    given = dict(at["input"] or {})
    items = given.pop("DATA", None) or given.pop("transfer_items", None) or []
    body = {
        "DATA_TYPE": "transfer",
        "submission_id": _asked(state, at, "transfer", "GET", "/v0.10/submission_id")["value"],
        "source_endpoint": given.pop("source_endpoint", None) or given.pop("source_endpoint_id", None),
        "destination_endpoint": given.pop("destination_endpoint", None) or given.pop("destination_endpoint_id", None),
        **given,
        "DATA": [{"DATA_TYPE": "transfer_item", **item} for item in items],
    }
    task = _asked(state, at, "transfer", "POST", "/v0.10/transfer", body)["task_id"]
    return {"task": task, "id": task}


def _permission(state: Any, at: Document) -> Document:
    given = {"DATA_TYPE": "access", **(at["input"] or {})}
    operation, endpoint = given.pop("operation", "CREATE"), given.pop("endpoint_id", None)
    if operation != "CREATE":
        raise Unknown(f"operation '{operation}' of the action set_permission")
    details = _asked(state, at, "transfer", "POST", f"/v0.10/endpoint/{endpoint}/access", given)
    return {"status": "SUCCEEDED", "details": details}


def _ingest(state: Any, at: Document) -> Document:
    given = dict(at["input"] or {})
    index = given.pop("search_index", None)
    entry = {"@datatype": "GMetaEntry", "@version": "2016-11-09", **given}
    body = {"ingest_type": "GMetaEntry", "ingest_data": entry}
    return {"ingested": _asked(state, at, "search", "POST", f"/v1/index/{index}/ingest", body)["task_id"]}


_ACTIONS: dict[str, Callable[[Any, Document], Document]] = {
    "/set_permission": _permission,
    "/search/ingest": _ingest,
    "/transfer": _transfer,
}


def _scripted(record: Document, name: str) -> Document:
    said = (record.get("script") or {}).get("actions", {}).get(name) or {}
    return {"status": str(said.get("status", "SUCCEEDED")), "details": dict(said.get("details") or {})}


def _looked(state: Any, at: Document) -> tuple[str, Document] | None:
    """How an action ended, and its details; None while it is under way."""
    action = at["action"]
    if "task" in action:
        task = state.engine.get(action["task"])
        state.engine.look([task])
        document = dict(state.engine.document(task))
        return (str(document["status"]), document) if not task.unfinished else None
    if "ingested" in action:
        task = _asked(state, at, "search", "GET", f"/v1/task/{action['ingested']}")
        ended = {"SUCCESS": "SUCCEEDED", "FAILED": "FAILED"}.get(str(task.get("state")))
        return (ended, task) if ended else None
    return str(action["status"]), dict(action["details"])


# paths, parameters, comparisons, expressions

_PART = re.compile(r"\.([A-Za-z_@][\w@-]*)|\[(\d+)\]|\['([^']*)'\]")


def _parts(path: str) -> list[str | int]:
    found: list[str | int] = []
    at = 1
    while at < len(path):
        match = _PART.match(path, at)
        if not path.startswith("$") or match is None:
            raise Failed("States.Runtime", f"{path!r} is not a path that is understood here")
        found.append(int(match[2]) if match[2] else match[1] or match[3])
        at = match.end()
    return found


def get(context: Any, path: str) -> Any:
    for part in _parts(path):
        try:
            context = context[part]
        except (KeyError, IndexError, TypeError):
            raise Failed("States.Runtime", f"there is no {path} in the context") from None
    return context


def put(context: Document, path: str, value: Any) -> Document:
    """The context with a value at a path; `$` replaces it."""
    parts = _parts(path)
    if not parts:
        return dict(value) if isinstance(value, dict) else {"value": value}
    made = dict(context)
    inner = made
    for part in parts[:-1]:
        inner[str(part)] = dict(inner.get(str(part)) or {})
        inner = inner[str(part)]
    inner[str(parts[-1])] = value
    return made


def _parameters(here: Document, context: Document) -> Any:
    if "Parameters" in here:
        return _evaluated(here["Parameters"], context)
    if here.get("InputPath"):
        return get(context, here["InputPath"])
    return {name: value for name, value in context.items() if name != "_context"}


def _evaluated(value: Any, context: Document) -> Any:
    if isinstance(value, list):
        return [_evaluated(each, context) for each in value]
    if not isinstance(value, dict):
        return value
    found: Document = {}
    for name, inner in value.items():
        if name.endswith(".$"):
            found[name[:-2]] = get(context, str(inner))
        elif name.endswith(".="):
            found[name[:-2]] = expression(str(inner), context)
        elif name != "__Private_Parameters":
            found[name] = _evaluated(inner, context)
    return found


_COMPARED: dict[str, Callable[[Any, Any], bool]] = {
    "Equals": operator.eq,
    "LessThan": operator.lt,
    "GreaterThan": operator.gt,
    "LessThanEquals": operator.le,
    "GreaterThanEquals": operator.ge,
}
_TYPES: dict[str, Any] = {"String": str, "Numeric": (int, float), "Boolean": bool}


def _holds(choice: Mapping[str, Any], context: Document) -> bool:
    if "And" in choice:
        return all(_holds(each, context) for each in choice["And"])
    if "Or" in choice:
        return any(_holds(each, context) for each in choice["Or"])
    if "Not" in choice:
        return not _holds(choice["Not"], context)
    name, wanted = next((name, value) for name, value in choice.items() if name not in ("Variable", "Next", "Comment"))
    try:
        found = get(context, str(choice["Variable"]))
    except Failed:
        if name == "IsPresent":
            return not wanted
        raise
    if name == "IsPresent":
        return bool(wanted)
    if name == "IsNull":
        return (found is None) == bool(wanted)
    if name == "StringMatches":
        return isinstance(found, str) and fnmatch.fnmatchcase(found, str(wanted))
    if name.startswith("Is") and name[2:] in _TYPES:
        return isinstance(found, _TYPES[name[2:]]) == bool(wanted)
    name, wanted = (name[:-4], get(context, str(wanted))) if name.endswith("Path") else (name, wanted)
    for kind, type_ in _TYPES.items():
        if name.startswith(kind) and name[len(kind) :] in _COMPARED:
            return isinstance(found, type_) and _COMPARED[name[len(kind) :]](found, wanted)
    raise Failed("States.Runtime", f"the comparison {name} is not understood here")


_BINARY: dict[type[ast.AST], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.Mod: operator.mod,
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.In: lambda one, other: one in other,
}
_CALLED: dict[str, Callable[..., Any]] = {"len": len, "str": str, "int": int}


def expression(text: str, context: Document) -> Any:
    """The value of an expression. Raises Failed for what is not understood here."""
    text = re.sub(r"`\$\.([^`]+)`", r"\1", text)  # a path within an expression is quoted
    try:
        return _value(ast.parse(text, mode="eval").body, context)
    except (SyntaxError, KeyError, IndexError, TypeError, ValueError, ZeroDivisionError) as error:
        raise Failed("States.Runtime", f"the expression {text!r} cannot be evaluated here: {error}") from None


def _value(node: ast.AST, context: Document) -> Any:
    if isinstance(node, ast.Constant):
        return node.value
    if isinstance(node, ast.Name):
        return context[node.id]
    if isinstance(node, ast.Attribute):
        return _value(node.value, context)[node.attr]
    if isinstance(node, ast.Subscript):
        return _value(node.value, context)[_value(node.slice, context)]
    if isinstance(node, ast.List):
        return [_value(each, context) for each in node.elts]
    if isinstance(node, ast.BinOp) and type(node.op) in _BINARY:
        return _BINARY[type(node.op)](_value(node.left, context), _value(node.right, context))
    if isinstance(node, ast.Compare) and len(node.ops) == 1 and type(node.ops[0]) in _BINARY:
        return _BINARY[type(node.ops[0])](_value(node.left, context), _value(node.comparators[0], context))
    if isinstance(node, ast.BoolOp):
        values = [_value(each, context) for each in node.values]
        return all(values) if isinstance(node.op, ast.And) else any(values)
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
        return not _value(node.operand, context)
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in _CALLED:
        return _CALLED[node.func.id](*(_value(each, context) for each in node.args))
    raise ValueError(f"{type(node).__name__} is not known")
