"""Accuracy and exponent over the strengths of a perturbation, and whether they go together monotonically."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..audits.engine.results import Condition, LayerResult, clean_of
from ..audits.facts.curves import curves
from ..report.style import number
from .monotonic import loss_of_errors, monotonic_loss
from .ranks import spearman

#: Strengths of a sweep, no perturbation among them, below which its shape is not judged.
MIN_STRENGTHS = 4
#: The range of a sweep's exponents, and of its accuracies, in standard errors, below which its shape is not judged.
WIDE = 8.0


@dataclass(frozen=True)
class Point:
    """One strength of a sweep; ``exponent`` is that of the last hidden layer under it. Errors are standard errors."""

    strength: float
    condition: str
    accuracy: float
    exponent: float | None
    accuracy_error: float | None = None
    exponent_error: float | None = None


@dataclass(frozen=True)
class Sweep:
    """A perturbation at several strengths, the clean images first. ``kind``: "noise", "fgsm" or "attack".

    ``loss`` is :func:`~selplug.comparisons.monotonic.monotonic_loss` of accuracy over exponent, ``rho`` their rank
    correlation; None with fewer than :data:`MIN_STRENGTHS` points that have both. ``loss_of_errors`` is the loss that
    errors alone would give a monotonic curve; ``unclear`` says why the shape cannot be judged, empty if it can.
    """

    name: str
    option: str
    kind: str
    points: tuple[Point, ...]
    loss: float | None
    rho: float | None
    loss_of_errors: float | None = None
    unclear: str = ""


def sweeps_of(conditions: Sequence[Condition], last: LayerResult | None) -> tuple[Sweep, ...]:
    """The sweeps among conditions, with the exponents of the last hidden layer."""
    clean = clean_of(conditions)
    found = []
    for curve in curves(conditions):
        perturbed = [(value, condition) for value, condition in curve.points if condition is not clean]
        # Of size 0 are the clean images; no other option says as much.
        sized = curve.option in ("eps", "std") and perturbed[0][0] > 0
        pairs = [(0.0, clean), *perturbed] if sized else perturbed
        points = tuple(_point(value, condition, last) for value, condition in pairs)
        found.append(judged_sweep(curve.name, curve.option, perturbed[0][1].kind, points))
    return tuple(found)


def judged_sweep(name: str, option: str, kind: str, points: tuple[Point, ...]) -> Sweep:
    """A sweep with its shape, as far as that can be judged."""
    loss = rho = errors = None
    known = [point for point in points if point.exponent is not None]
    unclear = f"{len(known)} strengths with an exponent; at least {MIN_STRENGTHS} are needed"
    if len(known) >= MIN_STRENGTHS:
        x, y, x_errors, y_errors = (
            np.array([getattr(point, key) for point in known], float)
            for key in ("exponent", "accuracy", "exponent_error", "accuracy_error")
        )
        loss, rho = number(monotonic_loss(x, y)), number(spearman(x, y))
        unclear = _unclear("exponents", x, x_errors) or _unclear("accuracies", y, y_errors)
        errors = None if unclear else loss_of_errors(x, y, x_errors, y_errors)
    kind = "fgsm" if name.partition(":")[0] == "fgsm" else kind
    return Sweep(name, option, kind, points, loss, rho, errors, unclear)


def _unclear(what: str, values: np.ndarray, errors: np.ndarray) -> str:
    """Why values are too close to each other, beside their errors, to tell an order; empty if they are not."""
    if not np.isfinite(errors).all():
        return f"the {what} have no standard errors"
    size = float(np.sqrt((errors**2).mean()))
    if float(np.ptp(values)) < WIDE * size or not np.ptp(values):
        return f"the {what} range over less than {WIDE:g} standard errors"
    return ""


def _point(strength: float, condition: Condition, layer: LayerResult | None) -> Point:
    accuracy = float(condition.accuracy)
    return Point(
        strength,
        condition.name,
        accuracy,
        layer.value(condition, "spectrum", "exponent") if layer else None,
        number(math.sqrt(max(0.0, accuracy * (1 - accuracy)) / condition.samples)) if condition.samples else None,
        layer.value(condition, "spectrum", "stderr") if layer else None,
    )
