"""What a command's start costs, as a multiple of the time that Python needs to import typer: one command, ratios in one run.

    .venv/bin/python tests/bench/bench_startup.py [RUNS]

User plus system CPU time of the process, the least of RUNS (default 15) interleaved runs, through bin/globuswrap. Completion,
which people wait for, has a benchmark of its own: bench_completion.py.
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "lib"))

from globuswrap.cli import app  # noqa: E402

LAUNCHER = str(ROOT / "bin" / "globuswrap")


def measured(argv: list[str], env: dict[str, str]) -> float:
    """CPU seconds of one process."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(argv, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def lines() -> dict[str, list[str]]:
    found = {"--help": ["--help"]}
    for name in app.COMMANDS:
        command = app.load(name)
        below = command.list_commands(None) if hasattr(command, "list_commands") else []
        for words in [name.split(), *([name, each] for each in below)]:
            found[" ".join([*words, "--help"])] = [*words, "--help"]
    return found


def main(runs: int) -> None:
    with tempfile.TemporaryDirectory() as home:
        env = {**os.environ, "HOME": home}
        (Path(home) / ".config" / "globuswrap").mkdir(parents=True)
        names = '[collections]\narchive = { id = "aaaaaaaa-0000-4000-8000-000000000001", mounted = { "/" = "/" } }\n'
        (Path(home) / ".config" / "globuswrap" / "config.toml").write_text(names)
        typer = [sys.executable, "-I", "-X", "utf8", "-c", "import typer"]
        todo = {"import typer": typer} | {label: [LAUNCHER, *words] for label, words in lines().items()}
        least = dict.fromkeys(todo, float("inf"))
        for _ in range(runs):
            for label, argv in todo.items():
                least[label] = min(least[label], measured(argv, env))
        base = least.pop("import typer")
        print(f"import typer: {base * 1000:.0f} ms of CPU")
        for label, seconds in sorted(least.items(), key=lambda each: -each[1]):
            print(f"  {seconds / base:.2f}  {seconds * 1000:4.0f} ms  globuswrap {label}")
        print(f"worst: {max(least.values()) / base:.2f} (promised: below 1.5)")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 15)
