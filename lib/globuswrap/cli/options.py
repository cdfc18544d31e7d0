"""Options that several commands share, as dataclasses, and the decorator that turns such a parameter into options.

A command names `waiting: WaitOptions` once and takes every option in it; a new option appears everywhere at once. An option is
called as its parameter is. One that is on or off has its name beside it: typer adds --no-NAME to those that have none.
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
import typing
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from globuswrap.cli import help, output, progress
from globuswrap.system import log, units
from globuswrap.transfers.options import Options, declared

if TYPE_CHECKING:  # --help is made from this module alone: rooms are imported by what uses them
    from globuswrap.transfers.operations import Hooks
    from globuswrap.transfers.submit import Policy
    from globuswrap.transfers.wait import WaitPolicy


def option(default: Any, *flags: str, **rest: Any) -> Any:
    """A field of a group of options, with what `typer.Option` takes."""
    return dataclasses.field(default=default, metadata={"option": typer.Option(*flags, **rest)})


CONTEXT = {"help_option_names": ["-h", "--help"], "max_content_width": 100}


@dataclass(frozen=True)
class OutputOptions:
    """How a command talks."""

    json: bool = option(False, "--json", help="Print one JSON document on stdout.")
    verbose: int = option(
        0,
        *("--verbose", "-v"),
        count=True,
        show_default=False,
        help="Show each globus command as it runs; with -vv, its output too.",
    )
    quiet: bool = option(False, "--quiet", "-q", help="Print only problems on stderr.")

    def apply(self) -> None:
        from globuswrap import config

        settings = config.load().settings
        output.state.json = self.json or settings.json
        log.set_level(0 if self.quiet else settings.verbosity + self.verbose)


# Options that several commands have under the same names.
DryRun = Annotated[bool, typer.Option("--dry-run", help="Show what would be done; change nothing.")]
StagePartition = Annotated[
    str | None,
    typer.Option("--stage-partition", "--stage-queue", help="Submit stage jobs to this partition or queue."),
]
Source = Annotated[str, typer.Argument(help="Copy from NAME_OR_UUID:/path, or a local path on a known mount.")]
Destination = Annotated[str, typer.Argument(help="Copy to NAME_OR_UUID:/path, or a local path on a known mount.")]
Label = Annotated[
    str | None, typer.Option("--label", help="Label each task with this text; ` gw-<digest>` is appended.")
]
Notify = Annotated[
    str | None,
    typer.Option(
        "--notify", help="Send email: on, off, or a comma list of succeeded, failed, inactive (default: off)."
    ),
]
Key = Annotated[str | None, typer.Option(help="Name this request, so that a rerun under the same name finds it.")]
Once = Annotated[bool, typer.Option("--once", help="Return the recorded result if this request has already completed.")]
Deadline = Annotated[
    str | None,
    typer.Option(
        "--deadline", help="Cancel if not done by then: +2h, or 2026-11-20T18:00 (local unless it has a zone)."
    ),
]


@dataclass(frozen=True)
class TransferOptions(Options):
    """Options of `globus transfer`, under its names: those declared in transfers/options.py, and what chooses files."""

    recursive: bool | None = option(
        None,
        "--recursive/--no-recursive",
        "-r",
        help="Transfer a directory, or with --no-recursive a file (default: Globus detects which).",
    )
    include: list[str] | None = option(
        None, help="Include files that match this pattern; the order with --exclude matters."
    )
    exclude: list[str] | None = option(None, help="Exclude files that match this pattern; the first match wins.")

    def options(self) -> Options:
        """As the transfers room takes them."""
        chosen = {each.name: getattr(self, each.name) for each in declared()}
        return Options(**chosen, filters=OrderedFilters.seen)


@dataclass(frozen=True)
class SubmitOptions:
    """How a request is submitted."""

    label: Label = None
    notify: Notify = None
    deadline: Deadline = None
    key: Key = None
    once: Once = False
    dry_run: bool = option(False, "--dry-run", help="Show what would be sent; submit nothing.")

    def __post_init__(self) -> None:
        if self.key is not None:
            from globuswrap.transfers.request import checked_name

            checked_name(self.key)

    def policy(self, retry_for: float | None = None) -> Policy:
        from globuswrap.transfers.submit import Policy

        return Policy(name=self.key, once=self.once, retry_for=retry_for)

    def rest(self) -> dict[str, Any]:
        """label, notify and deadline as a request takes them."""
        from globuswrap import config

        return {
            "label": self.label,
            "notify": self.notify if self.notify is not None else config.load().settings.notify,
            "deadline": None if self.deadline is None else units.utc_text(units.moment(self.deadline)),
        }


@dataclass(frozen=True)
class WaitOptions:
    """How to wait, and what to do then."""

    timeout: float | None = option(None, parser=units.duration, help="Give up waiting after this time (exit 75).")
    poll: float | None = option(None, parser=units.duration, help="Poll at least this often (default 60s).")
    fault_grace: float | None = option(
        None, parser=units.duration, help="Tolerate a permanent fault or a pause for this long (default 5m)."
    )
    max_faults: int | None = option(None, help="Cancel the task after more faults than this.")
    permanent: str | None = option(None, help="Treat these error codes as permanent (comma-separated).")
    keep: bool = option(False, "--keep", help="Keep a task with a permanent fault instead of canceling it.")
    retry_for: float | None = option(
        None, parser=units.duration, help="Retry for this long when Globus cannot be reached (default 10m)."
    )
    strict: bool = option(False, "--strict", help="Treat skipped files as a failure (exit 6).")
    receipt: Path | None = option(None, help="Write the receipt (JSON) to this file too.")
    receipt_files: bool = option(False, "--receipt-files", help="List the copied files in the receipt.")
    then: str | None = option(None, help="Run this shell command on success.")
    on_failure: str | None = option(None, help="Run this shell command on failure.")

    def wait_policy(self, wait: bool = True) -> WaitPolicy:
        """As the transfers room takes them. `wait`: is --wait given, where there is such an option?"""
        from globuswrap.transfers.wait import WaitPolicy

        return WaitPolicy(
            wait=wait,
            timeout=self.timeout,
            poll=self.poll,
            fault_grace=self.fault_grace,
            max_faults=self.max_faults,
            permanent=None if self.permanent is None else tuple(code.strip() for code in self.permanent.split(",")),
            keep=self.keep,
            strict=self.strict,
            receipt_files=self.receipt_files,
            retry_for=self.retry_for,
        )

    def after(self) -> Hooks:
        from globuswrap.transfers.operations import Hooks

        return Hooks(then=self.then, on_failure=self.on_failure, receipt=self.receipt)


class OrderedFilters(help.Command):
    """A command that remembers the order of --include and --exclude, which decides: the first match wins. The parser keeps their
    values apart, and says in which order they came."""

    seen: typing.ClassVar[tuple[tuple[str, str], ...]] = ()

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        values, _, order = self.make_parser(ctx).parse_args([*args])
        patterns = {name: iter(values.get(name) or ()) for name in ("include", "exclude")}
        OrderedFilters.seen = tuple((each.name, next(patterns[each.name])) for each in order if each.name in patterns)
        return super().parse_args(ctx, args)


class Commands(TyperGroup):
    """The commands of one module. Each is built when it is used, since that takes longer than all the rest of a short command's
    start."""

    def __init__(self, help: str = "") -> None:
        super().__init__(help=help, no_args_is_help=True, context_settings=CONTEXT, rich_markup_mode=None)
        self.functions: dict[str, tuple[Callable[..., Any], dict[str, Any]]] = {}

    def list_commands(self, ctx: Any) -> list[str]:
        return list(self.functions)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        if cmd_name not in self.functions:
            return None
        function, rest = self.functions[cmd_name]
        alone = typer.Typer(rich_markup_mode=None, add_completion=False, context_settings=CONTEXT)
        _register(alone, cmd_name, {"cls": OrderedFilters, **rest}, function)
        made: Any = typer.main.get_command(alone)
        made.name = cmd_name
        made.examples = help.EXAMPLES.get(f"{self.name or ''} {cmd_name}".strip(), ())
        return made

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, _first_line(function)) for name, (function, _) in self.functions.items()])


def _first_line(function: Callable[..., Any]) -> str:
    return (function.__doc__ or "").strip().partition("\n")[0]


def command(app: Commands, name: str | None = None, **rest: Any) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Make a function a command of `app`: dataclass parameters become options, --json and -v come by themselves, and the
    Report it returns is printed."""

    def register(function: Callable[..., output.Report | None]) -> Callable[..., Any]:
        app.functions[name or function.__name__.replace("_", "-")] = (function, rest)
        return function

    return register


