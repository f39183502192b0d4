"""What the tests of input gradients share: a small network, its images, and what probes see of gradients."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from selplug.core.measures.gradients import GradientVariability
from selplug.core.measures.unit_gradients import UnitGradients, unit_gradients
from selplug.core.model.capture import find_layers
from selplug.core.model.state import frozen
from selplug.core.model.unit_range import UnitRangeModel

MEAN, STD = (0.4, 0.5, 0.6), (0.2, 0.25, 0.3)


def net(extra: nn.Module | None = None) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 12, 3),
        nn.BatchNorm2d(12),
        nn.ReLU(inplace=True),
        extra or nn.MaxPool2d(2),
        nn.Conv2d(12, 20, 3, padding=1),
        nn.GELU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(20, 3),
    ).eval()


def pictures(count: int = 6, size: int = 8) -> Tensor:
    images = torch.rand(count, 3, size, size, generator=torch.Generator().manual_seed(1))
    images[:, :, :4] = 0.5  # ties of the max pooling
    return images


def wrap(model: nn.Module) -> UnitRangeModel:
    return UnitRangeModel(model, (MEAN, STD), 3)


def measured(model: nn.Module, images: Tensor, count: int, seed: int = 0) -> dict[str, UnitGradients]:
    wrapped = wrap(model)
    with frozen(model):
        return unit_gradients(wrapped, find_layers(model, wrapped.prepare(images[:2])), images, count, seed)


def halves(gradients: Tensor, count: int, generator: torch.Generator) -> UnitGradients:
    """What probes see of gradients (N, U, D)."""
    directions = torch.randn(len(gradients), gradients.shape[2], count, generator=generator, dtype=torch.float64)
    squares = (gradients @ directions).square()
    return UnitGradients(torch.stack([squares[..., ::2].mean(-1), squares[..., 1::2].mean(-1)]), count)


def variability(found: UnitGradients) -> dict[str, float]:
    metric = GradientVariability(found.squares.shape[2])
    metric.update(found)
    return {name: float(value) for name, value in metric.compute().items() if value.ndim == 0}
