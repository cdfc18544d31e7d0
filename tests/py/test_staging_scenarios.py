"""What a chain has to survive, in all three modes: on a real Slurm, and on PBS.

Each scenario asserts the job's state and exit code, the bytes at the destination, the number of tasks at Globus, and that
nothing is left queued.

PBS is the double in four variants: two releases, with job history and without. `make test-rest` runs one variant of each,
`make test-pbs` all. With GLOBUSWRAP_TEST_PBS=RELEASE-HISTORY (`head-off`) it is a real OpenPBS instead (cluster.py), and with
GLOBUSWRAP_TEST_PBS_TABLE=FILE what came out is added to that file, a line for each scenario. The lines that the real ones gave
are in slurm/pbs-table.txt, and the double must give the same.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shlex
import shutil
import subprocess
import textwrap
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

import support
from globuswrap.cli.sandbox import Sandbox
from slurm.cluster import Cluster, PbsCluster, RealPbs, SlurmCluster, until
from slurm.node import SlurmNode, missing_programs

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1500 if os.environ.get("GLOBUSWRAP_TEST_PBS") else 600)]

REAL = os.environ.get("GLOBUSWRAP_TEST_PBS")
PBS = [REAL] if REAL else ["head-off", "head-on", "23-off", "23-on"]
#: How a job ends that stages by itself when its chain is canceled: it sees that its task was, or is deleted before it does.
RACED = ("F 5", "F 271")
SCHEDULERS = PBS if REAL else [pytest.param("slurm", marks=pytest.mark.slurm), *PBS]
MODES = ["jobs", "login", "inline"]
only_pbs = pytest.mark.parametrize("cluster", PBS, indirect=True)

TABLE = Path(__file__).parent / "slurm" / "pbs-table.txt"

# What the schedulers say of a compute job: (Slurm, PBS).
SUCCEEDED = ("COMPLETED 0:0", "F 0")
FAILED_7 = ("FAILED 7:0", "F 7")


@pytest.fixture(scope="module")
def slurm_node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SlurmNode]:
    missing = missing_programs()
    if missing:
        support.cannot(f"no {', '.join(missing)} here")
    with SlurmNode(tmp_path_factory.mktemp("slurm"), kill_wait=5) as node:
        yield node


@dataclass
class Site:
    """A cluster and a sandbox, and globuswrap between them. `globus` is a loaded one to be forked, and `tender` a globuswrap that
    advances chains. On the main path of Slurm, and where a process is killed, they are started as users do."""

    cluster: Cluster
    box: Sandbox
    work: Path
    mode: str
    globus: str | None = None
    tender: str | None = None
    chain: str = ""
    stderr: str = ""
    counted: bool = True  # whether the number of tasks is the same each time
    raced: tuple[str, ...] = ()  # endings of the job of which one comes, and nobody can say which
    collections: dict[str, Path] = field(default_factory=dict)

    def put(self, name: str, content: str = "data\n") -> None:
        path = self.box.collections["archive"].path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)

    def got(self) -> dict[str, str]:
        """Everything in the results collection."""
        top = self.box.collections["results"].path
        return {str(path.relative_to(top)): path.read_text() for path in sorted(top.rglob("*")) if path.is_file()}

    def env(self) -> dict[str, str]:
        env = {**os.environ, **self.cluster.env}
        for name, value in self.box.env.items():
            if value is None:
                env.pop(name, None)
            elif name != "PATH":
                env[name] = value
        return env if self.globus is None else {**env, "GLOBUSWRAP_GLOBUS": self.globus}

    def globuswrap(
        self, *arguments: str, expect: int | None = 0, program: str | None = None
    ) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [program or str(support.LAUNCHER), *arguments],
            env=self.env(),
            cwd=self.work,
            capture_output=True,
            text=True,
            timeout=900 if REAL else 180,
        )
        assert expect is None or done.returncode == expect, (done.returncode, done.stdout, done.stderr)
        return done

    def script(self, body: str, *, lines: str = "", shell: str = "#!/bin/bash", name: str = "job.sh") -> str:
        """A job script that stages /in in and its out directory out; `body` finds its directory in $here."""
        job = "%j" if "%A" not in lines else "%A"
        default = f"""\
        #GLOBUS stage-in archive:/in/ scratch:/{job}/in/
        #GLOBUS stage-out scratch:/{job}/out/ results:/out/
        """
        text = (
            f"{shell}\n{self.cluster.header} -o /dev/null\n{textwrap.dedent(lines or default)}{textwrap.dedent(body)}"
        )
        (self.work / name).write_text(text)
        return name

    def body(self, more: str = "", job: str | None = None) -> str:
        """Bash that reads what was staged in and writes a result."""
        variable = job or self.cluster.job_variable
        here = f'here="{self.box.collections["scratch"].path}/${variable}"'
        return f'{here}\nmkdir -p "$here/out"\ncat "$here"/in/* >"$here/out/all" || exit 33\n{more}\n'

    def submit(self, script: str, *arguments: str, expect: int | None = 0) -> str:
        head, tail = list(arguments), []
        if "--" in arguments:
            at = arguments.index("--")
            head, tail = list(arguments[:at]), list(arguments[at:])
        done = self.globuswrap(
            *("submit", "--scheduler", self.cluster.kind, "--staging", self.mode, "--poll", "1", "--fault-grace", "1"),
            *("--no-check", *head, script, *tail),  # a chain must survive what a look beforehand would have told
            expect=expect,
        )
        self.stderr = done.stderr
        # A chain that fails while it is being submitted is named in the remedy only.
        named = re.search(r"--resume (c\w+)", done.stderr)
        self.chain = done.stdout.strip() or (named[1] if named else "")
        return self.chain

    @property
    def directory(self) -> Path:
        return Path(str(self.box.env["XDG_STATE_HOME"])) / "globuswrap" / "chains" / self.chain

    def fact(self, name: str, generation: int = 1) -> dict[str, Any]:
        path = self.directory / f"g{generation}" / name
        return json.loads(path.read_text()) if path.exists() else {}

    @property
    def job(self) -> str:
        return str(self.fact("job.compute")["id"])

    def tend(self) -> None:
        if self.mode != "jobs":
            self.globuswrap("tend", program=self.tender)

    def ended(self, seconds: float = 240, generation: int = 1) -> dict[str, Any]:
        """The chain's end, however it comes: in login mode by `tend`."""

        def over() -> dict[str, Any]:
            known = self.fact("ended", generation)
            if not known:
                self.tend()
            return self.fact("ended", generation)

        until(over, self.seen, seconds, 0.3)
        return {**self.fact("ending", generation), **self.fact("ended", generation)}

    def seen(self) -> str:
        log = self.directory / "log"
        queue = "\n".join(self.cluster.queue())
        facts = " ".join(sorted(path.name for path in self.directory.glob("g*/*")))
        return f"{queue}\n{facts}\n{log.read_text() if log.exists() else ''}"

    def until_running(self, job: str | None = None) -> None:
        def running() -> bool:
            if self.cluster.running(job or self.job):
                return True
            self.tend()
            return self.cluster.running(job or self.job)

        until(running, self.seen)

    def until_begun(self) -> None:
        """The job runs, or is over already: for one that is ended by the clock."""

        def begun() -> bool:
            if self.cluster.running(self.job) or self.cluster.ending(self.job):
                return True
            self.tend()
            return False

        until(begun, self.seen)

    def data(self) -> dict[str, Any]:
        done = self.globuswrap("status", self.chain, "--json", "--no-live")
        return json.loads(done.stdout)["data"]["chains"][0]

    def tasks(self) -> list[dict[str, Any]]:
        return self.box.control.tasks()

    def outcome(self) -> str:
        """What came of it, on one line: for the table."""
        if not self.chain or not self.directory.exists():
            job, code = "-", "nothing submitted"
        else:
            compute = next(iter(self.directory.glob("g1/job.compute")), None)
            job = self.cluster.ending(self.job) if compute else "-"
            job = " or ".join(self.raced) if job in self.raced else job
            last = max(int(path.name[1:]) for path in self.directory.glob("g[0-9]*"))
            ending = {**self.fact("ending", last), **self.fact("ended", last)}
            code = f"code {ending.get('code')}" + (f" at {ending['step']}" if ending.get("step") else "")
        states = [task["status"] for task in self.tasks()]
        tasks = " ".join(sorted(states if self.counted else set(states))) or "none"
        files = " ".join(name.replace(" ", "_") for name in self.got()) or "none"
        left = len(self.cluster.queue())
        return f"{code}; job {job}; files {files}; tasks {tasks}; queue {left or 'empty'}"

    def check(self, job: tuple[str, str] | None, tasks: int, code: int, ended: dict[str, Any]) -> None:
        """How the job ended in the scheduler's words, the number of tasks, the chain's code, an empty queue."""
        if job is not None:
            wanted = job[0] if self.cluster.kind == "slurm" else job[1]
            until(lambda: self.cluster.ending(self.job), self.seen)
            # bash that sees its child die of the signal before it has its own ends with 128 + 15
            ending = self.cluster.ending(self.job).replace(" 143:0", " 0:15")
            assert ending in (wanted, "F ?"), (ending, self.seen())
        assert ended["code"] == code, (ended, self.seen())
        assert len(self.tasks()) == tasks, self.tasks()
        assert all(task["status"] != "ACTIVE" for task in self.tasks())
        until(lambda: not self.cluster.queue(), lambda: f"an empty queue: {self.cluster.queue()}")


