"""The runner checks what goes in and comes out, and leaves the model and the random generators as they were."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from selplug.core.errors import InputError, PerturbationError
from selplug.core.model.settings import deterministic
from selplug.core.model.state import frozen, placed, seeded
from selplug.core.model.unit_range import UnitRangeModel
from selplug.core.perturb import TOLERANCE, batch_seed, check_images, run_perturbation


class Net(nn.Module):
    """A model in train mode with one frozen batch norm and one frozen parameter, and a gradient on another."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.norm = nn.BatchNorm2d(4)
        self.frozen_norm = nn.BatchNorm2d(4)
        self.drop = nn.Dropout(0.5)
        self.head = nn.Linear(4, 5)
        self.train()
        self.frozen_norm.eval()
        self.head.bias.requires_grad_(False)
        self.head.weight.grad = torch.ones_like(self.head.weight)

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.drop(self.frozen_norm(self.norm(self.conv(images)))).mean((2, 3)))


@pytest.fixture
def net() -> Net:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Net()


@pytest.fixture
def images() -> Tensor:
    return torch.rand(4, 3, 8, 8, generator=torch.Generator().manual_seed(0))


LABELS = torch.arange(4)


def same(images: Tensor, labels: Tensor) -> Tensor:
    return images


def noisy(images: Tensor, labels: Tensor) -> Tensor:
    """Draws from all three generators."""
    shift = float(np.random.rand()) + random.random()
    return (images + 0.1 * shift * torch.randn_like(images)).clamp(0, 1)


def snapshot(net: nn.Module) -> tuple[list[object], ...]:
    return (
        [module.training for module in net.modules()],
        [parameter.requires_grad for parameter in net.parameters()],
        [None if p.grad is None else p.grad.clone() for p in net.parameters()],
    )


def assert_same_state(net: nn.Module, before: tuple[list[object], ...]) -> None:
    after = snapshot(net)
    assert after[:2] == before[:2]
    for now, then in zip(after[2], before[2], strict=True):
        assert (now is None) == (then is None)
        assert now is None or torch.equal(now, then)


def meddle(net: nn.Module) -> None:
    """All that an attack may do to a model."""
    net.train()
    for parameter in net.parameters():
        parameter.requires_grad_(True)
    net(torch.rand(2, 3, 8, 8)).sum().backward()


@pytest.mark.parametrize("fails", [False, True])
def test_the_model_is_left_as_it_was(net, images, fails):
    before = snapshot(net)

    def perturb(images: Tensor, labels: Tensor) -> Tensor:
        assert not any(module.training for module in net.modules())
        assert not any(parameter.requires_grad for parameter in net.parameters())
        meddle(net)
        if fails:
            raise RuntimeError("in the middle")
        return images

    if fails:
        with pytest.raises(RuntimeError, match="in the middle"):
            run_perturbation(net, perturb, images, LABELS)
    else:
        run_perturbation(net, perturb, images, LABELS)
    assert_same_state(net, before)
    assert net.training
    assert not net.frozen_norm.training


@pytest.mark.parametrize("fails", [False, True])
def test_the_generators_go_on_as_if_nothing_had_run(net, images, fails):
    def perturb(images: Tensor, labels: Tensor) -> Tensor:
        torch.manual_seed(99)
        noisy(images, labels)
        if fails:
            raise RuntimeError("in the middle")
        return images

    states = torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate()
    if fails:
        with pytest.raises(RuntimeError):
            run_perturbation(net, perturb, images, LABELS)
    else:
        run_perturbation(net, perturb, images, LABELS)
    assert torch.equal(torch.get_rng_state(), states[0])
    assert np.array_equal(np.random.get_state()[1], states[1])
    assert random.getstate() == states[2]


def test_same_seed_same_images_whatever_ran_before(net, images):
    once = run_perturbation(net, noisy, images, LABELS, seed=3).images
    run_perturbation(net, noisy, images, LABELS, seed=4)
    torch.rand(7), np.random.rand(3), random.random()
    again = run_perturbation(net, noisy, images, LABELS, seed=3).images
    other = run_perturbation(net, noisy, images, LABELS, seed=4).images
    assert torch.equal(once, again)
    assert not torch.equal(once, other)


def test_the_perturbation_may_use_gradients_even_where_they_are_off(net, images):
    def perturb(images: Tensor, labels: Tensor) -> Tensor:
        images.requires_grad_(True)
        (gradient,) = torch.autograd.grad(net(images).sum(), images)
        return (images + 0.1 * gradient.sign()).clamp(0, 1)

    with torch.no_grad():
        result = run_perturbation(net, perturb, images, LABELS)
    assert not result.images.requires_grad
    assert not images.requires_grad
    assert (result.linf > 0.05).all()


