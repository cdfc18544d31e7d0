"""Tasks as the service has them: queued, worked at three at a time, faulting, paused, expired, done.

The engine has one thread that decides and a few that move bytes. A task ends as its progression says: `at-once` when its
bytes are moved, `polls:N` after it was looked at N times, `timed:S` S seconds after it was started, `held` not at all.
Its bytes move just before it ends. Sources of what is done here: docs/sandbox/behavior.md.
"""

from __future__ import annotations

import json
import threading
import traceback
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from globus_sandbox.documents import Clock, CollectionRegistry, Documents, iso
from globus_sandbox.faults import Faults, TransferError, in_words
from globus_sandbox.moving import Mover, Stopped
from globus_sandbox.task import BACKOFF, COUNTS, KEPT, Item, Task
from globus_sandbox.web import words

HOUR = 3600.0
DAY = 24 * HOUR
#: Tasks of one type that are worked at together (task_behavior documentation, "Queuing").
AT_WORK = 3
#: How long an error shows as nice_status after it happened (same page).
ERROR_SHOWN = 15 * 60.0
#: Detailed history is kept this long (task documentation, "history_deleted").
HISTORY = 30 * DAY
EVENTS_KEPT = 10_000
#: How long a request for a task waits for work that is under way, so that the first one sees what ends "at once".
LOOK_WAITS = 1.0


#: What the document of a task has as it is kept, and the options that it has.
_SHOWN = (*COUNTS, *words("faults history_deleted label status type"))
_OPTIONS = words("delete_destination_extra encrypt_data fail_on_quota_errors preserve_timestamp skip_source_errors")


