"""Doing what a task asks for: one pass over what is left of it, with the faults that are in force."""

from __future__ import annotations

import fnmatch
import json
import os
import stat as stat_module
from collections import deque
from collections.abc import Callable, Iterable
from typing import Protocol

from globus_sandbox import filesystem
from globus_sandbox.documents import CollectionRegistry
from globus_sandbox.faults import Fault, Faults, TransferError
from globus_sandbox.task import Task, Unit

SKIPPABLE = ("PERMISSION_DENIED", "FILE_NOT_FOUND", "AMBIGUOUS_PATH")
#: What ends a task at once (SDK documentation of `external_checksum`).
FATAL = ("EXTERNAL_CHECKSUM_MISMATCH",)


class Stopped(Exception):
    """The task was ended or paused while it was worked at."""


class Director(Protocol):
    """Whom a mover asks and tells: tasks.Engine."""

    collections: CollectionRegistry
    faults: Faults
    may: Callable[..., bool]

    def now(self) -> float: ...
    def error(self, task: Task, trouble: TransferError) -> None: ...
    def event(self, task: Task, code: str, details: str = "") -> None: ...
    def progressed(self, task: Task) -> None: ...


class Mover:
    """One pass over what is left of a task."""

    def __init__(self, engine: Director, task: Task) -> None:
        self.engine = engine
        self.task = task
        self.options = task.options
        source = engine.collections.get(task.source)
        destination = engine.collections.get(task.destination or task.source)
        assert source is not None and destination is not None
        self.source = source
        self.destination = destination
        self.faults = engine.faults.for_task(task.id, task.label, task.source, task.destination)
        self.made: set[str] = set()
        self.spoil = False
        #: Sources that are not there: they count as pending, what failed otherwise as retrying (recorded).
        self.missing: set[str] = set()

    def run(self) -> str:
        """How the pass ended: SUCCEEDED, AGAIN, or the code of what ended the task. Raises Stopped."""
        task, engine = self.task, self.engine
        if task.todo is None:
            task.todo = deque(Unit("item", item.source, item.destination, item) for item in task.items)
        try:
            self._reach()
            again = self._pass(task.todo)
        except TransferError as trouble:
            engine.error(task, trouble)
            if trouble.code in FATAL or trouble.fatal:
                return trouble.code
            return "AGAIN"
        if again:
            task.todo = again
            task.subtasks_retrying = sum(unit.source not in self.missing for unit in again)
            return "AGAIN"
        task.subtasks_retrying = 0
        self._extras()
        if task.skips and not any(event["code"] == "SKIPPED_ERRORS" for event in task.events):
            engine.event(task, "SKIPPED_ERRORS", json.dumps({"skipped": len(task.skips)}))
        if task.type == "TRANSFER":
            engine.event(task, "PROGRESS", json.dumps({"bytes_transferred": task.bytes_transferred}))
        return "SUCCEEDED"

    def _reach(self) -> None:
        """Both collections can be reached at all. Raises TransferError."""
        for fault in self.faults:
            code = {"disconnected": "GC_NOT_CONNECTED", "login-failed": "AUTH"}.get(fault.kind)
            if code is not None and self.engine.faults.strike(fault):
                collection = self.engine.faults.collection_of(fault)
                side = "source" if collection is None or collection.id == self.task.source else "destination"
                raise TransferError(code, "", side)

    def _pass(self, todo: deque[Unit]) -> deque[Unit]:
        """Do what is to do; what failed and is to be tried again. Raises TransferError for what stops the whole pass."""
        task = self.task
        again: deque[Unit] = deque()
        handle = {
            "item": self._item if task.type == "TRANSFER" else self._delete_item,
            "dir": self._directory,
            "file": self._file,
            "link": self._link,
        }
        while todo:
            if task.stop:
                again.extend(todo)
                task.todo = again
                raise Stopped
            unit = todo.popleft()
            try:
                if self.faults:
                    self._injected(unit)
                todo.extendleft(reversed(list(handle[unit.kind](unit))))
                task.subtasks_succeeded += 1
            except TransferError as trouble:
                self._failed(unit, trouble, again, todo)
            except (OSError, UnicodeError) as error:
                self._failed(unit, filesystem.trouble_of(error, unit.source, "source"), again, todo)
        return again

    def _failed(self, unit: Unit, trouble: TransferError, again: deque[Unit], todo: deque[Unit]) -> None:
        task = self.task
        if trouble.side == "source" and trouble.code in SKIPPABLE and self.options.get("skip_source_errors"):
            task.subtasks_skipped_errors += 1
            task.skips.append((unit.source, unit.destination, trouble.code, self.engine.now()))
            return
        if trouble.code in FATAL or (trouble.code == "QUOTA_EXCEEDED" and self.options.get("fail_on_quota_errors")):
            trouble.fatal = True
        again.append(unit)
        if trouble.code == "FILE_NOT_FOUND":
            self.missing.add(unit.source)
        if trouble.whole or trouble.fatal:
            again.extend(todo)
            task.todo = again
            raise trouble
        self.engine.error(task, trouble)

    def _injected(self, unit: Unit) -> None:
        """Raises the TransferError that a fault in force wants here."""
        task, strike = self.task, self.engine.faults.strike
        self.spoil = False
        moves = unit.kind == "file" or (unit.kind == "item" and task.type == "DELETE")
        for fault in self.faults:
            matches = fnmatch.fnmatchcase(unit.source, str(fault.with_.get("files", "*")))
            if fault.kind in ("break", "fail"):
                if moves and task.files_transferred >= int(fault.with_.get("after", 0)) and strike(fault):
                    breaks = fault.kind == "break"
                    code = str(fault.with_.get("code", "CONNECTION_RESET" if breaks else "ENDPOINT_ERROR"))
                    raise TransferError(code, unit.source, whole=breaks, fatal=not breaks)
            elif fault.kind == "file":
                if matches and strike(fault):
                    raise TransferError(str(fault.with_.get("code", "PERMISSION_DENIED")), unit.source)
            elif fault.kind == "corrupt":
                self.spoil = unit.kind == "file" and matches and strike(fault)
            elif fault.kind in ("denied", "full", "quota") and (unit.kind != "item" or task.type == "DELETE"):
                self._collection_fault(fault, unit)

    def _collection_fault(self, fault: Fault, unit: Unit) -> None:
        collection = self.engine.faults.collection_of(fault)
        for one, operation, path in ((self.source, "read", unit.source), (self.destination, "write", unit.destination)):
            if collection is None or collection.id != one.id or not path:
                continue
            trouble = fault.trouble(operation, path)
            if trouble is not None and self.engine.faults.strike(fault):
                raise trouble

    # transfers

    def _check_rights(self, unit: Unit) -> None:
        """Raises TransferError where the owner of the task has no permission."""
        may, task = self.engine.may, self.task
        if not may(self.source, task.owner, unit.source, write=task.type == "DELETE"):
            raise TransferError("PERMISSION_DENIED", unit.source)
        if task.type == "TRANSFER" and not may(self.destination, task.owner, unit.destination, write=True):
            raise TransferError("PERMISSION_DENIED", unit.destination, "destination")

    def _item(self, unit: Unit) -> Iterable[Unit]:
        """A named item: a link is followed; file or directory is found out unless said."""
        self._check_rights(unit)
        local = filesystem.place(self.source, unit.source)
        filesystem.place(self.destination, unit.destination, "destination")
        if unit.item.link:
            if not os.path.islink(local):  # what the service says then is not known; assumed
                raise TransferError("FILE_NOT_FOUND", unit.source)
            self.task.symlinks += 1
            return (Unit("link", unit.source, unit.destination, unit.item),)
        status = os.stat(local)
        filesystem.held_inside(self.source, local, unit.source, "source")
        is_directory = stat_module.S_ISDIR(status.st_mode)
        wanted = unit.item.recursive
        if wanted is True and not is_directory:
            raise TransferError("NOT_A_DIRECTORY", unit.source)
        if wanted is False and is_directory:
            raise TransferError("IS_A_DIRECTORY", unit.source)
        if is_directory:
            if unit.item.checksum is not None:
                raise TransferError("IS_A_DIRECTORY", unit.source)
            self.task.directories += 1
            return (Unit("dir", unit.source.rstrip("/") or "/", unit.destination.rstrip("/") or "/", unit.item),)
        if unit.source.endswith("/"):
            raise TransferError("AMBIGUOUS_PATH", unit.source)
        self.task.files += 1
        return (Unit("file", unit.source, unit.destination, unit.item),)

    def _directory(self, unit: Unit) -> Iterable[Unit]:
        local = filesystem.place(self.source, unit.source)
        target = filesystem.place(self.destination, unit.destination, "destination")
        if not filesystem.readable(os.stat(local)):
            raise TransferError("PERMISSION_DENIED", unit.source)
        self._make(target, unit.destination)
        rules = self.options.get("filter_rules") or []
        links = self.options.get("recursive_symlinks", "ignore")
        extra = bool(self.options.get("delete_destination_extra"))
        found: list[Unit] = []
        prefix = unit.source.rstrip("/") + "/"
        other = unit.destination.rstrip("/") + "/"
        with os.scandir(local) as entries:
            for entry in sorted(entries, key=lambda one: one.name):
                is_link = entry.is_symlink()
                is_directory = entry.is_dir(follow_symlinks=is_link and links == "copy")
                if is_link and links == "ignore":
                    continue
                kind = "link" if is_link and links == "keep" else "dir" if is_directory else "file"
                if rules and not filesystem.kept_by_filters(rules, entry.name, "dir" if kind == "dir" else "file"):
                    continue
                if kind == "file" and not entry.is_file():
                    continue
                if extra:
                    self._clear_other_type(target + "/" + entry.name, kind)
                if kind == "dir":
                    self.task.directories += 1
                elif kind == "link":
                    self.task.symlinks += 1
                else:
                    self.task.files += 1
                found.append(Unit(kind, prefix + entry.name, other + entry.name, unit.item))
        self.task.seen_directories.append((local, target))
        return found

    def _file(self, unit: Unit) -> Iterable[Unit]:
        task, options = self.task, self.options
        local = filesystem.place(self.source, unit.source)
        target = filesystem.place(self.destination, unit.destination, "destination")
        status = os.stat(local)
        if status.st_mode & 0o400 == 0:
            raise TransferError("PERMISSION_DENIED", unit.source)
        self._make(os.path.dirname(target), unit.destination)
        level = options.get("sync_level")
        try:
            there = os.stat(target)
        except OSError:
            there = None
        if there is not None and stat_module.S_ISDIR(there.st_mode):
            raise TransferError("IS_A_DIRECTORY", unit.destination, "destination")
        if level is not None and there is not None and self._same(level, local, target, status, there):
            task.files_skipped += 1
            self._check_external(unit, local)
            return ()
        try:
            verify = bool(options.get("verify_checksum", False))
            filesystem.copy(local, target, status.st_size, verify=verify, spoil=self.spoil)
            if options.get("preserve_timestamp"):
                os.utime(target, ns=(status.st_atime_ns, status.st_mtime_ns))
        except TransferError as trouble:
            trouble.path = unit.source if trouble.side == "source" else unit.destination
            raise
        except OSError as error:
            side = "source" if error.filename == local else "destination"
            raise filesystem.trouble_of(error, unit.source if side == "source" else unit.destination, side) from None
        self._check_external(unit, target)
        task.bytes_transferred += status.st_size
        task.files_transferred += 1
        task.done.append((unit.source, unit.destination))
        if task.files_transferred % 256 == 1:
            self.engine.progressed(task)
        return ()

    def _check_external(self, unit: Unit, local: str) -> None:
        if unit.item.checksum is None:
            return
        found = filesystem.digest(local, unit.item.algorithm or "md5")
        if found.lower() != unit.item.checksum.lower():
            raise TransferError("EXTERNAL_CHECKSUM_MISMATCH", unit.source)

    def _same(self, level: int, local: str, target: str, here: os.stat_result, there: os.stat_result) -> bool:
        """Whether the sync level finds the file there already (SDK documentation of `sync_level`)."""
        if level == 0:
            return True
        if level == 1:
            return here.st_size == there.st_size
        if level == 2:
            return int(here.st_mtime) <= int(there.st_mtime)
        self.task.bytes_checksummed += here.st_size
        return here.st_size == there.st_size and filesystem.digest(local) == filesystem.digest(target)

    def _link(self, unit: Unit) -> Iterable[Unit]:
        local = filesystem.place(self.source, unit.source)
        target = filesystem.place(self.destination, unit.destination, "destination")
        self._make(os.path.dirname(target), unit.destination)
        if os.path.lexists(target):
            os.unlink(target)
        os.symlink(os.readlink(local), target)
        return ()

    def _make(self, local: str, path: str) -> None:
        if local not in self.made:
            filesystem.make_directories(self.destination, local, path)
            self.made.add(local)

    def _clear_other_type(self, target: str, kind: str) -> None:
        if not os.path.lexists(target):
            return
        there = "link" if os.path.islink(target) else "dir" if os.path.isdir(target) else "file"
        if there != kind:
            filesystem.remove_tree(target)

    def _extras(self) -> None:
        """delete_destination_extra: what the source does not have goes, unless the source could not be read whole."""
        task = self.task
        if not self.options.get("delete_destination_extra"):
            return
        if task.skips:
            self.engine.event(task, "DELETE_DESTINATION_EXTRA_SKIPPED", "source errors were skipped")
            return
        for local, target in task.seen_directories:
            if not os.path.isdir(target):
                continue
            for name in os.listdir(target):
                if not os.path.lexists(os.path.join(local, name)):
                    filesystem.remove_tree(os.path.join(target, name))

    # deletes

    def _delete_item(self, unit: Unit) -> Iterable[Unit]:
        self._check_rights(unit)
        task = self.task
        paths = [unit.source]
        if self.options.get("interpret_globs"):
            paths = filesystem.globbed(self.source, unit.source)
            if not paths and not self.options.get("ignore_missing"):
                raise _not_there(unit.source)
        for path in paths:
            local = filesystem.entry(self.source, path)
            if not os.path.lexists(local):
                if self.options.get("ignore_missing"):
                    continue
                raise _not_there(path)
            is_directory = os.path.isdir(local) and not os.path.islink(local)
            if is_directory and self.options.get("recursive") is False:
                raise TransferError("IS_A_DIRECTORY", path)
            if not filesystem.writable(os.path.dirname(local)):
                raise TransferError("PERMISSION_DENIED", path)
            try:
                if filesystem.normal(path) == "/":
                    for name in os.listdir(local):
                        filesystem.remove_tree(os.path.join(local, name))
                else:
                    filesystem.remove_tree(local)
            except OSError as error:
                raise filesystem.trouble_of(error, path, "source") from None
            task.files += not is_directory
            task.directories += is_directory
            task.subtasks_succeeded += 1
            task.files_transferred += 1
        return ()


def _not_there(path: str) -> TransferError:
    """A deletion of what is not there fails at once (recorded in the tests of globus-cli: FILE_NOT_FOUND, within a second)."""
    return TransferError("FILE_NOT_FOUND", path, fatal=True)
