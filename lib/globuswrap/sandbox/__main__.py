from __future__ import annotations

import sys

from globuswrap.sandbox.server import main

sys.exit(main(sys.argv[1:]))
