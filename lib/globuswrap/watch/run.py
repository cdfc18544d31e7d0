"""The loop of a watcher: see, wait until complete, write down, run, and see to what was run before."""

from __future__ import annotations

import contextlib
import heapq
import os
import time
from dataclasses import dataclass
from datetime import datetime, timezone

from globuswrap.errors import Refused, TryLater
from globuswrap.system import log, signals, units
from globuswrap.system.process import Started
from globuswrap.watch import ledger as ledgers
from globuswrap.watch import scanner
from globuswrap.watch.ledger import Ledger, Trigger
from globuswrap.watch.notices import Events
from globuswrap.watch.plan import Plan
from globuswrap.watch.scanner import Fingerprint

#: How long backoff may grow.
LONGEST_PAUSE = 3600.0
#: Looks at a running command: soon after it was started, and later. Seconds.
SOON, LATER = 0.02, 0.25


@dataclass
class Tally:
    """What a run of the loop did."""

    found: int = 0
    done: int = 0
    failed: int = 0
    aside: int = 0
    adopted: int = 0


@dataclass(frozen=True)
class Candidate:
    """A file that is not complete yet: its state, and since when (monotonic seconds) it is in it."""

    seen: Fingerprint
    since: float


@dataclass(frozen=True)
class _Pending:
    trigger: Trigger
    attempt: int
    due: float = 0.0


@dataclass
class _Flying:
    trigger: Trigger
    attempt: int
    started: Started | None
    since: float
    told: bool = False
    #: The other host that it was begun on, and when (seconds since the epoch).
    host: str = ""
    begun: float = 0.0


