"""A collection on tape: files that are being recalled are no permanent fault."""

from __future__ import annotations

from pathlib import Path

import pytest

import command_line
from command_line import accepted, run_json
from globuswrap.cli.sandbox import Sandbox

pytestmark = pytest.mark.usefixtures("globus_loaded")

LINE = ("transfer", "archive:/slow", "scratch:/slow", "--no-check", "--wait", "--poll", "0.1s", "--fault-grace", "0")


def on_tape(box: Sandbox, value: str = "true") -> None:
    text = box.config_file.read_text()
    at = f'"archive" = {{ id = "{box.collection("archive").id}"'
    assert at in text
    box.config_file.write_text(text.replace(at, f"{at}, tape = {value}"))


def test_a_file_that_is_being_recalled_arrives_and_its_task_is_not_canceled(sandbox: Sandbox) -> None:
    on_tape(sandbox)
    waiting = run_json(sandbox, *LINE, "--timeout", "2", expect=75)
    assert waiting["error"]["name"] == "task-running"
    (task,) = sandbox.control.tasks()
    assert (task["status"], task["nice_status"]) == ("ACTIVE", "FILE_NOT_FOUND")
    (sandbox.collection("archive").path / "slow").write_text("recalled")
    sandbox.control.progress("polls:0")
    assert run_json(sandbox, *LINE)["data"]["task_id"] == task["task_id"]
    assert (sandbox.collection("scratch").path / "slow").read_text() == "recalled"


def test_of_a_collection_that_is_not_on_tape_it_is_a_permanent_fault(sandbox: Sandbox) -> None:
    run_json(sandbox, *LINE, "--timeout", "2", expect=5)


def test_a_denied_permission_is_no_recall(sandbox: Sandbox) -> None:
    on_tape(sandbox)
    (sandbox.collection("archive").path / "slow").write_text("x")
    sandbox.control.fault(kind="denied", collection="archive")
    run_json(sandbox, *LINE, "--timeout", "20", expect=5)


def test_only_true_and_false_say_it(sandbox: Sandbox) -> None:
    on_tape(sandbox, '"yes"')
    assert run_json(sandbox, *LINE, expect=2)["error"]["name"] == "bad-config"


def sent(box: Sandbox) -> list[str]:
    requests = box.control.requests("transfer", method="POST", path="/transfer")
    return [item["source_path"].lstrip("/") for each in requests for item in each["body"]["DATA"]]


def test_the_order_of_a_list_is_kept_in_tasks_and_items(sandbox: Sandbox, tmp_path: Path) -> None:
    """The order of files on the tapes, as the archive's own tools list it."""
    names = [f"file-{number}" for number in (7, 2, 9, 1, 5)]
    for name in names:
        (sandbox.collection("archive").path / name).write_text(name)
    (tmp_path / "list").write_text("".join(f"{name}\n" for name in names))
    line = ("batch", "archive:/", "scratch:/", str(tmp_path / "list"), "--chunk", "2", "--in-flight", "1", "--wait")
    run_json(sandbox, *line, "--poll", "0.1s")
    assert sent(sandbox) == names
    assert len(accepted(sandbox)) == 3


@pytest.mark.parametrize("source", ["archive:/run", "archive:/run/*"])
def test_a_listing_and_a_pattern_go_in_the_order_of_a_file(sandbox: Sandbox, tmp_path: Path, source: str) -> None:
    run = sandbox.collection("archive").path / "run"
    run.mkdir()
    for name in "abcdef":
        (run / name).write_text(name)
    order = tmp_path / "order"
    order.write_text("/run/e\n/run/missing\n/run/b\n/run/d\n")
    listing = () if source.endswith("*") else ("--depth", "1")
    line = ("batch", source, "scratch:/in", *listing, "--order", str(order), "--chunk", "4", "--wait", "--poll", "0.1s")
    talk = command_line.run(sandbox, *line).stderr
    assert [path.rpartition("/")[2] for path in sent(sandbox)] == list("ebdacf")
    assert "3 items not in the --order file" in talk
    assert sorted(each.name for each in (sandbox.collection("scratch").path / "in").rglob("?")) == list("abcdef")


def test_an_order_that_names_no_item_submits_nothing(sandbox: Sandbox, tmp_path: Path) -> None:
    (sandbox.collection("archive").path / "a").write_text("a")
    (tmp_path / "list").write_text("a\n")
    (tmp_path / "order").write_text("run/a\n")
    line = ("batch", "archive:/", "scratch:/", str(tmp_path / "list"), "--order", str(tmp_path / "order"))
    assert run_json(sandbox, *line, expect=2)["error"]["name"] == "order-matches-nothing"
    assert run_json(sandbox, *line, "--from", "archive:/b", expect=2)["error"]["name"] == "bad-option"
    assert accepted(sandbox) == []
