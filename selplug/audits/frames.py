"""The numbers of a report as pandas data frames.

Tidy: one row per thing that was measured. Columns are called as in ``report.json``, nested names joined by a dot
(``selectivity.mean``, ``options.eps``), so that frames merge on ``condition`` and ``layer``. Undefined numbers are NaN.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np

from ..core.errors import InputError
from ..report.frames import flattened, frame_of, pandas
from .engine.results import LayerResult

if TYPE_CHECKING:
    import pandas as pd

    from .record import AuditRecord

DIFFERENCE = "difference:"


def conditions_frame(report: AuditRecord) -> pd.DataFrame:
    """A row per condition: accuracy with its interval, sizes, kind, and every option that was in force.

    Columns: ``condition``, ``spec``, ``kind`` ("clean", "attack", "noise", "corruption", "shift"), ``accuracy``,
    ``accuracy_low`` and ``accuracy_high`` (95 % Wilson interval), ``samples``, ``l2_mean``, ``linf_max`` (pixels in
    [0, 1]); ``targeted.*`` if an attack had a target; ``options.*`` and, for attacks in a ball, ``threat.*``.
    """
    rows = []
    for condition in report.result.conditions:
        row = {
            "condition": condition.name,
            "spec": condition.spec,
            "kind": condition.kind,
            "accuracy": condition.accuracy,
            "accuracy_low": condition.accuracy_ci95[0],
            "accuracy_high": condition.accuracy_ci95[1],
            "samples": condition.samples,
            "l2_mean": condition.l2_mean,
            "linf_max": condition.linf_max,
        }
        if condition.targeted:
            targeted = asdict(condition.targeted)
            low, high = targeted.pop("success_ci95") or (None, None)
            row |= flattened({**targeted, "success_low": low, "success_high": high}, "targeted.")
        rows.append(row | flattened({"options": condition.options, "threat": condition.threat}))
    return frame_of(rows)


def layers_frame(report: AuditRecord) -> pd.DataFrame:
    """A row per layer and condition, and per layer and difference perturbed - clean.

    Columns: ``layer``, ``depth`` (from 1, input to output), ``layer_kind`` (class of the module), ``units``,
    ``condition``, ``difference`` (whether the row is of the difference), then ``SECTION.VALUE`` of every measure, such
    as ``selectivity.mean``.
    """
    rows = []
    for depth, layer in enumerate(report.result.layers, 1):
        for difference, table in ((False, layer.conditions), (True, layer.differences)):
            for condition, sections in table.items():
                row = _place(layer, depth, condition, difference)
                rows.append({**row, "layer_kind": layer.kind, "units": layer.units, **flattened(sections)})
    columns = ["layer", "depth", "layer_kind", "units", "condition", "difference"]
    return frame_of(rows, columns)


def units_frame(report: AuditRecord, layer: str | None = None) -> pd.DataFrame:
    """A row per layer, condition and unit, with the values of single units.

    Columns: ``layer``, ``depth``, ``condition``, ``difference``, ``unit`` (from 0), and one per value, such as
    ``selectivity``, ``selectivity_null`` and ``gradient``; NaN where a value was not measured.

    Args:
        layer: the name of one; None for all.

    Raises:
        InputError: no such layer, or the report holds no values of units.
    """
    parts = []
    for depth, found in _chosen(report, layer):
        for key in dict.fromkeys(key for key, _ in found.arrays):
            values = {
                value: array
                for (of, value), array in found.arrays.items()
                if of == key and value != "eigenvalues" and array.shape == (found.units,)
            }
            if values:
                name, difference = key.removeprefix(DIFFERENCE), key.startswith(DIFFERENCE)
                parts.append((_place(found, depth, name, difference), {"unit": np.arange(found.units), **values}))
    return _stacked(parts, "values of units", "selectivity or gradients")


def eigenvalues_frame(report: AuditRecord, layer: str | None = None) -> pd.DataFrame:
    """A row per layer, condition and rank: the eigenvalues of the responses' covariance, largest first.

    Columns: ``layer``, ``depth``, ``condition``, ``difference``, ``rank`` (from 1), ``eigenvalue``.

    Args:
        layer: the name of one; None for all.

    Raises:
        InputError: no such layer, or the report holds no eigenvalues.
    """
    parts = []
    for depth, found in _chosen(report, layer):
        for (key, value), array in found.arrays.items():
            if value == "eigenvalues":
                name, difference = key.removeprefix(DIFFERENCE), key.startswith(DIFFERENCE)
                columns = {"rank": np.arange(1, len(array) + 1), "eigenvalue": np.sort(array)[::-1]}
                parts.append((_place(found, depth, name, difference), columns))
    return _stacked(parts, "eigenvalues", "dimensionality")


def _place(layer: LayerResult, depth: int, condition: str, difference: bool) -> dict[str, Any]:
    return {"layer": layer.name, "depth": depth, "condition": condition, "difference": difference}


def _chosen(report: AuditRecord, layer: str | None) -> Iterator[tuple[int, LayerResult]]:
    from .record import find_layer

    chosen = None if layer is None else find_layer(report, layer)
    return ((d, found) for d, found in enumerate(report.result.layers, 1) if chosen is None or found is chosen)


def _stacked(parts: list[tuple[dict[str, Any], dict[str, np.ndarray]]], what: str, measure: str) -> pd.DataFrame:
    """Parts that share their first columns row by row, below each other."""
    if not parts:
        raise InputError(
            f"this report holds no {what}; audit with the measure {measure}, and keep units.npz beside report.json"
        )
    lengths = [len(next(iter(columns.values()))) for _, columns in parts]
    first = {key: np.repeat(np.array([head[key] for head, _ in parts], dtype=object), lengths) for key in parts[0][0]}
    names = dict.fromkeys(name for _, columns in parts for name in columns)
    rest = {
        name: np.concatenate(
            [
                columns[name] if name in columns else np.full(length, np.nan)
                for (_, columns), length in zip(parts, lengths, strict=True)
            ]
        )
        for name in names
    }
    return pandas().DataFrame({**first, **rest}).infer_objects()
