"""Hosts that share a home directory, on one machine: namespaces with a host name, a loopback, and processes of their own.

A host has its own network, UTS, mount and (unless told otherwise) PID namespace, and another boot id, so that nothing a
program can ask tells it that it shares a kernel with the other. What is reached from inside is one port of 127.0.0.1, the
sandbox's: the listening socket is made inside and served from outside. A user that is not root makes them inside a user
namespace, where the system allows it; everything inside believes to be root then.
"""

from __future__ import annotations

import os
import select
import shlex
import shutil
import socket
import subprocess
import tempfile
import threading
import uuid
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from urllib.parse import urlsplit

import support
from globuswrap.cli.sandbox import Sandbox

#: Run as the first process inside: names the host, hides the boot id, makes the listening socket and hands it out.
_INSIDE = """
import socket, subprocess, sys, time
name, boot, port, out = sys.argv[1:]
socket.sethostname(name)
subprocess.run(["mount", "--bind", boot, "/proc/sys/kernel/random/boot_id"], check=True)
subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
listening = socket.create_server(("127.0.0.1", int(port)), backlog=64)
with socket.socket(socket.AF_UNIX) as line:
    line.connect(out)
    socket.send_fds(line, [b"up"], [listening.fileno()])
while True:
    time.sleep(3600)
"""


def _as_root(option: str) -> list[str]:
    return [] if os.geteuid() == 0 else ["--user", option]


class Host:
    """One of them, in a `with` block. `kill` ends everything in it at once, as a loss of power does (with `processes`)."""

    def __init__(self, name: str, box: Sandbox, env: Mapping[str, str] | None = None, processes: bool = True) -> None:
        self.name = name
        self.box = box
        self.processes = processes
        self.extra = dict(env or {})
        self._first: subprocess.Popen[bytes] | None = None
        self._pid = 0
        self._directory = Path(tempfile.mkdtemp(prefix="gwhost-"))
        self._listening: socket.socket | None = None

    def __enter__(self) -> Host:
        address = urlsplit(self.box.url)
        boot = self._directory / "boot_id"
        boot.write_text(f"{uuid.uuid4()}\n")
        meeting = self._directory / "socket"
        spaces = [*_as_root("--map-root-user"), "--net", "--uts", "--mount"]
        spaces += ["--pid", "--fork", "--kill-child", "--mount-proc"] * self.processes
        inside = ["/usr/bin/env", "python3", "-c", _INSIDE, self.name, str(boot), str(address.port), str(meeting)]
        with socket.socket(socket.AF_UNIX) as door:
            door.bind(str(meeting))
            door.listen(1)
            door.settimeout(20)
            self._first = subprocess.Popen(["unshare", *spaces, *inside], stdin=subprocess.DEVNULL)
            line, _ = door.accept()
            with line:
                line.settimeout(20)
                _, handles, _, _ = socket.recv_fds(line, 16, 1)
        self._listening = socket.socket(fileno=handles[0])
        self._pid = self._first.pid
        if self.processes:  # the first process inside is a child of unshare
            self._pid = int(Path(f"/proc/{self._pid}/task/{self._pid}/children").read_text().split()[0])
        threading.Thread(target=self._serve, args=(self._listening, address.port), daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()
        if self._listening is not None:
            self._listening.shutdown(socket.SHUT_RDWR)  # wakes accept
            self._listening.close()
        shutil.rmtree(self._directory, ignore_errors=True)

    def kill(self) -> None:
        if self._first is not None:
            self._first.kill()
            self._first.wait()
            self._first = None

    @property
    def env(self) -> dict[str, str]:
        """What a command inside has around it: the sandbox's surroundings, the shared home among them."""
        env = dict(os.environ)
        for name, value in self.box.env.items():
            if value is None:
                env.pop(name, None)
            else:
                env[name] = value
        return {**env, **self.extra}

    def argv(self, *words: str) -> list[str]:
        spaces = [*_as_root("--preserve-credentials"), "--net", "--uts", "--mount", *(["--pid"] * self.processes)]
        return ["nsenter", f"--target={self._pid}", *spaces, f"--wd={os.getcwd()}", "--", *words]

    def start(self, *words: str, cwd: Path | None = None) -> subprocess.Popen[str]:
        """A command inside, its output captured; not waited for."""
        argv = self.argv(*words)
        if cwd is not None:
            argv[argv.index("--") - 1] = f"--wd={cwd}"
        return subprocess.Popen(
            argv, env=self.env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )

    def run(self, *words: str, cwd: Path | None = None, timeout: float = 240) -> subprocess.CompletedProcess[str]:
        with self.start(*words, cwd=cwd) as child:
            out, err = child.communicate(timeout=timeout)
        return subprocess.CompletedProcess(words, child.returncode, out, err)

    def globuswrap(self, *words: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
        return self.run(str(support.LAUNCHER), *words, cwd=cwd)

    def script(self, *lines: tuple[str, ...]) -> list[str]:
        """A shell that runs these globuswrap commands one after the other, and prints what each says and its code."""
        commands = (shlex.join([str(support.LAUNCHER), *line]) for line in lines)
        return ["sh", "-c", "\n".join(f'{line}; echo "code $?"' for line in commands)]

    def _serve(self, listening: socket.socket, port: int | None) -> None:
        while True:
            try:
                caller, _ = listening.accept()
            except OSError:
                return
            threading.Thread(target=_relay, args=(caller, port or 0), daemon=True).start()
            del caller


def _relay(caller: socket.socket, port: int) -> None:
    with caller:
        try:
            service = socket.create_connection(("127.0.0.1", port))
        except OSError:
            return
        with service:
            ends = [caller, service]
            while True:
                ready, _, _ = select.select(ends, [], [])
                try:
                    for one in ready:
                        data = one.recv(65536)
                        if not data:
                            return  # HTTP: nobody shuts one direction only
                        (service if one is caller else caller).sendall(data)
                except OSError:
                    return


def needed() -> None:
    """Skips the test where hosts cannot be made; under CI=true it fails."""
    for name in ("unshare", "nsenter", "ip", "mount"):
        support.require_tool(name)
    spaces = [*_as_root("--map-root-user"), "--net", "--uts", "--mount", "--pid", "--fork"]
    tried = subprocess.run(["unshare", *spaces, "true"], capture_output=True)
    if tried.returncode:
        support.cannot(f"no namespaces here: {tried.stderr.decode().strip()}")