class Watcher:
    """One watcher on one ledger. Everything it holds in memory can be found again on disk."""

    def __init__(self, plan: Plan, ledger: Ledger) -> None:
        self.plan = plan
        self.ledger = ledger
        self.tally = Tally()
        self.candidates: dict[str, Candidate] = {}
        self.pending: dict[str, _Pending] = {}
        self.flying: dict[str, _Flying] = {}
        self._queue: list[tuple[float, int, str]] = []
        self._ripe_at = 0.0
        self._said_damaged: set[str] = set()
        self.known: set[str] = set()
        #: Triggers whose records cannot be read. The scan writes one anew when it sees the file that it is for.
        self.damaged: set[str] = set()
        names = ledger.names()
        ledger.sweep(names)
        self._take_up(names, at_start=True)

    def look_at_ledger(self) -> None:
        """Take up what other watchers have written down: they may be gone. That they are not runs nothing twice: each attempt
        is begun by whoever takes it first."""
        self._take_up(self.ledger.names(), at_start=False)

    def _take_up(self, names: ledgers.Names, *, at_start: bool) -> None:
        self.known |= names.done | names.aside
        before, self.damaged = self.damaged, set()
        for key in names.waiting - set(self.pending) - set(self.flying):
            trigger = self.ledger.read(key)
            if trigger is None:
                if self.ledger.waits(key):
                    self.damaged.add(key)
                    self.known.discard(key)
                continue
            self.known.add(key)
            self._follow_up(trigger, names.begun.get(key, 0), even_running=at_start)
        for key in self.damaged & before:
            if key not in self._said_damaged:
                self._said_damaged.add(key)
                log.say_problem(self.unreadable({key}))

    def _follow_up(self, trigger: Trigger, begun: int, *, even_running: bool) -> None:
        """Run a trigger of the ledger, or see to the attempt that was begun last."""
        if not begun:
            self._enqueue(_Pending(trigger, 1))
        elif even_running or self.ledger.attempt(trigger.key, begun).state not in ("running", "elsewhere"):
            self.flying[trigger.key] = _Flying(trigger, begun, None, 0.0)

    def unreadable(self, keys: set[str]) -> Refused:
        """The problem of damaged triggers whose files were not seen."""
        places = sorted(str(self.ledger.path(key, "trigger")) for key in keys)
        return Refused(
            "damaged-trigger",
            f"{places[0]}{f' and {len(places) - 1} more' if len(places) > 1 else ''}: this record is damaged, and its file is"
            " not in the directory any more, so it is unknown which file was to be processed",
            f"see what was processed with {self.ledger.repair_line()}, then remove the record:"
            f" {log.shell_line(('rm', *places[:3]))}",
        )

    def _enqueue(self, each: _Pending) -> None:
        """Wait until it is due; of those that are, the oldest file first."""
        self.pending[each.trigger.key] = each
        heapq.heappush(self._queue, (each.due, each.trigger.mtime_ns, each.trigger.key))

    # seeing

    def scan(self) -> None:
        """Look at the whole directory. OSError if it cannot be read."""
        for path in self.plan.wanted.scan():
            self.consider(path)

    def hinted(self, path: str) -> None:
        """Look at one path that something happened to; a directory may hold what came before it was watched."""
        wanted = self.plan.wanted
        with contextlib.suppress(OSError):  # it has gone again
            for each in wanted.scan(path) if os.path.isdir(path) and not os.path.islink(path) else [path]:
                if wanted.counts(each):
                    self.consider(each)

    def consider(self, path: str) -> None:
        seen = scanner.look(path)
        if seen is None or self.key(path, seen) in self.known:
            self.candidates.pop(path, None)
            return
        known = self.candidates.get(path)
        if known is None or known.seen != seen:
            self._note(path, seen)

    def _note(self, path: str, seen: Fingerprint) -> None:
        """It has been in this state since its change time, where the clock is the file system's, else since now."""
        age = 0.0 if self.plan.remote else max(0.0, time.time() - max(seen.changed, 0) / 1e9)
        candidate = Candidate(seen, time.monotonic() - age)
        self.candidates[path] = candidate
        self._ripe_at = min(self._ripe_at, candidate.since + self.plan.quiet)

    def key(self, path: str, seen: Fingerprint) -> str:
        """What makes a file in this state this trigger."""
        return scanner.key_of(self.plan.directory, path, seen, once_per_path=self.plan.once_per_path)

    def ripen(self) -> None:
        """Write down every candidate that has not changed for long enough."""
        now = time.monotonic()
        if now < self._ripe_at:
            return
        limit = now - self.plan.quiet
        ripe = [path for path, candidate in self.candidates.items() if candidate.since <= limit]
        for path in sorted(ripe, key=lambda each: self.candidates[each].since):
            candidate = self.candidates.pop(path)
            seen = scanner.look(path, fresh=self.plan.remote)
            if seen != candidate.seen:
                if seen is not None:
                    self._note(path, seen)
                continue
            self._write_down(path, seen)
        oldest = min((each.since for each in self.candidates.values()), default=float("inf"))
        self._ripe_at = oldest + self.plan.quiet

    def _write_down(self, path: str, seen: Fingerprint) -> None:
        key = self.key(path, seen)
        self.known.add(key)
        stamp = datetime.now(timezone.utc).strftime("%Y%m%dT%H%M%SZ")
        trigger = Trigger(key, path, seen.size, seen.modified, stamp)
        if not self.ledger.add(trigger):
            return  # another watcher has it
        self.tally.found += 1
        self.damaged.discard(key)
        self._follow_up(trigger, self.ledger.begun(key), even_running=True)

    # running

    def launch(self) -> None:
        """Start what is due, oldest first, as far as the limit allows."""
        while self._free() and self.is_due():
            _, _, key = heapq.heappop(self._queue)
            each = self.pending.pop(key)
            self._start(each.trigger, each.attempt)

    def _free(self) -> bool:
        """May one more be started? What another host runs is its own affair: it may be gone for good."""
        return sum(not each.host for each in self.flying.values()) < self.plan.in_flight

    def is_due(self) -> bool:
        return bool(self._queue) and self._queue[0][0] <= time.time()

    def _start(self, trigger: Trigger, attempt: int) -> None:
        if not self.ledger.waits(trigger.key):
            return  # another watcher has settled it
        seen = scanner.look(trigger.path)
        sendable = _is_utf_8(trigger.path)
        if seen is None or not sendable or self.key(trigger.path, seen) != trigger.key:
            if not self.ledger.take(trigger.key, attempt):
                self.flying[trigger.key] = _Flying(trigger, attempt, None, time.monotonic())
            elif seen is None:
                self._give_up(trigger, "the file is gone", attempt - 1)
            elif not sendable:
                self._give_up(trigger, "its name is not UTF-8; no command line can carry it", attempt - 1)
            else:
                # What was written down is no longer there; the file as it is now is a trigger of its own.
                log.say(f"{trigger.path}: has changed since it was found; waiting until it is complete again")
                self.ledger.drop(trigger, attempt)
                self.consider(trigger.path)
            return
        argv = self.plan.command_line(trigger.path, trigger.time, trigger.key)
        log.say(f"{trigger.path}: attempt {attempt}: {log.shell_line(argv)}", 2)
        started = self.ledger.start(trigger, attempt, argv)
        self.flying[trigger.key] = _Flying(trigger, attempt, started, time.monotonic())

    def land(self) -> None:
        """Look at every attempt that is not known to have ended."""
        hosts: set[str] = set()
        for key, each in list(self.flying.items()):
            found = self.ledger.attempt(key, each.attempt)
            if found.state == "none" and each.started is not None and each.started.running():
                continue
            if found.state == "elsewhere" and each.started is not None and not each.started.running():
                each.started = None  # another host was quicker: it is that one's
            if found.state in ("running", "elsewhere"):
                if each.started is None and not each.told:
                    each.told = True
                    self.tally.adopted += 1
                    each.host, each.begun = found.host, found.begun
                    if each.host:
                        hosts.add(each.host)
                    else:
                        log.say(f"{each.trigger.path}: attempt {each.attempt} still runs; waiting for it")
                continue
            del self.flying[key]
            self._ended(each.trigger, each.attempt, found)
        for problem in self.elsewhere():
            if problem.data is not None and problem.data["host"] in hosts:
                log.say_problem(problem)

    def elsewhere(self) -> list[TryLater]:
        """Of each other host what it has begun and not ended."""
        return ledgers.started_elsewhere(
            self.ledger, [(each.host, each.begun, each.trigger.path) for each in self.flying.values() if each.host]
        )

    def _ended(self, trigger: Trigger, attempt: int, found: ledgers.Attempt) -> None:
        key, plan = trigger.key, self.plan
        if found.state == "done":
            self.tally.done += 1
            output = self.ledger.output(key, attempt)
            log.say(f"{trigger.path}: done")
            for line in output.splitlines():
                log.say(f"  | {line}")
            self.ledger.finished(key, attempt)
            return
        if found.state == "none":  # the shell did not get as far as taking the attempt
            if self.ledger.path(key, "trigger").exists():
                log.say(f"{trigger.path}: its command could not be started; retrying in 5 s", 0)
                self._enqueue(_Pending(trigger, attempt, time.time() + 5.0))
            return  # else another watcher has settled it
        if found.state == "lost" and plan.lost == "aside":
            self._give_up(trigger, "its command was cut off, and may or may not have ended", attempt)
            return
        why = "was cut off" if found.state == "lost" else f"failed with {found.code}"
        if found.code == ledgers.TRY_LATER:
            why = "will be retried later (75)"
        failures = self.ledger.failures(key, attempt)
        if failures >= plan.attempts:
            self._give_up(
                trigger, f"its command {why}, after {units.counted(failures, 'attempt')}", attempt, found.code
            )
            return
        self.tally.failed += 1
        pause = min(plan.retry_after * 2 ** min(attempt - 1, 20), max(LONGEST_PAUSE, plan.retry_after))
        self._enqueue(_Pending(trigger, attempt + 1, found.ended + pause))
        log.say(f"{trigger.path}: its command {why}; again in {units.human_duration(pause)}", 0)
        self._say_end(key, attempt)

    def _give_up(self, trigger: Trigger, reason: str, attempt: int, code: int | None = None) -> None:
        self.tally.aside += 1
        self._say_end(trigger.key, attempt)
        self.ledger.set_aside(trigger, reason, attempt, code)
        log.say(f"{trigger.path}: set aside: {reason}", 0)
        log.say(f"  remedy: see what was set aside, and the command that retries it: {self.ledger.repair_line()}", 0)

    def _say_end(self, key: str, attempt: int) -> None:
        for line in self.ledger.output(key, attempt, 1000).splitlines()[-5:]:
            log.say(f"  | {line}", 0)

    # waiting

    def pause(self, next_scan: float) -> float:
        """Seconds until something is due that no hint tells of."""
        now, wall = time.monotonic(), time.time()
        waits = [next_scan - now]
        if self.flying:
            newest = max(each.since for each in self.flying.values())
            waits.append(SOON if now - newest < 1.0 else LATER)
        if self._queue and self._free():
            waits.append(self._queue[0][0] - wall)
        if self.candidates:
            waits.append(self._ripe_at - now)
        return max(0.0, min(waits))


