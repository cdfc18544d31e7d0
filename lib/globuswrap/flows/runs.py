"""Start flow runs, once per key, wait for them, and report how they ended.

Starting has no submission id either. Each run carries a tag that is written down before it is started; whoever comes with the
same key looks for that tag first, and a run that a repeated request started besides is canceled.
"""

from __future__ import annotations

import hashlib
import json
import os
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from globuswrap import errors
from globuswrap.errors import Problem, Refused, UsageProblem
from globuswrap.flows import definition, deploy
from globuswrap.globus import arguments, verbs
from globuswrap.globus.errors import Transient
from globuswrap.system import files, locks, log, records
from globuswrap.system.pacing import Pace
from globuswrap.transfers import request as requests

LISTED = 200
#: Where a run is shown to people.
WEBAPP = "https://app.globus.org/runs/{run_id}"


@dataclass(frozen=True)
class Start:
    """What to start. `key`: run again under it, it is the same run; None: a new one each time."""

    flow_id: str
    given: Mapping[str, Any]
    key: str | None = None
    label: str | None = None
    tags: Sequence[str] = ()
    managers: Sequence[str] = ()
    monitors: Sequence[str] = ()

    def __post_init__(self) -> None:
        requests.checked_name(self.key)


@dataclass(frozen=True)
class Started:
    """A run, and whether it was `new` or `adopted`."""

    run_id: str
    how: str


def checked(start: Start) -> None:
    """Compare the input with the flow's schema, before anything is sent. UsageProblem names every way it does not fit."""
    flow = verbs.flow(start.flow_id)
    wrong = definition.input_problems(flow.get("input_schema") or {}, start.given)
    if wrong:
        problem = UsageProblem(
            "bad-input",
            f"the input does not fit the schema of {flow.get('title')}: {'; '.join(wrong)}",
            f"see: globus flows show {start.flow_id}",
        )
        problem.data = {"problems": wrong}
        raise problem


def start(wanted: Start) -> Started:
    """Start a run once. Raises UsageProblem when the key stands for another flow or input, TryLater when another has it."""
    if wanted.key is None:
        return _started(wanted, f"gw-{uuid.uuid4().hex[:12]}", [])
    place = files.private_directory(files.state_dir() / "flows")
    name = hashlib.sha256(json.dumps([deploy.place(), wanted.key]).encode()).hexdigest()[:32]
    digest = hashlib.sha256(json.dumps([wanted.flow_id, wanted.given], sort_keys=True).encode()).hexdigest()
    with locks.take(place / f"{name}.lease"):
        record = _read(place / f"{name}.json")
        if record and record.get("digest") != digest:
            raise UsageProblem("key-taken", f"key {wanted.key} is already used for another run", "use another --key")
        if record.get("run_id"):
            return Started(str(record["run_id"]), "adopted")
        known = bool(record)
        record = record or {"digest": digest, "tag": f"gw-{uuid.uuid4().hex[:12]}", "flow": wanted.flow_id}
        files.write_atomic(place / f"{name}.json", json.dumps(record) + "\n")
        tagged = _tagged(wanted.flow_id, record["tag"]) if known else []
        done = Started(tagged[0], "adopted") if tagged else _started(wanted, record["tag"], tagged)
        files.write_atomic(place / f"{name}.json", json.dumps({**record, "run_id": done.run_id}) + "\n")
        return done


def _read(path: Path) -> dict[str, Any]:
    try:
        return dict(records.parsed(path.read_text("utf-8")))
    except FileNotFoundError:
        return {}


def _started(wanted: Start, tag: str, known: Sequence[str]) -> Started:
    place = files.private_directory(files.state_dir() / "flows")
    document = place / f"input-{os.getpid()}-{tag}.json"
    files.write_atomic(document, json.dumps(wanted.given))
    argv = (
        *("flows", "start", "--input", f"file:{document}", "--tag", tag),
        *arguments.option("label", wanted.label),
        *(part for each in wanted.tags for part in ("--tag", each)),
        *(part for each in wanted.managers for part in ("--manager", each)),
        *(part for each in wanted.monitors for part in ("--monitor", each)),
        *("--", wanted.flow_id),
    )
    try:
        # Not sent again from here: whether it arrived is looked up under its tag.
        answer = verbs.send(*argv, retry_for=0.0)
        run_id = str(answer["run_id"])
    except Transient:
        found = _tagged(wanted.flow_id, tag)
        if not found:
            raise
        run_id = found[0]
    finally:
        document.unlink(missing_ok=True)
    for extra in _tagged(wanted.flow_id, tag)[1:]:
        log.say(f"run {extra} was started twice; the second was canceled")
        verbs.send("flows", "run", "cancel", extra)
    first = _tagged(wanted.flow_id, tag)
    return Started(first[0] if first else run_id, "new")


