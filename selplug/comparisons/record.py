"""Reports of any number of audits side by side: values, groups of seeds, rank correlations, the papers' claims."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..report.jsonable import jsonable
from .network import Network
from .sources import Common, Source
from .statistics import Estimate
from .verdicts import Judged

SCHEMA_VERSION = "1.0"
PAGE = "compare.html"


@dataclass(frozen=True)
class Correlation:
    """Rank correlation of two values over networks, within families; ``y`` may be an attack: the accuracy under it."""

    x: str
    y: str
    estimate: Estimate


@dataclass(frozen=True)
class Group:
    """Networks trained alike but for the seed, and their means. ``values`` and ``accuracies``: key -> mean.

    ``curves``: key -> (mean, low, high) per layer, NaN where not defined; None where the networks' layers differ.
    """

    name: str
    networks: tuple[Network, ...]
    values: Mapping[str, Estimate]
    accuracies: Mapping[str, Estimate]
    curves: Mapping[str, np.ndarray] | None = field(repr=False)

    def estimate(self, key: str) -> Estimate:
        """The mean of a value, or of the accuracy under a condition."""
        return self.values[key] if key in self.values else self.accuracies[key]


@dataclass(frozen=True)
class ComparisonRecord:
    """What :func:`selplug.compare` found; ``save`` writes it. ``environment`` and ``settings`` are JSON-ready.

    So are ``train_set``, which says what audits of training images there were, and ``protocol``, what became of it;
    None without one.
    """

    common: Common
    networks: tuple[Network, ...]
    groups: tuple[Group, ...]
    correlations: tuple[Correlation, ...]
    claims: tuple[Judged, ...]
    notes: tuple[str, ...]
    settings: Mapping[str, Any]
    environment: Mapping[str, Any]
    train_set: tuple[Mapping[str, Any], ...] = ()
    protocol: Mapping[str, Any] | None = None

    def to_dict(self) -> dict[str, Any]:
        """The content of ``comparison.json``: plain dicts, lists, numbers and strings; undefined numbers are None."""
        return jsonable(
            {
                "schema_version": SCHEMA_VERSION,
                "settings": self.settings,
                "environment": self.environment,
                "reference": self.common.facts,
                "conditions": self.common.kinds,
                "networks": [
                    _network(network, source)
                    for network, source in zip(self.networks, self.common.sources, strict=True)
                ],
                "groups": [
                    {
                        "name": group.name,
                        "networks": [network.name for network in group.networks],
                        "training": group.networks[0].training.arguments,
                        "values": _estimates(group.values),
                        "accuracies": _estimates(group.accuracies),
                    }
                    for group in self.groups
                ],
                "correlations": [{"x": one.x, "y": one.y, **_estimate_of(one.estimate)} for one in self.correlations],
                "protocol": self.protocol,
                "train_set": self.train_set,
                "claims": [claim_facts(judged) for judged in self.claims],
                "left_out": [
                    {"name": source.name, "file": source.told_file, "reasons": reasons}
                    for source, reasons in self.common.left_out
                ],
                "notes": self.notes,
            }
        )

    def rows(self) -> list[dict[str, Any]]:
        """Per network its name, how it was trained, every value, and the accuracy under every common condition."""
        return [
            {
                "name": network.name,
                "group": network.training.group,
                "robust": network.training.robust,
                "seed": network.training.seed,
                "epoch": network.training.epoch,
                **network.measured.values,
                **{f"accuracy|{name}": value for name, value in network.measured.accuracies.items()},
            }
            for network in self.networks
        ]


def _network(network: Network, source: Source) -> dict[str, Any]:
    measured, training, report = network.measured, network.training, source.report
    return {
        "name": network.name,
        "group": training.group,
        "model": report.subject.get("model"),
        "robust": training.robust,
        "training": training.arguments,
        "seed": training.seed,
        "epoch": training.epoch,
        "earlier": training.earlier,
        "values": measured.values,
        "accuracies": measured.accuracies,
        "layers": measured.layers,
        "curves": measured.curves,
        "sweeps": [dataclasses.asdict(sweep) for sweep in measured.sweeps],
        "similarity": measured.similarity,
        "blocks": measured.blocks,
        "matched": measured.matched,
        "train_gap": measured.train_gap,
        "report": {
            "file": source.told_file,
            "sha256": source.sha256,
            "checkpoint": report.subject.get("checkpoint"),
            "settings": report.settings,
            "environment": report.environment,
        },
    }


def _estimates(found: Mapping[str, Estimate]) -> dict[str, Any]:
    return {key: {"mean": one.value, "ci95": one.ci95, "n": one.n} for key, one in found.items()}


def claim_facts(judged: Judged) -> dict[str, Any]:
    """A claim and its verdict, JSON-ready but for tuples."""
    claim = judged.claim
    return {
        "id": claim.id,
        "claim": claim.text,
        "source": claim.source,
        "caveat": claim.caveat,
        "statistic": claim.statistic,
        "supported_if": claim.side,
        **_estimate_of(judged.estimate),
        "p": judged.p,
        "p_adjusted": judged.p_adjusted,
        "tests": judged.tests,
        "smallest_effect": judged.smallest_effect,
        "verdict": judged.verdict,
        "why": judged.why,
        "in_protocol": judged.in_protocol,
        "parts": [{"label": p.label, "side": p.side, **_estimate_of(p.estimate)} for p in judged.parts],
    }


def _estimate_of(found: Estimate) -> dict[str, Any]:
    return dataclasses.asdict(found)
