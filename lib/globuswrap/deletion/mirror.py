"""Decide what a sync may delete at its destination: what it sent there, unchanged and not needed by anyone else.

`as_sent` is the rule, and pure; `examine` gathers what it decides from, right before the deletion is submitted.
"""

from __future__ import annotations

import posixpath
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from globuswrap.deletion import announcements, uses
from globuswrap.deletion.announcements import Announcement
from globuswrap.deletion.judge import Lister, Seen, used
from globuswrap.deletion.storage import Probes, probing
from globuswrap.errors import Refused

#: What the owners of uses are called that are syncs: a mirror of a mirror deletes in turn.
SYNC = "sync "


@dataclass(frozen=True)
class Sent:
    """A file as it was sent, with its time: `modified` is whole seconds since the epoch, `size` bytes (of a link: its own)."""

    size: int
    modified: int
    link: bool = False


def as_sent(sent: Sent, seen: Seen) -> str:
    """Why an entry of the destination is not what was sent there; empty if it is.

    The time of a symbolic link is not kept, so that for a link only its length counts.
    """
    if seen.kind != ("link" if sent.link else "file"):
        return f"is a {seen.kind} now"
    if seen.size != sent.size:
        return f"has another size than was sent: {seen.size} instead of {sent.size} bytes"
    if not sent.link and not 0 <= seen.modified - sent.modified < 1:
        return "has another modification time than was sent"
    return ""


@dataclass
class Examined:
    """What may be deleted; what is at the destination no more; what is the copy that another deletion relies on, and so is never
    to be deleted by a sync; what a live chain uses, and so has to wait; and what is kept, with the reason."""

    deleted: list[str] = field(default_factory=list)
    absent: list[str] = field(default_factory=list)
    relied_on: list[str] = field(default_factory=list)
    used: list[str] = field(default_factory=list)
    kept: dict[str, str] = field(default_factory=dict)


def examine(
    collection: str,
    sent: Mapping[str, Sent],
    lister: Lister,
    mine: Announcement | None,
    progress: Callable[[], None] = lambda: None,
) -> Examined:
    """Look at files of a collection that a sync sent there. `mine` announces their deletion; None for a rehearsal, which makes
    no probes.

    A directory that cannot be listed keeps its files; login and a Globus that cannot be reached raise.
    """
    found = Examined()
    live = [each for each in uses.live() if not each.owner.startswith(SYNC)]
    by_directory: dict[str, list[str]] = {}
    with probing() as probes:
        relied = _relied_on(mine, probes)
        for path in sent:
            if path in relied:
                found.relied_on.append(path)
            elif used((collection, path), live) or (mine is not None and probes.used((collection, path), live)):
                found.used.append(path)
            else:
                by_directory.setdefault(posixpath.dirname(path), []).append(path)
    for directory, paths in by_directory.items():
        progress()
        try:
            entries = lister(collection, directory) or {}
        except Refused as problem:
            found.kept.update({path: f"cannot be read: {problem.cause}" for path in paths})
            continue
        for path in paths:
            seen = entries.get(posixpath.basename(path))
            why = as_sent(sent[path], seen) if seen is not None else ""
            if seen is None:
                found.absent.append(path)
            elif why:
                found.kept[path] = why
            else:
                found.deleted.append(path)
    return found


def _relied_on(mine: Announcement | None, probes: Probes) -> set[str]:
    """My paths that are the copy that another deletion relies on, by whatever name."""
    if mine is None:
        return set()
    conflicts = announcements.conflicts(mine, lambda copy, doomed: probes.same(doomed, copy) is not False)
    return {path for each in conflicts for path in each.paths}
