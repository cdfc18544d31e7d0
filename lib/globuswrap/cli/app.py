"""The table of commands, and a group that imports a command's module only when that command is used."""

from __future__ import annotations

import importlib
from typing import Any

import typer
from typer.core import TyperGroup

from globuswrap import __version__
from globuswrap.cli import output
from globuswrap.cli.options import CONTEXT, Commands
from globuswrap.cli.table import COMMANDS, GROUPS, module, shown
from globuswrap.errors import UsageProblem, did_you_mean


class LazyGroup(TyperGroup):
    """Commands by their table; typer's own look-ups would import all of them for one line of help."""

    def list_commands(self, ctx: Any) -> list[str]:
        return list(shown())

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        output.state.command = cmd_name
        if cmd_name not in COMMANDS:
            remedy = did_you_mean(cmd_name, shown(), "see: globuswrap --help")
            raise UsageProblem("unknown-command", f"there is no command named {cmd_name!r}", remedy)
        return load(cmd_name)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """The first word is the command; the first two, where the table has them as one."""
        both = " ".join(args[:2])
        return super().resolve_command(ctx, [both, *args[2:]] if both in COMMANDS else args)

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        for group in GROUPS:
            with formatter.section(group):
                formatter.write_dl([(name, each.line) for name, each in shown().items() if each.group == group])


def load(name: str) -> Any:
    """The click command of one entry of the table."""
    commands: Commands = importlib.import_module(f"globuswrap.cli.{module(name)}").app
    if name in commands.functions:
        return commands.get_command(None, name)
    commands.name = name
    return commands


def group() -> Any:
    """The whole command line as one click group."""
    app = typer.Typer(
        cls=LazyGroup,
        rich_markup_mode=None,
        add_completion=False,  # see completion.py: typer's own imports every command
        no_args_is_help=True,
        context_settings=CONTEXT,
        help="Move research data around batch jobs, cron jobs and instruments with the globus command.",
        epilog="Help for one: globuswrap help COMMAND. "
        "Exit codes: 0 done, 1 refused or failed, 2 usage, 4 login, 5 stopped, 7 held, 75 try later (docs/troubleshooting.md).",
    )

    @app.callback()
    def globuswrap(
        version: bool = typer.Option(False, "--version", "-V", help=f"Print the version ({__version__}) and exit."),
        configuration: str | None = typer.Option(
            None,
            "--config",
            metavar="FILE",
            help="Read this configuration file too; it wins over the user's and the site's.",
        ),
    ) -> None:
        """Options before the command."""
        if configuration is not None:
            from globuswrap import config

            config.use(configuration)

    return typer.main.get_command(app)


def invoke(arguments: list[str]) -> int:
    """Run a command line and return its exit code. Usage errors of the parser are UsageProblems."""
    # Which click typer carries differs between its versions: its exceptions are found through its own.
    click_exception: Any = next(each for each in typer.BadParameter.__mro__ if each.__name__ == "ClickException")
    try:
        code = group().main(args=arguments, prog_name="globuswrap", standalone_mode=False)
    except click_exception as error:
        if type(error).__name__ == "NoArgsIsHelpError":
            print(error.format_message())
            return 2
        path = getattr(getattr(error, "ctx", None), "command_path", "globuswrap")
        cause = " ".join(error.format_message().split())
        raise UsageProblem("bad-usage", cause, f"see: {path} --help") from None
    except typer.Abort:
        return 130
    return code if isinstance(code, int) else 0
