"""Read a directory that describes a flow (definition.json, schema.json, flow.toml), and check it as far as possible."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from globuswrap.errors import UsageProblem
from globuswrap.system import records, toml

#: Keys of flow.toml that name people -> fields of a flow.
PEOPLE = {
    "starters": "flow_starters",
    "viewers": "flow_viewers",
    "administrators": "flow_administrators",
    "run-managers": "run_managers",
    "run-monitors": "run_monitors",
}
TEXTS = ("title", "subtitle", "description")


@dataclass(frozen=True)
class Described:
    """A flow as its directory describes it. `people` are as they were written."""

    directory: Path
    title: str
    subtitle: str
    description: str
    keywords: Sequence[str]
    people: Mapping[str, Sequence[str]]
    definition: Mapping[str, Any]
    schema: Mapping[str, Any]


def read(directory: Path) -> Described:
    """The flow of a directory. UsageProblem says what is wrong, and in which file."""
    definition = records.given_object(directory / "definition.json")
    schema = records.given_object(directory / "schema.json")
    wrong = [*problems(definition), *schema_problems(schema)]
    if wrong:
        raise UsageProblem("bad-flow", f"{directory}: {wrong[0]}", "fix the definition or the schema")
    settings = _settings(directory / "flow.toml")
    unknown = sorted(set(settings) - {*TEXTS, "keywords", *PEOPLE})
    if unknown:
        known = ", ".join((*TEXTS, "keywords", *PEOPLE))
        raise UsageProblem("bad-flow", f"{directory / 'flow.toml'}: unknown key {unknown[0]}", f"use one of: {known}")
    return Described(
        directory,
        str(settings.get("title", directory.resolve().name)),
        str(settings.get("subtitle", "")),
        str(settings.get("description", "")),
        _list(settings, "keywords", directory),
        {name: _list(settings, name, directory) for name in PEOPLE},
        definition,
        schema,
    )


def _settings(path: Path) -> dict[str, Any]:
    try:
        return toml.parsed(path.read_bytes())
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise UsageProblem("bad-flow", f"{path}: {error}", "fix the TOML syntax") from None


def _list(settings: Mapping[str, Any], name: str, directory: Path) -> list[str]:
    found = settings.get(name, [])
    if not isinstance(found, list) or not all(isinstance(each, str) for each in found):
        raise UsageProblem(
            "bad-flow", f"{directory / 'flow.toml'}: {name} is not a list of strings", f'{name} = ["..."]'
        )
    return found


def problems(definition: Mapping[str, Any]) -> Iterator[str]:
    """What is wrong with a definition as far as can be seen here: states that are missing, never reached, or never end."""
    states = definition.get("States")
    start = definition.get("StartAt")
    if not isinstance(states, dict) or not states:
        yield "definition.json: States is missing"
        return
    if start not in states:
        yield f"definition.json: StartAt names no state: {start!r}"
        return
    reached, waiting = {start}, [start]
    while waiting:
        name = waiting.pop()
        state = states[name]
        followers = list(_followers(state))
        if not followers and not state.get("End") and state.get("Type") != "Fail":
            yield f"definition.json: state {name!r} has neither Next nor End"
        for follower in followers:
            if follower not in states:
                yield f"definition.json: state {name!r} continues with {follower!r}, which does not exist"
            elif follower not in reached:
                reached.add(follower)
                waiting.append(follower)
    for name in states:
        if name not in reached:
            yield f"definition.json: state {name!r} is never reached"


def _followers(state: Mapping[str, Any]) -> Iterator[str]:
    for name in ("Next", "Default"):
        if state.get(name) is not None:
            yield str(state[name])
    for part in ("Choices", "Catch"):
        yield from (str(each["Next"]) for each in state.get(part) or () if "Next" in each)


def schema_problems(schema: Mapping[str, Any]) -> list[str]:
    """What is wrong with an input schema itself. UsageProblem if jsonschema is not installed."""
    jsonschema = _jsonschema()
    try:
        jsonschema.Draft7Validator.check_schema(schema)
    except jsonschema.SchemaError as error:
        return [f"schema.json: {error.message}"]
    return []


def input_problems(schema: Mapping[str, Any], given: Mapping[str, Any]) -> list[str]:
    """Every way in which an input does not fit its schema, in words. UsageProblem if jsonschema is not installed."""
    jsonschema = _jsonschema()
    errors = jsonschema.Draft7Validator(schema).iter_errors(given)
    return [
        f"{'/'.join(map(str, error.absolute_path)) or 'input'}: {error.message}"
        for error in sorted(errors, key=lambda each: list(map(str, each.absolute_path)))
    ]


def _jsonschema() -> Any:
    try:
        import jsonschema
    except ImportError:
        raise UsageProblem(
            "no-jsonschema", "the jsonschema library is not installed", "pip install '.[flows]' in the checkout"
        ) from None
    return jsonschema
