"""Globus Transfer: permissions, roles and bookmarks."""

from __future__ import annotations

from globuswrap.sandbox.web import Routes

routes = Routes("transfer")
