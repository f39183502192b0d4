"""Loaders: images in [0, 1] in a fixed order; samples that cannot be read are reported, never replaced."""

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
    """``images`` (n, C, H, W) uint8, ``labels`` (n,) and ``indices`` of the good samples, and the ``bad`` ones."""

    images: Tensor
    labels: list[Any]
    indices: list[int]
    bad: list[Bad]


def eval_transform(config: Mapping[str, Any]) -> Any:
    """timm's own evaluation transform up to uint8 (C, H, W), without normalization.

    Args:
        config: from :func:`selplug_timm.models.model.data_config`; its mean fills the border in crop mode "border".
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

    A sample that cannot be read is returned as a ``Bad``, not raised: errors of worker processes lose their details.
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
        except Exception as error:  # each decoder raises its own errors on broken files
            reason = str(error) or type(error).__name__
            if "cannot identify image file" in reason:  # the rest of this message is a memory address
                reason = "not an image"
            return index, Bad(index, self.source.name(index), reason), None
        return index, self.transform(image), label


def collate(items: Sequence[tuple[int, Tensor | Bad, Any]]) -> Batch:
    """Stacks the good samples and lists the bad ones."""
    good = [(index, image, label) for index, image, label in items if not isinstance(image, Bad)]
    images = torch.stack([image for _, image, _ in good]) if good else torch.empty(0, dtype=torch.uint8)
    bad = [image for _, image, _ in items if isinstance(image, Bad)]
    return Batch(images, [label for _, _, label in good], [index for index, _, _ in good], bad)


class ImageLoader:
    """Yields ``(images, labels)``: (N, C, H, W) float32 in [0, 1] and (N,) int64, the same each time it is iterated.

    Args:
        samples: what to read.
        batch_size: N; a batch with bad samples is smaller.
        workers: number of processes that read, 0 to read in this process.
        num_classes: K; labels must be in [0, K).
        skip_bad: leave out samples that cannot be read instead of raising an error.
        skipped: a list that gets the name of each sample left out, once.

    Raises:
        InputError: during iteration, for a sample that cannot be read or a label outside [0, K).
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
                f"sample {bad.number} cannot be read: {bad.name}: {bad.reason}; repair or remove it, or give "
                "--skip-bad to leave out such samples"
            )
        if bad.number not in self._counted:
            self._counted.add(bad.number)
            self.skipped.append(bad.name)


class StreamLoader:
    """The same for data that can only be read in its own order; ``num_samples`` takes the first samples of each class.

    ``num_samples`` is divided equally among all K classes, so a class with too few samples is an error. timm's readers
    of streams skip what they cannot read and only log it. A pass with fewer samples than the data declares is therefore
    an error too; with ``skip_bad`` the lost samples are counted in ``skipped``.

    Raises:
        InputError: during iteration, for a label outside [0, K), a class with too few samples, lost samples, or a
            failure of the reader.
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
            # The seed chooses the classes that get one more. Which classes have too few samples is not known yet.
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
        """Checks the number of samples at the end of the stream."""
        lost = self.declared - seen
        if lost > 0 and not self.skip_bad:
            raise InputError(
                f"the stream gave {seen} of the {self.declared} samples that it declares; its reader skips samples "
                "that it cannot read: repair the data, or give --skip-bad to continue without them"
            )
        if lost > 0 and not self.skipped:
            self.skipped.extend(["a sample that the stream's reader left out"] * lost)
        if left is not None and left.any():
            short = [f"{number} of class {label}" for label, number in enumerate(left) if number]
            raise InputError(
                f"the stream has too few samples for a balanced draw: missing {listed(short)}; lower --num-samples, or "
                "leave it out"
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
    """uint8 -> float32 in [0, 1], divided as in torchvision's ToTensor."""
    return images.to(torch.float32).div_(255) if images.dtype == torch.uint8 else images.to(torch.float32)


def _read(dataset: Any, collate_fn: Any, batch_size: int, workers: int) -> Iterator[Any]:
    """One pass of a DataLoader in the order of the data; a failure of its processes becomes a message of one line."""
    loader: DataLoader[Any] = DataLoader(
        dataset,
        batch_size=batch_size,
        num_workers=workers,
        collate_fn=collate_fn,
        # Its own generator: reading the data must not change the global one.
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
        except Exception as error:  # the message of a worker's error is its whole traceback
            lines = [line for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
            hint = "; --workers 0 reads the images in this process" if workers else ""
            raise InputError(f"the data cannot be read: {lines[-1].strip()}{hint}") from error
        yield batch
