"""Check the `globus` command, the account it uses, the age of the login session, and the secret of a service account."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from globuswrap.doctor.finding import Finding, Say, failure, of_problem, ok, warning
from globuswrap.errors import LOGIN, Problem
from globuswrap.globus import accounts, command, verbs
from globuswrap.system import units

#: An authentication that lies further ahead than this was not done under this clock.
_AHEAD = 60.0
RENEW = "globus session update --all"


@dataclass(frozen=True)
class Session:
    """Who is logged in, and when they last proved it (seconds since the epoch; None: not known, or a service account)."""

    who: str
    authenticated: float | None


def look(say: Say) -> tuple[list[Finding], Session | None]:
    """The findings, and the session; None if nothing can be asked of Globus."""
    found: list[Finding] = []
    try:
        say("the globus command")
        cli = command.find()
        found.append(ok("globus", f"globus {'.'.join(map(str, cli.version))} at {cli.path}"))
        say("who is logged in")
        session = _session(verbs.userinfo(retry_for=0.0), say)
    except Problem as problem:
        return [*found, of_problem(problem)], None
    found.append(ok("login", f"logged in as {session.who}{_age(session)}"))
    found += _clock(session)
    if accounts.is_service_account():
        found.append(ok("service-account", f"commands act as the service account of {accounts.origin()}"))
    return found, session


def _session(me: Mapping[str, object], say: Say) -> Session:
    who = str(me.get("preferred_username") or me.get("username") or accounts.client_id() or "?")
    if accounts.is_service_account():
        return Session(who, None)
    say("the login session")
    times = [entry.get("auth_time") for entry in verbs.session().values() if isinstance(entry, dict)]
    moments = [float(each) for each in times if isinstance(each, (int, float))]
    return Session(who, max(moments, default=None))


def _age(session: Session) -> str:
    if session.authenticated is None:
        return ""
    return f", {units.human_duration(max(0.0, time.time() - session.authenticated))} ago"


def _clock(session: Session) -> Iterator[Finding]:
    """The one time that the CLI tells is that of the last authentication: it cannot lie ahead. Whether this host is ahead of
    Globus cannot be told by plain means."""
    ahead = (session.authenticated or 0.0) - time.time()
    if ahead > _AHEAD:
        what = f"this host's clock is at least {units.human_duration(ahead)} behind Globus (the last login is in the future)"
        why = "deadlines, session ages and ages of files are wrong, and tokens are used after they have expired"
        yield warning("clock-behind", what, why, "synchronize the clock of this host (check: chronyc tracking)")


def limit_of(collection: Mapping[str, Any]) -> float | None:
    """How old a login may be for a collection, in seconds, by its document; None: as old as it is."""
    minutes = collection.get("authentication_timeout_mins")
    return minutes * 60.0 if isinstance(minutes, (int, float)) and minutes > 0 else None


def lasts(session: Session, collection: str, limit: float, until: float | None) -> Finding:
    """Whether a session is young enough for a collection that requires a login at most `limit` seconds old, until a time in
    seconds since the epoch (None: now)."""
    allowed = units.human_duration(limit)
    if session.authenticated is None:
        return ok("session", f"{collection} requires a login at most {allowed} old; a service account has none")
    end = session.authenticated + limit
    wanted = time.time() if until is None else until
    if end >= wanted:
        return ok("session", f"{collection}: the login session lasts until {moment(end)}")
    why = f"{collection} requires a login at most {allowed} old: transfers after {moment(end)} are refused"
    if until is not None and time.time() + limit < until:
        why += f"; even a fresh one does not last until {moment(until)}: renew it again shortly before"
    what = f"the login session ends for {collection} at {moment(end)}, before {moment(wanted)}"
    return failure("session-ends-first", what, why, RENEW, LOGIN)


def moment(seconds: float) -> str:
    """A time as people here write it."""
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(seconds))


def secret(path: str, say: Say) -> Iterator[Finding]:
    """Whether Globus gives a new token for the secret in a credentials file, before anything is switched to it. The CLI keeps
    tokens of a service account for days, whatever becomes of the secret they were got with: so it is given an empty home
    directory, and has to get a new one."""
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
