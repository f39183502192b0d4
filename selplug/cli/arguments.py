from __future__ import annotations

import re
from collections.abc import Sequence

#: timm's options that take any number of values, and what such a value looks like.
_MANY_VALUES = {"--mean": r"[-+]?\.?\d", "--std": r"[-+]?\.?\d", "--model-kwargs": r"\w+="}

#: timm's options that take a value or none, and what none means.
_OPTIONAL_VALUE = {"--torchcompile": "inductor"}


def one_value_each(arguments: Sequence[str]) -> list[str]:
    """As timm spells it, ``--mean 0.5 0.4 0.3`` -> ``--mean 0.5 --mean 0.4 --mean 0.3``, and an option without a value
    that may have one -> with its default."""
    result: list[str] = []
    rest = list(arguments)
    while rest:
        argument = rest.pop(0)
        if argument in _OPTIONAL_VALUE and (not rest or rest[0].startswith("-")):
            result += [argument, _OPTIONAL_VALUE[argument]]
            continue
        if argument not in _MANY_VALUES or not (rest and re.match(_MANY_VALUES[argument], rest[0])):
            result.append(argument)
            continue
        while rest and re.match(_MANY_VALUES[argument], rest[0]):
            result += [argument, rest.pop(0)]
    return result
