"""recipes/slurm-burst-buffer on Slurm's real plugin, as a user that is not root (Slurm refuses Lua scripts for root)."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import support
from globuswrap.cli.sandbox import Sandbox
from slurm.cluster import until
from slurm.node import SlurmNode, missing_programs

pytestmark = [pytest.mark.slow, pytest.mark.slurm]

RECIPE = support.REPOSITORY / "recipes" / "slurm-burst-buffer"
DAEMON = 1


def configured(node: SlurmNode, settings: dict[str, str]) -> None:
    """The recipe's files beside slurm.conf, as its README says; the sandbox's settings reach `stage` through a script."""
    node.base.mkdir(parents=True, exist_ok=True)
    stage = node.base / "stage with settings"
    lines = [f"export {name}='{value}'" for name, value in settings.items()]
    stage.write_text("#!/bin/bash\n" + "\n".join(lines) + f'\nexec {RECIPE}/stage "$@"\n')
    stage.chmod(0o755)
    lua = (RECIPE / "burst_buffer.lua").read_text()
    lua = lua.replace("@STAGE@", str(stage)).replace("\"sudo -n -H -u '#%d' --\"", '""')
    (node.base / "burst_buffer.lua").write_text(lua)
    shutil.copy(RECIPE / "burst_buffer.conf", node.base)


@pytest.fixture
def slurm(new_sandbox: Callable[..., Sandbox], tmp_path: Path) -> Iterator[tuple[SlurmNode, Sandbox]]:
    missing = missing_programs()
    if missing:
        support.cannot(f"no {', '.join(missing)} here")
    if os.getuid() == 0:
        pytest.skip("runs as a user that is not root, below")
    box = new_sandbox()
    node = SlurmNode(tmp_path / "slurm", extra=(RECIPE / "slurm.conf.lines").read_text())
    settings = {name: value for name, value in box.env.items() if value is not None}
    configured(node, {**settings, "SLURM_CONF": str(node.conf)})
    with node:
        yield node, box


@pytest.mark.skipif(os.getuid() != 0, reason="for root only: hands over to a user that is not")
def test_as_a_user_that_is_not_root(tmp_path_factory: pytest.TempPathFactory) -> None:
    support.require_tool("unshare")
    missing = missing_programs()
    if missing:
        support.cannot(f"no {', '.join(missing)} here")
    # In a user namespace of its own: another user id, and still the owner of what root owns, so that the checkout and the
    # interpreter can be read wherever they are.
    user = ("unshare", "--user", f"--map-user={DAEMON}", f"--map-group={DAEMON}")
    if subprocess.run([*user, "true"], capture_output=True).returncode != 0:
        support.cannot("user namespaces are not allowed")
    base = tmp_path_factory.mktemp("unprivileged")
    done = subprocess.run(
        [
            *(*user, sys.executable, "-B", "-m", "pytest", "-q", "-p", "no:cacheprovider", f"--basetemp={base}/t"),
            *("-n", "0", __file__),
        ],
        cwd=support.REPOSITORY,
        env={**os.environ, "HOME": str(base)},
        capture_output=True,
        text=True,
        timeout=390,
    )
    assert done.returncode == 0 and "4 passed" in done.stdout, done.stdout[-6000:] + done.stderr[-2000:]


def submit(node: SlurmNode, directory: Path, text: str) -> subprocess.CompletedProcess[str]:
    script = directory / "job.sh"
    script.write_text(text)
    return node.run(["sbatch", "--parsable", "--output=/dev/null", str(script)], check=False, cwd=directory)


IN = "#GLOBUS stage-in archive:/in/ scratch:/%j/in/\n"
OUT = (
    "#GLOBUS stage-out scratch:/%j/out/ results:/%x/\n#GLOBUS stage-out scratch:/%j/out/ results:/bad/ --when failure\n"
)


def body(box: Sandbox, more: str) -> str:
    here = f"{box.collections['scratch'].path}/$SLURM_JOB_ID"
    return f'cd "{here}" || exit 9\nmkdir out\ncat in/* >out/all || exit 8\n{more}\n'


def fill(box: Sandbox) -> None:
    (box.collections["archive"].path / "in").mkdir()
    (box.collections["archive"].path / "in" / "a b").write_text("one\n")


def results(box: Sandbox) -> dict[str, str]:
    top = box.collections["results"].path
    return {str(path.relative_to(top)): path.read_text() for path in top.rglob("*") if path.is_file()}


@pytest.mark.parametrize(("code", "where"), [(0, "job.sh/all"), (7, "bad/all")])
def test_staged_by_the_controller(slurm: tuple[SlurmNode, Sandbox], tmp_path: Path, code: int, where: str) -> None:
    node, box = slurm
    fill(box)
    done = submit(node, tmp_path, f"#!/bin/bash\n{IN}{OUT}{body(box, f'exit {code}')}")
    assert done.returncode == 0, done.stderr
    until(lambda: results(box), lambda: str(node.job(done.stdout.strip())))
    assert results(box) == {where: "one\n"}
    job = node.wait_state(done.stdout.strip(), "COMPLETED" if code == 0 else "FAILED")
    assert job["ExitCode"] == f"{code}:0"
    assert len(box.control.tasks()) == 2


def test_a_failed_stage_in_keeps_the_job_and_says_why(slurm: tuple[SlurmNode, Sandbox], tmp_path: Path) -> None:
    node, _ = slurm
    line = "#GLOBUS stage-in archive:/missing/ scratch:/%j/in/ --fault-grace 1s\n"
    done = submit(node, tmp_path, f"#!/bin/bash\n{line}touch '{tmp_path}/ran'\n")
    job_id = done.stdout.strip()
    shown = until(
        lambda: next(
            (
                text
                for text in [node.run(["scontrol", "show", "job", "-o", job_id]).stdout]
                if "stage_in_failed" in text or "FILE_NOT_FOUND" in text
            ),
            "",
        ),
        lambda: node.run(["scontrol", "show", "job", "-o", job_id]).stdout,
        60,
    )
    assert "JobState=PENDING" in shown and "FILE_NOT_FOUND" in shown
    assert not (tmp_path / "ran").exists()
    node.run(["scancel", job_id])


def test_a_bad_line_is_refused_at_sbatch(slurm: tuple[SlurmNode, Sandbox], tmp_path: Path) -> None:
    node, _ = slurm
    done = submit(node, tmp_path, "#!/bin/bash\n#GLOBUS stage-in archive:/in/\ntrue\n")
    assert done.returncode != 0 and done.stdout == ""
    assert "2:" in done.stderr and "expected DESTINATION" in done.stderr
    assert submit(node, tmp_path, "#!/bin/bash\ntrue\n").returncode == 0
