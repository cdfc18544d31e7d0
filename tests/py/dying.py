"""`python dying.py NAME ARGUMENTS...`: a globuswrap that dies, as by kill -9, right after it has written the record NAME."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

from globuswrap.cli.main import main
from globuswrap.system import records

wanted = sys.argv.pop(1)
write_once = records.write_once


def write_once_and_die(path: Path, text: str) -> bool:
    mine = write_once(path, text)
    if path.name == wanted:
        os.kill(os.getpid(), signal.SIGKILL)
    return mine


if __name__ == "__main__":
    records.write_once = write_once_and_die
    main()
