"""Claims on what happens within one network or one run, over networks: means against a bound."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

from .attack_types import TYPES
from .evidence import Draws, Evidence, Found, Part, Value, counts, lacking, mean_over, samples_of
from .matched import DIMENSIONS
from .network import Network
from .network_values import early, late
from .statistics import Estimate, Tested, two_sided

#: A network's accuracy counts as a monotonic function of the exponent up to this share of variance unexplained (ours).
MONOTONIC = 0.05


def attacks_above_corruptions(what: str) -> Evidence:
    """Of matched perturbations, for every type of attack and every measure of dimensionality that is there."""

    def compute(networks: Sequence[Network], draws: Draws) -> Found:
        standard = [network for network in networks if counts(network)]
        parts, remarks, enough = [], [], True
        for kind, text in TYPES.items():
            for measure, name in DIMENSIONS.items():
                samples = samples_of(standard, _matched(f"{what}|{kind}|{measure}"))
                if not samples:
                    continue
                tested, several, remark = mean_over(samples)
                parts.append(Part(f"{name}, {text}", tested))
                remarks.append(remark)
                enough = enough and several
        if not parts:
            return lacking("no attacks and two or more corruptions of the same cost or size, with dimensionality")
        return Found(tuple(parts), enough, "; ".join(dict.fromkeys(filter(None, remarks))))

    return compute


def _matched(key: str) -> Value:
    return lambda network: network.measured.matched.get(key)


def monotonic(kind: str, sign: int) -> Evidence:
    """Of sweeps of one kind: monotonic where ``sign`` is -1.

    That a curve is monotonic has to hold with the errors in its loss; that it is not, without the loss of errors alone.
    """

    def compute(networks: Sequence[Network], draws: Draws) -> Found:
        standard = [network for network in networks if counts(network)]
        sweeps = {n.name: [s for s in n.measured.sweeps if s.kind == kind] for n in standard}
        clear = {name: [s for s in own if s.loss_of_errors is not None] for name, own in sweeps.items()}
        lost = samples_of(standard, lambda n: fmean(s.loss or 0.0 for s in clear[n.name]) if clear[n.name] else None)
        beyond = samples_of(
            standard,
            lambda n: (
                fmean((s.loss or 0.0) - (s.loss_of_errors or 0.0) for s in clear[n.name]) if clear[n.name] else None
            ),
        )
        unclear = [own[0].unclear for name, own in sweeps.items() if own and not clear[name]]
        aside = f"{len(unclear)} networks cannot be judged: {unclear[0]}" if unclear else ""
        if not lost:
            return lacking(aside or "no standard networks with a sweep of it over four or more strengths")
        (whole, enough, remark), (rest, _, _) = mean_over(lost, MONOTONIC), mean_over(beyond, MONOTONIC)
        part = Part("loss of the monotonic fit", _between(rest, whole), sign, MONOTONIC)
        return Found((part,), enough, "; ".join(filter(None, (remark, aside))))

    return compute


def _between(rest: Tested, whole: Tested) -> Tested:
    """Above the bound as far as the loss beyond errors is, below it as far as the whole loss is."""
    ends = None
    if rest.estimate.ci95 and whole.estimate.ci95:
        ends = (rest.estimate.ci95[0], max(rest.estimate.ci95[0], whole.estimate.ci95[1]))
    p = two_sided(rest.above, whole.below) if ends else None
    estimate = Estimate(rest.estimate.value, ends, whole.estimate.n, whole.estimate.configurations, p)
    return Tested(estimate, rest.above, whole.below, rest.smallest)


@dataclass(frozen=True)
class _Run:
    """``gaps``: per layer how much the gap between training and test images grew from the best epoch to the last."""

    last: Network
    gaps: tuple[float | None, ...]

    def grew(self, part: slice) -> float | None:
        known = [gap for gap in self.gaps[part] if gap is not None]
        return fmean(known) if known else None


def overfitting(networks: Sequence[Network], draws: Draws) -> Found:
    """Over robust runs: the gap between training and test images grew in late layers, and more than in early ones."""
    robust = [n for n in networks if n.training.robust and n.training.run and n.training.epoch is not None]
    if not any(network.measured.train_gap for network in robust):
        return lacking("training images of robust networks were not audited, with cka and an attack: see --train-set")
    found, still = _runs(robust)
    if not found:
        return lacking(
            f"in {still} robust runs the last epoch is the best: they do not overfit"
            if still
            else "no robust run with two epochs of which training and test images were audited"
        )
    late_layers: dict[str, list[float]] = {}
    more: dict[str, list[float]] = {}
    for run in found:
        size = len(run.gaps)
        last, first = run.grew(late(size)), run.grew(early(size))
        if last is not None and first is not None:
            late_layers.setdefault(run.last.training.group, []).append(last)
            more.setdefault(run.last.training.group, []).append(last - first)
    if not more:
        return lacking("the gap is not defined in early or in late layers")
    (grown, enough, remark), (ahead, _, _) = mean_over(late_layers), mean_over(more)
    aside = f"{still} runs left out, whose last epoch is the best" if still else ""
    parts = (Part("late less early layers", ahead), Part("late layers", grown))
    return Found(parts, enough, "; ".join(filter(None, (remark, aside))))


def _runs(robust: Sequence[Network]) -> tuple[list[_Run], int]:
    """The runs whose best epoch is an earlier one, and how many do not overfit."""
    runs: dict[str, list[Network]] = {}
    for network in robust:
        if network.measured.train_gap is not None:
            runs.setdefault(network.training.run, []).append(network)
    found, still = [], 0
    for epochs in runs.values():
        *earlier, last = sorted(epochs, key=lambda network: network.training.epoch or 0)
        if not earlier:
            continue
        best = max(earlier, key=_robust_accuracy)
        if _robust_accuracy(best) < _robust_accuracy(last):
            still += 1
            continue
        before, after = best.measured.train_gap or (), last.measured.train_gap or ()
        gaps = tuple(None if a is None or b is None else b - a for a, b in zip(before, after, strict=True))
        found.append(_Run(last, gaps))
    return found, still


def _robust_accuracy(network: Network) -> float:
    return network.value("adversarial_accuracy") or 0.0
