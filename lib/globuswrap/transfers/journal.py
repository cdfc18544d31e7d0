"""Record submissions on disk: which attempt of a request has which submission id, and how it ended.

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

What finds an entry without reading the journal, however long that is:

    tasks/<id>.<key>.<attempt> an empty file, made before the fact that names the task: what it names is read, so one too many
                               (its maker was killed before it wrote the fact) finds nothing, and none is ever missing
    places/                    such files too, by collection and path, made before the claim (`transfers.places`)
    survey                     by directory, what was unsettled in it when it last changed (`_survey`); not needed

A claim that is damaged is set aside as `<key>.<attempt>.damaged`; its number is not used again. The attempt after it
`replaces` it: it has the facts of the damaged one, and where none of them names the task, it looks for that before it sends.
A claim of another version is refused (system.records): it may say that this must never run again.

What the file system has to guarantee, on one host or on many that share the directory: link(2) and rename(2) are atomic;
a file that is opened by name after its link was made is read with the content that was fsynced before it (close-to-open,
as NFS gives). Over NFS a lost reply makes a successful link look like EEXIST: the link count decides.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import re
import socket
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence, Set
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, TypeVar

from globuswrap.errors import Refused
from globuswrap.system import files, log, records
from globuswrap.system.records import Damaged
from globuswrap.transfers import places, receipt
from globuswrap.transfers.places import Pair, Place

Read = TypeVar("Read")

SCHEMA = "globuswrap.submission/1"
FACTS = ("task", "refused", "lapsed", "receipt", "answered", "awaited", "reported")

#: How long a submission id is good for resending is not documented: after this an intent is looked for by its label.
RESEND_WITHIN = 7 * 86400.0
KEEP_FINISHED = 90 * 86400.0


@dataclass(frozen=True, kw_only=True)
class Summary:
    """A request in short. `items` counts them, `examples` shows a few, all of them are in the directories `within`, if that is
    known."""

    digest: str
    label: str
    kind: str
    source: str
    destination: str | None
    items: int
    examples: tuple[tuple[str, str | None], ...]
    within: tuple[str, str | None] | None = None

    def summary(self) -> dict[str, Any]:
        return {each.name: getattr(self, each.name) for each in fields(Summary)}


@dataclass(frozen=True, kw_only=True)
class Claim(Summary):
    """An attempt at a request. `created` is seconds since the epoch. `awaited`: its first caller was promised the outcome.
    `replaces`: so many attempts right before it have damaged claims."""

    key: str
    attempt: int
    submission_id: str
    created: float
    host: str
    name: str | None = None
    once: bool = False
    chain: str | None = None
    awaited: bool = False
    replaces: int = 0
    schema: str = SCHEMA

    @property
    def pairs(self) -> Sequence[Pair]:
        """What is read, written or deleted, and where it goes (`places.pairs_of`)."""
        return places.pairs_of(self.items, self.examples, self.within)

    @property
    def places(self) -> Iterator[Place]:
        return places.of_pairs(self.source, self.destination, self.pairs)


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


def _shard(key: str) -> Path:
    return directory() / key[:2]


def claim(new: Claim) -> Entry:
    """Take an attempt, or read who has it: the entry returned is the one whose submission id is to be sent.

    Durable before it returns. Raises OSError if the state directory cannot be written (nothing was submitted then).
    """
    shard = files.private_directory(_shard(new.key))
    final = shard / f"{new.key}.{new.attempt}"
    places.mark(new.places, final.name)
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
    if fact == "answered" and entry.awaited:
        return entry  # no promise of it: so the names of the facts tell which entries are settled
    if fact == "task":
        files.mark([_task_mark(str(content.get("task_id")), entry.path)])
    if fact == "receipt":
        places.mark(places.of_list(content, entry.claim.places), entry.path.name)
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
    shard = _shard(key)
    return max((_number(name) for name in files.names(shard) if name.startswith(f"{key}.")), default=0)


def _attempts(key: str) -> list[Path]:
    shard = _shard(key)
    mine = [name for name in files.names(shard) if name.startswith(f"{key}.") and name.count(".") == 1]
    return [shard / name for name in sorted(mine, key=_number)]


def _number(name: str) -> int:
    number = name.split(".")[1] if "." in name else ""
    return int(number) if number.isdigit() else 0


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
        within = None if claimed.within is None else (claimed.within[0], claimed.within[1])
        uuid.UUID(claimed.submission_id)
    except (ValueError, TypeError, AttributeError) as error:
        _set_aside(path, str(error))
        return None
    return _with_facts(replace(claimed, examples=examples, within=within), path)


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
    name = f"{path}.{fact}"
    if not os.path.lexists(name):  # most are not there, and an attempt to open costs ten times as much
        return None
    file = Path(name)
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


def entries(since: float = 0.0) -> Iterator[Entry]:
    """Every attempt in the journal, claimed after `since` (epoch seconds), that this version can read, in no order; the others
    are said."""
    found = _readable(_claims() if not since else _touched(since))
    return (entry for entry in found if entry.claim.created >= since)


#: How far the clock of a file server may be behind this machine's.
_CLOCKS_APART = 3600.0


def _touched(since: float) -> Iterator[Path]:
    """The claims that may be as young: no file is older than what it holds, but it may be looked at later."""
    for path in _claims():
        with contextlib.suppress(FileNotFoundError):
            if path.stat().st_mtime >= since - _CLOCKS_APART:
                yield path


def unsettled() -> Iterator[Entry]:
    """Those that are not finished, or whose promise is not kept. It costs what is unsettled, not what ever was."""
    paths = (directory() / shard / name for shard, seen in _survey().items() for name in seen.unsettled)
    return (entry for entry in _readable(paths) if not entry.finished or not entry.kept)


def _readable(paths: Iterable[Path]) -> Iterator[Entry]:
    return _said(paths, read)


def _said(paths: Iterable[Path], read: Callable[[Path], Read | None]) -> Iterator[Read]:
    """What can be read of these paths; what this version cannot read is said."""
    for path in paths:
        try:
            found = read(path)
        except Refused as problem:
            log.say(f"journal: {problem.cause}; this record is ignored", 0)
            continue
        if found is not None:
            yield found


def _receipt(path: Path) -> dict[str, Any] | None:
    return _fact(path, "receipt")


def of_mark(name: str) -> tuple[Entry | None, dict[str, Any] | None]:
    """The entry that a mark names, `<key>.<attempt>`, and its receipt, which may be there without it: its claim is damaged."""
    entry = _named(name)
    return entry, entry.receipt if entry is not None else next(_said([_shard(name) / name], _receipt), None)


def _shards() -> Iterator[Path]:
    return (directory() / name for name in sorted(files.names(directory())) if len(name) == 2)


def _claims() -> Iterator[Path]:
    return (shard / name for shard in _shards() for name in files.names(shard) if _is_claim(name))


def _is_claim(name: str) -> bool:
    key, _, number = name.partition(".")
    return number.isdigit() and len(key) == 40


@dataclass(frozen=True)
class _Seen:
    """What a directory of the journal has beside entries that are settled. `stamp` is its identity and age at that moment."""

    stamp: list[int]
    unsettled: list[str]
    damaged: list[str]


#: No file system tells two changes of a directory apart that are closer than its clock, of which the coarsest has 2 s.
_CLOCK = 2 * 10**9


def _survey() -> dict[str, _Seen]:
    """By directory, its unsettled and damaged entries, by the names of their facts alone. What was seen is remembered until
    the directory changes: a name that comes or goes changes its times. One that has changed just now may change again within
    the same tick of the clock, so it is not remembered yet."""
    memory = directory() / "survey"
    try:
        known = {shard: _Seen(*seen) for shard, seen in json.loads(memory.read_bytes()).items()}
    except (OSError, ValueError, TypeError, AttributeError):
        known = {}
    found: dict[str, _Seen] = {}
    now: int | None = None
    for shard in _shards():
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            status = os.stat(shard)
            stamp = [status.st_ino, status.st_mtime_ns, status.st_ctime_ns]
            seen = known.get(shard.name)
            if seen is None or seen.stamp != stamp:
                now = now or _file_clock()
                seen = _Seen(stamp, *_sorted_out(files.names(shard)))
                if max(stamp[1:]) < now - _CLOCK:
                    known[shard.name] = seen
            found[shard.name] = seen
    if now is not None:
        with contextlib.suppress(OSError):  # read only: then it is seen anew each time
            files.write_atomic(memory, json.dumps({shard: list(vars(seen).values()) for shard, seen in known.items()}))
    return found


def _file_clock() -> int:
    """The time of the file system, which may be another machine's (nanoseconds); 0 if nothing can be written there."""
    try:
        temporary = files.write_temporary(directory(), "")
    except OSError:
        return 0
    try:
        return os.stat(temporary).st_ctime_ns
    finally:
        os.unlink(temporary)


