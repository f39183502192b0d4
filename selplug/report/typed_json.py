"""JSON values back into the dataclasses that they were made of, checked against the types of their fields."""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Mapping
from typing import Any, TypeVar

from ..core.errors import InputError
from .style import shorten

T = TypeVar("T")
_NAMES = {str: "a text", int: "a whole number", float: "a number", bool: "true or false"}


def record(kind: type[T], value: Any, where: str) -> T:
    """A dataclass from a JSON object with its fields; those with a default may be missing, others are passed over.

    Args:
        kind: its fields are str, int, float, bool, Any, dataclasses, optional ones of these, tuples or mappings.
        value: what ``json.loads`` gave. Numbers stay as they are: a whole one in a field of type float stays an int.
        where: the place in the file, for errors.

    Raises:
        InputError: a field is missing or of another type; the message names its place.
    """
    if not isinstance(value, Mapping):
        raise _wrong(where, "an object", value)
    hints = typing.get_type_hints(kind)
    found = {}
    for field in dataclasses.fields(kind):  # type: ignore[arg-type]
        if field.name in value:
            found[field.name] = _typed(hints[field.name], value[field.name], f"{where}.{field.name}".lstrip("."))
        elif field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
            raise InputError(f"{where or 'the file'} has no {field.name!r}")
    return kind(**found)


def _typed(hint: Any, value: Any, where: str) -> Any:
    origin, parts = typing.get_origin(hint), typing.get_args(hint)
    if hint is Any:
        return value
    if origin in (types.UnionType, typing.Union):  # X | None
        return None if value is None else _typed(next(p for p in parts if p is not type(None)), value, where)
    if dataclasses.is_dataclass(hint):
        return record(typing.cast(type, hint), value, where)
    if origin is tuple:
        if not isinstance(value, list):
            raise _wrong(where, "a list", value)
        kinds = [parts[0]] * len(value) if parts[-1] is Ellipsis else parts
        if len(value) != len(kinds):
            raise _wrong(where, f"a list of {len(kinds)}", value)
        items = enumerate(zip(kinds, value, strict=True))
        return tuple(_typed(kind, item, f"{where}[{place}]") for place, (kind, item) in items)
    if origin is not None:  # a mapping: the keys of a JSON object are texts
        if not isinstance(value, dict):
            raise _wrong(where, "an object", value)
        return {key: _typed(parts[1], item, f"{where}[{key!r}]") for key, item in value.items()}
    accepted = (int, float) if hint is float else hint
    if not isinstance(value, accepted) or isinstance(value, bool) is not (hint is bool):
        raise _wrong(where, _NAMES.get(hint, hint.__name__), value)
    return value


def _wrong(where: str, expected: str, value: Any) -> InputError:
    shown = shorten(repr(value), 60)
    return InputError(f"{where or 'the file'}: expected {expected}, got {shown}")
