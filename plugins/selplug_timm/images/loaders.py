"""Loaders over a source: images in [0, 1] in one fixed order, bad samples named, never replaced."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from timm.data.transforms_factory import create_transform
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from selplug.core.draw import quotas
from selplug.core.errors import InputError

from ..paths import listed
from .source import Source


class Bad(NamedTuple):
    """A sample that cannot be read: its number in the data, its name, and why."""

    number: int
    name: str
    reason: str


class Batch(NamedTuple):
    """``images`` (n, C, H, W) uint8 and ``labels`` (n,), of ``indices``; without those in ``bad``."""

    images: Tensor
    labels: list[Any]
    indices: list[int]
    bad: list[Bad]


def eval_transform(config: Mapping[str, Any]) -> Any:
    """timm's own evaluation transform up to uint8 (C, H, W), without normalization.

    Args:
        config: of :func:`selplug_timm.models.model.data_config`; the mean colors the border in crop mode "border".
    """
    return create_transform(
        config["input_size"],
        is_training=False,
        interpolation=config["interpolation"],
        mean=config["mean"],
        std=config["std"],
        crop_pct=config["crop_pct"],
        crop_mode=config["crop_mode"],
        normalize=False,
    )


class Samples(Dataset[Any]):
    """Chosen samples of a source: position -> (index, image uint8 (C, H, W) or Bad, label).

    A sample that cannot be read is given as a value, not raised, so that it comes out of a worker process as it is.
    """

    def __init__(self, source: Source, indices: np.ndarray, transform: Any) -> None:
        self.source = source
        self.indices = indices
        self.transform = transform

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, position: int) -> tuple[int, Tensor | Bad, Any]:
        index = int(self.indices[position])
        try:
            image, label = self.source.read(index)
        except MemoryError:
            raise
        except Exception as error:  # decoders of a dozen formats fail in ways of their own on broken bytes
            reason = str(error) or type(error).__name__
            if "cannot identify image file" in reason:  # the rest of that message is an address in memory
                reason = "not an image"
            return index, Bad(index, self.source.name(index), reason), None
        return index, self.transform(image), label


def collate(items: Sequence[tuple[int, Tensor | Bad, Any]]) -> Batch:
    """Good samples stacked, bad ones beside them."""
    good = [(index, image, label) for index, image, label in items if not isinstance(image, Bad)]
    images = torch.stack([image for _, image, _ in good]) if good else torch.empty(0, dtype=torch.uint8)
    bad = [image for _, image, _ in items if isinstance(image, Bad)]
    return Batch(images, [label for _, _, label in good], [index for index, _, _ in good], bad)


class ImageLoader:
    """Yields ``(images, labels)``: (N, C, H, W) float32 in [0, 1] and (N,) int64, the same each time it is iterated.

    Args:
        samples: what to read.
        batch_size: N; a batch with bad samples is smaller by them.
        workers: processes that read, 0 for this one.
        num_classes: K; labels must lie in [0, K).
        skip_bad: leave samples out that cannot be read, instead of an error.
        skipped: gets the name of each sample left out, once.

    Raises:
        InputError: while it is iterated, for a sample that cannot be read or a label outside of [0, K).
    """

    def __init__(
        self,
        samples: Samples,
        *,
        batch_size: int,
        workers: int,
        num_classes: int,
        skip_bad: bool,
        skipped: list[str],
    ) -> None:
        self.samples = samples
        self.batch_size = batch_size
        self.workers = workers
        self.num_classes = num_classes
        self.skip_bad = skip_bad
        self.skipped = skipped
        self._counted: set[int] = set()

    def __len__(self) -> int:
        return math.ceil(len(self.samples) / self.batch_size)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        source = self.samples.source
        try:
            for batch in _read(self.samples, collate, self.batch_size, self.workers):
                for bad in batch.bad:
                    self._leave_out(bad)
                if batch.labels:
                    for index, label in zip(batch.indices, batch.labels, strict=True):
                        if outside(label, self.num_classes):
                            raise bad_label(label, self.num_classes, source.name(index))
                    yield to_unit_range(batch.images), torch.tensor(batch.labels, dtype=torch.int64)
        finally:
            source.release()

    def _leave_out(self, bad: Bad) -> None:
        if not self.skip_bad:
            raise InputError(
                f"sample {bad.number} cannot be read: {bad.name}: {bad.reason}; mend or remove it, or leave such "
                "samples out with --skip-bad"
            )
        if bad.number not in self._counted:
            self._counted.add(bad.number)
            self.skipped.append(bad.name)


class StreamLoader:
    """The same for data that comes in an order of its own; with ``num_samples`` the first of each class, as they come.

    How many are taken of a class is shared equally among all K, so a class with too few is an error. timm's readers of
    streams leave out what they cannot read with a line in the log alone; so a pass that ends with fewer samples than
    the data declares is an error too, or with ``skip_bad`` counted in ``skipped``.

    Raises:
        InputError: while it is iterated: a label outside of [0, K), a class with too few samples, samples
            that were lost, a failure of the reader.
    """

    def __init__(
        self,
        source: Source,
        transform: Any,
        *,
        batch_size: int,
        workers: int,
        num_classes: int,
        num_samples: int | None,
        seed: int,
        skip_bad: bool,
        skipped: list[str],
    ) -> None:
        self.dataset = source.dataset
        self.dataset.transform = transform
        if hasattr(self.dataset, "set_loader_cfg"):
            self.dataset.set_loader_cfg(num_workers=workers)
        self.batch_size = batch_size
        self.workers = workers
        self.num_classes = num_classes
        self.skip_bad = skip_bad
        self.skipped = skipped
        self.declared = len(source)
        self.quota: np.ndarray | None = None
        if num_samples is not None:
            # one more for some classes, by the seed; no class is known to be short of samples yet
            self.quota = quotas(np.full(num_classes, num_samples), num_samples, seed)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        left = None if self.quota is None else self.quota.copy()
        images: list[Tensor] = []
        labels: list[int] = []
        seen = 0
        for pairs in _read(self.dataset, list, self.batch_size, self.workers):
            seen += len(pairs)
            for image, label in pairs:
                if outside(label, self.num_classes):
                    raise bad_label(label, self.num_classes, "a sample of the stream")
                if left is not None:
                    if left[int(label)] == 0:
                        continue
                    left[int(label)] -= 1
                images.append(image)
                labels.append(int(label))
                if len(labels) == self.batch_size:
                    yield to_unit_range(torch.stack(images)), torch.tensor(labels)
                    images, labels = [], []
            if left is not None and not left.any():
                break
        else:
            self._ended(seen, left)
        if labels:
            yield to_unit_range(torch.stack(images)), torch.tensor(labels)

    def _ended(self, seen: int, left: np.ndarray | None) -> None:
        """What a stream has to hold when it is read to its end."""
        lost = self.declared - seen
        if lost > 0 and not self.skip_bad:
            raise InputError(
                f"the stream gave {seen} of the {self.declared} samples that it declares; its reader leaves out what "
                "it cannot read: mend the data, or go on without with --skip-bad"
            )
        if lost > 0 and not self.skipped:
            self.skipped.extend(["a sample that the stream's reader left out"] * lost)
        if left is not None and left.any():
            short = [f"class {label} by {number}" for label, number in enumerate(left) if number]
            raise InputError(
                f"the stream ended too early for the balanced samples: short of {listed(short)}; lower --num-samples, "
                "or leave it out"
            )


def outside(label: Any, num_classes: int) -> bool:
    """Whether a label is anything but a whole number in [0, num_classes)."""
    try:
        return not 0 <= int(label) < num_classes
    except (TypeError, ValueError):
        return True


def bad_label(label: Any, num_classes: int, name: str) -> InputError:
    """The error for a label that is :func:`outside`."""
    return InputError(
        f"{name} has the label {label!r}; expected a class number from 0 to {num_classes - 1}; "
        "check --num-classes, --class-map and --target-key"
    )


def to_unit_range(images: Tensor) -> Tensor:
    """uint8 -> float32 in [0, 1], the division that torchvision's ToTensor does."""
    return images.to(torch.float32).div_(255) if images.dtype == torch.uint8 else images.to(torch.float32)


def _read(dataset: Any, collate_fn: Any, batch_size: int, workers: int) -> Iterator[Any]:
    """One pass of a DataLoader in dataset order; failures of its processes as one line."""
    loader: DataLoader[Any] = DataLoader(
        dataset,
        batch_size=batch_size,
        num_workers=workers,
        collate_fn=collate_fn,
        # a generator of its own: a pass over the data must not move the global one
        generator=torch.Generator().manual_seed(0),
    )
    batches = iter(loader)
    while True:
        try:
            batch = next(batches)
        except StopIteration:
            return
        except InputError:
            raise
        except Exception as error:  # a worker raises its own error again, with its whole traceback as the message
            lines = [line for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
            hint = "; with --workers 0 the images are read in this process" if workers else ""
            raise InputError(f"the data cannot be read: {lines[-1].strip()}{hint}") from error
        yield batch
