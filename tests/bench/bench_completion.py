"""What TAB takes, as a person waits for it: wall time of each kind of completion, and its ratio to a bare start of Python.

    .venv/bin/python tests/bench/bench_completion.py [RUNS]

Least, median and worst of RUNS (default 15) interleaved runs through bin/globuswrap and, for some, through the function
that bash or zsh calls. The machine is set against the promise on purpose: a journal of 20,000 submissions, directories and
listings of 100,000 names, a `globus` that never answers. On a busy machine wall time says more about the others than about
this: CPU time (of the process that the prompt waits for) and the ratio say the rest.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import uuid
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "lib"))

from globuswrap.cli import completing, completion  # noqa: E402
from globuswrap.collections.address import Address  # noqa: E402

LAUNCHER = ROOT / "bin" / "globuswrap"
PROMISED = 0.2
MANY = 100_000
SUBMISSIONS = 20_000
ARCHIVE, TAPE = "aaaaaaaa-0000-4000-8000-000000000001", "bbbbbbbb-0000-4000-8000-000000000002"
KINDS = {
    "commands": "globuswrap tr",
    "options": "globuswrap transfer --sy",
    "collection names": "globuswrap transfer arc",
    "profiles": "globuswrap sync run be",
    "task ids and keys": "globuswrap wait ",
    "paths, mounted": "globuswrap transfer archive:/few/f",
    f"paths, mounted, {MANY:,} names": "globuswrap transfer archive:/many/name-0000",
    "paths, cached": "globuswrap transfer tape:/few/f",
    f"paths, cached, {MANY:,} names": "globuswrap transfer tape:/many/",
    "paths, never asked for": "globuswrap transfer tape:/new-{run}/f",
}
IN_SHELLS = ("commands", "collection names", "paths, mounted", "paths, never asked for")
BASH = """source "$1"; COMP_LINE=$2 COMP_POINT=${#2} COMP_WORDS=(globuswrap) COMP_WORDBREAKS=:
compopt() { :; }
begin=$EPOCHREALTIME; _globuswrap; end=$EPOCHREALTIME
printf '%s\\n' "$(((${end/./} - ${begin/./})))" "${#COMPREPLY[@]}" """
ZSH = """zmodload zsh/datetime; compdef() { : }; compadd() { found=$#answer }; _files() { : }; typeset -i found took
source $1; words=(${(z)2}); CURRENT=$#words; PREFIX=$words[-1]
begin=$EPOCHREALTIME; _globuswrap; end=$EPOCHREALTIME
took=$(((end - begin) * 1000000)); print -l $took $found"""


def prepare(home: Path) -> dict[str, str]:
    """A home directory, and the environment to ask in."""
    for name, count in (("few", 20), ("many", MANY)):
        (home / "data" / name).mkdir(parents=True)
        for number in range(count):
            (home / "data" / name / f"{'file' if name == 'few' else 'name'}-{number:07}").touch()
    config = home / ".config" / "globuswrap" / "config.toml"
    config.parent.mkdir(parents=True)
    mounted = json.dumps(str(home / "data"))
    config.write_text(
        f'[collections]\ntape = "{TAPE}"\narchive = {{ id = "{ARCHIVE}", mounted = {{ {mounted} = "/" }} }}\n'
        '[sync.beam]\nsource = "archive:/"\ndestination = "tape:/"\n'
    )
    journal = home / ".local" / "state" / "globuswrap" / "journal"
    for number in range(SUBMISSIONS):
        key = uuid.uuid5(uuid.NAMESPACE_OID, str(number)).hex
        (journal / key[:2]).mkdir(parents=True, exist_ok=True)
        (journal / key[:2] / f"{key}.1").write_text(json.dumps({"name": f"run {number}"}))
        (journal / key[:2] / f"{key}.1.task").write_text(json.dumps({"task_id": str(uuid.uuid4())}))
    silent = home / "globus"
    silent.write_text("#!/bin/sh\nexec sleep 3\n")
    silent.chmod(0o755)
    (home / ".cache" / "globuswrap").mkdir(parents=True)
    status = silent.stat()
    known = {"version": [3, 43, 0], "stamp": [status.st_mtime_ns, status.st_size, status.st_ino]}
    (home / ".cache" / "globuswrap" / "globus-cli.json").write_text(json.dumps({str(silent): known}))
    gone = ("GLOBUS", "XDG_")
    env = {name: value for name, value in os.environ.items() if not name.startswith(gone)}
    env |= {"HOME": str(home), "GLOBUSWRAP_GLOBUS": str(silent), "PATH": f"{LAUNCHER.parent}:{env['PATH']}"}
    (home / ".cache" / "globuswrap" / "listings").mkdir(mode=0o700)
    os.environ["HOME"] = str(home)
    for name in ("few", "many"):
        names = os.listdir(home / "data" / name)
        completing._listing_file(Address(TAPE, f"/{name}/")).write_text("\0".join(sorted(names)))
    for shell, script in (("bash", completion.BASH), ("zsh", completion.ZSH)):
        (home / f"completion.{shell}").write_text(script)
    return env


def asked(argv: list[str], env: dict[str, str]) -> tuple[float, float]:
    """Wall and CPU seconds until the answer is there: until the process has ended and its output is closed."""
    began = time.perf_counter()
    with subprocess.Popen(argv, env=env, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as running:
        assert running.stdout is not None
        running.stdout.read()
        _, _, usage = os.wait4(running.pid, 0)
        ended = time.perf_counter()
        running.returncode = 0
    return ended - began, usage.ru_utime + usage.ru_stime


def in_shell(shell: str, line: str, env: dict[str, str]) -> float:
    """Wall seconds of the function that the shell calls at TAB."""
    argv = [shell, "--norc", "-c", BASH] if shell == "bash" else [shell, "-f", "-c", ZSH]
    script = f"{env['HOME']}/completion.{shell}"
    done = subprocess.run([*argv, shell, script, line], env=env, capture_output=True, text=True, check=True)
    return int(done.stdout.split()[0]) / 1e6


def main(runs: int) -> None:
    home = Path(tempfile.mkdtemp(prefix="bench-completion-"))
    try:
        env = prepare(home)
        wall: dict[str, list[float]] = {"python": []}
        processor: dict[str, list[float]] = {"python": []}
        bare = [sys.executable, "-I", "-X", "utf8", "-c", "pass"]
        shells = [shell for shell in ("bash", "zsh") if shutil.which(shell)]
        for run in range(runs):
            for label, argv in {"python": bare, **{kind: _words(line, run) for kind, line in KINDS.items()}}.items():
                seconds = asked(argv, env)
                wall.setdefault(label, []).append(seconds[0])
                processor.setdefault(label, []).append(seconds[1])
            for shell in shells:
                for kind in IN_SHELLS:
                    line = KINDS[kind].format(run=f"{shell}-{run}")
                    wall.setdefault(f"{shell}: {kind}", []).append(in_shell(shell, line, env))
    finally:
        shutil.rmtree(home, ignore_errors=True)
    base = min(wall["python"])
    print(
        f"load {os.getloadavg()[0]:.1f}; ms of wall time: least, median, worst; ms of CPU; least / a bare start of Python"
    )
    for label, seconds in wall.items():
        low, middle, high = min(seconds), sorted(seconds)[len(seconds) // 2], max(seconds)
        cpu = f"{min(processor[label]) * 1000:4.0f}" if label in processor else "   -"
        row = f"{low * 1000:5.0f} {middle * 1000:5.0f} {high * 1000:5.0f}  {cpu}  {low / base:5.1f}"
        print(f"  {row}  {label}{'  OVER 200 ms' if low > PROMISED else ''}")


def _words(line: str, run: int) -> list[str]:
    return [str(LAUNCHER), "__complete", "line", line.format(run=run)]


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 15)
