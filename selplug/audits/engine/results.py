from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ...core.clean import CLEAN
from ...core.errors import InputError
from ...report.style import number


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

    ``kind`` is "clean", or that of the perturbation: "attack", "noise", "corruption", "shift". ``options`` are all that
    were in force, defaults and what the perturbation told after the run included; ``threat`` is the ball of an attack
    (``norm``, ``eps``, ``option``, ``steps``). Both are empty where there is nothing to tell, and JSON-ready.
    """

    name: str
    spec: str
    accuracy: float
    accuracy_ci95: tuple[float, float]
    samples: int
    l2_mean: float | None
    linf_max: float | None
    targeted: TargetSuccess | None = None
    kind: str = field(kw_only=True)
    options: Mapping[str, Any] = field(default_factory=dict, hash=False, kw_only=True)
    threat: Mapping[str, Any] = field(default_factory=dict, hash=False, kw_only=True)


def clean_of(conditions: Sequence[Condition]) -> Condition:
    """The condition of clean images: the one whose kind says so, in an audit always the first.

    Raises:
        InputError: there is none, as among some conditions chosen from a report.
    """
    for condition in conditions:
        if condition.kind == CLEAN:
            return condition
    names = ", ".join(condition.name for condition in conditions) or "none at all"
    raise InputError(f"expected a condition of the kind {CLEAN!r} among the conditions, got {names}")


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

    def sections(self, condition: str | Condition, difference: bool = False) -> Sections:
        """All that was measured under a condition, or of its difference from clean; empty if nothing was."""
        name = condition.name if isinstance(condition, Condition) else condition
        found: Sections = (self.differences if difference else self.conditions).get(name, {})
        return found

    def has(self, condition: str | Condition, section: str, key: str, difference: bool = False) -> bool:
        """Whether a value was measured, be it undefined."""
        return key in self.sections(condition, difference).get(section, ())

    def value(self, condition: str | Condition, section: str, key: str, difference: bool = False) -> float | None:
        """One number: finite, or None.

        None where it was not measured, where it is undefined (None, NaN, infinite), and where it is no number (a flag,
        a text); :meth:`has` tells the first from the others. A whole number stays an int.

        Args:
            condition: one of the report, or its name.
            section: "selectivity", "dimensionality", "spectrum", or the name of another measure.
            key: the name of the value in that section.
            difference: of the difference perturbed - clean, instead of the responses.
        """
        sections = self.sections(condition, difference)
        return number(sections[section].get(key)) if section in sections else None


@dataclass(frozen=True)
class Examples:
    """A few images to look at: ``images[condition]`` (k, C, H, W) uint8, ``predictions[condition]`` (k,)."""

    labels: tuple[int, ...] = ()
    images: Mapping[str, np.ndarray] = field(default_factory=dict)
    predictions: Mapping[str, tuple[int, ...]] = field(default_factory=dict)


@dataclass(frozen=True)
class AuditResult:
    """All that one audit measured. ``samples_per_class`` (K,); ``probe`` is None where no attack ran.

    ``samples_digest`` is a SHA-256 over the labels of all samples in order and, where the subject tells them, their
    names, else their places in the data set: two audits with the same one are of the same samples.

    ``between_layers``: measure -> value name -> JSON-ready value over all layers of clean images at once, such as a map
    layer x layer as a list of L rows.
    """

    conditions: tuple[Condition, ...]
    worst_case: WorstCase | None
    layers: tuple[LayerResult, ...]
    samples_per_class: tuple[int, ...]
    examples: Examples = field(default_factory=Examples)
    probe: AttackProbe | None = None
    between_layers: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    samples_digest: str | None = None

    @property
    def clean(self) -> Condition:
        """The condition of clean images, see :func:`clean_of`."""
        return clean_of(self.conditions)

    def blocks(self, measure: str) -> Sequence[Sequence[int]]:
        """Blocks of layers that are alike on clean images, each the first and the last place of a layer in it."""
        structure = self.between_layers[measure].get("block_structure") if measure in self.between_layers else None
        return (structure or {}).get("blocks") or ()
