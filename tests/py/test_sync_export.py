"""Profiles, schedules, and what `sync export` makes of them; a real cron runs an exported line."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from command_line import run, run_json
from globuswrap import config
from globuswrap.cli.sandbox import Sandbox
from globuswrap.collections import names
from globuswrap.errors import UsageProblem
from globuswrap.syncs import export, profile, schedule
from support import LAUNCHER, REPOSITORY, cannot, require_tool
from sync_support import GLOBUS, Beam

ONE, TWO = "11111111-1111-4111-8111-111111111111", "22222222-2222-4222-8222-222222222222"
PLAIN = {"source": f"{ONE}:/data/", "destination": f"{TWO}:/copy/"}


@pytest.fixture(autouse=True)
def fresh_configuration(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("GLOBUSWRAP_GLOBUS", GLOBUS)
    for cached in (config.load, names.known):
        cached.cache_clear()
    yield
    for cached in (config.load, names.known):
        cached.cache_clear()


def made(**values: Any) -> profile.Profile:
    return profile.load("beam", {**PLAIN, **{key.replace("_", "-"): value for key, value in values.items()}})


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"source": "nowhere"}, "is not an address"),
        ({"destination": f"{ONE}:/data/sub/"}, "overlap"),
        ({"local_root": "relative"}, "is not an absolute path"),
        ({"local_root": "/x", "sync_level": "mtime"}, "makes no sense with local-root"),
        ({"local_root": "/x", "symlinks": "maybe"}, "is not valid"),
        ({"local_root": "/x", "max_delete": "150%"}, "not a number of files or a percentage"),
        ({"local_root": "/x", "delete": "yes"}, "neither true nor false"),
        ({"local_root": "/x", "delete": True}, "delete needs check-file"),
        *(
            ({"local_root": "/x", "check_file": name}, "does not name a file below the source")
            for name in ("/abs", ".", "..", "./.mounted", "sub/..", "sub/../../x", "sub/", "sub//x")
        ),
        ({"local_root": "/x", "check_file": ""}, "check-file"),
        (
            {"local_root": "/x", "delete": True, "check_file": ".mounted", "preserve_timestamp": False},
            "delete needs preserve-timestamp",
        ),
        ({"local_root": "/x", "exclude": ["a/b"]}, "not a pattern for a name"),
        ({"exclude": ["cache/"]}, "filters on directories need local-root"),
        ({"settle": "soon"}, "not a duration"),
        ({"schedule": "sometimes"}, "duration"),
        ({"schedule": "61 * * * *"}, "is not a valid minute"),
        ({"schedule": "30s"}, "less than a minute"),
        ({"nonsense": 1}, "unknown key nonsense"),
        ({"local_roots": "/x"}, "unknown key local-roots"),
    ],
)
def test_what_makes_no_sense_is_refused(values: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageProblem) as caught:
        made(**values)
    assert said in caught.value.cause


def test_only_over_a_profile_in_the_configuration_is_max_delete_a_confirmation(monkeypatch: pytest.MonkeyPatch) -> None:
    """In a line of cron that names no profile it is given every time, and no person looks."""
    given = {**PLAIN, "local-root": "/x", "check-file": ".mounted", "delete": True, "max-delete": "90%"}
    assert not profile.load(None, given).max_delete_raised
    assert not profile.load("beam", given).max_delete_raised
    monkeypatch.setattr(config.Config, "table", lambda _self, name: {"beam": given} if name == "sync" else {})
    assert not profile.load("beam").max_delete_raised
    assert profile.load("beam", {"max-delete": 5}).max_delete_raised


def test_an_unknown_profile_is_refused_with_a_guess() -> None:
    with pytest.raises(UsageProblem, match="there is no profile named"):
        profile.load("absent")


def test_another_destination_is_another_state() -> None:
    assert made().directory != made(destination=f"{TWO}:/other/").directory
    assert made().directory == made(source=f"{ONE}:/data", settle=None).directory


@pytest.mark.parametrize(
    ("text", "fields"),
    [
        ("*/15 * * * *", "*/15 * * * *"),
        ("@daily", "0 0 * * *"),
        ("1m", "* * * * *"),
        ("15m", "7-59/15 * * * *"),
        ("1h", "7 * * * *"),
        ("6h", "7 2-23/6 * * *"),
        ("1d", "7 2 * * *"),
        ("1w", "7 2 * * 0"),
    ],
)
def test_cron_fields(text: str, fields: str) -> None:
    assert " ".join(schedule.cron_fields(schedule.parse(text), 127)) == fields


@pytest.mark.parametrize("text", ["7m", "90m", "5h", "2d", "100s"])
def test_intervals_that_cron_cannot_keep_are_refused(text: str) -> None:
    with pytest.raises(UsageProblem, match="evenly"):
        schedule.cron_fields(schedule.parse(text), 0)
    assert schedule.on_calendar(schedule.parse(text))


CALENDARS = [
    ("*/15 * * * *", "*-*-* *:0,15,30,45:00"),
    ("0 2 * * *", "*-*-* 2:0:00"),
    ("5,35 8-18/2 * * mon-fri", "Mon,Tue,Wed,Thu,Fri *-*-* 8,10,12,14,16,18:5,35:00"),
    ("0 0 1 jan *", "*-1-1 0:0:00"),
    ("0 3 * * 7", "Sun *-*-* 3:0:00"),
    ("10-59/20 */6 * * 0,6", "Sat,Sun *-*-* 0,6,12,18:10,30,50:00"),
]


@pytest.mark.parametrize(("text", "calendar"), CALENDARS)
def test_calendar_lines(text: str, calendar: str) -> None:
    assert schedule.on_calendar(schedule.parse(text)) == (f"OnCalendar={calendar}",)
    tool = shutil.which("systemd-analyze")
    if tool:
        done = subprocess.run([tool, "calendar", calendar], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr


def test_a_day_of_the_month_or_of_the_week_is_two_lines() -> None:
    assert schedule.on_calendar(schedule.parse("0 1 13 * fri")) == (
        "OnCalendar=*-*-13 1:0:00",
        "OnCalendar=Fri *-*-* 1:0:00",
    )


@pytest.mark.parametrize(
    ("text", "interval"),
    [
        ("*/15 * * * *", "15m"), ("5 * * * *", "1h"), ("0 */6 * * *", "6h"), ("0 2 * * *", "1d"), ("0 2 * * 1", "7d"),
        ("0 0,12 * * *", "12h"), ("0 9 * * mon-fri", None),
        ("90m", "1h30m"), ("* * * * *", "1m"), ("*/7 * * * *", None), ("0 2 1 * *", None), ("0 8-18 * * *", None),
    ],
)  # fmt: skip
def test_timer_intervals(text: str, interval: str | None) -> None:
    assert schedule.timer_interval(schedule.parse(text)) == interval


def test_the_cron_line_carries_what_cron_does_not_have(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", "/state/with 100% space")
    monkeypatch.setenv("GLOBUS_CLI_CLIENT_ID", ONE)
    monkeypatch.setenv("GLOBUS_CLI_CLIENT_SECRET", "very-secret")
    found = export.export(made(schedule="0 2 * * *"), "cron")
    line = found.text.splitlines()[1]
    assert line.startswith("0 2 * * * XDG_STATE_HOME='/state/with 100\\% space' ")
    assert line.endswith(" sync run beam") and f"GLOBUSWRAP_GLOBUS={GLOBUS}" in line
    assert "very-secret" not in found.text and any("service account" in remark for remark in found.remarks)


def test_systemd_units_are_taken_by_systemd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", '/odd "place" 100%')
    text = export.export(made(schedule="*/15 * * * *"), "systemd").text
    service, timer = text.split("\n\n# ~")
    assert 'Environment="XDG_CONFIG_HOME=/odd \\"place\\" 100%%"' in service and "SuccessExitStatus=75" in service
    assert "OnCalendar=*-*-* *:0,15,30,45:00" in timer
    tool = require_tool("systemd-analyze")
    for name, unit in (("service", service), ("timer", "# ~" + timer)):
        (tmp_path / f"globuswrap-sync-beam.{name}").write_text(unit + "\n")
    done = subprocess.run(
        [tool, "verify", "--man=no", *map(str, sorted(tmp_path.iterdir()))], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0 and "globuswrap" not in done.stderr, done.stderr


def test_the_units_of_the_recipe_are_taken_by_systemd(tmp_path: Path, repository: Path) -> None:
    tool = require_tool("systemd-analyze")
    for ending in ("service", "timer"):
        text = (repository / "recipes" / "systemd" / f"globuswrap-sync@.{ending}").read_text()
        text = text.replace("/usr/local/bin/globuswrap", str(LAUNCHER))
        (tmp_path / f"globuswrap-sync@beam.{ending}").write_text(text)
    done = subprocess.run(
        [tool, "verify", "--man=no", *map(str, sorted(tmp_path.iterdir()))], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0 and "globuswrap" not in done.stderr, done.stderr


def test_the_timer_command_and_what_it_cannot_say() -> None:
    found = export.export(
        made(local_root="/data", schedule="1h", max_bytes="1G", exclude=["*.tmp", "cache/"], symlinks="keep"), "timer"
    )
    assert found.text == (
        "globus timer create transfer --name 'globuswrap sync beam' --interval 1h --recursive "
        "--notify failed,inactive --sync-level mtime --preserve-timestamp --skip-source-errors --exclude '*.tmp' "
        f"-- {ONE}:/data/ {TWO}:/copy/\n"
    )
    told = " ".join(found.remarks)
    for missing in ("manifest", "settle", "max-bytes", "symlinks", "directories"):
        assert missing in told
    with pytest.raises(UsageProblem, match="even intervals"):
        export.export(made(schedule="0 8-18 * * *"), "timer")


def test_export_wants_a_schedule_and_a_known_form() -> None:
    with pytest.raises(UsageProblem, match="has no schedule"):
        export.export(made(), "cron")
    with pytest.raises(UsageProblem, match="is not valid"):
        export.export(made(schedule="1h"), "at")


BODY = {
    "DATA": [{"DATA_TYPE": "transfer_item", "source_path": "/data/", "destination_path": "/copy/"}],
    "source_endpoint": ONE, "destination_endpoint": TWO, "sync_level": 2, "preserve_timestamp": True,
}  # fmt: skip


def test_drift_of_both_shapes_of_a_timer() -> None:
    wanted = export._wanted(made(schedule="1h"))
    new = {"status": "new", "schedule": {"interval_seconds": 3600}, "body": BODY}
    assert export.described(new) == wanted
    old_body = {
        "source_endpoint_id": ONE, "destination_endpoint_id": TWO, "sync_level": 2, "preserve_timestamp": True,
        "transfer_items": [{"source_path": "/data", "destination_path": "/copy"}],
    }  # fmt: skip
    assert export.described({"status": "loaded", "interval": 3600.0, "callback_body": {"body": old_body}}) == wanted
    paused = export.described({**new, "status": "inactive", "inactive_reason": {"cause": "user"}})
    assert paused["active"] is False


# A real cron.


def own_cron(tmp_path: Path, crontab: str) -> subprocess.Popen[bytes]:
    """Debian's cron, in a mount namespace of its own: the machine's crontabs and its cron are not touched."""
    spool = tmp_path / "spool"
    spool.mkdir()
    (spool / "root").write_text(crontab)
    (spool / "root").chmod(0o600)
    empty = tmp_path / "empty"
    empty.mkdir()
    (tmp_path / "crontab").write_text("")
    script = (
        'set -e; mount --bind "$1/spool" /var/spool/cron/crontabs; mount --bind "$1/empty" /etc/cron.d; '
        'mount --bind "$1/crontab" /etc/crontab; mount -t tmpfs tmpfs /run; exec "$2" -f'
    )
    unshare, cron = require_tool("unshare"), require_tool("cron")
    return subprocess.Popen(
        [unshare, "--mount", "--propagation", "private", "bash", "-c", script, "bash", str(tmp_path), cron],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )


@pytest.mark.slow
def test_a_real_cron_runs_an_exported_line(sandbox: Sandbox, tmp_path: Path) -> None:
    if os.geteuid() != 0:
        cannot("only root can start a cron")
    if not Path("/etc/crontab").exists() or not Path("/var/spool/cron/crontabs").is_dir():
        cannot("no cron is installed")
    beam = Beam(sandbox, schedule="* * * * *")
    beam.write("from cron")
    line = sandbox.run([str(LAUNCHER), "sync", "export", "beam", "--as", "cron"]).stdout
    assert line.splitlines()[1].startswith("* * * * * ")
    (tmp_path / "cron").mkdir()
    cron = own_cron(tmp_path / "cron", f'MAILTO=""\nHOME={sandbox.home}\n{line}')
    try:
        time.sleep(0.5)
        if cron.poll() is not None:
            assert cron.stderr is not None
            cannot(f"cron cannot be started in a namespace here: {cron.stderr.read().decode()}")
        end = time.monotonic() + 240
        while not beam.copy.joinpath("from cron").exists() and time.monotonic() < end:
            time.sleep(0.5)
    finally:
        cron.terminate()
        cron.communicate()
    assert beam.there() == {b"from cron": b"x"}, beam.log()
    beam.settle()
    assert "succeeded" in beam.log()


# A Globus timer.


def test_drift_of_an_existing_timer(sandbox: Sandbox) -> None:
    beam = Beam(sandbox, schedule="1h", local_root=None, settle=None)
    missing = beam.sync("export", "--as", "timer", "--diff")
    assert missing.returncode == 1 and "no-timer" in missing.stderr
    exported = beam.sync("export", "--as", "timer")
    sandbox.set_login("client")  # a user would have to consent once: globus login --timer-data-access COLLECTION
    made_timer = sandbox.run(["bash", "-c", exported.stdout.replace("globus ", f"{GLOBUS} ", 1)])
    assert made_timer.returncode == 0, made_timer.stderr
    same = beam.sync("export", "--as", "timer", "--diff")
    assert same.returncode == 0, same.stdout + same.stderr
    beam.set(schedule="2h", sync_level="checksum", destination="results:/elsewhere/", exclude=["*.tmp"])
    other = beam.sync("export", "--as", "timer", "--diff")
    assert other.returncode == 1
    for what in (
        "interval: the timer has 3600.0, the profile 7200.0",
        "sync level: the timer has mtime",
        "destination",
        "filters",
    ):
        assert what in other.stdout


def test_drift_of_a_timer_between_mapped_collections(new_sandbox: Callable[..., Sandbox]) -> None:
    """They ask for a consent first: without it the timer cannot be made, and with it made and compared."""
    box = new_sandbox(data_access=True)
    beam = Beam(box, schedule="1h", local_root=None, settle=None)
    exported = beam.sync("export", "--as", "timer").stdout.replace("globus ", f"{GLOBUS} ", 1)
    refused = box.run(["bash", "-c", exported])
    assert refused.returncode == 4 and "consent" in refused.stdout + refused.stderr
    assert beam.sync("export", "--as", "timer", "--diff").returncode == 1 and not box.control.documents("timer")
    consents = [word for name in ("archive", "results") for word in ("--timer-data-access", box.collection(name).id)]
    assert box.run([GLOBUS, "session", "consent", *consents]).returncode == 0
    made = box.run(["bash", "-c", exported])
    assert made.returncode == 0, made.stderr
    same = beam.sync("export", "--as", "timer", "--diff")
    assert same.returncode == 0, same.stdout + same.stderr
    beam.set(schedule="2h")
    other = beam.sync("export", "--as", "timer", "--diff")
    assert (other.returncode, other.stdout.splitlines()[1:]) == (
        1,
        ["  interval: the timer has 3600.0, the profile 7200.0"],
    )


def test_a_profile_as_a_timer_of_a_flow(sandbox: Sandbox) -> None:
    """The exported command is run: the timer has the profile's places, in a form that the flow of the recipe takes."""
    sandbox.set_login("client")
    beam = Beam(sandbox, schedule="6h", local_root=None, settle=None)
    recipe = Path(shutil.copytree(REPOSITORY / "recipes" / "flows" / "transfer", sandbox.home / "flow"))
    deployed = run_json(sandbox, "flow", "deploy", str(recipe))["data"]["flow_id"]
    assert beam.sync("export", "--as", "flow-timer").returncode == 2
    exported = beam.sync("export", "--as", "flow-timer", "--flow", str(recipe))
    assert exported.returncode == 0, exported.stderr
    made = sandbox.run(["bash", "-c", exported.stdout.replace("globus ", f"{GLOBUS} ", 1)])
    assert made.returncode == 0, made.stderr
    (timer,) = sandbox.control.documents("timer")
    assert (timer["flow_id"], timer["schedule"]["interval_seconds"]) == (deployed, 6 * 3600)
    given = timer["body"].get("body", timer["body"])
    assert given["source"] == {"id": sandbox.collection("archive").id, "path": "/data/"}
    assert given["destination"] == {"id": sandbox.collection("results").id, "path": "/copy/"}
    (sandbox.home / "input.json").write_text(json.dumps(given))
    checked = run(sandbox, "flow", "start", str(recipe), "--input", str(sandbox.home / "input.json"), "--dry-run")
    assert checked.returncode == 0, checked.stderr
