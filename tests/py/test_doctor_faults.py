"""doctor through its command line: it finds each prepared fault, with the command that mends it, and only that fault."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from command_line import on_terminal, run, run_json
from globuswrap.cli.sandbox import Sandbox, write_config
from globuswrap.transfers import journal

pytestmark = pytest.mark.slow  # a dozen globus processes each, some twice

SCONTROL = "#!/bin/sh\necho 'Slurmctld(primary) at node is UP'\n"
SILENT = '#!/bin/sh\necho "$0: error: Unable to contact slurm controller (connect failure)" >&2\nexit 1\n'


@dataclass
class Site:
    """A sandbox, and a machine whose scheduler is what `programs` say."""

    box: Sandbox
    work: Path
    arguments: list[str] = field(default_factory=list)
    env: dict[str, str | None] = field(default_factory=dict)

    @property
    def state(self) -> Path:
        return self.box.home / ".local" / "state" / "globuswrap"

    def program(self, name: str, text: str) -> None:
        path = self.work / "bin" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
        path.chmod(0o755)
        self.env["PATH"] = os.pathsep.join((str(path.parent), str(self.box.env["PATH"])))

    def script(self, *lines: str) -> None:
        """The subject: a job script with these #GLOBUS lines, for this machine."""
        path = self.work / "job.sh"
        path.write_text("\n".join(["#!/bin/bash", *(f"#GLOBUS {line}" for line in lines), "true\n"]))
        self.arguments = [str(path), "--scheduler", "local"]

    def names(self, *collections: str) -> None:
        """These alone have a name: each costs several questions."""
        write_config(self.box.config_file, [self.box.collection(name) for name in collections])

    def config(self, text: str) -> None:
        with self.box.config_file.open("a") as file:
            file.write(text)

    def note(self, path: str, text: str) -> Path:
        place = self.state / path
        place.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.state.chmod(0o700)
        place.write_text(text)
        return place

    def doctor(self, *more: str, **rest: Any) -> subprocess.CompletedProcess[str]:
        return run(self.box, "doctor", *self.arguments, *more, env=self.env, cwd=self.work, **rest)


@pytest.fixture
def site(sandbox: Sandbox, tmp_path: Path, loaded_globus: str) -> Site:
    work = tmp_path / "work"
    work.mkdir()
    found = Site(sandbox, work, env={"GLOBUSWRAP_GLOBUS": loaded_globus})
    found.program("scontrol", SCONTROL)  # whatever scheduler this machine has or has not
    (sandbox.collection("archive").path / "in").mkdir()
    (sandbox.collection("archive").path / "in" / "a").write_text("data")
    return found


def fault(name: str, **given: Any) -> Callable[[Site], None]:
    """A fault of the sandbox, where one collection has a name."""

    def prepare(site: Site) -> None:
        site.names(name)
        site.box.control.fault(given)

    return prepare


# --- the prepared faults ----------------------------------------------------------------------------------------------


def no_globus(site: Site) -> None:
    site.env["GLOBUSWRAP_GLOBUS"] = str(site.work / "globus")


def old_globus(site: Site) -> None:
    site.program("globus", "#!/bin/sh\necho 'Installed version: 3.20.0'\n")
    site.env["GLOBUSWRAP_GLOBUS"] = str(site.work / "bin" / "globus")


def no_login(site: Site) -> None:
    site.box.set_login("none")


def half_a_service_account(site: Site) -> None:
    site.env["GLOBUS_CLI_CLIENT_ID"] = str(uuid.uuid4())


def login_gone(site: Site) -> None:
    site.box.control.fault(kind="expired-token", service="auth", path="/v2/oauth2/userinfo", count=9)


def session_too_short(site: Site) -> None:
    policy = {"high_assurance": True, "authentication_timeout_mins": 120}
    site.box.control.put("endpoint", site.box.collection("archive").id, policy)
    site.names("archive")
    site.arguments = ["--until", "+36h"]


def unknown_collection(site: Site) -> None:
    site.names()
    site.config('old = "cccccccc-0000-4000-8000-00000000000c"\n')


def disconnected(site: Site) -> None:
    site.names("scratch")
    site.box.control.put("endpoint", site.box.collection("scratch").id, {"gcp_connected": False})


def source_missing(site: Site) -> None:
    site.script("stage-in archive:/nowhere/ scratch:/in/")


def denied_source(site: Site) -> None:
    site.script("stage-in archive:/in/ scratch:/in/")
    site.box.control.fault(kind="denied", collection="archive")


