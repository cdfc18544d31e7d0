"""The first ten minutes, as somebody who is not root spends them at a terminal: install, try, set up, submit, look, remove.

What the terminal shows is docs/first-ten-minutes.txt, without what differs from run to run. Written anew with
GLOBUSWRAP_TEST_WRITE_GOLDEN=1, and then read by a person.
"""

from __future__ import annotations

import codecs
import fcntl
import hashlib
import os
import pty
import re
import select
import shutil
import signal
import struct
import tempfile
import termios
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from support import REPOSITORY

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

TRANSCRIPT = REPOSITORY / "docs" / "first-ten-minutes.txt"
COLUMNS, ROWS = 80, 24
#: A user that has nothing here.
NOBODY = 65534
#: What an installation takes from a checkout.
CHECKOUT = (
    "Makefile", "bin", "lib", "docs", "share", "recipes", "tools", "requirements",
    "pyproject.toml", "README.md", "CHANGELOG.md", "LICENSE",
)  # fmt: skip
#: All that is on PATH: no scheduler, no globus.
PROGRAMS = (
    "bash", "cat", "chmod", "cp", "cut", "dirname", "env", "find", "install", "ln", "make", "mkdir", "mktemp", "mv",
    "readlink", "rm", "rmdir", "sed", "sh", "sort",
)  # fmt: skip
OUTSIDE, INSIDE = r"\$ ", r"\(sandbox\) \w+\$ "

JOB = r"""cat >job.sh <<'END'
#!/bin/bash
#SBATCH --time=10
#GLOBUS stage-in  archive:/raw/     scratch:/%j/in/
#GLOBUS stage-out scratch:/%j/out/  results:/run7/
set -e
cd "$SCRATCH/${SLURM_JOB_ID:-$GLOBUSWRAP_JOB_ID}"
mkdir out
sort -n in/run7.txt >out/sorted.txt
END"""


class Screen:
    """The lines that a terminal shows, as far as the programs here move on it."""

    def __init__(self) -> None:
        self.lines = [""]
        self.row = self.column = 0
        self.rest = ""
        self.status = ""

    def feed(self, text: str) -> None:
        text, self.rest = self.rest + text, ""
        at = 0
        while at < len(text):
            escape = re.compile(r"\x1b\[([?\d;]*)([a-zA-Z])|\x1b[=>]|\x1b\]([^\x07]*)\x07").match(text, at)
            if escape:
                if escape[3]:
                    self.status = escape[3]
                else:
                    self._move(escape[1] or "", escape[2] or "")
                at = escape.end()
            elif text[at] == "\x1b" and len(text) - at < 16:
                self.rest = text[at:]
                return
            else:
                self._put(text[at])
                at += 1

    def _put(self, char: str) -> None:
        if char == "\n":
            self.row += 1
            self.lines += [""] * (self.row + 1 - len(self.lines))
        elif char == "\r":
            self.column = 0
        elif char == "\b":
            self.column = max(0, self.column - 1)
        elif char.isprintable():
            line = self.lines[self.row].ljust(self.column)
            self.lines[self.row] = line[: self.column] + char + line[self.column + 1 :]
            self.column += 1
        else:
            assert char == "\x07", f"{char!r} on the terminal"

    def _move(self, numbers: str, kind: str) -> None:
        if kind == "A":
            self.row = max(0, self.row - int(numbers or 1))
        elif kind == "K":
            self.lines[self.row] = "" if numbers == "2" else self.lines[self.row][: self.column]
        else:
            assert kind in "mhl" or kind == "", f"CSI {numbers}{kind} on the terminal"


