from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from .record import AuditRecord

if TYPE_CHECKING:
    import pandas as pd

    from .figures.notebook import Plots


@dataclass(frozen=True)
class Report(AuditRecord):
    """One audit with its provenance; :func:`selplug.audit` makes it, ``save`` writes it."""

    def conditions_frame(self) -> pd.DataFrame:
        """A row per condition, see :func:`~selplug.audits.frames.conditions_frame`."""
        from .frames import conditions_frame

        return conditions_frame(self)

    def layers_frame(self) -> pd.DataFrame:
        """A row per layer and condition or difference, see :func:`~selplug.audits.frames.layers_frame`."""
        from .frames import layers_frame

        return layers_frame(self)

    def units_frame(self, layer: str | None = None) -> pd.DataFrame:
        """A row per layer, condition and unit, see :func:`~selplug.audits.frames.units_frame`."""
        from .frames import units_frame

        return units_frame(self, layer)

    def eigenvalues_frame(self, layer: str | None = None) -> pd.DataFrame:
        """A row per layer, condition and rank, see :func:`~selplug.audits.frames.eigenvalues_frame`."""
        from .frames import eigenvalues_frame

        return eigenvalues_frame(self, layer)

    def map_frame(self, measure: str = "cka") -> pd.DataFrame:
        """Every layer against every layer on clean images: a row and a column per layer.

        Raises:
            InputError: no such map was measured.
        """
        from ..report.frames import map_frame

        names = [layer.name for layer in self.result.layers]
        return map_frame(self.layer_map(measure)[1], names, names)

    @property
    def plot(self) -> Plots:
        """The figures of the page for a notebook: ``report.plot.selectivity()``."""
        from .figures.notebook import Plots

        return Plots(self)

    def save(self, folder: str | Path) -> Path:
        """Writes ``report.json``, ``units.npz`` and ``report.html``; see :func:`selplug.audits.files.save`."""
        from .files import save

        return save(self, folder)

    def summary(self) -> str:
        """The tables of the terminal as plain text."""
        from .page.text import summary

        return summary(self)

    def _repr_html_(self) -> str:
        from .page.text import notebook

        return notebook(self)
