"""globuswrap and the real globus-cli for tests that run them thousands of times: loaded once, forked for each command line.

Starting `globus` takes a third of a second of a processor, and globuswrap a quarter, nearly all of it imports. Here a server has
them done and forks a process for each command line, with the arguments, environment, directory and open files of whoever called.
What runs then is the installed program itself.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

#: What is called in place of the program. Everything else about it can be read in /proc, as long as it waits.
SHIM = """#!/bin/sh
exec 7<&0 8>&1 9>&2
if [ -p "$0.$$" ]; then rm "$0.$$"; fi # of one that was killed, long ago
mkfifo "$0.$$" && echo $$ >"$0.asked" && read code <"$0.$$" && exit "$code"
exit 70
"""


class Forked:
    """A server for one program, `globus` or `globuswrap`. `environ` is laid over this process's, for it and what it runs.
    `python`: of the environment that has the program (default: this one)."""

    def __init__(self, program: str, environ: Mapping[str, str | None], python: Path | str = sys.executable) -> None:
        self._environ = dict(environ)
        self._directory = tempfile.TemporaryDirectory(prefix="forked-", dir="/tmp")  # a socket's name has to be short
        self._socket = Path(self._directory.name) / "socket"
        self.path = Path(self._directory.name) / program
        self.path.write_text(SHIM)
        self.path.chmod(0o755)
        os.mkfifo(f"{self.path}.asked")
        argv = [str(python), "-X", "utf8", __file__, program, str(self.path), str(self._socket), str(os.getpid())]
        self._server = subprocess.Popen(argv, env=self._laid({}), stdin=subprocess.DEVNULL)
        end = time.monotonic() + 240
        while not self._socket.exists():
            assert self._server.poll() is None and time.monotonic() < end, "the server did not start"
            time.sleep(0.02)

    def __enter__(self) -> Forked:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _laid(self, more: Mapping[str, str | None]) -> dict[str, str]:
        path = os.pathsep.join([str(Path(__file__).resolve().parents[2] / "lib"), os.environ.get("PYTHONPATH", "")])
        laid = {**os.environ, "PYTHONPATH": path.strip(os.pathsep), **self._environ, **more}
        return {name: value for name, value in laid.items() if value is not None}

    def run(
        self, arguments: Sequence[str], env: Mapping[str, str | None], stdin: Path | str = os.devnull
    ) -> subprocess.CompletedProcess[str]:
        """One command line, as if it had been started here; `env` is laid over the environment, `stdin` is a file."""
        with socket.socket(socket.AF_UNIX) as server, tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
            server.connect(str(self._socket))
            said = json.dumps([list(arguments), self._laid(env), os.getcwd()]).encode()
            with open(stdin, "rb") as given:
                socket.send_fds(server, [len(said).to_bytes(8, "big")], [given.fileno(), out.fileno(), err.fileno()])
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


def serve(program: str, shim: str, listening: str, parent: int) -> None:
    import gc
    import importlib
    import pkgutil
    import select

    package = importlib.import_module({"globus": "globus_cli", "globuswrap": "globuswrap"}[program])
    for module in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
        if "__main__" not in module.name and "sandbox" not in module.name:
            importlib.import_module(module.name)
    gc.freeze()
    asked = os.open(f"{shim}.asked", os.O_RDWR)
    server = socket.socket(socket.AF_UNIX)
    server.bind(listening + ".part")
    server.listen(64)
    os.rename(listening + ".part", listening)
    while os.getppid() == parent:
        reap()
        ready = select.select([asked, server], [], [], 1.0)[0]
        if server in ready:
            caller, _ = server.accept()
            if forked(server, asked):
                caller.sendall(str(answer(program, *given(caller))).encode())
                os._exit(0)
            caller.close()
        if asked in ready:
            for pid in os.read(asked, 4096).decode().split():
                if forked(server, asked):
                    try:
                        join(int(pid))
                        call = looked_up(pid)
                    except OSError:  # it was killed before it was heard
                        os._exit(0)
                    code = answer(program, *call)
                    reply(Path("/proc", pid), f"{shim}.{pid}", code)
                    os._exit(0)


def reply(caller: Path, fifo: str, code: int) -> None:
    """Tell whoever waits; nobody does who was killed meanwhile."""
    while caller.exists():
        try:
            descriptor = os.open(fifo, os.O_WRONLY | os.O_NONBLOCK)
        except OSError:
            time.sleep(0.01)  # it has not got as far as reading
            continue
        os.unlink(fifo)  # another process will have this number some day
        os.write(descriptor, f"{code}\n".encode())
        return


def forked(server: socket.socket, asked: int) -> bool:
    """Is this the child?"""
    if os.fork() != 0:
        return False
    server.close()
    os.close(asked)
    return True


def join(caller: int) -> None:
    """Belong to the caller's process group: who kills the group kills this process too. Across sessions nobody can."""
    if os.getsid(caller) == os.getsid(0):
        os.setpgid(0, os.getpgid(caller))


def reap() -> None:
    """Wait for the children that have ended, so that their time counts as that of whoever ran the tests."""
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def given(caller: socket.socket) -> tuple[list[str], dict[str, str], str, list[int]]:
    """Arguments, environment, directory and the three open files, as the caller sends them."""
    head, descriptors, _, _ = socket.recv_fds(caller, 8, 3)
    text = b""
    while len(text) < int.from_bytes(head, "big"):
        text += caller.recv(1 << 16)
    arguments, environ, directory = json.loads(text)
    return arguments, environ, directory, descriptors


def looked_up(pid: str) -> tuple[list[str], dict[str, str], str, list[int]]:
    """The same of a process that waits: its script is its first argument. Its files are opened anew: several commands that write
    to one file, not a pipe, would each begin at its beginning."""
    place = Path("/proc", pid)
    words = [os.fsdecode(word) for word in (place / "cmdline").read_bytes().split(b"\0")[:-1]]
    pairs = [os.fsdecode(pair).partition("=") for pair in (place / "environ").read_bytes().split(b"\0")[:-1]]
    files = [os.open(place / "fd" / str(number), os.O_RDONLY if number == 7 else os.O_WRONLY) for number in (7, 8, 9)]
    return words[2:], {name: value for name, _, value in pairs}, os.readlink(place / "cwd"), files


def answer(program: str, arguments: list[str], environ: dict[str, str], directory: str, descriptors: list[int]) -> int:
    """Become the command that is asked for; its exit status. Nobody else holds its output open then."""
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
    except BaseException:  # shown, and the exit code of the command, as in a process of its own
        traceback.print_exc()
        code = 1
    if isinstance(code, str):
        print(code, file=sys.stderr)
        code = 1
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    nothing = os.open(os.devnull, os.O_RDWR)
    for number in range(3):
        os.dup2(nothing, number)
    return code if isinstance(code, int) else 0


if __name__ == "__main__":
    serve(*sys.argv[1:4], int(sys.argv[4]))
