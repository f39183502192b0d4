"""Whole comparisons of made-up networks: nothing to be found in them, or something of a known size."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from selplug.comparisons.matched import GAIN
from selplug.comparisons.network import Network
from selplug.comparisons.verdicts import CONTRADICTED

from .made_up_networks import ATTACKS, LAYERS, grid, matched_at, nested, network, sweep

Make = Callable[[np.random.Generator], Sequence[Network]]

#: What follows selectivity in :func:`steps`, and on which side.
_SIGNS = {
    "dimensionality_early": -1, "cv_samples": 1, "cv_units": 1, "clean_accuracy": 0, "exponent_last": 0,
    "corruption_accuracy": -1, **{f"adversarial_{key}": 1 for key in ATTACKS},
}  # fmt: skip
#: Exponents over seven strengths: monotonic, with losses of .04 and of .07, and falling and rising again.
STRAIGHT = tuple(np.linspace(1.5, 1.1, 7))
_NEARLY = (1.5, 1.43, 1.30, 1.37, 1.23, 1.10, 1.17)
BENT = (1.5, 1.43, 1.23, 1.30, 1.37, 1.17, 1.10)
TURNING = (1.5, 1.35, 1.2, 1.1, 1.21, 1.36, 1.51)
#: What sweeps are of, the error of an exponent, and the true exponents.
MONOTONIC = (
    ("monotonic, errors of .02 in a range of .4", 0.02, STRAIGHT),
    ("monotonic, errors of .04 in a range of .4", 0.04, STRAIGHT),
    ("monotonic, errors of .1 in a range of .4", 0.1, STRAIGHT),
    ("exponents that do not move, errors of .05", 0.05, (1.3,) * 7),
)
#: Verdicts on :func:`nothing` that are no errors: its sweeps are on the other side of the bound.
RIGHT = (("exponent-noise", CONTRADICTED), ("exponent-fgsm", CONTRADICTED))


def nothing(alphas: int, seeds: int) -> Make:
    """No value has to do with any other, seeds of one alpha share most of theirs; robust networks are like others."""

    def make(rng: np.random.Generator) -> Sequence[Network]:
        draw = nested(rng, 0.9)
        tables = {"selectivity": 0.4 + 0.05 * draw(alphas, seeds)}
        return _with_the_rest(rng, tables | {key: 0.5 + 0.01 * draw(alphas, seeds) for key in _SIGNS})

    return make


def _with_the_rest(rng: np.random.Generator, tables: Mapping[str, np.ndarray]) -> list[Network]:
    """These values, and nothing to be found for all claims that are about others."""
    alphas, seeds = tables["selectivity"].shape
    shared = 0.95 * rng.standard_normal((alphas, 2, len(ATTACKS), 3))
    shapes = (("noise", BENT), ("fgsm", _NEARLY))
    found = grid(
        alphas,
        seeds,
        tables,
        matched=[[matched_at(0.0, rng, shared[alpha]) for _ in range(seeds)] for alpha in range(alphas)],
        sweeps=[
            [tuple(sweep(rng, kind, shape, 0.01) for kind, shape in shapes) for _ in range(seeds)]
            for _ in range(alphas)
        ],
    )
    return [*found, *three_against_three(rng), *improving(rng)]


def uneven(rng: np.random.Generator) -> Sequence[Network]:
    """Seven alphas with one to six seeds each, nothing to be found."""
    draw = nested(rng, 0.5)
    tables = {key: draw(7, 6) for key in ("selectivity", *_SIGNS)}
    seeds = rng.integers(1, 7, 7)
    found = grid(7, 6, tables)
    return [one for place, one in enumerate(found) if place % 6 < seeds[place // 6]]


def _clean_alone(share: float, own: float, floor: float = 0.0, diluted: float = 0.0) -> Make:
    """Accuracy under perturbation follows clean accuracy, which alpha moves by two sd of seeds per step.

    As ``floor + share`` of it, with noise of sd ``own``; ``diluted`` moves the two apart by seeds of their own.
    """

    def make(rng: np.random.Generator) -> Sequence[Network]:
        draw = nested(rng, 0.0)
        centred = np.arange(7)[:, None] - 3.0
        up = {"corruption_accuracy": -1, **{f"adversarial_{key}": 1 for key in ATTACKS}}
        found: list[Network] = []
        true = 0.7 + 0.04 * centred * rng.choice((-1, 1)) + 0.02 * draw(7, 3)
        tables: dict[str, np.ndarray] = {
            "selectivity": 0.4 + 0.05 * (centred + 0.3 * draw(7, 3)),
            "clean_accuracy": true + diluted * draw(7, 3),
        }
        for key in up:
            tables[key] = floor + share * (true + diluted * draw(7, 3)) + own * draw(7, 3)
        found += grid(7, 3, tables)
        return found

    return make


FIXED = {
    "a fixed share of it": _clean_alone(0.6, 0.0),
    "a fixed share, noise of .002": _clean_alone(0.6, 0.002),
    "a fixed share, noise of .01": _clean_alone(0.6, 0.01),
    "a share above a floor": _clean_alone(0.6, 0.005, floor=0.04),
    "a share below a ceiling": _clean_alone(0.9, 0.005, floor=-0.2),
    "each measured with an error of .02": _clean_alone(0.6, 0.0, diluted=0.02),
}


def mean_of_three(rng: np.random.Generator) -> Sequence[Network]:
    """Three networks of three configurations; one attack does what corruptions do, in one measure."""
    values = [{f"{GAIN}|{ATTACKS[0]}|participation_ratio": 0.3 * rng.standard_normal()} for _ in range(3)]
    return [network(f"c{place}", 0, {}, matched=value) for place, value in enumerate(values)]


def three_against_three(rng: np.random.Generator) -> Sequence[Network]:
    """Three robust and three standard seeds that do not differ."""
    return [
        network(
            f"plain-{side}",
            seed,
            {key: 0.5 + 0.05 * rng.standard_normal() for key in ("block_score", "cka_between", "cka_attack")},
            family=f"apart {side}",
            robust=side == "robust",
            arguments={"model": "m"} | ({"adversarial": "pgd"} if side == "robust" else {}),
        )
        for side in ("robust", "standard")
        for seed in range(3)
    ]


def improving(rng: np.random.Generator) -> Sequence[Network]:
    """Three robust runs at two epochs: late layers get closer to clean ones on training and on test images alike."""
    found = []
    for seed in range(3):
        for epoch, late in ((0, 0.6), (9, 0.9)):
            level = np.where(np.arange(len(LAYERS)) < 4, 0.8, late)
            train, test = level + 0.03 * rng.standard_normal((2, len(LAYERS)))
            found.append(
                network(
                    f"hard{'' if epoch else ', epoch 0'}",
                    seed,
                    {"adversarial_accuracy": 0.5 - 0.001 * epoch},
                    family="hard",
                    robust=True,
                    epoch=epoch,
                    earlier=not epoch,
                    run=f"hard {seed}",
                    train_gap=tuple((train - test).tolist()),
                )
            )
    return found


def sweeps(exponents: Sequence[float], error: float) -> Make:
    """Seven alphas of three seeds with a sweep of each kind."""

    def make(rng: np.random.Generator) -> Sequence[Network]:
        return [
            network(
                f"alpha {alpha}",
                seed,
                {},
                sweeps=tuple(sweep(rng, kind, exponents, error) for kind in ("noise", "fgsm")),
            )
            for alpha in range(7)
            for seed in range(3)
        ]

    return make


def steps(rng: np.random.Generator) -> Sequence[Network]:
    """Seven alphas of three seeds; from alpha to alpha values move by one sd of seeds, but for clean accuracy."""
    draw = nested(rng, 0.0)
    centred = np.arange(7)[:, None] - 3.0
    tables: dict[str, np.ndarray] = {"selectivity": 0.4 + 0.05 * (centred + 0.1 * draw(7, 3))}
    for key, sign in _SIGNS.items():
        tables[key] = (0.8 if key == "clean_accuracy" else 0.5) + 0.01 * (sign * centred + draw(7, 3))
    return _with_the_rest(rng, tables)
