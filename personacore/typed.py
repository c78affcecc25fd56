"""Plain mappings as typed dataclasses; every error names the key by its path and says what it may be."""

import dataclasses
import math
import types
from collections.abc import Mapping
from typing import Any, Literal, get_args, get_origin

from personacore.errors import UserError


def require(holds: bool, message: str) -> None:
    """Raise a UserError with the message, unless something holds."""
    if not holds:
        raise UserError(message)


def build(kind: type, values: object, where: str = "") -> Any:
    """An instance of the dataclass `kind` from a plain mapping; `where` is the path of keys so far.

    Raises:
        UserError: a key is unknown, missing or of the wrong type.
    """
    prefix = f"{where}." if where else ""
    require(isinstance(values, Mapping), f"{where or 'params'}: {values!r} is not a section of keys")
    fields = {entry.name: entry.type for entry in dataclasses.fields(kind)}
    for name in values:
        require(name in fields, f"{prefix}{name}: unknown key; {where or 'params'} has {', '.join(fields)}")
    for name in fields:
        require(name in values, f"{prefix}{name} is missing")
    return kind(**{name: _coerce(values[name], fields[name], f"{prefix}{name}") for name in fields})


def _coerce(value: object, kind: Any, where: str) -> Any:
    """`value` as the annotated type, with the one conversion that loses nothing: whole numbers to floats."""
    if dataclasses.is_dataclass(kind):
        return build(kind, value, where)
    if get_origin(kind) is Literal:
        require(value in get_args(kind), f"{where}: {value!r} is none of {', '.join(get_args(kind))}")
        return value
    if isinstance(kind, types.GenericAlias):
        container, item = get_origin(kind), get_args(kind)[-2 if get_origin(kind) is tuple else -1]
        if container is tuple:
            require(isinstance(value, list), f"{where}: {value!r} is not a list")
            return tuple(_coerce(entry, item, f"{where}[{n}]") for n, entry in enumerate(value))
        require(isinstance(value, dict), f"{where}: {value!r} is not a mapping")
        if item is float:
            return {str(name): _coerce(entry, float, f"{where}.{name}") for name, entry in value.items()}
        if dataclasses.is_dataclass(item):
            return {str(name): build(item, entry, f"{where}.{name}") for name, entry in value.items()}
        return {str(name): _coerce_plain(entry, f"{where}.{name}") for name, entry in value.items()}
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    names = {int: "a whole number", float: "a number", bool: "true or false", str: "text"}
    require(type(value) is kind, f"{where}: {value!r} is not {names[kind]}")
    require(kind is not float or math.isfinite(value), f"{where}: {value!r} is not finite")
    return value


def _coerce_plain(value: object, where: str) -> dict[str, Any]:
    require(isinstance(value, dict), f"{where}: {value!r} is not a mapping of sections to overrides")
    for section, overrides in value.items():
        require(isinstance(overrides, dict), f"{where}.{section}: {overrides!r} is not a mapping of keys to values")
    return value