@pytest.fixture(params=SCHEDULERS)
def cluster(request: pytest.FixtureRequest, tmp_path: Path) -> Cluster:
    if request.param == "slurm":
        node = request.getfixturevalue("slurm_node")
        left = node.run(["squeue", "-h", "-o", "%A"]).stdout.split()
        if left:  # of a test that failed
            node.run(["scancel", *left])
            until(lambda: not node.queue(), "an empty queue")
        return SlurmCluster(node)
    release, _, history = request.param.partition("-")
    return (RealPbs if REAL else PbsCluster)(tmp_path, history == "on", release)


@pytest.fixture
def new_site(
    cluster: Cluster,
    new_sandbox: Callable[..., Sandbox],
    tmp_path: Path,
    loaded_globus: str,
    loaded_globuswrap: str | None,
    request: pytest.FixtureRequest,
) -> Iterator[Callable[..., Site]]:
    sites: list[Site] = []

    def start(mode: str, **options: Any) -> Site:
        work = tmp_path / "work dir"
        work.mkdir(exist_ok=True)
        main = request.node.get_closest_marker("main") is not None and cluster.kind == "slurm"
        loaded = not (main or REAL or "kill" in request.node.name)
        globus = loaded_globus if loaded or mode == "login" else None
        site = Site(cluster, new_sandbox(**options), work, mode, globus, loaded_globuswrap if loaded else None)
        site.put("in/a b", "one\n")
        site.put("in/c", "two\n")
        sites.append(site)
        return site

    failed = request.session.testsfailed
    yield start
    if cluster.kind == "pbs" and request.session.testsfailed == failed:
        more = [str(value) for name, value in request.node.callspec.params.items() if name not in ("cluster", "mode")]
        name = " ".join([request.node.originalname.removeprefix("test_"), *more])
        for site in sites:
            compare_with_table(f"{name} | {site.mode} | {request.node.callspec.params['cluster']}", site.outcome())


def compare_with_table(scenario: str, outcome: str) -> None:
    """The outcome must be that of the real PBS; or it is written down."""
    if table := os.environ.get("GLOBUSWRAP_TEST_PBS_TABLE"):
        with open(table, "a") as file:
            file.write(f"{scenario} | {outcome}\n")
        return
    known = dict(line.rsplit(" | ", 1) for line in TABLE.read_text().splitlines())
    assert outcome == known.get(scenario, outcome), scenario


@pytest.mark.main
@pytest.mark.parametrize("mode", MODES)
def test_success(new_site: Callable[..., Site], mode: str) -> None:
    site = new_site(mode)
    site.submit(site.script(site.body()))
    ended = site.ended()
    site.check(SUCCEEDED, tasks=2, code=0, ended=ended)
    assert site.got() == {"out/all": "one\ntwo\n"}
    assert [step["state"] for step in site.data()["steps"]] == ["done", "done", "done"] or mode == "inline"


@pytest.mark.parametrize("mode", MODES)
def test_stage_in_fails(new_site: Callable[..., Site], mode: str) -> None:
    site = new_site(mode)
    lines = """\
    #GLOBUS stage-in archive:/missing/ scratch:/%j/in/
    #GLOBUS stage-out scratch:/%j/out/ results:/out/ --when always
    """
    # The stage job, which starts at once, may be the first to give up: then `submit` already says so.
    site.submit(site.script(f"touch '{site.work}/ran'\n", lines=lines), expect=None)
    ended = site.ended()
    assert ended["step"] in ("stage-in.1", "job") and "FILE_NOT_FOUND" in ended["cause"]
    assert not (site.work / "ran").exists(), "the job ran without its data"
    # Inside the job, the code of the stage-in is that of the job; else the held job is canceled.
    job = ("FAILED 5:0", "F 5") if mode == "inline" else ("CANCELLED 0:0", "F none")
    site.check(job, tasks=1, code=5, ended=ended)
    assert site.got() == {}


@pytest.mark.parametrize("mode", MODES)
def test_payload_fails(new_site: Callable[..., Site], mode: str) -> None:
    site = new_site(mode)
    lines = """\
    #GLOBUS stage-in archive:/in/ scratch:/%j/in/
    #GLOBUS stage-out scratch:/%j/out/ results:/success/
    #GLOBUS stage-out scratch:/%j/out/ results:/failure/ --when failure
    #GLOBUS stage-out scratch:/%j/out/ results:/always/ --when always
    #GLOBUS stage-out scratch:/%j/core/ results:/core/ --when always --if-present
    """
    site.submit(site.script(site.body("exit 7"), lines=lines))
    ended = site.ended()
    site.check(FAILED_7, tasks=3, code=1, ended=ended)
    assert sorted(site.got()) == ["always/all", "failure/all"]


