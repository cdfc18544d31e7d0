"""Order the items of a batch, such as by their position on the tapes of an archive."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import replace

from globuswrap.batches.normalise import PathBase
from globuswrap.batches.parse import Rows
from globuswrap.batches.spool import END, Load, Spool
from globuswrap.errors import UsageProblem
from globuswrap.system import log, units


def sort(load: Load, source: PathBase, rows: Iterable[Rows]) -> Load:
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
    spool = Spool()
    spool.add([line.decode("ascii") for _, line in ranked])
    return replace(load, spool=spool)


def _source_of(line: bytes) -> str:
    return str(json.loads(line[: -len(END)])["source_path"]).rstrip("/")
