"""`globuswrap share`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from globuswrap.cli import progress
from globuswrap.cli.options import (
    Commands,
    DryRun,
    Source,
    SubmitOptions,
    TransferOptions,
    WaitOptions,
    command,
    option,
)
from globuswrap.cli.output import Report, table
from globuswrap.cli.transfer import planned, summary
from globuswrap.errors import DONE, TRY_LATER, UsageProblem
from globuswrap.system import log

if TYPE_CHECKING:
    from globuswrap.sharing.actions import Mail
    from globuswrap.sharing.rules import Step

app = Commands(help="Manage permissions on shared (guest) collections.")

Share = Annotated[
    str,
    typer.Argument(help="Use this directory of a guest collection: NAME_OR_UUID:/directory/.", metavar="SHARE:/PATH/"),
]
People = Annotated[
    list[str] | None,
    typer.Argument(
        help="Name person@example.org, an identity UUID, group:NAME_OR_UUID, all-users or anonymous.",
        metavar="WHO...",
    ),
]


@dataclass(frozen=True)
class MailOptions:
    """What happens besides for people who get a permission."""

    mail: bool = option(False, "--mail", help="Have Globus email the people when they get the permission.")
    message: str | None = option(None, help="Set the text of that email.")
    provision: bool = option(
        False, "--provision", help="Create an identity for people who have never logged in to Globus."
    )

    def __post_init__(self) -> None:
        if self.message is not None and not self.mail:
            raise UsageProblem("bad-option", "--message sets the text of the mail and needs --mail", "add --mail")

    def to_send(self) -> Mail:
        from globuswrap.sharing.actions import Mail

        return Mail(self.mail, self.message)


@dataclass(frozen=True)
class GrantOptions(MailOptions):
    """What people are permitted."""

    permissions: str = option("r", help="Grant read (r), or read and write (rw).")
    expires: str | None = option(None, help="Expire the permission on 2027-01-31, after +30d, or never.")


@command(app)
def grant(share: Share, granting: GrantOptions, people: People = None, dry_run: DryRun = False) -> Report:
    """Give people permission on a directory.

    A rule that is already right is kept; a different one is updated.
    """
    from globuswrap.collections import principals, resolve
    from globuswrap.sharing import actions, rules

    where = resolve.address(share)
    directory, permissions = rules.directory(where.path), rules.checked_permissions(granting.permissions)
    ends = None if granting.expires is None else rules.expiry(granting.expires)
    whos = principals.somebody(people or [], provision=granting.provision)
    wanted = [rules.Wanted(who, directory, permissions, ends) for who in whos]
    if dry_run:
        return _told(actions.plan(where.collection, wanted), {"dry_run": True})
    return _told(actions.grant(where.collection, wanted, granting.to_send()))


@command(app)
def revoke(
    share: Share,
    people: People = None,
    everyone: bool = typer.Option(False, "--all", help="Revoke the permissions of everyone on this directory."),
    dry_run: DryRun = False,
) -> Report:
    """Revoke permissions on exactly this directory. No error if there are none."""
    from globuswrap.collections import principals, resolve
    from globuswrap.sharing import actions, rules

    where = resolve.address(share)
    if everyone == bool(people):
        raise UsageProblem(
            "nobody",
            "nobody to revoke: no people and no --all",
            "globuswrap share revoke SHARE:/dir/ person@example.org",
        )
    whos = None if everyone else principals.resolve(people or [])
    steps = actions.removals(where.collection, rules.directory(where.path), whos)
    if dry_run:
        return _told(steps, {"dry_run": True})
    actions.carry_out(where.collection, steps)
    return _told(steps)


@command(app, "list")
def list_(
    share: Annotated[str, typer.Argument(help="List this guest collection: NAME_OR_UUID.", metavar="SHARE")],
    roles: bool = typer.Option(False, "--roles", help="List its roles too."),
) -> Report:
    """List the rules of a collection, with the names of the people."""
    from globuswrap.collections import resolve
    from globuswrap.sharing import actions

    collection = resolve.collection(share.partition(":")[0])
    found = actions.list_rules(collection, names=True)
    rows = [
        [each.path, each.permissions, each.expires.isoformat() if each.expires else "-", str(each.who), each.id or "-"]
        for each in sorted(found, key=lambda each: (each.path, str(each.who)))
    ]
    data = [
        {
            "id": each.id,
            "path": each.path,
            "permissions": each.permissions,
            "principal_type": each.who.kind,
            "principal": each.who.id,
            "name": str(each.who),
            "expires": each.expires.isoformat() if each.expires else None,
        }
        for each in found
    ]
    lines = table(rows, ["PATH", "MAY", "UNTIL", "WHO", "RULE"])
    held = actions.roles(collection, names=True) if roles else []
    if held:
        lines += ["", *table([[each.role, str(each.who), each.id or "-"] for each in held], ["ROLE", "WHO", "ID"])]
    listed = [{"id": each.id, "role": each.role, "principal": each.who.id, "name": str(each.who)} for each in held]
    return Report({"collection": collection, "rules": data, **({"roles": listed} if roles else {})}, lines)


@command(app)
def deliver(
    source: Source,
    share: Annotated[str, typer.Argument(help="Copy to this path on a guest collection.", metavar="SHARE:/PATH")],
    options: TransferOptions,
    submitting: SubmitOptions,
    waiting: WaitOptions,
    granting: GrantOptions,
    to: list[str] | None = typer.Option(None, help="Grant access to these people (see `share grant`)."),
    grant_first: bool = typer.Option(False, "--grant-first", help="Grant access before the data has arrived."),
    replace: bool = typer.Option(
        False, "--replace", help="Delete files of earlier deliveries that the source no longer has."
    ),
) -> Report:
    """Transfer to a guest collection, then give people permission on the data.

    Waits for the transfer. If it does not succeed, nothing is granted and nothing at the destination is deleted.
    """
    from globuswrap.sharing import actions
    from globuswrap.sharing import deliver as delivering

    delivery = delivering.delivery_of(
        source,
        share,
        to or [],
        permissions=granting.permissions,
        expires=granting.expires,
        mail=granting.to_send(),
        provision=granting.provision,
        grant_first=grant_first,
        replace=replace,
        recursive=options.recursive,
        options=options.options(),
        **submitting.rest(),
    )
    if submitting.dry_run:
        request, directory = delivering.plan(delivery)
        steps = actions.plan(delivery.destination.collection, delivery.rules_on(directory))
        shown = planned(request)
        gone = delivering.leftovers(delivery).deleted if replace else []
        return Report(
            {**shown.data, "steps": [each.as_data() for each in steps], "to_delete": [each.path for each in gone]},
            [*shown.text, *(f"delete  {each.path}" for each in gone), *(s.line for s in steps)],
        )
    with progress.shown() as watcher:
        done = delivering.deliver(
            delivery, submitting.policy(waiting.retry_for), waiting.wait_policy(), waiting.after(), watcher
        )
    log.say(summary(done.result))
    kept = done.replaced.kept if done.replaced is not None else []
    data = {
        "transfer": done.result.as_data(),
        "deleted": [each.path for each in done.replaced.deleted] if done.replaced is not None else [],
        "kept": [{"path": each.path, "reason": each.reason} for each in kept],
    }
    report = _told(done.steps, data)
    code = TRY_LATER if any(each.later for each in kept) else DONE
    return Report(report.data, [done.result.task_id, *report.text], code)


@command(app)
def apply(
    file: Annotated[Path, typer.Argument(help="Read the rules and roles from this TOML file.", metavar="POLICY.toml")],
    mailing: MailOptions,
    prune: bool = typer.Option(False, "--prune", help="Remove rules and roles that the file does not list."),
    mkdir: bool = typer.Option(False, "--mkdir", help="Create missing directories that rules name."),
    dry_run: DryRun = False,
) -> Report:
    """Make the rules and roles of a guest collection match a file. The plan is shown first."""
    from globuswrap.sharing import actions, rules
    from globuswrap.sharing import policy as policies

    policy = policies.read(file, provision=mailing.provision)
    there = actions.list_rules(policy.collection, names=True)
    steps = [*rules.plan(policy.rules, there), *rules.unlisted(policy.rules, there, prune=prune)]
    held = actions.roles(policy.collection, names=True) if policy.roles is not None else []
    offices = actions.plan_roles(policy.roles, held, prune=prune) if policy.roles is not None else []
    lines = [each.line for each in steps] + [f"{act:7}role {role.role} {role.who}" for act, role in offices]
    data = {
        "collection": policy.collection,
        "steps": [each.as_data() for each in steps],
        "roles": [{"act": act, "role": role.role, "who": str(role.who)} for act, role in offices],
        "dry_run": dry_run,
    }
    for line in lines:
        log.say(line)
    if not dry_run:
        directories = sorted({each.path for each in policy.rules}) if mkdir else ()
        actions.carry_out(policy.collection, steps, mailing.to_send(), offices=offices, directories=directories)
    changed = sum(each.act in ("create", "update", "delete") for each in steps)
    changed += sum(act in ("create", "delete") for act, _ in offices)
    return Report({**data, "changed": changed}, [f"{changed} {'to change' if dry_run else 'changed'}"])


@command(app)
def guest(
    base: Annotated[
        str,
        typer.Argument(help="Share this directory of a mapped collection.", metavar="NAME_OR_UUID:/PATH"),
    ],
    title: Annotated[str, typer.Argument(help="Set the display name of the guest collection.")],
    name: str | None = typer.Option(None, help="Use this name for it in globuswrap."),
) -> Report:
    """Print the commands that create a separate guest collection for a project.

    Run them yourself: creating a collection needs its own consent from Globus Connect Server.
    """
    from globuswrap.collections import resolve

    where = resolve.address(base)
    create = ("globus", "collection", "create", "guest", where.collection, where.path, title)
    add = ("globuswrap", "collection", "add", name or "NAME", "UUID_IT_PRINTS")
    lines = [log.shell_line(create), log.shell_line(add)]
    return Report({"commands": [list(create), list(add)]}, lines)


@command(app)
def group(
    name: Annotated[str, typer.Argument(help="Use this group that you are in: its name or UUID.", metavar="GROUP")],
    create: bool = typer.Option(False, "--create", help="Create the group if you are in none of this name."),
    description: str | None = typer.Option(None, help="Describe the new group."),
    add: list[str] | None = typer.Option(None, help="Add this person (repeatable)."),
    remove: list[str] | None = typer.Option(None, help="Remove this person (repeatable)."),
    role: str = typer.Option("member", help="Add people with this role: member, manager or admin."),
    dry_run: DryRun = False,
) -> Report:
    """Show the members of a group; create the group, add or remove people.

    Only differences are applied.
    """
    from globuswrap.collections import principals
    from globuswrap.sharing import groups

    if role not in groups.ROLES:
        raise UsageProblem("bad-option", f"--role {role} is not valid", f"one of: {', '.join(groups.ROLES)}")
    coming, going = principals.resolve(add or []), principals.resolve(remove or [])
    found = groups.find(name)
    if found is None and not create:
        raise UsageProblem("no-such-group", f"you are in no group named {name!r}", "add --create to make it")
    changes = [] if found is not None else [groups.Change("create", name)]
    changes += groups.plan(groups.members(found) if found is not None else [], coming, going, role)
    if not dry_run:
        found = found or groups.create(name, description)
        groups.carry_out(found, changes, role)
    there = groups.members(found) if found is not None else []
    for each in changes:
        log.say(f"{each.act:6} {each.who}")
    lines = table([[each.name, each.role, each.status] for each in there], ["WHO", "ROLE", "STATUS"])
    data = {
        "group": found,
        "changes": [{"act": each.act, "who": each.who} for each in changes],
        "members": [vars(each) for each in there],
        "dry_run": dry_run,
    }
    return Report(data, lines)


def _told(steps: Sequence[Step], more: Mapping[str, object] | None = None) -> Report:
    changed = sum(each.act in ("create", "update", "delete") for each in steps)
    data = {"steps": [each.as_data() for each in steps], "changed": changed, **(more or {})}
    return Report(data, [each.line for each in steps])
