"""Submissions on disk: which attempt of a request carries which submission id, and what became of it.

An attempt is a claim, `<key>.<attempt>`, and facts beside it that are each written once and only ever added:

    <key>.<attempt>            the claim: request, submission id, label, host, time, and what its caller was promised
    <key>.<attempt>.task       the task id that Globus answered (or that was found by its label)
    <key>.<attempt>.refused    the last definite refusal; the claim stays, the same id is sent again
    <key>.<attempt>.lapsed     an intent too old to be sent again, of which no task was found
    <key>.<attempt>.receipt    the receipt of the finished task
    <key>.<attempt>.answered   a caller has been told the task id
    <key>.<attempt>.awaited    a later caller waits for the outcome
    <key>.<attempt>.reported   a caller has been told the outcome

Whoever claims first wins: the claim is written to a temporary file, fsynced, and given its name by link(2), which fails
if the name is taken. Every process that follows reads the winner's submission id and sends that one, so Globus accepts
one task. No lock guards this.

What a caller was promised decides what a rerun does (`Entry.kept`): who waits was promised the outcome, who does not the
submission. Once that is kept, and the task has ended, the same request is a new attempt.

A claim that is damaged is set aside as `<key>.<attempt>.damaged`; its number is not used again. The attempt after it
`replaces` it: it has the facts of the damaged one, and where none of them names the task, it looks for that before it sends.
A claim of another version is refused (system.records): it may say that this must never run again.

What the file system has to guarantee, on one host or on many that share the directory: link(2) and rename(2) are atomic;
a file that is opened by name after its link was made is read with the content that was fsynced before it (close-to-open,
as NFS gives). Over NFS a lost reply makes a successful link look like EEXIST: the link count decides.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import time
import uuid
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from globuswrap.errors import Refused
from globuswrap.system import files, log, records
from globuswrap.system.records import Damaged
from globuswrap.transfers import receipt

SCHEMA = "globuswrap.submission/1"
FACTS = ("task", "refused", "lapsed", "receipt", "answered", "awaited", "reported")

#: How long a submission id is good for resending is not documented: after this an intent is looked for by its label.
RESEND_WITHIN = 7 * 86400.0
KEEP_FINISHED = 90 * 86400.0


@dataclass(frozen=True)
class Claim:
    """An attempt at a request. `created` is seconds since the epoch; `items` counts them, `examples` shows a few. `awaited`:
    its first caller was promised the outcome. `replaces`: so many attempts right before it have damaged claims."""

    key: str
    attempt: int
    submission_id: str
    digest: str
    label: str
    kind: str
    source: str
    destination: str | None
    items: int
    examples: tuple[tuple[str, str | None], ...]
    created: float
    host: str
    name: str | None = None
    once: bool = False
    chain: str | None = None
    awaited: bool = False
    replaces: int = 0
    schema: str = SCHEMA


@dataclass(frozen=True)
class Entry:
    """A claim and its facts as they are now; a fact that is not there is None, or False."""

    claim: Claim
    path: Path
    task: dict[str, Any] | None = None
    refused: dict[str, Any] | None = None
    lapsed: bool = False
    receipt: dict[str, Any] | None = None
    answered: bool = False
    awaited: bool = False
    reported: bool = False

    @property
    def task_id(self) -> str | None:
        found = (self.task or {}).get("task_id")
        return found if isinstance(found, str) else None

    @property
    def digest(self) -> str:
        """Of the request: of an attempt that replaces a damaged one, the digest that its facts are of."""
        for fact in ((self.receipt or {}).get("submission"), self.task):
            if self.claim.replaces and isinstance(fact, dict) and isinstance(fact.get("digest"), str):
                return str(fact["digest"])
        return self.claim.digest

    @property
    def submitted(self) -> float:
        """When its task was submitted (epoch seconds): another's, if the task was found by its label."""
        found = (self.task or {}).get("submitted")
        return float(found) if isinstance(found, (int, float)) else self.claim.created

    @property
    def finished(self) -> bool:
        return self.receipt is not None or (self.lapsed and self.task_id is None)

    @property
    def kept(self) -> bool:
        """Do callers have what they were promised: the outcome if one of them waits for it, else the task id?"""
        return self.reported or (self.answered and not self.awaited)

    @property
    def state(self) -> str:
        if self.receipt is not None:
            return str(self.receipt.get("outcome", "finished"))
        if self.task_id is not None:
            return "submitted"
        if self.lapsed:
            return "lapsed"
        return "refused" if self.refused else "intent"


def directory() -> Path:
    return files.state_dir() / "journal"


def claim(new: Claim) -> Entry:
    """Take an attempt, or read who has it: the entry returned is the one whose submission id is to be sent.

    Durable before it returns. Raises OSError if the state directory cannot be written (nothing was submitted then).
    """
    shard = files.private_directory(directory() / new.key[:2])
    final = shard / f"{new.key}.{new.attempt}"
    if records.write_once(final, json.dumps(asdict(new), indent=1) + "\n"):
        return _with_facts(new, final)
    entry = read(final)
    # Damaged and now set aside: its id is lost, so this attempt cannot be sent again safely; the next number is free.
    return entry if entry is not None else claim(replace(new, attempt=new.attempt + 1, replaces=new.replaces + 1))


def new_claim(**known: Any) -> Claim:
    return Claim(created=time.time(), host=socket.gethostname(), **known)


def record(entry: Entry, fact: str, content: dict[str, Any]) -> Entry:
    """Add a fact, durably, and return the entry as it then is. Two processes that add the same fact agree on it."""
    if fact not in FACTS:
        raise ValueError(fact)
    files.write_atomic(Path(f"{entry.path}.{fact}"), json.dumps(content, indent=1) + "\n")
    again = read(entry.path)
    if again is None:
        raise OSError(f"{entry.path} has vanished")
    return again


