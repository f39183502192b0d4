"""Warnings about the numbers of a report."""

from __future__ import annotations

from ...report.style import listing, number, plural
from ..engine.results import LayerResult
from ..record import AuditRecord


def notes(report: AuditRecord) -> list[str]:
    """Plain sentences, the most serious first; names in them are printable but not escaped for HTML."""
    result = report.result
    layers = result.layers
    found: list[str] = []
    skipped = _skipped(report)
    if skipped:
        found.append(f"Skipped samples: {skipped} could not be read. All numbers are without them.")
    for check in report.attack_checks or ():
        if not check["passed"]:
            found.append(f"Check of the attacks failed ({check['name']}): {check['detail']}.")
    unpaired = [condition.name for condition in result.conditions if condition.l2_mean is None]
    if unpaired:
        found.append(
            f"Conditions with their own images, without clean counterparts: {listing(unpaired)}. They have no sizes, "
            "no differences from clean images and no examples."
        )
    absent = sum(1 for count in result.samples_per_class if not count)
    if absent:
        found.append(
            f"Classes without samples: {absent} of {len(result.samples_per_class)}; they do not count in selectivity."
        )
    limited = [layer.name for layer in layers if _flagged(layer, "dimensionality", "rank_limited")]
    if limited:
        found.append(
            f"Rank-limited layers: {len(limited)} of {len(layers)}. With at least as many units as samples, at most "
            f"N − 1 dimensions can be found: {listing(limited)}. Use more samples."
        )
    unresolved = [
        layer.name for layer in layers if _undefined(layer, "dimensionality", "participation_ratio_corrected")
    ]
    if unresolved:
        found.append(
            f"Corrected participation ratio not resolved in {len(unresolved)} of {plural(len(layers), 'layer')} under "
            f"at least one condition (too few samples to distinguish it from infinity): {listing(unresolved)}."
        )
    dead = [(layer.name, layer.dead_units) for layer in layers if layer.dead_units]
    if dead:
        found.append(
            f"Dead units: {sum(count for _, count in dead)} in {len(dead)} of {plural(len(layers), 'layer')}. They "
            "respond to no class on clean images and have selectivity 0: "
            f"{listing(f'{name} ({count})' for name, count in dead)}."
        )
    at_null = [layer.name for layer in layers if _at_null(layer)]
    if at_null:
        found.append(
            f"Selectivity no higher than with shuffled labels in {len(at_null)} of {plural(len(layers), 'layer')} "
            f"under at least one condition: {listing(at_null)}."
        )
    if any(_flagged(layer, "gradients", "differences") for layer in layers):
        found.append(
            "Input gradients from differences: an operation of the model has no forward-mode derivative, so central "
            "differences were used instead; they are less exact at kinks and at ties of max pooling."
        )
    no_gradient = [(layer.name, layer.value(report.clean, "gradients", "flat_units")) for layer in layers]
    flat = [(name, count) for name, count in no_gradient if count]
    if flat:
        found.append(
            f"Units without an input gradient: {sum(count for _, count in flat)} in {len(flat)} of "
            f"{plural(len(layers), 'layer')} on clean images. They count as 0 in the mean and over units, and have no "
            f"variability over samples: {listing(f'{name} ({count})' for name, count in flat)}."
        )
    rectified = [layer.name for layer in layers if layer.rectified]
    if rectified:
        found.append(
            f"Rectified layers: {len(rectified)} of {len(layers)}. Their negative values were set to 0 before "
            f"averaging, for all measures, so that selectivity stays in [0, 1]: {listing(rectified)}."
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