@functools.cache
def _fields(hint: Any) -> tuple[inspect.Parameter, ...]:
    """The fields of a dataclass that are options: by `option`, by their type, or as transfers/options.py declares them."""
    types = typing.get_type_hints(hint, include_extras=True)
    known = {each.name: typer.Option(*each.flags, help=each.help) for each in declared(hint)}
    known |= {each.name: each.metadata["option"] for each in dataclasses.fields(hint) if "option" in each.metadata}
    types |= {name: Annotated[types[name], said] for name, said in known.items()}
    return tuple(
        inspect.Parameter(each.name, inspect.Parameter.KEYWORD_ONLY, default=each.default, annotation=types[each.name])
        for each in dataclasses.fields(hint)
        if typing.get_origin(types[each.name]) is Annotated
    )


def _register(app: typer.Typer, name: str, rest: dict[str, Any], function: Callable[..., output.Report | None]) -> None:
    hints = typing.get_type_hints(function, include_extras=True)
    given = inspect.signature(function).parameters
    groups = {each: hint for each, hint in hints.items() if dataclasses.is_dataclass(hint) and each in given}
    parameters = [
        inspect.Parameter(each, inspect.Parameter.KEYWORD_ONLY, default=known.default, annotation=hints.get(each))
        for each, known in given.items()
        if each not in groups
    ]
    for hint in (*groups.values(), OutputOptions):
        parameters.extend(_fields(typing.cast(Any, hint)))

    @functools.wraps(function)
    def run(**values: Any) -> int:
        def taken(hint: Any) -> Any:
            return hint(**{each.name: values.pop(each.name) for each in _fields(hint)})

        taken(OutputOptions).apply()
        built = {each: taken(hint) for each, hint in groups.items()}
        with progress.line():
            report = function(**values, **built)
        if report is None:
            return 0
        output.show(report)
        return report.exit_code

    del run.__wrapped__
    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {each.name: each.annotation for each in parameters}
    app.command(name, **rest)(run)
