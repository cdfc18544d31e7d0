"""The server: one process, one port of 127.0.0.1, a prefix for each service, the control under /_sandbox/.

Started by launch.Sandbox, in a process of its own; it listens before it imports what it
needs to answer, and writes its address to a file, so that whoever started it can go on at once.
"""

from __future__ import annotations

import argparse
import asyncio
import collections as collections_
import contextlib
import functools
import importlib
import inspect
import json
import os
import shutil
import signal
import socket
import sys
import threading
import time
from pathlib import Path
from typing import Any

#: Prefix -> modules whose `routes` serve it. A service is added here.
SERVICES: dict[str, tuple[str, ...]] = {
    "auth": ("auth", "login"),
    "transfer": ("transfer", "endpoints", "sharing", "endpoint_manager"),
    "groups": ("groups",),
    "flows": ("flows",),
    "timer": ("timers",),
    "search": ("search",),
}
#: Requests the log keeps, and the size from which the items of a submission are left out of it.
LOGGED = 20_000
LOGGED_ITEMS = 1000


def main(argv: list[str]) -> int:
    options = _options(argv)
    # asyncio turns Nagle's algorithm off (40 ms for each reply) only for a socket that says it is TCP
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((options.bind, options.port))
    except OSError:
        if not options.port:
            raise
        listener.bind((options.bind, 0))
    listener.listen(128)
    port = listener.getsockname()[1]
    base = Path(options.base)
    part = base / f"address.{os.getpid()}"
    part.write_text(json.dumps({"url": url_of(options.bind, port), "pid": os.getpid()}))
    os.replace(part, base / "address")
    (base / "port").write_text(f"{port}\n")
    if options.parent:
        threading.Thread(target=_end_with, args=(options,), daemon=True).start()
    serve(options, listener)
    return 0


def url_of(bind: str, port: int) -> str:
    """Where this machine reaches what listens there."""
    return f"http://{'127.0.0.1' if bind == '0.0.0.0' else bind}:{port}"


def _options(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="globus_sandbox.server")
    parser.add_argument("--base", required=True, help="directory of the sandbox")
    parser.add_argument("--collection", action="append", default=[], metavar="NAME:KIND:DIRECTORY")
    parser.add_argument("--port", type=int, default=0, help="preferred port (0: any)")
    parser.add_argument("--parent", type=int, default=0, help="end when this process has ended")
    parser.add_argument("--remove", action="store_true", help="and remove the directory of the sandbox then")
    parser.add_argument("--durable", action="store_true", help="keep the state on disk")
    parser.add_argument("--progress", default="at-once")
    parser.add_argument("--bind", default="127.0.0.1", metavar="ADDRESS", help="address to listen on")
    parser.add_argument("--data-access", action="store_true", help="mapped collections ask for a consent")
    parser.add_argument("--requests-per-second", type=int, metavar="N", help="of each user, before the answer is 429")
    parser.add_argument("--permissions", type=int, default=1000, metavar="N", help="that a guest collection may have")
    parser.add_argument("--pending-tasks", type=int, default=100, metavar="N", help="that a user may have")
    parser.add_argument("--owner", choices=("user", "client"), default="user", help="who has the collections")
    return parser.parse_args(argv)


def _end_with(options: argparse.Namespace) -> None:
    """End when the parent has; it may have become another program meanwhile, so that nobody else is left to clean up."""
    while os.getppid() == options.parent:
        time.sleep(0.1)
    for _ in range(20):
        if not options.remove or not os.path.exists(options.base):
            break
        shutil.rmtree(options.base, ignore_errors=True)
        time.sleep(0.1)  # what the parent left running may still write there
    os._exit(0)


class Dropped(BaseException):
    """The connection was cut on purpose. No Exception: the HTTP library would answer 500 for one before it passes it on."""


def serve(options: argparse.Namespace, listener: socket.socket) -> None:
    import uvicorn
    from uvicorn.protocols.http.h11_impl import H11Protocol

    connections: dict[Any, asyncio.Transport] = {}

    class Protocol(H11Protocol):
        """Keeps each connection's transport by its address, so that a fault can cut it."""

        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            super().connection_made(transport)
            connections[self.client] = transport

        def connection_lost(self, error: Exception | None) -> None:
            connections.pop(self.client, None)
            super().connection_lost(error)

    sys.setswitchinterval(0.001)
    application = Application(options, listener.getsockname()[1], connections)
    config = uvicorn.Config(
        application, http=Protocol, ws="none", lifespan="off", access_log=False, log_config=None, timeout_keep_alive=600
    )
    server = uvicorn.Server(config)

    def ended(*_: Any) -> None:
        application.state.engine.close()
        os._exit(0)

    # at once, and not after open connections have been waited for, as the library would
    server.install_signal_handlers = lambda: None  # type: ignore[attr-defined]
    server.capture_signals = contextlib.nullcontext  # type: ignore[method-assign,assignment]
    signal.signal(signal.SIGTERM, ended)
    signal.signal(signal.SIGINT, ended)
    server.run(sockets=[listener])


