"""Requests: what makes one, what its key is, and the arguments of `globus`."""

from __future__ import annotations

import pytest

from globuswrap.collections.address import Address
from globuswrap.errors import UsageProblem
from globuswrap.staging import directives
from globuswrap.syncs import profile
from globuswrap.transfers import request as requests
from globuswrap.transfers.options import Common, Options, declared

A = "aaaaaaaa-0000-4000-8000-000000000001"
B = "bbbbbbbb-0000-4000-8000-000000000002"
VERSION = (3, 44, 0)


def plain(source: str = "/in", destination: str = "/out", **rest: object) -> requests.Request:
    return requests.transfer(Address(A, source), Address(B, destination), **rest)  # type: ignore[arg-type]


def digest(request: requests.Request) -> str:
    return requests.digest_of(requests.content(request))


def test_the_smallest_transfer_says_only_what_every_submission_says() -> None:
    assert requests.command(plain(), "ID", "L gw-0", VERSION) == (
        *("transfer", "--submission-id", "ID", "--label", "L gw-0", "--notify", "off", "--skip-activation-check"),
        *("--", f"{A}:/in", f"{B}:/out"),
    )


EVERY_OPTION = Options(
    sync_level="exists",
    preserve_timestamp=True,
    verify_checksum=False,
    encrypt_data=True,
    skip_source_errors=True,
    fail_on_quota_errors=True,
    delete_destination_extra=True,
    filters=(("include", "*.h5"), ("exclude", "*")),
    source_local_user="me",
    destination_local_user="you",
)


def test_every_option_reaches_globus_under_its_name() -> None:
    request = plain(options=EVERY_OPTION, recursive=True, notify="failed,inactive", deadline="2026-11-20 18:00:00")
    assert requests.command(request, "ID", "L", VERSION) == (
        *(
            "transfer",
            "--submission-id",
            "ID",
            "--label",
            "L",
            "--notify",
            "failed,inactive",
            "--skip-activation-check",
        ),
        *("--deadline", "2026-11-20 18:00:00", "--recursive", "--sync-level", "exists", "--preserve-timestamp"),
        *("--no-verify-checksum", "--encrypt-data", "--skip-source-errors", "--fail-on-quota-errors"),
        *("--source-local-user", "me", "--destination-local-user", "you", "--delete-destination-extra"),
        *("--include", "*.h5", "--exclude", "*"),
        *("--", f"{A}:/in", f"{B}:/out"),
    )


def test_every_declared_option_is_in_the_document_of_a_batch_and_makes_another_key() -> None:
    """A batch goes as one document: an option that the command takes must not be dropped there."""
    document = requests.document(plain(options=EVERY_OPTION, recursive=True), "ID", "L")
    for each in declared():
        value = getattr(EVERY_OPTION, each.name)
        assert document[each.name] == (0 if each.name == "sync_level" else value), each.name
        assert requests.content(plain(options=Options(**{each.name: value}))) != requests.content(plain()), each.name


def test_a_declared_option_can_be_said_in_a_job_script_and_in_a_profile() -> None:
    for each in declared(Common):
        assert each.key in directives.TRANSFER_OPTIONS and each.key in profile.KEYS, each.name


def test_mirrored_deletion_has_its_older_name_before_3_32() -> None:
    request = plain(options=Options(delete_destination_extra=True))
    assert "--delete" in requests.command(request, "ID", "L", (3, 31, 0))
    assert "--delete-destination-extra" in requests.command(request, "ID", "L", (3, 32, 0))


def test_false_is_said_and_none_is_not() -> None:
    assert "--no-recursive" in requests.command(plain(recursive=False), "ID", "L", VERSION)
    assert "--no-recursive" not in requests.command(plain(recursive=None), "ID", "L", VERSION)


def test_a_deletion_says_where_and_how() -> None:
    request = requests.delete([Address(A, "-x y")], recursive=True, options=Options(ignore_missing=True))
    assert requests.command(request, "ID", "L", VERSION) == (
        *("delete", "--submission-id", "ID", "--label", "L", "--notify", "off", "--skip-activation-check"),
        *("--recursive", "--ignore-missing", "--", f"{A}:-x y"),
    )


