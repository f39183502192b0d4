"""A saved ``explain.json`` and the ``explain.npz`` beside it as an :class:`Explanation` again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..core.clean import CLEAN
from ..core.errors import InputError
from ..report.reading import EXPLANATION, check_kind, load_arrays
from ..report.typed_json import record
from .explanation import Explanation
from .record import SCHEMA_VERSION, map_name
from .run import ADVERSARIAL, ExplainedImage, Map

_CONDITIONS = (CLEAN, ADVERSARIAL)


@dataclass(frozen=True)
class _Map:
    method: str
    layer: str | None
    size: tuple[int, int]


@dataclass(frozen=True)
class _Probability:
    probability: float


@dataclass(frozen=True)
class _Predictions:
    clean: tuple[_Probability, ...]
    adversarial: tuple[_Probability, ...]


@dataclass(frozen=True)
class _Image:
    file: str
    label: int | None
    target: int
    attacked: int
    l2: float
    linf: float
    predictions: _Predictions
    maps: tuple[_Map, ...]


@dataclass(frozen=True)
class _Settings:
    """Of ``settings``, what the page is made with."""

    perturbation: str
    target: Any
    methods: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Subject:
    """The same of ``subject``."""

    class_names: tuple[str, ...] | None = None
    num_classes: int | None = None


@dataclass(frozen=True)
class _File:
    subject: Mapping[str, Any]
    settings: Mapping[str, Any]
    environment: Mapping[str, Any]
    images: tuple[_Image, ...]


def from_data(data: Any, path: Path) -> Explanation:
    """The explanation of what ``path`` holds as JSON: ``to_dict()`` gives the same content again.

    Images, maps and probabilities are in the ``explain.npz`` beside it, which is needed. One of the first weeks has no
    probabilities: those that the JSON does not tell are NaN.

    Raises:
        InputError: it is no result of ``selplug explain``, or of a newer selplug, or ``explain.npz`` is missing,
            damaged or that of another; the message names the place.
    """
    try:
        check_kind(data, EXPLANATION, SCHEMA_VERSION)
        file = record(_File, data, "")
        record(_Settings, file.settings, "settings")
        classes = record(_Subject, file.subject, "subject").num_classes or 0
        if not file.images or not all(image.maps for image in file.images):
            raise InputError("images: expected at least one, with at least one map each")
    except InputError as error:
        raise InputError(f"{path} cannot be read as an explanation: {error}") from error
    beside = path.with_name("explain.npz")
    arrays = _Arrays(load_arrays(beside, "keep the files of one explanation together"), beside, path.name)
    images = tuple(
        _image(number, told, data["images"][number - 1], arrays, classes) for number, told in enumerate(file.images, 1)
    )
    return Explanation(file.subject, file.settings, file.environment, images)


@dataclass(frozen=True)
class _Arrays:
    found: Mapping[str, np.ndarray]
    path: Path
    file: str

    def get(self, name: str, shape: tuple[int, ...] | None, axes: int) -> np.ndarray:
        array = self.found.get(name)
        if array is None or array.ndim != axes or array.shape != (shape or array.shape) or array.dtype.kind != "f":
            expected = shape or f"{axes} axes"
            came = "nothing" if array is None else f"{array.dtype} {array.shape}"
            raise InputError(
                f"{self.path} does not belong to the {self.file} beside it: expected numbers, {expected}, under "
                f"{name!r}, got {came}; keep the files of one explanation together"
            )
        return array


def _image(number: int, told: _Image, entry: Mapping[str, Any], arrays: _Arrays, classes: int) -> ExplainedImage:
    clean = arrays.get(f"{number}|{CLEAN}", None, 3)
    return ExplainedImage(
        name=told.file,
        label=told.label,
        target=told.target,
        attacked=told.attacked,
        images={CLEAN: clean, ADVERSARIAL: arrays.get(f"{number}|{ADVERSARIAL}", clean.shape, 3)},
        probabilities={c: _probabilities(number, c, entry["predictions"][c], arrays, classes) for c in _CONDITIONS},
        l2=told.l2,
        linf=told.linf,
        maps=tuple(
            Map(
                one.method,
                one.layer,
                {c: arrays.get(f"{map_name(number, one.method, one.layer)}|{c}", one.size, 2) for c in _CONDITIONS},
            )
            for one in told.maps
        ),
        as_saved=entry,
    )


def _probabilities(
    number: int, condition: str, predictions: list[Mapping[str, Any]], arrays: _Arrays, classes: int
) -> np.ndarray:
    """(K,) of all classes, or of those that the JSON tells."""
    name = f"{number}|probabilities|{condition}"
    if name in arrays.found:
        return arrays.get(name, None, 1)
    values = np.full(classes, np.nan)
    for one in predictions:
        k = one.get("class")
        if not isinstance(k, int) or not 0 <= k < classes:
            raise InputError(
                f"{arrays.file}: images[{number - 1}].predictions.{condition}: expected a class from 0 to "
                f"{classes - 1} (subject.num_classes), got {k!r}"
            )
        values[k] = one["probability"]
    return values
