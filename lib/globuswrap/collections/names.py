"""Names for collections: from config files, and from a file that `collection add` writes."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from globuswrap import config
from globuswrap.errors import UsageProblem, did_you_mean
from globuswrap.system import files, records

UUID = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
#: What cannot be mistaken for a path, an option or part of an address.
NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.@-]*")


@dataclass(frozen=True)
class Collection:
    """A named collection. `mounted` maps local directories to collection paths; `origin` is the file that names it; `tape`: its
    files may have to be recalled before they can be read."""

    name: str
    id: str
    mounted: Mapping[str, str] = field(default_factory=dict)
    origin: str = ""
    tape: bool = False


def own_file() -> Path:
    """The file that globuswrap writes itself, beside config.toml, so that no user's file is ever rewritten."""
    return files.config_dir() / "collections.json"


@cache
def known() -> dict[str, Collection]:
    """Every named collection; a name in a config file wins over one that was added."""
    found: dict[str, Collection] = {}
    for name, entry in _added().items():
        found[name] = _collection(name, entry, str(own_file()))
    for name, entry in config.load().table("collections").items():
        found[name] = _collection(name, entry, "config.toml")
    return found


def lookup(name: str) -> Collection | None:
    return known().get(name)


def name_of(collection_id: str) -> str | None:
    """The first name of a UUID."""
    return next((each.name for each in known().values() if each.id == collection_id), None)


def on_tape(collection_id: str | None) -> bool:
    """Is this UUID named as a collection whose files may have to be recalled?"""
    return any(each.tape for each in known().values() if each.id == collection_id)


def remedy_for(name: str) -> str:
    return did_you_mean(name, known(), f"name it once: globuswrap collection add {name} UUID")


def add(name: str, collection_id: str, mounted: Mapping[str, str]) -> None:
    """Write a name into the own file. UsageProblem if a config file already names another collection so."""
    existing = known().get(name)
    if existing is not None and existing.origin == "config.toml" and existing.id != collection_id:
        raise UsageProblem(
            "name-taken", f"{name} is {existing.id} in config.toml", "choose another name, or edit the file"
        )
    entry: dict[str, object] = {"id": collection_id}
    if mounted:
        entry["mounted"] = dict(mounted)
    _write({**_added(), name: entry})


def remove(name: str) -> None:
    """Take an added name away. UsageProblem if there is none, or a config file holds it."""
    added = _added()
    if name not in added:
        held = known().get(name)
        remedy = f"edit {files.config_dir() / 'config.toml'}" if held else "see: globuswrap collection list"
        raise UsageProblem("unknown-collection", f"you have not added a collection named {name!r}", remedy)
    _write({other: entry for other, entry in added.items() if other != name})


def _write(entries: Mapping[str, Any]) -> None:
    files.private_directory(own_file().parent)
    files.write_atomic(own_file(), json.dumps(entries, indent=2, sort_keys=True) + "\n")
    known.cache_clear()


def _added() -> dict[str, Any]:
    files.refuse_if_others_write(own_file())
    try:
        found = records.parsed(own_file().read_text("utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise UsageProblem("bad-config", f"{own_file()}: {error}", "fix or remove the file") from None
    return found if isinstance(found, dict) else {}


def _collection(name: str, entry: object, origin: str) -> Collection:
    table = {"id": entry} if isinstance(entry, str) else entry
    identifier = table.get("id") if isinstance(table, Mapping) else None
    if not isinstance(table, Mapping) or not isinstance(identifier, str) or not UUID.fullmatch(identifier):
        raise UsageProblem(
            "bad-uuid", f"{origin}: collection {name} has no valid id", 'write NAME = "UUID", or { id = "UUID" }'
        )
    if not NAME.fullmatch(name):
        raise UsageProblem(
            "bad-name", f"{origin}: {name!r} is not a valid collection name", "use only letters, digits and _ . @ -"
        )
    mounted = table.get("mounted", {})
    tape = table.get("tape", False)
    unknown = set(table) - {"id", "mounted", "tape"}
    if unknown:
        raise UsageProblem(
            "unknown-config-key", f"{origin}: collection {name}: unknown key {min(unknown)}", "known: id, mounted, tape"
        )
    if not isinstance(mounted, Mapping):
        raise UsageProblem(
            "bad-config", f"{origin}: collection {name}: mounted is not a table", 'write { "/local" = "/path" }'
        )
    if not isinstance(tape, bool):
        raise UsageProblem("bad-config", f"{origin}: collection {name}: tape is {tape!r}", "write tape = true")
    for local, remote in mounted.items():
        if not local.startswith("/") or not str(remote).startswith("/"):
            raise UsageProblem(
                "bad-config", f"{origin}: collection {name}: mounted needs absolute paths", "start both paths with /"
            )
    return Collection(name, identifier.lower(), dict(mounted), origin, tape)
