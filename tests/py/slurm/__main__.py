"""`python tests/py/slurm COMMAND...`: run a command beside a one-node Slurm of its own (SLURM_CONF is set), and end it."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from slurm.node import SlurmNode, missing_programs


def main(command: list[str]) -> int:
    missing = missing_programs()
    if missing:
        print(f"no {', '.join(missing)} here", file=sys.stderr)
        return 77
    with tempfile.TemporaryDirectory(prefix="slurm-") as directory, SlurmNode(Path(directory)) as node:
        return subprocess.run(command, env={**os.environ, **node.env}).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
