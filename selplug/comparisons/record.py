"""Reports of any number of audits side by side: values, groups of seeds, rank correlations, the papers' claims."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ..report.jsonable import jsonable
from .network import Network
from .statistics import Estimate
from .verdicts import Judged

SCHEMA_VERSION = "1.0"


@dataclass(frozen=True)
class Origin:
    """Of one report, what a comparison keeps beside its numbers.

    ``file`` is its ``report.json`` as it is told to others: as it was given, or the end of an absolute path. ``path``
    is where it lies; None for a report that was never a file, and in a comparison that was read from one. ``name``,
    ``model``, ``checkpoint``, ``settings`` and ``environment`` are the report's.
    """

    name: str
    file: str | None
    sha256: str | None
    model: str | None
    checkpoint: Any = field(repr=False)
    settings: Mapping[str, Any] = field(repr=False)
    environment: Mapping[str, Any] = field(repr=False)
    path: Path | None = None

    def __str__(self) -> str:
        where = self.path or self.file
        return f"{self.name} ({where})" if where else self.name


@dataclass(frozen=True)
class Correlation:
    """Rank correlation of two values over networks, within families; ``y`` may be an attack: the accuracy under it."""

    x: str
    y: str
    estimate: Estimate


@dataclass(frozen=True)
class SeedGroup:
    """Networks that differ only in the seed, and their means. ``values`` and ``accuracies``: key -> mean.

    ``curves``: key -> (mean, low, high) per layer, NaN where not defined; None where the networks' layers differ.
    """

    name: str
    networks: tuple[Network, ...] = field(repr=False)
    values: Mapping[str, Estimate] = field(repr=False)
    accuracies: Mapping[str, Estimate] = field(repr=False)
    curves: Mapping[str, np.ndarray] | None = field(repr=False)

    def estimate(self, key: str) -> Estimate:
        """The mean of a value, or of the accuracy under a condition."""
        return self.values[key] if key in self.values else self.accuracies[key]


@dataclass(frozen=True, repr=False)
class ComparisonRecord:
    """What :func:`selplug.compare` found. ``environment``, ``settings``, ``train_set`` and ``protocol`` are JSON-ready.

    ``reference`` is what all reports agree in; ``conditions`` those that all have with the same options, in order, with
    their kind ("clean", "attack", "noise", "corruption", "shift"); ``origins`` has one for each of ``networks``;
    ``left_out`` are reports that do not fit, with what differs. ``train_set`` lists the audits of training images;
    ``protocol`` is what became of it, None without one.
    """

    reference: Mapping[str, Any]
    conditions: Mapping[str, str]
    origins: tuple[Origin, ...]
    left_out: tuple[tuple[Origin, tuple[str, ...]], ...]
    networks: tuple[Network, ...]
    groups: tuple[SeedGroup, ...]
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
                "reference": self.reference,
                "conditions": self.conditions,
                "networks": [_network(*each) for each in zip(self.networks, self.origins, strict=True)],
                "groups": [
                    {
                        "name": group.name,
                        "networks": [network.name for network in group.networks],
                        "training": group.networks[0].training.arguments,
                        "values": _estimates(group.values),
                        "accuracies": _estimates(group.accuracies),
                        "curves": None if group.curves is None else _curves(group.curves),
                    }
                    for group in self.groups
                ],
                "correlations": [{"x": one.x, "y": one.y, **_estimate_of(one.estimate)} for one in self.correlations],
                "protocol": self.protocol,
                "train_set": self.train_set,
                "claims": [claim_facts(judged) for judged in self.claims],
                "left_out": [
                    {"name": origin.name, "file": origin.file, "reasons": reasons} for origin, reasons in self.left_out
                ],
                "notes": self.notes,
            }
        )

    def of_kind(self, *kinds: str) -> list[str]:
        """The names of the common conditions of some kinds."""
        return [name for name, kind in self.conditions.items() if kind in kinds]

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


def _network(network: Network, origin: Origin) -> dict[str, Any]:
    measured, training = network.measured, network.training
    return {
        "name": network.name,
        "group": training.group,
        "model": origin.model,
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
            "file": origin.file,
            "sha256": origin.sha256,
            "checkpoint": origin.checkpoint,
            "settings": origin.settings,
            "environment": origin.environment,
        },
    }


def _estimates(found: Mapping[str, Estimate]) -> dict[str, Any]:
    return {key: {"mean": one.value, "ci95": one.ci95, "n": one.n} for key, one in found.items()}


def _curves(found: Mapping[str, np.ndarray]) -> dict[str, Any]:
    return {key: dict(zip(("mean", "low", "high"), curve.tolist(), strict=True)) for key, curve in found.items()}


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
