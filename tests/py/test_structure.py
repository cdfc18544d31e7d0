"""What holds for the source as a whole, and no tool on the shelf checks."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from support import REPOSITORY

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

LIBRARY = REPOSITORY / "lib" / "globuswrap"
MODULES = sorted(LIBRARY.rglob("*.py"))

#: Modules that start programs, and the files that may. (A fork of this process alone is not another program.)
STARTERS = {"sh", "subprocess", "pty"}
MAY_START = {"system/process.py"}


def imports(tree: ast.AST) -> Iterator[str]:
    """The top-level names of every absolute import, wherever in the file it is."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module.partition(".")[0]


def runs_at_import(tree: ast.Module) -> Iterator[ast.AST]:
    """Every node that runs when the module is imported: all but the bodies of functions."""
    waiting: list[ast.AST] = list(tree.body)
    while waiting:
        node = waiting.pop()
        yield node
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            waiting += [*node.decorator_list, *node.args.defaults, *filter(None, node.args.kw_defaults)]
        elif isinstance(node, ast.Lambda):
            waiting += [*node.args.defaults, *filter(None, node.args.kw_defaults)]
        else:
            waiting += ast.iter_child_nodes(node)


def reads_environment(node: ast.AST) -> bool:
    if isinstance(node, ast.Attribute):
        return node.attr in {"environ", "environb", "getenv", "expanduser", "expandvars"} or (
            node.attr in {"home", "cwd", "getcwd"} and isinstance(node.value, ast.Name)
        )
    return False


def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), filename=str(path))


def name_of(path: Path) -> str:
    return path.relative_to(LIBRARY).as_posix()


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_globus_is_reached_through_its_command_only(path: Path) -> None:
    assert not {"globus_sdk", "globus_cli"} & set(imports(parsed(path)))


@pytest.mark.parametrize("path", [path for path in MODULES if name_of(path) not in MAY_START], ids=name_of)
def test_one_module_starts_programs(path: Path) -> None:
    tree = parsed(path)
    used = {ast.unparse(node) for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    assert not {name for name in used if name.partition(".")[0] in STARTERS}
    from_them = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert not STARTERS & from_them
    assert not (STARTERS - {"subprocess"}) & set(imports(tree))
    renamed = {
        alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names if alias.asname
    }
    assert not STARTERS & renamed
    calls = {ast.unparse(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}
    assert not {call for call in calls if re.fullmatch(r"os\.(system|popen|spawn\w+|posix_spawnp?)", call)}


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_nothing_is_read_from_the_environment_at_import(path: Path) -> None:
    found = [ast.unparse(node) for node in runs_at_import(parsed(path)) if reads_environment(node)]
    assert not found


def test_the_import_checks_see_what_they_look_for() -> None:
    tree = ast.parse(
        "import os\nHOME = os.environ['HOME']\ndef late():\n    import sh.x\n    return os.getenv('A')\n"
        "def early(a=os.getenv('B')): ...\nclass C:\n    x = os.path.expanduser('~')\n"
    )
    assert "sh" in set(imports(tree))
    assert sum(map(reads_environment, runs_at_import(tree))) == 3


#: Directories that exist on somebody's machine and not on the reader's. Examples under /home and /mnt are examples.
MACHINE_PATH = re.compile(rf"(?<![\w.~-])(?:/(?:Users|work|root)/[A-Za-z0-9_.-]+|{re.escape(str(REPOSITORY))}\b)")
TEXT = {".py", ".sh", ".bash", ".bats", ".md", ".toml", ".txt", ".in", ".json", ".yaml", ".yml", ""}


def own_files() -> Iterator[Path]:
    for place in ("bin", "lib", "recipes", "tests", "docs", "tools", ".ci", "requirements"):
        for path in sorted((REPOSITORY / place).rglob("*")):
            built = any(part == "__pycache__" or part.endswith(".egg-info") for part in path.parts)
            if path.is_file() and path.suffix in TEXT and not built:
                yield path
    # .git is a file where a checkout is a worktree
    yield from (path for path in REPOSITORY.iterdir() if path.is_file() and path.suffix in TEXT and path.name != ".git")


def test_no_path_of_one_machine_is_written_down() -> None:
    found = [
        f"{path.relative_to(REPOSITORY)}:{number}: {match[0]}"
        for path in own_files()
        if path != Path(__file__)
        for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").split("\n"), 1)
        for match in MACHINE_PATH.finditer(line)
    ]
    assert not found


def test_every_entry_of_the_table_of_mutations_can_be_tried() -> None:
    """Who rewords a guard rewords its entry: `make mutants` would say so, but is run less often."""
    listed = subprocess.run(
        [sys.executable, REPOSITORY / "tests/mutants/run.py", "--list"], capture_output=True, text=True
    )
    assert listed.returncode == 0, listed.stdout


def test_shell_entry_points_are_executable_and_say_what_runs_them() -> None:
    for path in [*(REPOSITORY / "bin").iterdir(), *(REPOSITORY / "tools").iterdir(), REPOSITORY / ".ci" / "run"]:
        assert path.stat().st_mode & 0o111, path
        assert path.read_bytes().startswith(b"#!"), path


def test_the_version_is_the_same_everywhere() -> None:
    with (REPOSITORY / "pyproject.toml").open("rb") as file:
        version = tomllib.load(file)["project"]["version"]
    assert re.search(rf"^## {re.escape(version)}\b", (REPOSITORY / "CHANGELOG.md").read_text("utf-8"), re.M)
    package = (LIBRARY / "__init__.py").read_text("utf-8")
    written = re.search(r'^__version__ = "(.+)"$', package, re.M)
    assert written
    assert written[1] == version


def test_the_development_pins_are_within_what_the_project_asks_for() -> None:
    from packaging.requirements import Requirement

    with (REPOSITORY / "pyproject.toml").open("rb") as file:
        project = tomllib.load(file)["project"]
    wanted = [
        *project["dependencies"],
        *(line for extra in project["optional-dependencies"].values() for line in extra),
    ]
    lines = (REPOSITORY / "requirements" / "dev.txt").read_text("utf-8").splitlines()
    pins = [Requirement(line) for line in lines if line and not line.startswith("#")]
    for line in wanted:
        requirement = Requirement(line)
        versions = [str(pin.specifier).removeprefix("==") for pin in pins if pin.name == requirement.name]
        assert versions, line
        assert all(requirement.specifier.contains(version) for version in versions), line