def test_autocast_is_off_inside(net, images):
    def perturb(images: Tensor, labels: Tensor) -> Tensor:
        assert not torch.is_autocast_enabled("cpu")
        assert net(images).dtype == torch.float32
        return images

    with torch.autocast("cpu", torch.bfloat16):
        run_perturbation(net, perturb, images, LABELS)


def test_what_is_given_is_not_changed_in_place(net, images):
    given, labels = images.clone(), LABELS.clone()

    def perturb(images: Tensor, labels: Tensor) -> Tensor:
        labels.zero_()
        return images.zero_()

    result = run_perturbation(net, perturb, images, labels)
    assert torch.equal(images, given)
    assert torch.equal(labels, LABELS)
    assert torch.allclose(result.l2, given.flatten(1).norm(dim=1))


BROKEN = [
    (lambda x, y: x[:, :, :-1], r"wrecker: expected images of shape \(4, 3, 8, 8\), got shape \(4, 3, 7, 8\)"),
    (lambda x, y: x[:2], r"expected images of shape \(4, 3, 8, 8\), got shape \(2, 3, 8, 8\)"),
    (lambda x, y: None, r"expected images of shape \(4, 3, 8, 8\), got NoneType"),
    (lambda x, y: (x, y), r"expected images of shape \(4, 3, 8, 8\), got tuple"),
    (lambda x, y: x.numpy(), r"expected images of shape \(4, 3, 8, 8\), got ndarray"),
    (lambda x, y: x.double(), r"wrecker: expected images of torch.float32, got torch.float64"),
    (lambda x, y: x.half(), r"expected images of torch.float32, got torch.float16"),
    (lambda x, y: x * 3, r"wrecker: expected finite pixels in \[0, 1\], got values from .* to 3"),
    (lambda x, y: x - 0.5, r"expected finite pixels in \[0, 1\], got values from -0\.\d+ to"),
    (lambda x, y: x.clamp(max=1) + 2 * TOLERANCE + (1 - x.max()), r"expected finite pixels in \[0, 1\]"),
    (lambda x, y: x.index_fill(0, torch.tensor([1]), torch.nan), r"expected finite pixels in \[0, 1\], got .*nan"),
    (lambda x, y: x.index_fill(0, torch.tensor([1]), torch.inf), r"expected finite pixels in \[0, 1\], got .*inf"),
    (lambda x, y: x.index_fill(0, torch.tensor([1]), -torch.inf), r"expected finite pixels in \[0, 1\], got .*-inf"),
]


@pytest.mark.parametrize(("perturb", "message"), BROKEN)
def test_what_comes_back_is_checked(net, images, perturb, message):
    before = snapshot(net)
    with pytest.raises(PerturbationError, match=message):
        run_perturbation(net, perturb, images, LABELS, name="wrecker")
    assert_same_state(net, before)


GIVEN = [
    (torch.rand(3, 8, 8), r"expected images \(N, C, H, W\) in float32, got torch.float32 of shape \(3, 8, 8\)"),
    (torch.rand(4, 3, 8, 8).double(), r"in float32, got torch.float64"),
    (torch.zeros(4, 3, 8, 8, dtype=torch.uint8), r"in float32, got torch.uint8"),
    (torch.zeros(0, 3, 8, 8), r"got torch.float32 of shape \(0, 3, 8, 8\)"),
    (torch.full((1, 3, 8, 8), 255.0), r"expected images in \[0, 1\], got values from 255 to 255; give images before"),
    (torch.full((1, 3, 8, 8), -0.5), r"expected images in \[0, 1\], got values from -0.5 to -0.5"),
    (torch.full((1, 3, 8, 8), torch.nan), r"expected images in \[0, 1\], got values from nan to nan"),
]


@pytest.mark.parametrize(("pixels", "message"), GIVEN)
def test_what_goes_in_is_checked_before_anything_runs(net, pixels, message):
    def perturb(images: Tensor, labels: Tensor) -> Tensor:
        raise AssertionError("must not run")

    with pytest.raises(InputError, match=message):
        run_perturbation(net, perturb, pixels, LABELS)
    with pytest.raises(InputError, match=message):
        check_images(pixels)


