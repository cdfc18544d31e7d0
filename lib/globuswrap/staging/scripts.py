"""Write generated job scripts: short bash that a person can read and rerun, without secrets."""

from __future__ import annotations

import math
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path

from globuswrap import schedulers
from globuswrap.schedulers.base import Scheduler, header
from globuswrap.staging.plan import Plan

#: Variables that a stage job needs, for schedulers do not hand on the environment (PBS), or not all of it.
_NAMES = {
    "PATH",
    "HOME",
    "XDG_CONFIG_HOME",
    "XDG_CONFIG_DIRS",
    "XDG_STATE_HOME",
    "XDG_CACHE_HOME",
    "GLOBUS_PROFILE",
    "GLOBUS_SDK_ENVIRONMENT",
    "NO_PROXY",
    "no_proxy",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "http_proxy",
    "https_proxy",
    "SSL_CERT_FILE",
    "REQUESTS_CA_BUNDLE",
}
_PREFIXES = ("GLOBUS_SDK_SERVICE_URL_", "GLOBUSWRAP_")


def environment(environ: Mapping[str, str]) -> dict[str, str]:
    """What of the caller's environment generated scripts set: named settings, never a secret, never a proxy's password."""
    systems = filter(None, map(schedulers.batch_system, schedulers.KNOWN))
    wanted = _NAMES.union(*(each.settings for each in systems))
    chosen = {name: value for name, value in environ.items() if name in wanted or name.startswith(_PREFIXES)}
    return {
        name: value
        for name, value in sorted(chosen.items())
        if not (name.lower().endswith("_proxy") and "@" in value)
        and not any(word in name for word in ("SECRET", "TOKEN", "PASSWORD"))
        and "\0" not in value
    }


def settings(plan: Plan) -> str:
    """The file that stage jobs read first: what of the environment at `submit` they need."""
    lines = [f"# globuswrap chain {plan.id}: settings for its stage jobs, as they were when it was submitted."]
    lines += [f"export {name}={shlex.quote(value)}" for name, value in plan.environment.items()]
    return "\n".join(lines) + "\n"


def stage(plan: Plan, directory: Path, what: str, arguments: Sequence[str], scheduler: Scheduler) -> str:
    """A stage job: reads the settings, writes to the chain's log, and advances the chain."""
    lines = [
        "#!/bin/bash",
        f"# globuswrap chain {plan.id}: {what}. Written by `globuswrap submit`; running it again does no harm.",
        "umask 077",
        f"exec >>{shlex.quote(str(directory / 'log'))} 2>&1 </dev/null",
        f"source {shlex.quote(str(directory / 'settings'))} || exit 1",
        f"cd -- {shlex.quote(plan.cwd)} || cd /",
        f'printf \'== %(%Y-%m-%d %H:%M:%S)T %s: {what}, job %s\\n\' -1 "$HOSTNAME" "${{{scheduler.variables["id"]}:-}}"',
        f"exec {shlex.join([*plan.launcher, 'in-job', 'advance', *arguments])}",
    ]
    return "\n".join(lines) + "\n"


def inline(plan: Plan, payload: Path, text: str, scheduler: Scheduler | None) -> str:
    """The job of an inline chain: the user's own lines for the scheduler, then staging around their script.

    `payload` is the copy of the user's script, which runs as it is.
    """
    # Only globuswrap gets the recorded settings: the payload's environment stays the scheduler's.
    settings = [f"{name}={value}" for name, value in plan.environment.items()]
    lines = [
        "#!/bin/bash",
        *_own_lines(text, scheduler),
        f"# globuswrap chain {plan.id}: stages in, runs the script, stages out. Written by `globuswrap submit`.",
        f"source {shlex.quote(str(toolkit()))} || exit 1",
        f"gw_settings=({shlex.join(settings)})",
        f'gw_command=(env "${{gw_settings[@]}}" {shlex.join(plan.launcher)})',
        f"gw_chain {plan.id} {shlex.quote(str(payload))}"
        + ("" if plan.staging.stop_before is None else f" {math.ceil(plan.staging.stop_before)}"),
    ]
    return "\n".join(lines) + "\n"


def element(plan: Plan, directory: Path, payload: Path, text: str, scheduler: Scheduler) -> str:
    """The job of an array whose elements have to report: the user's own lines for the scheduler, their script, and a note of
    how each element ended."""
    lines = [
        "#!/bin/bash",
        *_own_lines(text, scheduler),
        f"# globuswrap chain {plan.id}: runs the script, and notes how it ended. Written by `globuswrap submit`.",
        "trap : TERM # the script gets it too",
        shlex.quote(str(payload)),
        "code=$?",
        f'echo "$code" >{shlex.quote(str(directory))}/exit."${scheduler.variables["id"]}"',
        'exit "$code"',
    ]
    return "\n".join(lines) + "\n"


def _own_lines(text: str, scheduler: Scheduler | None) -> list[str]:
    return [] if scheduler is None else [scheduler.prefix + rest for _, rest in header(text, scheduler.prefix)]


def toolkit() -> Path:
    """The shell toolkit for job scripts."""
    return Path(__file__).resolve().parent.parent / "shell" / "toolkit.sh"