def test_the_document_of_several_items() -> None:
    request = requests.delete([Address(A, "/a\nb"), Address(A, "/c")], recursive=True)
    assert requests.document(request, "ID", "L") == {
        "DATA_TYPE": "delete",
        "submission_id": "ID",
        "label": "L",
        "skip_activation_check": True,
        "notify_on_succeeded": False,
        "notify_on_failed": False,
        "notify_on_inactive": False,
        "endpoint": A,
        "recursive": True,
        "ignore_missing": False,
        "interpret_globs": False,
        "DATA": [{"DATA_TYPE": "delete_item", "path": "/a\nb"}, {"DATA_TYPE": "delete_item", "path": "/c"}],
    }


@pytest.mark.parametrize(
    "other",
    [
        plain("/in2"),
        plain(destination="/out2"),
        plain(recursive=True),
        plain(recursive=False),
        plain(options=Options(sync_level="size")),
        plain(options=Options(verify_checksum=False)),
        plain(recursive=True, options=Options(filters=(("exclude", "*"),))),
        requests.delete([Address(A, "/in")]),
    ],
)
def test_what_makes_another_request(other: requests.Request) -> None:
    assert digest(other) != digest(plain())


@pytest.mark.parametrize(
    "same",
    [
        plain("/in/"),
        plain("//in"),
        plain("/./in"),
        plain(label="2026-11-20"),
        plain(notify="on"),
        plain(deadline="2026-11-20 18:00:00"),
    ],
)
def test_what_makes_no_other_request(same: requests.Request) -> None:
    assert digest(same) == digest(plain())


def test_the_key_of_a_job_is_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    outside = requests.key_of("d")
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    inside = requests.key_of("d")
    monkeypatch.setenv("SLURM_RESTART_COUNT", "1")
    assert requests.key_of("d") == inside != outside
    monkeypatch.setenv("SLURM_ARRAY_JOB_ID", "6")
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "1")
    first = requests.key_of("d")
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "2")
    assert len({outside, inside, first, requests.key_of("d")}) == 4


def test_a_chain_stands_for_its_jobs(monkeypatch: pytest.MonkeyPatch) -> None:
    outside = requests.key_of("d", chain="c1")
    monkeypatch.setenv("PBS_JOBID", "12.server")
    assert requests.key_of("d", chain="c1") == outside
    assert requests.key_of("d", chain="c2") != outside
    assert requests.key_of("d") != outside


def test_a_named_key_stands_for_all_but_the_account(monkeypatch: pytest.MonkeyPatch) -> None:
    named = requests.key_of("d", "nightly")
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    assert requests.key_of("e", "nightly") == named
    monkeypatch.setenv("GLOBUS_PROFILE", "beamline")
    assert requests.key_of("d", "nightly") != named


def test_labels_end_in_the_digest_and_fit() -> None:
    assert requests.tagged_label("run 7", "0123456789abcdef", "transfer") == "run 7 gw-0123456789ab"
    long = requests.tagged_label("x" * 300, "0123456789abcdef", "transfer")
    assert len(long) == 128 and long.endswith("x gw-0123456789ab")


@pytest.mark.parametrize(
    ("build", "name"),
    [
        (lambda: requests.delete([]), "nothing-to-do"),
        (lambda: requests.delete([Address(A, "/x"), Address(B, "/y")]), "several-collections"),
        (lambda: plain(options=Options(sync_level="newer")), "bad-option"),
        (lambda: plain(options=Options(filters=(("exclude", "*"),))), "bad-option"),
        (lambda: plain(notify="sometimes"), "bad-option"),
        (lambda: plain(label="two\nlines"), "bad-label"),
        (lambda: plain(recursive=False, options=Options(delete_destination_extra=True)), "bad-option"),
        (lambda: requests.transfer(Address(A, "/x"), Address(A, "/x/")), "same-place"),
    ],
)
def test_what_makes_no_sense_is_refused(build: object, name: str) -> None:
    with pytest.raises(UsageProblem) as caught:
        build()  # type: ignore[operator]
    assert caught.value.name == name and caught.value.remedy
