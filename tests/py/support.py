"""What test modules share: the checkout, its programs, hostile names."""

from __future__ import annotations

import os
import shutil
from collections.abc import Container, Iterable
from pathlib import Path
from typing import Any

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
LAUNCHER = REPOSITORY / "bin" / "globuswrap"

#: One of each kind that has broken a script somewhere. All are valid UTF-8.
HOSTILE_NAMES = (
    "with space",
    " edges ",
    "quote's",
    'double"quote',
    "$(touch pwned)",
    "`touch pwned`",
    "$HOME",
    "-leading-dash",
    "--json",
    "#hash",
    "per%cent-%j-%a",
    "semi;colon&and|pipe",
    "star*and?[x]",
    "back\\slash",
    "new\nline",
    "tab\there",
    "line\u2028separator",
    "café-naïve-日本語",
    "~tilde",
    "a:b",
)


def require_tool(name: str, why: str = "") -> Path:
    """The path of a program. Without it the test is skipped with a reason; under CI=true it fails.

    Looks in the sbin directories too: daemons live there, and they are not on everyone's PATH.
    """
    path = os.pathsep.join([os.environ.get("PATH", ""), "/usr/local/sbin", "/usr/sbin", "/sbin"])
    found = shutil.which(name, path=path)
    if found:
        return Path(found)
    cannot(f"no {name} here{': ' + why if why else ''}")
    raise AssertionError("unreachable")


def cannot(reason: str) -> None:
    """This machine cannot run the test: skipped with the reason; under CI=true, where nobody reads skips, a failure."""
    if os.environ.get("CI") == "true":
        pytest.fail(f"CI=true, and {reason}", pytrace=False)
    pytest.skip(reason)


def faults(cases: Iterable[Any], often: Container[str] = ("drop-after", "consent", "denied")) -> list[Any]:
    """Cases for `parametrize`, each a kind of fault or a tuple that begins with one: those of the kinds in `often` in every
    run, one that heals, one for the user, one of a collection. The others by `make chaos`, as all commands under all kinds are
    (test_every_command_under_every_fault.py): each takes seconds of a processor."""
    made = []
    for case in cases:
        values = case if isinstance(case, tuple) else (case,)
        kind = values[0]["kind"] if isinstance(values[0], dict) else values[0]
        made.append(pytest.param(*values, id=kind, marks=[] if kind in often else [pytest.mark.chaos]))
    return made


def inherited_settings() -> list[str]:
    """The variables of this process that would steer globuswrap, the globus command, or a scheduler."""
    prefixes = ("GLOBUS", "XDG_", "SLURM_", "SBATCH_", "PBS_")
    return [name for name in os.environ if name.startswith(prefixes) and not name.startswith("GLOBUSWRAP_TEST_")]
