"""globuswrap and the real globus-cli for tests that run them thousands of times: loaded once, forked for each command line.

Starting `globus` takes a third of a second of a processor, and globuswrap a quarter, nearly all of it imports. Here a server has
them done and forks a process for each command line, with the arguments, environment, directory and open files of whoever called.
What runs then is the installed program itself.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

#: What is called in place of `globus`.
SHIM = """#!{python} -SI
import json, os, socket, sys
server = socket.socket(socket.AF_UNIX)
server.connect({socket!r})
said = json.dumps([sys.argv[1:], dict(os.environ), os.getcwd()]).encode()
socket.send_fds(server, [len(said).to_bytes(8, "big")], [0, 1, 2])
server.sendall(said)
code = server.recv(16)
sys.exit(int(code) if code else 70)
"""


class Forked:
    """A server for one program, `globus` or `globuswrap`. `environ` is laid over this process's, for it and what it runs."""

    def __init__(self, program: str, environ: Mapping[str, str | None]) -> None:
        self._environ = dict(environ)
        self._directory = tempfile.TemporaryDirectory(prefix="forked-", dir="/tmp")  # a socket's name has to be short
        self._socket = Path(self._directory.name) / "socket"
        self.path = Path(self._directory.name) / program
        self.path.write_text(SHIM.format(python=sys.executable, socket=str(self._socket)))
        self.path.chmod(0o755)
        argv = [sys.executable, "-X", "utf8", __file__, program, str(self._socket), str(os.getpid())]
        self._server = subprocess.Popen(argv, env=self._laid({}), stdin=subprocess.DEVNULL)
        end = time.monotonic() + 60
        while not self._socket.exists():
            assert self._server.poll() is None and time.monotonic() < end, "the server did not start"
            time.sleep(0.02)

    def _laid(self, more: Mapping[str, str | None]) -> dict[str, str]:
        path = os.pathsep.join([str(Path(__file__).resolve().parents[2] / "lib"), os.environ.get("PYTHONPATH", "")])
        laid = {**os.environ, "PYTHONPATH": path.strip(os.pathsep), **self._environ, **more}
        return {name: value for name, value in laid.items() if value is not None}

    def run(self, arguments: Sequence[str], env: Mapping[str, str | None]) -> subprocess.CompletedProcess[str]:
        """One command line, as if it had been started here; `env` is laid over the environment."""
        with socket.socket(socket.AF_UNIX) as server, tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
            server.connect(str(self._socket))
            said = json.dumps([list(arguments), self._laid(env), os.getcwd()]).encode()
            with open(os.devnull, "rb") as nothing:
                socket.send_fds(server, [len(said).to_bytes(8, "big")], [nothing.fileno(), out.fileno(), err.fileno()])
                server.sendall(said)
            code = server.recv(16)
            texts = []
            for stream in (out, err):
                stream.seek(0)
                texts.append(stream.read().decode())
        return subprocess.CompletedProcess(list(arguments), int(code) if code else 70, *texts)

    def stop(self) -> None:
        self._server.kill()
        self._server.wait()
        self._directory.cleanup()


def serve(program: str, listening: str, parent: int) -> None:
    import gc
    import importlib
    import pkgutil

    package = importlib.import_module({"globus": "globus_cli", "globuswrap": "globuswrap"}[program])
    for module in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
        if "__main__" not in module.name and "sandbox" not in module.name:
            importlib.import_module(module.name)
    gc.freeze()
    server = socket.socket(socket.AF_UNIX)
    server.bind(listening + ".part")
    server.listen(64)
    server.settimeout(1.0)
    os.rename(listening + ".part", listening)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    while os.getppid() == parent:
        try:
            caller, _ = server.accept()
        except TimeoutError:
            continue
        caller.settimeout(None)
        if os.fork() == 0:
            server.close()
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            code = answer(program, caller)
            caller.sendall(str(code).encode())
            os._exit(0)
        caller.close()


def answer(program: str, caller: socket.socket) -> int:
    """Become the command that is asked for; its exit status."""
    head, descriptors, _, _ = socket.recv_fds(caller, 8, 3)
    text = b""
    while len(text) < int.from_bytes(head, "big"):
        text += caller.recv(1 << 16)
    arguments, environ, directory = json.loads(text)
    for number, descriptor in enumerate(descriptors):
        os.dup2(descriptor, number)
        os.close(descriptor)
    os.chdir(directory)
    os.environ.clear()
    os.environ.update(environ)
    sys.argv = [program, *arguments]
    import atexit
    import traceback

    code: object
    try:
        if program == "globus":
            import globus_cli

            code = globus_cli.main()
        else:
            from globuswrap.cli.main import main

            main()
    except SystemExit as ended:
        code = ended.code
    except BaseException:
        traceback.print_exc()
        code = 1
    if isinstance(code, str):
        print(code, file=sys.stderr)
        code = 1
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    return code if isinstance(code, int) else 0


if __name__ == "__main__":
    serve(sys.argv[1], sys.argv[2], int(sys.argv[3]))
