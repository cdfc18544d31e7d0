"""Turn the steps of a chain into transfers, each submitted exactly once under its own key, and polled once.

Nothing here waits: a chain is advanced by many short looks, from whichever host takes them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from globuswrap import config
from globuswrap.collections import resolve
from globuswrap.collections.address import Address, normalised
from globuswrap.deletion import carry_out, evidence
from globuswrap.deletion.carry_out import Sending
from globuswrap.deletion.judge import Verdict
from globuswrap.errors import Held, LoginNeeded, NoGlobus, Problem, TryLater
from globuswrap.globus import verbs
from globuswrap.globus.errors import NotFound
from globuswrap.staging.chain.record import Chain
from globuswrap.staging.directives import expand
from globuswrap.staging.plan import CLEANUP, Plan, Staging, Step
from globuswrap.system import log, units
from globuswrap.transfers import journal, operations
from globuswrap.transfers import request as requests
from globuswrap.transfers import submit as submitting
from globuswrap.transfers import wait as waiting
from globuswrap.transfers.journal import Entry
from globuswrap.transfers.options import Options
from globuswrap.transfers.outcome import RUNNING, Outcome
from globuswrap.transfers.request import Request
from globuswrap.transfers.submit import Policy, Submitted
from globuswrap.transfers.wait import WaitPolicy

MOVING = "moving"  # a task works on it
STUCK = "stuck"  # something that time or a person fixes
DONE = "done"
FAILED = "failed"
SKIPPED = "skipped"


@dataclass(frozen=True)
class StepResult:
    """Where a step stands. `problem` is what keeps it (STUCK) or ended it (FAILED)."""

    state: str
    task_id: str | None = None
    outcome: str = ""
    exit_code: int = 0
    cause: str = ""
    remedy: str = ""
    receipt: Mapping[str, Any] | None = None
    problem: Problem | None = None

    @property
    def settled(self) -> bool:
        return self.state in (DONE, FAILED, SKIPPED)


def request_of(step: Step, symbols: Mapping[str, str]) -> Request:
    """The transfer of a step. UsageProblem for an address that cannot be resolved, or a symbol without a value."""
    known = dict(step.options)
    for ours in ("strict", "fault-grace"):
        known.pop(ours, None)
    settings = config.load().settings
    deadline = known.pop("deadline", None)
    label = known.pop("label", None)
    return requests.transfer(
        resolve.address(expand(step.source, symbols)),
        resolve.address(expand(step.destination, symbols)),
        recursive=known.pop("recursive", None),
        label=expand(str(label), symbols) if label is not None else _label(step, symbols),
        notify=str(known.pop("notify", settings.notify)),
        # Relative to now, and left out of the request's digest: only the first look's deadline reaches Globus.
        deadline=None if deadline is None else units.utc_text(units.moment(str(deadline))),
        options=Options(**{name.replace("-", "_"): value for name, value in known.items()}),
    )


def _label(step: Step, symbols: Mapping[str, str]) -> str:
    return f"{log.printable(symbols.get('x', ''))} {step.name}".strip()


def look(chain: Chain, steps: Iterable[Step]) -> dict[str, StepResult]:
    """Submit what is not submitted yet, then look at all tasks once.

    A problem of one step is in its StepResult; the others go on.
    """
    symbols, cleaning = chain.symbols, bool(chain.plan.of(CLEANUP))
    results: dict[str, StepResult] = {}
    entries: dict[WaitPolicy, dict[str, Entry]] = {}
    for step in steps:
        try:
            submitted = _submitted(chain, step, symbols)
        except Problem as problem:
            results[step.name] = of_problem(problem)
            continue
        if submitted is None:
            results[step.name] = StepResult(SKIPPED, cause="the source does not exist (--if-present)")
        elif submitted.how == "new":  # begun this moment: the next look will find something to see
            results[step.name] = StepResult(MOVING, submitted.task_id)
        else:
            wait_policy = wait_policy_of(chain.plan.staging, step, receipt_files=cleaning)
            entries.setdefault(wait_policy, {})[step.name] = submitted.entry
    for wait_policy, some in entries.items():
        results |= _looked_at(some, wait_policy)
    return results


def _submitted(chain: Chain, step: Step, symbols: Mapping[str, str]) -> Submitted | None:
    """The submission of a step; None if it has no source, and needs none."""
    policy = Policy(name=f"{chain.scope}/{step.name}", once=True, retry_for=0.0, chain=chain.id)
    request = request_of(step, symbols)
    begun = journal.latest(requests.key_of("", policy.name, chain.id)) is not None
    if step.if_present and not begun and not present(resolve.address(expand(step.source, symbols)), 0.0):
        return None
    return submitting.submit(request, policy)


def _looked_at(entries: Mapping[str, Entry], wait_policy: WaitPolicy) -> dict[str, StepResult]:
    """Where the tasks of these steps stand: from what is recorded, else by one look at all of them."""
    outcomes = {name: waiting.recorded(entry, strict=wait_policy.strict) for name, entry in entries.items()}
    found = {name: of_outcome(outcome) for name, outcome in outcomes.items() if outcome is not None}
    left = {name: entry for name, entry in entries.items() if name not in found}
    try:
        looked = waiting.wait(list(left.values()), wait_policy) if left else {}
    except Problem as problem:
        return found | {name: replace(of_problem(problem), task_id=entry.task_id) for name, entry in left.items()}
    for name, entry in left.items():
        outcome = looked[str(entry.task_id)]
        if outcome.terminal:
            operations.report(entry)
        found[name] = of_outcome(outcome)
    return found


def wait_policy_of(staging: Staging, step: Step, *, receipt_files: bool = False) -> WaitPolicy:
    grace = step.options.get("fault-grace")
    return WaitPolicy(
        timeout=0.0,
        retry_for=0.0,
        fault_grace=staging.fault_grace if grace is None else units.duration(str(grace)),
        strict=bool(step.options.get("strict")),
        receipt_files=receipt_files,
    )


def of_outcome(outcome: Outcome) -> StepResult:
    """A task that ended well or badly, or one that still has time: paused and suspended tasks wait for someone."""
    moving = MOVING if outcome.name == RUNNING else STUCK
    ended = DONE if outcome.exit_code == 0 else FAILED
    return StepResult(
        ended if outcome.terminal else moving,
        *(outcome.task_id, outcome.name, outcome.exit_code, outcome.cause, outcome.remedy, outcome.receipt),
        problem=outcome.problem(),
    )


def of_problem(problem: Problem) -> StepResult:
    """Login, network and a missing command are fixed outside of the chain, which then goes on; the rest is the end."""
    fixable = isinstance(problem, LoginNeeded | TryLater | Held | NoGlobus)
    return StepResult(
        STUCK if fixable else FAILED,
        outcome=problem.name,
        exit_code=problem.exit_code,
        cause=problem.cause,
        remedy=problem.remedy,
        problem=problem,
    )


def present(address: Address, retry_for: float | None = None) -> bool:
    """Is there anything at the address? Asked of Globus: the collection decides, not this machine's mount."""
    return verbs.stat(str(address), retry_for) is not None


