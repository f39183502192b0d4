"""Compares all layers of two networks on the same images in one pass over the data."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import zip_longest

import numpy as np
import torch
from torch import Tensor, nn

from ..core.errors import InputError, SelplugError
from ..core.inputs import image_batch, to_unit_range
from ..core.measures.alignment import BlockStructure, block_structure
from ..core.measures.local import local
from ..core.measures.similarity import BLOCK, LinearCKA, Procrustes
from ..core.model.capture import Capture, find_layers, uncompiled
from ..core.model.layers import Layer
from ..core.model.settings import deterministic
from ..core.model.state import frozen, placed
from ..core.model.unit_range import UnitRangeModel
from ..core.types import STATE_BYTES, Progress, Subject
from ..core.words import plural

MEASURES = ("cka", "procrustes")


@dataclass(frozen=True)
class ComparedLayer:
    """A layer by its name, with the class of its module and its number of units."""

    name: str
    kind: str
    units: int


@dataclass(frozen=True)
class SimilarityResult:
    """Maps layer x layer of two networks a and b.

    ``maps``: (measure, rows, columns) -> array, such as ``("cka", "a", "b")`` -> (L_a, L_b). ``blocks``: "a" and "b" ->
    the blocks in the CKA map of this network. ``samples``: their number.
    """

    layers: Mapping[str, tuple[ComparedLayer, ...]]
    maps: Mapping[tuple[str, str, str], np.ndarray]
    blocks: Mapping[str, BlockStructure]
    samples: int

    def __repr__(self) -> str:
        sizes = " x ".join(f"{len(layers)} ({key})" for key, layers in self.layers.items())
        return f"SimilarityResult({sizes} layers, {len(self.maps)} maps, {self.samples} samples)"


def run_similarity(
    first: Subject,
    second: Subject,
    *,
    layers: Sequence[str] | None = None,
    second_layers: Sequence[str] | None = None,
    measures: Sequence[str] = ("cka",),
    estimator: str = "debiased",
    flatten: bool = False,
    block: int = BLOCK,
    device: torch.device | None = None,
    channels_last: bool = False,
    on_progress: Progress | None = None,
    state_bytes: int = STATE_BYTES,
) -> SimilarityResult:
    """Compares the responses of all layers of two networks to the same images; the networks are left unchanged.

    Args:
        first, second: their loaders must return the same samples in the same order, each prepared for its model. If
            both have the same loader, it is read once.
        layers, second_layers: globs over module names; None records every activation.
        measures: "cka" (within and between the networks) and "procrustes" (between them).
        estimator, block: see :class:`~selplug.core.measures.similarity.LinearCKA`.
        flatten: count every position of a map as a unit instead of taking their mean.
        state_bytes: the most memory for the covariances of "biased" and "procrustes".

    Raises:
        InputError: options are wrong, a model fails on the images, the loaders return different or too few samples, or
            the covariances would be too large.
        CaptureError: a model has nothing to record.
    """
    unknown = sorted(set(measures) - set(MEASURES))
    if unknown or not measures:
        raise InputError(f"expected measures of {', '.join(MEASURES)}, got {', '.join(unknown) or 'none'}")
    names = {"a": f"{first.name} (a)", "b": f"{second.name} (b)"}
    subjects, patterns = {"a": first, "b": second}, {"a": layers, "b": second_layers}
    models = {key: uncompiled(subject.model) for key, subject in subjects.items()}
    total = len(first.targets) if first.targets is not None else 0
    samples = 0
    with (
        torch.inference_mode(False),  # finding layers needs gradients
        torch.no_grad(),
        placed(models["a"], device) as place,
        placed(models["b"], place),
        deterministic(),
        frozen(models["a"]),
        frozen(models["b"]),
    ):
        cka, procrustes = local(LinearCKA(estimator, block), place), local(Procrustes(), place)
        found: dict[str, tuple[Layer, ...]] = {}
        for images in paired_batches(first, second):
            sets = {}
            for key, model in models.items():
                wrapped = UnitRangeModel(model, subjects[key].normalize, 0, channels_last)
                prepared = wrapped.prepare(images[key].to(place))
                with _blamed(names[key], prepared):
                    if key not in found:
                        found[key] = find_layers(model, prepared[:2], patterns[key])
                    sets[key] = _responses(model, prepared, found[key], flatten, names[key])
            if not samples:
                _check_size(sets, measures, estimator, state_bytes)
            if "cka" in measures:
                cka.update([*sets["a"], *sets["b"]])
            if "procrustes" in measures:
                procrustes.update(sets["a"], sets["b"])
            samples += len(images["a"])
            if on_progress:
                on_progress("comparing", samples, total)
        if not samples:
            raise InputError("the loaders returned no images; give data")
        if on_progress:  # singular values of wide layers are slow
            on_progress("computing", samples, total)
        maps: dict[tuple[str, str, str], np.ndarray] = {}
        blocks: dict[str, BlockStructure] = {}
        if "cka" in measures:
            maps, blocks = _parted(cka.compute().cpu(), len(found["a"]))
        if "procrustes" in measures:
            maps["procrustes", "a", "b"] = procrustes.compute().cpu().numpy()
    compared = {
        key: tuple(ComparedLayer(layer.name, layer.kind, layer.units) for layer in layers)
        for key, layers in found.items()
    }
    return SimilarityResult(compared, maps, blocks, samples)


def _parted(whole: Tensor, split: int) -> tuple[dict[tuple[str, str, str], np.ndarray], dict[str, BlockStructure]]:
    """Splits the map of all layers into maps between and within the networks; also returns the blocks within."""
    parts = {"a": slice(split), "b": slice(split, None)}
    pairs = (("a", "b"), ("a", "a"), ("b", "b"))
    maps = {("cka", rows, columns): whole[parts[rows], parts[columns]].numpy() for rows, columns in pairs}
    return maps, {key: block_structure(whole[part, part]) for key, part in parts.items()}


def paired_batches(first: Subject, second: Subject) -> Iterator[dict[str, Tensor]]:
    """Batches of images in [0, 1] for both models. InputError if labels show that the samples differ."""
    if first.loader is second.loader:
        for batch in first.loader:
            images = to_unit_range(image_batch(batch)[0])
            yield {"a": images, "b": images}
        return
    start = 0
    for one, other in zip_longest(first.loader, second.loader):
        (images, labels), (others, other_labels) = (
            image_batch(batch) if batch is not None else (torch.empty(0), torch.empty(0)) for batch in (one, other)
        )
        if not torch.equal(labels.cpu(), other_labels.cpu()):
            raise InputError(
                f"the models got different samples from sample {start} on: {first.name} and {second.name} need the "
                "same images in the same order; give both the same data, and turn off shuffling"
            )
        yield {"a": to_unit_range(images), "b": to_unit_range(others)}
        start += len(labels)


def _responses(model: nn.Module, prepared: Tensor, layers: Sequence[Layer], flatten: bool, name: str) -> list[Tensor]:
    with Capture(model, layers, flatten) as capture:
        model(prepared)
    responses = capture.responses
    finite = torch.isfinite(torch.stack([r.sum(dtype=torch.float64) for r in responses.values()]))
    if not finite.all():
        bad = [layer for layer, good in zip(responses, finite.tolist(), strict=True) if not good]
        raise InputError(
            f"{name}: responses are not finite in {len(bad)} of {plural(len(responses), 'layer')}, the first is "
            f"{bad[0]}; check the weights and the normalization"
        )
    return list(responses.values())


@contextmanager
def _blamed(name: str, images: Tensor) -> Iterator[None]:
    """Adds the name of the model to its errors."""
    try:
        yield
    except SelplugError:
        raise
    except (RuntimeError, ValueError, TypeError, IndexError, AssertionError, NotImplementedError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(f"{name} fails on images {tuple(images.shape)}: {reason}") from error


def _check_size(sets: Mapping[str, list[Tensor]], measures: Sequence[str], estimator: str, limit: int) -> None:
    units = {key: sum(r.shape[1] for r in responses) for key, responses in sets.items()}
    for measure, wanted, cells in (
        ("--measure procrustes", "procrustes" in measures, units["a"] * units["b"]),
        ("--estimator biased", "cka" in measures and estimator == "biased", (units["a"] + units["b"]) ** 2),
    ):
        if wanted and 8 * cells > limit:
            raise InputError(
                f"{measure} stores the covariances of {units['a']} and {units['b']} units, {8 * cells / 2**30:.1f} "
                f"GiB, but only {limit / 2**30:.1f} are allowed; choose fewer layers with --layers, omit --flatten, or "
                "use the debiased CKA, which needs no covariances"
            )
