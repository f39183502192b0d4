"""The result of ``selplug explain``: what was explained, with which settings, and its files."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from ..core.clean import CLEAN
from ..report.jsonable import jsonable
from ..report.png import difference, rounded
from ..report.style import printable
from . import overlays
from .run import ADVERSARIAL, ExplainedImage, Map

if TYPE_CHECKING:
    pass

SCHEMA_VERSION = "1.0"
PAGE = "explain.html"
#: Classes of each prediction that are kept.
TOP = 5


@dataclass(frozen=True)
class ExplanationRecord:
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
        return jsonable(
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


def pictures(image: ExplainedImage, one: Map) -> list[np.ndarray]:
    """Image, overlay, adversarial image, its overlay and the difference; (H, W) or (H, W, 3), uint8."""
    largest = overlays.scale(list(one.values.values()))
    found = []
    for condition in (CLEAN, ADVERSARIAL):
        pixels = image.images[condition]
        found += [rounded(pixels), overlays.overlay(pixels, one.values[condition], largest)]
    return [*found, difference(image.images[CLEAN], image.images[ADVERSARIAL])[0]]
