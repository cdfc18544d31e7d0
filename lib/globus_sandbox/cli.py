"""`globus-sandbox`: the commands of a sandbox for a terminal."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from globus_sandbox import commands
from globus_sandbox.errors import SandboxError
from globus_sandbox.launch import Sandbox, become, shell, surroundings
from globus_sandbox.settings import LIMITS

PROGRAM = "globus-sandbox"


def main(argv: list[str] | None = None) -> int:
    options = _parser().parse_args(argv)
    if options.command == "run" and options.argv[:1] == ["--"]:
        del options.argv[0]
    try:
        answer = _answer(options)
    except SandboxError as error:
        print(f"{PROGRAM}: {error.cause}\n  remedy: {error.remedy}", file=sys.stderr)
        if error.detail:
            print(error.detail, file=sys.stderr)
        return error.exit_code
    if options.json or answer.lines:
        print(json.dumps(answer.document, indent=2) if options.json else "\n".join(answer.lines))
    return answer.code


def _parser() -> argparse.ArgumentParser:
    starting = argparse.ArgumentParser(add_help=False)
    starting.add_argument(
        "--collection",
        action="append",
        metavar="NAME[:KIND]",
        help="create NAME, or NAME:KIND (mapped, guest, gcp, gcp-guest); repeatable",
    )
    starting.add_argument(
        "--login", choices=("user", "client", "none"), default="user", help="log in as user (default), client or none"
    )
    starting.add_argument(
        "--progress", default="at-once", help="set when tasks end: at-once, polls:N, timed:SECONDS, held"
    )
    starting.add_argument(
        "--seed", type=Path, metavar="FILE", help="start with the identities, groups and collections of this TOML file"
    )
    starting.add_argument(
        "--bind", default="127.0.0.1", metavar="ADDRESS", help="listen on this address (default: 127.0.0.1)"
    )
    starting.add_argument(
        "--data-access", action="store_true", help="require a data_access consent for mapped collections"
    )
    starting.add_argument(
        "--limit", action="append", default=[], metavar="NAME=N", help=f"set a limit: {', '.join(LIMITS)}"
    )
    starting.add_argument("--durable", action="store_true", help="keep the state on disk")
    which = argparse.ArgumentParser(add_help=False)
    which.add_argument(
        "--base", type=Path, help="use the sandbox in this directory (default: this shell's, or that of `up`)"
    )

    parser = argparse.ArgumentParser(prog=PROGRAM, description="Run a local Globus for the globus command and the SDK.")
    parser.add_argument("--json", action="store_true", help="print a document instead of lines")
    verbs = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    run = verbs.add_parser("run", parents=[starting, which], help="run one command in a fresh sandbox")
    run.add_argument("argv", nargs=argparse.REMAINDER, metavar="-- COMMAND...")
    verbs.add_parser("shell", parents=[starting, which], help="open a shell in the running sandbox, or in a fresh one")
    verbs.add_parser("up", parents=[starting, which], help="start a sandbox that keeps running")
    verbs.add_parser("serve", parents=[starting, which], help="run a sandbox in the foreground until it is stopped")
    env = verbs.add_parser("env", parents=[which], help='make a shell use the sandbox: eval "$(globus-sandbox env)"')
    env.add_argument("--unset", action="store_true", help="undo it in a shell that used a sandbox")
    down = verbs.add_parser("down", parents=[which], help="stop the sandbox and remove its directory")
    down.add_argument("--keep", action="store_true", help="keep the directory and the files in it")
    verbs.add_parser("status", parents=[which], help="show what the sandbox contains")
    fault = verbs.add_parser("fault", parents=[which], help="inject a fault, or list the active faults")
    fault.add_argument("kind", nargs="?", help="inject this kind of fault")
    fault.add_argument("fields", nargs="*", metavar="NAME=VALUE", help="set the fields of the fault")
    fault.add_argument("--clear", action="store_true", help="clear all faults, or those of this kind or id")
    progress = verbs.add_parser("progress", parents=[which], help="set when tasks end")
    progress.add_argument("mode", help="set the mode: at-once, polls:N, timed:SECONDS or held")
    progress.add_argument("--task", help="change only this task")
    clock = verbs.add_parser("clock", parents=[which], help="move the sandbox's clock forward")
    clock.add_argument("forward", metavar="DURATION", help="move the clock by this much: 25h, 31d, 90 (seconds)")
    log = verbs.add_parser("log", parents=[which], help="show the requests that the sandbox received")
    log.add_argument("--service", help="show requests to auth, transfer, timer, flows, search, groups or gcs")
    log.add_argument("--method", help="show requests with this method: GET, POST, PUT or DELETE")
    log.add_argument("--path", help="show requests for paths that match, e.g. '/task/*'")
    log.add_argument(
        "--unknown", action="store_true", help="show requests that are not served; exit 1 if there are any"
    )
    verbs.add_parser("reset", parents=[which], help="forget tasks, faults, log and clock; files stay")
    return parser


def _answer(options: argparse.Namespace) -> commands.Answer:
    def started(base: Path | None, *, keep: bool = False) -> Sandbox:
        names = options.collection or ("archive", "scratch", "results")
        return Sandbox(
            base,
            names,
            login=options.login,
            progress=options.progress,
            durable=options.durable,
            keep=keep,
            bind=options.bind,
            data_access=options.data_access,
            limits=commands.limits(options.limit),
            seed=options.seed,
        )

    def say(text: str) -> None:
        print(text, file=sys.stderr)

    base: Path = options.base.absolute() if options.base else commands.default_base()
    if options.command == "run":
        box = started(options.base)
        box.start()
        become(options.argv or ["true"], box.env)
    if options.command == "shell":
        if commands.is_up(base):
            become(*shell(base, surroundings(base)))
        box = started(options.base)
        box.start()
        become(*shell(box.base, box.env))
    if options.command == "up":
        return commands.up(base, lambda: started(base, keep=True), say, PROGRAM)
    if options.command == "serve":
        base.mkdir(mode=0o700, parents=True, exist_ok=True)
        with started(base) as box:
            say(f"A local Globus is up at {box.url}; stop it with Ctrl-C.")
            box.wait()
        return commands.Answer({"base": str(base)})
    if options.command == "env":
        return commands.env(base, unset=options.unset)
    if options.command == "down":
        return commands.down(base, say, PROGRAM, keep=options.keep)
    if options.command == "status":
        return commands.status(base)
    if options.command == "fault":
        return commands.fault(base, options.kind, options.fields, clear=options.clear, program=PROGRAM)
    if options.command == "progress":
        return commands.progress(base, options.mode, options.task)
    if options.command == "clock":
        return commands.clock(base, commands.duration(options.forward))
    if options.command == "log":
        return commands.log(base, options.service, options.method, options.path, unknown=options.unknown)
    return commands.reset(base)
