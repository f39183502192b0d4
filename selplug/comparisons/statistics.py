"""Tests and intervals by Student's t and Welch, Holm's correction, and what all tests share.

Sources: Welch, *The generalization of 'Student's' problem*, Biometrika 1947, with Satterthwaite's degrees of freedom;
Holm, *A simple sequentially rejective multiple test procedure*, Scand. J. Statist. 1979.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
from scipy.special import nctdtr, stdtr, stdtrit

#: A verdict is wrong in at most this share of cases: over a whole sheet, and half of it on each side of one claim.
LEVEL = 0.05
POWER = 0.8
#: p-values that are a count of permutations may miss a level by rounding alone.
SLACK = 1e-9
#: Non-centralities beyond are not looked for.
_FAR = 1e4


@dataclass(frozen=True)
class Estimate:
    """A statistic with its 95 % interval and its two-sided p-value, both of the same method.

    ``value`` is None where it is not defined, ``ci95`` and ``p`` also where too few are there to tell. ``n`` are the
    networks counted, ``configurations`` the trainings that they are seeds of.
    """

    value: float | None
    ci95: tuple[float, float] | None
    n: int
    configurations: int = 0
    p: float | None = None


@dataclass(frozen=True)
class Tested:
    """An estimate, and the p-values of its two sides.

    ``above``: of the alternative that the statistic lies above what it was tested against, ``below`` of the other;
    both are 1 where nothing can be told. ``smallest(level)``: the smallest effect that a two-sided test of this design
    finds at that level with 80 % power; None if it finds none, however large.
    """

    estimate: Estimate
    above: float = 1.0
    below: float = 1.0
    smallest: Callable[[float], float | None] = lambda level: None

    def of(self, networks: int, configurations: int) -> Tested:
        """The same, with the number of networks and configurations behind it."""
        return replace(self, estimate=replace(self.estimate, n=networks, configurations=configurations))


#: What nothing could be computed of.
NOTHING = Tested(Estimate(None, None, 0))


def two_sided(above: float, below: float) -> float:
    return min(1.0, 2 * min(above, below))


def holm(values: Sequence[float]) -> list[float]:
    """p-values adjusted for their number: below a level by it, the share of families with a false one is below it."""
    order = sorted(range(len(values)), key=lambda place: values[place])
    found, largest = [0.0] * len(values), 0.0
    for rank, place in enumerate(order):
        largest = max(largest, min(1.0, (len(values) - rank) * values[place]))
        found[place] = largest
    return found


def mean_of_units(values: np.ndarray, bound: float = 0.0) -> Tested:
    """The mean of independent values (n,) against ``bound``: Student's t."""
    if len(values) < 2:
        return Tested(Estimate(float(values[0]) if len(values) else None, None, len(values)))
    return by_t(float(values.mean()), float(values.std(ddof=1) / np.sqrt(len(values))), len(values) - 1, bound)


def mean_within(samples: Sequence[np.ndarray], weights: Sequence[float], bound: float = 0.0) -> Tested:
    """A weighted sum of means of independent samples, (n,) each: Welch, the variance of each sample its own.

    A mean of groups has weights 1 / G, a difference of two samples 1 and -1. A sample of one value has no variance of
    its own: nothing is tested then.
    """
    value = float(sum(weight * sample.mean() for weight, sample in zip(weights, samples, strict=True)))
    if any(len(sample) < 2 for sample in samples):
        return Tested(Estimate(value, None, 0))
    shares = np.array([w * w * s.var(ddof=1) / len(s) for w, s in zip(weights, samples, strict=True)])
    freedom = np.array([len(sample) - 1 for sample in samples])
    total = float(shares.sum())
    df = total**2 / float((shares**2 / freedom).sum()) if total > 0 else float(freedom.sum())
    return by_t(value, float(np.sqrt(total)), df, bound)


def by_t(value: float, error: float, df: float, bound: float) -> Tested:
    """An estimate with a standard error: what does not vary at all lies on its side for certain."""
    if error <= 1e-12 * abs(value):  # all are the same, but for rounding
        above, below = (float(not value > bound), float(not value < bound))
        estimate = Estimate(value, (value, value), 0, p=two_sided(above, below))
        return Tested(estimate, above, below, lambda level: 0.0)
    t = (value - bound) / error
    above, below = float(stdtr(df, -t)), float(stdtr(df, t))
    half = float(stdtrit(df, 1 - LEVEL / 2)) * error
    estimate = Estimate(value, (value - half, value + half), 0, p=two_sided(above, below))

    def smallest(level: float) -> float | None:
        return shift_with_power(df, float(stdtrit(df, 1 - level / 2))) * error

    return Tested(estimate, above, below, smallest)


def shift_with_power(df: float, critical: float) -> float:
    """The non-centrality at which t exceeds ``critical`` with 80 % power."""
    return _shift(df, critical, 1 - POWER)


@lru_cache(maxsize=4096)
def _shift(df: float, t: float, share: float) -> float:
    """The non-centrality with a share of the non-central t below ``t``: the share falls as it grows."""

    def below(shift: float) -> float:
        found = float(nctdtr(df, shift, t))
        return float(shift < t) if np.isnan(found) else found  # too far out to be computed

    low, high = -4.0, 4.0
    while below(low) < share and low > -_FAR:
        low *= 2
    while below(high) > share and high < _FAR:
        high *= 2
    for _ in range(36):
        middle = (low + high) / 2
        low, high = (middle, high) if below(middle) > share else (low, middle)
    return (low + high) / 2


def means_over(values: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Means over the first axis and the ends of their 95 % t intervals, (n, K) -> three of (K,).

    NaN are left out; a column with fewer than two numbers has no interval, NaN at both ends.
    """
    known = np.isfinite(values)
    counts = known.sum(0)
    filled = np.where(known, values, 0.0)
    means = np.where(counts > 0, filled.sum(0) / np.maximum(counts, 1), np.nan)
    squares = np.where(known, (values - means) ** 2, 0.0).sum(0)
    wide = counts > 1
    degrees = np.where(wide, counts - 1, 1)
    half = stdtrit(degrees, 1 - LEVEL / 2) * np.sqrt(squares / degrees / np.maximum(counts, 1))
    half = np.where(wide, half, np.nan)
    return means, means - half, means + half
