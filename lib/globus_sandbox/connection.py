"""HTTP: a thread for each connection, on the standard library's server. What is answered is application.Application's to say."""

from __future__ import annotations

import functools
import json
import re
import socket
import ssl
import struct
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from globus_sandbox.application import Application, Dropped
from globus_sandbox.web import METHODS, Reply


class Server(ThreadingHTTPServer):
    """Serves a socket that listens already."""

    daemon_threads = True

    def __init__(self, listener: socket.socket, application: Application) -> None:
        super().__init__(listener.getsockname(), Connection, bind_and_activate=False)
        self.socket.close()
        self.socket = listener
        self.application = application

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away in the middle is none of our business; anything else is in server.log."""
        if not isinstance(sys.exc_info()[1], ConnectionError | TimeoutError):
            super().handle_error(request, client_address)


class Connection(BaseHTTPRequestHandler):
    server: Server
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1
    timeout = 600

    def do_request(self) -> None:
        try:
            if self.headers.get("Transfer-Encoding"):
                raise Dropped
            raw = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            headers = {name.lower(): ", ".join(self.headers.get_all(name, ())) for name in self.headers}
            self._answer(headers, raw)
        except Dropped:
            self._cut()

    def _answer(self, headers: dict[str, str], raw: bytes) -> None:
        self._send(self.server.application.answer(self.command, self.path, headers, raw))

    def do_CONNECT(self) -> None:
        """What is asked for by https: the manager of an endpoint is here, everything else is not."""
        self.close_connection = True
        manager = re.fullmatch(r"([0-9a-f-]{36})\.sandbox\.invalid:443", self.path)
        if manager is None:
            self._send(self.server.application.refuse_tunnel(self.path))
            return
        self.send_response(200)
        self.end_headers()
        self.wfile.flush()
        with _tls().wrap_socket(self.connection, server_side=True) as line:
            Manager(manager[1], line, self.client_address, self.server)

    def _send(self, reply: Reply) -> None:
        text = isinstance(reply.body, str)
        data = str(reply.body) if text else "" if reply.body is None else json.dumps(reply.body)
        encoded = data.encode()
        self.send_response(reply.status)
        self.send_header("Content-Type", "text/html; charset=utf-8" if text else "application/json")
        self.send_header("Content-Length", str(len(encoded)))
        for name, value in reply.headers.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(encoded)

    def _cut(self) -> None:
        """End the connection as a network does that breaks: with a reset, and no answer."""
        self.close_connection = True
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.close()

    def log_message(self, format: str, *args: Any) -> None:
        """The application has its log."""


class Manager(Connection):
    """The requests to the manager of one endpoint, inside a tunnel."""

    def __init__(self, endpoint: str, *rest: Any) -> None:
        self.endpoint = endpoint
        super().__init__(*rest)

    def _answer(self, headers: dict[str, str], raw: bytes) -> None:
        application = self.server.application
        here = {**headers, "host": urlsplit(application.state.url).netloc}
        target = f"/gcs/{self.endpoint}{self.path.removeprefix('/api')}"
        self._send(application.answer(self.command, target, here, raw))


@functools.cache
def _tls() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(Path(__file__).with_name("manager.pem"))
    return context


for _method in METHODS:
    setattr(Connection, f"do_{_method}", Connection.do_request)
