"""What the parts hand to each other: plain frozen dataclasses, hardly any behaviour."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from torch import Tensor, nn
from torchmetrics import Metric

#: ``(images (N, C, H, W) in [0, 1], labels (N,)) -> images`` of the same shape, dtype and range. One with the attribute
#: ``by_sample = True`` is called with a third argument, the :class:`Samples` of the batch.
Perturb = Callable[..., Tensor]
#: ``(model on images in [0, 1], **options) -> Perturb``; an attribute ``kind`` ("attack" unless given) says what it is.
PerturbationFactory = Callable[..., Perturb]
#: ``(num_units=U, num_classes=C, seed=S) -> Metric`` with ``update(responses (N, U), targets (N,))``; C counts the
#: classes that have samples, and the targets are their numbers in [0, C). With an attribute ``on_pairs`` it takes
#: ``update(clean (N, U), perturbed (N, U))`` instead. An attribute ``between_layers`` is a factory for all layers of
#: clean images at once: ``(num_units=[U_1, ...], num_classes=C, seed=S)`` with ``update([responses (N, U_1), ...])``.
MeasureFactory = Callable[..., Metric]


@dataclass(frozen=True)
class Subject:
    """A model and the images to audit it on.

    Args:
        model: takes images normalized by ``normalize`` and returns logits (N, K).
        loader: yields ``(images, labels)``; images (N, C, H, W) float in [0, 1] or uint8, labels (N,) in [0, K).
            It is iterated more than once and must yield the same samples in the same order each time.
        num_classes: K.
        normalize: per-channel ``(mean, std)`` that the model expects, or None if it takes images in [0, 1] as they are.
        name: what to call the model in a report.
        class_names: K names, or None.
        targets: the labels of the whole loader in its order, if known without reading the images.
        info: JSON-ready facts for the report (where weights and data come from).
        skipped: names of unreadable samples; the loader appends to it while it is read.
        read_image: reads an image file as the loader reads its samples: path -> (C, H, W), float32 in [0, 1]. It raises
            InputError for a file that is not there or cannot be read. None if this subject reads no files.
        read_pixels: the same without cropping and resizing: path -> (C, height, width) of the file.
        indices: the place of each sample of the loader in its data set, if known; the place in the loader otherwise.
        names: the name of each sample of the loader, if known: its path below the data folder.
        candidates: the classes that can be predicted, if not all K.
        draw: how many samples were to be chosen from the data, and the seed of the choice; None for all of them.
    """

    model: nn.Module
    loader: Iterable[Sequence[Tensor]]
    num_classes: int | None = None
    normalize: tuple[Sequence[float], Sequence[float]] | None = None
    name: str = "model"
    class_names: Sequence[str] | None = None
    targets: Tensor | None = None
    info: Mapping[str, Any] = field(default_factory=dict)
    skipped: Sequence[str] = ()
    read_image: Callable[[str], Tensor] | None = None
    read_pixels: Callable[[str], Tensor] | None = None
    indices: Sequence[int] | None = None
    names: Sequence[str] | None = None
    candidates: Sequence[int] | None = None
    draw: tuple[int, int] | None = None


@dataclass(frozen=True)
class Samples:
    """Which samples a batch holds.

    ``indices`` (N,) are their places in the data set, ``seed`` is that of the run, ``names`` (N,) are those of the
    subject, if it has any.
    """

    indices: Sequence[int]
    seed: int
    names: Sequence[str] | None = None


@dataclass(frozen=True)
class Perturbation:
    """A perturbation as asked for: a factory with its options, under the name that the report gives it.

    ``kind`` is "attack", "noise", "corruption" or "shift"; attacks take part in the worst-case accuracy.
    ``options`` are all options in force, defaults included, for the record. ``spec`` is the text that asks for it, if
    it is not the name.
    """

    name: str
    factory: PerturbationFactory
    options: Mapping[str, Any] = field(default_factory=dict)
    kind: str = "attack"
    spec: str = ""

    @property
    def threat(self) -> Mapping[str, Any]:
        """What the factory's ``threat(options)`` says: ``norm``, ``eps``, ``option``, ``steps``; empty without one."""
        threat = getattr(self.factory, "threat", None)
        return threat(self.options) if threat else {}


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
class Probe:
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
    probe: Probe | None = None
    between_layers: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    samples_digest: str | None = None