def _sorted_out(names: Iterable[str]) -> tuple[list[str], list[str]]:
    """The claims among these names whose facts do not say that they are settled, and what was set aside."""
    facts: dict[tuple[str, str], set[str]] = {}
    damaged: list[str] = []
    for name in names:
        key, _, rest = name.partition(".")
        number, _, fact = rest.partition(".")
        if len(key) == 40 and number.isdigit():
            facts.setdefault((key, number), set()).add(fact)
        if fact.endswith("damaged"):
            damaged.append(name)
    inherited = {key for (key, _), has in facts.items() if "" not in has}  # another attempt has these facts: it is read
    claims = ((key, number, has) for (key, number), has in facts.items() if "" in has)
    return [f"{key}.{number}" for key, number, has in claims if key in inherited or not _settled(has)], damaged


def _settled(facts: set[str]) -> bool:
    """Do these facts make `Entry.finished` and `Entry.kept`? False if it takes reading them."""
    finished = "receipt" in facts or ("lapsed" in facts and "task" not in facts)
    return finished and ("reported" in facts or ("answered" in facts and "awaited" not in facts))


def by_task(task_id: str) -> Entry | None:
    """An entry with this task."""
    mark = _task_mark(task_id, Path())
    for name in files.names(mark.parent):
        if name.startswith(mark.name):
            named = _named(name[len(mark.name) :])
            if named is not None and named.task_id == task_id:
                return named
    return None


