"""Faults on demand: what is asked of the sandbox to go wrong, and for how long.

A fault is a document with a `kind` and the fields that kind knows. `count` is how often it strikes (None: until cleared),
`skip` how many matches it lets pass first.
"""

from __future__ import annotations

import fnmatch
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from globus_sandbox.documents import Collection, CollectionRegistry, Documents
from globus_sandbox.web import Reply

#: Fields by kind, beside `kind`, `count` and `skip`. First those that strike a request.
REQUEST_KINDS: dict[str, tuple[str, ...]] = {
    "status": ("status", "body", "headers"),
    "consent": ("scopes",),
    "session": ("domains", "policies", "identities", "mfa", "message"),
    "expired-token": (),
    "conflict": ("code",),
    "rate-limit": ("retry_after",),
    "unavailable": ("retry_after",),
    "html": ("status",),
    "drop-before": (),
    "drop-after": (),
    "slow": ("seconds",),
    "not-found": ("code",),
    "logged-out": (),
}
#: Then those that strike a collection: its operations, and the tasks that use it.
COLLECTION_KINDS: dict[str, tuple[str, ...]] = {
    "disconnected": ("collection",),
    "login-failed": ("collection", "domains", "message"),
    "denied": ("collection", "files"),
    "full": ("collection", "files"),
    "quota": ("collection", "files"),
    "paused": ("collection", "message"),
}
#: And those that strike a task while it is worked on.
TASK_KINDS: dict[str, tuple[str, ...]] = {
    "inactive": ("task", "collection"),
    "pause-task": ("task", "collection", "message"),
    "break": ("task", "after", "code"),
    "fail": ("task", "after", "code"),
    "file": ("task", "files", "code"),
    "corrupt": ("task", "files"),
}
KINDS = {**REQUEST_KINDS, **COLLECTION_KINDS, **TASK_KINDS}
_MATCHING = ("service", "method", "path")
#: Struck until cleared unless a count is given; every other kind strikes once.
_LASTING = {*COLLECTION_KINDS, "inactive", "pause-task", "file", "logged-out"}

#: What event codes say, where it is not the name alone. Codes: a list by a Globus developer (developer-discuss, 2020-04-23).
_IN_WORDS = {
    "AUTH": "authentication failed",
    "GC_NOT_CONNECTED": "Globus Connect not connected",
    "GC_PAUSED": "Globus Connect paused",
    "NO_SPACE_LEFT": "no space left on device",
    "UNKNOWN": "unknown error",
    "VERIFY_CHECKSUM": "checksum verification failed",
}


def in_words(code: str) -> str:
    return _IN_WORDS.get(code, code.lower().replace("_", " "))


@dataclass(eq=False)
class TransferError(Exception):
    """What the service would report as an error event. `side` is "source" or "destination"."""

    code: str
    path: str = ""
    side: str = "source"
    message: str = ""
    #: What an operation's error body holds beside it.
    extra: dict[str, Any] = field(default_factory=dict)
    #: Stops the pass over the task; ends the task.
    whole: bool = False
    fatal: bool = False

    def __post_init__(self) -> None:
        self.message = self.message or in_words(self.code)


class NotAFault(ValueError):
    """A fault document that does not say what to do."""


