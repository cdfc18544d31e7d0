"""Turn the output of a failed `globus` into an exception, classified by the error body and the HTTP status.

Shapes observed with `--format json`, 3.18 to 3.44: the raw API body on stderr (3.25+), `GlobusConnectionError` and
`GlobusTimeoutError` documents, plain text for a missing login and for usage errors.
"""

from __future__ import annotations

import json
import re
import shlex
from typing import Any

from globuswrap.errors import LoginNeeded, NoGlobus, Problem, Refused, TryLater, UsageProblem
from globuswrap.globus import accounts
from globuswrap.system import log
from globuswrap.system.process import Completed

#: `globus` maps an HTTP status to an exit value of 1 or 50-99: so the status survives where the body has none.
STATUS_BY_EXIT = {60: 400, 61: 401, 63: 403, 64: 404, 69: 409, 72: 422, 79: 429, 80: 500, 82: 502, 83: 503, 84: 504}
MAP_HTTP_STATUS = ",".join(f"{status}={code}" for code, status in STATUS_BY_EXIT.items())

#: Codes that go away by themselves, whatever status carries them.
_TRANSIENT = ("ServiceUnavailable", "ServiceError", "InternalError", "RateLimitExceeded", "TooManyRequests")
_TRANSIENT_STATUS = (429, 500, 503, 504)
_UNAUTHENTICATED = ("ClientError.AuthenticationFailed", "AuthenticationFailed", "UNAUTHORIZED")

_REMEDIES = {
    "EndpointNotFound": "look the collection up: globus endpoint search 'PART OF ITS NAME'",
    "EndpointPermissionDenied": "ask the collection's manager for access, or check the account: globus whoami",
    "PermissionDenied": "ask the collection's manager for access, or check the account: globus whoami",
    "ClientError.NotFound": "check the path: globus ls 'COLLECTION:/'",
    "NotFound": "check the id or path: globus task list, or globus ls 'COLLECTION:/'",
    "ExternalError.DirListingFailed.GCDisconnected": "start Globus Connect Personal on that machine",
    "ExternalError.DirListingFailed.NotFound": "check the path: globus ls 'COLLECTION:/'",
    "ExternalError.DirListingFailed.PermissionDenied": "check the path's permissions with the collection's manager",
}


class Transient(TryLater):
    """Mends itself: network, time-out, 429, 5xx. Sent again until `--retry-for` is over."""


class Conflict(TryLater):
    """409: an unfinished task has identical paths; the answer does not name it (Transfer API, ClientError.Conflict)."""


class NotFound(Refused):
    """404: what was asked for is not there."""


def body_of(text: str) -> dict[str, Any]:
    """The first JSON object in a text that may carry warnings before it; {} if there is none."""
    decoder = json.JSONDecoder()
    for match in re.finditer(r"(?m)^\s*\{", text):
        try:
            found, _ = decoder.raw_decode(text, match.end() - 1)
        except ValueError:
            continue
        if isinstance(found, dict):
            return found
    return {}


def problem_of(done: Completed) -> Problem:
    """The exception for a `globus` that failed, with the service's error code."""
    body = body_of(done.stderr)
    error = body.get("error")
    inner: dict[str, Any] = error if isinstance(error, dict) else {}
    code = str(body.get("code") or inner.get("code") or "")
    status = STATUS_BY_EXIT.get(done.code) or _status_in(body)
    message = str(body.get("message") or inner.get("message") or inner.get("detail") or "").strip()
    told = " ".join(f"{code}: {message}".strip(": ").split())
    problem = _login_problem(body, code, status, done) or _classified(body, code, status, told, done)
    problem.code = code
    problem.ran = done.argv
    problem.detail = log.masked(done.stderr.strip())
    return problem


