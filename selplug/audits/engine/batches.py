from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping

import torch
from torch import Tensor

from ...core.errors import InputError
from ...core.inputs import image_batch, to_unit_range
from ...core.model.unit_range import UnitRangeModel
from ...core.plugins.measure import Measure
from ...core.types import Subject


def survey(subject: Subject, measures: Mapping[str, Measure]) -> Tensor:
    """The labels of the whole loader (N,), read from it where they are not known beforehand."""
    targets = subject.targets
    if targets is None:
        # Also checks every image before any time goes into attacks.
        batches = [(to_unit_range(images), labels)[1] for images, labels in map(image_batch, subject.loader)]
        targets = torch.cat(batches) if batches else torch.empty(0, dtype=torch.long)
    if len(targets) < 2:
        raise InputError(f"an audit needs at least two images, got {len(targets)}; give more data")
    if targets.ndim != 1 or targets.is_floating_point():
        raise InputError(f"expected integer labels (N,), got {targets.dtype} of shape {tuple(targets.shape)}")
    for what, values in (("an index", subject.indices), ("a name", subject.names)):
        if values is not None and len(values) != len(targets):
            raise InputError(f"expected {what} per sample, ({len(targets)},), got ({len(values)},)")
    present = len(set(targets.tolist()))
    for name, measure in measures.items():
        if len(targets) < measure.min_samples:
            raise InputError(f"{name} needs at least {measure.min_samples} images, got {len(targets)}; give more data")
        if present < measure.min_classes:
            raise InputError(f"{name} needs images of at least {measure.min_classes} classes, got {present}")
    return targets.long().cpu()


def batches(subject: Subject, targets: Tensor, device: torch.device) -> Iterator[tuple[slice, Tensor, Tensor]]:
    """The samples of each batch, its images in [0, 1] and its labels (N,), both on ``device``.

    Raises:
        InputError: the loader gives others than those with the labels ``targets``.
    """
    start = 0
    for images, labels in map(image_batch, subject.loader):
        if not torch.equal(labels.cpu().long(), targets[start : start + len(labels)]):
            raise InputError(
                "the loader gave other samples than before; it has to give the same ones in the same order each "
                "time: turn shuffling off"
            )
        yield slice(start, start + len(labels)), to_unit_range(images).to(device), labels.long().to(device)
        start += len(labels)
    if start != len(targets):
        raise InputError(f"the loader gave {start} samples, but {len(targets)} were announced")


def finite_logits(model: UnitRangeModel, images: Tensor, amp: torch.dtype | None, name: str, where: slice) -> Tensor:
    """Logits (N, K) without gradients, under autocast to ``amp`` if that is given.

    Raises:
        InputError: some are not finite; the message tells the condition ``name`` and the samples ``where``.
    """
    with torch.no_grad(), torch.autocast(images.device.type, dtype=amp, enabled=amp is not None):
        logits: Tensor = model(images)
    if not torch.isfinite(logits).all():
        bad = int((~torch.isfinite(logits)).any(1).sum())
        raise InputError(
            f"{name}: the model gave logits that are not finite for {bad} of the samples {where.start} to "
            f"{where.stop - 1}; check the weights, the normalization, or leave out --amp"
        )
    return logits


def digest(targets: Tensor, subject: Subject) -> str:
    """SHA-256 over the labels of all samples and their names, or places: what ``AuditResult.samples_digest`` says."""
    which = subject.indices if subject.names is None else subject.names
    text = json.dumps([targets.tolist(), None if which is None else list(which)])
    return hashlib.sha256(text.encode()).hexdigest()
