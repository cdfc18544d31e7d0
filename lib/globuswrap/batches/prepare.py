"""Prepare a batch: any names, any number of items, all checked before the first is sent."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import IO, Any, TypeAlias

from globuswrap.batches import collisions, listing, parse, patterns, run
from globuswrap.batches.ahead import Ids
from globuswrap.batches.collisions import CollisionReport
from globuswrap.batches.listing import Listing
from globuswrap.batches.normalise import Collector, PathBase
from globuswrap.batches.parse import Unsendable
from globuswrap.batches.patterns import Patterns
from globuswrap.batches.run import CHUNK, IN_FLIGHT, BatchResult, Sending, Sent
from globuswrap.batches.spool import END, Load, Spool
from globuswrap.collections import resolve
from globuswrap.collections.address import Address
from globuswrap.errors import UsageProblem
from globuswrap.system import log, units
from globuswrap.transfers import operations
from globuswrap.transfers import request as requests
from globuswrap.transfers import submit as submitting
from globuswrap.transfers.operations import Hooks
from globuswrap.transfers.options import Options
from globuswrap.transfers.request import Item, Request
from globuswrap.transfers.submit import Policy
from globuswrap.transfers.wait import WaitPolicy, Watcher


@dataclass(frozen=True)
class PathList:
    """A list of paths to read: a file, or an open binary one; its format (see `batches.parse`)."""

    file: Path | IO[bytes]
    format: str = "paths"
    null: bool = False


#: What to send: see `batch`.
Items: TypeAlias = Iterable[str | tuple[str, str] | Item] | PathList | Listing | Patterns


@dataclass(frozen=True)
class Choices:
    """How a batch is made. `chunk` items make a task, at most `in_flight` tasks are unfinished at a time. `check` asks for
    every source first; `verify` compares everything by checksum afterwards. `on_collision`: error, first, last, rename. Items
    go in the order of the paths in `order`, by default in that of the list."""

    chunk: int = CHUNK
    in_flight: int = IN_FLIGHT
    on_collision: str = "error"
    skip_unsendable: bool = False
    check: bool = False
    verify: bool = False
    order: PathList | None = None


@dataclass(frozen=True)
class Prepared:
    """A batch that is checked and spooled, and of which nothing is sent: what a dry run shows."""

    loads: tuple[Load, ...]
    unsendable: Unsendable
    collisions: CollisionReport
    choices: Choices = field(default_factory=Choices)

    @property
    def items(self) -> int:
        return sum(load.spool.count for load in self.loads)

    @property
    def tasks(self) -> int:
        return run.count_of(self.loads, self.choices.chunk)

    def first(self, count: int) -> list[tuple[str, str]]:
        """Source and destination of the first items."""
        found: list[tuple[str, str]] = []
        for load in self.loads:
            items = islice(load.spool.items(), count - len(found))
            found.extend((item["source_path"], item["destination_path"]) for item in items)
        return found

    def notes(self) -> dict[str, Any]:
        """What was left out or renamed, as the receipt has it: the counts are whole, the lists are not of more than thousands."""
        renamed = sum(each.became is not None for each in self.collisions.first)
        return {
            "unsendable": dict(vars(self.unsendable)),
            "collisions": {
                "count": self.collisions.count,
                "choice": self.choices.on_collision,
                "renamed": renamed,
                "items": [each.as_data() for each in self.collisions.first],
            },
        }


def batch(
    sources: str | Sequence[str],
    destination: str,
    items: Items,
    *,
    choices: Choices | None = None,
    options: Options | None = None,
    policy: Policy | None = None,
    wait: bool | WaitPolicy = False,
    after: Hooks | None = None,
    watcher: Watcher | None = None,
    **rest: Any,
) -> BatchResult:
    """Transfer many items between a source base (or several) and a destination base, each task exactly once.

    `items` are paths below the bases (the same on both sides), pairs, or Items; a PathList to read; a Listing of what to look
    for; or the Patterns whose bases are the sources. Everything is checked before the first is sent. Returns the result over
    all tasks; run again, an unfinished batch goes on where it stopped. `rest`: label, notify, deadline. Raises UsageProblem
    for what is wrong with the list (nothing was submitted then), and the Problem of any bad end, whose `data` holds the
    receipt.
    """
    ids = Ids(policy.retry_for if policy is not None else None)
    ids.ahead()
    prepared = prepare(sources, destination, items, choices=choices, options=options, **rest)
    return perform(prepared, policy, wait, after, watcher, ids)


def prepare(
    sources: str | Sequence[str],
    destination: str,
    items: Items,
    *,
    choices: Choices | None = None,
    options: Options | None = None,
    **rest: Any,
) -> Prepared:
    """Read, check and spool a batch. Nothing is submitted; only a Listing and `check` ask Globus. Raises UsageProblem."""
    choices = choices or Choices()
    if choices.chunk < 1 or choices.in_flight < 1:
        raise UsageProblem(
            "bad-option", "--chunk and --in-flight must be at least 1", "remove them to use the defaults"
        )
    columns = [_column(each) for each in ([sources] if isinstance(sources, str) else sources)]
    if choices.order is not None and len(columns) > 1:
        raise UsageProblem(
            "bad-option", "--order works only with one source base", "submit a batch for each source base"
        )
    into = _column(destination)
    unsendable = Unsendable()
    collector = Collector(into, unsendable)
    loads: dict[str, Load] = {}
    for column in columns:
        source = column.base.collection
        if source in loads:
            loads[source] = replace(loads[source], within=None)
        else:
            shared = Request(source, into.base.collection, (), options or Options(), **rest)
            # Items are checked by themselves; a request has to have one.
            requests.checked(replace(shared, items=(Item("/a", "/b"),)))
            loads[source] = Load(shared, Spool(), (column.base.path, into.base.path))
    log.set_activity("reading the list")
    for column, rows in _read(items, columns, unsendable):
        collector.add(loads[column.base.collection], column, rows)
        log.set_activity(f"reading the list: {sum(load.spool.count for load in loads.values())} items")
    if unsendable.count and not choices.skip_unsendable:
        raise unsendable.problem()
    log.set_activity("comparing destinations")
    filled = [load for load in loads.values() if load.spool.count]
    kept, found = collisions.settled(filled, collector, choices.on_collision)
    if not kept:
        raise UsageProblem("nothing-to-do", "the list of items is empty", "check how the list was made")
    if choices.order is not None:
        log.set_activity("putting the items in order")
        kept = [_ordered(kept[0], columns[0], _listed(choices.order, Unsendable()))]
    log.set_activity("")
    if choices.check:
        listing.refuse_missing(kept)
    return Prepared(tuple(kept), unsendable, found, choices)


def perform(
    prepared: Prepared,
    policy: Policy | None = None,
    wait: bool | WaitPolicy = False,
    after: Hooks | None = None,
    watcher: Watcher | None = None,
    ids: Ids | None = None,
) -> BatchResult:
    """Submit a prepared batch, and wait if asked (`verify` asks). See `batch`. `ids` may have one asked for already."""
    policy = policy or Policy()
    choices = prepared.choices
    wait_policy = WaitPolicy.of(wait).settled()
    if choices.verify:
        wait_policy = replace(wait_policy, wait=True)
    _say_what_is_left_out(prepared)
    after = after or Hooks()
    promised = replace(policy, awaited=wait_policy.wait or after != Hooks())
    begun_run = run.begin(prepared.loads, promised, choices.chunk, wait_policy)
    known = run.recorded(begun_run, strict=wait_policy.strict)
    if known is not None:
        tasks = (
            f"{units.counted(len(known.task_ids), 'task')}, such as {known.task_ids[0]}"
            if known.task_ids
            else "no task"
        )
        log.say(
            f"This batch was submitted {operations.ago(begun_run.created)} ({tasks}), and --once returns its recorded outcome. "
            "Nothing new was sent."
        )
        return run.conclude(known, begun_run, after)
    sending = Sending(policy, wait_policy, choices.in_flight, None if watcher is None else _over_all(watcher))
    with submitting.recording():
        sent = run.send(begun_run, prepared.loads, sending, ids=ids)
    _say_what_is_not_new(sent)
    with submitting.recording(*sent.submitted):
        return run.settle(sent, sending, after, verify=choices.verify, notes=prepared.notes())


def _column(text: str) -> PathBase:
    local = text.startswith(("/", "./", "../", "~/")) or text in (".", "..")
    address: Address = resolve.address(text)
    return PathBase(address, os.path.abspath(os.path.expanduser(text)) if local else None)


def _read(items: Items, columns: list[PathBase], unsendable: Unsendable) -> Iterator[tuple[PathBase, parse.Rows]]:
    """What to send, by the base that it is below."""
    if isinstance(items, Listing):
        yield from ((column, listing.files(column.base, items, unsendable)) for column in columns)
    elif isinstance(items, Patterns):
        yield from zip(columns, map(patterns.rows, items.each), strict=True)
    else:
        blocks = _listed(items, unsendable) if isinstance(items, PathList) else parse.rows_of(items)
        yield from ((column, rows) for rows in blocks for column in columns)


def _listed(items: PathList, unsendable: Unsendable) -> Iterator[parse.Rows]:
    if isinstance(items.file, Path):
        try:
            with items.file.open("rb") as file:
                yield from parse.read(file, items.format, items.null, unsendable)
        except OSError as error:
            raise UsageProblem("no-list", f"{items.file}: {error.strerror}", "name a file, or - for stdin") from None
    else:
        yield from parse.read(items.file, items.format, items.null, unsendable)


def _ordered(load: Load, source: PathBase, rows: Iterable[parse.Rows]) -> Load:
    """The load with its items in the order of these paths, which are spelled as in a list. An item that is not among them
    goes last, and a path that is no item counts for nothing. UsageProblem if none of the paths is an item."""
    rank: dict[str, int] = {}
    source = replace(source, absolute=None, relative=None)
    for block in rows:
        for path in source.cleaned(block.sources):
            rank.setdefault(source.path(path).rstrip("/"), len(rank))
    last = len(rank)
    ranked = sorted(((rank.get(_source_of(line), last), line) for line in load.spool.lines()), key=lambda each: each[0])
    unranked = sum(place == last for place, _ in ranked)
    if unranked == len(ranked):
        raise UsageProblem(
            "order-matches-nothing",
            f"none of the {units.counted(len(ranked), 'item')} of the batch is in the --order file",
            f"write its paths relative to {source.base.shown}, as in a list",
        )
    if unranked:
        log.say(f"{units.counted(unranked, 'item')} not in the --order file: sent last")
    return replace(load, spool=Spool.of(line for _, line in ranked))


def _source_of(line: bytes) -> str:
    return str(json.loads(line[: -len(END)])["source_path"]).rstrip("/")


def _say_what_is_not_new(sent: Sent) -> None:
    old = [each for each in sent.submitted if each.how != "new"]
    if not old:
        return
    rest = "Nothing new was sent." if len(old) == len(sent.parts) and not sent.unsent else "The rest is sent now."
    log.say(
        f"{len(old)} of {units.counted(len(sent.parts) + sent.unsent, 'task')} of this batch were submitted before, such as "
        f"task {old[0].task_id}, {operations.ago(old[0].entry.submitted)}. {rest}"
    )


def _say_what_is_left_out(prepared: Prepared) -> None:
    if prepared.unsendable.count:
        log.say(f"skipped: {prepared.unsendable.told()}")
    for name in prepared.unsendable.names[:20]:
        log.say(f"  skipped: {name}")
    found = prepared.collisions
    if found.count:
        log.say(
            f"{found.count} items had the same destination as another item: --on-collision {prepared.choices.on_collision}"
        )
    for each in found.first[:20]:
        what = "skipped" if each.became is None else f"goes to {parse.shown(each.became)}"
        log.say(f"  {parse.shown(each.other)}: {what}")


def _over_all(watcher: Watcher) -> Watcher:
    """A watcher that is shown all tasks of the batch so far, also those that are over."""
    documents: dict[str, Any] = {}

    def watch(tasks: Sequence[Any]) -> None:
        documents.update({str(task["task_id"]): task for task in tasks})
        watcher(list(documents.values()))

    return watch
