"""Read settings once, in layers: option > environment > named file > user file > site file > default.

Files are TOML and only read, never executed. The named file is that of `--config` or GLOBUSWRAP_CONFIG. Nothing is read from the
current directory, and no file that others can write: either could send data to a stranger's collection.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from functools import cache
from pathlib import Path
from typing import Any

from globuswrap.errors import UsageProblem, did_you_mean
from globuswrap.system import files, toml, units

#: Nice statuses of an ACTIVE task that do not go away by themselves (Transfer API documentation, "nice_status").
PERMANENT_FAULTS = ("FILE_NOT_FOUND", "PERMISSION_DENIED", "AMBIGUOUS_PATH", "QUOTA_EXCEEDED", "INVALID_PATH_NAME")


def _boolean(value: object) -> bool:
    if isinstance(value, bool):
        return value
    text = str(value).strip().lower()
    if text in {"1", "true", "yes", "on"}:
        return True
    if text in {"0", "false", "no", "off", ""}:
        return False
    raise UsageProblem("bad-setting", f"{value!r} is neither true nor false", "write true or false")


def _whole(value: object) -> int:
    try:
        return int(str(value))
    except ValueError:
        raise UsageProblem("bad-setting", f"{value!r} is not a whole number", "write a number such as 3") from None


def _codes(value: object) -> tuple[str, ...]:
    parts = value if isinstance(value, list) else str(value).split(",")
    return tuple(str(part).strip() for part in parts if str(part).strip())


def _setting(default: Any, read: Callable[[Any], Any]) -> Any:
    return field(default=default, metadata={"read": read})


@dataclass(frozen=True)
class Settings:
    """What `[defaults]` and the GLOBUSWRAP_* variables can set, each with what reads its value. Durations are seconds."""

    globus_command: str | None = _setting(None, str)
    credentials_file: str | None = _setting(None, str)
    globus_timeout: float = _setting(300.0, units.duration)
    poll: float = _setting(60.0, units.duration)
    timeout: float | None = _setting(None, units.duration)
    retry_for: float = _setting(600.0, units.duration)
    fault_grace: float = _setting(300.0, units.duration)
    max_faults: int | None = _setting(None, _whole)
    permanent: tuple[str, ...] = _setting(PERMANENT_FAULTS, _codes)
    notify: str = _setting("off", str)
    json: bool = _setting(False, _boolean)
    verbosity: int = _setting(1, _whole)


_READ: dict[str, Callable[[Any], Any]] = {each.name: each.metadata["read"] for each in fields(Settings)}

#: Environment twins. None for key, once, yes, prune or deletion: jobs inherit the caller's environment.
VARIABLES = {name: f"GLOBUSWRAP_{name.upper()}" for name in _READ} | {"globus_command": "GLOBUSWRAP_GLOBUS"}


@dataclass(frozen=True)
class Config:
    """The settings, the other tables of the files (outermost layer wins by key), and the files that were read."""

    settings: Settings = field(default_factory=Settings)
    tables: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    files: tuple[Path, ...] = ()

    def table(self, name: str) -> Mapping[str, Any]:
        return self.tables.get(name, {})


TABLES = ("collections", "defaults", "functions", "hooks", "sync", "staging")
#: What a program can be told of; the keys of `[hooks]`.
HOOKS = ("on-success", "on-failure", "on-attention")


@cache
def load() -> Config:
    """The configuration of this process. UsageProblem names the file and key that is wrong."""
    read = [(path, _parse(path)) for path in _paths()]
    settings = Settings()
    tables: dict[str, dict[str, Any]] = {}
    for path, document in reversed(read):
        for name, table in document.items():
            if name not in TABLES:
                raise _unknown(path, name, TABLES, "table")
            if not isinstance(table, dict):
                raise UsageProblem("bad-config", f"{path}: {name} is not a table", f"write it as [{name}]")
            if name == "hooks":
                _check_hooks(table, path)
            tables.setdefault(name, {}).update(table)
        settings = _with_defaults(settings, document.get("defaults", {}), path)
    return Config(_with_environment(settings), tables, tuple(path for path, _ in read))


def _paths() -> list[Path]:
    found = [path for path in (files.config_dir() / "config.toml", *files.site_config_files()) if path.is_file()]
    named = os.environ.get("GLOBUSWRAP_CONFIG")
    if named:
        if not os.path.isabs(named):
            raise UsageProblem(
                "no-config-file",
                f"GLOBUSWRAP_CONFIG={named} is a relative path, which names a different file in each directory",
                f"use an absolute path: export GLOBUSWRAP_CONFIG={shlex.quote(os.path.abspath(named))}",
            )
        if not os.path.isfile(named):
            raise UsageProblem(
                "no-config-file",
                f"GLOBUSWRAP_CONFIG={named}: no such file",
                "name another one, or: unset GLOBUSWRAP_CONFIG",
            )
        found.insert(0, Path(named))
    return found


def use(path: str) -> None:
    """Read this file too (`--config`), as if GLOBUSWRAP_CONFIG named it: here, and in every process started from here."""
    if not os.path.isfile(path):
        raise UsageProblem(
            "no-config-file", f"--config {path}: no such file", "name a TOML file; see docs/configuration.md"
        )
    os.environ["GLOBUSWRAP_CONFIG"] = os.path.abspath(path)
    load.cache_clear()


def _parse(path: Path) -> dict[str, Any]:
    files.refuse_if_others_write(path)
    try:
        return toml.parsed(path.read_bytes())
    except ValueError as error:
        raise UsageProblem("bad-config", f"{path}: {error}", "fix the TOML syntax") from None
    except OSError as error:
        raise UsageProblem("bad-config", f"{path}: {error.strerror}", "make the file readable") from None


def _with_defaults(settings: Settings, table: Mapping[str, Any], path: Path) -> Settings:
    known = {name.replace("_", "-"): name for name in _READ}
    for key, value in table.items():
        if key not in known:
            raise _unknown(path, key, tuple(known), "key in [defaults]")
        settings = _with_value(settings, known[key], value, f"{path}: {key}")
    return settings


def _check_hooks(table: Mapping[str, Any], path: Path) -> None:
    for key, value in table.items():
        if key not in HOOKS:
            raise _unknown(path, key, HOOKS, "key in [hooks]")
        if not isinstance(value, list) or not value or not all(isinstance(word, str) for word in value):
            raise UsageProblem(
                "bad-config",
                f"{path}: {key} in [hooks] is not a list of strings",
                f'write {key} = ["/path/to/program", "argument"]; it is run without a shell',
            )


def _with_environment(settings: Settings) -> Settings:
    for name, variable in VARIABLES.items():
        value = os.environ.get(variable)
        if value:
            settings = _with_value(settings, name, value, variable)
    return settings


def _with_value(settings: Settings, name: str, value: object, where: str) -> Settings:
    try:
        return replace(settings, **{name: _READ[name](value)})
    except UsageProblem as problem:
        raise UsageProblem(problem.name, f"{where}: {problem.cause}", problem.remedy) from None


def _unknown(path: Path, key: str, known: tuple[str, ...], what: str) -> UsageProblem:
    remedy = did_you_mean(key, known, f"use one of: {', '.join(known)}")
    return UsageProblem("unknown-config-key", f"{path}: unknown {what}: {key}", remedy)
