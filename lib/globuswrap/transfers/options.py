"""Declare each option of `globus transfer` once.

From a field follow its option on the command line (cli/options.py), in `#GLOBUS` lines and in sync profiles, the argument of the
`globus` command, the field of the document that is sent, and its part in the key of a request. To add an option, add a field.

This module imports nothing of globuswrap, since `--help` is made from it.
"""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

#: A version of the CLI that has every option under its present name.
NEWEST = (99,)

SYNC_LEVELS = ("exists", "size", "mtime", "checksum")


@dataclass(frozen=True)
class Declared:
    """How one option is spelled and sent.

    `name` is the name of its field, also in the document. `also` are further spellings on a command line. `assumed` is what
    Globus does when it is not said; None: the field is left out of the document then. `since` is the CLI that has the option
    under its name; older ones call it `older`.
    """

    name: str
    help: str
    switch: bool
    choices: tuple[str, ...] = ()
    also: tuple[str, ...] = ()
    assumed: bool | None = None
    since: tuple[int, ...] = ()
    older: str = ""

    @property
    def key(self) -> str:
        """Its name in profiles and `#GLOBUS` lines, and after `--`."""
        return self.name.replace("_", "-")

    @property
    def flags(self) -> tuple[str, ...]:
        """Its spellings on our command line: a switch can be said both ways."""
        return (f"--{self.key}/--no-{self.key}" if self.switch else f"--{self.key}", *self.also)

    def arguments(self, value: Any, version: tuple[int, ...]) -> tuple[str, ...]:
        """What `globus transfer` of that version takes for the value; nothing for what Globus does anyway."""
        if value is None or (value is False and not self.assumed):
            return ()
        name = self.key if version >= self.since else self.older
        if not self.switch:
            return (f"--{name}", str(value))
        return (f"--{name}" if value else f"--no-{name}",)

    def sent(self, value: Any) -> Any:
        """The value of its field in a document; None: left out."""
        return self.assumed if value is None else value


def _option(help: str, **rest: Any) -> Any:
    return field(default=None, metadata={"help": help, **rest})


@dataclass(frozen=True)
class Common:
    """What every transfer may say, and a sync profile too. None: not said, the service's default holds."""

    sync_level: str | None = _option(
        "Transfer only files that differ: exists, size, mtime, or checksum.", choices=SYNC_LEVELS, also=("-s",)
    )
    preserve_timestamp: bool | None = _option("Keep modification times.", assumed=False, also=("--preserve-mtime",))
    verify_checksum: bool | None = _option("Compare checksums after the transfer (default: yes).", assumed=True)
    encrypt_data: bool | None = _option("Encrypt the data on the network.", assumed=False, also=("--encrypt",))
    skip_source_errors: bool | None = _option("Skip missing and unreadable files; see --strict.", assumed=False)
    fail_on_quota_errors: bool | None = _option("Fail at once when a quota is exceeded.", assumed=False, also=("-F",))
    source_local_user: str | None = _option("Map your identity to this local account at the source.")
    destination_local_user: str | None = _option("Map your identity to this local account at the destination.")


@dataclass(frozen=True)
class Options(Common):
    """What one request of `globus transfer` or `globus delete` takes. `filters` are (include or exclude, pattern), in order."""

    delete_destination_extra: bool | None = _option(
        "Delete files at the destination that the source does not have.", assumed=False, since=(3, 32), older="delete"
    )
    filters: tuple[tuple[str, str], ...] = ()
    ignore_missing: bool | None = None
    enable_globs: bool | None = None

    def said(self) -> dict[str, Any]:
        """What was said, by name: what counts in the key of a request."""
        values = {each.name: getattr(self, each.name) for each in dataclasses.fields(Options)}
        return {name: value for name, value in values.items() if value not in (None, ())}

    def arguments(self, version: tuple[int, ...] = NEWEST) -> tuple[str, ...]:
        """The arguments of `globus transfer`. `--delete` warns on stderr where there is a newer name, so that is preferred."""
        chosen = (word for each in declared() for word in each.arguments(getattr(self, each.name), version))
        return (*chosen, *(word for method, pattern in self.filters for word in (f"--{method}", pattern)))

    def document(self) -> dict[str, Any]:
        """The fields of a transfer document, as the CLI would send them (observed body of 3.44)."""
        fields = {each.name: each.sent(getattr(self, each.name)) for each in declared()}
        if self.sync_level is not None:
            fields["sync_level"] = SYNC_LEVELS.index(self.sync_level)
        rules = [
            {"DATA_TYPE": "filter_rule", "method": how, "name": name, "type": "file"} for how, name in self.filters
        ]
        found = {**fields, "filter_rules": rules or None}
        return {name: value for name, value in found.items() if value is not None}


def declared(of: type = Options) -> Iterator[Declared]:
    """The declared options among the fields of a dataclass, in order."""
    types = typing.get_type_hints(of)
    for each in dataclasses.fields(of):
        if "help" in each.metadata:
            yield Declared(each.name, switch=types[each.name] == bool | None, **each.metadata)
