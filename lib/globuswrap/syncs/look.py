"""Find what is to be sent now: scan the tree, compare it with the manifest, plan the tasks, and say what stands in the way."""

from __future__ import annotations

import os
import shutil
import stat

from globuswrap.errors import Problem, Refused, UsageProblem
from globuswrap.syncs import compare, deleting, manifest, planning
from globuswrap.syncs.compare import Differences, ScanReport
from globuswrap.syncs.context import RunContext
from globuswrap.syncs.manifest import at_or_below
from globuswrap.syncs.profile import Profile
from globuswrap.syncs.state import Run
from globuswrap.system import log, units


def draft_changes(context: RunContext, draft: Run) -> bool:
    """A run of what differs from the manifest; False, and the draft is gone, if nothing is to be sent."""
    keep = False
    try:
        found = find(context, draft)
        if found is None:
            return False
        if found.seen.left_out:
            path, what = found.seen.examples[0]
            context.state.note(f"{found.seen.left_out} skipped, such as {os.fsdecode(path)} ({what})")
        context.state.set_mounts(mounts(context, found))
        if not (found.coming or (context.profile.delete and found.gone)):
            context.state.note(
                f"nothing new; {found.gone} gone files are still at the destination" if found.gone else "nothing new"
            )
            return False
        planned = context.result.planned = plan(context, draft, found)
        forgotten = draft.directory / deleting.FORGOTTEN
        if planned.forgotten:
            manifest.merge(context.state.manifest, manifest.delta_blocks(forgotten), context.state.manifest)
            forgotten.unlink()
        _tell_plan(context, planned, found.gone)
        found.delta.unlink()
        keep = bool(draft.tasks)
        if not keep and (planned.settling or planned.over_limit):
            context.result.outcome = "waiting"
        return keep
    finally:
        if not keep:
            shutil.rmtree(draft.directory, ignore_errors=True)


def find(context: RunContext, draft: Run) -> Differences | None:
    """What differs from the manifest. None, and the result says why, where the source is not what it is meant to be: without its
    check-file, or without files although it had some, and nobody said that it is meant to be empty."""
    if (problem := check_file(context.profile)) is not None:
        if isinstance(problem, UsageProblem):
            raise problem
        context.add_problem(problem)
        return None
    delta = draft.directory / "candidates.delta.gz"
    found = compare.find(context.profile, context.state.manifest, delta, context.renew)
    _tell_unreadable(context, found.seen)
    if found.gone and not found.seen.any_file and not context.options.allow_empty:
        context.add_problem(source_empty(context.profile))
        return None
    return found


def plan(context: RunContext, draft: Run, found: Differences) -> planning.Planned:
    planned = planning.plan(context.profile, context.state, draft, found, context.renew)
    if context.profile.delete and found.gone:
        context.announced = deleting.plan(context, draft, found, planned)
    return planned


def mounts(context: RunContext, found: Differences) -> set[bytes]:
    """The mount points to remember: those of now, and those that are none any more while files below them are gone."""
    seen = found.seen
    lost = context.state.mounts() - seen.mounts
    still = {path for path in lost if seen.is_unknown(path)}
    if lost and found.gone:
        for directory, rows in manifest.delta_blocks(found.delta):
            if any(row[:1] == b"-" and len(row) > 1 for row in rows):
                still |= {path for path in lost if at_or_below(directory[1:], {path})}
    return seen.mounts | still


def _tell_unreadable(context: RunContext, seen: ScanReport) -> None:
    if not seen.unknown:
        return
    path, reason = next(iter(seen.unknown.items()))
    links = context.profile.symlinks == "error" and reason == "is a symbolic link"
    context.add_issue(
        "symbolic-links" if links else "source-partly-unreadable",
        f"{len(seen.unknown)} paths cannot be sent, such as {os.fsdecode(path)!r}: {reason}; the rest is",
        "choose what to do with links: symlinks = skip, follow or keep"
        if links
        else "let this user read them, or exclude them",
    )


def _tell_plan(context: RunContext, planned: planning.Planned, gone: int) -> None:
    context.state.note(
        f"to send {planned.sent} ({units.human_size(planned.size)}), to delete {planned.deleted}, "
        f"still changing {planned.settling}, for the next run {planned.over_limit}"
    )
    if planned.unsendable and not context.profile.skip_unsendable:
        context.add_issue(
            "unsendable-names",
            f"{len(planned.unsendable)} names that Globus cannot handle, such as {planned.unsendable[0]}; the rest is sent",
            "rename them, or set skip-unsendable = true",
        )
    if planned.too_large:
        limit = units.human_size(context.profile.max_bytes_per_day or 0)
        context.add_issue(
            "larger-than-a-day",
            f"{units.counted(len(planned.too_large), 'file')} never sent, since larger than max-bytes-per-day ({limit}), such as "
            f"{planned.too_large[0]!r}",
            "send them by themselves, if the provider allows it: globuswrap transfer",
        )
    if planned.blocked:
        path = planned.blocked[0]
        context.add_issue(
            "kind-changed",
            f"{len(planned.blocked)} files wait, such as {path!r}: a file became a directory or a directory a file, and the "
            "old one is at the destination",
            "they follow when it is deleted: at the next runs with delete = true, else delete it there and then: "
            f"globuswrap sync baseline {context.profile.name} --forget --path PATH",
        )
    if planned.forgotten:
        context.state.note(
            f"{planned.forgotten} files are gone here, and are no longer at the destination or ours to delete"
        )
    if planned.kept:
        path, reason = planned.kept[0]
        context.add_issue(
            "kept-at-destination",
            f"{units.counted(len(planned.kept), 'file')} that are gone at the source stay at the destination, such as "
            f"{context.profile.destination.joined(path).shown!r}: {reason}",
            "delete them there yourself if nobody needs them; to stop tracking one: "
            + log.shell_line(("globuswrap", "sync", "baseline", context.profile.name, "--forget", "--path", path)),
        )
    if planned.deletions_refused:
        confirmation = (
            f"check that everything below {context.profile.local_root} is mounted; if the files are really gone, confirm it "
            f"(of a profile in the configuration): globuswrap sync run {context.profile.name} --max-delete {gone}"
        )
        context.add_issue(
            "nothing-deleted",
            f"nothing was deleted: {planned.deletions_refused}",
            confirmation if planned.unconfirmed else "let this user read the whole source",
        )


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
