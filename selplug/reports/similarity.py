"""The result of ``selplug similarity``: which networks were compared, with which settings, and its files."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..core.compare import SimilarityResult
from ..core.errors import InputError, ReportError
from .report import _plain
from .saving import save_files

if TYPE_CHECKING:
    import pandas as pd

    from .plotting import SimilarityPlots

SCHEMA_VERSION = "1.0"
PAGE = "similarity.html"


@dataclass(frozen=True)
class SimilarityReport:
    """Two networks a and b compared. ``subjects`` holds, for each, the facts of a report's subject."""

    subjects: Mapping[str, Mapping[str, Any]]
    settings: Mapping[str, Any]
    environment: Mapping[str, Any]
    result: SimilarityResult = field(repr=False)

    def to_dict(self) -> dict[str, Any]:
        """The content of ``similarity.json``: plain dicts, lists, numbers and strings; undefined numbers are None."""
        result = self.result
        return _plain(
            {
                "schema_version": SCHEMA_VERSION,
                "subjects": self.subjects,
                "settings": self.settings,
                "environment": self.environment,
                "samples": result.samples,
                "layers": {
                    key: [{"name": layer.name, "kind": layer.kind, "units": layer.units} for layer in layers]
                    for key, layers in result.layers.items()
                },
                "maps": [
                    {
                        "measure": measure,
                        "estimator": self.settings["estimator"] if measure == "cka" else None,
                        "rows": rows,
                        "columns": columns,
                        "values": values.tolist(),
                    }
                    for (measure, rows, columns), values in result.maps.items()
                ],
                "block_structure": {
                    key: {"score": found.score, "blocks": found.blocks} for key, found in result.blocks.items()
                },
            }
        )

    def arrays(self) -> dict[str, np.ndarray]:
        """The content of ``similarity.npz``: ``MEASURE|ROWS|COLUMNS`` -> map, as in ``cka|a|b`` (L_a, L_b)."""
        return {"|".join(key): values for key, values in self.result.maps.items()}

    def map_key(self, measure: str = "cka", rows: str = "a", columns: str = "b") -> tuple[str, str, str]:
        """The key of a map in ``result.maps``.

        Raises:
            InputError: there is no such map.
        """
        key = (measure, rows, columns)
        if key not in self.result.maps:
            known = ", ".join(" ".join(each) for each in self.result.maps)
            raise InputError(f"expected a measure, rows and columns of this comparison ({known}), got {' '.join(key)}")
        return key

    def frame(self, measure: str = "cka", rows: str = "a", columns: str = "b") -> pd.DataFrame:
        """A map as a data frame: a row per layer of one network, a column per layer of the other, or of itself.

        Args:
            measure: "cka" or "procrustes".
            rows, columns: "a" or "b".

        Raises:
            InputError: the comparison holds no such map.
        """
        from .frames import map_frame

        values = self.result.maps[self.map_key(measure, rows, columns)]
        return map_frame(values, *([layer.name for layer in self.result.layers[key]] for key in (rows, columns)))

    @property
    def plot(self) -> SimilarityPlots:
        """The figures for a notebook: ``report.plot.map("cka", "a", "a")``."""
        from .plotting import SimilarityPlots

        return SimilarityPlots(self)

    def save(self, folder: str | Path) -> Path:
        """Writes ``similarity.html``, ``similarity.json`` and ``similarity.npz``, all of them or none.

        Raises:
            ReportError: the folder cannot be made or written, or the disk is full.
        """
        return save_files(self._write, folder)

    def _write(self, staging: Path) -> None:
        from .similarity_page import render

        try:
            text = json.dumps(self.to_dict(), indent=1, allow_nan=False)
        except (TypeError, ValueError) as error:
            raise ReportError(
                f"similarity.json: expected numbers, strings, lists and mappings only ({error})"
            ) from error
        (staging / "similarity.json").write_bytes(text.encode("ascii") + b"\n")
        np.savez_compressed(staging / "similarity.npz", **self.arrays())  # type: ignore[arg-type, unused-ignore]
        (staging / PAGE).write_bytes(render(self).encode("utf-8"))
