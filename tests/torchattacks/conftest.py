"""A tiny model whose decisions are spread over its classes and close to its images, and those images."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from selplug.core.model.unit_range import UnitRangeModel

# A spec without an origin is this very folder, taken for a package.
collect_ignore_glob = [] if getattr(importlib.util.find_spec("torchattacks"), "origin", None) else ["test_*.py"]
SIDE = 16


@pytest.fixture(autouse=True)
def one_thread():
    """Threads only cost time on images this small."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def network(num_classes: int, seed: int = 0, channels: int = 3) -> nn.Sequential:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        net = nn.Sequential(
            nn.Conv2d(channels, 8, 3, padding=1),
            nn.BatchNorm2d(8),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(4),
            nn.Flatten(),
            nn.Linear(128, num_classes),
        ).eval()
        with torch.no_grad():
            logits = net(torch.rand(256, channels, SIDE, SIDE))
            net[-1].weight.mul_(20)
            net[-1].bias.copy_(20 * (net[-1].bias - logits.mean(0)))
    return net


@pytest.fixture(scope="session")
def tiny() -> Callable[..., UnitRangeModel]:
    """``tiny(K)``: a model on images (N, 3, 16, 16) in [0, 1]; ``shift`` is added to all its logits."""

    def make(num_classes: int = 10, dtype: torch.dtype = torch.float32, shift: float = 0.0) -> UnitRangeModel:
        net = network(num_classes)
        net[-1].bias.data += shift
        return UnitRangeModel(net.to(dtype), None, num_classes).eval()

    return make


@pytest.fixture(scope="session")
def images() -> Tensor:
    """(5, 3, 16, 16), with some pixels at exactly 0 and 1."""
    pixels = torch.rand(5, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(1))
    return pixels.mul(1.2).sub(0.1).clamp(0, 1)


@pytest.fixture(scope="session")
def label() -> Callable[[nn.Module, Tensor], Tensor]:
    """The model's own decisions, so that all images are classified correctly."""

    def decide(model: nn.Module, pixels: Tensor) -> Tensor:
        with torch.no_grad():
            return model(pixels).argmax(1)

    return decide
