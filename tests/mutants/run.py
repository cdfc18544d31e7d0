#!/usr/bin/env python3
"""Break each guard once, and see that a test fails.

usage: run.py [-j JOBS] [--list] [--skip-first-run] [NAME]...

Each entry of table.toml names a file, a text in it, what the text becomes, and the tests that have to fail then. Each is
applied by itself in a temporary copy of the checkout, and only these tests are run. NAME is the name of an entry, or a
pattern such as `deletion-*`; without one, all are tried. First the tests are run on the code as it is: they have to pass.

Exit 1 if an entry survives, if its tests cannot be run, or if its text is not in the file exactly once.
"""

from __future__ import annotations

import argparse
import fnmatch
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

# What the tests import in any case, so that no forked process has to. Nothing of this project: that is the copy's.
import hypothesis  # noqa: F401
import jmespath  # noqa: F401
import pytest
import sh  # noqa: F401
import typer  # noqa: F401

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).resolve().parents[2]
TABLE = Path(__file__).with_name("table.toml")
#: What a copy does without.
LEFT_OUT = (".git", ".venv", "*.egg-info", "build", "dist", "__pycache__", ".*_cache", ".hypothesis")
#: What pytest says of tests that ran and failed. Everything else but 0 is no verdict: no test found, an import that fails.
FAILED = 1
#: The exit code of a forked process whose tests did not import the code of its copy, or could not be begun.
IMPORTED_ELSEWHERE = 90
FLAGS = ("-q", "-p", "no:cacheprovider", "--tb=short", "-m", "not chaos")
#: Named, because looking for all that are installed takes as long as most tests do.
PLUGINS = ("-p", "pytest_timeout", "-p", "xdist.plugin", "-p", "globus_sandbox.pytest_plugin")


@dataclass(frozen=True)
class Mutant:
    name: str
    file: str
    text: str
    becomes: str
    tests: tuple[str, ...]

    def problem(self) -> str:
        """Why it cannot be tried; empty if it can."""
        path = ROOT / "lib" / "globuswrap" / self.file
        if not path.is_file():
            return f"there is no lib/globuswrap/{self.file}"
        count = path.read_text("utf-8").count(self.text)
        if count != 1:
            return f"its text is {count} times in lib/globuswrap/{self.file}, not once"
        for each in self.tests:
            file, _, name = each.partition("::")
            place = ROOT / "tests" / "py" / file
            if not place.is_file() or (name and f"def {name.partition('[')[0]}(" not in place.read_text("utf-8")):
                return f"there is no test {each}"
        return ""


def mutants() -> list[Mutant]:
    rows = tomllib.loads(TABLE.read_text("utf-8"))["mutant"]
    found = [Mutant(**{**row, "tests": tuple(row["tests"])}) for row in rows]
    names = [each.name for each in found]
    twice = {name for name in names if names.count(name) > 1}
    if twice:
        raise SystemExit(f"{TABLE.name}: these names are there twice: {', '.join(sorted(twice))}")
    return found


