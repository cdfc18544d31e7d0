"""Patterns as sources of `transfer` and `batch`: expanded by listing, with what they match at the destination to look at."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from command_line import accepted, run, run_json
from globuswrap.cli.sandbox import Sandbox

pytestmark = [pytest.mark.usefixtures("globus_loaded")]

QUICK = ("--wait", "--poll", "0.1s")


def fill(sandbox: Sandbox, *names: str) -> None:
    for name in names:
        path = sandbox.collection("archive").path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)


def there(sandbox: Sandbox) -> dict[str, str]:
    """The files at the destination, by path, with their content."""
    top = sandbox.collection("scratch").path
    return {str(path.relative_to(top)): path.read_text() for path in sorted(top.rglob("*")) if path.is_file()}


RUNS = ("runs/1/x.h5", "runs/1/y.h5", "runs/2/x.h5", "runs/3/notes", "runs/.hidden/x.h5", "other/x.h5")


def test_transfer_sends_what_a_pattern_matches_and_keeps_its_path(sandbox: Sandbox) -> None:
    fill(sandbox, *RUNS)
    sent = run_json(sandbox, "transfer", "archive:/runs/*/x.h5", "scratch:/in", *QUICK)["data"]
    assert there(sandbox) == {"in/1/x.h5": "runs/1/x.h5", "in/2/x.h5": "runs/2/x.h5"}
    assert [task["task_id"] for task in accepted(sandbox)] == [sent["task_id"]]
    assert sent["receipt"]["files_transferred"] == 2


def test_directories_that_match_go_whole_and_with_a_slash_only_they(sandbox: Sandbox) -> None:
    fill(sandbox, "runs/1/raw/a", "runs/1/raw/deep/b", "runs/10", "runs/2/c")
    run_json(sandbox, "transfer", "archive:/runs/1*/", "scratch:/", *QUICK)
    assert sorted(there(sandbox)) == ["1/raw/a", "1/raw/deep/b"]
    refused = run_json(sandbox, "transfer", "archive:/runs/*", "scratch:/", "--no-recursive", expect=2)
    assert refused["error"]["name"] == "is-a-directory" and len(accepted(sandbox)) == 1


def test_sets_question_marks_and_dot_files_as_in_a_shell(sandbox: Sandbox) -> None:
    fill(sandbox, "d/a1", "d/a2", "d/b1", "d/a10", "d/.a3")
    run_json(sandbox, "transfer", "archive:/d/[!b]?", "scratch:/1", *QUICK)
    run_json(sandbox, "transfer", "archive:/d/.*", "scratch:/2", *QUICK)
    assert sorted(there(sandbox)) == ["1/a1", "1/a2", "2/.a3"]


def test_a_literal_star_is_reached_by_a_backslash(sandbox: Sandbox) -> None:
    fill(sandbox, "d/a*b", "d/aXb", "d/s[1]", "d/s1", "d/[x]/*?/f")
    run_json(sandbox, "transfer", r"archive:/d/a\*b", "scratch:/one", *QUICK)
    run_json(sandbox, "transfer", r"archive:/d/a\*?", "scratch:/set", *QUICK)
    run_json(sandbox, "transfer", r"archive:/d/\[x]/\*\?/*", "scratch:/deep", *QUICK)
    assert there(sandbox) == {"one": "d/a*b", "set/a*b": "d/a*b", "deep/f": "d/[x]/*?/f"}


def test_a_name_that_exists_as_it_is_written_is_no_pattern(sandbox: Sandbox) -> None:
    """A script that hands names on sends exactly the file that it named, not those that the name would match."""
    fill(sandbox, "d/s[1]", "d/s1", "d/a*b", "d/aXb")
    for name in ("s[1]", "a*b"):
        done = run(sandbox, "transfer", f"archive:/d/{name}", f"scratch:/in/{name}", *QUICK)
        assert done.returncode == 0 and "not treated as a pattern" in done.stderr
    assert there(sandbox) == {"in/s[1]": "d/s[1]", "in/a*b": "d/a*b"}


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("/runs/*.zip", "no-match"),
        ("/none/*", "no-match"),
        ("/runs/**/x.h5", "bad-pattern"),
        (r"/a\*", "source-missing"),
    ],
)
def test_what_matches_nothing_is_refused_at_once(sandbox: Sandbox, source: str, name: str) -> None:
    fill(sandbox, *RUNS)
    refused = run_json(sandbox, "transfer", f"archive:{source}", "scratch:/in", *QUICK, expect=2)
    assert refused["error"]["name"] == name
    assert accepted(sandbox) == []


def test_a_pattern_that_cannot_be_listed_is_no_pattern_without_matches(sandbox: Sandbox) -> None:
    fill(sandbox, *RUNS)
    sandbox.control.fault(
        kind="status", path="/operation/endpoint/*/ls", status=403, body={"code": "PermissionDenied"}, count=100
    )
    refused = run_json(sandbox, "transfer", "archive:/runs/*/x.h5", "scratch:/in", *QUICK, expect=1)
    assert refused["error"]["name"] != "no-match" and accepted(sandbox) == []


def test_run_again_with_the_same_matches_it_is_the_same_task(sandbox: Sandbox) -> None:
    fill(sandbox, *RUNS)
    sandbox.control.progress("held")
    line = ("transfer", "archive:/runs/*/x.h5", "scratch:/in")
    first, again = (run_json(sandbox, *line)["data"] for _ in range(2))
    assert (again["task_id"], again["how"]) == (first["task_id"], "adopted")
    planned = run_json(sandbox, *line, "--dry-run")["data"]["planned"]
    assert [item["destination_path"] for item in planned["DATA"]] == ["/in/1/x.h5", "/in/2/x.h5"]


def test_batch_takes_patterns_as_sources(sandbox: Sandbox) -> None:
    fill(sandbox, *RUNS)
    line = ("batch", "archive:/runs/*/x.h5", "scratch:/in", "--from", "archive:/runs/3/*", "--chunk", "2")
    data = run_json(sandbox, *line, *QUICK)["data"]
    assert there(sandbox) == {"in/1/x.h5": "runs/1/x.h5", "in/2/x.h5": "runs/2/x.h5", "in/notes": "runs/3/notes"}
    assert len(data["tasks"]) == 2


def test_batch_finds_collisions_among_matches(sandbox: Sandbox) -> None:
    fill(sandbox, "a/x", "b/x")
    line = ("batch", "archive:/a/*", "scratch:/in", "--from", "archive:/b/*", *QUICK)
    assert run_json(sandbox, *line, expect=2)["error"]["name"] == "collisions"
    run_json(sandbox, *line, "--on-collision", "rename")
    assert there(sandbox) == {"in/x": "a/x", "in/x.2": "b/x"}


def test_a_pattern_and_a_list_are_refused_together(sandbox: Sandbox, tmp_path: Path) -> None:
    fill(sandbox, *RUNS)
    (tmp_path / "list").write_text("x.h5\n")
    for more in ([str(tmp_path / "list")], ["--depth", "1"], ["--from", "archive:/runs"]):
        refused = run_json(sandbox, "batch", "archive:/runs/*", "scratch:/in", *more, expect=2)
        assert refused["error"]["name"] == "bad-pattern"
    assert accepted(sandbox) == []


def test_lines_of_a_list_are_never_patterns(sandbox: Sandbox, tmp_path: Path) -> None:
    fill(sandbox, "d/a*b", "d/aXb")
    (tmp_path / "list").write_text("a*b\n")
    run_json(sandbox, "batch", "archive:/d", "scratch:/", str(tmp_path / "list"), *QUICK)
    assert there(sandbox) == {"a*b": "d/a*b"}


def test_names_that_globus_cannot_take_are_refused_by_name(sandbox: Sandbox) -> None:
    fill(sandbox, "d/good")
    (sandbox.collection("archive").path / "d").joinpath(b"bad\xff".decode("utf-8", "surrogateescape")).write_text("x")
    refused = run(sandbox, "transfer", "archive:/d/*", "scratch:/", "--json")
    error = json.loads(refused.stdout)["error"]
    assert refused.returncode == 2 and error["name"] == "unsendable-names" and "xff" in json.dumps(error)
    assert accepted(sandbox) == []