#: Of an input, at most so many directories are listed to see whether all is there; of more, a transfer tells.
LOOKED_AT = 20


def still_there(step: Step, staged: StepResult, symbols: Mapping[str, str]) -> bool:
    """Whether the files that a stage-in brought are still at its destination. False also where a few listings cannot tell:
    the transfer is then done again, and copies what is missing.

    Raises the problem of whatever keeps Globus from answering.
    """
    destination = resolve.address(expand(step.destination, symbols))
    if not present(destination, 0.0):
        return False
    receipt = staged.receipt or {}
    copied = receipt.get("files_list")
    if copied is None and staged.task_id is not None:
        copied = waiting.listed(verbs.successful_transfers, staged.task_id, 0.0)
    if copied is None or receipt.get("files_skipped"):
        return False  # the list says nothing of files that were there before
    wanted: dict[str, set[str]] = {}
    for file in copied:
        directory, _, name = str(file.get("destination")).rpartition("/")
        wanted.setdefault(f"{directory}/", set()).add(name)
    return len(wanted) <= LOOKED_AT and all(
        names <= _names(replace(destination, path=directory)) for directory, names in wanted.items()
    )


def _names(directory: Address) -> set[str]:
    """The names in a directory; none if it is not there."""
    return {str(row["name"]) for row in verbs.ls(str(directory), 0.0) or ()}


