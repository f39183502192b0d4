from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np


@dataclass(frozen=True)
class TargetSuccess:
    """The share of samples that a targeted attack drove into the class it aimed at, with its 95 % Wilson interval.

    ``samples`` are those whose label is another class; None for both numbers where there are none.
    """

    success: float | None
    success_ci95: tuple[float, float] | None
    samples: int


@dataclass(frozen=True)
class Condition:
    """One way of showing the images: clean, or under one perturbation.

    ``accuracy`` in [0, 1] with its 95 % Wilson interval; ``l2_mean`` and ``linf_max`` are the sizes really applied, in
    units of [0, 1] pixels, None for images of their own that no clean ones belong to. ``targeted`` is None unless the
    attack aimed at classes.
    """

    name: str
    spec: str
    accuracy: float
    accuracy_ci95: tuple[float, float]
    samples: int
    l2_mean: float | None
    linf_max: float | None
    targeted: TargetSuccess | None = None


@dataclass(frozen=True)
class Step:
    """An attack that ran on the survivors of those before it: on ``samples``, of which ``survived`` stayed right."""

    name: str
    samples: int
    survived: int


@dataclass(frozen=True)
class WorstCase:
    """Accuracy where a sample counts only if it is right under all of ``conditions`` (clean and every attack).

    ``steps`` are those of them that ran on survivors only, in order. With a ``norm`` and an ``eps``, in pixel units,
    only images in that ball around the clean one count.
    """

    accuracy: float
    accuracy_ci95: tuple[float, float]
    samples: int
    conditions: tuple[str, ...]
    norm: str | None = None
    eps: float | None = None
    steps: tuple[Step, ...] = ()


@dataclass(frozen=True)
class AttackProbe:
    """What the first batch says on whether attacks can be trusted (arXiv 1902.06705). ``samples`` of the batch.

    ``zero_gradient`` is the share of samples where the gradient of the cross-entropy with respect to the image is 0 in
    every value. ``randomized``: the same images gave other logits the second time. ``probabilities``: the outputs are
    not negative and sum to 1. ``noise`` holds, by attack with a ball, how many of ``samples`` are right under random
    noise of the ball's size and under the attack itself.
    """

    samples: int
    zero_gradient: float
    randomized: bool
    probabilities: bool
    noise: Mapping[str, tuple[int, int]] = field(default_factory=dict)


#: section ("selectivity", "dimensionality", "spectrum", a measure's name) -> value name -> JSON-ready number
Sections = Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True)
class LayerResult:
    """What was measured of one layer, per condition and per difference clean -> perturbed.

    ``arrays`` holds the values that are no single number: ``(condition, value name) -> array``, such as the index of
    every unit (U,) or the eigenvalues (K,); those of a difference stand under ``"difference:" + condition``.
    ``dead_units`` are those under clean images, None where class selectivity was not measured.
    """

    name: str
    kind: str
    units: int
    dead_units: int | None
    conditions: Mapping[str, Sections]
    differences: Mapping[str, Sections]
    rectified: bool = False
    arrays: Mapping[tuple[str, str], np.ndarray] = field(default_factory=dict)

    def __repr__(self) -> str:
        return f"LayerResult({self.name!r}, {self.kind}, {self.units} units, {len(self.conditions)} conditions)"


@dataclass(frozen=True)
class Examples:
    """A few images to look at: ``images[condition]`` (k, C, H, W) uint8, ``predictions[condition]`` (k,)."""

    labels: tuple[int, ...] = ()
    images: Mapping[str, np.ndarray] = field(default_factory=dict, repr=False)
    predictions: Mapping[str, tuple[int, ...]] = field(default_factory=dict, repr=False)


@dataclass(frozen=True)
class AuditResult:
    """All that one audit measured. ``samples_per_class`` (K,); ``probe`` is None where no attack ran.

    ``samples_digest`` is a SHA-256 over the labels of all samples in order and, where the subject tells them, their
    names, else their places in the data set: two audits with the same one are of the same samples.

    ``facts`` is what perturbations with an attribute ``facts`` say of themselves after the run, JSON-ready, by name.
    ``between_layers``: measure -> value name -> JSON-ready value over all layers of clean images at once, such as a map
    layer x layer as a list of L rows.
    """

    conditions: tuple[Condition, ...]
    worst_case: WorstCase | None
    layers: tuple[LayerResult, ...]
    samples_per_class: tuple[int, ...]
    examples: Examples = field(default_factory=Examples)
    facts: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    probe: AttackProbe | None = None
    between_layers: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    samples_digest: str | None = None

    def __repr__(self) -> str:
        samples = sum(self.samples_per_class)
        return f"AuditResult({len(self.conditions)} conditions, {len(self.layers)} layers, {samples} samples)"
