"""The result of ``selplug explain``: what was explained, with which settings, and its files."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..core.errors import InputError, ReportError
from ..core.explain import ADVERSARIAL, CLEAN, ExplainedImage, Map
from . import overlays
from .images import difference, png, rounded
from .report import _plain
from .saving import save_files
from .style import printable

if TYPE_CHECKING:
    import pandas as pd

SCHEMA_VERSION = "1.0"
PAGE = "explain.html"
#: Classes of each prediction that are kept.
TOP = 5
#: Where the page of an audit gets its link, and the link.
MARKER = "<!-- further pages -->"
LINK = f'<li><a href="{PAGE}">Attribution maps</a></li>'


@dataclass(frozen=True)
class Explanation:
    """Attribution maps with their provenance. ``subject``, ``settings`` and ``environment`` are those of a report."""

    subject: Mapping[str, Any]
    settings: Mapping[str, Any]
    environment: Mapping[str, Any]
    images: tuple[ExplainedImage, ...] = field(repr=False)

    def class_name(self, index: int | None) -> str:
        """The name of a class, or its number if names are not known."""
        if index is None:
            return "not known"
        names = self.subject.get("class_names") or ()
        return printable(names[index]) if 0 <= index < len(names) else f"class {index}"

    def to_dict(self) -> dict[str, Any]:
        """The content of ``explain.json``."""
        return _plain(
            {
                "schema_version": SCHEMA_VERSION,
                "subject": dict(self.subject),
                "settings": dict(self.settings),
                "environment": dict(self.environment),
                "images": [self._image(place, image) for place, image in enumerate(self.images)],
            }
        )

    def arrays(self) -> dict[str, np.ndarray]:
        """``explain.npz``: ``NUMBER|METHOD|LAYER|CONDITION`` -> map (h, w); images as ``NUMBER|CONDITION``.

        Numbers count images from 1; LAYER is ``input`` for methods that explain no layer.
        """
        arrays: dict[str, np.ndarray] = {}
        for number, image in enumerate(self.images, 1):
            arrays.update({f"{number}|{condition}": pixels for condition, pixels in image.images.items()})
            for one in image.maps:
                name = f"{number}|{one.method}|{one.layer or 'input'}"
                arrays.update({f"{name}|{condition}": values for condition, values in one.values.items()})
        return arrays

    def frame(self) -> pd.DataFrame:
        """A row per image, method and layer, called as in ``explain.json``.

        Columns: ``file``, ``label``, ``target``, ``attacked``, ``l2``, ``linf``; ``predicted.clean`` and
        ``predicted.adversarial``; ``method``, ``layer`` ("input" for methods that explain no layer), ``similarity``.
        """
        from .frames import table_frame

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

    def strip_file(self, place: int, number: int) -> str:
        """The PNG file of a map, relative to the folder."""
        one = self.images[place].maps[number]
        words = (self.images[place].name, one.method, one.layer or "input")
        safe = "-".join(re.sub(r"[^A-Za-z0-9.]+", "_", word).strip("._")[-60:] for word in words)
        return f"explain/{place + 1:03}-{number + 1:02}-{safe}.png"

    def _image(self, place: int, image: ExplainedImage) -> dict[str, Any]:
        return {
            "file": image.name,
            "label": image.label,
            "target": image.target,
            "attacked": image.attacked,
            "l2": image.l2,
            "linf": image.linf,
            "predictions": {
                condition: [
                    {"class": int(k), "name": self.class_name(int(k)), "probability": float(values[k])}
                    for k in np.argsort(-values, kind="stable")[:TOP]
                ]
                for condition, values in image.probabilities.items()
            },
            "maps": [
                {
                    "method": one.method,
                    "layer": one.layer,
                    "size": list(one.values[CLEAN].shape),
                    "similarity": one.similarity,
                    "scale": overlays.scale(list(one.values.values())),
                    "png": self.strip_file(place, number),
                    **{
                        condition: {"sum": values.sum(), "min": values.min(), "max": values.max()}
                        for condition, values in one.values.items()
                    },
                }
                for number, one in enumerate(image.maps)
            ],
        }

    def _write(self, staging: Path, folder: Path) -> None:
        from .explain_page import render

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


def pictures(image: ExplainedImage, one: Map) -> list[np.ndarray]:
    """Image, overlay, adversarial image, its overlay and the difference; (H, W) or (H, W, 3), uint8."""
    largest = overlays.scale(list(one.values.values()))
    found = []
    for condition in (CLEAN, ADVERSARIAL):
        pixels = image.images[condition]
        found += [rounded(pixels), overlays.overlay(pixels, one.values[condition], largest)]
    return [*found, difference(image.images[CLEAN], image.images[ADVERSARIAL])[0]]


def check_fits(folder: str | Path, subject: Mapping[str, Any]) -> None:
    """Raises InputError if the folder holds the report of another model: the page would stand beside wrong numbers."""
    path = Path(folder) / "report.json"
    try:
        there = json.loads(path.read_text(encoding="utf-8"))["subject"]
        other = {key: there[key] for key in ("model", "checkpoint") if key in there and key in subject}
    except (OSError, ValueError, KeyError, TypeError):
        return  # no report, or none of ours
    differs = [key for key, value in other.items() if value != _plain(subject[key])]
    if differs:
        raise InputError(
            f"{path} is the report of another {differs[0]} ({_said(there[differs[0]])}, not "
            f"{_said(subject[differs[0]])}); choose another --output"
        )


def _said(value: Any) -> str:
    return printable(value.get("file", value) if isinstance(value, Mapping) else value)
