"""A training step with the selectivity penalty over the plain step, and the obvious way to write it beside it."""

from __future__ import annotations

import math

import timm
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from selplug.core.capture import find_layers
from selplug.core.regularizer import SelectivityRegularizer

from .harness import Row, interleaved, ratio_row

ALPHA, CLASSES, BATCH = 1.0, 10, 128


def rows(rounds: int = 8) -> list[Row]:
    result = [_compare("cpu", "resnet18", 64, rounds)]
    if torch.cuda.is_available():
        result.append(_compare("cuda", "resnet50", 224, 3 * rounds))
    return [row for pair in result for row in pair]


def _compare(device: str, name: str, size: int, rounds: int) -> tuple[Row, Row]:
    images = torch.rand(BATCH, 3, size, size, device=device)
    labels = torch.arange(BATCH, device=device) % CLASSES
    models = {}
    for way in ("plain", "penalty", "obvious"):
        torch.manual_seed(0)
        models[way] = timm.create_model(name, num_classes=CLASSES).to(device)
    optimizers = {way: torch.optim.SGD(model.parameters(), 1e-3) for way, model in models.items()}
    regularizer = SelectivityRegularizer(models["penalty"], ALPHA, images[:2])
    obvious = _Obvious(models["obvious"], images[:2])

    def step(way: str) -> None:
        with torch.autocast(device, torch.bfloat16, enabled=device == "cuda"):
            loss = F.cross_entropy(models[way](images), labels)
            if way == "penalty":
                loss = loss + regularizer(labels)
            elif way == "obvious":
                loss = loss + obvious(labels)
        optimizers[way].zero_grad()
        torch.autograd.backward(loss)
        optimizers[way].step()

    timings = interleaved({way: lambda way=way: step(way) for way in models}, rounds)  # type: ignore[misc]
    how = "bfloat16" if device == "cuda" else f"{torch.get_num_threads()} threads"
    what = f"{{}}: {name}, {size} px, batch {BATCH}, {device}, {how}"
    return (
        ratio_row(what.format("step with penalty / plain step"), "penalty", "plain", timings, 1.05),
        ratio_row(what.format("the same with full maps, class by class"), "obvious", "plain", timings, math.inf),
    )


class _Obvious:
    """Keeps the full maps in hooks and goes through the classes in a loop."""

    def __init__(self, model: nn.Module, images: Tensor) -> None:
        self.maps: dict[str, Tensor] = {}
        for layer in find_layers(model, images):
            model.get_submodule(layer.module).register_forward_hook(self._keep(layer.name))

    def _keep(self, name: str):  # type: ignore[no-untyped-def]
        def hook(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            self.maps[name] = output

        return hook

    def __call__(self, labels: Tensor) -> Tensor:
        layers = []
        for maps in self.maps.values():
            means = torch.stack([maps[labels == c].float().mean((0, 2, 3)) for c in torch.unique(labels)])
            largest = means.amax(0)
            rest = (means.sum(0) - largest) / (len(means) - 1)
            layers.append(((largest - rest) / (largest + rest + 1e-6)).mean())
        self.maps.clear()
        return -ALPHA * torch.stack(layers).mean()
