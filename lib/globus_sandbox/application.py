"""A request becomes a reply: its route is found, faults and strictness are applied, the log is written."""

from __future__ import annotations

import contextlib
import functools
import importlib
import threading
import time
import traceback
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from globus_sandbox import auth, control_api, rights, web
from globus_sandbox.documents import Clock, CollectionRegistry, Documents, collection_of
from globus_sandbox.faults import Fault, Faults, reply_of
from globus_sandbox.settings import Settings
from globus_sandbox.tasks import Engine
from globus_sandbox.web import Reply

#: Prefix -> modules whose `routes` serve it. A service is added here.
SERVICES: dict[str, tuple[str, ...]] = {
    "auth": ("auth", "login"),
    "transfer": ("transfer", "endpoints", "sharing", "endpoint_manager"),
    "groups": ("groups",),
    "flows": ("flows",),
    "timer": ("timers",),
    "search": ("search",),
    "gcs": ("managers",),
}
#: Requests the log keeps, and the size from which the items of a submission are left out of it.
LOGGED = 20_000
LOGGED_ITEMS = 1000
#: Bytes from which a request is large.
LARGE = 1_000_000


@dataclass
class ServerState:
    """Everything one sandbox is made of, handed to each handler."""

    url: str
    documents: Documents
    clock: Clock
    collections: CollectionRegistry
    faults: Faults
    engine: Engine
    #: The identity whom the collections belong to.
    owner: str
    settings: Settings
    #: By service.
    routes: dict[str, list[web.Route]]


class Dropped(Exception):
    """The connection is to be cut, without an answer."""


def routes_of(service: str) -> list[web.Route]:
    modules = (importlib.import_module(f"globus_sandbox.{name}") for name in SERVICES.get(service, ()))
    return [route for module in modules for route in module.routes.table]