@pytest.mark.parametrize("mode", ["jobs", "login"])
def test_canceled_while_held(new_site: Callable[..., Site], mode: str) -> None:
    site = new_site(mode, progress="held")
    site.submit(site.script(site.body(), lines=ALWAYS))
    site.cluster.cancel(site.job)
    ended = site.ended()
    assert "ended before its data had arrived" in ended["cause"] or "never started" in ended["cause"]
    site.check(("CANCELLED 0:0", "F none"), tasks=1, code=ended["code"], ended=ended)
    assert ended["code"] in (1, 5)
    assert site.got() == {}


ALWAYS = """\
#GLOBUS stage-in archive:/in/ scratch:/%j/in/
#GLOBUS stage-out scratch:/%j/out/ results:/out/ --when always
"""


@pytest.mark.parametrize("mode", MODES)
def test_canceled_while_running(new_site: Callable[..., Site], mode: str) -> None:
    site = new_site(mode)
    site.submit(site.script(site.body("sleep 600"), lines=ALWAYS))
    site.until_running()
    out = site.box.collections["scratch"].path / site.job / "out" / "all"
    until(out.exists, site.seen)
    site.cluster.cancel(site.job)
    ended = site.ended()
    if mode != "inline":
        assert site.got() == {"out/all": "one\ntwo\n"}
        site.check(("CANCELLED 0:15", "F 271"), tasks=2, code=1, ended=ended)
    else:
        site.check(None, tasks=len(site.tasks()), code=ended["code"], ended=ended)
        assert ended["code"] != 0


@pytest.mark.parametrize("mode", MODES)
def test_stage_out_fails(new_site: Callable[..., Site], mode: str) -> None:
    site = new_site(mode)
    lines = """\
    #GLOBUS stage-in archive:/in/ scratch:/%j/in/
    #GLOBUS stage-out scratch:/%j/nothing/ results:/out/
    """
    site.submit(site.script(site.body(), lines=lines))
    ended = site.ended()
    assert "stage-out.1" in ended["cause"] or ended["step"] == "stage-out.1"
    # The job itself succeeded; inside the job, a failed stage-out is the job's failure.
    site.check(("FAILED 5:0", "F 5") if mode == "inline" else SUCCEEDED, tasks=2, code=5, ended=ended)
    if mode == "inline":
        return
    # Resumed, the stage-out alone is done again.
    (site.box.collections["scratch"].path / site.job / "nothing").mkdir()
    (site.box.collections["scratch"].path / site.job / "nothing" / "late").write_text("late\n")
    site.globuswrap("submit", "--resume", site.chain)
    ended = site.ended(generation=2)
    site.check(SUCCEEDED, tasks=3, code=0, ended=ended)
    assert site.got() == {"out/late": "late\n"}


@pytest.mark.parametrize("mode", MODES)
def test_requeue(new_site: Callable[..., Site], mode: str) -> None:
    site = new_site(mode)
    runs_again(site, lambda: site.cluster.requeue(site.job))


@only_pbs
@pytest.mark.parametrize("mode", MODES)
def test_mom_killed(new_site: Callable[..., Site], mode: str) -> None:
    """When it is back, PBS runs the job again."""
    site = new_site(mode)
    operator = site.cluster.operator  # type: ignore[attr-defined]
    runs_again(site, lambda: (operator("mom", "kill"), operator("mom", "up")))


def runs_again(site: Site, requeue: Callable[[], object]) -> None:
    flag = site.work / "second"
    body = site.body(f"for _ in {{1..600}}; do if [[ -e '{flag}' ]]; then exit 0; fi; sleep 0.5; done; exit 9")
    site.submit(site.script(body))
    site.until_running()
    out = site.box.collections["scratch"].path / site.job / "out" / "all"
    until(out.exists, site.seen)
    requeue()
    flag.touch()
    ended = site.ended()
    # Staged again inside the job: by checksum, for what is on the node may be gone.
    site.check(SUCCEEDED, tasks=3 if site.mode == "inline" else 2, code=0, ended=ended)
    assert site.got() == {"out/all": "one\ntwo\n"}


@pytest.mark.parametrize("mode", ["jobs", "login"])
def test_array_with_one_failing(new_site: Callable[..., Site], mode: str) -> None:
    site = new_site(mode)
    array = "#SBATCH --array=1-5" if site.cluster.kind == "slurm" else "#PBS -J 1-5"
    variable = "SLURM_ARRAY_JOB_ID" if site.cluster.kind == "slurm" else "PBS_ARRAY_ID"
    lines = f"""\
    {array}
    #GLOBUS stage-in archive:/in/ scratch:/%A/in/
    #GLOBUS stage-out scratch:/%A/out/ results:/success/
    #GLOBUS stage-out scratch:/%A/out/ results:/failure/ --when failure
    """
    index = site.cluster.index_variable
    here = f'here="{site.box.collections["scratch"].path}/${variable}"\nmkdir -p "$here/out"\n'
    told = site.work / "told"
    body = f"""\
    {here}cat "$here"/in/* >"$here/out/${index}" || exit 33
    [[ ${index} != 3 ]] || exit 7
    until [[ -e '{told}' ]]; do sleep 0.2; done
    """
    site.submit(site.script(body, lines=lines))

    def failed() -> bool:
        site.tend()
        if site.cluster.kind == "slurm":
            return bool(site.cluster.ending(f"{site.job}_3"))
        third = site.cluster.jobs("-t").get(site.job.replace("[]", "[3]"), {})  # type: ignore[attr-defined]
        return third.get("job_state") in ("X", "F")

    until(failed, site.seen)
    told.touch()  # what PBS says of the array itself is what it says of the element that ends last
    ended = site.ended()
    assert site.cluster.kind == "slurm" or re.search(r"1 of 5 array elements: \d+\[3\]\.\w+ exit 7", ended["cause"]), (
        ended
    )
    site.check(None, tasks=2, code=1, ended=ended)
    assert site.got() == {f"failure/{number}": "one\ntwo\n" for number in range(1, 6)}


def test_array_staged_by_element(new_site: Callable[..., Site]) -> None:
    site = new_site("inline")
    for number in range(1, 6):
        site.put(f"runs/{number}/x", f"run {number}\n")
    array = "#SBATCH --array=1-5" if site.cluster.kind == "slurm" else "#PBS -J 1-5"
    lines = f"""\
    {array}
    #GLOBUS stage-in archive:/runs/%a/ scratch:/%j/in/
    #GLOBUS stage-out scratch:/%j/out/ results:/%a/
    """
    site.submit(site.script(site.body(f"[[ ${site.cluster.index_variable} != 3 ]] || exit 7"), lines=lines))
    ended = site.ended()
    site.check(None, tasks=9, code=1, ended=ended)
    assert site.got() == {f"{number}/all": f"run {number}\n" for number in (1, 2, 4, 5)}


