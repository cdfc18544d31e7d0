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

#: What each event code says in words. Codes: a list published by a Globus developer (developer-discuss, 2020-04-23).
WORDS = {
    "AMBIGUOUS_PATH": "ambiguous path",
    "AUTH": "authentication failed",
    "CANCELED": "canceled",
    "CONNECTION_BROKEN": "connection broken",
    "CONNECTION_RESET": "connection reset",
    "CONNECT_FAILED": "connect failed",
    "ENDPOINT_ERROR": "endpoint error",
    "ENDPOINT_TOO_BUSY": "endpoint too busy",
    "EXPIRED": "expired",
    "EXTERNAL_CHECKSUM_MISMATCH": "external checksum mismatch",
    "FILE_NOT_FOUND": "file not found",
    "FILE_SIZE_CHANGED": "file size changed",
    "GC_NOT_CONNECTED": "Globus Connect not connected",
    "GC_PAUSED": "Globus Connect paused",
    "INVALID_PATH_NAME": "invalid path name",
    "IS_A_DIRECTORY": "is a directory",
    "NOT_A_DIRECTORY": "not a directory",
    "NO_CREDENTIALS": "no credentials",
    "NO_SPACE_LEFT": "no space left on device",
    "PAUSED": "paused",
    "PERMISSION_DENIED": "permission denied",
    "QUOTA_EXCEEDED": "quota exceeded",
    "SUCCEEDED": "succeeded",
    "TIMEOUT": "timeout",
    "UNKNOWN": "unknown error",
    "VERIFY_CHECKSUM": "checksum verification failed",
}


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
        return {
            "id": self.id,
            "kind": self.kind,
            "count": self.count,
            "skip": self.skip,
            "struck": self.struck,
            **self.with_,
        }

    @classmethod
    def of(cls, document: Mapping[str, Any]) -> Fault:
        """Raises NotAFault: an unknown kind, or a field its kind does not have."""
        kind = document.get("kind")
        if kind not in KINDS:
            raise NotAFault(f"kind: one of {', '.join(KINDS)}; not {kind!r}")
        known = {*KINDS[kind], *(_MATCHING if kind in REQUEST_KINDS else ())}
        given = {
            name: value for name, value in document.items() if name not in ("kind", "count", "skip", "id", "struck")
        }
        unknown = sorted(set(given) - known)
        if unknown:
            raise NotAFault(f"{kind}: has no field {unknown[0]!r} (it has: {', '.join(sorted(known)) or 'none'})")
        count = document.get("count", None if kind in _LASTING else 1)
        if kind == "status" and not isinstance(given.get("status"), int):
            raise NotAFault("status: needs a status, e.g. 503")
        return cls(
            kind=kind,
            id=document.get("id") or str(uuid.uuid4()),
            count=count,
            skip=int(document.get("skip", 0)),
            struck=int(document.get("struck", 0)),
            with_=given,
        )


