from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..core.errors import ReportError
from ..report.saving import save_files
from .record import PAGE, SimilarityRecord

if TYPE_CHECKING:
    import pandas as pd

    from .page import SimilarityPlots


@dataclass(frozen=True)
class SimilarityReport(SimilarityRecord):
    """Two networks compared; :func:`selplug.similarity` makes it, ``save`` writes it."""

    def frame(self, measure: str = "cka", rows: str = "a", columns: str = "b") -> pd.DataFrame:
        """A map as a data frame: a row per layer of one network, a column per layer of the other, or of itself.

        Args:
            measure: "cka" or "procrustes".
            rows, columns: "a" or "b".

        Raises:
            InputError: the comparison holds no such map.
        """
        from ..report.frames import map_frame

        values = self.result.maps[self.map_key(measure, rows, columns)]
        return map_frame(values, *([layer.name for layer in self.result.layers[key]] for key in (rows, columns)))

    @property
    def plot(self) -> SimilarityPlots:
        """The figures for a notebook: ``report.plot.map("cka", "a", "a")``."""
        from .page import SimilarityPlots

        return SimilarityPlots(self)

    def save(self, folder: str | Path) -> Path:
        """Writes ``similarity.html``, ``similarity.json`` and ``similarity.npz``, all of them or none.

        Raises:
            ReportError: the folder cannot be made or written, or the disk is full.
        """
        return save_files(self._write, folder)

    def _write(self, staging: Path) -> None:
        from .page import render

        try:
            text = json.dumps(self.to_dict(), indent=1, allow_nan=False)
        except (TypeError, ValueError) as error:
            raise ReportError(
                f"similarity.json: expected numbers, strings, lists and mappings only ({error})"
            ) from error
        (staging / "similarity.json").write_bytes(text.encode("ascii") + b"\n")
        np.savez_compressed(staging / "similarity.npz", **self.arrays())  # type: ignore[arg-type, unused-ignore]
        (staging / PAGE).write_bytes(render(self).encode("utf-8"))