class Terminal:
    """A shell on a terminal, and what it has shown."""

    def __init__(self, argv: list[str], env: dict[str, str], cwd: Path) -> None:
        self.home = cwd.parent
        self.pid, self.master = pty.fork()
        if self.pid == 0:
            os.chdir(cwd)
            os.execvpe(argv[0], argv, env)
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
        self.screen = Screen()
        self.typed = 0
        self.decode = codecs.getincrementaldecoder("utf-8")()

    def expect(self, last: str) -> None:
        """Wait until the last line of the screen is this expression. A program that never shows it fails, with what it showed."""
        end = time.monotonic() + 600
        while not re.fullmatch(last, self.screen.lines[-1]) or len(self.screen.lines) <= self.typed:
            if select.select([self.master], [], [], 1.0)[0]:
                self.screen.feed(self.decode.decode(os.read(self.master, 65536)))
            assert time.monotonic() < end, f"no {last!r} at the end of:\n" + "\n".join(self.screen.lines[-40:])

    def type(self, text: str) -> None:
        self.typed = len(self.screen.lines)
        os.write(self.master, f"{text}\n".encode())

    def close(self) -> None:
        os.close(self.master)
        os.kill(self.pid, signal.SIGHUP)
        os.waitpid(self.pid, 0)


@pytest.fixture
def terminal() -> Iterator[Terminal]:
    """A shell in a copy of the checkout that belongs to its user, who is not root and has an empty home directory."""
    home = Path(tempfile.mkdtemp(prefix="anna-", dir="/tmp"))
    checkout = home / "globuswrap"
    checkout.mkdir()
    for name in CHECKOUT:
        source = REPOSITORY / name
        if source.is_dir():
            shutil.copytree(source, checkout / name, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
        else:
            shutil.copy(source, checkout / name)
    programs = home / ".programs"
    programs.mkdir()
    for name in PROGRAMS:
        found = shutil.which(name, path="/usr/local/bin:/usr/bin:/bin")
        (programs / name).symlink_to(found or name)
    system = "/usr/local/bin:/usr/bin:/bin"
    env = {
        "PATH": str(programs), "HOME": str(home), "TMPDIR": str(home), "TERM": "xterm", "LANG": "C.UTF-8", "PS1": "$ ",
        "PROMPT_COMMAND": r"printf '\e]%s\a' $?", "SHELL": str(programs / "bash"), "HISTFILE": "",
        "PYTHON": shutil.which("python3", path=system) or "python3",
        **{name: value for name, value in os.environ.items() if name.startswith("PIP_")},
    }  # fmt: skip
    argv = ["bash", "--norc", "-i"]
    if os.geteuid() == 0:
        for path in (home, *home.rglob("*")):
            os.chown(path, NOBODY, NOBODY, follow_symlinks=False)
        argv = [
            shutil.which("setpriv") or "setpriv",
            "--reuid",
            str(NOBODY),
            "--regid",
            str(NOBODY),
            "--clear-groups",
            *argv,
        ]
    made = Terminal(argv, env, checkout)
    yield made
    made.close()
    end = time.monotonic() + 240
    while home.exists() and time.monotonic() < end:
        shutil.rmtree(home, ignore_errors=True)  # a sandbox removes its directory too, when its shell has gone


def test_the_transcript(terminal: Terminal) -> None:
    terminal.expect(OUTSIDE)
    for command, prompt, *answers in STEPS:
        if "{TASK}" in command:
            command = command.replace(
                "{TASK}", re.findall(r"^([0-9a-f]{8}) ", "\n".join(terminal.screen.lines), re.M)[-1]
            )
        for line in command.split("\n"):
            terminal.expect(r".*[$>] ")
            terminal.type(line)
        for question, answer in answers:
            terminal.expect(question)
            terminal.type(answer)
        terminal.expect(prompt)
        assert terminal.screen.status == "0", "\n".join(terminal.screen.lines)
    lines = [line.rstrip() for line in terminal.screen.lines[:-1]]
    assert not [line for line in lines if "Traceback" in line]
    # A path or an address may be longer than a line: it can be copied all the same.
    assert not [line for line in lines if len(line) > COLUMNS and max(map(len, line.split())) < COLUMNS // 2]
    text = HEADER + plain("\n".join(lines), str(terminal.home)) + "\n"
    if os.environ.get("GLOBUSWRAP_TEST_WRITE_GOLDEN"):
        TRANSCRIPT.write_text(text)
    assert squeezed(text) == squeezed(TRANSCRIPT.read_text())


HEADER = """The first ten minutes with globuswrap, on a terminal of 80x24. No account, and no rights but a user's, are needed.
This is what a test sees (tests/py/test_first_ten_minutes.py); ids, times and the host's name are made up.

"""

#: Ids that differ from run to run, by their shape: tasks in short, chains, labels, receipts.
IDS = (
    r"(?<![-\w])[0-9a-f]{8}(?![-\w])",
    r"(?<!\w)c[0-9a-f]{8}(?!\w)",
    r"(?<=gw-)[0-9a-f]{12}",
    r"(?<=/)[0-9a-f]{40}",
)


def plain(text: str, home: str) -> str:
    """Without what differs from run to run; an id keeps its length, and is the same wherever it stands."""
    text = text.replace(home, "/home/people/anna1")
    text = re.sub(r"(?<=globus-sandbox-)\w{8}", "k3x8w2mz", text)
    text = re.sub(r"(?<=journal/)[0-9a-f]{2}/", "5b/", text)
    text = re.sub(r"-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}", "-0000-4000-8000-000000000000", text)
    for shape in IDS:
        for number, found in enumerate(dict.fromkeys(re.findall(shape, text))):
            made = hashlib.sha1(f"{shape} {number}".encode()).hexdigest()
            text = text.replace(found, ("c" + made if len(found) == 9 else made)[: len(found)])
    text = re.sub(r"\b\d{4}-\d\d-\d\d \d\d:\d\d:\d\d", "2027-01-05 10:12:30", text)
    text = re.sub(r"\b\d{4}-\d\d-\d\d \d\d:\d\d\b", "2027-01-05 10:12", text)
    text = re.sub(r"\b(\d+ min )?\d+ s\b", "3 s", text)
    text = re.sub(r"\d+ B/s", "8 B/s", text)
    text = re.sub(r"(?<= on )\S+$", "login1", text, flags=re.M)
    return re.sub(r"(?<=with )\S+/python[\d.]*$", "/usr/bin/python3", text, flags=re.M)


def squeezed(text: str) -> list[str]:
    """Lines, without the widths of columns."""
    return [" ".join(line.split()) for line in text.splitlines()]


STEPS: list[tuple[Any, ...]] = [
    ('make install PREFIX="$HOME/.local"', OUTSIDE),
    ('export PATH="$HOME/.local/bin:$PATH"', OUTSIDE),
    ("mkdir ~/work; cd ~/work", OUTSIDE),
    ("globuswrap sandbox shell", INSIDE),
    ('export SCRATCH="$GLOBUS_SANDBOX_BASE/collections/scratch"', INSIDE),
    (
        "globuswrap init",
        INSIDE,
        (".*nothing to finish: ", "scratch"),
        (".*nothing to finish: ", "1"),
        ("Name to use here.*: ", "fast"),
        ("Another local directory.*: ", ""),
        (".*nothing to finish: ", ""),
    ),
    ("globuswrap collection list", INSIDE),
    ('cd "$GLOBUS_SANDBOX_BASE/collections/archive"', INSIDE),
    ("mkdir raw; printf '%s\\n' 12 7 31 >raw/run7.txt; cd -", INSIDE),
    (JOB, INSIDE),
    ("globuswrap submit --scheduler local --dry-run job.sh", INSIDE),
    ("globuswrap submit --scheduler local --poll 1s job.sh", INSIDE),
    ("cat $GLOBUS_SANDBOX_BASE/collections/results/run7/sorted.txt", INSIDE),
    ("globuswrap status", INSIDE),
    ("globuswrap history", INSIDE),
    ("globuswrap show {TASK}", INSIDE),
    ("exit", OUTSIDE),
    ('cd ~/globuswrap; make uninstall PREFIX="$HOME/.local"', OUTSIDE),
]
