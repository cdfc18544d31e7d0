"""`globuswrap collection`: names for UUIDs, and local path <-> collection path."""

from __future__ import annotations

from typing import Annotated

import typer

from globuswrap.cli import progress
from globuswrap.cli.options import Commands, command
from globuswrap.cli.output import Report, table
from globuswrap.errors import UsageProblem
from globuswrap.system import log

app = Commands(help="Name collections and their local directories.")


@command(app, "add")
def add(
    name: Annotated[str, typer.Argument(help="Use this name: letters, digits, _ . @ -")],
    collection: Annotated[str, typer.Argument(help="Name the collection with this UUID.", metavar="UUID")],
    mount: list[str] | None = typer.Option(
        None, metavar="LOCAL_DIR=PATH", help="Map a local directory to it: LOCAL_DIR=/collection/path."
    ),
    check: bool = typer.Option(True, "--check/--no-check", help="Ask Globus whether the collection exists (default)."),
) -> Report:
    """Name a collection."""
    from globuswrap.collections import names, resolve
    from globuswrap.globus import verbs

    if not names.NAME.fullmatch(name) or names.UUID.fullmatch(name):
        raise UsageProblem(
            "bad-name", f"{name!r} is not a valid collection name", "use only letters, digits and _ . @ -"
        )
    identifier = resolve.collection(collection)
    mounted = {}
    for each in mount or []:
        local, equals, remote = each.partition("=")
        if not equals or not local.startswith("/") or not remote.startswith("/"):
            raise UsageProblem(
                "bad-mount", f"{each!r} is not a valid mount", "write --mount /local/dir=/collection/path"
            )
        mounted[local] = remote
    if check:
        verbs.collection(identifier)
    names.add(name, identifier, mounted)
    return Report({"name": name, "id": identifier, "mounted": mounted}, [f"{name} = {identifier}"])


@command(app, "remove")
def remove(name: Annotated[str, typer.Argument(help="Remove this name.")]) -> Report:
    """Remove a name that you added."""
    from globuswrap.collections import names

    names.remove(name)
    return Report({"removed": name}, [])


@command(app, "list")
def list_() -> Report:
    """List every name, its collection, and where it is mounted."""
    from globuswrap.collections import names

    known = [names.known()[name] for name in sorted(names.known())]
    data = [{"name": each.name, "id": each.id, "mounted": dict(each.mounted), "origin": each.origin} for each in known]
    rows = [
        [
            each.name,
            each.id,
            " ".join(f"{local}={remote}" for local, remote in each.mounted.items()) or "-",
            each.origin,
        ]
        for each in known
    ]
    return Report({"collections": data}, table(rows, ["NAME", "ID", "MOUNTED", "FROM"]) if rows else [])


@command(app, "search")
def search(
    text: Annotated[list[str], typer.Argument(help="Search names, descriptions, owners and keywords for these words.")],
    mine: bool = typer.Option(False, "--mine", help="Show only collections that you own."),
    limit: int = typer.Option(25, help="Show at most this many collections."),
) -> Report:
    """Search Globus for collections, and show your names for those that have one."""
    from globuswrap.collections import names
    from globuswrap.globus import verbs

    with progress.doing("searching"):
        owner = str(verbs.userinfo().get("sub") or "") if mine else None
        rows = verbs.search_collections(" ".join(text), limit=limit, owner=owner)
    data = [
        {
            "id": row.get("id"),
            "display_name": row.get("display_name"),
            "owner": row.get("owner_string"),
            "kind": row.get("entity_type"),
            "name": names.name_of(str(row.get("id"))),
        }
        for row in rows
    ]
    if not data:
        log.say(f"no collection matches {' '.join(text)!r}")
    kinds = {
        "GCSv5_mapped_collection": "mapped",
        "GCSv5_guest_collection": "guest",
        "GCP_mapped_collection": "personal",
    }
    lines = table(
        [
            [str(each["id"]), each["name"] or "-", kinds.get(str(each["kind"]), str(each["kind"] or "-")),
             str(each["display_name"] or "-"), str(each["owner"] or "-")]
            for each in data
        ],
        ["ID", "NAME", "KIND", "DISPLAY NAME", "OWNER"],
    )  # fmt: skip
    if data and log.level() >= 1 and not data[0]["name"]:
        log.say(f"name one: globuswrap collection add NAME {data[0]['id']}")
    return Report({"collections": data}, lines if data else [])


@command(app, "bookmarks")
def bookmarks(
    add_: bool = typer.Option(False, "--add", help="Name each collection after its bookmark, if that is a valid name."),
) -> Report:
    """List your Globus bookmarks as addresses, or with --add name their collections.

    An address can also be written bookmark:NAME/path.
    """
    from globuswrap.collections import names
    from globuswrap.globus import verbs

    with progress.doing("bookmarks"):
        rows = verbs.bookmarks()
    lines, data = [], []
    for row in rows:
        title, identifier, path = str(row.get("name")), str(row.get("endpoint_id")).lower(), str(row.get("path"))
        name = names.name_of(identifier)
        if add_ and name is None and names.NAME.fullmatch(title) and title not in names.known():
            names.add(title, identifier, {})
            name = title
        elif add_ and name is None:
            log.say(f"{title!r} cannot name a collection here: globuswrap collection add NAME {identifier}")
        data.append({"bookmark": title, "id": identifier, "path": path, "name": name})
        lines.append([title, f"{name or identifier}:{path}"])
    return Report({"bookmarks": data}, table(lines, ["BOOKMARK", "ADDRESS"]) if lines else [])


@command(app, "resolve")
def resolve_(
    address: Annotated[str, typer.Argument(help="Resolve this address or local path.")],
    local: bool = typer.Option(False, "--local", help="Print the local path instead."),
) -> Report:
    """Print the collection address of a local path, or with --local the reverse."""
    from globuswrap.collections import mounts, resolve

    found = resolve.address(address)
    text = mounts.to_local(found) if local else str(found)
    return Report({"collection": found.collection, "path": found.path, "name": found.name, "resolved": text}, [text])