def test_rounding_is_clamped(net, images):
    result = run_perturbation(net, lambda x, y: (x > 0.5).float() * (1 + TOLERANCE) - TOLERANCE / 2, images, LABELS)
    assert float(result.images.min()) == 0
    assert float(result.images.max()) == 1


@settings(max_examples=25)
@given(st.integers(0, 2**32 - 1), st.integers(1, 5), st.floats(0, 1))
def test_sizes_are_those_of_numpy(seed, count, strength):
    generator = np.random.default_rng(seed)
    clean = generator.random((count, 2, 3, 4), dtype=np.float32)
    target = generator.random((count, 2, 3, 4), dtype=np.float32)
    moved = np.clip(clean + np.float32(strength) * (target - clean), 0, 1)
    result = run_perturbation(
        nn.Identity(), lambda x, y: torch.from_numpy(moved), torch.from_numpy(clean), torch.zeros(count)
    )
    change = (moved.astype(np.float64) - clean).reshape(count, -1)
    assert result.images.numpy() == pytest.approx(moved)
    assert result.l2.shape == result.linf.shape == (count,)
    assert result.l2.numpy() == pytest.approx(np.linalg.norm(change, axis=1), rel=1e-5, abs=1e-6)
    assert result.linf.numpy() == pytest.approx(np.abs(change).max(axis=1), rel=1e-5, abs=1e-6)


def test_batch_seeds_are_stated_by_a_formula_and_differ():
    expected = int(np.random.SeedSequence([7, 2]).generate_state(1)[0])
    assert batch_seed(7, 2) == expected
    seeds = {batch_seed(seed, batch) for seed in range(20) for batch in range(20)}
    assert len(seeds) == 400
    assert all(0 <= seed < 2**32 for seed in seeds)


def test_a_model_sees_normalized_images_of_its_own_precision(images):
    seen: list[Tensor] = []

    class Sees(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.head = nn.Linear(1, 2)

        def forward(self, pixels: Tensor) -> Tensor:
            seen.append(pixels)
            return self.head(pixels.mean((1, 2, 3))[:, None])

    model = UnitRangeModel(Sees().double(), ((0.5, 0.4, 0.3), (0.2, 0.1, 0.5)), 2, channels_last=True)
    logits = model(images)
    assert logits.dtype == torch.float32
    assert seen[0].dtype == torch.float64
    assert seen[0].is_contiguous(memory_format=torch.channels_last)
    mean, std = np.array([0.5, 0.4, 0.3]).reshape(3, 1, 1), np.array([0.2, 0.1, 0.5]).reshape(3, 1, 1)
    assert np.allclose(seen[0].numpy(), (images.numpy() - mean) / std, atol=1e-5)
    assert not UnitRangeModel(Sees(), None, 2).normalized


@pytest.mark.parametrize("normalize", [((0.5,), (0.5, 0.5)), ((0.5,), (0.0,)), ((0.5,), (-1.0,))])
def test_a_normalization_that_makes_no_sense(normalize):
    with pytest.raises(InputError, match="expected mean and std of equal length with std > 0"):
        UnitRangeModel(nn.Identity(), normalize, 2)


def test_wrapping_a_model_does_not_wake_a_frozen_batch_norm(net):
    before = snapshot(net)
    wrapped = UnitRangeModel(net, None, 5)
    assert_same_state(net, before)
    assert wrapped.training
    assert not UnitRangeModel(net.eval(), None, 5).training


def test_frozen_inside_and_as_before_after(net):
    before = snapshot(net)
    with frozen(net):
        assert not any(module.training for module in net.modules())
    assert_same_state(net, before)


def test_seeded_seeds_all_three():
    draws = []
    for _ in range(2):
        with seeded(2**33 + 5, torch.device("cpu")):
            draws.append((float(torch.rand(1)), float(np.random.rand()), random.random()))
    assert draws[0] == draws[1]


def test_placed_is_undone_when_something_fails(net):
    homes = [tensor.device for tensor in [*net.parameters(), *net.buffers()]]

    def fail() -> None:
        with placed(net, None):
            raise RuntimeError("inside")

    with pytest.raises(RuntimeError, match="inside"):
        fail()
    assert [tensor.device for tensor in [*net.parameters(), *net.buffers()]] == homes
    with placed(nn.Identity(), None) as device:
        assert device == torch.device("cpu")


def test_deterministic_restores_the_flags():
    before = torch.backends.cudnn.deterministic, torch.backends.cudnn.allow_tf32
    with deterministic():
        assert torch.backends.cudnn.deterministic
    assert (torch.backends.cudnn.deterministic, torch.backends.cudnn.allow_tf32) == before
