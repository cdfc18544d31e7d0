"""Check the secret in a credentials file with a new token, before anything is switched to it."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator

from globuswrap.doctor.finding import Finding, Say, of_problem, ok, warning
from globuswrap.errors import Problem
from globuswrap.globus import accounts, command


def look(path: str, say: Say) -> Iterator[Finding]:
    """The findings. The CLI keeps tokens of a service account for days, whatever becomes of the secret they were got with: so it
    is given an empty home directory, and has to get a new one."""
    try:
        given = accounts.read(path)
        say("a new token")
        with tempfile.TemporaryDirectory(prefix="globuswrap-") as home:
            # Of the environment, which counts before the file, nothing is to come in.
            env = {**given, "HOME": home, "GLOBUS_PROFILE": None}
            me = command.call("api", "auth", "GET", "/v2/oauth2/userinfo", env=env)
    except Problem as problem:
        yield of_problem(problem, "whatever is switched to this file stops working", path)
        return
    who = (me or {}).get("preferred_username") or given[accounts.ID]
    yield ok("secret", f"{path}: Globus gives a new token to {who} for this secret")
    now = accounts.client_id()
    if now and now != given[accounts.ID]:
        what = f"{path} is of another service account than {accounts.origin()}"
        why = "permissions, roles and unfinished submissions belong to the other one"
        yield warning("another-account", what, why, "write the secret of the same client into the file")