class Faults:
    """The faults in force, oldest first; kept with the rest of the state."""

    def __init__(self, documents: Documents, collections: CollectionRegistry) -> None:
        self._documents = documents
        self._collections = collections
        self._all = [Fault.of(document) for document in documents.all("fault")]

    def add(self, document: Mapping[str, Any]) -> Fault:
        fault = Fault.of(document)
        if "collection" in fault.with_ and self._collections.get(str(fault.with_["collection"])) is None:
            raise NotAFault(f"collection: there is no {fault.with_['collection']!r}")
        with self._documents.lock:
            self._all.append(fault)
            self._documents.put("fault", fault.id, fault.document())
        return fault

    def clear(self, key: str | None = None) -> int:
        with self._documents.lock:
            gone = [fault for fault in self._all if key in (None, fault.id, fault.kind)]
            for fault in gone:
                self._all.remove(fault)
                self._documents.remove("fault", fault.id)
            return len(gone)

    def all(self) -> list[Fault]:
        with self._documents.lock:
            return list(self._all)

    def strike(self, fault: Fault) -> bool:
        """Count one match: True if the fault strikes now, False while it still lets pass."""
        with self._documents.lock:
            if fault not in self._all:
                return False
            if fault.skip > 0:
                fault.skip -= 1
                self._documents.put("fault", fault.id, fault.document())
                return False
            fault.struck += 1
            if fault.count is not None and fault.struck >= fault.count:
                self._all.remove(fault)
                self._documents.remove("fault", fault.id)
            else:
                self._documents.put("fault", fault.id, fault.document())
            return True

    def for_request(self, service: str, method: str, path: str) -> list[Fault]:
        """The faults that strike this request, counted."""
        if not self._all:
            return []
        found = []
        for fault in self.all():
            if fault.kind not in REQUEST_KINDS:
                continue
            if fault.with_.get("service", "auth" if fault.kind == "logged-out" else "transfer") != service:
                continue
            if fault.kind == "logged-out" and not path.endswith("/token/validate"):
                continue
            if str(fault.with_.get("method", method)).upper() != method:
                continue
            pattern = str(fault.with_.get("path", "*"))
            bare = path.removeprefix("/v0.10")
            if not (fnmatch.fnmatchcase(path, pattern) or fnmatch.fnmatchcase(bare, pattern)):
                continue
            if self.strike(fault):
                found.append(fault)
        return found

    def for_collections(self, *ids: str | None) -> list[Fault]:
        """The collection faults that hold for any of these collections; not counted."""
        if not self._all:
            return []
        return [fault for fault in self.all() if fault.kind in COLLECTION_KINDS and self._names(fault, ids)]

    def for_task(self, task_id: str, label: str | None, *collections: str | None) -> list[Fault]:
        """The faults that hold for this task: its own and its collections'; not counted."""
        if not self._all:
            return []
        found = self.for_collections(*collections)
        for fault in self.all():
            wanted = fault.with_.get("task")
            if fault.kind not in TASK_KINDS or (wanted is not None and wanted not in (task_id, label)):
                continue
            if "collection" in fault.with_ and not self._names(fault, collections):
                continue
            found.append(fault)
        return found

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


def reply_of(fault: Fault, path: str, request_id: str) -> Reply | None:
    """The reply a request fault stands for; None for those that only drop or delay."""
    kind, given = fault.kind, fault.with_

    def reply(status: int, code: str, message: str, headers: dict[str, str] | None = None, **more: Any) -> Reply:
        return Reply(
            {"code": code, "message": message, **more, "request_id": request_id, "resource": path},
            status,
            headers or {},
        )

    if kind == "status":
        if given.get("body") is None:
            message = f"Injected status {given['status']}"
            return reply(given["status"], "ServiceError", message, dict(given.get("headers") or {}))
        return Reply(given["body"], given["status"], dict(given.get("headers") or {}))
    if kind == "consent":
        scopes = given.get("scopes") or [ALL_TRANSFER]
        return reply(403, "ConsentRequired", "Missing required data_access consent", required_scopes=scopes)
    if kind == "session":
        parameters = session_parameters(given)
        code = "AuthPolicyFailed" if given.get("policies") else "PermissionDenied"
        return reply(403, code, parameters["session_message"], authorization_parameters=parameters)
    if kind == "expired-token":
        return reply(401, "ClientError.AuthenticationFailed", "Token is not active")
    if kind == "conflict":
        message = "A transfer with identical paths has not yet completed"
        return reply(409, given.get("code", "ClientError.Conflict"), message)
    if kind == "rate-limit":
        headers = {"Retry-After": str(given.get("retry_after", 1))}
        return reply(429, "ClientError.TooManyRequests", "Too many requests", headers)
    if kind == "unavailable":
        headers = {"Retry-After": str(given["retry_after"])} if "retry_after" in given else {}
        return reply(503, "ServiceUnavailable", "Service unavailable", headers)
    if kind == "html":
        return Reply("<html><body><h1>Internal Server Error</h1></body></html>", given.get("status", 500))
    if kind == "not-found":
        return reply(404, given.get("code", "NotFound"), "Not found")
    if kind == "logged-out":
        return Reply({"active": False})
    return None
