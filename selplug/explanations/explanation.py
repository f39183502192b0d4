from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..core.errors import InputError
from ..report.jsonable import jsonable
from ..report.png import png
from ..report.reading import AUDIT, EXPLANATION
from ..report.result import Result, Shown
from ..report.style import listing, printable
from ..report.tables import shortened
from ..report.writing import write_arrays, write_json, write_page
from . import overlays
from .record import ExplanationRecord, pictures

if TYPE_CHECKING:
    import pandas as pd

PAGE, AUDIT_PAGE = "explain.html", "report.html"
#: Where the page of an audit gets its link, and the link.
MARKER = "<!-- further pages -->"
LINK = f'<li><a href="{PAGE}">Attribution maps</a></li>'


@dataclass(frozen=True, repr=False)
class Explanation(ExplanationRecord, Result):
    """Attribution maps of images; :func:`selplug.explain` makes it, :func:`selplug.read` reads it.

    ``save`` writes ``explain.html``, ``explain.json``, ``explain.npz`` and ``explain/*.png``. The page of an audit that
    lies in the folder gets a link.
    """

    PAGE = PAGE
    JSON = EXPLANATION.file

    def frame(self) -> pd.DataFrame:
        """A row per image, method and layer, called as in ``explain.json``.

        Columns: ``file``, ``label``, ``target``, ``attacked``, ``l2``, ``linf``; ``predicted.clean`` and
        ``predicted.adversarial``; ``method``, ``layer`` ("input" for methods that explain no layer), ``similarity``.
        """
        from ..report.frames import table_frame

        return table_frame(
            {
                "file": image.name,
                "label": image.label,
                "target": image.target,
                "attacked": image.attacked,
                "l2": image.l2,
                "linf": image.linf,
                "predicted": {condition: image.predicted(condition) for condition in image.probabilities},
                "method": one.method,
                "layer": one.layer or "input",
                "similarity": one.similarity,
            }
            for image in self.images
            for one in image.maps
        )

    def _title(self) -> str:
        from .page import title

        return title(self)

    def _counts(self) -> str:
        maps = sum(len(image.maps) for image in self.images)
        return f"{maps} maps by {listing(self.settings.get('methods', ()), 3) or 'methods not told'}"

    def _shown(self) -> Shown:
        from .page import summary_table

        return Shown([shortened(summary_table(self), f"{self.PAGE}, {self.JSON}")])

    def _pictures(self) -> str:
        from .page import notebook_pictures

        return notebook_pictures(self)

    def _write(self, staging: Path, folder: Path) -> None:
        from .page import render

        write_json(self.to_dict(), staging / self.JSON)
        write_arrays(self.arrays(), staging / "explain.npz")
        (staging / "explain").mkdir()
        for place, image in enumerate(self.images):
            for number, one in enumerate(image.maps):
                (staging / self.strip_file(place, number)).write_bytes(png(overlays.strip(pictures(image, one))))
        report = folder / AUDIT_PAGE
        page = report.read_text(encoding="utf-8") if report.is_file() else None
        write_page(render(self, beside_report=page is not None), staging / self.PAGE)
        if page is not None and MARKER in page and LINK not in page:
            write_page(page.replace(MARKER, f"{LINK}\n{MARKER}", 1), staging / report.name)


def check_fits(folder: str | Path, subject: Mapping[str, Any]) -> None:
    """Raises InputError if the folder holds the report of another model: the page would stand beside wrong numbers."""
    path = Path(folder) / AUDIT.file
    try:
        there = json.loads(path.read_text(encoding="utf-8"))["subject"]
        other = {key: there[key] for key in ("model", "checkpoint") if key in there and key in subject}
    except (OSError, ValueError, KeyError, TypeError):
        return  # no report, or none of ours
    differs = [key for key, value in other.items() if value != jsonable(subject[key])]
    if differs:
        raise InputError(
            f"{path} is the report of another {differs[0]} ({_said(there[differs[0]])}, not "
            f"{_said(subject[differs[0]])}); choose another --output"
        )


def _said(value: Any) -> str:
    return printable(value.get("file", value) if isinstance(value, Mapping) else value)
