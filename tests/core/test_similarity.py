"""The streaming similarity measures: equal to the formulas, whatever the batches, and over ranks."""

from __future__ import annotations

import copy
import math

import numpy as np
import pytest
import reference
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from selplug.core.errors import InputError
from selplug.core.measures.alignment import linear_cka, procrustes_distance
from selplug.core.measures.similarity import CKA, LayerCKA, LinearCKA, Procrustes, ProcrustesDistance

WIDTHS = (5, 12, 3)


def sets(samples: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    first = torch.randn(samples, WIDTHS[0], generator=generator, dtype=torch.float64)
    found = [first]
    for width in WIDTHS[1:]:
        mixing = torch.randn(WIDTHS[0], width, generator=generator, dtype=torch.float64)
        found.append(first @ mixing + torch.randn(samples, width, generator=generator, dtype=torch.float64))
    return [r.to(dtype) for r in found]


def fed(metric, data, size, start=0):
    for place in range(start, len(data[0]), size):
        metric.update([r[place : place + size] for r in data])
    return metric


@pytest.mark.parametrize("estimator", ["debiased", "biased"])
def test_every_pair_equals_the_formula(estimator):
    data = sets(90, dtype=torch.float64)
    values = fed(LinearCKA(estimator), data, 32).compute()
    assert values.shape == (3, 3)
    for i, x in enumerate(data):
        for j, y in enumerate(data):
            assert float(values[i, j]) == pytest.approx(float(linear_cka(x, y, estimator == "debiased")), rel=1e-9)


def test_hsic_is_summed_over_blocks_before_the_division():
    """Blocks of 20, 20 and 23: the 3 samples left over belong to the last one."""
    data = sets(63, dtype=torch.float64)
    x, y = (r.numpy() for r in data[:2])
    sums = np.zeros((3,))
    for start, stop in ((0, 20), (20, 40), (40, 63)):
        for place, (a, b) in enumerate(((x, y), (x, x), (y, y))):
            sums[place] += (stop - start) * reference.hsic(a[start:stop], b[start:stop], debiased=True)
    expected = sums[0] / math.sqrt(sums[1] * sums[2])
    assert float(fed(LinearCKA(block=20), data, 7).compute()[0, 1]) == pytest.approx(expected, rel=1e-9)


def test_equal_blocks_give_the_plain_sum_of_the_paper():
    data = sets(64, dtype=torch.float64)
    x, y = (r.numpy() for r in data[:2])
    parts = [slice(start, start + 16) for start in range(0, 64, 16)]
    plain = [sum(reference.hsic(a[p], b[p], True) for p in parts) for a, b in ((x, y), (x, x), (y, y))]
    assert float(fed(LinearCKA(block=16), data, 64).compute()[0, 1]) == pytest.approx(
        plain[0] / math.sqrt(plain[1] * plain[2]), rel=1e-9
    )


@settings(max_examples=30)
@given(
    st.integers(4, 70),
    st.integers(4, 30),
    st.lists(st.integers(1, 30), min_size=1, max_size=5),
    st.sampled_from(["debiased", "biased"]),
)
def test_batches_change_nothing(samples, block, sizes, estimator):
    data = sets(samples, dtype=torch.float64)
    metric, start, turn = LinearCKA(estimator, block), 0, 0
    procrustes = Procrustes()
    while start < samples:
        part = [r[start : start + sizes[turn % len(sizes)]] for r in data]
        metric.update(part)
        procrustes.update(part[:1], part[1:])
        start, turn = start + sizes[turn % len(sizes)], turn + 1
    whole = LinearCKA(estimator, block)
    whole.update(data)
    torch.testing.assert_close(metric.compute(), whole.compute(), rtol=1e-8, atol=1e-9)
    torch.testing.assert_close(metric.compute(), whole.compute(), rtol=1e-8, atol=1e-9)  # may be asked again
    expected = torch.stack([procrustes_distance(data[0], y) for y in data[1:]])
    torch.testing.assert_close(procrustes.compute()[0], expected, rtol=1e-7, atol=1e-7)


@pytest.mark.parametrize("estimator", ["debiased", "biased"])
def test_float32_with_large_means_keeps_its_digits(estimator):
    data = [r + 1e4 for r in sets(200)]
    exact = [r.double() for r in data]
    values = fed(LinearCKA(estimator, block=50), data, 32).compute()
    torch.testing.assert_close(values, fed(LinearCKA(estimator, block=50), exact, 32).compute(), rtol=1e-5, atol=1e-6)
    distance = Procrustes()
    distance.update(data, data)
    assert float(distance.compute()[0, 1]) == pytest.approx(float(procrustes_distance(*exact[:2])), abs=1e-5)


@pytest.mark.parametrize("scale", [1e-15, 1e8])
def test_tiny_and_huge_responses_neither_vanish_nor_overflow(scale):
    data = sets(40)
    expected = fed(LinearCKA(), data, 40).compute()
    torch.testing.assert_close(
        fed(LinearCKA(), [scale * r for r in data], 40).compute(), expected, rtol=1e-4, atol=1e-5
    )


@pytest.mark.parametrize("estimator", ["debiased", "biased"])
def test_a_constant_set_has_no_similarity(estimator):
    data = [*sets(30), torch.full((30, 4), 1234.567)]
    values = fed(LinearCKA(estimator), data, 7).compute()
    assert torch.isnan(values[3]).all()
    assert torch.isfinite(values[:3, :3]).all()
    distance = Procrustes()
    distance.update(data, data)
    assert torch.isnan(distance.compute()[3]).all()
    assert torch.isfinite(distance.compute()[:3, :3]).all()


def test_two_ranks_give_what_one_gives():
    """Sums add up, samples that wait for a block are put together."""
    data = sets(64, dtype=torch.float64)
    for metric in (LinearCKA("biased"), LinearCKA(block=16)):
        whole = fed(copy.deepcopy(metric), data, 64).compute()
        ranks = [fed(copy.deepcopy(metric), [r[part] for r in data], 16) for part in (slice(32), slice(32, 64))]
        one, other = ranks
        for name, reduction in one._reductions.items():
            mine, theirs = (getattr(rank, name) for rank in (one, other))
            if isinstance(mine, list):
                setattr(one, name, torch.cat([*mine, *theirs]) if mine else [])
            else:
                setattr(one, name, reduction(torch.stack([mine, theirs])))
        one._computed = None
        torch.testing.assert_close(one.compute(), whole)


def test_reset_forgets_samples_and_sizes():
    metric = fed(LinearCKA(block=8), sets(20, seed=1), 5)
    metric.reset()
    data = sets(20)[:2]
    torch.testing.assert_close(fed(metric, data, 5).compute(), fed(LinearCKA(block=8), data, 5).compute())


def test_memory_does_not_grow_with_samples():
    metric = LinearCKA(block=10)
    for seed in range(30):
        metric.update(sets(7, seed))
        assert sum(map(len, metric.pending)) < 10 + 4 + 7
    metric.update(sets(1000))
    (rest,) = metric.pending
    assert rest.untyped_storage().nbytes() == 4 * rest.numel()  # no view of the whole batch
    assert len(rest) < 10 + 4


def test_measures_of_an_audit():
    clean, perturbed = sets(50)[1], sets(50)[1] + sets(50, seed=3)[1]
    cka, procrustes = CKA(num_units=12, num_classes=3, seed=0), ProcrustesDistance(12, 3, 0)
    for part in (slice(30), slice(30, 50)):
        cka.update(clean[part], perturbed[part])
        procrustes.update(clean[part], perturbed[part])
    assert float(cka.compute()["debiased"]) == pytest.approx(float(linear_cka(clean, perturbed)), rel=1e-5)
    assert float(procrustes.compute()["distance"]) == pytest.approx(float(procrustes_distance(clean, perturbed)))
    assert int(cka.compute()["samples"]) == int(procrustes.compute()["samples"]) == 50
    between = LayerCKA(num_units=WIDTHS, num_classes=3, seed=0)
    between.update(sets(50))
    assert between.compute()["debiased"].shape == (3, 3)
    assert math.isnan(between.compute()["block_structure"]["score"])  # 3 layers say nothing of blocks


@pytest.mark.parametrize("metric", [LinearCKA(), LinearCKA("biased"), Procrustes()])
def test_bad_input_is_said(metric):
    def update(*responses):
        metric.update(responses, responses) if isinstance(metric, Procrustes) else metric.update(responses)

    metric = copy.deepcopy(metric)
    with pytest.raises(InputError, match="same samples, got 5, 6"):
        update(torch.rand(5, 2), torch.rand(6, 2))
    with pytest.raises(InputError, match=r"responses \(N, U\)"):
        update(torch.rand(5, 2), torch.ones(5, 2, dtype=torch.long))
    with pytest.raises(InputError, match="got none"):
        update()
    update(torch.rand(1, 2), torch.rand(1, 3))
    with pytest.raises(InputError, match=r"needs at least \d samples, got 1"):
        metric.compute()
    with pytest.raises(InputError, match=r"\[2, 3\] units as before, got \[2, 4\]"):
        update(torch.rand(5, 2), torch.rand(5, 4))
    update(torch.rand(5, 2), torch.full((5, 3), math.nan))
    with pytest.raises(InputError, match="NaN or infinity in set 1"):
        metric.compute()


def test_bad_options_are_said():
    with pytest.raises(InputError, match="expected an estimator of debiased, biased, got 'best'"):
        LinearCKA("best")
    with pytest.raises(InputError, match="at least 4 samples per block, got 3"):
        LinearCKA(block=3)
    short = LinearCKA()
    short.update(sets(3))
    with pytest.raises(InputError, match="at least 4 samples, got 3"):
        short.compute()