@only_pbs
def test_a_job_that_failed_before_submit_returned_was_submitted(new_site: Callable[..., Site], tmp_path: Path) -> None:
    """Else whoever runs the script would submit it again, and the job would run twice."""
    site = new_site("inline")
    double = site.cluster.env["PATH"].split(":")[0]
    late = tmp_path / "late"
    late.mkdir()
    (late / "qsub").write_text(
        f"""#!/bin/sh
        id=$({double}/qsub "$@") || exit
        while {double}/qstat "$id" 2>/dev/null | grep -q ' [QR] '; do sleep 0.1; done
        printf '%s\\n' "$id"
        """
    )
    (late / "qsub").chmod(0o755)
    site.cluster.env["PATH"] = f"{late}:{site.cluster.env['PATH']}"
    chain = site.submit(site.script(site.body("exit 7")))
    assert chain == site.data()["chain"]
    site.check(FAILED_7, tasks=1, code=1, ended=site.ended())


@pytest.mark.parametrize("mode", ["jobs", "login"])
def test_refused_in_the_middle(new_site: Callable[..., Site], mode: str) -> None:
    site = new_site(mode)
    done = site.globuswrap(
        *("submit", "--scheduler", site.cluster.kind, "--staging", mode, "--stage-partition", "nosuch"),
        site.script(site.body()),
        expect=1,
    )
    assert "refused the job" in done.stderr and "remedy" in done.stderr
    assert done.stdout == ""
    until(lambda: not site.cluster.queue(), lambda: str(site.cluster.queue()))
    assert site.tasks() == []
    assert not list((Path(str(site.box.env["XDG_STATE_HOME"])) / "globuswrap" / "chains").iterdir())


def test_refused_at_once(new_site: Callable[..., Site]) -> None:
    site = new_site("inline")
    option = ["-p", "nosuch"] if site.cluster.kind == "slurm" else ["-q", "nosuch"]
    done = site.globuswrap(
        *("submit", "--no-check", "--scheduler", site.cluster.kind, "--staging", "inline"),
        *(site.script(site.body()), "--", *option),
        expect=1,
    )
    assert "refused the job" in done.stderr
    if site.cluster.kind == "pbs":
        done = site.globuswrap(
            *("submit", "--no-check", "--scheduler", "pbs", "--staging", "inline"),
            site.script(site.body(), name="my job.sh"),
            expect=1,
        )
        assert "qsub refused the job: qsub: illegal -N value" in done.stderr
    assert site.cluster.queue() == [] and site.tasks() == []


def test_stage_job_killed(new_site: Callable[..., Site]) -> None:
    site = new_site("jobs", progress="held")
    site.submit(site.script(site.body()))
    stage = str(site.fact("job.stage.1")["id"])
    until(lambda: site.cluster.running(stage), site.seen)
    site.cluster.cancel(stage)
    until(lambda: site.cluster.ending(stage), site.seen)
    assert "has vanished" in site.globuswrap("tend").stderr
    site.globuswrap("tend")
    assert not site.fact("job.stage.3"), "two jobs took over"
    site.box.control.progress("at-once")
    ended = site.ended()
    site.check(SUCCEEDED, tasks=2, code=0, ended=ended)
    assert site.got() == {"out/all": "one\ntwo\n"}


@pytest.mark.slurm
@pytest.mark.parametrize("mode", ["jobs", "login"])
def test_controller_restarted(
    new_sandbox: Callable[..., Sandbox], tmp_path: Path, slurm_node: SlurmNode, mode: str
) -> None:
    work = tmp_path / "work"
    work.mkdir()
    site = Site(SlurmCluster(slurm_node), new_sandbox(progress="held"), work, mode)
    site.put("in/a b", "one\n")
    site.submit(site.script(site.body()))
    slurm_node.restart_controller()
    assert site.cluster.queue()
    site.box.control.progress("at-once")
    ended = site.ended()
    site.check(SUCCEEDED, tasks=2, code=0, ended=ended)
    assert site.got() == {"out/all": "one\n"}


@pytest.mark.parametrize("mode", ["jobs", "inline"])  # where the script is submitted as it is, and inside another one
@pytest.mark.parametrize("language", ["csh", "python"])
def test_other_languages(new_site: Callable[..., Site], mode: str, language: str) -> None:
    site = new_site(mode)
    scratch = site.box.collections["scratch"].path
    variable = site.cluster.job_variable
    if language == "csh":
        support.require_tool("csh")
        body = f'set here = "{scratch}/${variable}"\nmkdir "$here/out"\ncat "$here/in/c" > "$here/out/c"\nexit 0\n'
        script = site.script(body, shell="#!/bin/csh -f", name="job.csh")
    else:
        body = f"""\
        import os, pathlib
        here = pathlib.Path("{scratch}") / os.environ["{variable}"]
        (here / "out").mkdir()
        (here / "out" / "c").write_text((here / "in" / "c").read_text())
        """
        script = site.script(
            body, shell="#!/usr/bin/env python3", name="my job.py" if site.cluster.kind == "slurm" else "job.py"
        )
    site.submit(script)
    ended = site.ended()
    site.check(SUCCEEDED, tasks=2, code=0, ended=ended)
    assert site.got() == {"out/c": "two\n"}


@pytest.mark.slurm
@pytest.mark.parametrize("mode", MODES)
def test_the_users_own_dependency_is_kept(
    new_sandbox: Callable[..., Sandbox], tmp_path: Path, slurm_node: SlurmNode, mode: str
) -> None:
    work = tmp_path / "work"
    work.mkdir()
    site = Site(SlurmCluster(slurm_node), new_sandbox(), work, mode)
    site.put("in/a", "one\n")
    name = f"alone-{os.getpid()}-{mode}"
    # The first ends when it is told to, not after a time: on a busy machine a time is over too soon, or has not begun.
    told = work / "told"
    waits = f"until [ -e {shlex.quote(str(told))} ]; do sleep 0.2; done"
    first = slurm_node.run(
        ["sbatch", "--parsable", f"--job-name={name}", "--output=/dev/null", f"--wrap={waits}"], cwd=work
    ).stdout.strip()
    until(lambda: slurm_node.job(first)["JobState"] == "RUNNING", site.seen)
    lines = f"#SBATCH --job-name={name}\n#SBATCH --dependency=singleton\n{ALWAYS}"
    site.submit(site.script(site.body(), lines=lines))
    if mode != "inline":
        until(lambda: site.fact("released") or site.tend(), site.seen)
    until(lambda: slurm_node.job(site.job)["Reason"] == "Dependency", site.seen)
    assert slurm_node.job(first)["JobState"] == "RUNNING"
    told.touch()
    ended = site.ended()
    site.check(SUCCEEDED, tasks=2, code=0, ended=ended)


