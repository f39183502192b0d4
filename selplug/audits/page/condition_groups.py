"""Which conditions of a report belong together, and which few of many to show first."""

from __future__ import annotations

from dataclasses import dataclass

from ...core.clean import CLEAN
from ...report.style import printable
from ..record import AuditRecord

#: Lines that a plot can hold and still be read.
FEW = 8
KINDS = {CLEAN: CLEAN, "attack": "attacks", "noise": "noise", "corruption": "corruptions", "shift": "shifted sets"}


@dataclass(frozen=True)
class ConditionGroup:
    """Conditions under one name. ``places`` are theirs in the report; the name is printable but not escaped."""

    name: str
    places: tuple[int, ...]


def condition_groups(report: AuditRecord) -> list[ConditionGroup]:
    """The first condition (clean) alone, then a group per corruption, per attack and per noise.

    Those that would stand alone are put together by their kind.
    """
    found: dict[tuple[str, str], list[int]] = {}
    for place, (kind, name) in enumerate(_families(report)):
        found.setdefault((kind, name), []).append(place)
    merged: dict[str, list[int]] = {}
    for (kind, name), places in found.items():
        alone = len(places) == 1 and sum(other == kind for other, _ in found) > 1
        merged.setdefault(f"other {kind}" if alone else name, []).extend(places)
    return [ConditionGroup(name, tuple(places)) for name, places in merged.items()]


def presets(report: AuditRecord) -> list[ConditionGroup]:
    """Choices of conditions worth a name, the one to start with first; clean images are part of all."""
    conditions = report.result.conditions
    every = tuple(range(len(conditions)))
    lowest = sorted(
        (min(group.places, key=lambda place: conditions[place].accuracy) for group in condition_groups(report)[1:]),
        key=lambda place: conditions[place].accuracy,
    )
    if len(every) <= FEW:
        found = [ConditionGroup("all", every)]
    else:
        name = (
            f"the lowest accuracy of each group, at most {FEW - 1}"
            if len(lowest) >= FEW
            else "the lowest of each group"
        )
        found = [ConditionGroup(name, (0, *sorted(lowest[: FEW - 1]))), ConditionGroup("all", every)]
    found.append(ConditionGroup("clean images alone", every[:1]))
    kinds = [kind for kind, _ in _families(report)]
    for kind in dict.fromkeys(kinds[1:]):
        found.append(ConditionGroup(kind, (0, *(place for place in every[1:] if kinds[place] == kind))))
    severities = [condition.options.get("severity") for condition in conditions]
    for severity in sorted({value for value in severities if isinstance(value, int)}):
        places = (place for place in every[1:] if severities[place] == severity)
        found.append(ConditionGroup(f"corruptions, severity {severity}", (0, *places)))
    # The same choice twice is one too many.
    return [group for i, group in enumerate(found) if group.places not in [other.places for other in found[:i]]]


def _families(report: AuditRecord) -> list[tuple[str, str]]:
    """Of every condition its kind, in the plural, and what it is one of."""
    found = []
    for condition in report.result.conditions:
        name = condition.options.get("corruption") or condition.name.partition(":")[0].partition("@")[0]
        found.append((KINDS.get(condition.kind, "conditions"), printable(name)))
    return found
