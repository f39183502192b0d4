"""How far a curve is from monotonic, and how far errors alone would put a monotonic one.

The isotonic fit is the least-squares one of Barlow et al., *Statistical inference under order restrictions*, 1972.
"""

from __future__ import annotations

import numpy as np

#: Curves drawn to see what errors alone do to a monotonic one.
DRAWN = 200


def monotonic_loss(x: np.ndarray, y: np.ndarray) -> float:
    """The share of the variance of y that no monotonic function of x explains, in [0, 1] (ours).

    1 - R² of the better of the two isotonic least-squares fits of y on x, rising and falling: 0 where y is a monotonic
    function of x. Points with equal x share a value of the fit.

    Args:
        x, y: (n,), finite.

    Returns:
        NaN with fewer than 3 points, or where y does not vary.
    """
    total = float(((y - y.mean()) ** 2).sum()) if len(y) else 0.0
    if len(y) < 3 or total <= 0:
        return float("nan")
    return min(float(((y - _best_fit(x, y)) ** 2).sum()) / total, 1.0)


def loss_of_errors(x: np.ndarray, y: np.ndarray, x_errors: np.ndarray, y_errors: np.ndarray, seed: int = 0) -> float:
    """The mean loss of curves that are monotonic but for their errors.

    They lie on the best monotonic fit and are measured with normal errors of the given sizes, in x and in y.

    Args:
        x, y, x_errors, y_errors: (n,), finite; the errors are standard errors.
        seed: of the errors drawn.
    """
    rng = np.random.default_rng(seed)
    across = x + x_errors * rng.standard_normal((DRAWN, len(x)))
    up = _best_fit(x, y) + y_errors * rng.standard_normal((DRAWN, len(x)))
    ordered = np.take_along_axis(up, across.argsort(1), 1)
    left = np.minimum(*(((ordered - _isotonic(sign * ordered) * sign) ** 2).sum(1) for sign in (1, -1)))
    total = ((ordered - ordered.mean(1, keepdims=True)) ** 2).sum(1)
    return float((left / np.where(total > 0, total, np.inf)).mean())


def _best_fit(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """The better of the two isotonic fits, rising and falling, at each x (n,)."""
    places, inverse, counts = np.unique(x, return_inverse=True, return_counts=True)
    inverse = inverse.reshape(-1)
    means = np.bincount(inverse, y, len(places)) / counts
    fits = [sign * _pooled(sign * means, counts)[inverse] for sign in (1, -1)]
    return min(fits, key=lambda fit: float(((y - fit) ** 2).sum()))


def _pooled(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """The non-decreasing sequence nearest to values (n,) in weighted squares: neighbours out of order are pooled."""
    blocks: list[tuple[float, float, int]] = []  # mean, weight, length
    for value, weight in zip(values.tolist(), weights.tolist(), strict=True):
        block = (value, float(weight), 1)
        while blocks and blocks[-1][0] >= block[0]:
            last = blocks.pop()
            together = last[1] + block[1]
            block = ((last[0] * last[1] + block[0] * block[1]) / together, together, last[2] + block[2])
        blocks.append(block)
    return np.repeat([block[0] for block in blocks], [block[2] for block in blocks])


def _isotonic(values: np.ndarray) -> np.ndarray:
    """The same of many sequences at once, (B, n), up to rounding and without weights.

    At each place the largest over beginnings of the smallest over ends of the means between them.
    """
    size = values.shape[-1]
    sums = np.concatenate([np.zeros((len(values), 1)), np.cumsum(values, -1)], -1)
    lengths = np.arange(1, size + 1) - np.arange(size)[:, None]  # begin, end
    between = sums[:, None, 1:] - sums[:, :-1, None]
    means = np.where(lengths > 0, between / np.where(lengths > 0, lengths, 1), np.inf)
    smallest = np.minimum.accumulate(means[..., ::-1], -1)[..., ::-1]  # over ends from each place on
    return np.where(np.triu(np.ones((size, size), bool)), smallest, -np.inf).max(-2)