class Application:
    """What answers a request. Handlers run one at a time, with the lock of the documents held."""

    def __init__(self, settings: Settings, url: str) -> None:
        documents = Documents(Path(settings.base, "state.sqlite") if settings.durable else None)
        started_with = [collection_of(name, Path(path), kind) for name, kind, path in settings.collections]
        collections = CollectionRegistry(started_with, documents)
        clock = Clock(documents)
        if documents.get("setting", "progress") is None:
            documents.set("progress", settings.progress)
        faults = Faults(documents, collections)
        engine = Engine(documents, clock, collections, faults)
        routes = {service: routes_of(service) for service in SERVICES}
        self.state = ServerState(url, documents, clock, collections, faults, engine, settings.owner, settings, routes)
        self.open_to_others = settings.bind not in ("127.0.0.1", "localhost")
        self.recent: dict[str, deque[float]] = {}
        engine.may = functools.partial(rights.may, self.state)
        #: Large requests are answered one at a time: side by side, they take more memory and no less time.
        self.large = threading.Lock()
        self.numbered = max((each["number"] for each in documents.all("request")), default=0)
        self.control = control_api.ControlApi(self.state)

    def answer(self, method: str, target: str, headers: Mapping[str, str], raw: bytes) -> Reply:
        """The answer to a request. Raises Dropped."""
        foreign = self._foreign(headers)
        if foreign is not None:
            return Reply({"error": foreign}, 403)
        address = urlsplit(target)
        service, _, rest = unquote(address.path).lstrip("/").partition("/")
        queries = parse_qsl(address.query, keep_blank_values=True)
        if service == "_sandbox":
            with self.state.documents.lock:
                return self.control.answer(f"{method} {rest}", dict(queries), raw)
        call = web.Call(
            service=service,
            method=method,
            path="/" + rest,
            query=web.Fields(dict(queries)),
            queries=queries,
            headers=headers,
            request_id=web.new_request_id(),
        )
        started = time.monotonic()
        entry = self._entry(call)
        reply = self._answer(call, raw, entry)
        self._log({**entry, "status": reply.status, "seconds": round(time.monotonic() - started, 4)})
        return reply

    def refuse_tunnel(self, target: str) -> Reply:
        """What is reached by https is not here, and on the list."""
        call = web.Call("https", "CONNECT", target, request_id=web.new_request_id())
        entry = self._entry(call)
        self._not_served(entry, f"https connection to {target}")
        self._log({**entry, "status": 501})
        return Reply(None, 501)

    def _answer(self, call: web.Call, raw: bytes, entry: dict[str, Any]) -> Reply:
        """The reply, with every fault for this request. Raises Dropped."""
        with self.state.documents.lock:
            injected = self.state.faults.for_request(call.service, call.method, call.path)
        kinds = [fault.kind for fault in injected]
        if kinds:
            entry["faults"] = kinds
        for fault in injected:
            if fault.kind == "slow":
                time.sleep(float(fault.with_.get("seconds", 1)))
        if "drop-before" in kinds:
            self._log({**entry, "status": None})
            raise Dropped
        try:
            with self.large if len(raw) > LARGE else contextlib.nullcontext():
                reply = self._done(call, raw, entry, injected)
        except web.Refusal as refusal:
            reply = Reply(web.refusal_body(call, refusal), refusal.status, refusal.headers)
        except web.Unknown as unknown:
            self._not_served(entry, str(unknown))
            message = f"the sandbox does not serve: {unknown}"
            reply = Reply(web.refusal_body(call, web.Refusal(501, "NotServed", message)), 501)
        except Exception as defect:  # in the sandbox; the traceback is in server.log
            traceback.print_exc()
            reply = Reply(web.refusal_body(call, web.Refusal(500, "SandboxDefect", repr(defect))), 500)
        if "drop-after" in kinds:
            self._log({**entry, "status": reply.status, "dropped": True})
            raise Dropped
        return reply

    def _done(self, call: web.Call, raw: bytes, entry: dict[str, Any], injected: list[Fault]) -> Reply:
        """What a fault says, or else a handler. Raises Refusal, Unknown."""
        body = web.parsed(raw, call.headers.get("content-type", ""))
        entry["body"] = _shown(body)
        call.body = web.Fields(body or {}) if isinstance(body, dict | None) else body
        reply = next((made for fault in injected if (made := reply_of(fault, call.path, call.request_id))), None)
        if reply is None:
            reply = self._handle(call)
        call.body = None  # it may be large, and is done with before the next one is read
        return reply

    def _handle(self, call: web.Call) -> Reply:
        table = self.state.routes.get(call.service)
        if table is None:
            raise web.Unknown(f"service '{call.service}'")
        route, call.params = web.find(table, call.method, call.path)
        with self.state.documents.lock:
            if route.login:
                call.identity = auth.identity_of(self.state, call, auth.SERVER_OF_SERVICE.get(call.service, ""))
            self._check_rate(call)
            return web.handled(route, self.state, call)

    def _check_rate(self, call: web.Call) -> None:
        """Raises Refusal, 429, for a user's request beyond the number for one second."""
        most = self.state.settings.requests_per_second
        if most is None or not call.identity:
            return
        now = time.monotonic()
        recent = self.recent.setdefault(call.identity, deque())
        while recent and recent[0] <= now - 1.0:
            recent.popleft()
        if len(recent) >= most:
            raise web.Refusal(429, "ClientError.TooManyRequests", "Too many requests", headers={"Retry-After": "1"})
        recent.append(now)

    def _entry(self, call: web.Call) -> dict[str, Any]:
        with self.state.documents.lock:
            self.numbered += 1
            number = self.numbered
        return {
            "number": number,
            "time": self.state.clock.now(),
            "service": call.service,
            "method": call.method,
            "path": call.path,
            "query": dict(call.query),
            "user_agent": call.headers.get("user-agent", ""),
            "request_id": call.request_id,
            "body": None,
        }

    def _log(self, entry: dict[str, Any]) -> None:
        self.state.documents.put("request", str(entry["number"]), entry)
        if entry["number"] > LOGGED:
            self.state.documents.remove("request", str(entry["number"] - LOGGED))

    def _not_served(self, entry: dict[str, Any], what: str) -> None:
        found = {name: entry[name] for name in ("service", "method", "path", "number")}
        self.state.documents.put("unknown", str(entry["number"]), {"what": what, **found})

    def _foreign(self, headers: Mapping[str, str]) -> str | None:
        """Why a request is refused that a web browser was led to send here, or None.

        A page of another site can post to a local port (then there is an Origin), and can read the answers once the name of that
        site leads to 127.0.0.1 (then the Host is that name). No client of the sandbox does either.
        """
        url = self.state.url
        port = url.rpartition(":")[2]
        host = headers.get("host", "")
        if not (
            self.open_to_others or host.lower() in [f"{name}:{port}" for name in ("127.0.0.1", "localhost", "[::1]")]
        ):
            return f"Host {host!r} is not this sandbox. Use {url}."
        if "origin" in headers:
            return f"A request with an Origin comes from a web page. Use a client at {url}."
        return None


#: Never in the log, whoever sends them.
_SECRET = ("token", "refresh_token", "access_token", "client_secret", "code", "code_verifier")


def _shown(body: Any) -> Any:
    """A body as the log keeps it: no secrets, and of a large submission only the number of its items."""
    if not isinstance(body, dict):
        return body
    shown = {name: "***" if name in _SECRET else value for name, value in body.items()}
    items = shown.get("DATA")
    if isinstance(items, list) and len(items) > LOGGED_ITEMS:
        shown["DATA"] = f"{len(items)} items"
    return shown
