"""The class-balanced draw."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from selplug.core.draw import balanced_draw, quotas
from selplug.core.errors import InputError

label_lists = st.lists(st.integers(0, 6), min_size=1, max_size=120)


@settings(max_examples=150)
@given(label_lists, st.integers(0, 2**32), st.data())
def test_balanced(labels: list[int], seed: int, data: st.DataObject) -> None:
    num_samples = data.draw(st.integers(1, len(labels)))
    array = np.array(labels)
    chosen = balanced_draw(array, num_samples, seed)
    assert len(chosen) == num_samples
    assert (np.diff(chosen) > 0).all(), "in dataset order, none twice"
    counts = {c: (array == c).sum() for c in set(labels)}
    taken = {c: (array[chosen] == c).sum() for c in counts}
    full = max(taken.values())
    for c, number in taken.items():
        assert number in (full, full - 1) or number == counts[c], "fewer only where the class has no more"
    np.testing.assert_array_equal(chosen, balanced_draw(array, num_samples, seed))


def test_counts_differ_by_one_at_most_when_there_is_enough() -> None:
    labels = np.repeat(np.arange(10), 50)
    taken = np.bincount(labels[balanced_draw(labels, 103, 0)])
    assert sorted(taken.tolist()) == [10] * 7 + [11] * 3


def test_a_small_class_gives_all_and_the_others_fill_up() -> None:
    assert quotas(np.array([2, 100, 100]), 50, 0).tolist() == [2, 24, 24]
    assert quotas(np.array([0, 3]), 3, 0).tolist() == [0, 3]


def test_the_seed_matters_and_larger_draws_hold_smaller_ones() -> None:
    labels = np.tile(np.arange(5), 40)
    assert balanced_draw(labels, 50, 1).tolist() != balanced_draw(labels, 50, 2).tolist()
    assert set(balanced_draw(labels, 50, 1)) < set(balanced_draw(labels, 100, 1))
    rests = {tuple(quotas(np.full(5, 10), 7, seed)) for seed in range(20)}
    assert len(rests) > 1, "the seed decides which classes give one more"


def test_the_draw_is_the_same_on_every_machine() -> None:
    """A report's seed must mean the same samples later: these were drawn by the first version."""
    labels = np.tile(np.arange(3), 5)
    assert balanced_draw(labels, 7, 0).tolist() == [5, 7, 8, 9, 10, 11, 12]


def test_more_than_there_are() -> None:
    with pytest.raises(InputError, match="expected at least 11 samples in the data, got 10"):
        balanced_draw(np.zeros(10, dtype=int), 11, 0)