def latest(key: str) -> Entry | None:
    """The highest attempt of a key. Touched, so that pruning leaves it alone while it is looked at."""
    found = _attempts(key)
    while found:
        path = found.pop()
        with contextlib.suppress(FileNotFoundError):
            os.utime(path)
        entry = read(path)
        if entry is not None:
            return entry
    return None


def highest_attempt(key: str) -> int:
    """The number of the highest attempt, damaged ones included; 0 if there is none."""
    shard = directory() / key[:2]
    return max((_number(name) for name in _names(shard) if name.startswith(f"{key}.")), default=0)


def _attempts(key: str) -> list[Path]:
    shard = directory() / key[:2]
    mine = [name for name in _names(shard) if name.startswith(f"{key}.") and name.count(".") == 1]
    return [shard / name for name in sorted(mine, key=_number)]


def _number(name: str) -> int:
    number = name.split(".")[1] if "." in name else ""
    return int(number) if number.isdigit() else 0


def _names(shard: Path) -> list[str]:
    try:
        return os.listdir(shard)
    except (FileNotFoundError, NotADirectoryError):
        return []


def read(path: Path) -> Entry | None:
    """The entry of a claim's path; None if it is not there, or damaged: then it is set aside and said so.

    Raises Refused for a claim, or a fact of it, that a newer version wrote.
    """
    try:
        document = records.load(path)
        if document is None:
            return None
        records.of_schema(document, SCHEMA, path)
        claimed = records.built(Claim, document, path)
        examples = tuple((source, destination) for source, destination in claimed.examples)
        uuid.UUID(claimed.submission_id)
    except (ValueError, TypeError, AttributeError) as error:
        _set_aside(path, str(error))
        return None
    return _with_facts(replace(claimed, examples=examples), path)


def _with_facts(claimed: Claim, path: Path) -> Entry:
    facts = {fact: _fact(path, fact) for fact in FACTS}
    key, _, number = path.name.partition(".")
    for damaged in range(int(number) - 1, int(number) - 1 - claimed.replaces, -1):
        before = path.with_name(f"{key}.{damaged}")
        facts = {fact: found if found is not None else _fact(before, fact) for fact, found in facts.items()}
    return Entry(
        claimed,
        path,
        task=facts["task"],
        refused=facts["refused"],
        lapsed=facts["lapsed"] is not None,
        receipt=facts["receipt"],
        answered=facts["answered"] is not None,
        awaited=claimed.awaited or facts["awaited"] is not None,
        reported=facts["reported"] is not None,
    )


def _fact(path: Path, fact: str) -> dict[str, Any] | None:
    file = Path(f"{path}.{fact}")
    document = _load(file)
    if fact == "receipt" and document is not None and isinstance(document.get("schema"), str):
        records.of_schema(document, receipt.SCHEMA, file)
    return document


def _load(path: Path) -> dict[str, Any] | None:
    try:
        return records.load(path)
    except Damaged as error:
        _set_aside(path, str(error))
        return None


def _set_aside(path: Path, why: str) -> None:
    aside = path.with_name(f"{path.name}.damaged")
    with contextlib.suppress(FileNotFoundError):  # another process has just done it
        os.replace(path, aside)
        log.say(f"journal: {path.name} is damaged ({why}); set aside as {aside}", 0)


def entries() -> Iterator[Entry]:
    """Every attempt in the journal that this version can read, in no order; the others are said."""
    for path in _claims():
        try:
            entry = read(path)
        except Refused as problem:
            log.say(f"journal: {problem.cause}; left out", 0)
            continue
        if entry is not None:
            yield entry


def _claims() -> Iterator[Path]:
    for shard in sorted(_names(directory())):
        for name in _names(directory() / shard):
            key, _, number = name.partition(".")
            if number.isdigit() and len(key) == 40:
                yield directory() / shard / name


def by_task(task_id: str) -> Entry | None:
    return next((entry for entry in entries() if entry.task_id == task_id), None)


def damaged() -> list[Path]:
    """Entries that were set aside."""
    root = directory()
    return [root / shard / name for shard in _names(root) for name in _names(root / shard) if name.endswith(".damaged")]


def tidy() -> None:
    """Prune, once a day at most: called where a new attempt has just been claimed."""
    mark = directory() / "pruned"
    with contextlib.suppress(FileNotFoundError):
        if time.time() - mark.stat().st_mtime < 86400:
            return
    mark.touch(mode=0o600)
    os.utime(mark)
    prune()


def prune(older_than: float = KEEP_FINISHED) -> int:
    """Remove entries that are finished, with their promise kept, and were last looked at more than `older_than` seconds
    ago; return how many.

    `--once` records stay for good: they say that something was done, ever. Unfinished ones stay until they are settled.
    """
    removed = 0
    limit = time.time() - older_than
    for path in _claims():
        with contextlib.suppress(FileNotFoundError, Refused):
            if path.stat().st_mtime >= limit:
                continue
            entry = read(path)
            if entry is None or not entry.finished or not entry.kept or entry.claim.once:
                continue
            # The claim first: a reader then sees no attempt at all, never one without its facts.
            os.unlink(path)
            _remove_facts(entry)
            removed += 1
    return removed


def _remove_facts(entry: Entry) -> None:
    for number in range(entry.claim.attempt - entry.claim.replaces, entry.claim.attempt + 1):
        for fact in (*FACTS, "fault"):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(entry.path.with_name(f"{entry.claim.key}.{number}.{fact}"))
