"""The claims of three papers, each with the statistic over networks that speaks for or against it.

A claim is *supported* if the whole 95 % interval of its statistic lies on its side, *not supported* if it does not, and
there is *not enough data* below the numbers of networks in :data:`MIN_CORRELATED`, :data:`MIN_TRAININGS` and
:data:`MIN_EACH`. What the papers say is cited from their abstracts unless a section is named.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np

from .network_values import VALUES, Measured, late
from .network_values import early as early_layers
from .resampling import Estimate, Pair, difference, mean, rank_correlation
from .training_facts import Training

#: Networks that a correlation, a mean and each side of a difference need, and different trainings in a correlation.
MIN_CORRELATED, MIN_TRAININGS, MIN_EACH = 5, 3, 3
#: A network's accuracy counts as a monotonic function of the exponent up to this share of variance unexplained (ours).
MONOTONIC = 0.05

SUPPORTED, NOT_SUPPORTED, NOT_ENOUGH = "supported", "not supported", "not enough data"
LM21, CB22, JZH20 = "arXiv 2010.07693", "arXiv 2206.09868", "arXiv 2007.02047"


@dataclass(frozen=True)
class Network:
    """One network of a comparison: its ``name``, how it was trained, and what was measured of it."""

    name: str
    training: Training
    measured: Measured

    def value(self, key: str) -> float | None:
        """One of :data:`~selplug.comparisons.network_values.VALUES`, or the accuracy under a condition."""
        return self.measured.values[key] if key in VALUES else self.measured.accuracies.get(key)


@dataclass(frozen=True)
class Found:
    """A statistic, whether there were enough networks for a verdict, and a caveat or what is lacking."""

    estimate: Estimate
    enough: bool = True
    remark: str = ""


#: ``(networks, resamples, seed)``
Statistic = Callable[[Sequence[Network], int, int], Found]


@dataclass(frozen=True)
class Claim:
    """``statistic`` is what is computed, in words; it lies on the claim's side above ``bound`` where ``sign`` is 1,
    below it where that is -1. ``needs`` says which networks decide it, ``beside`` is a second statistic to read beside
    it, which decides nothing."""

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
        """What the whole interval has to be, in words."""
        return f"{'>' if self.sign > 0 else '<'} {self.bound:g}"


@dataclass(frozen=True)
class Judged:
    """A claim beside the numbers; ``why`` says what decided."""

    claim: Claim
    estimate: Estimate
    beside: Estimate | None
    verdict: str
    why: str

    def __repr__(self) -> str:
        return f"Judged({self.claim.id!r}, {self.verdict!r}, {self.estimate!r})"


def judge(claim: Claim, networks: Sequence[Network], resamples: int, seed: int) -> Judged:
    """A claim's verdict over networks; earlier epochs of a run count where a claim is about them alone."""
    found = claim.compute(networks, resamples, seed)
    beside = claim.compute_beside(networks, resamples, seed).estimate if claim.compute_beside else None
    interval = found.estimate.ci95
    if not found.enough or interval is None:
        return Judged(claim, found.estimate, beside, NOT_ENOUGH, found.remark or claim.needs)
    low, high = sorted(claim.sign * (end - claim.bound) for end in interval)
    verdict, why = NOT_SUPPORTED, f"the interval is not {claim.side} as a whole"
    if low > 0:
        verdict, why = SUPPORTED, f"the whole interval is {claim.side}"
    elif high < 0:
        why = "the whole interval lies on the other side"
    return Judged(claim, found.estimate, beside, verdict, "; ".join(filter(None, (why, found.remark))))


def families(networks: Iterable[Network], x: str, y: str) -> list[list[Network]]:
    """Networks with both values by family, the largest first; earlier epochs and robust networks are not among them."""
    found: dict[str, list[Network]] = {}
    for network in networks:
        if _counts(network) and network.value(x) is not None and network.value(y) is not None:
            found.setdefault(network.training.family, []).append(network)
    return sorted(found.values(), key=len, reverse=True)


def correlate(networks: Iterable[Network], x: str, y: str, resamples: int, seed: int) -> Estimate:
    """Rank correlation of two values within families of at least :data:`MIN_TRAININGS` trainings."""
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
                f"{len(largest)} networks of {_trainings(largest)} trainings that differ in the regularizer alone; at "
                f"least {MIN_CORRELATED} networks of {MIN_TRAININGS} trainings are needed",
            )
        remarks = []
        if any(network.training.arguments is None for family in _correlated(found) for network in family):
            remarks.append("not all reports tell how their networks were trained, which may differ in more")
        if estimate.dropped:
            remarks.append(f"{estimate.dropped} resamples without variation left out")
        return Found(estimate, remark="; ".join(remarks))

    return compute


