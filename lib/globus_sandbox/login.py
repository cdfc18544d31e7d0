"""Globus Auth: the login itself (`globus login`, `session update`, `session consent`).

The authorization page says yes at once; the `globus` command opens it through BROWSER (see browser.py), or a person pastes
the code that it shows. A login lifts the faults that ask for the consents or the session it brings.
"""

from __future__ import annotations

import base64
import hashlib
import json
import urllib.parse
import uuid
from typing import Any

from globus_sandbox import auth, consents
from globus_sandbox.documents import id_of
from globus_sandbox.web import Call, Refusal, Reply, Routes, Unknown, words

routes = Routes()

_SESSION = words(
    "session_required_identities session_required_single_domain session_required_policies session_required_mfa"
)

# The key that signs id_tokens. It is public, and worth nothing outside a sandbox.
_P = int(
    "fa5bbf789bafbeb610f45a9aa527722cbb97788488badf87546c3090a28bd091551002013d270323d88dad078667756acb5c8ebfeb120ce0a4e58af5"
    "6ef11b3b4d456d03fe4b5c2f4c1220047d38f142f8af11e6514af4213cb6a35fd063798691145229a0e332b24e2016c35ef9da000508a54dc643cbad"
    "af0f58515c9b67cf",
    16,
)
_Q = int(
    "db36b9007b8d3d344838865031b2eed57f57791749d775ab27628ef168fdb0b04ca291718e4716ad4fea4322ba2873c36260d535a3b6fe4925334210"
    "9940ad552c6091134d8dd8454159c1eaf8bd5200539bc2d7dc968c2c453ea8142fdc87c7da5239b20fc2d5d4ceb3e00fe989e776bf4599aec5818397"
    "26631f4d04fd684f",
    16,
)
_E = 65537
_SHA256_INFO = bytes.fromhex("3031300d060960864801650304020105000420")


@routes("GET", "/v2/api/identities/{identity}/consents", query=("all",), inert=("all",))
def consent_list(state: Any, call: Call) -> dict[str, Any]:
    """The consents of an identity: each has a number, and the numbers of those it depends on."""
    me = call.params["identity"].lower()
    if me != call.identity:
        raise Refusal(403, "FORBIDDEN", "Only your own consents can be listed")
    numbers: dict[tuple[str, ...], int] = {}
    for path in consents.given(state, me):
        for depth in range(1, len(path) + 1):
            numbers.setdefault(path[:depth], 1000 + len(numbers))
    rows = [
        {
            **dict.fromkeys(("created", "updated", "last_used"), "2026-01-01T00:00:00+00:00"),
            "id": number,
            "status": "approved",
            "allows_refresh": True,
            "dependency_path": [numbers[path[:depth]] for depth in range(1, len(path) + 1)],
            "scope_name": path[-1],
            "atomically_revocable": len(path) > 1,
            "effective_identity": me,
            "auto_approved": False,
            "scope": id_of("scope " + path[-1]),
            "client": auth.INSTANCE,
        }
        for path, number in numbers.items()
    ]
    return {"consents": rows}


@routes("POST", "/v2/api/clients", body=("client",), login=False)
def register_client(state: Any, call: Call) -> Reply:
    """The instance client that `globus login` asks for first; here it is always the same."""
    client = call.body.get("client")
    if not isinstance(client, dict) or not client.keys() <= {"template_id", "name"}:
        raise Unknown("a client other than the instance of a template")
    credential = {"client": auth.INSTANCE, "secret": auth.INSTANCE_SECRET, "name": "Globus CLI"}
    document = {"id": auth.INSTANCE, "name": "Globus CLI"}
    return Reply({"client": document, "included": {"client_credential": credential}}, 201)


@routes("DELETE", "/v2/api/clients/{client}", login=False)
def delete_client(state: Any, call: Call) -> dict[str, Any]:
    auth.client_of(call)
    return {"client": {"id": call.params["client"]}}


@routes(
    "GET",
    "/v2/oauth2/authorize",
    query=(
        *words("client_id redirect_uri scope state response_type access_type prompt code_challenge"),
        *words("code_challenge_method prefill_named_grant session_message"),
        *_SESSION,
    ),
    inert=words("client_id response_type prompt code_challenge_method prefill_named_grant session_message"),
    login=False,
)
def authorize(state: Any, call: Call) -> Reply:
    code = uuid.uuid4().hex
    target = call.query.get("redirect_uri", "")
    given = {
        "scope": call.query.get("scope", ""),
        "session": {name: call.query[name] for name in _SESSION if name in call.query},
        "access_type": call.query.get("access_type", "online"),
        "state": call.query.get("state", "_default"),
        "redirect_uri": target,
        "challenge": call.query.get("code_challenge", ""),
    }
    state.documents.put("code", code, given)
    host = urllib.parse.urlsplit(target).hostname
    if host in ("localhost", "127.0.0.1") and "/v2/web/auth-code" not in target:
        back = urllib.parse.urlencode({"code": code, "state": call.query.get("state", "")})
        return Reply("", 302, {"Location": f"{target}{'&' if '?' in target else '?'}{back}"})
    return Reply(f"<html><body>Sandbox: you said yes. The code is <code>{code}</code></body></html>\n")


