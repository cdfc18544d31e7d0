"""`globuswrap submit` at the command line: on this machine, as a dry run, and with bad input."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import support
from command_line import run, run_json
from globuswrap import schedulers
from globuswrap.cli.sandbox import Sandbox
from globuswrap.errors import UsageProblem
from globuswrap.schedulers.pbs import Pbs
from globuswrap.staging import submission

OUT = "#GLOBUS stage-out scratch:/%j/out/ results:/out/\n"
IN = "#GLOBUS stage-in archive:/in/ scratch:/%j/in/\n"


@pytest.fixture(scope="module")
def untouched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    """One sandbox for all tests in which nothing may be submitted, or even asked."""
    with Sandbox(tmp_path_factory.mktemp("untouched")) as box:
        yield box
        assert box.control.requests() == []


def write(directory: Path, text: str, name: str = "job.sh") -> Path:
    path = directory / name
    path.write_text(text)
    return path


def body(sandbox: Sandbox, more: str = "") -> str:
    here = f"{sandbox.collections['scratch'].path}/$GLOBUSWRAP_JOB_ID"
    return f'cd "{here}" && mkdir -p out && cp -R in/. out/\n{more}\n'


def fill(sandbox: Sandbox) -> list[str]:
    top = sandbox.collections["archive"].path / "in"
    top.mkdir()
    for number, name in enumerate(support.HOSTILE_NAMES):
        (top / name).write_text(f"{number}\n")
    return sorted(support.HOSTILE_NAMES)


def test_a_chain_on_this_machine(sandbox: Sandbox, tmp_path: Path) -> None:
    names = fill(sandbox)
    script = write(tmp_path, f"#!/bin/bash\n{IN}{OUT}{body(sandbox, 'echo hello')}")
    done = run_json(sandbox, "submit", "--no-check", "--scheduler", "local", str(script), cwd=str(tmp_path))
    data = done["data"]
    assert data["state"] == "done" and [step["state"] for step in data["steps"]] == ["done"] * 3
    assert sorted(path.name for path in (sandbox.collections["results"].path / "out").iterdir()) == names
    assert (tmp_path / f"job.sh-{data['chain']}.out").read_text() == "hello\n"
    for task in sandbox.control.tasks():
        assert task["status"] == "SUCCEEDED"
    posted = [each for each in sandbox.control.requests(method="POST") if each["path"].endswith("/transfer")]
    assert len(posted) == 2
    for request in posted:
        sent = request["body"]
        assert sent["submission_id"]
        assert not any(sent[f"notify_on_{each}"] for each in ("succeeded", "failed", "inactive"))


def test_a_job_on_this_machine_stages_by_itself(sandbox: Sandbox, tmp_path: Path) -> None:
    names = fill(sandbox)
    script = write(tmp_path, f"#!/bin/bash\n{IN}{OUT}{body(sandbox, 'touch out/x')}")
    options = ("--no-check", "--scheduler", "local", "--staging", "inline", "--poll", "1", "--fault-grace", "0")
    done = run_json(sandbox, "submit", *options, str(script), cwd=str(tmp_path))
    assert done["data"]["state"] == "done"
    assert sorted(path.name for path in (sandbox.collections["results"].path / "out").iterdir()) == sorted(
        [*names, "x"]
    )
    script.write_text(f"#!/bin/bash\n{IN.replace('/in/', '/missing/', 1)}touch '{tmp_path}/ran'\n")
    run_json(sandbox, "submit", *options, str(script), expect=5, cwd=str(tmp_path))
    assert not (tmp_path / "ran").exists()


@pytest.mark.usefixtures("globus_loaded")  # some fifty globus processes
def test_hostile_names_in_the_lines_themselves(sandbox: Sandbox, tmp_path: Path) -> None:
    """Names as sources of their own, written with $'...'."""
    fill(sandbox)
    names = sorted(["new\nline", "-leading-dash", "#hash", "quote's", "per%cent-%j-%a", "line\u2028separator"])
    lines = []
    for name in names:
        quoted = "".join(f"\\u{ord(char):04x}" if char in "\n\t'\\" else char for char in name.replace("%", "%%"))
        lines.append(f"#GLOBUS stage-in $'archive:/in/{quoted}' $'scratch:/all/{quoted}'")
    script = write(tmp_path, "#!/bin/bash\n" + "\n".join(lines) + "\ntrue\n")
    run_json(sandbox, "submit", "--no-check", "--scheduler", "local", str(script), cwd=str(tmp_path), timeout=240)
    assert sorted(path.name for path in (sandbox.collections["scratch"].path / "all").iterdir()) == names


def test_a_job_that_fails_is_resumed(sandbox: Sandbox, tmp_path: Path) -> None:
    fill(sandbox)
    lines = "#GLOBUS stage-in archive:/in/ scratch:/same/\n#GLOBUS stage-out scratch:/same/ results:/out/\n"
    script = write(tmp_path, f"#!/bin/bash\n{lines}[[ -e mended ]] || exit 7\n")
    failed = run_json(sandbox, "submit", "--no-check", "--scheduler", "local", str(script), expect=1, cwd=str(tmp_path))
    chain = failed["data"]["chain"]
    assert failed["error"]["name"] == "job-failed" and "exit 7" in failed["error"]["cause"]
    assert failed["error"]["remedy"].endswith(f"globuswrap submit --resume {chain}")
    (tmp_path / "mended").touch()
    write(tmp_path, f"#!/bin/bash\n{lines}exit 8\n")
    again = run(sandbox, "submit", "--resume", chain, cwd=str(tmp_path))
    assert again.returncode == 0 and again.stdout == f"{chain}\n"
    assert "has changed since" in again.stderr
    assert len(sandbox.control.tasks()) == 2  # the stage-in was not done again
    finished = run(sandbox, "submit", "--resume", chain, cwd=str(tmp_path))
    assert finished.returncode == 0 and len(sandbox.control.tasks()) == 2


def test_a_stage_out_that_fails(sandbox: Sandbox, tmp_path: Path) -> None:
    script = write(tmp_path, f"#!/bin/bash\n{OUT}true\n")
    done = run(
        sandbox, "submit", "--no-check", "--scheduler", "local", "--fault-grace", "0", str(script), cwd=str(tmp_path)
    )
    assert done.returncode == 5
    assert "stage-out.1: " in done.stderr and "FILE_NOT_FOUND" in done.stderr and "--resume" in done.stderr


def test_killed_on_this_machine_it_goes_on(sandbox: Sandbox, tmp_path: Path) -> None:
    """The job outlives a killed globuswrap; resumed, the chain waits for it and runs it no second time."""
    fill(sandbox)
    kill = (
        'kill -9 "$(ps -o ppid= -p $PPID)"; while ! [[ -e $OLDPWD/go ]]; do sleep 0.1; done; echo ran >>"$OLDPWD/runs"'
    )
    script = write(tmp_path, f"#!/bin/bash\n{IN}{OUT}{body(sandbox, kill)}")
    done = run(sandbox, "submit", "--no-check", "--scheduler", "local", "--poll", "1", str(script), cwd=str(tmp_path))
    assert done.returncode == -9
    chains = Path(str(sandbox.env["XDG_STATE_HOME"])) / "globuswrap" / "chains"
    (chain,) = [path.name for path in chains.iterdir()]
    line = [str(support.LAUNCHER), "submit", "--resume", chain]
    environment = {name: value for name, value in {**os.environ, **sandbox.env}.items() if value is not None}
    with subprocess.Popen(line, env=environment, cwd=tmp_path, stderr=subprocess.PIPE, text=True) as again:
        assert again.stderr is not None
        told = next(line for line in again.stderr if "is released" in line)
        (tmp_path / "go").touch()  # it ran until here
        told += again.stderr.read()
    assert again.returncode == 0, told
    assert (tmp_path / "runs").read_text() == "ran\n"
    assert len(sandbox.control.tasks()) == 2


BAD = [
    ("#GLOBUS stage-in nosuch:/in/ scratch:/x/\n", (), "no collection is named 'nosuch'", "unknown-collection"),
    ("#GLOBUS stage-in archive scratch:/x/\n", (), "is not an address", "bad-address"),
    ("#GLOBUS stage-in 12345678-1234-1234-1234-12345678901:/ scratch:/x/\n", (), "UUID", "bad-uuid"),
    ("#GLOBUS stage-in archive:/in/ scratch:/%a/\n", (), "%a", "element-needs-inline"),
    ("#GLOBUS stage-in archive:/${NOT_SET}/ scratch:/x/\n", (), "NOT_SET is not set", "directive-malformed"),
    ("#GLOBUS stage archive:/in/ scratch:/x/\n", (), "job.sh:2:9: expected stage-in", "directive-malformed"),
    ("#GLOBUS set staging=somewhere\n" + IN, (), "'somewhere'", "bad-staging"),
    ("#GLOBUS set poll=soon\n" + IN, (), "'soon'", "bad-duration"),
    ("true\n" + IN, (), "no #GLOBUS lines before the first command", "no-directives"),
    (IN[:-1] + " --exclude '*.tmp'\n", (), "add --recursive", "bad-option"),
    (IN[:-1] + " --deadline soon\n", (), "job.sh:2: ", "bad-time"),
    (IN[:-1] + " --notify never\n", (), "job.sh:2: ", "bad-option"),
    ("#GLOBUS stage-in archive:/a scratch:/b --fault-grace x\n", (), "job.sh:2: ", "bad-duration"),
    ("#GLOBUS stage-in archive:/../a scratch:/b\n", (), "job.sh:2: ", "bad-path"),
    (IN, ("--scheduler", "lsf"), "'lsf'", "bad-scheduler"),
    (IN, ("--stage-time", "5s"), "too short", "bad-stage-time"),
]


@pytest.mark.parametrize(("lines", "options", "cause", "name"), BAD)
def test_bad_input_submits_nothing(
    untouched: Sandbox, tmp_path: Path, lines: str, options: tuple[str, ...], cause: str, name: str
) -> None:
    script = write(tmp_path, f"#!/bin/bash\n{lines}true\n")
    chosen = () if options[:1] == ("--scheduler",) else ("--scheduler", "local")
    done = run(untouched, "submit", *chosen, *options, script.name, cwd=str(tmp_path))
    assert done.returncode == 2, done.stderr
    assert cause in done.stderr and f"[{name}]" in done.stderr
    assert [line for line in done.stderr.splitlines() if line.startswith("  remedy: ")]
    assert untouched.control.requests() == []
    assert not (Path(str(untouched.env["XDG_STATE_HOME"])) / "globuswrap" / "chains").exists()


@pytest.mark.parametrize(
    ("scheduler", "line", "column", "option"),
    [
        ("pbs", "#PBS -N x -W block=true", 11, "-W block=true"),
        ("pbs", "#PBS -N 'a -z' -Wumask=027,block=True", 16, "-W block=true"),
        ("pbs", "#PBS  -z", 7, "-z"),
        ("pbs", "#PBS -I", 6, "-I"),
        ("slurm", "#SBATCH -n 1 --wait", 14, "--wait"),
        ("slurm", "#SBATCH --wrap=true", 9, "--wrap=true"),
    ],
)
def test_options_that_hide_the_jobs_id_are_refused(scheduler: str, line: str, column: int, option: str) -> None:
    text = f"#!/bin/bash\n{line}\n{OUT}true\n"
    system = schedulers.batch_system(scheduler)
    assert system is not None
    with pytest.raises(UsageProblem) as refused:
        submission.check_header(system, text, "job.sh")
    assert refused.value.cause == f"job.sh:2:{column}: {option} does not work with a chain"
    submission.check_header(system, f"#!/bin/bash\ntrue\n{line}\n", "job.sh")  # after the first command
    with pytest.raises(UsageProblem, match="does not work"):
        submission.checked_arguments(system, line.split()[1:])


def test_options_that_do_not_hide_the_jobs_id_are_kept() -> None:
    submission.check_header(Pbs(), "#PBS -W block=false -N '-z x' -W depend=afterok:1\n", "job.sh")
    assert submission.checked_arguments(Pbs(), ("-W", "umask=027")) == ("-W", "umask=027")


def test_a_job_that_would_block_is_not_submitted(untouched: Sandbox, tmp_path: Path) -> None:
    script = write(tmp_path, f"#!/bin/bash\n#PBS -W block=true\n{OUT}true\n")
    env = {"PATH": f"{support.REPOSITORY}/tests/doubles/pbs:{os.environ['PATH']}"}
    done = run(untouched, "submit", "--no-check", "--scheduler", "pbs", script.name, cwd=str(tmp_path), env=env)
    assert done.returncode == 2, done
    assert "job.sh:2:6: -W block=true" in done.stderr and "nothing was submitted" in done.stderr


def test_no_script_no_chain(untouched: Sandbox, tmp_path: Path) -> None:
    assert run(untouched, "submit", str(tmp_path / "nosuch.sh")).returncode == 2
    assert run(untouched, "submit").returncode == 2
    assert run(untouched, "submit", "--resume", "c00000000").returncode == 2
    assert (
        "there is no chain named"
        in run(untouched, "tend", "c00000000", "--json").stdout + run(untouched, "cancel", "c0").stderr
    )


def test_not_logged_in(new_sandbox: Callable[..., Sandbox], tmp_path: Path) -> None:
    sandbox = new_sandbox(login="none")
    script = write(tmp_path, f"#!/bin/bash\n{IN}touch ran\n")
    done = run(sandbox, "submit", "--no-check", "--scheduler", "local", str(script), cwd=str(tmp_path))
    assert done.returncode == 4, done.stderr
    assert "globus login" in done.stderr
    assert not (tmp_path / "ran").exists() and sandbox.control.tasks() == []
    assert run_json(sandbox, "status")["data"]["chains"] == []


def fake(directory: Path, *programs: str) -> dict[str, str]:
    """A PATH on which these programs are found first; each only says that it was called."""
    directory.mkdir()
    for program in programs:
        path = directory / program
        path.write_text(f'#!/bin/sh\necho called >>"{directory}/called"\nexit 1\n')
        path.chmod(0o755)
    return {"PATH": f"{directory}:{os.environ['PATH']}"}


@pytest.mark.parametrize("scheduler", ["slurm", "pbs"])
@pytest.mark.parametrize("mode", ["jobs", "login", "inline"])
def test_a_dry_run_shows_everything_and_does_nothing(
    untouched: Sandbox, tmp_path: Path, scheduler: str, mode: str
) -> None:
    env = fake(tmp_path / "bin", "sbatch", "qsub", "scontrol", "qstat")
    script = write(tmp_path, f"#!/bin/bash\n#SBATCH -n 2\n#PBS -l select=2\n{IN}{OUT}true\n", "my job.sh")
    words = (
        "--json",
        "--scheduler",
        scheduler,
        "--staging",
        mode,
        "--stage-account",
        "acct",
        "--dry-run",
        str(script),
        "--",
        "-A",
        "x",
    )
    done = run(untouched, "submit", *words, cwd=str(tmp_path), env=env)
    assert done.returncode == 0, done.stderr
    shown: dict[str, Any] = json.loads(done.stdout)["data"]
    commands = shown["commands"]
    assert commands[0][0] == ("sbatch" if scheduler == "slurm" else "qsub")
    assert commands[0][-3:-1] == ["-A", "x"] and commands[0][-1].endswith("/my job.sh")
    assert len(commands) == {"jobs": 4, "login": 3, "inline": 1}[mode]
    held = "--hold" if scheduler == "slurm" else "-h"
    assert (held in commands[0]) == (mode != "inline")
    for command in commands[1:]:
        assert "--account=acct" in command or "acct" in command
        assert command[-1] in shown["planned"]
    for name, text in shown["planned"].items():
        assert text.startswith("#!/bin/bash\n") or name.endswith("/settings")
    assert not (tmp_path / "bin" / "called").exists()
    assert not (Path(str(untouched.env["XDG_STATE_HOME"])) / "globuswrap" / "chains").exists()
    assert untouched.control.requests() == []


@pytest.mark.parametrize(
    "mode, note",
    [("jobs", "no node waits"), ("login", "globuswrap tend"), ("inline", "itself stages its data, on its nodes")],
)
def test_a_dry_run_says_in_plain_lines_what_will_happen(
    untouched: Sandbox, tmp_path: Path, mode: str, note: str
) -> None:
    env = fake(tmp_path / "bin", "sbatch")
    directory = untouched.collection("archive").path / "in"
    directory.mkdir(exist_ok=True)
    (directory / "a").write_text("12")
    (directory / "b").write_text("345")
    lines = "#GLOBUS stage-in archive:/in/ scratch:/%j/\n#GLOBUS stage-out scratch:/%j/out results:/x --when=always\n"
    script = write(tmp_path, f"#!/bin/bash\n{lines}#GLOBUS stage-out scratch:/%j/log results:/y --if-present\ntrue\n")
    words = ("submit", "--scheduler", "slurm", "--staging", mode, "--dry-run", str(script))
    done = run(untouched, *words, "--", "-A", "x", env=env)
    assert done.returncode == 0, done.stderr
    held = "" if mode == "inline" else ", held until its data has arrived"
    steps, _, notes = done.stdout.partition("\n\n")
    assert steps.split("\n") == [
        "1. Stage in   archive:/in/ -> scratch:/%j/ (2 files, 5 B)",
        f"2. Run        job.sh on Slurm with -A x{held}",
        "3. Stage out  scratch:/%j/out -> results:/x, when the job has ended, however it ended",
        "4. Stage out  scratch:/%j/log -> results:/y, when the job has succeeded, unless it is missing",
    ]
    assert note in notes and "#!/bin/bash" not in done.stdout
    loud = run(untouched, *words, "-v", "--", "-A", "x", env=env)
    assert loud.stdout.startswith(steps) and "#!/bin/bash" in loud.stdout and "\nsbatch " in loud.stdout


def test_arguments_of_a_scheduler_are_refused_where_there_is_none(untouched: Sandbox, tmp_path: Path) -> None:
    """They were shown as the script's, and passed to nobody."""
    script = write(tmp_path, "#!/bin/bash\ntrue\n")
    done = run(untouched, "submit", "--scheduler", "local", "--no-check", str(script), "--", "-A", "x")
    assert done.returncode == 2 and "[bad-argument]" in done.stderr and "sbatch or qsub" in done.stderr