def not_writable(site: Site) -> None:
    site.script("stage-out scratch:/%j/out/ results:/mine/%j/")
    (site.box.collection("results").path / "mine").mkdir(mode=0o555)


def over_quota(site: Site) -> None:
    site.script("stage-out scratch:/%j/out/ results:/")
    site.box.control.fault(kind="quota", collection="results")


def file_in_the_way(site: Site) -> None:
    site.script("stage-out scratch:/%j/out/ results:/out/%j/")
    (site.box.collection("results").path / "out").write_text("a file")


def bad_directive(site: Site) -> None:
    site.script("stage-inn archive:/in/ scratch:/in/")


def wrong_mount(site: Site) -> None:
    elsewhere = site.work / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "not-there").write_text("x")
    site.names()
    site.config(f'[collections.copy]\nid = "{site.box.collection("archive").id}"\nmounted = {{"{elsewhere}" = "/"}}\n')


def missing_mount(site: Site) -> None:
    text = f'[collections.copy]\nid = "{site.box.collection("archive").id}"\nmounted = {{"/no/such/place" = "/"}}\n'
    site.names()
    site.config(text)


def open_state(site: Site) -> None:
    site.names()
    site.state.mkdir(parents=True)
    site.state.chmod(0o755)


def no_state(site: Site) -> None:
    site.names()
    site.state.parent.mkdir(parents=True)
    site.state.write_text("a file where the directory should be")


def open_tokens(site: Site) -> None:
    site.names()
    (site.box.home / ".globus" / "cli" / "storage.db").chmod(0o644)


def bad_config(site: Site) -> None:
    site.config('tape = "not a UUID"\n')


def silent_scheduler(site: Site) -> None:
    site.names()
    for name in ("sbatch", "scontrol"):
        site.program(name, SILENT)


def refused_job(site: Site) -> None:
    site.program("sbatch", "#!/bin/sh\necho 'allocation failure: Invalid partition name specified' >&2\nexit 1\n")
    site.script("stage-in archive:/in/ scratch:/in/")
    site.arguments[-1] = "slurm"


def clock_behind(site: Site) -> None:
    site.names()
    site.box.control.advance_clock(7200)


def damaged_journal(site: Site) -> None:
    site.names()
    site.note(f"journal/ab/{'ab' * 20}.1.damaged", "{")


def forgotten_submission(site: Site) -> None:
    site.names()
    key = "cd" * 20
    claim = {
        "key": key, "attempt": 1, "submission_id": str(uuid.uuid4()), "digest": "0" * 64, "label": "x gw-0",
        "kind": "transfer", "source": str(uuid.uuid4()), "destination": str(uuid.uuid4()), "items": 1, "examples": [],
        "created": time.time() - 8 * 86400, "host": "elsewhere", "schema": journal.SCHEMA,
    }  # fmt: skip
    site.note(f"journal/cd/{key}.1", json.dumps(claim))


def stale_lease(site: Site) -> None:
    site.names()
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    gone = subprocess.Popen(["true"])
    gone.wait()
    holder = {
        "token": "t", "host": socket.gethostname(), "pid": gone.pid, "started": "1", "boot": boot,
        "space": os.readlink("/proc/self/ns/pid"), "since": 0.0, "ttl": 900.0,
    }  # fmt: skip
    site.note("sync/beam-0123456789ab/lease", json.dumps(holder))


def chain_cut_off(site: Site) -> None:
    _chain(site, created=time.time() - 3600)


def chain_stuck(site: Site) -> None:
    _chain(site, created=time.time())
    note = {"at": time.time(), "state": "stuck", "cause": "consent is missing", "remedy": "globus session consent X"}
    about = {"at": time.time(), "id": "1", "name": "job.sh", "user": "me", "workdir": "/"}
    site.note("chains/c0000000a/g1/about", json.dumps(about))
    site.note("chains/c0000000a/note.stage-in.1", json.dumps(note))


def _chain(site: Site, created: float) -> None:
    """A chain as `submit --dry-run` plans it, on disk."""
    site.script("stage-in archive:/in/ scratch:/in/")
    envelope = run_json(
        site.box, "submit", site.arguments[0], "--scheduler", "local", "--dry-run", cwd=site.work, env=site.env
    )
    plan = {**json.loads(envelope["data"]["plan"]), "id": "c0000000a", "created": created}
    site.names()
    site.arguments = []
    site.note("chains/c0000000a/chain.json", json.dumps(plan))
    (site.state / "chains/c0000000a/g1").mkdir(exist_ok=True)


