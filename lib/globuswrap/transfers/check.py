"""Check paths before a request is submitted: a mistyped one costs minutes of faults at Globus, and one call here."""

from __future__ import annotations

import shlex
from dataclasses import replace
from typing import Any

from globuswrap.collections import names
from globuswrap.collections.address import Address
from globuswrap.collections.kinds import Kinds, parent_of
from globuswrap.errors import LoginNeeded, NoGlobus, Problem, Refused, UsageProblem
from globuswrap.globus import verbs
from globuswrap.globus.errors import NotFound
from globuswrap.system import log
from globuswrap.transfers.request import Item, Request

_ANYWAY = "or add --no-check to submit it anyway"
#: Of many, so many are named.
_NAMED = 20


def listed(address: Address) -> list[dict[str, Any]]:
    """The entries of a directory, by name, or the one file. Raises NotFound if nothing is there."""
    rows = verbs.ls(str(address))
    if rows is None:
        found = verbs.stat(str(address))
        if found is None:
            above = replace(address, path=parent_of(address).path)
            remedy = f"list the directory above it: globuswrap ls {shlex.quote(above.shown)}"
            raise NotFound("not-found", f"{address.shown} does not exist", remedy)
        rows = [found]
    return sorted(map(dict, rows), key=lambda each: str(each.get("name")))


def sources(request: Request) -> None:
    """Raise UsageProblem if a source does not exist, or is a directory or a file where the other is meant; Refused if it may
    not be read, and a login problem as it comes. What else keeps Globus from answering is said, and left to the task."""
    name = names.name_of(request.source) or ""
    looked = [(item, Address(request.source, item.source, name)) for item in request.items]
    kinds = Kinds(address for _, address in looked)
    wrong: list[UsageProblem] = []
    for item, address in looked:
        try:
            problem = _judged(request, item, address, kinds.of(address))
        except (LoginNeeded, NoGlobus):
            raise
        except Problem as refused:
            if refused.code.endswith("PermissionDenied"):
                raise Refused(
                    "permission-denied",
                    f"{address.shown}: {refused.cause}; nothing was submitted",
                    f"check which account you use (globus whoami), ask the collection's manager for access, {_ANYWAY}",
                    ran=refused.ran,
                    detail=refused.detail,
                ) from None
            log.say(f"{address.shown} was not checked: {refused.cause}")
            return
        if problem is not None:
            wrong.append(problem)
    if len(wrong) > 1:
        causes = [problem.cause for problem in wrong[:_NAMED]]
        more = [f"and {len(wrong) - _NAMED} more"] if len(wrong) > _NAMED else []
        cause = f"{len(wrong)} of {len(looked)} paths are wrong; nothing was submitted"
        raise UsageProblem("wrong-paths", cause, wrong[0].remedy, detail="\n".join([*causes, *more]))
    if wrong:
        only = wrong[0]
        raise UsageProblem(only.name, f"{only.cause}; nothing was submitted", only.remedy)


def _judged(request: Request, item: Item, address: Address, kind: str | None) -> UsageProblem | None:
    """What is wrong with a path where there is this kind of thing. Pure."""
    deletes = request.destination is None
    tolerant = request.options.ignore_missing if deletes else request.options.skip_source_errors
    if kind is None:
        if tolerant:
            return None
        also = ", add --ignore-missing" if deletes else ""
        remedy = f"check the path (globus ls {shlex.quote(str(parent_of(address)))}){also}, {_ANYWAY}"
        return UsageProblem("source-missing", f"{address.shown} does not exist", remedy)
    if kind == "dir" and (not item.recursive if deletes else item.recursive is False):
        option = (
            "add --recursive to delete it and everything in it"
            if deletes
            else "use --recursive instead of --no-recursive"
        )
        return UsageProblem("is-a-directory", f"{address.shown} is a directory", option)
    if kind == "file" and item.recursive and not deletes:
        return UsageProblem("is-a-file", f"{address.shown} is a file, not a directory", "remove --recursive")
    return None
