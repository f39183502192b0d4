"""A small network with everything that trips hooks, and what tests look at beside the methods."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from selplug import registry

CLASSES = 5


class Net(nn.Module):
    """In-place maps, a module used twice, tokens with a GELU; images (N, 3, 8, 8) -> logits (N, 5)."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 6, 3)
        self.bn = nn.BatchNorm2d(6)
        self.relu = nn.ReLU(inplace=True)
        self.conv2, self.conv3 = nn.Conv2d(6, 6, 3, padding=1), nn.Conv2d(6, 6, 3, padding=1)
        self.twice = nn.ReLU(inplace=True)
        self.tokens, self.gelu, self.mix = nn.Linear(6, 36), nn.GELU(), nn.Linear(36, 8)  # 36 tokens of 36 units
        self.drop, self.out = nn.Dropout(0.5), nn.Linear(8, CLASSES)

    def forward(self, x: Tensor, scale: Tensor | float = 1.0) -> Tensor:
        x = self.relu(self.bn(self.conv(x)))  # in place: what bn put out is gone after this
        x = self.twice(self.conv2(x))
        x = self.twice(self.conv3(x).neg_())  # and what conv3 did
        x = self.mix(self.gelu(self.tokens(x.flatten(2).transpose(1, 2))))
        return self.out(self.drop(x.mean(1))) * scale


def method(name: str) -> Any:
    return registry.load("selplug.attributions", name)


def make(name: str, model: nn.Module, layer: Any, loader: Any, **options: Any) -> Any:
    """A method of that name, fitted where it can be."""
    made = method(name)(model, layer, **options)
    return made if name == "input-unit-gradient" else made.fit(loader)


def stored(model: nn.Module, module: nn.Module, images: Any, given: bool = False) -> list[np.ndarray]:
    """What a module puts out (or is given), copied by a hook of the test's own, one array per call."""
    calls: list[np.ndarray] = []

    def keep(_: nn.Module, inputs: tuple[Tensor, ...], output: Any = None) -> None:
        calls.append((inputs[0] if given else output).detach().double().numpy().copy())

    handle = (module.register_forward_pre_hook if given else module.register_forward_hook)(keep)
    with torch.no_grad():
        model(images)
    handle.remove()
    return calls


def responses(activation: np.ndarray, axis: int = 1) -> np.ndarray:
    positions = tuple(a for a in range(1, activation.ndim) if a != axis)
    return np.maximum(activation, 0).mean(positions)


def trace(model: nn.Module) -> tuple[Any, ...]:
    """What a method has to leave as it was."""
    every = torch.nn.modules.module
    return (
        [(len(m._forward_hooks), len(m._forward_pre_hooks), len(m._backward_hooks)) for m in model.modules()],
        (len(every._global_forward_hooks), len(every._global_forward_pre_hooks)),
        [m.training for m in model.modules()],
        [(p.requires_grad, p.grad is None) for p in model.parameters()],
        [b.clone().tolist() for b in model.buffers()],
        torch.get_rng_state().tolist(),
        torch.is_grad_enabled(),
    )


METHODS: dict[str, Callable[..., Any]] = {
    "layer-class-selectivity": lambda m, x: m.attribute(x, 2),
    "class-selectivity": lambda m, x: m.attribute(x, 2),
    "layer-dimensionality": lambda m, x: m.attribute(x),
    "input-unit-gradient": lambda m, x: m.attribute(x),
}
