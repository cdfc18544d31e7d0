"""Consents: which scopes an identity has agreed to, one for the sake of another, and what asks for them.

A mapped collection of GCSv5 wants a data_access consent below each scope that reaches it (documented: SDK, `data_access`; the
refusal is recorded in tests of the Globus JavaScript SDK). Where the sandbox does not ask for them, it lists them as given, so
that `globus timer create`, which looks itself, agrees with `globus ls`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from globus_sandbox import auth
from globus_sandbox.documents import Collection
from globus_sandbox.web import Call, Refusal

TRANSFER = auth.SCOPES["transfer.api.globus.org"]
TIMER = auth.SCOPES["524230d7-ea86-4a52-8312-86065a9e0417"]


#: What a timer starts, and what CLIs before 3.31 look for between the two.
ACTION = "https://auth.globus.org/scopes/actions.globus.org/transfer/transfer"


def data_access(collection: Collection) -> str:
    return f"https://auth.globus.org/scopes/{collection.id}/data_access"


def paths_of(scope: str, above: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Each scope of a string like `a[b[*c] d]`, with those above it."""
    outer, bracket, inner = scope.partition("[")
    path = (*above, outer.lstrip("*"))
    yield path
    if bracket:
        for one in auth.split_scopes(inner[:-1]):
            yield from paths_of(one, path)


def give(state: Any, identity: str, scopes: list[str]) -> None:
    for scope in scopes:
        for path in paths_of(scope):
            key = " ".join((identity, *path))
            state.documents.put("consent", key, {"identity": identity, "path": list(path)})


def given(state: Any, identity: str) -> list[tuple[str, ...]]:
    """Every consent of an identity: those of a login, and what was consented to since."""
    paths: list[tuple[str, ...]] = [(scope,) for scopes in auth.SCOPES.values() for scope in scopes.split(" ")]
    paths.append((TIMER, TRANSFER))
    if not state.settings.data_access:
        for collection in state.collections:
            if wants_consent(collection):
                paths += [(*above, TRANSFER, data_access(collection)) for above in ((), (TIMER,), (TIMER, ACTION))]
    paths += [tuple(each["path"]) for each in state.documents.all("consent", identity=identity)]
    return list(dict.fromkeys(paths))


def wants_consent(collection: Collection) -> bool:
    return collection.kind == "mapped"


def require(state: Any, call: Call, *collections: Collection, scope: str = TRANSFER) -> None:
    """Raises Refusal, ConsentRequired, where no consent was given for the data of these collections below this scope."""
    if not state.settings.data_access:
        return
    held = given(state, call.identity)
    missing = [one for one in collections if wants_consent(one) and (scope, data_access(one)) not in held]
    if missing:
        scopes = [f"{scope}[*{data_access(one)}]" for one in missing]
        raise Refusal(403, "ConsentRequired", "Missing required data_access consent", {"required_scopes": scopes})
