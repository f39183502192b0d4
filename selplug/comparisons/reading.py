"""A saved ``comparison.json`` as a :class:`Comparison` again, with all of its tables and figures.

The file holds neither the audits themselves nor where they lie: a page that is saved again has no links to them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..core.errors import InputError
from ..report.reading import COMPARISON, check_kind
from ..report.style import listing, shorten
from ..report.typed_json import record
from .build import curves_of
from .claims import Claim
from .comparison import Comparison
from .network import Network
from .network_values import CURVES, VALUES, Measured
from .record import SCHEMA_VERSION, Correlation, Origin, SeedGroup
from .statistics import Estimate
from .sweeps import Sweep
from .training_facts import Training, family_of
from .verdicts import VERDICTS, Judged, PartFacts


@dataclass(frozen=True)
class _Report:
    file: str | None
    sha256: str | None
    checkpoint: Any
    settings: Mapping[str, Any]
    environment: Mapping[str, Any]


@dataclass(frozen=True)
class _Network:
    name: str
    group: str
    model: str | None
    robust: bool | None
    training: Mapping[str, Any] | None
    seed: int | None
    epoch: int | None
    earlier: bool
    values: Mapping[str, float | None]
    accuracies: Mapping[str, float]
    layers: tuple[str, ...]
    curves: Mapping[str, tuple[float | None, ...]]
    sweeps: tuple[Sweep, ...]
    similarity: tuple[tuple[float | None, ...], ...] | None
    blocks: tuple[tuple[int, ...], ...]
    report: _Report
    matched: Mapping[str, float]
    train_gap: tuple[float | None, ...] | None


@dataclass(frozen=True)
class _Mean:
    mean: float | None
    ci95: tuple[float, float] | None
    n: int


@dataclass(frozen=True)
class _Curve:
    mean: tuple[float | None, ...]
    low: tuple[float | None, ...]
    high: tuple[float | None, ...]


@dataclass(frozen=True)
class _Group:
    """What has a default here was not in the files of the first weeks."""

    name: str
    networks: tuple[str, ...]
    values: Mapping[str, _Mean]
    accuracies: Mapping[str, _Mean]
    curves: Mapping[str, _Curve] | None = None


@dataclass(frozen=True)
class _Correlation:
    x: str
    y: str


@dataclass(frozen=True)
class _Part:
    label: str
    side: str


@dataclass(frozen=True)
class _Claim:
    id: str
    claim: str
    source: str
    caveat: str
    statistic: str
    supported_if: str
    p: float | None
    p_adjusted: float | None
    tests: int
    smallest_effect: float | None
    verdict: str
    why: str
    in_protocol: bool | None
    parts: tuple[_Part, ...]


@dataclass(frozen=True)
class _Beyond:
    claims: tuple[str, ...]
    conditions: tuple[str, ...]
    networks: tuple[str, ...]


@dataclass(frozen=True)
class _Protocol:
    """Of ``protocol``, what the page shows."""

    file: str | None
    sha256: str
    note: str
    missing: tuple[str, ...]
    not_in_protocol: _Beyond


@dataclass(frozen=True)
class _Trained:
    name: str


@dataclass(frozen=True)
class _LeftOut:
    name: str
    file: str | None
    reasons: tuple[str, ...]


@dataclass(frozen=True)
class _Settings:
    """Of ``settings``, what the rest is made with."""

    seed: int
    resamples: int


@dataclass(frozen=True)
class _File:
    settings: Mapping[str, Any]
    environment: Mapping[str, Any]
    reference: Mapping[str, Any]
    conditions: Mapping[str, str]
    networks: tuple[_Network, ...]
    groups: tuple[_Group, ...]
    correlations: tuple[_Correlation, ...]
    protocol: _Protocol | None
    train_set: tuple[_Trained, ...]
    claims: tuple[_Claim, ...]
    left_out: tuple[_LeftOut, ...]
    notes: tuple[str, ...]


def from_data(data: Any, path: Path) -> Comparison:
    """The comparison of what ``path`` holds as JSON: ``to_dict()`` gives the same content again.

    Values that an older file does not have are filled in with None. Its claims must have p-values: verdicts before
    these followed other rules.

    Raises:
        InputError: it is no result of ``selplug compare``, its claims have no p-values, or it is of a newer selplug;
            the message names the place.
    """
    try:
        check_kind(data, COMPARISON, SCHEMA_VERSION)
        _check_verdicts(data)
        return _comparison(record(_File, data, ""), data)
    except InputError as error:
        raise InputError(f"{path} cannot be read as a comparison: {error}") from error


def _check_verdicts(data: Mapping[str, Any]) -> None:
    claims = data.get("claims")
    if (
        "protocol" not in data
        and isinstance(claims, list)
        and any(isinstance(c, dict) and "beside" in c for c in claims)
    ):
        raise InputError("its claims are of an older selplug, which had other verdicts; run selplug compare again")


def _comparison(file: _File, data: Mapping[str, Any]) -> Comparison:
    record(_Settings, file.settings, "settings")
    networks = {network.name: _network(network, place, file) for place, network in enumerate(file.networks)}
    if len(networks) < len(file.networks) or not networks:
        raise InputError("networks: expected at least one, each with a name of its own")
    return Comparison(
        reference=file.reference,
        conditions=file.conditions,
        origins=tuple(_origin(network.name, network.model, network.report) for network in file.networks),
        left_out=tuple((Origin(one.name, one.file, None, None, None, {}, {}), one.reasons) for one in file.left_out),
        networks=tuple(networks.values()),
        groups=tuple(_group(group, place, networks, file) for place, group in enumerate(file.groups)),
        correlations=tuple(
            Correlation(one.x, one.y, _estimate(data["correlations"][place], f"correlations[{place}]"))
            for place, one in enumerate(file.correlations)
        ),
        claims=tuple(
            _judged(claim, data["claims"][place], f"claims[{place}]") for place, claim in enumerate(file.claims)
        ),
        notes=file.notes,
        settings=file.settings,
        environment=file.environment,
        train_set=tuple(data["train_set"]),
        protocol=data["protocol"],
    )


def _network(told: _Network, place: int, file: _File) -> Network:
    where, layers = f"networks[{place}]", len(told.layers)
    for key, curve in told.curves.items():
        if len(curve) != layers:
            raise InputError(f"{where}.curves[{key!r}]: expected {layers} numbers, one per layer, got {len(curve)}")
    if told.train_gap is not None and len(told.train_gap) != layers:
        raise InputError(f"{where}.train_gap: expected {layers} numbers, one per layer, got {len(told.train_gap)}")
    if told.similarity is not None and any(len(row) != layers for row in (told.similarity, *told.similarity)):
        raise InputError(f"{where}.similarity: expected {layers} rows of {layers} numbers, one per layer")
    if any(len(block) != 2 or not 0 <= block[0] <= block[1] < layers for block in told.blocks):
        raise InputError(f"{where}.blocks: expected pairs of first and last layer, from 0, got {list(told.blocks)}")
    _check_conditions(told.accuracies, f"{where}.accuracies", file)
    training = Training(
        group=told.group,
        family=family_of(told.model, told.robust, told.training),
        arguments=told.training,
        robust=told.robust,
        seed=told.seed,
        epoch=told.epoch,
        earlier=told.earlier,
    )
    measured = Measured(
        layers=told.layers,
        values={**dict.fromkeys(VALUES), **told.values},
        accuracies=told.accuracies,
        curves={**dict.fromkeys(CURVES, (None,) * layers), **told.curves},
        sweeps=told.sweeps,
        similarity=told.similarity,
        blocks=told.blocks,
        matched=told.matched,
        train_gap=told.train_gap,
    )
    return Network(told.name, training, measured)


def _origin(name: str, model: str | None, told: _Report) -> Origin:
    return Origin(name, told.file, told.sha256, model, told.checkpoint, told.settings, told.environment)


def _group(told: _Group, place: int, networks: Mapping[str, Network], file: _File) -> SeedGroup:
    where = f"groups[{place}]"
    unknown = [name for name in told.networks if name not in networks]
    if unknown or not told.networks:
        raise InputError(f"{where}.networks: expected names of networks of this file, got {list(told.networks)}")
    members = [networks[name] for name in told.networks]
    _check_conditions(told.accuracies, f"{where}.accuracies", file)
    values = {key: _mean(one) for key, one in told.values.items()}
    return SeedGroup(
        told.name,
        tuple(members),
        {**dict.fromkeys(VALUES, Estimate(None, None, 0)), **values},
        {key: _mean(one) for key, one in told.accuracies.items()},
        _curves(told, where, members),
    )


def _curves(told: _Group, where: str, members: Sequence[Network]) -> dict[str, np.ndarray] | None:
    """(mean, low, high) per layer; made again for a file that does not tell them."""
    if told.curves is None:
        return curves_of(members)
    layers = len(members[0].measured.layers)
    found = {key: np.full((3, layers), np.nan) for key in CURVES}
    for key, curve in told.curves.items():
        if {len(curve.mean), len(curve.low), len(curve.high)} != {layers}:
            raise InputError(f"{where}.curves[{key!r}]: expected {layers} numbers each, one per layer")
        found[key] = np.array([curve.mean, curve.low, curve.high], float)
    return found


def _check_conditions(accuracies: Mapping[str, Any], where: str, file: _File) -> None:
    if accuracies.keys() != file.conditions.keys():
        raise InputError(f"{where}: expected one for each of conditions, got {list(accuracies)}")


def _mean(told: _Mean) -> Estimate:
    return Estimate(told.mean, told.ci95, told.n)


def _estimate(told: Any, where: str) -> Estimate:
    return record(Estimate, told, where)


def _judged(told: _Claim, entry: Mapping[str, Any], where: str) -> Judged:
    if told.verdict not in VERDICTS:
        raise InputError(f"{where}.verdict: expected one of {listing(VERDICTS)}, got {shorten(repr(told.verdict), 60)}")
    if not told.parts:
        raise InputError(f"{where}.parts: expected at least one")
    return Judged(
        claim=Claim(told.id, told.claim, told.source, told.statistic, told.supported_if, needs="", caveat=told.caveat),
        estimate=_estimate(entry, where),
        parts=tuple(
            PartFacts(part.label, part.side, _estimate(entry["parts"][place], f"{where}.parts[{place}]"))
            for place, part in enumerate(told.parts)
        ),
        verdict=told.verdict,
        why=told.why,
        p=told.p,
        p_adjusted=told.p_adjusted,
        tests=told.tests,
        smallest_effect=told.smallest_effect,
        in_protocol=told.in_protocol,
    )