def cancel_task(task_id: str) -> None:
    """Cancel a task at Globus, and note how it ended; one that has ended, or is gone, is left as it is."""
    try:
        verbs.cancel_task(task_id, 30.0)
    except NotFound:
        return
    entry = journal.by_task(task_id)
    if entry is not None and waiting.wait([entry], WaitPolicy(timeout=0.0, retry_for=0.0))[task_id].terminal:
        operations.report(entry)


def unfinished_tasks(chain_id: str) -> list[str]:
    """The tasks of a chain that are not known to have ended, by the journal: also those that a job staged by itself, or that
    were submitted a moment before whoever did it was killed."""
    return [
        entry.task_id
        for entry in journal.unsettled()
        if entry.claim.chain == chain_id and entry.task_id is not None and entry.receipt is None
    ]


def covered(
    step: Step, receipts: Mapping[str, Mapping[str, Any]], symbols: Mapping[str, str]
) -> tuple[Address, list[str]]:
    """What a cleanup step may delete: its address, and the files below it that receipts of this chain prove delivered.

    `receipts` maps names of steps that are done to their receipts: the files that a stage-in copied to its destination, and
    those that a stage-out copied from its source. Nothing else is covered, whatever lies beside it.
    """
    address = resolve.address(expand(step.source, symbols))
    files: list[str] = []
    for name, receipt in receipts.items():
        side = "destination" if name.startswith("stage-in") else "source"
        if receipt.get(side) == address.collection:
            files += [str(file.get(side) or "") for file in receipt.get("files_list") or ()]
    return address, sorted({*below(address, files)})


def below(address: Address, paths: Iterable[str]) -> list[str]:
    """Those of the paths that are at or below the address; none for the top of a collection, or a home directory."""
    top = normalised(address.path).rstrip("/")
    if not top or address.path in ("~", "/~/"):
        return []
    return [path for path in paths if normalised(path) == top or normalised(path).startswith(top + "/")]


def paths_used(plan: Plan, symbols: Mapping[str, str]) -> list[tuple[str, str]]:
    """Collection and path of everything that the chain reads or writes. Of a path that differs in each element of an array,
    what they have in common."""
    values = {**dict.fromkeys("Aa", _EACH), **symbols}
    found = []
    for step in plan.steps:
        for template in (step.source, step.destination) if step.kind != CLEANUP else ():
            common, cut, _ = expand(template, values).partition(_EACH)
            address = resolve.address(common.rpartition("/")[0] + "/" if cut else common)
            found.append((address.collection, address.path))
    return found


#: Stands for what differs in each element; no path has it.
_EACH = "\ue000"


def clean(chain: Chain, step: Step, address: Address, paths: Iterable[str]) -> StepResult:
    """Delete those of these paths that may go, for a cleanup step, exactly once, and look at it."""
    wanted = sorted({normalised(path) for path in paths})
    if not wanted:
        return StepResult(SKIPPED, cause="no receipt of this chain covers a file there")

    def again(left: Iterable[str]) -> list[Verdict]:
        return carry_out.judged(evidence.gather(address.collection, None, owner=chain.id), left, evidence.View())

    notify = config.load().settings.notify
    wait_policy = wait_policy_of(chain.plan.staging, step)
    sending = Sending(_label(step, chain.symbols), f"{chain.scope}/{step.name}", chain.id, notify, wait_policy)
    try:
        begun = carry_out.once(address.collection, wanted, again, sending)
    except Problem as problem:
        return of_problem(problem)
    kept = [each for each in begun.verdicts.values() if not each.delete]
    for each in kept:
        log.say(f"{chain.id}: {step.name}: kept {each.path}: {each.reason}")
    if begun.submitted is None:
        cause = f"{units.counted(len(kept), 'file')} kept, such as {kept[0].path}: {kept[0].reason}"
        return StepResult(STUCK if any(each.later for each in kept) else SKIPPED, cause=cause)
    return _looked_at({step.name: begun.submitted.entry}, wait_policy)[step.name]
