"""What a rank correlation of so many configurations can tell: its interval, and the smallest effect that it finds.

Both invert the distribution that Spearman's rho has over configurations whose two values are normal with a correlation,
found by simulation. Without a correlation that is the distribution over permutations, and so the interval agrees with
the permutation test: where the two would differ, by ties or by chance, the test decides on which side 0 lies.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from .statistics import LEVEL, POWER, SLACK

#: Correlations that are tried, and designs drawn at each.
_CORRELATIONS = np.tanh(np.linspace(0.0, 4.0, 33))
_DESIGNS = 2000


def interval(sizes: tuple[int, ...], value: float, above: float, below: float) -> tuple[float, float]:
    """The 95 % interval of Spearman's rho in the population, of a rho of families of ``sizes``.

    Args:
        sizes: configurations per family.
        value: the rho that was found, averaged over families with weights n - 1.
        above, below: the one-sided p-values of its permutation test.
    """
    population, drawn = _table(sizes)
    higher = np.maximum.accumulate((drawn >= value - SLACK).mean(1))
    lower = np.maximum.accumulate((drawn <= value + SLACK).mean(1)[::-1])[::-1]
    low = float(np.interp(LEVEL / 2, higher, population, left=-1.0))
    high = float(np.interp(LEVEL / 2, lower[::-1], population[::-1], left=1.0))
    low = max(low, SLACK) if above <= LEVEL / 2 + SLACK else min(low, 0.0)
    high = min(high, -SLACK) if below <= LEVEL / 2 + SLACK else max(high, 0.0)
    return low, high


def smallest(sizes: tuple[int, ...], critical: float) -> float | None:
    """The rho in the population at which one of at least ``critical`` is found in 80 % of cases; None if at none."""
    population, drawn = _table(sizes)
    found = np.maximum.accumulate((drawn >= critical - SLACK).mean(1))
    return float(np.interp(POWER, found, population)) if found[-1] >= POWER else None


@lru_cache(maxsize=32)
def _table(sizes: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Spearman's rho in the population (C,), and those of as many drawn designs (C, designs)."""
    rng = np.random.default_rng(0)
    weights = np.array(sizes, float) - 1
    weights /= weights.sum()
    found = np.zeros((len(_CORRELATIONS), _DESIGNS))
    for size, weight in zip(sizes, weights, strict=True):
        x, noise = rng.standard_normal((2, _DESIGNS, size))
        across, spread = _ranks(x), (size**3 - size) / 12
        for place, strength in enumerate(_CORRELATIONS):
            found[place] += weight * (across * _ranks(strength * x + np.sqrt(1 - strength**2) * noise)).sum(1) / spread
    population = 6 / np.pi * np.arcsin(_CORRELATIONS / 2)
    # Of the opposite correlation the opposite is drawn: so an interval turns with the sign of x.
    found[0, _DESIGNS // 2 :] = -found[0, : _DESIGNS // 2]
    return np.concatenate([-population[:0:-1], population]), np.concatenate([-found[:0:-1], found])


def _ranks(values: np.ndarray) -> np.ndarray:
    """Centred ranks along the last axis; no two values are alike."""
    return values.argsort(-1).argsort(-1) - (values.shape[-1] - 1) / 2
