"""The server: one process, one port of 127.0.0.1, a prefix for each service, the control under /_sandbox/.

Started by launch.Sandbox, in a process of its own; it listens before it imports what it
needs to answer, and writes its address to a file, so that whoever started it can go on at once.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import shutil
import signal
import socket
import sys
import threading
import time
from pathlib import Path


def main(argv: list[str]) -> int:
    options = _options(argv)
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
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
    parser.add_argument("--base", required=True, help="keep the sandbox in this directory")
    parser.add_argument("--collection", action="append", default=[], metavar="NAME:KIND:DIRECTORY")
    parser.add_argument("--port", type=int, default=0, help="listen on this port if it is free (0: any)")
    parser.add_argument("--parent", type=int, default=0, help="exit when this process has ended")
    parser.add_argument("--remove", action="store_true", help="remove the directory of the sandbox on exit")
    parser.add_argument("--durable", action="store_true", help="keep the state on disk")
    parser.add_argument("--progress", default="at-once")
    parser.add_argument("--bind", default="127.0.0.1", metavar="ADDRESS", help="listen on this address")
    parser.add_argument(
        "--data-access", action="store_true", help="require a data_access consent for mapped collections"
    )
    parser.add_argument(
        "--requests-per-second",
        type=int,
        metavar="N",
        help="answer 429 beyond this many requests per second of one user",
    )
    parser.add_argument(
        "--permissions", type=int, default=1000, metavar="N", help="limit the permissions of a guest collection"
    )
    parser.add_argument("--pending-tasks", type=int, default=100, metavar="N", help="limit the pending tasks of a user")
    parser.add_argument(
        "--owner", choices=("user", "client"), default="user", help="make this identity the owner of the collections"
    )
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


def serve(options: argparse.Namespace, listener: socket.socket) -> None:
    """Answer until SIGTERM or SIGINT, which end the process at once: no open connection is waited for."""
    from globus_sandbox.application import Application
    from globus_sandbox.connection import Server

    sys.setswitchinterval(0.001)
    gc.disable()  # a million items that are read take half the time, and none of them is garbage
    application = Application(options, url_of(options.bind, listener.getsockname()[1]))
    gc.freeze()
    gc.enable()

    def ended(*_: object) -> None:
        application.state.engine.close()
        os._exit(0)

    signal.signal(signal.SIGTERM, ended)
    signal.signal(signal.SIGINT, ended)
    Server(listener, application).serve_forever()
