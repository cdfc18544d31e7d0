"""Parse TOML, with the standard library where it has it (Python 3.11)."""

from __future__ import annotations

import sys
from typing import Any


def parsed(text: bytes) -> dict[str, Any]:
    """The tables of a document. ValueError if it is not TOML, or not UTF-8."""
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib
    document: dict[str, Any] = tomllib.loads(text.decode("utf-8"))
    return document
