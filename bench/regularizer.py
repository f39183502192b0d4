"""A training step with the selectivity penalty over the plain step, and the obvious way to write it beside it."""

from __future__ import annotations

import math
import subprocess
import sys
from collections.abc import Callable, Sequence

import timm
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from selplug.core.model.capture import find_layers
from selplug.core.training.regularizer import SelectivityRegularizer

from .harness import Row, interleaved, peak_memory, ratio_row

ALPHA, CLASSES, STEPS = 1.0, 10, 3
#: Device -> model, pixels, images per batch, bound on the plain step.
SETTINGS = {"cpu": ("resnet18", 64, 128, 1.05), "cuda": ("resnet50", 224, 256, 1.03)}


def rows(rounds: int = 8) -> list[Row]:
    result = _on("cpu", rounds)
    return result + _on("cuda", 3 * rounds) if torch.cuda.is_available() else result


def _on(device: str, rounds: int) -> list[Row]:
    name, size, batch, bound = SETTINGS[device]
    how = "bfloat16, channels-last" if device == "cuda" else f"{torch.get_num_threads()} threads"
    what = f"{{}}: {name}, {size} px, batch {batch}, {device}, {how}"
    eager = _Steps(device, ("plain", "penalty", "obvious"))
    timings = interleaved(eager.runs, rounds)
    compiled = interleaved(_Steps(device, ("plain", "penalty"), compiled=True).runs, rounds)
    peaks = {way: _peak(device, way) for way in ("plain", "penalty", "obvious")}
    detail = "; ".join(f"{way} {peak:.0f} MiB" for way, peak in peaks.items())
    return [
        ratio_row(what.format("step with penalty / plain step"), "penalty", "plain", timings, bound),
        ratio_row(what.format("the same with full maps, class by class"), "obvious", "plain", timings, math.inf),
        ratio_row(what.format("the same, both under torch.compile"), "penalty", "plain", compiled, 1.03),
        Row(what.format("peak memory of steps, with penalty / plain"), peaks["penalty"] / peaks["plain"], 1.02, detail),
    ]


class _Steps:
    """Training steps of one network each, the same but for the penalty; ``runs`` takes one step."""

    def __init__(self, device: str, ways: Sequence[str], *, compiled: bool = False) -> None:
        name, size, batch, _ = SETTINGS[device]
        self.device = device
        self.layout = torch.channels_last if device == "cuda" else torch.contiguous_format
        self.images = torch.rand(batch, 3, size, size, device=device).contiguous(memory_format=self.layout)
        self.labels = torch.arange(batch, device=device) % CLASSES
        self.runs = {way: self._step(way, self._model(name), compiled) for way in ways}

    def _model(self, name: str) -> nn.Module:
        torch.manual_seed(0)
        model: nn.Module = timm.create_model(name, num_classes=CLASSES).to(self.device)
        return model.to(memory_format=self.layout)

    def _step(self, way: str, model: nn.Module, compiled: bool) -> Callable[[], None]:
        optimizer = torch.optim.SGD(model.parameters(), 1e-3)
        penalty: Callable[[Tensor], Tensor] | None = None
        if way == "penalty":
            penalty = SelectivityRegularizer(model, ALPHA, self.images[:2])
        elif way == "obvious":
            penalty = _Obvious(model, self.images[:2])
        # Code is shared between networks of a class, hooks or not.
        call = torch.compile(_Whole(model) if penalty is None else model) if compiled else model

        def step() -> None:
            with torch.autocast(self.device, torch.bfloat16, enabled=self.device == "cuda"):
                loss = F.cross_entropy(call(self.images), self.labels)
                if penalty is not None:
                    loss = loss + penalty(self.labels)
            optimizer.zero_grad()
            torch.autograd.backward(loss)
            optimizer.step()

        return step


class _Whole(nn.Module):
    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> Tensor:
        return self.model(images)


def _peak(device: str, way: str) -> float:
    """MiB above what there was before the first of a few steps: the least of three processes of their own."""
    command = [sys.executable, "-m", "bench.regularizer", device, way]
    runs = [subprocess.run(command, capture_output=True, text=True, check=True) for _ in range(3)]  # noqa: S603
    return min(float(run.stdout) for run in runs)


def _measure(device: str, way: str) -> float:
    step = _Steps(device, (way,)).runs[way]
    before = peak_memory()
    for _ in range(STEPS):
        step()
    if device == "cuda":
        return torch.cuda.max_memory_allocated() / 2**20
    return peak_memory() - before


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


if __name__ == "__main__":
    print(_measure(*sys.argv[1:]))
