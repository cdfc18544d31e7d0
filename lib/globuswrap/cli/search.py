"""`globuswrap search`."""

from __future__ import annotations

import json
import sys
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from globuswrap.cli.options import Commands, command
from globuswrap.cli.output import Report, table
from globuswrap.errors import UsageProblem
from globuswrap.system import log, records, units

if TYPE_CHECKING:
    from globuswrap.search.entries import Defaults

app = Commands(help="Ingest into and query Globus Search.")

Index = Annotated[
    str, typer.Argument(help="Use the index with this UUID (see: globus search index list).", metavar="INDEX")
]


@command(app)
def ingest(
    index: Index,
    source: str | None = typer.Argument(
        None, help="Read entries from this file, one JSON object per line, or from stdin (-).", metavar="FILE"
    ),
    receipts: list[str] | None = typer.Option(
        None, help="Make entries from receipts: files, directories, or task ids and keys."
    ),
    template: Path | None = typer.Option(
        None, help="Make each entry from this JSON template, with {fields} of the receipt."
    ),
    each_file: bool = typer.Option(False, "--each-file", help="Make an entry for each file that a receipt lists."),
    visible_to: list[str] | None = typer.Option(
        None, help="Set who sees entries that name nobody: public, all-users, a person, group:NAME."
    ),
    subject: str | None = typer.Option(None, help="Read lines as content only, with the subject in this field."),
    entry_id: str | None = typer.Option(None, "--id", help="Set the id of entries that have none."),
    wait: bool = typer.Option(True, "--wait/--no-wait", help="Wait until the entries are in the index (default)."),
    timeout: float | None = typer.Option(
        None, parser=units.duration, help="Give up waiting after this time (exit 75)."
    ),
    poll: float = typer.Option("10s", parser=units.duration, help="Poll at least this often."),
    dry_run: bool = typer.Option(False, "--dry-run", help="Print the entries as JSON lines; send nothing."),
) -> Report:
    """Put entries into an index, and wait until they are indexed.

    Every entry must name who may see it. Sending an entry again is safe: it replaces the one with the same subject and id.
    """
    from globuswrap.collections import principals
    from globuswrap.search import ingest as ingesting
    from globuswrap.search.entries import Defaults

    identifier = _index(index)
    defaults = Defaults(principals.urns(visible_to or []), subject, entry_id)
    if (source is None) == (not receipts):
        raise UsageProblem(
            "no-entries",
            "nothing to ingest: no file of entries and no --receipts",
            "globuswrap search ingest INDEX FILE",
        )
    listed = list(
        _from_receipts(receipts or [], template, defaults, each_file) if source is None else _lines(source, defaults)
    )
    if not listed:
        raise UsageProblem("no-entries", "the file has no entries", "check how they were made")
    if dry_run:
        return Report({"entries": listed}, [json.dumps(each, ensure_ascii=False) for each in listed])
    done = ingesting.ingest(
        identifier,
        listed,
        wait=wait,
        timeout=timeout,
        poll=poll,
    )
    log.say(f"{len(listed)} entries in {len(done)} batches{'' if wait else ', not waited for'}")
    data = {"index": identifier, "entries": len(listed), "tasks": [vars(each) for each in done]}
    return Report(data, [each.task_id for each in done])


@command(app)
def query(
    index: Index,
    text: str | None = typer.Argument(None, help="Search for these words.", metavar="TEXT"),
    document: str | None = typer.Option(None, help="Send this request document (a JSON file, or - for stdin)."),
    limit: int | None = typer.Option(None, help="Show at most this many results.", min=1),
    advanced: bool = typer.Option(False, "--advanced", help="Read TEXT in the advanced query syntax."),
) -> Report:
    """Query an index: print the subjects, and the facets of a --document as tables.

    With --json, print the whole answer.
    """
    from globuswrap.search import ingest as ingesting

    if (text is None) == (document is None):
        raise UsageProblem(
            "no-query", "nothing to search for: no words and no --document", "globuswrap search query INDEX WORDS"
        )
    body = None if document is None else json.dumps(records.given_object(document)).encode()
    answer = ingesting.query(_index(index), text, body, limit=limit, advanced=advanced)
    more = int(answer.get("total") or 0) - int(answer.get("count") or 0)
    if more > 0:
        log.say(f"{more} more: raise --limit")
    lines = [str(each["subject"]) for each in answer["gmeta"]]
    for facet in answer.get("facet_results") or ():
        lines += ["", *_facet(facet)]
    return Report({"result": answer}, lines)


def _facet(facet: Mapping[str, Any]) -> list[str]:
    """A facet as a table: how many entries are in each bucket; of a sum or an average its one value."""
    name = str(facet.get("name") or "facet").upper()
    if "buckets" not in facet:
        return table([[str(facet.get("value"))]], [name])
    return table([[_bucket(each.get("value")), str(each.get("count"))] for each in facet["buckets"]], [name, "COUNT"])


def _bucket(value: Any) -> str:
    """What a bucket holds: a value, or from a range of numbers or dates its ends."""
    if isinstance(value, Mapping):
        low, high = (value.get(end) for end in ("from", "to"))
        return f"{'' if low is None else low} to {'' if high is None else high}".strip()
    return str(value)


def _index(text: str) -> str:
    from globuswrap.collections import names

    if not names.UUID.fullmatch(text):
        raise UsageProblem("bad-uuid", f"{text!r} is not the ID of a search index", "find it: globus search index list")
    return str(uuid.UUID(text))


def _lines(source: str, defaults: Defaults) -> Iterator[dict[str, Any]]:
    from globuswrap.search import entries as made

    if source == "-":
        yield from made.from_lines(sys.stdin, defaults, "standard input")
        return
    try:
        with open(source, encoding="utf-8", newline="\n") as file:
            yield from made.from_lines(file, defaults, source)
    except (OSError, UnicodeDecodeError) as error:
        raise UsageProblem("bad-entry", f"{source}: {error}", "name a file of JSON lines") from None


def _from_receipts(
    places: list[str], template: Path | None, defaults: Defaults, each_file: bool
) -> Iterator[dict[str, Any]]:
    from globuswrap.collections import names
    from globuswrap.search import entries as made

    if template is None:
        raise UsageProblem(
            "no-template", "--receipts needs a template that turns a receipt into an entry", "add --template FILE"
        )
    found = [receipt for place in places for receipt in _receipts(place)]
    yield from made.from_receipts(
        found, records.given_object(template), defaults, each_file=each_file, namer=names.name_of
    )


def _receipts(place: str) -> Iterator[Mapping[str, Any]]:
    path = Path(place)
    if path.exists():
        for file in sorted(path.glob("*.json")) if path.is_dir() else [path]:
            yield records.given_object(file)
        return
    from globuswrap.underway import lookup

    for task in lookup.words([place], accepted=False).named.tasks:
        if isinstance(task, str) or task.receipt is None:
            raise UsageProblem("no-receipt", f"{place} has no receipt yet", f"globuswrap wait {place}")
        if ":verify-" not in (task.claim.name or ""):  # of a batch: it brought nothing
            yield task.receipt
