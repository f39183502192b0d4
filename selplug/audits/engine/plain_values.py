"""From what measures compute to what a report holds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from torch import Tensor

from ...core.errors import InputError


def sort_values(computed: Mapping[str, Mapping[str, Any]]) -> tuple[dict[str, dict[str, Any]], dict[str, np.ndarray]]:
    """Results of measures -> sections of numbers, and arrays.

    A number goes into the section called after its measure, a mapping is a section of its own, a tensor with axes is an
    array under its own name.

    Raises:
        InputError: a measure returned no mapping, or two measures give the same section or array.
    """
    sections: dict[str, dict[str, Any]] = {}
    arrays: dict[str, np.ndarray] = {}
    for measure, values in computed.items():
        if not isinstance(values, Mapping):
            raise InputError(f"measure {measure}: compute() must return a mapping of names to numbers or tensors")
        for key, value in values.items():
            is_array = isinstance(value, Tensor) and value.ndim > 0
            if key in arrays if is_array else isinstance(value, Mapping) and key in {*sections, *computed}:
                raise InputError(f"measure {measure}: another measure gives {key!r} already; rename it in one of them")
            if isinstance(value, Mapping):
                sections[key] = {name: _number(item) for name, item in value.items()}
            elif is_array:
                arrays[key] = value.cpu().numpy()
            else:
                sections.setdefault(measure, {})[key] = _number(value)
    return sections, arrays


def plain_values(values: Any) -> Any:
    """JSON-ready but for NaN: tensors as numbers or nested lists, mappings copied."""
    if isinstance(values, Mapping):
        return {key: plain_values(item) for key, item in values.items()}
    return values.tolist() if isinstance(values, Tensor) else values


def _number(value: Any) -> Any:
    return value.item() if isinstance(value, Tensor) else value
