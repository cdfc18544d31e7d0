"""Run the `globus` command and return parsed JSON: the one function everything goes through is `call`.

Always `--format json`, no terminal, no standard input unless given, a time limit, an environment without what would change
its behaviour. It never imports the CLI's own libraries: login, tokens and consents stay where the user has them.
"""

from __future__ import annotations

import os
import random
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import IO, Any, TypeVar

from globuswrap import config
from globuswrap.errors import NoGlobus, Refused
from globuswrap.globus import accounts, arguments, errors, versions
from globuswrap.globus.errors import Transient
from globuswrap.system import log, process, records, units

Result = TypeVar("Result")


@dataclass(frozen=True)
class Cli:
    """The command that was found: its path, its version, and the flags it is known to refuse."""

    path: str
    version: tuple[int, ...]
    refused: tuple[str, ...] = ()


@cache
def find() -> Cli:
    """The `globus` to run: option or GLOBUSWRAP_GLOBUS or config, else PATH, else beside the running Python.

    Raises NoGlobus if there is none (127) or it is older than 3.27 (1, with the command that updates it).
    """
    wanted = config.load().settings.globus_command
    if wanted:
        path = process.find_program(os.path.expanduser(wanted))
        if path is None:
            raise errors.no_globus(wanted, "it does not exist, or is not executable")
    else:
        path = process.find_program("globus") or process.find_program("globus", os.path.dirname(sys.executable))
        if path is None:
            raise errors.no_globus("globus", "not on PATH and not next to this Python")
    facts = versions.known(path)
    try:
        found = tuple(facts.get("version", ())) or versions.ask(path, environment(path))
    except process.ProgramMissing as problem:
        raise errors.no_globus(path, problem.detail or "it cannot be started") from None
    if found is None:
        raise NoGlobus("no-globus", f"{path} is not the Globus CLI", "set GLOBUSWRAP_GLOBUS to the path of globus")
    if "version" not in facts:
        versions.remember(path, version=list(found))
    if found < versions.MINIMUM:
        raise Refused(
            "old-globus",
            f"{path} is globus-cli {'.'.join(map(str, found))}; globuswrap needs 3.27 or newer",
            "update it: pipx upgrade globus-cli (or: pip install --upgrade 'globus-cli>=3.27')",
        )
    return Cli(path, found, tuple(facts.get("refused", ())))


def environment(path: str) -> dict[str, str | None]:
    """What is laid over the environment for `globus`.

    PS1 makes it think it is interactive. PYTHONHOME and, where the command has an environment of its own, PYTHONPATH
    (which cluster modules set) would load other packages into it. UTF-8 mode makes any locale pass any name.
    """
    own = (Path(os.path.realpath(path)).parent.parent / "pyvenv.cfg").exists()
    return {
        "GLOBUS_CLI_INTERACTIVE": "0",
        "PYTHONUTF8": "1",
        **dict.fromkeys(("PS1", "PYTHONHOME", "PYTHONSTARTUP", "PYTHONINSPECT", "PYTHONWARNINGS", "PYTHONSAFEPATH")),
        **({"PYTHONPATH": None} if own else {}),
        **accounts.environment(),
    }


def call(
    *args: str,
    stdin: bytes | Path | IO[bytes] | None = None,
    timeout: float | None = None,
    env: Mapping[str, str | None] | None = None,
) -> Any:
    """Run `globus ARGS --format json` once and return the parsed document (None for an empty answer); `env` is laid over all.

    Raises the exception tree of `faults`; a flag that this CLI refuses, of those that may be left out, is left out.
    """
    cli = find()
    argv = (cli.path, *_with_output_options(tuple(arg for arg in args if arg not in cli.refused)))
    limit = timeout if timeout is not None else config.load().settings.globus_timeout
    try:
        done = process.run(argv, env={**environment(cli.path), **(env or {})}, stdin=stdin, timeout=limit)
    except process.ProgramMissing as problem:
        raise errors.no_globus(cli.path, problem.detail or problem.cause) from None
    except process.ProgramTimedOut as problem:
        raise Transient(
            "globus-timeout",
            problem.cause,
            "check the network; run the same command again",
            ran=problem.ran,
            detail=problem.detail,
        ) from None
    if done.code == 2 and _refuses(done.stderr, arguments.SKIP_ACTIVATION) and arguments.SKIP_ACTIVATION in argv:
        versions.remember(cli.path, refused=[*cli.refused, arguments.SKIP_ACTIVATION])
        find.cache_clear()
        return call(*args, stdin=stdin, timeout=timeout, env=env)
    if done.code != 0:
        raise errors.problem_of(done)
    if not done.stdout.strip():
        return None
    try:
        return records.parsed(done.stdout)
    except ValueError:
        raise Refused(
            "globus-not-json",
            f"globus printed something that is not JSON: {done.stdout.strip()[:80]!r}",
            "run it yourself: " + log.shell_line(argv),
            ran=argv,
            detail=done.stdout[:2000],
        ) from None


def retrying(work: Callable[[], Result], retry_for: float | None = None) -> Result:
    """Do `work` again, with jittered backoff from 1 s to 30 s, while it raises Transient.

    No attempt starts later than `retry_for` seconds after the first (default: the setting); then the last problem is
    raised, which is a TryLater (75). The CLI's own retries honour Retry-After inside each attempt.
    """
    allowed = config.load().settings.retry_for if retry_for is None else retry_for
    started = time.monotonic()
    pause = 1.0
    while True:
        try:
            return work()
        except Transient as problem:
            delay = pause * random.uniform(0.5, 1.0)
            left = started + allowed - time.monotonic()
            if delay > left:
                raise
            log.say(f"{problem.cause}; retrying in {units.human_duration(delay)}")
            time.sleep(delay)
            pause = min(2 * pause, 30.0)


def _with_output_options(args: tuple[str, ...]) -> tuple[str, ...]:
    """The arguments with ours added: at the end, or before a `--` that ends the options."""
    ours = ("--format", "json", "--map-http-status", errors.MAP_HTTP_STATUS)
    at = args.index("--") if "--" in args else len(args)
    return (*args[:at], *ours, *args[at:])


def _refuses(stderr: str, flag: str) -> bool:
    return flag in stderr and "no such option" in stderr.lower()
