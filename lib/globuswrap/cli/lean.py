"""Typer from 0.27 on builds a pydantic adapter for every option of a command, whether it was given or not: most of a short
command's start. Strings, flags and counts need none; anything else gets typer's own conversion, when it is given."""

from __future__ import annotations

from typing import Any


class _Conversion:
    """In place of an adapter until a value comes that needs one."""

    def coerce(self, value: Any, param: Any, ctx: Any) -> Any:
        several = param.multiple or param.nargs == -1
        if value is None:
            return () if several else None
        annotation = param.type_descriptor.annotation
        if isinstance(value, bool) or (annotation is int and isinstance(value, int)):
            return value
        if annotation is str and isinstance(value, str):
            return value
        if several and annotation == list[str] and isinstance(value, list | tuple):
            return list(value)
        param._runtime_param = None
        return param.get_runtime_param().coerce(value, param=param, ctx=ctx)


def lighten(command: Any) -> Any:
    """The click command with conversions made when they are needed."""
    parameters = command.get_params

    def get_params(ctx: Any) -> Any:  # not only command.params: --help is made here
        found = parameters(ctx)
        for param in found:
            if getattr(param, "_runtime_param", False) is None:
                param._runtime_param = _Conversion()
        return found

    command.get_params = get_params
    return command
