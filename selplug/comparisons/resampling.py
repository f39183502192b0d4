"""Rank correlation, monotonicity, and percentile bootstrap intervals, as pure functions of numpy arrays.

Source of the interval: Efron, *Better bootstrap confidence intervals*, JASA 1987, section 1 (the percentile method).
With few networks it is imprecise and too narrow, so the number of networks is always shown with it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

#: The default number of resamples.
RESAMPLES = 10_000
_ENDS = (2.5, 97.5)
#: The most numbers in memory at once while resamples are ranked.
_CHUNK = 4_000_000

#: Two samples of one stratum, never mixed with those of other strata: ``(x (n,), y (n,))`` or ``(a, b)``.
Pair = tuple[np.ndarray, np.ndarray]


@dataclass(frozen=True)
class Estimate:
    """A statistic with its 95 % bootstrap interval.

    ``value`` is None if undefined, ``ci95`` also if there is nothing to resample. ``n`` is the number of networks,
    ``dropped`` the number of resamples left out because the statistic is undefined for them.
    """

    value: float | None
    ci95: tuple[float, float] | None
    n: int
    dropped: int = 0


def ranks(values: np.ndarray) -> np.ndarray:
    """Ranks from 1 along the last axis, (..., n) -> (..., n); equal values get the mean of their ranks."""
    own, other = values[..., :, None], values[..., None, :]
    return (other < own).sum(-1) + ((other == own).sum(-1) + 1) / 2


def spearman(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Spearman's rank correlation along the last axis, (..., n) and (..., n) -> (...), in [-1, 1].

    NaN where x or y does not vary.
    """
    a, b = (ranks(np.asarray(values, float)) for values in (x, y))
    a, b = (r - r.mean(-1, keepdims=True) for r in (a, b))
    spread = np.sqrt((a**2).sum(-1) * (b**2).sum(-1))
    return np.clip((a * b).sum(-1) / np.where(spread > 0, spread, np.nan), -1, 1)