class Engine:
    def __init__(self, documents: Documents, clock: Clock, collections: CollectionRegistry, faults: Faults) -> None:
        self._documents = documents
        self._clock = clock
        self.collections = collections
        self.faults = faults
        #: Whether an identity may read or write a path of a collection; rights.may, once there is a state to ask.
        self.may: Callable[..., bool] = lambda collection, identity, path, *, write: True
        self._wake = threading.Condition(documents.lock)
        self._tasks: dict[str, Task] = {}
        self._pool = ThreadPoolExecutor(max_workers=2 * AT_WORK, thread_name_prefix="mover")
        self._ended = False
        self._load()
        self._thread = threading.Thread(target=self._decide, name="engine", daemon=True)
        self._thread.start()

    # what handlers call, with the state's lock held

    def submit(self, task: Task) -> None:
        """Take a new task up. The caller has checked that its submission id is new."""
        task.requested = self._clock.now()
        if not task.deadline_given:
            task.deadline = task.requested + DAY
        self._tasks[task.id] = task
        self._documents.put("items", task.id, {"items": task.items})
        self.event(task, "STARTED", json.dumps({"type": task.type.lower(), "items": len(task.items)}))
        self.keep(task)
        self.wake()

    def conflicting(self, task: Task) -> bool:
        """Whether an unfinished transfer has the same endpoints and paths."""
        return any(other.type == "TRANSFER" and other.key == task.key for other in self.unfinished())

    def get(self, task_id: str) -> Task | None:
        task = self._tasks.get(task_id)
        if task is not None:
            self._age(task)
        return task

    def unfinished(self) -> list[Task]:
        return [task for task in self._tasks.values() if task.unfinished]

    def all(self) -> list[Task]:
        return list(self._tasks.values())

    def look(self, tasks: list[Task]) -> None:
        """Count a look at each, and give work that is due its moment, so that what is done at once is seen at once.

        The lock is let go of while this waits.
        """
        waited = [task for task in tasks if self._is_due(task)]
        for task in waited:
            task.settled = False
        if waited:
            self._wake.notify_all()
            self._wake.wait_for(lambda: all(task.settled for task in waited), LOOK_WAITS)

    def _is_due(self, task: Task) -> bool:
        """Count a look; whether work is under way, or begins now."""
        if not task.unfinished:
            return False
        task.looks += 1
        if task.place == "backoff" and self._mode(task).startswith("polls"):
            task.retry_at = 0.0  # there each look is a try
            return True
        return task.running or (task.place == "working" and self._due(task)) or self._could_start(task)

    def cancel(self, task: Task, by: tuple[str, str] | None = None) -> str:
        """The result code of a cancel (recorded: Canceled; documented: TaskComplete, CancelAccepted).

        `by`: the side whose administrator canceled it, and the message.
        """
        if not task.unfinished:
            return "TaskComplete"
        task.canceled_by = by
        self._finish(task, "FAILED", "CANCELED")
        return "Canceled"

    def forget(self, task_id: str) -> bool:
        """The service's answer to an old task: it is not there."""
        task = self._tasks.pop(task_id, None)
        if task is None:
            return False
        task.stop = True
        for kind in ("task", "items", "history"):
            self._documents.remove(kind, task_id)
        return True

    def delete_history(self, task: Task) -> None:
        task.history_deleted = True
        task.events, task.done, task.skips = [], [], []
        self.keep(task)

    def clear(self) -> None:
        for task in self.unfinished():
            task.stop = True
        self._tasks.clear()

    def wake(self) -> None:
        with self._wake:
            self._wake.notify_all()

    def close(self) -> None:
        self._ended = True
        for task in self.unfinished():
            task.stop = True
        self.wake()

    def document(self, task: Task) -> dict[str, Any]:
        """The task document, with the keys of the recording in globus_sdk.testing and those of an ACTIVE one in public."""
        self._age(task)
        now = self._clock.now()
        delete = task.type == "DELETE"
        options = task.options
        end = task.completed if task.completed is not None else now
        begun = sum(getattr(task, name) for name in COUNTS if name.startswith("subtasks_"))
        sides = {"source": task.source, "destination": task.destination}
        return {
            "DATA_TYPE": "task",
            **{name: getattr(task, name) for name in _SHOWN},
            **{name: bool(options.get(name, False)) for name in _OPTIONS},
            **self._nice(task, now),
            **{f"{side}_endpoint": f"u_sandbox#{key}" if key else None for side, key in sides.items()},
            **{f"{side}_endpoint_display_name": self._display_name(key) for side, key in sides.items()},
            **{f"{side}_endpoint_id": key for side, key in sides.items()},
            "canceled_by_admin": task.canceled_by[0] if task.canceled_by else None,
            "canceled_by_admin_message": task.canceled_by[1] if task.canceled_by else None,
            "command": "API 0.10",
            "completion_time": None if task.completed is None else iso(task.completed),
            "deadline": iso(task.deadline),
            "effective_bytes_per_second": int(task.bytes_transferred / max(1.0, end - task.requested)),
            "fatal_error": task.fatal,
            "filter_rules": options.get("filter_rules"),
            "is_paused": task.paused is not None and task.unfinished,
            "owner_id": task.owner,
            "recursive_symlinks": None if delete else options.get("recursive_symlinks", "ignore"),
            "request_time": iso(task.requested),
            "subtasks_retrying": task.subtasks_retrying if task.unfinished else 0,
            "subtasks_pending": max(0, task.subtasks - begun),
            "subtasks_total": task.subtasks,
            "sync_level": options.get("sync_level"),
            "task_id": task.id,
            "username": "u_" + task.owner.replace("-", "")[:26],
            "verify_checksum": not delete and bool(options.get("verify_checksum", False)),
        }

    def events(self, task: Task) -> list[dict[str, Any]]:
        """Newest first (assumed)."""
        return task.events[::-1]

    # the deciding thread

    def _decide(self) -> None:
        with self._wake:
            while not self._ended:
                try:
                    rest = self._round(self._clock.now())
                except Exception:  # a defect in one round must not stop all tasks
                    traceback.print_exc()
                    rest = 0.5
                self._wake.wait(rest)

    def _round(self, now: float) -> float:
        """One look at all unfinished tasks; how long until something is due by itself."""
        next_at = now + 3600.0
        at_work = {"TRANSFER": 0, "DELETE": 0}
        for task in self.unfinished():
            self._extend_while_queued(task, now)
            if now >= task.deadline and not task.running:
                self._finish(task, "FAILED", "EXPIRED")
                continue
            if task.running and now >= task.deadline:
                task.stop = True
            self._hold_or_release(task, now)
            if task.place == "backoff" and now >= task.retry_at:
                task.place = "queued"
            if task.place == "working":
                at_work[task.type] += 1
        for task in self.unfinished():
            if task.place == "queued" and at_work[task.type] < AT_WORK:
                at_work[task.type] += 1
                task.place = "working"
                if task.started is None:
                    task.started = now
            if task.place == "working" and not task.running and self._due(task):
                task.running = True
                task.stop = False
                task.settled = False
                self._pool.submit(self._work, task)
            next_at = min(next_at, task.deadline, self._due_at(task, next_at))
        return max(0.005, next_at - now)

    def _extend_while_queued(self, task: Task, now: float) -> None:
        """A transfer that only waits for its turn does not expire (task_behavior, "Deadlines")."""
        if (
            task.type == "TRANSFER"
            and task.place == "queued"
            and not task.deadline_given
            and now - task.trouble_at > DAY
        ):
            task.deadline = max(task.deadline, now + DAY)

    def _mode(self, task: Task) -> str:
        return task.progress or str(self._documents.setting("progress", "at-once"))

    def _due(self, task: Task) -> bool:
        mode, _, amount = self._mode(task).partition(":")
        if mode == "held":
            return False
        if mode == "polls":
            return task.looks > int(amount)
        if mode == "timed":
            return self._clock.now() >= (task.started or self._clock.now()) + float(amount)
        return True

    def _due_at(self, task: Task, otherwise: float) -> float:
        if task.place == "backoff":
            return task.retry_at
        mode, _, amount = self._mode(task).partition(":")
        if mode == "timed" and task.place == "working" and not task.running and task.started is not None:
            return task.started + float(amount)
        return otherwise

    def _could_start(self, task: Task) -> bool:
        """Whether the next round will start it: queued, due, and a place is free."""
        if task.place != "queued" or not self._due(task):
            return False
        before = 0
        for other in self.unfinished():
            if other is task:
                break
            before += other.type == task.type and other.place in ("working", "queued")
        return before < AT_WORK

    def _hold_or_release(self, task: Task, now: float) -> None:
        """Pauses and INACTIVE come from faults in force, and go with them."""
        faults = self.faults.for_task(task.id, task.label, task.source, task.destination)
        pauses = [fault for fault in faults if fault.kind in ("paused", "pause-task")]
        inactive = any(fault.kind == "inactive" for fault in faults)
        if pauses and task.paused is None:
            task.paused = pauses[-1].message
            task.deadline = now + 90 * DAY
            task.place = "paused"
            task.stop = True
            self.event(task, "PAUSED", task.paused)
            self.keep(task)
        elif not pauses and task.paused is not None:
            task.paused = None
            task.deadline = now + DAY
            task.place = "queued"
            self.event(task, "UNPAUSED")
            self.keep(task)
        if inactive and task.status == "ACTIVE":
            task.status = "INACTIVE"
            task.trouble, task.trouble_at = "NO_CREDENTIALS", now
            task.place = "paused"
            task.stop = True
            self.event(task, "NO_CREDENTIALS", "Credentials have expired", is_error=True)
            self.keep(task)
        elif not inactive and task.status == "INACTIVE":
            task.status = "ACTIVE"
            task.trouble = None
            task.place = "paused" if task.paused is not None else "queued"
            self.keep(task)

    # the working threads

    def _work(self, task: Task) -> None:
        ended: str | None = None
        try:
            ended = Mover(self, task).run()
        except Stopped:
            pass
        except Exception as error:  # a defect here must not look like a task that hangs
            traceback.print_exc()
            self.event(task, "INTERNAL_ERROR", repr(error), is_error=True)
            ended = "INTERNAL_ERROR"
        with self._wake:
            task.running = False
            now = self._clock.now()
            if task.unfinished and not self._ended and task.id in self._tasks:
                if ended == "SUCCEEDED":
                    self._finish(task, "SUCCEEDED")
                elif ended == "AGAIN":
                    task.retry_at = now + task.backoff
                    task.backoff = min(task.backoff * 2, BACKOFF[1])
                    if task.place == "working":
                        task.place = "backoff"
                    self.keep(task)
                elif ended is not None:
                    self._finish(task, "FAILED", ended)
                elif now >= task.deadline:
                    self._finish(task, "FAILED", "EXPIRED")
                elif task.place == "working":
                    task.place = "queued"
            task.settled = True
            self._wake.notify_all()

    def _finish(self, task: Task, status: str, code: str | None = None) -> None:
        now = self._clock.now()
        left = max(0, task.subtasks - task.subtasks_succeeded - task.subtasks_skipped_errors)
        task.stop = True
        task.status = status
        task.completed = now
        task.subtasks_retrying = 0
        task.trouble = None
        task.place = "done"
        if code == "CANCELED":
            task.subtasks_canceled = left
        elif code == "EXPIRED":
            task.subtasks_expired = left
        elif code is not None:
            task.subtasks_failed = left
        if code is not None:
            task.fatal = {"code": code, "description": in_words(code)}
        details = ""
        if code == "CANCELED":  # recorded: the task owner's cancel
            details = f"Canceled by the {'administrator' if task.canceled_by else 'task owner'}"
        self.event(task, code or status, details, is_error=code is not None)
        task.todo = None
        self.keep(task)
        task.settled = True
        self._wake.notify_all()

    # small parts

    def _nice(self, task: Task, now: float) -> dict[str, Any]:
        """How it stands, in the fields that say so (short descriptions seen in public: "OK", "checksum verification failed")."""
        nice, details = None, None
        if task.paused is not None and task.status == "ACTIVE":
            nice, details = "PAUSED_BY_ADMIN", task.paused
        elif task.unfinished and task.trouble is not None and now - task.trouble_at < ERROR_SHOWN:
            nice = task.trouble
        elif task.unfinished:
            nice = "Queued" if task.place == "queued" else "OK"
        return {
            "is_ok": None if nice is None else nice in ("OK", "Queued"),
            "nice_status": nice,
            "nice_status_details": details,
            "nice_status_expires_in": None if nice is None else -1,
            "nice_status_short_description": nice if nice in (None, "OK", "Queued") else in_words(nice),
        }

    def _display_name(self, collection_id: str | None) -> str | None:
        found = self.collections.get(collection_id or "")
        return found.name if found else None

    def event(self, task: Task, code: str, details: str = "", *, description: str = "", is_error: bool = False) -> None:
        with self._documents.lock:
            task.events.append(
                {
                    "DATA_TYPE": "event",
                    "code": code,
                    "description": description or in_words(code),
                    "details": details,
                    "is_error": is_error,
                    "parent_task_id": None,
                    "time": iso(self._clock.now()),
                }
            )
            if len(task.events) > EVENTS_KEPT:
                del task.events[1:1000]

    def error(self, task: Task, trouble: TransferError) -> None:
        """A fault of a task: counted, shown, and an event."""
        with self._documents.lock:
            task.faults += 1
            task.trouble, task.trouble_at = trouble.code, self._clock.now()
            endpoint = task.source if trouble.side == "source" else (task.destination or task.source)
            details = (
                f"Error ({'list' if trouble.side == 'source' else 'transfer'})\n"
                f"Endpoint: {self._display_name(endpoint)} ({endpoint})\n"
                f"File: {trouble.path}\nMessage: {trouble.message}\n"
            )
            self.event(task, trouble.code, details, description=trouble.message, is_error=True)

    def now(self) -> float:
        return self._clock.now()

    def progressed(self, task: Task) -> None:
        """The deadline moves with work that was done, unless one was given (task_behavior, "Deadlines")."""
        if task.type == "TRANSFER" and not task.deadline_given:
            task.deadline = max(task.deadline, self._clock.now() + 3 * DAY)

    def _age(self, task: Task) -> None:
        if task.completed is not None and not task.history_deleted and self._clock.now() - task.completed > HISTORY:
            self.delete_history(task)

    def keep(self, task: Task) -> None:
        self._documents.put("task", task.id, {name: getattr(task, name) for name in KEPT})
        # the lists of files of an unfinished task are made again after a restart
        done, skips = ([], []) if task.unfinished else (task.done, task.skips)
        self._documents.put("history", task.id, {"events": task.events, "done": done, "skips": skips})

    def _load(self) -> None:
        for record in self._documents.all("task"):
            kept = self._documents.get("items", record["id"]) or {"items": []}
            kept["items"] = list(map(Item._make, kept["items"]))  # not both: a million takes room
            history = self._documents.get("history", record["id"]) or {}
            task = Task(**record, items=kept["items"])
            task.events = history.get("events", [])
            task.done = [(one, other) for one, other in history.get("done", [])]
            task.skips = [(one, other, code, at) for one, other, code, at in history.get("skips", [])]
            self._tasks[task.id] = task
            if not task.unfinished:
                task.place = "done"
                continue
            for name in COUNTS:  # the server ended in the middle: a new start
                setattr(task, name, 0)
            if task.paused is not None or task.status == "INACTIVE":
                task.place = "paused"
