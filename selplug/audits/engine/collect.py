"""Sums turned into numbers: the values of every layer under every condition."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from torchmetrics import Metric

from ...core.clean import CLEAN
from ...core.model.layers import Layer
from ...core.plugins.blame import blamed
from ...core.plugins.measure import Measure
from .condition_sums import ConditionSums
from .plain_values import sort_values
from .results import AuditResult, Condition, LayerResult, Sections


class Collector:
    """Collects what the conditions of an audit found, in the order in which they are added."""

    def __init__(self, layers: Sequence[Layer], measures: Mapping[str, Measure]) -> None:
        self._layers, self._measures = layers, measures
        self.conditions: list[Condition] = []
        self._values: dict[str, dict[str, Sections]] = {layer.name: {} for layer in layers}
        self._differences: dict[str, dict[str, Sections]] = {layer.name: {} for layer in layers}
        self._arrays: dict[str, dict[tuple[str, str], np.ndarray]] = {layer.name: {} for layer in layers}

    def add(self, condition: Condition, sums: ConditionSums) -> None:
        """Computes the metrics of the sums that a condition was made of."""
        self.conditions.append(condition)
        name = condition.name
        # Of measures that a condition does not have there is no table at all.
        own = {
            layer.name: {**sums.measures.get(layer.name, {}), **sums.pairs.get(layer.name, {})}
            for layer in self._layers
        }
        for prefix, tables, values in (
            ("", own, self._values),
            ("difference:", sums.differences, self._differences),
        ):
            for layer, table in tables.items():
                sections, arrays = sort_values(
                    {measure: self._computed(measure, metric, name) for measure, metric in table.items()}
                )
                values[layer][name] = sections
                self._arrays[layer].update({(prefix + name, key): array for key, array in arrays.items()})

    def _computed(self, measure: str, metric: Metric, condition: str) -> Any:
        with blamed(self._measures[measure].plugin, condition):
            return metric.compute()

    def layers(self) -> tuple[LayerResult, ...]:
        """The results of all layers."""
        return tuple(
            LayerResult(
                name=layer.name,
                kind=layer.kind,
                units=layer.units,
                dead_units=_dead_units(self._values[layer.name]),
                conditions=self._values[layer.name],
                differences=self._differences[layer.name],
                rectified=layer.rectified,
                arrays=self._arrays[layer.name],
            )
            for layer in self._layers
        )


def _dead_units(conditions: Mapping[str, Sections]) -> int | None:
    """Those under clean images, None where these or their selectivity were not measured."""
    if CLEAN not in conditions or "selectivity" not in conditions[CLEAN]:
        return None
    return conditions[CLEAN]["selectivity"].get("dead_units")


def joined(result: AuditResult, others: Sequence[AuditResult], names: Sequence[str]) -> AuditResult:
    """A result with the conditions of others that were measured on images of their own, in the order of ``names``."""
    if not others:
        return result
    conditions = {c.name: c for c in result.conditions}
    for other in others:
        (own,) = other.conditions
        conditions[own.name] = replace(own, l2_mean=None, linf_max=None)
    layers = []
    for layer, *same in zip(result.layers, *(other.layers for other in others), strict=True):
        sections = dict(layer.conditions) | {name: value for each in same for name, value in each.conditions.items()}
        arrays = dict(layer.arrays) | {key: array for each in same for key, array in each.arrays.items()}
        ordered = {name: sections[name] for name in names if name in sections}
        layers.append(replace(layer, conditions=ordered, arrays=arrays))
    return replace(result, conditions=tuple(conditions[name] for name in names), layers=tuple(layers))
