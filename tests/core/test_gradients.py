"""Input gradients of all units: exact values, derivatives against autograd, the bias of few probes by simulation."""

from __future__ import annotations

import itertools
import math
import random

import numpy as np
import pytest
import reference
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import selplug
from selplug.core.errors import InputError
from selplug.core.measures import unit_gradients as probes
from selplug.core.measures.gradients import GradientVariability, cv_over_samples, cv_over_units
from selplug.core.measures.unit_gradients import UnitGradients, chi_mean, unit_gradients
from selplug.core.model.capture import Capture, find_layers
from selplug.core.model.state import frozen
from selplug.core.model.unit_range import UnitRangeModel
from selplug.core.perturb import batch_seed

MEAN, STD = (0.4, 0.5, 0.6), (0.2, 0.25, 0.3)


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


def halves(gradients: Tensor, count: int, generator: torch.Generator) -> UnitGradients:
    """What probes see of gradients (N, U, D)."""
    directions = torch.randn(len(gradients), gradients.shape[2], count, generator=generator, dtype=torch.float64)
    squares = (gradients @ directions).square()
    return UnitGradients(torch.stack([squares[..., ::2].mean(-1), squares[..., 1::2].mean(-1)]), count)


def variability(found: UnitGradients) -> dict[str, float]:
    metric = GradientVariability(found.squares.shape[2])
    metric.update(found)
    return {name: float(value) for name, value in metric.compute().items() if value.ndim == 0}


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


def test_a_network_that_is_linear_has_known_values():
    torch.manual_seed(0)
    layer = nn.Linear(75, 40)
    model = nn.Sequential(nn.Flatten(), layer, nn.Identity(), nn.ReLU(), nn.Linear(40, 3)).eval()
    nn.init.constant_(layer.bias, 100.0)  # always on
    images = pictures(40, 5)
    scale = (1 / torch.tensor(STD)).repeat_interleave(25)
    expected = (layer.weight.detach() * scale).norm(dim=1)
    report = selplug.audit(
        model,
        [(images, torch.arange(40) % 3)],
        measures=["gradients"],
        normalize=(MEAN, STD),
        gradient_probes=20,
        progress=False,
    )
    (found,) = report.result.layers
    values = found.conditions["clean"]["gradients"]
    assert values["probes"] == 20
    np.testing.assert_allclose(found.arrays["clean", "gradient"], expected.numpy(), rtol=0.1)
    assert values["mean"] == pytest.approx(float(expected.mean()), abs=4 * values["mean_stderr"])
    assert values["mean_stderr"] < 0.02 * values["mean"]
    assert abs(values["cv_samples"]) < 4 * values["cv_samples_stderr"]  # the same gradient for all images
    spread = float(expected.std(correction=0) / expected.mean())
    assert values["cv_units"] == pytest.approx(spread, abs=4 * values["cv_units_stderr"] + 0.005)


@pytest.mark.parametrize("count", [8, 16])
@pytest.mark.parametrize("rank", [1, 3, 60])
def test_the_bias_of_few_probes_is_gone(count, rank):
    """Gradients of many units in few dimensions: their errors go together. Standard errors are those of repetitions."""
    generator = torch.Generator().manual_seed(rank)
    samples, units, rounds = 64, 24, 150
    gradients = torch.randn(units, rank, generator=generator, dtype=torch.float64)
    size = torch.randn(samples, units, generator=generator, dtype=torch.float64)
    gradients = gradients / gradients.norm(dim=1, keepdim=True) * (0.5 * size).exp().unsqueeze(2)
    exact = gradients.norm(dim=2)
    found = [variability(halves(gradients, count, generator)) for _ in range(rounds)]
    truth = dict(zip(("mean", "cv_samples", "cv_units"), reference.gradient_variability(exact.numpy()), strict=True))
    for name, value in truth.items():
        estimates = np.array([one[name] for one in found])
        noise = estimates.std() / math.sqrt(rounds)
        allowed = {"mean": 0, "cv_samples": 0.02, "cv_units": 0.02}[name]
        assert abs(estimates.mean() - value) < 4 * noise + allowed * value, name
        stderr = np.mean([one[f"{name}_stderr"] for one in found])
        if rank > 1:  # gradients all along one direction leave the halves nothing to disagree about
            assert 0.5 < stderr / estimates.std() < 2.2, name
    # What a plain standard deviation of roots would say.
    naive = halves(gradients, count, generator).squares.mean(0).sqrt()
    assert float((naive.std(0) / naive.mean(0)).mean()) > truth["cv_samples"] * (1.02 if count == 16 else 1.05)