@routes("GET", "/.well-known/openid-configuration", login=False)
def openid_configuration(state: Any, call: Call) -> dict[str, Any]:
    base = f"{state.url}/auth"
    return {
        "issuer": "https://auth.globus.org",
        "authorization_endpoint": f"{base}/v2/oauth2/authorize",
        "token_endpoint": f"{base}/v2/oauth2/token",
        "userinfo_endpoint": f"{base}/v2/oauth2/userinfo",
        "revocation_endpoint": f"{base}/v2/oauth2/token/revoke",
        "jwks_uri": f"{base}/jwk.json",
        "response_types_supported": ["code"],
        "id_token_signing_alg_values_supported": ["RS256"],
        "scopes_supported": ["openid", "email", "profile"],
        "subject_types_supported": ["public"],
    }


@routes("GET", "/jwk.json", login=False)
def keys(state: Any, call: Call) -> dict[str, Any]:
    key = {"kty": "RSA", "alg": "RS256", "use": "sig", "e": _number(_E), "n": _number(_P * _Q), "kid": "sandbox"}
    return {"keys": [key]}


@routes(
    "POST",
    "/v2/oauth2/token",
    body=words("grant_type scope refresh_token code redirect_uri code_verifier client_id client_secret"),
    inert=("client_id", "client_secret", "scope"),  # a client names itself in its header; a refresh keeps its scopes
    login=False,
)
def grant(state: Any, call: Call) -> Any:
    body = call.body
    kind = body.get("grant_type")
    client = auth.client_of(call)
    if kind == "client_credentials":
        scopes = auth.split_scopes(body.get("scope", ""))
        fulfill(state, client, scopes, {}, login=False)
        return auth.token_reply(client, scopes, refresh=False, id_token=id_token(state, client, client))
    if kind == "refresh_token":
        parts = auth.token_parts(body.get("refresh_token", ""))
        if parts is None or parts[0] != "refresh" or not auth.is_active(state, body["refresh_token"]):
            raise auth.invalid_grant()
        consented = [path[0] for path in consents.given(state, parts[2]) if auth.server_of(path[0]) == parts[1]]
        scopes = list(dict.fromkeys(consented)) or [auth.scope_of(parts[1])]
        return {**auth.token_reply(parts[2], scopes, refresh=False), "refresh_token": body["refresh_token"]}
    if kind == "authorization_code":
        return exchange(state, call, body)
    raise Refusal(400, "UNSUPPORTED_GRANT_TYPE", f"grant_type {kind!r}", {"error": "unsupported_grant_type"})


def exchange(state: Any, call: Call, body: dict[str, Any]) -> dict[str, Any]:
    """Tokens for an authorization code. Raises Refusal."""
    client = auth.client_of(call)
    code = state.documents.remove("code", str(body.get("code", "")))
    if code is None or body.get("redirect_uri") != code["redirect_uri"]:
        raise auth.invalid_grant()
    verified = _text(hashlib.sha256(str(body.get("code_verifier", "")).encode()).digest())
    if code["challenge"] and verified != code["challenge"]:
        raise auth.invalid_grant()
    scopes = auth.split_scopes(code["scope"])
    offline = code["access_type"] == "offline"
    reply = auth.token_reply(auth.USER, scopes, refresh=offline, id_token=id_token(state, auth.USER, client))
    reply["state"] = code["state"]
    fulfill(state, auth.USER, scopes, code["session"])
    return reply


def id_token(state: Any, identity: str, client: str) -> str:
    me, now = auth.known(state)[identity], int(state.clock.now())
    claims = {"iss": "https://auth.globus.org", "sub": identity, "aud": client, "iat": now, "exp": now + auth.LIFETIME}
    return _signed({**claims, "preferred_username": me["username"], "email": me["email"]})


def fulfill(state: Any, identity: str, scopes: list[str], session: dict[str, str], *, login: bool = True) -> None:
    """Lift the faults that ask for what this login brings, and remember its consents."""
    consents.give(state, identity, scopes)
    for fault in state.faults.all():
        if fault.kind == "consent":
            wanted = {scope.replace("*", "") for scope in fault.with_.get("scopes") or ()}
            if wanted and wanted <= {scope.replace("*", "") for scope in scopes}:
                state.faults.clear(fault.id)
        elif (fault.kind in ("session", "login-failed") and session) or (
            fault.kind in ("logged-out", "expired-token") and login
        ):
            state.faults.clear(fault.id)


def _signed(claims: dict[str, Any]) -> str:
    """A JSON Web Token, RS256 (RFC 7518 3.3, RFC 8017 8.2)."""
    head = _text(json.dumps({"alg": "RS256", "typ": "JWT", "kid": "sandbox"}).encode())
    message = f"{head}.{_text(json.dumps(claims).encode())}"
    size = (_P * _Q).bit_length() // 8
    info = _SHA256_INFO + hashlib.sha256(message.encode()).digest()
    padded = b"\x00\x01" + b"\xff" * (size - len(info) - 3) + b"\x00" + info
    secret = pow(_E, -1, (_P - 1) * (_Q - 1))
    signature = pow(int.from_bytes(padded, "big"), secret, _P * _Q).to_bytes(size, "big")
    return f"{message}.{_text(signature)}"


def _text(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _number(number: int) -> str:
    return _text(number.to_bytes((number.bit_length() + 7) // 8, "big"))
