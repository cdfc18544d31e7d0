"""Twenty failures as a person meets them: the whole message, with what happened, on which side, why, and the remedy that fits.

They are compared with failures.golden; written anew with GLOBUSWRAP_TEST_WRITE_GOLDEN=1, and then read by a person.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from command_line import run
from globuswrap.cli.sandbox import Sandbox
from test_cli_lookup import fill

pytestmark = [pytest.mark.usefixtures("globus_loaded")]

GOLDEN = Path(__file__).with_name("failures.golden")
WAIT = ("--wait", "--fault-grace", "0", "--poll", "0.1s", "--retry-for", "0")
COPY = ("transfer", "archive:/a", "scratch:/a", *WAIT)


class Failure(NamedTuple):
    code: int
    line: tuple[str, ...] = COPY
    fault: Mapping[str, Any] | None = None
    progress: str = "at-once"


def status(code: int, name: str, message: str, path: str = "/transfer", **more: Any) -> dict[str, Any]:
    return {
        "kind": "status",
        "status": code,
        "body": {"code": name, "message": message, **more},
        "path": path,
        "count": 99,
    }


FAILURES = {
    "missing source": Failure(2, ("transfer", "archive:/no/such", "scratch:/a", *WAIT)),
    "missing source, not checked": Failure(5, ("transfer", "archive:/no/such", "scratch:/a", "--no-check", *WAIT)),
    "directory deleted without --recursive": Failure(2, ("delete", "archive:/directory")),
    "permission denied at the source": Failure(1, fault={"kind": "denied", "collection": "archive"}),
    "permission denied at the destination": Failure(5, fault={"kind": "denied", "collection": "scratch"}),
    "quota exceeded": Failure(5, fault={"kind": "quota", "collection": "scratch"}),
    "disk full": Failure(5, (*COPY, "--permanent", "NO_SPACE_LEFT"), {"kind": "full", "collection": "scratch"}),
    "paused by a manager": Failure(7, fault={"kind": "pause-task", "message": "New disks until Monday"}),
    "credentials needed": Failure(7, fault={"kind": "inactive"}),
    "not logged in": Failure(4, fault={"kind": "logged-out"}),
    "expired token": Failure(4, fault={"kind": "expired-token", "count": 99}),
    "session needed": Failure(4, fault={"kind": "session", "domains": ["lab.example.org"], "path": "/transfer"}),
    "consent needed": Failure(4, fault={"kind": "consent", "path": "/transfer"}),
    "Globus down": Failure(75, fault={"kind": "unavailable", "count": 999}),
    "network down": Failure(75, fault={"kind": "drop-before", "count": 999}),
    "refused by Globus": Failure(1, fault=status(400, "ClientError.BadRequest", "That cannot be done")),
    "collection of another name": Failure(2, ("transfer", "archiv:/a", "scratch:/a")),
    "collection that does not exist": Failure(
        1, ("transfer", "12345678-0000-4000-8000-000000000001:/a", "scratch:/a", *WAIT)
    ),
    "local path that is not mounted": Failure(2, ("transfer", "/no/mount/a", "scratch:/a")),
    "still running at the timeout": Failure(75, (*COPY, "--timeout", "0.5s"), progress="held"),
    "fails at Globus": Failure(1, fault={"kind": "fail", "code": "ENDPOINT_ERROR"}),
    "unknown task": Failure(2, ("wait", "nosuch")),
}


def plain(text: str, sandbox: Sandbox) -> str:
    """Without what differs from run to run."""
    for name in ("archive", "scratch", "results"):
        text = text.replace(sandbox.collection(name).id, f"<{name}>")
    text = text.replace(str(sandbox.home), "HOME").replace(str(sandbox.base), "BASE")
    text = re.sub(r"(?!12345678)[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", "<id>", text)
    text = re.sub(r"127\.0\.0\.1:\d+|port=\d+", "<server>", text)
    text = re.sub(r"^[0-9a-f]{8}: .*\d+/\d+ files.*\n", "", text, flags=re.M)  # progress, where it takes long
    return re.sub(r"\b\d+ s\b", "N s", text)


def sections() -> dict[str, str]:
    found = re.split(r"^== (.+)\n", GOLDEN.read_text("utf-8") if GOLDEN.exists() else "", flags=re.M)[1:]
    return dict(zip(found[::2], found[1::2], strict=True))


@pytest.mark.parametrize("name", FAILURES)
def test_the_message_is_the_one_that_was_approved(sandbox: Sandbox, name: str) -> None:
    failure = FAILURES[name]
    fill(sandbox, "a")
    (sandbox.collection("archive").path / "directory").mkdir()
    sandbox.control.progress(failure.progress)
    if failure.fault is not None:
        sandbox.control.fault(**failure.fault)
    done = run(sandbox, *failure.line)
    assert done.returncode == failure.code, done.stderr
    text = plain(done.stderr, sandbox)
    if os.environ.get("GLOBUSWRAP_TEST_WRITE_GOLDEN"):
        known = {**sections(), name: text}
        GOLDEN.write_text("".join(f"== {each}\n{known[each]}" for each in FAILURES if each in known), "utf-8")
    assert text == sections()[name]


def test_each_message_has_a_cause_and_a_remedy_that_can_be_followed() -> None:
    assert sections().keys() == FAILURES.keys() and len(FAILURES) >= 20
    for name, text in sections().items():
        assert re.search(r"^globuswrap: .+  \[[a-z-]+\]$", text, re.M), name
        assert re.search(r"^  remedy: .+", text, re.M), name
