"""Detect when two names mean one file: two collections may serve the same storage, and links may lead to it.

Where both are mounted here on one device, their inodes say so. Otherwise a probe does: a directory with a name that nobody else
has is made beside the file that is to be deleted, and looked for beside the other copy. By its name, not in a listing:
a file server that caches listings shows a new name late. It is removed afterwards.
"""

from __future__ import annotations

import contextlib
import os
import posixpath
import uuid
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from globuswrap.collections import mounts
from globuswrap.collections.address import Address
from globuswrap.deletion.uses import Use
from globuswrap.errors import Problem, Refused, UsageProblem
from globuswrap.globus import verbs
from globuswrap.system import log
from globuswrap.transfers import operations
from globuswrap.transfers import request as requests
from globuswrap.transfers.options import Options
from globuswrap.transfers.places import Place
from globuswrap.transfers.wait import WaitPolicy

PREFIX = ".globuswrap-probe-"


@dataclass
class Probes:
    """The probes of one run: one for each directory, and one answer for each pair of directories."""

    made: dict[Place, str] = field(default_factory=dict)
    ready: set[Place] = field(default_factory=set)
    answers: dict[tuple[Place, Place], bool | None] = field(default_factory=dict)

    def same(self, doomed: Place, copy: Place) -> bool | None:
        """Are these one file? None if it cannot be found out. The probe is made beside `doomed`."""
        (here, name), (there, other) = _split(doomed), _split(copy)
        if name.casefold() != other.casefold():
            return False  # even if it is one directory by two names
        if here == there:
            return True if name == other else None
        known = _one_inode(doomed, copy)
        if known is not None:
            return known
        if (here, there) not in self.answers:
            self.answers[here, there] = self._probe(here, there)
        return self.answers[here, there]

    def used(self, doomed: Place, uses: Iterable[Use]) -> Use | None:
        """Which use on another collection covers this file under another name of its storage, or may; None if none does.

        Two names of one storage are taken to end alike: for `/a/proj/in/x`, another collection's `in` is looked at, and no
        directory that is called otherwise.
        """
        parts = doomed[1].split("/")
        for use in uses:
            top = posixpath.basename(use.path).casefold()
            for number, part in enumerate(parts):
                there = (use.collection, posixpath.join(use.path, *parts[number + 1 :]))
                if use.collection != doomed[0] and part.casefold() == top and self.same(doomed, there) is not False:
                    return use
        return None

    def _probe(self, here: Place, there: Place) -> bool | None:
        log.set_activity(f"checking whether {here[1]} is the same storage as {there[1]}")
        try:
            if here not in self.made:
                self.made[here] = PREFIX + uuid.uuid4().hex  # noted first: one that is interrupted is removed as well
                verbs.mkdir(f"{here[0]}:{posixpath.join(here[1], self.made[here])}")
                self.ready.add(here)
            if here not in self.ready:
                return None
            return verbs.stat(f"{there[0]}:{posixpath.join(there[1], self.made[here])}") is not None
        except Problem as problem:
            if isinstance(problem, Refused) and here not in self.ready:
                del self.made[here]
            log.say(f"cannot tell whether {here[1]} and {there[1]} are the same storage: {problem.cause}", 1)
            return None
        finally:
            log.set_activity("")

    def remove(self) -> None:
        """Remove the probes. What cannot be removed is named."""
        by_collection: dict[str, list[Address]] = {}
        for (collection, directory), name in self.made.items():
            by_collection.setdefault(collection, []).append(Address(collection, posixpath.join(directory, name)))
        self.made.clear()
        for paths in by_collection.values():
            try:
                request = requests.delete(
                    paths, recursive=True, options=Options(ignore_missing=True), label=requests.PROBES
                )
                operations.perform(request, wait=WaitPolicy(timeout=5.0))
            except Problem as problem:
                listed = " ".join(str(each) for each in paths)
                log.say(f"the empty directories {listed} may be left over: {problem.cause}", 0)


@contextlib.contextmanager
def probing() -> Iterator[Probes]:
    """Probes that are removed at the end, also of a run that fails or is interrupted."""
    probes = Probes()
    try:
        yield probes
    finally:
        probes.remove()


def _split(place: Place) -> tuple[Place, str]:
    directory, name = posixpath.split(place[1])
    return (place[0], directory), name


def _one_inode(one: Place, other: Place) -> bool | None:
    """By what is mounted here; None if that does not say. Other devices may be other mounts of the same storage."""
    try:
        here, there = (os.stat(mounts.to_local(Address(*each))) for each in (one, other))
    except (UsageProblem, OSError):
        return None
    return here.st_ino == there.st_ino if here.st_dev == there.st_dev else None
