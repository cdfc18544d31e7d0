"""Shell completion: `globuswrap completion bash|zsh` prints the script, and the script asks `globuswrap __complete`.

Nothing here waits for Globus. Remote paths come from the mounted directory where there is one, else from a listing that an
earlier question fetched in the background: the first TAB in a new directory may find nothing, the next one does.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import posixpath
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from globuswrap.cli.options import application, command
from globuswrap.cli.output import Report
from globuswrap.errors import Problem, UsageProblem
from globuswrap.system import files

if TYPE_CHECKING:
    from globuswrap.collections.address import Address

app = application()

#: Seconds for which a listing is taken as it is; older ones are shown, and fetched again.
FRESH = 300.0
#: A listing that was asked for is not asked for again within these seconds.
_ASKED = 20.0
#: Journal entries looked at, newest first; a long journal must not make TAB slow.
_ENTRIES = 200

BASH = r"""# globuswrap completion for bash: source this file, or put it into /etc/bash_completion.d
_globuswrap() {
  local answer how strip item line=${COMP_LINE:0:COMP_POINT}
  COMPREPLY=()
  mapfile -t answer < <("${COMP_WORDS[0]}" __complete line "$line" 2>/dev/null)
  how=${answer[0]-}
  strip=${answer[1]-0}
  [[ $COMP_WORDBREAKS == *:* ]] || strip=0
  for item in "${answer[@]:2}"; do
    item=${item:strip}
    [[ $how == *quoted* ]] || printf -v item '%q' "$item"
    COMPREPLY+=("$item")
  done
  [[ $how != *nospace* ]] || compopt -o nospace
  [[ $how != *files* ]] || compopt -o default
}
complete -F _globuswrap globuswrap
"""

ZSH = r"""#compdef globuswrap
# globuswrap completion for zsh: put this file into a directory of $fpath as _globuswrap, or source it after compinit
_globuswrap() {
  local -a answer
  answer=("${(@f)$("${words[1]}" __complete words "${(@Q)words[1,CURRENT-1]}" "${(Q)PREFIX}" 2>/dev/null)}")
  local how=$answer[1]
  shift 2 answer
  case $how in
    *nospace*) compadd -S '' -a answer ;;
    *) compadd -a answer ;;
  esac
  [[ $how != *files* ]] || _files
}
if [[ ${zsh_eval_context[-1]} == loadautofunc ]]; then
  _globuswrap "$@"
else
  compdef _globuswrap globuswrap
