"""Rank correlations within families of training configurations, and their permutation tests.

Sources: Spearman, *The proof and measurement of association between two things*, 1904; Pitman, *Significance tests
which may be applied to samples from any populations II*, 1937; for the partial one Freedman & Lane, *A nonstochastic
interpretation of reported significance levels*, 1983: what clean ranks leave of the others' ranks is permuted.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from functools import lru_cache

import numpy as np

from .designs import interval, smallest
from .statistics import SLACK, Estimate, Tested, two_sided

#: Permutations drawn of a family with more configurations than :data:`EXACT`, of which all are tried.
DRAWS, EXACT = 10_000, 8
#: Combinations of the families' permutations that are all tried in a partial correlation.
_COMBINED = 50_000
#: What is left of ranks by rounding alone.
_NOTHING = 1e-9


def ranks(values: np.ndarray) -> np.ndarray:
    """Ranks from 1 along the last axis, (..., n) -> (..., n); those of equal values are their mean."""
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


def rank_correlation(strata: Sequence[Sequence[np.ndarray]], draws: int = DRAWS, seed: int = 0) -> Tested:
    """Spearman's rho within strata, averaged with weights n - 1, and its permutation test.

    Values are permuted within their stratum: all ways up to :data:`EXACT` values, ``draws`` seeded ones beyond. The
    interval is that of :func:`~selplug.comparisons.designs.interval`, which agrees with the test.

    Args:
        strata: ``(x (n,), y (n,))`` per stratum. One whose x or y does not vary is left out.
        draws, seed: of the permutations where there are too many.
    """
    used = [(x, y) for x, y in strata if len(x) > 1 and np.isfinite(spearman(x, y))]
    if not used:
        return Tested(Estimate(None, None, 0))
    weights = np.array([len(x) - 1 for x, _ in used], float)
    weights /= weights.sum()
    value = float(np.clip(weights @ [float(spearman(x, y)) for x, y in used], -1, 1))
    nulls = tuple((_sorted_ranks(x), _sorted_ranks(y)) for x, y in used)
    exact = all(len(x) <= EXACT for x, _ in used)
    levels, tail = _null(nulls, tuple(weights.tolist()), draws, seed)
    return _tested(value, levels, tail, tuple(len(x) for x, _ in used), 0 if exact else draws)


def partial_rank_correlation(strata: Sequence[Sequence[np.ndarray]], draws: int = DRAWS, seed: int = 0) -> Tested:
    """Rank correlation of x and y given z, within strata, and its permutation test.

    Ranks of x and of y are freed of what a straight line on the ranks of z tells of them, within each stratum, and then
    correlated over all. The test permutes what is left of y.

    Args:
        strata: ``(x (n,), y (n,), z (n,))`` per stratum. One of fewer than 4, or where z orders as x does, is left out.
        draws, seed: as in :func:`rank_correlation`.
    """
    used = []
    for x, y, z in strata:
        if len(x) < 4:
            continue
        given = _centred(ranks(z))
        left = [_without(_centred(ranks(values)), given) for values in (x, y)]
        if np.abs(left[0]).max() > _NOTHING:
            used.append((*left, given))
    if not used:
        return Tested(Estimate(None, None, 0))
    across = sum(float(x @ x) for x, _, _ in used)
    if sum(float(y @ y) for _, y, _ in used) < _NOTHING:
        return Tested(Estimate(0.0, (-1.0, 1.0), 0, p=1.0))
    rng = np.random.default_rng(seed)
    exact = math.prod(math.factorial(len(x)) for x, _, _ in used) <= _COMBINED
    tops, lengths = np.zeros(1), np.zeros(1)
    for x, y, given in used:
        moved = y[orders_of(len(x), draws, rng, exact)]
        top, length = moved @ x, ((moved - np.outer(moved @ given, given) / max(given @ given, 1)) ** 2).sum(1)
        tops, lengths = (
            (np.add.outer(a, b).reshape(-1) for a, b in ((tops, top), (lengths, length)))
            if exact
            else (tops + top, lengths + length)
        )
    drawn = tops / np.sqrt(across * np.where(lengths > _NOTHING, lengths, np.inf))
    value = sum(float(x @ y) for x, y, _ in used) / np.sqrt(across * sum(float(y @ y) for _, y, _ in used))
    levels, counts = np.unique(drawn.round(10), return_counts=True)
    sizes = tuple(len(x) - 1 for x, _, _ in used)  # z takes one away
    return _tested(float(np.clip(value, -1, 1)), levels, _tail(counts / len(drawn)), sizes, 0 if exact else draws)


def _tested(value: float, levels: np.ndarray, tail: np.ndarray, sizes: tuple[int, ...], drawn: int) -> Tested:
    """Of a null distribution: its values in order, and the share of each and of all above it."""
    shares = np.append(tail, 0.0)

    def p(share: np.ndarray) -> np.ndarray:
        return np.minimum(1.0, (share * drawn + 1) / (drawn + 1) if drawn else share)

    above = float(p(shares[np.searchsorted(levels, value - _NOTHING)]))
    below = float(p(1 - shares[np.searchsorted(levels, value + _NOTHING)]))

    def smallest_at(level: float) -> float | None:
        found = np.flatnonzero(p(tail) <= level / 2 + SLACK)
        return smallest(sizes, float(levels[found[0]])) if len(found) else None

    estimate = Estimate(value, interval(sizes, value, above, below), 0, p=two_sided(above, below))
    return Tested(estimate, above, below, smallest_at)


@lru_cache(maxsize=256)
def _null(
    nulls: tuple[tuple[tuple[float, ...], tuple[float, ...]], ...], weights: tuple[float, ...], draws: int, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """The distribution of the weighted mean of rhos over permutations: it depends on the ties alone."""
    levels: np.ndarray = np.zeros(1)
    shares: np.ndarray = np.ones(1)
    for weight, (x, y) in zip(weights, nulls, strict=True):
        rho, share = _of_one(x, y, draws, seed)
        sums, places = np.unique(np.add.outer(levels, weight * rho).round(10), return_inverse=True)
        levels, shares = sums, np.bincount(places.reshape(-1), np.outer(shares, share).reshape(-1), len(sums))
    return levels, _tail(shares)


@lru_cache(maxsize=256)
def _of_one(x: tuple[float, ...], y: tuple[float, ...], draws: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    a, b = _centred(np.array(x)), _centred(np.array(y))
    orders = orders_of(len(a), draws, np.random.default_rng(seed))
    rho = (b[orders] @ a) / np.sqrt((a @ a) * (b @ b))
    levels, counts = np.unique(rho.round(10), return_counts=True)
    return levels, counts / len(orders)


@lru_cache(maxsize=16)
def all_orders(n: int) -> np.ndarray | None:
    """Every order of n places as a row, None beyond :data:`EXACT` places."""
    return np.array(list(itertools.permutations(range(n)))) if n <= EXACT else None


def orders_of(n: int, draws: int, rng: np.random.Generator, exact: bool = True) -> np.ndarray:
    """Every order of n places where that can and shall be, else as many drawn ones."""
    every = all_orders(n) if exact else None
    return rng.permuted(np.tile(np.arange(n), (draws, 1)), axis=1) if every is None else every


def _tail(shares: np.ndarray) -> np.ndarray:
    return np.cumsum(shares[::-1])[::-1]


def _sorted_ranks(values: np.ndarray) -> tuple[float, ...]:
    return tuple(sorted(ranks(np.asarray(values, float)).tolist()))


def _centred(values: np.ndarray) -> np.ndarray:
    return values - values.mean()


def _without(values: np.ndarray, given: np.ndarray) -> np.ndarray:
    """Centred values less their part along ``given``, centred too; all of it where that does not vary."""
    length = float(given @ given)
    return values - given * float(values @ given) / length if length > 0 else values
