"""Check the collections and paths that a job script or profile needs."""

from __future__ import annotations

import json
import os
import posixpath
import shlex
import uuid
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from globuswrap.collections import mounts, names, resolve
from globuswrap.collections.address import Address
from globuswrap.collections.kinds import Kinds, parent_of
from globuswrap.doctor import login
from globuswrap.doctor.finding import Finding, Say, failure, of_problem, ok, warning
from globuswrap.doctor.login import Session
from globuswrap.errors import HELD, REFUSED, TRY_LATER, USAGE, LoginNeeded, Problem
from globuswrap.globus import verbs
from globuswrap.globus.errors import NotFound
from globuswrap.staging import directives
from globuswrap.staging.plan import STAGE_IN, Plan
from globuswrap.syncs.profile import Profile
from globuswrap.system import files, log
from globuswrap.system.together import map_concurrently
from globuswrap.transfers import operations
from globuswrap.transfers import request as requests
from globuswrap.transfers.options import Options
from globuswrap.transfers.wait import WaitPolicy

SOURCE = "source"  # has to be there
DESTINATION = "destination"  # has to be writable
ANY = "collection"  # only has to answer

#: Directories that the probe of a destination makes begin so.
PROBE = ".globuswrap-doctor-"
#: How long a probe may take to be removed again.
_REMOVAL = 60.0
_NOT_YET = "\ue000"


@dataclass(frozen=True)
class Place:
    """A path that is needed. `said` is where it is said (`job.sh:3`). `whole` is False when only the directory above is
    known, since the rest has the job's id in it."""

    address: Address
    role: str
    said: str
    whole: bool = True


def of_plan(plan: Plan) -> Iterator[Place]:
    """What the steps of a chain need. A source of stage-out is made by the job: only its collection has to answer."""
    name = os.path.basename(plan.script)
    for step in plan.steps:
        said = f"{log.printable(name)}:{step.line}"
        first = SOURCE if step.kind == STAGE_IN else ANY
        for template, role in ((step.source, first), (step.destination, DESTINATION)):
            if template:
                address, whole = _known(template, plan)
                yield Place(address, role, said, whole)


def _known(template: str, plan: Plan) -> tuple[Address, bool]:
    """The address, as far down as it can be known before the job has an id."""
    values = {"u": plan.user, "d": plan.cwd, **dict.fromkeys("jaAx", _NOT_YET)}
    text = directives.expand(template, values)
    known, cut, _ = text.partition(_NOT_YET)
    if cut:
        known = known.rpartition("/")[0] + "/"
    return resolve.address(known), not cut


def of_profile(profile: Profile) -> Iterator[Place]:
    said = f"[sync.{profile.name}]"
    for address, role in ((profile.source, SOURCE), (profile.destination, DESTINATION)):
        yield Place(replace(address, path=address.path.rstrip("/") + "/"), role, said)  # a run takes directories only


def of_names() -> Iterator[Place]:
    """Every named collection: where it is mounted, else its default directory (`/~/`, Transfer documentation, "Paths")."""
    for named in names.known().values():
        path = next(iter(named.mounted.values()), "/~/")
        yield Place(Address(named.id, path, named.name), ANY, named.name)


def first_of_each(places: Iterable[Place]) -> dict[str, Place]:
    """The first place on each collection, by the collection's id."""
    firsts: dict[str, Place] = {}
    for place in places:
        firsts.setdefault(place.address.collection, place)
    return firsts


