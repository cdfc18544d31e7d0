"""`globuswrap search` through the real globus command."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import support
from command_line import run, run_json
from globus_sandbox import auth
from globuswrap.cli.sandbox import Sandbox
from globuswrap.errors import UsageProblem
from globuswrap.search import entries
from globuswrap.search.entries import Defaults

pytestmark = [pytest.mark.usefixtures("globus_loaded")]

INDEX = "99999999-0000-4000-8000-000000000009"


@pytest.fixture
def box(sandbox: Sandbox) -> Sandbox:
    sandbox.control.put("index", INDEX, {"@datatype": "GSearchIndex", "id": INDEX, "display_name": "Runs"})
    return sandbox


def lines(path: Path, *documents: Any) -> str:
    path.write_text("".join(json.dumps(each, ensure_ascii=False) + "\n" for each in documents))
    return str(path)


def subjects(box: Sandbox, words: str) -> list[str]:
    return run(box, "search", "query", INDEX, words).stdout.splitlines()


def test_ingest_waits_until_the_entries_are_there_and_again_changes_nothing(box: Sandbox, tmp_path: Path) -> None:
    file = lines(
        tmp_path / "entries",
        {"subject": "mine", "content": {"word": "beam"}, "visible_to": [f"urn:globus:auth:identity:{auth.USER}"]},
        {"subject": "line\u2028separator", "content": {"word": "beam"}, "visible_to": ["public"]},
        {"subject": "default", "content": {"word": "beam"}},
    )
    box.control.put("search-script", "*", {"states": ["PENDING", "PROGRESS", "SUCCESS"]})
    for _ in range(2):
        done = run_json(box, "search", "ingest", INDEX, file, "--visible-to", "group:Sandbox Users", "--poll", "0.1")
        assert done["data"]["entries"] == 3 and [each["state"] for each in done["data"]["tasks"]] == ["SUCCESS"]
    assert len(box.control.documents("entry")) == 3
    result = run_json(box, "search", "query", INDEX, "beam")["data"]["result"]
    assert sorted(each["subject"] for each in result["gmeta"]) == ["default", "line\u2028separator", "mine"]


def test_every_entry_says_who_may_see_it(box: Sandbox, tmp_path: Path) -> None:
    file = lines(tmp_path / "entries", {"subject": "a", "content": {}})
    failed = run_json(box, "search", "ingest", INDEX, file, expect=2)
    assert failed["error"]["name"] == "no-visibility" and "line 1" in failed["error"]["cause"]
    assert not box.control.requests("search")


def test_lines_of_content_take_their_subject_from_a_field(box: Sandbox, tmp_path: Path) -> None:
    file = lines(tmp_path / "entries", {"name": "run 1", "energy": 12.4}, {"name": "run 2", "energy": 7})
    run_json(box, "search", "ingest", INDEX, file, "--subject", "name", "--visible-to", "public")
    assert subjects(box, "12.4") == ["run 1"]


def test_entries_come_from_receipts_by_a_template(box: Sandbox, tmp_path: Path) -> None:
    place = box.collection("archive").path / "run"
    place.mkdir()
    names = [name for name in support.HOSTILE_NAMES if name not in ("line\u2028separator",)]
    for name in names:
        (place / name).write_text(name)
    receipt = tmp_path / "receipt.json"
    run_json(
        box,
        "transfer",
        "archive:/run",
        "results:/run",
        "--wait",
        "--receipt-files",
        "--receipt",
        str(receipt),
        "--key",
        "r",
    )
    template = tmp_path / "template.json"
    template.write_text(
        '{"subject": "globus://{destination}{destination_path}",'
        ' "content": {"title": "{name}", "from": "{source_name}", "bytes": "{bytes_transferred}"}}'
    )
    arguments = ("--template", str(template), "--each-file", "--visible-to", "public")
    done = run_json(box, "search", "ingest", INDEX, "--receipts", str(receipt), *arguments)
    assert done["data"]["entries"] == len(names)
    kept = {each["subject"]: each["content"] for each in box.control.documents("entry")}
    assert {content["title"] for content in kept.values()} == set(names)
    assert all(content["from"] == "archive" and isinstance(content["bytes"], int) for content in kept.values())
    shown = run_json(box, "search", "ingest", INDEX, "--receipts", "r", *arguments, "--dry-run")
    assert {each["subject"] for each in shown["data"]["entries"]} == set(kept)


def test_a_receipt_without_files_or_an_unknown_field_is_said(tmp_path: Path) -> None:
    receipt = {
        "kind": "transfer",
        "outcome": "succeeded",
        "task_id": "t",
        "source": "s",
        "destination": "d",
        "files_list": None,
    }
    seen = Defaults(("public",))
    with pytest.raises(UsageProblem, match="lists no files"):
        list(entries.from_receipts([receipt], {"subject": "x", "content": {}}, seen, each_file=True))
    with pytest.raises(UsageProblem, match="nosuch"):
        list(entries.from_receipts([receipt], {"subject": "{nosuch}", "content": {}}, seen, each_file=False))
    assert list(entries.from_receipts([{**receipt, "outcome": "failed"}], {}, seen, each_file=False)) == []


def test_batches_stay_below_what_the_service_takes() -> None:
    made = [{"subject": str(n), "visible_to": ["public"], "content": {"x": "é" * 200_000}} for n in range(20)]
    found = list(entries.batches(made))
    assert [each for batch in found for each in batch] == made
    assert all(len(json.dumps(entries.document(batch))) < 10_000_000 for batch in found) and len(found) > 2
    assert [len(batch) for batch in entries.batches({"subject": str(n)} for n in range(25_000))] == [
        10_000,
        10_000,
        5_000,
    ]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[]", "not a JSON object"),
        ("{", "line 1"),
        ('{"subject": "x"}', "content is missing"),
        ('{"subject": "x", "content": {}, "y": 1}', "'y'"),
    ],
)
def test_a_wrong_line_is_named(box: Sandbox, tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "entries").write_text(text + "\n")
    failed = run_json(box, "search", "ingest", INDEX, str(tmp_path / "entries"), "--visible-to", "public", expect=2)
    assert words in failed["error"]["cause"]


@pytest.mark.parametrize(
    ("states", "options", "code", "name"),
    [
        (["FAILED"], (), 1, "ingest-failed"),
        (["PENDING"] * 99, ("--timeout", "0"), 75, "ingest-running"),
        (["ODD"], (), 1, "unknown-status"),
    ],
)
def test_an_ingest_that_does_not_end_well(
    box: Sandbox, tmp_path: Path, states: list[str], options: tuple[str, ...], code: int, name: str
) -> None:
    file = lines(tmp_path / "entries", {"subject": "a", "content": {}, "visible_to": ["public"]})
    box.control.put("search-script", "*", {"states": states})
    assert run_json(box, "search", "ingest", INDEX, file, *options, expect=code)["error"]["name"] == name


def test_query_with_a_request_document(box: Sandbox, tmp_path: Path) -> None:
    file = lines(tmp_path / "entries", *({"subject": f"run {n}", "content": {"w": "beam"}} for n in range(3)))
    run_json(box, "search", "ingest", INDEX, file, "--visible-to", "public")
    (tmp_path / "request").write_text('{"q": "beam", "limit": 1, "offset": 1}')
    done = run(box, "search", "query", INDEX, "--document", str(tmp_path / "request"))
    assert done.stdout.splitlines() == ["run 1"] and "2 more" in done.stderr
    run_json(box, "search", "query", INDEX, expect=2)
    run_json(box, "search", "query", "Runs", "beam", expect=2)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("fault", "code"),
    support.faults(
        [
            ({"kind": "unavailable", "service": "search"}, 0),
            ({"kind": "drop-after", "service": "search", "method": "POST"}, 0),
            ({"kind": "html", "service": "search"}, 0),
            ({"kind": "expired-token", "service": "search", "count": 5}, 4),
            ({"kind": "not-found", "service": "search"}, 1),
        ]
    ),
)
def test_ingest_under_each_fault_and_again_without(
    box: Sandbox, tmp_path: Path, fault: dict[str, Any], code: int
) -> None:
    file = lines(tmp_path / "entries", {"subject": "a", "content": {}, "visible_to": ["public"]})
    box.control.fault(fault)
    run_json(box, "search", "ingest", INDEX, file, "--poll", "0.1", expect=code)
    box.control.clear_faults()
    run_json(box, "search", "ingest", INDEX, file)
    assert len(box.control.documents("entry")) == 1


@pytest.mark.slow
@pytest.mark.parametrize(
    ("fault", "code"),
    support.faults(
        [
            ({"kind": "unavailable", "service": "search"}, 0),
            ({"kind": "html", "service": "search"}, 0),
            ({"kind": "expired-token", "service": "search", "count": 5}, 4),
            ({"kind": "not-found", "service": "search"}, 1),
        ],
        often=("expired-token",),
    ),
)
def test_query_under_each_fault_answers_or_fails(
    box: Sandbox, tmp_path: Path, fault: dict[str, Any], code: int
) -> None:
    file = lines(tmp_path / "entries", {"subject": "a", "content": {"word": "beam"}, "visible_to": ["public"]})
    run_json(box, "search", "ingest", INDEX, file, "--poll", "0.1")
    box.control.fault(fault)
    found = run_json(box, "search", "query", INDEX, "beam", expect=code)["data"]
    assert code != 0 or [each["subject"] for each in found["result"]["gmeta"]] == ["a"]


def test_a_document_with_filters_ranges_and_facets_is_printed_as_tables(box: Sandbox, tmp_path: Path) -> None:
    runs = [
        ("run 1", "tomography", 12.5),
        ("run 2", "tomography", 7.0),
        ("run 3", "diffraction", 9.0),
        ("run 4", "x", 50.0),
    ]
    rows = [{"name": name, "method": method, "energy": energy} for name, method, energy in runs]
    file = lines(tmp_path / "entries", *rows)
    run_json(box, "search", "ingest", INDEX, file, "--subject", "name", "--visible-to", "public")
    request = tmp_path / "request.json"
    request.write_text(
        json.dumps(
            {
                "q": "*",
                "filters": [{"type": "range", "field_name": "energy", "values": [{"from": 5, "to": 20}]}],
                "facets": [
                    {"name": "Method", "type": "terms", "field_name": "method"},
                    {
                        "name": "Energy",
                        "type": "numeric_histogram",
                        "field_name": "energy",
                        "size": 2,
                        "histogram_range": {"low": 5, "high": 15},
                    },
                    {"name": "Sum", "type": "sum", "field_name": "energy"},
                ],
            }
        )
    )
    shown = run(box, "search", "query", INDEX, "--document", str(request)).stdout.splitlines()
    assert sorted(shown[:3]) == ["run 1", "run 2", "run 3"]
    tables = [line.split() for line in shown[3:]]
    assert tables == [
        [], ["METHOD", "COUNT"], ["tomography", "2"], ["diffraction", "1"],
        [], ["ENERGY", "COUNT"], ["5.0", "to", "10.0", "2"], ["10.0", "to", "15.0", "1"],
        [], ["SUM"], ["28.5"],
    ]  # fmt: skip
