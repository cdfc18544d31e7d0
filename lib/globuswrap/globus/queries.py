"""Compile and name every JMESPath expression in one place.

Fields are those of the Transfer API's documents as `globus --format json` prints them (3.27 to 3.44).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

from globuswrap.errors import UsageProblem

VALUE = "value"
TASK_ID = "task_id"
CODE = "code"
ROWS = "DATA[]"
LABELLED = (
    "DATA[].{task_id: task_id, status: status, label: label, requested: request_time,"
    " source: source_endpoint_id, destination: destination_endpoint_id}"
)
EVENTS = "DATA[].{time: time, code: code, is_error: is_error, description: description, details: details}"
SKIPPED = "DATA[].{source: source_path, destination: destination_path, code: error_code, details: error_details}"
COPIED = "DATA[].{source: source_path, destination: destination_path}"
NAMES = "DATA[].name"
WEBAPP = "https://app.globus.org/activity/{task_id}"


@cache
def _compiled(expression: str) -> Any:
    import jmespath

    return jmespath.compile(expression)


def search(expression: str, document: object) -> Any:
    """The part of a document that a named expression picks; None where it is absent."""
    return _compiled(expression).search(document)


def matching(conditions: Sequence[str]) -> str:
    """The expression for the names of the files in a listing that meet every condition. UsageProblem for one that is no
    JMESPath."""
    import jmespath

    for condition in conditions:
        try:
            jmespath.compile(condition)
        except jmespath.exceptions.JMESPathError as error:
            cause = " ".join(str(error).split())
            raise UsageProblem(
                "bad-filter", f"{condition!r} is not JMESPath: {cause}", "write for example: ends_with(name, '.h5')"
            ) from None
    every = " && ".join(["type == 'file'", *(f"({condition})" for condition in conditions)])
    return f"DATA[?{every}].name"
