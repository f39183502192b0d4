"""Reports of any number of audits side by side: values, groups of seeds, rank correlations, the papers' claims."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..core.errors import InputError, ReportError
from ..core.resampling import RESAMPLES, Estimate, means_over
from .claims import CLAIMS, Judged, Network, correlate, judge
from .comparable import Common, Source, common
from .network_values import CURVES, measure
from .report import _plain
from .saving import save_files
from .style import listing, printable
from .training_facts import Training, trainings

if TYPE_CHECKING:
    import pandas as pd

SCHEMA_VERSION = "1.0"
PAGE = "compare.html"
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
class Comparison:
    """What :func:`selplug.compare` found; ``save`` writes it. ``environment`` and ``settings`` are JSON-ready."""

    common: Common
    networks: tuple[Network, ...]
    groups: tuple[Group, ...]
    correlations: tuple[Correlation, ...]
    claims: tuple[Judged, ...]
    notes: tuple[str, ...]
    settings: Mapping[str, Any]
    environment: Mapping[str, Any]

    def to_dict(self) -> dict[str, Any]:
        """The content of ``comparison.json``: plain dicts, lists, numbers and strings; undefined numbers are None."""
        return _plain(
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
                "correlations": [
                    {"x": one.x, "y": one.y, **dataclasses.asdict(one.estimate)} for one in self.correlations
                ],
                "claims": [_claim(judged) for judged in self.claims],
                "left_out": [
                    {"name": source.name, "file": _file(source), "reasons": reasons}
                    for source, reasons in self.common.left_out
                ],
                "notes": self.notes,
            }
        )

    def frame(self) -> pd.DataFrame:
        """A row per network, as in ``comparison.csv``; needs pandas.

        Raises:
            InputError: pandas is not installed.
        """
        try:
            import pandas as pd
        except ImportError as error:
            raise InputError("data frames need pandas: pip install 'selplug[notebook]'") from error
        return pd.DataFrame(self.rows()).set_index("name")

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

    def save(self, folder: str | Path) -> Path:
        """Writes ``compare.html``, ``comparison.json``, ``comparison.csv`` and ``claims.csv``, all of them or none.

        Raises:
            ReportError: the folder cannot be made or written, or the disk is full.
        """
        return save_files(lambda staging: self._write(staging, Path(folder)), folder)

    def summary(self) -> str:
        """The tables of the terminal as plain text."""
        from rich.console import Console

        from .comparison_tables import print_comparison
        from .text import WIDTH

        console = Console(file=io.StringIO(), width=WIDTH, color_system=None, force_terminal=False)
        with console.capture() as capture:
            print_comparison(self, console)
        return "\n".join(line.rstrip() for line in capture.get().splitlines()) + "\n"

    def _write(self, staging: Path, folder: Path) -> None:
        from .compare_page import render

        try:
            text = json.dumps(self.to_dict(), indent=1, allow_nan=False)
        except (TypeError, ValueError) as error:
            raise ReportError(
                f"comparison.json: expected numbers, strings, lists and mappings only ({error})"
            ) from error
        (staging / "comparison.json").write_bytes(text.encode("ascii") + b"\n")
        _write_csv(self.rows(), staging / "comparison.csv")
        _write_csv([_claim_row(judged) for judged in self.claims], staging / "claims.csv")
        (staging / PAGE).write_bytes(render(self, folder).encode("utf-8"))


def compare_sources(
    sources: Sequence[Source],
    *,
    robust: Collection[str] = (),
    leave_out: bool = False,
    resamples: int = RESAMPLES,
    seed: int = 0,
    settings: Mapping[str, Any] | None = None,
    environment: Mapping[str, Any] | None = None,
) -> Comparison:
    """Sets reports beside each other.

    Args:
        sources: at least two.
        robust: see :func:`~selplug.reports.training_facts.trainings`.
        leave_out: reports that do not fit the others are left out and named, instead of an error.
        resamples, seed: of the bootstrap intervals.
        settings, environment: further facts to tell.

    Raises:
        InputError: fewer than two reports that fit, reports that do not fit, or one given twice.
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
    measured, remarks = measure(shared, [training.alpha for training in trained])
    networks = tuple(
        Network(source.name, training, values)
        for source, training, values in zip(shared.sources, trained, measured, strict=True)
    )
    remarks += _about(networks)
    return Comparison(
        common=shared,
        networks=networks,
        groups=_groups(networks, resamples, seed),
        correlations=_correlations(networks, shared.of_kind("attack"), resamples, seed),
        claims=tuple(judge(claim, networks, resamples, seed) for claim in CLAIMS),
        notes=(*shared.notes, *remarks),
        settings={
            "seed": seed,
            "resamples": resamples,
            "robust": list(robust),
            "leave_out": leave_out,
            **(settings or {}),
        },
        environment=dict(environment or {}),
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


def _groups(networks: Sequence[Network], resamples: int, seed: int) -> tuple[Group, ...]:
    members: dict[str, list[Network]] = {}
    for network in networks:
        members.setdefault(network.training.group, []).append(network)
    ordered = sorted(members.items(), key=lambda item: _order(item[1][0].training))
    return tuple(_group(name, own, resamples, seed) for name, own in ordered)


def _order(training: Training) -> tuple[bool, bool, bool, float]:
    """Standard networks by alpha, then robust ones, then those of unknown training as they were given."""
    return training.arguments is None, training.robust is True, training.alpha is None, training.alpha or 0.0


def _group(name: str, networks: Sequence[Network], resamples: int, seed: int) -> Group:
    def estimates(found: Sequence[Mapping[str, float | None]]) -> dict[str, Estimate]:
        table = np.array([list(values.values()) for values in found], float)
        ends = zip(*means_over(table, resamples, seed), np.isfinite(table).sum(0), strict=True)
        return {key: _of_group(*each) for key, each in zip(found[0], ends, strict=True)}

    curves = None
    if len({network.measured.layers for network in networks}) == 1:
        stacked = {key: np.array([network.measured.curves[key] for network in networks], float) for key in CURVES}
        curves = {key: np.stack(means_over(values, resamples, seed)) for key, values in stacked.items()}
    return Group(
        name,
        tuple(networks),
        estimates([network.measured.values for network in networks]),
        estimates([network.measured.accuracies for network in networks]),
        curves,
    )


def _of_group(value: float, low: float, high: float, n: int) -> Estimate:
    return Estimate(
        None if np.isnan(value) else float(value), None if np.isnan(low) else (float(low), float(high)), int(n)
    )


def _correlations(
    networks: Sequence[Network], attacks: Sequence[str], resamples: int, seed: int
) -> tuple[Correlation, ...]:
    pairs = ((x, y) for x in CAUSES for y in (*EFFECTS, *attacks) if x != y)
    found = (Correlation(x, y, correlate(networks, x, y, resamples, seed)) for x, y in pairs)
    return tuple(one for one in found if one.estimate.value is not None)


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
        "report": {
            "file": _file(source),
            "sha256": source.sha256,
            "checkpoint": report.subject.get("checkpoint"),
            "settings": report.settings,
            "environment": report.environment,
        },
    }


