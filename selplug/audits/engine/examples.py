"""A few of an audit's images under every condition, to look at."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from .results import Examples

NUM_EXAMPLES = 6


class ExampleKeeper:
    """Keeps the same evenly spaced samples of every condition. ``targets`` (N,) are the labels of all samples."""

    def __init__(self, targets: Tensor) -> None:
        self._shown = np.unique(np.linspace(0, len(targets) - 1, NUM_EXAMPLES).astype(int))
        self._labels = tuple(targets[torch.from_numpy(self._shown)].tolist())
        self._images: dict[str, list[np.ndarray]] = {}
        self._predictions: dict[str, list[int]] = {}

    def add(self, name: str, where: slice, images: Tensor, predicted: Tensor) -> None:
        """Keeps what is shown of a batch under a condition: the samples ``where``, their predicted classes (N,)."""
        for index in self._shown[(self._shown >= where.start) & (self._shown < where.stop)] - where.start:
            picture = (images[index] * 255).round().to(torch.uint8).cpu().numpy()
            self._images.setdefault(name, []).append(picture)
            self._predictions.setdefault(name, []).append(int(predicted[index]))

    def examples(self) -> Examples:
        return Examples(
            labels=self._labels,
            images={name: np.stack(pictures) for name, pictures in self._images.items()},
            predictions={name: tuple(classes) for name, classes in self._predictions.items()},
        )
