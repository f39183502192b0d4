from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..core.errors import InputError, ReportError
from ..report.jsonable import jsonable
from ..report.png import png
from ..report.saving import save_files
from ..report.style import printable
from . import overlays
from .record import PAGE, ExplanationRecord, pictures

if TYPE_CHECKING:
    import pandas as pd

#: Where the page of an audit gets its link, and the link.
MARKER = "<!-- further pages -->"
LINK = f'<li><a href="{PAGE}">Attribution maps</a></li>'


@dataclass(frozen=True)
class Explanation(ExplanationRecord):
    """Attribution maps of images; ``save`` writes them."""

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

    def save(self, folder: str | Path) -> Path:
        """Writes ``explain.html``, ``explain.json``, ``explain.npz`` and ``explain/*.png``, all of them or none.

        Other files in the folder stay; the page of an audit that lies there gets a link.

        Raises:
            ReportError: the folder cannot be made or written, or the disk is full.
        """
        return save_files(lambda staging: self._write(staging, Path(folder)), folder)

    def _write(self, staging: Path, folder: Path) -> None:
        from .page import render

        try:
            text = json.dumps(self.to_dict(), indent=1, allow_nan=False)
        except (TypeError, ValueError) as error:
            raise ReportError(f"explain.json: expected numbers, strings, lists and mappings only ({error})") from error
        (staging / "explain.json").write_bytes(text.encode("ascii") + b"\n")
        np.savez_compressed(staging / "explain.npz", **self.arrays())  # type: ignore[arg-type, unused-ignore]
        (staging / "explain").mkdir()
        for place, image in enumerate(self.images):
            for number, one in enumerate(image.maps):
                (staging / self.strip_file(place, number)).write_bytes(png(overlays.strip(pictures(image, one))))
        report = folder / "report.html"
        page = report.read_text(encoding="utf-8") if report.is_file() else None
        (staging / PAGE).write_bytes(render(self, beside_report=page is not None).encode("utf-8"))
        if page is not None and MARKER in page and LINK not in page:
            (staging / report.name).write_bytes(page.replace(MARKER, f"{LINK}\n{MARKER}", 1).encode("utf-8"))


def check_fits(folder: str | Path, subject: Mapping[str, Any]) -> None:
    """Raises InputError if the folder holds the report of another model: the page would stand beside wrong numbers."""
    path = Path(folder) / "report.json"
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
