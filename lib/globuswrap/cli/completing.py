"""Answer `globuswrap __complete`, always in less than 200 ms.

Nothing here waits for Globus. Remote paths come from the mounted directory where there is one, else from a listing that an
earlier question fetched in the background: the first TAB in a new directory may find nothing, the next one does. A file
server that does not answer, or a directory of a hundred thousand names, is left to a process in the background in the same
way.

Click's own completion has no public name here: typer carries a click of its own, whose commands the package click does not know.
"""

from __future__ import annotations

import bisect
import contextlib
import math
import os
import select
import shlex
import time
from collections.abc import Callable, Iterable, Sequence
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from globuswrap.cli import table
from globuswrap.errors import Problem
from globuswrap.system import files

if TYPE_CHECKING:
    from globuswrap.collections.address import Address

#: Seconds for which a listing is taken as it is; older ones are shown, and fetched again.
FRESH = 300.0
#: A listing that was asked for is not asked for again within these seconds.
_ASKED = 20.0
#: Journal entries looked at, newest first, and the seconds after which no more are looked for.
_ENTRIES = 100
_LOOKING = 0.03
#: Seconds that a directory of this machine may take to be listed, and how many names it may have.
_LISTING = 0.08
_NAMES = 200_000
#: Of more names it is shown how they go on: nobody reads more, and a shell takes its time over them.
_SHOWN = 500


def answer(arguments: Sequence[str]) -> int:
    """Print what the last word can become: `how` (files, nospace, quoted), how many characters of the word readline keeps,
    then one candidate a line. Never fails: a shell prompt is no place for problems."""
    form, *rest = arguments
    words, quote = split(rest[0]) if form == "line" and rest else (list(rest), "")
    current = words[-1] if words else ""
    found: list[str] = []
    with contextlib.suppress(Problem, OSError):
        found = candidates(words)
    how = [name for name, holds in (("quoted", quote), ("files", found == [FILES])) if holds]
    shown = sorted({each for each in found if each.startswith(current) and each.isprintable()})
    shown = [each for each in shown if not set(each) & set(_SPECIAL[quote])]
    if CUT in found or any(each.endswith((":", "/", "=")) for each in shown):
        how.append("nospace")
    strip = 0 if quote else current.rfind(":") + 1
    print("\n".join([",".join(how) or "plain", str(strip), *shown]))
    return 0


#: Stands for: local files, which the shell itself knows best.
FILES = "\0files"
#: Stands for: more than these begin so, and a word that is completed to one of them is not whole.
CUT = "\0cut"


#: What has a meaning within each quotation mark: the shell inserts candidates there as they are.
_SPECIAL = {"": "", "'": "'", '"': '"$`\\!'}


def split(line: str) -> tuple[list[str], str]:
    """The words of a command line as far as it is typed, unquoted, the last one being typed (it may be empty); and the
    quotation mark that is open in it."""
    for quote in _SPECIAL:
        with contextlib.suppress(ValueError):
            *before, last = shlex.split(f"{line}\0{quote}")
            return [*before, last[:-1]], quote
    return [""], ""


def candidates(words: Sequence[str]) -> list[str]:
    """What the last of the words can become; [FILES] where it is a local file."""
    *before, current = words[1:] if len(words) > 1 else [""]
    while before[:1] and before[0].startswith("--config"):
        _, equals, value = before.pop(0).partition("=")
        if not equals and not before:
            return [FILES]
        from globuswrap import config

        config.use(os.path.expanduser(value if equals else before.pop(0)))
    at = next((place for place, word in enumerate(before) if not word.startswith("-")), None)
    if at is None or before[at:] == ["help"]:
        firsts = {name.partition(" ")[0] for name in table.shown()}
        return ["--help", "--version", "--config"] if current.startswith("-") else [*firsts, "help", "version"]
    name, *given = before[at:]
    if given and f"{name} {given[0]}" in table.COMMANDS:
        name = f"{name} {given.pop(0)}"
    seconds = [each[len(name) + 1 :] for each in table.shown() if current and each.startswith(f"{name} {current}")]
    if name not in table.COMMANDS or (seconds and not given):
        return seconds
    from globuswrap.cli import app

    command = app.load(name)
    if not hasattr(command, "list_commands"):
        return _of_command(name, command, given, current)
    below = next((word for word in given if not word.startswith("-")), None)
    if below is None:
        return ["--help"] if current.startswith("-") else command.list_commands(None)
    inner = command.get_command(None, below)
    rest = given[given.index(below) + 1 :]
    return _of_command(f"{name} {below}", inner, rest, current) if inner is not None else []