class Copy:
    """A copy of the checkout, with the environment of the original."""

    def __init__(self, root: Path) -> None:
        self.root = root
        shutil.copytree(ROOT, root, symlinks=True, ignore=shutil.ignore_patterns(*LEFT_OUT), dirs_exist_ok=True)
        (root / ".venv").symlink_to(ROOT / ".venv")
        self.python = root / ".venv" / "bin" / "python"
        self.output = root / "output"
        self.env = {**os.environ, "PYTHONPATH": str(root / "lib")}

    @contextmanager
    def changed(self, file: str, text: str, becomes: str) -> Iterator[None]:
        path = self.root / "lib" / "globuswrap" / file
        before = path.read_text("utf-8")
        try:
            self._write(path, before.replace(text, becomes, 1))
            yield
        finally:
            self._write(path, before)

    def _write(self, path: Path, text: str) -> None:
        path.write_text(text, "utf-8")
        # Python takes a compiled file for current when the size and the second of the source agree with it.
        for compiled in path.parent.joinpath("__pycache__").glob(f"{path.stem}.*.pyc"):
            compiled.unlink()

    def check(self) -> None:
        """See that what runs here is the code of the copy, both in the tests and by the launcher."""
        told = self._output("-c", "import globuswrap; print(globuswrap.__file__)")
        if not told.startswith(f"{self.root}/"):
            raise SystemExit(f"the tests would import {told} instead of the copy in {self.root}")
        first = "from __future__ import annotations\n"
        with self.changed("cli/main.py", first, f"{first}raise SystemExit(97)\n"):
            code = subprocess.run([self.root / "bin" / "globuswrap"], env=self.env, capture_output=True).returncode
        if code != 97:
            raise SystemExit(f"bin/globuswrap of the copy does not run the code of the copy (exit {code})")

    def _output(self, *arguments: str) -> str:
        done = subprocess.run(
            [self.python, *arguments], env=self.env, cwd=self.root, capture_output=True, text=True, check=True
        )
        return done.stdout.strip()

    def test_all(self, tests: Sequence[str], jobs: int) -> tuple[int, str]:
        """Run tests on the code as it is; pytest's exit code and what it printed."""
        flags = (*FLAGS, "-n", str(jobs), "--dist", "worksteal") if jobs > 1 else FLAGS
        done = subprocess.run(
            [self.python, "-m", "pytest", *flags, *(f"tests/py/{each}" for each in tests)],
            env=self.env,
            cwd=self.root,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        return done.returncode, done.stdout

    def start(self, tests: Sequence[str]) -> int:
        """Begin to run tests, until the first fails, in a forked process whose id is returned. Its exit code is pytest's."""
        child = os.fork()
        if child == 0:
            code = IMPORTED_ELSEWHERE
            try:
                output = os.open(self.output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
                for descriptor in (1, 2):
                    os.dup2(output, descriptor)
                os.chdir(self.root)
                os.environ |= {**self.env, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
                sys.path[0] = str(self.root / "lib")
                sys.executable = str(self.python)
                ended = pytest.main([*FLAGS, *PLUGINS, "-x", *(f"tests/py/{each}" for each in tests)])
                if str(sys.modules["globuswrap"].__file__).startswith(f"{self.root}/"):
                    code = int(ended)
                sys.stdout.flush()
            finally:
                os._exit(code)
        return child


def verdict(code: int, printed: str) -> tuple[str, str]:
    """What became of an entry, and which test failed; or what was printed where there is no verdict."""
    if code == 0:
        return "SURVIVED", ""
    if code == FAILED:
        failed = re.findall(r"^(?:FAILED|ERROR) tests/py/(.+?)(?: - .*)?$", printed, re.MULTILINE)
        return "killed", failed[0] if failed else "?"
    return f"NO VERDICT ({code})", printed


def try_each(chosen: Sequence[Mutant], copies: Sequence[Copy]) -> Iterator[tuple[Mutant, float, str, str]]:
    """Each entry with the seconds it took and its verdict, as they come; as many at once as there are copies."""
    left = list(reversed(chosen))
    free = list(copies)
    running: dict[int, tuple[Mutant, Copy, float, ExitStack]] = {}
    while left or running:
        while left and free:
            mutant, copy, stack = left.pop(), free.pop(), ExitStack()
            stack.enter_context(copy.changed(mutant.file, mutant.text, mutant.becomes))
            running[copy.start(mutant.tests)] = (mutant, copy, time.monotonic(), stack)
        child, status = os.wait()
        mutant, copy, began, stack = running.pop(child)
        stack.close()
        free.append(copy)
        printed = copy.output.read_text("utf-8", "replace")
        yield mutant, time.monotonic() - began, *verdict(os.waitstatus_to_exitcode(status), printed)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME")
    parser.add_argument("-j", "--jobs", type=int, default=1, help="how many copies to work in at once")
    parser.add_argument("--list", action="store_true", help="only list the entries")
    parser.add_argument("--skip-first-run", action="store_true", help="trust that the tests pass on the code as it is")
    options = parser.parse_args()
    everything = mutants()
    chosen = [each for each in everything if not options.names or any(fits(each, name) for name in options.names)]
    if not chosen:
        parser.error("no entry is called so")
    width = max(len(each.name) for each in chosen)
    bad = 0
    for each in everything:
        if problem := each.problem():
            print(f"{each.name}: {problem}")
            bad += 1
    if bad:
        return 1
    if options.list:
        for each in chosen:
            print(f"{each.name:{width}}  {each.file}: {' '.join(each.tests)}")
        return 0

    killed = 0
    with tempfile.TemporaryDirectory(prefix="globuswrap-mutants-") as base:
        copies = [Copy(Path(base).resolve() / str(number)) for number in range(max(1, options.jobs))]
        copies[0].check()
        if not options.skip_first_run:
            tests = sorted({test for each in chosen for test in each.tests})
            print(f"the tests on the code as it is: {len(tests)}", flush=True)
            code, printed = copies[0].test_all(tests, options.jobs)
            if code != 0:
                print(f"{printed}\nthey do not pass on the code as it is (exit {code}): nothing can be concluded")
                return 1
        for mutant, seconds, outcome, detail in try_each(chosen, copies):
            killed += outcome == "killed"
            print(f"{mutant.name:{width}}  {outcome:8}  {seconds:4.0f} s  {detail}", flush=True)
    print(f"{killed} of {len(chosen)} killed")
    return 0 if killed == len(chosen) else 1


def fits(mutant: Mutant, name: str) -> bool:
    return fnmatch.fnmatch(mutant.name, name)


if __name__ == "__main__":
    sys.exit(main())
