"""t, Welch, Holm and intervals, against slow loops and SciPy's own tests."""

from __future__ import annotations

import numpy as np
import pytest
import reference
from hypothesis import given, settings
from hypothesis import strategies as st

from selplug.comparisons.statistics import (
    LEVEL,
    by_t,
    holm,
    mean_of_units,
    mean_within,
    means_over,
)

stats = pytest.importorskip("scipy.stats")
P = st.lists(st.floats(0, 1), min_size=1, max_size=8)


@given(P)
@settings(deadline=None)
def test_holm(values):
    assert holm(values) == pytest.approx(reference.holm(values))


@given(P, st.integers(0, 7), st.floats(0, 1))
@settings(deadline=None)
def test_holm_is_monotone(values, place, smaller):
    found = holm(values)
    assert all(adjusted >= plain for adjusted, plain in zip(found, values, strict=True))
    order = np.argsort(values, kind="stable")
    assert np.all(np.diff(np.array(found)[order]) >= 0)
    # A smaller p-value of one claim makes no adjusted one larger.
    lower = list(values)
    lower[place % len(values)] *= smaller
    assert all(new <= old + 1e-12 for new, old in zip(holm(lower), found, strict=True))


def test_holm_by_hand():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([]) == []


def test_a_mean_as_scipy():
    values = np.array([0.3, -0.1, 0.4, 0.9])
    found, expected = mean_of_units(values, 0.1), stats.ttest_1samp(values, 0.1)
    assert found.estimate.p == pytest.approx(expected.pvalue)
    assert found.above == pytest.approx(stats.ttest_1samp(values, 0.1, alternative="greater").pvalue)
    assert found.above + found.below == pytest.approx(1)
    assert found.estimate.ci95 == pytest.approx(tuple(expected.confidence_interval(0.95)))
    assert mean_of_units(values[:1]).estimate.ci95 is None


def test_a_difference_as_welch_by_hand_and_by_scipy():
    a, b = [0.3, 0.5, 0.45], [0.1, 0.25, 0.1, 0.4]
    found, expected = mean_within([np.array(a), np.array(b)], [1, -1]), stats.ttest_ind(a, b, equal_var=False)
    value, error, freedom = reference.welch(a, b)
    assert found.estimate.value == pytest.approx(value)
    assert found.estimate.p == pytest.approx(expected.pvalue)
    half = stats.t.ppf(0.975, freedom) * error
    assert found.estimate.ci95 == pytest.approx((value - half, value + half))
    assert found.estimate.ci95 == pytest.approx(tuple(expected.confidence_interval(0.95)))
    assert mean_within([np.array(a), np.array([1.0])], [1, -1]).estimate.ci95 is None


def test_what_does_not_vary_lies_where_it_lies():
    found = mean_of_units(np.full(3, 0.2))
    assert (found.above, found.below, found.estimate.p) == (0, 1, 0)
    assert mean_of_units(np.zeros(3)).estimate.p == 1


def test_the_smallest_effect_is_found_in_80_percent():
    rng = np.random.default_rng(0)
    sample = rng.normal(size=6)
    size = by_t(0.0, 1 / np.sqrt(6), 5, 0.0).smallest(LEVEL)
    drawn = rng.normal(size, 1, (20_000, 6))
    t = drawn.mean(1) / (drawn.std(1, ddof=1) / np.sqrt(6))
    assert np.mean(t > stats.t.ppf(1 - LEVEL / 2, 5)) == pytest.approx(0.8, abs=0.01)
    assert mean_of_units(sample).smallest(0.001) > mean_of_units(sample).smallest(0.05)


def test_means_leave_out_what_is_not_known():
    values = np.array([[1.0, np.nan, 3.0], [2.0, np.nan, np.nan], [6.0, np.nan, np.nan]])
    means, low, high = means_over(values)
    np.testing.assert_array_equal(means, [3, np.nan, 3])
    np.testing.assert_array_equal(np.isnan(low), [False, True, True])
    assert (low[0], high[0]) == pytest.approx(tuple(stats.ttest_1samp(values[:, 0], 0).confidence_interval(0.95)))
