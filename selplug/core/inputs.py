"""Checks the images, labels and logits of an audit before any attack runs."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from .errors import InputError
from .model.unit_range import UnitRangeModel
from .perturb import check_images
from .types import Subject


def to_unit_range(images: Tensor) -> Tensor:
    """Images of a loader as float32 in [0, 1]; uint8 is divided by 255.

    Raises:
        InputError: the images are not (N, C, H, W), or outside [0, 1].
    """
    if images.dtype == torch.uint8:
        images = images.float() / 255
    images = images.float() if images.is_floating_point() else images
    check_images(images)
    return images


def image_batch(batch: Any) -> tuple[Tensor, Tensor]:
    if not (isinstance(batch, (tuple, list)) and len(batch) >= 2 and all(isinstance(x, Tensor) for x in batch[:2])):
        raise InputError(f"expected a loader of (images, labels), got batches of {type(batch).__name__}")
    if len(batch[0]) != len(batch[1]) or batch[1].ndim != 1:
        raise InputError(
            f"expected labels (N,)=({len(batch[0])},) for images {tuple(batch[0].shape)}, got {tuple(batch[1].shape)}"
        )
    return batch[0], batch[1]


def count_classes(
    model: torch.nn.Module, subject: Subject, images: Tensor, targets: Tensor, channels_last: bool
) -> int:
    probe = UnitRangeModel(model, subject.normalize, 0, channels_last)
    with torch.no_grad():
        logits = model(probe.prepare(images))
    if not isinstance(logits, Tensor) or logits.ndim != 2 or len(logits) != len(images):
        came = f"a tensor {tuple(logits.shape)}" if isinstance(logits, Tensor) else type(logits).__name__
        raise InputError(f"expected a classifier that returns logits (N, K) with N={len(images)}, got {came}")
    num_classes = logits.shape[1]
    if subject.num_classes not in (None, num_classes):
        raise InputError(f"the model returns {num_classes} logits, but num_classes is {subject.num_classes}")
    low, high = int(targets.min()), int(targets.max())
    if not 0 <= low <= high < num_classes:
        raise InputError(f"expected labels in [0, {num_classes}), the number of logits, got {low} to {high}")
    return num_classes
