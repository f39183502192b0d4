from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..engine.results import Condition, clean_of


@dataclass(frozen=True)
class Curve:
    """Conditions that differ in one numeric option, by its value; ``name`` is the spec without that option.

    ``norm`` is None unless the option is the size of the ball that an attack stays in.
    """

    name: str
    option: str
    norm: str | None
    one_step: bool
    points: tuple[tuple[float, Condition], ...]


def curves(conditions: Sequence[Condition]) -> list[Curve]:
    """Two or more perturbations of the same plugin that differ in one number alone; corruptions have a map instead.

    A curve over the eps of an attack starts at the clean accuracy, and so needs the clean condition among the others.
    """
    groups: dict[tuple[str, str, str], list[tuple[float, Condition]]] = {}
    threats: dict[tuple[str, str, str], Mapping[str, Any]] = {}
    for condition in conditions:
        if condition.kind == "corruption":
            continue
        options = {key: value for key, value in condition.options.items() if key != "parts"}
        plugin = condition.name.partition(":")[0].partition("@")[0]
        for option, value in options.items():
            if isinstance(value, bool) or not isinstance(value, (int, float)):
                continue
            rest = json.dumps({key: other for key, other in options.items() if key != option}, sort_keys=True)
            key = (plugin, option, rest)
            groups.setdefault(key, []).append((float(value), condition))
            threats[key] = condition.threat
    found = []
    for key, points in groups.items():
        if len({value for value, _ in points}) < 2:
            continue
        threat = threats[key]
        norm = threat["norm"] if threat.get("option") == key[1] else None
        clean = [(0.0, clean_of(conditions))] if norm and all(value > 0 for value, _ in points) else []
        found.append(
            Curve(
                name=_without(points[-1][1].name, key[1]),
                option=key[1],
                norm=norm,
                one_step=threat.get("steps") == 1,
                points=tuple(sorted([*clean, *points], key=lambda point: point[0])),
            )
        )
    return found


def _without(spec: str, option: str) -> str:
    """A spec without one of its options."""
    name, _, rest = spec.partition(":")
    kept = [item for item in rest.split(",") if item and item.partition("=")[0].strip() != option]
    return f"{name}:{','.join(kept)}" if kept else name
