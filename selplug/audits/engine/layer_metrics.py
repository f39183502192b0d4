"""The metrics of an audit: one of every measure for every layer and condition, and what each of them is fed with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from torchmetrics import Metric

from ...core.measures.functional import shuffle_targets
from ...core.measures.local import local
from ...core.measures.unit_gradients import UnitGradients
from ...core.model.layers import Layer
from ...core.plugins.blame import blamed
from ...core.plugins.measure import Measure, takes_shuffled
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
        measures: Mapping[str, Measure],
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
        pairs = {name: measure for name, measure in self._measures.items() if measure.on_pairs}
        single = self._build(
            {
                name: measure
                for name, measure in self._measures.items()
                if not measure.on_pairs and (gradients or not measure.on_gradients)
            }
        )
        if clean:
            return ConditionSums(single, {}, {})
        differences = {name: measure for name, measure in self._measures.items() if measure.on_differences}
        return ConditionSums(single, self._build(differences), self._build(pairs))

    def between_layers(self) -> dict[str, Metric]:
        """The metrics over all layers at once."""
        units = [layer.units for layer in self._layers]
        found = {}
        for name, measure in self._measures.items():
            if measure.between_layers is not None:
                with blamed(measure.plugin):
                    found[name] = local(measure.between_layers(num_units=units, **self._options), self._device)
        return found

    def update(
        self,
        tables: MetricsByLayer,
        responses: Mapping[str, Tensor],
        where: slice,
        gradients: Mapping[str, UnitGradients] | None = None,
        condition: str = "",
    ) -> None:
        """Feeds the samples ``where``: their responses (N, U) by layer, and gradients to the measures of those.

        ``condition`` is named where a measure fails.
        """
        targets, shuffled = self._classes[where].to(self._device), self._shuffled[where].to(self._device)
        for layer, table in tables.items():
            for name, metric in table.items():
                measure = self._measures[name]
                with blamed(measure.plugin, condition):
                    if gradients and measure.on_gradients:
                        metric.update(gradients[layer], targets)
                    elif takes_shuffled(type(metric)):
                        metric.update(responses[layer], targets, shuffled_targets=shuffled)
                    else:
                        metric.update(responses[layer], targets)

    def want_gradients(self, sums: ConditionSums) -> bool:
        """Whether there is a metric of gradients among those of a condition."""
        return any(self._measures[name].on_gradients for table in sums.measures.values() for name in table)

    def _build(self, measures: Mapping[str, Measure]) -> MetricsByLayer:
        if not measures:
            return {}
        return {
            layer.name: {
                name: local(measure(num_units=layer.units, **self._options), self._device)
                for name, measure in measures.items()
            }
            for layer in self._layers
        }
