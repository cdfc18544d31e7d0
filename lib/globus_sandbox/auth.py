"""Globus Auth, as far as the `globus` command asks.

Tokens say themselves what they are (`sandbox:access:<resource server>:<identity>:<number>`), so that they survive a
restart; a token that is not of a sandbox is refused and never written down. Recorded in globus_sdk.testing: tokens,
introspection, userinfo errors, identities, consents.
"""

from __future__ import annotations

import base64
import re
import uuid
from typing import Any

from globus_sandbox.documents import id_of
from globus_sandbox.web import Call, Refusal, Routes

routes = Routes()

USERNAME = "rehearsal@sandbox.example.org"
USER = id_of("identity " + USERNAME)
#: The client of `login="client"`; the secret is long and base64, as the CLI expects of one.
CLIENT = id_of("client")
CLIENT_SECRET = base64.b64encode(b"globuswrap sandbox: not a secret").decode()
#: The instance client that `globus login` would have registered.
INSTANCE = id_of("instance client")
INSTANCE_SECRET = base64.b64encode(b"globuswrap sandbox: the instance").decode()
PROVIDER = id_of("identity provider")
LIFETIME = 172800

#: Resource servers with the scopes that `globus login` asks for, by the names the CLI uses.
SCOPES = {
    "auth.globus.org": "openid profile email urn:globus:auth:scope:auth.globus.org:view_identity_set",
    "transfer.api.globus.org": "urn:globus:auth:scope:transfer.api.globus.org:all",
    "groups.api.globus.org": "urn:globus:auth:scope:groups.api.globus.org:all",
    "search.api.globus.org": "urn:globus:auth:scope:search.api.globus.org:all",
    "524230d7-ea86-4a52-8312-86065a9e0417": "https://auth.globus.org/scopes/524230d7-ea86-4a52-8312-86065a9e0417/timer",
    "flows.globus.org": " ".join(
        f"https://auth.globus.org/scopes/eec9b274-0c81-4334-bdc2-54e90e689b9a/{name}"
        for name in ("all", "manage_flows", "view_flows", "run", "run_status", "run_manage")
    ),
}
FLOWS_CLIENT = "eec9b274-0c81-4334-bdc2-54e90e689b9a"


