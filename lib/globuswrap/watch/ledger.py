"""The ledger on disk: which trigger stands where. A file's suffix is its state, so that each change is one rename.

    ledger.json            the directory and the command this ledger is for
    <xx>/<key>.trigger     found complete, to be run; what it is, as JSON
    <xx>/<key>.<n>.run     attempt n has begun: a symbolic link whose text says in which process (pid:start:boot:host)
    <xx>/<key>.<n>.exit    attempt n failed: its exit status
    <xx>/<key>.<n>.lost    someone has said that the host of attempt n is gone for good: who, and when
    <xx>/<key>.<n>.log     what attempt n printed
    <xx>/<key>.done        the command has ended with 0 (the renamed .trigger)
    <xx>/<key>.aside       given up: what it is, and why

A command and a record of it cannot be one atomic act. So the command does not belong to the watcher: it runs under a few
lines of shell in a session of their own, which take the attempt by making `.run` (only one can), run the command, and
write its end themselves. A watcher that is killed takes nothing with it; the next one finds `.run`, sees whether that
process still lives, and waits for it, or reads how it ended. What is left is the death of those few lines of shell themselves
(the machine goes down, or they are killed): then nobody knows whether the command had ended, and `lost` says what to do.

Any number of watchers may use one ledger. On another host it can not be seen whether a process lives, and commands go on when
their watcher has gone, so that no sign of life would tell either: the attempts of another host are left to it, until someone says
that it is gone for good (`lose`). Then they are lost, as after a crash of this one.

What only a person can decide is in repair.py. Any of it may be done while watchers run.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import socket
import time
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from globuswrap.errors import TryLater, UsageProblem
from globuswrap.system import files, log, machine, process, records, units
from globuswrap.system.process import Started

SCHEMA = "globuswrap.watch/1"

#: The command says itself that it is to be tried again: this is no failed attempt.
TRY_LATER = 75

#: `$1` the trigger's files without suffix, `$2` the attempt, `$3` boot and host; the rest is the command. A variable here that
#: the user had exported would reach the command changed: hence their names.
WRAPPER = r"""
_gw_base=$1 _gw_run=$1.$2 _gw_where=$3
shift 3
_gw_start_of() { _gw_start=${20}; }
_gw_start=0
if IFS= read -r _gw_line <"/proc/$$/stat"; then set -f; _gw_line=${_gw_line##*) }; _gw_start_of $_gw_line; set +f; fi 2>/dev/null
ln -s "$$:$_gw_start:$_gw_where" "$_gw_run.run" 2>/dev/null || exit 0
if [ -e "$_gw_base.done" ] || ! [ -e "$_gw_base.trigger" ]; then rm -f "$_gw_run.run"; exit 0; fi
"$@"
_gw_code=$?
umask 077
if [ "$_gw_code" -eq 0 ]; then
  mv -f "$_gw_base.trigger" "$_gw_base.done"
else
  echo "$_gw_code" >"$_gw_run.exit.part" && mv -f "$_gw_run.exit.part" "$_gw_run.exit"
fi
exit "$_gw_code"
"""


@dataclass(frozen=True)
class Trigger:
    """A file that was found complete. `time` is that moment in UTC, `20261120T110557Z`; sizes are bytes."""

    key: str
    path: str
    size: int
    mtime_ns: int
    time: str
    schema: str = SCHEMA


@dataclass
class Names:
    """What one listing of the ledger shows."""

    done: set[str] = field(default_factory=set)
    aside: set[str] = field(default_factory=set)
    waiting: set[str] = field(default_factory=set)
    #: Highest attempt of a key that has begun.
    begun: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Attempt:
    """How an attempt stands: `running`, `elsewhere` (begun on another host), `done`, `failed` (code, ended), `lost`, `none`.

    Times are seconds since the epoch; `begun` is the file server's.
    """

    state: str
    code: int | None = None
    ended: float = 0.0
    host: str = ""
    begun: float = 0.0


class Ledger:
    """The ledger of a watched directory, or one with a name for it. OSError where the state directory cannot be written."""

    def __init__(self, root: Path, top: str, name: str | None = None) -> None:
        self.root = files.private_directory(root)
        self.top = top
        self.name = name
        self.where = f"{machine.boot()}:{socket.gethostname()}"

    def repair_line(self, *options: str) -> str:
        """The command line that repairs this ledger."""
        name = () if self.name is None else ("--name", self.name)
        return log.shell_line(("globuswrap", "watch", "repair", self.top, *name, *options))

    def path(self, key: str, suffix: str) -> Path:
        return self.root / key[:2] / f"{key}.{suffix}"

    # what it is for

    def bind(self, command: tuple[str, ...]) -> None:
        """Note what the ledger is for. UsageProblem if it was for another directory, or for another command."""
        known = self.command()
        if known == command:
            return
        if known:
            raise UsageProblem(
                "ledger-taken",
                f"{self.top} is watched for another command: {log.shell_line(known)}",
                "to run both commands, give this one a ledger of its own: --name NAME;"
                f" to replace the old command: {self.repair_line('--new-command')}",
            )
        self._note(command)

    def release(self) -> None:
        """Let the next run bring another command."""
        self._note(())

    def _note(self, command: tuple[str, ...]) -> None:
        mine = {"schema": SCHEMA, "directory": self.top, "command": list(command)}
        files.write_atomic(self.root / "ledger.json", records.dump(mine))

    def command(self) -> tuple[str, ...]:
        """The command that this ledger is for, if one is noted. UsageProblem if it is for another directory."""
        known = _load(self.root / "ledger.json")
        if known is not None and known.get("directory") != self.top:
            raise UsageProblem(
                "ledger-taken",
                f"the ledger {self.root.name} belongs to {known.get('directory')}",
                "choose another --name for this directory",
            )
        return tuple((known or {}).get("command") or ())

    # reading

    def names(self, shards: str = "??") -> Names:
        """Every trigger by its state. Of two states the later one counts: done, then set aside, then waiting."""
        found = Names()
        for name in (name for shard in self.root.glob(shards) for name in files.names(shard) if name[0] != "."):
            key, _, suffix = name.partition(".")
            if suffix == "done":
                found.done.add(key)
            elif suffix == "aside":
                found.aside.add(key)
            elif suffix == "trigger":
                found.waiting.add(key)
            elif suffix.endswith(".run") and suffix[:-4].isdigit():
                found.begun[key] = max(found.begun.get(key, 0), int(suffix[:-4]))
        found.aside -= found.done
        found.waiting -= found.done | found.aside
        return found

    def read(self, key: str, suffix: str = "trigger") -> Trigger | None:
        """A trigger; None if it is not there, or damaged. Refused if another version of globuswrap wrote it."""
        document = _load(self.path(key, suffix))
        if document is None or not isinstance(document.get("path"), str):
            return None
        try:
            return Trigger(**{name: document[name] for name in Trigger.__dataclass_fields__})
        except KeyError:
            return None

    def waits(self, key: str) -> bool:
        """Whether the trigger is still to be run: nobody has settled it or taken it away."""
        return self.path(key, "trigger").exists() and not self._settled(key)

    def details(self, key: str, suffix: str) -> Mapping[str, Any]:
        return _load(self.path(key, suffix)) or {}

    def attempt(self, key: str, number: int) -> Attempt:
        """How attempt `number` stands. The process is looked at before the files: it may end in between."""
        claim = self.path(key, f"{number}.run")
        try:
            text, since = os.readlink(claim), claim.lstat().st_mtime
        except OSError:
            return Attempt("done" if self.path(key, "done").exists() else "none")
        pid, start, boot, host = (*text.split(":", 3), "", "", "")[:4]
        here = f"{boot}:{host}" == self.where
        running = here and _alive(pid, start)
        if self.path(key, "done").exists():
            return Attempt("done")
        if (failed := self._exit(key, number)) is not None:
            return Attempt("failed", *failed)
        if running or (here and pid.isdigit() and machine.session_alive(int(pid))):
            return Attempt("running")
        with contextlib.suppress(FileNotFoundError):
            return Attempt("lost", ended=self.path(key, f"{number}.lost").stat().st_mtime, host=host)
        if not here and host != socket.gethostname():
            return Attempt("elsewhere", host=host, begun=since)
        return Attempt("lost", ended=time.time())

    def failures(self, key: str, begun: int) -> int:
        """How many of the attempts so far count as failed: those that said 75 do not."""
        exits = (self._exit(key, number) for number in range(1, begun + 1))
        return sum(each is None or each[0] != TRY_LATER for each in exits)

    def _exit(self, key: str, number: int) -> tuple[int, float] | None:
        """The exit status of an attempt that failed, and when it ended."""
        place = self.path(key, f"{number}.exit")
        try:
            return int(place.read_text()), place.stat().st_mtime
        except (OSError, ValueError):
            return None

    def output(self, key: str, number: int, limit: int = 4096) -> str:
        """The end of what an attempt printed."""
        try:
            with self.path(key, f"{number}.log").open("rb") as file:
                size = file.seek(0, os.SEEK_END)
                file.seek(max(0, size - limit))
                return file.read().decode("utf-8", "backslashreplace").strip()
        except OSError:
            return ""

    # writing

    def add(self, trigger: Trigger) -> bool:
        """Write a trigger down, durably; False if the ledger has it, in whatever state. A damaged one is written anew: the key
        says that it was for this very file."""
        place = self.path(trigger.key, "trigger")
        text = json.dumps(asdict(trigger)) + "\n"
        files.private_directory(place.parent)
        if not records.write_once(place, text):
            if self.read(trigger.key) is not None or not self.waits(trigger.key):
                return False
            files.write_atomic(place, text)
            log.say(f"{trigger.path}: its record in the ledger was damaged, and has been rewritten", 0)
        if self._settled(trigger.key):
            # Another watcher had it, and finished between our listing and this: the new one was a mistake.
            self._unlink(trigger.key, "trigger")
            return False
        return True

    def begun(self, key: str) -> int:
        """The highest attempt of a trigger that has begun; 0 if none has."""
        return self.names(key[:2]).begun.get(key, 0)

    def take(self, key: str, number: int) -> bool:
        """Take an attempt without running anything, as WRAPPER does to run it; False if someone else has it, or the trigger is
        settled. Whoever has it may conclude from the state of the file; else the command of another watcher may have moved it."""
        claim, mine = self.path(key, f"{number}.run"), f"{os.getpid()}:{machine.started(os.getpid()) or 0}:{self.where}"
        try:
            os.symlink(mine, claim)
        except FileExistsError:
            return os.readlink(claim) == mine  # over NFS a lost reply makes one's own look like another's
        if not self.waits(key):
            self._unlink(key, f"{number}.run")
            return False
        return True

    def _settled(self, key: str) -> bool:
        return self.path(key, "done").exists() or self.path(key, "aside").exists()

    def skip(self, trigger: Trigger) -> None:
        """Write down a file that is there as done, without running anything."""
        shard = files.private_directory(self.path(trigger.key, "done").parent)
        if not self._settled(trigger.key):
            files.write_atomic(shard / f"{trigger.key}.done", json.dumps(asdict(trigger)) + "\n")

    def start(self, trigger: Trigger, number: int, argv: tuple[str, ...]) -> Started:
        """Start attempt `number`, unless someone else takes it first."""
        base = self.path(trigger.key, "trigger").with_suffix("")
        env: dict[str, str | None] = {"GLOBUSWRAP_TRIGGER": trigger.key, "GLOBUSWRAP_TRIGGER_PATH": trigger.path}
        with open(self.path(trigger.key, f"{number}.log"), "ab", opener=files.private) as output:
            return process.start(
                ("/bin/sh", "-c", WRAPPER, "globuswrap-trigger", str(base), str(number), self.where, *argv),
                env=env,
                stdout=output,
                stderr=output,
            )

    def finished(self, key: str, begun: int) -> None:
        """Of a trigger that is done, only `.done` stays."""
        files.sync_directory(self.root / key[:2])
        self._tidy(key, begun)

    def _tidy(self, key: str, begun: int, *, keep_log: int = 0) -> None:
        for number in range(1, begun + 1):
            for suffix in ("exit", "exit.part", "lost", "run"):
                self._unlink(key, f"{number}.{suffix}")
            if number != keep_log:
                self._unlink(key, f"{number}.log")

    def set_aside(self, trigger: Trigger, reason: str, begun: int, code: int | None = None) -> None:
        """Give a trigger up: durable, with the reason and the end of what it printed. `begun` counts the attempts that ran."""
        record = {**asdict(trigger), "reason": reason, "code": code, "attempts": begun, "ended": time.time()}
        record["output"] = self.output(trigger.key, begun)
        files.write_atomic(self.path(trigger.key, "aside"), json.dumps(record) + "\n")
        self._unlink(trigger.key, "trigger")
        self._tidy(trigger.key, begun + 1, keep_log=begun)

    def drop(self, trigger: Trigger, begun: int) -> None:
        """Forget a trigger whose file is no longer in the state it was found in."""
        self._unlink(trigger.key, "trigger")
        self._tidy(trigger.key, begun)

    def retry(self, key: str) -> None:
        """A trigger that was set aside is to be run again, from its first attempt."""
        self._tidy(key, self.begun(key))
        with contextlib.suppress(FileNotFoundError):  # retried by someone else
            os.rename(self.path(key, "aside"), self.path(key, "trigger"))

    def lose(self, key: str, number: int, host: str) -> None:
        """An attempt that was begun on another host counts as lost from now on: that host is gone for good."""
        note = {"host": host, "said_on": socket.gethostname(), "time": time.time()}
        files.write_atomic(self.path(key, f"{number}.lost"), json.dumps(note) + "\n")

    def forget(self, key: str) -> None:
        """Of a trigger that is done, nothing stays."""
        self._unlink(key, "done")

    def sweep(self, names: Names) -> None:
        """Remove what an interrupted end left behind."""
        for key, begun in names.begun.items():
            if key in names.done:
                self._tidy(key, begun)
                self._unlink(key, "trigger")
            elif key in names.aside and self.path(key, "aside").exists():  # else it has been retried since
                self._tidy(key, begun, keep_log=begun)
                self._unlink(key, "trigger")

    def _unlink(self, key: str, suffix: str) -> None:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self.path(key, suffix))


def of(directory: str, name: str | None) -> Ledger:
    """The ledger of a directory, or the one of this name for it. UsageProblem if it is none."""
    top = os.path.abspath(os.path.expanduser(directory))
    if not os.path.isdir(top):
        raise UsageProblem("no-directory", f"{top} is not a directory", "name the directory to watch")
    if name is not None and not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.-]*", name):
        raise UsageProblem("bad-name", f"{name!r} is not a valid ledger name", "use only letters, digits and _ . -")
    base = re.sub(r"[^A-Za-z0-9_]+", "-", os.path.basename(top)).strip("-") or "top"
    own = f"{base[:40]}-{hashlib.sha256(os.fsencode(os.path.realpath(top))).hexdigest()[:12]}"
    return Ledger(files.state_dir() / "watch" / (name or own), top, name)


def started_elsewhere(ledger: Ledger, begun: Iterable[tuple[str, float, str]]) -> list[TryLater]:
    """Of each other host what it has begun and not ended (host, since when, path): whether that still runs, only it can tell.
    Oldest first."""
    hosts: dict[str, list[tuple[float, str]]] = {}
    for host, since, path in sorted(begun, key=lambda each: each[1]):
        hosts.setdefault(host, []).append((since, path))
    problems = []
    for host, attempts in hosts.items():
        since, paths = attempts[0][0], [path for _, path in attempts]
        shown = ", ".join(map(repr, paths[:3])) + (f" and {len(paths) - 3} more" if len(paths) > 3 else "")
        age = units.human_duration(max(0.0, time.time() - since))
        problem = TryLater(
            "started-elsewhere",
            f"{units.counted(len(paths), 'command')} started on {host}, the first {age} ago, and not ended: {shown}",
            f"nothing while {host} works; if it is gone for good: {ledger.repair_line('--take-over', host)}",
        )
        problem.data = {"host": host, "since": since, "paths": paths}
        problems.append(problem)
    return problems


def _load(path: Path) -> dict[str, Any] | None:
    """A document of the ledger; None if it is not there, or damaged. Refused if another version of globuswrap wrote it."""
    try:
        document = records.load(path)
        if document is not None and "schema" in document:
            records.of_schema(document, SCHEMA, path)
    except records.Damaged:
        return None
    return document


def _alive(pid: str, start: str) -> bool:
    """Is this very process alive?"""
    now = machine.started(int(pid)) if pid.isdigit() else ""
    return bool(now) and start in ("0", now)
