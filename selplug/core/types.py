"""What the parts hand to each other: plain frozen dataclasses, hardly any behaviour."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn
from torchmetrics import Metric


@dataclass(frozen=True)
class Attribution:
    """A method as asked for.

    Args:
        name: what to call it; the spec that it came from.
        factory: a class as Captum's are: ``factory(forward_func)`` or ``factory(forward_func, layer)``, with
            ``attribute(inputs, target=...)`` and, if it has to see labelled data first, ``fit(loader)``. One that has
            ``fit`` is made with a list of layers where it knows them, and then gives a list.
        init: options of the constructor.
        attribute: options of ``attribute``.
    """

    name: str
    factory: Any
    init: Mapping[str, Any] = field(default_factory=dict)
    attribute: Mapping[str, Any] = field(default_factory=dict)

    @property
    def takes_layer(self) -> bool:
        """Whether it explains a layer, or the input alone."""
        return "layer" in inspect.signature(self.factory).parameters

    @property
    def needs_fit(self) -> bool:
        """Whether it has to see labelled data first."""
        return callable(getattr(self.factory, "fit", None))


#: Sums of all conditions are kept at once up to this many bytes; beyond it the data is read in several passes.
STATE_BYTES = 2 * 2**30


#: ``(condition, samples done, samples in all)``, samples counted once per condition.
Progress = Callable[[str, int, int], None]


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

    def described(self, num_classes: int) -> Mapping[str, Any]:
        """The options as the factory's ``describe(options, num_classes)`` tells them; as they are without one."""
        describe: Callable[..., Mapping[str, Any]] | None = getattr(self.factory, "describe", None)
        return describe(self.options, num_classes) if describe else self.options
