"""What attacks do to early layers, less what corruptions do that cost as much: like is compared with like.

An attack is set beside the corruption that leaves nearly the same accuracy. Where a network has no such pair, all have
the one of nearly the same L2 size. A stronger perturbation moves representations more, of whatever kind it is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean

from ..audits.engine.results import LayerResult
from ..audits.record import AuditRecord
from ..report.style import printable
from .attack_types import TYPES

#: Accuracies of a pair differ by at most this, and the attack costs at least as much of it.
CLOSE, COSTS = 0.05, 0.05
#: L2 sizes of a pair differ by at most this factor.
NEARLY = 1.5
#: Corruptions that have to be there for a word on corruptions.
MIN_CORRUPTIONS = 2
#: Key of a measure of dimensionality -> what it is.
DIMENSIONS = {
    "participation_ratio": "participation ratio",
    "components_90": "components for 90 %",
    "components_95": "components for 95 %",
}
GAIN, DIFFERENCE = "gain", "difference"


#: ``what|type of attack|measure`` -> attacks less corruptions, mean over pairs, per unit. ``what`` is :data:`GAIN`,
#: perturbed less clean dimensionality, or :data:`DIFFERENCE`, the dimensionality of perturbed less clean responses.
Matched = Mapping[str, float]


def matched(
    reports: Sequence[AuditRecord],
    attacks: Mapping[str, Sequence[str]],
    corruptions: Sequence[str],
    kinds_of_corruption: Sequence[str],
    early: Sequence[slice],
    plain: Sequence[set[int]],
) -> tuple[list[Matched], list[str]]:
    """Per report, and notes on how perturbations were matched.

    Args:
        attacks: those that count, by type.
        corruptions, kinds_of_corruption: their conditions, and the corruptions among them.
        early: per report its early layers.
        plain: per report the layers in which the participation ratio is not corrected.
    """
    empty: list[Matched] = [{} for _ in reports]
    if not attacks or not corruptions:
        return empty, []
    if len(set(kinds_of_corruption)) < MIN_CORRUPTIONS:
        return empty, [
            f"{printable(kinds_of_corruption[0])} is the only corruption, which is too few for a word on corruptions "
            "against attacks"
        ]
    pairs, notes = {}, []
    for key, names in attacks.items():
        how, found = "accuracy", [_by_accuracy(report, names, corruptions) for report in reports]
        if not all(found):
            how, found = "L2 size", [_by_size(report, names, corruptions) for report in reports]
        pairs[key] = found
        some = sum(map(bool, found))
        notes.append(
            f"{TYPES[key]} are matched with corruptions of nearly the same {how}"
            + (f", which {len(reports) - some} of {len(reports)} networks do not have" if some < len(reports) else "")
        )
    return [
        _of_one(report, {key: pairs[key][place] for key in pairs}, part, own)
        for place, (report, part, own) in enumerate(zip(reports, early, plain, strict=True))
    ], notes


def _by_accuracy(report: AuditRecord, attacks: Sequence[str], corruptions: Sequence[str]) -> list[tuple[str, str]]:
    left = {condition.name: condition.accuracy for condition in report.result.conditions}
    clean = report.clean.accuracy
    found = []
    for attack in attacks:
        nearest = min(corruptions, key=lambda name: abs(left[name] - left[attack]))
        if clean - left[attack] >= COSTS and abs(left[nearest] - left[attack]) <= CLOSE:
            found.append((attack, nearest))
    return found


def _by_size(report: AuditRecord, attacks: Sequence[str], corruptions: Sequence[str]) -> list[tuple[str, str]]:
    sizes = {condition.name: condition.l2_mean or 0.0 for condition in report.result.conditions}
    known = [name for name in corruptions if sizes[name] > 0]
    found = []
    for attack in (name for name in attacks if sizes[name] > 0):
        factors = {name: max(sizes[name] / sizes[attack], sizes[attack] / sizes[name]) for name in known}
        nearest = min(factors, key=lambda name: factors[name], default=None)
        if nearest is not None and factors[nearest] <= NEARLY:
            found.append((attack, nearest))
    return found


def _of_one(
    report: AuditRecord, pairs: Mapping[str, Sequence[tuple[str, str]]], part: slice, plain: set[int]
) -> Matched:
    layers = list(enumerate(report.result.layers))[part]
    found = {}
    for kind, several in pairs.items():
        for measure in DIMENSIONS:
            for what, difference in ((GAIN, False), (DIFFERENCE, True)):
                gaps = [
                    _dimension(layer, attack, measure, place in plain, difference)
                    - _dimension(layer, corruption, measure, place in plain, difference)
                    for attack, corruption in several
                    for place, layer in layers
                ]
                # What is not a number is not defined in some layer or pair.
                if gaps and all(gap == gap for gap in gaps):  # noqa: PLR0124
                    found[f"{what}|{kind}|{measure}"] = fmean(gaps)
    return found


def _dimension(layer: LayerResult, condition: str, measure: str, plain: bool, difference: bool) -> float:
    """Per unit; the clean dimensionality is the same on both sides of a pair and drops out of a gain."""
    corrected = measure == "participation_ratio" and not plain
    value = layer.value(condition, "dimensionality", measure + ("_corrected" if corrected else ""), difference)
    return float("nan") if value is None else value / layer.units