@dataclass
class Fault:
    kind: str
    id: str = field(default_factory=lambda: str(uuid.uuid4()))
    count: int | None = 1
    skip: int = 0
    struck: int = 0
    with_: dict[str, Any] = field(default_factory=dict)

    def document(self) -> dict[str, Any]:
        return {**{name: getattr(self, name) for name in ("id", "kind", "count", "skip", "struck")}, **self.with_}

    @classmethod
    def of(cls, document: Mapping[str, Any]) -> Fault:
        """Raises NotAFault: an unknown kind, or a field its kind does not have."""
        given = dict(document)
        kind, key = given.pop("kind", None), given.pop("id", None) or str(uuid.uuid4())
        if kind not in KINDS:
            raise NotAFault(f"kind: one of {', '.join(KINDS)}; not {kind!r}")
        count = given.pop("count", None if kind in _LASTING else 1)
        skip, struck = int(given.pop("skip", 0)), int(given.pop("struck", 0))
        known = {*KINDS[kind], *(_MATCHING if kind in REQUEST_KINDS else ())}
        unknown = sorted(set(given) - known)
        if unknown:
            raise NotAFault(f"{kind}: has no field {unknown[0]!r} (it has: {', '.join(sorted(known)) or 'none'})")
        if kind == "status" and not isinstance(given.get("status"), int):
            raise NotAFault("status: needs a status, e.g. 503")
        return cls(kind, key, count, skip, struck, given)

    @property
    def message(self) -> str:
        """What a pause says."""
        return str(self.with_.get("message", "Paused by the collection's administrator"))

    def strikes_request(self, service: str, method: str, path: str) -> bool:
        if self.kind == "logged-out" and not path.endswith("/token/validate"):
            return False
        return (
            self.kind in REQUEST_KINDS
            and self.with_.get("service", "auth" if self.kind == "logged-out" else "transfer") == service
            and str(self.with_.get("method", method)).upper() == method
            and path_matches(path, str(self.with_.get("path", "*")))
        )

    def trouble(self, operation: str, path: str) -> TransferError | None:
        """What a fault of a collection means for `ls`, `stat`, `mkdir` or `rename`, or a file that a task reads or writes."""
        writes = operation in ("mkdir", "rename", "write")
        side = "destination" if writes else "source"
        if self.kind == "disconnected":
            return TransferError("GC_NOT_CONNECTED", path, side)
        if self.kind == "login-failed":
            extra = {"authorization_parameters": session_parameters(self.with_)}
            return TransferError("AUTH", path, side, "login failed", extra)
        if not fnmatch.fnmatchcase(path, str(self.with_.get("files", "*"))):
            return None
        if self.kind == "denied":
            return TransferError("PERMISSION_DENIED", path, side)
        if self.kind in ("full", "quota") and writes:
            return TransferError("NO_SPACE_LEFT" if self.kind == "full" else "QUOTA_EXCEEDED", path, side)
        if self.kind == "paused" and operation not in ("read", "write"):
            return TransferError("PAUSED", path, "source", str(self.with_.get("message", "")))
        return None


def path_matches(path: str, pattern: str) -> bool:
    """Whether the path of a request matches a pattern that may leave the version out."""
    return any(fnmatch.fnmatchcase(one, pattern) for one in (path, path.removeprefix("/v0.10")))


class Faults:
    """The faults in force, oldest first; kept with the rest of the state."""

    def __init__(self, documents: Documents, collections: CollectionRegistry) -> None:
        self._documents = documents
        self._collections = collections

    def add(self, document: Mapping[str, Any]) -> Fault:
        fault = Fault.of(document)
        if "collection" in fault.with_ and self.collection_of(fault) is None:
            raise NotAFault(f"collection: there is no {fault.with_['collection']!r}")
        self._documents.put("fault", fault.id, fault.document())
        return fault

    def clear(self, key: str | None = None) -> int:
        with self._documents.lock:
            gone = [fault for fault in self.all() if key in (None, fault.id, fault.kind)]
            for fault in gone:
                self._documents.remove("fault", fault.id)
            return len(gone)

    def all(self) -> list[Fault]:
        return [Fault.of(document) for document in self._documents.all("fault")]

    def strike(self, fault: Fault) -> bool:
        """Count one match: True if the fault strikes now, False while it still lets pass."""
        with self._documents.lock:
            document = self._documents.get("fault", fault.id)
            if document is None:
                return False
            now = Fault.of(document)
            strikes = now.skip == 0
            if strikes:
                now.struck += 1
            else:
                now.skip -= 1
            if strikes and now.count is not None and now.struck >= now.count:
                self._documents.remove("fault", now.id)
            else:
                self._documents.put("fault", now.id, now.document())
            return strikes

    def for_request(self, service: str, method: str, path: str) -> list[Fault]:
        """The faults that strike this request, counted."""
        return [one for one in self.all() if one.strikes_request(service, method, path) and self.strike(one)]

    def for_collections(self, *ids: str | None) -> list[Fault]:
        """The collection faults that hold for any of these collections; not counted."""
        return [fault for fault in self.all() if fault.kind in COLLECTION_KINDS and self._names(fault, ids)]

    def for_task(self, task_id: str, label: str | None, *collections: str | None) -> list[Fault]:
        """The faults that hold for this task: its own and its collections'; not counted."""
        own = [
            fault
            for fault in self.all()
            if fault.kind in TASK_KINDS
            and fault.with_.get("task") in (None, task_id, label)
            and ("collection" not in fault.with_ or self._names(fault, collections))
        ]
        return [*self.for_collections(*collections), *own]

    def trouble_with(self, collection: Collection, operation: str, path: str) -> TransferError | None:
        """What goes wrong with an operation on a collection, counted."""
        for fault in self.for_collections(collection.id):
            trouble = fault.trouble(operation, path)
            if trouble is not None and self.strike(fault):
                return trouble
        return None

    def collection_of(self, fault: Fault) -> Collection | None:
        name = fault.with_.get("collection")
        return None if name is None else self._collections.get(str(name))

    def _names(self, fault: Fault, ids: tuple[str | None, ...]) -> bool:
        collection = self.collection_of(fault)
        return collection is None or collection.id in ids


