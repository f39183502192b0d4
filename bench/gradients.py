"""Input gradients of all units at once over a call per unit, with their errors; and how to take a derivative."""

from __future__ import annotations

import math
import time
import warnings

import timm
import torch
from captum.attr import NeuronGradient
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.autograd import forward_ad

from selplug.core.measures.gradients import GradientVariability, cv_over_samples, cv_over_units
from selplug.core.measures.unit_gradients import STEP, UnitGradients, unit_gradients
from selplug.core.model.capture import Capture, find_layers
from selplug.core.model.layers import Layer
from selplug.core.model.state import frozen
from selplug.core.model.unit_range import UnitRangeModel

from .harness import Row, interleaved, ratio_row

#: As many probes as bring every layer's coefficients within 5 %: those over samples are small in this network.
SIZE, IMAGES, PROBES = 32, 256, 128
#: Units of each layer that are timed (the others take as long), and those that are compared: early layers as a whole.
TIMED, CHECKED = 3, 64
Exact = dict[str, tuple[Tensor, Tensor]]


def rows(rounds: int = 2) -> list[Row]:
    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.manual_seed(0)
    inner, digits = _trained(device)
    model = UnitRangeModel(inner, ((0.5,) * 3, (0.25,) * 3), 10)
    images = digits[:IMAGES]
    with frozen(inner):
        layers = find_layers(inner, model.prepare(images[:2]))
        found = unit_gradients(model, layers, images, PROBES)
        worst = _errors(found, _exact(model, layers, images))
        return [_speed(model, layers, images, rounds), *worst, *_ways(model, layers, images[:16], rounds)]


def _trained(device: str) -> tuple[nn.Module, Tensor]:
    """A resnet18 that has learnt digits, and images of them: gradients of random weights hardly vary."""
    data = load_digits()
    images = torch.tensor(data.images / 16, dtype=torch.float32)[:, None].to(device)
    images = nn.functional.interpolate(images, SIZE, mode="bilinear").expand(-1, 3, -1, -1).contiguous()
    labels = torch.tensor(data.target).to(device)
    model = timm.create_model("resnet18", num_classes=10).to(device)
    optimizer = torch.optim.AdamW(model.parameters(), 1e-3)
    for _ in range(60):
        batch = torch.randint(len(labels), (64,), device=device)
        loss = nn.functional.cross_entropy(model((images[batch] - 0.5) / 0.25), labels[batch])
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        optimizer.step()
    return model.eval(), images


def _speed(model: UnitRangeModel, layers: tuple[Layer, ...], images: Tensor, rounds: int) -> Row:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that gradients are switched on
        base = 0.0
        for layer in layers:
            method = NeuronGradient(model, model.model.get_submodule(layer.module))
            start = time.perf_counter()
            for unit in range(TIMED):
                method.attribute(images, lambda maps, unit=unit: maps[:, unit].mean((1, 2))).flatten(1).norm(dim=1)
            base += (time.perf_counter() - start) / TIMED * layer.units
    ours = interleaved({"all": lambda: unit_gradients(model, layers, images, PROBES)}, rounds)["all"]
    what = f"input gradients of all {sum(layer.units for layer in layers)} units, {PROBES} probes / a NeuronGradient "
    what += f"call each, extrapolated from {TIMED} of each layer: resnet18, {SIZE} px, {IMAGES} images, {images.device}"
    detail = f"probes {ours.median:.2f} s [{ours.low:.2f}, {ours.high:.2f}]; NeuronGradient {base:.0f} s"
    return Row(what, ours.median / base, 1 / 20, detail)


def _exact(model: UnitRangeModel, layers: tuple[Layer, ...], images: Tensor) -> Exact:
    """Layer -> units, and g (N, units) of them by a backward pass each."""
    leaf = images.clone().requires_grad_()
    with Capture(model.model, layers) as capture:
        model(leaf * 1)
    found = {}
    for layer in layers:
        units = torch.randperm(layer.units)[:CHECKED]
        responses = capture.responses[layer.name].sum(0)
        gradients = (torch.autograd.grad(responses[unit], leaf, retain_graph=True)[0] for unit in units)
        found[layer.name] = units, torch.stack([g.double().flatten(1).norm(dim=1) for g in gradients], 1)
    return found


def _errors(found: dict[str, UnitGradients], exact: Exact) -> list[Row]:
    """The largest error of any layer's mean and coefficients of variation, on the same units."""
    worst = dict.fromkeys(("mean", "cv_samples", "cv_units"), (0.0, ""))
    for name, (units, g) in exact.items():
        metric = GradientVariability(len(units)).to(g.device)
        metric.update(UnitGradients(found[name].squares[:, :, units.to(g.device)], PROBES))
        values = metric.compute()
        truth = {
            "mean": g.mean(),
            "cv_samples": cv_over_samples(g.sum(0), g.square().sum(0), len(g), 0).nanmean(),
            "cv_units": cv_over_units(UnitGradients(g.square().expand(2, -1, -1), 0)).nanmean(),
        }
        for key, value in truth.items():
            text = f"{name}: {values[key]:.4g} ± {values[key + '_stderr']:.2g}, exact {value:.4g}"
            worst[key] = max(worst[key], (float((values[key] - value).abs() / value), text))
    what = f"largest relative error of {{}}, {len(exact)} layers"
    return [Row(what.format(key), error, 0.05, text) for key, (error, text) in worst.items()]


def _ways(model: UnitRangeModel, layers: tuple[Layer, ...], images: Tensor, rounds: int) -> list[Row]:
    """Forward-mode differentiation, the one that is used, beside differences and their largest errors."""
    direction = torch.randn_like(images)

    @torch.no_grad()
    def forward_mode() -> dict[str, Tensor]:
        with forward_ad.dual_level(), Capture(model.model, layers) as capture:
            model(forward_ad.make_dual(images, direction))
            return {name: forward_ad.unpack_dual(value).tangent for name, value in capture.responses.items()}

    @torch.no_grad()
    def differences(sides: tuple[int, int]) -> dict[str, Tensor]:
        found = []
        with Capture(model.model, layers) as capture:
            for side in sides:
                model(images + side * STEP * direction)
                found.append(capture.responses)
        return {name: (values - found[1][name]) / (sides[0] - sides[1]) / STEP for name, values in found[0].items()}

    exact = forward_mode()
    timings = interleaved({"forward mode": forward_mode, "differences": lambda: differences((1, -1))}, rounds)
    row = ratio_row("a derivative, forward mode / differences", "forward mode", "differences", timings, math.inf)
    texts = []
    for what, sides in (("both sides", (1, -1)), ("one side", (1, 0))):
        found = differences(sides)
        error = max(float((found[name] - value).norm() / value.norm()) for name, value in exact.items())
        texts.append(f"error of differences on {what} {error:.3f}")
    return [Row(row.what, row.ratio, row.bound, "; ".join((row.detail, *texts)))]
