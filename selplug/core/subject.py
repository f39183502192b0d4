from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor, nn


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
