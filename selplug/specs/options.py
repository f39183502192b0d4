from __future__ import annotations

import inspect
import math
from collections.abc import Mapping
from typing import Any

from ..core.errors import InputError
from ..registry import suggestion


def check_options(name: str, factory: Any, options: Mapping[str, Any]) -> dict[str, Any]:
    """All options of a factory: the given ones, checked against the defaults in its signature, and the other defaults.

    Raises:
        InputError: an option is unknown (the message lists the valid ones), its type differs from the default, a number
            is not finite, or a required option is missing.
    """
    parameters = list(inspect.signature(factory).parameters.values())[1:]  # without the model
    return check_parameters(name, parameters, options)


def check_parameters(name: str, parameters: list[inspect.Parameter], options: Mapping[str, Any]) -> dict[str, Any]:
    known = {p.name: p for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)}
    open_ended = any(p.kind is p.VAR_KEYWORD for p in parameters)
    checked = {key: p.default for key, p in known.items() if p.default is not p.empty}
    for key, value in options.items():
        if key not in known and not open_ended:
            raise InputError(f"{name} has no option {key!r}; {suggestion(key, known)}")
        checked[key] = _check_type(f"{name}: option {key}", value, checked.get(key))
    for key in known:
        if key not in checked:
            raise InputError(f"{name} needs the option {key}, as in {name}:{key}=...")
    return checked


def _check_type(what: str, value: Any, default: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        raise InputError(f"{what}: expected a finite number, got {value}")
    if isinstance(default, bool):
        if not isinstance(value, bool):
            raise InputError(f"{what}: expected true or false, got {value!r}")
    elif isinstance(default, float):
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise InputError(f"{what}: expected a number such as 0.03 or 8/255, got {value!r}")
        return float(value)
    elif isinstance(default, int):
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise InputError(f"{what}: expected a number, got {value!r}")
    elif isinstance(default, str) and not isinstance(value, str):
        raise InputError(f"{what}: expected a word, got {value!r}")
    return value
