"""Input gradients of all units: exact values, and derivatives of each way against autograd."""

from __future__ import annotations

import math

import numpy as np
import pytest
import reference
import torch
from gradient_nets import MEAN, STD, measured, net, pictures, variability, wrap
from torch import Tensor, nn

from selplug.core.errors import InputError
from selplug.core.measures import unit_gradients as probes
from selplug.core.measures.unit_gradients import chi_mean
from selplug.core.model.capture import Capture, find_layers
from selplug.core.model.state import frozen


class Custom(torch.autograd.Function):
    """Backward passes alone."""

    @staticmethod
    def forward(ctx, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x * x

    @staticmethod
    def backward(ctx, gradient: Tensor) -> Tensor:
        return 2 * gradient * ctx.saved_tensors[0]


class Square(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return Custom.apply(x)


def by_autograd(model: nn.Module, images: Tensor) -> dict[str, Tensor]:
    """Layer -> g (N, U): a backward pass per sample and unit."""
    wrapped = wrap(model)
    found = {}
    layers = find_layers(model, wrapped.prepare(images[:2]))
    for layer in layers:
        g = torch.zeros(len(images), layer.units, dtype=torch.float64)
        for n in range(len(images)):
            for u in range(layer.units):
                leaf = images[n : n + 1].clone().requires_grad_()
                with Capture(model, layers) as capture:
                    wrapped(leaf * 1)
                (gradient,) = torch.autograd.grad(capture.responses[layer.name][0, u], leaf)
                g[n, u] = gradient.double().norm()
        found[layer.name] = g
    return found


def test_exact_where_probes_are_no_fewer_than_units():
    model, images = net(), pictures()
    expected = by_autograd(model, images)
    for name, found in measured(model, images, 32).items():
        assert found.probes == 0
        torch.testing.assert_close(found.norms().double(), expected[name], rtol=1e-4, atol=1e-8)
        values = variability(found)
        mean, cv_samples, cv_units = reference.gradient_variability(expected[name].numpy())
        assert values["mean"] == pytest.approx(mean, rel=1e-5)
        assert values["cv_samples"] == pytest.approx(cv_samples, rel=1e-4)
        assert values["cv_units"] == pytest.approx(cv_units, rel=1e-4)
        assert values["mean_stderr"] == values["cv_samples_stderr"] == values["cv_units_stderr"] == 0


def test_exact_values_are_slopes_pixel_by_pixel():
    model = net(nn.Identity()).double()
    image = torch.rand(1, 3, 5, 5, generator=torch.Generator().manual_seed(2))
    found = measured(model, image, 32)["5"].norms()[0]

    def responses(pixels: np.ndarray) -> np.ndarray:
        x = (torch.from_numpy(pixels) - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(STD).view(3, 1, 1)
        with torch.no_grad():
            return model[:6](x[None].double()).clamp_min(0).mean((2, 3))[0].numpy()

    np.testing.assert_allclose(found, reference.input_gradients(responses, image[0].double().numpy()), rtol=1e-4)


@pytest.mark.parametrize("way", [probes._forward_mode_together, probes._forward_mode])
@pytest.mark.parametrize("name", ["resnet18", "test_vit", "test_convnext", "test_efficientnet"])
def test_derivatives_are_those_of_backward_passes(name, way):
    """<w, J v> of forward mode is <J^T w, v> of a backward pass; differences come close."""
    timm = pytest.importorskip("timm")
    torch.manual_seed(0)
    model = timm.create_model(name, num_classes=3, **({"img_size": 32} if "vit" in name else {})).eval()
    wrapped, images = wrap(model), pictures(2, 32)
    directions = torch.randn(3, *images.shape)
    with frozen(model):
        layers = find_layers(model, wrapped.prepare(images))
        with torch.no_grad(), Capture(model, layers) as capture:
            found = way(wrapped, capture, images, directions, 0)
        leaf = images.clone().requires_grad_()
        with Capture(model, layers) as capture:
            wrapped(leaf * 1)
    for layer in layers:
        weights = torch.randn_like(capture.responses[layer.name])
        (gradient,) = torch.autograd.grad((capture.responses[layer.name] * weights).sum(), leaf, retain_graph=True)
        for values, direction in zip(found[layer.name], directions, strict=True):
            expected, size = float((gradient * direction).sum()), float(values.norm() * weights.norm())
            assert float((values * weights).sum()) == pytest.approx(expected, abs=1e-4 * size)


def test_probes_see_the_directions_of_their_seed():
    model, images = net(), pictures()
    found = measured(model, images, 4, seed=7)["2"]
    assert found.probes == 4
    assert not found.differences
    generator = torch.Generator().manual_seed(7)
    leaf = images.clone().requires_grad_()
    wrapped = wrap(model)
    responses = model[:3](wrapped.prepare(leaf * 1)).mean((2, 3))
    squares = torch.zeros(2, *responses.shape)
    for number in range(4):
        direction = torch.randn(images.shape, generator=generator)
        for u in range(12):
            (gradient,) = torch.autograd.grad(responses[:, u].sum(), leaf, retain_graph=True)
            squares[number % 2, :, u] += (gradient * direction).sum((1, 2, 3)).square() / 2
    torch.testing.assert_close(found.squares, squares, rtol=1e-3, atol=1e-9)
    again = measured(model, images, 4, seed=7)["2"]
    assert torch.equal(again.squares, found.squares)
    assert not torch.equal(measured(model, images, 4, seed=8)["2"].squares, found.squares)


class OneByOne(torch.autograd.Function):
    """Has a derivative, but not one for several directions at a time."""

    @staticmethod
    def forward(ctx: object, x: Tensor) -> Tensor:
        ctx.save_for_forward(x)
        return x * x

    @staticmethod
    def jvp(ctx: object, tangent: Tensor) -> Tensor:
        return 2 * ctx.saved_tensors[0] * tangent


class Alone(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return OneByOne.apply(x)


class Random(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x * torch.rand_like(x)


@pytest.mark.parametrize(("special", "together"), [(Alone(), False), (Random(), True), (nn.Identity(), True)])
def test_the_ways_to_take_derivatives_agree(special, together, monkeypatch, caplog):
    model, images = net(special), pictures(3)
    caplog.set_level("INFO", "selplug")
    found = measured(model, images, 10)
    assert ("several in a pass do not work here" in caplog.text) == (not together)
    monkeypatch.setattr(probes, "_WAYS", {"alone": probes._forward_mode})
    for name, expected in measured(model, images, 10).items():
        assert not found[name].differences
        torch.testing.assert_close(found[name].squares, expected.squares, rtol=1e-4, atol=1e-9)
    monkeypatch.setattr(probes, "_WAYS", {"together": probes._forward_mode_together})
    if together:  # however many at a time, the last pass with fewer
        monkeypatch.setattr(probes, "TOGETHER", 4)
        for name, values in measured(model, images, 10).items():
            torch.testing.assert_close(found[name].squares, values.squares, rtol=1e-4, atol=1e-9)


def test_differences_where_an_operation_has_no_forward_mode():
    model, plain = net(Square()), net()
    plain[3] = type("Plain", (nn.Module,), {"forward": lambda self, x: x * x})()
    images = torch.rand(6, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    found, expected = measured(model, images, 4)["5"], measured(plain, images, 4)["5"]
    assert found.differences
    assert not expected.differences
    torch.testing.assert_close(found.norms(), expected.norms(), rtol=0.05, atol=1e-4)
    assert variability(found)["differences"] == 1


def test_a_model_that_draws_random_numbers_is_held_still():
    class Noise(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x * (1 + torch.rand_like(x))

    values = measured(net(Noise()), pictures(), 8)["5"].norms()
    assert float(values.mean()) == pytest.approx(
        float(measured(net(nn.Identity()), pictures(), 8)["5"].norms().mean()) * 1.5, rel=0.2
    )


@pytest.mark.parametrize("count", [1, 2, 5, 16, 400])
def test_the_mean_of_a_root_of_chi_squares(count):
    draws = np.random.default_rng(0).chisquare(count, 200_000)
    assert chi_mean(count) == pytest.approx(np.sqrt(draws / count).mean(), rel=3e-3)
    assert chi_mean(0) == 1


def test_bad_input():
    model, images = net(), pictures()
    for count in (0, 1, 3, -2):
        with pytest.raises(InputError, match=f"even number of at least 2 gradient probes, got {count}"):
            measured(model, images, count)
    with torch.no_grad():
        model[0].weight[0] = math.inf
    with pytest.raises(InputError, match="2: the derivatives by the image are not finite"):
        measured(model, images, 4)
