"""Nothing a person can meet is undocumented: commands, options, config keys, exit codes, message codes; and no dead links.

Every test lists all that is missing at once.
"""

from __future__ import annotations

import ast
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from globuswrap import config, errors
from globuswrap.cli import app
from globuswrap.transfers import outcome
from support import REPOSITORY

LIBRARY = REPOSITORY / "lib" / "globuswrap"
SANDBOX = REPOSITORY / "lib" / "globus_sandbox"
DOCS = REPOSITORY / "docs"
PAGES = sorted([*DOCS.rglob("*.md"), REPOSITORY / "README.md", *(REPOSITORY / "recipes").rglob("*.md")])
#: Not for users: pages for contributors, and those of the sandbox beside its one page for users.
INTERNAL = {"architecture.md"}
#: Made from the code, or the sandbox's own.
UNCOUNTED = {"commands.md", "sandbox.md"}


def page(name: str) -> str:
    return (DOCS / name).read_text("utf-8")


# What is generated


def test_what_is_generated_is_up_to_date() -> None:
    done = subprocess.run(
        [sys.executable, REPOSITORY / "tools" / "generate-docs", "--check"], capture_output=True, text=True
    )
    assert done.returncode == 0, f"{done.stdout}{done.stderr}"


def test_the_check_sees_a_stale_page(tmp_path: Path) -> None:
    """In a copy, one option's placeholder is changed."""
    import shutil

    for name in ("lib", "docs", "tools"):
        shutil.copytree(REPOSITORY / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    wait = tmp_path / "lib/globuswrap/cli/wait.py"
    wait.write_text(wait.read_text().replace("TASK_OR_KEY_OR_CHAIN...", "THING..."))
    done = subprocess.run([sys.executable, tmp_path / "tools/generate-docs", "--check"], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (1, "docs/commands.md is stale; run: make docs\n")


def test_the_man_pages_are_good_roff(require_tool: Any, tmp_path: Path) -> None:
    groff = require_tool("groff", "it comes with man-db")
    subprocess.run([sys.executable, REPOSITORY / "tools" / "generate-docs", "--share", tmp_path], check=True)
    pages = sorted(tmp_path.rglob("*.1"))
    assert {"globuswrap.1", *(f"globuswrap-{name.replace(' ', '-')}.1" for name in app.shown())} == {
        page.name for page in pages
    }
    wrong = []
    for path in pages:
        done = subprocess.run([groff, "-man", "-ww", "-z", "-K", "utf8", path], capture_output=True, text=True)
        wrong += [f"{path.name}: {line}" for line in done.stderr.splitlines() if "cannot adjust" not in line]
    assert not wrong


# Commands and options


def walked() -> Iterator[tuple[tuple[str, ...], Any]]:
    """Every command that can be run, by its words."""

    def below(path: tuple[str, ...], found: Any) -> Iterator[tuple[tuple[str, ...], Any]]:
        names = found.list_commands(None) if hasattr(found, "list_commands") else ()
        if not names:
            yield path, found
        for name in names:
            yield from below((*path, name), found.get_command(None, name))

    for name in app.shown():
        yield from below(tuple(name.split()), app.load(name))


@cache
def options() -> dict[tuple[str, ...], set[str]]:
    """The options of each command, hidden ones among them."""
    always = {"--help", "-h", "--json", "--verbose", "-v", "-vv", "--quiet", "-q"}
    return {
        path: {name for each in found.params for name in (*each.opts, *each.secondary_opts)} | always
        for path, found in walked()
    }


def test_every_command_option_and_argument_has_a_help_text() -> None:
    bare = [
        f"globuswrap {' '.join(path)} {param.opts[0]}"
        for path, found in walked()
        for param in found.params
        if not getattr(param, "hidden", False) and not (param.help or "").strip()
    ]
    bare += [f"globuswrap {' '.join(path)}" for path, found in walked() if not (found.help or "").strip()]
    assert not bare


def test_every_command_is_mentioned_outside_the_generated_pages() -> None:
    text = "\n".join(path.read_text("utf-8") for path in PAGES if path.name != "commands.md")
    assert not [name for name in app.shown() if not re.search(rf"globuswrap {name}\b", text)]


# Configuration


def test_every_setting_and_its_variable_are_documented() -> None:
    rows = dict(re.findall(r"^\| `([a-z-]+)` \| `(GLOBUSWRAP_\w+)` \|", page("configuration.md"), re.M))
    known = {name.replace("_", "-"): variable for name, variable in config.VARIABLES.items()}
    assert rows == known


def test_every_table_of_the_configuration_is_documented() -> None:
    text = "\n".join(path.read_text("utf-8") for path in DOCS.glob("*.md"))
    assert not [name for name in config.TABLES if not re.search(rf"\[{name}[\].]", text)]


def test_every_key_of_a_table_is_documented() -> None:
    from globuswrap.staging import submission
    from globuswrap.syncs import profile

    assert not set(profile.KEYS) - named("sync.md") - {"filters"}
    assert "filters = [[" in page("sync.md")
    assert not set(submission.KEYS) - named("configuration.md") - {"staging"}
    assert not {"id", "mounted", "tape"} - set(re.findall(r"\b(\w+) = ", page("configuration.md")))


def named(name: str) -> set[str]:
    """What a page names in backquotes, outside its code blocks."""
    return set(re.findall(r"`([a-z-]+)`", re.sub(r"^```.*?^```", "", page(name), flags=re.M | re.S)))


# Exit codes


def test_every_exit_code_is_documented() -> None:
    codes = {getattr(errors, name) for name in dir(errors) if name.isupper() and isinstance(getattr(errors, name), int)}
    documented = {int(code) for code in re.findall(r"^\| (\d+) \|", page("troubleshooting.md"), re.M)}
    assert documented == codes


# Message codes


def modules() -> dict[Path, ast.Module]:
    """globuswrap, and globus_sandbox, whose problems `globuswrap sandbox` reports under the same codes."""
    paths = [*LIBRARY.rglob("*.py"), *SANDBOX.rglob("*.py")]
    return {path: ast.parse(path.read_text("utf-8")) for path in sorted(paths)}


def problem_classes(trees: dict[Path, ast.Module]) -> set[str]:
    """Problem and everything derived from it."""
    found = {"Problem", "SandboxError"}
    classes = [node for tree in trees.values() for node in ast.walk(tree) if isinstance(node, ast.ClassDef)]
    while True:
        more = {node.name for node in classes if {ast.unparse(base).split(".")[-1] for base in node.bases} & found}
        if more <= found:
            return found
        found |= more


#: What else carries a code, and which of its arguments it is.
CARRIERS = {"RunIssue": 1, "add_issue": 0, "warning": 0, "failure": 0}
#: Names of their own: a signal; a chain's own end, which is kept as a record.
OTHERS = {
    "interrupted": "errors.py",
    "output-lost": "errors.py",
    "chain-canceled": "staging/chain.py",
    "chain-ended": "staging/chain.py",
}


def message_codes() -> dict[str, str]:
    """Each code that lib/ can say, and a place that does. A code is a constant, or one of the constants chosen from."""
    trees = modules()
    classes = problem_classes(trees)
    found: dict[str, str] = {}
    for path, tree in trees.items():
        for node in ast.walk(tree):
            if not isinstance(node, ast.Call):
                continue
            called = ast.unparse(node.func).split(".")[-1]
            at = 0 if called in classes else CARRIERS.get(called)
            if at is None or (called in ("warning", "failure") and "doctor" not in path.parts):
                continue
            given = [*node.args[at : at + 1], *(word.value for word in node.keywords if word.arg == "name")]
            for each in given[:1]:
                chosen = [each.body, each.orelse] if isinstance(each, ast.IfExp) else [each]
                for one in chosen:
                    if isinstance(one, ast.Constant) and isinstance(one.value, str):
                        found.setdefault(one.value, f"{path.relative_to(LIBRARY.parent)}:{node.lineno}")
    return {code: place for code, place in found.items() if re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", code)}


def test_every_message_code_is_documented() -> None:
    codes = message_codes()
    assert len(codes) > 100  # the parsing finds them
    expected = {
        **codes,
        **OTHERS,
        **{f"task-{name}": "transfers/outcome.py" for name in outcome.CODES if name not in GOOD},
        **{f"run-{name}": "flows/runs.py" for name in run_outcomes() if name not in GOOD},
    }
    text = page("troubleshooting.md")
    documented = re.findall(r"^- `([a-z0-9-]+)`: [^ ]", text, re.M)
    documented += [name for name in re.findall(r"^\| `([a-z-]+)` \| \d", text, re.M) if name not in GOOD]
    assert not sorted(f"{code} ({place})" for code, place in expected.items() if code not in documented)
    assert not sorted(set(documented) - set(expected)), "documented, but nothing says it"
    assert len(documented) == len(set(documented)), "documented twice"


GOOD = {"succeeded"}


def run_outcomes() -> list[str]:
    """How a run of a flow can end."""
    found = re.findall(r'Ended\(run_id, "([a-z]+)"', (LIBRARY / "flows" / "runs.py").read_text("utf-8"))
    assert "succeeded" in found
    return found


def test_codes_are_kebab_case() -> None:
    trees = modules()
    classes = problem_classes(trees)
    odd = [
        f"{path.name}:{node.lineno}: {node.args[0].value}"
        for path, tree in trees.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        and ast.unparse(node.func).split(".")[-1] in classes
        and node.args
        and isinstance(node.args[0], ast.Constant)
        and not re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", str(node.args[0].value))
    ]
    assert not odd


# Pages


def test_users_have_12_pages_and_15000_words_at_most() -> None:
    """Words as `wc -w` counts them, in docs/*.md but for generated pages, the sandbox's own and those for contributors."""
    pages = [path for path in DOCS.glob("*.md") if path.name not in INTERNAL]
    words = {path.name: len(path.read_text("utf-8").split()) for path in pages if path.name not in UNCOUNTED}
    assert len(words) > 8  # they are found
    assert len(pages) <= 12, sorted(path.name for path in pages)
    assert sum(words.values()) <= 15_000, words


def test_pages_of_users_begin_with_the_command_that_answers_their_question() -> None:
    pages = [path for path in DOCS.glob("*.md") if path.name not in {*INTERNAL, "commands.md"}]
    assert not [
        path.name for path in pages if not re.match(r"# .+\n\n {4}(?:globuswrap|make|import) ", path.read_text("utf-8"))
    ]


def test_links_lead_somewhere() -> None:
    dead = []
    for path in PAGES:
        text = re.sub(r"^```.*?^```", "", path.read_text("utf-8"), flags=re.M | re.S)
        for target in re.findall(r"\]\(([^)\s]+)\)", text):
            file, _, anchor = target.partition("#")
            if re.match(r"[a-z]+:", target):
                continue
            there = (path.parent / file).resolve() if file else path
            if not there.exists():
                dead.append(f"{path.name}: {target}")
            elif anchor and anchor not in anchors(there):
                dead.append(f"{path.name}: {target}: no such heading")
    assert not dead


def anchors(path: Path) -> set[str]:
    headings = re.findall(r"^#+ (.+)$", path.read_text("utf-8"), re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_every_page_can_be_found_from_the_readme() -> None:
    seen: set[Path] = set()
    waiting = [REPOSITORY / "README.md"]
    while waiting:
        path = waiting.pop()
        if path in seen or path.suffix != ".md" or not path.exists():
            continue
        seen.add(path)
        targets = re.findall(r"\]\(([^)#\s]+)", path.read_text("utf-8"))
        waiting += [(path.parent / target).resolve() for target in targets if ":" not in target]
    assert not [path.name for path in DOCS.rglob("*.md") if path not in seen]


def examples() -> Iterator[tuple[str, list[str]]]:
    """Each globuswrap command line in a code block of a page, as words, without what follows it in a pipe."""
    for path in PAGES:
        if path.name == "commands.md":
            continue
        text = path.read_text("utf-8")
        indented = re.findall(r"^ {4,}\S.*\n(?: {4,}.*\n)*", re.sub(r"^```.*?^```", "", text, flags=re.M | re.S), re.M)
        for block in [*re.findall(r"^```(?:bash|console|sh|)\n(.*?)^```", text, re.M | re.S), *indented]:
            for line in block.replace("\\\n", " ").split("\n"):
                found = re.search(r"(?:^ *|[|(;&]\s*|[$] )globuswrap (.*)", line)
                if not found or "..." in line:
                    continue
                lexer = shlex.shlex(found[1], posix=True, punctuation_chars=True)
                lexer.whitespace_split = True
                words = []
                try:
                    for word in lexer:
                        if set(word) <= set("|&;()<>"):
                            break
                        words.append(word)
                except ValueError:  # a quotation over several lines
                    continue
                yield f"{path.name}: {line.strip()}", words


def test_examples_use_commands_and_options_that_exist() -> None:
    wrong = []
    count = 0
    for where, words in examples():
        if not words or words[0].startswith("-"):
            continue
        count += 1
        known = next((each for each in (tuple(words[:2]), tuple(words[:1])) if each in options()), None)
        if known is None:
            wrong.append(f"{where}: no such command")
            continue
        rest = words[len(known) :]
        rest = rest[: rest.index("--")] if "--" in rest else rest
        for word in rest:
            if re.match(r"--[a-z]|-[a-zA-Z]$", word) and word.partition("=")[0] not in options()[known]:
                wrong.append(f"{where}: no option {word}")
    assert count > 100
    assert not wrong


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_pages_begin_with_a_title_and_close_their_blocks(path: Path) -> None:
    text = path.read_text("utf-8")
    assert text.startswith("# ")
    assert len(re.findall(r"^```", text, re.M)) % 2 == 0
