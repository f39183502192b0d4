"""The empty corner against a fine grid, and its permutation test against every order."""

from __future__ import annotations

import numpy as np
import pytest
import reference

from selplug.comparisons.necessary import empty_corner, necessary


def test_the_corner_as_on_a_fine_grid():
    rng = np.random.default_rng(0)
    for _ in range(10):
        x, y = rng.normal(size=(2, 6))
        assert float(empty_corner(x, y)) == pytest.approx(reference.empty_corner(x, y), abs=0.002)
    x = np.array([0.0, 0.0, 1.0, 1.0])  # of equal x the highest counts
    assert float(empty_corner(x, np.array([0.2, 0.5, 1.0, 0.0]))) == pytest.approx(0.5)
    assert float(empty_corner(x, np.array([0.5, 0.2, 0.0, 1.0]))) == pytest.approx(0.5)
    assert np.isnan(empty_corner(np.ones(4), x))


def test_p_over_every_order():
    rng = np.random.default_rng(1)
    x, y = rng.normal(size=(2, 6))
    found = necessary([(x, y)])
    expected = reference.permutation_p(x, y, lambda a, b: float(empty_corner(a, b)))
    assert (found.above, found.below) == pytest.approx(expected)
    assert found.estimate.ci95 is None


def test_a_ceiling_is_found_and_a_full_corner_too():
    x = np.arange(7.0)
    assert necessary([(x, x)]).above < 0.01
    assert necessary([(x, -x)]).below < 0.2
    assert necessary([(x, -x)]).estimate.value == 0
    assert 0 < necessary([(x, x)]).smallest(0.05) < 1
    assert necessary([(x[:3], x[:3])]).smallest(0.05) is None
    several = necessary([(x, x), (x, x)], draws=500)
    assert several.above == pytest.approx(1 / 501)
    assert necessary([(np.ones(5), x[:5])]).estimate.value is None
