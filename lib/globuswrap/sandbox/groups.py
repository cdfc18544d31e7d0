"""Globus Groups, as far as the `globus` command asks."""

from __future__ import annotations

from globuswrap.sandbox.web import Routes

routes = Routes("groups")
