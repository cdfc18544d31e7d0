"""What can go wrong with a sandbox from the outside: each problem has a stable name, a cause and a remedy."""

from __future__ import annotations


class SandboxError(Exception):
    """An expected failure. `name` is stable; `cause` and `remedy` are one line each; `detail` is what was printed."""

    exit_code = 1

    def __init__(self, name: str, cause: str, remedy: str, *, detail: str = "") -> None:
        super().__init__(cause)
        self.name = name
        self.cause = cause
        self.remedy = remedy
        self.detail = detail


class BadRequest(SandboxError):
    """An option, a fault or a program that does not exist: nothing was done."""

    exit_code = 2


class Unreachable(SandboxError):
    """No sandbox answers, or it did not start."""

    exit_code = 75
