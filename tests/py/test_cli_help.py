"""Help: commands and options in groups, examples at the end, every word of it about something that exists."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from command_line import run, run_json
from globuswrap.cli import app, help
from globuswrap.cli.main import run as run_here
from globuswrap.cli.sandbox import Sandbox
from test_cli_lookup import fill
from test_docs_complete import walked

COMMANDS = dict(walked())


def shown(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    assert run_here([*words]) == 0
    return capsys.readouterr().out


def test_commands_are_in_groups_and_what_scripts_use_comes_last(capsys: pytest.CaptureFixture[str]) -> None:
    text = shown(capsys, "help")
    places = [text.index(f"\n{group}:\n") for group in app.GROUPS]
    assert places == sorted(places)
    assert all(each.group in app.GROUPS for each in app.shown().values())
    assert [name for name, each in app.shown().items() if each.group == app.GROUPS[-1]] == [
        *("tend", "toolkit", "completion")
    ]
    assert text.index("\n  completion") > max(
        text.index(f"\n  {name} ") for name in app.shown() if name != "completion"
    )


def test_help_and_version_are_commands_too(capsys: pytest.CaptureFixture[str]) -> None:
    assert shown(capsys, "help", "transfer") == shown(capsys, "transfer", "--help")
    assert shown(capsys, "help", "sync", "run") == shown(capsys, "sync", "run", "--help")
    assert shown(capsys, "help") == shown(capsys, "--help")
    assert shown(capsys, "version") == shown(capsys, "--version")
    assert run_here(["help", "frobnicate"]) == 2


@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_each_page_ends_with_its_examples(path: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    text = shown(capsys, *path, "--help")
    examples = help.EXAMPLES[" ".join(path)]
    assert text.endswith("Examples:\n" + "".join(f"  {line}\n" for line in examples))
    assert not re.search(r"--[a-z-]+ (TEXT|INTEGER|FLOAT)\b", text)  # values have names that say what they are


def test_a_long_page_has_its_main_options_first(capsys: pytest.CaptureFixture[str]) -> None:
    text = shown(capsys, "transfer", "--help")
    heads = ("Arguments", help.OPTIONS, help.TRANSFER, help.WAITING, help.OUTPUT, help.ADVANCED, "Examples")
    places = [text.index(f"\n{head}:\n") for head in heads]
    assert places == sorted(places)
    assert text.index("--wait") < text.index("--sync-level") < text.index("--timeout") < text.index("--poll")


def test_examples_and_groups_are_of_things_that_exist() -> None:
    assert help.EXAMPLES.keys() == {" ".join(path) for path in COMMANDS}
    known = {name for found in COMMANDS.values() for each in found.params for name in each.opts} | {"--help"}
    assert not {name for names in help.GROUPS.values() for name in names} - known
    assert not set(help.VALUES) - known


#: What a line of help may start with. Many of these words are nouns too: "of" after one tells.
VERB = re.compile(
    r"(?:Accept|Add|Advance|Ask|Cancel|Change|Charge|Check|Clear|Compare|Compute|Consider|Continue|Copy|Count|Create"
    r"|Delete|Deploy|Describe|Encrypt|Exclude|Exit|Expire|Export|Fail|Find|Forget|Give|Grant|Handle|Have|Ignore|Include"
    r"|Ingest|Inject|Keep|Label|Leave|Let|Limit|List|Listen|Log|Make|Manage|Map|Mark|Move|Name|Open|Pass|Poll|Print|Process"
    r"|Put|Query|Quarantine|Read|Record|Refresh|Remove|Repair|Report|Require|Resolve|Resume|Retry|Return|Revoke|Run|Search|Send|Set"
    r"|Share|Show|Skip|Split|Stage|Start|Stop|Submit|Sync|Tag|Take|Tolerate|Transfer|Treat|Trust|Undo|Use|Verify|Wait|Watch"
    r"|Write)\b(?! of\b)"
)


def wrong_with(line: str) -> str | None:
    """What is wrong with one line of help, or None."""
    if not VERB.match(line):
        return "does not start with a verb"
    return None if len(line) <= 90 and "\n" not in line else "does not fit one line"


def lines_of_help() -> Iterator[tuple[str, str]]:
    """Each option, argument and command, with its line of help."""
    for name, entry in app.shown().items():
        yield name, entry.line
        yield name, (app.load(name).help or entry.line).partition("\n")[0]
    for path, found in COMMANDS.items():
        yield " ".join(path), found.help.partition("\n")[0]
        yield from ((f"{' '.join(path)} {each.opts[0]}", each.help) for each in found.params)
    yield from ((each.opts[0], each.help) for each in app.group().params)


def test_each_line_of_help_starts_with_a_verb_and_fits_one_line() -> None:
    wrong = {(where, line, wrong_with(line)) for where, line in lines_of_help() if wrong_with(line)}
    assert not wrong, "\n".join(f"{where} {fault}: {line}" for where, line, fault in sorted(wrong))


def test_the_check_of_help_sees_what_is_wrong() -> None:
    assert wrong_with("Label of the run.") and wrong_with("Longest time between polls.") and wrong_with("r, or rw.")
    assert wrong_with("Show " + 90 * "x") and wrong_with("Show it,\nthen wait.") and not wrong_with("Label the run.")


# --- ls ---------------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("globus_loaded")
def test_ls_lists_a_directory_and_shows_a_file(sandbox: Sandbox) -> None:
    fill(sandbox, "b", "a", ".hidden")
    (sandbox.collection("archive").path / "runs").mkdir()
    assert run(sandbox, "ls", "archive:/").stdout == ".hidden\na\nb\nruns/\n"
    assert run(sandbox, "ls", "archive:/a").stdout == "a\n"
    long = run(sandbox, "ls", "--long", "archive:/").stdout.splitlines()
    assert long[0].split() == ["SIZE", "MODIFIED", "NAME"] and long[-1].split()[0] == "-"
    assert "1 B" in next(line for line in long if line.endswith(" a"))
    assert len(run_json(sandbox, "ls", "archive:/")["data"]["entries"]) == 4
    missing = run(sandbox, "ls", "archive:/runs/x")
    assert missing.returncode == 1 and "archive:/runs/x does not exist" in missing.stderr
    assert "globuswrap ls archive:/runs/" in missing.stderr
