"""The server: one process, one port of 127.0.0.1, a prefix for each service, the control under /_sandbox/.

Started by launch.Sandbox, in a process of its own; it listens before it imports what it
needs to answer, and writes its address to a file, so that whoever started it can go on at once.
"""

from __future__ import annotations

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

from globus_sandbox.settings import Settings


def main(given: str) -> None:
    """Serve with these settings, JSON, until the end."""
    settings = Settings(**json.loads(given))
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((settings.bind, settings.port))
    except OSError:
        if not settings.port:
            raise
        listener.bind((settings.bind, 0))
    listener.listen(128)
    port = listener.getsockname()[1]
    base = Path(settings.base)
    part = base / f"address.{os.getpid()}"
    part.write_text(json.dumps({"url": url_of(settings.bind, port), "pid": os.getpid()}))
    os.replace(part, base / "address")
    (base / "port").write_text(f"{port}\n")
    if settings.parent:
        threading.Thread(target=_end_with, args=(settings,), daemon=True).start()
    serve(settings, listener)


def url_of(bind: str, port: int) -> str:
    """Where this machine reaches what listens there."""
    return f"http://{'127.0.0.1' if bind == '0.0.0.0' else bind}:{port}"


def _end_with(settings: Settings) -> None:
    """End when the parent has; it may have become another program meanwhile, so that nobody else is left to clean up."""
    while os.getppid() == settings.parent:
        time.sleep(0.1)
    for _ in range(20):
        if not settings.remove or not os.path.exists(settings.base):
            break
        shutil.rmtree(settings.base, ignore_errors=True)
        time.sleep(0.1)  # what the parent left running may still write there
    os._exit(0)


def serve(settings: Settings, listener: socket.socket) -> None:
    """Answer until SIGTERM or SIGINT, which end the process at once: no open connection is waited for."""
    from globus_sandbox.application import Application
    from globus_sandbox.connection import Server

    sys.setswitchinterval(0.001)
    gc.disable()  # a million items that are read take half the time, and none of them is garbage
    application = Application(settings, url_of(settings.bind, listener.getsockname()[1]))
    gc.freeze()
    gc.enable()

    def ended(*_: object) -> None:
        application.state.engine.close()
        os._exit(0)

    signal.signal(signal.SIGTERM, ended)
    signal.signal(signal.SIGINT, ended)
    Server(listener, application).serve_forever()
