"""A saved ``similarity.json`` as a :class:`SimilarityReport` again; ``similarity.npz`` holds the same maps."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ..core.errors import InputError
from ..core.measures.alignment import BlockStructure
from ..report.reading import SIMILARITY, check_kind
from ..report.typed_json import record
from .record import SCHEMA_VERSION
from .report import SimilarityReport
from .run import ComparedLayer, SimilarityResult


@dataclass(frozen=True)
class _Map:
    measure: str
    rows: str
    columns: str
    values: tuple[tuple[float | None, ...], ...]


@dataclass(frozen=True)
class _Blocks:
    score: float | None
    blocks: tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class _Settings:
    """Of ``settings``, what the rest is made with."""

    estimator: str
    responses: str


@dataclass(frozen=True)
class _Pair:
    """What there is of each network."""

    a: Any
    b: Any


@dataclass(frozen=True)
class _File:
    subjects: Mapping[str, Mapping[str, Any]]
    settings: Mapping[str, Any]
    environment: Mapping[str, Any]
    samples: int
    layers: Mapping[str, tuple[ComparedLayer, ...]]
    maps: tuple[_Map, ...]
    block_structure: Mapping[str, _Blocks] = field(default_factory=dict)


def from_data(data: Any, path: Path) -> SimilarityReport:
    """The report of what ``path`` holds as JSON: ``to_dict()`` gives the same content again.

    Raises:
        InputError: it is no result of ``selplug similarity``, or of a newer selplug; the message names the place.
    """
    try:
        check_kind(data, SIMILARITY, SCHEMA_VERSION)
        file = record(_File, data, "")
        record(_Settings, file.settings, "settings")
        for name in ("subjects", "layers"):
            record(_Pair, getattr(file, name), name)
        maps = {(one.measure, one.rows, one.columns): _array(one, place, file) for place, one in enumerate(file.maps)}
        for measure in {measure for measure, _, _ in maps}:
            if (measure, "a", "b") not in maps:
                raise InputError(f"maps: expected one of {measure!r} with rows a and columns b")
    except InputError as error:
        raise InputError(f"{path} cannot be read as a similarity: {error}") from error
    blocks = {
        key: BlockStructure(float("nan") if found.score is None else found.score, found.blocks)
        for key, found in file.block_structure.items()
    }
    result = SimilarityResult(file.layers, maps, blocks, file.samples)
    return SimilarityReport(file.subjects, file.settings, file.environment, result)


def _array(one: _Map, place: int, file: _File) -> np.ndarray:
    """(rows, columns), NaN where a number is not defined."""
    where = f"maps[{place}]"
    if one.rows not in file.layers or one.columns not in file.layers:
        raise InputError(f"{where}: expected rows and columns of a or b, got {one.rows!r} and {one.columns!r}")
    shape = len(file.layers[one.rows]), len(file.layers[one.columns])
    if len(one.values) != shape[0] or any(len(row) != shape[1] for row in one.values):
        raise InputError(f"{where}.values: expected {shape[0]} rows of {shape[1]} numbers, one per layer")
    return np.array(one.values, dtype=np.float64).reshape(shape)
