"""The claims of three papers, each with a statistic over networks that tests it.

A claim is *supported* if the whole 95 % interval of its statistic is on the side that it claims, otherwise *not
supported*. With fewer networks than :data:`MIN_CORRELATED`, :data:`MIN_TRAININGS` and :data:`MIN_EACH` require, there
is *not enough data*. Claims are cited from the abstracts of the papers, unless a section is named.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np

from ..core.words import plural
from .network_values import VALUES, Measured, late
from .network_values import early as early_layers
from .resampling import Estimate, Pair, difference, mean, rank_correlation
from .training_facts import Training

#: Minimum numbers of networks and of training configurations in a correlation, and of networks in a mean or on each
#: side of a difference.
MIN_CORRELATED, MIN_TRAININGS, MIN_EACH = 5, 3, 3
#: Accuracy counts as a monotonic function of the exponent up to this share of unexplained variance (ours).
MONOTONIC = 0.05

SUPPORTED, NOT_SUPPORTED, NOT_ENOUGH = "supported", "not supported", "not enough data"
LM21, CB22, JZH20 = "arXiv 2010.07693", "arXiv 2206.09868", "arXiv 2007.02047"


@dataclass(frozen=True)
class Network:
    """One network of a comparison: its ``name``, its training and its measured values."""

    name: str
    training: Training
    measured: Measured

    def value(self, key: str) -> float | None:
        """One of :data:`~selplug.comparisons.network_values.VALUES`, or the accuracy under a condition."""
        return self.measured.values[key] if key in VALUES else self.measured.accuracies.get(key)


@dataclass(frozen=True)
class Found:
    """A statistic, whether there are enough networks for a verdict, and a caveat or what is missing."""

    estimate: Estimate
    enough: bool = True
    remark: str = ""


#: ``(networks, resamples, seed)``
Statistic = Callable[[Sequence[Network], int, int], Found]


@dataclass(frozen=True)
class Claim:
    """``statistic`` describes the statistic in words. It supports the claim above ``bound`` if ``sign`` is 1, below it
    if ``sign`` is -1. ``needs`` describes the networks that decide the claim. ``beside`` is a second statistic, which
    is shown but does not decide."""

    id: str
    text: str
    source: str
    statistic: str = field(repr=False)
    needs: str = field(repr=False)
    compute: Statistic = field(repr=False)
    sign: int = 1
    bound: float = 0.0
    beside: str = field(default="", repr=False)
    compute_beside: Statistic | None = field(default=None, repr=False)

    @property
    def side(self) -> str:
        """The condition on the whole interval, in words."""
        return f"{'>' if self.sign > 0 else '<'} {self.bound:g}"


@dataclass(frozen=True)
class Judged:
    """A claim with its statistic and verdict; ``why`` is the reason."""

    claim: Claim
    estimate: Estimate
    beside: Estimate | None
    verdict: str
    why: str

    def __repr__(self) -> str:
        return f"Judged({self.claim.id!r}, {self.verdict!r}, {self.estimate!r})"


def judge(claim: Claim, networks: Sequence[Network], resamples: int, seed: int) -> Judged:
    """The verdict on a claim; earlier epochs of a run count only for the claim about epochs."""
    found = claim.compute(networks, resamples, seed)
    beside = claim.compute_beside(networks, resamples, seed).estimate if claim.compute_beside else None
    interval = found.estimate.ci95
    if not found.enough or interval is None:
        return Judged(claim, found.estimate, beside, NOT_ENOUGH, found.remark or claim.needs)
    low, high = sorted(claim.sign * (end - claim.bound) for end in interval)
    verdict, why = NOT_SUPPORTED, f"not the whole interval is {claim.side}"
    if low > 0:
        verdict, why = SUPPORTED, f"the whole interval is {claim.side}"
    elif high < 0:
        why = "the whole interval is on the other side"
    return Judged(claim, found.estimate, beside, verdict, "; ".join(filter(None, (why, found.remark))))


def families(networks: Iterable[Network], x: str, y: str) -> list[list[Network]]:
    """Networks with both values, by family, the largest first; without earlier epochs and robust networks."""
    found: dict[str, list[Network]] = {}
    for network in networks:
        if _counts(network) and network.value(x) is not None and network.value(y) is not None:
            found.setdefault(network.training.family, []).append(network)
    return sorted(found.values(), key=len, reverse=True)


def correlate(networks: Iterable[Network], x: str, y: str, resamples: int, seed: int) -> Estimate:
    """Rank correlation of two values within families of :data:`MIN_TRAININGS` or more training configurations."""
    strata = _correlated(families(networks, x, y))
    return rank_correlation([_pair(family, x, y) for family in strata], resamples, seed)


def _correlated(found: Iterable[list[Network]]) -> list[list[Network]]:
    return [family for family in found if _trainings(family) >= MIN_TRAININGS]


def _counts(network: Network) -> bool:
    return not network.training.earlier and network.training.robust is not True


def _trainings(networks: Sequence[Network]) -> int:
    return len({network.training.group for network in networks})


def _pair(networks: Sequence[Network], x: str, y: str) -> Pair:
    return _values(networks, x), _values(networks, y)


def _values(networks: Iterable[Network], key: str) -> np.ndarray:
    return np.array([value for network in networks if (value := network.value(key)) is not None], float)


def _correlation(x: str, y: str) -> Statistic:
    def compute(networks: Sequence[Network], resamples: int, seed: int) -> Found:
        found = families(networks, x, y)
        estimate = correlate(networks, x, y, resamples, seed)
        if not found:
            return Found(estimate, False, _lacking(x, y))
        if estimate.value is None and sum(map(len, _correlated(found))) >= MIN_CORRELATED:
            return Found(estimate, False, f"{VALUES[x]} or {VALUES[y]} is the same in all networks of a family")
        if estimate.value is None or estimate.n < MIN_CORRELATED:
            largest = found[0]
            return Found(
                estimate,
                False,
                f"{plural(len(largest), 'network')} of {plural(_trainings(largest), 'training configuration')} with "
                f"the same settings except the regularizer; at least {MIN_CORRELATED} networks of {MIN_TRAININGS} "
                "training configurations are needed",
            )
        remarks = []
        if any(network.training.arguments is None for family in _correlated(found) for network in family):
            remarks.append("the training of some networks is unknown, so they may differ in other settings too")
        if estimate.dropped:
            remarks.append(f"{plural(estimate.dropped, 'resample')} without variation left out")
        return Found(estimate, remark="; ".join(remarks))

    return compute


def _lacking(*keys: str) -> str:
    names = " and ".join(VALUES[key] for key in dict.fromkeys(keys))
    return f"no network that is not robust has {names}"


def _mean_of(key: str) -> Statistic:
    def compute(networks: Sequence[Network], resamples: int, seed: int) -> Found:
        values = _values(filter(_counts, networks), key)
        few = f"{plural(len(values), 'network')}; at least {MIN_EACH} are needed" if len(values) else _lacking(key)
        enough = len(values) >= MIN_EACH
        return Found(mean(values, resamples, seed), enough, "" if enough else few)

    return compute


def _robust_less_standard(key: str) -> Statistic:
    """Robust minus standard networks that differ only in this; else of the same model, with a caveat."""

    def compute(networks: Sequence[Network], resamples: int, seed: int) -> Found:
        known = [n for n in networks if not n.training.earlier and n.value(key) is not None]
        caveat = ""
        strata = _sides(known, lambda n: n.training.but_for_robustness)
        if not _enough(strata):
            # Networks with a selectivity regularizer would measure something else.
            loose = [n for n in known if n.training.arguments is None or n.training.alpha == 0]
            strata = _sides(loose, lambda n: "|".join(n.measured.layers))
            caveat = (
                "robust and standard networks have the same layers, but their training may differ in other settings too"
            )
        pairs = [(_values(robust, key), _values(standard, key)) for robust, standard in strata]
        estimate = difference(pairs, resamples, seed)
        if not _enough(strata):
            robust, standard = (sum(len(sides[side]) for sides in strata) for side in (0, 1))
            caveat = (
                f"{robust} robust and {standard} standard networks can be compared; at least {MIN_EACH} of each are "
                "needed"
            )
        return Found(estimate, _enough(strata), caveat)

    return compute


def _sides(networks: Iterable[Network], key: Callable[[Network], str | None]) -> list[tuple[list[Network], ...]]:
    """``(robust, standard)`` networks with the same key, if there are both; without networks of unknown training."""
    found: dict[str, tuple[list[Network], ...]] = {}
    for network in networks:
        text = key(network)
        if text is not None and network.training.robust is not None:
            found.setdefault(text, ([], []))[0 if network.training.robust else 1].append(network)
    return [sides for sides in found.values() if all(sides)]


def _enough(strata: Sequence[tuple[list[Network], ...]]) -> bool:
    return all(sum(len(sides[side]) for sides in strata) >= MIN_EACH for side in (0, 1))


def _deeper_change(networks: Sequence[Network], resamples: int, seed: int) -> Found:
    """How much more the CKA of clean and attacked responses changed in late than in early layers, over robust runs.

    The change is from the first to the last epoch of a run that is in the comparison.
    """
    runs: dict[str, list[Network]] = {}
    for network in networks:
        if network.training.robust and network.training.run and network.training.epoch is not None:
            runs.setdefault(network.training.run, []).append(network)
    changes = []
    for epochs in runs.values():
        ordered = sorted(epochs, key=lambda network: network.training.epoch or 0)
        first, last = (network.measured.curves["cka_attack"] for network in (ordered[0], ordered[-1]))
        moved = [abs(b - a) if a is not None and b is not None else None for a, b in zip(first, last, strict=True)]
        ends = [[v for v in moved[part(len(moved))] if v is not None] for part in (late, early_layers)]
        if len(ordered) > 1 and all(ends):
            changes.append(float(np.mean(ends[0]) - np.mean(ends[1])))
    estimate = mean(np.array(changes), resamples, seed)
    if len(changes) < MIN_EACH:
        lacking = (
            f"{plural(len(changes), 'robust run')} with reports of two or more epochs and --measure cka; at least "
            f"{MIN_EACH} are needed"
        )
        return Found(estimate, False, lacking)
    return Found(
        estimate, remark="only a proxy: overfitting appears first on training images, which are not in the reports"
    )


_SAME = "standard networks that differ only in the seed and the regularizer"
_EACH = f"at least {MIN_EACH} robust and {MIN_EACH} standard networks"

CLAIMS = (
    Claim(
        "selectivity-corruptions",
        "Networks of lower class selectivity are more robust to corruptions",
        f"{LM21}, abstract",
        "rank correlation of class selectivity and mean corruption accuracy",
        _SAME,
        _correlation("selectivity", "corruption_accuracy"),
        sign=-1,
        beside="with accuracy relative to clean accuracy",
        compute_beside=_correlation("selectivity", "corruption_relative"),
    ),
    Claim(
        "selectivity-attacks",
        "Networks of higher class selectivity are more robust to gradient-based attacks",
        f"{LM21}, abstract",
        "rank correlation of class selectivity and adversarial accuracy (mean over the common attacks)",
        _SAME,
        _correlation("selectivity", "adversarial_accuracy"),
        beside="with accuracy relative to clean accuracy",
        compute_beside=_correlation("selectivity", "adversarial_relative"),
    ),
    Claim(
        "selectivity-dimensionality",
        "The dimensionality of early layers is inversely related to class selectivity",
        f"{LM21}, abstract",
        "rank correlation of class selectivity and the dimensionality of early layers, as a share of their units",
        _SAME,
        _correlation("selectivity", "dimensionality_early"),
        sign=-1,
    ),
    Claim(
        "dimensionality-gain",
        "Attacks increase the dimensionality of early layers more than corruptions do",
        f"{LM21}, abstract",
        "mean over networks of the gain under attacks minus the gain under corruptions, in early layers",
        "standard networks of any training",
        _mean_of("gain_difference_early"),
    ),
    Claim(
        "selectivity-gradients-samples",
        "Input-unit gradients vary more over samples in networks of higher class selectivity",
        f"{LM21}, abstract",
        "rank correlation of class selectivity and the gradients' coefficient of variation over samples",
        _SAME,
        _correlation("selectivity", "cv_samples"),
    ),
    Claim(
        "selectivity-gradients-units",
        "Input-unit gradients vary more over units in networks of higher class selectivity",
        f"{LM21}, abstract",
        "rank correlation of class selectivity and the gradients' coefficient of variation over units",
        _SAME,
        _correlation("selectivity", "cv_units"),
    ),
    Claim(
        "robust-blocks",
        "Block structure disappears in robust networks",
        f"{CB22}, abstract",
        "block-structure score, robust minus standard networks",
        _EACH,
        _robust_less_standard("block_score"),
        sign=-1,
    ),
    Claim(
        "robust-specialization",
        "Robust networks lack specialization: their layers are more like each other",
        f"{CB22}, abstract",
        "mean CKA between different layers, clean images, robust minus standard networks",
        _EACH,
        _robust_less_standard("cka_between"),
    ),
    Claim(
        "robust-closeness",
        "Clean and adversarial representations are closer to each other in robust networks",
        f"{CB22} (not in the abstract; section not confirmed)",
        "CKA of clean and attacked responses, mean over layers and common attacks, robust minus standard networks",
        _EACH,
        _robust_less_standard("cka_attack"),
    ),
    Claim(
        "robust-overfitting",
        "Overfitting in robust training shows in deeper layers",
        f"{CB22}, abstract",
        "change of the CKA of clean and attacked responses from the first to the last epoch in the reports, late minus "
        "early layers; mean over robust runs",
        f"at least {MIN_EACH} robust runs with several epochs",
        _deeper_change,
    ),
    Claim(
        "exponent-accuracy",
        "Higher accuracy goes with a faster decay of the eigenspectrum",
        f"{JZH20}, abstract (networks trained by local errors)",
        "rank correlation of the exponent of the last hidden layer and clean accuracy",
        _SAME,
        _correlation("exponent_last", "clean_accuracy"),
    ),
    Claim(
        "exponent-noise",
        "Under Gaussian noise, accuracy is monotonic in the exponent",
        f"{JZH20}, abstract (networks trained by local errors)",
        "share of the variance of accuracy over the strengths that no monotonic function of the exponent explains; "
        "mean over networks",
        "standard networks with a sweep of noise",
        _mean_of("nonmonotonic_noise"),
        sign=-1,
        bound=MONOTONIC,
    ),
    Claim(
        "exponent-fgsm",
        "Under FGSM, accuracy is not monotonic in the exponent",
        f"{JZH20}, abstract (networks trained by local errors)",
        "share of the variance of accuracy over the strengths that no monotonic function of the exponent explains; "
        "mean over networks",
        "standard networks with a sweep of fgsm over eps",
        _mean_of("nonmonotonic_fgsm"),
        bound=MONOTONIC,
    ),
)
