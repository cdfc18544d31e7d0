"""Whether a profile can work, found out without sending anything."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass, replace

from globuswrap.collections.address import Address
from globuswrap.errors import DONE, Problem, Refused, UsageProblem, combined
from globuswrap.globus import command, verbs
from globuswrap.sync import manifest, scan
from globuswrap.sync.compare import ScanReport
from globuswrap.sync.profile import Profile
from globuswrap.sync.state import State
from globuswrap.system import files, locks, log


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at. `code` is the exit code that it will lead to; 0: it is well."""

    what: str
    remedy: str = ""
    code: int = DONE

    @property
    def ok(self) -> bool:
        return self.code == DONE


def exit_code(findings: list[Finding]) -> int:
    return combined(finding.code for finding in findings)


def check(profile: Profile) -> list[Finding]:
    """Look at everything a run needs, cheap things first. Asks Globus about the login and both directories."""
    findings = list(_local(profile)) + list(_state(profile))
    try:
        cli = command.find()
        findings.append(Finding(f"globus {'.'.join(map(str, cli.version))} at {cli.path}"))
        name = verbs.userinfo(retry_for=0.0).get("preferred_username")
        findings.append(Finding(f"logged in as {name or 'a service account'}"))
    except Problem as problem:
        return [*findings, _bad(problem)]
    findings += _remote(profile.source, "source", must_exist=True)
    findings += _remote(profile.destination, "destination", must_exist=False)
    if all(finding.ok for finding in findings):
        findings += _same_tree(profile)
    return findings


def _bad(problem: Problem, what: str = "") -> Finding:
    return Finding(f"{what}{problem.cause} [{problem.name}]", problem.remedy, problem.exit_code)


def _local(profile: Profile) -> Iterator[Finding]:
    if profile.local_root is None:
        yield Finding("no local-root: the service compares both sides itself")
        return
    root = profile.local_root
    try:
        entries = os.listdir(root)
    except OSError as error:
        yield Finding(f"local-root {root}: {error.strerror}", "mount it, or let this user read it", Refused.exit_code)
        return
    yield Finding(f"local-root {root} can be read" + ("" if entries else ", and is empty"))
    problem = check_file(profile)
    if problem is not None:
        yield _bad(problem)
    elif profile.check_file is not None:
        yield Finding(f"check-file {profile.check_file} exists")


def check_file(profile: Profile) -> Problem | None:
    """What is wrong with the check-file; None if there is nothing, or the profile has none.

    UsageProblem if its path can never prove anything: a directory is there also when its file system is not mounted.
    """
    if profile.check_file is None or profile.local_root is None:
        return None
    path = os.path.join(profile.local_root, profile.check_file)
    try:
        mode = os.stat(path).st_mode
    except OSError as error:
        return Refused(
            "check-file-missing",
            f"check-file {profile.check_file} is not at the source: {path}: {error.strerror}; nothing was sent or deleted",
            f"mount the source; or, if it is mounted, make the file: {log.shell_line(('touch', path))}",
        )
    if not stat.S_ISREG(mode):
        return UsageProblem(
            "bad-profile", f"check-file {profile.check_file} is not a regular file: {path}", "name a regular file"
        )
    return None


def source_empty(profile: Profile) -> Refused:
    """The source holds no file, although files of it are known to be at the destination."""
    return Refused(
        "source-empty",
        f"{profile.local_root} holds no files, but files from it are known to be at the destination; nothing was sent or deleted",
        f"mount it; if it is meant to be empty: globuswrap sync run {profile.name} --allow-empty",
    )


def _state(profile: Profile) -> Iterator[Finding]:
    state = State(profile.directory)
    try:
        state.make()
        os.unlink(files.write_temporary(state.directory, b""))
    except OSError as error:
        yield Finding(
            f"state {state.directory}: {error.strerror}",
            "make room, or set XDG_STATE_HOME elsewhere",
            Refused.exit_code,
        )
        return
    holder = locks.holder_of(state.lease)
    yield Finding(f"a run is at work now: {holder.shown}" if holder else "no other run is at work")
    try:
        current = state.current()
        if current is not None:
            entries = [current.entry(task) for task in current.tasks if not task.ended]
            tasks = [(each.task_id if each is not None else None) or "not yet submitted" for each in entries]
            yield Finding(f"the last run is not settled: {', '.join(tasks[:3])}; the next run does it")
        if profile.local_root is not None:
            count = manifest.count(state.manifest)
            yield Finding(f"{count} files are known to be at the destination")
            if count and not _any_file(profile):
                yield _bad(source_empty(profile))
    except Problem as problem:
        yield _bad(problem)


def _any_file(profile: Profile) -> bool:
    """Whether the source holds a file, as a run sees it. What cannot be read is told otherwise."""
    frames = scan.scan(profile.root, replace(profile.scanning, workers=1))
    seen = ScanReport()
    return any(rows or seen.unknown for _, rows in manifest.blocks(seen.texts(frames))) or bool(seen.unknown)


def _remote(address: Address, what: str, must_exist: bool) -> Iterator[Finding]:
    try:
        found = verbs.kind(str(address), 0.0)
    except Problem as problem:
        yield _bad(problem, f"{what} {address.shown}: ")
        return
    if found is None:
        if must_exist:
            yield Finding(
                f"{what} {address.shown}: is not there", f"check the path: globus ls '{address}'", Refused.exit_code
            )
        else:
            yield Finding(f"{what} {address.shown}: is not there yet; the first task makes it")
    elif found != "dir":
        yield Finding(f"{what} {address.shown}: is a {found}, not a directory", "name a directory", Refused.exit_code)
    else:
        yield Finding(f"{what} {address.shown}: a directory that can be looked at")


def _same_tree(profile: Profile) -> Iterator[Finding]:
    """Whether the local root is the source: its first file must be there too, of the same size."""
    if profile.local_root is None:
        return
    for entry in sorted(os.scandir(profile.local_root), key=lambda each: each.name):
        try:
            name = entry.name
            name.encode()
            status = entry.stat(follow_symlinks=False)
        except (OSError, UnicodeEncodeError):
            continue
        if not stat.S_ISREG(status.st_mode):
            continue
        there = profile.source.joined(name)
        try:
            found = verbs.stat(str(there), 0.0)
        except Problem as problem:
            yield _bad(problem, f"{there.shown}: ")
            return
        if found is not None and (found["type"], found.get("size")) == ("file", status.st_size):
            yield Finding(f"local-root and source are the same tree, to judge by {name!r}")
        else:
            yield Finding(
                f"{name!r} of local-root is not at {there.shown}, or differs there",
                "make local-root and source name the same directory",
                Refused.exit_code,
            )
        return
