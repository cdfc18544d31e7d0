"""Deliver: create the directory, transfer, and grant access when the data has arrived. Nothing is deleted before that."""

from __future__ import annotations

import posixpath
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from globuswrap.collections import principals, resolve
from globuswrap.collections.address import Address, normalised
from globuswrap.collections.principals import Who
from globuswrap.deletion import carry_out, evidence
from globuswrap.deletion.judge import Plan, Verdict
from globuswrap.errors import Refused, UsageProblem
from globuswrap.globus import verbs
from globuswrap.sharing import actions, rules
from globuswrap.sharing.actions import Mail
from globuswrap.sharing.rules import Expiry, Step, Wanted
from globuswrap.system import log
from globuswrap.system.described import Described
from globuswrap.transfers import operations
from globuswrap.transfers import request as requests
from globuswrap.transfers.operations import Result
from globuswrap.transfers.options import Options
from globuswrap.transfers.request import Request
from globuswrap.transfers.submit import Policy
from globuswrap.transfers.wait import WaitPolicy, Watcher


@dataclass(frozen=True)
class Delivery:
    """What goes where, and who may then read it. `replace`: what earlier deliveries left there is deleted."""

    source: Address
    destination: Address
    whos: Sequence[Who]
    permissions: str = "r"
    expires: Expiry | None = None
    mail: Mail = field(default_factory=Mail)
    grant_first: bool = False
    replace: bool = False
    recursive: bool | None = None
    options: Options = field(default_factory=Options)
    label: str | None = None
    notify: str = "off"
    deadline: str | None = None

    def rules_on(self, directory: str) -> list[Wanted]:
        return [Wanted(who, directory, self.permissions, self.expires) for who in self.whos]


def delivery_of(
    source: str,
    destination: str,
    to: Sequence[str],
    *,
    permissions: str = "r",
    expires: str | None = None,
    mail: Mail | None = None,
    provision: bool = False,
    **rest: Any,
) -> Delivery:
    """A delivery, by what people write. `rest`: recursive, options, replace, grant_first, label, notify, deadline."""
    return Delivery(
        resolve.address(source),
        resolve.address(destination),
        principals.somebody(to, provision=provision),
        rules.checked_permissions(permissions),
        None if expires is None else rules.expiry(expires),
        mail or Mail(),
        **rest,
    )


def share(
    source: str,
    destination: str,
    to: Sequence[str],
    *,
    permissions: str = "r",
    expires: str | None = None,
    mail: Mail | None = None,
    provision: bool = False,
    policy: Policy | None = None,
    wait_policy: WaitPolicy | None = None,
    after: operations.Hooks | None = None,
    watcher: Watcher | None = None,
    **rest: Any,
) -> Delivered:
    """Transfer to a guest collection and, when the data has arrived, give people permission on it, as `share deliver` does.

    `to` are people as `share grant` takes them. `rest`: recursive, options, replace, grant_first, label, notify, deadline. Waits
    for the transfer; raises the Problem of any bad end, and nothing is granted then.
    """
    delivery = delivery_of(
        source, destination, to, permissions=permissions, expires=expires, mail=mail, provision=provision, **rest
    )
    return deliver(delivery, policy, wait_policy, after, watcher)


@dataclass(frozen=True, repr=False)
class Delivered(Described):
    """What became of it. `replaced` is what `replace` deleted, and kept."""

    result: Result
    steps: Sequence[Step]
    replaced: Plan | None = None

    def facts(self) -> dict[str, object]:
        return {**self.result.facts(), "steps": ", ".join(step.act for step in self.steps)}


def is_directory(source: Address, recursive: bool | None) -> bool:
    """Is the source a directory? As said, else Globus is asked. UsageProblem (2) if it is not there."""
    if recursive is not None:
        return recursive
    kind = verbs.kind(str(source))
    if kind is None:
        raise UsageProblem("no-source", f"{source.shown} does not exist", f"check with: globus ls {source}")
    return kind == "dir"


