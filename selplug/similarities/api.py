"""``selplug.similarity``: two networks compared layer by layer, progress shown, the result with its provenance."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from ..core.errors import InputError
from ..core.measures.similarity import BLOCK
from ..core.types import Subject
from ..run.device import place_of, resolve_device
from ..run.environment import Environment
from ..run.progress import progress_bar
from .report import SimilarityReport
from .run import run_similarity

#: What says how images are made ready, beside the normalization, which is a model's own.
_PREPARED = ("input_size", "interpolation", "crop_pct", "crop_mode", "data")


def similarity(
    model_a: nn.Module,
    model_b: nn.Module,
    loader: Iterable[Sequence[Tensor]],
    layers: Sequence[str] | None = None,
    layers_b: Sequence[str] | None = None,
    normalize: tuple[Sequence[float], Sequence[float]] | None = None,
    *,
    measures: Sequence[str] = ("cka",),
    estimator: str = "debiased",
    flatten: bool = False,
    block: int = BLOCK,
    device: str | torch.device | None = None,
    channels_last: bool = False,
    names: tuple[str, str] = ("a", "b"),
    progress: bool = True,
) -> SimilarityReport:
    """Compares all layers of two networks, or of two checkpoints of one, on the same images.

    Args:
        model_a, model_b: take images (N, C, H, W) normalized by ``normalize``. Left as they were.
        loader: yields ``(images, labels)``, images in [0, 1] (or uint8); iterated once.
        layers, layers_b: globs over module names; None records every activation, ``layers_b`` None is ``layers``.
        normalize: per-channel ``(mean, std)`` of both models. For two ways of making images ready see
            :func:`similarity_of_subjects`.
        measures: "cka", and "procrustes".
        estimator: of CKA, "debiased" or "biased".
        flatten: every position of a map counts as a unit, instead of their mean.
        block: samples per block of the debiased estimator.
        device: where to run; None for where ``model_a`` is. The models go back afterwards.
        channels_last: memory format of the images.
        names: what to call the models.
        progress: a progress bar on the terminal's error stream.

    Raises:
        SelplugError: bad input, in one of its children; the message says what to do.
    """
    return similarity_of_subjects(
        Subject(model_a, loader, normalize=normalize, name=names[0]),
        Subject(model_b, loader, normalize=normalize, name=names[1]),
        layers,
        layers_b,
        measures=measures,
        estimator=estimator,
        flatten=flatten,
        block=block,
        device=device,
        channels_last=channels_last,
        progress=progress,
    )


def similarity_of_subjects(
    first: Subject,
    second: Subject,
    layers: Sequence[str] | None = None,
    layers_b: Sequence[str] | None = None,
    *,
    measures: Sequence[str] = ("cka",),
    estimator: str = "debiased",
    flatten: bool = False,
    block: int = BLOCK,
    device: str | torch.device | None = None,
    channels_last: bool = False,
    progress: bool = True,
    settings: Mapping[str, Any] | None = None,
) -> SimilarityReport:
    """:func:`similarity` of two subjects; images that both make ready alike are read once."""
    check_same_data(first, second)
    alike = all(key in first.info and first.info[key] == second.info.get(key) for key in _PREPARED)
    if alike:
        second = replace(second, loader=first.loader)
    place = resolve_device(device)
    environment = Environment()
    with progress_bar(progress) as on_progress:
        result = run_similarity(
            first,
            second,
            layers=layers,
            second_layers=layers if layers_b is None else layers_b,
            measures=measures,
            estimator=estimator,
            flatten=flatten,
            block=block,
            device=place,
            channels_last=channels_last,
            on_progress=on_progress,
        )
    place = place_of(first.model, place)
    return SimilarityReport(
        subjects={key: _facts(subject) for key, subject in (("a", first), ("b", second))},
        settings={
            "measures": list(measures),
            "estimator": estimator,
            "block": block,
            "responses": "every position" if flatten else "mean over positions",
            "layers": list(layers) if layers else None,
            "layers_b": list(layers_b) if layers_b else None,
            "batch_size": getattr(first.loader, "batch_size", None),
            "device": place.type,
            "channels_last": channels_last,
            **(settings or {}),
        },
        environment=environment(place),
        result=result,
    )


def check_same_data(first: Subject, second: Subject) -> None:
    """Raises InputError if the subjects tell of different data or classes: their samples would not be pairs."""
    data = [subject.info.get("data") or {} for subject in (first, second)]
    for key in ("source", "dataset", "split", "total"):
        if key in data[0] and key in data[1] and data[0][key] != data[1][key]:
            raise InputError(
                f"both models have to see the same images, but {key} is {data[0][key]} for {first.name} (a) and "
                f"{data[1][key]} for {second.name} (b); say it for both, with --data-dir, --dataset and --split"
            )
    names = [list(subject.class_names or ()) for subject in (first, second)]
    if all(names) and names[0] != names[1]:
        raise InputError(
            f"both models have to see the same images, but the data of {first.name} (a) has the classes "
            f"{', '.join(names[0][:5])} ... ({len(names[0])}) and that of {second.name} (b) {', '.join(names[1][:5])} "
            f"... ({len(names[1])}); give one --data-dir for both"
        )


def _facts(subject: Subject) -> dict[str, Any]:
    return {
        "model": subject.name,
        "parameters": sum(parameter.numel() for parameter in subject.model.parameters()),
        "mean": list(subject.normalize[0]) if subject.normalize else None,
        "std": list(subject.normalize[1]) if subject.normalize else None,
        **subject.info,
        "skipped": sorted(set(subject.skipped)),
    }
