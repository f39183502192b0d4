"""What is summed over one condition: the metrics of every layer, what was right, how large the change was."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor
from torchmetrics import Metric

from ...core.clean import CLEAN
from ...core.measures.functional import wilson_interval
from ...core.measures.local import state_bytes
from ...core.perturb import Perturbed
from ...core.types import Perturbation
from .results import Condition, TargetSuccess

#: layer -> measure -> metric
MetricsByLayer = dict[str, dict[str, Metric]]


@dataclass
class ConditionSums:
    """Sums over one condition; metrics of its responses, of their difference from clean, and of both as a pair."""

    measures: MetricsByLayer
    differences: MetricsByLayer
    pairs: MetricsByLayer
    correct: int = 0
    samples: int = 0
    l2_sum: float = 0.0
    linf_max: float = 0.0
    aimed: int | None = None
    hits: int = 0

    def bytes(self) -> int:
        """How much memory the metrics take."""
        tables = (self.measures, self.differences, self.pairs)
        return sum(state_bytes(metric) for table in tables for layer in table.values() for metric in layer.values())

    def count(self, predicted: Tensor, targets: Tensor, perturbed: Perturbed | None) -> None:
        """Adds a batch: predicted classes and labels (N,) on the CPU; ``perturbed`` is None for clean images."""
        self.correct += int((predicted == targets).sum())
        self.samples += len(targets)
        if perturbed is None:
            return
        self.l2_sum += float(perturbed.l2.sum())
        self.linf_max = max(self.linf_max, float(perturbed.linf.max()))
        if perturbed.targets is not None:
            wanted = perturbed.targets.cpu()
            aimed = wanted != targets
            self.aimed = (self.aimed or 0) + int(aimed.sum())
            self.hits += int((aimed & (predicted == wanted)).sum())

    def condition(self, perturbation: Perturbation | None, options: Mapping[str, Any]) -> Condition:
        """What was found under a perturbation, all of whose options are ``options``; None for clean images."""
        name = perturbation.name if perturbation else CLEAN
        return Condition(
            name=name,
            spec=(perturbation.spec if perturbation else "") or name,
            kind=perturbation.kind if perturbation else CLEAN,
            options=dict(options),
            threat=dict(perturbation.threat) if perturbation else {},
            accuracy=self.correct / self.samples,
            accuracy_ci95=wilson_interval(self.correct, self.samples),
            samples=self.samples,
            l2_mean=self.l2_sum / self.samples,
            linf_max=self.linf_max,
            targeted=self._targeted(),
        )

    def _targeted(self) -> TargetSuccess | None:
        if not self.aimed:
            return None if self.aimed is None else TargetSuccess(None, None, 0)
        return TargetSuccess(self.hits / self.aimed, wilson_interval(self.hits, self.aimed), samples=self.aimed)
