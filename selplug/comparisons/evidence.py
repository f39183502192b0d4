"""What speaks for or against a claim: statistics over training configurations, of which the networks are seeds."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from .network import Network
from .network_values import VALUES
from .ranks import partial_rank_correlation, rank_correlation
from .statistics import LEVEL, NOTHING, Estimate, Tested, mean_of_units, mean_within

#: Configurations that a correlation needs, over all families and in each.
MIN_CORRELATED, MIN_FAMILY = 5, 3
#: Configurations that a mean and each side of a difference need; with fewer, seeds.
MIN_EACH = 3

#: Of a network, None where it is not defined.
Value = Callable[[Network], float | None]


@dataclass(frozen=True)
class Draws:
    """Permutations drawn where there are too many to try all, and their seed."""

    count: int
    seed: int


@dataclass(frozen=True)
class Part:
    """One statistic that has to lie on the claim's side: above ``bound`` where ``sign`` is 1, below it where -1."""

    label: str
    tested: Tested
    sign: int = 1
    bound: float = 0.0

    @property
    def with_claim(self) -> float:
        """The p-value of the claim's side."""
        return self.tested.above if self.sign > 0 else self.tested.below

    @property
    def against_claim(self) -> float:
        """The p-value of the other side."""
        return self.tested.below if self.sign > 0 else self.tested.above

    @property
    def side(self) -> str:
        """Where it has to lie, in words."""
        return f"{'>' if self.sign > 0 else '<'} {self.bound:g}"


@dataclass(frozen=True)
class Found:
    """All parts that a claim needs, whether there is enough for a verdict, and a caveat or what is lacking."""

    parts: tuple[Part, ...]
    enough: bool = True
    remark: str = ""


Evidence = Callable[[Sequence[Network], Draws], Found]


def lacking(why: str, *parts: Part) -> Found:
    """Not enough data; what could be computed all the same stands beside."""
    return Found(parts or (Part("", NOTHING),), False, why)


def value_of(key: str) -> Value:
    return lambda network: network.value(key)


def counts(network: Network) -> bool:
    """Whether a network is among those that claims on standard networks are about."""
    return not network.training.earlier and network.training.robust is not True


def by_configuration(networks: Iterable[Network]) -> list[list[Network]]:
    """Networks that differ in the seed alone, together."""
    found: dict[str, list[Network]] = {}
    for network in networks:
        found.setdefault(network.training.group, []).append(network)
    return list(found.values())


def families(networks: Iterable[Network], *values: Value) -> list[list[list[Network]]]:
    """Configurations of networks that have all values, by family: the largest first. Robust networks are not among
    them, nor earlier epochs."""
    found: dict[str, list[Network]] = {}
    for network in networks:
        if counts(network) and all(value(network) is not None for value in values):
            found.setdefault(network.training.family, []).append(network)
    return sorted((by_configuration(family) for family in found.values()), key=len, reverse=True)


def strata(found: Sequence[Sequence[Sequence[Network]]], *values: Value) -> list[list[np.ndarray]]:
    """Means over seeds, per family of enough configurations and per value: (configurations,)."""
    return [
        [np.array([_mean(configuration, value) for configuration in family]) for value in values]
        for family in found
        if len(family) >= MIN_FAMILY
    ]


def correlated(networks: Sequence[Network], x: Value, y: Value, draws: Draws, given: Value | None = None) -> Tested:
    """Rank correlation of configurations within families, given a third value where there is one."""
    values = (x, y) if given is None else (x, y, given)
    found = [family for family in families(networks, *values) if len(family) >= MIN_FAMILY]
    test = rank_correlation if given is None else partial_rank_correlation
    tested = test(strata(found, *values), draws.count, draws.seed)
    return tested.of(sum(len(seeds) for family in found for seeds in family), sum(map(len, found)))


def enough_to_correlate(networks: Sequence[Network], tested: Tested, *keys: str) -> tuple[bool, str]:
    """Whether there are configurations enough, and a caveat or what is lacking."""
    found = families(networks, *map(value_of, keys))
    if not found:
        return False, lacking_values(*keys)
    usable = [family for family in found if len(family) >= MIN_FAMILY]
    size = sum(map(len, usable))
    if size < MIN_CORRELATED:
        several = found[0] if not usable else [seeds for family in usable for seeds in family]
        return False, (
            f"{_counted(several)} that differ in the regularizer alone; at least {MIN_CORRELATED} configurations are "
            f"needed, {MIN_FAMILY} in each family"
        )
    if tested.estimate.value is None:
        return False, f"{' or '.join(VALUES[key] for key in keys)} is the same in all networks of a family"
    if tested.smallest(LEVEL) is None:
        return False, f"{size} configurations in families as small as these cannot be told from chance"
    untold = any(network.training.arguments is None for family in usable for seeds in family for network in seeds)
    return True, "not all reports tell how their networks were trained, which may differ in more" if untold else ""


def lacking_values(*keys: str) -> str:
    return f"no networks, other than robust ones, with {' and '.join(VALUES[key] for key in dict.fromkeys(keys))}"


def mean_over(samples: Mapping[str, Sequence[float]], bound: float = 0.0) -> tuple[Tested, bool, str]:
    """The mean over configurations (name -> values of its networks), whether it is enough, and a remark.

    The configurations are the sample where there are :data:`MIN_EACH`. With fewer, their seeds are, and what is found
    is about these configurations alone.
    """
    arrays = [np.array(values, float) for values in samples.values()]
    size, number = len(arrays), sum(map(len, arrays))
    if not arrays:
        return NOTHING, False, ""
    if size >= MIN_EACH:
        return mean_of_units(np.array([a.mean() for a in arrays]), bound).of(number, size), True, ""
    few = f"{_numbered(size, number)}; at least {MIN_EACH} are needed"
    if number < MIN_EACH or min(map(len, arrays)) < 2:
        value = float(np.mean([a.mean() for a in arrays]))
        return Tested(Estimate(value, None, number, size)), False, few
    return mean_within(arrays, [1 / size] * size, bound).of(number, size), True, about_these(size)


def about_these(size: int) -> str:
    """The caveat of seeds as the sample."""
    return f"of {'this training configuration' if size == 1 else f'these {size} training configurations'} alone"


def samples_of(networks: Iterable[Network], value: Value) -> dict[str, list[float]]:
    """Values of the networks that have one, by configuration."""
    found: dict[str, list[float]] = {}
    for network in networks:
        known = value(network)
        if known is not None:
            found.setdefault(network.training.group, []).append(known)
    return found


def _mean(networks: Sequence[Network], value: Value) -> float:
    return float(np.mean([value(network) for network in networks]))


def _counted(configurations: Sequence[Sequence[Network]]) -> str:
    return _numbered(len(configurations), sum(map(len, configurations)))


def _numbered(configurations: int, networks: int) -> str:
    return (
        f"{configurations} training configuration{'s' if configurations != 1 else ''} ({networks} "
        f"network{'s' if networks != 1 else ''})"
    )