class Application:
    """The ASGI application: finds the route, holds faults and strictness, writes the log."""

    def __init__(self, options: argparse.Namespace, port: int, connections: dict[Any, asyncio.Transport]) -> None:
        from starlette.applications import Starlette
        from starlette.routing import Route as StarletteRoute

        from globus_sandbox import auth, control_api, rights, web
        from globus_sandbox.documents import ENTITY_TYPES, Clock, Collection, CollectionRegistry, Documents, id_of
        from globus_sandbox.faults import Faults
        from globus_sandbox.server_state import Modes, ServerState
        from globus_sandbox.tasks import Engine

        base = Path(options.base)
        documents = Documents(base / "state.sqlite" if options.durable else None)
        collections = CollectionRegistry(
            [
                Collection(name, id_of("collection " + name), Path(directory), ENTITY_TYPES[kind])
                for name, kind, directory in (text.split(":", 2) for text in options.collection)
            ],
            documents,
        )
        clock = Clock(documents)
        if documents.get("setting", "progress") is None:
            documents.set("progress", options.progress)
        faults = Faults(documents, collections)
        owner = auth.CLIENT if options.owner == "client" else auth.USER
        engine = Engine(documents, clock, collections, faults)
        modes = Modes(options.data_access, options.requests_per_second, options.permissions, options.pending_tasks)
        url = url_of(options.bind, port)
        self.state = ServerState(url, documents, clock, collections, faults, engine, owner, modes)
        self.open_to_others = options.bind not in ("127.0.0.1", "localhost")
        self.recent: dict[str, collections_.deque[float]] = {}
        engine.may = functools.partial(rights.may, self.state)
        self.connections = connections
        self.log: list[dict[str, Any]] = documents.all("request")
        self.unknown: list[dict[str, Any]] = documents.all("unknown")
        self.numbered = self.log[-1]["number"] if self.log else 0
        self.tables: dict[str, list[web.Route]] = {}
        for service, modules in SERVICES.items():
            self.tables[service] = [
                route for name in modules for route in importlib.import_module(f"globus_sandbox.{name}").routes.table
            ]
        self.control = control_api.ControlApi(self)
        self.inner = Starlette(
            routes=[
                StarletteRoute(
                    "/_sandbox/{rest:path}", self.control.endpoint, methods=["GET", "POST", "DELETE", "PUT"]
                ),
                StarletteRoute("/{service}{path:path}", self.endpoint, methods=list(_METHODS)),
            ]
        )

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http" and scope["method"] == "CONNECT":
            await self._refuse_tunnel(scope)(scope, receive, send)
            return
        foreign = _foreign(scope["headers"], self.state.url, any_host=self.open_to_others)
        try:
            await (self.inner if foreign is None else foreign)(scope, receive, send)
        except Dropped:
            transport = self.connections.pop(tuple(scope["client"]), None)
            if transport is not None:
                transport.abort()

    def _refuse_tunnel(self, scope: Any) -> Any:
        """A GCS Manager, or whatever else is asked for by https: not here, and on the list."""
        from starlette.responses import Response

        from globus_sandbox import web

        target = scope["raw_path"].decode("latin-1").lstrip("/")
        call = web.Call("https", "CONNECT", target, request_id=web.new_request_id())
        entry = self._entry(call)
        self._not_served(call, entry, f"https connection to {target}")
        self._log({**entry, "status": 501})
        return Response(status_code=501)

    async def endpoint(self, request: Any) -> Any:
        from globus_sandbox import web

        service = request.path_params["service"].lstrip("/")
        service, _, rest = request.url.path.lstrip("/").partition("/")
        call = web.Call(
            service=service,
            method=request.method,
            path="/" + rest,
            query=web.Fields(dict(request.query_params)),
            queries=request.query_params.multi_items(),
            headers=request.headers,
            request_id=web.new_request_id(),
        )
        raw = await request.body()
        started = time.monotonic()
        entry = self._entry(call)
        reply = await self._answer(call, raw, entry)
        entry["status"] = reply.status
        entry["seconds"] = round(time.monotonic() - started, 4)
        self._log(entry)
        return _response(reply)

    async def _answer(self, call: Any, raw: bytes, entry: dict[str, Any]) -> Any:
        """The reply, with every fault for this request. Raises Dropped."""
        from globus_sandbox import web
        from globus_sandbox.faults import reply_of

        injected = self.state.faults.for_request(call.service, call.method, call.path)
        kinds = [fault.kind for fault in injected]
        if kinds:
            entry["faults"] = kinds
        for fault in injected:
            if fault.kind == "slow":
                await asyncio.sleep(float(fault.with_.get("seconds", 1)))
        if "drop-before" in kinds:
            self._log({**entry, "status": None})
            raise Dropped
        try:
            call.body = web.parsed(raw, call.headers.get("content-type", ""))
            entry["body"] = _shown(call.body)
            if isinstance(call.body, dict):
                call.body = web.Fields(call.body)
            reply = next((made for fault in injected if (made := reply_of(fault, call.path, call.request_id))), None)
            if reply is None:
                reply = await self._handle(call)
        except web.Refusal as refusal:
            reply = web.Reply(web.refusal_body(call, refusal), refusal.status, refusal.headers)
        except web.Unknown as unknown:
            self._not_served(call, entry, str(unknown))
            message = f"the sandbox does not serve: {unknown}"
            reply = web.Reply(web.refusal_body(call, web.Refusal(501, "NotServed", message)), 501)
        if "drop-after" in kinds:
            self._log({**entry, "status": reply.status, "dropped": True})
            raise Dropped
        return reply

    async def _handle(self, call: Any) -> Any:
        from globus_sandbox import auth, web

        table = self.tables.get(call.service)
        if table is None:
            raise web.Unknown(f"service '{call.service}'")
        route, call.params = web.find(table, call.method, call.path)
        if route.login:
            call.identity = auth.identity_of(self.state, call, auth.SERVER_OF_SERVICE.get(call.service, ""))
        self._check_rate(call)
        web.check_strictly(route, call)
        if inspect.iscoroutinefunction(route.handler):
            answer = await route.handler(self.state, call)
        else:
            with self.state.documents.lock:
                answer = route.handler(self.state, call)
        web.check_all_read(route, call)
        return answer if isinstance(answer, web.Reply) else web.Reply(answer)

    def _check_rate(self, call: Any) -> None:
        """Raises Refusal, 429, for a user's request beyond the number for one second."""
        from globus_sandbox import web

        most = self.state.modes.requests_per_second
        if most is None or call.identity is None:
            return
        now = time.monotonic()
        recent = self.recent.setdefault(call.identity, collections_.deque())
        while recent and recent[0] <= now - 1.0:
            recent.popleft()
        if len(recent) >= most:
            raise web.Refusal(429, "ClientError.TooManyRequests", "Too many requests", headers={"Retry-After": "1"})
        recent.append(now)

    def _entry(self, call: Any) -> dict[str, Any]:
        self.numbered += 1
        return {
            "number": self.numbered,
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
        if self.log and self.log[-1]["number"] == entry["number"]:
            return
        self.log.append(entry)
        self.state.documents.put("request", str(entry["number"]), entry)
        if len(self.log) > LOGGED:
            self.state.documents.remove("request", str(self.log.pop(0)["number"]))

    def _not_served(self, call: Any, entry: dict[str, Any], what: str) -> None:
        found = {
            "what": what,
            "service": call.service,
            "method": call.method,
            "path": call.path,
            "number": entry["number"],
        }
        self.unknown.append(found)
        self.state.documents.put("unknown", str(entry["number"]), found)


def _foreign(headers: list[tuple[bytes, bytes]], url: str, *, any_host: bool) -> Any:
    """The refusal of what a web browser was led to send here, or None.

    A page of another site can post to a local port (then there is an Origin), and can read the answers once the name of that site
    leads to 127.0.0.1 (then the Host is that name). No client of the sandbox does either.
    """
    from starlette.responses import JSONResponse

    port = url.rpartition(":")[2]
    own = [f"{name}:{port}" for name in ("127.0.0.1", "localhost", "[::1]")]
    hosts = [value.decode("latin-1").lower() for name, value in headers if name == b"host"]
    if len(hosts) != 1 or not (any_host or hosts[0] in own):
        return JSONResponse({"error": f"Host {', '.join(hosts)!r} is not this sandbox. Use {url}."}, 403)
    if any(name == b"origin" for name, _ in headers):
        return JSONResponse({"error": f"A request with an Origin comes from a web page. Use a client at {url}."}, 403)
    return None


_METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS")

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


def _response(reply: Any) -> Any:
    from starlette.responses import HTMLResponse, Response

    if isinstance(reply.body, str):
        return HTMLResponse(reply.body, reply.status, reply.headers)
    data = b"" if reply.body is None else json.dumps(reply.body, ensure_ascii=True).encode()
    return Response(data, reply.status, reply.headers, media_type="application/json")
