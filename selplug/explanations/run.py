"""Attribution maps of single images, clean and adversarial, layer by layer."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..core.clean import CLEAN
from ..core.errors import InputError
from ..core.inputs import count_classes, image_batch, to_unit_range
from ..core.model.capture import find_layers, uncompiled
from ..core.model.layers import Layer
from ..core.model.settings import deterministic
from ..core.model.state import frozen, placed, seeded
from ..core.model.unit_range import UnitRangeModel
from ..core.perturb import batch_seed, run_perturbation
from ..core.types import Attribution, Perturbation, Progress, Subject
from .attribution import Explainer

ADVERSARIAL = "adversarial"
#: By default: the last layer of each of the last few resolutions.
DEFAULT_LAYERS = 3
#: Values of ``target`` other than a class number.
PREDICTED, TRUE = "predicted", "true"


@dataclass(frozen=True)
class Picture:
    """An image to explain: its name, (C, H, W) float32 in [0, 1], and its true class if known."""

    name: str
    image: Tensor
    label: int | None = None


@dataclass(frozen=True)
class Map:
    """One method at one layer (None: the input) of one image: ``values[condition]`` (h, w), float64.

    ``h`` and ``w`` are those of the layer; values are summed over channels or units.
    """

    method: str
    layer: str | None
    values: dict[str, np.ndarray] = field(repr=False)

    @property
    def similarity(self) -> float | None:
        """Cosine of the clean and the adversarial map, in [-1, 1]; None if one of them is zero."""
        clean, adversarial = (self.values[condition].ravel() for condition in (CLEAN, ADVERSARIAL))
        norms = float(np.linalg.norm(clean) * np.linalg.norm(adversarial))
        return float(clean @ adversarial) / norms if norms > 0 else None


@dataclass(frozen=True)
class ExplainedImage:
    """The results for one image. ``images[condition]`` (C, H, W) in [0, 1]; ``probabilities[condition]`` (K,).

    ``target`` is the class that the maps explain, the same for both conditions; ``attacked`` the one that the
    perturbation was told is the true one. ``l2`` and ``linf`` are the size of the perturbation in pixel units.
    ``as_saved`` is for one that was read from its files: its entry in ``explain.json``, whose sums and cosines another
    machine may round differently.
    """

    name: str
    label: int | None
    target: int
    attacked: int
    images: dict[str, np.ndarray] = field(repr=False)
    probabilities: dict[str, np.ndarray] = field(repr=False)
    l2: float
    linf: float
    maps: tuple[Map, ...] = field(repr=False)
    as_saved: Mapping[str, Any] | None = field(default=None, repr=False)

    def predicted(self, condition: str) -> int:
        """The likeliest class; files of the first weeks tell the probabilities of the first five alone."""
        return int(np.nanargmax(self.probabilities[condition]))


def run_explain(
    subject: Subject,
    pictures: Sequence[Picture],
    methods: Sequence[Attribution],
    perturbation: Perturbation,
    *,
    layers: Sequence[str] | None = None,
    target: int | str = PREDICTED,
    seed: int = 0,
    device: torch.device | None = None,
    channels_last: bool = False,
    on_progress: Progress | None = None,
) -> tuple[ExplainedImage, ...]:
    """Attribution maps of every image, clean and perturbed.

    Methods get the model as a function of images in [0, 1]. Every image is a separate batch with the seed of the first
    batch of an audit, so its numbers do not depend on other images. The label given to the perturbation is the true
    class, or the predicted class if the true one is unknown. The model is left unchanged.

    Args:
        subject: the model; only methods that must be fitted read its loader.
        layers: globs over module names; by default the last layer of each of the last three resolutions.
        target: a class number, ``"predicted"`` (on the clean image) or ``"true"``.

    Raises:
        InputError: images, labels, logits or the target are not what they have to be, or a method gives no map.
        CaptureError: a pattern matches no layer.
        PerturbationError: the perturbation broke its promise.
        PluginError: a method or the perturbation fails.
    """
    model = uncompiled(subject.model)
    with torch.inference_mode(False), placed(model, device) as place, deterministic(), frozen(model):
        images = [to_unit_range(picture.image[None]).to(place) for picture in pictures]
        known = torch.tensor([picture.label or 0 for picture in pictures])
        num_classes = count_classes(model, subject, images[0], known, channels_last)
        wrapped = UnitRangeModel(model, subject.normalize, num_classes, channels_last)
        targets = _targets(wrapped, pictures, images, target)
        chosen: list[tuple[Layer, nn.Module, tuple[int, ...]]] = []
        if any(method.takes_layer for method in methods):
            chosen = _choose(model, wrapped.prepare(images[0]), layers)
        prefix = getattr(model, "num_prefix_tokens", None)
        prefix_tokens = prefix if isinstance(prefix, int) else None
        explainers = []
        for method in methods:
            if on_progress:
                on_progress(f"{method.name}: preparing", 0, len(images))
            with seeded(batch_seed(seed, 0), place), torch.enable_grad():
                explainers.append(Explainer(method, wrapped, chosen, _Data(subject, place, method.name, on_progress)))
        attack = perturbation.build(wrapped)
        result = []
        for number, (picture, image, aim) in enumerate(zip(pictures, images, targets, strict=True)):
            if on_progress:
                on_progress(picture.name, number, len(images))
            attacked = picture.label if picture.label is not None else _predict(wrapped, image)
            perturbed = run_perturbation(
                wrapped,
                attack,
                image,
                torch.tensor([attacked], device=place),
                seed=batch_seed(seed, 0),
                name=perturbation.name,
            )
            shown = {CLEAN: image, ADVERSARIAL: perturbed.images}
            result.append(
                ExplainedImage(
                    name=picture.name,
                    label=picture.label,
                    target=aim,
                    attacked=attacked,
                    images={condition: pixels[0].cpu().numpy() for condition, pixels in shown.items()},
                    probabilities={condition: _probabilities(wrapped, pixels) for condition, pixels in shown.items()},
                    l2=float(perturbed.l2),
                    linf=float(perturbed.linf),
                    maps=_maps(explainers, shown, aim, prefix_tokens, batch_seed(seed, 0)),
                )
            )
        if on_progress:
            on_progress("done", len(images), len(images))
    return tuple(result)


class _Data:
    """The data for fitting a method: the subject's loader, in [0, 1] on the model's device; can be iterated again."""

    def __init__(self, subject: Subject, device: torch.device, name: str, on_progress: Progress | None) -> None:
        self.subject = subject
        self.device = device
        self.name = name
        self.on_progress = on_progress

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        done = 0
        for images, labels in map(image_batch, self.subject.loader):
            yield to_unit_range(images).to(self.device), labels.long().to(self.device)
            done += len(labels)
            if self.on_progress:
                total = done if self.subject.targets is None else len(self.subject.targets)
                self.on_progress(f"{self.name}: fitting", done, total)


def _maps(
    explainers: Sequence[Explainer], shown: Mapping[str, Tensor], target: int, prefix_tokens: int | None, seed: int
) -> tuple[Map, ...]:
    values: dict[tuple[str, str | None], dict[str, np.ndarray]] = {}
    for condition, pixels in shown.items():
        for explainer in explainers:
            # Methods that sample must draw the same numbers for both conditions.
            with seeded(seed, pixels.device), torch.enable_grad():
                found = explainer.maps(pixels, target, prefix_tokens, condition)
            for layer, each in zip(explainer.names, found, strict=True):
                values.setdefault((explainer.method.name, layer), {})[condition] = each.numpy()
    return tuple(Map(method, layer, both) for (method, layer), both in values.items())


def _probabilities(model: nn.Module, images: Tensor) -> np.ndarray:
    """(K,) for one image."""
    with torch.no_grad():
        logits = model(images)
    if not torch.isfinite(logits).all():
        raise InputError("the model returned logits that are not finite; check the weights and the normalization")
    return logits[0].double().softmax(0).cpu().numpy()


def _predict(model: nn.Module, image: Tensor) -> int:
    return int(_probabilities(model, image).argmax())


def _targets(
    model: UnitRangeModel, pictures: Sequence[Picture], images: Sequence[Tensor], target: int | str
) -> list[int]:
    if target == PREDICTED:
        return [_predict(model, image) for image in images]
    if target == TRUE:
        unknown = [picture.name for picture in pictures if picture.label is None]
        if unknown:
            raise InputError(
                f"the true class of {unknown[0]} is unknown: expected images in folders with the names of their "
                "classes, and the class names from the model's data (--data-dir, --class-map); or give a class"
            )
        return [picture.label for picture in pictures if picture.label is not None]
    if not isinstance(target, int) or not 0 <= target < model.num_classes:
        raise InputError(f"expected a class from 0 to {model.num_classes - 1}, got {target!r}")
    return [target] * len(pictures)


def _choose(
    model: nn.Module, image: Tensor, patterns: Sequence[str] | None
) -> list[tuple[Layer, nn.Module, tuple[int, ...]]]:
    """Layers with their modules and the shapes of their outputs for one image, from input to output.

    A module that runs several times is one layer: Captum's hooks use its last call.
    """
    modules = dict(model.named_modules())
    found = {layer.module: layer for layer in find_layers(model, image, patterns)}
    shapes: dict[str, tuple[int, ...]] = {}

    def keep(name: str) -> Callable[[nn.Module, object, Tensor], None]:
        def hook(module: nn.Module, inputs: object, output: Tensor) -> None:
            shapes[name] = tuple(output.shape)

        return hook

    with ExitStack() as stack, torch.no_grad():
        for name in found:
            stack.callback(modules[name].register_forward_hook(keep(name)).remove)
        model(image)
    if patterns is None:
        last = {_resolution(layer, shapes[name]): name for name, layer in found.items()}
        spread = [name for resolution, name in last.items() if max(resolution, default=1) > 1]
        names = sorted(spread or found, key=list(found).index)[-DEFAULT_LAYERS:]
    else:
        names = list(found)
    return [(found[name], modules[name], shapes[name]) for name in names]


def _resolution(layer: Layer, shape: tuple[int, ...]) -> tuple[int, ...]:
    units = {axis % len(shape) for axis in layer.axes}
    return tuple(size for axis, size in enumerate(shape) if axis and axis not in units)
