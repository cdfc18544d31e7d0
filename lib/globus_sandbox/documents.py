"""What the sandbox remembers: documents by kind and id, in memory, and on disk too when asked.

The disk copy is an SQLite file written through on every change, without fsync: it survives the end of this process,
kill -9 included, not the end of the machine.
"""

from __future__ import annotations

import json
import sqlite3
import threading
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

Document = dict[str, Any]

#: Names every id that is derived from a name, so that a collection keeps its UUID from one sandbox to the next.
NAMESPACE = uuid.UUID("6c6f6361-6c20-476c-8f62-757320626f78")

#: What `NAME:KIND` means; the names on the right are the service's `entity_type` values.
ENTITY_TYPES = {
    "mapped": "GCSv5_mapped_collection",
    "guest": "GCSv5_guest_collection",
    "gcp": "GCP_mapped_collection",
    "gcp-guest": "GCP_guest_collection",
}


def id_of(name: str) -> str:
    """The UUID that stands for a name in every sandbox."""
    return str(uuid.uuid5(NAMESPACE, name))


def iso(seconds: float) -> str:
    """A point in time as task documents have it: whole seconds, UTC."""
    return datetime.fromtimestamp(int(seconds), timezone.utc).isoformat()


def spaced(seconds: float) -> str:
    """A point in time as listings and events have it: a space instead of the T."""
    return iso(seconds).replace("T", " ")


def seconds_of(text: str) -> float:
    """A point in time of either form, or a date alone; without an offset it is UTC. Raises ValueError."""
    moment = datetime.fromisoformat(text.strip().replace("Z", "+00:00"))
    return (moment if moment.tzinfo else moment.replace(tzinfo=timezone.utc)).timestamp()


@dataclass(frozen=True)
class Collection:
    """A directory that is served as a collection; what is put there is on it."""

    name: str
    id: str
    path: Path
    kind: str = "mapped"

    @property
    def entity_type(self) -> str:
        return ENTITY_TYPES[self.kind]

    @property
    def is_guest(self) -> bool:
        return "guest" in self.kind


def collection_of(name: str, path: Path, kind: str) -> Collection:
    """One that a sandbox starts with: its id comes from its name."""
    return Collection(name, id_of("collection " + name), path, kind)


class Documents:
    """Documents by (kind, id), in the order in which they were first put. All methods are safe in any thread."""

    def __init__(self, file: Path | None = None) -> None:
        self.lock = threading.RLock()
        self._kinds: dict[str, dict[str, Document]] = {}
        self._disk: sqlite3.Connection | None = None
        if file is not None:
            self._disk = sqlite3.connect(file, check_same_thread=False, isolation_level=None)
            self._disk.execute("PRAGMA journal_mode=WAL")
            self._disk.execute("PRAGMA synchronous=OFF")
            self._disk.execute(
                "CREATE TABLE IF NOT EXISTS document(kind TEXT, id TEXT, text TEXT, PRIMARY KEY (kind, id))"
            )
            for kind, key, text in self._disk.execute("SELECT kind, id, text FROM document ORDER BY rowid"):
                self._kinds.setdefault(kind, {})[key] = json.loads(text)

    def put(self, kind: str, key: str, document: Document) -> None:
        with self.lock:
            self._kinds.setdefault(kind, {})[key] = document
            if self._disk is not None:
                self._disk.execute(
                    "INSERT INTO document VALUES (?, ?, ?) ON CONFLICT(kind, id) DO UPDATE SET text = excluded.text",
                    (kind, key, json.dumps(document)),
                )

    def get(self, kind: str, key: str) -> Document | None:
        with self.lock:
            return self._kinds.get(kind, {}).get(key)

    def all(self, kind: str, **wanted: Any) -> list[Document]:
        """Those of a kind that have these values."""
        with self.lock:
            every = list(self._kinds.get(kind, {}).values())
        return [each for each in every if all(each[name] == value for name, value in wanted.items())]

    def remove(self, kind: str, key: str) -> Document | None:
        with self.lock:
            if self._disk is not None:
                self._disk.execute("DELETE FROM document WHERE kind = ? AND id = ?", (kind, key))
            return self._kinds.get(kind, {}).pop(key, None)

    def clear(self) -> None:
        with self.lock:
            self._kinds.clear()
            if self._disk is not None:
                self._disk.execute("DELETE FROM document")

    def setting(self, name: str, default: Any) -> Any:
        found = self.get("setting", name)
        return default if found is None else found["value"]

    def set(self, name: str, value: Any) -> None:
        self.put("setting", name, {"value": value})


class Clock:
    """The sandbox's time: the machine's, moved by as many seconds as were asked for."""

    def __init__(self, documents: Documents) -> None:
        self._documents = documents

    def now(self) -> float:
        return time.time() + float(self._documents.setting("clock", 0.0))

    def advance(self, seconds: float) -> None:
        self._documents.set("clock", float(self._documents.setting("clock", 0.0)) + seconds)


class CollectionRegistry:
    """The collections of one sandbox: those it was started with and those made since, but for those that were deleted."""

    def __init__(self, collections: list[Collection], documents: Documents) -> None:
        self._by_id = {collection.id: collection for collection in collections}
        self._documents = documents

    def __iter__(self) -> Iterator[Collection]:
        made = [
            Collection(each["name"], each["id"], Path(each["path"]), each["kind"])
            for each in self._documents.all("made-collection")
        ]
        every = (*self._by_id.values(), *made)
        return (one for one in every if self._documents.get("deleted-collection", one.id) is None)

    def add(self, one: Collection, **more: Any) -> None:
        """One more; `more` has its owner, and the mapped collection it lies on."""
        document = {"name": one.name, "id": one.id, "path": str(one.path), "kind": one.kind, **more}
        self._documents.put("made-collection", one.id, document)

    def remove(self, key: str) -> None:
        self._documents.put("deleted-collection", key, {})

    def get(self, key: str) -> Collection | None:
        """By id, or by name: faults may be given for either."""
        return next((one for one in self if key.lower() == one.id or key == one.name), None)
