"""The control of a sandbox over HTTP, under /_sandbox/: what `control.Control` and `globuswrap sandbox` ask for."""

from __future__ import annotations

import json
import re
from typing import Any

from globus_sandbox.faults import NotAFault, path_matches
from globus_sandbox.web import Reply


class ControlApi:
    def __init__(self, state: Any) -> None:
        self.state = state

    def answer(self, name: str, query: dict[str, str], raw: bytes) -> Reply:
        """The answer to `METHOD PATH`, with the lock of the documents held."""
        try:
            answer = self._answer(name, query, json.loads(raw) if raw else {})
        except NotAFault as problem:
            return Reply({"error": str(problem)}, 400)
        return Reply({"error": f"no control {name}"}, 404) if answer is None else Reply(answer)

    def _answer(self, name: str, query: dict[str, str], body: dict[str, Any]) -> Any:
        state = self.state
        if name == "GET health":
            return {"healthy": True, "url": state.url, "tasks": len(state.engine.all()), "now": state.clock.now()}
        if name == "GET requests":
            after, pattern = int(query.get("after", 0)), query.get("path", "*")
            return [
                entry
                for entry in state.documents.all("request")
                if entry["number"] > after
                and path_matches(entry["path"], pattern)
                and all(entry[key].lower() == query.get(key, entry[key]).lower() for key in ("service", "method"))
            ]
        if name == "GET unknown":
            return state.documents.all("unknown")
        if name == "GET tasks":
            return [self._task(task, int(query.get("items", 10_000))) for task in state.engine.all()]
        if name == "GET submissions":
            return state.documents.all("submission")
        if name == "GET collections":
            return [
                {"name": c.name, "id": c.id, "path": str(c.path), "entity_type": c.entity_type}
                for c in state.collections
            ]
        if name == "GET faults":
            return [fault.document() for fault in state.faults.all()]
        if name == "POST faults":
            fault = state.faults.add(body)
            state.engine.wake()
            return fault.document()
        if name == "DELETE faults":
            gone = state.faults.clear(query.get("id"))
            state.engine.wake()
            return {"cleared": gone}
        if name == "POST progress":
            return self._progress(body)
        if name == "POST clock":
            state.clock.advance(float(body["advance"]))
            state.engine.wake()
            return {"now": state.clock.now()}
        if name == "POST reset":
            state.engine.clear()
            progress = state.documents.setting("progress", "at-once")
            state.documents.clear()
            state.documents.set("progress", progress)
            state.engine.wake()
            return {"reset": True}
        if name == "POST forget":
            return {"forgotten": state.engine.forget(str(body["task"]))}
        if name == "POST delete-history":
            task = state.engine.get(str(body["task"]))
            if task is None:
                raise NotAFault("no such task")
            state.engine.delete_history(task)
            return {"history_deleted": True}
        if name == "POST put":
            state.documents.put(str(body["kind"]), str(body["id"]), body["document"])
            return {"put": True}
        if name == "GET documents":
            return state.documents.all(query["kind"])
        return None

    def _progress(self, body: dict[str, Any]) -> Any:
        state = self.state
        mode = str(body["progress"])
        if not re.fullmatch(r"at-once|held|polls:\d+|timed:\d+(\.\d+)?", mode):
            raise NotAFault(f"progress: at-once, polls:N, timed:SECONDS or held; not {mode!r}")
        if body.get("task"):
            task = state.engine.get(str(body["task"]))
            if task is None:
                raise NotAFault("no such task")
            task.progress = mode
        else:
            state.documents.set("progress", mode)
        state.engine.wake()
        return {"progress": mode}

    def _task(self, task: Any, most: int) -> dict[str, Any]:
        document: dict[str, Any] = self.state.engine.document(task)
        items = [
            {
                "source_path": item.source,
                **({"destination_path": item.destination} if task.type == "TRANSFER" else {}),
                **({"recursive": item.recursive} if item.recursive is not None else {}),
                **({"external_checksum": item.checksum} if item.checksum is not None else {}),
            }
            for item in task.items[:most]
        ]
        return {
            **document,
            "submission_id": task.submission_id,
            "options": task.options,
            "items": items,
            "items_total": len(task.items),
            "looks": task.looks,
        }