ALL_TRANSFER = "urn:globus:auth:scope:transfer.api.globus.org:all"


def session_parameters(given: Mapping[str, Any]) -> dict[str, Any]:
    """authorization_parameters with the keys of a recorded one (tests of the Globus JavaScript SDK)."""
    asked = {name: given[name] for name in ("domains", "policies", "identities", "mfa") if given.get(name)}
    parameters: dict[str, Any] = {
        "session_message": given.get("message", "Session reauthentication required (Globus Transfer)"),
        "session_required_identities": asked.get("identities", []),
        "session_required_mfa": bool(asked.get("mfa", False)),
        "session_required_single_domain": asked.get("domains", [] if asked else ["example.org"]),
    }
    if "policies" in asked:
        parameters["session_required_policies"] = asked["policies"]
    return parameters


#: Status, code and message of the kinds that always answer the same, but for a `code` that is given.
_REFUSALS = {
    "expired-token": (401, "ClientError.AuthenticationFailed", "Token is not active"),
    "conflict": (409, "ClientError.Conflict", "A transfer with identical paths has not yet completed"),
    "rate-limit": (429, "ClientError.TooManyRequests", "Too many requests"),
    "unavailable": (503, "ServiceUnavailable", "Service unavailable"),
    "not-found": (404, "NotFound", "Not found"),
}


def reply_of(fault: Fault, path: str, request_id: str) -> Reply | None:
    """The reply a request fault stands for; None for those that only drop or delay."""
    kind, given = fault.kind, fault.with_
    more: dict[str, Any] = {}
    headers = dict(given.get("headers") or {})
    if kind == "html":
        return Reply("<html><body><h1>Internal Server Error</h1></body></html>", given.get("status", 500))
    if kind == "logged-out":
        return Reply({"active": False})
    if kind == "status":
        if given.get("body") is not None:
            return Reply(given["body"], given["status"], headers)
        status, code, message = given["status"], "ServiceError", f"Injected status {given['status']}"
    elif kind == "consent":
        status, code, message = 403, "ConsentRequired", "Missing required data_access consent"
        more["required_scopes"] = given.get("scopes") or [ALL_TRANSFER]
    elif kind == "session":
        parameters = more["authorization_parameters"] = session_parameters(given)
        code = "AuthPolicyFailed" if given.get("policies") else "PermissionDenied"
        status, message = 403, parameters["session_message"]
    elif kind in _REFUSALS:
        status, code, message = _REFUSALS[kind]
        code = given.get("code", code)
    else:
        return None
    if kind == "rate-limit" or "retry_after" in given:
        headers["Retry-After"] = str(given.get("retry_after", 1))
    return Reply(
        {"code": code, "message": message, **more, "request_id": request_id, "resource": path}, status, headers
    )
