"""`globuswrap init`: the first setup."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

import typer

from globuswrap.cli import output, progress
from globuswrap.cli.options import Commands, command
from globuswrap.cli.output import Report
from globuswrap.system import log

if TYPE_CHECKING:
    from globuswrap.doctor.setup import Wanted

app = Commands()


@command(app)
def init(
    collection: list[str] | None = typer.Option(
        None, help="Name this collection; without it, you are asked at a terminal.", metavar="NAME=UUID"
    ),
    mount: list[str] | None = typer.Option(
        None, help="Map a local directory to that collection; PATH is detected if omitted.", metavar="NAME=DIR[=PATH]"
    ),
) -> Report:
    """Set up globuswrap: check the login and the scheduler, name collections, verify mounts.

    At the end it runs doctor. It prints the commands that do the same by hand.
    """
    from globuswrap.cli import doctor
    from globuswrap.doctor import examine, jobs, login, setup
    from globuswrap.errors import Problem

    with progress.doing() as say:
        found, session = login.look(say)
    for finding in found:
        log.say(finding.what if finding.level == "ok" else f"{finding.what}  [{finding.name}]")
    if session is None:
        worst = found[-1]
        problem = Problem(worst.name, worst.what, f"{worst.remedy}   and then: globuswrap init")
        problem.exit_code = worst.code
        raise problem
    scheduler = jobs.here()
    log.say(
        f"scheduler: {scheduler.title}"
        if scheduler
        else "no scheduler here; submit --scheduler local runs jobs on this machine"
    )
    wanted = setup.wanted(collection or (), mount or ())
    asks = not wanted and sys.stdin.isatty() and sys.stderr.isatty() and not output.state.json
    if asks:
        progress.still()
    added = []
    for each in _asked() if asks else wanted:
        with progress.doing(f"checking {each.name}"):
            added.append(setup.add(each))
        log.say(f"Named it {each.name}. The command for this is:\n  {added[-1].command}")
        for local in added[-1].unseen:
            log.say(f"{local} is not on {each.name}: skipped")
    verdict = doctor.examined(examine.Questions())
    data = {"added": [{"name": each.name, "id": each.id, "mounted": dict(each.mounted)} for each in added]}
    return Report({**data, **verdict.data}, verdict.text, verdict.exit_code)


def _asked() -> Iterator[Wanted]:
    """What a person at a terminal picks."""
    from globuswrap.doctor import setup

    text = ""
    while True:
        found = setup.choices(text)
        if not text:
            log.say("Collections that you used recently:" if found else "Which collections do you use?")
        elif not found:
            log.say(f"No collection matches {text!r}.")
        for number, each in enumerate(found, 1):
            log.say(f"  {number}. {each['display_name']}  {each['id']}")
        said = typer.prompt(
            "Enter a number to choose, words to search, or nothing to finish", default="", show_default=False, err=True
        )
        if not said.strip():
            return
        if not said.strip().isdigit() or not 0 < int(said) <= len(found):
            text = said.strip()
            continue
        chosen = found[int(said) - 1]
        name = typer.prompt("Name to use here", default=setup.name_for(chosen["display_name"]), err=True)
        mounts = setup.guessed(chosen["id"])
        for local in mounts:
            log.say(f"It is mounted here: {local}")
        local = typer.prompt(
            "Another local directory on it, or nothing" if mounts else "Local directory on it, or nothing",
            default="",
            show_default=False,
            err=True,
        )
        yield setup.Wanted(name, chosen["id"], {**mounts, **({local.strip(): None} if local.strip() else {})})
