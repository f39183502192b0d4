"""Rank correlation, isotonic loss and bootstrap intervals, against loops, SciPy and scikit-learn."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import reference
from hypothesis import assume, given
from hypothesis import strategies as st

from selplug.comparisons.resampling import (
    difference,
    mean,
    means_over,
    monotonic_loss,
    rank_correlation,
    ranks,
    spearman,
)

stats = pytest.importorskip("scipy.stats")
isotonic = pytest.importorskip("sklearn.isotonic")

NUMBERS = st.lists(st.integers(-5, 5).map(float), min_size=3, max_size=12)  # few values: many ties


@given(NUMBERS, st.randoms(use_true_random=False))
def test_ranks_and_spearman(values, random):
    x = np.array(values)
    y = np.array([value + random.choice((-3, 0, 0, 1)) for value in values])
    np.testing.assert_allclose(ranks(x), reference.mean_ranks(x))
    if len(set(x)) == 1 or len(set(y)) == 1:
        assert np.isnan(spearman(x, y))
        return
    assert float(spearman(x, y)) == pytest.approx(reference.rank_correlation(x, y), abs=1e-12)
    assert float(spearman(x, y)) == pytest.approx(float(stats.spearmanr(x, y).statistic), abs=1e-12)


@given(NUMBERS)
def test_monotonic_loss_is_what_the_best_monotonic_fit_leaves(values):
    y, x = np.array(values), np.arange(len(values), dtype=float)
    assume(len(set(values)) > 1)
    up, down = reference.isotonic(y), -reference.isotonic(-y)
    expected = min(((y - fit) ** 2).sum() for fit in (up, down)) / ((y - y.mean()) ** 2).sum()
    assert monotonic_loss(x, y) == pytest.approx(expected, abs=1e-12)
    order = np.random.default_rng(0).permutation(len(y))
    assert monotonic_loss(x[order], y[order]) == pytest.approx(expected, abs=1e-12)
    assert monotonic_loss(np.exp(-x), y) == pytest.approx(expected, abs=1e-12)


def test_monotonic_loss_with_ties_as_scikit_learn():
    rng = np.random.default_rng(1)
    x, y = rng.integers(0, 6, 30).astype(float), rng.normal(size=30)
    left = min(
        ((y - isotonic.IsotonicRegression(increasing=up).fit(x, y).predict(x)) ** 2).sum() for up in (True, False)
    )
    assert monotonic_loss(x, y) == pytest.approx(left / ((y - y.mean()) ** 2).sum())


def test_monotonic_loss_of_known_shapes():
    x = np.arange(5.0)
    assert monotonic_loss(x, x**2) == 0
    assert monotonic_loss(x, -x) == 0
    assert monotonic_loss(x, np.array([0.0, 1, 2, 1, 0])) > 0.4  # up and down again
    assert np.isnan(monotonic_loss(x, np.ones(5)))
    assert np.isnan(monotonic_loss(x[:2], x[:2]))


def test_the_interval_of_a_mean_is_that_of_all_resamples():
    values = np.array([0.1, 0.5, 0.9, 0.2])
    everything = [np.mean(pick) for pick in itertools.product(values, repeat=4)]
    found = mean(values, 200_000, 0)
    assert found.value == pytest.approx(values.mean())
    assert found.ci95 == pytest.approx(np.percentile(everything, [2.5, 97.5]), abs=0.011)
    assert found.n == 4
    assert mean(values, 500, 3) == mean(values, 500, 3)
    assert mean(values, 50, 3) != mean(values, 50, 4)


def test_means_leave_out_what_is_not_known():
    values = np.array([[1.0, np.nan, 3.0], [2.0, np.nan, np.nan], [6.0, np.nan, np.nan]])
    means, low, high = means_over(values, 500)
    np.testing.assert_array_equal(means, [3, np.nan, 3])
    np.testing.assert_array_equal(np.isnan(low), [False, True, True])
    assert low[0] < 3 < high[0]
    one = mean(np.array([0.25, np.nan]))
    assert (one.value, one.ci95, one.n) == (0.25, None, 1)
    assert mean(np.array([np.nan])).value is None


def test_correlation_within_strata():
    # Falling in each stratum, rising over both: what mixing them would hide.
    low, high = (np.arange(4.0), np.arange(4.0)[::-1]), (np.arange(10, 16.0), np.arange(16, 10.0, -1))
    found = rank_correlation([low, high], 500)
    assert (found.value, found.n) == (pytest.approx(-1), 10)
    assert found.ci95 == pytest.approx((-1, -1))
    both = tuple(np.concatenate(pair) for pair in zip(low, high, strict=True))
    assert rank_correlation([both], 500).value > 0.4
    assert rank_correlation([low, (np.ones(3), np.arange(3.0))], 500).n == 4  # a stratum without variation


def test_correlation_by_hand_and_its_dropped_resamples():
    x, y = np.array([1.0, 2, 3, 4]), np.array([1.0, 3, 2, 4])
    found = rank_correlation([(x, y)], 20_000)
    assert found.value == pytest.approx(0.8)
    everything = [spearman(x[list(pick)], y[list(pick)]) for pick in itertools.product(range(4), repeat=4)]
    known = [float(rho) for rho in everything if np.isfinite(rho)]
    assert found.dropped / 20_000 == pytest.approx(1 - len(known) / len(everything), abs=0.004)
    assert found.ci95 == pytest.approx(np.percentile(known, [2.5, 97.5]), abs=0.05)
    assert rank_correlation([], 10).value is None
    assert rank_correlation([(np.ones(3), np.arange(3.0))], 10).ci95 is None


def test_difference_within_strata():
    strata = [(np.array([2.0, 3.0]), np.array([1.0])), (np.array([12.0]), np.array([10.0, 11.0, 12.0]))]
    weights = np.array([2 / 3, 3 / 4])
    found = difference(strata, 2000)
    assert found.value == pytest.approx(float(weights @ [1.5, 1.0] / weights.sum()))
    assert found.ci95[0] < found.value < found.ci95[1]
    assert found.n == 7
    assert difference([(np.ones(1), np.zeros(1))]).ci95 is None
    assert difference([(np.ones(2), np.array([]))]).value is None


@given(st.integers(2, 9), st.integers(0, 100))
def test_intervals_lie_within_what_is_possible(n, seed):
    rng = np.random.default_rng(seed)
    x, y = rng.normal(size=(2, n))
    found = rank_correlation([(x, y)], 50, seed)
    assert -1 <= found.value <= 1
    if found.ci95:
        assert -1 <= found.ci95[0] <= found.ci95[1] <= 1
    low, high = mean(x, 50, seed).ci95
    assert x.min() <= low <= high <= x.max()
