"""PGD-10 through selplug with the attacked model channels-last, compiled, or both, over the plain one, in turns."""

from __future__ import annotations

import time
from functools import partial

import timm
import torch
from torch import Tensor, nn

from selplug import specs
from selplug.core.model.compiled import CompiledModel
from selplug.core.model.unit_range import UnitRangeModel
from selplug.core.perturb import batch_seed, run_perturbation

from .harness import Row, interleaved, ratio_row

NORMALIZE = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
SPEC = "pgd:eps=1/255,alpha=0.25/255,steps=10"
Batches = list[tuple[Tensor, Tensor]]


def rows(rounds: int = 5) -> list[Row]:
    if torch.cuda.is_available():
        return _rows("resnet50", "cuda", size=224, count=64, batches=4, rounds=rounds)
    return _rows("resnet18", "cpu", size=64, count=32, batches=2, rounds=rounds)


def _rows(name: str, device: str, size: int, count: int, batches: int, rounds: int) -> list[Row]:
    torch.manual_seed(0)
    data: Batches = []
    for _ in range(batches):
        data.append((torch.rand(count, 3, size, size, device=device), torch.empty(count, device=device).long()))
    runs, compiling = {}, {}
    for channels_last in (False, True):
        torch.manual_seed(0)
        model = timm.create_model(name, num_classes=10).eval().requires_grad_(False).to(device)
        if channels_last:
            model = model.to(memory_format=torch.channels_last)
        inside = UnitRangeModel(model, NORMALIZE, 10, channels_last)
        label = "channels-last" if channels_last else "plain"
        if not channels_last:  # half of the labels are right: an attack leaves alone what is wrong from the start
            with torch.no_grad():
                data = [(images, _half_right(inside(images).argmax(1))) for images, _ in data]
        runs[label] = partial(_attack, inside, data)
        began = time.perf_counter()
        compiled = CompiledModel(inside, "inductor", data[0][0])
        label = "both" if channels_last else "compiled"
        compiling[label] = time.perf_counter() - began
        runs[label] = partial(_attack, compiled, data)
    timings = interleaved(runs, rounds)
    accuracy = {label: run() for label, run in runs.items()}
    result = []
    for label in ("channels-last", "compiled", "both"):
        what = f"PGD-10, {label} / plain: {name}, {size} px, {count * batches} images, {device}"
        row = ratio_row(what, label, "plain", {key: timings[key] for key in (label, "plain")}, float("inf"))
        took = f"; compiling took {compiling[label]:.0f} s" if label in compiling else ""
        same = f"; adversarial accuracy {accuracy[label]:.4f} and {accuracy['plain']:.4f}"
        result.append(Row(row.what, row.ratio, row.bound, row.detail + took + same))
    return result


def _half_right(predicted: Tensor) -> Tensor:
    wrong = torch.arange(len(predicted), device=predicted.device) % 2
    return (predicted + wrong) % 10


def _attack(model: nn.Module, data: Batches) -> float:
    """The accuracy under attack."""
    chosen = specs.perturbation(SPEC)
    perturb = chosen.factory(model, **chosen.options)
    correct = []
    for number, (images, labels) in enumerate(data):
        perturbed = run_perturbation(model, perturb, images, labels, seed=batch_seed(0, number)).images
        with torch.no_grad():
            correct.append((model(perturbed).argmax(1) == labels).float().mean())
    return float(torch.stack(correct).mean())
