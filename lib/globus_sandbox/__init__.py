"""A local Globus: the services the `globus` command and the Globus SDK talk to, on this machine, with directories as collections.

    with globus_sandbox.Sandbox(collections=("archive", "scratch")) as box:
        box.run(["globus", "ls", f"{box.collection('archive').id}:/"])

docs/sandbox/behavior.md says which of its behaviors are recorded, documented or assumed.
"""

from __future__ import annotations

from globus_sandbox.launch import Sandbox

__all__ = ["Sandbox"]