def plan(delivery: Delivery) -> tuple[Request, str]:
    """The transfer, and the directory that is shared: the destination, or for a single file the one that holds it.

    What differs by checksum goes over, which is safe after a failed transfer too; nothing is deleted by it.
    """
    destination, options = delivery.destination, delivery.options
    directory = is_directory(delivery.source, delivery.recursive)
    if delivery.replace and not directory:
        raise UsageProblem(
            "bad-option",
            "--replace is for directories",
            "remove it: a delivered file always overwrites the file of the same name",
        )
    if options.delete_destination_extra:
        raise UsageProblem(
            "bad-option", "a delivery never deletes before the data has arrived", "use --replace instead"
        )
    if not directory and destination.path.endswith("/"):
        destination = replace(destination, path=destination.path + posixpath.basename(delivery.source.path))
    shared = rules.directory(destination.path if directory else posixpath.dirname(destination.path) or "/")
    if options.sync_level is None:
        options = replace(options, sync_level="checksum")
    request = requests.transfer(
        delivery.source,
        destination,
        recursive=directory,
        options=options,
        label=delivery.label or "globuswrap share deliver",
        notify=delivery.notify,
        deadline=delivery.deadline,
    )
    return request, shared


def deliver(
    delivery: Delivery,
    policy: Policy | None = None,
    wait_policy: WaitPolicy | None = None,
    after: operations.Hooks | None = None,
    watcher: Watcher | None = None,
) -> Delivered:
    """Make the directory, transfer, wait, grant. Raises the Problem of a bad end: then nothing was granted.

    Run again it adopts what is unfinished, sends what differs, and keeps an equal permission.
    """
    share = delivery.destination.collection
    request, shared = plan(delivery)
    wanted = delivery.rules_on(shared)
    actions.list_rules(share)  # refused now rather than after hours of transfer
    actions.make_directory(share, shared)
    steps: Sequence[Step] = ()
    if delivery.grant_first:
        steps = actions.grant(share, wanted, delivery.mail)
    wait_policy = replace(wait_policy or WaitPolicy(), receipt_files=True)  # what was delivered can be proven later
    result = operations.perform(request, policy, wait_policy, after, watcher)
    replaced = _replaced(delivery, result, wait_policy, watcher) if delivery.replace else None
    if not delivery.grant_first:
        steps = actions.grant(share, wanted, delivery.mail)
    return Delivered(result, steps, replaced)


def leftovers(delivery: Delivery) -> Plan:
    """What `replace` deletes: what earlier deliveries left at the destination and the source no longer has. The rest is kept."""
    return Plan(delivery.destination.collection, _leftovers(delivery, None))


def _leftovers(delivery: Delivery, paths: Sequence[str] | None) -> list[Verdict]:
    known = evidence.gather(delivery.destination.collection, None)
    top = normalised(delivery.destination.path)
    return carry_out.leftovers(known, delivery.source, top, evidence.View(), paths)


def _replaced(delivery: Delivery, result: Result, wait_policy: WaitPolicy, watcher: Watcher | None) -> Plan:
    """Now that the new data has arrived, delete the leftovers. Refused when the source was empty."""
    receipt = (result.outcome.receipt if result.outcome is not None else None) or {}
    if not receipt.get("files"):
        raise Refused(
            "empty-source",
            f"{delivery.source.shown} holds no files: nothing at {delivery.destination.shown} was deleted",
            "check the source; if it is meant to be empty, delete the delivered files yourself",
        )
    found = leftovers(delivery)
    sending = carry_out.Sending(
        "globuswrap share deliver --replace", notify=delivery.notify, wait_policy=wait_policy, watcher=watcher
    )
    carry_out.carry_out(found, lambda paths: _leftovers(delivery, paths), sending)
    for each in found.kept:
        log.say(f"kept {delivery.destination.name or found.collection}:{each.path}: {each.reason}", 0)
    return found
