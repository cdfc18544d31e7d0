"""Where a watcher hears that something changed: from the kernel, or nowhere, and then it looks in intervals."""

from __future__ import annotations

import os
import queue
from typing import Any

from globuswrap.errors import UsageProblem
from globuswrap.system import log, units
from globuswrap.watch.plan import Plan


class Events:
    """Hints from the kernel, through watchdog. Only hints: the directory itself is the truth, and is looked at again."""

    def __init__(self, directory: str, recursive: bool) -> None:
        """Raises UsageProblem if watchdog is not installed, or the kernel has no more watches to give."""
        try:
            from watchdog.events import FileSystemEvent, FileSystemEventHandler
            from watchdog.observers import Observer
        except ImportError:
            raise UsageProblem(
                "no-watchdog",
                "the watchdog library is not installed",
                "pip install '.[watch]' in the checkout, or poll instead: --observe poll",
            ) from None
        hints: queue.SimpleQueue[str] = queue.SimpleQueue()

        class Handler(FileSystemEventHandler):
            def on_any_event(self, event: FileSystemEvent) -> None:
                if event.event_type in ("created", "modified", "closed", "moved"):
                    hints.put(os.fsdecode(event.dest_path or event.src_path))

        self._hints = hints
        self._observer: Any = Observer()
        self._observer.daemon = True
        try:
            self._observer.schedule(Handler(), directory, recursive=recursive)
            self._observer.start()
        except OSError as error:
            raise UsageProblem(
                "no-events",
                f"the kernel allows no more inotify watches: {error.strerror}",
                "raise fs.inotify.max_user_watches, or use --observe poll",
            ) from None

    def next(self, timeout: float) -> set[str] | None:
        """Wait so long at most for paths at which something changed; None: they are not told any more."""
        if not self._observer.is_alive():
            return None
        found: set[str] = set()
        try:
            found.add(self._hints.get(timeout=max(0.0, timeout)))
            while not self._hints.empty() and len(found) < 10_000:
                found.add(self._hints.get_nowait())
        except queue.Empty:
            pass
        return found


def chosen(plan: Plan, *, drain: bool) -> Events | None:
    """What `--observe` asks for; with `auto`, the kernel's hints where it has them. None: the directory is looked at in
    intervals, as on file systems that other hosts write to. UsageProblem if `events` cannot be had."""
    if drain or plan.observe == "poll" or (plan.observe == "auto" and plan.remote):
        return None
    try:
        return Events(plan.directory, plan.recursive)
    except UsageProblem as problem:
        if plan.observe == "events":
            raise
        log.say(f"{problem.cause}: polling every {units.human_duration(plan.every)}; {problem.remedy}", 0)
    return None
