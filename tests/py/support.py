"""What test modules share: the checkout, its programs, hostile names."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

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


def inherited_settings() -> list[str]:
    """The variables of this process that would steer globuswrap, the globus command, or a scheduler."""
    prefixes = ("GLOBUS", "XDG_", "SLURM_", "SBATCH_", "PBS_")
    return [name for name in os.environ if name.startswith(prefixes) and not name.startswith("GLOBUSWRAP_TEST_")]
