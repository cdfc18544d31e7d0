"""What a server is started with: launch.Sandbox hands it over as JSON."""

from __future__ import annotations

from dataclasses import dataclass

#: Those of the settings that are limits, as users write them.
LIMITS = ("requests-per-second", "permissions", "pending-tasks")


@dataclass(frozen=True)
class Settings:
    #: The directory that everything is kept in.
    base: str
    #: Name, kind and directory of each.
    collections: list[list[str]]
    #: The identity whom the collections belong to.
    owner: str
    bind: str = "127.0.0.1"
    #: Used if it is free; 0: any.
    port: int = 0
    #: End when this process has ended; 0: never.
    parent: int = 0
    #: Remove `base` at the end of the parent.
    remove: bool = False
    progress: str = "at-once"
    #: Keep the state on disk.
    durable: bool = False
    #: Mapped collections want a data_access consent.
    data_access: bool = False
    #: Requests each user may make in a second before the answer is 429 (None: as many as they like).
    requests_per_second: int | None = None
    #: Permissions a guest collection may have (documented: permissions, 1,000).
    permissions: int = 1000
    #: Unfinished tasks a user may have (second-hand: 100).
    pending_tasks: int = 100