def _of_command(path: str, command: Any, given: Sequence[str], current: str) -> list[str]:
    """What a word of one command can become, after the words given: an option, the value of one, or an argument."""
    places = [each for each in command.params if each.param_type_name == "argument"]
    options = {
        name: each
        for each in command.params
        if each.param_type_name == "option" and not each.hidden
        for name in (*each.opts, *each.secondary_opts)
    }
    taken, wanted, ended = 0, None, False
    for word in given:
        if wanted is not None:
            wanted = None
        elif ended or word == "-" or not word.startswith("-"):
            taken += 1
        elif word == "--":
            ended = True
        elif word in options and not options[word].is_flag and not options[word].count:
            wanted = options[word]
    if wanted is not None:
        return _values(path, wanted.name, current)
    if current.startswith("-") and not ended:
        name, equals, value = current.partition("=")
        if equals and name in options:
            return [f"{name}={each}" for each in _values(path, options[name].name, value) if each != FILES]
        return [*(each for each in options if each.startswith("--")), "--help"]
    if not places or (taken >= len(places) and places[-1].nargs != -1):
        return []
    return _values(path, places[min(taken, len(places) - 1)].name, current)


# --- values -----------------------------------------------------------------------------------------------------------


def _values(path: str, name: str, current: str) -> list[str]:
    """Values by the name of the parameter; where it means something else for one command, by both."""
    find = _FINDERS.get(f"{path} {name}") or _FINDERS.get(name) or (FILES,)
    return list(find(current) if callable(find) else find)


def _addresses(current: str) -> Iterable[str]:
    if current.startswith(("/", ".", "~")):
        return [FILES]
    head, colon, path = current.partition(":")
    return _remote(head, path) if colon else [f"{name}:" for name in _names(current)]


def _names(current: str) -> Iterable[str]:
    from globuswrap.collections import names

    return list(names.known())


def _profiles(current: str) -> Iterable[str]:
    from globuswrap import config

    return list(config.load().table("sync"))


def _scripts_or_profiles(current: str) -> Iterable[str]:
    found = [name for name in _profiles(current) if current and name.startswith(current)]
    return found or [FILES]


def _chains(current: str) -> Iterable[str]:
    return [name for name in files.names(files.state_dir() / "chains") if not name.startswith(".")]


@cache
def _entries() -> list[Path]:
    """The newest claims of the journal. A directory's time is that of the last claim in it, so those that were written to
    last are looked at first, and what a long journal holds beyond the time is old."""
    end = time.monotonic() + _LOOKING
    found: list[tuple[float, str]] = []
    with contextlib.suppress(FileNotFoundError):
        shards = [
            (each.stat().st_mtime, each.path)
            for each in os.scandir(files.state_dir() / "journal")
            if len(each.name) == 2
        ]
        for _, shard in sorted(shards, reverse=True):
            for each in os.scandir(shard):
                if each.name.count(".") == 1:
                    found.append((each.stat().st_mtime, each.path))
            if time.monotonic() > end:
                break
    return [Path(path) for _, path in sorted(found, reverse=True)[:_ENTRIES]]


def _field(record: Path, name: str) -> Iterable[str]:
    """What a record says, if it can be read and says it."""
    import json

    with contextlib.suppress(OSError, ValueError):
        value = json.loads(record.read_bytes()).get(name)
        if value:
            yield str(value)


def _keys(current: str) -> Iterable[str]:
    """Names given with --key: what chains and syncs call their tasks is nobody's to type; a batch's tasks have its key."""
    from globuswrap.batches.lookup import user_key

    names = (user_key(name) for path in _entries() for name in _field(path, "name"))
    return [name for name in names if name]


def _sync_keys(current: str) -> Iterable[str]:
    """The key of each profile's last run."""
    for runs in (files.state_dir() / "sync").glob("*/runs"):
        last = max((name for name in files.names(runs) if name.isdigit()), default="")
        yield from _field(runs / last / "run.json", "key")


def _task_ids(current: str) -> Iterable[str]:
    return [task_id for path in _entries() for task_id in _field(Path(f"{path}.task"), "task_id")]


def _tasks(current: str) -> Iterable[str]:
    """Task ids, keys and chains."""
    return [*_task_ids(current), *_keys(current), *_sync_keys(current), *_chains(current)]


def _schedulers(current: str) -> Iterable[str]:
    from globuswrap import schedulers

    return schedulers.NAMES


def _sandbox_faults(current: str) -> Iterable[str]:
    from globuswrap.cli.sandbox import FAULTS

    return FAULTS


