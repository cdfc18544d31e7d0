"""Globus Timers: transfer and flow timers are kept and shown; none of them ever runs here.

Recorded in globus_sdk.testing: create_timer, get_job, list_jobs, delete_job, pause_job, resume_job.
"""

from __future__ import annotations

import uuid
from typing import Any

from globus_sandbox import auth
from globus_sandbox.documents import iso, seconds_of
from globus_sandbox.transfer import collection_of
from globus_sandbox.web import Call, Refusal, Reply, Routes, ordered

routes = Routes()


def wrong(message: str) -> Refusal:
    return Refusal(422, "VALIDATION_ERROR", message)


def next_run(state: Any, schedule: dict[str, Any]) -> str:
    text = schedule.get("start") or schedule.get("datetime")
    return str(text) if text else iso(state.clock.now())


def check_schedule(schedule: Any) -> None:
    kind = schedule.get("type") if isinstance(schedule, dict) else None
    known = {"once": {"type", "datetime"}, "recurring": {"type", "start", "end", "interval_seconds"}}
    if kind not in known or set(schedule) - known[kind]:
        raise wrong("schedule: once with datetime, or recurring with start, end and interval_seconds")
    if kind == "recurring" and int(schedule.get("interval_seconds") or 0) < 60:
        raise wrong("interval_seconds: at least 60")
    for name in ("datetime", "start"):
        if schedule.get(name):
            try:
                seconds_of(str(schedule[name]))
            except ValueError:
                raise wrong(f"{name}: not a time") from None


@routes("POST", "/v2/timer", body=("timer",))
def create(state: Any, call: Call) -> Reply:
    timer = call.body.get("timer")
    if not isinstance(timer, dict) or timer.get("timer_type") not in ("transfer", "flow"):
        raise wrong("timer_type: transfer or flow")
    check_schedule(timer.get("schedule"))
    body = timer.get("body") or {}
    if timer["timer_type"] == "transfer":
        if not body.get("DATA"):
            raise wrong("body: no items")
        for side in ("source_endpoint", "destination_endpoint"):
            collection_of(state, str(body.get(side, "")))
    job = {
        "owner": call.identity,
        "job_id": str(uuid.uuid4()),
        "timer_type": timer["timer_type"],
        "name": timer.get("name") or "timer",
        "body": body,
        **({"flow_id": timer["flow_id"]} if timer.get("flow_id") else {}),
        "schedule": timer["schedule"],
        "inactive_reason": None,
        "last_ran_at": None,
        "next_run": next_run(state, timer["schedule"]),
        "number_of_errors": 0,
        "number_of_runs": 0,
        "status": "new",
        "submitted_at": iso(state.clock.now()),
    }
    state.documents.put("timer", job["job_id"], job)
    if job["timer_type"] == "flow":
        return Reply({"timer": _flow_timer(job)}, 201)
    return Reply({"timer": {name: value for name, value in job.items() if name != "owner"}}, 201)


def _flow_timer(timer: dict[str, Any]) -> dict[str, Any]:
    """A timer that starts a flow (recorded: create_timer, flow_timer_success)."""
    flow = timer["flow_id"]
    left_out = ("flow_id", "start")
    return {
        **{name: value for name, value in as_job(timer).items() if name not in left_out},
        "callback_body": timer["body"],
        "callback_url": f"https://flows.sandbox.invalid/flows/{flow}/run",
        "results": [],
        "scope": auth.scope_of(flow),
    }


def as_job(timer: dict[str, Any]) -> dict[str, Any]:
    """A timer in the older form, in which the CLI lists and shows it."""
    schedule = timer["schedule"]
    other = ("owner", "body", "number_of_errors", "number_of_runs")
    return {
        **{name: value for name, value in timer.items() if name not in other},
        "start": schedule.get("start") or timer["next_run"],
        "interval": float(schedule["interval_seconds"]) if "interval_seconds" in schedule else None,
        "stop_after": {"date": None, "n_runs": (schedule.get("end") or {}).get("count")},
        "callback_url": "https://actions.sandbox.invalid/transfer/transfer/run",
        "callback_body": {"body": timer["body"]},
        "scope": None,
        "n_runs": timer["number_of_runs"],
        "n_errors": timer["number_of_errors"],
        "results": {"data": [], "page_next": None},
    }


def timer_of(state: Any, call: Call) -> dict[str, Any]:
    found = state.documents.get("timer", call.params["job"].lower())
    if found is None or found.get("owner", call.identity) != call.identity:
        raise Refusal(404, "NOT_FOUND", f"No timer {call.params['job']}")
    return dict(found)


@routes("GET", "/jobs/", query=("order", "limit"))
def listed(state: Any, call: Call) -> dict[str, Any]:
    rows = [timer for timer in state.documents.all("timer") if timer.get("owner", call.identity) == call.identity]
    orders = ("submitted_at", "name", "next_run", "status")
    asked = call.several("order") or ["submitted_at"]
    rows = ordered(rows, asked, orders, lambda part: wrong(f"order: {part}"), lambda row, name: str(row[name] or ""))
    return {"jobs": [as_job(timer) for timer in rows[: call.integer("limit", 1000, 1)]]}


@routes("GET", "/jobs/{job}")
def show(state: Any, call: Call) -> dict[str, Any]:
    return as_job(timer_of(state, call))


@routes("DELETE", "/jobs/{job}")
def delete(state: Any, call: Call) -> dict[str, Any]:
    timer = timer_of(state, call)
    state.documents.remove("timer", timer["job_id"])
    return as_job({**timer, "status": "deleted"})


def _changed(state: Any, call: Call, what: str, **changes: Any) -> dict[str, Any]:
    timer = {**timer_of(state, call), **changes}
    state.documents.put("timer", timer["job_id"], timer)
    return {"message": f"Successfully {what} job {timer['job_id']}."}


@routes("POST", "/jobs/{job}/pause", body=())
def pause(state: Any, call: Call) -> dict[str, Any]:
    reason = {"cause": "user", "detail": None}
    return _changed(state, call, "paused", status="inactive", inactive_reason=reason)


@routes("POST", "/jobs/{job}/resume", body=("update_credentials",), inert=("update_credentials",))
def resume(state: Any, call: Call) -> dict[str, Any]:
    return _changed(state, call, "resumed", status="loaded", inactive_reason=None)
