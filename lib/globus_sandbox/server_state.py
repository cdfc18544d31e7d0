"""Everything one sandbox is made of, handed to each handler."""

from __future__ import annotations

from dataclasses import dataclass

from globus_sandbox.documents import Clock, CollectionRegistry, Documents
from globus_sandbox.faults import Faults
from globus_sandbox.tasks import Engine


@dataclass(frozen=True)
class Modes:
    """What a sandbox asks for that another may not."""

    #: Mapped collections want a data_access consent.
    data_access: bool = False
    #: Requests each user may make in a second before the answer is 429 (None: as many as they like).
    requests_per_second: int | None = None
    #: Permissions a guest collection may have (documented: permissions, 1,000).
    permissions: int = 1000
    #: Unfinished tasks a user may have (second-hand: 100).
    pending_tasks: int = 100


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
    modes: Modes