@dataclass(frozen=True)
class Case:
    """A fault: how it is made, what doctor calls it, the exit code, and part of the command that mends it."""

    prepare: Callable[[Site], None]
    name: str
    code: int
    remedy: str
    id: str


def case(prepare: Callable[[Site], None], name: str, code: int, remedy: str, key: str = "") -> Any:
    return pytest.param(Case(prepare, name, code, remedy, key), id=key or prepare.__name__)


FAULTS = [
    case(no_globus, "no-globus", 127, "pipx install globus-cli"),
    case(old_globus, "old-globus", 1, "pipx upgrade globus-cli"),
    case(no_login, "login-needed", 4, "globus login"),
    case(half_a_service_account, "login-needed", 4, "GLOBUS_CLI_CLIENT_SECRET"),
    case(login_gone, "login-needed", 4, "globus login --force"),
    case(
        fault("archive", kind="consent", scopes=["urn:x[y]"], path="*/stat", count=9),
        *("consent-needed", 4, "globus session consent 'urn:x[y]'", "consent"),
    ),
    case(
        fault("archive", kind="session", domains=["uni.example"], path="*/stat", count=9),
        *("session-needed", 4, "globus session update uni.example", "session_policy"),
    ),
    case(session_too_short, "session-ends-first", 4, "globus session update --all"),
    case(unknown_collection, "no-such-collection", 1, "globuswrap collection search"),
    case(disconnected, "collection-disconnected", 1, "globusconnectpersonal -start"),
    case(
        fault("results", kind="paused", collection="results", message="new disks"),
        *("collection-paused", 7, "globuswrap doctor", "paused"),
    ),
    case(source_missing, "source-missing", 2, "globus ls"),
    case(denied_source, "permission-denied", 1, "globus whoami"),
    case(not_writable, "destination-not-writable", 1, "globus ls -l"),
    case(over_quota, "destination-over-quota", 1, "free some space there"),
    case(file_in_the_way, "destination-not-directory", 2, "name a directory"),
    case(bad_directive, "directive-malformed", 2, "correct line 2"),
    case(wrong_mount, "mapping-differs", 2, "globuswrap collection list"),
    case(missing_mount, "mount-missing", 0, "mount it"),
    case(open_state, "state-readable", 0, "chmod 700"),
    case(no_state, "state-not-writable", 2, "XDG_STATE_HOME"),
    case(open_tokens, "tokens-readable", 0, "chmod 600"),
    case(bad_config, "bad-uuid", 2, "write NAME = "),
    case(silent_scheduler, "scheduler-unreachable", 75, "scontrol ping"),
    case(refused_job, "scheduler-refused", 1, "submit again"),
    case(clock_behind, "clock-behind", 0, "chronyc tracking"),
    case(damaged_journal, "journal-damaged", 0, "rm -- "),
    case(forgotten_submission, "submission-forgotten", 0, "globuswrap status"),
    case(stale_lease, "lease-stale", 0, "globuswrap sync run beam"),
    case(chain_cut_off, "chain-cut-off", 0, "globuswrap submit --resume c0000000a"),
    case(chain_stuck, "chain-stuck", 0, "globus session consent X"),
]


@pytest.mark.parametrize("prepared", FAULTS)
def test_a_prepared_fault_is_found_and_only_that(site: Site, prepared: Case) -> None:
    prepared.prepare(site)
    done = site.doctor("--json")
    assert done.returncode == prepared.code, (done.stdout, done.stderr)
    findings = json.loads(done.stdout)["data"]["findings"]
    assert {each["name"] for each in findings} == {prepared.name}, findings
    for each in findings:
        assert each["what"] and "\n" not in each["what"]
        assert each["why"]
        assert prepared.remedy in each["remedy"]
        assert (each["code"] == 0) == (each["level"] == "warning")
    for collection in site.box.collections.values():
        assert not [name for name in os.listdir(collection.path) if name.startswith(".globuswrap")]


def test_on_a_healthy_set_up_there_is_one_line_and_with_q_none(site: Site) -> None:
    done = site.doctor()
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("all is well: ")
    assert done.stdout.count("\n") == 1
    assert (lambda quiet: (quiet.returncode, quiet.stdout, quiet.stderr))(site.doctor("-q")) == (0, "", "")
    assert site.box.control.tasks() == []