def look(
    places: Iterable[Place], session: Session, until: float | None, say: Say, *, write: bool, mounts: bool
) -> Iterator[Finding]:
    """Each collection once, then each path once. `until`: seconds since the epoch that the session has to last. With
    `write`, a directory is made and removed at each destination; with `mounts`, local directories are compared."""
    wanted = list(places)
    usable: set[str] = set()
    firsts = first_of_each(wanted)
    say(f"collections {', '.join(place.address.name or key for key, place in firsts.items())}")
    looked = map_concurrently(lambda place: list(collection(place, session, until)), firsts.values())
    for collection_id, found in zip(firsts, looked, strict=True):
        yield from found
        if all(finding.code == 0 or finding.name == "session-ends-first" for finding in found):
            usable.add(collection_id)
    probed: set[tuple[str, str]] = set()
    say("paths")
    kinds = Kinds(_asked(place) for place in wanted if place.address.collection in usable)
    troubled: set[str] = set()
    for place in dict.fromkeys(wanted):
        if place.address.collection not in usable:
            continue
        say(place.address.shown)
        try:
            found = list(_path(place, kinds, probed, write=write))
        except Problem as problem:
            found = [_unusable(problem, place)]
        yield from found
        if any(finding.code != 0 for finding in found):
            troubled.add(place.address.collection)
        if any(_of_whole_collection(finding) for finding in found):
            usable.discard(place.address.collection)
    if mounts:
        say("local directories")
        for found in map_concurrently(lambda collection_id: list(_mounts(collection_id)), sorted(usable - troubled)):
            yield from found


def _of_whole_collection(finding: Finding) -> bool:
    """Whether the finding holds for all paths of its collection: it need not be said for each."""
    return finding.code in (LoginNeeded.exit_code, HELD, TRY_LATER)


def collection(place: Place, session: Session, until: float | None) -> Iterator[Finding]:
    """Whether the collection of a place is there, not paused, and takes this login, until a time (None: now)."""
    name = place.address.collection_shown
    try:
        document = verbs.collection(place.address.collection, 0.0)
        rules = _pause_rules(place.address.collection)
    except NotFound as problem:
        remedy = "look the collection up: globuswrap collection search 'PART OF ITS NAME'"
        what = f"{place.said}: there is no collection {name} ({place.address.collection})"
        yield failure(
            "no-such-collection", what, "Globus refuses any transfer to or from it", remedy, problem.exit_code
        )
        return
    except Problem as problem:
        yield of_problem(problem, where=f"{place.said}: {name}")
        return
    yield from judged(name, document, rules)
    limit = login.limit_of(document)
    if limit is not None:
        yield login.lasts(session, name, limit, until)


def _pause_rules(collection_id: str) -> list[Mapping[str, Any]]:
    try:
        return verbs.pause_rules(collection_id)
    except LoginNeeded:
        raise
    except Problem as problem:
        if problem.exit_code == TRY_LATER:
            raise
        return []  # an older service, or no right to see them: tasks will tell


def judged(name: str, document: Mapping[str, Any], rules: Iterable[Mapping[str, Any]]) -> list[Finding]:
    """What Transfer's own documents say about a collection. Pure."""
    found = []
    for rule in rules:
        if rule.get("pause_task_transfer_read") or rule.get("pause_task_transfer_write"):
            found.append(_paused(name, " ".join(str(rule.get("message") or "no reason is given").split())))
    if document.get("gcp_paused"):
        found.append(_paused(name, "its Globus Connect Personal is paused"))
    elif document.get("gcp_connected") is False:
        found.append(_disconnected(name))
    if document.get("non_functional"):
        what, why = f"{name} is marked as nonfunctional", "a transfer to or from it is refused"
        found.append(failure("collection-broken", what, why, "ask the manager of the collection", REFUSED))
    return found or [ok("collection", f"{name} exists and is not paused")]


def _paused(name: str, message: str) -> Finding:
    why = "transfers are accepted, and wait until the pause is lifted: a job would wait with them"
    remedy = "wait, or ask its manager; then check again: globuswrap doctor"
    return failure("collection-paused", f"{name} is paused: {message}", why, remedy, HELD)


def _disconnected(name: str) -> Finding:
    why = "transfers wait until that machine is connected, and fail after a day"
    remedy = "on that machine: globusconnectpersonal -start"
    return failure("collection-disconnected", f"{name} is not connected", why, remedy, REFUSED)


