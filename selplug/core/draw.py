"""Draws a seeded, class-balanced choice of samples from their labels."""

from __future__ import annotations

import numpy as np

from .errors import InputError


def quotas(counts: np.ndarray, num_samples: int, seed: int) -> np.ndarray:
    """The number of samples to take from each class, as equal as possible.

    A class with too few samples gives all of them, and the other classes give more. If the rest cannot be divided
    equally, the seed decides which classes give one more.

    Args:
        counts: (C,), the number of samples of each class.
        num_samples: the number to take, at most ``counts.sum()``.
        seed: chooses the classes that give one more.

    Returns:
        (C,), summing to ``num_samples``.
    """
    counts = np.asarray(counts, dtype=np.int64)
    low, high = 0, int(counts.max(initial=0))
    while low < high:  # find the largest limit per class with at most num_samples in total
        level = (low + high + 1) // 2
        if int(np.minimum(counts, level).sum()) <= num_samples:
            low = level
        else:
            high = level - 1
    taken = np.minimum(counts, low)
    rest = num_samples - int(taken.sum())
    # One random number per class instead of a shuffle: numpy guarantees the stream of random() only.
    priority = np.random.default_rng([seed, 0]).random(len(counts))
    priority[counts <= low] = np.inf
    taken[np.argsort(priority, kind="stable")[:rest]] += 1
    return taken


def balanced_draw(labels: np.ndarray, num_samples: int, seed: int) -> np.ndarray:
    """Indices of a class-balanced random choice, in ascending order so that reading stays sequential.

    The seed ranks the samples of a class, so a larger choice with the same seed contains a smaller one, except for the
    classes that give one more.

    Args:
        labels: (N,).
        num_samples: the number to take.
        seed: the same seed gives the same choice.

    Returns:
        (num_samples,), int64.

    Raises:
        InputError: there are fewer samples than ``num_samples``.
    """
    labels = np.asarray(labels)
    if num_samples > len(labels):
        raise InputError(f"expected at least {num_samples} samples in the data, got {len(labels)}; lower --num-samples")
    classes, class_of = np.unique(labels, return_inverse=True)
    wanted = quotas(np.bincount(class_of, minlength=len(classes)), num_samples, seed)
    priority = np.random.default_rng([seed, 1]).random(len(labels))
    order = np.lexsort((priority, class_of))  # by class, then by priority
    starts = np.searchsorted(class_of[order], np.arange(len(classes)))
    rank = np.empty(len(labels), dtype=np.int64)
    rank[order] = np.arange(len(labels)) - starts[class_of[order]]
    return np.flatnonzero(rank < wanted[class_of])