def _lacking(*keys: str) -> str:
    names = " and ".join(VALUES[key] for key in dict.fromkeys(keys))
    return f"no networks, other than robust ones, with {names}"


def _mean_of(key: str) -> Statistic:
    def compute(networks: Sequence[Network], resamples: int, seed: int) -> Found:
        values = _values(filter(_counts, networks), key)
        few = f"{len(values)} networks; at least {MIN_EACH} are needed" if len(values) else _lacking(key)
        enough = len(values) >= MIN_EACH
        return Found(mean(values, resamples, seed), enough, "" if enough else few)

    return compute


def _robust_less_standard(key: str) -> Statistic:
    """Robust less standard networks, trained alike but for that; else of the same model, with a caveat."""

    def compute(networks: Sequence[Network], resamples: int, seed: int) -> Found:
        known = [n for n in networks if not n.training.earlier and n.value(key) is not None]
        caveat = ""
        strata = _sides(known, lambda n: n.training.but_for_robustness)
        if not _enough(strata):
            # Networks with a regularizer of their own on top would say something else.
            loose = [n for n in known if n.training.arguments is None or n.training.alpha == 0]
            strata = _sides(loose, lambda n: "|".join(n.measured.layers))
            caveat = (
                "robust and standard networks have the same layers, but are not known to be trained alike otherwise"
            )
        pairs = [(_values(robust, key), _values(standard, key)) for robust, standard in strata]
        estimate = difference(pairs, resamples, seed)
        if not _enough(strata):
            robust, standard = (sum(len(sides[side]) for sides in strata) for side in (0, 1))
            caveat = (
                f"{robust} robust and {standard} standard networks that can be compared; at least {MIN_EACH} of each "
                "are needed"
            )
        return Found(estimate, _enough(strata), caveat)

    return compute


def _sides(networks: Iterable[Network], key: Callable[[Network], str | None]) -> list[tuple[list[Network], ...]]:
    """``(robust, standard)`` networks with the same key, where there are both; of unknown ones none."""
    found: dict[str, tuple[list[Network], ...]] = {}
    for network in networks:
        text = key(network)
        if text is not None and network.training.robust is not None:
            found.setdefault(text, ([], []))[0 if network.training.robust else 1].append(network)
    return [sides for sides in found.values() if all(sides)]


def _enough(strata: Sequence[tuple[list[Network], ...]]) -> bool:
    return all(sum(len(sides[side]) for sides in strata) >= MIN_EACH for side in (0, 1))


def _deeper_change(networks: Sequence[Network], resamples: int, seed: int) -> Found:
    """Over robust runs of several epochs: how much more clean x attack CKA moved in late layers than in early ones."""
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
            f"{len(changes)} robust runs with two or more epochs among the reports and --measure cka; at least "
            f"{MIN_EACH} are needed"
        )
        return Found(estimate, False, lacking)
    return Found(
        estimate, remark="a stand-in: training images, on which overfitting shows first, are not in the reports"
    )


_SAME = "standard networks trained alike but for the seed and the regularizer"
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
        "mean over networks of the gain under attacks less the gain under corruptions, in early layers",
        "standard networks, of any training",
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
        "block-structure score, robust less standard networks",
        _EACH,
        _robust_less_standard("block_score"),
        sign=-1,
    ),
    Claim(
        "robust-specialization",
        "Robust networks lack specialization: their layers are more like each other",
        f"{CB22}, abstract",
        "mean CKA between different layers, clean images, robust less standard networks",
        _EACH,
        _robust_less_standard("cka_between"),
    ),
    Claim(
        "robust-closeness",
        "Clean and adversarial representations are closer to each other in robust networks",
        f"{CB22} (not in the abstract; section not confirmed)",
        "CKA of clean and attacked responses, mean over layers and common attacks, robust less standard networks",
        _EACH,
        _robust_less_standard("cka_attack"),
    ),
    Claim(
        "robust-overfitting",
        "Overfitting in robust training shows in deeper layers",
        f"{CB22}, abstract",
        "how much more the CKA of clean and attacked responses moved, from the first to the last epoch among the "
        "reports, in late than in early layers; mean over robust runs",
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
