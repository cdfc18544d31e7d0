"""How a request becomes a reply: routes as a table, strictness, refusals in the shape of each service.

A service is a module with a `Routes`. Adding one is: a new module, its routes, and its name in `application.SERVICES`.
Everything it does not know (route, method, query parameter, body field) answers 501 and is put on a list, so that a test
can fail on it.
"""

from __future__ import annotations

import fnmatch
import json
import re
import uuid
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl

METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS")


class Fields(dict[str, Any]):
    """Query parameters or body fields, which remember those that a handler read.

    What was never read had no effect: the answer would be a lie, and is refused with 501.
    """

    def __init__(self, values: Mapping[str, Any] = {}) -> None:
        super().__init__(values)
        self.read: set[str] = set()

    def __getitem__(self, name: str) -> Any:
        self.read.add(name)
        return super().__getitem__(name)

    def get(self, name: str, default: Any = None) -> Any:
        self.read.add(name)
        return super().get(name, default)

    def __contains__(self, name: object) -> bool:
        self.read.add(str(name))
        return super().__contains__(name)

    def items(self) -> Any:
        self.read.update(self)
        return super().items()

    @property
    def unread(self) -> list[str]:
        return [name for name in self if name not in self.read]


@dataclass
class Call:
    """One request, as a handler sees it. `path` is without the service's prefix; `query` has the last of each name, `body`
    the fields of the document (none without one)."""

    service: str
    method: str
    path: str
    params: dict[str, str] = field(default_factory=dict)
    query: Fields = field(default_factory=Fields)
    queries: list[tuple[str, str]] = field(default_factory=list)
    body: Any = field(default_factory=Fields)
    headers: Mapping[str, str] = field(default_factory=dict)
    #: Who asks; empty where no login is needed.
    identity: str = ""
    #: The resource server that the caller's token is for.
    server: str = ""
    request_id: str = ""

    def all_of(self, name: str) -> list[str]:
        """Every value of a query parameter that may be given more than once."""
        self.query.get(name)
        return [value for key, value in self.queries if key == name and value]

    def several(self, name: str) -> list[str]:
        """The values of a query parameter that may be given more than once, and each time with commas."""
        return [one for value in self.all_of(name) for one in value.split(",") if one]

    def flag(self, name: str, default: str = "false") -> bool:
        return is_true(self.query.get(name, default))

    def integer(self, name: str, default: int, low: int = 0, high: int = 1_000_000) -> int:
        """A query parameter as a number. Raises Refusal when it is none, or out of range."""
        text = self.query.get(name)
        if text is None:
            return default
        if not text.isdigit() or not low <= int(text) <= high:
            raise Refusal(400, "ClientError.BadRequest", f"Invalid value for '{name}': '{text}'")
        return int(text)


@dataclass
class Reply:
    """`body`: a document (sent as JSON), text (sent as it is, as HTML) or None."""

    body: Any = None
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)


def words(text: str) -> tuple[str, ...]:
    """Field names, written with spaces between them."""
    return tuple(text.split())


def is_true(value: Any) -> bool:
    return str(value).lower() in ("1", "true")


@dataclass(eq=False)
class Refusal(Exception):
    """An error of a service: status, its code, a message for people, and what else its body holds."""

    status: int
    code: str
    message: str
    extra: dict[str, Any] = field(default_factory=dict)
    headers: dict[str, str] = field(default_factory=dict)


class Unknown(Exception):
    """Something the sandbox does not serve: 501, and on the list."""


#: Called with the application.ServerState, which is made of what handlers are, and the call.
Handler = Callable[[Any, Call], Any]


@dataclass(frozen=True)
class Route:
    method: str
    pattern: re.Pattern[str]
    handler: Handler
    query: frozenset[str]
    body: frozenset[str] | None
    inert: frozenset[str]
    login: bool


class Routes:
    """The routes of one module, collected by decorating handlers."""

    def __init__(self) -> None:
        self.table: list[Route] = []

    def __call__(
        self,
        method: str,
        path: str,
        *,
        query: Iterable[str] = (),
        body: Iterable[str] | None = None,
        inert: Iterable[str] = (),
        login: bool = True,
    ) -> Callable[[Handler], Handler]:
        """`path` has `{name}` for one segment, `{name*}` for the rest. `body`: the fields it may have (None: no body).

        Every field of `query` and `body` that comes must be read by the handler, but for those in `inert`: what has no effect
        that a client could see.
        """
        pattern = re.sub(r"\\{(\w+)\\\*\\}", r"(?P<\1>.+)", re.escape(path))
        pattern = re.sub(r"\\{(\w+)\\}", r"(?P<\1>[^/]+)", pattern)

        def register(handler: Handler) -> Handler:
            fields = None if body is None else frozenset(body)
            made = Route(method, re.compile(pattern), handler, frozenset(query), fields, frozenset(inert), login)
            self.table.append(made)
            return handler

        return register


