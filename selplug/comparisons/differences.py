"""Robust networks less standard ones."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import numpy as np

from .evidence import MIN_EACH, Draws, Evidence, Found, Part, Value, about_these, by_configuration, lacking, value_of
from .network import Network
from .statistics import NOTHING, Tested, mean_of_units, mean_within

#: Robust and standard networks that may be set against each other.
Sides = tuple[list[Network], list[Network]]


def robust_less_standard(key: str, sign: int) -> Evidence:
    """Networks trained alike but for robustness; else of the same layers and without a regularizer, with a caveat."""

    def compute(networks: Sequence[Network], draws: Draws) -> Found:
        value = value_of(key)
        known = [n for n in networks if not n.training.earlier and value(n) is not None]
        alike = _sides(known, lambda n: n.training.but_for_robustness)
        tested, remark = _of_pairs(alike, value)
        if tested is None:
            # Networks with a regularizer of their own on top would say something else.
            loose = _sides(
                [n for n in known if n.training.arguments is None or n.training.alpha == 0],
                lambda n: "|".join(n.measured.layers),
            )
            tested, remark = _of_any(loose, value)
            remark = "; ".join(filter(None, (_LOOSE, remark)))
        if tested is None:
            sides = [sum(len(pair[side]) for pair in loose) for side in (0, 1)]
            return lacking(
                f"{sides[0]} robust and {sides[1]} standard networks that can be compared; at least {MIN_EACH} of each "
                "are needed",
                Part("", NOTHING, sign),
            )
        return Found((Part("robust less standard", tested, sign),), remark=remark)

    return compute


_LOOSE = "robust and standard networks have the same layers, but are not known to be trained alike otherwise"


def _sides(networks: Iterable[Network], key: Callable[[Network], str | None]) -> list[Sides]:
    """``(robust, standard)`` networks with the same key, where there are both; of unknown ones none."""
    found: dict[str, Sides] = {}
    for network in networks:
        text = key(network)
        if text is not None and network.training.robust is not None:
            found.setdefault(text, ([], []))[0 if network.training.robust else 1].append(network)
    return [sides for sides in found.values() if all(sides)]


def _of_pairs(pairs: Sequence[Sides], value: Value) -> tuple[Tested | None, str]:
    """Of pairs of configurations trained alike but for robustness: they are the sample, or with few of them seeds."""
    size = sum(len(by_configuration(side)) for pair in pairs for side in pair)
    if len(pairs) >= MIN_EACH:
        gaps = [_values(robust, value).mean() - _values(standard, value).mean() for robust, standard in pairs]
        return mean_of_units(np.array(gaps)).of(_count(pairs), size), ""
    several = [pair for pair in pairs if min(map(len, pair)) > 1]
    if any(sum(len(pair[side]) for pair in several) < MIN_EACH for side in (0, 1)):
        return None, ""
    size = sum(len(by_configuration(side)) for pair in several for side in pair)
    return _welch([tuple(_values(side, value) for side in pair) for pair in several]).of(
        _count(several), size
    ), about_these(size)


def _of_any(pairs: Sequence[Sides], value: Value) -> tuple[Tested | None, str]:
    """Of networks that are not known to be trained alike: means of configurations, or with few of them seeds."""
    sides = [[by_configuration(side) for side in pair] for pair in pairs]
    several = [pair for pair in sides if min(map(len, pair)) > 1]
    if several and all(sum(len(pair[side]) for pair in several) >= MIN_EACH for side in (0, 1)):
        samples = [tuple(np.array([_values(c, value).mean() for c in side]) for side in pair) for pair in several]
        networks = sum(len(seeds) for pair in several for side in pair for seeds in side)
        return _welch(samples).of(networks, sum(len(side) for pair in several for side in pair)), ""
    return _of_pairs(pairs, value) if len(pairs) < MIN_EACH else (None, "")


def _welch(samples: Sequence[tuple[np.ndarray, ...]]) -> Tested:
    """Differences of two samples, averaged with weights ``n m / (n + m)``."""
    weights = np.array([len(a) * len(b) / (len(a) + len(b)) for a, b in samples])
    weights /= weights.sum()
    signed = [weight * sign for weight in weights for sign in (1, -1)]
    return mean_within([side for pair in samples for side in pair], signed)


def _values(networks: Iterable[Network], value: Value) -> np.ndarray:
    return np.array([value(network) for network in networks], float)


def _count(pairs: Sequence[Sides]) -> int:
    return sum(len(side) for pair in pairs for side in pair)