def test_a_hold_of_the_users_own_stays(new_site: Callable[..., Site]) -> None:
    site = new_site("jobs")
    option = "--hold" if site.cluster.kind == "slurm" else "-h"
    site.submit(site.script(site.body()), "--", option)
    until(lambda: site.fact("released"), site.seen)
    assert not site.cluster.running(site.job)
    release = ["scontrol", "release"] if site.cluster.kind == "slurm" else ["qrls", "-h", "u"]
    subprocess.run([*release, site.job], env=site.env(), check=True)
    site.check(SUCCEEDED, tasks=2, code=0, ended=site.ended())


@pytest.mark.parametrize("mode", ["jobs", "login"])
def test_cancel(new_site: Callable[..., Site], mode: str) -> None:
    site = new_site(mode, progress="held")
    site.submit(site.script(site.body()))
    site.globuswrap("cancel", site.chain)
    ended = site.ended()
    site.check(("CANCELLED 0:0", "F none"), tasks=1, code=5, ended=ended)
    assert site.data()["state"] == "canceled"
    # and it can be taken up again, the stage-in included
    site.box.control.progress("at-once")
    site.globuswrap("submit", "--resume", site.chain)
    ended = site.ended(generation=2)
    assert ended["code"] == 0
    assert site.got() == {"out/all": "one\ntwo\n"}
    until(lambda: not site.cluster.queue(), site.seen)


def test_cancel_of_a_job_that_stages_by_itself(new_site: Callable[..., Site]) -> None:
    site = new_site("inline", progress="held")
    site.raced = RACED
    site.submit(site.script(site.body()))
    until(site.tasks, site.seen)
    site.globuswrap("cancel", site.chain)
    until(lambda: site.cluster.ending(site.job), site.seen)
    site.check(None, tasks=1, code=5, ended=site.ended())


@pytest.mark.parametrize("mode", ["jobs", "login"])
def test_a_payload_that_failed_is_run_again_without_staging_again(new_site: Callable[..., Site], mode: str) -> None:
    site = new_site(mode)
    lines = """\
    #GLOBUS stage-in archive:/in/ scratch:/common/
    #GLOBUS stage-out scratch:/common/ results:/out/
    """
    flag = site.work / "mended"
    site.submit(site.script(f"[[ -e '{flag}' ]] || exit 7\n", lines=lines))
    site.check(FAILED_7, tasks=1, code=1, ended=site.ended())
    flag.touch()
    site.globuswrap("submit", "--resume", site.chain)
    ended = site.ended(generation=2)
    assert ended["code"] == 0
    assert [task["status"] for task in site.tasks()] == ["SUCCEEDED", "SUCCEEDED"]
    assert site.got() == {"out/a b": "one\n", "out/c": "two\n"}
    until(lambda: not site.cluster.queue(), site.seen)


WALLTIME = """\
#GLOBUS stage-in archive:/in/ scratch:/%j/in/
#GLOBUS stage-out scratch:/%j/out/ results:/success/
#GLOBUS stage-out scratch:/%j/out/ results:/failure/ --when failure
"""


def test_walltime(new_site: Callable[..., Site]) -> None:
    """All modes at once: Slurm looks at time limits only every half minute."""
    sites = [new_site(mode) for mode in MODES]
    slurm = sites[0].cluster.kind == "slurm"
    for site in sites:
        # In Slurm the limit is brought forward once the job runs; in PBS nothing can, so nobody waits to see it running.
        limit = "#SBATCH --time=5\n" if slurm else "#PBS -l walltime=00:00:20\n"
        margin = ""
        if site.mode == "inline":
            # Inside the job there is time to stage out only if it is left: TERM comes half a minute after the start.
            limit = "#SBATCH --time=3\n" if slurm else "#PBS -l walltime=00:03:00\n"
            margin = "#GLOBUS set stop-before=150s\n"
        script = site.script(site.body("sleep 200"), lines=limit + margin + WALLTIME, name=f"{site.mode}.sh")
        site.submit(script)
    for site in sites:
        site.until_begun()
        if slurm and site.mode != "inline":
            site.cluster.node.run(["scontrol", "update", f"JobId={site.job}", "EndTime=now+3"])  # type: ignore[attr-defined]
    for site in sites:
        ended = site.ended()
        ending = until(lambda site=site: site.cluster.ending(site.job), site.seen)
        if site.mode == "inline":
            assert ending in ("FAILED 143:0", "F 143", "F ?"), ending
        else:
            assert ending.startswith("TIMEOUT") or ending in ("F -29", "F ?"), ending
        assert ended["code"] == 1
        assert site.got() == {"failure/all": "one\ntwo\n"}
        assert len(site.tasks()) == 2
    until(lambda: not sites[0].cluster.queue(), sites[0].seen)


@only_pbs
@pytest.mark.parametrize("mode", ["jobs", "login"])
@pytest.mark.parametrize("code", [0, 7])
def test_the_outcome_selects_what_is_staged_out(new_site: Callable[..., Site], mode: str, code: int) -> None:
    """Without history the jobs that follow tell what the server has forgotten."""
    site = new_site(mode)
    site.submit(site.script(site.body(f"exit {code}"), lines=WALLTIME))
    ended = site.ended()
    site.check(("", f"F {code}"), tasks=2, code=0 if code == 0 else 1, ended=ended)
    assert site.got() == {"success/all" if code == 0 else "failure/all": "one\ntwo\n"}


@only_pbs
@pytest.mark.parametrize("mode", MODES)
def test_array(new_site: Callable[..., Site], mode: str) -> None:
    """Without history nobody but the elements themselves knows how they ended."""
    site = new_site(mode)
    symbol, variable = ("%j", "PBS_JOBID") if mode == "inline" else ("%A", "PBS_ARRAY_ID")
    lines = "#PBS -J 1-3\n" + WALLTIME.replace("%j", symbol)
    site.submit(site.script(site.body("", variable), lines=lines))
    ended = site.ended()
    assert ended["code"] == 0, ended
    assert list(site.got()) == ["success/all"]
    until(lambda: not site.cluster.queue(), site.seen)


@only_pbs
@pytest.mark.parametrize("mode", MODES)
def test_array_deleted(new_site: Callable[..., Site], mode: str) -> None:
    site = new_site(mode)
    site.counted = mode != "inline"  # some elements are killed before they have staged out
    symbol, variable = ("%j", "PBS_JOBID") if mode == "inline" else ("%A", "PBS_ARRAY_ID")
    lines = "#PBS -J 1-3\n" + WALLTIME.replace("%j", symbol)
    site.submit(site.script(site.body(f"touch '{site.work}'/$PBS_ARRAY_INDEX\nsleep 600", variable), lines=lines))
    until(lambda: site.tend() or all((site.work / str(number)).exists() for number in (1, 2, 3)), site.seen)
    site.cluster.cancel(site.job)
    ended = site.ended()
    assert ended["code"] == 1
    assert "success/all" not in site.got()
    until(lambda: not site.cluster.queue(), site.seen)