#: How flows and indices name those who have a role: an identity, or a group.
PRINCIPAL = re.compile(r"urn:globus:(auth:identity|groups:id):[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)


def urn(identity: str) -> str:
    return f"urn:globus:auth:identity:{identity}"


def invalid_grant() -> Refusal:
    """A code or a refresh token that is not in force (recorded: 401, and this field alone)."""
    return Refusal(401, "INVALID_GRANT", "invalid_grant", {"body": {"error": "invalid_grant"}})


def token(kind: str, server: str, identity: str) -> str:
    return f"sandbox:{kind}:{server}:{identity}:{uuid.uuid4().hex[:12]}"


def token_parts(text: str) -> tuple[str, str, str] | None:
    """kind, resource server and identity of a token of a sandbox; None for any other."""
    parts = text.split(":")
    if len(parts) != 5 or parts[0] != "sandbox":
        return None
    return parts[1], parts[2], parts[3]


def server_of(scope: str) -> str:
    """The resource server of one scope. Raises Refusal for a scope nobody serves."""
    scope = scope.partition("[")[0].lstrip("*")
    if scope in ("openid", "profile", "email", "offline_access"):
        return "auth.globus.org"
    if scope.startswith("urn:globus:auth:scope:"):
        return scope.split(":")[4]
    if scope.startswith("https://auth.globus.org/scopes/"):
        owner = scope.split("/")[4]
        return "flows.globus.org" if owner == FLOWS_CLIENT else owner
    raise Refusal(400, "UNKNOWN_SCOPE_ERROR", f"Unknown scope: {scope}", {"error": "unknown_scope_error"})


def split_scopes(text: str) -> list[str]:
    """Scopes of one string: separated by spaces outside brackets."""
    found, depth, current = [], 0, ""
    for letter in text:
        depth += (letter == "[") - (letter == "]")
        if letter == " " and depth == 0:
            found.append(current)
            current = ""
        else:
            current += letter
    return [scope for scope in (*found, current) if scope]


def token_reply(identity: str, scopes: list[str], *, refresh: bool, id_token: str = "") -> dict[str, Any]:
    """A token response for these scopes: one token per resource server, the first at the top (recorded)."""
    by_server: dict[str, list[str]] = {}
    for scope in scopes:
        by_server.setdefault(server_of(scope), []).append(scope.partition("[")[0])
    tokens = [
        {
            "access_token": token("access", server, identity),
            "scope": " ".join(names),
            "expires_in": LIFETIME,
            "token_type": "Bearer",
            "resource_server": server,
            **({"refresh_token": token("refresh", server, identity)} if refresh else {}),
        }
        for server, names in by_server.items()
    ]
    reply = {**tokens[0], "other_tokens": tokens[1:]}
    if "openid" in scopes and id_token:
        reply["id_token"] = id_token
    return reply


def identity_document(key: str, username: str, status: str = "used") -> dict[str, Any]:
    return {
        "email": username if status == "used" else None,
        "id": key,
        "identity_provider": PROVIDER,
        "identity_type": "login",
        "name": "Rehearsal User" if key == USER else None,
        "organization": "Sandbox" if key == USER else None,
        "status": status,
        "username": username,
    }


def basic(call: Call) -> tuple[str, str] | None:
    scheme, _, value = call.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        client, _, secret = base64.b64decode(value).decode().partition(":")
    except ValueError:
        return None
    return client, secret


def client_of(call: Call) -> str:
    """The client that asks, by its credentials. Raises Refusal."""
    given = basic(call)
    if given in ((CLIENT, CLIENT_SECRET), (INSTANCE, INSTANCE_SECRET)):
        assert given is not None
        return given[0]
    more = {"title": "Unauthorized", "error": "invalid_client"}
    raise Refusal(401, "UNAUTHORIZED", "Call must be authenticated", more)


@routes("GET", "/v2/oauth2/userinfo")
def userinfo(state: Any, call: Call) -> dict[str, Any]:
    me = known(state)[call.identity]
    one = {
        "sub": me["id"],
        "name": me["name"],
        "organization": me["organization"],
        "preferred_username": me["username"],
        "identity_provider": me["identity_provider"],
        "identity_provider_display_name": "Sandbox",
        "email": me["email"],
        "last_authentication": int(state.clock.now()) - 60,
    }
    linked = {**{name: one[name] for name in one if name != "preferred_username"}, "username": me["username"]}
    return {**one, "identity_set": [{**linked, "status": "used"}]}


@routes("POST", "/v2/oauth2/token/validate", body=("token", "client_id"), inert=("client_id",), login=False)
def validate(state: Any, call: Call) -> dict[str, Any]:
    client_of(call)
    return {"active": is_active(state, str(call.body.get("token", "")))}


@routes(
    "POST",
    "/v2/oauth2/token/introspect",
    body=("token", "include", "token_type_hint"),
    inert=("token_type_hint",),
    login=False,
)
def introspect(state: Any, call: Call) -> dict[str, Any]:
    client = client_of(call)
    body = call.body
    text = str(body.get("token", ""))
    parts = token_parts(text)
    if parts is None or not is_active(state, text):
        return {"active": False}
    me = known(state)[parts[2]]
    now = int(state.clock.now())
    reply = {
        "active": True,
        "token_type": "Bearer",
        "scope": SCOPES.get(parts[1], parts[1]),
        "client_id": client,
        "username": me["username"],
        "name": me["name"],
        "email": me["email"],
        "exp": now + LIFETIME,
        "iat": now - 60,
        "nbf": now - 60,
        "sub": me["id"],
        "aud": [parts[1], client],
        "iss": "https://auth.globus.org",
    }
    if "session_info" in str(body.get("include", "")):
        reply["session_info"] = {
            "session_id": id_of("session"),
            "authentications": {
                me["id"]: {"acr": None, "amr": None, "idp": PROVIDER, "auth_time": now - 60, "custom_claims": {}}
            },
        }
    return reply


@routes("POST", "/v2/oauth2/token/revoke", body=("token", "client_id"), inert=("client_id",), login=False)
def revoke(state: Any, call: Call) -> dict[str, Any]:
    """Native clients revoke without credentials, as `globus logout` does."""
    if basic(call) is not None:
        client_of(call)
    text = str(call.body.get("token", ""))
    if token_parts(text) is not None:
        state.documents.put("revoked", text, {})
    return {"active": False}


@routes("GET", "/v2/api/identities", query=("usernames", "ids", "provision"))
def identities(state: Any, call: Call) -> dict[str, Any]:
    provision, everyone = call.flag("provision"), known(state)
    found = [everyone[key.lower()] for key in call.several("ids") if key.lower() in everyone]
    by_name = {document["username"].lower(): document for document in everyone.values()}
    for name in call.several("usernames"):
        lowered = name.lower()
        if lowered in by_name:
            found.append(by_name[lowered])
        elif provision:
            document = identity_document(id_of("identity " + lowered), lowered, "unused")
            state.documents.put("identity", document["id"], document)
            found.append(document)
    return {"identities": found}


def scope_of(server: str) -> str:
    """The scope for a resource server that is none of the CLI's own: a flow."""
    return f"https://auth.globus.org/scopes/{server}/flow_{server.replace('-', '_')}_user"


def is_active(state: Any, text: str) -> bool:
    return token_parts(text) is not None and state.documents.get("revoked", text) is None


def known(state: Any) -> dict[str, dict[str, Any]]:
    """The identities there are: the user, the client, and those provisioned or asked for by tests."""
    own = (identity_document(USER, USERNAME), identity_document(CLIENT, f"{CLIENT}@clients.auth.globus.org"))
    return {document["id"]: document for document in (*own, *state.documents.all("identity"))}


def identity_of(state: Any, call: Call, server: str) -> str:
    """Who asks, by the bearer token. Raises Refusal with 401 in the shape of the service."""
    scheme, _, text = call.headers.get("authorization", "").partition(" ")
    parts = token_parts(text) if scheme.lower() == "bearer" else None
    if call.path == "/v2/oauth2/userinfo" and parts is not None and parts[1] != server and is_active(state, text):
        more = {"error": "unauthorized", "error_description": "Unauthorized", "title": "Unauthorized"}
        raise Refusal(403, "FORBIDDEN", "Call must be authenticated", more)  # recorded: a token that lacks the scope
    if parts is None or parts[0] != "access" or not is_active(state, text) or (server and parts[1] != server):
        if call.service == "auth":
            raise Refusal(401, "UNAUTHORIZED", "Call must be authenticated", {"error_description": "Unauthorized"})
        raise Refusal(401, "ClientError.AuthenticationFailed", "Token is not active or not for this service")
    call.server = parts[1]
    return parts[2]


#: Which tokens each service takes.
SERVER_OF_SERVICE = {
    "auth": "auth.globus.org",
    "transfer": "transfer.api.globus.org",
    "groups": "groups.api.globus.org",
    "search": "search.api.globus.org",
    "timer": "524230d7-ea86-4a52-8312-86065a9e0417",
    "flows": "",
    "gcs": "",
}
