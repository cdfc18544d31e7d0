"""Make index entries from JSON lines, or from receipts by a template. Nothing here talks to Globus."""

from __future__ import annotations

import json
import posixpath
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from globuswrap.errors import UsageProblem
from globuswrap.system import records
from globuswrap.transfers import outcome

#: What one ingest document may hold: the service refuses more than 10 MB, and room is left for what surrounds the entries.
BATCH_BYTES = 8_000_000
BATCH_ENTRIES = 10_000
_FIELD = re.compile(r"\{(\w+)\}")
_ENTRY = {"subject", "content", "visible_to", "id", "@datatype", "@version"}


@dataclass(frozen=True)
class Defaults:
    """What an entry has that does not say it itself. `visible_to` are principals as Search has them."""

    visible_to: Sequence[str] = ()
    subject_field: str | None = None
    entry_id: str | None = None


def from_lines(lines: Iterable[str], defaults: Defaults, where: str) -> Iterator[dict[str, Any]]:
    """One entry for each line: a GMetaEntry (subject, content), or content alone with --subject. UsageProblem with the line."""
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            document = records.parsed(line)
        except ValueError as error:
            raise UsageProblem(
                "bad-entry", f"{where}, line {number}: {error}", "write one JSON object per line"
            ) from None
        if not isinstance(document, dict):
            raise UsageProblem(
                "bad-entry", f"{where}, line {number}: not a JSON object", "write one JSON object per line"
            )
        yield entry(document, defaults, f"{where}, line {number}")


def entry(document: Mapping[str, Any], defaults: Defaults, where: str) -> dict[str, Any]:
    """A complete GMetaEntry. UsageProblem when its subject or its visibility is nowhere said."""
    if defaults.subject_field is not None and "content" not in document:
        subject = document.get(defaults.subject_field)
        document = {"subject": subject, "content": dict(document)}
    unknown = sorted(set(document) - _ENTRY)
    if unknown:
        raise UsageProblem(
            "bad-entry",
            f"{where}: {unknown[0]!r} is not a field of an entry",
            "write {subject, content, visible_to}, or name the subject's field with --subject",
        )
    subject, content = document.get("subject"), document.get("content")
    if not isinstance(subject, str) or not subject or not isinstance(content, dict):
        raise UsageProblem("bad-entry", f"{where}: subject or content is missing", "give each entry both")
    seen = document.get("visible_to") or list(defaults.visible_to)
    if isinstance(seen, str):
        seen = [seen]
    if not isinstance(seen, list) or not seen:
        raise UsageProblem(
            "no-visibility",
            f"{where}: the entry has no visible_to, so nobody could see it",
            "add --visible-to public, or visible_to to the entry",
        )
    made: dict[str, Any] = {"subject": subject, "visible_to": seen, "content": content}
    given = document.get("id", defaults.entry_id)
    return {**made, "id": given} if given is not None else made


def batches(entries: Iterable[Mapping[str, Any]]) -> Iterator[list[Mapping[str, Any]]]:
    """The entries in lists that the service takes, in order. UsageProblem for an entry that is too large by itself."""
    current: list[Mapping[str, Any]] = []
    size = 0
    for each in entries:
        mine = len(json.dumps(each))
        if mine > BATCH_BYTES:
            raise UsageProblem("entry-too-large", f"{each['subject']}: {mine} bytes", "an entry has at most 8 MB")
        if current and (size + mine > BATCH_BYTES or len(current) >= BATCH_ENTRIES):
            yield current
            current, size = [], 0
        current.append(each)
        size += mine
    if current:
        yield current


def document(entries: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The ingest document of a batch."""
    return {"ingest_type": "GMetaList", "ingest_data": {"gmeta": list(entries)}}


# from receipts


def fields_of(
    receipt: Mapping[str, Any], pair: Mapping[str, Any] | None, namer: Callable[[str], str | None]
) -> dict[str, Any]:
    """What a template can name: every plain field of the receipt, `key`, the collections' names, and of a file its paths."""
    plain = {
        name: value for name, value in receipt.items() if isinstance(value, str | int | float | bool) or value is None
    }
    submission = receipt.get("submission") or {}
    names = {f"{side}_name": namer(str(receipt.get(side))) or receipt.get(side) for side in ("source", "destination")}
    found = {**plain, **names, "key": submission.get("name") or submission.get("key")}
    if pair is not None:
        source, destination = str(pair["source"]), str(pair["destination"])
        base = posixpath.basename(destination)
        found |= {
            "source_path": source,
            "destination_path": destination,
            "name": base,
            "stem": posixpath.splitext(base)[0],
            "directory": posixpath.dirname(destination),
        }
    return found


def filled(template: Any, fields: Mapping[str, Any]) -> Any:
    """The template with its `{fields}` filled in, all the way down. A text that is one field alone takes the field's type.

    UsageProblem for a field that is not known.
    """
    if isinstance(template, dict):
        return {str(filled(name, fields)): filled(value, fields) for name, value in template.items()}
    if isinstance(template, list):
        return [filled(each, fields) for each in template]
    if not isinstance(template, str):
        return template
    for name in _FIELD.findall(template):
        if name not in fields:
            raise UsageProblem(
                "unknown-field", f"{{{name}}} in the template", f"use one of: {', '.join(sorted(fields))}"
            )
    whole = _FIELD.fullmatch(template)
    if whole is not None:
        return fields[whole[1]]
    return _FIELD.sub(lambda match: str(fields[match[1]]), template)


def from_receipts(
    receipts: Iterable[Mapping[str, Any]],
    template: Mapping[str, Any],
    defaults: Defaults,
    *,
    each_file: bool,
    namer: Callable[[str], str | None] = lambda collection: None,
) -> Iterator[dict[str, Any]]:
    """Entries by a template: one for each receipt, or for each file that it lists. Only of transfers that went well."""
    for receipt in receipts:
        if receipt.get("kind") != "transfer" or receipt.get("outcome") not in outcome.GOOD:
            continue
        task = str(receipt.get("task_id"))
        pairs: Sequence[Mapping[str, Any] | None] = [None]
        if each_file:
            listed = receipt.get("files_list")
            if listed is None:
                raise UsageProblem(
                    "no-file-list", f"the receipt of task {task} lists no files", "transfer with --receipt-files"
                )
            pairs = listed
        for pair in pairs:
            yield entry(filled(template, fields_of(receipt, pair, namer)), defaults, f"template, task {task}")