@only_pbs
@pytest.mark.parametrize("mode", MODES)
def test_deleted_while_queued(new_site: Callable[..., Site], mode: str) -> None:
    """A job that is deleted while it waits leaves its followers in H for good: the chain notices by itself."""
    site = new_site(mode)
    site.submit(site.script(site.body(), lines="#PBS -a 203001010000\n" + ALWAYS))
    if mode != "inline":
        until(lambda: site.fact("released") or site.tend(), site.seen)
    site.cluster.cancel(site.job)
    ended = site.ended(200)
    assert "never started" in ended["cause"] or "does not know" in ended["cause"], ended
    site.check(("", "F none"), tasks=0 if mode == "inline" else 1, code=1, ended=ended)
    assert site.got() == {}


@only_pbs
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("when", ["succeeds", "fails before", "fails after"])
def test_depends(new_site: Callable[..., Site], mode: str, when: str) -> None:
    """A job with a dependency of its own; the other job fails before the data is there, or after the job's release."""
    site = new_site(mode, progress="held" if when == "fails before" else "at-once")
    other = site.work / "other.sh"
    other.write_text(f"#!/bin/bash\nexit {0 if when == 'succeeds' else 7}\n")
    run = site.cluster.run  # type: ignore[attr-defined]
    first = subprocess.run(
        ["qsub", "-h", "-o", "/dev/null", "-j", "oe", str(other)],
        env=site.env(), cwd=site.work, check=True, capture_output=True, text=True,
    ).stdout.strip()  # fmt: skip
    site.submit(site.script(site.body(), lines=f"#PBS -W depend=afterok:{first}\n" + ALWAYS))
    if when == "fails after" and mode != "inline":
        until(lambda: site.fact("released") or site.tend(), site.seen)
    run("qrls", "-h", "u", first)
    if when == "fails before":
        until(lambda: site.job not in site.cluster.jobs(), site.seen)  # type: ignore[attr-defined]
    ended = site.ended(200)
    if when == "succeeds":
        site.check(SUCCEEDED, tasks=2, code=0, ended=ended)
        assert site.got() == {"out/all": "one\ntwo\n"}
    else:
        code = 5 if when == "fails before" and mode != "inline" else 1
        site.check(("", "F none"), tasks=0 if mode == "inline" else 1, code=code, ended=ended)
        assert site.got() == {}, "data was staged out of a job that never started"


@only_pbs
@pytest.mark.parametrize("mode", MODES)
def test_held_by_the_user_for_a_while(new_site: Callable[..., Site], mode: str) -> None:
    site = new_site(mode)
    site.submit(site.script(site.body(), lines="#PBS -a 203001010000\n" + ALWAYS))
    if mode != "inline":
        until(lambda: site.fact("released") or site.tend(), site.seen)
    run = site.cluster.run  # type: ignore[attr-defined]
    assert run("qhold", "-h", "u", site.job).returncode == 0
    assert run("qalter", "-a", "202001010000", site.job).returncode == 0
    site.tend()
    assert not site.fact("ended") and not site.cluster.running(site.job)
    assert run("qrls", "-h", "u", site.job).returncode == 0
    site.check(SUCCEEDED, tasks=2, code=0, ended=site.ended(200))
    assert site.got() == {"out/all": "one\ntwo\n"}


@pytest.mark.slurm
@pytest.mark.parametrize("code", [0, 7])
def test_slurm_has_forgotten_the_job(new_sandbox: Callable[..., Sandbox], tmp_path: Path, code: int) -> None:
    """Purged long before `tend` comes by: the witness that is left tells."""
    missing = missing_programs()
    if missing:
        support.cannot(f"no {', '.join(missing)} here")
    work = tmp_path / "work"
    work.mkdir()
    with SlurmNode(tmp_path / "slurm", min_job_age=2) as node:
        site = Site(SlurmCluster(node), new_sandbox(), work, "login")
        site.put("in/a", "one\n")
        site.submit(site.script(site.body(f"exit {code}"), lines=WALLTIME))
        until(lambda: site.fact("released") or site.tend(), site.seen)
        until(lambda: not node.job(site.job), site.seen)
        ended = site.ended()
        assert ended["code"] == (0 if code == 0 else 1), ended
        assert site.got() == {"success/all" if code == 0 else "failure/all": "one\n"}
        assert not site.cluster.queue()


@only_pbs
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("when", ["staging", "running"])
def test_server_down(new_site: Callable[..., Site], mode: str, when: str) -> None:
    """Nothing is lost, nothing is taken for gone, and what cannot be submitted leaves nothing behind."""
    site = new_site(mode, progress="held" if when == "staging" else "at-once")
    told = site.work / "told"
    script = site.script(site.body(f"until [[ -e '{told}' ]]; do sleep 0.2; done"))
    site.submit(script)
    if when == "running":
        site.until_running()
        out = site.box.collections["scratch"].path / site.job / "out" / "all"
        until(out.exists, site.seen)
    else:
        until(site.tasks, site.seen)
    if when == "running" or mode == "inline":
        # Not one that has only just been started: PBS starts that again when it is back (seen, v23.06.06, substate 41).
        until(lambda: site.cluster.jobs()[site.job]["substate"] == "42", site.seen)  # type: ignore[attr-defined]
    operator = site.cluster.operator  # type: ignore[attr-defined]
    operator("server", "down")
    try:
        done = site.globuswrap("submit", "--no-check", "--scheduler", "pbs", script, expect=75)
        assert "PBS does not answer" in done.stderr
        site.globuswrap("tend", expect=None)
        assert not site.fact("ending")
        site.box.control.progress("at-once")
        told.touch()
    finally:
        operator("server", "up")
    site.check(SUCCEEDED, tasks=2, code=0, ended=site.ended())
    assert site.got() == {"out/all": "one\ntwo\n"}
    assert [path.name for path in site.directory.parent.iterdir()] == [site.chain]


def kills() -> list[Any]:
    """Every qsub and qdel of a chain that succeeds, before and after; `make test-rest` has the orphaned witness and stage job."""
    found = []
    for mode, calls in {"jobs": 5, "login": 3, "inline": 1}.items():
        places = [("submits", call) for call in range(1, calls + 1)] + [("deletes", 1)] * (mode != "inline")
        for act, call in places:
            for moment in ("before", "after"):
                often = moment == "after" and (mode, act, call) in {("login", "submits", 2), ("jobs", "submits", 4)}
                found.append(pytest.param(mode, act, call, moment, marks=[] if often else [pytest.mark.pbs]))
    return found


with_slurm_by_chaos = pytest.mark.parametrize(
    "cluster", [pytest.param("slurm", marks=[pytest.mark.slurm, pytest.mark.chaos]), *PBS], indirect=True
)