def _unusable(problem: Problem, place: Place) -> Finding:
    """A finding from a refused stat or mkdir, by the service's code."""
    code, name = problem.code, place.address.collection_shown
    if code == "OperationPaused" or code.endswith(("PausedByAdmin", "GCPaused")):
        return _paused(name, problem.cause.removeprefix(f"{code}: "))
    if code.endswith("GCDisconnected"):
        return _disconnected(name)
    if code.endswith("PermissionDenied") and not isinstance(problem, LoginNeeded):
        what = f"{place.said}: {place.address.shown}: permission denied"
        why = (
            "a task would be retried there until its deadline"
            if place.role == SOURCE
            else "nothing can be written there"
        )
        remedy = "ask the manager of the collection for access, or check the account: globus whoami"
        return failure("permission-denied", what, why, remedy, REFUSED)
    return of_problem(problem, where=f"{place.said}: {place.address.shown}")


def _only_answers(place: Place) -> bool:
    """Whether no more is asked of a place than that its collection answers."""
    return place.role == ANY or (not place.whole and place.role == SOURCE)


def _asked(place: Place) -> Address:
    """The address that tells most about a place."""
    address = place.address
    return replace(address, path="/~/") if _only_answers(place) and place.said != address.name else address


def _path(place: Place, kinds: Kinds, probed: set[tuple[str, str]], *, write: bool) -> Iterator[Finding]:
    address, kind = place.address, kinds.of(_asked(place))
    if _only_answers(place):
        yield ok("path", f"{place.said}: {address.collection_shown} answers")
        return
    if place.role == SOURCE:
        if kind is None:
            why = "the transfer would retry until its deadline, and the job would wait with it"
            remedy = f"check the path: globus ls {shlex.quote(str(parent_of(address)))}"
            yield failure("source-missing", f"{place.said}: {address.shown} does not exist", why, remedy, USAGE)
        elif kind != "dir" and address.path.endswith("/"):
            why = "the transfer would expect a directory"
            what = f"{place.said}: {address.shown} is a {kind}, not a directory"
            yield failure("source-not-directory", what, why, "name a directory, or remove the last /", USAGE)
        else:
            yield ok("source", f"{place.said}: {address.shown} exists")
        return
    above, there = address, kind
    while there is None and parent_of(above).path != above.path:
        above = parent_of(above)
        there = kinds.of(above)
    if there is not None and there != "dir":
        if above == address and not address.path.endswith("/"):
            yield ok("destination", f"{place.said}: {address.shown} is a file and would be overwritten")
            return
        why = "nothing can be written below a file"
        what = f"{place.said}: {above.shown} is a {there}, not a directory"
        yield failure("destination-not-directory", what, why, "name a directory, or move the file away", USAGE)
        return
    if kind is None and above == address and not address.path.endswith("/"):
        above = parent_of(address)
    key = (above.collection, above.path)
    if write and key not in probed:
        probed.add(key)
        yield from _probe(place, above)
    else:
        yield ok("destination", f"{place.said}: {above.shown} exists")


# --- the probe of a destination ---------------------------------------------------------------------------------------


def _probe(place: Place, directory: Address) -> Iterator[Finding]:
    """Make a directory and remove it. What a killed run leaves behind is noted first, and removed by the next one."""
    probe = directory.joined(f"{PROBE}{uuid.uuid4().hex[:12]}")
    note = _note(probe)
    try:
        verbs.mkdir(str(probe), 0.0)
    except Problem as problem:
        note.unlink(missing_ok=True)
        yield _not_writable(problem, place, directory)
        return
    seen = _seen_here(probe)
    left = _removed(probe)
    if left is not None:
        yield left
    else:
        note.unlink(missing_ok=True)
    yield ok("destination", f"{place.said}: {directory.shown} is writable")
    yield from seen


def _not_writable(problem: Problem, place: Place, directory: Address) -> Finding:
    shown = f"{place.said}: {directory.shown}"
    why = "the results could not be written there; the task would be retried until its deadline"
    room = "free some space there"
    if problem.code.endswith("QuotaExceeded"):
        return failure("destination-over-quota", f"{shown}: the quota is exceeded", why, room, REFUSED)
    if problem.code.endswith("NoSpaceLeft"):
        return failure("destination-full", f"{shown}: the disk is full", why, room, REFUSED)
    if problem.code.endswith("PermissionDenied"):
        remedy = f"choose one of your own directories, or ask the owner: globus ls -l {shlex.quote(str(directory))}"
        return failure("destination-not-writable", f"{shown} is not writable", why, remedy, REFUSED)
    return _unusable(problem, place)


