"""CKA, Procrustes distance and block structure: equal to loops over Gram matrices, known limits, invariances."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
import reference
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from selplug.core.errors import InputError
from selplug.core.measures.alignment import block_structure, linear_cka, procrustes_distance


def responses(samples: int, units: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(samples, units, generator=generator, dtype=torch.float64)


def related(samples: int, units: int, others: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    x = responses(samples, units, seed)
    mixed = x @ responses(units, others, seed + 1) / units**0.5
    return x, mixed + 0.7 * responses(samples, others, seed + 2) + 3


def rotation(units: int, seed: int = 0) -> torch.Tensor:
    return torch.linalg.qr(responses(units, units, seed)).Q


@pytest.mark.parametrize("debiased", [True, False])
@pytest.mark.parametrize(("samples", "units", "others"), [(4, 3, 5), (20, 50, 30), (60, 8, 13)])
def test_cka_equals_the_computation_with_gram_matrices(samples, units, others, debiased):
    x, y = related(samples, units, others)
    expected = reference.linear_cka(x.numpy(), y.numpy(), debiased)
    assert float(linear_cka(x, y, debiased)) == pytest.approx(expected, rel=1e-9)
    assert float(linear_cka(y, x, debiased)) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize(("samples", "biased"), [(16, 0.98), (256, 0.80), (1024, 0.50)])
def test_independent_responses_look_alike_to_the_biased_estimator_alone(samples, biased):
    x, y = responses(samples, 1024), responses(samples, 1024, seed=1)
    assert float(linear_cka(x, y, debiased=False)) == pytest.approx(biased, abs=0.01)
    assert abs(float(linear_cka(x, y))) < (0.15 if samples == 16 else 0.02)


def test_debiased_cka_falls_below_zero_and_is_not_clamped():
    values = [float(linear_cka(responses(16, 64, seed), responses(16, 64, seed + 100))) for seed in range(40)]
    assert min(values) < -0.01
    assert abs(np.mean(values)) < 3 * np.std(values) / 40**0.5


@pytest.mark.parametrize(("samples", "units", "others"), [(5, 3, 3), (40, 6, 9), (10, 30, 20)])
def test_procrustes_is_what_the_best_rotation_leaves(samples, units, others):
    x, y = related(samples, units, others)
    expected = reference.procrustes_distance(x.numpy(), y.numpy())
    assert float(procrustes_distance(x, y)) == pytest.approx(expected, rel=1e-9)
    assert 0 < expected < 2


@settings(max_examples=25)
@given(st.integers(5, 40), st.integers(1, 12), st.integers(0, 10**6), st.floats(1e-6, 1e6), st.floats(-100, 100))
def test_rotation_scale_and_shift_change_nothing(samples, units, seed, scale, shift):
    x, y = related(samples, units, 7, seed)
    moved = scale * (x @ rotation(units, seed)) + scale * shift
    for debiased in (True, False):
        assert float(linear_cka(x, moved, debiased)) == pytest.approx(1, abs=1e-7)
        assert float(linear_cka(moved, y, debiased)) == pytest.approx(float(linear_cka(x, y, debiased)), abs=1e-7)
    assert float(procrustes_distance(x, moved)) == pytest.approx(0, abs=1e-7)
    assert float(procrustes_distance(moved, y)) == pytest.approx(float(procrustes_distance(x, y)), abs=1e-7)


def test_other_linear_maps_do_change_it():
    x = responses(200, 10)
    stretched = x * torch.logspace(0, 2, 10, dtype=torch.float64)
    assert float(linear_cka(x, stretched)) < 0.8
    assert float(procrustes_distance(x, stretched)) > 0.2


@pytest.mark.parametrize("measure", [linear_cka, procrustes_distance])
def test_responses_that_do_not_vary_have_no_similarity(measure):
    x, constant = responses(10, 4), torch.full((10, 3), 0.1, dtype=torch.float32)
    assert math.isnan(measure(x, constant))
    assert math.isnan(measure(constant, constant))


def test_float32_with_large_means_keeps_its_digits():
    x, y = (r.float() + 1e4 for r in related(64, 20, 30))
    exact = float(linear_cka(x.double(), y.double()))
    assert float(linear_cka(x, y)) == pytest.approx(exact, rel=1e-9)


def test_the_gradient_of_cka_is_right():
    x, y = related(6, 3, 2)
    x.requires_grad_()
    assert torch.autograd.gradcheck(lambda r: linear_cka(r, y), x)
    assert torch.autograd.gradcheck(lambda r: linear_cka(r, y, debiased=False), x)


@pytest.mark.parametrize("measure", [linear_cka, procrustes_distance])
@pytest.mark.parametrize(
    ("x", "y", "message"),
    [
        (torch.rand(5, 2), torch.rand(6, 2), "same samples, got 5 and 6"),
        (torch.rand(5), torch.rand(5, 2), r"responses \(N, U\)"),
        (torch.rand(5, 2), torch.ones(5, 2, dtype=torch.long), "floating-point"),
        (torch.rand(5, 2), torch.tensor([[0.0, 1.0], [2.0, math.nan], [0.0, 0.0], [3.0, 1.0], [1.0, 1.0]]), "finite"),
        (torch.rand(1, 2), torch.rand(1, 2), "at least"),
    ],
)
def test_bad_input_is_said(measure, x, y, message):
    with pytest.raises(InputError, match=message):
        measure(x, y)


def test_debiased_cka_needs_four_samples():
    with pytest.raises(InputError, match="at least 4 samples, got 3"):
        linear_cka(responses(3, 2), responses(3, 2))
    assert math.isfinite(linear_cka(responses(3, 2), responses(3, 2, 1), debiased=False))


L = 16
DISTANCE = (torch.arange(L).unsqueeze(1) - torch.arange(L)).abs().double()


def in_blocks(*stops: int) -> torch.Tensor:
    owner = torch.tensor([sum(place >= stop for stop in stops) for place in range(L)])
    return (owner.unsqueeze(1) == owner).double()


def test_block_structure_of_maps_with_blocks():
    assert block_structure(in_blocks(8)) == block_structure(in_blocks(8))
    for stops in ((8,), (3,), (5, 11), (4, 8, 12)):
        found = block_structure(in_blocks(*stops))
        assert found.score == pytest.approx(1)
        edges = (0, *stops, L)
        assert found.blocks == tuple((a, b - 1) for a, b in pairwise(edges))
    one = torch.eye(L)
    one[4:12, 4:12] = 0.9
    one.fill_diagonal_(1)
    assert block_structure(one).blocks == ((4, 11),)
    assert block_structure(one).score == pytest.approx(0.9)
    assert block_structure(0.3 + 0.5 * in_blocks(6)).score == pytest.approx(0.5)


@pytest.mark.parametrize("smooth", [torch.exp(-DISTANCE / 4), 1 - DISTANCE / L, torch.ones(L, L), torch.eye(L)])
def test_similarity_that_falls_with_distance_alone_has_no_blocks(smooth):
    assert block_structure(smooth) == block_structure(smooth.clone())
    assert block_structure(smooth).score == 0
    assert block_structure(smooth).blocks == ()
    noise = 0.01 * responses(L, L)
    assert block_structure(smooth + noise + noise.T).score < 0.05
    # ... and blocks on top of it are found.
    assert block_structure(smooth / 2 + in_blocks(8) / 2).score == pytest.approx(0.5, abs=0.02)


def test_blocks_are_those_of_an_exhaustive_search():
    noise = responses(8, 8)
    similarity = (noise + noise.T) / 10 + in_blocks(3)[:8, :8] / 5
    above = similarity.clone()
    for distance in range(1, 8):
        above.diagonal(distance).sub_(similarity.diagonal(distance).mean())

    def gain(cuts: tuple[int, ...]) -> float:
        edges = (0, *cuts, 8)
        return sum(float(above[a:b, a:b].triu(1).sum()) for a, b in pairwise(edges))

    choices = [tuple(i for i in range(1, 8) if mask >> i & 1) for mask in range(0, 256, 2)]
    edges = (0, *max(choices, key=gain), 8)
    expected = tuple((a, b - 1) for a, b in pairwise(edges) if b - a > 1)
    assert block_structure(similarity).blocks == expected


def test_layers_without_values_are_left_out_of_blocks():
    similarity = in_blocks(8)
    similarity[2], similarity[:, 2] = math.nan, math.nan
    assert block_structure(similarity).blocks == ((0, 7), (8, 15))
    assert block_structure(similarity).score == pytest.approx(1)
    assert math.isnan(block_structure(torch.eye(3)).score)
    assert math.isnan(block_structure(torch.full((6, 6), math.nan)).score)
    with pytest.raises(InputError, match=r"map \(L, L\)"):
        block_structure(torch.ones(3, 4))