@contextlib.contextmanager
def dying(site: Site, act: str, call: int, moment: str) -> Iterator[Callable[[], bool]]:
    """Meanwhile, whoever submits or deletes the n-th job is killed right before or after it; yields whether that has happened."""
    slurm = site.cluster.kind == "slurm"
    name = {"submits": "sbatch" if slurm else "qsub", "deletes": "scancel" if slurm else "qdel"}[act]
    tools = site.work / "tools"
    tools.mkdir()
    path = site.env()["PATH"]
    wrapper = tools / name
    kill = f"touch '{tools}/killed'; kill -9 $PPID; exit 1"
    wrapper.write_text(
        f"#!/bin/bash\nprintf x >>'{tools}/count'\nread -r number < <(wc -c <'{tools}/count')\n"
        + (f"if ((number == {call})); then {kill}; fi\n" if moment == "before" else "")
        + f"'{shutil.which(name, path=path)}' \"$@\"\ncode=$?\n"
        + (f"if ((number == {call})); then {kill}; fi\n" if moment == "after" else "")
        + 'exit "$code"\n'
    )
    wrapper.chmod(0o755)
    site.cluster.env["PATH"] = f"{tools}:{path}"
    yield (tools / "killed").exists
    site.cluster.env["PATH"] = path


@with_slurm_by_chaos
@pytest.mark.parametrize(("mode", "act", "call", "moment"), kills())
def test_killed_when_it(new_site: Callable[..., Site], mode: str, act: str, call: int, moment: str) -> None:
    """kill -9 right before or after the n-th job is submitted or deleted, before anything about it can be written down: by the
    same command again, and by --resume, there is one job of each kind, and none is left."""
    site = new_site(mode)
    submit = ("submit", "--key", "nightly", "--once", "--no-check", "--scheduler", site.cluster.kind, "--staging", mode)
    # On PBS, a stage job looks after a job that waits: a fifth qsub, and at the end a qdel. This one waits for the test.
    waits = site.cluster.kind == "pbs" and (act, call) in (("submits", 5), ("deletes", 1)) and mode == "jobs"
    command = (*submit, "--poll", "1", site.script(site.body()), *(("--", "-h") if waits else ()))
    with dying(site, act, call, moment) as dead:
        site.globuswrap(*command, expect=None)
        chains = Path(str(site.box.env["XDG_STATE_HOME"])) / "globuswrap" / "chains"
        (site.chain,) = [each.name for each in chains.iterdir()]

        def killed() -> bool:
            if not dead() and mode == "login":
                site.globuswrap("tend", expect=None)
            if (
                waits
                and site.fact("job.stage.2")
                and "u" in site.cluster.jobs().get(site.job, {}).get("Hold_Types", "")
            ):
                released_by_hand(site)
            return dead() or bool(site.fact("ended"))

        until(killed, site.seen)
        assert dead() or site.cluster.kind == "slurm"
    assert site.globuswrap(*command).stdout.strip() == site.chain
    site.globuswrap("submit", "--resume", site.chain)
    if waits and act == "submits":
        released_by_hand(site)
    until(lambda: site.fact("ended") or not site.globuswrap("tend"), site.seen, pause=1.0)
    site.check(SUCCEEDED, tasks=2, code=0, ended={**site.fact("ending"), **site.fact("ended")})
    assert site.got() == {"out/all": "one\ntwo\n"}


@only_pbs
def test_killed_and_the_job_has_failed_meanwhile(new_site: Callable[..., Site]) -> None:
    """kill -9 right after qsub of a job that stages by itself. When the same command comes again, the job has failed, and without
    history PBS knows nothing of it: its own report tells, and it is not submitted again."""
    site = new_site("inline")
    submit = ("submit", "--key", "nightly", "--no-check", "--scheduler", "pbs", "--staging", "inline")
    command = (*submit, site.script(site.body("exit 7")))
    with dying(site, "submits", 1, "after") as dead:
        site.globuswrap(*command, expect=None)
        assert dead()
    chains = Path(str(site.box.env["XDG_STATE_HOME"])) / "globuswrap" / "chains"
    (site.chain,) = [each.name for each in chains.iterdir()]
    until(lambda: site.tasks() and not site.cluster.queue(), site.seen)
    done = site.globuswrap(*command, expect=None)
    assert [each.name for each in chains.iterdir()] == [site.chain], done.stderr
    ended = site.ended()
    assert "the script ended with 7" in ended["cause"]
    site.check(FAILED_7, tasks=1, code=1, ended=ended)


@with_slurm_by_chaos
@pytest.mark.parametrize(
    ("mode", "call"),
    [*(("jobs", call) for call in (1, 2, 3, 4)), *(("login", call) for call in (1, 2, 3)), ("inline", 1)],
)
@pytest.mark.parametrize("moment", ["before", "after"])
@pytest.mark.pbs
def test_killed_while_it_cancels(new_site: Callable[..., Site], mode: str, call: int, moment: str) -> None:
    """kill -9 right before or after each job of the chain is deleted: canceled again, nothing is left, and it can be resumed."""
    site = new_site(mode, progress="held")
    site.raced = RACED if mode == "inline" else ()
    site.submit(site.script(site.body()))
    until(site.tasks, site.seen)
    with dying(site, "deletes", call, moment) as dead:
        site.globuswrap("cancel", site.chain, expect=None)
        # A job that runs sees that its transfer was canceled, and may have ended all by itself; scancel deletes all at once.
        assert dead() or (site.fact("ended") and (mode != "login" or site.cluster.kind == "slurm"))
    site.globuswrap("cancel", site.chain)
    site.check(None, tasks=1, code=5, ended=site.ended())
    site.box.control.progress("at-once")
    site.globuswrap("submit", "--resume", site.chain)
    assert site.ended(generation=2)["code"] == 0
    assert site.got() == {"out/all": "one\ntwo\n"}
    until(lambda: not site.cluster.queue(), site.seen)


@pytest.mark.chaos
def test_many_at_once(new_site: Callable[..., Site]) -> None:
    """Several hosts tend the same chain: one task for each step, and one end."""
    site = new_site("login")
    site.submit(site.script(site.body()))
    deadline = 30
    while not site.fact("ended") and deadline:
        deadline -= 1
        together = [
            subprocess.Popen([str(support.LAUNCHER), "tend"], env=site.env(), cwd=site.work, stderr=subprocess.PIPE)
            for _ in range(4)
        ]
        for each in together:
            _, stderr = each.communicate(timeout=240)
            assert each.returncode == 0, stderr
    site.check(SUCCEEDED, tasks=2, code=0, ended=site.ended())
    assert site.got() == {"out/all": "one\ntwo\n"}


