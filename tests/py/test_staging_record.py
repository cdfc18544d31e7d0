"""Facts of a chain: each is written once, whoever comes, and every reader sees it whole."""

from __future__ import annotations

import multiprocessing
import stat
from pathlib import Path
from typing import Any

import pytest

from globuswrap.errors import UsageProblem
from globuswrap.schedulers.slurm import Slurm
from globuswrap.staging.chain import jobs, record
from globuswrap.staging.chain.record import Chain
from globuswrap.staging.plan import Plan, Staging, Step


@pytest.fixture
def chain(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Chain:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    step = Step("stage-in.1", "stage-in", 2, "a:/", "b:/")
    plan = Plan("c1", "slurm", Staging(), "/job.sh", "/copy", "/", "me", "here", 1.0, (step,))
    return record.create(plan, {"script/job.sh": (b"#!/bin/sh\n\xff\n", 0o700)})


def test_a_chain_comes_back(chain: Chain) -> None:
    assert record.load("c1") == chain
    assert record.ids() == ["c1"]
    assert (chain.directory / "script/job.sh").read_bytes() == b"#!/bin/sh\n\xff\n"
    for path in (record.root(), chain.directory, chain.facts_directory):
        assert stat.S_IMODE(path.stat().st_mode) == 0o700
    assert stat.S_IMODE((chain.directory / "chain.json").stat().st_mode) == 0o600


def test_the_first_to_add_a_fact_wins(chain: Chain) -> None:
    first, mine = chain.add("job.compute", id="12")
    assert mine and first["id"] == "12"
    second, mine = chain.add("job.compute", id="13")
    assert not mine and second == first
    assert chain.fact("job.compute") == first
    assert chain.facts("job.") == {"job.compute": first}


def _race(directory: str, number: int, barrier: Any, queue: Any) -> None:
    chain = Chain(record.plans.from_json((Path(directory) / "chain.json").read_text()), Path(directory), 1)
    barrier.wait()
    for name in range(40):
        fact, mine = chain.add(f"claim.{name}", number=number)
        queue.put((name, fact["number"], mine))


def test_of_many_processes_one_wins_and_all_agree(chain: Chain) -> None:
    context = multiprocessing.get_context("fork")
    barrier, queue = context.Barrier(4), context.Queue()
    workers = [context.Process(target=_race, args=(str(chain.directory), each, barrier, queue)) for each in range(4)]
    for worker in workers:
        worker.start()
    found = [queue.get(timeout=300) for _ in range(4 * 40)]
    for worker in workers:
        worker.join(240)
    for name in range(40):
        seen = [(number, mine) for each, number, mine in found if each == name]
        assert len({number for number, _ in seen}) == 1
        assert sum(mine for _, mine in seen) == 1
    assert not list(chain.facts_directory.glob(".tmp-*"))


def test_a_link_whose_reply_was_lost_is_ones_own(chain: Chain, monkeypatch: pytest.MonkeyPatch) -> None:
    """Over NFS a link(2) may succeed and be reported as EEXIST."""
    real = record.os.link

    def lossy(source: str, target: Path) -> None:
        real(source, target)
        raise FileExistsError

    monkeypatch.setattr(record.os, "link", lossy)
    assert chain.add("claim", number=1)[1] is True


def test_a_new_generation_has_what_was_carried(chain: Chain) -> None:
    fact, _ = chain.add("step.stage-in.1", state="done")
    second = chain.begin_generation({"step.stage-in.1": fact})
    assert second.generation == 2 and record.load("c1").generation == 2
    assert second.fact("step.stage-in.1") == fact
    assert chain.begin_generation({}).fact("step.stage-in.1") == fact  # the loser of a race gets the winner's
    assert not list(chain.directory.glob(".tmp-*"))


def test_the_tenth_stage_job_is_adopted_as_the_tenth(chain: Chain, monkeypatch: pytest.MonkeyPatch) -> None:
    chain.add("job.compute", id="1")
    for number in range(1, 11):
        chain.add(f"claim.stage.{number}")
    monkeypatch.setattr(Slurm, "find", lambda self, directory: {"99": f"{directory}/stage.sh"})
    jobs.adopt(chain)
    assert chain.jobs == {"compute": "1", "stage.10": "99"}


def test_notes_change(chain: Chain) -> None:
    chain.note("stage-in.1", state="moving")
    before = chain.noted("stage-in.1")
    chain.note("stage-in.1", state="moving")
    assert chain.noted("stage-in.1") == before  # since when: the time is of the first
    chain.note("stage-in.1", state="stuck")
    assert chain.noted("stage-in.1")["state"] == "stuck"
    assert set(chain.notes("stage-")) == {"in.1"}


@pytest.mark.parametrize("name", ["nosuch", "../c1", "c1/g1", ""])
def test_an_unknown_chain(chain: Chain, name: str) -> None:
    with pytest.raises(UsageProblem, match="no chain"):
        record.load(name)


def test_a_damaged_chain_is_named(chain: Chain) -> None:
    (chain.directory / "chain.json").write_text("{")
    with pytest.raises(UsageProblem, match="damaged"):
        record.load("c1")
