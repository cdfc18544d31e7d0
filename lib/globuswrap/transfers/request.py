"""Describe what to move or delete: a request, its digest and key, and its arguments for the `globus` command."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from globuswrap import schedulers
from globuswrap.collections.address import Address, normalised
from globuswrap.errors import UsageProblem
from globuswrap.globus import accounts, arguments
from globuswrap.transfers.options import SYNC_LEVELS, Options

LABEL_LIMIT = 128
_TAG_LENGTH = len(" gw-") + 12

NOTIFY = ("on", "off", "succeeded", "failed", "inactive")


@dataclass(frozen=True)
class Item:
    """One source path and where it goes (None in a deletion). `recursive`: None lets the service find out."""

    source: str
    destination: str | None = None
    recursive: bool | None = None
    external_checksum: str | None = None
    checksum_algorithm: str | None = None


#: The label of deletions that globuswrap makes for itself: of empty directories that it had made to see something.
PROBES = "globuswrap: remove probe directories"


@dataclass(frozen=True)
class Request:
    """A transfer (`destination` set) or a deletion, of one or more items.

    `label`, `notify` and `deadline` reach Globus but do not make it another request: a dated label or a relative deadline
    in a script that runs again must not begin a second task.
    """

    source: str
    destination: str | None
    items: tuple[Item, ...]
    options: Options = field(default_factory=Options)
    label: str | None = None
    notify: str = "off"
    deadline: str | None = None

    @property
    def kind(self) -> str:
        return "delete" if self.destination is None else "transfer"


def transfer(
    source: Address,
    destination: Address,
    *,
    recursive: bool | None = None,
    external_checksum: str | None = None,
    checksum_algorithm: str | None = None,
    **rest: Any,
) -> Request:
    """A transfer of one file or directory. `rest`: options, label, notify, deadline."""
    item = Item(source.path, destination.path, recursive, external_checksum, checksum_algorithm)
    return checked(Request(source.collection, destination.collection, (item,), **rest))


def delete(addresses: Iterable[Address], *, recursive: bool | None = None, **rest: Any) -> Request:
    """A deletion of one or more paths of one collection. UsageProblem for none, or for several collections."""
    listed = list(addresses)
    if not listed:
        raise UsageProblem("nothing-to-do", "no address was given", "name at least one: NAME:/path")
    if len({address.collection for address in listed}) > 1:
        raise UsageProblem(
            "several-collections",
            "all paths of a deletion must be on one collection",
            "run it once for each collection",
        )
    return checked(
        Request(listed[0].collection, None, tuple(Item(each.path, None, recursive) for each in listed), **rest)
    )


def checked(request: Request) -> Request:
    """The request, if it makes sense; UsageProblem with what to fix otherwise. Nothing is asked of Globus."""
    options = request.options
    if not request.items:
        raise UsageProblem("nothing-to-do", "the list of items is empty", "check how the list was made")
    if options.sync_level is not None and options.sync_level not in SYNC_LEVELS:
        raise UsageProblem(
            "bad-option", f"--sync-level {options.sync_level} is not valid", f"one of: {', '.join(SYNC_LEVELS)}"
        )
    if not request.notify or not set(request.notify.split(",")) <= set(NOTIFY):
        raise UsageProblem(
            "bad-option", f"--notify {request.notify} is not valid", f"a comma list of: {', '.join(NOTIFY)}"
        )
    if request.label is not None and ("\n" in request.label or "\r" in request.label):
        raise UsageProblem("bad-label", "the label contains a line break", "remove the line break from --label")
    if options.delete_destination_extra and any(item.recursive is False for item in request.items):
        raise UsageProblem(
            "bad-option", "--delete-destination-extra works only on a directory", "remove --no-recursive"
        )
    if options.filters and not any(item.recursive for item in request.items):
        raise UsageProblem("bad-option", "--include and --exclude work only on a directory", "add --recursive")
    for item in request.items:
        same = request.source == request.destination and item.destination is not None
        if same and normalised(item.source) == normalised(item.destination or ""):
            raise UsageProblem(
                "same-place", f"{item.source}: source and destination are the same", "choose another destination"
            )
    return request


def content(request: Request) -> dict[str, Any]:
    """What makes it this request and no other: collections, normalised paths, the options that change what happens."""
    return {
        "kind": request.kind,
        "source": request.source,
        "destination": request.destination,
        "items": [
            [
                normalised(item.source),
                None if item.destination is None else normalised(item.destination),
                item.recursive,
                item.external_checksum,
                item.checksum_algorithm,
            ]
            for item in request.items
        ],
        "options": request.options.said(),
    }


def digest_of(document: Mapping[str, Any]) -> str:
    """SHA-256, in hex, of a JSON document in its canonical form."""
    text = json.dumps(document, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode("ascii")).hexdigest()


def scope(chain: str | None = None) -> dict[str, str]:
    """Where a request is made: Globus environment, profile and service account; in a chain its id, else the batch job.

    So the same line in two jobs is two requests, and in a requeued job it is the same one.
    """
    environ = os.environ
    place = {
        "environment": environ.get("GLOBUS_SDK_ENVIRONMENT", ""),
        "profile": environ.get("GLOBUS_PROFILE", ""),
        "client": accounts.client_id(),
    }
    if chain is not None:
        place["chain"] = chain
    else:
        here = schedulers.current_job(environ)
        if here is not None:
            system, job = here
            place["job"] = " ".join(filter(None, (system.name, job.cluster, job.whole, job.task)))
    return {name: value for name, value in place.items() if value}


def checked_name(name: str | None) -> str | None:
    """A name given with `--key`. UsageProblem for an empty one: in a script, that is a variable that is not set."""
    if name is not None and not name.strip():
        raise UsageProblem("bad-key", "--key is empty", "name the request, such as --key run7, or remove --key")
    return name


def key_of(digest: str, name: str | None = None, chain: str | None = None) -> str:
    """The journal key, 40 hex digits: of the request where it is made, or of the name given with `--key`.

    `--key` stands for all but environment, profile and account: those keep two Globus accounts apart.
    """
    where = scope(chain)
    if name is not None:
        accounts = {each: value for each, value in where.items() if each in ("environment", "profile", "client")}
        return digest_of({"name": name, **accounts})[:40]
    return digest_of({"request": digest, **where})[:40]


def tagged_label(label: str | None, digest: str, kind: str) -> str:
    """The label that is sent: the user's, shortened if it must be, ending in ` gw-<12 hex of the digest>`."""
    text = (label or f"globuswrap {kind}").strip()
    return f"{text[: LABEL_LIMIT - _TAG_LENGTH].rstrip()} gw-{digest[:12]}"


