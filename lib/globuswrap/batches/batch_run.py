"""Record the runs of a batch, so that a rerun does not submit again what a killed run has submitted.

A round is `batches/<key>.<number>` in the state directory, with facts beside it as in the journal: `.answered`, a caller has
been told all its task ids; `.awaited`, a caller waits for its outcome; `.receipt`, the receipt over all its tasks; and
`.reported`, a caller has been told the outcome. Its tasks are journalled each by itself under the names
`batch:<batch>:<round>:<piece>`. As with one request, what was promised decides what a rerun does: a round goes on until it
is over and its promise is kept; then a new round begins, or with `once` the recorded outcome is repeated. The directory
needs of its file system what the journal needs.
"""

from __future__ import annotations

import contextlib
import os
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from globuswrap.batches import tasks
from globuswrap.errors import Refused, UsageProblem
from globuswrap.system import files, log, records, units
from globuswrap.transfers import journal
from globuswrap.transfers import request as requests
from globuswrap.transfers.journal import Entry
from globuswrap.transfers.wait import WaitPolicy

SCHEMA = "globuswrap.batch/1"
RECEIPT = "globuswrap.batch-receipt/1"
FACTS = ("answered", "awaited", "receipt", "reported")


@dataclass(frozen=True)
class BatchRun:
    """One run of a batch; `number` is 0 until it has begun. `chunk` is how many items make a task: a run that goes on keeps the
    first one's."""

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
    def title(self) -> str:
        return self.name or self.key

    def has(self, fact: str) -> bool:
        return Path(f"{self.path}.{fact}").exists()

    def note(self, fact: str) -> None:
        """Add a fact that has nothing to say but that it is so."""
        if not self.has(fact):
            files.write_atomic(Path(f"{self.path}.{fact}"), "{}\n")

    @property
    def reported(self) -> bool:
        return self.has("reported")

    @property
    def kept(self) -> bool:
        """Do callers have what they were promised: the outcome if one of them waits for it, else the task ids?"""
        return self.reported or (self.has("answered") and not self.has("awaited"))

    @property
    def receipt_path(self) -> Path:
        return Path(f"{self.path}.receipt")

    @property
    def receipt(self) -> dict[str, Any] | None:
        try:
            found = records.load(self.receipt_path)
            if found is not None:
                records.of_schema(found, RECEIPT, self.receipt_path)
            return found
        except records.Damaged:
            return None

    def piece_name(self, index: int, kind: str = "") -> str:
        """The `--key` of one of its tasks; `kind` tells a verification from the transfer."""
        return f"batch:{self.name or self.key[:16]}:{self.number}:{kind}{index}"

    def entries(self, kind: str = "") -> list[Entry | None]:
        """What is known of each of its tasks, or of their verifications."""
        return [tasks.entry(self.piece_name(index, kind)) for index in range(1, self.pieces + 1)]


def directory() -> Path:
    return files.state_dir() / "batches"


def current(wanted: BatchRun, wait_policy: WaitPolicy) -> BatchRun:
    """The run to work on: the last one of this key, unless it is over and its promise kept; then `wanted` under the next number,
    but with `once` that one.

    UsageProblem if the key stands for another batch that is not over, Refused for a run of another version.
    """
    key, name = wanted.key, wanted.name
    last = latest(key)
    highest = _highest(key)
    if highest > (last.number if last is not None else 0):
        # Its claim is damaged. Claimed again under its number, it has its facts, and its tasks are known by their names.
        last = _begun(replace(wanted, number=highest))
    if last is not None and not last.reported and _is_settled(last, wanted.once, wait_policy):
        note_reported(last)
    if last is not None and last.digest != wanted.digest:
        if not (last.reported and not (last.once or wanted.once)) and _anything_sent(last):
            raise UsageProblem(
                "key-taken", f"key {name} already names another batch, of {last.items} items", "use another --key"
            )
    elif last is not None and (not last.reported or last.once or wanted.once):
        return last
    prune(key)
    return _begun(replace(wanted, number=last.number + 1 if last is not None else 1))


