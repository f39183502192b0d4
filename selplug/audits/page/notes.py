"""What a reader has to know before trusting the numbers of a report."""

from __future__ import annotations

from ...report.style import listing, number
from ..engine.results import LayerResult
from ..record import AuditRecord


def notes(report: AuditRecord) -> list[str]:
    """Plain sentences, the gravest first; names in them are printable but not escaped for HTML."""
    result = report.result
    layers = result.layers
    found: list[str] = []
    skipped = _skipped(report)
    if skipped:
        found.append(f"Skipped samples: {skipped} could not be read and take part in nothing here.")
    for check in report.attack_checks or ():
        if not check["passed"]:
            found.append(f"Check of the attacks failed ({check['name']}): {check['detail']}.")
    unpaired = [condition.name for condition in result.conditions if condition.l2_mean is None]
    if unpaired:
        found.append(
            f"Conditions with images of their own, which no clean images belong to: {listing(unpaired)}. They have no "
            "sizes, no differences from clean and no examples here."
        )
    absent = sum(1 for count in result.samples_per_class if not count)
    if absent:
        found.append(
            f"Classes without a sample: {absent} of {len(result.samples_per_class)}; they take no part in selectivity."
        )
    limited = [layer.name for layer in layers if _flagged(layer, "dimensionality", "rank_limited")]
    if limited:
        found.append(
            f"Rank-limited layers: {len(limited)} of {len(layers)} have at least as many units as there are samples, "
            f"so at most N − 1 dimensions can be seen there: {listing(limited)}. Use more samples."
        )
    unresolved = [
        layer.name for layer in layers if _undefined(layer, "dimensionality", "participation_ratio_corrected")
    ]
    if unresolved:
        found.append(
            f"Corrected participation ratio not resolved in {len(unresolved)} of {len(layers)} layers under some "
            f"condition: the samples cannot tell it from infinity: {listing(unresolved)}."
        )
    dead = [(layer.name, layer.dead_units) for layer in layers if layer.dead_units]
    if dead:
        found.append(
            f"Dead units: {sum(count for _, count in dead)} in {len(dead)} of {len(layers)} layers answer to no class "
            f"on clean images and count as selectivity 0: {listing(f'{name} ({count})' for name, count in dead)}."
        )
    at_null = [layer.name for layer in layers if _at_null(layer)]
    if at_null:
        found.append(
            f"Selectivity no higher than under shuffled labels in {len(at_null)} of {len(layers)} layers under some "
            f"condition: {listing(at_null)}."
        )
    if any(_flagged(layer, "gradients", "differences") for layer in layers):
        found.append(
            "Input gradients from differences: an operation of the model has no forward-mode derivative, so central "
            "differences took its place; they are less exact at kinks and at ties of max pooling."
        )
    no_gradient = [(layer.name, layer.value(report.clean, "gradients", "flat_units")) for layer in layers]
    flat = [(name, count) for name, count in no_gradient if count]
    if flat:
        found.append(
            f"Units without an input gradient: {sum(count for _, count in flat)} in {len(flat)} of {len(layers)} "
            "layers on clean images; they count as 0 in the mean and over units, and have no variability over samples: "
            f"{listing(f'{name} ({count})' for name, count in flat)}."
        )
    rectified = [layer.name for layer in layers if layer.rectified]
    if rectified:
        found.append(
            f"Rectified layers: {len(rectified)} of {len(layers)} go below zero and were cut off at 0 before "
            f"averaging, for all measures alike, so that selectivity stays in [0, 1]: {listing(rectified)}."
        )
    return found


def _skipped(report: AuditRecord) -> int:
    data = report.subject.get("data")
    skipped = data.get("skipped") if isinstance(data, dict) else None
    return len(skipped) if isinstance(skipped, (list, tuple)) else int(number(skipped) or 0)


def _flagged(layer: LayerResult, section: str, key: str) -> bool:
    """Whether a flag is set under some condition."""
    measured = (sections[section] for sections in layer.conditions.values() if section in sections)
    return any(values.get(key) is True for values in measured)


def _undefined(layer: LayerResult, section: str, key: str) -> bool:
    """Whether a value was measured, and not defined, under some condition."""
    return any(layer.has(c, section, key) and layer.value(c, section, key) is None for c in layer.conditions)


def _at_null(layer: LayerResult) -> bool:
    pairs = [[layer.value(c, "selectivity", key) for key in ("mean", "null")] for c in layer.conditions]
    return any(mean is not None and null is not None and mean <= null for mean, null in pairs)
