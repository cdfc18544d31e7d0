"""`sync run` against the sandbox, with the real globus."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from globuswrap.sandbox.launch import Sandbox
from support import HOSTILE_NAMES
from sync_support import Beam


@pytest.fixture
def beam(sandbox: Sandbox) -> Beam:
    return Beam(sandbox)


def test_only_what_changed_is_sent_and_nothing_is_asked_when_nothing_has(beam: Beam) -> None:
    for name in ("a", "sub/b", "sub/deep/c"):
        beam.write(name)
    beam.quiet()
    beam.quiet()
    beam.same()
    (first,) = beam.tasks()
    assert {item["source_path"] for item in first["items"]} == {"/data/a", "/data/sub/b", "/data/sub/deep/c"}
    asked = len(beam.box.control.requests())
    beam.quiet()
    assert len(beam.box.control.requests()) == asked

    beam.write("sub/b", "changed", age=50)
    beam.write("new")
    beam.quiet("--wait")
    beam.same()
    assert {item["source_path"] for item in beam.tasks()[-1]["items"]} == {"/data/sub/b", "/data/new"}
    beam.quiet()
    assert len(beam.tasks()) == 2


def test_hostile_names_arrive(beam: Beam) -> None:
    for name in HOSTILE_NAMES:
        beam.write(name, name)
        beam.write(f"in {name}/{name}", name)
        (beam.source / f"empty {name}").mkdir()
    beam.quiet("--wait")
    beam.same()
    asked = len(beam.box.control.requests())
    beam.quiet()
    assert len(beam.box.control.requests()) == asked
