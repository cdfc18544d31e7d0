"""The control of a sandbox over HTTP, under /_sandbox/: what `control.Control` and `globuswrap sandbox` ask for."""

from __future__ import annotations

import re
from typing import Any

from globuswrap.sandbox.faults import NotAFault


class Supervision:
    def __init__(self, application: Any) -> None:
        self.application = application

    async def endpoint(self, request: Any) -> Any:
        from starlette.responses import JSONResponse

        body: dict[str, Any] = {}
        if request.method in ("POST", "PUT"):
            raw = await request.body()
            body = await request.json() if raw else {}
        name = f"{request.method} {request.path_params['rest']}"
        try:
            with self.application.world.state.lock:
                answer = self._answer(name, dict(request.query_params), body)
        except NotAFault as problem:
            return JSONResponse({"error": str(problem)}, 400)
        if answer is None:
            return JSONResponse({"error": f"no control {name}"}, 404)
        return JSONResponse(answer)

    def _answer(self, name: str, query: dict[str, str], body: dict[str, Any]) -> Any:
        app, world = self.application, self.application.world
        if name == "GET health":
            return {"healthy": True, "url": world.url, "tasks": len(world.engine.all()), "now": world.clock.now()}
        if name == "GET requests":
            wanted = {key: query[key] for key in ("service", "method", "path") if key in query}
            after = int(query.get("after", 0))
            return [
                entry
                for entry in app.log
                if entry["number"] > after and all(_matches(entry[key], value, key) for key, value in wanted.items())
            ]
        if name == "GET unknown":
            return app.unknown
        if name == "GET tasks":
            return [self._task(task, int(query.get("items", 10_000))) for task in world.engine.all()]
        if name == "GET submissions":
            return world.state.all("submission")
        if name == "GET collections":
            return [
                {"name": c.name, "id": c.id, "path": str(c.root), "entity_type": c.entity_type} for c in world.shelf
            ]
        if name == "GET faults":
            return [fault.document() for fault in world.faults.all()]
        if name == "POST faults":
            fault = world.faults.add(body)
            world.engine.wake()
            return fault.document()
        if name == "DELETE faults":
            gone = world.faults.clear(query.get("id"))
            world.engine.wake()
            return {"cleared": gone}
        if name == "POST progress":
            return self._progress(body)
        if name == "POST clock":
            world.clock.advance(float(body["advance"]))
            world.engine.wake()
            return {"now": world.clock.now()}
        if name == "POST reset":
            world.engine.clear()
            world.faults.clear()
            progress = world.state.setting("progress", "at-once")
            world.state.clear()
            world.state.set("progress", progress)
            app.log.clear()
            app.unknown.clear()
            world.engine.wake()
            return {"reset": True}
        if name == "POST forget":
            return {"forgotten": world.engine.forget(str(body["task"]))}
        if name == "POST delete-history":
            task = world.engine.get(str(body["task"]))
            if task is None:
                raise NotAFault("no such task")
            world.engine.delete_history(task)
            return {"history_deleted": True}
        if name == "POST put":
            world.state.put(str(body["kind"]), str(body["id"]), body["document"])
            return {"put": True}
        if name == "GET documents":
            return world.state.all(query["kind"])
        return None

    def _progress(self, body: dict[str, Any]) -> Any:
        world = self.application.world
        mode = str(body["progress"])
        if not re.fullmatch(r"at-once|held|polls:\d+|timed:\d+(\.\d+)?", mode):
            raise NotAFault(f"progress: at-once, polls:N, timed:SECONDS or held; not {mode!r}")
        if body.get("task"):
            task = world.engine.get(str(body["task"]))
            if task is None:
                raise NotAFault("no such task")
            task.progress = mode
        else:
            world.state.set("progress", mode)
        world.engine.wake()
        return {"progress": mode}

    def _task(self, task: Any, most: int) -> dict[str, Any]:
        document: dict[str, Any] = self.application.world.engine.document(task)
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


def _matches(found: str, wanted: str, key: str) -> bool:
    import fnmatch

    if key != "path":
        return found.lower() == wanted.lower()
    return fnmatch.fnmatchcase(found, wanted) or fnmatch.fnmatchcase(found.removeprefix("/v0.10"), wanted)
