"""Ask a running sandbox: its request log, its tasks, its faults and its clock."""

from __future__ import annotations

import json
import urllib.error
import urllib.parse
import urllib.request
from typing import Any

from globus_sandbox.errors import BadRequest, SandboxError, Unreachable


class Control:
    """The control of one sandbox. Every method raises Unreachable when the sandbox does not answer."""

    def __init__(self, url: str, timeout: float = 30.0) -> None:
        self.url = url
        self._timeout = timeout
        # loopback never goes through a proxy
        self._opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))

    def requests(
        self, service: str | None = None, method: str | None = None, path: str | None = None, after: int = 0
    ) -> list[dict[str, Any]]:
        """The requests answered so far, oldest first: number, time, service, method, path, query, body, status, user_agent.

        `path` may have wildcards, and leave the version out: `/task/*`. `after`: only those with a larger number.
        """
        return self._list("requests", service=service, method=method, path=path, after=after or None)

    def unknown(self) -> list[dict[str, Any]]:
        """What was asked for and is not served. A test fails unless this is empty."""
        return self._list("unknown")

    def tasks(self, items: int = 10_000) -> list[dict[str, Any]]:
        """Every task's document with `items` (at most that many), `items_total`, `submission_id`, `options`, `looks`."""
        return self._list("tasks", items=items)

    def submissions(self) -> list[dict[str, Any]]:
        """Every submission id that was issued: `id`, `issued`, `task_id` (None: never accepted), `sent` (how often)."""
        return self._list("submissions")

    def collections(self) -> list[dict[str, Any]]:
        return self._list("collections")

    def fault(self, fault: dict[str, Any] | None = None, /, **fields: Any) -> str:
        """Put a fault in force: `fault(kind="status", status=503, path="/transfer", count=2)`. Returns its id.

        Kinds and fields: docs/sandbox.md. Raises BadRequest for a fault that says nothing.
        """
        return str(self._ask("POST", "faults", {**(fault or {}), **fields})["id"])

    def faults(self) -> list[dict[str, Any]]:
        """The faults in force, with `struck`: how often each has struck."""
        return self._list("faults")

    def clear_faults(self, key: str | None = None) -> int:
        """Lift all faults, or those of one id or kind; how many there were."""
        return int(self._ask("DELETE", "faults" + _query(id=key))["cleared"])

    def progress(self, mode: str, task: str | None = None) -> None:
        """When tasks end: `at-once`, `polls:N`, `timed:SECONDS`, `held`; for all tasks or for one."""
        self._ask("POST", "progress", {"progress": mode, **({"task": task} if task else {})})

    def advance_clock(self, seconds: float) -> float:
        """Move the sandbox's time; the new time in seconds since the epoch."""
        return float(self._ask("POST", "clock", {"advance": seconds})["now"])

    def forget_task(self, task: str) -> bool:
        """From now on the task's id answers 404, as an old one does."""
        return bool(self._ask("POST", "forget", {"task": task})["forgotten"])

    def delete_history(self, task: str) -> None:
        """As 30 days after its end: `history_deleted`, no events, no lists of files."""
        self._ask("POST", "delete-history", {"task": task})

    def reset(self) -> None:
        """Forget tasks, faults, log and clock. Files of the collections stay."""
        self._ask("POST", "reset", {})

    def put(self, kind: str, key: str, document: dict[str, Any]) -> None:
        """Put a document of a service straight into its state."""
        self._ask("POST", "put", {"kind": kind, "id": key, "document": document})

    def documents(self, kind: str) -> list[dict[str, Any]]:
        return self._list("documents", kind=kind)

    def health(self) -> dict[str, Any]:
        answer = self._ask("GET", "health")
        assert isinstance(answer, dict)
        return answer

    def _list(self, name: str, **query: Any) -> list[dict[str, Any]]:
        answer = self._ask("GET", name + _query(**query))
        assert isinstance(answer, list)
        return answer

    def _ask(self, method: str, name: str, body: dict[str, Any] | None = None) -> Any:
        try:
            return self.send(f"/_sandbox/{name}", body, method=method)
        except urllib.error.HTTPError as error:
            with error:
                detail = error.read().decode("utf-8", "replace")
            raise _problem(error.code, detail) from None

    def send(self, path: str, body: dict[str, Any] | None = None, *, method: str | None = None, token: str = "") -> Any:
        """The answer to a request to any service. Raises urllib.error.HTTPError, and Unreachable without an answer."""
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, data=data, method=method)
        request.add_header("Content-Type", "application/json")
        if token:
            request.add_header("Authorization", f"Bearer {token}")
        try:
            with self._opener.open(request, timeout=self._timeout) as answer:
                return json.load(answer)
        except urllib.error.HTTPError:
            raise
        except OSError as error:
            cause = f"no sandbox answers at {self.url}: {error}"
            raise Unreachable("sandbox-unreachable", cause, "globus-sandbox up") from None


def _problem(status: int, detail: str) -> SandboxError:
    try:
        said = json.loads(detail)["error"]
    except (ValueError, KeyError):
        said = detail[:300]
    if status == 400:
        return BadRequest("sandbox-control-refused", str(said), "see docs/sandbox.md")
    return Unreachable("sandbox-failed", f"the sandbox answered {status}: {said}", "read its log (server.log)")


def _query(**values: Any) -> str:
    given = {name: value for name, value in values.items() if value is not None}
    return "?" + urllib.parse.urlencode(given) if given else ""
