"""Example images beside their perturbed versions, as PNG data URIs."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from ...core.errors import ReportError
from ...report.png import _factor, png_uri
from ..record import AuditRecord

#: Bytes of text that the images may take; beyond it they are thinned out, then fewer examples are shown.
BUDGET = 8_000_000
#: Pixels per side below which images are not thinned out any further.
SMALLEST = 48


@dataclass(frozen=True)
class Cell:
    """One image under one condition; ``difference`` is None for clean images."""

    image: str
    difference: str | None
    predicted: str
    right: bool | None


@dataclass(frozen=True)
class Row:
    """All examples under one condition. ``factor`` amplifies the difference, 0 where nothing changed."""

    condition: str
    factor: float
    cells: tuple[Cell, ...]


@dataclass(frozen=True)
class Gallery:
    """``labels``: true label of each example, ``rows``: one per condition, ``width`` in CSS pixels.

    ``step``: one in ``step`` rows and columns of pixels is shown, to keep the file small.
    """

    labels: tuple[str, ...] = ()
    rows: tuple[Row, ...] = ()
    width: int = 96
    left_out: int = 0
    averaged: bool = field(default=False)
    step: int = 1


def gallery(report: AuditRecord, budget: int = BUDGET) -> Gallery:
    """The examples of a report, ready to show; empty if none were kept.

    Args:
        budget: bytes that the images may take; one example is shown even if it takes more.

    Raises:
        ReportError: images are not (k, C, H, W) uint8, or conditions do not fit together.
    """
    examples = report.examples
    clean_name = report.clean.name
    names = [c.name for c in report.result.conditions if c.name in examples.images] or list(examples.images)
    if not names:
        return Gallery()
    shape = examples.images[names[0]].shape
    for name in names:
        image = examples.images[name]
        if image.ndim != 4 or image.dtype != np.uint8 or image.shape != shape:
            raise ReportError(
                f"expected example images (k, C, H, W) uint8, the same shape for all conditions, got {image.dtype} "
                f"{image.shape} for {name!r} and {shape} for {names[0]!r}"
            )
    count = min(shape[0], len(examples.labels))
    step, shown = _fitting([examples.images[name] for name in names], count, budget)
    pictures = {name: examples.images[name][:shown, :, ::step, ::step] for name in names}
    clean = pictures.get(clean_name)
    rows = []
    for name in names:
        factor = _factor(clean, pictures[name]) if clean is not None else 0
        predictions = examples.predictions.get(name, ())
        cells = []
        for k in range(shown):
            difference = None
            if clean is not None and name != clean_name:
                change = pictures[name][k].astype(np.float32) - clean[k]
                difference = data_uri(np.rint(128 + factor * change).clip(0, 255).astype(np.uint8))
            known = k < len(predictions)
            cells.append(
                Cell(
                    image=data_uri(pictures[name][k]),
                    difference=difference,
                    predicted=class_name(report, predictions[k]) if known else "not recorded",
                    right=predictions[k] == examples.labels[k] if known else None,
                )
            )
        rows.append(Row(name, factor, tuple(cells)))
    return Gallery(
        labels=tuple(class_name(report, label) for label in examples.labels[:shown]),
        rows=tuple(rows),
        width=min(160, max(96, shape[3])),
        left_out=count - shown,
        averaged=shape[1] not in (1, 3),
        step=step,
    )


def _fitting(images: list[np.ndarray], count: int, budget: int) -> tuple[int, int]:
    """The step between pixels and the number of examples that fit; a difference counts as large as its image."""
    height, width = images[0].shape[2:]
    step = 1
    while True:
        used = 0
        for k in range(count):
            used += 2 * sum(len(data_uri(image[k, :, ::step, ::step])) for image in images)
            if used > budget:
                break
        else:
            return step, count
        if k > 0 or min(height, width) // (2 * step) < SMALLEST:
            return step, max(1, k)
        step *= 2


def class_name(report: AuditRecord, index: int) -> str:
    """The name of a class, or its number if names are not known."""
    names = report.subject.get("class_names") or ()
    return str(names[index]) if 0 <= index < len(names) else f"class {index}"


def data_uri(image: np.ndarray) -> str:
    """(C, H, W) uint8 as a PNG data URI; neither 1 nor 3 channels: their mean as grey."""
    return png_uri(image.transpose(1, 2, 0) if len(image) == 3 else np.rint(image.mean(0)).astype(np.uint8))