fi
"""


@command(app)
def completion(
    shell: Annotated[str, typer.Argument(help="bash or zsh.", metavar="bash|zsh")],
) -> Report:
    """Print the completion script of a shell: source <(globuswrap completion bash)."""
    scripts = {"bash": BASH, "zsh": ZSH}
    if shell not in scripts:
        raise UsageProblem("unknown-shell", f"no completion for {shell!r}", "bash or zsh")
    return Report({"shell": shell, "script": scripts[shell]}, scripts[shell].rstrip("\n").split("\n"))


def answer(arguments: Sequence[str]) -> int:
    """Print what the last word can become: `how` (files, nospace, quoted), how many characters of the word readline keeps,
    then one candidate a line. Never fails: a shell prompt is no place for problems."""
    form, *rest = arguments
    words, quoted = split(rest[0]) if form == "line" and rest else (list(rest), False)
    current = words[-1] if words else ""
    found: list[str] = []
    with contextlib.suppress(Problem, OSError):
        found = candidates(words)
    how = [name for name, holds in (("quoted", quoted), ("files", found == [FILES])) if holds]
    shown = sorted({each for each in found if each != FILES and each.isprintable() and each.startswith(current)})
    if any(each.endswith((":", "/", "=")) for each in shown):
        how.append("nospace")
    strip = 0 if quoted else current.rfind(":") + 1
    print("\n".join([",".join(how) or "plain", str(strip), *shown]))
    return 0


#: Stands for: local files, which the shell itself knows best.
FILES = "\0files"


def split(line: str) -> tuple[list[str], bool]:
    """The words of a command line as far as it is typed, unquoted, the last one being typed (it may be empty); and whether
    a quotation mark is open in it."""
    words: list[str] = []
    word: str | None = None
    quote = ""
    at = 0
    while at < len(line):
        letter = line[at]
        at += 1
        if quote:
            if letter == quote:
                quote = ""
            elif letter == "\\" and quote == '"' and line[at : at + 1] in ('"', "\\", "$", "`"):
                word = (word or "") + line[at]
                at += 1
            else:
                word = (word or "") + letter
        elif letter in " \t\n":
            if word is not None:
                words.append(word)
            word = None
        elif letter in "'\"":
            quote = letter
            word = word or ""
        elif letter == "\\":
            word = (word or "") + line[at : at + 1]
            at += 1
        else:
            word = (word or "") + letter
    return [*words, word or ""], bool(quote)


def candidates(words: Sequence[str]) -> list[str]:
    """What the last of the words can become; [FILES] where it is a local file."""
    from globuswrap.cli import app as table

    *before, current = words[1:] if len(words) > 1 else ["", ""][: len(words)] or [""]
    at = next((place for place, word in enumerate(before) if not word.startswith("-")), None)
    if at is None:
        return ["--help", "--version"] if current.startswith("-") else list(table.available())
    name = before[at]
    if name not in table.available():
        return []
    found = table.load(name)
    path, given = [name], list(before[at + 1 :])
    while hasattr(found, "list_commands"):
        below = next((word for word in given if not word.startswith("-")), None)
        known = found.list_commands(None)
        if below is None:
            return ["--help"] if current.startswith("-") else list(known)
        if below not in known:
            return []
        found = found.get_command(None, below)
        path.append(below)
        given = given[given.index(below) + 1 :]
    return _of_command(path, found, given, current)


def _of_command(path: list[str], found: Any, given: list[str], current: str) -> list[str]:
    options = {
        name: param
        for param in found.params
        if param.param_type_name == "option" and not param.hidden
        for name in (*param.opts, *param.secondary_opts)
    }
    places = [param for param in found.params if param.param_type_name == "argument"]
    taken = 0
    wanted: Any = None
    ended = False
    for word in given:
        if wanted is not None:
            wanted = None
        elif word == "--" and not ended:
            ended = True
        elif word.startswith("-") and len(word) > 1 and not ended:
            param = options.get(word)
            wanted = param if param is not None and not param.is_flag and not param.count else None
        else:
            taken += 1
    if wanted is not None:
        return _values(path, wanted.name, given, current)
    if current.startswith("-") and not ended:
        name, equals, value = current.partition("=")
        if equals and name in options:
            return [f"{name}={each}" for each in _values(path, options[name].name, given, value) if each != FILES]
        return [*(each for each in options if each.startswith("--")), "--help"]
    if not places:
        return []
    place = places[min(taken, len(places) - 1)]
    if taken >= len(places) and place.nargs != -1:
        return []
    return _values(path, place.name, given, current)


# --- values -----------------------------------------------------------------------------------------------------------


def _values(path: list[str], name: str, given: list[str], current: str) -> list[str]:
    """Values by the name of the parameter; where it means something else for one command, by both."""
    find = _FINDERS.get(f"{' '.join(path)} {name}") or _FINDERS.get(name)
    return [FILES] if find is None else list(find(current))


def _addresses(current: str) -> Iterable[str]:
    from globuswrap.collections import names

    if current.startswith(("/", ".", "~")):
        return [FILES]
    head, colon, path = current.partition(":")
    if not colon:
        return [f"{name}:" for name in names.known()]
    return _remote(head, path)


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
    with contextlib.suppress(FileNotFoundError):
        return [name for name in os.listdir(files.state_dir() / "chains") if not name.startswith(".")]
    return []


def _entries() -> list[Path]:
    root = files.state_dir() / "journal"
    found: list[tuple[float, str]] = []
    with contextlib.suppress(FileNotFoundError):
        for shard in filter(os.DirEntry.is_dir, os.scandir(root)):
            for each in os.scandir(shard.path):
                if each.name.count(".") == 1:
                    found.append((each.stat().st_mtime, each.path))
    return [Path(path) for _, path in sorted(found, reverse=True)[:_ENTRIES]]


def _keys(current: str) -> Iterable[str]:
    import json

    for path in _entries():
        with contextlib.suppress(OSError, ValueError):
            name = json.loads(path.read_bytes()).get("name")
            if name:
                yield str(name)


def _task_ids(current: str) -> Iterable[str]:
    import json

    for path in _entries():
        with contextlib.suppress(OSError, ValueError):
            yield str(json.loads(Path(f"{path}.task").read_bytes())["task_id"])


def _tasks(current: str) -> Iterable[str]:
    """Task ids, keys and chains. (Keys of chains' steps begin with `chain/` and are nobody's to type.)"""
    keys = [key for key in _keys(current) if not key.startswith("chain/")]
    return [*_task_ids(current), *keys, *_chains(current)]


def _fixed(*values: str) -> Callable[[str], Iterable[str]]:
    return lambda current: values


def _sandbox_faults(current: str) -> Iterable[str]:
    from globuswrap.sandbox.faults import KINDS

    return list(KINDS)


_FINDERS: dict[str, Callable[[str], Iterable[str]]] = {
    **dict.fromkeys(("source", "destination", "addresses", "address", "share", "base", "from_"), _addresses),
    **dict.fromkeys(("collection show collection", "collection remove name", "share list share"), _names),
    **dict.fromkeys((f"sync {verb} name" for verb in ("run", "check", "baseline", "export")), _profiles),
    "subject": _scripts_or_profiles,
    "tasks": _tasks,
    "key": _keys,
    "chains": _chains,
    "resume": _chains,
    "shell": _fixed("bash", "zsh"),
    "sync_level": _fixed("exists", "size", "mtime", "checksum"),
    "notify": _fixed("on", "off", "succeeded", "failed", "inactive"),
    "scheduler": _fixed("auto", "slurm", "pbs", "local"),
    "staging": _fixed("jobs", "login", "inline"),
    "symlinks": _fixed("skip", "follow", "keep", "error"),
    "permissions": _fixed("r", "rw"),
    "on_collision": _fixed("error", "first", "last", "rename"),
    "batch format_": _fixed("paths", "tab", "shell", "json"),
    "sync export form": _fixed("cron", "systemd", "timer"),
    "sandbox fault kind": _sandbox_faults,
}


# --- remote paths -----------------------------------------------------------------------------------------------------


def _remote(head: str, path: str) -> list[str]:
    """Paths on a collection, from the mounted directory or the kept listing."""
    from globuswrap.collections import mounts, resolve
    from globuswrap.collections.address import Address

    if not path:
        return [f"{head}:/"]
    above = path[: path.rfind("/") + 1]
    if not above:
        return []
    directory = Address(resolve.collection(head), above)
    try:
        local = mounts.to_local(directory)
        with os.scandir(local) as entries:
            listed = [f"{entry.name}/" if entry.is_dir() else entry.name for entry in entries]
    except (Problem, OSError):
        listed = _kept(directory)
    hidden = posixpath.basename(path).startswith(".")
    return [f"{head}:{above}{name}" for name in listed if hidden or not name.startswith(".")]


def _listing_file(directory: Address) -> Path:
    text = f"{os.environ.get('GLOBUS_SDK_ENVIRONMENT', '')} {os.environ.get('GLOBUS_PROFILE', '')} {directory}"
    return files.cache_dir() / "listings" / hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()[:32]


def _kept(directory: Address) -> list[str]:
    """The listing that was kept, however old; when it is old or missing, a new one is fetched in the background."""
    path = _listing_file(directory)
    names: list[str] = []
    age = FRESH + 1
    with contextlib.suppress(OSError):
        names = path.read_text("utf-8", "replace").split("\0")
        age = time.time() - path.stat().st_mtime
    if age > FRESH:
        _fetch_later(directory, path)
    return [name for name in names if name]


def _fetch_later(directory: Address, path: Path) -> None:
    """List the directory in a process of its own, which the prompt does not wait for."""
    asked = path.with_name(f"{path.name}.asked")
    with contextlib.suppress(OSError):
        if time.time() - asked.stat().st_mtime < _ASKED:
            return
    files.private_directory(path.parent)
    asked.touch()
    if os.fork() != 0:
        return
    code = 1
    try:  # the child: away from the terminal and from the pipe that the shell reads
        os.setsid()
        null = os.open(os.devnull, os.O_RDWR)
        for descriptor in (0, 1, 2):
            os.dup2(null, descriptor)
        with contextlib.suppress(Problem, OSError):
            _fetch(directory, path)
            code = 0
    finally:
        os._exit(code)


def _fetch(directory: Address, path: Path) -> None:
    from globuswrap.globus import command as globus

    found = globus.call("ls", "--all", "--", str(directory), timeout=30)
    rows = found.get("DATA", []) if isinstance(found, dict) else []
    listed = [f"{row['name']}{'/' if row.get('type') == 'dir' else ''}" for row in rows if isinstance(row, dict)]
    files.write_atomic(path, "\0".join(listed))


__all__ = ["BASH", "ZSH", "answer", "app", "candidates", "split"]
