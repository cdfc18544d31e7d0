"""Everything one sandbox is made of, handed to each handler."""

from __future__ import annotations

from dataclasses import dataclass

from globus_sandbox.documents import Clock, CollectionRegistry, Documents
from globus_sandbox.faults import Faults
from globus_sandbox.tasks import Engine


@dataclass
class ServerState:
    url: str
    documents: Documents
    clock: Clock
    collections: CollectionRegistry
    faults: Faults
    engine: Engine
    #: The identity whom the collections belong to.
    owner: str