def _classified(body: dict[str, Any], code: str, status: int | None, told: str, done: Completed) -> Problem:
    if body.get("error_type") in ("GlobusConnectionError", "GlobusTimeoutError", "GlobusConnectionTimeoutError"):
        remedy = "check the network; run the same command again"
        return Transient("globus-unreachable", f"Globus cannot be reached: {told}", remedy)
    if status in _TRANSIENT_STATUS or code.startswith(_TRANSIENT) or "GlobusAPINullDataError" in done.stderr:
        cause = f"Globus did not answer properly: {told or f'HTTP {status or 500}'}"
        return Transient("globus-busy", cause, "run the same command again later")
    if status == 409 or code in ("Conflict", "ClientError.Conflict"):
        return Conflict("conflict", told, "wait for the other task, then rerun")
    if status == 404 or code in ("EndpointNotFound", "NotFound", "ClientError.NotFound", "TaskNotFound"):
        return NotFound("not-found", told or "not found", _REMEDIES.get(code, _REMEDIES["NotFound"]))
    if done.code == 2 and not body:
        cause = f"globus refused its arguments: {_last_line(done.stderr)}"
        return UsageProblem("globus-usage", cause, "see: globus --help")
    if done.code in (126, 127):
        return no_globus(done.argv[0], _last_line(done.stderr))
    if done.code < 0:
        return Transient("globus-killed", f"globus was ended by signal {-done.code}", "run the same command again")
    remedy = _REMEDIES.get(code, "read the message above; fix the problem and rerun the command")
    return Refused("globus-refused", told or _last_line(done.stderr) or f"globus exit {done.code}", remedy)


def no_globus(name: str, why: str = "") -> NoGlobus:
    return NoGlobus(
        "no-globus",
        f"no globus command: {name}{': ' + why if why else ''}",
        "install it: pipx install globus-cli (or set GLOBUSWRAP_GLOBUS to its path)",
    )


def _login_problem(body: dict[str, Any], code: str, status: int | None, done: Completed) -> LoginNeeded | None:
    """What a login, a consent or a session would mend. A service account has none of them: `globus` refuses to get it one."""
    needs = body.get("authorization_parameters")
    parameters: dict[str, Any] = needs if isinstance(needs, dict) else {}
    scopes = body.get("required_scopes") or parameters.get("required_scopes") or []
    service = accounts.is_service_account()
    if any(value for name, value in parameters.items() if name.startswith("session_") and name != "session_message"):
        remedy = _session_command(parameters)
        if service:
            remedy = "a service account has no session to update: ask the collection's manager to admit it"
        why = parameters.get("session_message") or body.get("message") or "the resource requires it"
        return LoginNeeded("session-needed", f"the login session is not sufficient: {why}", remedy)
    if code == "ConsentRequired" or scopes:
        remedy = "globus session consent " + " ".join(shlex.quote(str(scope)) for scope in scopes)
        if service:
            remedy = "the service account cannot consent: give it the data_access role, or run: globus logout --yes"
        return LoginNeeded("consent-needed", f"consent is missing: {body.get('message', code)}", remedy)
    unauthenticated = status == 401 or code in _UNAUTHENTICATED
    if "MissingLoginError" in done.stderr or unauthenticated or "invalid_grant" in done.stderr:
        told = re.search(r"(?m)^\s+(globus login.*)$", done.stderr)
        remedy = told[1].strip() if told else ("globus login --force" if unauthenticated else "globus login")
        if service:
            remedy = f"check {accounts.origin()}"
        cause = "Globus no longer accepts the login" if unauthenticated else "not logged in to Globus"
        return LoginNeeded("login-needed", cause, remedy)
    if accounts.ID in done.stderr and not body:
        remedy = f"set both {accounts.ID} and {accounts.SECRET}, or neither"
        return LoginNeeded("login-needed", _last_line(done.stderr), remedy)
    if done.code == 4:
        return LoginNeeded("login-needed", _last_line(done.stderr + done.stdout), "globus login")
    return None


def _session_command(parameters: dict[str, Any]) -> str:
    """The command that the CLI itself would print (globus-cli 3.43, exception_handling/messages.py)."""
    people = parameters.get("session_required_identities") or parameters.get("session_required_single_domain")
    if people:
        return "globus session update " + " ".join(shlex.quote(str(person)) for person in people)
    policies = parameters.get("session_required_policies")
    if policies:
        listed = policies if isinstance(policies, str) else ",".join(map(str, policies))
        return f"globus session update --policy {shlex.quote(listed)}"
    return "globus session update"


def _status_in(body: dict[str, Any]) -> int | None:
    found = body.get("HTTP status") or body.get("status") or body.get("http_status")
    return int(str(found)) if str(found).isdigit() else None


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return log.masked(lines[-1]) if lines else ""