def _file(source: Source) -> str | None:
    """The report's file as it was given; absolute paths tell of a machine that nobody else has."""
    if source.path is None:
        return None
    return printable("/".join(source.path.parts[-2:]) if source.path.is_absolute() else source.path.as_posix())


def _estimates(found: Mapping[str, Estimate]) -> dict[str, Any]:
    return {key: {"mean": one.value, "ci95": one.ci95, "n": one.n} for key, one in found.items()}


def _claim(judged: Judged) -> dict[str, Any]:
    claim, beside = judged.claim, judged.beside
    return {
        "id": claim.id,
        "claim": claim.text,
        "source": claim.source,
        "statistic": claim.statistic,
        "supported_if": f"the whole interval is {claim.side}",
        **dataclasses.asdict(judged.estimate),
        "verdict": judged.verdict,
        "why": judged.why,
        "beside": None if beside is None else {"statistic": claim.beside, **dataclasses.asdict(beside)},
    }


def _claim_row(judged: Judged) -> dict[str, Any]:
    row = _claim(judged)
    beside, interval = row.pop("beside") or {}, row.pop("ci95") or (None, None)
    ends = beside.get("ci95") or (None, None)
    return row | {
        "ci95_low": interval[0],
        "ci95_high": interval[1],
        "beside": beside.get("statistic"),
        "beside_value": beside.get("value"),
        "beside_ci95_low": ends[0],
        "beside_ci95_high": ends[1],
    }


def _write_csv(rows: Sequence[Mapping[str, Any]], path: Path) -> None:
    columns = list(dict.fromkeys(column for row in rows for column in row))
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow([_cell(column) for column in columns])
        writer.writerows([[_cell(row.get(column)) for column in columns] for row in rows])


def _cell(value: Any) -> Any:
    """Empty if not defined; text that a spreadsheet would run as a formula becomes plain text."""
    if not isinstance(value, str):
        return _plain(value)
    text = printable(value)
    return f"'{text}" if text.startswith(("=", "+", "-", "@")) else text