def ordered(
    rows: list[Any],
    asked: Iterable[str],
    fields: Iterable[str],
    refusal: Callable[[str], Exception],
    value: Callable[[Any, str], Any] = dict.__getitem__,
) -> list[Any]:
    """Rows by what `orderby` asks for: `NAME`, `NAME ASC` or `NAME DESC`, the first decides. Raises the refusal of any other."""
    for part in reversed(list(asked)):
        name, _, direction = part.strip().partition(" ")
        if name not in fields or direction.upper() not in ("", "ASC", "DESC"):
            raise refusal(part)
        rows = sorted(rows, key=lambda row: value(row, name), reverse=direction.upper() == "DESC")
    return rows


def like(text: str, pattern: str) -> bool:
    """Whether a pattern matches, of which only `*` is special."""
    return fnmatch.fnmatchcase(text, pattern.replace("[", "[[]").replace("?", "[?]"))


def find(table: Iterable[Route], method: str, path: str) -> tuple[Route, dict[str, str]]:
    """The route for a request and its path parameters. Raises Unknown."""
    methods = []
    for route in table:
        match = route.pattern.fullmatch(path)
        if match is None:
            continue
        if route.method == method:
            return route, match.groupdict()
        methods.append(route.method)
    if methods:
        raise Unknown(f"method {method} of {path} (served: {', '.join(sorted(set(methods)))})")
    raise Unknown(f"route {method} {path}")


def check_strictly(route: Route, call: Call) -> None:
    """Raises Unknown for the first query parameter or top-level body field that the route does not know."""
    for name in call.query:
        if name not in route.query:
            raise Unknown(f"query parameter '{name}' of {call.method} {call.path}")
    if route.body is None:
        if call.body not in ({}, ""):
            raise Unknown(f"body of {call.method} {call.path}")
        return
    if not isinstance(call.body, Fields):
        raise Refusal(400, "ClientError.BadRequest", "The body must be a JSON object")
    for name in call.body:
        if name not in route.body:
            raise Unknown(f"body field '{name}' of {call.method} {call.path}")


def check_all_read(route: Route, call: Call) -> None:
    """Raises Unknown for what came, and was never read."""
    for name in call.query.unread:
        if name not in route.inert:
            raise Unknown(f"query parameter '{name}' of {call.method} {call.path} (it has no effect here)")
    if isinstance(call.body, Fields):
        for name in call.body.unread:
            if name not in route.inert and name != "DATA_TYPE":
                raise Unknown(f"body field '{name}' of {call.method} {call.path} (it has no effect here)")


def handled(route: Route, state: Any, call: Call) -> Reply:
    """The reply of a handler. Raises Refusal, and Unknown for what the route does not know or the handler never read."""
    check_strictly(route, call)
    answer = route.handler(state, call)
    check_all_read(route, call)
    return answer if isinstance(answer, Reply) else Reply(answer)


def new_request_id() -> str:
    return uuid.uuid4().hex[:9]


def refusal_body(call: Call, refusal: Refusal) -> dict[str, Any]:
    """The body of an error, in the shape its service is recorded to use."""
    if "body" in refusal.extra:
        return dict(refusal.extra["body"])
    if call.service == "auth":
        return {
            "errors": [
                {
                    "status": str(refusal.status),
                    "id": str(uuid.uuid4()),
                    "code": refusal.code,
                    "detail": refusal.message,
                    "title": refusal.extra.get("title", refusal.code.replace("_", " ").title()),
                }
            ],
            "error_description": refusal.extra.get("error_description", refusal.message),
            "error": refusal.extra.get("error", refusal.code.lower()),
        }
    said = {"code": refusal.code, "message": refusal.message}
    if call.service in ("flows", "timer"):
        return {
            "error": {"code": refusal.code, "detail": refusal.message, **refusal.extra},
            "debug_id": call.request_id,
        }
    if call.service == "gcs":
        page = {"data": [], "has_next_page": False, "marker": ""}
        about = {"DATA_TYPE": "result#1.0.0", "http_response_code": refusal.status, "detail": None}
        return {**about, **said, **page, **refusal.extra}
    said["request_id"] = call.request_id
    if call.service == "transfer":
        said["resource"] = call.path
    if call.service == "search":
        return {"@datatype": "GError", "@version": "2017-09-01", "status": refusal.status, **said, **refusal.extra}
    return {**said, **refusal.extra}


def parsed(body: bytes, content_type: str) -> Any:
    """A body as a document: JSON, or a form. Raises Refusal when it is neither."""
    if not body:
        return None
    if "form-urlencoded" in content_type:
        return dict(parse_qsl(body.decode("utf-8", "replace"), keep_blank_values=True))
    try:
        return json.loads(body)
    except ValueError:
        raise Refusal(400, "ClientError.BadRequest.InvalidJSON", "The body is not JSON") from None
