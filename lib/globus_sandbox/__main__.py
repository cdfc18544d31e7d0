from __future__ import annotations

import sys

from globus_sandbox.cli import main

sys.exit(main(sys.argv[1:]))
