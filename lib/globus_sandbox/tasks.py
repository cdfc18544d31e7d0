"""Tasks as the service has them: queued, worked at three at a time, faulting, paused, expired, done.

The engine has one thread that decides and a few that move bytes. A task ends as its progression says: `at-once` when its
bytes are moved, `polls:N` after it was looked at N times, `timed:S` S seconds after it was started, `held` not at all.
Its bytes move just before it ends. Sources of what is done here: docs/sandbox/behavior.md.
"""

from __future__ import annotations

import fnmatch
import json
import threading
import traceback
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from globus_sandbox.documents import Clock, Collection, CollectionRegistry, Documents, iso
from globus_sandbox.faults import WORDS, Fault, Faults, session_parameters
from globus_sandbox.filesystem import TransferError
from globus_sandbox.moving import Mover, Stopped
from globus_sandbox.task import BACKOFF, Item, Task

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
        self._by_submission: dict[str, str] = {}
        self._unfinished: dict[str, Task] = {}
        self._keys: dict[str, tuple[str, str | None, int]] = {}
        self._pool = ThreadPoolExecutor(max_workers=2 * AT_WORK, thread_name_prefix="mover")
        self._ended = False
        self._load()
        self._thread = threading.Thread(target=self._decide, name="engine", daemon=True)
        self._thread.start()

    # what handlers call, with the state's lock held

    def submit(self, task: Task) -> None:
        """Take a new task up. The caller has checked that its submission id is new."""
        now = self._clock.now()
        task.id = str(uuid.uuid4())
        task.requested = now
        if not task.deadline_given:
            task.deadline = now + DAY
        self._tasks[task.id] = task
        self._by_submission[task.submission_id] = task.id
        self._unfinished[task.id] = task
        if task.type == "TRANSFER":
            self._keys[task.id] = task.key()
        self._documents.put("items", task.id, {"items": task.items})
        self._event(task, "STARTED", "started", False, _details(task))
        self.keep(task)
        self.wake()

    def by_submission(self, submission_id: str) -> Task | None:
        return self._tasks.get(self._by_submission.get(submission_id, ""))

    def conflicting(self, task: Task) -> bool:
        """Whether an unfinished transfer has the same endpoints and paths."""
        key = task.key()
        return any(other == key for name, other in self._keys.items() if name in self._unfinished)

    def get(self, task_id: str) -> Task | None:
        return self._tasks.get(task_id)

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
        self._by_submission.pop(task.submission_id, None)
        self._unfinished.pop(task_id, None)
        self._keys.pop(task_id, None)
        for kind in ("task", "items", "history"):
            self._documents.remove(kind, task_id)
        return True

    def delete_history(self, task: Task) -> None:
        task.history_deleted = True
        task.events, task.done, task.skips = [], [], []
        self.keep(task)

    def clear(self) -> None:
        for task in self._unfinished.values():
            task.stop = True
        self._tasks.clear()
        self._by_submission.clear()
        self._unfinished.clear()
        self._keys.clear()

    def wake(self) -> None:
        with self._wake:
            self._wake.notify_all()

    def close(self) -> None:
        self._ended = True
        for task in list(self._unfinished.values()):
            task.stop = True
        self.wake()

    def trouble_with(self, collection: Collection, operation: str, path: str) -> TransferError | None:
        """What a collection fault means for an operation (`ls`, `stat`, `mkdir`, `rename`) or a file of a task."""
        for fault in self.faults.for_collections(collection.id):
            trouble = self.collection_trouble(fault, operation, path)
            if trouble is not None and self.faults.strike(fault):
                return trouble
        return None

    def document(self, task: Task) -> dict[str, Any]:
        """The task document, with the keys of the recording in globus_sdk.testing and those of an ACTIVE one in public."""
        now = self._clock.now()
        delete = task.type == "DELETE"
        nice, details, ok = self._nice(task, now)
        options = task.options
        end = task.completed if task.completed is not None else now
        total = task.subtasks
        over = task.subtasks_done + task.subtasks_skipped + task.canceled + task.expired + task.failed
        return {
            "DATA_TYPE": "task",
            "bytes_checksummed": task.checksummed,
            "bytes_transferred": task.bytes,
            "canceled_by_admin": task.canceled_by[0] if task.canceled_by else None,
            "canceled_by_admin_message": task.canceled_by[1] if task.canceled_by else None,
            "command": "API 0.10",
            "completion_time": None if task.completed is None else iso(task.completed),
            "deadline": iso(task.deadline),
            "delete_destination_extra": bool(options.get("delete_destination_extra", False)),
            "destination_endpoint": None if delete else self._legacy_name(task.destination),
            "destination_endpoint_display_name": None if delete else self._display_name(task.destination),
            "destination_endpoint_id": None if delete else task.destination,
            "directories": task.directories,
            "effective_bytes_per_second": int(task.bytes / max(1.0, end - task.requested)),
            "encrypt_data": bool(options.get("encrypt_data", False)),
            "fail_on_quota_errors": bool(options.get("fail_on_quota_errors", False)),
            "fatal_error": task.fatal,
            "faults": task.faults,
            "files": task.files,
            "files_skipped": task.skipped,
            "files_transferred": task.moved,
            "filter_rules": options.get("filter_rules"),
            "history_deleted": task.history_deleted,
            "is_ok": ok,
            "is_paused": task.paused is not None and task.unfinished,
            "label": task.label,
            "nice_status": nice,
            "nice_status_details": details,
            "nice_status_expires_in": None if nice is None else -1,
            "nice_status_short_description": _short(nice),
            "owner_id": task.owner,
            "preserve_timestamp": bool(options.get("preserve_timestamp", False)),
            "recursive_symlinks": None if delete else options.get("recursive_symlinks", "ignore"),
            "request_time": iso(task.requested),
            "skip_source_errors": bool(options.get("skip_source_errors", False)),
            "source_endpoint": self._legacy_name(task.source),
            "source_endpoint_display_name": self._display_name(task.source),
            "source_endpoint_id": task.source,
            "status": task.status,
            "subtasks_canceled": task.canceled,
            "subtasks_expired": task.expired,
            "subtasks_failed": task.failed,
            "subtasks_pending": max(0, total - over - task.retrying),
            "subtasks_retrying": task.retrying if task.unfinished else 0,
            "subtasks_skipped_errors": task.subtasks_skipped,
            "subtasks_succeeded": task.subtasks_done,
            "subtasks_total": total,
            "symlinks": task.symlinks,
            "sync_level": options.get("sync_level"),
            "task_id": task.id,
            "type": task.type,
            "username": "u_" + task.owner.replace("-", "")[:26],
            "verify_checksum": not delete and bool(options.get("verify_checksum", False)),
        }

    def events(self, task: Task) -> list[dict[str, Any]]:
        """Newest first (assumed)."""
        self.age(task)
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
        for task in list(self._unfinished.values()):
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
        for task in self._unfinished.values():
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
        for other in self._unfinished.values():
            if other is task:
                break
            before += other.type == task.type and other.place in ("working", "queued")
        return before < AT_WORK

    def _hold_or_release(self, task: Task, now: float) -> None:
        """Pauses and INACTIVE come from faults in force, and go with them."""
        pause = inactive = None
        for fault in self.faults.for_task(task.id, task.label, task.source, task.destination):
            if fault.kind in ("paused", "pause-task"):
                pause = fault
            elif fault.kind == "inactive":
                inactive = fault
        if pause is not None and task.paused is None:
            task.paused = str(pause.with_.get("message", "Paused by the collection's administrator"))
            task.deadline = now + 90 * DAY
            task.place = "paused"
            task.stop = True
            self._event(task, "PAUSED", "paused", False, task.paused)
            self.keep(task)
        elif pause is None and task.paused is not None:
            task.paused = None
            task.deadline = now + DAY
            task.place = "queued"
            self._event(task, "UNPAUSED", "unpaused", False, "")
            self.keep(task)
        if inactive is not None and task.status == "ACTIVE":
            task.status = "INACTIVE"
            task.trouble, task.trouble_at = "NO_CREDENTIALS", now
            task.place = "paused"
            task.stop = True
            self._event(task, "NO_CREDENTIALS", WORDS["NO_CREDENTIALS"], True, "Credentials have expired")
            self.keep(task)
        elif inactive is None and task.status == "INACTIVE":
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
            with self._wake:
                self._event(task, "INTERNAL_ERROR", "internal error", True, repr(error))
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
        left = max(0, task.subtasks - task.subtasks_done - task.subtasks_skipped)
        task.stop = True
        task.status = status
        task.completed = now
        task.retrying = 0
        task.trouble = None
        task.place = "done"
        if code == "CANCELED":
            task.canceled = left
        elif code == "EXPIRED":
            task.expired = left
        elif code is not None:
            task.failed = left
        if code is not None:
            task.fatal = {"code": code, "description": WORDS.get(code, code.lower())}
        details = ""
        if code == "CANCELED":  # recorded: the task owner's cancel
            details = f"Canceled by the {'administrator' if task.canceled_by else 'task owner'}"
        self._event(task, code or status, WORDS.get(code or status, ""), code is not None, details)
        self._unfinished.pop(task.id, None)
        self._keys.pop(task.id, None)
        task.todo = None
        self.keep(task)
        task.settled = True
        self._wake.notify_all()

    # small parts

    def _nice(self, task: Task, now: float) -> tuple[str | None, str | None, bool | None]:
        """nice_status, nice_status_details, is_ok."""
        if not task.unfinished:
            return None, None, None
        if task.paused is not None and task.status == "ACTIVE":
            return "PAUSED_BY_ADMIN", task.paused, False
        if task.trouble is not None and now - task.trouble_at < ERROR_SHOWN:
            return task.trouble, None, False
        if task.place == "queued":
            return "Queued", None, True
        return "OK", None, True

    def _display_name(self, collection_id: str | None) -> str | None:
        found = self.collections.get(collection_id or "")
        return None if found is None else found.name

    def _legacy_name(self, collection_id: str | None) -> str:
        return f"u_sandbox#{collection_id}"

    def _event(self, task: Task, code: str, description: str, is_error: bool, details: str) -> None:
        task.events.append(
            {
                "DATA_TYPE": "event",
                "code": code,
                "description": description,
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
            self._event(
                task,
                trouble.code,
                trouble.message,
                True,
                f"Error ({'list' if trouble.side == 'source' else 'transfer'})\n"
                f"Endpoint: {self._display_name(endpoint)} ({endpoint})\n"
                f"File: {trouble.path}\nMessage: {trouble.message}\n",
            )

    def event(self, task: Task, code: str, description: str, details: str) -> None:
        with self._documents.lock:
            self._event(task, code, description, False, details)

    def now(self) -> float:
        return self._clock.now()

    def progressed(self, task: Task) -> None:
        """The deadline moves with work that was done, unless one was given (task_behavior, "Deadlines")."""
        if task.type == "TRANSFER" and not task.deadline_given:
            task.deadline = max(task.deadline, self._clock.now() + 3 * DAY)

    def collection_trouble(self, fault: Fault, operation: str, path: str) -> TransferError | None:
        writes = operation in ("mkdir", "rename", "write")
        if fault.kind == "disconnected":
            return TransferError("GC_NOT_CONNECTED", path, "destination" if writes else "source")
        if fault.kind == "login-failed":
            trouble = TransferError("AUTH", path, "destination" if writes else "source", "login failed")
            trouble.extra = {"authorization_parameters": session_parameters(fault.with_)}
            return trouble
        pattern = str(fault.with_.get("files", "*"))
        if not fnmatch.fnmatchcase(path, pattern):
            return None
        if fault.kind == "denied":
            return TransferError("PERMISSION_DENIED", path, "destination" if writes else "source")
        if fault.kind == "full" and writes:
            return TransferError("NO_SPACE_LEFT", path, "destination")
        if fault.kind == "quota" and writes:
            return TransferError("QUOTA_EXCEEDED", path, "destination")
        if fault.kind == "paused" and operation in ("ls", "stat", "mkdir", "rename"):
            return TransferError("PAUSED", path, "source", str(fault.with_.get("message", "")))
        return None

    def age(self, task: Task) -> None:
        if task.completed is not None and not task.history_deleted and self._clock.now() - task.completed > HISTORY:
            self.delete_history(task)

    def keep(self, task: Task) -> None:
        self._documents.put("task", task.id, {name: getattr(task, name) for name in Task.KEPT})
        # the lists of files of an unfinished task are made again after a restart
        done, skips = ([], []) if task.unfinished else (task.done, task.skips)
        self._documents.put("history", task.id, {"events": task.events, "done": done, "skips": skips})

    def _load(self) -> None:
        for record in self._documents.all("task"):
            kept = self._documents.get("items", record["id"]) or {"items": []}
            kept["items"] = list(map(Item._make, kept["items"]))  # not both: a million takes room
            history = self._documents.get("history", record["id"]) or {}
            task = Task(**record)
            task.items = kept["items"]
            task.events = history.get("events", [])
            task.done = [(one, other) for one, other in history.get("done", [])]
            task.skips = [(one, other, code, at) for one, other, code, at in history.get("skips", [])]
            self._tasks[task.id] = task
            self._by_submission[task.submission_id] = task.id
            if task.unfinished:
                faults = task.faults
                task.reset()
                task.faults = faults
                if task.paused is not None or task.status == "INACTIVE":
                    task.place = "paused"
                self._unfinished[task.id] = task
                if task.type == "TRANSFER":
                    self._keys[task.id] = task.key()
            else:
                task.place = "done"


def _short(nice: str | None) -> str | None:
    """nice_status_short_description (seen in public: "OK", "checksum verification failed")."""
    if nice in (None, "OK", "Queued"):
        return nice
    return WORDS.get(str(nice), str(nice).replace("_", " ").lower())


def _details(task: Task) -> str:
    return json.dumps({"type": task.type.lower(), "items": len(task.items)})