def test_variances_and_squared_means_are_without_bias():
    generator = torch.Generator().manual_seed(0)
    gradients = torch.randn(3, 4, 2, generator=generator, dtype=torch.float64)
    g = gradients.norm(dim=2)
    rounds, count = 20000, 4
    found = halves(gradients.repeat(rounds, 1, 1), count, generator)
    norms, squares = found.norms().view(rounds, 3, 4), found.squares.mean(0).view(rounds, 3, 4)
    torch.testing.assert_close(norms.mean(0), g, rtol=0.02, atol=0)
    torch.testing.assert_close(squares.mean(0), g.square(), rtol=0.03, atol=0)
    noise = (1 / chi_mean(count) ** 2 - 1) * squares.sum(1) / 9
    torch.testing.assert_close((norms.mean(1).square() - noise).mean(0), g.mean(0).square(), rtol=0.02, atol=0)
    product = found.half_norms().mean(2).prod(0).view(rounds, 3).mean(0)
    torch.testing.assert_close(product, g.mean(1).square(), rtol=0.02, atol=0)


@pytest.mark.parametrize("count", [1, 2, 5, 16, 400])
def test_the_mean_of_a_root_of_chi_squares(count):
    draws = np.random.default_rng(0).chisquare(count, 200_000)
    assert chi_mean(count) == pytest.approx(np.sqrt(draws / count).mean(), rel=3e-3)
    assert chi_mean(0) == 1


@settings(max_examples=30, deadline=None)
@given(
    st.integers(2, 40),
    st.integers(1, 6),
    st.integers(0, 2**31),
    st.lists(st.integers(1, 39), max_size=3),
    st.booleans(),
)
def test_any_batching_and_any_values(samples, units, seed, cuts, exact):
    generator = torch.Generator().manual_seed(seed)
    squares = torch.rand(2, samples, units, generator=generator).square()
    squares[:, torch.rand(samples, units, generator=generator) < 0.2] = 0
    if exact:
        squares[1] = squares[0]
    count = 0 if exact else 8
    whole, parts = GradientVariability(units), GradientVariability()
    whole.update(UnitGradients(squares, count))
    bounds = [0, *sorted({cut for cut in cuts if cut < samples}), samples]
    for start, stop in itertools.pairwise(bounds):
        parts.update(UnitGradients(squares[:, start:stop], count))
    for name, value in whole.compute().items():
        torch.testing.assert_close(parts.compute()[name], value, equal_nan=True, rtol=1e-9, atol=1e-9)
    if exact and squares.any():
        values = whole.compute()
        expected = reference.gradient_variability(squares[0].double().sqrt().numpy())
        for name, number in zip(("mean", "cv_samples", "cv_units"), expected, strict=True):
            # cancelling digits of variances that are 0
            assert float(values[name]) == pytest.approx(number, rel=1e-6, abs=1e-6)


def test_ranks_add_up():
    found = halves(torch.rand(20, 5, 3, dtype=torch.float64), 4, torch.Generator().manual_seed(0))
    whole = GradientVariability(5)
    whole.update(found)
    ranks = [GradientVariability(5), GradientVariability(5)]
    for rank, start in zip(ranks, (0, 10), strict=True):
        rank.update(UnitGradients(found.squares[:, start : start + 10], 4))
    together = GradientVariability(5)
    together.update(UnitGradients(found.squares[:, :1], 4))
    for name in ("norms", "half_norms", "half_squares", "errors", "cv_units", "seen"):
        setattr(together, name, getattr(ranks[0], name) + getattr(ranks[1], name))
    for name in ("mean", "cv_samples", "cv_units", "mean_stderr"):
        assert together.compute()[name] == pytest.approx(whole.compute()[name])


