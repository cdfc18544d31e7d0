"""First set-up: name collections, find out where they are mounted here, prove it. Everything done can be done by hand: each step
says its command."""

from __future__ import annotations

import itertools
import os
import posixpath
import re
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from globuswrap.collections import names, resolve
from globuswrap.collections.address import normalised
from globuswrap.errors import Problem, UsageProblem
from globuswrap.globus import verbs
from globuswrap.system import log, machine
from globuswrap.system.together import map_concurrently

#: The beginning of the name of a directory that is made here, looked for on a collection, and removed.
PROBE = ".globuswrap-init-"
#: Variables that name a directory of the user on many clusters.
_OWN = ("HOME", "SCRATCH", "WORK", "PROJECT", "DATA")


@dataclass(frozen=True)
class Wanted:
    """A collection to name, and local directories that may be on it: local -> its path there, or None to find that out."""

    name: str
    id: str
    local: Mapping[str, str | None]


@dataclass(frozen=True)
class Added:
    """What was written. `mounted` are proven mounts; `unseen` the local directories that are not on the collection."""

    name: str
    id: str
    mounted: Mapping[str, str]
    unseen: tuple[str, ...]

    @property
    def command(self) -> str:
        """The command that does the same, a line for each mount."""
        added = log.shell_line(("globuswrap", "collection", "add", self.name, self.id))
        mounts = [log.shell_line(("--mount", f"{local}={remote}")) for local, remote in self.mounted.items()]
        return " \\\n    ".join([added, *mounts])


def wanted(collections: Iterable[str], mounts: Iterable[str]) -> list[Wanted]:
    """From options: `NAME=UUID`, and `NAME=LOCAL_DIR` or `NAME=LOCAL_DIR=/collection/path`. UsageProblem for anything else."""
    found: dict[str, tuple[str, dict[str, str | None]]] = {}
    for each in collections:
        name, equals, identifier = each.partition("=")
        if not equals or not names.NAME.fullmatch(name):
            raise UsageProblem("bad-name", f"{each!r} is not NAME=UUID", "write for example --collection scratch=UUID")
        found[name] = (resolve.collection(identifier), {})
    for each in mounts:
        name, _, rest = each.partition("=")
        local, _, remote = rest.partition("=")
        if name not in found or not local.startswith("/") or (remote and not remote.startswith("/")):
            raise UsageProblem(
                "bad-mount",
                f"{each!r} is not a mount of a collection that is named here",
                "write --mount NAME=/local/dir, or --mount NAME=/local/dir=/collection/path, with --collection NAME=UUID",
            )
        found[name][1][local] = remote or None
    return [Wanted(name, identifier, local) for name, (identifier, local) in found.items()]


def add(each: Wanted) -> Added:
    """Prove the mounts of a collection and write its name. Raises NotFound if there is no such collection."""
    verbs.collection(each.id)
    proven = {local: place(each.id, local, remote) for local, remote in each.local.items()}
    mounted = {local: remote for local, remote in proven.items() if remote is not None}
    names.add(each.name, each.id, mounted)
    return Added(each.name, each.id, mounted, tuple(local for local, remote in proven.items() if remote is None))


def guessed(collection: str) -> dict[str, str | None]:
    """Of the user's own directories on this machine, those that are seen on a collection, with their path there."""
    found = {local: place(collection, local, None) for local in own_directories()}
    return {local: remote for local, remote in found.items() if remote is not None}


def own_directories() -> list[str]:
    """Local directories that may be on a collection: the user's own, and every mount that they can write to."""
    named = [os.environ[name] for name in _OWN if os.environ.get(name, "").startswith("/")]
    # Those of a disk or a server, not something of the kernel.
    mounted = [point for point, _, device in machine.mounts() if device.startswith("/") or ":" in device]
    usable = (os.path.realpath(each) for each in [*named, *mounted])
    return [each for each in dict.fromkeys(usable) if each != "/" and os.path.isdir(each) and os.access(each, os.W_OK)]


def place(collection: str, local: str, remote: str | None) -> str | None:
    """Where on a collection a local directory is seen, at `remote` or wherever it may be: a directory is made in it, looked for
    there, and removed. None if it is not there, or nothing can be made in it."""
    probe = os.path.join(local, PROBE + uuid.uuid4().hex[:12])
    try:
        os.mkdir(probe, 0o755)
    except OSError as error:
        log.say(f"{local} cannot be checked: {error.strerror}")
        return None
    try:
        candidates = [remote] if remote is not None else paths_of(local)
        seen = map_concurrently(lambda path: _is_there(collection, path, os.path.basename(probe)), candidates)
    finally:
        os.rmdir(probe)
    return next((normalised(path) for path, there in zip(candidates, seen, strict=True) if there), None)


def paths_of(local: str) -> list[str]:
    """Where a local directory may be on a collection: `/gpfs/home/me`, `/home/me`, `/me`, `/`, and the default directory."""
    parts = [part for part in local.split("/") if part]
    return [*("/" + "/".join(parts[first:]) for first in range(len(parts))), "/", "/~/"]


def _is_there(collection: str, path: str, name: str) -> bool:
    try:
        return verbs.stat(f"{collection}:{posixpath.join(path, name)}", 0.0) is not None
    except Problem as problem:
        log.say(f"{collection}:{path} was not checked: {problem.cause}", 2)
        return False


def choices(text: str) -> list[dict[str, Any]]:
    """Collections to choose from, `id` and `display_name`: what a search finds, or without a text those used lately."""
    rows = verbs.search_collections(text, limit=10, scope=None if text else "recently-used")
    return [{"id": str(row.get("id")), "display_name": str(row.get("display_name") or row.get("id"))} for row in rows]


def name_for(display_name: str) -> str:
    """A name to propose: of a display name what a name can hold."""
    plain = re.sub(r"[^a-z0-9]+", "-", display_name.lower()).strip("-")[:24].strip("-")
    if not plain or not names.NAME.fullmatch(plain):
        plain = "c"
    proposed = itertools.chain([plain] if plain != "c" else [], (f"{plain}{number}" for number in itertools.count(1)))
    return next(name for name in proposed if name not in names.known())
