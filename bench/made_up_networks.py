"""Networks with made-up numbers, for what judges claims over many of them; reports would take too long to make."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from selplug.comparisons.matched import DIFFERENCE, DIMENSIONS, GAIN
from selplug.comparisons.network import Network
from selplug.comparisons.network_values import VALUES, Measured
from selplug.comparisons.sweeps import Point, Sweep, judged_sweep
from selplug.comparisons.training_facts import Training

LAYERS = tuple(f"act{place}" for place in range(6))
#: Images of an audit, types of attacks in it, and sweeps that are made up of one kind.
SAMPLES, ATTACKS, POOL = 1000, ("one_step", "iterated"), 500

#: ``(alphas, seeds)`` -> a number for each network: (alphas, seeds).
Draw = Callable[[int, int], np.ndarray]


def network(
    group: str,
    seed: int,
    values: Mapping[str, float],
    *,
    family: str = "f",
    robust: bool = False,
    epoch: int | None = None,
    earlier: bool = False,
    run: str = "",
    arguments: Mapping[str, Any] | None = None,
    **measured: Any,
) -> Network:
    """One network of a configuration, with the values given and no others."""
    flags = {"model": "m", "group": group} if arguments is None else arguments
    training = Training(group, family, flags, robust, seed, epoch, run, earlier)
    own: dict[str, Any] = {"accuracies": {}, "curves": {}, "sweeps": (), "similarity": None, "blocks": ()} | measured
    every = dict.fromkeys(VALUES) | dict(values)
    return Network(f"{group}-s{seed}", training, Measured(layers=LAYERS, values=every, **own))


def grid(alphas: int, seeds: int, tables: Mapping[str, np.ndarray], **measured: Any) -> list[Network]:
    """Standard networks of one family; ``tables`` has a number per network for each value, (alphas, seeds)."""
    return [
        network(
            f"alpha {alpha}",
            seed,
            {key: float(table[alpha, seed]) for key, table in tables.items()},
            **{key: one[alpha][seed] for key, one in measured.items()},
        )
        for alpha in range(alphas)
        for seed in range(seeds)
    ]


def nested(rng: np.random.Generator, icc: float) -> Draw:
    """Numbers of mean 0 and variance 1, of which seeds of one alpha share a part ``icc``."""

    def draw(alphas: int, seeds: int) -> np.ndarray:
        shared, own = rng.standard_normal((alphas, 1)), rng.standard_normal((alphas, seeds))
        return np.sqrt(icc) * shared + np.sqrt(1 - icc) * own

    return draw


def sweep(rng: np.random.Generator, kind: str, exponents: Sequence[float], error: float) -> Sweep:
    """A sweep that measures these true exponents with an error, and accuracies from .9 to .3 on :data:`SAMPLES` images.

    One of :data:`POOL` that are made once: what errors do to a curve takes long to find.
    """
    return _pool(kind, tuple(exponents), error)[int(rng.integers(POOL))]


@lru_cache
def _pool(kind: str, exponents: tuple[float, ...], error: float) -> tuple[Sweep, ...]:
    rng = np.random.default_rng(1)
    accuracies = np.linspace(0.9, 0.3, len(exponents))
    found = []
    for _ in range(POOL):
        seen = rng.binomial(SAMPLES, accuracies) / SAMPLES
        across = exponents + error * rng.standard_normal(len(exponents))
        errors = np.sqrt(seen * (1 - seen) / SAMPLES)
        rows = zip(seen.tolist(), across.tolist(), errors.tolist(), strict=True)
        points = [Point(float(place), f"{kind}@{place}", a, x, e, error) for place, (a, x, e) in enumerate(rows)]
        found.append(judged_sweep(kind, "strength", kind, tuple(points)))
    return tuple(found)


def matched_at(shift: float, rng: np.random.Generator, shared: np.ndarray) -> dict[str, float]:
    """Attacks less corruptions in every measure: ``shift``, what the alpha's seeds share (2, types, 3), and noise."""
    noise = shift + shared + 0.3 * rng.standard_normal(shared.shape)
    return {
        f"{what}|{kind}|{measure}": float(noise[i, j, k])
        for i, what in enumerate((GAIN, DIFFERENCE))
        for j, kind in enumerate(ATTACKS)
        for k, measure in enumerate(DIMENSIONS)
    }