def _seen_here(probe: Address) -> list[Finding]:
    """Whether what was made on the collection is seen in the local directory that is said to be the same."""
    try:
        local = mounts.to_local(probe)
    except Problem:
        return []
    above = os.path.dirname(local)
    if not os.path.isdir(above) or os.path.isdir(local):
        return []
    return [_differs(above, Address(probe.collection, posixpath.dirname(probe.path) or "/", probe.name))]


def _differs(local: str, address: Address) -> Finding:
    why = "local paths would mean other files at Globus"
    remedy = f"correct `mounted` of {address.collection_shown}: globuswrap collection list"
    return failure("mapping-differs", f"{local} here is not {address.shown}", why, remedy, USAGE)


def _removed(probe: Address) -> Finding | None:
    try:
        request = requests.delete([probe], recursive=True, options=Options(ignore_missing=True), label=requests.PROBES)
        ended = operations.perform(request, wait=WaitPolicy(timeout=_REMOVAL, fault_grace=_REMOVAL / 2))
        if ended.exit_code == 0:
            return None
        cause = ended.outcome.cause if ended.outcome is not None else ""
    except Problem as problem:
        cause = problem.cause
    remedy = f"globus rm --recursive {shlex.quote(str(probe))}"
    what = f"{probe.shown}, which was made to test writing, is not removed yet: {cause}"
    return warning("probe-left", what, "an empty directory is left there", remedy)


def _notes() -> Path:
    return files.state_dir() / "doctor"


def _note(probe: Address) -> Path:
    path = files.private_directory(_notes()) / f"{posixpath.basename(probe.path)}.json"
    files.write_atomic(path, json.dumps({"collection": probe.collection, "path": probe.path}))
    return path


def removed_probes() -> Iterator[Finding]:
    """Remove what earlier runs that were killed have left behind."""
    for note in sorted(_notes().glob(f"{PROBE}*.json")):
        try:
            known = json.loads(note.read_text("utf-8"))
            probe = Address(str(known["collection"]), str(known["path"]))
        except (OSError, ValueError, KeyError, TypeError):
            probe = None
        left = None
        if probe is not None and posixpath.basename(probe.path).startswith(PROBE):
            left = _removed(probe)
            yield left or ok("probe", f"{probe.shown}, left by an earlier run, was removed")
        if left is None:
            note.unlink(missing_ok=True)


# --- local directories ------------------------------------------------------------------------------------------------


def _mounts(collection_id: str) -> Iterator[Finding]:
    for named in names.known().values():
        if named.id != collection_id:
            continue
        for local, remote in list(named.mounted.items())[:3]:
            yield from _mount(local, Address(named.id, remote, named.name))


def _mount(local: str, address: Address) -> Iterator[Finding]:
    """Whether a local directory and a collection path hold the same, judging by one entry."""
    if not os.path.isdir(local):
        why = f"local paths below it are translated to paths on {address.name}, where they do not exist"
        yield warning(
            "mount-missing", f"{local}, configured as the mount of {address.shown}, does not exist", why,
            f"mount it, or correct `mounted` of {address.name}",
        )  # fmt: skip
        return
    entry = _an_entry(local)
    if entry is None:
        yield ok("mapping", f"{local} is {address.shown}, as far as an empty directory can show")
        return
    try:
        there = verbs.kind(str(address.joined(entry)), 0.0)
    except Problem as problem:
        yield warning("mapping-unknown", f"{local} could not be compared: {problem.cause}", "", problem.remedy)
        return
    if there is None and os.path.lexists(os.path.join(local, entry)):
        yield _differs(local, address)
    else:
        yield ok("mapping", f"{local} is {address.shown}, judging by {log.printable(entry)}")


def _an_entry(local: str) -> str | None:
    """Some entry that Globus can name; links may lead out of a collection, so they are no evidence."""
    try:
        with os.scandir(local) as entries:
            for entry in entries:
                good = entry.name.isprintable() and not entry.is_symlink()
                if good and entry.name.encode("utf-8", "surrogateescape").decode("utf-8", "replace") == entry.name:
                    return entry.name
    except OSError:
        return None
    return None