#: Values that are always the same, or what finds them, given how the word begins.
_FINDERS: dict[str, tuple[str, ...] | Callable[[str], Iterable[str]]] = {
    **dict.fromkeys(("source", "destination", "addresses", "address", "share", "base", "from_"), _addresses),
    **dict.fromkeys(("collection remove name", "share list share"), _names),
    **dict.fromkeys((f"sync {verb} name" for verb in ("run", "baseline", "export")), _profiles),
    "subject": _scripts_or_profiles,
    "tasks": _tasks,
    "key": _keys,
    "sync run key": _sync_keys,
    "chains": _chains,
    "resume": _chains,
    "shell": ("bash", "zsh"),
    "sync_level": ("exists", "size", "mtime", "checksum"),
    "notify": ("on", "off", "succeeded", "failed", "inactive"),
    "scheduler": _schedulers,
    "staging": ("jobs", "login", "inline"),
    "symlinks": ("skip", "follow", "keep", "error"),
    "permissions": ("r", "rw"),
    "on_collision": ("error", "first", "last", "rename"),
    "batch format_": ("paths", "tab", "shell", "json"),
    "sync export form": ("cron", "systemd", "timer", "flow-timer"),
    "sandbox fault kind": _sandbox_faults,
}


# --- remote paths -----------------------------------------------------------------------------------------------------


def _remote(head: str, path: str) -> list[str]:
    """Paths on a collection, from the mounted directory or the kept listing."""
    from globuswrap.collections import resolve
    from globuswrap.collections.address import Address

    if not path.startswith("/"):
        return [f"{head}:/"] if not path else []
    above, _, begun = path.rpartition("/")
    names = _listed(Address(resolve.collection(head), f"{above}/"))
    if not begun:
        del names[bisect.bisect_left(names, ".") : bisect.bisect_left(names, "/")]
    return [name if name == CUT else f"{head}:{above}/{name}" for name in _beginning(names, begun)]


def _beginning(names: list[str], begun: str) -> list[str]:
    """Of sorted names those that begin so; of too many, how they go on where they begin to differ, and CUT."""
    names = names[bisect.bisect_left(names, begun) : bisect.bisect_left(names, begun + chr(0x10FFFF))]
    if len(names) <= _SHOWN:
        return names
    letters = len(os.path.commonprefix((names[0], names[-1]))) + 1  # noqa: RUF071 (of letters, as it says)
    return [*{each[:letters] for each in names}, CUT]


def _listing_file(directory: Address) -> Path:
    import hashlib

    text = f"{os.environ.get('GLOBUS_SDK_ENVIRONMENT', '')} {os.environ.get('GLOBUS_PROFILE', '')} {directory}"
    return files.cache_dir() / "listings" / hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()[:32]


def _listed(directory: Address) -> list[str]:
    """The sorted names in a directory, as it is mounted here, else as they were kept, however old. What takes longer, or has to
    ask Globus, is done in the background, and kept for the next question."""
    from globuswrap.collections import mounts

    local = None
    with contextlib.suppress(Problem):
        local = mounts.to_local(directory)
    kept = _listing_file(directory)
    asked = kept.with_name(f"{kept.name}.asked")
    if _age(asked) >= _ASKED and (local is not None or _age(kept) >= FRESH):
        files.private_directory(kept.parent)
        names = _in_background(partial(_list, directory, local), kept, 0.0 if local is None else _LISTING)
        if names is not None:
            return names
        asked.touch()
    with contextlib.suppress(OSError):
        return _names_in(kept.read_bytes())
    return []


def _list(directory: Address, local: str | None) -> list[str]:
    if local is not None:
        with contextlib.suppress(OSError), os.scandir(local) as entries:
            found = [f"{entry.name}/" if entry.is_dir() else entry.name for entry in entries]
            return found if len(found) <= _NAMES else []
    from globuswrap.globus import verbs

    rows = verbs.ls(str(directory), 0.0, timeout=30)
    if rows is None:
        raise FileNotFoundError
    return [f"{row['name']}{'/' if row.get('type') == 'dir' else ''}" for row in rows]


def _names_in(content: bytes) -> list[str]:
    return content.decode("utf-8", "surrogateescape").split("\0") if content else []


def _age(path: Path) -> float:
    try:
        return time.time() - path.stat().st_mtime
    except OSError:
        return math.inf


def _in_background(work: Callable[[], Iterable[str]], kept: Path, patience: float) -> list[str] | None:
    """The names that `work` finds, sorted, if it does so within some seconds. Else None, and a process of its own, away from the
    terminal and from the pipe that the shell reads, goes on with it and keeps them."""
    reading, writing = os.pipe()
    if os.fork() == 0:
        try:
            os.setsid()
            os.close(reading)
            null = os.open(os.devnull, os.O_RDWR)
            for descriptor in (0, 1, 2):
                os.dup2(null, descriptor)
            content = "\0".join(sorted(work())).encode("utf-8", "surrogateescape")
            try:
                with open(writing, "wb") as pipe:
                    pipe.write(b"." + content)
            except BrokenPipeError:
                files.write_atomic(kept, content)
        finally:
            os._exit(0)
    os.close(writing)
    content, end = b"", time.monotonic() + patience
    with open(reading, "rb", buffering=0) as pipe:
        while select.select([pipe], [], [], max(0.0, end - time.monotonic()))[0]:
            part = pipe.read(1 << 20)
            if not part:
                return _names_in(content[1:]) if content else None
            content += part
    return None
