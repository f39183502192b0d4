"""Every method that comes with selplug, under ``selplug explain``'s runner and by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from selplug import specs

pytest.importorskip("captum")
pytest.importorskip("timm")

import timm
from selplug_captum.dimensionality import LayerDimensionality
from selplug_captum.selectivity import ClassSelectivity, LayerClassSelectivity

from selplug import registry
from selplug.core.errors import InputError
from selplug.core.types import Subject
from selplug.explanations.run import CLEAN, Picture, run_explain

OURS = {
    "class-selectivity": ClassSelectivity,
    "layer-class-selectivity": LayerClassSelectivity,
    "layer-dimensionality": LayerDimensionality,
}


@pytest.fixture
def model():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return nn.Sequential(
            nn.Conv2d(3, 6, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(6, 8, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(8, 3),
        ).eval()


@pytest.fixture
def data():
    images = torch.rand(12, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    labels = torch.arange(12) % 3
    return [(images[:7], labels[:7]), (images[7:], labels[7:])]


def explain(model: nn.Module, spec: str, data=(), layers=("1", "3"), size: int = 8):
    image = torch.rand(3, size, size, generator=torch.Generator().manual_seed(2))
    (found,) = run_explain(
        Subject(model, data),
        [Picture("x.png", image)],
        [specs.attribution(spec)],
        specs.perturbation("gaussian-noise"),
        layers=layers,
        target=1,
    )
    return image[None], found.maps


@pytest.mark.parametrize("name", OURS)
def test_fitted_methods_by_hand(model, data, name):
    image, maps = explain(model, name, data)
    assert [one.layer for one in maps] == ["1", "3"]
    for one in maps:
        method = OURS[name](model, model[int(one.layer)])
        method.fit(data)
        arguments = {} if name == "layer-dimensionality" else {"target": 1}
        expected = method.attribute(image.clone().requires_grad_(), **arguments).detach().sum(1)[0].numpy()
        np.testing.assert_allclose(one.values[CLEAN], expected, rtol=1e-4, atol=1e-9)
        assert np.abs(expected).max() > 0


@pytest.mark.parametrize("name", ["saliency", "input-x-gradient", "integrated-gradients:n_steps=5", "layer-gradcam"])
def test_methods_of_captum(model, name):
    _, maps = explain(model, name)
    assert all(np.abs(one.values[CLEAN]).max() > 0 for one in maps)


def test_every_registered_method_of_ours_is_covered():
    names = {n for n, p in registry.plugins("selplug.attributions").items() if p.distribution == "selplug"}
    tested = {"saliency", "input-x-gradient", "integrated-gradients", "layer-gradcam", "input-unit-gradient"}
    assert names == set(OURS) | tested


def test_a_number_per_unit_is_no_map(model):
    with pytest.raises(
        InputError, match=r"input-unit-gradient returned \(1, 6\) for 1 \(1, 6, 8, 8\), which is not a map"
    ):
        explain(model, "input-unit-gradient")


@pytest.mark.parametrize(
    ("name", "layer", "shape"),
    [("vit_tiny_patch16_224", "blocks.11.mlp.act", (2, 2)), ("swin_tiny_patch4_window7_224", "layers.0*act", (8, 8))],
)
def test_layers_of_transformers(name, layer, shape, data):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = timm.create_model(name, num_classes=3, img_size=32, **({} if "vit" in name else {"window_size": 1}))
    fit = [(nn.functional.interpolate(images, 32), labels) for images, labels in data]
    _, maps = explain(model.eval(), "layer-class-selectivity", fit, (layer,), 32)
    assert {one.values[CLEAN].shape for one in maps} == {shape}
    with pytest.raises(InputError, match=r"layer-gradcam.* which is not a map over the image"):
        explain(model, "layer-gradcam", (), (layer,), 32)
