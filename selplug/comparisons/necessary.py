"""Necessary conditions: is there no high y without a high x?

Sources: Dul, *Necessary condition analysis*, Organizational Research Methods 2016 (the ceiling CE-FDH and the effect
size d), and Dul, van der Laan & Kuik, *A statistical significance test for necessary condition analysis*, 2020.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .ranks import DRAWS, all_orders, orders_of
from .statistics import LEVEL, POWER, SLACK, Estimate, Tested, two_sided

#: Strengths of a relation that are tried for the smallest effect, and designs drawn at each.
_STRENGTHS, _DESIGNS = np.linspace(0.05, 0.99, 30), 500


def empty_corner(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """The empty share of the corner of low x and high y, (n,) and (..., n) -> (...), in [0, 1].

    Above a ceiling that at each x is the largest y of all points up to it, within the ranges of x and y. NaN where x or
    y does not vary.
    """
    order = np.argsort(x, kind="stable")
    across, up = x[order], y[..., order]
    ceiling = np.maximum.accumulate(up, -1)
    # At equal x the highest point is the ceiling from there on: steps of no width do not count.
    empty = ((up.max(-1, keepdims=True) - ceiling[..., :-1]) * np.diff(across)).sum(-1)
    scope = (across[-1] - across[0]) * (up.max(-1) - up.min(-1))
    return empty / np.where(scope > 0, scope, np.nan)


def necessary(strata: Sequence[Sequence[np.ndarray]], draws: int = DRAWS, seed: int = 0) -> Tested:
    """The empty corner within strata, averaged with weights n - 1, against permutations of y.

    Args:
        strata: ``(x (n,), y (n,))`` per stratum; one whose x or y does not vary is left out.
        draws, seed: of the permutations of a stratum with too many.
    """
    used = [(x, y) for x, y in strata if len(x) > 1 and np.isfinite(empty_corner(x, y))]
    if not used:
        return Tested(Estimate(None, None, 0))
    weights = np.array([len(x) - 1 for x, _ in used], float)
    weights /= weights.sum()
    value = float(weights @ [float(empty_corner(x, y)) for x, y in used])
    rng = np.random.default_rng(seed)
    exact = len(used) == 1 and all_orders(len(used[0][0])) is not None
    drawn = sum(
        weight * empty_corner(x, y[orders_of(len(x), draws, rng, exact)])
        for weight, (x, y) in zip(weights, used, strict=True)
    )
    drawn = np.sort(np.asarray(drawn))
    more = 0 if exact else 1
    above = (len(drawn) - np.searchsorted(drawn, value - SLACK) + more) / (len(drawn) + more)
    below = (np.searchsorted(drawn, value + SLACK) + more) / (len(drawn) + more)
    estimate = Estimate(value, None, 0, p=two_sided(above, below))
    return Tested(estimate, float(above), float(below), lambda level: _smallest(used, weights, drawn, level, seed))


def _smallest(
    used: Sequence[tuple[np.ndarray, np.ndarray]], weights: np.ndarray, null: np.ndarray, level: float, seed: int
) -> float | None:
    """The mean empty corner at the weakest linear relation to x that is found with 80 % power."""
    place = int(np.ceil(len(null) * (1 - level / 2) - SLACK))
    if place >= len(null) or level < LEVEL / len(null):
        return None
    critical = null[place]
    rng = np.random.default_rng(seed)
    noise = [rng.standard_normal((_DESIGNS, len(x))) for x, _ in used]
    for strength in _STRENGTHS:
        corners = sum(
            weight * empty_corner(x, strength * (x - x.mean()) / x.std() + np.sqrt(1 - strength**2) * drawn)
            for weight, (x, _), drawn in zip(weights, used, noise, strict=True)
        )
        if float(np.mean(corners >= critical - SLACK)) >= POWER:
            return float(np.mean(corners))
    return None
