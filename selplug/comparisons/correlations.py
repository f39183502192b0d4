"""Claims that one value of a network goes with another, over configurations that differ in the regularizer alone."""

from __future__ import annotations

from collections.abc import Sequence

from ..report.style import listing
from .attack_types import TYPES
from .evidence import (
    Draws,
    Evidence,
    Found,
    Part,
    Value,
    correlated,
    counts,
    enough_to_correlate,
    families,
    lacking,
    strata,
    value_of,
)
from .necessary import necessary
from .network import Network

CLEAN = "clean_accuracy"


def correlation(x: str, y: str, sign: int = 1) -> Evidence:
    """Rank correlation of two values."""

    def compute(networks: Sequence[Network], draws: Draws) -> Found:
        tested = correlated(networks, value_of(x), value_of(y), draws)
        enough, remark = enough_to_correlate(networks, tested, x, y)
        return Found((Part("rank correlation", tested, sign),), enough, remark)

    return compute


def robustness(x: str, y: str, sign: int) -> Evidence:
    """Rank correlation of x and an accuracy under perturbation, by itself and given clean accuracy."""

    def compute(networks: Sequence[Network], draws: Draws) -> Found:
        parts = _beyond_clean(networks, x, y, sign, draws)
        enough, remark = enough_to_correlate(networks, parts[0].tested, x, y)
        return Found(parts, enough, remark)

    return compute


def robustness_to_each_type(x: str, sign: int) -> Evidence:
    """The same for every type of attack that is there."""

    def compute(networks: Sequence[Network], draws: Draws) -> Found:
        there = _types(networks)
        if not there:
            return lacking("no attacks in all reports, with a budget above 0, that no check speaks against")
        found: list[Part] = []
        for key in there:
            parts = _beyond_clean(networks, x, f"adversarial_{key}", sign, draws, TYPES[key])
            enough, remark = enough_to_correlate(networks, parts[0].tested, x, f"adversarial_{key}")
            if not enough:
                return lacking(remark, *parts)
            found += parts
        told = f"types of attacks: {listing(TYPES[key] for key in there)}"
        return Found(tuple(found), remark="; ".join(filter(None, (remark, told))))

    return compute


def explained(x: str, through: str) -> Evidence:
    """Mediation by joint significance: x lowers ``through``, and that lowers robustness to attacks whatever x is."""

    def compute(networks: Sequence[Network], draws: Draws) -> Found:
        there = _types(networks)
        if not there:
            return lacking("no attacks in all reports, with a budget above 0, that no check speaks against")
        first = correlated(networks, value_of(x), value_of(through), draws)
        enough, remark = enough_to_correlate(networks, first, x, through)
        parts = [Part("selectivity and early dimensionality", first, -1)]
        left = []
        for key in there:
            y = value_of(f"adversarial_{key}")
            second = correlated(networks, value_of(through), y, draws, value_of(x))
            parts.append(Part(f"early dimensionality and {TYPES[key]}, given selectivity", second, -1))
            rest = correlated(networks, value_of(x), y, draws, value_of(through)).estimate.value
            left.append(f"{TYPES[key]} {'not defined' if rest is None else format(rest, '.2f')}")
        told = f"what selectivity still predicts, given early dimensionality: {listing(left)}"
        return Found(tuple(parts), enough, "; ".join(filter(None, (remark, told if enough else ""))))

    return compute


def required(x: str, y: str) -> Evidence:
    """A high y without a high x does not occur: the corner is empty."""

    def compute(networks: Sequence[Network], draws: Draws) -> Found:
        values = value_of(x), value_of(y)
        tested = correlated(networks, *values, draws)
        enough, remark = enough_to_correlate(networks, tested, x, y)
        corner = necessary(strata(families(networks, *values), *values), draws.count, draws.seed)
        corner = corner.of(tested.estimate.n, tested.estimate.configurations)
        return Found((Part("empty corner", corner, 1),), enough, remark)

    return compute


def _types(networks: Sequence[Network]) -> list[str]:
    standard = [network for network in networks if counts(network)]
    return [key for key in TYPES if any(n.value(f"adversarial_{key}") is not None for n in standard)]


def _beyond_clean(
    networks: Sequence[Network], x: str, y: str, sign: int, draws: Draws, label: str = ""
) -> tuple[Part, ...]:
    """By itself; given clean accuracy, whatever the two have to do with each other; and as a share of it.

    Both of the latter are needed: the partial correlation is fooled where clean accuracy is known with an error only,
    the share where accuracy under perturbation is no fixed share of it.
    """
    across, up, clean = value_of(x), value_of(y), value_of(CLEAN)
    ending = f", {label}" if label else ""
    return (
        Part(f"by itself{ending}", correlated(networks, across, up, draws), sign),
        Part(f"given clean accuracy{ending}", correlated(networks, across, up, draws, clean), sign),
        Part(f"as a share of clean accuracy{ending}", correlated(networks, across, _share(up, clean), draws), sign),
    )


def _share(up: Value, clean: Value) -> Value:
    def share(network: Network) -> float | None:
        part, whole = up(network), clean(network)
        return part / whole if part is not None and whole else None

    return share
