"""What is said to the schedulers, compared whole, and what is read from their answers."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

import pytest

from globuswrap import schedulers
from globuswrap.errors import Refused, TryLater
from globuswrap.schedulers import base, pbs, slurm
from globuswrap.schedulers.base import CurrentJob, Scheduler, StageJob, option_words
from globuswrap.schedulers.pbs import Pbs
from globuswrap.schedulers.slurm import Slurm
from globuswrap.staging import plan as plans
from globuswrap.staging import scripts
from globuswrap.staging.chain import record
from globuswrap.staging.chain.local import Local
from globuswrap.staging.plan import Plan, Staging, Step

SCRIPT = Path("/state/my chain/stage.sh")


def test_slurm_commands() -> None:
    assert Slurm().compute_command(Path("/s/job.sh"), ("-A", "me"), hold=True) == (
        *("sbatch", "--parsable", "--hold", "-A", "me", "/s/job.sh"),
    )
    assert Slurm().stage_command(StageJob(SCRIPT, "gw-in-c1", 600.0)) == (
        *("sbatch", "--parsable", "--job-name=gw-in-c1", "--output=/dev/null", "--chdir=/"),
        *("--nodes=1", "--ntasks=1", "--time=10", str(SCRIPT)),
    )
    full = StageJob(SCRIPT, "gw-ok-c1", 61.0, "stage", "acct", ("12", base.AFTER_SUCCESS), 90.5)
    assert Slurm().stage_command(full) == (
        *("sbatch", "--parsable", "--job-name=gw-ok-c1", "--output=/dev/null", "--chdir=/"),
        *("--nodes=1", "--ntasks=1", "--time=2", "--partition=stage", "--account=acct"),
        *("--dependency=afterok:12", "--kill-on-invalid-dep=yes", "--begin=now+91", str(SCRIPT)),
    )
    witness = StageJob(SCRIPT, "gw-no-c1", 60.0, after=("12", base.AFTER_FAILURE), witness=True)
    assert "--begin=now+3650days" in Slurm().stage_command(witness)
    assert "--dependency=afternotok:12" in Slurm().stage_command(witness)


def test_pbs_commands(monkeypatch: pytest.MonkeyPatch) -> None:
    assert Pbs().compute_command(Path("/s/job.sh"), ("-A", "me"), hold=True) == ("qsub", "-h", "-A", "me", "/s/job.sh")
    full = StageJob(SCRIPT, "gw-ok-c1", 3725.0, "stageq", "acct", ("12.server", base.AFTER_FAILURE))
    assert Pbs().stage_command(full) == (
        *("qsub", "-N", "gw-ok-c1", "-j", "oe", "-o", "/dev/null", "-m", "n"),
        *("-l", "select=1:ncpus=1", "-l", "walltime=01:02:05", "-q", "stageq", "-A", "acct"),
        *("-W", "depend=afternotok:12.server", str(SCRIPT)),
    )
    monkeypatch.setattr(pbs.time, "time", lambda: 1_700_000_000.0)
    later = Pbs().stage_command(StageJob(SCRIPT, "gw-in-c1", 60.0, delay=59.0))
    assert later[-3:-1] == ("-a", pbs.time.strftime("%Y%m%d%H%M.%S", pbs.time.localtime(1_700_000_060)))
    witness = StageJob(SCRIPT, "gw-no-c1", 60.0, after=("12.server", base.AFTER_SUCCESS), witness=True)
    assert "-h" in Pbs().stage_command(witness)


# As Slurm 22.05 printed it, shortened where nothing is read.
LINE = (
    "JobId={id} {array}JobName={name} UserId=me(1000) GroupId=me(1000) MCS_label=N/A Priority={priority} Nice=0"
    " Account=(null) QOS=(null) JobState={state} Reason={reason} Dependency={dependency} Requeue=1 Restarts=0 BatchFlag=1"
    " Reboot=0 ExitCode={exit} RunTime=00:00:00 TimeLimit=UNLIMITED Partition=debug AllocNode:Sid=localhost:29"
    " Command=/s/x.sh WorkDir=/home/me/a dir Comment=hello world  StdErr=/dev/null StdIn=/dev/null StdOut=/dev/null Power= "
)


def line(**changes: str) -> str:
    known = {
        "id": "28",
        "priority": "4294901751",
        "array": "",
        "name": "job.sh",
        "state": "PENDING",
        "reason": "None",
        "dependency": "(null)",
        "exit": "0:0",
    }
    return LINE.format(**{**known, **changes}) + "\n"


@pytest.mark.parametrize(
    ("changes", "phase", "success"),
    [
        ({"reason": "JobHeldUser", "priority": "0"}, base.HELD, None),
        ({"reason": "Dependency", "priority": "0", "dependency": "afterok:27(unfulfilled)"}, base.HELD, None),
        ({"reason": "JobHeldUser"}, base.WAITING, None),
        ({"reason": "Priority"}, base.WAITING, None),
        ({"reason": "JobHeldAdmin", "priority": "0"}, base.HELD, None),
        ({"state": "RUNNING"}, base.RUNNING, None),
        ({"state": "COMPLETING"}, base.RUNNING, None),
        ({"state": "COMPLETED"}, base.ENDED, True),
        ({"state": "COMPLETED", "exit": "1:0"}, base.ENDED, False),
        ({"state": "FAILED", "exit": "7:0", "reason": "NonZeroExitCode"}, base.ENDED, False),
        ({"state": "FAILED", "exit": "0:11"}, base.ENDED, False),
        ({"state": "TIMEOUT"}, base.ENDED, False),
        ({"state": "CANCELLED"}, base.ENDED, False),
        ({"state": "NODE_FAIL"}, base.ENDED, False),
        ({"name": "we ird JobState=COMPLETED X"}, base.WAITING, None),
        ({"name": "new\nline"}, base.WAITING, None),
    ],
)
def test_slurm_states(changes: dict[str, str], phase: str, success: bool | None) -> None:
    state = slurm.state_of("28", slurm.rows(line(**changes)))
    assert (state.phase, state.success) == (phase, success)


def test_slurm_knows_nothing_of_a_purged_job() -> None:
    assert slurm.state_of("28", []).phase == base.GONE
    assert slurm.state_of("28", []).success is None


def test_slurm_states_that_are_not_known_are_errors() -> None:
    with pytest.raises(Refused, match="DREAMING"):
        slurm.state_of("28", slurm.rows(line(state="DREAMING")))
    with pytest.raises(Refused, match="cannot be read"):
        slurm.rows("JobId=28 something else\n")


def test_slurm_arrays_are_judged_as_a_whole() -> None:
    element = "ArrayJobId=28 ArrayTaskId={} "
    done = line(array=element.format(1), state="COMPLETED")
    bad = line(array=element.format(2), state="FAILED", exit="7:0")
    open_ = line(array=element.format("3-5%2"), state="PENDING")
    assert slurm.state_of("28", slurm.rows(done + done)).success is True
    assert slurm.state_of("28", slurm.rows(done + bad)).success is False
    assert slurm.state_of("28", slurm.rows(done + bad)).raw_state == "FAILED 7:0"
    assert slurm.state_of("28", slurm.rows(done + bad + open_)).phase == base.WAITING
    assert slurm.about_of("28", slurm.rows(done)).array


def test_slurm_about_and_dependencies() -> None:
    about = slurm.about_of("28", slurm.rows(line(name="my job")))
    assert (about.name, about.user, about.workdir, about.account) == ("my job", "me", "/home/me/a dir", None)
    assert about.symbols() == {"j": "28", "u": "me", "x": "my job", "d": "/home/me/a dir"}
    waits = slurm.state_of("28", slurm.rows(line(reason="Dependency", dependency="afterok:1(unfulfilled)")))
    assert not waits.satisfied
    assert slurm.state_of("28", slurm.rows(line(reason="BeginTime"))).satisfied


def answer(**job: object) -> str:
    known = {"Job_Name": "x", "Job_Owner": "me@host", **job}
    return "Job Id: 12.server\n" + "".join(f"    {name} = {value}\n" for name, value in known.items()) + "\n"


@pytest.mark.parametrize(
    ("job", "phase", "success", "words", "started"),
    [
        ({"job_state": "H", "Hold_Types": "u", "substate": 20}, base.HELD, None, "H u", None),
        ({"job_state": "H", "Hold_Types": "s", "substate": 22}, base.WAITING, None, "H s", None),
        ({"job_state": "Q", "substate": 10}, base.WAITING, None, "Q", None),
        ({"job_state": "W", "substate": 30}, base.WAITING, None, "W", None),
        ({"job_state": "R", "substate": 42}, base.RUNNING, None, "R", None),
        ({"job_state": "B", "substate": 41}, base.RUNNING, None, "B", None),
        ({"job_state": "F", "substate": 92, "stime": "Sat", "Exit_status": 0}, base.ENDED, True, "exit 0", True),
        ({"job_state": "F", "substate": 93, "stime": "Sat", "Exit_status": 7}, base.ENDED, False, "exit 7", True),
        (
            {"job_state": "F", "substate": 93, "stime": "Sat", "Exit_status": -29},
            *(base.ENDED, False, "killed at its walltime", True),
        ),
        (
            {"job_state": "F", "substate": 91, "stime": "Sat", "Exit_status": 271},
            *(base.ENDED, False, "exit 271 (signal 15)", True),
        ),
        # Of a job whose own dependency failed, released or not; and of one that was deleted in the queue.
        ({"job_state": "F", "substate": 92, "Hold_Types": "s"}, base.ENDED, False, "deleted before it ran", False),
        ({"job_state": "F", "substate": 91, "Hold_Types": "n"}, base.ENDED, False, "deleted before it ran", False),
    ],
)
def test_pbs_states(job: dict[str, object], phase: str, success: bool | None, words: str, started: bool | None) -> None:
    state = pbs.state_of("12.server", pbs.jobs_in(answer(**job)))
    assert (state.phase, state.success, state.raw_state, state.started) == (phase, success, words, started)


@pytest.mark.parametrize(("holds", "satisfied"), [("su", False), ("s", False), ("u", True)])
def test_pbs_tells_a_dependency_that_is_met_by_the_holds(holds: str, satisfied: bool) -> None:
    """The substate stays 22."""
    job = {"job_state": "H", "Hold_Types": holds, "substate": 22}
    assert pbs.state_of("12.server", pbs.jobs_in(answer(**job))).satisfied is satisfied


def test_pbs_odd_answers() -> None:
    assert pbs.jobs_in("") == {}
    with pytest.raises(TryLater, match="begins with"):
        pbs.jobs_in("Job id            Name\n")
    with pytest.raises(Refused, match="'Z'"):
        pbs.state_of("12.server", pbs.jobs_in(answer(job_state="Z")))
    assert pbs.state_of("13.server", pbs.jobs_in(answer(job_state="R"))).phase == base.GONE
    assert pbs.state_of("12", pbs.jobs_in(answer(job_state="R"))).phase == base.RUNNING


def test_pbs_values_are_text() -> None:
    """`-N 1e5 -A 0042`, a directory with a comma, and a shell function in the environment."""
    variables = r"BASH_FUNC_x%%=() {  true" + "\n    job_state = F\n}" + r",PBS_O_WORKDIR=/a\, b=c,A=.5"
    job = pbs.jobs_in(answer(Job_Name="1e5", Account_Name="0042", job_state="R", Variable_List=variables))["12.server"]
    assert pbs.state_of("12.server", {"12.server": job}).phase == base.RUNNING
    about = pbs.about_of("12.server", job)
    assert about.symbols() == {"j": "12.server", "u": "me", "x": "1e5", "d": "/a, b=c"}
    assert about.account == "0042"


def array(*codes: int | None) -> str:
    text = "Job Id: 12[].server\n    job_state = F\n    Exit_status = 0\n    substate = 93\n    stime = Sat\n\n"
    for index, code in enumerate(codes, 1):
        status = "" if code is None else f"    stime = Sat\n    Exit_status = {code}\n"
        text += f"Job Id: 12[{index}].server\n    job_state = F\n{status}\n"
    return text


def test_pbs_arrays_are_judged_by_their_elements() -> None:
    assert pbs.state_of("12[].server", pbs.jobs_in(array(0, 0))).success is True
    assert pbs.state_of("12[].server", pbs.jobs_in(array(0, None))).success is False
    assert pbs.state_of("12[].server", pbs.jobs_in(array())).success is None  # its elements are not known
    failed = pbs.state_of("12[].server", pbs.jobs_in(array(0, 7, 0, -29)))
    assert failed.success is False
    assert failed.raw_state == "2 of 4 array elements: 12[2].server exit 7, 12[4].server killed at its walltime"


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], None]:
    """Put a program on PATH that is the given lines of shell."""
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")

    def put(name: str, body: str) -> None:
        (tmp_path / name).write_text(f"#!/bin/sh\n{body}\n")
        (tmp_path / name).chmod(0o755)

    return put


def test_pbs_that_says_nothing_of_a_job_has_not_answered(programs: Callable[[str, str], None]) -> None:
    """The head of OpenPBS leaves jobs out of some answers; a job is gone only if PBS says so of it."""
    programs("qstat", f"printf '%s' '{answer(job_state='R')}'")
    with pytest.raises(TryLater, match=r"nothing about job 13\.server"):
        pbs.Pbs().states(["12.server", "13.server"])
    programs("qstat", f"printf '%s' '{answer(job_state='R')}'; echo 'qstat: Unknown Job Id 13.server' >&2; exit 153")
    states = pbs.Pbs().states(["12.server", "13.server"])
    assert [state.phase for state in states.values()] == [base.RUNNING, base.GONE]


@pytest.mark.parametrize("act", ["submit", "release", "cancel", "find", "states"])
def test_pbs_server_down_is_try_later(act: str, programs: Callable[[str, str], None], tmp_path: Path) -> None:
    for name in ("qsub", "qstat", "qdel", "qrls", "qselect"):
        text = f"{name}: cannot connect to server pbsnode (errno=15010)"
        programs(name, f"echo '{text}' >&2; exit {255 if name == 'qstat' else 162}")
    server = pbs.Pbs()
    acts: dict[str, Callable[[], object]] = {
        "submit": lambda: server.submit(("qsub", "x")),
        "release": lambda: server.release("1.pbsnode"),
        "cancel": lambda: server.cancel(["1.pbsnode"]),
        "find": lambda: server.find(tmp_path),
        "states": lambda: server.states(["1.pbsnode"]),
    }
    with pytest.raises(TryLater, match="does not answer"):
        acts[act]()


def words(scheduler: Scheduler, text: str, *arguments: str) -> list[str]:
    return [*option_words(text, scheduler.prefix), *arguments]


def test_a_hold_of_the_users_own_is_seen() -> None:
    assert Slurm().asks_for_hold(words(Slurm(), "#!/bin/sh\n#SBATCH -n 1 --hold\nx\n"))
    assert Slurm().asks_for_hold(words(Slurm(), "#!/bin/sh\nx\n", "-H"))
    assert not Slurm().asks_for_hold(words(Slurm(), "#!/bin/sh\nx\n#SBATCH --hold\n"))
    assert Pbs().asks_for_hold(words(Pbs(), "#!/bin/sh\n#PBS -h\nx\n"))


@pytest.mark.parametrize(
    "scheduler, header, arguments, seconds",
    [
        ("slurm", "#SBATCH --time=90", (), 5400),
        ("slurm", "#SBATCH -t 2:30", (), 150),
        ("slurm", "#SBATCH --time 01:30:00", (), 5400),
        ("slurm", "#SBATCH -t2-12", (), 2.5 * 86400),
        ("slurm", "#SBATCH --time=1-00:30:15", (), 86400 + 1815),
        ("slurm", "#SBATCH --time=90", ("--time=5",), 300),
        ("slurm", "#SBATCH --time=forever", (), None),
        ("slurm", "#SBATCH --nodes=2", (), None),
        ("slurm", "true\n#SBATCH --time=90", (), None),
        ("pbs", "#PBS -l walltime=12:00:00", (), 43200),
        ("pbs", "#PBS -l select=2:ncpus=4,walltime=30:00", (), 1800),
        ("pbs", "#PBS -lwalltime=60", (), 60),
        ("pbs", "#PBS -l walltime=12:00:00", ("-l", "walltime=01:00:00"), 3600),
        ("pbs", "#PBS -N walltime=5", (), None),
    ],
)
def test_the_walltime_that_a_script_asks_for(
    scheduler: str, header: str, arguments: tuple[str, ...], seconds: float | None
) -> None:
    system = schedulers.batch_system(scheduler)
    assert system is not None
    assert system.walltime(words(system, f"#!/bin/bash\n{header}\n", *arguments)) == seconds


def test_the_time_a_job_has_left(programs: Callable[[str, str], None]) -> None:
    job = CurrentJob("12")
    for text, seconds in (("0:04", 4.0), (" 1-00:00:00 ", 86400.0), ("UNLIMITED", None), ("INVALID", None), ("", None)):
        programs("squeue", f"echo '{text}'")
        assert Slurm().seconds_left(job, 7.0) == seconds
    programs("qstat", "printf 'Job Id: 12\\n    Resource_List.walltime = 00:01:00\\n    session_id = 1\\n'")
    assert Pbs().seconds_left(job, 7.0) == 53.0
    programs("qstat", "echo 'Job Id: 12'")
    assert Pbs().seconds_left(job, 7.0) is None


def test_when_sbatch_would_start_it() -> None:
    told = "sbatch: Job 7 to start at 2026-11-20T12:00:00 using 1 processors on nodes n1 in partition debug\n"
    assert slurm.starts_at(told) == slurm.time.mktime((2026, 11, 20, 12, 0, 0, 0, 0, -1))
    assert slurm.starts_at("allocation failure: Invalid partition name specified") is None


def a_plan(**changes: object) -> Plan:
    known: dict[str, object] = {
        "id": "c1234abcd",
        "scheduler": "slurm",
        "staging": Staging(),
        "script": "/home/me/job.sh",
        "copy": "/state/job.sh",
        "cwd": "/home/me/it's here",
        "user": "me",
        "host": "login1",
        "created": 1.0,
        "steps": (Step("stage-in.1", "stage-in", 2, "a:/%j", "b:/", {"filters": (("exclude", "x"),)}),),
        "launcher": ("/opt/gw/bin/globuswrap",),
        "environment": {"HOME": "/home/me", "XDG_STATE_HOME": "/st ate"},
    }
    return Plan(**{**known, **changes})  # type: ignore[arg-type]


def test_a_plan_survives_the_disk() -> None:
    plan = a_plan()
    assert plans.from_json(plan.to_json()) == plan
    with pytest.raises(ValueError, match="schema"):
        plans.from_json(plan.to_json().replace(plans.SCHEMA, "globuswrap.chain/0"))


def test_the_text_of_a_stage_job() -> None:
    text = scripts.stage(a_plan(), Path("/state/c1"), "staging", ["--for", "540", "c1234abcd"], Slurm())
    assert text == (
        "#!/bin/bash\n"
        "# globuswrap chain c1234abcd: staging. Written by `globuswrap submit`; running it again does no harm.\n"
        "umask 077\n"
        "exec >>/state/c1/log 2>&1 </dev/null\n"
        "source /state/c1/settings || exit 1\n"
        "cd -- '/home/me/it'\"'\"'s here' || cd /\n"
        "printf '== %(%Y-%m-%d %H:%M:%S)T %s: staging, job %s\\n' -1 \"$HOSTNAME\" "
        '"${SLURM_JOB_ID:-}"\n'
        "exec /opt/gw/bin/globuswrap in-job advance --for 540 c1234abcd\n"
    )
    assert scripts.settings(a_plan()) == (
        "# globuswrap chain c1234abcd: settings for its stage jobs, as they were when it was submitted.\n"
        "export HOME=/home/me\n"
        "export XDG_STATE_HOME='/st ate'\n"
    )


def test_the_text_of_an_inline_job() -> None:
    user = "#!/usr/bin/env python3\n#SBATCH -n 2 -J 'my job'\n# hello\nimport os\n#SBATCH --late\n"
    plan = a_plan(staging=Staging("inline", stop_before=90.0), environment={"HOME": "/home/me"})
    text = scripts.inline(plan, Path("/state/c1/script/job.py"), user, Slurm())
    assert text == (
        "#!/bin/bash\n"
        "#SBATCH -n 2 -J 'my job'\n"
        "# globuswrap chain c1234abcd: stages in, runs the script, stages out. Written by `globuswrap submit`.\n"
        f"source {scripts.toolkit()} || exit 1\n"
        "gw_settings=(HOME=/home/me)\n"
        'gw_command=(env "${gw_settings[@]}" /opt/gw/bin/globuswrap)\n'
        "gw_chain c1234abcd /state/c1/script/job.py 90\n"
    )


def test_no_secret_reaches_a_script() -> None:
    environ = {
        "HOME": "/h",
        "GLOBUS_CLI_CLIENT_SECRET": "s1",
        "GLOBUS_SDK_ENVIRONMENT": "x",
        "GLOBUSWRAP_POLL": "5",
        "GLOBUSWRAP_TOKEN": "s2",
        "https_proxy": "http://me:s3@proxy",
        "http_proxy": "http://proxy",
        "AWS_SECRET_ACCESS_KEY": "s4",
    }
    assert scripts.environment(environ) == {
        "GLOBUSWRAP_POLL": "5",
        "GLOBUS_SDK_ENVIRONMENT": "x",
        "HOME": "/h",
        "http_proxy": "http://proxy",
    }


def test_a_job_of_this_machine_that_vanished_has_failed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The machine went down while it ran: there is its process id, and nobody has written down how it ended."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    chain = record.create(a_plan(scheduler="local"), {})
    scheduler = Local(chain, chain.script)
    assert scheduler.states(["local"])["local"].phase == base.HELD
    chain.add("local.started")
    ended = subprocess.Popen(["true"])
    ended.wait()
    (chain.facts_directory / "local.pid").write_text(f"{ended.pid}\n")
    state = scheduler.states(["local"])["local"]
    assert (state.phase, state.success) == (base.ENDED, False)
    (chain.facts_directory / "local.code").write_text("0\n")
    assert scheduler.states(["local"])["local"].success is True


def test_an_array_of_pbs_is_seen() -> None:
    assert Pbs().elements_report(words(Pbs(), "#!/bin/sh\n#PBS -J 1-5\nx\n"))
    assert Pbs().elements_report(words(Pbs(), "#!/bin/sh\nx\n", "-J1-5"))
    assert not Pbs().elements_report(words(Pbs(), "#!/bin/sh\nx\n#PBS -J 1-5\n"))
    # What it names may be no shell, and could not run the script around the user's.
    assert not Pbs().elements_report(words(Pbs(), "#!/bin/sh\n#PBS -J 1-5 -S /usr/bin/python3\nx\n"))
    assert Pbs().element_of("12[].server", "12[3].server") and not Pbs().element_of("12[].server", "1[3].server")


@pytest.mark.parametrize(("body", "code"), [("exit 7", 7), ("exit 0", 0), ("kill -TERM $$ $PPID", 143)])
def test_an_element_of_an_array_notes_its_exit_code(tmp_path: Path, body: str, code: int) -> None:
    """Also one that is killed with all processes of its job: it is not taken for one that has not ended yet."""
    directory = tmp_path / "my chain"
    directory.mkdir()
    payload = directory / "job.sh"
    payload.write_text(f"#!/bin/bash\n{body}\n")
    payload.chmod(0o700)
    text = scripts.element(a_plan(), directory, payload, f"#!/bin/sh\n#PBS -J 1-5\n{body}\n", Pbs())
    assert "\n#PBS -J 1-5\n" in text
    done = subprocess.run(["bash", "-c", text], env={"PBS_JOBID": "12[3].server"}, check=False)
    assert done.returncode == code
    assert (directory / "exit.12[3].server").read_text() == f"{code}\n"


def test_when_a_job_began_is_what_the_scheduler_says() -> None:
    began = datetime(2026, 11, 20, 18, 0, 5).timestamp()
    first, later = (line(state="COMPLETED") + f" StartTime=2026-11-20T18:0{minute}:05" for minute in (0, 7))
    assert slurm.state_of("28", slurm.rows(f"{later}\n{first}\n")).began == began
    assert slurm.state_of("28", slurm.rows(first.replace("2026-11-20T18:00:05", "Unknown"))).began is None
    assert slurm.state_of("28", slurm.rows(first + " NodeList=(null)")).began is None  # canceled before it ran
    ended = {"job_state": "F", "Exit_status": "0", "stime": "Fri Nov 20 18:00:05 2026"}
    assert pbs.state_of("12.server", {"12.server": ended}).began == began
    assert pbs.state_of("12.server", {"12.server": {**ended, "stime": "then"}}).began is None
