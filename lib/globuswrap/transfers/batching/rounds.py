"""Rounds of a batch: which run of it is under way, so that what a killed run has submitted is not submitted again.

A round is `batches/<key>.<number>` in the state directory, with facts beside it as in the journal: `.receipt`, the receipt
over all its tasks, and `.reported`, a caller has been told. Its tasks are journalled each by itself under the names
`batch:<batch>:<round>:<piece>`. Run again, an unreported round goes on; a reported one begins a new round, or with `once`
is repeated as it was recorded. The directory needs of its file system what the journal needs.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from globuswrap.errors import UsageProblem
from globuswrap.system import files, log
from globuswrap.transfers import journal
from globuswrap.transfers import request as requests
from globuswrap.transfers.journal import Entry

SCHEMA = "globuswrap.batch/1"


@dataclass(frozen=True)
class Round:
    """One run of a batch. `chunk` is how many items make a task: a run that goes on keeps the first one's."""

    key: str
    number: int
    digest: str
    items: int
    pieces: int
    chunk: int
    created: float
    host: str
    name: str | None = None
    once: bool = False
    schema: str = SCHEMA

    @property
    def path(self) -> Path:
        return directory() / f"{self.key}.{self.number}"

    @property
    def reported(self) -> bool:
        return Path(f"{self.path}.reported").exists()

    @property
    def receipt_path(self) -> Path:
        return Path(f"{self.path}.receipt")

    @property
    def receipt(self) -> dict[str, Any] | None:
        return _load(self.receipt_path)

    def piece_name(self, index: int, kind: str = "") -> str:
        """The `--key` of one of its tasks; `kind` tells a verification from the transfer."""
        return f"batch:{self.name or self.key[:16]}:{self.number}:{kind}{index}"

    def entry(self, index: int, kind: str = "") -> Entry | None:
        return journal.latest(requests.key_of("", self.piece_name(index, kind)))


@dataclass(frozen=True)
class Size:
    """How large a batch is, and how it would be cut."""

    items: int
    pieces: int
    chunk: int


def directory() -> Path:
    return files.state_dir() / "batches"


def current(key: str, digest: str, size: Size, *, name: str | None, once: bool) -> Round:
    """The round to work on: the unreported one, with `once` a reported one, else a new one.

    UsageProblem if the key stands for another batch that is not over.
    """
    last = latest(key)
    if last is not None and not last.reported and _told_elsewhere(last):
        note_reported(last)
    if last is not None and last.digest != digest:
        if not (last.reported and not (last.once or once)) and _anything_sent(last):
            raise UsageProblem(
                "key-taken", f"key {name} already stands for another batch, of {last.items} items", "use another --key"
            )
    elif last is not None and (not last.reported or last.once or once):
        return last
    prune(key)
    number = last.number + 1 if last is not None else 1
    new = Round(key, number, digest, **vars(size), created=time.time(), host=socket.gethostname(), name=name, once=once)
    begun = _begin(new)
    if begun.digest != digest:
        raise UsageProblem("key-taken", f"key {name} was just taken by another batch", "use another --key")
    return begun


def _begin(new: Round) -> Round:
    """Take this number, or read who has it. Durable before it returns."""
    files.private_directory(directory())
    temporary = files.write_temporary(directory(), json.dumps(asdict(new), indent=1) + "\n")
    try:
        os.link(temporary, new.path)
    except FileExistsError:
        if os.stat(temporary).st_nlink != 2:
            return latest(new.key) or new
    finally:
        os.unlink(temporary)
    files.sync_directory(directory())
    return new


def latest(key: str) -> Round | None:
    """The highest round of a key; a damaged one is set aside."""
    while numbers := _numbers(key):
        path = directory() / f"{key}.{max(numbers)}"
        try:
            return Round(**(_load(path) or {}))
        except TypeError as error:
            with contextlib.suppress(FileNotFoundError):
                os.replace(path, f"{path}.damaged")
            log.say(f"batch {path.name} is damaged ({error}); set aside as {path}.damaged", 0)
    return None


def key_of(digest: str, name: str | None, chain: str | None) -> str:
    return requests.key_of(digest, None if name is None else f"batch:{name}", chain)


def note_receipt(round_: Round, receipt: dict[str, Any]) -> None:
    files.write_atomic(round_.receipt_path, json.dumps(receipt, indent=1) + "\n")


def note_reported(round_: Round) -> None:
    """A caller has been told. The round first, then its tasks: killed in between, nothing is begun anew by mistake."""
    files.write_atomic(Path(f"{round_.path}.reported"), "{}\n")
    for kind in ("", "verify-"):
        for index in range(1, round_.pieces + 1):
            entry = round_.entry(index, kind)
            if entry is not None and entry.finished and not entry.reported:
                journal.record(entry, "reported", {"host": round_.host})


def prune(key: str, older_than: float = journal.KEEP_FINISHED) -> None:
    """Remove old reported rounds of a batch. `--once` records stay, and the last one: its number is not given again."""
    limit = time.time() - older_than
    for number in sorted(_numbers(key))[:-1]:
        path = directory() / f"{key}.{number}"
        document = _load(path) or {}
        if document.get("once") or not Path(f"{path}.reported").exists() or document.get("created", limit) >= limit:
            continue
        for each in (path, Path(f"{path}.receipt"), Path(f"{path}.reported")):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(each)


def _anything_sent(round_: Round) -> bool:
    entries = (round_.entry(index) for index in range(1, round_.pieces + 1))
    return any(entry is not None and (entry.task_id or not entry.refused) for entry in entries)


def _told_elsewhere(round_: Round) -> bool:
    """Has every task of the round been waited for by itself, and been reported?"""
    entries = (round_.entry(index) for index in range(1, round_.pieces + 1))
    return all(entry is not None and entry.finished and entry.reported for entry in entries)


def _numbers(key: str) -> list[int]:
    try:
        names = os.listdir(directory())
    except FileNotFoundError:
        return []
    numbers = [name[len(key) + 1 :] for name in names if name.startswith(f"{key}.")]
    return [int(number) for number in numbers if number.isdigit()]


def _load(path: Path) -> dict[str, Any] | None:
    try:
        found = json.loads(path.read_bytes())
    except (FileNotFoundError, ValueError):
        return None
    return found if isinstance(found, dict) else None
