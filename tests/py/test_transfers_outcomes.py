"""Every outcome, produced in the sandbox through the real `globus`, has its code and its message; docs/troubleshooting.md has the
same table."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

import pytest

import support
from command_line import GLOBUS, run, run_json
from globuswrap.cli.sandbox import Sandbox
from globuswrap.transfers import outcome

pytestmark = [pytest.mark.usefixtures("globus_loaded")]


def no_preparation(sandbox: Sandbox) -> None:
    """A source that is there and a service that works."""


def held(sandbox: Sandbox) -> None:
    sandbox.control.progress("held")


def expires(sandbox: Sandbox) -> None:
    sandbox.control.progress("held")


@dataclass(frozen=True)
class Case:
    """How an outcome comes about: what is prepared, the options, what happens after the submission, the exit code."""

    id: str
    name: str
    code: int
    prepare: Callable[[Sandbox], object] = no_preparation
    source: str = "archive:/in/"
    options: tuple[str, ...] = ()
    afterwards: Callable[[Sandbox, str], object] | None = None
    says: str = ""


def globus(*words: str) -> Callable[[Sandbox, str], object]:
    return lambda sandbox, task_id: sandbox.run([GLOBUS, *words, task_id]).check_returncode()


def fault(**fields: object) -> Callable[[Sandbox], object]:
    return lambda sandbox: sandbox.control.fault(**fields)


UNSEEN = ("--no-check",)
SKIPS = ("--skip-source-errors", "--no-recursive")
CASES = [
    Case("succeeded", "succeeded", 0),
    Case("skips", "succeeded-with-skips", 0, source="archive:/nope", options=SKIPS, says="at the source: 1 file"),
    Case(
        "skips-strict",
        "succeeded-with-skips",
        6,
        source="archive:/nope",
        options=(*SKIPS, "--strict"),
        says="--skipped",
    ),
    Case("failed", "failed", 1, prepare=fault(kind="fail", code="NO_SPACE_LEFT"), says="NO_SPACE_LEFT"),
    Case(
        "expired",
        "expired",
        1,
        prepare=held,
        options=("--deadline", "+1h"),
        afterwards=lambda sandbox, task_id: sandbox.control.advance_clock(7200),
        says="deadline",
    ),
    Case(
        "gone",
        "gone",
        1,
        afterwards=lambda sandbox, task_id: sandbox.control.forget_task(task_id),
        says="globus whoami",
    ),
    Case("canceled", "canceled", 5, prepare=held, afterwards=globus("task", "cancel"), says="canceled"),
    Case("missing", "permanent-fault", 5, source="archive:/nope", options=UNSEEN, says="archive:/nope: FILE_NOT_FOUND"),
    Case(
        "denied",
        "permanent-fault",
        5,
        prepare=fault(kind="denied", collection="archive"),
        options=UNSEEN,
        says="PERMISSION_DENIED",
    ),
    Case("quota", "permanent-fault", 5, prepare=fault(kind="quota", collection="scratch"), says="QUOTA_EXCEEDED"),
    Case(
        "faults",
        "too-many-faults",
        5,
        prepare=fault(kind="disconnected", collection="archive"),
        options=("--max-faults", "1"),
        says="allowed 1",
    ),
    Case("paused", "paused", 7, prepare=fault(kind="paused", collection="archive"), says="by a manager of archive"),
    Case("inactive", "inactive", 7, prepare=fault(kind="inactive"), says="credentials"),
    Case("running", "running", 75, prepare=held, options=("--timeout", "1s"), says="globuswrap wait"),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_each_outcome_has_its_code_and_message(sandbox: Sandbox, case: Case) -> None:
    (sandbox.collection("archive").path / "in").mkdir()
    (sandbox.collection("archive").path / "in" / "a").write_text("data")
    case.prepare(sandbox)
    wait_policy = ("--poll", "0.1s", "--fault-grace", "0s")
    line = ("transfer", case.source, "scratch:/out", *case.options)
    if case.afterwards is None:
        envelope = run_json(sandbox, *line, "--wait", *wait_policy, expect=case.code)
    else:
        first = run_json(sandbox, *line, "--then", "true")  # so that the outcome is promised
        case.afterwards(sandbox, first["data"]["task_id"])
        envelope = run_json(sandbox, *line, "--wait", *wait_policy, expect=case.code)
    data, error = envelope["data"], envelope["error"]
    assert data["outcome"] == case.name
    assert (error is None) == (case.code == 0)
    if error is not None:
        assert error["name"] == f"task-{case.name}"
        assert case.says in f"{error['cause']} {error['remedy']}"
    if data["receipt"] is not None:
        assert data["receipt"]["outcome"] == case.name
    assert sandbox.control.unknown() == []


def test_unreachable_is_try_again_later_and_the_task_goes_on(sandbox: Sandbox) -> None:
    (sandbox.collection("archive").path / "a").write_text("data")
    first = run_json(sandbox, "transfer", "archive:/a", "scratch:/a")
    sandbox.control.fault(kind="unavailable", path="/task_list", count=1000)
    line = ("wait", first["data"]["task_id"], "--poll", "0.1s", "--retry-for", "0s")
    envelope = run_json(sandbox, *line, expect=75)
    assert envelope["data"]["tasks"][0]["outcome"] == "unreachable"
    sandbox.control.clear_faults()
    assert run(sandbox, *line).returncode == 0


def test_files_that_were_skipped_are_never_a_plain_success() -> None:
    """Also if the document does not count them, and only an event tells of them."""
    done = {"task_id": "t", "type": "TRANSFER", "status": "SUCCEEDED"}
    assert outcome.finished({**done, "subtasks_skipped_errors": 0}, []).name == "succeeded"
    assert not outcome.needs_events({**done, "subtasks_skipped_errors": 0})
    assert outcome.finished({**done, "subtasks_skipped_errors": 2}, []).name == "succeeded-with-skips"
    assert outcome.needs_events(done)
    told = outcome.finished(done, [{"code": "SUCCEEDED"}, {"code": "SKIPPED_ERRORS"}], strict=True)
    assert (told.name, told.exit_code) == ("succeeded-with-skips", 6)


def test_a_status_that_nobody_knows_is_an_error() -> None:
    from globuswrap.errors import Refused

    for status in ("", None, "DONE", "succeeded"):
        with pytest.raises(Refused):
            outcome.phase({"task_id": "T", "status": status}, ())


def test_the_documented_table_is_the_one_in_the_code() -> None:
    text = (support.REPOSITORY / "docs" / "troubleshooting.md").read_text()
    rows = dict(re.findall(r"(?m)^\| `([a-z-]+)` \| (\d+)[^|]* \|", text))
    assert {name.removeprefix("task-"): int(code) for name, code in rows.items()} == outcome.CODES
    assert {case.name for case in CASES} | {"unreachable"} == set(outcome.CODES)
