"""`submit --key`: which chain a key stands for. Of all processes and hosts that submit under a key, one names the chain.

    chain-keys/<key>/<n>            the n-th submission: its chain's id, and a digest of what was asked for
    chain-keys/<key>/<n>.settled    nothing more is owed under it: a caller was told, or nothing came of it

The chain's id is in the record before the chain exists, so whoever comes after a kill goes on with that very chain.
"""

from __future__ import annotations

import contextlib
import hashlib
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from globuswrap.errors import Refused
from globuswrap.staging.plan import Plan
from globuswrap.system import files, records
from globuswrap.transfers import request as requests

SCHEMA = "globuswrap.chain-key/1"

TOLD = "told"  # a caller knows what became of it
NOTHING = "nothing"  # it was refused, and all of it was undone


@dataclass(frozen=True)
class Submission:
    """One submission under a key. `settled` is empty until nothing more is owed."""

    name: str
    number: int
    chain: str
    digest: str
    once: bool
    script: str
    settled: str = ""


def _directory(name: str) -> Path:
    return files.state_dir() / "chain-keys" / requests.key_of("", name)


def latest(name: str) -> Submission | None:
    """The latest submission under a key; None if there is none."""
    found = {path.name: document for path, document in records.documents(_directory(name), SCHEMA)}
    numbers = [int(each) for each in found if each.isdigit()]
    return _submission(found, max(numbers)) if numbers else None


def names() -> set[str]:
    """Every key that was given to `submit`."""
    root = files.state_dir() / "chain-keys"
    found: set[str] = set()
    for directory in files.names(root):
        with contextlib.suppress(Refused):
            found |= {str(each["name"]) for _, each in records.documents(root / directory, SCHEMA) if "name" in each}
    return found


def _submission(found: dict[str, dict[str, Any]], number: int) -> Submission:
    fields = {each: found[str(number)][each] for each in Submission.__dataclass_fields__ if each != "settled"}
    return Submission(**fields, settled=found.get(f"{number}.settled", {}).get("how", ""))


def claim(mine: Submission) -> Submission:
    """Take the next number of a key, or read who has it."""
    directory = files.private_directory(_directory(mine.name))
    records.write_once(directory / str(mine.number), records.dump({"schema": SCHEMA, **asdict(mine)}))
    found = {path.name: document for path, document in records.documents(directory, SCHEMA)}
    return _submission(found, mine.number)


def settle(plan: Plan, how: str) -> None:
    """Note that nothing more is owed under the key of a chain, if it has one."""
    if plan.key:
        path = _directory(plan.key) / f"{plan.submission}.settled"
        records.write_once(path, records.dump({"schema": SCHEMA, "how": how}))


def digest_of(plan: Plan, script: bytes) -> str:
    """What makes it this submission and no other: the script, its steps, where and how it is submitted. How often globuswrap
    looks, and where the script lay, do not count."""
    staging = {name: value for name, value in asdict(plan.staging).items() if name not in ("poll", "fault_grace")}
    content = {
        "script": hashlib.sha256(script).hexdigest(),
        "name": Path(plan.script).name,
        "steps": [asdict(step) for step in plan.steps],
        "arguments": plan.arguments,
        "scheduler": plan.scheduler,
        "staging": staging,
        "cwd": plan.cwd,
    }
    return requests.digest_of(content)
