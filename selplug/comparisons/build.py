from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from ..core.errors import InputError
from ..report.style import listing
from .comparison import Comparison
from .evidence import Draws, correlated, value_of
from .network import Network
from .network_values import CURVES, measure
from .protocol import Protocol, outcome, planned_conditions
from .ranks import DRAWS
from .record import Correlation, Origin, SeedGroup
from .sources import Common, Source, common
from .statistics import Estimate, means_over
from .train_set import told
from .training_facts import Training, trainings
from .verdicts import judge

#: What the rank correlations are of: every value of the first line with every value of the second that exists.
CAUSES = ("selectivity", "dimensionality_early", "gain_difference_early", "exponent_last")
EFFECTS = (
    "clean_accuracy",
    "corruption_accuracy",
    "corruption_relative",
    "adversarial_accuracy",
    "adversarial_relative",
    "noise_accuracy",
    "worst_case",
    "dimensionality_early",
    "dimensionality_late",
    "cv_samples",
    "cv_units",
    "block_score",
)


def compare_sources(
    sources: Sequence[Source],
    *,
    robust: Collection[str] = (),
    leave_out: bool = False,
    resamples: int = DRAWS,
    seed: int = 0,
    train_set: Sequence[Source] = (),
    protocol: Protocol | None = None,
    settings: Mapping[str, Any] | None = None,
    environment: Mapping[str, Any] | None = None,
) -> Comparison:
    """Sets reports beside each other.

    Args:
        sources: at least two.
        robust: see :func:`~selplug.comparisons.training_facts.trainings`.
        leave_out: reports that do not fit the others are left out and named, instead of an error.
        resamples, seed: permutations drawn where there are too many to try all.
        train_set: audits of the same checkpoints on training images.
        protocol: which claims are decided, on which networks and conditions.
        settings, environment: further facts to tell.

    Raises:
        InputError: fewer than two reports that fit, reports that do not fit, one given twice, or a protocol or audits
            of training images that do not fit them.
    """
    if resamples < 1 or seed < 0:
        raise InputError(f"expected at least 1 resample and a seed >= 0, got {resamples} and {seed}")
    _check_distinct(sources)
    shared = common(sources)
    if shared.left_out and not leave_out:
        raise InputError(_not_comparable(shared))
    if len(shared.sources) < 2:
        raise InputError(
            f"expected at least two reports that can be compared, got {len(shared.sources)} of {len(sources)}"
            + (f"; {_not_comparable(shared)}" if shared.left_out else "")
        )
    trained = trainings(shared.sources, robust)
    alphas = [training.alpha for training in trained]
    measured, remarks = measure(shared, alphas, train_set)
    networks = tuple(
        Network(source.name, training, values)
        for source, training, values in zip(shared.sources, trained, measured, strict=True)
    )
    remarks += _about(networks)
    draws, planned, facts = Draws(resamples, seed), networks, None
    if protocol is not None:
        narrowed, missing = planned_conditions(protocol, shared)
        again = measured if narrowed is shared else measure(narrowed, alphas, train_set)[0]
        every = [replace(network, measured=own) for network, own in zip(networks, again, strict=True)]
        planned = tuple(network for network in every if protocol.fits(network))
        facts = outcome(protocol, shared, narrowed, missing, networks)
    return Comparison(
        reference=shared.facts,
        conditions=shared.kinds,
        origins=tuple(_origin(source) for source in shared.sources),
        left_out=tuple((_origin(source), reasons) for source, reasons in shared.left_out),
        networks=networks,
        groups=groups_of(networks),
        correlations=correlations_of(networks, shared.of_kind("attack"), draws),
        claims=judge(planned, draws, planned=None if protocol is None else protocol.claims, others=networks),
        notes=(*shared.notes, *remarks),
        settings={
            "seed": seed,
            "resamples": resamples,
            "robust": list(robust),
            "leave_out": leave_out,
            **(settings or {}),
        },
        environment=dict(environment or {}),
        train_set=told(train_set),
        protocol=facts,
    )


