from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ..report.reading import SIMILARITY
from ..report.result import Result, Shown
from ..report.tables import shortened
from ..report.writing import write_arrays, write_json, write_page
from .record import SimilarityRecord

if TYPE_CHECKING:
    import pandas as pd

    from .page import SimilarityPlots


@dataclass(frozen=True, repr=False)
class SimilarityReport(SimilarityRecord, Result):
    """Two networks compared; :func:`selplug.similarity` makes it, :func:`selplug.read` reads it.

    ``save`` writes ``similarity.html``, ``similarity.json`` and ``similarity.npz``.
    """

    PAGE = "similarity.html"
    JSON = SIMILARITY.file

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

    def _title(self) -> str:
        from .page import title

        return title(self)

    def _counts(self) -> str:
        return f"{' and '.join(f'{len(layers)}' for layers in self.result.layers.values())} layers"

    def _shown(self) -> Shown:
        from .page import summary_tables

        files = f"{self.PAGE}, {self.JSON}"
        return Shown([shortened(table, files) for table in summary_tables(self)])

    def _write(self, staging: Path, folder: Path) -> None:
        from .page import render

        write_json(self.to_dict(), staging / self.JSON)
        write_arrays(self.arrays(), staging / "similarity.npz")
        write_page(render(self), staging / self.PAGE)