def task_ids(prefix: str) -> list[str]:
    """The ids of tasks in the journal that begin so; at least two letters. It reads names, not entries."""
    marks = files.names(_task_mark(prefix, Path()).parent)
    return sorted({name.rsplit(".", 2)[0] for name in marks if name.startswith(prefix)})


def claimed_names() -> set[str]:
    """Every name under which an attempt was claimed: `--key`, or what a batch, chain or sync calls its task. Reads all claims."""
    return {str(found.get("name") or "") for found in _said(_claims(), _load)}


def _named(name: str) -> Entry | None:
    """The entry that a mark names; what was claimed in place of a damaged attempt has its facts."""
    key, _, number = name.partition(".")
    after = (path for path in _attempts(key) if _number(path.name) > int(number))
    return next(_readable(itertools.chain([_shard(key) / name], after)), None)


def _task_mark(task_id: str, entry: Path) -> Path:
    name = re.sub(r"[^\w-]", "_", task_id)
    return directory() / "tasks" / name[:2] / f"{name}.{entry.name}"


def damaged() -> list[Path]:
    """Entries that were set aside."""
    return [directory() / shard / name for shard, seen in _survey().items() for name in seen.damaged]


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
    removed: set[str] = set()
    count = 0
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
            for number in range(entry.claim.attempt - entry.claim.replaces, entry.claim.attempt + 1):
                name = f"{entry.claim.key}.{number}"
                _remove_facts(name)
                removed.add(name)
            count += 1
    _finish_pruning(removed, limit)
    return count


def _finish_pruning(removed: Set[str], limit: float) -> None:
    """Remove the marks of what was removed, and what a prune that was killed has left: facts and marks of a claim that is
    gone, not damaged. The marks last: by them, what a kill has left is found again."""
    kept = {
        name.partition(".")[0]
        for shard in _shards()
        for name in files.names(shard)
        if _is_claim(name) or name.endswith(".damaged")
    }
    left: dict[str, list[str]] = {}
    for name, mark in _marks():
        if name in removed or name.partition(".")[0] not in kept:
            left.setdefault(name, []).append(mark)
    for name, marks in left.items():
        with contextlib.suppress(FileNotFoundError):
            # A mark that is not old may be that of a claim which is just being made.
            if name in removed or all(os.stat(mark).st_mtime < limit for mark in marks):
                _remove_facts(name)
                for mark in marks:
                    os.unlink(mark)


def _remove_facts(name: str) -> None:
    for fact in (*FACTS, "fault"):
        (_shard(name) / f"{name}.{fact}").unlink(missing_ok=True)


def _marks() -> Iterator[tuple[str, str]]:
    """Each mark of a task or a place, with the entry that it names."""
    for root in (directory() / "tasks", places.directory()):
        for shard in files.names(root):
            for name in files.names(root / shard):
                yield ".".join(name.rsplit(".", 2)[1:]), f"{root}/{shard}/{name}"
