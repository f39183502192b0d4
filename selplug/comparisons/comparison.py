from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..report.reading import COMPARISON
from ..report.result import Result, Shown
from ..report.style import listing, shorten
from ..report.writing import write_csv, write_json, write_page
from .record import ComparisonRecord, claim_facts
from .verdicts import Judged

if TYPE_CHECKING:
    import pandas as pd

    from .notebook import ComparisonPlots


@dataclass(frozen=True, repr=False)
class Comparison(ComparisonRecord, Result):
    """What :func:`selplug.compare` found; :func:`selplug.read` reads it.

    ``save`` writes ``compare.html``, ``comparison.json``, ``comparison.csv`` and ``claims.csv``.
    """

    PAGE = "compare.html"
    JSON = COMPARISON.file

    def frame(self) -> pd.DataFrame:
        """A row per network, as in ``comparison.csv``; undefined numbers are NaN.

        Raises:
            PluginError: pandas is not installed.
        """
        from ..report.frames import frame_of

        return frame_of(self.rows()).set_index("name")

    @property
    def plot(self) -> ComparisonPlots:
        """The figures of the page for a notebook: ``comparison.plot.linking("selectivity", "worst_case")``."""
        from .notebook import ComparisonPlots

        return ComparisonPlots(self)

    def _title(self) -> str:
        from .tables import title

        return title(self)

    def _counts(self) -> str:
        from .tables import verdicts

        models = dict.fromkeys(str(origin.model) for origin in self.origins)
        return (
            f"{shorten(listing(models, 3), 60)}; {verdicts(self)} claims supported, {len(self.conditions)} conditions"
        )

    def _shown(self) -> Shown:
        from .tables import shown

        return shown(self, f"{self.PAGE}, {self.JSON}")

    def _write(self, staging: Path, folder: Path) -> None:
        from .page import render

        write_json(self.to_dict(), staging / self.JSON)
        write_csv(self.rows(), staging / "comparison.csv")
        write_csv([_claim_row(judged) for judged in self.claims], staging / "claims.csv")
        write_page(render(self, folder), staging / self.PAGE)


def _claim_row(judged: Judged) -> dict[str, Any]:
    row = claim_facts(judged)
    interval, parts = row.pop("ci95") or (None, None), row.pop("parts")
    ends = {"ci95_low": interval[0], "ci95_high": interval[1]}
    several = parts if len(parts) > 1 else ()
    return row | ends | {"parts": "; ".join(_part(part) for part in several)}


def _part(part: Mapping[str, Any]) -> str:
    value, interval = part["value"], part["ci95"]
    shown = "not defined" if value is None else f"{value:.6g}"
    return f"{part['label']}: {shown}" + (f" [{interval[0]:.6g}, {interval[1]:.6g}]" if interval else "")