def test_units_and_samples_without_a_gradient():
    squares = torch.tensor([[[4.0, 0.0, 1.0], [0.0, 0.0, 0.0], [1.0, 0.0, 1.0]]]).expand(2, -1, -1)
    metric = GradientVariability(3)
    metric.update(UnitGradients(squares, 0))
    values = metric.compute()
    assert values["flat_units"] == 1
    assert values["mean"] == pytest.approx(5 / 9)
    assert values["cv_samples"] == pytest.approx((1 / 1 + math.sqrt(1 / 3) / (2 / 3)) / 2)
    first, third = math.sqrt(14 / 9 - 2 / 9 * 0 - 1 + 1 / 9), math.sqrt(2 / 9) / (2 / 3)
    assert values["cv_units"] == pytest.approx((math.sqrt(5 / 3 - 1) + third) / 2)
    assert first > 0
    torch.testing.assert_close(values["gradient"], torch.tensor([1.0, 0.0, 2 / 3], dtype=torch.float64))
    nothing = GradientVariability(3)
    nothing.update(UnitGradients(squares * 0, 0))
    assert nothing.compute()["mean"] == 0
    assert nothing.compute()["cv_samples"].isnan()
    assert nothing.compute()["cv_units"].isnan()
    assert cv_over_samples(torch.ones(2), torch.ones(2), 1, 0).isnan().all()
    assert cv_over_units(UnitGradients(squares * 0, 0)).isnan().all()


def test_bad_input():
    model, images = net(), pictures()
    for count in (0, 1, 3, -2):
        with pytest.raises(InputError, match=f"even number of at least 2 gradient probes, got {count}"):
            measured(model, images, count)
    metric = GradientVariability(4)
    with pytest.raises(InputError, match=r"squares \(2, N, U\) with U=4, got shape \(2, 3, 5\)"):
        metric.update(UnitGradients(torch.rand(2, 3, 5), 2))
    with pytest.raises(InputError, match="needs samples, got none"):
        metric.compute()
    metric.update(UnitGradients(torch.rand(2, 3, 4), 2))
    with pytest.raises(InputError, match="from 2 probes as before, got 8"):
        metric.update(UnitGradients(torch.rand(2, 3, 4), 8))
    with pytest.raises(InputError, match="at least 1 unit, got 0"):
        GradientVariability(0)
    with torch.no_grad():
        model[0].weight[0] = math.inf
    with pytest.raises(InputError, match="2: the derivatives by the image are not finite"):
        measured(model, images, 4)


def audit(model: nn.Module, perturbations=(), **options):
    data = [(pictures(6), torch.arange(6) % 3), (pictures(3), torch.arange(3))]
    options = {"measures": ["gradients"], "normalize": (MEAN, STD), "progress": False, "gradient_probes": 4, **options}
    return selplug.audit(model, data, perturbations, **options)


def darken(images: Tensor, labels: Tensor) -> Tensor:
    return images * 0.5


def test_the_audit_measures_each_condition_with_the_same_directions():
    model = net()
    report = audit(model, [darken], measures=["selectivity", "gradients"])
    for layer in report.result.layers:
        for condition, change in (("clean", 1.0), ("darken", 0.5)):
            metric = GradientVariability(layer.units)
            for start, images in ((0, pictures(6)), (6, pictures(3))):
                metric.update(measured(model, images * change, 4, batch_seed(0, start, 1))[layer.name])
            values = layer.conditions[condition]["gradients"]
            for name in ("mean", "cv_samples", "cv_units_stderr"):
                assert values[name] == pytest.approx(float(metric.compute()[name]), rel=1e-6)
            assert layer.arrays[condition, "gradient"].shape == (layer.units,)
            assert "selectivity" in layer.conditions[condition]
        assert "gradients" not in layer.differences.get("darken", {})
    settings = report.to_dict()["settings"]
    assert settings["gradient_probes"] == 4
    assert audit(model, measures=["selectivity"], gradient_probes=None).to_dict()["settings"]["gradient_probes"] is None


