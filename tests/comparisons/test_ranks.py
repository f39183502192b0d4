"""Rank correlations and their permutation tests, against loops over every order and SciPy."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import reference
from hypothesis import given, settings
from hypothesis import strategies as st

from selplug.comparisons.ranks import EXACT, partial_rank_correlation, rank_correlation, ranks, spearman
from selplug.comparisons.statistics import LEVEL, SLACK

stats = pytest.importorskip("scipy.stats")

NUMBERS = st.lists(st.integers(-5, 5).map(float), min_size=3, max_size=12)  # few values: many ties
SHORT = st.integers(4, 6).flatmap(lambda n: st.tuples(*(st.permutations(range(n)) for _ in range(3))))


@given(NUMBERS, st.randoms(use_true_random=False))
@settings(deadline=None)
def test_ranks_and_spearman(values, random):
    x = np.array(values)
    y = np.array([value + random.choice((-3, 0, 0, 1)) for value in values])
    np.testing.assert_allclose(ranks(x), reference.mean_ranks(x))
    if len(set(x)) == 1 or len(set(y)) == 1:
        assert np.isnan(spearman(x, y))
        return
    assert float(spearman(x, y)) == pytest.approx(reference.rank_correlation(x, y), abs=1e-12)
    assert float(spearman(x, y)) == pytest.approx(float(stats.spearmanr(x, y).statistic), abs=1e-12)


@given(st.lists(st.integers(0, 3), min_size=5, max_size=6), st.lists(st.integers(0, 3), min_size=6, max_size=6))
@settings(deadline=None, max_examples=25)
def test_p_is_that_over_every_order(left, right):
    x, y = np.array(left, float), np.array(right[: len(left)], float)
    found = rank_correlation([(x, y)])
    if len(set(left)) == 1 or len(set(right[: len(left)])) == 1:
        assert found.estimate.value is None
        return
    expected = reference.permutation_p(x, y, reference.rank_correlation)
    assert (found.above, found.below) == pytest.approx(expected)


def test_p_as_scipy():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(2, 7))
    found = stats.permutation_test(
        (x,), lambda v: stats.spearmanr(v, y).statistic, permutation_type="pairings", alternative="greater"
    )
    assert rank_correlation([(x, y)]).above == pytest.approx(found.pvalue)


@given(SHORT)
@settings(deadline=None)
def test_monotone_maps_and_order_change_nothing(drawn):
    x, y, z = (np.array(values, float) for values in drawn)
    order = np.random.default_rng(0).permutation(len(x))
    for test, values in ((rank_correlation, (x, y)), (partial_rank_correlation, (x, y, z))):
        plain = test([values])
        for other in ([np.exp(v) for v in values], [v[order] for v in values]):
            again = test([other])
            assert (again.above, again.below) == pytest.approx((plain.above, plain.below))
        turned = test([(-values[0], *values[1:])])
        assert (turned.above, turned.below) == pytest.approx((plain.below, plain.above))


def test_within_families_over_every_pair_of_orders():
    first, second = (np.array([1.0, 2, 3]), np.array([1.0, 3, 2])), (np.arange(4.0), np.array([0.0, 1, 3, 2]))
    found = rank_correlation([first, second])
    weights = np.array([2, 3]) / 5

    def both(a, b):
        return float(weights @ [spearman(first[0], a), spearman(second[0], b)])

    seen = both(first[1], second[1])
    drawn = [
        both(*pair)
        for pair in itertools.product(*(map(np.array, itertools.permutations(v)) for v in (first[1], second[1])))
    ]
    assert found.estimate.value == pytest.approx(seen)
    assert found.above == pytest.approx(np.mean(np.array(drawn) >= seen - 1e-9))
    low, high = (np.arange(4.0), np.arange(4.0)[::-1]), (np.arange(10, 16.0), np.arange(16, 10.0, -1))
    assert rank_correlation([low, high]).estimate.value == pytest.approx(-1)  # mixing them would hide it
    assert rank_correlation([(np.ones(3), np.arange(3.0))]).estimate.value is None


def test_drawn_orders_beyond_those_that_can_be_tried():
    rng = np.random.default_rng(2)
    x = np.arange(EXACT + 2.0)
    y = x + 4 * rng.normal(size=len(x))
    found = rank_correlation([(x, y)], draws=20_000)
    assert found.estimate.p == pytest.approx(stats.spearmanr(x, y).pvalue, abs=0.03)
    assert rank_correlation([(x, x)], draws=999).above == pytest.approx(1 / 1000)
    assert rank_correlation([(x, y)], 500, 3).estimate == rank_correlation([(x, y)], 500, 3).estimate


@given(SHORT)
@settings(deadline=None, max_examples=30)
def test_the_partial_one_by_its_formula_and_by_every_order(drawn):
    x, y, z = (np.array(values, float) for values in drawn)
    found = partial_rank_correlation([(x, y, z)])
    if abs(reference.rank_correlation(x, z)) > 1 - 1e-9:
        assert found.estimate.value is None
        assert (found.above, found.below) == (1, 1)
        return
    if abs(reference.rank_correlation(y, z)) > 1 - 1e-9:
        assert (found.estimate.value, found.estimate.p) == (0, 1)
        return
    assert found.estimate.value == pytest.approx(reference.partial_rank_correlation(x, y, z))
    assert (found.above, found.below) == pytest.approx(reference.freedman_lane(x, y, z))


def test_seven_in_order_cannot_be_more_certain_than_one_in_5040():
    x, z = np.arange(7.0), np.array([3.0, 0, 5, 1, 6, 2, 4])
    for found in (rank_correlation([(x, x)]), partial_rank_correlation([(x, x, z)])):
        assert found.estimate.value == pytest.approx(1)
        assert found.above >= 1 / 5040 - 1e-12
        assert found.estimate.ci95[0] < 0.95


@pytest.mark.parametrize(("size", "resolved"), [(3, False), (4, False), (5, True), (7, True)])
def test_few_configurations_find_nothing_however_large(size, resolved):
    found = rank_correlation([(np.arange(float(size)), np.random.default_rng(0).permutation(size) * 1.0)])
    # Four in order have 1 / 24 on one side.
    assert (found.smallest(LEVEL) is not None) == resolved
    assert found.smallest(1e-6) is None


def test_the_smallest_correlation_is_found_in_about_80_percent():
    rng = np.random.default_rng(1)
    size = rank_correlation([(np.arange(7.0), rng.normal(size=7))]).smallest(LEVEL)
    x, noise = rng.normal(size=(2, 4000, 7))
    y = size * x + np.sqrt(1 - size**2) * noise
    found = np.mean([rank_correlation([pair]).above <= LEVEL / 2 for pair in zip(x, y, strict=True)])
    assert found == pytest.approx(0.8, abs=0.03)


@given(SHORT)
@settings(deadline=None)
def test_intervals_leave_0_out_where_the_test_does(drawn):
    x, y, z = (np.array(values, float) for values in drawn)
    for found in (rank_correlation([(x, y)]), partial_rank_correlation([(x, y, z)])):
        if found.estimate.value is None or found.estimate.ci95 == (-1, 1):
            continue
        low, high = found.estimate.ci95
        assert -1 <= low <= high <= 1
        assert (low > 0) == (found.above <= LEVEL / 2 + SLACK)
        assert (high < 0) == (found.below <= LEVEL / 2 + SLACK)
        assert (low > 0 or high < 0) == (found.estimate.p <= LEVEL + 2 * SLACK)


@pytest.mark.parametrize("strength", [0.0, 0.5, 0.9])
def test_intervals_hold_the_population(strength):
    rng = np.random.default_rng(4)
    x, noise = rng.normal(size=(2, 1500, 6))
    y = strength * x + np.sqrt(1 - strength**2) * noise
    population = 6 / np.pi * np.arcsin(strength / 2)
    ends = [rank_correlation([pair]).estimate.ci95 for pair in zip(x, y, strict=True)]
    held = np.mean([low <= population <= high for low, high in ends])
    assert held >= 0.94
