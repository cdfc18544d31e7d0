"""What Python programs call that commands put together from several rooms: a job script as a chain, what is under way, what was
moved. The other functions are where their room is; see `globuswrap.__init__`."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from globuswrap.doctor import examine
from globuswrap.errors import UsageProblem
from globuswrap.reports.history import HEAD, Moved, moved, row
from globuswrap.staging import status as chain_status
from globuswrap.staging import submit as submitting
from globuswrap.staging.chain.record import ChainStatus
from globuswrap.staging.chain.tend import follow
from globuswrap.staging.submission import StagingRequest, plan_of
from globuswrap.staging.submit import Submitted
from globuswrap.system import units
from globuswrap.system.described import Described, Rows
from globuswrap.transfers import request as requests
from globuswrap.underway.stand import Status, stand


@dataclass(frozen=True, repr=False)
class SubmittedJob(Described):
    """The chain of a job script. `how`: `new`, `adopted` or `recorded` (begun, or ended, before under the same key). `data`: its
    steps and their states, as `globuswrap status --json` has them."""

    chain: str
    how: str
    data: Mapping[str, Any]

    @property
    def state(self) -> str:
        return str(self.data["state"])

    @property
    def exit_code(self) -> int | None:
        """None until it has ended."""
        code: int | None = self.data["exit_code"]
        return code

    def facts(self) -> dict[str, object]:
        steps = ", ".join(f"{each['name']} {each['state']}" for each in self.data["steps"])
        return {
            "chain": self.chain,
            "state": self.state,
            "steps": steps,
            "script": os.path.basename(self.data["script"]),
        }


def submit(
    script: str | Path,
    *arguments: str,
    scheduler: str = "auto",
    staging: str | None = None,
    poll: str | None = None,
    key: str | None = None,
    once: bool = False,
    check: bool = True,
) -> SubmittedJob:
    """Submit a job script with its #GLOBUS lines: data is staged in, the job is released, results are staged out.

    `arguments` go to the scheduler, which is slurm, pbs, local, or auto. With `local` the chain runs here, to its end; else
    this returns when it is submitted. `key`, `once`, `staging` and `poll` are those of the command. `check`: look first
    whether it can work, as doctor does.

    Raises the Problem of what was refused, and of a local chain that fails.
    """
    checked_key(key, once)
    plan, content = plan_of(Path(script), StagingRequest(scheduler, staging, poll=poll), arguments, os.environ)
    looked = (lambda: examine.before_submit(plan, content)) if check else lambda: None
    done = submitting.submit(plan, content, key, once, looked)
    return SubmittedJob(done.chain.id, done.how, described(done)["data"])


def checked_key(key: str | None, once: bool) -> None:
    """Raise the UsageProblem of a key that is none, and of `once` without one."""
    requests.checked_name(key)
    if once and key is None:
        raise UsageProblem(
            "once-needs-key",
            "--once needs --key",
            "name the submission: globuswrap submit --key NAME --once JOB_SCRIPT",
        )


def described(submitted: Submitted) -> Mapping[str, Any]:
    """Tell how the chain stands, which is noted: on this machine, it is followed to its end.

    Raises the Problem of one that is reported as a failure.
    """
    status = submitted.status
    if submitted.chain.plan.on_this_machine and not status.ended:
        status = follow(submitted.chain)
    submitting.told(submitted)
    stands = chain_status.describe(submitted.chain.id)
    if status.problem is not None and failed(submitted, status):
        status.problem.data = stands["data"]
        raise status.problem
    return stands


def failed(submitted: Submitted, status: ChainStatus) -> bool:
    """Whether a chain that ended is reported as a failure. One whose batch job ran and failed while this was submitting it, or
    taking up its submission, is not: the submission succeeded, and whoever took it for a failure would submit the job twice."""
    chain = submitted.chain
    if submitted.how != submitting.RECORDED and not chain.plan.on_this_machine and chain.outcome is not None:
        return status.ended and chain.outcome.success and status.problem is not None
    return status.ended and status.problem is not None


def status(*words: str, all: bool = False, live: bool = True) -> Status:
    """Look at what is under way, or at what these task ids, keys and chains (or their beginnings) name.

    `all`: what has ended too. `live`: ask Globus; without it, or where it cannot be reached, this is what the journal knows.
    Raises UsageProblem for a word that names nothing.
    """
    return stand(words, all_=all, live=live)


class History(Rows[Moved]):
    """Tasks that were requested from this machine, the oldest first."""

    head = HEAD

    def row(self, each: Moved) -> tuple[str, ...]:
        return row(each)


def history(since: str | float | None = None, route: str | None = None, *, live: bool = True) -> History:
    """List what was transferred and deleted from this machine.

    `since` ("1d", "1w", "1mo", or seconds): only of this last time. `route` ("FROM:TO", either of them empty for any): only
    between these collections. `live`: ask Globus about tasks that nobody has waited for.
    """
    return History(moved(None if since is None else units.duration(since), route, live=live))
