"""`globuswrap flow`."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from globuswrap.cli.options import Commands, DryRun, command, option
from globuswrap.cli.output import Report
from globuswrap.errors import UsageProblem
from globuswrap.system import log, records, units

if TYPE_CHECKING:
    from globuswrap.flows.runs import Ended

app = Commands(help="Deploy, start and follow Globus flows.")

Flow = Annotated[
    str, typer.Argument(help="Start the flow with this id, or deployed from this directory.", metavar="DIR_OR_ID")
]


@dataclass(frozen=True)
class RunWaitOptions:
    """How to wait for a run."""

    timeout: float | None = option(None, parser=units.duration, help="Give up waiting after this time (exit 75).")
    poll: float = option("60s", parser=units.duration, help="Poll at least this often.")
    fault_grace: float = option("5m", parser=units.duration, help="Tolerate an inactive run for this long (exit 7).")

    def ended(self, run_id: str) -> Ended:
        """The good end of a run; raises the problem of any other."""
        from globuswrap import config
        from globuswrap.flows import runs

        ended = runs.wait(
            run_id,
            timeout=self.timeout,
            poll=self.poll,
            grace=self.fault_grace,
            retry_for=config.load().settings.retry_for,
        )
        problem = ended.problem()
        if problem is not None:
            if ended.state:
                log.say(f"the input of state {ended.state} was: {json.dumps(ended.input, indent=1)}", 0)
            raise problem
        return ended


@command(app)
def deploy(
    directory: Annotated[
        Path,
        typer.Argument(
            help="Deploy this directory: definition.json, schema.json and, optionally, flow.toml.", metavar="DIR"
        ),
    ],
    dry_run: DryRun = False,
) -> Report:
    """Create the flow, or update it where it differs from its directory.

    Its id is recorded in DIR/deployed.json.
    """
    from globuswrap.flows import deploy as deploying

    done = deploying.plan(directory)[1] if dry_run else deploying.deploy(directory)
    act = {"created": "create", "updated": "update", "kept": "keep"}[done.act] if dry_run else done.act
    data = {"flow_id": done.flow_id or None, "act": act, "changed": list(done.changed), "dry_run": dry_run}
    if done.changed:
        log.say(f"differs in: {', '.join(done.changed)}")
    return Report(data, [f"{act} {done.flow_id}".rstrip()])


@command(app)
def start(
    flow: Flow,
    waiting: RunWaitOptions,
    input_: str | None = typer.Option(None, "--input", help="Read the input from this JSON file, or from stdin (-)."),
    set_: list[str] | None = typer.Option(
        None, "--set", help="Set NAME=VALUE or A.B=VALUE; a VALUE that is not valid JSON is text."
    ),
    address: list[str] | None = typer.Option(None, help="Set NAME to {id, path}: NAME=COLLECTION:/path."),
    function: list[str] | None = typer.Option(
        None, help="Set NAME to the id of a function in [functions]: NAME=FUNCTION."
    ),
    key: str | None = typer.Option(None, help="Name this run: a rerun with the same key finds it."),
    label: str | None = typer.Option(None, help="Label the run with this text."),
    tag: list[str] | None = typer.Option(None, help="Tag the run with this word."),
    manager: list[str] | None = typer.Option(None, help="Let this person manage the run."),
    monitor: list[str] | None = typer.Option(None, help="Let this person see the run."),
    wait_: bool = typer.Option(False, "--wait", "-w", help="Wait until the run has ended."),
    dry_run: bool = typer.Option(False, "--dry-run", help="Check the input; start nothing."),
) -> Report:
    """Start a run, after checking the input against the flow's schema."""
    from globuswrap.collections import principals
    from globuswrap.flows import deploy as deploying
    from globuswrap.flows import runs
    from globuswrap.flows.runs import Start

    wanted = Start(
        flow_id=deploying.flow_id(flow),
        given=_input(input_, set_ or [], address or [], function or []),
        key=key,
        label=label,
        tags=tag or [],
        managers=principals.urns(manager or []),
        monitors=principals.urns(monitor or []),
    )
    runs.checked(wanted)
    if dry_run:
        return Report(
            {"flow_id": wanted.flow_id, "input": dict(wanted.given)}, json.dumps(wanted.given, indent=1).split("\n")
        )
    done = runs.start(wanted)
    log.say(f"{'started' if done.how == 'new' else 'already started'}: {runs.WEBAPP.format(run_id=done.run_id)}")
    data = {"run_id": done.run_id, "how": done.how, "flow_id": wanted.flow_id}
    if not wait_:
        return Report(data, [done.run_id])
    ended = waiting.ended(done.run_id)
    return Report({**data, **ended.as_data()}, [done.run_id])


@command(app)
def wait(
    run: Annotated[str, typer.Argument(help="Wait for the run with this id.", metavar="RUN_ID")],
    waiting: RunWaitOptions,
) -> Report:
    """Wait for a run, and say how it ended.

    Exit codes: 0 done, 1 failed, 5 canceled, 7 inactive, 75 still running.
    """
    ended = waiting.ended(run)
    return Report(ended.as_data(), [ended.name])


def _input(source: str | None, pairs: list[str], addresses: list[str], functions: list[str]) -> dict[str, Any]:
    """The input document: of a file, then single values, in the order they are given."""
    from globuswrap.collections import resolve
    from globuswrap.flows import deploy as deploying

    found = records.given_object(source) if source is not None else {}
    for pair in pairs:
        name, value = _pair(pair, "--set")
        try:
            _set(found, name, records.parsed(value))
        except ValueError:
            _set(found, name, value)
    for pair in addresses:
        name, value = _pair(pair, "--address")
        where = resolve.address(value)
        _set(found, name, {"id": where.collection, "path": where.path})
    for pair in functions:
        name, value = _pair(pair, "--function")
        _set(found, name, deploying.function_id(value))
    return found


def _pair(text: str, option: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals or not name or not all(name.split(".")):
        raise UsageProblem("bad-option", f"{option} {text}: not in the form NAME=VALUE", f"write {option} name=value")
    return name, value


def _set(document: dict[str, Any], name: str, value: Any) -> None:
    *above, last = name.split(".")
    for each in above:
        inner = document.setdefault(each, {})
        if not isinstance(inner, dict):
            raise UsageProblem("bad-option", f"--set {name}: {each} is not an object", "set the whole value instead")
        document = inner
    document[last] = value