def _tagged(flow_id: str, tag: str) -> list[str]:
    """Runs with a tag, oldest first."""
    mine = [row for row in verbs.flow_runs(flow_id, LISTED) if tag in (row.get("tags") or ())]
    # The list is newest first; of two within a second the later one stands before the other.
    return [str(row["run_id"]) for row in sorted(reversed(mine), key=lambda row: str(row.get("start_time")))]


# how they end


@dataclass(frozen=True)
class Ended:
    """The end of waiting for a run. Names and exit codes are those of `wait`. Of a run that failed, the `state` in which it did,
    and that state's `input`, as far as its log tells."""

    run_id: str
    name: str
    exit_code: int
    cause: str
    remedy: str
    run: Mapping[str, Any]
    state: str = ""
    input: Any = None

    def problem(self) -> Problem | None:
        if self.exit_code == errors.DONE:
            return None
        kind = {
            errors.REFUSED: errors.Refused,
            errors.STOPPED: errors.StoppedEarly,
            errors.HELD: errors.Held,
            errors.TRY_LATER: errors.TryLater,
        }[self.exit_code]
        problem = kind(f"run-{self.name}", self.cause, self.remedy)
        problem.data = self.as_data()
        return problem

    def as_data(self) -> dict[str, Any]:
        return {
            "run_id": self.run_id,
            "outcome": self.name,
            "exit_code": self.exit_code,
            "web": WEBAPP.format(run_id=self.run_id),
            "state": self.state or None,
            "input": self.input,
            "run": dict(self.run),
        }


#: A run that needs its owner: a consent, or a login.
_HELD = "INACTIVE"


def judged(run: Mapping[str, Any], held_for: float, grace: float) -> Ended | None:
    """What a run's document says: its end, or None while it is worth waiting on. Refused for a status that is not known."""
    run_id, status = str(run.get("run_id")), run.get("status")
    details = run.get("details") or {}
    code = str(details.get("code") or "")
    told = " ".join(f"{code}: {details.get('description') or ''}".split())
    logs = f"see: globus flows run show-logs {run_id}"
    if status == "SUCCEEDED":
        return Ended(run_id, "succeeded", errors.DONE, "", "", run)
    if status == "FAILED" and code == "FlowCanceled":
        return Ended(run_id, "canceled", errors.STOPPED, told, logs, run)
    if status == "FAILED":
        return Ended(run_id, "failed", errors.REFUSED, told, logs, run)
    if status == _HELD:
        remedy = f"fix the problem, then: globus flows run resume {run_id}"
        return Ended(run_id, "inactive", errors.HELD, told, remedy, run) if held_for >= grace else None
    if status == "ACTIVE":
        return None
    raise Refused("unknown-status", f"run {run_id} has the unknown status {status!r}", logs)


def _with_state(ended: Ended, retry_for: float) -> Ended:
    """The end with the state that failed and its input; without them where the log cannot be read."""
    try:
        entries = verbs.flow_run_log(ended.run_id, retry_for)
    except Problem as problem:
        log.say(f"the log of run {ended.run_id} was not read: {problem.cause}")
        return ended
    named = [entry.get("details") or {} for entry in entries if (entry.get("details") or {}).get("state_name")]
    if not named:
        return ended
    state = str(named[0]["state_name"])
    given = next((each["input"] for each in named if each["state_name"] == state and "input" in each), None)
    cause = ended.cause if state in ended.cause else f"state {state} failed: {ended.cause}"
    return replace(ended, cause=cause, state=state, input=given)


def wait(run_id: str, *, timeout: float | None, poll: float, grace: float, retry_for: float) -> Ended:
    """Wait for a run. Backs off from 1 s to `poll`; INACTIVE for longer than `grace` seconds is given up on, the run is not."""
    pace = Pace(poll, timeout)
    held_since: float | None = None
    while True:
        run = verbs.flow_run(run_id, retry_for)
        now = pace.elapsed
        if run.get("status") != _HELD:
            held_since = None
        elif held_since is None:
            held_since = now
        ended = judged(run, 0.0 if held_since is None else now - held_since, grace)
        if ended is not None:
            return _with_state(ended, retry_for) if ended.name == "failed" else ended
        if pace.over:
            remedy = f"keep waiting: globuswrap flow wait {run_id}"
            return Ended(run_id, "running", errors.TRY_LATER, f"still {run.get('status')}", remedy, run)
        log.set_activity(f"run {run_id} is {run.get('status')}")
        pace.rest()