def _is_utf_8(path: str) -> bool:
    try:
        path.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def follow(watcher: Watcher, events: Events | None, *, drain: bool = False) -> Tally:
    """Watch until interrupted; with `drain` until what is there now is dealt with, as far as it is due. Without `events` the
    directory is looked at every so often.

    With `drain`, TryLater (75) if the directory cannot be read; otherwise that is said, and looked at again.
    """
    plan = watcher.plan
    next_scan = 0.0
    next_look = time.monotonic() + plan.every
    unreadable = False
    deadline = 0.0
    while True:
        if time.monotonic() >= next_scan:
            began = time.monotonic()
            try:
                watcher.scan()
                if unreadable:
                    log.say(f"{plan.directory}: can be read again", 0)
                unreadable = False
            except OSError as error:
                if drain:
                    raise TryLater(
                        "unreadable-directory",
                        f"{plan.directory}: {error.strerror}",
                        "mount the directory, or make it readable",
                    ) from None
                if not unreadable:
                    log.say(f"{plan.directory}: {error.strerror}; checked again", 0)
                unreadable = True
            took = time.monotonic() - began
            interval = plan.every if events is None or unreadable else plan.rescan
            next_scan = time.monotonic() + max(interval, 10 * took)
            if not deadline:
                deadline = time.monotonic() + plan.quiet + 1.0
                log.say(
                    f"watching {plan.directory}: {len(watcher.pending)} to be run, {len(watcher.flying)} running,"
                    f" {len(watcher.candidates)} not complete yet"
                )
        if time.monotonic() >= next_look:
            began = time.monotonic()
            watcher.look_at_ledger()
            next_look = time.monotonic() + max(plan.every, 10 * (time.monotonic() - began))
        watcher.ripen()
        watcher.land()
        watcher.launch()
        log.set_activity(f"{len(watcher.flying)} commands run, {len(watcher.pending)} files wait")
        if drain and _drained(watcher, deadline):
            return watcher.tally
        pause = watcher.pause(min(next_scan, next_look))
        signals.check()
        if events is None:
            time.sleep(min(pause, 0.5) if drain else pause)
            continue
        hints = events.next(pause)
        if hints is None:
            every = units.human_duration(plan.every)
            log.say(f"the kernel no longer reports changes; looking every {every} from now on", 0)
            events, next_scan = None, 0.0
        for path in hints or ():
            watcher.hinted(path)


def _drained(watcher: Watcher, deadline: float) -> bool:
    """Nothing runs, nothing is due, and whatever was there at the start had its time to settle."""
    busy = any(each.started is not None or not each.told for each in watcher.flying.values())
    settling = bool(watcher.candidates) and time.monotonic() < deadline
    return not busy and not watcher.is_due() and not settling
