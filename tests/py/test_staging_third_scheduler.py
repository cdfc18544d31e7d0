"""Another batch system is one module and one line: a copy of the checkout gets both, and is put through the scenarios."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

import support
import test_staging_scenarios as scenarios
from globuswrap.cli.sandbox import Sandbox
from test_staging_scenarios import Site

pytestmark = [pytest.mark.slow]

DOUBLE = support.REPOSITORY / "tests" / "doubles" / "toy"


class ToyCluster:
    """`toyq` as the scenarios see it; jobs end in the words that the scenarios have for PBS."""

    kind = "toy"
    header = "#TOY"
    job_variable = "TOYQ_JOB"
    index_variable = ""

    def __init__(self, base: Path) -> None:
        (base / "toyq").mkdir()
        self.env = {"TOYQ": str(base / "toyq"), "PATH": f"{DOUBLE}:{os.environ['PATH']}"}

    def jobs(self) -> dict[str, dict[str, object]]:
        done = subprocess.run(
            ["toyq", "list"], env={**os.environ, **self.env}, capture_output=True, text=True, check=True
        )
        found: dict[str, dict[str, object]] = json.loads(done.stdout)
        return found

    def queue(self) -> list[str]:
        return [f"{key} {job['state']} {job['script']}" for key, job in self.jobs().items() if job["code"] is None]

    def ending(self, job_id: str) -> str:
        code = self.jobs()[job_id]["code"]
        return "" if code is None else "F none" if code == "deleted" else "F 271" if code == "-15" else f"F {code}"

    def running(self, job_id: str) -> bool:
        return self.jobs()[job_id]["state"] == "running"

    def cancel(self, *job_ids: str) -> None:
        subprocess.run(["toyq", "kill", *job_ids], env={**os.environ, **self.env}, check=True)

    def requeue(self, job_id: str) -> None:
        raise NotImplementedError

    def jobs_of(self, chain_id: str) -> dict[str, str]:
        return {str(job["script"]): key for key, job in self.jobs().items() if chain_id in str(job["script"])}


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkout that knows the third scheduler: one file more, and one line."""
    root = tmp_path_factory.mktemp("copy")
    for name in ("bin", "lib"):
        shutil.copytree(support.REPOSITORY / name, root / name, ignore=shutil.ignore_patterns("__pycache__"))
    (root / ".venv").symlink_to(support.REPOSITORY / ".venv")
    room = root / "lib" / "globuswrap" / "schedulers"
    shutil.copy(DOUBLE / "toy.py", room)
    registry = (room / "__init__.py").read_text()
    last = '    "pbs": Known("qsub", "PBS_JOBID"),\n'
    assert registry.count(last) == 1
    (room / "__init__.py").write_text(registry.replace(last, f'{last}    "toy": Known("toyq", "TOYQ_JOB"),\n'))
    return root


@pytest.fixture
def new_site(
    copy: Path,
    new_sandbox: Callable[..., Sandbox],
    tmp_path: Path,
    loaded_globus: str,
    monkeypatch: pytest.MonkeyPatch,
) -> Callable[..., Site]:
    monkeypatch.setattr(support, "LAUNCHER", copy / "bin" / "globuswrap")
    cluster = ToyCluster(tmp_path)

    def start(mode: str, **options: object) -> Site:
        work = tmp_path / "work dir"
        work.mkdir(exist_ok=True)
        site = Site(cluster, new_sandbox(**options), work, mode, loaded_globus)
        site.put("in/a b", "one\n")
        site.put("in/c", "two\n")
        return site

    return start


@pytest.mark.parametrize(
    ("scenario", "mode"),
    [
        *((scenarios.test_success, mode) for mode in scenarios.MODES),
        (scenarios.test_payload_fails, "jobs"),
        (scenarios.test_stage_in_fails, "login"),
        (scenarios.test_stage_out_fails, "jobs"),
        (scenarios.test_canceled_while_held, "jobs"),
        (scenarios.test_canceled_while_running, "login"),
    ],
    ids=lambda value: value if isinstance(value, str) else value.__name__.removeprefix("test_"),
)
def test_a_third_scheduler_runs_the_scenarios(
    new_site: Callable[..., Site], scenario: Callable[..., None], mode: str
) -> None:
    scenario(new_site, mode)


def test_a_job_of_the_chain_that_ends_it_leaves_another_that_runs_to_end_by_itself(
    new_site: Callable[..., Site], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two that end the chain at once would cancel each other, and nobody would be left to say that it has ended."""
    site = new_site("jobs", progress="held")
    site.submit(site.script(site.body(), lines=scenarios.ALWAYS))
    stage = str(site.fact("job.stage.1")["id"])
    site.until_running(stage)
    monkeypatch.setenv("TOYQ_JOB", str(site.fact("job.after-failure")["id"]))
    site.globuswrap("cancel", site.chain)
    monkeypatch.delenv("TOYQ_JOB")
    ended = site.ended()
    site.check(("CANCELLED 0:0", "F none"), tasks=1, code=5, ended=ended)
    assert site.cluster.ending(stage) == "F 5", site.seen()


def test_resuming_what_only_waits_for_its_results_tells_that_the_job_failed(new_site: Callable[..., Site]) -> None:
    site = new_site("login")
    site.submit(site.script(site.body("exit 7"), lines=scenarios.ALWAYS))

    def over() -> bool:
        site.tend()
        return bool(site.fact("outcome"))

    scenarios.until(over, site.seen)
    scenarios.until(lambda: site.tasks()[-1]["status"] == "SUCCEEDED", site.seen)
    assert not site.fact("ended")
    done = site.globuswrap("submit", "--resume", site.chain, expect=1)
    assert "the job failed: ended 7" in done.stderr and "key" not in done.stderr
