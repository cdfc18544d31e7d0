"""What to watch for and what to do then."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from globuswrap.errors import UsageProblem
from globuswrap.watch import scanner, template
from globuswrap.watch.scanner import Wanted

#: What an option of these names may say.
CHOICES = {"lost": ("again", "aside"), "observe": ("auto", "events", "poll")}


@dataclass(frozen=True)
class Plan:
    """As the options say it; durations are seconds. UsageProblem if they contradict each other."""

    directory: str
    command: tuple[str, ...]
    patterns: tuple[str, ...] = ()
    markers: tuple[str, ...] = ()
    ignored: tuple[str, ...] = ()
    recursive: bool = True
    settle: float | None = None
    once_per_path: bool = False
    in_flight: int = 4
    attempts: int = 5
    retry_after: float = 30.0
    every: float = 10.0
    rescan: float = 300.0
    lost: str = "again"
    observe: str = "auto"

    def __post_init__(self) -> None:
        for name, known in CHOICES.items():
            value = getattr(self, name)
            if value not in known:
                raise UsageProblem("bad-option", f"--{name} {value} is not valid", f"one of: {', '.join(known)}")
        if self.markers and self.settle is not None:
            raise UsageProblem(
                "bad-option",
                "--marker cannot be combined with --settle: a marker triggers at once",
                "use --pattern with --settle",
            )
        if self.markers and self.patterns:
            raise UsageProblem(
                "bad-option", "--marker cannot be combined with --pattern", "run two watchers, each with its own --name"
            )
        Wanted(self.markers or self.patterns or ("*",))  # an empty pattern is refused before anything starts
        template.checked(self.command)

    @cached_property
    def wanted(self) -> Wanted:
        """Which files count."""
        return Wanted(self.markers or self.patterns or ("*",), self.ignored, self.recursive)

    @property
    def quiet(self) -> float:
        """For how long a complete file has not changed."""
        return 0.0 if self.markers else 10.0 if self.settle is None else self.settle

    @cached_property
    def remote(self) -> bool:
        """Is the file system's clock, or what it reports, not to be relied on?"""
        return self.observe == "poll" or scanner.remote(self.directory)
