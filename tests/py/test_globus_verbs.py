"""What is asked of a collection: what cannot be looked at is never taken for gone."""

from __future__ import annotations

from typing import Any

import pytest

from globuswrap.errors import Refused
from globuswrap.globus import command, verbs
from globuswrap.globus.errors import problem_of
from globuswrap.system.process import Completed


def answering(monkeypatch: pytest.MonkeyPatch, answer: Any) -> None:
    def call(*arguments: str, **rest: Any) -> Any:
        if isinstance(answer, Exception):
            raise answer
        return answer

    monkeypatch.setattr(command, "call", call)


def refused(code: str) -> Exception:
    body = f'{{"code": "{code}", "message": "no"}}'
    return problem_of(Completed(("globus", "ls"), 82, "", body, 0.1))  # 82: HTTP 502


def test_stat_tells_nothing_there_from_what_it_does_not_know(monkeypatch: pytest.MonkeyPatch) -> None:
    answering(monkeypatch, {"type": "file", "size": 3})
    assert verbs.kind("C:/a", 0.0) == "file"
    answering(monkeypatch, {"code": "NotFound", "message": "no"})
    assert verbs.stat("C:/a", 0.0) is None
    for odd in ({"code": "PermissionDenied"}, {}, None, [], {"type": None}):
        answering(monkeypatch, odd)
        with pytest.raises(Refused, match="reported nothing about"):
            verbs.stat("C:/a", 0.0)


def test_ls_tells_no_directory_from_one_that_cannot_be_listed(monkeypatch: pytest.MonkeyPatch) -> None:
    for code in ("ExternalError.DirListingFailed.NotFound", "ExternalError.DirListingFailed.NotDirectory"):
        answering(monkeypatch, refused(code))
        assert verbs.ls("C:/a/", 0.0) is None
    for problem in (refused("ExternalError.DirListingFailed.PermissionDenied"), refused("EndpointError")):
        answering(monkeypatch, problem)
        with pytest.raises(Refused):
            verbs.ls("C:/a/", 0.0)
    answering(monkeypatch, {"message": "nothing like a listing"})
    with pytest.raises(Refused, match="no listing"):
        verbs.ls("C:/a/", 0.0)


def test_a_problem_carries_the_code_of_the_service() -> None:
    problem = refused("ExternalError.MkdirFailed.Exists")
    assert isinstance(problem, Refused) and problem.code == "ExternalError.MkdirFailed.Exists"
