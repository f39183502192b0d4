"""The variability of input gradients: the bias of few probes by simulation, batches, ranks, and units without any."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import reference
import torch
from gradient_nets import halves, variability
from hypothesis import given, settings
from hypothesis import strategies as st

from selplug.core.errors import InputError
from selplug.core.measures.gradients import GradientVariability, cv_over_samples, cv_over_units
from selplug.core.measures.unit_gradients import UnitGradients, chi_mean


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


@settings(max_examples=30)
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
