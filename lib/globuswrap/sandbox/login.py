"""Globus Auth: the login itself (`globus login`, `session update`, `session consent`)."""

from __future__ import annotations

from typing import Any

from globuswrap.sandbox.web import Call, Refusal, Routes

routes = Routes("auth")


def exchange(world: Any, call: Call, body: dict[str, Any]) -> dict[str, Any]:
    """Tokens for an authorization code."""
    raise Refusal(400, "INVALID_GRANT", "No such code", {"error": "invalid_grant"})
