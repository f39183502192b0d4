"""The isotonic loss, against loops and scikit-learn; and what errors make of a monotonic curve."""

from __future__ import annotations

import numpy as np
import pytest
import reference
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from selplug.comparisons.monotonic import loss_of_errors, monotonic_loss

isotonic = pytest.importorskip("sklearn.isotonic")
NUMBERS = st.lists(st.integers(-5, 5).map(float), min_size=3, max_size=12)


@given(NUMBERS)
@settings(deadline=None)
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


def test_the_loss_of_errors_is_that_of_curves_measured_with_them():
    rng = np.random.default_rng(3)
    x, y = np.linspace(1.5, 1.1, 6), np.linspace(0.9, 0.3, 6)
    nothing, errors = np.zeros(6), np.full(6, 0.06)
    assert loss_of_errors(x, y, nothing, nothing) == pytest.approx(0, abs=1e-12)
    drawn = [monotonic_loss(x + errors * rng.normal(size=6), y + 0.02 * rng.normal(size=6)) for _ in range(2000)]
    assert loss_of_errors(x, y, errors, np.full(6, 0.02)) == pytest.approx(np.mean(drawn), rel=0.25)
    assert loss_of_errors(x, y, errors, nothing) < loss_of_errors(x, y, 2 * errors, nothing)
