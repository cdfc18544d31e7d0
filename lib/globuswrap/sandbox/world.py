"""Everything one sandbox is made of, handed to each handler."""

from __future__ import annotations

from dataclasses import dataclass

from globuswrap.sandbox.faults import Faults
from globuswrap.sandbox.state import Clock, Shelf, State
from globuswrap.sandbox.tasks import Engine


@dataclass
class World:
    url: str
    state: State
    clock: Clock
    shelf: Shelf
    faults: Faults
    engine: Engine
