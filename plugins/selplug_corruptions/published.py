"""CIFAR-10-C as published: a ``.npy`` file per corruption, and ``labels.npy``.

Source: Hendrycks & Dietterich, arXiv 1903.12261; doi 10.5281/zenodo.2535967. Each file has 5 x 10,000 test images,
(50000, 32, 32, 3) uint8, severity 1 first, in the order of the CIFAR-10 test set.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from selplug.core.errors import InputError
from selplug.core.types import Perturb, Samples

from .factory import BENCHMARK, SEVERITIES, severities


class PublishedFactory:
    """The published CIFAR-10-C files, paired with the clean images.

    Options:
        dir: the folder of the ``.npy`` files; also the text behind the colon, ``cifar10c:DIR``.
        corruption: its name; the 15 of the benchmark if not given.
        severity: 1 to 5, or several as 1-3; all five if not given.
    """

    kind = "corruption"
    level = "severity"
    positional = "dir"

    def __call__(self, model: nn.Module, *, dir: str, corruption: str = "", severity: Any = None) -> Perturb:  # noqa: A002
        return Published(Path(dir), corruption, severity)

    def label(self, options: Mapping[str, Any]) -> str:
        """The name of the condition, ``cifar10c/fog@3``."""
        return f"cifar10c/{options['corruption']}@{options['severity']}"

    def expand(self, options: Mapping[str, Any]) -> list[str] | None:
        """Specs of the single files and severities; None if the options name one.

        Raises:
            InputError: a severity is wrong, or a file is missing.
        """
        chosen = severities("cifar10c", options["severity"])
        names = [options["corruption"]] if options["corruption"] else list(BENCHMARK)
        folder = Path(options["dir"])
        missing = [name for name in (*names, "labels") if not (folder / f"{name}.npy").is_file()]
        if missing:
            raise InputError(f"cifar10c: {folder} has no {', '.join(f'{name}.npy' for name in missing)}")
        if options["corruption"] and isinstance(options["severity"], int):
            return None
        return [f"cifar10c@{s}:corruption={name},dir={options['dir']}" for name in names for s in chosen]

    def describe(self, options: Mapping[str, Any], num_classes: int) -> dict[str, Any]:
        """The facts for the report: ``corruption``, ``severity``, ``strengths``, ``dir``."""
        return {**options, "strengths": "the CIFAR-10-C files"}


class Published:
    """The published version of each sample, found by its index in the data set; memory-mapped.

    Raises:
        InputError: a file has the wrong shape or type; in a call, if a sample's index is too large, its label is not
            that of ``labels.npy`` (the data is not the CIFAR-10 test set in its own order), or its size differs.
    """

    by_sample = True
    kind = "corruption"

    def __init__(self, folder: Path, corruption: str, severity: int) -> None:
        self.path = folder / f"{corruption}.npy"
        self.images, self.labels = _load(self.path), _load(folder / "labels.npy")
        shape, rows = self.images.shape, len(self.images)
        if self.images.dtype != np.uint8 or len(shape) != 4 or shape[3] != 3 or rows % len(SEVERITIES) or not rows:
            raise InputError(
                f"cifar10c: expected (50000, 32, 32, 3) uint8, the five severities in order, in {self.path}, "
                f"got {self.images.dtype} {shape}"
            )
        if self.labels.shape != (rows,) or self.labels.dtype.kind not in "iu":
            raise InputError(
                f"cifar10c: expected labels ({rows},) of whole numbers in {folder / 'labels.npy'}, got "
                f"{self.labels.dtype} {self.labels.shape}"
            )
        self.samples = rows // len(SEVERITIES)
        self.first = (severity - 1) * self.samples

    def __call__(self, images: Tensor, labels: Tensor, samples: Samples) -> Tensor:
        expected = (3, *self.images.shape[1:3])
        if images.shape[1:] != expected:
            raise InputError(f"cifar10c: expected images of shape {expected}, got {tuple(images.shape[1:])}")
        indices = np.asarray(samples.indices)
        if indices.max() >= self.samples:
            raise InputError(
                f"cifar10c: {self.path} has {self.samples} samples, but the data has a sample with index "
                f"{indices.max()}"
            )
        rows = self.first + indices
        differ = np.flatnonzero(self.labels[rows] != labels.cpu().numpy())
        if len(differ):
            one = differ[0]
            raise InputError(
                f"cifar10c: sample {indices[one]} has label {int(labels[one])}, but {self.labels[rows[one]]} in "
                "labels.npy; "
                "the data must be the CIFAR-10 test set in its own order, such as --dataset torch/cifar10"
            )
        found = torch.from_numpy(self.images[rows]).permute(0, 3, 1, 2)
        return found.to(images.device).float() / 255


def _load(path: Path) -> np.ndarray:
    try:
        return np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError) as error:
        raise InputError(f"cifar10c: {path} cannot be read as .npy: {error}") from error


cifar10c = PublishedFactory()
