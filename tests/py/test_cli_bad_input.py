"""Bad input: one line of cause, one of remedy, the documented code, and nothing is submitted."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from command_line import run
from globuswrap.cli.sandbox import Sandbox

UUID = "aaaaaaaa-0000-4000-8000-000000000001"


@pytest.mark.parametrize(
    ("line", "code", "name", "remedy"),
    [
        (("transfer", "archve:/a", "scratch:/a"), 2, "unknown-collection", "did you mean archive?"),
        (("transfer", "nobody:/a", "scratch:/a"), 2, "unknown-collection", "collection add nobody"),
        (("transfer", UUID[:-1] + ":/a", "scratch:/a"), 2, "bad-uuid", "8-4-4-4-12"),
        (("transfer", UUID, "scratch:/a"), 2, "bad-address", "NAME:/path"),
        (("transfer", "archive:", "scratch:/a"), 2, "bad-address", "archive:/"),
        (("transfer", "archive:/a/../b", "scratch:/a"), 2, "bad-path", "'..'"),
        (("transfer", "/nowhere/mounted", "scratch:/a"), 2, "not-mounted", "--mount"),
        (("transfer", "archive:/a", "archive:/a/"), 2, "same-place", "another destination"),
        (("transfer", "archive:/a", "scratch:/a", "--sync-level", "newest"), 2, "bad-option", "checksum"),
        (("transfer", "archive:/a", "scratch:/a", "--notify", "loud"), 2, "bad-option", "failed"),
        (("transfer", "archive:/a", "scratch:/a", "--deadline", "soon"), 2, "bad-time", "+2h"),
        (("transfer", "archive:/a", "scratch:/a", "--deadline", "+99999999d"), 2, "bad-duration", "1d"),
        (("transfer", "archive:/a", "scratch:/a", "--deadline", "0001-01-01T00:00+14:00"), 2, "bad-time", "+2h"),
        (("transfer", "archive:/a", "scratch:/a", "--key", ""), 2, "bad-key", "remove --key"),
        (("transfer", "archive:/a", "scratch:/a", "--key", "", "--dry-run"), 2, "bad-key", "remove --key"),
        (("delete", "archive:/a", "--key", " "), 2, "bad-key", "remove --key"),
        (("batch", "archive:/", "scratch:/", "/dev/null", "--key", ""), 2, "bad-key", "remove --key"),
        (("stage", "in", "archive:/a", "scratch:/a", "--key", ""), 2, "bad-key", "remove --key"),
        (("stage", "out", "archive:/a", "scratch:/a", "--key", ""), 2, "bad-key", "remove --key"),
        (("share", "deliver", "archive:/a", "scratch:/a", "--key", ""), 2, "bad-key", "remove --key"),
        (
            ("sync", "run", "--source", "archive:/", "--destination", "scratch:/", "--key", ""),
            2,
            "bad-key",
            "remove --key",
        ),
        (("flow", "start", UUID, "--key", ""), 2, "bad-key", "remove --key"),
        (("transfer", "archive:/a", "scratch:/a", "--wait", "--timeout", "x"), 2, "bad-duration", "30s"),
        (("transfer", "archive:/a", "scratch:/a", "--no-such-option"), 2, "bad-usage", "--help"),
        (("transfer", "archive:/a"), 2, "bad-usage", "--help"),
        (("delete",), 2, "bad-usage", "--help"),
        (("delete", "archive:/a", "scratch:/a"), 2, "several-collections", "once for each"),
        (("trasnfer", "archive:/a", "scratch:/a"), 2, "unknown-command", "did you mean transfer?"),
        (("wait", "no-such-key"), 2, "unknown-task", "globuswrap status"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else None,
)
def test_bad_input_is_refused_before_anything_is_sent(
    shared: Sandbox, line: tuple[str, ...], code: int, name: str, remedy: str
) -> None:
    done = run(shared, *line)
    assert done.returncode == code, done.stderr
    cause, advice = [text for text in done.stderr.splitlines() if text.strip()]
    assert cause.startswith("globuswrap: ") and cause.endswith(f"[{name}]")
    assert advice.startswith("  remedy: ") and remedy in advice
    assert done.stdout == ""
    assert shared.control.submissions() == []


def test_json_that_is_nested_too_deeply_is_bad_input(shared: Sandbox, tmp_path: Path) -> None:
    deep = tmp_path / "deep"
    deep.write_text("[" * 100_000 + "\n")
    lines = [
        (("batch", "archive:/", "scratch:/", str(deep), "--format", "json"), "bad-line"),
        (("search", "ingest", UUID, str(deep), "--subject", "x"), "bad-entry"),
        (("flow", "start", UUID, "--input", str(deep)), "bad-document"),
    ]
    for line, name in lines:
        done = run(shared, *line)
        assert done.returncode == 2 and f"[{name}]" in done.stderr and "nested too deeply" in done.stderr, done.stderr


def test_names_that_are_not_utf8_are_refused_by_name(shared: Sandbox) -> None:
    done = run(shared, "transfer", os.fsdecode(b"archive:/caf\xe9"), "scratch:/a")
    assert done.returncode == 2 and "[not-utf-8]" in done.stderr and "caf\\udce9" in done.stderr
    assert shared.control.submissions() == []


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> object:
    """One sandbox for all that never reaches it."""
    with Sandbox(tmp_path_factory.mktemp("sandbox")) as box:
        yield box


def fake_globus(directory: Path, version: str) -> Path:
    """A program that answers `globus version` as an old CLI does: the real one cannot be installed beside a new Python."""
    path = directory / "globus"
    path.write_text(f"#!/bin/sh\necho 'Installed Version: {version}'\necho 'Latest Version:    3.44.0'\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


def test_no_globus_command_is_127_with_how_to_install_it(shared: Sandbox) -> None:
    done = run(shared, "transfer", "archive:/a", "scratch:/a", env={"GLOBUSWRAP_GLOBUS": "/nowhere/globus"})
    assert done.returncode == 127
    assert "[no-globus]" in done.stderr and "pipx install globus-cli" in done.stderr


def test_a_globus_that_cannot_be_run_is_127(shared: Sandbox, tmp_path: Path) -> None:
    path = fake_globus(tmp_path, "3.44.0")
    path.write_text("#!/no/such/interpreter\n")
    done = run(shared, "transfer", "archive:/a", "scratch:/a", env={"GLOBUSWRAP_GLOBUS": str(path)})
    assert done.returncode == 127 and "[no-globus]" in done.stderr


@pytest.mark.parametrize("version", ["1.12.0", "2.1.0", "3.24.0", "3.26.9"])
def test_an_old_globus_is_refused_with_how_to_update_it(shared: Sandbox, tmp_path: Path, version: str) -> None:
    path = fake_globus(tmp_path, version)
    done = run(shared, "transfer", "archive:/a", "scratch:/a", env={"GLOBUSWRAP_GLOBUS": str(path)})
    assert done.returncode == 1
    assert f"globus-cli {version}" in done.stderr and "pipx upgrade globus-cli" in done.stderr


Prepare = Callable[[Sandbox], object]


@pytest.mark.parametrize(
    ("login", "prepare", "remedy"),
    [
        ("none", lambda box: None, "globus login"),
        ("user", lambda box: box.control.fault(kind="consent", path="/transfer", scopes=["urn:x[y]"]), "'urn:x[y]'"),
        (
            "user",
            lambda box: box.control.fault(kind="session", path="/transfer", domains=["uni.example"]),
            "globus session update uni.example",
        ),
        (
            "user",
            lambda box: box.control.fault(kind="session", path="/transfer", policies=[UUID]),
            f"globus session update --policy {UUID}",
        ),
        ("user", lambda box: box.control.fault(kind="expired-token", path="/transfer", count=100), "globus login"),
        (
            "client",
            lambda box: box.control.fault(kind="session", path="/transfer", policies=[UUID]),
            "service account",
        ),
    ],
    ids=["not-logged-in", "consent", "session-domain", "session-policy", "expired", "client-session"],
)
def test_login_problems_are_4_with_the_command_that_mends_them(
    new_sandbox: Callable[..., Sandbox], login: str, prepare: Prepare, remedy: str
) -> None:
    sandbox = new_sandbox(login=login)
    (sandbox.collection("archive").path / "a").write_text("data")
    prepare(sandbox)
    done = run(sandbox, "transfer", "archive:/a", "scratch:/a")
    assert done.returncode == 4, done.stderr
    cause, advice = done.stderr.splitlines()
    assert cause.endswith("-needed]") and remedy in advice
    assert sandbox.control.tasks() == []


def test_a_collection_that_globus_does_not_know_is_refused(sandbox: Sandbox) -> None:
    done = run(sandbox, "transfer", f"{UUID}:/a", "scratch:/a")
    assert done.returncode == 1
    assert "EndpointNotFound" in done.stderr and "globus endpoint search" in done.stderr
    assert sandbox.control.tasks() == []
