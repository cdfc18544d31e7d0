"""Build argument lists of the `globus` command: pure functions that return tuples of strings.

An option is left out on None only. Every submission carries its submission id, the notification choice and
`--skip-activation-check`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

#: Accepted by every CLI that was run, 1.3 to 3.44, hidden since 3.31 and without effect since 3.37 (globus-cli changelog).
SKIP_ACTIVATION = "--skip-activation-check"


def submission_id() -> tuple[str, ...]:
    return ("task", "generate-submission-id")


def option(name: str, value: object | None) -> tuple[str, ...]:
    """`--name value`, or nothing for None."""
    return () if value is None else (f"--{name}", str(value))


def switch(name: str, value: bool | None) -> tuple[str, ...]:
    """`--name` for True, nothing for False or None."""
    return (f"--{name}",) if value else ()


def toggle(name: str, value: bool | None) -> tuple[str, ...]:
    """`--name` for True, `--no-name` for False, nothing for None (the service decides)."""
    return () if value is None else (f"--{name}" if value else f"--no-{name}",)


def submission(submission_id: str, label: str, notify: str, deadline: str | None) -> tuple[str, ...]:
    """The options that every transfer and delete carries."""
    return (
        *("--submission-id", submission_id, "--label", label, "--notify", notify, SKIP_ACTIVATION),
        *option("deadline", deadline),
    )


def task_list(task_ids: Sequence[str]) -> tuple[str, ...]:
    """The documents of these tasks in one process; `--limit` because the default shows 10."""
    filters = [part for task_id in task_ids for part in ("--filter-task-id", task_id)]
    return ("task", "list", *filters, "--limit", str(len(task_ids)))


def own_tasks(statuses: Iterable[str], label: str | None, limit: int) -> tuple[str, ...]:
    """Tasks of the user, of these statuses and of a label pattern where they are given."""
    filters = [part for status in statuses for part in ("--filter-status", status)]
    return ("task", "list", *filters, *option("filter-label", label), "--limit", str(limit))


def events(task_id: str, limit: int = 20) -> tuple[str, ...]:
    return ("task", "event-list", task_id, "--limit", str(limit))


def tree(address: str, depth: int) -> tuple[str, ...]:
    """A directory and `depth` levels of directories below it. Without the limit the CLI stops at 3 and does not say so."""
    return ("ls", "--all", "--recursive", "--recursive-depth-limit", str(depth), "--", address)
