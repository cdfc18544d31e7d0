"""Steps as transfers: what ends a chain, what only holds it up, and what may be deleted."""

from __future__ import annotations

import pytest

from globuswrap.errors import Held, Interrupted, LoginNeeded, NoGlobus, Problem, Refused, TryLater, UsageProblem
from globuswrap.staging import steps
from globuswrap.staging.plan import Staging, Step
from globuswrap.transfers.outcome import Outcome

ARCHIVE = "65a3749d-06cc-571c-9591-fccd4ca027ec"
SCRATCH = "e8ac0fa5-338b-5d81-b90f-ed69c6215675"


@pytest.mark.parametrize(
    ("problem", "state"),
    [
        (LoginNeeded("x", "x", "x"), steps.STUCK),
        (TryLater("x", "x", "x"), steps.STUCK),
        (Held("x", "x", "x"), steps.STUCK),
        (NoGlobus("x", "x", "x"), steps.STUCK),
        (Refused("x", "x", "x"), steps.FAILED),
        (UsageProblem("x", "x", "x"), steps.FAILED),
    ],
)
def test_what_can_be_mended_from_outside_does_not_end_a_chain(problem: Problem, state: str) -> None:
    assert steps.of_problem(problem).state == state


def test_a_signal_says_nothing_about_a_step() -> None:
    """A stage job that is killed must not look like a transfer that failed: no clause for problems sees a signal."""
    assert not issubclass(Interrupted, Exception)


@pytest.mark.parametrize(
    ("name", "code", "terminal", "state"),
    [
        ("succeeded", 0, True, steps.DONE),
        ("succeeded-with-skips", 6, True, steps.FAILED),
        ("failed", 1, True, steps.FAILED),
        ("running", 75, False, steps.MOVING),
        ("unreachable", 75, False, steps.STUCK),
        ("paused", 7, False, steps.STUCK),
        ("inactive", 7, False, steps.STUCK),
    ],
)
def test_outcomes(name: str, code: int, terminal: bool, state: str) -> None:
    assert steps.of_outcome(Outcome("t", name, code, "why", terminal=terminal)).state == state


def test_every_option_of_a_line_reaches_the_request() -> None:
    options = {
        "recursive": True,
        "sync-level": "checksum",
        "preserve-timestamp": True,
        "verify-checksum": False,
        "encrypt-data": True,
        "skip-source-errors": True,
        "fail-on-quota-errors": True,
        "source-local-user": "u1",
        "destination-local-user": "u2",
        "filters": (("exclude", "*.tmp"), ("include", "*")),
        "label": "run %j",
        "notify": "failed",
        "deadline": "2030-01-01T00:00:00+00:00",
        "strict": True,
        "fault-grace": "9s",
    }
    step = Step("stage-in.1", "stage-in", 1, f"{ARCHIVE}:/%j/50%%", f"{SCRATCH}:/x", options)
    request = steps.request_of(step, {"j": "12"})
    assert request.items[0].source == "/12/50%" and request.items[0].recursive is True
    assert (request.label, request.notify, request.deadline) == ("run 12", "failed", "2030-01-01 00:00:00")
    known = request.options
    assert (known.sync_level, known.verify_checksum, known.filters) == ("checksum", False, options["filters"])
    assert known.preserve_timestamp and known.encrypt_data and known.skip_source_errors and known.fail_on_quota_errors
    assert (known.source_local_user, known.destination_local_user) == ("u1", "u2")
    wait_policy = steps.wait_policy_of(Staging(), step)
    assert wait_policy.strict and wait_policy.fault_grace == 9.0
    assert (
        steps.request_of(Step("s", "stage-in", 1, f"{ARCHIVE}:/a", f"{SCRATCH}:/x"), {"x": "a\nb"}).label == "a\\nb s"
    )


RECEIPTS = {
    "stage-in.1": {
        "source": ARCHIVE,
        "destination": SCRATCH,
        "files_list": [
            {"source": "/in/a", "destination": "/j/in/a"},
            {"source": "/in/b", "destination": "/j/in/b b"},
            {"source": "/in/c", "destination": "/j/inner/c"},
        ],
    },
    "stage-out.1": {
        "source": SCRATCH,
        "destination": ARCHIVE,
        "files_list": [{"source": "/j/out/r", "destination": "/out/r"}],
    },
    "stage-out.2": {"source": SCRATCH, "destination": ARCHIVE, "files_list": None},
}


@pytest.mark.parametrize(
    ("address", "paths"),
    [
        (f"{SCRATCH}:/j/in/", ["/j/in/a", "/j/in/b b"]),
        (f"{SCRATCH}:/j/in", ["/j/in/a", "/j/in/b b"]),
        (f"{SCRATCH}:/j/in/a", ["/j/in/a"]),
        (f"{SCRATCH}:/j/", ["/j/in/a", "/j/in/b b", "/j/inner/c", "/j/out/r"]),
        (f"{SCRATCH}:/j/i", []),
        (f"{SCRATCH}:/", []),
        (f"{SCRATCH}:/other/", []),
        (f"{ARCHIVE}:/in/", []),
        (f"{ARCHIVE}:/out/", []),
    ],
)
def test_cleanup_covers_only_what_receipts_list(address: str, paths: list[str]) -> None:
    """The copies that were staged in, and the originals that were staged out; never a source that was only read."""
    step = Step("cleanup.1", "cleanup", 1, address)
    assert steps.covered(step, RECEIPTS, {})[1] == paths
