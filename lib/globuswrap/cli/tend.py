"""`globuswrap tend`: chains go on from here."""

from __future__ import annotations

import time
from typing import Annotated

import typer

from globuswrap.cli.options import application, command
from globuswrap.cli.output import Report
from globuswrap.errors import DONE, TRY_LATER
from globuswrap.system import log, units

app = application()


@command(app)
def tend(
    chains: Annotated[list[str] | None, typer.Argument(help="Chains; none: all.", metavar="CHAIN...")] = None,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Keep on until all have ended.")] = False,
    every: Annotated[str, typer.Option("--every", help="With --follow: time between two rounds.")] = "60s",
    in_job: Annotated[bool, typer.Option("--in-job", hidden=True)] = False,
    after: Annotated[str | None, typer.Option("--after", hidden=True)] = None,
    for_: Annotated[float, typer.Option("--for", hidden=True)] = 540.0,
    inline: Annotated[str | None, typer.Option("--inline", hidden=True)] = None,
    code: Annotated[int, typer.Option("--code", hidden=True)] = 0,
) -> Report:
    """Advance all chains once, and leave; from cron or scrontab, or with --follow until all have ended.

    Needed for `--staging login`. For the other modes it notices stage jobs that have vanished and submits them again.
    """
    from globuswrap.staging import chain as chains_room
    from globuswrap.staging import record

    if inline is not None:
        from globuswrap.staging import inline as inside

        return Report({}, [], inside.of_chain(record.load((chains or [""])[0]), inline, code))
    if in_job:
        one = record.load((chains or [""])[0])
        standing = chains_room.in_job(one, for_, after)
        log.say(f"{one.id}: {standing.why or 'done'}")
        return Report({"chain": one.id, "waits_for": standing.waits_for, "why": standing.why}, [], standing.exit_code)

    rounds: dict[str, chains_room.Standing] = {}
    wanted = chains or None
    while True:
        rounds = {}
        left = chains_room.tend_all(rounds.__setitem__, wanted)
        if not follow or not left:
            break
        log.doing(f"{units.counted(left, 'chain')} under way; the next round comes")
        time.sleep(units.duration(every))
    lines = [
        f"{chain_id}  {'ended' if standing.ended else 'under way'}  {standing.why}".rstrip()
        for chain_id, standing in rounds.items()
    ]
    data = {
        chain_id: {
            "ended": standing.ended,
            "waits_for": standing.waits_for,
            "why": standing.why,
            "exit_code": standing.exit_code,
        }
        for chain_id, standing in rounds.items()
    }
    reached = all(
        standing.problem is None or standing.problem.name != "scheduler-unreachable" for standing in rounds.values()
    )
    return Report({"chains": data, "left": left}, lines, DONE if reached else TRY_LATER)
