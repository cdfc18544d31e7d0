"""`globuswrap collection`: names for UUIDs, and local path <-> collection path."""

from __future__ import annotations

from typing import Annotated

import typer

from globuswrap.cli.options import application, command
from globuswrap.cli.output import Report, table
from globuswrap.collections import mounts, names, resolve
from globuswrap.errors import UsageProblem
from globuswrap.globus import arguments
from globuswrap.globus import command as globus

app = application(no_args_is_help=True, help="Names for collections, and where they are mounted here.")


@command(app, "add")
def add(
    name: Annotated[str, typer.Argument(help="Letters, digits, _ . @ -")],
    collection: Annotated[str, typer.Argument(help="Its UUID.", metavar="UUID")],
    mount: Annotated[
        list[str] | None, typer.Option("--mount", help="LOCAL_DIR=/collection/path, where it is mounted here.")
    ] = None,
    check: Annotated[
        bool, typer.Option("--check/--no-check", help="Ask Globus whether there is such a collection.")
    ] = True,
) -> Report:
    """Give a collection a name."""
    if not names.NAME.fullmatch(name) or names.UUID.fullmatch(name):
        raise UsageProblem("bad-name", f"{name!r} cannot name a collection", "letters, digits, _ . @ - only")
    identifier = resolve.collection(collection)
    mounted = {}
    for each in mount or []:
        local, equals, remote = each.partition("=")
        if not equals or not local.startswith("/") or not remote.startswith("/"):
            raise UsageProblem("bad-mount", f"{each!r} is not a mount", "write --mount /local/dir=/collection/path")
        mounted[local] = remote
    if check:
        globus.retrying(lambda: globus.call(*arguments.collection(identifier)))
    names.add(name, identifier, mounted)
    return Report({"name": name, "id": identifier, "mounted": mounted}, [f"{name} = {identifier}"])


@command(app, "remove")
def remove(name: Annotated[str, typer.Argument(help="A name that was added.")]) -> Report:
    """Take an added name away."""
    names.remove(name)
    return Report({"removed": name}, [])


@command(app, "list")
def list_() -> Report:
    """Every name, the collection it stands for, and where it is mounted."""
    known = [names.known()[name] for name in sorted(names.known())]
    data = [{"name": each.name, "id": each.id, "mounted": dict(each.mounted), "origin": each.origin} for each in known]
    rows = [
        [each.name, each.id, " ".join(f"{local}={remote}" for local, remote in each.mounted.items())] for each in known
    ]
    return Report({"collections": data}, table(rows, ["NAME", "ID", "MOUNTED"]) if rows else [])


@command(app, "show")
def show(collection: Annotated[str, typer.Argument(help="A name or UUID.")]) -> Report:
    """What Globus knows about a collection."""
    identifier = resolve.collection(collection)
    found = globus.retrying(lambda: globus.call(*arguments.collection(identifier)))
    fields = ("display_name", "id", "owner_string", "entity_type", "default_directory", "high_assurance", "description")
    return Report({"collection": found}, [f"{name}: {found[name]}" for name in fields if found.get(name) is not None])


@command(app, "resolve")
def resolve_(
    address: Annotated[str, typer.Argument(help="An address, or a local path.")],
    local: Annotated[bool, typer.Option("--local", help="Print the local path instead.")] = False,
) -> Report:
    """The collection address of a local path or name, or with --local the local path of an address."""
    found = resolve.address(address)
    text = mounts.to_local(found) if local else str(found)
    return Report({"collection": found.collection, "path": found.path, "name": found.name, "resolved": text}, [text])
