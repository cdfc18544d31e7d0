"""What the tests of sync share: a profile in a sandbox, and runs of it."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import command_line
from globuswrap.cli.sandbox import Sandbox

SOURCE, DESTINATION = "archive", "results"
GLOBUS = str(Path(sys.executable).parent / "globus")


class Beam:
    """A profile `beam` from /data on one collection to /copy on another, in a sandbox."""

    def __init__(self, box: Sandbox, name: str = "beam", **settings: Any) -> None:
        self.box = box
        self.source = box.collection(SOURCE).path / "data"
        self.copy = box.collection(DESTINATION).path / "copy"
        self.source.mkdir(parents=True, exist_ok=True)
        self.name = name
        self.settings: dict[str, Any] = {
            "source": f"{SOURCE}:/data/",
            "destination": f"{DESTINATION}:/copy/",
            "local-root": str(self.source),
            "settle": 0,
        }
        self.set(**settings)

    def set(self, **settings: Any) -> None:
        """Change the profile; None takes a key out."""
        self.settings.update({key.replace("_", "-"): value for key, value in settings.items()})
        lines = [f"{key} = {json.dumps(value)}" for key, value in self.settings.items() if value is not None]
        others = re.sub(rf"\n\[sync\.{self.name}\]\n(?:[^\[\n].*\n|\n)*", "\\n", self.box.config_file.read_text())
        self.box.config_file.write_text(others + f"\n[sync.{self.name}]\n" + "\n".join(lines) + "\n")

    def command(self, verb: str, *options: str) -> list[str]:
        return [sys.executable, "-m", "globuswrap", "sync", verb, self.name, *options]

    def sync(
        self, verb: str = "run", *options: str, env: dict[str, str | None] | None = None
    ) -> subprocess.CompletedProcess[str]:
        return command_line.run(self.box, "sync", verb, self.name, *options, env=env or {})

    def doctor(self) -> subprocess.CompletedProcess[str]:
        return command_line.run(self.box, "doctor", self.name, "-v", "--no-probe")

    def run(self, *options: str, code: int = 0) -> subprocess.CompletedProcess[str]:
        done = self.sync("run", *options)
        assert done.returncode == code, f"exit {done.returncode}\n{done.stdout}\n{done.stderr}\n{self.log()}"
        return done

    def quiet(self, *options: str, code: int = 0) -> None:
        """A run as cron likes it: not a word."""
        done = self.run(*options, code=code)
        assert (done.stdout, done.stderr) == ("", "")

    def settle(self) -> None:
        """Run until nothing is left to do."""
        for _ in range(20):
            before = len(self.box.control.tasks(items=0))
            done = self.sync("run")
            assert done.returncode in (0, 75), done.stderr
            if done.returncode == 0 and len(self.box.control.tasks(items=0)) == before:
                return
        raise AssertionError("no end")

    def write(self, name: str | bytes, content: str | bytes = "x", age: float = 100.0) -> Path:
        """A file at the source, last changed `age` seconds ago."""
        path = self.source / os.fsdecode(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        when = os.stat(path).st_mtime - age
        os.utime(path, (when, when))
        return path

    def there(self) -> dict[bytes, bytes]:
        return tree(self.copy)

    def here(self) -> dict[bytes, bytes]:
        return tree(self.source)

    def same(self) -> None:
        assert self.there() == self.here()

    def tasks(self, kind: str | None = None) -> list[dict[str, Any]]:
        found = sorted(self.box.control.tasks(), key=lambda task: str(task["request_time"]))
        return [task for task in found if kind is None or task["type"] == kind]

    def state(self) -> Path:
        (found,) = (self.box.home / ".local" / "state" / "globuswrap" / "sync").glob(f"{self.name}-*")
        return found

    def log(self) -> str:
        try:
            return (self.state() / "log").read_text()
        except (OSError, ValueError):
            return "(no log)"


def write_tree(root: Path, *names: str) -> None:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("x")


def tree(root: Path) -> dict[bytes, bytes]:
    """Every file below a directory with its content; an empty directory with b"/", a link with what it names."""
    found: dict[bytes, bytes] = {}
    top = os.fsencode(root)
    for directory, directories, files in os.walk(top):
        for name in [*files, *(each for each in directories if os.path.islink(directory + b"/" + each))]:
            path = directory + b"/" + name
            key = path[len(top) + 1 :]
            if os.path.islink(path):
                found[key] = b"-> " + os.readlink(path)
            else:
                with open(path, "rb") as file:
                    found[key] = file.read()
        if not files and not directories and directory != top:
            found[directory[len(top) + 1 :]] = b"/"
    return found
