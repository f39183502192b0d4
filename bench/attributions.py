"""All units in one forward pass over a call per unit, and a list of layers over a call per layer."""

from __future__ import annotations

import warnings

import timm
import torch
from captum.attr import NeuronGradient
from selplug_captum.input_gradient import InputUnitGradient
from selplug_captum.selectivity import LayerClassSelectivity
from torch import Tensor, nn

from selplug.core.model.capture import find_layers

from .harness import Row, interleaved, ratio_row

CLASSES = 10


def rows(rounds: int = 5) -> list[Row]:
    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.manual_seed(0)
    model = timm.create_model("resnet18", num_classes=CLASSES).eval().to(device)
    size, count = (224, 64) if device == "cuda" else (64, 8)
    images = torch.rand(count, 3, size, size, device=device)
    what = f"{{}}: resnet18, {size} px, {count} images, {device}"
    return [_units(model, images, what, rounds), _layers(model, images, what, rounds)]


def _units(model: nn.Module, images: Tensor, what: str, rounds: int) -> Row:
    """All 64 units after the first stage; both give the same numbers."""
    layer = model.get_submodule("layer1.1.act2")
    ours, theirs = InputUnitGradient(model, layer), NeuronGradient(model, layer)

    def one_by_one() -> Tensor:
        norms = []
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that gradients are switched on
            for unit in range(64):
                gradient = theirs.attribute(images, lambda maps, unit=unit: maps[:, unit].mean((1, 2)))
                norms.append(gradient.flatten(1).norm(dim=1))
        return torch.stack(norms, 1)

    torch.testing.assert_close(ours.attribute(images), one_by_one(), rtol=1e-4, atol=1e-9)
    runs = {"InputUnitGradient": lambda: ours.attribute(images), "NeuronGradient": one_by_one}
    what = what.format("input gradients of 64 units, one call / a NeuronGradient call each")
    return ratio_row(what, "InputUnitGradient", "NeuronGradient", interleaved(runs, rounds), 1.0)


def _layers(model: nn.Module, images: Tensor, what: str, rounds: int) -> Row:
    names = [layer.module for layer in find_layers(model, images[:2])]
    layers = [model.get_submodule(name) for name in dict.fromkeys(names)]
    batch = [(images, torch.arange(len(images)) % CLASSES)]
    together = LayerClassSelectivity(model, layers).fit(batch)
    alone = [
        LayerClassSelectivity(model, layer, class_means=means)
        for layer, means in zip(layers, together.class_means, strict=True)
    ]
    runs = {
        "list": lambda: together.attribute(images, 1),
        "call per layer": lambda: [method.attribute(images, 1) for method in alone],
    }
    what = what.format(f"class selectivity of {len(layers)} layers, one list / a call each")
    return ratio_row(what, "list", "call per layer", interleaved(runs, rounds), 1.0)