def _origin(source: Source) -> Origin:
    report = source.report
    return Origin(
        name=source.name,
        file=source.told_file,
        sha256=source.sha256,
        model=report.subject.get("model"),
        checkpoint=report.subject.get("checkpoint"),
        settings=report.settings,
        environment=report.environment,
        path=source.path,
    )


def _check_distinct(sources: Sequence[Source]) -> None:
    names: dict[str, Source] = {}
    files: dict[str, Source] = {}
    for source in sources:
        for known, key, what in ((files, source.sha256, "are one report"), (names, source.name, "are called the same")):
            if key is None:
                continue
            other = known.setdefault(key, source)
            if other is not source:
                raise InputError(f"{other} and {source} {what}; give each report once, or a label as in LABEL=REPORT")


def _not_comparable(shared: Common) -> str:
    lines = [f"  {source}: {'; '.join(reasons)}" for source, reasons in shared.left_out]
    return "\n".join(
        [
            f"{len(lines)} of {len(lines) + len(shared.sources)} reports cannot be compared with the others:",
            *lines,
            "audit them on the same samples with the same settings, or leave them out with --leave-out",
        ]
    )


def _about(networks: Sequence[Network]) -> list[str]:
    """What the page has to say of trainings."""
    found = []
    unknown = [network.name for network in networks if network.training.arguments is None]
    if unknown:
        found.append(f"how the network was trained is not told by the reports of {listing(unknown)}")
    earlier = [network.name for network in networks if network.training.earlier]
    if earlier:
        found.append(
            "earlier epochs of a run that is there with a later one, and so in no claim but that on epochs: "
            + listing(earlier)
        )
    if len({network.measured.layers for network in networks}) > 1:
        found.append("the networks differ in their layers: depth is shown as a share, from input (0) to output (1)")
    return found


def groups_of(networks: Sequence[Network]) -> tuple[SeedGroup, ...]:
    members: dict[str, list[Network]] = {}
    for network in networks:
        members.setdefault(network.training.group, []).append(network)
    ordered = sorted(members.items(), key=lambda item: _order(item[1][0].training))
    return tuple(_group(name, own) for name, own in ordered)


def _order(training: Training) -> tuple[bool, bool, bool, float]:
    """Standard networks by alpha, then robust ones, then those of unknown training as they were given."""
    return training.arguments is None, training.robust is True, training.alpha is None, training.alpha or 0.0


def _group(name: str, networks: Sequence[Network]) -> SeedGroup:
    def estimates(found: Sequence[Mapping[str, float | None]]) -> dict[str, Estimate]:
        table = np.array([list(values.values()) for values in found], float)
        ends = zip(*means_over(table), np.isfinite(table).sum(0), strict=True)
        return {key: _of_group(*each) for key, each in zip(found[0], ends, strict=True)}

    return SeedGroup(
        name,
        tuple(networks),
        estimates([network.measured.values for network in networks]),
        estimates([network.measured.accuracies for network in networks]),
        curves_of(networks),
    )


def curves_of(networks: Sequence[Network]) -> dict[str, np.ndarray] | None:
    """Of a group: key -> (mean, low, high) per layer; None where the networks' layers differ."""
    if len({network.measured.layers for network in networks}) > 1:
        return None
    stacked = {key: np.array([network.measured.curves[key] for network in networks], float) for key in CURVES}
    return {key: np.stack(means_over(values)) for key, values in stacked.items()}


def _of_group(value: float, low: float, high: float, n: int) -> Estimate:
    return Estimate(
        None if np.isnan(value) else float(value), None if np.isnan(low) else (float(low), float(high)), int(n), 1
    )


def correlations_of(networks: Sequence[Network], attacks: Sequence[str], draws: Draws) -> tuple[Correlation, ...]:
    pairs = ((x, y) for x in CAUSES for y in (*EFFECTS, *attacks) if x != y)
    found = (Correlation(x, y, correlated(networks, value_of(x), value_of(y), draws).estimate) for x, y in pairs)
    return tuple(one for one in found if one.estimate.value is not None)