def test_a_service_accounts_secret_stays_off_pbs(new_sandbox: Callable[..., Sandbox], tmp_path: Path) -> None:
    sandbox = new_sandbox(login="client")
    env = fake(tmp_path / "bin", "qsub")
    script = write(tmp_path, f"#!/bin/bash\n{IN}true\n")
    done = run(sandbox, "submit", "--scheduler", "pbs", str(script), cwd=str(tmp_path), env=env)
    assert done.returncode == 2 and "[secret-needed]" in done.stderr
    shown = run(sandbox, "submit", "--scheduler", "slurm", "--dry-run", str(script), env=fake(tmp_path / "b", "sbatch"))
    assert sandbox.env["GLOBUS_CLI_CLIENT_SECRET"]
    assert str(sandbox.env["GLOBUS_CLI_CLIENT_SECRET"]) not in shown.stdout + shown.stderr


def test_a_late_line_is_named(sandbox: Sandbox, tmp_path: Path) -> None:
    fill(sandbox)
    script = write(tmp_path, f"#!/bin/bash\n#GLOBUS stage-in archive:/in/ scratch:/x/\ntrue\n{OUT}")
    done = run(sandbox, "submit", "--no-check", "--scheduler", "local", "job.sh", cwd=str(script.parent))
    assert done.returncode == 0 and "job.sh:4: this #GLOBUS line comes after" in done.stderr


def test_status_of_a_chain(sandbox: Sandbox, tmp_path: Path) -> None:
    fill(sandbox)
    script = write(tmp_path, f"#!/bin/bash\n{IN}exit 3\n")
    run(sandbox, "submit", "--no-check", "--scheduler", "local", str(script), cwd=str(tmp_path))
    left = run(sandbox, "status")
    assert left.stdout == "" and "ended with a problem" in left.stderr  # it has left the list of what is under way
    shown = run(sandbox, "status", "--all")
    assert "failed" in shown.stdout and "exit 3" in shown.stdout and "remedy:" in shown.stdout
    data = json.loads(run(sandbox, "status", "--all", "--json").stdout)["data"]["chains"][0]
    assert data["problem"]["step"] == "job" and data["exit_code"] == 1