@pytest.mark.parametrize("mode", ["jobs", "login"])
def test_cleanup_deletes_what_receipts_cover(new_site: Callable[..., Site], mode: str) -> None:
    site = new_site(mode)
    site.box.control.advance_clock(3600)  # what is to count as older than a task has to be so by more than a second
    lines = """\
    #GLOBUS stage-in archive:/in/ scratch:/%j/in/
    #GLOBUS stage-out scratch:/%j/out/ results:/out/
    #GLOBUS cleanup scratch:/%j/
    #GLOBUS cleanup archive:/in/ --when failure
    """
    site.submit(site.script(site.body('touch "$here/in/new one"'), lines=lines))
    ended = site.ended()
    site.check(SUCCEEDED, tasks=3, code=0, ended=ended)
    top = site.box.collections["scratch"].path / site.job
    assert [str(path.relative_to(top)) for path in top.rglob("*") if path.is_file()] == ["in/new one"]
    assert (site.box.collections["archive"].path / "in" / "c").exists()


def test_cleanup_keeps_what_has_no_other_copy_any_more(new_site: Callable[..., Site]) -> None:
    site = new_site("login")
    site.box.control.advance_clock(3600)
    lines = "    #GLOBUS stage-in archive:/in/ scratch:/%j/in/\n    #GLOBUS cleanup scratch:/%j/\n"
    original = site.box.collections["archive"].path / "in" / "c"
    site.submit(site.script(site.body(f"rm '{original}'"), lines=lines))
    site.ended()
    top = site.box.collections["scratch"].path / site.job / "in"
    assert [str(path.relative_to(top)) for path in top.rglob("*") if path.is_file()] == ["c"]


def test_login_expires_and_comes_back(new_site: Callable[..., Site]) -> None:
    """Nobody is logged in any more: the chain waits, says why, and goes on when someone is."""
    site = new_site("login", progress="held")
    site.submit(site.script(site.body()))
    storage = Path(str(site.box.env["HOME"])) / ".globus" / "cli" / "storage.db"
    aside = storage.rename(storage.with_suffix(".away"))
    site.globuswrap("tend")
    step = site.data()["steps"][0]
    assert step["state"] == "stuck" and "globus login" in step["remedy"], step
    aside.rename(storage)
    site.box.control.progress("at-once")
    site.check(SUCCEEDED, tasks=2, code=0, ended=site.ended())


def released_by_hand(site: Site) -> None:
    release = ["scontrol", "release"] if site.cluster.kind == "slurm" else ["qrls", "-h", "u"]
    subprocess.run([*release, site.job], env=site.env(), check=True)


@pytest.mark.parametrize("mode", ["jobs", "login"])
def test_a_job_released_by_hand_before_its_data_is_there_is_canceled(new_site: Callable[..., Site], mode: str) -> None:
    site = new_site(mode, progress="held")
    site.submit(site.script("sleep 600\n", lines=ALWAYS))
    released_by_hand(site)
    ended = site.ended()
    assert ended["name"] == "released-early" and "released by hand before its data was staged in" in ended["cause"]
    site.check(None, tasks=1, code=5, ended=ended)
    assert site.cluster.ending(site.job).split()[0] in ("CANCELLED", "F")
    assert site.got() == {}, "the results of a job without data were staged out"
    # Resumed, it is staged in and held again.
    site.box.control.progress("at-once")
    site.globuswrap("submit", "--resume", site.chain)
    until(lambda: site.fact("released", 2) or site.tend(), site.seen)
    assert not site.fact("releasing", 2).get("by_user")
    site.globuswrap("cancel", site.chain)
    until(lambda: not site.cluster.queue(), site.seen)


@pytest.mark.parametrize("mode", ["jobs", "login"])
def test_a_job_released_by_hand_that_has_not_started_is_canceled_too(new_site: Callable[..., Site], mode: str) -> None:
    site = new_site(mode, progress="held")
    later = "#SBATCH --begin=now+3600\n" if site.cluster.kind == "slurm" else "#PBS -a 203001010000\n"
    site.submit(site.script(f"touch '{site.work}/ran'\n", lines=later + ALWAYS))
    released_by_hand(site)
    ended = site.ended()
    assert ended["name"] == "released-early"
    site.check(None, tasks=1, code=5, ended=ended)
    assert not (site.work / "ran").exists()


@pytest.mark.parametrize("mode", ["jobs", "login"])
def test_a_job_released_by_hand_runs_where_the_chain_lets_it(new_site: Callable[..., Site], mode: str) -> None:
    """The stage-in goes on beside it, and the chain ends when both have."""
    site = new_site(mode, progress="held")
    scratch = site.box.collections["scratch"].path
    lines = f"#GLOBUS set on-early-release=let-run\n{ALWAYS}"
    go = site.work / "go"
    wait = f"while ! [[ -e '{go}' ]]; do sleep 0.2; done\n"
    here = f'here="{scratch}/${site.cluster.job_variable}"\nmkdir -p "$here/out" && echo early >"$here/out/x"\n'
    site.submit(site.script(wait + here, lines=lines))
    released_by_hand(site)
    # Without job history nobody knows of a job that has ended before anyone looked.
    until(lambda: (site.fact("released") or {}).get("by_user") or site.tend(), site.seen)
    go.touch()
    until(lambda: site.cluster.ending(site.job), site.seen)
    until(lambda: site.fact("outcome") or site.tend(), site.seen)
    assert not site.fact("ended"), "the chain ended while its stage-in was under way"
    site.box.control.progress("at-once")
    ended = site.ended()
    site.check(SUCCEEDED, tasks=2, code=0, ended=ended)
    assert site.got() == {"out/x": "early\n"}
    assert (scratch / site.job / "in" / "c").read_text() == "two\n"


def test_a_job_with_a_dependency_of_its_own_counts_as_held(new_site: Callable[..., Site]) -> None:
    """Slurm and PBS then name the dependency as what the job waits for, not the hold."""
    site = new_site("login", progress="held")
    waits = site.work / "waits.sh"
    waits.write_text("#!/bin/bash\nsleep 600\n")
    submit = (
        ["sbatch", "--parsable", "-o", "/dev/null"] if site.cluster.kind == "slurm" else ["qsub", "-o", "/dev/null"]
    )
    first = subprocess.run(
        [*submit, str(waits)], env=site.env(), check=True, capture_output=True, text=True, cwd=site.work
    )
    number = first.stdout.strip()
    option = (
        f"#SBATCH --dependency=afterany:{number}\n"
        if site.cluster.kind == "slurm"
        else f"#PBS -W depend=afterany:{number}\n"
    )
    site.submit(site.script(site.body(), lines=option + ALWAYS))
    until(lambda: site.cluster.running(number), site.seen)
    for _ in range(3):
        site.tend()
    assert not site.fact("ending"), site.fact("ending")
    site.box.control.progress("at-once")
    until(lambda: site.fact("released") or site.tend(), site.seen)
    assert not site.fact("releasing").get("by_user")
    site.globuswrap("cancel", site.chain)
    site.cluster.cancel(number)
    until(lambda: not site.cluster.queue(), site.seen)