def rank_correlation(strata: Sequence[Pair], resamples: int = RESAMPLES, seed: int = 0) -> Estimate:
    """Spearman's rho within strata, averaged with weights n - 1; the interval resamples within each stratum.

    Args:
        strata: ``(x (n,), y (n,))`` per stratum. Strata with constant x or y are left out.
        resamples: number of resamples, at least 1.
        seed: seed of the resamples.
    """
    used = [pair for pair in strata if len(pair[0]) > 1 and np.isfinite(spearman(*pair))]
    count = sum(len(x) for x, _ in used)
    if not used:
        return Estimate(None, None, count)
    rng = np.random.default_rng(seed)
    weights = np.array([len(x) - 1 for x, _ in used], float)
    weights /= weights.sum()
    value = float(weights @ [float(spearman(x, y)) for x, y in used])
    drawn = np.zeros(resamples)
    for weight, (x, y) in zip(weights, used, strict=True):
        picks = rng.integers(0, len(x), (resamples, len(x)))
        step = max(1, _CHUNK // len(x) ** 2)
        drawn += weight * np.concatenate(
            [spearman(x[rows], y[rows]) for rows in np.split(picks, range(step, resamples, step))]
        )
    return _estimate(value, drawn, count)


def difference(strata: Sequence[Pair], resamples: int = RESAMPLES, seed: int = 0) -> Estimate:
    """Mean of a minus mean of b within strata, averaged with weights ``n m / (n + m)``, and its interval.

    Args:
        strata: ``(a (n,), b (m,))`` per stratum; strata with an empty side are left out. Both sides are resampled.
        resamples, seed: as in :func:`rank_correlation`.
    """
    used = [pair for pair in strata if len(pair[0]) and len(pair[1])]
    count = sum(len(a) + len(b) for a, b in used)
    if not used:
        return Estimate(None, None, count)
    rng = np.random.default_rng(seed)
    weights = np.array([len(a) * len(b) / (len(a) + len(b)) for a, b in used])
    weights /= weights.sum()
    value = float(weights @ [a.mean() - b.mean() for a, b in used])
    if all(len(side) == 1 for pair in used for side in pair):
        return Estimate(value, None, count)
    drawn = np.zeros(resamples)
    for weight, pair in zip(weights, used, strict=True):
        a, b = (side[rng.integers(0, len(side), (resamples, len(side)))].mean(1) for side in pair)
        drawn += weight * (a - b)
    return _estimate(value, drawn, count)


def mean(values: np.ndarray, resamples: int = RESAMPLES, seed: int = 0) -> Estimate:
    """The mean of finite values (n,); a single value has no interval."""
    kept = values[np.isfinite(values)]
    means, low, high = means_over(kept[:, None], resamples, seed)
    if not len(kept):
        return Estimate(None, None, 0)
    return Estimate(float(means[0]), (float(low[0]), float(high[0])) if len(kept) > 1 else None, len(kept))


def means_over(
    values: np.ndarray, resamples: int = RESAMPLES, seed: int = 0
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Means over the first axis and the two ends of their intervals, (n, K) -> three arrays (K,).

    NaN are left out; in a column with fewer than two numbers both ends are NaN.
    """
    known = np.isfinite(values)
    filled = np.where(known, values, 0.0)
    counts = known.sum(0)
    means = np.where(counts > 0, filled.sum(0) / np.maximum(counts, 1), np.nan)
    low, high = np.full((2, values.shape[1]), np.nan)
    wide = np.flatnonzero(counts > 1)
    if len(wide):
        rng = np.random.default_rng(seed)
        drawn = rng.multinomial(len(values), np.full(len(values), 1 / len(values)), resamples).astype(float)
        step = max(1, _CHUNK // resamples)
        for columns in np.split(wide, range(step, len(wide), step)):
            weights = drawn @ known[:, columns]
            sums = drawn @ filled[:, columns]
            some = np.where(weights > 0, sums / np.maximum(weights, 1), np.nan)
            low[columns], high[columns] = np.nanpercentile(some, _ENDS, axis=0)
    return means, low, high


def monotonic_loss(x: np.ndarray, y: np.ndarray) -> float:
    """The share of the variance of y that no monotonic function of x explains, in [0, 1] (ours).

    1 - R² of the better of the two isotonic least-squares fits of y on x, rising and falling: 0 if y is a monotonic
    function of x. Points with equal x have the same fitted value.

    Args:
        x, y: (n,), finite.

    Returns:
        NaN with fewer than 3 points, or if y is constant.
    """
    total = float(((y - y.mean()) ** 2).sum()) if len(y) else 0.0
    if len(y) < 3 or total <= 0:
        return float("nan")
    places, inverse, counts = np.unique(x, return_inverse=True, return_counts=True)
    inverse = inverse.reshape(-1)
    means = np.bincount(inverse, y, len(places)) / counts
    left = min(float(((y - sign * _isotonic(sign * means, counts)[inverse]) ** 2).sum()) for sign in (1, -1))
    return min(left / total, 1.0)


def _isotonic(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """The non-decreasing sequence nearest to values (n,) in weighted least squares, by pooling adjacent violators."""
    blocks: list[tuple[float, float, int]] = []  # mean, weight, length
    for value, weight in zip(values.tolist(), weights.tolist(), strict=True):
        block = (value, float(weight), 1)
        while blocks and blocks[-1][0] >= block[0]:
            last = blocks.pop()
            together = last[1] + block[1]
            block = ((last[0] * last[1] + block[0] * block[1]) / together, together, last[2] + block[2])
        blocks.append(block)
    return np.repeat([block[0] for block in blocks], [block[2] for block in blocks])


def _estimate(value: float, drawn: np.ndarray, count: int) -> Estimate:
    known = drawn[np.isfinite(drawn)]
    ends = np.percentile(known, _ENDS) if len(known) else None
    interval = (float(ends[0]), float(ends[1])) if ends is not None else None
    return Estimate(value, interval, count, len(drawn) - len(known))