def test_a_healthy_job_script_with_a_probe_that_leaves_nothing(site: Site) -> None:
    site.script(
        "stage-in 'archive:/in/' 'scratch:/%j/in/' --recursive",
        "stage-out 'scratch:/%j/out/' 'results:/my results/%j/' --recursive",
        "cleanup scratch:/%j/",
    )
    done = site.doctor()
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    assert done.stdout.startswith("all is well: ")
    assert os.listdir(site.box.collection("results").path) == []
    assert os.listdir(site.box.collection("scratch").path) == []
    made = site.box.control.requests(method="POST", path="/operation/endpoint/*/mkdir")
    assert len(made) == 2
    site.doctor("--no-probe")
    assert len(site.box.control.requests(method="POST", path="/operation/endpoint/*/mkdir")) == 2


def test_a_profile_is_a_subject(site: Site) -> None:
    site.config('[sync.beam]\nsource = "archive:/in/"\ndestination = "results:/copy/"\n')
    site.arguments = ["beam"]
    assert site.doctor().stdout.startswith("all is well: ")
    (site.box.collection("archive").path / "in" / "a").unlink()
    (site.box.collection("archive").path / "in").rmdir()
    done = site.doctor()
    assert done.returncode == 2
    assert "[sync.beam]: archive:/in/ does not exist  [source-missing]" in done.stdout


@pytest.mark.parametrize("words", [("beam",), ("--scheduler", "local"), ("job.sh", "--scheduler", "local")])
def test_what_needs_no_scheduler_is_not_told_about_one(site: Site, words: tuple[str, ...]) -> None:
    """A profile, and jobs on this machine, on a host where the commands of Slurm are installed and nothing answers."""
    for name in ("sbatch", "scontrol"):
        site.program(name, SILENT)
    site.config('[sync.beam]\nsource = "archive:/in/"\ndestination = "results:/copy/"\n')
    site.script("stage-in archive:/in/ scratch:/in/")
    site.arguments = list(words)
    done = site.doctor()
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    assert done.stdout.startswith("all is well: ")


def test_a_config_file_that_cannot_be_read_stops_doctor_as_any_command(site: Site) -> None:
    site.config("[defualts]\npoll = 3\n")
    done = site.doctor()
    assert done.returncode == 2
    assert "did you mean defaults?" in done.stderr


def test_what_is_neither_script_nor_profile_is_refused(site: Site) -> None:
    site.arguments = ["no such thing"]
    done = site.doctor()
    assert done.returncode == 2
    assert "unknown-subject" in done.stderr


def test_a_probe_of_a_killed_run_is_removed_by_the_next(site: Site) -> None:
    left = site.box.collection("results").path / ".globuswrap-doctor-0123456789ab"
    left.mkdir()
    known = {"collection": site.box.collection("results").id, "path": f"/{left.name}"}
    note = site.note(f"doctor/{left.name}.json", json.dumps(known))
    assert site.doctor("-v").returncode == 0
    assert not left.exists()
    assert not note.exists()


def test_a_note_of_a_probe_never_removes_anything_else(site: Site) -> None:
    precious = site.box.collection("results").path / "precious"
    precious.mkdir()
    known = {"collection": site.box.collection("results").id, "path": "/precious"}
    site.note("doctor/.globuswrap-doctor-0123456789ab.json", json.dumps(known))
    assert site.doctor().returncode == 0
    assert precious.exists()
    assert site.box.control.tasks() == []


def test_a_signal_ends_what_is_asked_side_by_side(site: Site) -> None:
    site.box.control.fault(kind="slow", seconds=40, path="*/stat", count=9)
    code, text = on_terminal(site.box, "doctor", env=site.env, until="paths (")
    assert code == 130, text
    assert "Traceback" not in text and "[interrupted]" in text


def test_the_worst_decides_and_every_finding_is_said(site: Site) -> None:
    open_tokens(site)
    site.names("archive", "results")
    site.box.control.fault(kind="paused", collection="results")
    site.box.control.fault(kind="consent", scopes=["urn:x"], path="*/stat", count=9)
    done = site.doctor()
    assert done.returncode == 4
    for name in ("collection-paused", "consent-needed", "tokens-readable"):
        assert f"[{name}]" in done.stdout
    assert done.stdout.count("  why: ") == done.stdout.count("  remedy: ") > 2


def test_hostile_names_come_through_quoted(site: Site) -> None:
    site.script("stage-in $'archive:/with space/it\\'s $(touch pwned)/' scratch:/in/")
    done = site.doctor()
    assert done.returncode == 2
    remedy = next(line for line in done.stdout.splitlines() if "remedy: " in line)
    assert "'" in remedy
    assert not (site.work / "pwned").exists()
