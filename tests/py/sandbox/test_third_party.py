"""The view of someone who installs the package and knows nothing else: its README, as it stands, in an environment of its own."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

import support

README = support.REPOSITORY / "lib" / "globus_sandbox" / "README.md"


def programs() -> dict[str, str]:
    found = re.findall(r"^```python\n# (\S+)\n(.*?)^```", README.read_text(), re.DOTALL | re.MULTILINE)
    return dict(found)


def run(argv: list[str], cwd: Path, env: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(argv, cwd=cwd, env=env, capture_output=True, text=True, timeout=280, check=False)


def plain(bin: Path, tmp_path: Path) -> dict[str, str]:
    return {"PATH": f"{bin}:/usr/bin:/bin", "HOME": str(tmp_path), "TMPDIR": str(tmp_path), "LANG": "C.UTF-8"}


def assert_examples_run(bin: Path, tmp_path: Path) -> None:
    for name, text in programs().items():
        (tmp_path / name).write_text(text)
    env = plain(bin, tmp_path)
    done = run(
        [str(bin / "globus-sandbox"), "run", "--login", "client", "--", str(bin / "python"), "copy_results.py"],
        tmp_path,
        env,
    )
    assert (done.returncode, done.stdout) == (0, "result.txt 2\n"), done.stderr
    done = run([str(bin / "python"), "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_archive.py"], tmp_path, env)
    assert done.returncode == 0 and "3 passed" in done.stdout, done.stdout


def test_the_examples_are_as_short_as_they_are_said_to_be() -> None:
    lengths = {name: len([line for line in text.splitlines() if line.strip()]) for name, text in programs().items()}
    assert lengths["copy_results.py"] <= 30 and lengths["test_archive.py"] <= 20


def test_the_examples_of_the_readme_run_as_they_stand(tmp_path: Path) -> None:
    assert_examples_run(Path(sys.executable).parent, tmp_path)


@pytest.mark.slow
@pytest.mark.versions
@pytest.mark.timeout(900)
def test_an_installation_from_nothing(tmp_path: Path) -> None:
    """What the recipe of a container copies, installed into a fresh environment: globuswrap alone at first, then with the
    sandbox; its entry point, and the examples, in that."""
    import shutil

    source = tmp_path / "source"
    source.mkdir()
    recipe = (support.REPOSITORY / "recipes" / "sandbox" / "Containerfile").read_text()
    (files,) = re.findall(r"^COPY (.*) \./$", recipe, re.MULTILINE)
    assert "COPY lib lib\n" in recipe and "pip install --no-cache-dir '.[sandbox]'" in recipe
    for name in files.split():
        shutil.copy(support.REPOSITORY / name, source)
    shutil.copytree(
        support.REPOSITORY / "lib", source / "lib", ignore=shutil.ignore_patterns("__pycache__", "*.egg-info")
    )
    fresh = tmp_path / "fresh"
    subprocess.run([sys.executable, "-m", "venv", str(fresh)], check=True, timeout=240)
    pip = [str(fresh / "bin" / "python"), "-m", "pip", "-qq", "--disable-pip-version-check"]
    work = tmp_path / "work"
    work.mkdir()
    subprocess.run([*pip, "wheel", "--no-deps", "--wheel-dir", str(tmp_path), str(source)], check=True, timeout=600)
    shutil.rmtree(source)
    (wheel,) = tmp_path.glob("*.whl")
    subprocess.run([*pip, "install", str(wheel)], check=True, timeout=600)
    assert_commands_are_there(fresh / "bin", work)
    subprocess.run([*pip, "install", f"{wheel}[sandbox]", "pytest"], check=True, timeout=600)
    assert_entry_point_serves(recipe, fresh / "bin", tmp_path)
    assert_examples_run(fresh / "bin", work)


def assert_commands_are_there(bin: Path, tmp_path: Path) -> None:
    env = plain(bin, tmp_path)
    said = run([str(bin / "globuswrap"), "--version"], tmp_path, env)
    assert said.returncode == 0 and said.stdout.startswith("globuswrap 0.")
    toolkit = run([str(bin / "globuswrap"), "toolkit"], tmp_path, env)
    assert toolkit.returncode == 0 and Path(toolkit.stdout.strip()).is_file()
    refused = run([str(bin / "globuswrap"), "transfer", "a:/b", "c:/d"], tmp_path, env)
    assert refused.returncode == 2 and "unknown-collection" in refused.stderr


def assert_entry_point_serves(recipe: str, bin: Path, tmp_path: Path) -> None:
    """As in a container, but for where it keeps things, and for whom it listens to."""
    import json
    import time
    import urllib.request

    base = tmp_path / "base"
    there = {"/home/globus/sandbox": str(base), "0.0.0.0": "127.0.0.1"}
    argv = [there.get(word, word) for word in json.loads(re.findall(r"^ENTRYPOINT (.*)$", recipe, re.MULTILINE)[0])]
    served = subprocess.Popen([str(bin / argv[0]), *argv[1:]], env=plain(bin, tmp_path), stdout=subprocess.DEVNULL)
    try:
        end = time.monotonic() + 240
        while not (base / "address").exists():
            assert served.poll() is None and time.monotonic() < end
            time.sleep(0.05)
        url = json.loads((base / "address").read_text())["url"]
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(
            f"{url}/_sandbox/health", timeout=300
        ) as answer:
            assert json.load(answer)["healthy"]
    finally:
        served.terminate()
        served.wait(240)