def command(request: Request, submission_id: str, label: str, version: tuple[int, ...]) -> tuple[str, ...]:
    """The arguments after `globus`, of that version, for a request of one item."""
    (item,) = request.items
    options = request.options
    common = arguments.submission(submission_id, label, request.notify, request.deadline)
    if request.destination is None:
        return (
            *("delete", *common),
            *arguments.switch("recursive", item.recursive),
            *arguments.switch("ignore-missing", options.ignore_missing),
            *arguments.toggle("enable-globs", options.enable_globs),
            *(("--star-silent",) if options.enable_globs else ()),
            *("--", f"{request.source}:{item.source}"),
        )
    return (
        *("transfer", *common),
        *arguments.toggle("recursive", item.recursive),
        *options.arguments(version),
        *arguments.option("external-checksum", item.external_checksum),
        *arguments.option("checksum-algorithm", item.checksum_algorithm),
        *("--", f"{request.source}:{item.source}", f"{request.destination}:{item.destination}"),
    )


def document(request: Request, submission_id: str, label: str) -> dict[str, Any]:
    """The Transfer API document of a request, as the CLI would send it (observed body of 3.44)."""
    options = request.options
    common: dict[str, Any] = {
        "submission_id": submission_id,
        "label": label,
        "skip_activation_check": True,
        **notifications(request.notify),
        **({} if request.deadline is None else {"deadline": request.deadline}),
    }
    if request.destination is None:
        return {
            "DATA_TYPE": "delete",
            **common,
            "endpoint": request.source,
            "recursive": any(item.recursive for item in request.items),
            "ignore_missing": bool(options.ignore_missing),
            "interpret_globs": bool(options.enable_globs),
            "DATA": [{"DATA_TYPE": "delete_item", "path": item.source} for item in request.items],
        }
    return {
        "DATA_TYPE": "transfer",
        **common,
        "source_endpoint": request.source,
        "destination_endpoint": request.destination,
        **options.document(),
        "DATA": [item_document(item) for item in request.items],
    }


def item_document(item: Item) -> dict[str, Any]:
    """One transfer_item; what was not said is left to the service."""
    said = {
        "recursive": item.recursive,
        "external_checksum": item.external_checksum,
        "checksum_algorithm": item.checksum_algorithm,
    }
    return {
        "DATA_TYPE": "transfer_item",
        "source_path": item.source,
        "destination_path": item.destination,
        **{name: value for name, value in said.items() if value is not None},
    }


def notifications(notify: str) -> dict[str, bool]:
    """The three `notify_on_*` fields of a `--notify` value."""
    chosen = set(notify.split(","))
    return {f"notify_on_{event}": event in chosen or "on" in chosen for event in ("succeeded", "failed", "inactive")}
