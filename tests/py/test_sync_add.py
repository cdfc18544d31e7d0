"""`sync add` writes a profile that holds, and what does not hold is named at once."""

from __future__ import annotations

import stat

import pytest

from command_line import run, run_json
from globuswrap.cli.sandbox import Sandbox

pytestmark = [pytest.mark.usefixtures("globus_loaded")]


def test_a_profile_is_written_and_runs(sandbox: Sandbox) -> None:
    source = sandbox.collection("archive").path / "it's 2018"
    source.mkdir()
    (source / "a").write_text("one")
    sandbox.config_file.chmod(0o640)
    before = sandbox.config_file.read_text()
    line = (
        "sync",
        "add",
        "beam.1",
        f"{source}/",
        "results:/copy/",
        "--exclude",
        "*.tmp",
        "--include",
        "*",
        "--settle",
        "0",
    )
    assert run(sandbox, *line, "--dry-run").returncode == 0 and sandbox.config_file.read_text() == before
    done = run(sandbox, *line)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        '[sync."beam.1"]',
        'source = "archive:/it\'s 2018/"',
        'destination = "results:/copy/"',
        'settle = "0"',
        'filters = [["exclude", "*.tmp"], ["include", "*"]]',
        f'local-root = "{source}"',
    ]
    assert "globuswrap sync run beam.1 --dry-run" in done.stderr
    assert sandbox.config_file.read_text() == f"{before.rstrip()}\n\n{done.stdout}"
    assert stat.S_IMODE(sandbox.config_file.stat().st_mode) == 0o640
    assert run(sandbox, "sync", "run", "beam.1", "--wait", "--poll", "0.1s").returncode == 0
    assert (sandbox.collection("results").path / "copy" / "a").read_text() == "one"
    taken = run(sandbox, *line)
    assert taken.returncode == 2 and "[name-taken]" in taken.stderr


def test_a_source_that_is_mounted_nowhere_has_no_local_root(sandbox: Sandbox) -> None:
    sandbox.config_file.write_text("")
    ends = [f"{sandbox.collection(name).id}:/data/" for name in ("archive", "results")]
    found = run_json(sandbox, "sync", "add", "beam", *ends)["data"]
    assert found["local_root"] is None
    assert sandbox.config_file.read_text() == f'[sync.beam]\nsource = "{ends[0]}"\ndestination = "{ends[1]}"\n'


def test_everything_that_is_missing_is_named_at_once(sandbox: Sandbox) -> None:
    before = sandbox.config_file.read_text()
    options = ("--delete", "--no-preserve-timestamp", "--order", "oldest", "--schedule", "now and then")
    done = run(sandbox, "sync", "add", "a/b", "archive:/data/", "archive:/data/copy/", *options)
    assert done.returncode == 2
    for cause in (
        "'a/b' is not a valid profile name",
        "source and destination overlap",
        "order needs a limit",
        "delete needs check-file",
        "delete needs preserve-timestamp",
        "now and then",
    ):
        assert cause in done.stderr, done.stderr
    assert sandbox.config_file.read_text() == before
    both = run(
        sandbox, "sync", "add", "x", "archive:/data/", "results:/c/", "--max-bytes", "much", "--max-delete", "few"
    )
    assert both.returncode == 2 and "max-bytes: 'much'" in both.stderr and "max-delete: max-delete 'few'" in both.stderr


def test_cleanup_names_all_its_conditions_at_once(sandbox: Sandbox) -> None:
    done = run(sandbox, "cleanup", "--since", "1d")
    assert (
        done.returncode == 2
        and "cleanup needs --under" in done.stderr
        and "--since and --by work only with --fetched" in done.stderr
    )
    assert "remedy: add --under NAME:/dir/; add --fetched" in done.stderr