def _begun(new: BatchRun) -> BatchRun:
    """The run with this number: this one, durably, or the one that has it. UsageProblem if that is another batch."""
    files.private_directory(directory())
    mine = records.write_once(new.path, records.dump(asdict(new)))
    found = new if mine else latest(new.key) or new
    if found.digest != new.digest:
        raise UsageProblem("key-taken", f"key {new.name} was just taken by another batch", "use another --key")
    return found


def latest(key: str) -> BatchRun | None:
    """The highest run of a key; a damaged one is set aside. Raises Refused for one of another version."""
    while numbers := _numbers(key):
        path = directory() / f"{key}.{max(numbers)}"
        try:
            document = records.load(path)
            if document is None:
                continue
            records.of_schema(document, SCHEMA, path)
            return records.built(BatchRun, document, path)
        except records.Damaged as error:
            with contextlib.suppress(FileNotFoundError):
                os.replace(path, f"{path}.damaged")
            log.say(f"batch {path.name} is damaged ({error}); set aside as {path}.damaged", 0)
    return None


def key_of(digest: str, name: str | None, chain: str | None) -> str:
    return requests.key_of(digest, None if name is None else f"batch:{name}", chain)


def note_receipt(begun_run: BatchRun, receipt: dict[str, Any]) -> None:
    files.write_atomic(begun_run.receipt_path, records.dump(receipt))


def note_reported(begun_run: BatchRun) -> None:
    """A caller has been told. The run first, then its tasks: killed in between, nothing is begun anew by mistake."""
    begun_run.note("reported")
    for entry in (*begun_run.entries(), *begun_run.entries("verify-")):
        if entry is not None and entry.finished and not entry.reported:
            journal.record(entry, "reported", {"host": begun_run.host})


def prune(key: str, older_than: float = journal.KEEP_FINISHED) -> None:
    """Remove old reported rounds of a batch. `--once` records stay, and the last one: its number is not given again."""
    limit = time.time() - older_than
    for number in sorted(_numbers(key))[:-1]:
        path = directory() / f"{key}.{number}"
        with contextlib.suppress(records.Damaged, Refused):
            old = records.built(BatchRun, records.load(path) or {}, path)
            if old.once or not old.reported or old.created >= limit:
                continue
            for each in (path, *(Path(f"{path}.{fact}") for fact in FACTS)):
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(each)


def _anything_sent(begun_run: BatchRun) -> bool:
    return any(entry is not None and (entry.task_id or not entry.refused) for entry in begun_run.entries())


def _is_settled(begun_run: BatchRun, once: bool, wait_policy: WaitPolicy) -> bool:
    """Is the run over for its callers: each task waited for by itself, and reported; or what they were promised kept, and
    each task ended? That is asked of Globus. With `once` its outcome is to be repeated, so it is reported first."""
    entries = begun_run.entries()
    known = [entry for entry in entries if entry is not None]
    if len(known) == len(entries) and all(entry.finished and entry.reported for entry in known):
        return True
    if not begun_run.kept or begun_run.once or once:
        return False
    looked = tasks.ended(entries, wait_policy)
    if looked is None:
        return False
    states = sorted({looked[entry.task_id].name if entry.task_id in looked else entry.state for entry in known})
    when = units.human_duration(max(0.0, time.time() - begun_run.created))
    count = units.counted(len(known), "task")
    log.say(f"The last run of this batch, {when} ago, has ended ({count}: {', '.join(states)}). Starting a new one.")
    return True


def _highest(key: str) -> int:
    """The highest number that a round of the key has had, damaged ones included; 0 if there is none."""
    numbers = [name.partition(".")[0] for name in _names(key)]
    return max((int(number) for number in numbers if number.isdigit()), default=0)


def _numbers(key: str) -> list[int]:
    return [int(name) for name in _names(key) if name.isdigit()]


def _names(key: str) -> list[str]:
    """The names of the files of a key, without it: a number, and of a fact what it is."""
    return [name[len(key) + 1 :] for name in files.names(directory()) if name.startswith(f"{key}.")]
