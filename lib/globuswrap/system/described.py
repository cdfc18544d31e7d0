"""Display results at a Python prompt and in a notebook: one line, and a small table."""

from __future__ import annotations

import abc
import html
from collections.abc import Iterable, Mapping, Sequence
from typing import TypeVar

T = TypeVar("T")


class Described(abc.ABC):
    """A result with a `repr` of one line and a table for notebooks, both made of `facts`."""

    @abc.abstractmethod
    def facts(self) -> Mapping[str, object]:
        """What a person wants to know first, by its name; empty values are not shown."""

    def __repr__(self) -> str:
        shown = " ".join(f"{name}={value}" for name, value in self._shown())
        return f"<{type(self).__name__} {shown}>"

    def _repr_html_(self) -> str:
        return html_table((), self._shown())

    def _shown(self) -> list[tuple[str, object]]:
        return [(name, value) for name, value in self.facts().items() if value not in (None, "", ())]


class Rows(tuple[T, ...]):
    """Several results: a tuple that shows itself as a table."""

    head: Sequence[str] = ()

    @abc.abstractmethod
    def row(self, each: T) -> Sequence[object]:
        """The cells of one of them, under `head`."""

    def __repr__(self) -> str:
        if not self:
            return f"<{type(self).__name__}: none>"
        rows = [tuple(map(str, each)) for each in (self.head, *map(self.row, self))]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        return "\n".join("  ".join(map(str.ljust, each, widths)).rstrip() for each in rows)

    def _repr_html_(self) -> str:
        return html_table(self.head, map(self.row, self)) if self else f"<p>{type(self).__name__}: none</p>"


def html_table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A table; what others have written is escaped."""
    title = "".join(f"<th>{html.escape(each)}</th>" for each in head)
    body = "".join("<tr>" + "".join(f"<td>{html.escape(str(cell))}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<table>{f'<tr>{title}</tr>' if title else ''}{body}</table>"
