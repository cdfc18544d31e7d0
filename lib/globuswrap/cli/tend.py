"""`globuswrap tend`: advance chains."""

from __future__ import annotations

import time

import typer

from globuswrap.cli.options import Commands, command
from globuswrap.cli.output import Report
from globuswrap.errors import DONE, TRY_LATER
from globuswrap.system import log, units

app = Commands()


@command(app)
def tend(
    chains: list[str] | None = typer.Argument(None, help="Advance these chains (default: all).", metavar="CHAIN..."),
    follow: bool = typer.Option(False, "--follow", "-f", help="Continue until all chains have ended."),
    every: float = typer.Option("60s", parser=units.duration, help="Wait this long between passes, with --follow."),
) -> Report:
    """Advance all chains once and exit, or with --follow until all have ended.

    Run it from cron or scrontab. It is required for `--staging login`. In the other modes it resubmits stage jobs that
    have vanished.
    """
    from globuswrap.staging.chain.record import ChainStatus
    from globuswrap.staging.chain.tend import tend_all
    from globuswrap.underway import lookup

    rounds: dict[str, ChainStatus] = {}
    wanted = [lookup.whole(each) for each in chains or ()] or None
    while True:
        rounds = {}
        left = tend_all(rounds.__setitem__, wanted)
        if not follow or not left:
            break
        log.set_activity(f"{units.counted(left, 'chain')} under way; the next pass comes")
        time.sleep(every)
    lines = [
        f"{chain_id}  {'ended' if status.ended else 'under way'}  {status.why}".rstrip()
        for chain_id, status in rounds.items()
    ]
    data = {
        chain_id: {
            "ended": status.ended,
            "blocked_on": status.blocked_on,
            "why": status.why,
            "exit_code": status.exit_code,
        }
        for chain_id, status in rounds.items()
    }
    reached = all(
        status.problem is None or status.problem.name != "scheduler-unreachable" for status in rounds.values()
    )
    return Report({"chains": data, "left": left}, lines, DONE if reached else TRY_LATER)
