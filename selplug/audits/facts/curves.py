from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..engine.results import Condition


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


def curves(settings: Mapping[str, Any], conditions: Sequence[Condition]) -> list[Curve]:
    """Two or more perturbations of the same plugin that differ in one number alone; corruptions have a map instead.

    A curve over the eps of an attack starts at the clean accuracy.
    """
    by_name = {condition.name: condition for condition in conditions}
    groups: dict[tuple[str, str, str], list[tuple[float, Condition]]] = {}
    threats: dict[tuple[str, str, str], Mapping[str, Any]] = {}
    for entry in entries(settings):
        if entry.get("kind") == "corruption" or entry["name"] not in by_name:
            continue
        options = {key: value for key, value in entry["options"].items() if key != "parts"}
        plugin = str(entry["name"]).partition(":")[0].partition("@")[0]
        threat = entry.get("threat", {})
        for option, value in options.items():
            if isinstance(value, bool) or not isinstance(value, (int, float)):
                continue
            rest = json.dumps({key: other for key, other in options.items() if key != option}, sort_keys=True)
            key = (plugin, option, rest)
            groups.setdefault(key, []).append((float(value), by_name[entry["name"]]))
            threats[key] = threat
    found = []
    for key, points in groups.items():
        if len({value for value, _ in points}) < 2:
            continue
        threat = threats[key]
        norm = threat["norm"] if threat.get("option") == key[1] else None
        clean = [(0.0, conditions[0])] if norm and all(value > 0 for value, _ in points) else []
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


def entries(settings: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    entries = settings.get("perturbations", ())
    return [e for e in entries if isinstance(e, Mapping) and isinstance(e.get("options"), Mapping) and "name" in e]


def _without(spec: str, option: str) -> str:
    """A spec without one of its options."""
    name, _, rest = spec.partition(":")
    kept = [item for item in rest.split(",") if item and item.partition("=")[0].strip() != option]
    return f"{name}:{','.join(kept)}" if kept else name
