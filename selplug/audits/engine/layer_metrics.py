"""The metrics of an audit: one of every measure for every layer and condition, and what each of them is fed with."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from torchmetrics import Metric

from ...core.measures.functional import shuffle_targets
from ...core.measures.local import local
from ...core.measures.unit_gradients import UnitGradients
from ...core.model.layers import Layer
from ...core.types import MeasureFactory
from .condition_sums import ConditionSums, MetricsByLayer


class LayerMetrics:
    """Makes and updates the metrics of every layer.

    Measures see the classes that have samples, as 0 to C - 1: a head may have 20,000 more.

    Args:
        layers: the layers.
        measures: the measures by name.
        targets: the labels of all samples (N,), on the CPU.
        seed: of the shuffled labels, and for the measures.
        device: where the metrics sum.
    """

    def __init__(
        self,
        layers: Sequence[Layer],
        measures: Mapping[str, MeasureFactory],
        targets: Tensor,
        seed: int,
        device: torch.device,
    ) -> None:
        present, self._classes = torch.unique(targets, return_inverse=True)
        self._shuffled = shuffle_targets(self._classes, seed)
        self._layers, self._measures, self._device = layers, measures, device
        self._options = {"num_classes": len(present), "seed": seed}

    def sums(self, *, clean: bool, gradients: bool = True) -> ConditionSums:
        """Of one condition, all 0; those of clean images have neither differences nor pairs.

        ``gradients``: with the measures of gradients.
        """
        pairs = self._with("on_pairs")
        apart = pairs if gradients else pairs | self._with("on_gradients")
        single = self._build({name: factory for name, factory in self._measures.items() if name not in apart})
        if clean:
            return ConditionSums(single, {}, {})
        return ConditionSums(single, self._build(self._with("on_differences")), self._build(pairs))

    def between_layers(self) -> dict[str, Metric]:
        """The metrics over all layers at once."""
        units = [layer.units for layer in self._layers]
        factories = {name: getattr(factory, "between_layers", None) for name, factory in self._measures.items()}
        return {
            name: local(factory(num_units=units, **self._options), self._device)
            for name, factory in factories.items()
            if factory is not None
        }

    def update(
        self,
        tables: MetricsByLayer,
        responses: Mapping[str, Tensor],
        where: slice,
        gradients: Mapping[str, UnitGradients] | None = None,
    ) -> None:
        """Feeds the samples ``where``: their responses (N, U) by layer, and gradients to the measures of those."""
        targets, shuffled = self._classes[where].to(self._device), self._shuffled[where].to(self._device)
        for layer, table in tables.items():
            for metric in table.values():
                if gradients and getattr(metric, "on_gradients", False):
                    metric.update(gradients[layer], targets)
                elif _takes_shuffled(metric):
                    metric.update(responses[layer], targets, shuffled_targets=shuffled)
                else:
                    metric.update(responses[layer], targets)

    def want_gradients(self, sums: ConditionSums) -> bool:
        """Whether there is a metric of gradients among those of a condition."""
        metrics = (metric for table in sums.measures.values() for metric in table.values())
        return any(getattr(metric, "on_gradients", False) for metric in metrics)

    def _with(self, attribute: str) -> dict[str, MeasureFactory]:
        return {name: factory for name, factory in self._measures.items() if getattr(factory, attribute, False)}

    def _build(self, factories: Mapping[str, MeasureFactory]) -> MetricsByLayer:
        if not factories:
            return {}
        return {
            layer.name: {
                name: local(factory(num_units=layer.units, **self._options), self._device)
                for name, factory in factories.items()
            }
            for layer in self._layers
        }


def _takes_shuffled(metric: Metric) -> bool:
    return "shuffled_targets" in inspect.signature(type(metric).update).parameters
