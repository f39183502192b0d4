from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ..report.reading import AUDIT
from ..report.result import Result, Shown
from .engine.results import Condition, LayerResult, WorstCase
from .record import AuditRecord

if TYPE_CHECKING:
    import pandas as pd

    from .figures.notebook import Plots


@dataclass(frozen=True, repr=False)
class Report(AuditRecord, Result):
    """One audit with its provenance; :func:`selplug.audit` makes it, :func:`selplug.read` reads it.

    ``save`` runs every writer of the group ``selplug.reports``: ``report.json``, ``units.npz``, ``report.html``, and
    the files of plugins.
    """

    PAGE = "report.html"
    JSON = AUDIT.file

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

    @property
    def conditions(self) -> tuple[Condition, ...]:
        """The clean images and every perturbation, with their accuracies."""
        return self.result.conditions

    @property
    def layers(self) -> tuple[LayerResult, ...]:
        """What was measured of every layer, from input to output."""
        return self.result.layers

    @property
    def worst_case(self) -> WorstCase | None:
        """The accuracy over all attacks at once; None if no attack took part."""
        return self.result.worst_case

    def _title(self) -> str:
        from .page.text import title

        return title(self)

    def _counts(self) -> str:
        return f"{len(self.conditions)} conditions, {len(self.layers)} layers"

    def _shown(self) -> Shown:
        from .page.text import shown

        return shown(self, f"{self.PAGE}, {self.JSON}")

    def _write(self, staging: Path, folder: Path) -> None:
        from .files import write

        write(self, staging)