def test_gradients_of_chosen_conditions_alone():
    both = audit(net(), [darken], measures=["selectivity", "gradients"])
    report = audit(net(), [darken], measures=["selectivity", "gradients"], gradient_conditions=["cl*"])
    for layer, full in zip(report.result.layers, both.result.layers, strict=True):
        assert layer.conditions["clean"] == full.conditions["clean"]
        assert "gradients" not in layer.conditions["darken"]
        assert layer.conditions["darken"]["selectivity"] == full.conditions["darken"]["selectivity"]
    assert report.settings["gradient_conditions"] == ["cl*"]
    with pytest.raises(InputError, match=r"--gradient-conditions .*'dark' is none of the conditions clean, darken"):
        audit(net(), [darken], gradient_conditions=["dark"])
    with pytest.raises(InputError, match=r"--gradient-conditions .* add --measure gradients"):
        audit(net(), measures=["selectivity"], gradient_probes=None, gradient_conditions=["clean"])


def test_lower_precision_measures_in_float32():
    plain, lower = audit(net()), audit(net(), amp=torch.bfloat16)
    assert plain.result.layers[0].conditions == lower.result.layers[0].conditions
    half = net().bfloat16()
    rounded = net()
    rounded.load_state_dict({name: value.float() for name, value in half.state_dict().items()})
    expected = audit(rounded).result.layers[1].conditions["clean"]["gradients"]["mean"]
    found = audit(half).result.layers[1].conditions["clean"]["gradients"]["mean"]
    assert found == pytest.approx(expected, rel=1e-4)
    assert {value.dtype for value in half.state_dict().values()} == {torch.bfloat16, torch.int64}


@pytest.mark.parametrize("count", [4, 32])
def test_no_trace(count):
    model = net().train()
    model[1].eval()
    model[4].weight.requires_grad_(False)
    state = {name: value.clone() for name, value in model.state_dict().items()}
    modes = [module.training for module in model.modules()]
    before = torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate()

    def check() -> None:
        assert [module.training for module in model.modules()] == modes
        assert model[0].weight.requires_grad
        assert not model[4].weight.requires_grad
        assert model[0].weight.grad is None
        assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
        assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())
        assert torch.equal(before[0], torch.get_rng_state())
        assert (before[1] == np.random.get_state()[1]).all()
        assert before[2] == random.getstate()

    with torch.inference_mode():
        audit(model, gradient_probes=count)
    check()

    class Broken(nn.Module):
        calls = 0

        def forward(self, x: Tensor) -> Tensor:
            self.calls += 1
            if self.calls > 4:
                raise KeyError("in the middle")
            return x

    model[3] = Broken()
    modes = [module.training for module in model.modules()]
    with pytest.raises(KeyError, match="in the middle"):
        audit(model, gradient_probes=count)
    check()


def test_a_model_that_draws_random_numbers_is_held_still():
    class Noise(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x * (1 + torch.rand_like(x))

    values = measured(net(Noise()), pictures(), 8)["5"].norms()
    assert float(values.mean()) == pytest.approx(
        float(measured(net(nn.Identity()), pictures(), 8)["5"].norms().mean()) * 1.5, rel=0.2
    )


def test_the_audit_refuses_what_makes_no_sense():
    with pytest.raises(InputError, match="even number of at least 2 gradient probes, got 3"):
        audit(net(), gradient_probes=3)
    with pytest.raises(InputError, match=r"--gradient-probes .* add --measure gradients to the measures selectivity"):
        audit(net(), measures=["selectivity"])


def test_a_model_without_gradients_has_units_without_one():
    class Steps(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return (x * 4).floor()

    model = nn.Sequential(Steps(), nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 3))
    report = audit(model, layers=["2"], normalize=None)
    values = report.to_dict()["layers"][0]["conditions"]["clean"]["gradients"]
    assert values["mean"] == 0
    assert values["flat_units"] == 4
    assert values["cv_samples"] is values["cv_units"] is None
    assert "Units without an input gradient: 4 in 1 of 1 layer " in report.summary().replace("\n", " ")
